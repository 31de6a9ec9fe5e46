"""The shape of the code: which way data flows, sizes, the public surface, SQL in one place, the tree of errors."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import pytest

import amfs
from amfs import AgentMemory, AsyncAgentMemory, errors, models

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
SOURCES = sorted(ROOT.glob("amfs/**/*.py"))
MODULES = sorted(
    chain(SOURCES, ROOT.glob("integrations/**/*.py"), ROOT.glob("tests/**/*.py"), ROOT.glob("notebooks/**/*.py"))
)
MAX_LINES = 600
MAX_STATEMENTS = 3
LONG_BY_DESIGN = {"amfs/memory.py", "amfs/aio.py"}
"""One short method per verb, and there are many verbs."""


def name_of(path: Path) -> str:
    """Return a path inside the project."""
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    """Return a module's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def class_of(module: str, name: str) -> ast.ClassDef:
    """Return the syntax tree of a class."""
    nodes = tree_of(ROOT / "amfs" / f"{module}.py").body
    return next(node for node in nodes if isinstance(node, ast.ClassDef) and node.name == name)


def body_of(node: ast.AST) -> list[ast.stmt]:
    """Return the statements of a function or class without its docstring."""
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    return node.body[1:] if ast.get_docstring(node) is not None else node.body


# --- layers and sizes ------------------------------------------------------------------------------------------------


def test_data_flows_one_way() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", done.stdout)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_small(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_LINES or name_of(path) in LONG_BY_DESIGN, lines


@pytest.mark.parametrize(("module", "name"), [("memory", "AgentMemory"), ("aio", "AsyncAgentMemory")])
def test_a_verb_is_three_statements_at_most(module: str, name: str) -> None:
    long = {
        method.name: statements
        for method in body_of(class_of(module, name))
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and not method.name.startswith("_")
        if (statements := sum(isinstance(node, ast.stmt) for top in body_of(method) for node in ast.walk(top)))
        > MAX_STATEMENTS
    }
    assert long == {}


# --- the public surface ----------------------------------------------------------------------------------------------


def public(kind: type) -> dict[str, Any]:
    """Return the public attributes of a class."""
    return {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}


def test_every_verb_can_be_awaited_with_the_same_arguments() -> None:
    asynchronous = public(AsyncAgentMemory)
    for name, attribute in public(AgentMemory).items():
        assert name in asynchronous, name
        if callable(attribute):
            here, there = inspect.signature(attribute), inspect.signature(asynchronous[name])
            assert [(one.name, one.kind, one.default) for one in here.parameters.values()] == [
                (one.name, one.kind, one.default) for one in there.parameters.values()
            ], name
        else:
            assert isinstance(asynchronous[name], property), name


def sorting(name: str) -> tuple[int, str]:
    """Return the order of public names: constants, classes, functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("module", [amfs, errors, models])
def test_public_names_are_sorted_and_exist(module: Any) -> None:
    assert module.__all__ == sorted(module.__all__, key=sorting)
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


def test_the_package_exports_everything_that_is_public() -> None:
    exported = set(amfs.__all__)
    assert set(errors.__all__) <= exported
    assert set(models.__all__) <= exported
    here = {name for name in vars(amfs) if not name.startswith("_") and not inspect.ismodule(getattr(amfs, name))}
    assert here == exported


def annotations(module: str, name: str) -> Iterator[str]:
    """Yield the names used in annotations of the constructor and the public methods of a class."""
    for node in body_of(class_of(module, name)):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and (not node.name.startswith("_") or node.name == "__init__"):
            for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                yield from names_in(argument.annotation)
            yield from names_in(node.returns)


def names_in(annotation: ast.AST | None) -> Iterator[str]:
    """Yield the names inside an annotation."""
    if annotation is not None:
        yield from (node.id for node in ast.walk(annotation) if isinstance(node, ast.Name))
        yield from (node.attr for node in ast.walk(annotation) if isinstance(node, ast.Attribute))


def test_what_signatures_mention_can_be_imported() -> None:
    defined = {
        target.name if isinstance(target, ast.ClassDef) else target.targets[0].id
        for path in SOURCES
        for target in tree_of(path).body
        if isinstance(target, ast.ClassDef)
        or (isinstance(target, ast.Assign) and isinstance(target.targets[0], ast.Name))
    }
    classes = (("memory", "AgentMemory"), ("aio", "AsyncAgentMemory"))
    mentioned = {name for one in classes for name in annotations(*one)} & defined
    assert mentioned <= set(amfs.__all__), sorted(mentioned - set(amfs.__all__))


def is_documented(thing: Any) -> bool:
    """Return whether something has a docstring of its own whose first line is one sentence."""
    text = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    return bool(text) and text.strip().splitlines()[0].rstrip().endswith(".")


@pytest.mark.parametrize("name", amfs.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    thing = getattr(amfs, name)
    if not inspect.isclass(thing) and not inspect.isroutine(thing):
        documented = re.compile(rf'^{name} = .+\n"""\w', re.MULTILINE)
        assert name == "JsonValue" or any(documented.search(path.read_text(encoding="utf-8")) for path in SOURCES)
        return
    assert is_documented(thing)
    if inspect.isclass(thing):
        for attribute, value in vars(thing).items():
            inner = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if isinstance(inner, FunctionType) and not attribute.startswith("_"):
                assert is_documented(inner), attribute


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    text = ast.get_docstring(tree_of(path))
    assert text
    assert re.match(r"[^\n]+[.:]($|\n)", text)


