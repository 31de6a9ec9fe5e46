"""The documents keep their word: what they show runs and prints just that, and what they name exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from amfs import AgentMemory, errors

ROOT = Path(__file__).parents[1]
README, ARCHITECTURE, CHANGELOG = (ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CHANGELOG"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("integrations/*/README.md")])
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "amfs").rglob("*.py"))

_EXAMPLE = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<printed>.*?)^```\n)?", re.DOTALL | re.MULTILINE
)
_FENCED = re.compile(r"^```.*?^```\n", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
_NAMED_FILE = re.compile(r"`((?:amfs|integrations|tests|notebooks)/[^`\s]*|[A-Za-z]+\.md)`")


class Example(NamedTuple):
    """A Python block and what it prints; blocks without a text block after them print nothing."""

    line: int
    code: str
    printed: str


def examples(document: Path) -> list[Example]:
    text = document.read_text(encoding="utf-8")
    return [
        Example(text.count("\n", 0, found.start()) + 2, found["code"], found["printed"] or "")
        for found in _EXAMPLE.finditer(text)
    ]


def prose(document: Path) -> str:
    return _FENCED.sub("", document.read_text(encoding="utf-8"))


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def make_targets() -> list[str]:
    found = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return found[1].split()


@pytest.mark.parametrize("document", [README, ARCHITECTURE], ids=lambda path: path.stem)
def test_examples_run_in_order_and_print_what_is_shown(document, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AMFS_DATABASE", raising=False)
    names: dict[str, object] = {"__name__": document.stem}
    assert examples(document)
    for line, code, printed in examples(document):
        # The empty lines give a traceback the line numbers of the document.
        exec(compile("\n" * (line - 1) + code, str(document), "exec"), names)  # noqa: S102 - that is the test
        assert capsys.readouterr().out == printed, f"{document.name}, the block at line {line}"


def test_the_first_example_is_short_and_comes_first():
    first = examples(README)[0]
    assert first.line < 10
    assert first.code.count("\n") <= 20


@pytest.mark.parametrize("name", sorted(name for name in vars(AgentMemory) if not name.startswith("_")))
def test_the_readme_tells_of_every_verb(name):
    assert re.search(rf"`{name}\b", README.read_text(encoding="utf-8")), f"`{name}` is not in the README"


@pytest.mark.parametrize("target", make_targets())
def test_the_readme_tells_of_every_make_target(target):
    assert re.search(rf"\bmake {target}\b", README.read_text(encoding="utf-8"))


def test_the_errors_the_readme_tells_of_exist():
    told = set(re.findall(r"`(\w+Error)`", prose(README)))
    assert told
    assert told <= set(errors.__all__)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_resolve(document):
    broken = []
    for link in _LINK.findall(prose(document)):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("document", sorted(ROOT.glob("*.md")), ids=lambda path: path.stem)
def test_the_files_a_document_names_exist(document):
    named = {name for name in _NAMED_FILE.findall(prose(document)) if "*" not in name}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("module", MODULES)
def test_the_architecture_tells_of_every_module(module):
    if module.endswith("core/__init__.py"):
        module = "amfs/core/"
    assert f"`{module}`" in ARCHITECTURE.read_text(encoding="utf-8")


def test_the_architecture_stays_short_beside_the_benchmarks():
    before, begin, rest = ARCHITECTURE.read_text(encoding="utf-8").partition("<!-- benchmarks:begin -->\n")
    _, end, after = rest.partition("<!-- benchmarks:end -->\n")
    assert begin
    assert end
    assert "## What it costs" in before
    assert before.count("\n") + after.count("\n") <= 300


def test_the_changelog_tells_of_this_version():
    versions = set()
    for project in [ROOT / "pyproject.toml", *ROOT.glob("integrations/*/pyproject.toml")]:
        versions.add(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    (version,) = versions
    text = CHANGELOG.read_text(encoding="utf-8")
    assert re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)[:2] == ["Unreleased", version]
