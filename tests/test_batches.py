"""Batches and transactions: several operations as one."""

from __future__ import annotations

from typing import Any

import pytest

from amfs import (
    AgentMemory,
    Delete,
    Find,
    Get,
    InvalidFilterError,
    InvalidInputError,
    ListPaths,
    Put,
    StaleWriteError,
    UsageError,
)

P, K = "checkout-service", "retry-pattern"


def test_a_batch_reads_the_state_before_it_and_the_last_write_of_a_key_wins(mem: AgentMemory) -> None:
    before = mem.write("a/one", K, {"n": 1})
    results = mem.apply(
        [
            Put(entity_path="a/one", key=K, value={"n": 2}),
            Get(entity_path="a/one", key=K),
            Put(entity_path="a/two", key=K, value={"n": 3}),
            Put(entity_path="a/one", key=K, value={"n": 4}),
            Find(entity_path="a"),
            ListPaths(),
            Delete(entity_path="a/none", key=K),
        ]
    )
    one, got, two, again, found, paths, deleted = results
    assert (got, found, deleted) == (before, [before], False)
    assert [(info.entity_path, info.entries) for info in paths] == [("a/one", 1)]
    assert one == again == mem.read("a/one", K)
    assert (again.version, again.value, two.value) == (2, {"n": 4}, {"n": 3})
    events = mem.timeline(limit=2)
    assert [event.event_type for event in events] == ["write", "write"]
    assert events[0].group == events[1].group is not None
    assert mem.timeline()[2].group is None


def test_each_operation_of_a_batch_has_a_result_of_its_type(mem: AgentMemory) -> None:
    mem.write(P, K, 0)
    deleted, put = mem.apply([Delete(entity_path=P, key=K), Put(entity_path=P, key=K, value=1)])
    assert deleted is True
    assert put == mem.read(P, K)
    _, deleted = mem.apply([Put(entity_path=P, key=K, value=2), Delete(entity_path=P, key=K)])
    assert deleted is True
    assert mem.read(P, K) is None


def test_a_batch_is_all_or_nothing(mem: AgentMemory) -> None:
    mem.write(P, K, 1)
    events = mem.timeline(agent_id="*")
    with pytest.raises(StaleWriteError):
        mem.apply(
            [
                Put(entity_path=P, key="new", value=1),
                Delete(entity_path=P, key=K),
                Put(entity_path=P, key="other", value=1, expected_version=7),
            ]
        )
    with pytest.raises(InvalidInputError):
        mem.apply([Put(entity_path=P, key="new", value=1), "write"])  # type: ignore[list-item]
    assert mem.timeline(agent_id="*") == events
    assert [entry.key for entry in mem.list()] == [K]


PEOPLE = {
    "ann": {"age": 30, "tags": {"role": "dev", "level": 2}, "a.b": 1},
    "bea": {"age": 40, "tags": {"role": "ops"}, "ok": True},
    "cy": {"age": 40.0, "tags": {"role": "dev"}, "ok": None},
    "dot": "not an object",
}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (None, "dot cy bea ann"),
        ({"age": 40}, "cy bea"),
        ({"age": {"$gte": 30, "$lt": 40}}, "ann"),
        ({"age": {"$in": [30, 50]}}, "ann"),
        ({"age": {"$ne": 30}}, "dot cy bea"),
        ({"tags": {"role": "dev"}}, "cy ann"),
        ({"tags.role": "dev"}, "cy ann"),
        ({"a.b": 1}, "ann"),
        ({"ok": 1}, ""),
        ({"ok": None}, "dot cy ann"),
        ({"$or": [{"age": 30}, {"tags": {"role": "ops"}}]}, "bea ann"),
        ({"$and": [{"age": {"$gt": 30}}, {"tags": {"role": "dev"}}]}, "cy"),
        ({"age": {"$gt": "30"}}, ""),
    ],
)
def test_find_filters_newest_first(mem: AgentMemory, conditions: dict[str, Any] | None, expected: str) -> None:
    for name, person in PEOPLE.items():
        mem.write("people", name, person)
    mem.write("peoples", "x", {"age": 40})
    names = expected.split()
    found, window = mem.apply(
        [
            Find(entity_path="people", filter=conditions),
            Find(entity_path="people", filter=conditions, limit=2, offset=1),
        ]
    )
    assert [entry.key for entry in found] == names
    assert [entry.key for entry in window] == names[1:3]


