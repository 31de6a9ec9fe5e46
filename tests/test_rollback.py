"""Rollback: restoring an earlier view by appending versions, as a whole or only what one author wrote."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from amfs import (
    AgentMemory,
    BranchClosedError,
    Delete,
    InvalidInputError,
    Put,
    RollbackTouchesOthersError,
    TagNotFoundError,
)

P, K = "svc", "config"
OpenMemory = Callable[..., AgentMemory]


def newest(memory: AgentMemory) -> Any:
    """Return the newest event of all agents."""
    return memory.timeline(agent_id="*", limit=1)[0]


def state(memory: AgentMemory, branch: str | None = None, at: Any = None) -> dict[str, Any]:
    """Return what entries hold, without what says when and by whom it came to be so."""
    left_out = {"seq", "version", "branch", "committed_by", "session_id", "run_id", "written_at", "superseded"}
    entries = memory.list(branch=branch, at=at)
    return {f"{entry.entry_key} {entry.shared}": entry.model_dump(exclude=left_out) for entry in entries}


def without(result: Any) -> dict[str, Any]:
    """Return a result without what tells a dry run from a real one."""
    return result.model_dump(exclude={"event", "dry_run"})


@pytest.fixture
def bob(mem: AgentMemory) -> AgentMemory:
    """Return bob's handle; mem is alice's."""
    return mem.as_agent("bob")


@pytest.fixture
def changed(mem: AgentMemory) -> AgentMemory:
    """Return a memory with the tag v1, and since then an entry edited, deleted, added, made anew, and left alone."""
    for key in ("edited", "deleted", "left"):
        mem.write(P, key, {"n": 1}, confidence=0.5, memory_type="belief", pattern_refs=["p"])
    mem.write(P, "made anew", 1)
    mem.delete(P, "made anew")
    mem.create_tag("v1")
    mem.write(P, "edited", {"n": 2})
    mem.write(P, "edited", {"n": 3})
    mem.delete(P, "deleted")
    mem.write(P, "added", 1)
    mem.write(P, "made anew", 2)
    mem.write(P, "there and back", 1)
    mem.delete(P, "there and back")
    return mem


# --- the whole branch ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["tag", "time", "seq"])
def test_a_rollback_restores_the_view_by_appending(changed: AgentMemory, clock: Any, form: str) -> None:
    (tag,) = changed.tags()
    then, before = state(changed, at="v1"), len(changed.history(P, "edited"))
    clock.advance(60)
    where = {"tag": {"tag_name": "v1"}, "time": {"timestamp": tag.created_at}, "seq": {"seq": tag.seq}}[form]
    preview = changed.rollback(**where, dry_run=True)
    assert (preview.dry_run, preview.event, newest(changed).event_type) == (True, None, "delete")
    result = changed.rollback(**where)
    assert without(result) == without(preview)
    assert state(changed) == then
    event = newest(changed)
    assert (result.branch, result.seq, result.agent_id, result.others) == ("main", tag.seq, None, {})
    assert (result.restored_entries, result.event, result.skipped) == (4, event.seq, ())
    assert [(change.key, change.diff_type) for change in result.restored] == [
        ("added", "deleted"), ("deleted", "added"), ("edited", "modified"), ("made anew", "deleted"),
    ]  # fmt: skip
    edited = result.restored[2]
    assert (edited.base.value, edited.base.superseded, edited.source.value) == ({"n": 3}, True, {"n": 1})
    by_tag = {"tag": "v1", "tag_branch": "main"} if form == "tag" else {}
    to = "v1" if form == "tag" else f"seq {tag.seq}"
    assert (event.event_type, event.agent_id, event.branch) == ("rollback", "alice", "main")
    assert event.summary == f"Rolled back to {to}: 4 entries"
    assert event.details == {"seq": tag.seq, "restored_entries": 4, **by_tag}
    assert len(changed.history(P, "edited")) == before + 1
    assert changed.rollback(**where).event is None, "nothing is left to restore"
    assert newest(changed) == event


def test_a_restored_version_is_the_old_one_committed_by_who_rolled_back(
    mem: AgentMemory, bob: AgentMemory, clock: Any
) -> None:
    first = mem.write(P, K, {"n": 1}, confidence=0.5, memory_type="belief", pattern_refs=["p"], ttl=3600)
    seq = newest(mem).seq
    clock.advance(60)
    mem.write(P, K, 2)
    result = bob.rollback(seq=seq, include_others=True)
    entry = mem.read(P, K)
    event = newest(mem)
    assert entry.model_dump() == {
        **first.model_dump(), "version": 3, "seq": event.seq + 1, "committed_by": "bob",
        "session_id": bob.session_id, "written_at": event.created_at,
    }  # fmt: skip
    assert (result.restored[0].source, result.others) == (first, {"alice": 1})
    assert [one.value for one in mem.history(P, K)] == [{"n": 1}, 2, {"n": 1}]


def test_what_was_absent_then_becomes_a_tombstone(mem: AgentMemory) -> None:
    mem.create_tag("empty")
    mem.write(P, K, 1)
    mem.rollback(tag_name="empty")
    assert (mem.read(P, K), mem.list()) == (None, [])
    last = mem.history(P, K)[-1]
    assert (last.deleted, last.version, last.agent_id, last.committed_by) == (True, 2, "alice", "alice")
    assert mem.write(P, K, 2, expected_version=0).version == 3


def test_seq_0_is_where_there_was_nothing_yet(changed: AgentMemory) -> None:
    assert changed.rollback(seq=0).restored_entries == 4
    assert changed.list() == []


def test_evidence_and_confidence_come_back(mem: AgentMemory) -> None:
    mem.write(P, K, 1, confidence=0.5)
    mem.commit_outcome("first", "success", [(P, K)])
    good = mem.read(P, K)
    mem.create_tag("good")
    mem.commit_outcome("second", "critical_failure", [(P, K)])
    assert mem.read(P, K).confidence < good.confidence
    result = mem.rollback(tag_name="good")
    (change,) = result.restored
    assert (change.diff_type, change.field_changes) == ("modified", ())
    again = mem.read(P, K)
    assert (again.confidence, again.outcome_count, again.agent_id) == (good.confidence, 1, "alice")
    mem.commit_outcome("third", "success", [(P, K)])
    assert mem.read(P, K).confidence == pytest.approx((1 + 2) / (2 + 2)), "as if the second had never been"


def test_deadlines_come_back_and_what_expired_is_compared_as_it_stands(mem: AgentMemory, clock: Any) -> None:
    mem.write(P, "brief", 1, ttl=60)
    mem.write(P, "longer", 1, ttl=60)
    mem.write(P, "over", 1, ttl=60)
    mem.create_tag("v1")
    mem.write(P, "longer", 1, ttl=6000)
    mem.write(P, "over", 2)
    clock.advance(100)
    result = mem.rollback(tag_name="v1")
    assert [change.key for change in result.restored] == ["longer", "over"], "brief stands as it stood"
    assert mem.list() == [], "restored with the deadline that has passed"
    assert mem.history(P, "longer")[-1].expires_at == mem.history(P, "longer")[0].expires_at


def test_a_rollback_is_rolled_back(changed: AgentMemory) -> None:
    before = state(changed)
    event = changed.rollback(tag_name="v1").event
    again = changed.rollback(seq=event - 1)
    assert (state(changed), again.restored_entries) == (before, 4)
    assert changed.rollback(seq=event + 4).restored_entries == 4
    assert state(changed) == state(changed, at="v1")


def test_a_rollback_to_the_middle_of_a_group_restores_just_that(mem: AgentMemory) -> None:
    with mem.transaction() as tx:
        for number in range(4):
            tx.write(P, f"k{number}", number)
    middle = mem.history(P, "k1")[0].seq
    mem.rollback(seq=middle)
    assert [entry.key for entry in mem.list()] == ["k0", "k1"]


def test_messages_are_rolled_back_as_well(mem: AgentMemory) -> None:
    mem.write("chat", "1", "hello", memory_type="message")
    mem.create_tag("v1")
    mem.write("chat", "2", "again", memory_type="message")
    mem.rollback(tag_name="v1")
    assert [entry.value for entry in mem.list(memory_type="message")] == ["hello"]


# --- on a branch -----------------------------------------------------------------------------------------------------


def test_a_branch_is_rolled_back_to_before_its_fork(mem: AgentMemory) -> None:
    mem.write(P, K, "oldest")
    mem.create_tag("v1")
    mem.write(P, K, "inherited")
    mem.write(P, "inherited too", 1)
    mem.create_branch("x")
    mem.write(P, "own", 1, branch="x")
    mem.write(P, K, "main goes on")
    result = mem.rollback(tag_name="v1", branch="x")
    assert (result.branch, result.restored_entries, newest(mem).branch) == ("x", 3, "x")
    assert {entry.key: entry.value for entry in mem.list(branch="x")} == {K: "oldest"}
    assert mem.read(P, K, branch="x").version == 3
    assert mem.read(P, K).value == "main goes on"
    assert {entry.key for entry in mem.list()} == {K, "inherited too"}


def test_a_branch_is_rolled_back_to_its_fork(mem: AgentMemory) -> None:
    mem.write(P, K, 1)
    fork = mem.create_branch("x").fork_seq
    mem.write(P, K, 2, branch="x")
    mem.write(P, "own", 2, branch="x")
    mem.rollback(seq=fork, branch="x")
    assert state(mem, "x") == state(mem)
    assert mem.diff_branch("x") == []


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_closed_branch_is_rolled_back_no_more(mem: AgentMemory, dry_run: bool) -> None:
    mem.create_branch("x")
    mem.write(P, K, 1, branch="x")
    mem.close_branch("x")
    event = newest(mem)
    if dry_run:
        assert mem.rollback(seq=0, branch="x", dry_run=True).restored_entries == 1, "looking is allowed"
    else:
        with pytest.raises(BranchClosedError, match="'x' is closed"):
            mem.rollback(seq=0, branch="x")
    assert newest(mem) == event


# --- others ----------------------------------------------------------------------------------------------------------


def test_a_rollback_over_others_is_refused_and_says_who_and_how_much(mem: AgentMemory, bob: AgentMemory) -> None:
    mem.write(P, K, 1)
    mem.create_tag("v1")
    mem.write(P, "mine", 1)
    bob.write(P, K, 2)
    bob.write(P, K, 3)
    bob.write(P, "bob's", 3)
    mem.as_agent("carol").delete(P, "mine")
    mem.as_agent("carol").write(P, K, 4)
    event, before = newest(mem), state(mem)
    with pytest.raises(RollbackTouchesOthersError) as caught:
        mem.rollback(tag_name="v1")
    text = str(caught.value)
    for part in ("bob (2)", "carol (1)", "include_others=True", "agent_id=", "Nothing was rolled back"):
        assert part in text
    assert caught.value.others == {"bob": 2, "carol": 1}, "what carol deleted is as it was then"
    assert (newest(mem), state(mem)) == (event, before)
    preview = mem.rollback(tag_name="v1", dry_run=True)
    assert without(preview) == without(caught.value.result)
    result = mem.rollback(tag_name="v1", include_others=True)
    assert without(result) == without(preview)
    assert state(mem) == state(mem, at="v1")


def test_what_others_wrote_and_undid_stands_in_nobodys_way(mem: AgentMemory, bob: AgentMemory) -> None:
    mem.write(P, K, 1)
    mem.create_tag("v1")
    bob.write(P, "passing", 1)
    bob.delete(P, "passing")
    mem.write(P, K, 2)
    result = mem.rollback(tag_name="v1")
    assert (result.others, result.restored_entries) == ({}, 1)


def test_what_others_have_for_themselves_is_not_touched_or_counted(mem: AgentMemory, bob: AgentMemory) -> None:
    mem.write(P, K, "alice then", shared=False)
    bob.write(P, K, "bob then", shared=False)
    mem.create_tag("v1")
    mem.write(P, K, "alice now", shared=False)
    bob.write(P, K, "bob now", shared=False)
    bob.write(P, "more", 1, shared=False)
    result = mem.rollback(tag_name="v1")
    assert (result.restored_entries, result.others) == (1, {})
    assert (mem.read(P, K).value, bob.read(P, K).value, bob.read(P, "more").value) == ("alice then", "bob now", 1)
    assert newest(mem).summary == "Rolled back to v1: 1 entry"
    assert newest(bob).summary == "Rolled back to v1: 0 entries", "bob is not told of what is private to alice"
    assert "private" not in newest(mem).details


# --- one author ------------------------------------------------------------------------------------------------------


def test_one_authors_values_are_taken_out(mem: AgentMemory, bob: AgentMemory) -> None:
    mem.write(P, "edited", "alice", confidence=0.7)
    mem.write(P, "built upon", "alice")
    mem.create_tag("v1")
    bob.write(P, "edited", "bob")
    bob.write(P, "edited", "bob again")
    bob.write(P, "added", "bob")
    bob.write(P, "built upon", "bob")
    carols = mem.as_agent("carol").write(P, "built upon", "carol")
    mem.write(P, "mine", "alice")
    preview = mem.rollback(tag_name="v1", agent_id="bob", dry_run=True)
    result = mem.rollback(tag_name="v1", agent_id="bob")
    assert without(result) == without(preview)
    assert [(change.key, change.diff_type) for change in result.restored] == [
        ("added", "deleted"),
        ("edited", "modified"),
    ]
    assert [(change.key, change.base) for change in result.skipped] == [
        ("built upon", carols.model_copy(update={"superseded": True}))
    ]
    assert result.skipped[0].source.value == "alice"
    assert (result.agent_id, result.others) == ("bob", {})
    entry = mem.read(P, "edited")
    assert (entry.value, entry.agent_id, entry.committed_by, entry.confidence) == ("alice", "alice", "alice", 0.7)
    assert (mem.read(P, "added"), mem.read(P, "mine").value) == (None, "alice")
    assert mem.read(P, "built upon") == carols
    (event,) = mem.timeline(event_type="rollback")
    assert event.summary == "Rolled bob's values back to v1: 2 entries"
    assert event.details.items() >= {"agent_id": "bob", "skipped": [f"{P}/built upon"], "restored_entries": 2}.items()
    assert mem.rollback(tag_name="v1", agent_id="bob").event is None


def test_without_a_moment_an_authors_values_on_the_branch_are_taken_out(mem: AgentMemory, bob: AgentMemory) -> None:
    bob.write(P, K, "bob on main")
    mem.create_branch("x")
    bob.write(P, K, "bob on x", branch="x")
    bob.write(P, "new", 1, branch="x")
    assert mem.rollback(agent_id="bob", branch="x").restored_entries == 2
    assert {entry.key: entry.value for entry in mem.list(branch="x")} == {K: "bob on main"}
    assert mem.rollback(agent_id="bob").restored_entries == 1
    assert mem.list() == []


def test_a_value_restored_between_two_of_the_same_author_comes_back(mem: AgentMemory, bob: AgentMemory) -> None:
    seq = mem.write(P, K, "alice").seq
    bob.write(P, K, "bob")
    mem.write(P, K, "alice again")
    bob.write(P, K, "bob again")
    result = mem.rollback(seq=seq, agent_id="bob")
    assert (mem.read(P, K).value, result.skipped) == ("alice again", ())


def test_an_outcome_or_a_merge_does_not_build_upon_a_value(mem: AgentMemory, bob: AgentMemory) -> None:
    mem.write(P, K, "alice", confidence=0.5)
    bob.write(P, K, "bob", confidence=0.5)
    mem.commit_outcome("ref", "success", [(P, K)])
    mem.create_branch("x")
    bob.write(P, "merged", "bob", branch="x")
    mem.merge_branch("x")
    assert mem.read(P, "merged").committed_by == "alice"
    assert mem.rollback(seq=1, agent_id="bob").restored_entries == 2
    entry = mem.read(P, K)
    assert (entry.value, entry.confidence, mem.read(P, "merged")) == ("alice", 0.5, None)


def test_a_deletion_is_by_who_deleted(mem: AgentMemory, bob: AgentMemory) -> None:
    mem.write(P, "by bob", 1)
    bob.write(P, "by alice", 1)
    bob.delete(P, "by bob")
    mem.delete(P, "by alice")
    result = mem.rollback(seq=1, agent_id="bob")
    assert [(change.key, change.diff_type) for change in result.restored] == [("by bob", "added")]
    assert [change.key for change in result.skipped] == ["by alice"]
    assert [entry.key for entry in mem.list()] == ["by bob"]


def test_the_values_of_somebody_unknown_are_none(mem: AgentMemory, bob: AgentMemory) -> None:
    mem.write(P, K, 1)
    bob.write(P, "private", 1, shared=False)
    for who in ("nobody", "bob"):
        result = mem.rollback(agent_id=who)
        assert (result.restored_entries, result.skipped, result.event) == (0, (), None)
    assert bob.read(P, "private").value == 1


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({}, InvalidInputError, "tag_name=, timestamp= and seq="),
        ({"tag_name": "v1", "seq": 1}, InvalidInputError, "one of"),
        ({"tag_name": "none"}, TagNotFoundError, "'none'"),
        ({"seq": 10**6}, InvalidInputError, "yet to come"),
        ({"seq": -1}, InvalidInputError, "seq"),
        ({"seq": True}, InvalidInputError, "seq"),
        ({"timestamp": "2026-04-01"}, InvalidInputError, "timestamp"),
        ({"timestamp": 5}, InvalidInputError, "timestamp"),
        ({"tag_name": 5}, InvalidInputError, "tag"),
        ({"seq": 1, "agent_id": ""}, InvalidInputError, "agent_id"),
        ({"seq": 1, "agent_id": 7}, InvalidInputError, "agent_id"),
    ],
    ids=str,
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_rollback_that_makes_no_sense_is_refused(
    changed: AgentMemory, arguments: dict[str, Any], error: type[Exception], says: str, dry_run: bool
) -> None:
    event = newest(changed)
    with pytest.raises(error, match=says):
        changed.rollback(**arguments, dry_run=dry_run)
    assert newest(changed) == event


def test_a_naive_time_is_refused(changed: AgentMemory, clock: Any) -> None:
    with pytest.raises(InvalidInputError, match="naive"):
        changed.rollback(timestamp=(clock.moment + timedelta(days=1)).replace(tzinfo=None))


# --- cost ------------------------------------------------------------------------------------------------------------


def test_only_what_changed_is_written(file_mem: AgentMemory) -> None:
    file_mem.apply([Put(entity_path=P, key=f"k{number}", value=number) for number in range(300)])
    file_mem.create_tag("v1")
    file_mem.apply([Put(entity_path=P, key="k7", value="x"), Delete(entity_path=P, key="k8")])
    versions = file_mem.stats().versions
    assert file_mem.rollback(tag_name="v1").restored_entries == 2
    assert file_mem.stats().versions == versions + 2
