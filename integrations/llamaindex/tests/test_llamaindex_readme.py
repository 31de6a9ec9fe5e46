"""Every Python block of the README runs, in order, in an empty folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"

# LlamaIndex's workflows look at every attribute of an agent, the deprecated ones of pydantic models included.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:The `\w+` attribute is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:Accessing the '\w+' attribute on the instance:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),  # by ReActAgent
]


def test_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", text, flags=re.DOTALL)
    assert len(blocks) == 9
    shown = []
    for number, (block, output) in enumerate(blocks):
        exec(compile(block, f"README block {number}", "exec"), {"__name__": "__main__"})  # noqa: S102 - our README
        printed = capsys.readouterr().out
        if output:
            assert printed == output
        else:
            shown += printed.splitlines()
    assert shown == [
        "It is 5.",
        "user What is 2+3?",
        "assistant None",
        "tool 5",
        "assistant It is 5.",
    ]