@pytest.mark.parametrize("text", ["plain", 'a "quoted" \\ text', "größer", "line\nbreak", "\ud800", "nul\0"])
@pytest.mark.parametrize("branch", ["main", "draft"])
def test_find_filters_many_entries_by_any_text_newest_first(mem: AgentMemory, text: str, branch: str) -> None:
    numbers = range(250)
    texts = (text, "other") if text.isprintable() or "\n" in text else ("one", "other")
    mem.apply([Put(entity_path="a/b", key=str(n), value={"text": texts[n % 2], "long": "x" * n * 9}) for n in numbers])
    mem.create_branch("draft")
    mem.write("a", "last", {"text": texts[0]}, branch=branch)
    expected = ["last", *(str(n) for n in reversed(numbers) if n % 2 == 0)] if text in texts else []
    every, some = mem.apply(
        [
            Find(entity_path="a", filter={"text": text}),
            Find(filter={"text": {"$eq": text}}, limit=120, offset=3),
        ],
        branch=branch,
    )
    assert [entry.key for entry in every] == expected
    assert [entry.key for entry in some] == expected[3:123]


@pytest.mark.parametrize(
    "operation",
    [
        Find(filter={"$no": []}), Find(filter={"a": {"$regex": "x"}}), Find(filter={"a": {"$in": 1}}),
        Find(filter={"$or": []}), Find(filter={"a": {"$gt": 1, "b": 2}}), Find(limit=-1), Find(offset=-1),
        ListPaths(max_depth=0), ListPaths(max_depth=-1), ListPaths(limit=-1), Find(entity_path="a//b"),
    ],
    ids=str,
)  # fmt: skip
def test_a_query_that_makes_no_sense_is_refused(mem: AgentMemory, operation: Any) -> None:
    mem.write("a/b", K, {"a": 1})
    with pytest.raises(InvalidFilterError if "$" in str(getattr(operation, "filter", "")) else InvalidInputError):
        mem.apply([operation])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["a/b/c:1", "a/b/d:2", "a/x:1", "b:1"]),
        ({"prefix": ("a",)}, ["a/b/c:1", "a/b/d:2", "a/x:1"]),
        ({"prefix": ("*", "b")}, ["a/b/c:1", "a/b/d:2"]),
        ({"suffix": ("d",)}, ["a/b/d:2"]),
        ({"suffix": ("b", "*")}, ["a/b/c:1", "a/b/d:2"]),
        ({"prefix": ("a",), "max_depth": 2}, ["a/b:3", "a/x:1"]),
        ({"max_depth": 1, "offset": 1}, ["b:1"]),
        ({"limit": 2, "offset": 1}, ["a/b/d:2", "a/x:1"]),
        ({"suffix": ("z", "z", "z", "z", "z")}, []),
    ],
)
def test_paths_list_by_segments(mem: AgentMemory, options: dict[str, Any], expected: list[str]) -> None:
    for path, key in (("b", "k"), ("a/x", "k"), ("a/b/d", "k"), ("a/b/d", "l"), ("a/b/c", "k"), ("gone", "k")):
        mem.write(path, key, 1)
    mem.delete("gone", "k")
    (found,) = mem.apply([ListPaths(**options)])
    assert [f"{info.entity_path}:{info.entries}" for info in found] == expected


