"""The gate: what is refused, with which error, before anything is written.

The database is compared byte for byte around every refused call. What passes is in ``tests/test_roundtrip.py``.
"""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amfs import AgentMemory
from amfs.errors import (
    BeforeHistoryError,
    BranchClosedError,
    BranchNotFoundError,
    InvalidFilterError,
    InvalidInputError,
    InvalidNameError,
    InvalidValueError,
)
from amfs.models import Delete, Find, Get, ListPaths, Put

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONE = "lone \ud800 surrogate"
NUL = "nul \0 character"
HUGE = 10**5000
huge = pytest.param(HUGE, id="5000 digits")
MIB = 1 << 20


@pytest.fixture(scope="module")
def mem(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentMemory]:
    """A handle on a database with an entry, an open branch and a closed one."""
    with AgentMemory("ada", tmp_path_factory.mktemp("gate") / "memory.db") as handle:
        handle.write("svc", "a", {"n": 1})
        handle.create_branch("open")
        handle.create_branch("closed")
        handle.close_branch("closed")
        yield handle


def content(mem: AgentMemory) -> list[bytes]:
    """Return the bytes of the database file and of its -wal file."""
    return [path.read_bytes() for path in (Path(mem.database), Path(f"{mem.database}-wal"))]


def refused(mem: AgentMemory, error: type[Exception], call: Callable[[], object]) -> str:
    """Assert that a call raises exactly this error and changes nothing; return its message."""
    before = content(mem), mem.stats(branch="main")
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert (content(mem), mem.stats(branch="main")) == before
    return str(caught.value)


# --- values ----------------------------------------------------------------------------------------------------------


class Color(Enum):
    """An enum whose members are no JSON."""

    RED = 1


def nested(depth: int) -> Any:
    """Return lists and dicts inside each other, ``depth`` of them."""
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"level": value}
    return value


def containing_itself() -> list[Any]:
    """Return a list that contains itself."""
    value: list[Any] = [1]
    value.append({"me": value})
    return value


