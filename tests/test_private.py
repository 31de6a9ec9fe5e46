"""Private entries: no other agent can see, count, overwrite, judge or merge them, with two agents and with three."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from amfs import AgentMemory, EntryNotFoundError, Find, Get, ListPaths, MergeStatus, Put

P, K = "notes", "plan"


@pytest.fixture
def bob(mem: AgentMemory) -> AgentMemory:
    """Return bob's handle; mem is alice's."""
    return mem.as_agent("bob")


@pytest.fixture
def carol(mem: AgentMemory) -> AgentMemory:
    """Return carol's handle."""
    return mem.as_agent("carol")


def all_that_is_seen(memory: AgentMemory) -> dict[str, Any]:
    """Return everything an agent can find out about a memory by looking."""
    views = {}
    for branch in ("main", "x"):
        views[branch] = {
            "read": [memory.read(P, key, branch=branch) for key in (K, "other")],
            "read_many": memory.read_many([(P, K), f"{P}/{K}", f"{P}/other"], branch=branch),
            "read_from": memory.read_from("alice", P, K, branch=branch),
            "list": [memory.list(branch=branch), memory.list(P, prefix=True, branch=branch)],
            "messages": memory.list(memory_type="message", branch=branch),
            "versions": memory.list(include_superseded=True, branch=branch),
            "history": memory.history(P, K, branch=branch),
            "events": memory.timeline(agent_id="*", branch=branch, include_messages=True),
            "batch": memory.apply([Get(entity_path=P, key=K), Find(), ListPaths()], branch=branch),
            "stats": memory.stats(branch=branch).model_dump(exclude={"file_bytes"}),
        }
    merge = memory.merge_branch("x", dry_run=True).model_dump(exclude={"source_seq", "target_seq", "base_seq"})
    events = [memory.timeline(agent_id=agent, include_messages=True) for agent in ("alice", "*", None)]
    return {"views": views, "diff": memory.diff_branch("x"), "merge": merge, "events": events}


def write_and_delete(alice: AgentMemory) -> None:
    alice.write(P, "other", 1, shared=False)
    alice.delete(P, "other")


def write_in_a_batch(alice: AgentMemory) -> None:
    alice.apply([Put(entity_path=P, key=K, value="b", shared=False), Get(entity_path=P, key=K)])


def write_in_a_transaction(alice: AgentMemory) -> None:
    with alice.transaction("secret") as tx:
        tx.write(P, K, "t", shared=False)
        tx.write(P, "other", "t", shared=False, memory_type="message")


@pytest.mark.parametrize(
    "act",
    [
        lambda alice: alice.write(P, K, "secret", shared=False),
        lambda alice: alice.write(P, K, "secret", shared=False, branch="x", ttl=60),
        lambda alice: alice.write("secret/path", K, 1, shared=False, memory_type="message"),
        lambda alice: alice.write(P, K, 1, shared=False, idempotency_key="t"),
        write_and_delete,
        write_in_a_batch,
        write_in_a_transaction,
    ],
    ids=["write", "branch", "message", "idempotent", "delete", "batch", "transaction"],
)
@pytest.mark.parametrize("with_shared", [False, True])
@pytest.mark.parametrize("where", [None, ":memory:"])
def test_another_agent_sees_no_difference(
    open_memory: Callable[..., AgentMemory],
    act: Callable[[AgentMemory], Any],
    with_shared: bool,
    where: str | None,
) -> None:
    alice = open_memory("alice", where, read_events="off")
    bob = alice.as_agent("bob")
    bob.write("shared", "entry", 1)
    if with_shared:
        bob.write(P, K, "shared")
    alice.create_branch("x")
    bob.write("shared", "entry", 2, branch="x")
    before, own_before = all_that_is_seen(bob), all_that_is_seen(alice)
    act(alice)
    assert all_that_is_seen(bob) == before
    assert all_that_is_seen(alice) != own_before, "the test would prove nothing if alice saw no difference either"


