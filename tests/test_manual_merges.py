"""Manual merges: conflicts that are stored, resolved one by one by whoever, and merged as one when none is open."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amfs import (
    KEEP_CONFLICT,
    AgentMemory,
    BranchClosedError,
    ConflictNotFoundError,
    ConflictResolvedError,
    Delete,
    InvalidInputError,
    InvalidValueError,
    MergeConflictError,
    MergeResult,
    MergeStatus,
    MergeStrategy,
    Put,
)
from tests.helpers_tables import changed, contents

P, K = "svc", "config"
ABSENT = object()
OpenMemory = Callable[..., AgentMemory]


def newest(memory: AgentMemory) -> Any:
    """Return the newest event of all agents."""
    return memory.timeline(agent_id="*", limit=1)[0]


def values(memory: AgentMemory, branch: str = "main") -> dict[str, Any]:
    """Return the values on a branch by key."""
    return {entry.key: entry.value for entry in memory.list(branch=branch)}


@pytest.fixture
def clash(mem: AgentMemory) -> AgentMemory:
    """Return a memory with the branch x and conflicts of every kind between it and main, and one change that merges."""
    bob = mem.as_agent("bob")
    mem.write(P, "edited", {"a": 0, "b": 0, "c": 0})
    for key in ("gone here", "gone there"):
        mem.write(P, key, 0)
    mem.create_branch("x")
    bob.write(P, "edited", {"a": 1, "b": 1, "c": 0}, branch="x")
    bob.write(P, "gone here", 1, branch="x")
    bob.delete(P, "gone there", branch="x")
    bob.write(P, "added", "x", branch="x")
    bob.write(P, "merges", 1, branch="x")
    mem.write(P, "edited", {"a": 2, "b": 0, "c": 2})
    mem.delete(P, "gone here")
    mem.write(P, "gone there", 2)
    mem.write(P, "added", "main")
    return mem


KINDS = {"added": "add_add", "edited": "edit_edit", "gone here": "edit_delete", "gone there": "delete_edit"}


def start(memory: AgentMemory, **options: Any) -> dict[str, int]:
    """Begin a manual merge of x and return the ids of its conflicts by key."""
    return {one.key: one.id for one in memory.merge_branch("x", strategy="manual", **options).conflicts}


# --- what is stored --------------------------------------------------------------------------------------------------


def test_conflicts_are_stored_and_nothing_is_applied(clash: AgentMemory) -> None:
    before, event = values(clash), newest(clash)
    preview = clash.merge_branch("x", strategy="manual", dry_run=True)
    assert (preview.status, {one.id for one in preview.conflicts}, clash.conflicts()) == ("conflicts", {None}, [])
    result = clash.merge_branch("x", strategy="manual")
    assert (result.status, result.merged_entries, result.event) == (MergeStatus.CONFLICTS, 0, None)
    assert [change.key for change in result.applied] == ["merges"], "what would merge"
    assert {one.key: one.kind for one in result.conflicts} == KINDS
    assert (values(clash), newest(clash)) == (before, event)
    stored = clash.conflicts()
    assert tuple(stored) == result.conflicts
    assert [
        one.model_copy(update={"id": None, "source_branch": None, "target_branch": None}) for one in stored
    ] == list(preview.conflicts)
    assert len({one.id for one in stored}) == 4
    assert {(one.source_branch, one.target_branch, one.status, one.take, one.resolved_by) for one in stored} == {
        ("x", "main", "open", None, None)
    }


def test_a_conflict_holds_three_whole_versions_and_what_did_merge(clash: AgentMemory) -> None:
    start(clash)
    found = {one.key: one for one in clash.conflicts()}
    edited = found["edited"]
    assert edited.base.value == {"a": 0, "b": 0, "c": 0}
    assert (edited.source, edited.target) == (clash.read(P, "edited", branch="x"), clash.read(P, "edited"))
    assert (edited.source.agent_id, edited.source.branch, edited.target.branch) == ("bob", "x", "main")
    assert (edited.fields, edited.merged) == (("/a",), {"a": 2, "b": 1, "c": 2})
    assert (found["added"].base, found["gone here"].target, found["gone there"].source) == (None, None, None)
    assert [found[key].fields for key in ("added", "gone here")] == [("",), ("",)]
    assert (found["gone here"].merged, found["gone there"].merged) == (None, None)
    clash.write(P, "edited", "moved on")
    assert {one.key: one for one in clash.conflicts()}["edited"] == edited, "what clashed is shown as it was"


def test_conflicts_outlive_the_handle(open_memory: OpenMemory, database: Path) -> None:
    with AgentMemory("alice", database, durability="normal") as mem:
        mem.create_branch("x")
        for branch in ("x", "main"):
            for key in ("one", "two"):
                mem.write(P, key, branch, branch=branch)
        stored = mem.merge_branch("x", strategy="manual").conflicts
    bob = open_memory("bob")
    assert tuple(bob.conflicts()) == stored
    assert bob.resolve_conflict(stored[0].id, take="source").status == "conflicts"
    carol = open_memory("carol")
    assert carol.resolve_conflict(stored[1].id, take="target").status == "merged"
    assert values(carol) == {"one": "x", "two": "main"}
    assert [(one.resolved_by, one.take) for one in carol.conflicts(status="resolved")] == [
        ("bob", "source"), ("carol", "target"),
    ]  # fmt: skip


def test_conflicts_are_listed_by_branch_and_status(clash: AgentMemory) -> None:
    clash.create_branch("y", source="x")
    for branch in ("x", "y"):
        clash.write(P, "merges", branch, branch=branch)
    ids = start(clash)
    clash.merge_branch("y", target="x", strategy="manual")
    assert [len(clash.conflicts(name)) for name in ("main", "x", "y")] == [4, 5, 1]
    clash.resolve_conflict(ids["added"], take="source")
    assert [one.key for one in clash.conflicts("main", status="resolved")] == ["added"]
    assert len(clash.conflicts(status=None)) == 5
    assert [one.id for one in clash.conflicts(status=None)] == sorted(one.id for one in clash.conflicts(status=None))


def test_without_conflicts_a_manual_merge_is_a_merge(mem: AgentMemory) -> None:
    mem.create_branch("x")
    mem.write(P, K, 1, branch="x")
    result = mem.merge_branch("x", strategy=MergeStrategy.MANUAL)
    assert (result.status, result.strategy, result.merged_entries, mem.read(P, K).value) == ("merged", "manual", 1, 1)
    assert mem.merge_branch("x", strategy="manual").status is MergeStatus.UP_TO_DATE


# --- resolving -------------------------------------------------------------------------------------------------------

LEFT: dict[str, dict[str, Any]] = {
    "source": {"edited": {"a": 1, "b": 1, "c": 0}, "gone here": 1, "added": "x", "merges": 1},
    "target": {"edited": {"a": 2, "b": 0, "c": 2}, "gone there": 2, "added": "main", "merges": 1},
    "base": {"edited": {"a": 0, "b": 0, "c": 0}, "gone here": 0, "gone there": 0, "merges": 1},
}
"""What is on main when every conflict is settled by one side."""


@pytest.mark.parametrize("take", LEFT)
def test_conflicts_are_settled_by_a_side(clash: AgentMemory, take: str) -> None:
    carol = clash.as_agent("carol")
    ids = list(start(clash).values())
    for number in ids[:-1]:
        before = values(clash)
        result = carol.resolve_conflict(number, take=take)
        assert (result.status, result.event, values(clash)) == ("conflicts", None, before)
        assert number not in [one.id for one in result.conflicts]
    result = carol.resolve_conflict(ids[-1], take=take)
    assert (result.status, result.conflicts, result.strategy) == (MergeStatus.MERGED, (), "manual")
    assert values(clash) == LEFT[take]
    merged = carol.timeline(event_type="branch_merged")
    assert [event.seq for event in merged] == [result.event]
    assert len(result.applied) == {"source": 5, "target": 1, "base": 5}[take]
    assert [change.key for change in result.skipped] == (sorted(KINDS) if take == "target" else [])
    written = [entry for entry in clash.list(include_superseded=True) if entry.seq > result.event]
    assert {entry.committed_by for entry in written} == {"carol"}
    authors = {entry.key: entry.agent_id for entry in written}
    if take == "source":
        assert authors == {**dict.fromkeys(["edited", "gone here", "gone there", "added", "merges"], "bob")}
    if take == "base":
        assert {key: authors[key] for key in ("edited", "gone here", "gone there")} == dict.fromkeys(
            ["edited", "gone here", "gone there"], "alice"
        )
    assert clash.conflicts() == []
    assert {(one.status, one.take, one.resolved_by) for one in clash.conflicts(status=None)} == {
        ("resolved", take, "carol")
    }
    assert clash.merge_branch("x").status is MergeStatus.UP_TO_DATE


@pytest.mark.parametrize(("take", "strategy"), [("source", "source_wins"), ("target", "target_wins")])
def test_settled_by_one_side_it_is_the_merge_in_which_that_side_wins(
    open_memory: OpenMemory, take: str, strategy: str
) -> None:
    states: list[Any] = [None, 1, {"a": 1}, {"a": 2}, {"a": 1, "b": 1}]
    triples = list(enumerate(itertools.product([*states, ABSENT], repeat=3)))

    def build() -> AgentMemory:
        mem = open_memory(where=":memory:")
        mem.apply([Put(entity_path=P, key=f"k{n}", value=base) for n, (base, _, _) in triples if base is not ABSENT])
        mem.create_branch("x")
        for side, branch in ((1, "x"), (2, "main")):
            mem.apply(
                [
                    Delete(entity_path=P, key=f"k{n}")
                    if sides[side] is ABSENT
                    else Put(entity_path=P, key=f"k{n}", value=sides[side], confidence=(side + n % 7) / 10)
                    for n, sides in triples[::3]
                ],
                branch=branch,
            )
        return mem

    at_once, by_hand = build(), build()
    expected = at_once.merge_branch("x", strategy=strategy)
    result = by_hand.merge_branch("x", strategy="manual")
    assert len(result.conflicts) > 20
    for conflict in result.conflicts:
        result = by_hand.resolve_conflict(conflict.id, take=take)
    left_out = {"seq", "session_id", "written_at"}
    assert [one.model_dump(exclude=left_out) for one in by_hand.list(include_superseded=True)] == [
        one.model_dump(exclude=left_out) for one in at_once.list(include_superseded=True)
    ]
    assert (result.merged_entries, len(result.skipped)) == (expected.merged_entries, len(expected.skipped))


def test_resolving_is_an_event_each(clash: AgentMemory, clock: Any) -> None:
    ids = start(clash)
    clock.advance(60)
    clash.resolve_conflict(ids["edited"], take="source")
    event = newest(clash)
    assert (event.event_type, event.agent_id, event.branch) == ("conflict_resolved", "alice", "main")
    assert event.summary == f"Resolved conflict {ids['edited']} with x"
    assert event.details == {
        "conflict": ids["edited"], "source": "x", "entity_path": P, "key": "edited", "take": "source",
    }  # fmt: skip
    clash.resolve_conflict(ids["added"], value=1)
    assert newest(clash).details["take"] == "value"


@pytest.mark.parametrize("value", [None, {"a": [1, {"b": None}]}, "text", 0, False])
def test_a_conflict_is_settled_by_a_value(clash: AgentMemory, value: Any) -> None:
    ids = start(clash)
    for key in ("edited", "gone here", "gone there"):
        clash.resolve_conflict(ids[key], take="target")
    result = clash.resolve_conflict(ids["added"], value=value)
    entry = clash.read(P, "added")
    assert (result.status, entry.value, type(entry.value)) == ("merged", value, type(value))
    assert (entry.agent_id, entry.committed_by, entry.version) == ("alice", "alice", 2)
    (stored,) = [one for one in clash.conflicts(status="resolved") if one.key == "added"]
    assert (stored.take, stored.resolved_by) == (None, "alice")


def test_a_value_brings_a_deleted_entry_back(clash: AgentMemory) -> None:
    ids = start(clash)
    for key in ("edited", "added"):
        clash.resolve_conflict(ids[key], take="target")
    clash.resolve_conflict(ids["gone here"], value="both")
    clash.resolve_conflict(ids["gone there"], value="both")
    assert (clash.read(P, "gone here").value, clash.read(P, "gone there").value) == ("both", "both")


def test_the_last_resolution_and_the_merge_are_one_transaction(open_memory: OpenMemory, database: Path) -> None:
    mem = open_memory()
    mem.create_branch("x")
    for branch in ("x", "main"):
        mem.write(P, K, branch, branch=branch)
    (number,) = start(mem, close=True).values()
    before = contents(database)
    mem.resolve_conflict(number, take="source")
    assert [event.event_type for event in mem.timeline(limit=3)] == [
        "branch_closed",
        "branch_merged",
        "conflict_resolved",
    ]
    assert len({event.created_at for event in mem.timeline(limit=3)}) == 1
    assert [branch.name for branch in mem.branches("closed")] == ["x"], "close=True holds when it is done"
    assert changed(before, contents(database)).keys() == {
        "log",
        "head",
        "merge_edge",
        "conflict",
        "pending_merge",
        "branch",
    }


# --- what moves meanwhile --------------------------------------------------------------------------------------------


def test_asking_again_keeps_what_is_as_it_was(clash: AgentMemory) -> None:
    ids = start(clash)
    clash.resolve_conflict(ids["added"], take="source")
    again = clash.merge_branch("x", strategy="manual")
    assert {one.key: one.id for one in again.conflicts} == {key: ids[key] for key in ids if key != "added"}
    assert [change.key for change in again.applied] == ["added", "merges"]
    assert len(clash.conflicts(status=None)) == 4


@pytest.mark.parametrize("branch", ["x", "main"])
def test_a_side_that_moved_makes_a_new_conflict(clash: AgentMemory, branch: str) -> None:
    ids = start(clash)
    clash.write(P, "added", "moved", branch=branch)
    again = start(clash)
    assert again["added"] not in ids.values()
    assert {key: again[key] for key in ids if key != "added"} == {key: ids[key] for key in ids if key != "added"}
    assert [(one.id, one.status) for one in clash.conflicts(status="obsolete")] == [(ids["added"], "obsolete")]
    with pytest.raises(ConflictResolvedError, match=f"{ids['added']} is obsolete"):
        clash.resolve_conflict(ids["added"], take="source")
    clash.resolve_conflict(again["added"], take="source")
    for key in ("edited", "gone here", "gone there"):
        clash.resolve_conflict(again[key], take="target")
    assert clash.read(P, "added").value == ("moved" if branch == "x" else "x")


def test_what_was_resolved_for_other_versions_does_not_count(clash: AgentMemory) -> None:
    ids = start(clash)
    clash.resolve_conflict(ids["added"], take="source")
    clash.write(P, "added", "main has moved on")
    for key in ("edited", "gone here"):
        clash.resolve_conflict(ids[key], take="target")
    result = clash.resolve_conflict(ids["gone there"], take="target")
    assert (result.status, [one.key for one in result.conflicts]) == ("conflicts", ["added"])
    (left,) = clash.conflicts()
    assert (left.id in ids.values(), left.target.value) == (False, "main has moved on")
    assert clash.read(P, "added").value == "main has moved on"
    assert clash.resolve_conflict(left.id, value="settled").status == "merged"
    assert clash.read(P, "added").value == "settled"


def test_a_new_clash_is_met_when_the_last_one_is_resolved(clash: AgentMemory) -> None:
    ids = start(clash)
    clash.write(P, "merges", "no more")
    for key in ("added", "edited", "gone here"):
        clash.resolve_conflict(ids[key], take="source")
    result = clash.resolve_conflict(ids["gone there"], take="source")
    assert [one.key for one in result.conflicts] == ["merges"]
    assert clash.resolve_conflict(result.conflicts[0].id, take="source").merged_entries == 5


def test_a_clash_that_went_away_is_obsolete(clash: AgentMemory) -> None:
    ids = start(clash)
    clash.write(P, "added", "x")
    for key in ("edited", "gone here", "gone there"):
        result = clash.resolve_conflict(ids[key], take="target")
    assert (result.status, result.event is not None) == ("merged", True)
    assert [one.id for one in clash.conflicts(status="obsolete")] == [ids["added"]]


def test_unrelated_work_does_not_matter(clash: AgentMemory) -> None:
    ids = start(clash)
    for branch in ("x", "main"):
        clash.write(P, f"work on {branch}", 1, branch=branch)
    clash.commit_outcome("ref", "success", [(P, "work on main")])
    for number in ids.values():
        result = clash.resolve_conflict(number, take="target")
    assert (result.status, {change.key for change in result.applied}) == ("merged", {"merges", "work on x"})


# --- obsolete --------------------------------------------------------------------------------------------------------

ENDINGS: dict[str, Callable[[AgentMemory], Any]] = {
    "another merge": lambda mem: mem.merge_branch("x", strategy="theirs"),
    "a resolver": lambda mem: mem.merge_branch("x", resolver=lambda *sides: sides[1]),
    "closing the source": lambda mem: mem.close_branch("x"),
}


@pytest.mark.parametrize("how", ENDINGS)
def test_conflicts_whose_merge_was_done_or_cannot_be_are_obsolete(clash: AgentMemory, how: str) -> None:
    ids = start(clash)
    clash.resolve_conflict(ids["added"], take="target")
    ENDINGS[how](clash)
    assert clash.conflicts() == []
    assert {one.key: one.status for one in clash.conflicts(status=None)} == {
        **dict.fromkeys(KINDS, "obsolete"),
        "added": "resolved",
    }
    event = newest(clash)
    for number in ids.values():
        with pytest.raises(ConflictResolvedError, match=str(number)):
            clash.resolve_conflict(number, take="source")
    assert newest(clash) == event


def test_closing_the_target_makes_them_obsolete(clash: AgentMemory) -> None:
    clash.create_branch("y", source="x")
    for branch in ("x", "y"):
        clash.write(P, "merges", branch, branch=branch)
    (conflict,) = clash.merge_branch("y", target="x", strategy="manual").conflicts
    clash.close_branch("x")
    assert [one.id for one in clash.conflicts(status="obsolete")] == [conflict.id]


def test_a_merge_in_the_other_direction_is_another_one(clash: AgentMemory) -> None:
    ids = start(clash)
    other = {one.key: one.id for one in clash.merge_branch("main", target="x", strategy="manual").conflicts}
    assert not set(ids.values()) & set(other.values())
    clash.merge_branch("main", target="x", strategy="theirs")
    assert {one.id for one in clash.conflicts()} == set(ids.values())


def test_a_partial_merge_waits_for_itself(clash: AgentMemory) -> None:
    clash.write("other", K, 1, branch="x")
    clash.write("other", K, 2)
    whole = start(clash)
    (part,) = clash.merge_branch("x", strategy="manual", paths=["other"]).conflicts
    assert part.id not in whole.values()
    assert start(clash) == whole
    result = clash.resolve_conflict(part.id, take="source")
    assert (result.status, result.merged_entries, clash.read("other", K).value) == ("merged", 1, 1)
    assert {one.id for one in clash.conflicts()} >= {whole[key] for key in KINDS}, "the whole one still waits"
    assert newest(clash).details["paths"] == ["other"]
    for key in KINDS:
        result = clash.resolve_conflict(whole[key], take="target")
    assert (result.status, clash.conflicts()) == ("merged", []), "other is equal on both sides now"


# --- private entries -------------------------------------------------------------------------------------------------


def test_conflicts_over_private_entries_are_their_agents_own(mem: AgentMemory) -> None:
    bob = mem.as_agent("bob")
    mem.create_branch("x")
    for branch in ("x", "main"):
        mem.write(P, "mine", branch, shared=False, branch=branch)
        mem.write(P, "ours", branch, branch=branch)
    ids = start(mem)
    assert [one.key for one in bob.conflicts()] == ["ours"]
    with pytest.raises(ConflictNotFoundError, match=str(ids["mine"])):
        bob.resolve_conflict(ids["mine"], take="source")
    mem.resolve_conflict(ids["mine"], take="source")
    assert (newest(mem).details["key"], newest(bob).details.get("key")) == ("mine", None)
    assert bob.resolve_conflict(ids["ours"], take="source").merged_entries == 1
    assert mem.read(P, "mine").value == "main", "bob merged for all, and not what is alice's alone"
    assert mem.merge_branch("x", strategy="theirs").merged_entries == 1
    assert mem.read(P, "mine").value == "x"


# --- other ways to decide --------------------------------------------------------------------------------------------


def test_a_function_is_a_strategy(clash: AgentMemory) -> None:
    asked: list[Any] = []

    def decide(base: Any, source: Any, target: Any) -> Any:
        asked.append((base, source, target))
        clash.write("notes", f"asked {len(asked)}", 1)
        return [source, target]

    result = clash.merge_branch("x", strategy=decide)
    assert (result.status, len(asked), clash.read(P, "added").value) == ("merged", 4, ["x", "main"])
    assert clash.read("notes", "asked 4").value == 1, "it may use the memory"
    with pytest.raises(InvalidInputError, match="one resolver"):
        clash.merge_branch("x", strategy=decide, resolver=decide)


def test_a_function_may_leave_conflicts_standing(clash: AgentMemory) -> None:
    with pytest.raises(MergeConflictError) as caught:
        clash.merge_branch("x", strategy=lambda _base, source, _target: KEEP_CONFLICT if source == "x" else source)
    assert [one.key for one in caught.value.result.conflicts] == ["added"]
    assert clash.conflicts() == [], "only a manual merge stores them"


@pytest.mark.parametrize(
    ("name", "strategy"),
    [("theirs", "source_wins"), ("branch_wins", "source_wins"), ("ours", "target_wins"), ("main_wins", "target_wins")],
)
def test_old_names_of_strategies_are_understood(clash: AgentMemory, name: str, strategy: str) -> None:
    def outcome(result: MergeResult) -> Any:
        return result.model_dump()

    expected = outcome(clash.merge_branch("x", strategy=strategy, dry_run=True))
    assert outcome(clash.merge_branch("x", strategy=name, dry_run=True)) == expected
    assert MergeStrategy(name) is MergeStrategy[name.upper()] is MergeStrategy(strategy)
    assert expected["strategy"] == strategy


# --- refusals --------------------------------------------------------------------------------------------------------


def test_a_conflict_is_resolved_once(clash: AgentMemory) -> None:
    ids = start(clash)
    clash.resolve_conflict(ids["added"], take="source")
    event = newest(clash)
    with pytest.raises(ConflictResolvedError, match=rf"{ids['added']} was resolved already; conflicts\(\)"):
        clash.resolve_conflict(ids["added"], take="target")
    assert newest(clash) == event


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, InvalidInputError),
        ({"take": "source", "value": 1}, InvalidInputError),
        ({"take": "theirs"}, InvalidInputError),
        ({"take": 1}, InvalidInputError),
        ({"value": float("nan")}, InvalidValueError),
        ({"value": {1: 1}}, InvalidValueError),
        ({"value": "x" * (1 << 20)}, InvalidValueError),
    ],
    ids=lambda one: str(one)[:40],
)
def test_an_answer_that_makes_no_sense_is_refused(
    clash: AgentMemory, arguments: dict[str, Any], error: type[Exception]
) -> None:
    ids, event = start(clash), newest(clash)
    with pytest.raises(error):
        clash.resolve_conflict(ids["added"], **arguments)
    assert (newest(clash), len(clash.conflicts())) == (event, 4)


@pytest.mark.parametrize("number", [0, -1, "1", 1.0, None, True])
def test_the_id_of_a_conflict_is_a_whole_number(clash: AgentMemory, number: Any) -> None:
    start(clash)
    with pytest.raises(InvalidInputError, match="conflict_id"):
        clash.resolve_conflict(number, take="source")


def test_a_conflict_that_is_not_there_is_not_found(clash: AgentMemory, open_memory: OpenMemory) -> None:
    ids = start(clash)
    with pytest.raises(ConflictNotFoundError, match=r"999.*conflicts\(\)"):
        clash.resolve_conflict(999, take="source")
    elsewhere = open_memory("dave", clash.database, namespace="elsewhere") if clash.database != ":memory:" else None
    if elsewhere is not None:
        assert elsewhere.conflicts() == []
        with pytest.raises(ConflictNotFoundError):
            elsewhere.resolve_conflict(ids["added"], take="source")


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_manual_merge_from_or_into_a_closed_branch_is_refused(clash: AgentMemory, dry_run: bool) -> None:
    clash.create_branch("y")
    clash.close_branch("x")
    for name, target in (("x", "main"), ("y", "x")):
        with pytest.raises(BranchClosedError, match="'x' is closed"):
            clash.merge_branch(name, target=target, strategy="manual", dry_run=dry_run)
    assert clash.conflicts(status=None) == []