BAD_VALUES = {
    "NaN": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "NaN inside": {"scores": [1.0, {"x": math.nan}]},
    "lone surrogate": LONE,
    "lone surrogate inside": {"a": [LONE]},
    "lone surrogate as a field": {LONE: 1},
    "NUL": NUL,
    "NUL inside": [[NUL]],
    "NUL in a field": {NUL: 1},
    "2**63": 2**63,
    "-2**63-1": -(2**63) - 1,
    "huge integer": HUGE,
    "integer as a field": {1: "one"},
    "huge integer as a field": {HUGE: "one"},
    "None as a field": {None: "none"},
    "tuple as a field": {("a", "b"): 1},
    "bool as a field": {"a": {True: 1}},
    "set": {1, 2},
    "tuple": (1, 2),
    "tuple inside": {"a": (1,)},
    "datetime": datetime(2026, 1, 1, tzinfo=UTC),
    "bytes": b"bytes",
    "object": object(),
    "function": math.sqrt,
    "class": dict,
    "enum member": Color.RED,
    "Decimal": Decimal("1.5"),
    "complex": 1 + 2j,
    "generator": (n for n in range(3)),
    "range": range(3),
    "65 levels": nested(65),
    "thousands of levels": nested(5000),
    "containing itself": containing_itself(),
    "too large": "x" * MIB,
    "too large in UTF-8": "é" * (MIB // 2),
    "too large as a list": [0] * (MIB // 2),
}


@pytest.mark.parametrize("what", BAD_VALUES)
def test_a_value_that_is_not_plain_json_is_refused(what: str, mem: AgentMemory) -> None:
    value = BAD_VALUES[what]
    message = refused(mem, InvalidValueError, lambda: mem.write("svc", "new", value))
    assert message.startswith("value")
    refused(mem, InvalidValueError, lambda: mem.apply([Put(entity_path="svc", key="new", value=value)]))

    def in_a_transaction() -> None:
        with mem.transaction() as tx:
            tx.write("svc", "fine", 1)
            tx.write("svc", "new", value)

    refused(mem, InvalidValueError, in_a_transaction)


def test_a_refused_value_says_where_it_is(mem: AgentMemory) -> None:
    for value, where in (
        ({"a": {"b": {1, 2}}}, r"value['a']['b'] is a set"),
        ({"a": [0, math.nan]}, "is nan"),
        ([{"x": 2**63}], "beyond 64 bits"),
        ({"a": {1: 2}}, "1"),
    ):
        assert where in refused(mem, InvalidValueError, lambda value=value: mem.write("svc", "new", value))


def test_a_value_that_refers_to_itself_many_times_is_refused_at_once() -> None:
    script = """
from amfs import AgentMemory
from amfs.errors import InvalidValueError
value = []
for _ in range(60):
    value = [value, value]
with AgentMemory("ada", ":memory:") as mem:
    try:
        mem.write("svc", "doubling", value)
    except InvalidValueError as error:
        print(error.code)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("invalid_value\n", "")


def test_the_limits_themselves_pass(mem: AgentMemory) -> None:
    for value in (nested(64), 2**63 - 1, -(2**63), "x" * (MIB - 2), -0.0, 5e-324, 1.7976931348623157e308):
        entry = mem.write("svc", "limit", value)
        assert entry.value == value
        assert type(entry.value) is type(value)
    for path, key in (("é" * 512, "k" * 512), ("/".join("ab" * 255), "é" * 256)):
        mem.write(path, key, 1)
        assert mem.read(path, key) is not None
    for confidence in (0, 1, 0.0, 1.0):
        assert mem.write("svc", "limit", 1, confidence=confidence).confidence == confidence


def test_the_size_limit_can_be_set(tmp_path: Path) -> None:
    with AgentMemory("ada", tmp_path / "memory.db", max_value_bytes=10) as mem:
        assert mem.write("svc", "a", "12345678").value == "12345678"
        with pytest.raises(InvalidValueError, match=r"11 bytes.*limit is 10"):
            mem.write("svc", "a", "123456789")
        with pytest.raises(InvalidValueError, match="limit is 10"):
            mem.apply([Put(entity_path="svc", key="a", value="123456789")])
        assert len(mem.history("svc", "a")) == 1
    for limit in (0, -1, 1.5, True, "x"):
        with pytest.raises(InvalidInputError):
            AgentMemory("ada", tmp_path / "memory.db", max_value_bytes=limit)


# --- names -----------------------------------------------------------------------------------------------------------

BAD_TEXTS = {"empty": "", "surrogate": LONE, "NUL": NUL, "no text": 5, "bytes": b"bytes", "None": None, "list": []}
BAD_KEYS = {**BAD_TEXTS, "513 bytes": "k" * 513, "513 bytes in UTF-8": "é" * 256 + "x"}
BAD_PATHS = {
    **BAD_TEXTS,
    "1025 bytes": "p" * 1025,
    "empty segment": "a//b",
    "leading slash": "/a",
    "trailing slash": "a/",
    "slash": "/",
}
BAD_BRANCHES = {**BAD_PATHS, "256 bytes": "b" * 256}


@pytest.mark.parametrize("what", BAD_KEYS)
def test_a_bad_key_is_refused(what: str, mem: AgentMemory) -> None:
    key: Any = BAD_KEYS[what]
    calls: list[Callable[[], object]] = [
        lambda: mem.write("svc", key, 1),
        lambda: mem.read("svc", key),
        lambda: mem.read_many([("svc", key)]),
        lambda: mem.read_from("ada", "svc", key),
        lambda: mem.delete("svc", key),
        lambda: mem.history("svc", key),
        lambda: mem.compare_versions("svc", key),
        lambda: mem.commit_outcome("r", "success", [("svc", key)]),
    ]
    for call in calls:
        assert "key" in refused(mem, InvalidNameError, call)


@pytest.mark.parametrize("what", BAD_PATHS)
def test_a_bad_path_is_refused(what: str, mem: AgentMemory) -> None:
    path: Any = BAD_PATHS[what]
    calls: list[Callable[[], object]] = [
        lambda: mem.write(path, "a", 1),
        lambda: mem.read(path, "a"),
        lambda: mem.read_many([(path, "a")]),
        lambda: mem.read_from("ada", path, "a"),
        lambda: mem.delete(path, "a"),
        lambda: mem.history(path, "a"),
        lambda: mem.compare_versions(path, "a"),
        lambda: mem.merge_branch("open", paths=[path]),
    ]
    if path is not None:
        calls.append(lambda: mem.list(path))
    for call in calls:
        refused(mem, InvalidNameError, call)


@pytest.mark.parametrize("what", BAD_BRANCHES)
def test_a_bad_branch_name_is_refused(what: str, mem: AgentMemory) -> None:
    name: Any = BAD_BRANCHES[what]
    calls: list[Callable[[], object]] = [
        lambda: mem.create_branch(name),
        lambda: mem.switch_branch(name) if name is not None else mem.create_branch(name),
        lambda: mem.on_branch(name) if name is not None else mem.create_branch(name),
        lambda: mem.close_branch(name) if name is not None else mem.create_branch(name),
        lambda: AgentMemory("ada", mem.database, branch=name),
    ]
    for call in calls:
        refused(mem, InvalidNameError, call)
    if name is not None:
        for call in branch_calls(mem, name):
            refused(mem, InvalidNameError, call)


@pytest.mark.parametrize("what", BAD_TEXTS)
def test_a_bad_name_of_another_kind_is_refused(what: str, mem: AgentMemory) -> None:
    name: Any = BAD_TEXTS[what]
    calls: list[Callable[[], object]] = [
        lambda: AgentMemory(name, mem.database),
        lambda: mem.as_agent(name),
        lambda: mem.read_from(name, "svc", "a"),
        lambda: mem.commit_outcome(name, "success"),
        lambda: mem.explain(name),
        lambda: mem.record_context(name, "summary"),
        lambda: mem.record_context("label", name),
        lambda: mem.write("svc", "a", 1, pattern_refs=[name]),
    ]
    optional: list[Callable[[], object]] = [
        lambda: mem.timeline(agent_id=name),
        lambda: mem.record_context("label", "summary", name),
        lambda: mem.write("svc", "a", 1, idempotency_key=name),
        lambda: mem.commit_outcome("r", "success", run_id=name),
        lambda: mem.run(name),
        lambda: mem.run(thread_id=name),
        lambda: mem.experiment(name),
        lambda: AgentMemory("ada", mem.database, namespace=name),
    ]
    blank_is_fine: list[Callable[[], object]] = [
        lambda: mem.create_branch("new", name),
        lambda: mem.transaction(name),
    ]
    for call in calls + (optional if name is not None else []) + (blank_is_fine if name else []):
        refused(mem, InvalidNameError, call)


# --- numbers, moments, choices ---------------------------------------------------------------------------------------

NUMBERS: dict[str, Callable[[AgentMemory, Any], object]] = {
    "confidence": lambda mem, n: mem.write("svc", "a", 1, confidence=n),
    "min_confidence": lambda mem, n: mem.read("svc", "a", min_confidence=n),
    "causal_confidence": lambda mem, n: mem.commit_outcome("r", "success", [], causal_confidence=n),
}


@pytest.mark.parametrize("number", [-0.1, 1.1, math.nan, math.inf, True, "x", "0.5", None, Decimal("0.5"), huge])
@pytest.mark.parametrize("what", NUMBERS)
def test_a_confidence_is_a_number_from_0_to_1(what: str, number: Any, mem: AgentMemory) -> None:
    assert what in refused(mem, InvalidInputError, lambda: NUMBERS[what](mem, number))


@pytest.mark.parametrize(
    "ttl", [0, -1, -0.5, math.nan, math.inf, 10**400, huge, True, "60", timedelta(0), timedelta(days=-1), timedelta.max]
)
def test_a_ttl_is_a_positive_time(ttl: Any, mem: AgentMemory) -> None:
    assert "ttl" in refused(mem, InvalidInputError, lambda: mem.write("svc", "a", 1, ttl=ttl))


MOMENTS: dict[str, Callable[[AgentMemory, Any], object]] = {
    "at": lambda mem, moment: mem.read("svc", "a", at=moment),
    "at of read_many": lambda mem, moment: mem.read_many([("svc", "a")], at=moment),
    "at of list": lambda mem, moment: mem.list(at=moment),
    "at of create_branch": lambda mem, moment: mem.create_branch("new", at=moment),
    "since": lambda mem, moment: mem.history("svc", "a", since=moment),
    "until": lambda mem, moment: mem.history("svc", "a", until=moment),
    "since of timeline": lambda mem, moment: mem.timeline(since=moment),
    "until of timeline": lambda mem, moment: mem.timeline(until=moment),
}
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - naive on purpose


@pytest.mark.parametrize("moment", [NAIVE, NAIVE.date(), -1, 1.5, True, b"1", huge])
@pytest.mark.parametrize("what", MOMENTS)
def test_a_moment_is_a_seq_or_an_aware_datetime(what: str, moment: Any, mem: AgentMemory) -> None:
    assert what.split(maxsplit=1)[0] in refused(mem, InvalidInputError, lambda: MOMENTS[what](mem, moment))


@pytest.mark.parametrize("what", [what for what in MOMENTS if not what.startswith("since")])
def test_a_seq_that_is_yet_to_come_is_refused(what: str, mem: AgentMemory) -> None:
    newest = mem.timeline(limit=1, agent_id="*")[0].seq
    assert "yet to come" in refused(mem, InvalidInputError, lambda: MOMENTS[what](mem, newest + 1))
    refused(mem, InvalidInputError, lambda: MOMENTS[what](mem, 2**63 - 1))


def test_any_aware_datetime_is_a_moment(mem: AgentMemory) -> None:
    for moment in (datetime.min.replace(tzinfo=UTC), datetime(1969, 1, 1, tzinfo=UTC)):
        assert mem.timeline(until=moment) == []
        assert "before all history" in refused(mem, BeforeHistoryError, lambda at=moment: mem.read("svc", "a", at=at))
    for moment in (datetime.max.replace(tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)):
        assert mem.read("svc", "a", at=moment) == mem.read("svc", "a")
        assert mem.timeline(since=moment) == []


@pytest.mark.parametrize("cursor", ["x", "", "-1", "1.5", "٣", "9" * 19, "1 ", 5, b"1", True, huge])
def test_a_cursor_is_that_of_an_earlier_page(cursor: Any, mem: AgentMemory) -> None:
    for call in (mem.list, mem.timeline, lambda cursor: mem.history("svc", "a", cursor=cursor)):
        assert "cursor" in refused(mem, InvalidInputError, lambda call=call: call(cursor=cursor))


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "10", 2**63, huge])
def test_a_limit_is_a_whole_number_from_1(limit: Any, mem: AgentMemory) -> None:
    for call in (mem.list, mem.timeline, lambda limit: mem.history("svc", "a", limit=limit)):
        assert "limit" in refused(mem, InvalidInputError, lambda call=call: call(limit=limit))


def test_the_largest_limit_is_no_limit(mem: AgentMemory) -> None:
    for call in (mem.list, mem.timeline, lambda limit: mem.history("svc", "a", limit=limit)):
        assert call(limit=2**63 - 1) == call(limit=1000)


@pytest.mark.parametrize("version", [-1, 1.0, True, "1", 2**63, huge])
def test_a_version_number_is_a_whole_number(version: Any, mem: AgentMemory) -> None:
    refused(mem, InvalidInputError, lambda: mem.write("svc", "a", 1, expected_version=version))
    refused(mem, InvalidInputError, lambda: mem.compare_versions("svc", "a", version))
    refused(mem, InvalidInputError, lambda: mem.compare_versions("svc", "a", 1, version))


@pytest.mark.parametrize("word", ["unknown", "FACT", "", 5, None, [], LONE])
def test_an_unknown_word_is_refused(word: Any, mem: AgentMemory) -> None:
    calls: list[Callable[[], object]] = [
        lambda: mem.write("svc", "a", 1, memory_type=word),
        lambda: mem.commit_outcome("r", word),
        lambda: mem.merge_branch("open", strategy=word),
        lambda: AgentMemory("ada", mem.database, conflict_policy=word),
        lambda: AgentMemory("ada", mem.database, read_events=word),
        lambda: AgentMemory("ada", mem.database, durability=word),
    ]
    optional: list[Callable[[], object]] = [
        lambda: mem.list(memory_type=word),
        lambda: mem.timeline(event_type=word),
        lambda: mem.branches(word),
    ]
    for call in calls + (optional if word is not None else []):
        assert "one of" in refused(mem, InvalidInputError, call)


def test_other_arguments_of_the_wrong_kind_are_refused(mem: AgentMemory) -> None:
    calls: list[Callable[[], object]] = [
        lambda: mem.write("svc", "a", 1, shared="no"),
        lambda: mem.write("svc", "a", 1, pattern_refs="one"),
        lambda: mem.write("svc", "a", 1, pattern_refs=5),
        lambda: mem.commit_outcome("r", "success", "svc/a"),
        lambda: mem.commit_outcome("r", "success", 5),
        lambda: mem.commit_outcome("r", "success", [5]),
        lambda: mem.commit_outcome("r", "success", [("svc", "a", "b")]),
        lambda: mem.merge_branch("open", paths="svc"),
        lambda: mem.merge_branch("open", paths=5),
        lambda: mem.merge_branch("open", resolver="theirs"),
        lambda: mem.merge_branch("open", strategy="source_wins", resolver=max),
        lambda: mem.read_many("svc/a"),
        lambda: mem.read_many(5),
        lambda: mem.read_many(mem.list("svc")[0]),
        lambda: mem.apply(None),
        lambda: mem.apply([("svc", "a")]),
        lambda: mem.diff_branch("main"),
        lambda: mem.merge_branch("open", target="open"),
        lambda: AgentMemory("ada", mem.database, on_conflict="theirs"),
        lambda: AgentMemory("ada", mem.database, outcome_policy=None),
        lambda: AgentMemory("ada", 5),
    ]
    for number, call in enumerate(calls):
        assert refused(mem, InvalidInputError, call), number
    refused(mem, InvalidValueError, lambda: mem.run(metadata={"a": {1}}))
    refused(mem, InvalidValueError, lambda: mem.run(metadata=[1]))
    refused(mem, InvalidValueError, lambda: mem.experiment("e", params={"rate": math.nan}))


@pytest.mark.parametrize(
    "operation",
    [
        lambda: Put(entity_path="svc", key=b"a", value=1),
        lambda: Put(entity_path="svc", key="a", value=1, confidence="0.5"),
        lambda: Put(entity_path="svc", key="a", value=1, confidence=True),
        lambda: Put(entity_path="svc", key="a", value=1, memory_type="unknown"),
        lambda: Put(entity_path="svc", key="a", value=1, shared="no"),
        lambda: Put(entity_path="svc", key="a", value=1, ttl="60"),
        lambda: Put(entity_path="svc", key="a", value=1, ttl=0),
        lambda: Put(entity_path="svc", key="a", value=1, expected_version=True),
        lambda: Put(entity_path="svc", key="a", value=1, pattern_refs="one"),
        lambda: Put(entity_path="svc", key="", value=1),
        lambda: Delete(entity_path="a//b", key="a"),
        lambda: Get(entity_path="svc", key=LONE),
        lambda: Find(entity_path="/svc"),
        lambda: Find(limit=-1),
        lambda: Find(offset=-1),
        lambda: ListPaths(limit=-1),
        lambda: ListPaths(offset=-1),
        lambda: ListPaths(max_depth=0),
        lambda: ListPaths(max_depth=-1),
    ],
)
def test_an_operation_of_a_batch_passes_the_same_gate(operation: Callable[[], Any], mem: AgentMemory) -> None:
    before = content(mem)
    with pytest.raises(InvalidInputError):
        mem.apply([Put(entity_path="svc", key="fine", value=1), operation()])
    assert content(mem) == before


@pytest.mark.parametrize(
    "conditions", [{"$near": 1}, {"a": {"$like": "x"}}, {"a": {"$in": 5}}, {"$and": 5}, {"$or": []}, {5: 1}]
)
def test_a_filter_that_is_not_understood_is_refused(conditions: Any, mem: AgentMemory) -> None:
    before = content(mem)
    with pytest.raises(InvalidInputError) as caught:
        mem.apply([Find(filter=conditions)])
    assert isinstance(caught.value, InvalidFilterError)
    assert content(mem) == before


# --- branches in every verb ------------------------------------------------------------------------------------------


def branch_calls(mem: AgentMemory, branch: Any) -> list[Callable[[], object]]:
    """Return a call of every verb with a branch."""
    return [*reading_calls(mem, branch), *writing_calls(mem, branch)]


def reading_calls(mem: AgentMemory, branch: Any) -> list[Callable[[], object]]:
    """Return a call of every verb that reads, with a branch."""
    return [
        lambda: mem.read("svc", "a", branch=branch),
        lambda: mem.read_many([("svc", "a")], branch=branch),
        lambda: mem.read_from("ada", "svc", "a", branch=branch),
        lambda: mem.list(branch=branch),
        lambda: mem.history("svc", "a", branch=branch),
        lambda: mem.compare_versions("svc", "a", branch=branch),
        lambda: mem.apply([Get(entity_path="svc", key="a")], branch=branch),
        lambda: mem.timeline(branch=branch),
        lambda: mem.stats(branch=branch),
        lambda: mem.diff_branch("open", branch),
        lambda: mem.diff_branch(branch, "main"),
        lambda: mem.on_branch(branch).read("svc", "a"),
    ]


def writing_calls(mem: AgentMemory, branch: Any) -> list[Callable[[], object]]:
    """Return a call of every verb that writes, with a branch."""

    def transaction() -> None:
        with mem.transaction(branch=branch) as tx:
            tx.write("svc", "a", 1)

    return [
        lambda: mem.write("svc", "a", 1, branch=branch),
        lambda: mem.delete("svc", "a", branch=branch),
        lambda: mem.apply([Put(entity_path="svc", key="a", value=1)], branch=branch),
        transaction,
        lambda: mem.commit_outcome("r", "success", [("svc", "a")], branch=branch),
        lambda: mem.record_context("label", "summary", branch=branch),
        lambda: mem.close_branch(branch),
        lambda: mem.merge_branch("open", target=branch),
        lambda: mem.merge_branch("open", target=branch, dry_run=True),
        lambda: mem.merge_branch(branch, target="main"),
    ]


def test_an_unknown_branch_is_refused_by_every_verb(mem: AgentMemory) -> None:
    others: list[Callable[[], object]] = [
        lambda: mem.create_branch("new", source="nowhere"),
        lambda: mem.switch_branch("nowhere"),
        lambda: mem.explain("r", branch="nowhere"),
        lambda: mem.experiment("e", source="nowhere").__enter__(),
        lambda: AgentMemory("ada", mem.database, branch="nowhere"),
    ]
    for call in (*branch_calls(mem, "nowhere"), *others):
        message = refused(mem, BranchNotFoundError, call)
        assert "'nowhere'" in message
        assert "main" in message


def test_a_closed_branch_is_read_and_not_written(mem: AgentMemory) -> None:
    for call in writing_calls(mem, "closed"):
        assert "'closed'" in refused(mem, BranchClosedError, call)
    for call in reading_calls(mem, "closed"):
        call()
