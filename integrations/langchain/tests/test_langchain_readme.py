"""The Python in the README runs, top to bottom, and prints what the comments say."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


# LangChain deprecates what the classic classes plug into, LangGraph what langmem imports.
@pytest.mark.filterwarnings("ignore::langgraph.warnings.LangGraphDeprecatedSinceV10")
@pytest.mark.filterwarnings("ignore::langchain_core._api.deprecation.LangChainDeprecationWarning")
def test_the_blocks_of_the_readme_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    if find_spec("langmem") is None or find_spec("deepagents") is None:  # as on the oldest row of the matrix
        blocks = [block for block in blocks if "import create_deep_agent" not in block]
    names: dict[str, object] = {"__name__": "readme"}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"README.md, block {number}", "exec"), names)  # noqa: S102 - that is the test
    promised = re.findall(r"^# (.*)$", "".join(blocks), re.MULTILINE)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(promised) > 0
    for line, comment in zip(printed, promised, strict=True):
        assert re.fullmatch(re.escape(comment).replace(r"\.\.\.", "[0-9a-f]+"), line)
