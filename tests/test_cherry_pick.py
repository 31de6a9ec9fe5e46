"""Cherry-pick: single entries of a branch, or single versions of them, as a merge of what that version changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from amfs import (
    AgentMemory,
    AmbiguousKeyError,
    BranchClosedError,
    BranchNotFoundError,
    EntryNotFoundError,
    InvalidInputError,
    MergeConflictError,
    MergeStatus,
    Put,
)

P, K = "svc", "config"
OpenMemory = Callable[..., AgentMemory]


def newest(memory: AgentMemory) -> Any:
    """Return the newest event of all agents."""
    return memory.timeline(agent_id="*", limit=1)[0]


def without(result: Any) -> dict[str, Any]:
    """Return a result without what tells a dry run from a real one."""
    return result.model_dump(exclude={"event", "dry_run"})


@pytest.fixture
def work(mem: AgentMemory) -> AgentMemory:
    """Return a memory with a branch x on which one entry changed three times and another came to be."""
    mem.write(P, K, {"a": 0, "b": 0})
    mem.write(P, "gone", 1)
    mem.create_branch("x")
    mem.write(P, K, {"a": 1, "b": 0}, branch="x")
    mem.write(P, K, {"a": 1, "b": 1}, confidence=0.7, branch="x")
    mem.write(P, K, {"a": 1, "b": 1, "c": 1}, branch="x")
    mem.write(P, "new", "x", confidence=0.5, memory_type="belief", pattern_refs=["p"], branch="x")
    mem.delete(P, "gone", branch="x")
    return mem


# --- what is picked --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["entry", "pair", "text"])
def test_an_entry_is_brought_over_with_all_that_belongs_to_it(work: AgentMemory, clock: Any, form: str) -> None:
    picked = work.read(P, "new", branch="x")
    named = {"entry": picked, "pair": (P, "new"), "text": f"{P}/new"}[form]
    clock.advance(60)
    bob = work.as_agent("bob")
    preview = bob.cherry_pick("x", [named], dry_run=True)
    assert (preview.dry_run, preview.event, work.read(P, "new")) == (True, None, None)
    result = bob.cherry_pick("x", [named])
    assert without(result) == without(preview)
    event = work.timeline(event_type="cherry_pick", agent_id="*")[0]
    assert (result.source, result.target, result.strategy, result.status) == ("x", "main", "three_way", "merged")
    assert (result.merged_entries, result.event, result.conflicts, result.skipped) == (1, event.seq, (), ())
    assert [(change.key, change.diff_type, change.source) for change in result.applied] == [("new", "added", picked)]
    entry = work.read(P, "new")
    assert entry.model_dump() == {
        **picked.model_dump(), "version": 1, "seq": event.seq + 1, "branch": "main", "committed_by": "bob",
        "session_id": bob.session_id, "written_at": event.created_at,
    }  # fmt: skip
    assert (event.agent_id, event.branch, event.summary) == ("bob", "main", "Picked from x: 1 entry")
    assert event.details.items() >= {"source": "x", "strategy": "three_way", "merged_entries": 1}.items()
    again = bob.cherry_pick("x", [named])
    assert (again.status, again.event, again.merged_entries) == (MergeStatus.UP_TO_DATE, None, 0)


def test_the_newest_write_alone_is_picked(work: AgentMemory) -> None:
    work.cherry_pick("x", [(P, K)])
    assert work.read(P, K).value == {"a": 0, "b": 0, "c": 1}, "what the write before changed stays behind"


@pytest.mark.parametrize(
    ("number", "expected"), [(1, {"a": 1, "b": 0}), (2, {"a": 0, "b": 1}), (3, {"a": 0, "b": 0, "c": 1})]
)
def test_an_entry_picks_its_own_version(work: AgentMemory, number: int, expected: dict[str, int]) -> None:
    version = work.history(P, K, branch="x")[number]
    result = work.cherry_pick("x", [version])
    entry = work.read(P, K)
    assert entry.value == expected
    assert result.applied[0].source.seq == version.seq
    if number == 2:
        assert (entry.agent_id, entry.confidence) == ("alice", 0.7)


def test_versions_are_picked_one_after_the_other(work: AgentMemory) -> None:
    for version in work.history(P, K, branch="x")[1:]:
        work.cherry_pick("x", [version])
    assert work.read(P, K).value == work.read(P, K, branch="x").value
    assert [change.key for change in work.diff_branch("x") if change.conflict] == []
    assert work.merge_branch("x").merged_entries == 2, "new and gone"
    assert {entry.key: entry.value for entry in work.list()} == {
        entry.key: entry.value for entry in work.list(branch="x")
    }


def test_a_deletion_is_picked(work: AgentMemory) -> None:
    work.as_agent("bob").cherry_pick("x", [(P, "gone")])
    last = work.history(P, "gone")[-1]
    assert (last.deleted, last.version, last.agent_id, last.committed_by) == (True, 2, "alice", "bob")
    with pytest.raises(EntryNotFoundError):
        work.cherry_pick("x", [f"{P}/gone"])


def test_evidence_gathered_since_comes_along(work: AgentMemory) -> None:
    work.commit_outcome("ref", "success", [(P, "new")], branch="x")
    work.cherry_pick("x", [(P, "new")])
    entry = work.read(P, "new")
    assert (entry.confidence, entry.outcome_count) == (pytest.approx(2 / 3), 1)


def test_the_base_is_what_stood_under_the_value_not_under_its_evidence(work: AgentMemory) -> None:
    work.commit_outcome("ref", "failure", [(P, K)], branch="x")
    work.commit_outcome("again", "failure", [(P, K)], branch="x")
    (change,) = work.cherry_pick("x", [(P, K)]).applied
    assert change.base.value == {"a": 1, "b": 1}
    assert work.read(P, K).value == {"a": 0, "b": 0, "c": 1}


def test_several_are_picked_at_once_or_none(work: AgentMemory) -> None:
    result = work.cherry_pick("x", [(P, "new"), (P, K), f"{P}/new"])
    assert [change.key for change in result.applied] == [K, "new"]
    assert (newest(work).summary, newest(work).seq) == ("Picked from x: 2 entries", result.event)
    events = newest(work)
    with pytest.raises(EntryNotFoundError, match="'svc/none' on branch 'x'"):
        work.cherry_pick("x", [(P, "gone"), (P, "none")])
    assert (newest(work), work.read(P, "gone").value) == (events, 1)


def test_the_last_of_two_versions_of_an_entry_counts(work: AgentMemory) -> None:
    versions = work.history(P, K, branch="x")
    work.cherry_pick("x", [versions[3], versions[1]])
    assert work.read(P, K).value == {"a": 1, "b": 0}


def test_nothing_is_picked_from_nothing(work: AgentMemory) -> None:
    event = newest(work)
    assert work.cherry_pick("x", []).status is MergeStatus.UP_TO_DATE
    assert newest(work) == event


def test_what_the_target_never_had_has_no_base(work: AgentMemory) -> None:
    work.write(P, "new", "x again", branch="x")
    result = work.cherry_pick("x", [(P, "new")])
    assert (result.applied[0].base, work.read(P, "new").value) == (None, "x again")


# --- where to --------------------------------------------------------------------------------------------------------


def test_an_entry_is_picked_in_any_direction(work: AgentMemory) -> None:
    work.create_branch("x/child", source="x")
    work.create_branch("y")
    work.cherry_pick("x", [(P, "new")], target="y")
    assert (work.read(P, "new", branch="y").value, work.read(P, "new")) == ("x", None)
    work.write(P, "down", 1)
    work.cherry_pick("main", [(P, "down")], target="x/child")
    assert (work.read(P, "down", branch="x/child").value, work.read(P, "down", branch="x")) == (1, None)
    assert work.cherry_pick("x/child", [(P, "down")]).target == "x"
    assert work.read(P, "down", branch="x").value == 1


def test_an_inherited_entry_can_be_picked(work: AgentMemory) -> None:
    work.create_branch("x/child", source="x")
    work.cherry_pick("x/child", [(P, "new")], target="main")
    assert work.read(P, "new").value == "x"


def test_a_closed_branch_can_be_picked_from_and_not_into(work: AgentMemory) -> None:
    work.close_branch("x")
    assert work.cherry_pick("x", [(P, "new")]).merged_entries == 1
    for dry_run in (False, True):
        with pytest.raises(BranchClosedError, match="'x' is closed"):
            work.cherry_pick("main", [(P, "new")], target="x", dry_run=dry_run)


def test_a_later_merge_meets_equal_values(work: AgentMemory) -> None:
    work.cherry_pick("x", [(P, "new")])
    assert [(change.key, change.conflict) for change in work.diff_branch("x")] == [
        (K, None),
        ("gone", None),
        ("new", None),
    ]
    result = work.merge_branch("x")
    assert [change.key for change in result.applied] == [K, "gone"], "new is equal; it is not written again"
    assert work.merge_branch("x").status is MergeStatus.UP_TO_DATE


# --- conflicts -------------------------------------------------------------------------------------------------------


def test_a_conflict_stops_it_before_anything_is_written(work: AgentMemory) -> None:
    work.write(P, K, {"a": 9, "b": 9, "c": 9})
    event = newest(work)
    preview = work.cherry_pick("x", [(P, K), (P, "new")], dry_run=True)
    with pytest.raises(MergeConflictError, match="svc/config") as caught:
        work.cherry_pick("x", [(P, K), (P, "new")])
    assert without(caught.value.result) == without(preview)
    assert (preview.status, preview.merged_entries, preview.event) == ("conflicts", 0, None)
    (conflict,) = preview.conflicts
    assert (conflict.key, conflict.kind, conflict.fields) == (K, "edit_edit", ("/c",))
    assert (conflict.base.value, conflict.source.value, conflict.target.value) == (
        {"a": 1, "b": 1}, {"a": 1, "b": 1, "c": 1}, {"a": 9, "b": 9, "c": 9},
    )  # fmt: skip
    assert (newest(work), work.read(P, "new")) == (event, None)


@pytest.mark.parametrize(
    ("strategy", "left", "skipped"), [("source_wins", {"a": 1, "b": 1, "c": 1}, 0), ("ours", {"c": 9}, 1)]
)
def test_a_strategy_settles_conflicts(work: AgentMemory, strategy: str, left: Any, skipped: int) -> None:
    work.write(P, K, {"c": 9})
    result = work.cherry_pick("x", [(P, K), (P, "new")], strategy=strategy)
    assert (work.read(P, K).value, work.read(P, "new").value, len(result.skipped)) == (left, "x", skipped)
    assert newest(work).details.get("skipped", []) == [f"{P}/{K}"] * skipped


def test_an_edit_against_a_deletion_is_a_conflict(work: AgentMemory) -> None:
    work.delete(P, K)
    work.write(P, "gone", 2)
    result = work.cherry_pick("x", [(P, K), (P, "gone")], dry_run=True)
    assert [conflict.kind for conflict in result.conflicts] == ["edit_delete", "delete_edit"]


# --- private entries, expiry, refusals -------------------------------------------------------------------------------


def test_private_entries_are_picked_by_their_agent_only(mem: AgentMemory) -> None:
    bob = mem.as_agent("bob")
    mem.create_branch("x")
    mem.write(P, K, "private", shared=False, branch="x")
    bob.write(P, K, "shared", branch="x")
    with pytest.raises(EntryNotFoundError):
        bob.cherry_pick("x", [mem.read(P, K, branch="x")])
    result = mem.cherry_pick("x", [(P, K)])
    assert [change.source.shared for change in result.applied] == [False]
    assert (mem.read(P, K).value, bob.read(P, K)) == ("private", None)
    assert [one.timeline(event_type="cherry_pick", branch="main")[0].summary for one in (mem, bob)] == [
        "Picked from x: 1 entry", "Picked from x: 0 entries",
    ]  # fmt: skip
    shared = bob.read(P, K, branch="x")
    assert mem.cherry_pick("x", [shared]).merged_entries == 1
    assert bob.read(P, K).value == "shared"


def test_what_expired_is_not_there_to_be_picked(mem: AgentMemory, clock: Any) -> None:
    mem.create_branch("x")
    entry = mem.write(P, K, 1, ttl=60, branch="x")
    clock.advance(100)
    for named in (entry, (P, K), f"{P}/{K}"):
        with pytest.raises(EntryNotFoundError, match="to pick"):
            mem.cherry_pick("x", [named])


REFUSED: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "unknown branch": (("none", [(P, K)]), {}, BranchNotFoundError, "'none'"),
    "unknown target": (("x", [(P, K)]), {"target": "none"}, BranchNotFoundError, "'none'"),
    "into itself": (("x", [(P, K)]), {"target": "x"}, InvalidInputError, "'x'.*itself"),
    "no parent": (("main", [(P, K)]), {}, InvalidInputError, "'main' has no parent.*target="),
    "unknown text": (("x", ["no/such"]), {}, EntryNotFoundError, "no/such"),
    "one key alone": (("x", f"{P}/{K}"), {}, InvalidInputError, "keys"),
    "no key": (("x", [5]), {}, InvalidInputError, "5"),
    "manual": (("x", [(P, K)]), {"strategy": "manual"}, InvalidInputError, "manual"),
    "fast forward": (("x", [(P, K)]), {"strategy": "fast_forward"}, InvalidInputError, "fast_forward"),
    "unknown strategy": (("x", [(P, K)]), {"strategy": "octopus"}, InvalidInputError, "octopus"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_cherry_pick_that_makes_no_sense_is_refused(work: AgentMemory, case: str, dry_run: bool) -> None:
    arguments, options, error, says = REFUSED[case]
    event = newest(work)
    with pytest.raises(error, match=says):
        work.cherry_pick(*arguments, **options, dry_run=dry_run)
    assert newest(work) == event


def test_a_version_of_another_branch_is_not_there(work: AgentMemory) -> None:
    later = work.write(P, K, "main goes on")
    with pytest.raises(EntryNotFoundError, match=f"version seq {later.seq}.*branch 'x'"):
        work.cherry_pick("x", [later])


def test_a_text_that_names_two_entries_is_refused(mem: AgentMemory) -> None:
    mem.create_branch("x")
    mem.apply([Put(entity_path="a", key="b/c", value=1), Put(entity_path="a/b", key="c", value=2)], branch="x")
    with pytest.raises(AmbiguousKeyError):
        mem.cherry_pick("x", ["a/b/c"])
    assert mem.cherry_pick("x", [("a/b", "c")]).merged_entries == 1