def test_a_transaction_buffers_and_commits_at_once(mem: AgentMemory) -> None:
    mem.write(P, "old", 1)
    with mem.transaction("tune retries") as tx:
        pending = [tx.write(P, K, {"n": 1}), tx.write(P, "other", 2), tx.write(P, K, {"n": 2}, confidence=0.5)]
        assert [(entry.seq, entry.version) for entry in pending] == [(0, 0)] * 3
        assert tx.read(P, K).value == {"n": 2}
        assert tx.read(P, "old").value == 1
        assert tx.delete(P, "old") is True
        assert (tx.read(P, "old"), tx.delete(P, "old"), tx.delete(P, "none")) == (None, False, False)
        assert mem.read(P, K) is None
        assert mem.read(P, "old").value == 1
        assert mem.as_agent("bob").write("b", "meanwhile", 1).version == 1, "a transaction holds no lock"
    current = mem.read(P, K)
    assert pending[0] == pending[2] == current
    assert (current.version, current.value, current.confidence) == (1, {"n": 2}, 0.5)
    assert mem.read(P, "old") is None
    events = [event for event in mem.timeline(limit=3) if event.agent_id == "alice"]
    assert [event.event_type for event in events] == ["delete", "write", "write"]
    assert len({event.group for event in events}) == 1
    assert {event.details["message"] for event in events} == {"tune retries"}


def test_an_exception_discards_a_transaction(mem: AgentMemory) -> None:
    def abandon() -> None:
        with mem.transaction() as tx:
            tx.write(P, K, 1)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        abandon()
    assert mem.list() == mem.timeline(agent_id="*") == []


def test_a_transaction_that_comes_too_late_commits_nothing(mem: AgentMemory) -> None:
    def come_late() -> None:
        with mem.transaction() as tx:
            tx.write(P, "one", 1)
            tx.write(P, K, 1, expected_version=0)
            tx.write(P, K, 2)
            mem.write(P, K, "first")

    with pytest.raises(StaleWriteError):
        come_late()
    assert [entry.value for entry in mem.list()] == ["first"]


def test_a_transaction_is_used_inside_its_block(mem: AgentMemory) -> None:
    with mem.transaction() as tx:
        pass
    for late in (tx, mem.transaction()):
        with pytest.raises(UsageError):
            late.write(P, K, 1)
        with pytest.raises(UsageError):
            late.read(P, K)
        with pytest.raises(UsageError):
            late.delete(P, K)


def test_a_transaction_commits_to_the_branch_it_was_opened_on(mem: AgentMemory) -> None:
    mem.create_branch("x")
    with mem.transaction(branch="x") as named:
        named.write(P, "named", 1)
    with mem.transaction() as tx:
        mem.switch_branch("x")
        tx.write(P, K, 1)
    assert [entry.key for entry in mem.list(branch="main")] == [K]
    assert [entry.key for entry in mem.list(branch="x")] == ["named"]


# --- the private and the shared entry of one path and key ------------------------------------------------------------


@pytest.fixture
def both(mem: AgentMemory) -> AgentMemory:
    """Return a memory with a private entry over a shared one."""
    mem.write(P, K, "shared")
    mem.write(P, K, "mine", shared=False)
    return mem


def test_writes_of_the_private_and_the_shared_entry_are_two(both: AgentMemory) -> None:
    both.apply([Put(entity_path=P, key=K, value="s2"), Put(entity_path=P, key=K, value="m2", shared=False)])
    assert (both.read(P, K).value, both.as_agent("bob").read(P, K).value) == ("m2", "s2")


def test_a_deletion_in_a_batch_leaves_the_other_entry_alone(both: AgentMemory) -> None:
    both.apply([Put(entity_path=P, key=K, value="s2"), Delete(entity_path=P, key=K)])
    found = both.read(P, K)
    assert (found.value, found.shared) == ("s2", True), "the deletion is of the entry that a read would return"


def test_a_deletion_in_a_transaction_uncovers_the_shared_entry(both: AgentMemory) -> None:
    with both.transaction() as tx:
        assert tx.delete(P, K) is True
        assert tx.read(P, K).value == "shared"
        tx.write(P, K, "s2")
        assert tx.read(P, K).value == "s2"
    assert [(entry.value, entry.shared) for entry in both.list()] == [("s2", True)]


def test_both_entries_can_be_deleted_in_one_transaction(both: AgentMemory) -> None:
    with both.transaction() as tx:
        assert [tx.delete(P, K), tx.delete(P, K), tx.delete(P, K)] == [True, True, False]
    assert both.list() == []