def test_an_agents_own_entry_comes_before_the_shared_one(mem: AgentMemory, bob: AgentMemory) -> None:
    shared = bob.write(P, K, "shared")
    own = mem.write(P, K, "own", shared=False)
    theirs = bob.write(P, K, "bob's own", shared=False)
    assert (own.version, theirs.version, own.shared) == (1, 1, False)
    assert (mem.read(P, K), bob.read(P, K)) == (own, theirs)
    assert mem.as_agent("carol").read(P, K) == shared
    assert mem.history(P, K) == [own]
    assert bob.write(P, K, "shared 2").version == 2
    assert mem.delete(P, K) is True
    assert mem.read(P, K).value == "shared 2"
    assert [entry.value for entry in mem.history(P, K)] == ["shared", "shared 2"]
    assert bob.read(P, K) == theirs


def test_nobody_can_delete_overwrite_or_judge_the_private_entry_of_another(mem: AgentMemory, bob: AgentMemory) -> None:
    own = mem.write(P, K, 1, shared=False, confidence=0.5)
    assert bob.delete(P, K) is False
    for named in ([(P, K)], [f"{P}/{K}"], [own]):
        with pytest.raises(EntryNotFoundError):
            bob.commit_outcome("ref", "failure", named)
    assert bob.write(P, K, 2, expected_version=0).version == 1
    bob.commit_outcome("ref", "failure", [(P, K)])
    assert mem.read(P, K) == own


def test_an_entry_given_as_a_key_means_its_own_slot(mem: AgentMemory, bob: AgentMemory) -> None:
    shared = bob.write(P, K, "shared")
    own = mem.write(P, K, "own", shared=False)
    assert mem.read_many([shared, own]) == [shared, own]
    outcome = mem.commit_outcome("ref", "failure", [shared])
    assert [(entry.value, entry.shared) for entry in outcome.entries] == [("shared", True)]
    assert mem.read(P, K) == own


def test_an_outcome_on_private_entries_shows_others_no_count(mem: AgentMemory, bob: AgentMemory) -> None:
    mem.write(P, K, 1, shared=False)
    mem.write(P, "shared", 1)
    mem.commit_outcome("ref", "success", [(P, K), (P, "shared")])
    (mine,), (theirs,) = mem.explain("ref").outcomes, bob.explain("ref").outcomes
    assert (mine.details["causal_entries"], mine.details["entries_updated"]) == (2, 2)
    assert (theirs.details["causal_entries"], theirs.details["entries_updated"]) == (1, 1)
    assert "private" not in {**mine.details, **theirs.details}
    assert ("2 entries" in mine.summary, "1 entry" in theirs.summary) == (True, True)
    assert [cause.entry.key for cause in mem.explain("ref").causes] == [K, "shared"]
    assert [cause.entry.key for cause in bob.explain("ref").causes] == ["shared"]
    assert [cause.entry.key for cause in bob.commit_outcome("ref", "success").causes] == ["shared"]
    assert bob.timeline(agent_id="alice", event_type="outcome") == [theirs]


def test_what_an_agent_read_privately_in_a_run_is_left_for_it_to_judge(mem: AgentMemory, bob: AgentMemory) -> None:
    mem.write(P, K, 1, shared=False)
    mem.write(P, "shared", 1)
    with mem.run("r"):
        mem.read(P, K)
        mem.read(P, "shared")
    assert [cause.entry.key for cause in bob.commit_outcome("one", "failure", run_id="r").causes] == ["shared"]
    assert mem.read(P, K).confidence == 1.0
    assert [cause.entry.key for cause in mem.commit_outcome("two", "failure", run_id="r").causes] == [K]


# --- branches --------------------------------------------------------------------------------------------------------


def merged(memory: AgentMemory, source: str = "x", target: str = "main") -> list[tuple[str, bool, Any]]:
    result = memory.merge_branch(source, target=target)
    return [(change.key, change.source.shared, change.source.value) for change in result.applied]


