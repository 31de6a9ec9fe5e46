"""Fork: a new agent with a namespace of its own that starts with all that the forking agent sees."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from amfs import (
    AgentExistsError,
    AgentMemory,
    BeforeHistoryError,
    BranchDepthError,
    BranchNotFoundError,
    InvalidInputError,
    MergeStatus,
    Put,
    TagNotFoundError,
)

P, K = "svc", "config"
OpenMemory = Callable[..., AgentMemory]


def newest(memory: AgentMemory) -> Any:
    """Return the newest event of all agents in the namespace."""
    return memory.timeline(agent_id="*", limit=1)[0]


@pytest.fixture
def alice(open_memory: OpenMemory) -> AgentMemory:
    """Return alice's handle on a memory with entries of hers and of bob's, shared and private, and a message."""
    mem = open_memory("alice")
    bob = mem.as_agent("bob")
    mem.write(P, K, {"n": 1}, confidence=0.7)
    mem.write(P, K, {"n": 2}, confidence=0.5, memory_type="belief", pattern_refs=["p"])
    bob.write(P, "bob's", 1)
    mem.write(P, "secret", "alice's", shared=False)
    mem.write("deep/path", "secret", [1, 2], shared=False)
    bob.write(P, "secret", "bob's", shared=False)
    mem.write(P, "gone", 1)
    mem.delete(P, "gone")
    mem.write(P, "gone secret", 1, shared=False)
    mem.delete(P, "gone secret")
    mem.write("chat", "1", "hello", memory_type="message")
    return mem


def held(memory: AgentMemory, branch: str | None = None) -> dict[tuple[str, str, bool], Any]:
    """Return the values a memory holds."""
    return {(entry.entity_path, entry.key, entry.shared): entry.value for entry in memory.list(branch=branch)}


# --- what the new agent has ------------------------------------------------------------------------------------------


def test_the_new_agent_starts_with_all_that_the_old_one_sees(alice: AgentMemory, open_memory: OpenMemory) -> None:
    count = alice.fork("alice-v2")
    new = open_memory("alice-v2")
    assert (new.namespace, new.branch) == ("alice-v2", "main"), "it finds its home by itself"
    assert held(new) == held(alice)
    assert count == len(new.list()) == 4
    assert [entry.value for entry in new.list(memory_type="message")] == ["hello"]
    entry = new.read(P, K)
    assert entry == alice.read(P, K)
    assert (entry.version, entry.agent_id, entry.confidence, entry.pattern_refs) == (2, "alice", 0.5, ("p",))
    assert new.history(P, K) == alice.history(P, K)


def test_both_sides_have_an_event(alice: AgentMemory, open_memory: OpenMemory, clock: Any) -> None:
    clock.advance(60)
    alice.fork("alice-v2")
    here = newest(alice)
    assert (here.event_type, here.agent_id, here.branch) == ("fork", "alice", "main")
    assert here.summary == "Forked to alice-v2: 4 entries"
    assert here.details == {"new_agent": "alice-v2", "namespace": "alice-v2", "entries": 4}
    new = open_memory("alice-v2")
    there = newest(new)
    assert (there.event_type, there.agent_id, there.branch) == ("fork", "alice-v2", "main")
    assert there.summary == "Forked from alice: 4 entries"
    assert there.details.items() >= {"source_agent": "alice", "namespace": "default", "entries": 4}.items()
    assert "source_branch" not in there.details, "the new namespace learns nothing of the old one's branches"
    assert (here.created_at, there.created_at) == (clock.moment, clock.moment)
    assert new.timeline() == [there]
    assert alice.timeline(agent_id="*", event_type="fork") == [here]


def test_private_entries_are_the_new_agents_own(alice: AgentMemory, open_memory: OpenMemory) -> None:
    alice.fork("alice-v2")
    new = open_memory("alice-v2")
    entry = new.read(P, "secret")
    assert (entry.value, entry.shared, entry.version) == ("alice's", False, 1)
    assert (entry.agent_id, entry.committed_by) == ("alice", "alice"), "who wrote it is no secret to its new owner"
    new.write(P, "secret", "alice-v2's", shared=False)
    assert (new.read(P, "secret").version, alice.read(P, "secret").value) == (2, "alice's")
    carol = new.as_agent("carol")
    assert (carol.read(P, "secret"), len(carol.list())) == (None, 2)
    new.delete(P, "secret")
    assert new.read(P, "secret") is None, "nothing of bob's comes to light under it"


def test_two_memories_go_separate_ways(alice: AgentMemory, open_memory: OpenMemory) -> None:
    alice.fork("alice-v2")
    new = open_memory("alice-v2")
    before = held(new)
    alice.write(P, K, "alice goes on")
    alice.write(P, "later", 1)
    assert held(new) == before
    assert new.write(P, K, "so does the other", expected_version=2).version == 3
    new.delete(P, "bob's")
    assert (alice.read(P, K).value, alice.read(P, "bob's").value) == ("alice goes on", 1)
    assert [event.event_type for event in new.timeline()] == ["delete", "write", "fork"]


def test_what_expired_is_not_forked(alice: AgentMemory, open_memory: OpenMemory, clock: Any) -> None:
    alice.write(P, "brief", 1, ttl=60)
    alice.write(P, "brief secret", 1, ttl=60, shared=False)
    lasting = alice.write(P, "lasting", 1, ttl=6000)
    clock.advance(100)
    assert alice.fork("alice-v2") == 5
    new = open_memory("alice-v2")
    assert held(new) == held(alice)
    assert new.read(P, "lasting").expires_at == lasting.expires_at
    clock.advance(6000)
    assert new.read(P, "lasting") is None


@pytest.mark.parametrize("way", ["branch", "switch", "view"])
def test_a_branch_is_forked_as_it_stands(alice: AgentMemory, open_memory: OpenMemory, way: str) -> None:
    alice.create_branch("x")
    alice.write(P, K, "on x", branch="x")
    alice.write(P, "x secret", 1, shared=False, branch="x")
    if way == "branch":
        count = alice.fork("alice-v2", branch="x")
    elif way == "view":
        count = alice.on_branch("x").fork("alice-v2")
    else:
        alice.switch_branch("x")
        count = alice.fork("alice-v2")
        alice.switch_branch("main")
    new = open_memory("alice-v2")
    assert held(new) == held(alice, "x")
    assert (count, new.read(P, K).value) == (5, "on x")
    assert [branch.name for branch in new.branches()] == ["main"]
    assert alice.timeline(branch="x", limit=1)[0].event_type == "fork"


def test_a_closed_branch_can_be_forked(alice: AgentMemory, open_memory: OpenMemory) -> None:
    alice.create_branch("x")
    alice.write(P, K, "on x", branch="x")
    alice.close_branch("x")
    alice.fork("alice-v2", branch="x")
    assert open_memory("alice-v2").read(P, K).value == "on x"


def test_a_fork_is_forked(alice: AgentMemory, open_memory: OpenMemory) -> None:
    alice.fork("second")
    second = open_memory("second")
    second.write(P, "more secret", 2, shared=False)
    assert second.fork("third") == 5
    third = open_memory("third")
    assert held(third) == held(second)
    assert third.verify().ok
    second.write(P, K, "goes on")
    assert third.read(P, K).value == {"n": 2}


def test_others_can_join_the_new_namespace(alice: AgentMemory, open_memory: OpenMemory) -> None:
    alice.fork("alice-v2")
    dave = open_memory("dave", namespace="alice-v2")
    assert (dave.read(P, K).value, dave.read(P, "secret")) == ({"n": 2}, None)
    dave.write(P, "by dave", 1)
    assert open_memory("alice-v2").read(P, "by dave").value == 1
    assert alice.read(P, "by dave") is None


# --- the main branch of a fork ---------------------------------------------------------------------------------------


def test_a_forked_main_has_no_parent_to_compare_or_merge_with(alice: AgentMemory, open_memory: OpenMemory) -> None:
    alice.create_branch("x")
    alice.fork("alice-v2")
    new = open_memory("alice-v2")
    (main,) = new.branches()
    assert (main.name, main.parent, main.fork_seq, main.created_by) == ("main", None, None, "alice-v2")
    event = newest(new)
    for call in (lambda: new.diff_branch("main"), lambda: new.merge_branch("main")):
        with pytest.raises(InvalidInputError, match=r"'main' has no parent.*target="):
            call()
    for call in (
        lambda: new.diff_branch("x"),
        lambda: new.merge_branch("main", target="x"),
        lambda: new.read(P, K, branch="x"),
    ):
        with pytest.raises(BranchNotFoundError, match="no branch 'x'"):
            call()
    assert newest(new) == event


def test_branches_of_a_fork_are_merged_as_any_others(alice: AgentMemory, open_memory: OpenMemory) -> None:
    alice.fork("alice-v2")
    new = open_memory("alice-v2")
    new.create_branch("x")
    new.write(P, K, {"n": 3}, branch="x")
    new.write(P, "secret", "changed", shared=False, branch="x")
    assert new.merge_branch("x").merged_entries == 2
    assert (new.read(P, K).version, new.read(P, "secret").value) == (3, "changed")
    assert new.merge_branch("x").status is MergeStatus.UP_TO_DATE


def test_a_fork_is_rolled_back_to_before_it_was_made(alice: AgentMemory, open_memory: OpenMemory) -> None:
    first, later = alice.history(P, K)
    alice.create_tag("v1")
    alice.fork("alice-v2")
    new = open_memory("alice-v2")
    new.write(P, K, "new")
    new.rollback(timestamp=later.written_at, include_others=True)
    assert held(new) == {(P, K, True): {"n": 2}}
    with pytest.raises(BeforeHistoryError):
        new.rollback(timestamp=first.written_at - timedelta(days=1))
    with pytest.raises(TagNotFoundError):
        new.rollback(tag_name="v1")


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bob", "alice", "default", "elsewhere", "far away"])
def test_nothing_is_forked_onto_who_is_there_already(alice: AgentMemory, open_memory: OpenMemory, name: str) -> None:
    open_memory("far away", namespace="elsewhere").write(P, K, 1)
    event, agents = newest(alice), alice.stats().agents
    with pytest.raises(AgentExistsError, match=f"'{name}'"):
        alice.fork(name)
    assert (newest(alice), alice.stats().agents) == (event, agents)


def test_a_fork_is_made_once(alice: AgentMemory) -> None:
    alice.fork("alice-v2")
    with pytest.raises(AgentExistsError):
        alice.fork("alice-v2")


def test_a_refused_or_undone_fork_leaves_no_namespace(alice: AgentMemory, open_memory: OpenMemory) -> None:
    source = "main"
    for level in range(64):
        alice.create_branch(f"level {level}", source=source)
        source = f"level {level}"
    with pytest.raises(BranchDepthError):
        alice.fork("alice-v2", branch=source)
    assert open_memory("alice-v2").namespace == "default"
    assert alice.fork("alice-v3", branch="level 62") == 4


# --- cost ------------------------------------------------------------------------------------------------------------


def test_nothing_is_copied_but_what_is_private(alice: AgentMemory) -> None:
    alice.apply([Put(entity_path="many", key=f"k{number}", value="x" * 1000) for number in range(500)])
    before = alice.stats()
    assert alice.fork("alice-v2") == 504
    assert alice.verify().versions == before.versions + 2 + 1, "two private entries, and bob's, which stats do not show"
    assert alice.stats().file_bytes - before.file_bytes <= 5 * 4096


def test_a_rollback_in_a_fork_does_not_count_what_it_did_not_inherit(file_mem: AgentMemory) -> None:
    before = file_mem.write("svc", "k", 1).seq
    file_mem.write("svc", "k", "private", shared=False)
    file_mem.fork("child")  # alice commits the copy that becomes the child's private entry there
    with AgentMemory("child", file_mem.database) as child:
        child.fork("grandchild")
    with AgentMemory("child", file_mem.database, namespace="grandchild") as elsewhere:
        elsewhere.write("svc", "k", "private as well", shared=False)
        result = elsewhere.rollback(seq=before)
        assert (result.others, result.restored_entries) == ({}, 1)
        assert elsewhere.read("svc", "k").value == 1
