"""Time to live: an expired entry is absent now and there in the past; nothing happens when it expires."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from amfs import AgentMemory, Find, Get, ListPaths, Put, Renew, StaleWriteError

P, K = "cache", "token"


def presences(memory: AgentMemory, branch: str = "main") -> set[bool]:
    """Return whether an entry is there, as every way of looking has it."""
    got, found, paths = memory.apply([Get(entity_path=P, key=K), Find(entity_path=P), ListPaths()], branch=branch)
    return {
        memory.read(P, K, branch=branch) is not None,
        memory.read_many([(P, K)], branch=branch) != [None],
        memory.read_many([f"{P}/{K}"], branch=branch) != [None],
        memory.read_from("alice", P, K, branch=branch) is not None,
        memory.list(branch=branch) != [],
        memory.list(P, branch=branch) != [],
        memory.list(P, prefix=True, branch=branch) != [],
        got is not None,
        found != [],
        paths != [],
        memory.stats(branch=branch).entries == 1,
    }


@pytest.mark.parametrize(
    ("ttl", "micros"), [(5, 5_000_000), (0.001, 1000), (timedelta(minutes=1, microseconds=1), 60_000_001)]
)
def test_an_entry_is_there_until_its_deadline_and_not_at_it(
    mem: AgentMemory, clock, ttl: float | timedelta, micros: int
) -> None:
    entry = mem.write(P, K, 1, ttl=ttl)
    assert entry.expires_at - entry.written_at == timedelta(microseconds=micros)
    mem.create_branch("x")
    clock.now += micros - 1
    assert presences(mem) == presences(mem, "x") == {True}
    events = mem.timeline(agent_id="*")
    clock.now += 1
    assert presences(mem) == presences(mem, "x") == {False}
    assert mem.delete(P, K) is False
    assert mem.timeline(agent_id="*") == events, "expiry is no event"
    assert [(one.version, one.deleted, one.value) for one in mem.history(P, K)] == [(1, False, 1)]


def test_the_past_ignores_expiry(mem: AgentMemory, clock) -> None:
    entry = mem.write(P, K, 1, ttl=5)
    clock.advance(10)
    assert mem.read(P, K) is None
    for at in (entry.seq, entry.written_at, clock.moment):
        assert mem.read(P, K, at=at) == entry
        assert mem.read_many([(P, K)], at=at) == mem.list(at=at) == mem.list(P, prefix=True, at=at) == [entry]


def test_an_expired_entry_counts_as_absent_and_numbering_goes_on(mem: AgentMemory, clock) -> None:
    mem.write(P, K, 1, ttl=5)
    clock.advance(5)
    with pytest.raises(StaleWriteError) as caught:
        mem.write(P, K, 2, expected_version=1)
    assert caught.value.actual == 0
    again = mem.write(P, K, 1, expected_version=0)
    assert (again.version, again.expires_at, again.created_at) == (2, None, again.written_at)
    clock.advance(10**6)
    assert mem.read(P, K) == again


def test_a_write_sets_the_deadline_anew_or_takes_it_away(mem: AgentMemory, clock) -> None:
    mem.write(P, K, 1, ttl=5)
    clock.advance(4)
    mem.write(P, K, 1, ttl=5)
    clock.advance(4)
    assert mem.read(P, K).version == 2
    mem.write(P, K, 1)
    clock.advance(10**6)
    assert mem.read(P, K).version == 3


@pytest.mark.parametrize("options", [{"conflict_policy": "raise"}, {"on_conflict": lambda *_: pytest.fail("asked")}])
def test_expiry_is_nobodys_change(open_memory, clock, options: dict[str, Any]) -> None:
    mem = open_memory(**options)
    mem.write(P, K, 1, ttl=5)
    clock.advance(5)
    assert mem.write(P, K, 2, ttl=5).version == 2
    clock.advance(5)
    assert mem.read(P, K) is None
    assert mem.write(P, K, 3).version == 3


def test_an_expired_private_entry_uncovers_the_shared_one(mem: AgentMemory, clock) -> None:
    shared = mem.write(P, K, "shared")
    own = mem.write(P, K, "own", shared=False, ttl=5)
    assert mem.read(P, K) == own
    clock.reach(own.expires_at)
    assert mem.read(P, K) == mem.read_many([(P, K)])[0] == shared
    assert mem.history(P, K) == [shared]


def test_an_outcome_keeps_the_deadline_and_skips_what_has_expired(mem: AgentMemory, clock) -> None:
    first = mem.write(P, K, 1, ttl=5)
    mem.read(P, K)
    (judged,) = mem.commit_outcome("one", "failure").entries
    assert judged.expires_at == first.expires_at
    mem.read(P, K)
    clock.advance(5)
    outcome = mem.commit_outcome("two", "failure")
    assert outcome.entries == ()
    assert [(cause.entry.key, "absent" in str(cause.skipped)) for cause in outcome.skipped] == [(K, True)]


# --- branches --------------------------------------------------------------------------------------------------------


def test_the_deadline_is_inherited_at_a_fork_and_parts_there(mem: AgentMemory, clock) -> None:
    mem.write(P, K, 1, ttl=5)
    mem.create_branch("kept")
    mem.create_branch("renewed")
    mem.write(P, K, 1)
    renewed = mem.write(P, K, 1, ttl=50, branch="renewed")
    clock.advance(5)
    assert mem.read(P, K) is not None
    assert mem.read(P, K, branch="kept") is None
    assert mem.read(P, K, branch="renewed") == renewed
    clock.reach(renewed.expires_at)
    assert mem.read(P, K, branch="renewed") is None


@pytest.mark.parametrize(
    ("value", "target_writes", "fate"),
    [(2, False, "source"), (1, False, "source"), (2, True, "conflict"), (1, True, "target")],
)
def test_the_deadline_goes_along_in_a_merge(
    mem: AgentMemory, clock, value: int, target_writes: bool, fate: str
) -> None:
    mem.write(P, K, 1)
    mem.create_branch("x")
    entry = mem.write(P, K, value, ttl=60, branch="x")
    if target_writes:
        mem.write(P, K, 3)
    (change,) = mem.diff_branch("x")
    assert (change.diff_type, change.conflict is not None) == ("modified", fate == "conflict")
    mem.merge_branch("x", strategy="source_wins")
    found = mem.read(P, K)
    assert found.expires_at == (None if fate == "target" else entry.expires_at)
    clock.reach(entry.expires_at)
    assert (mem.read(P, K) is None) == (fate != "target")


def test_an_entry_that_expired_on_the_source_is_not_brought_along(mem: AgentMemory, clock) -> None:
    mem.create_branch("x")
    entry = mem.write(P, K, 1, ttl=5, branch="x")
    mem.write(P, "stays", 1, branch="x")
    clock.reach(entry.expires_at)
    assert [change.key for change in mem.diff_branch("x")] == ["stays"]
    assert mem.merge_branch("x").merged_entries == 1
    assert mem.history(P, K) == []


def test_an_entry_that_expired_on_both_sides_is_no_change(mem: AgentMemory, clock) -> None:
    mem.write(P, K, 1, ttl=5)
    mem.create_branch("x")
    mem.write(P, K, 2, ttl=4, branch="x")
    clock.advance(5)
    assert mem.diff_branch("x") == []


def test_an_entry_that_expired_on_the_target_is_absent_there(mem: AgentMemory, clock) -> None:
    mem.write(P, K, 1, ttl=5)
    mem.create_branch("x")
    clock.advance(5)
    mem.write(P, K, 2, branch="x")
    (change,) = mem.diff_branch("x")
    assert (change.diff_type, change.base, change.target, change.conflict) == ("added", None, None, None)
    mem.merge_branch("x")
    found = mem.read(P, K)
    assert (found.value, found.version, found.expires_at) == (2, 2, None)


def test_expiry_on_the_source_against_an_edit_on_the_target_is_a_conflict(mem: AgentMemory, clock) -> None:
    mem.write(P, K, 1)
    mem.create_branch("x")
    entry = mem.write(P, K, 2, ttl=5, branch="x")
    mem.write(P, K, 3)
    clock.reach(entry.expires_at)
    (change,) = mem.diff_branch("x")
    assert (change.diff_type, change.conflict.kind) == ("deleted", "delete_edit")


def test_a_clock_that_goes_back_brings_nothing_back(mem: AgentMemory, clock) -> None:
    entry = mem.write(P, K, 1, ttl=5)
    clock.advance(10)
    mem.write(P, "other", 1)
    clock.advance(-9)
    assert clock.moment < entry.expires_at
    assert mem.read(P, K) is None
    assert mem.write(P, K, 2, expected_version=0).version == 2


def renew(memory: AgentMemory, branch: str = "main") -> bool:
    return memory.apply([Renew(entity_path=P, key=K)], branch=branch)[0]


def test_a_renewed_entry_lives_its_whole_time_again_and_stays_its_authors(mem: AgentMemory, clock) -> None:
    first = mem.write(P, K, {"n": 1}, ttl=100, confidence=0.5, pattern_refs=["p"])
    clock.advance(60)
    assert renew(mem.as_agent("bob"))
    entry = mem.read(P, K)
    assert entry.expires_at - first.expires_at == timedelta(seconds=60)
    assert (entry.value, entry.agent_id, entry.committed_by) == ({"n": 1}, "alice", "bob")
    assert (entry.version, entry.confidence, entry.pattern_refs) == (2, 0.5, ("p",))
    assert entry.created_at == first.created_at
    clock.advance(99)
    assert mem.read(P, K) is not None
    clock.advance(1)
    assert mem.read(P, K) is None
    assert not renew(mem)


def test_an_entry_is_renewed_a_hundred_times_in_its_life_at_most(mem: AgentMemory, clock) -> None:
    mem.write(P, K, 1, ttl=100)
    assert [renew(mem) for _ in range(3)] == [False] * 3
    clock.advance(1)
    assert [renew(mem) for _ in range(3)] == [True, False, False]
    assert len(mem.history(P, K)) == 2


def test_what_does_not_expire_or_is_written_in_the_same_batch_is_not_renewed(mem: AgentMemory, clock) -> None:
    assert not renew(mem)
    mem.write(P, K, 1)
    assert not renew(mem)
    mem.write(P, K, 1, ttl=100)
    clock.advance(50)
    put = Put(entity_path=P, key=K, value=2, ttl=10)
    assert mem.apply([Renew(entity_path=P, key=K), put])[0] is False
    assert mem.read(P, K).expires_at - mem.read(P, K).written_at == timedelta(seconds=10)


def test_an_outcome_does_not_shorten_the_life_of_what_is_renewed(mem: AgentMemory, clock) -> None:
    mem.write(P, K, 1, ttl=100)
    clock.advance(40)
    mem.commit_outcome("o", "success", [(P, K)])
    clock.advance(10)
    assert renew(mem)
    entry = mem.read(P, K)
    assert entry.expires_at - entry.written_at == timedelta(seconds=100)
    assert entry.outcome_count == 1


def test_a_renewal_on_a_branch_is_a_change_of_it(mem: AgentMemory, clock) -> None:
    mem.write(P, K, 1, ttl=100)
    mem.create_branch("b")
    clock.advance(50)
    assert renew(mem, "b")
    assert len(mem.diff_branch("b")) == 1
    clock.advance(60)
    assert mem.read(P, K) is None
    assert mem.read(P, K, branch="b").value == 1