def test_a_merge_takes_along_only_the_merging_agents_private_entries(
    mem: AgentMemory, bob: AgentMemory, carol: AgentMemory
) -> None:
    mem.create_branch("x")
    for agent in (mem, bob):
        agent.write(P, K, f"{agent.agent_id} 1", shared=False, branch="x")
    mem.write(P, "s", 1, branch="x")
    assert merged(bob) == [(K, False, "bob 1"), ("s", True, 1)]
    assert (mem.read(P, K), bob.read(P, K).value, carol.read(P, K)) == (None, "bob 1", None)
    assert carol.merge_branch("x").status is MergeStatus.UP_TO_DATE
    assert merged(mem) == [(K, False, "alice 1")]
    for agent in (mem, bob):
        agent.write(P, K, f"{agent.agent_id} 2", shared=False, branch="x")
    assert carol.diff_branch("x") == []
    assert merged(carol) == []
    assert [change.source.value for change in mem.diff_branch("x")] == ["alice 2"]
    assert (merged(mem), merged(bob)) == ([(K, False, "alice 2")], [(K, False, "bob 2")])
    assert mem.merge_branch("x").status is bob.merge_branch("x").status is MergeStatus.UP_TO_DATE


def test_the_base_of_private_entries_advances_with_their_owners_merges_only(
    mem: AgentMemory, bob: AgentMemory, carol: AgentMemory
) -> None:
    mem.write(P, K, {"a": 0, "b": 0}, shared=False)
    mem.create_branch("x")
    mem.write(P, K, {"a": 1, "b": 0}, shared=False, branch="x")
    bob.write("s", "s", 1, branch="x")
    merged(bob)
    bob.write("s", "t", 1)
    merged(carol, "main", "x")
    mem.write(P, K, {"a": 0, "b": 1}, shared=False)
    (change,) = mem.diff_branch("x")
    assert (change.base.value, change.source.value, change.target.value) == (
        {"a": 0, "b": 0}, {"a": 1, "b": 0}, {"a": 0, "b": 1},
    )  # fmt: skip
    assert merged(mem) == [(K, False, {"a": 1, "b": 0})]
    assert mem.read(P, K).value == {"a": 1, "b": 1}
    mem.write(P, K, {"a": 1, "b": 2}, shared=False)
    (back,) = mem.diff_branch("main", "x")
    assert (back.base.value, back.source.value) == ({"a": 1, "b": 0}, {"a": 1, "b": 2})


def test_a_private_conflict_stops_its_owners_merge_and_nobody_elses(mem: AgentMemory, bob: AgentMemory) -> None:
    mem.write(P, K, 0, shared=False)
    mem.create_branch("x")
    mem.write(P, K, 1, shared=False, branch="x")
    mem.write(P, K, 2, shared=False)
    bob.write("s", "s", 1, branch="x")
    assert mem.merge_branch("x", dry_run=True).status is MergeStatus.CONFLICTS
    result = bob.merge_branch("x")
    assert (result.status, result.conflicts, result.merged_entries) == (MergeStatus.MERGED, (), 1)
    (conflict,) = mem.merge_branch("x", dry_run=True).conflicts
    assert (conflict.base.value, conflict.source.value, conflict.target.value) == (0, 1, 2)


def test_a_merge_event_counts_private_entries_for_the_merging_agent_alone(mem: AgentMemory, bob: AgentMemory) -> None:
    mem.write(P, "clash", 0, shared=False)
    mem.create_branch("x")
    mem.write(P, K, 1, shared=False, branch="x")
    mem.write("s", "s", 1, branch="x")
    mem.write(P, "clash", 1, shared=False, branch="x")
    mem.write(P, "clash", 2, shared=False)
    assert mem.merge_branch("x", strategy="target_wins").merged_entries == 2
    (mine,), (theirs,) = (memory.timeline(agent_id="alice", event_type="branch_merged") for memory in (mem, bob))
    assert (mine.details["merged_entries"], theirs.details["merged_entries"]) == (2, 1)
    assert mine.details["skipped"] == [f"{P}/clash"]
    assert not {"private", "skipped"} & set(theirs.details)
    assert (mine.summary, theirs.summary) == ("Merged x: 2 entries", "Merged x: 1 entry")


def test_a_branch_made_by_another_inherits_private_entries_for_their_owner(mem: AgentMemory, bob: AgentMemory) -> None:
    own = mem.write(P, K, 1, shared=False)
    bob.create_branch("x")
    mem.write(P, K, 2, shared=False)
    assert mem.read(P, K, branch="x") == own
    assert bob.read(P, K, branch="x") is None
    assert mem.read(P, K, at=own.seq) == own
    assert bob.list(at=own.seq) == []
