"""Entries: versions and their numbers, the gate, the past, pages, comparison, deletion, compare-and-set, copies."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from amfs import (
    AgentMemory,
    AmbiguousKeyError,
    BeforeHistoryError,
    DiffType,
    EntryNotFoundError,
    EventType,
    HandleClosedError,
    IdempotencyError,
    InvalidInputError,
    InvalidNameError,
    InvalidValueError,
    MemoryType,
    Put,
    StaleWriteError,
)

P, K = "checkout-service", "retry-pattern"
MIB = 1 << 20


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


# --- writing and reading ---------------------------------------------------------------------------------------------


def test_a_written_entry_says_everything_about_itself(mem: AgentMemory, clock) -> None:
    first = clock.moment
    mem.write(P, K, {"max": 3}, confidence=0.5, memory_type="belief", pattern_refs=["retry", "backoff"])
    clock.advance(60)
    written = mem.write(P, K, {"max": 5}, confidence=0.85, pattern_refs=("retry",), ttl=timedelta(hours=1))
    expected = {
        "entity_path": P, "key": K, "value": {"max": 5}, "version": 2, "seq": written.seq, "confidence": 0.85,
        "branch": "main", "memory_type": MemoryType.FACT, "shared": True, "superseded": False, "deleted": False,
        "outcome_count": 0, "expires_at": clock.moment + timedelta(hours=1), "pattern_refs": ("retry",),
        "agent_id": "alice", "committed_by": "alice", "session_id": mem.session_id, "run_id": None,
        "created_at": first, "written_at": clock.moment,
    }  # fmt: skip
    assert written.model_dump() == expected
    assert mem.read(P, K) == written
    assert mem.read_many([(P, K)]) == [written]
    assert mem.list() == mem.list(P) == [written]
    assert mem.history(P, K)[-1] == written
    assert mem.read_from("alice", P, K) == written
    assert written.entry_key == f"{P}/{K}"


def test_every_write_is_a_version_and_the_last_one_is_current(mem: AgentMemory) -> None:
    seqs = [mem.write(P, K, {"pool": size}).seq for size in (5, 10, 10, 20)]
    assert seqs == sorted(set(seqs))
    for versions in (mem.history(P, K), mem.list(P, include_superseded=True)):
        assert [(entry.version, entry.value["pool"], entry.superseded) for entry in versions] == [
            (1, 5, True), (2, 10, True), (3, 10, True), (4, 20, False),
        ]  # fmt: skip
        assert [entry.seq for entry in versions] == seqs


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -1, 2**63 - 1, -(2**63), 0.1, 1.0, 1e300, "", "text", "é\U0001f600\u202e", "\ud7ff",
        [], {}, [1, 1.0, True, "1", None], {"": {"a/b": [{"~": 0}]}, "b": 1, "a": 2}, nested(64),
    ],
)  # fmt: skip
def test_a_value_comes_back_as_it_was_type_by_type(mem: AgentMemory, value: Any) -> None:
    mem.write(P, K, value)
    found = mem.read(P, K)
    assert found is not None
    assert json.dumps(found.value) == json.dumps(value)


@pytest.mark.parametrize("length", [0, 990, 997, 998, 999, 1000, 1001, 1002, 5000, MIB - 2])
def test_a_value_of_any_size_survives_branch_merge_and_reopening(
    open_memory: Callable[..., AgentMemory], length: int
) -> None:
    mem, value = open_memory(), "é" * (length // 2) if length < 100_000 else "x" * length
    mem.create_branch("x")
    mem.write(P, K, value, branch="x")
    mem.merge_branch("x")
    mem.commit_outcome("ref", "success", [(P, K)])
    mem.close()
    again = open_memory()
    assert [entry.value for entry in again.history(P, K)] == [value, value]
    assert [entry.value for entry in again.list()] == [value]
    assert again.read(P, K, branch="x").value == value


NAMES = [
    "a b", "../../etc/passwd", "'; DROP TABLE log; --", "%", "_", "*", "\U0001f600", "é", "e\u0301", "\u202eabc", "NUL",
    ".", "..", "a" * 512, "\n", "main", "a/b", "/", "//x/",
]  # fmt: skip


def test_names_are_data_and_come_back_exactly(mem: AgentMemory) -> None:
    assert unicodedata.normalize("NFC", "e\u0301") == "é", "the list holds two names that only look alike"
    for number, name in enumerate(NAMES):
        assert mem.write(P, name, number).version == 1
    assert [mem.read(P, name).value for name in NAMES] == list(range(len(NAMES)))
    assert [entry.key for entry in mem.list(P)] == NAMES
    paths = [name for name in NAMES if "/" not in name.replace("a/b", "").replace("../../etc/passwd", "")]
    for path in paths:
        mem.write(path, "key", path)
        assert [entry.value for entry in mem.list(path)] == [path]


def test_path_and_key_are_two_strings_and_never_joined(mem: AgentMemory) -> None:
    one, other = mem.write("a/b", "c", 1), mem.write("a", "b/c", 2)
    assert (one.version, other.version) == (1, 1)
    assert (mem.read("a/b", "c"), mem.read("a", "b/c")) == (one, other)
    with pytest.raises(AmbiguousKeyError, match="a/b/c"):
        mem.read_many(["a/b/c"])
    mem.delete("a", "b/c")
    assert mem.read_many(["a/b/c", one, ("a", "b/c"), "no/such", ("a/b", "c")]) == [one, one, None, None, one]


@pytest.mark.parametrize("confidence", [0, 0.25, 1])
def test_min_confidence_hides_what_is_less_sure(mem: AgentMemory, confidence: float) -> None:
    entry = mem.write(P, K, 1, confidence=confidence)
    assert mem.read(P, K, min_confidence=confidence) == entry
    assert confidence == 1 or mem.read(P, K, min_confidence=confidence + 0.01) is None


def test_what_is_absent_reads_as_none_and_lists_as_nothing(mem: AgentMemory) -> None:
    assert mem.read(P, K) is None
    assert mem.read_from("nobody", P, K) is None
    assert mem.read_many([]) == []
    assert mem.list() == mem.list(P) == mem.history(P, K) == []
    assert mem.delete(P, K) is False
    with pytest.raises(EntryNotFoundError):
        mem.compare_versions(P, K)
    assert mem.timeline(agent_id="*") == []


# --- the gate --------------------------------------------------------------------------------------------------------

CYCLE: list[Any] = []
CYCLE.append(CYCLE)
BAD_VALUES = [
    float("nan"), float("inf"), [-float("inf")], "\ud800", {"\udfff": 1}, {"a": ["x\0y"]}, {"\0": 1}, 2**63,
    [-(2**63) - 1], (1, 2), {1}, b"bytes", object(), {1: "a"}, {None: "a"}, datetime(2026, 1, 1, tzinfo=UTC),
    nested(65), CYCLE, "x" * (MIB - 1), "é" * (MIB // 2),
]  # fmt: skip


@pytest.mark.parametrize("value", BAD_VALUES, ids=range(len(BAD_VALUES)))
def test_a_value_that_is_not_plain_json_is_refused_at_every_door(mem: AgentMemory, value: Any) -> None:
    with pytest.raises(InvalidValueError):
        mem.write(P, K, value)
    with pytest.raises(InvalidValueError):
        mem.apply([Put(entity_path=P, key="other", value=1), Put(entity_path=P, key=K, value=value)])
    with mem.transaction() as tx, pytest.raises(InvalidValueError):
        tx.write(P, K, value)
    assert mem.list() == mem.timeline(agent_id="*") == []


@pytest.mark.parametrize(
    "changes",
    [
        {"key": ""}, {"key": "k\0"}, {"key": "\ud800"}, {"key": "k" * 513}, {"key": "é" * 257}, {"key": 1},
        {"entity_path": ""}, {"entity_path": "/a"}, {"entity_path": "a/"}, {"entity_path": "a//b"},
        {"entity_path": "a\0"}, {"entity_path": "p" * 1025}, {"entity_path": None}, {"confidence": -0.01},
        {"confidence": 1.01}, {"confidence": float("nan")}, {"confidence": True}, {"confidence": "1"}, {"ttl": 0},
        {"ttl": -1}, {"ttl": timedelta(0)}, {"ttl": float("inf")}, {"ttl": True}, {"memory_type": "rumour"},
        {"pattern_refs": "one"}, {"pattern_refs": [""]}, {"pattern_refs": [1]}, {"shared": 1},
        {"expected_version": -1}, {"expected_version": True}, {"expected_version": 1.0}, {"idempotency_key": ""},
    ],
    ids=str,
)  # fmt: skip
def test_an_argument_out_of_bounds_is_refused_and_nothing_is_written(mem: AgentMemory, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        mem.write(**{"entity_path": P, "key": K, "value": 1, **changes})
    assert mem.list() == mem.timeline(agent_id="*") == []


def test_names_and_values_at_the_limit_pass(open_memory: Callable[..., AgentMemory]) -> None:
    mem = open_memory(max_value_bytes=100)
    assert mem.write("p" * 1024, "é" * 256, "x" * 98).version == 1
    with pytest.raises(InvalidValueError, match="100"):
        mem.write(P, K, "x" * 99)


# --- the past --------------------------------------------------------------------------------------------------------


def test_the_past_reads_the_same_by_seq_and_by_time(mem: AgentMemory, clock) -> None:
    before = clock.moment
    states: list[tuple[int, datetime, Any]] = []
    for step in ("one", "two", None, "three"):
        clock.advance(10)
        if step is None:
            mem.delete(P, K)
        else:
            mem.write(P, K, step)
        states.append((mem.timeline(limit=1)[0].seq, clock.moment, step))
    clock.advance(10)
    mem.write(P, "later", 1)
    for seq, moment, value in states:
        elsewhere = moment.astimezone(timezone(timedelta(hours=-7)))
        for at in (seq, moment, moment + timedelta(seconds=9), elsewhere):
            found = mem.read(P, K, at=at)
            assert (found and found.value) == value
            assert mem.read_many([(P, K), f"{P}/{K}"], at=at) == [found, found]
            assert mem.list(at=at) == ([] if found is None else [found])
    assert mem.read(P, K, at=0) is None
    for at in (before, datetime(1969, 1, 1, tzinfo=UTC)):
        with pytest.raises(BeforeHistoryError, match="before all history"):
            mem.read(P, K, at=at)
    versions = mem.list(P, include_superseded=True, at=states[1][0])
    assert [(entry.value, entry.superseded) for entry in versions] == [("one", True), ("two", False)]


@pytest.mark.parametrize("moment", [datetime(2026, 1, 1), 10**6, -1, True, 1.5, "2026//01"])  # noqa: DTZ001 - naive
def test_a_moment_that_is_none_is_refused(mem: AgentMemory, moment: Any) -> None:
    mem.write(P, K, 1)
    for call in (
        lambda: mem.read(P, K, at=moment),
        lambda: mem.read_many([(P, K)], at=moment),
        lambda: mem.list(at=moment),
        lambda: mem.history(P, K, until=moment),
        lambda: mem.timeline(until=moment),
        lambda: mem.create_branch("x", at=moment),
    ):
        with pytest.raises(InvalidInputError):
            call()


def test_history_between_two_moments_includes_both(mem: AgentMemory, clock) -> None:
    written = []
    for value in range(5):
        clock.advance(1)
        written.append(mem.write(P, K, value))
    for since, until in ((written[1].seq, written[3].seq), (written[1].written_at, written[3].written_at)):
        assert [entry.value for entry in mem.history(P, K, since=since, until=until)] == [1, 2, 3]
        assert [entry.value for entry in mem.history(P, K, since=since)] == [1, 2, 3, 4]
        assert [entry.superseded for entry in mem.history(P, K, since=since)] == [True, True, True, False]
    assert mem.history(P, K, since=written[4].seq + 100) == []


# --- lists and pages -------------------------------------------------------------------------------------------------


def test_a_list_takes_paths_by_whole_segments_and_leaves_messages_out(mem: AgentMemory) -> None:
    for path in ("a", "a/b", "a/b/c", "ab", "a-b", "b/a", "a0"):
        mem.write(path, "k", path)
    mem.write("a", "said", "hello", memory_type="message")
    mem.write("a", "how", "so", memory_type="procedure")

    def values(*args: Any, **options: Any) -> set[str]:
        return {entry.value for entry in mem.list(*args, **options)}

    assert values("a") == {"a", "so"}
    assert values("a", prefix=True) == {"a", "a/b", "a/b/c", "so"}
    assert values("a/b", prefix=True) == {"a/b", "a/b/c"}
    assert values() == {"a", "a/b", "a/b/c", "ab", "a-b", "b/a", "a0", "so"}
    assert values(memory_type="message") == {"hello"}
    assert values("a", include_superseded=True, memory_type=MemoryType.PROCEDURE) == {"so"}
    assert "hello" not in values(include_superseded=True)


@pytest.mark.parametrize("branch", ["main", "x"])
def test_a_list_after_a_key(mem: AgentMemory, branch: str) -> None:
    for key in ("b", "a", "é", "🦀", "c"):
        mem.write("p", key, key)
        mem.write("p/below", key, key)
    mem.write("p", "b", "mine", shared=False)
    mem.create_branch("x")
    mem.write("p", "d", "d", branch="x")
    mem.delete("p", "c", branch="x")

    def keys(**options: Any) -> list[str]:
        return [entry.key for entry in mem.list("p", branch=branch, **options)]

    everything = keys()
    for key in ("a", "b", "bb", "d", "é", "🦀", "~"):
        assert keys(after_key=key) == [one for one in everything if one > key], key
    first = mem.list("p", after_key="a", limit=2, branch=branch)
    rest = mem.list("p", after_key="a", cursor=first.next_cursor, branch=branch)
    assert [entry.key for entry in [*first, *rest]] == keys(after_key="a")
    now = mem.timeline(limit=1)[0].seq
    mem.write("p", "zz", 1, branch=branch)
    assert keys(after_key="b", at=now) == [one for one in everything if one > "b"]
    assert all(entry.shared for entry in mem.as_agent("other").list("p", after_key="a", branch="main"))


def test_a_list_after_a_key_is_of_one_path(mem: AgentMemory) -> None:
    for options in ({}, {"entity_path": "p", "prefix": True}, {"entity_path": "p", "include_superseded": True}):
        with pytest.raises(InvalidInputError, match="entity_path"):
            mem.list(after_key="a", **options)
    with pytest.raises(InvalidInputError):
        mem.list("p", after_key="")


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
@pytest.mark.parametrize("branch", ["main", "x"])
def test_pages_put_together_are_the_whole(mem: AgentMemory, limit: int, branch: str) -> None:
    for number in range(4):
        for key in "abc":
            mem.write(f"p{number % 2}", key, number)
    mem.create_branch("x")
    mem.write("p0", "d", 0, branch="x")
    mem.write("p0", "a", 9, branch="x")
    queries: list[Callable[..., Any]] = [
        lambda **page: mem.list(branch=branch, **page),
        lambda **page: mem.list("p0", prefix=True, branch=branch, **page),
        lambda **page: mem.list(include_superseded=True, branch=branch, **page),
        lambda **page: mem.history("p0", "a", branch=branch, **page),
    ]
    for query in queries:
        whole, pages, cursor = query(), [], None
        assert whole.next_cursor is None
        while True:
            page = query(limit=limit, cursor=cursor)
            assert len(page) <= limit
            pages.append(list(page))
            cursor = page.next_cursor
            if cursor is None:
                break
            assert len(page) == limit
        assert [entry for page in pages for entry in page] == list(whole)
        assert len(pages) == max(1, -(-len(whole) // limit))


def test_writing_between_two_pages_neither_repeats_nor_skips_an_entry(mem: AgentMemory) -> None:
    keys = [f"k{number}" for number in range(6)]
    for key in keys:
        mem.write(P, key, 0)
    first = mem.list(P, limit=3)
    for key in keys:
        mem.write(P, key, 1)
    mem.write(P, "new", 1)
    rest = mem.list(P, limit=10, cursor=first.next_cursor)
    assert [entry.key for entry in [*first, *rest]] == [*keys, "new"]


@pytest.mark.parametrize("page", [{"cursor": "x"}, {"cursor": ""}, {"cursor": 5}, {"limit": 0}, {"limit": 1.0}])
def test_a_page_that_makes_no_sense_is_refused(mem: AgentMemory, page: dict[str, Any]) -> None:
    for query in (mem.list, mem.timeline, lambda **given: mem.history(P, K, **given)):
        with pytest.raises(InvalidInputError):
            query(**page)


# --- comparing, deleting ---------------------------------------------------------------------------------------------


def test_versions_compare_by_field(mem: AgentMemory) -> None:
    mem.write(P, K, {"a": 1, "b": {"x/y": [1, 2], "z~": 0}, "gone": None})
    mem.write(P, K, {"a": 1.0, "b": {"x/y": [1], "z~": 0}, "new": {}})
    mem.write(P, K, [])
    change = mem.compare_versions(P, K, 1, 2)
    assert change.diff_type is DiffType.MODIFIED
    assert [(one.operation, one.path, one.old, one.new) for one in change.field_changes] == [
        ("replace", "/a", 1, 1.0), ("replace", "/b/x~1y", [1, 2], [1]), ("add", "/new", None, {}),
        ("remove", "/gone", None, None),
    ]  # fmt: skip
    assert (change.base.version, change.source.version, change.entry_key) == (1, 2, f"{P}/{K}")
    last = mem.compare_versions(P, K)
    assert (last.base.version, last.source.version, last.field_changes[0].path) == (2, 3, "")
    assert mem.compare_versions(P, K, 3, 1).field_changes[0].old == []
    assert mem.compare_versions(P, K, 2, 2).field_changes == ()
    for old, new in ((0, 1), (1, 4), (7, 9)):
        with pytest.raises((EntryNotFoundError, InvalidInputError)):
            mem.compare_versions(P, K, old, new)


def test_first_versions_and_deletions_compare_as_added_and_deleted(mem: AgentMemory) -> None:
    mem.write(P, K, 1)
    assert mem.compare_versions(P, K).diff_type is DiffType.ADDED
    mem.delete(P, K)
    assert mem.compare_versions(P, K).diff_type is DiffType.DELETED
    mem.write(P, K, 1)
    change = mem.compare_versions(P, K)
    assert (change.diff_type, change.field_changes[0].operation) == (DiffType.ADDED, "add")


def test_deletion_is_a_version_and_numbering_goes_on(mem: AgentMemory) -> None:
    mem.write(P, K, {"a": 1}, confidence=0.5)
    mem.commit_outcome("ref", "success", [(P, K)])
    assert mem.delete(P, K) is True
    assert mem.delete(P, K) is False
    assert mem.read(P, K) is None
    assert mem.list() == []
    again = mem.write(P, K, {"a": 1}, confidence=0.5, expected_version=0)
    assert (again.version, again.confidence, again.outcome_count) == (4, 0.5, 0)
    versions = mem.history(P, K)
    assert [(entry.version, entry.deleted, entry.value) for entry in versions] == [
        (1, False, {"a": 1}), (2, False, {"a": 1}), (3, True, None), (4, False, {"a": 1}),
    ]  # fmt: skip
    assert mem.list(P, include_superseded=True) == versions
    assert [event.event_type for event in mem.timeline()] == ["write", "delete", "outcome", "write"]


# --- compare-and-set, idempotency ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "actual"), [("", 0), ("w", 1), ("ww", 2), ("wd", 0), ("wdw", 3), ("wb", 1)], ids=str)
@pytest.mark.parametrize("expected", [0, 1, 2, 3])
def test_expected_version_is_exact_compare_and_set(mem: AgentMemory, steps: str, actual: int, expected: int) -> None:
    mem.create_branch("x")
    for step in steps:
        if step == "d":
            mem.delete(P, K)
        else:
            mem.write(P, K, 0, branch="x" if step == "b" else "main")
    events = mem.timeline(agent_id="*")
    if expected == actual:
        assert mem.write(P, K, 1, expected_version=expected).version == steps.replace("b", "").__len__() + 1
        return
    with pytest.raises(StaleWriteError) as caught:
        mem.write(P, K, 1, expected_version=expected)
    assert (caught.value.expected, caught.value.actual) == (expected, actual)
    assert mem.timeline(agent_id="*") == events


def test_a_repeated_idempotency_key_returns_the_first_entry_and_writes_nothing(
    open_memory: Callable[..., AgentMemory],
) -> None:
    mem = open_memory()
    first = mem.write(P, K, {"a": 1, "b": 2}, idempotency_key="t", expected_version=0)
    assert mem.write(P, K, {"b": 2, "a": 1}, idempotency_key="t", expected_version=0) == first
    later = mem.write(P, K, 2)
    mem.close()
    mem = open_memory()
    assert mem.write(P, K, {"a": 1, "b": 2}, idempotency_key="t").seq == first.seq
    with mem.transaction() as tx:
        assert tx.write(P, K, {"a": 1, "b": 2}, idempotency_key="t").seq == 0
    assert mem.read(P, K) == later
    assert len(mem.timeline(agent_id="*")) == 2


@pytest.mark.parametrize(
    "changes", [{"value": 2}, {"value": 1.0}, {"key": "o"}, {"entity_path": "o"}, {"shared": False}, {"branch": "x"}]
)
def test_an_idempotency_key_belongs_to_one_write(mem: AgentMemory, changes: dict[str, Any]) -> None:
    mem.create_branch("x")
    write = {"entity_path": P, "key": K, "value": 1, "idempotency_key": "t"}
    mem.write(**write)
    with pytest.raises(IdempotencyError, match="'t'"):
        mem.write(**{**write, **changes})
    assert mem.as_agent("bob").write(**{**write, "value": 3}).version == 2, "keys belong to an agent"


# --- copies, handles -------------------------------------------------------------------------------------------------


def test_a_value_is_the_callers_own_copy(mem: AgentMemory) -> None:
    value = {"list": [1]}
    written = mem.write(P, K, value)
    for held in (value, written.value, mem.read(P, K).value, mem.list()[0].value, mem.history(P, K)[0].value):
        held["list"].append(2)
    assert mem.read(P, K).value == {"list": [1]}
    with mem.transaction() as tx:
        pending = tx.write(P, "other", value)
        pending.value["list"].append(3)
        assert tx.read(P, "other").value == {"list": [1, 2]}
    assert mem.read(P, "other").value == {"list": [1, 2]}
    with pytest.raises(ValueError, match="frozen"):
        written.version = 9


# --- handles ---------------------------------------------------------------------------------------------------------


def test_namespaces_share_nothing_and_an_agent_finds_its_home(open_memory: Callable[..., AgentMemory]) -> None:
    default, team = open_memory(), open_memory("zoe", namespace="team")
    default.write(P, K, 1, idempotency_key="t")
    team.write(P, K, 2, idempotency_key="t")
    team.create_branch("x")
    team.commit_outcome("ref", "success")
    assert (default.read(P, K).value, team.read(P, K).value) == (1, 2)
    assert [event.agent_id for event in default.timeline(agent_id="*")] == ["alice"]
    assert [branch.name for branch in default.branches()] == ["main"]
    assert (default.stats().versions, default.stats().events, default.stats().agents) == (1, 1, 1)
    assert default.commit_outcome("ref", "success").recorded
    assert (open_memory("zoe").namespace, open_memory("new").namespace) == ("team", "default")


def test_a_closed_handle_says_so_and_closing_a_view_leaves_the_rest_open(mem: AgentMemory) -> None:
    bob = mem.as_agent("bob")
    bob.close()
    with pytest.raises(HandleClosedError):
        bob.read(P, K)
    with mem.on_branch("main") as view:
        view.write(P, K, 1)
    assert mem.read(P, K).value == 1
    late = mem.as_agent("late")
    mem.close()
    mem.close()
    for handle in (mem, late, view):
        with pytest.raises(HandleClosedError):
            handle.read(P, K)
        with pytest.raises(HandleClosedError):
            handle.write(P, K, 1)


@pytest.mark.parametrize(
    "options",
    [{"namespace": ""}, {"durability": "maybe"}, {"conflict_policy": "x"}, {"read_events": "x"}, {"branch": "a//b"},
     {"on_conflict": 1}, {"outcome_policy": None}, {"max_value_bytes": 0}, {"session_id": ""}],
    ids=str,
)  # fmt: skip
def test_a_handle_with_options_that_make_no_sense_is_refused(
    open_memory: Callable[..., AgentMemory], options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        open_memory(**options)
    with pytest.raises(InvalidNameError):
        open_memory("")


def test_events_of_deletion_name_the_entry(mem: AgentMemory) -> None:
    mem.write(P, K, 1)
    mem.delete(P, K)
    (event,) = mem.timeline(event_type=EventType.DELETE)
    assert event.summary == f"Deleted {P}/{K} v2"
    assert (event.details["entity_path"], event.details["key"], event.details["version"]) == (P, K, 2)