# --- SQL -------------------------------------------------------------------------------------------------------------

SQL = re.compile(
    r"\b(SELECT\s|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+(TABLE|INDEX)|PRAGMA\s|BEGIN(?=$|[\s;]))"
)
EXECUTING = {"execute", "executemany", "executescript", "_execute"}


@pytest.mark.parametrize("path", [path for path in SOURCES if "storage" not in path.parts], ids=name_of)
def test_there_is_no_sql_outside_the_storage(path: Path) -> None:
    tree = tree_of(path)
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    assert [text for text in texts if SQL.search(text)] == []
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not modules & {"sqlite3", "sqlite_utils"}


def test_no_statement_is_put_together_at_run_time() -> None:
    made: list[str] = []
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in EXECUTING:
                statement = node.args[0]
                if isinstance(statement, ast.JoinedStr | ast.BinOp | ast.Call):
                    made.append(ast.unparse(statement))
    assert [text for text in made if not text.startswith(("f'PRAGMA ", 'f"PRAGMA '))] == []


# --- errors ----------------------------------------------------------------------------------------------------------

BUILTINS = {"ValueError": ValueError, "LookupError": LookupError, "RuntimeError": RuntimeError}


def drawn() -> Iterator[tuple[str, str | None, str | None, str]]:
    """Yield name, parent, builtin parent and code of every error drawn in the docstring of ``amfs.errors``."""
    above: list[str] = []
    for line in str(errors.__doc__).splitlines():
        match = re.fullmatch(r"    ([│├└─ ]*)(\w+Error)(?: \((\w+)\))? +(\w+)", line)
        if match:
            branches, name, builtin, code = match.groups()
            level = len(branches) // 4
            above[level:] = [name]
            yield name, above[level - 1] if level else None, builtin, code


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    tree = list(drawn())
    kinds = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)}
    assert [name for name, *_ in tree if name not in kinds] == []
    assert sorted(kinds) == sorted(name for name, *_ in tree) == sorted(errors.__all__)
    for name, parent, builtin, code in tree:
        bases = {kinds[parent] if parent else Exception} | ({BUILTINS[builtin]} if builtin else set())
        assert set(kinds[name].__bases__) == bases, name
        shown = "amfs" if parent is None else code
        assert vars(kinds[name])["code"] == shown, name
    codes = [kind.code for kind in kinds.values()]
    assert len(set(codes)) == len(codes)


def test_errors_of_the_package_are_all_in_the_tree() -> None:
    allowed = {"_Undecided", "_Unanswered", "_Refused", "Moved", "WouldWait"}
    for path in SOURCES:
        if path.name != "errors.py":
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.ClassDef) and any(
                    name.endswith(("Error", "Exception")) for name in names_in(ast.Tuple(node.bases))
                ):
                    assert node.name in allowed, f"{name_of(path)}: {node.name}"


# --- what no file may name -------------------------------------------------------------------------------------------

UNSAID = [
    r"(?<![\w./-])/work(?![\w-])",
    "/" + "tmp/brief",
    r"\.\./shared",
    "design" + r"\.md",
    "pypi" + r"\.org",
    "python" + "hosted",
    "npmjs" + r"\.",
    "proxy" + r"\.golang",
    "index-" + "url",
]
TEXTS = {".py", ".md", ".toml", ".ipynb", ".yml", ".yaml", ".cfg", ".txt", ".json", ".html", ".sh", ""}
SKIPPED = {
    ".git",
    ".venv",
    ".venv-matrix",
    ".hypothesis",
    ".ruff_cache",
    ".pytest_cache",
    "__pycache__",
    "node_modules",
    "dist",
    "build",
}


def test_no_file_names_the_machine_it_was_made_on_or_a_registry() -> None:
    patterns = re.compile("|".join(UNSAID))
    found = [
        f"{name_of(path)}: {match.group()}"
        for path in ROOT.rglob("*")
        if path.is_file() and path.suffix in TEXTS and not SKIPPED & set(path.relative_to(ROOT).parts)
        if path != Path(__file__)
        for match in patterns.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []
