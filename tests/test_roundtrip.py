"""What passes the gate comes back exactly: hostile names, prefixes, and any JSON value, type by type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from amfs import AgentMemory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def mem(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentMemory]:
    """A handle on a database with a branch."""
    with AgentMemory("ada", tmp_path_factory.mktemp("roundtrip") / "memory.db") as handle:
        handle.create_branch("open")
        yield handle


# --- hostile names that are valid ------------------------------------------------------------------------------------

HOSTILE = [
    "../../etc/passwd",
    "..",
    ".",
    "~root",
    "C:\\Windows",
    "'; DROP TABLE log; --",
    '"quoted"',
    "back`tick",
    "$(reboot)",
    "%",
    "%s",
    "_",
    "*",
    "?",
    "[a-z]",
    "\\",
    " ",
    " leading and trailing ",
    "\t\n\r",
    "\x01\x7f\x85\u2028",
    "emoji 👩‍👩‍👧‍👦",
    "\u202eright to left",
    "שלום",
    "é",
    "e\u0301",
    "İ",
    "ß",
    "SS",
    "ss",
    "\ufeff",
    "\U0010ffff",
    "null",
    "None",
    "true",
    "1",
    "1.0",
    "k" * 512,
    "a/b",
    "/",
    "//",
    "a//",
    "__proto__",
    "{{template}}",
    "<script>alert(1)</script>",
]


def test_hostile_keys_and_values_come_back_exactly(tmp_path: Path) -> None:
    with AgentMemory("ada", tmp_path / "memory.db") as mem:
        for number, name in enumerate(HOSTILE):
            mem.write("hostile", name, {name: [name, number]})
        assert [entry.key for entry in mem.list("hostile")] == HOSTILE
        for number, name in enumerate(HOSTILE):
            entry = mem.read("hostile", name)
            assert entry is not None
            assert (entry.key, entry.value, entry.version) == (name, {name: [name, number]}, 1)
            assert mem.timeline(limit=1000)[-1 - number].details["key"] == name
            assert [one.key for one in mem.history("hostile", name)] == [name]
        assert mem.delete("hostile", HOSTILE[0])
        assert len(mem.list("hostile")) == len(HOSTILE) - 1
        assert mem.verify().ok


def test_hostile_paths_agents_and_branches_come_back_exactly(tmp_path: Path) -> None:
    names = [name for name in HOSTILE if len(name) < 256 and all(name.split("/"))]
    with AgentMemory("ada", tmp_path / "memory.db") as mem:
        for number, name in enumerate(names):
            mem.create_branch(name, name)
            other = mem.as_agent(name)
            other.write(name, "key", number, pattern_refs=[name], branch=name)
            other.write(f"{name}/below", name, number, branch=name)
            other.commit_outcome(name, "success", [(name, "key")], branch=name)
        assert [branch.name for branch in mem.branches()] == ["main", *names]
        for number, name in enumerate(names):
            branch = mem.on_branch(name)
            found = branch.list()
            assert {(entry.entity_path, entry.key) for entry in found} == {(name, "key"), (f"{name}/below", name)}
            assert {(entry.agent_id, entry.branch, entry.value) for entry in found} == {(name, name, number)}
            assert branch.list(name)[0].pattern_refs == (name,)
            assert {entry.entity_path for entry in branch.list(name, prefix=True)} == {name, f"{name}/below"}
            assert [event.agent_id for event in mem.timeline(branch=name, agent_id=name)] == [name] * 3
            assert mem.explain(name, branch=name).causes[0].entry.entity_path == name
            assert {change.key for change in mem.diff_branch(name)} == {"key", name}
        assert mem.verify().ok


def test_prefixes_are_compared_by_segment_and_literally(tmp_path: Path) -> None:
    paths = [
        "foo",
        "foobar",
        "foo/bar",
        "foo/bar/baz",
        "foo-bar",
        "foo0",
        "Foo",
        "a_b",
        "aXb",
        "a%b",
        "a*b",
        "a_b/c",
        "foo/~",
    ]
    with AgentMemory("ada", tmp_path / "memory.db") as mem:
        for path in paths:
            mem.write(path, "key", path)
        mem.create_branch("side")
        for view in (mem, mem.on_branch("side")):

            def below(prefix: str, view: AgentMemory = view) -> list[str]:
                return [entry.entity_path for entry in view.list(prefix, prefix=True)]

            assert below("foo") == ["foo", "foo/bar", "foo/bar/baz", "foo/~"]
            assert below("foo/bar") == ["foo/bar", "foo/bar/baz"]
            assert below("fo") == below("*") == below("%") == below("foo/ba") == []
            assert below("a_b") == ["a_b", "a_b/c"]
            assert below("a%b") == ["a%b"]
            assert [entry.entity_path for entry in view.list("foo")] == ["foo"]
            assert len(view.list("foo", prefix=True, include_superseded=True)) == 4


# --- everything that passes comes back ------------------------------------------------------------------------------

texts = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"))
integers = st.integers(-(2**63), 2**63 - 1)
scalars = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | texts
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5), max_leaves=20
)


def typed(value: Any) -> Any:
    """Return a value with the type of every part beside it, the order of fields included."""
    if isinstance(value, dict):
        return "dict", [(name, typed(part)) for name, part in value.items()]
    if isinstance(value, list):
        return "list", [typed(part) for part in value]
    return type(value).__name__, repr(value)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=json_values)
@example(value=-0.0)
@example(value=[1, 1.0, True, "1", None, 0, False, ""])
@example(value={"": {"a": []}, "b": {}, "a": [[], {}]})
@example(value=[2**63 - 1, -(2**63), 2**53 + 1, 1e22, 1e-7, 0.1])
@example(value="\u2028\ufeff\U0001f600\x7f\x01")
def test_any_json_value_comes_back_equal_type_by_type(value: Any, mem: AgentMemory) -> None:
    written = mem.write("any", "value", value)
    read = mem.read("any", "value")
    assert read is not None
    assert typed(read.value) == typed(written.value) == typed(value)
    assert typed(mem.list("any")[0].value) == typed(mem.history("any", "value")[-1].value) == typed(value)
    branch = mem.on_branch("open")
    branch.write("any", "value", [value])
    found = branch.read("any", "value")
    assert found is not None
    assert typed(found.value) == typed([value])


def test_a_value_is_a_copy(mem: AgentMemory) -> None:
    value = {"list": [1]}
    written = mem.write("copies", "value", value)
    value["list"].append(2)
    assert written.value == {"list": [1]}
    first = mem.read("copies", "value")
    assert first is not None
    first.value["list"].append(3)
    again = mem.read("copies", "value")
    assert again is not None
    assert again.value == {"list": [1]}


def test_subclasses_of_json_types_come_back_as_json_types(mem: AgentMemory) -> None:
    class Text(str):
        __slots__ = ()

    class Number(int):
        pass

    entry = mem.write("svc", Text("sub"), {Text("a"): Text("b"), "n": Number(5)})
    assert typed(entry.value) == typed({"a": "b", "n": 5})
    assert type(entry.key) is str
