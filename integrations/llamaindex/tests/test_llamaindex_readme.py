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
]


def test_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 3
    for number, block in enumerate(blocks):
        exec(compile(block, f"README block {number}", "exec"), {"__name__": "__main__"})  # noqa: S102 - our README
    assert capsys.readouterr().out.splitlines() == [
        "It is 5.",
        "user What is 2+3?",
        "assistant None",
        "tool 5",
        "assistant It is 5.",
    ]
