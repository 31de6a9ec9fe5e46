"""Diff and merge: every combination of three sides under every strategy, bases, evidence, and all-or-nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from amfs import (
    KEEP_CONFLICT,
    AgentMemory,
    BranchClosedError,
    BranchError,
    BranchNotFoundError,
    ContentionError,
    Delete,
    FastForwardRefusedError,
    InvalidInputError,
    InvalidValueError,
    MergeConflictError,
    MergeResult,
    MergeStatus,
    Put,
)

P, K = "svc", "config"
OpenMemory = Callable[..., AgentMemory]
ABSENT = object()
STATES = [
    ABSENT, None, 1, 1.0, [1], {"a": 1}, {"a": 2}, {"a": 1, "b": 1}, {"a": {"x": 1}, "b": 2}, {"a": {"x": 2}},
]  # fmt: skip
TRIPLES = list(itertools.product(STATES, repeat=3))


def same(one: Any, other: Any) -> bool:
    if ABSENT in (one, other):
        return one is other
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def combine(base: Any, source: Any, target: Any, where: str = "") -> tuple[Any, list[str]]:
    """Return what two sides make of a base, and the places where they clash: an oracle to hold the engine against."""
    if same(source, target) or same(base, source):
        return target, []
    if same(base, target):
        return source, []
    if not (isinstance(source, dict) and isinstance(target, dict) and (base is ABSENT or isinstance(base, dict))):
        return target, [where]
    value, clashes = {}, []
    for name in {**target, **source}:
        sides = [side.get(name, ABSENT) for side in ({} if base is ABSENT else base, source, target)]
        field, found = combine(*sides, f"{where}/{name}")
        clashes += found
        if field is not ABSENT:
            value[name] = field
    return value, clashes


def kind_of(base: Any, source: Any, target: Any) -> str:
    if ABSENT in (source, target):
        return "delete_edit" if source is ABSENT else "edit_delete"
    return "add_add" if base is ABSENT else "edit_edit"


def key_of(number: int) -> str:
    return f"k{number:04}"


def value_of(entry: Any) -> Any:
    return ABSENT if entry is None else entry.value


def put_all(memory: AgentMemory, before: list[Any] | None, after: list[Any], branch: str) -> None:
    """Bring the keys from one list of states to another."""
    operations: list[Any] = []
    for number, state in enumerate(after):
        known = ABSENT if before is None else before[number]
        if state is not ABSENT and not (before is not None and same(known, state)):
            operations.append(Put(entity_path=P, key=key_of(number), value=state))
        elif state is ABSENT and known is not ABSENT:
            operations.append(Delete(entity_path=P, key=key_of(number)))
    memory.apply(operations, branch=branch)


def three_sides(memory: AgentMemory, triples: list[tuple[Any, Any, Any]]) -> None:
    """Make an entry for every triple: as in base where main and x part, then changed on x and on main."""
    bases, sources, targets = (list(column) for column in zip(*triples, strict=True))
    put_all(memory, None, bases, "main")
    memory.create_branch("x")
    put_all(memory, bases, sources, "x")
    put_all(memory, bases, targets, "main")


def values(memory: AgentMemory, branch: str = "main") -> dict[str, Any]:
    return {entry.key: entry.value for entry in memory.list(P, branch=branch)}


def without(result: MergeResult, *fields: str) -> dict[str, Any]:
    return result.model_dump(exclude={"dry_run", *fields})


# --- every combination -----------------------------------------------------------------------------------------------


def test_a_diff_lists_what_the_source_changed_with_all_three_sides(file_mem: AgentMemory) -> None:
    three_sides(file_mem, TRIPLES)
    changes = {change.key: change for change in file_mem.diff_branch("x")}
    assert list(changes) == sorted(changes)
    for number, (base, source, target) in enumerate(TRIPLES):
        change = changes.pop(key_of(number), None)
        if same(base, source):
            assert change is None
            continue
        assert all(
            same(value_of(entry), state)
            for entry, state in zip((change.base, change.source, change.target), (base, source, target), strict=True)
        )
        kind = "added" if base is ABSENT else "deleted" if source is ABSENT else "modified"
        assert change.diff_type == kind
        assert change.field_changes != ()
        _, clashes = combine(base, source, target)
        if not clashes:
            assert change.conflict is None
        else:
            assert (change.conflict.kind, sorted(change.conflict.fields)) == (
                kind_of(base, source, target), sorted(clashes),
            )  # fmt: skip
    assert changes == {}


@pytest.mark.parametrize("strategy", ["source_wins", "target_wins", "resolver"])
def test_a_merge_makes_of_three_sides_what_the_strategy_says(file_mem: AgentMemory, strategy: str) -> None:
    three_sides(file_mem, TRIPLES)
    before = {entry.key: entry.version for entry in file_mem.list(P, include_superseded=True)}
    asked: list[tuple[Any, Any, Any]] = []

    def resolve(*sides: Any) -> Any:
        asked.append(sides)
        return ["resolved", *sides]

    options: dict[str, Any] = {"resolver": resolve} if strategy == "resolver" else {"strategy": strategy}
    preview = file_mem.merge_branch("x", dry_run=True, **options)
    asked.clear()
    result = file_mem.merge_branch("x", **options)
    assert without(result, "event") == without(preview, "event")
    after, applied, skipped, clashing = values(file_mem), set(), set(), 0
    for number, (base, source, target) in enumerate(TRIPLES):
        expected, clashes = combine(base, source, target)
        if clashes:
            clashing += 1
            plain = [None if side is ABSENT else side for side in (base, source, target)]
            expected = {"source_wins": source, "target_wins": target, "resolver": ["resolved", *plain]}[strategy]
            if strategy == "target_wins":
                skipped.add(key_of(number))
        if not same(expected, target):
            applied.add(key_of(number))
        assert same(after.get(key_of(number), ABSENT), expected), (base, source, target)
    assert {change.key for change in result.applied} == applied
    assert {change.key for change in result.skipped} == skipped
    assert (result.merged_entries, result.status, result.conflicts) == (len(applied), MergeStatus.MERGED, ())
    assert len(asked) == (clashing if strategy == "resolver" else 0)
    for entry in file_mem.list(P, include_superseded=True):
        if entry.seq > result.event:
            assert entry.version == before.get(entry.key, 0) + 1
    assert file_mem.diff_branch("x") == []
    assert file_mem.merge_branch("x").status is MergeStatus.UP_TO_DATE


def test_conflicts_stop_a_three_way_merge_before_anything_is_written(file_mem: AgentMemory) -> None:
    three_sides(file_mem, TRIPLES)
    before, events = values(file_mem), file_mem.timeline(agent_id="*", limit=5000)
    preview = file_mem.merge_branch("x", dry_run=True)
    with pytest.raises(MergeConflictError, match="Nothing was merged") as caught:
        file_mem.merge_branch("x", close=True)
    assert without(caught.value.result) == without(preview)
    assert (preview.status, preview.merged_entries, preview.event) == (MergeStatus.CONFLICTS, 0, None)
    clashing = [key_of(number) for number, sides in enumerate(TRIPLES) if combine(*sides)[1]]
    assert [conflict.key for conflict in preview.conflicts] == clashing
    assert not {change.key for change in preview.applied} & set(clashing)
    assert (values(file_mem), file_mem.timeline(agent_id="*", limit=5000)) == (before, events)
    assert file_mem.branches("closed") == []


def test_a_fast_forward_takes_the_sources_states(file_mem: AgentMemory) -> None:
    three_sides(file_mem, [(base, source, base) for base, source in itertools.product(STATES, repeat=2)])
    file_mem.commit_outcome("a change of confidence is no change of value", "success", [(P, key_of(15))])
    result = file_mem.merge_branch("x", strategy="fast_forward")
    assert result.status is MergeStatus.FAST_FORWARD
    assert {key: json.dumps(value) for key, value in values(file_mem).items()} == {
        key: json.dumps(value) for key, value in values(file_mem, "x").items()
    }
    assert file_mem.merge_branch("x", strategy="fast_forward").status is MergeStatus.UP_TO_DATE


@pytest.mark.parametrize("target", [lambda mem: mem.write(P, "other", 1), lambda mem: mem.delete(P, K)])
def test_a_fast_forward_refuses_if_the_target_changed(mem: AgentMemory, target: Callable[[AgentMemory], Any]) -> None:
    mem.write(P, K, 1)
    mem.create_branch("x")
    target(mem)
    assert mem.merge_branch("x", strategy="fast_forward").status is MergeStatus.UP_TO_DATE, "there is nothing to bring"
    mem.write(P, "new", 1, branch="x")
    events = mem.timeline(agent_id="*")
    with pytest.raises(FastForwardRefusedError) as caught:
        mem.merge_branch("x", strategy="fast_forward", close=True)
    preview = mem.merge_branch("x", strategy="fast_forward", dry_run=True)
    assert without(caught.value.result) == without(preview)
    assert (preview.status, preview.merged_entries) == (MergeStatus.REFUSED, 0)
    assert mem.timeline(agent_id="*") == events


# --- the result ------------------------------------------------------------------------------------------------------


def test_a_merge_says_what_it_did_and_is_one_event(mem: AgentMemory, clock) -> None:
    bob = mem.as_agent("bob")
    first = mem.write(P, K, 1)
    fork = mem.create_branch("x").fork_seq
    clock.advance(60)
    theirs = bob.write(P, K, {"n": 2}, confidence=0.7, memory_type="belief", pattern_refs=["p"], branch="x")
    newest = bob.write("new", K, 3, branch="x")
    clock.advance(60)
    mine = mem.write(P, "mine", 1)
    result = mem.merge_branch("x")
    event = mem.timeline(branch="main", limit=1)[0]
    assert without(result, "applied") == {
        "source": "x", "target": "main", "strategy": "three_way", "status": MergeStatus.MERGED, "merged_entries": 2,
        "skipped": (), "conflicts": (), "base_branch": "main", "base_seq": fork, "source_seq": newest.seq,
        "target_seq": mine.seq, "event": event.seq,
    }  # fmt: skip
    assert [(change.entity_path, change.diff_type) for change in result.applied] == [("new", "added"), (P, "modified")]
    entry = mem.read(P, K)
    assert entry.model_dump() == {
        **theirs.model_dump(), "version": 2, "seq": entry.seq, "branch": "main", "committed_by": "alice",
        "session_id": mem.session_id, "written_at": event.created_at, "created_at": first.created_at,
    }  # fmt: skip
    assert mem.read("new", K).version == 1
    assert (event.details["base_seq"], event.details["source_seq"]) == (fork, newest.seq)


def test_an_entry_made_anew_on_the_source_is_as_old_as_on_the_target(mem: AgentMemory, clock) -> None:
    first = mem.write(P, K, 1)
    mem.create_branch("x")
    clock.advance(60)
    mem.delete(P, K, branch="x")
    assert mem.write(P, K, 2, branch="x").created_at > first.created_at
    mem.merge_branch("x")
    assert mem.read(P, K).created_at == first.created_at


def test_a_merged_deletion_is_a_version_by_who_deleted(mem: AgentMemory) -> None:
    mem.write(P, K, 1)
    mem.create_branch("x")
    mem.as_agent("bob").delete(P, K, branch="x")
    mem.merge_branch("x")
    last = mem.history(P, K)[-1]
    assert (last.deleted, last.version, last.agent_id, last.committed_by) == (True, 2, "bob", "alice")
    assert mem.read(P, K) is None


def test_a_value_of_both_sides_is_by_the_merging_agent_and_as_sure_as_the_less_sure(mem: AgentMemory) -> None:
    bob = mem.as_agent("bob")
    bob.write(P, K, {"a": 0, "b": 0})
    mem.create_branch("x")
    bob.write(P, K, {"a": 1, "b": 0}, confidence=0.9, memory_type="belief", branch="x")
    bob.write(P, K, {"a": 0, "b": 1}, confidence=0.6, pattern_refs=["kept"])
    mem.merge_branch("x")
    entry = mem.read(P, K)
    assert (entry.value, entry.version, entry.agent_id, entry.confidence) == ({"a": 1, "b": 1}, 3, "alice", 0.6)
    assert (entry.memory_type, entry.pattern_refs) == ("belief", ("kept",)), "each side's changes"


def test_where_the_target_already_holds_both_changes_nothing_is_written(mem: AgentMemory) -> None:
    mem.write(P, K, {"a": 0, "b": 0})
    mem.create_branch("x")
    mem.write(P, K, {"a": 1, "b": 0}, branch="x")
    both = mem.write(P, K, {"a": 1, "b": 1})
    result = mem.merge_branch("x")
    assert (result.status, result.merged_entries, mem.read(P, K)) == (MergeStatus.MERGED, 0, both)
    assert mem.merge_branch("x").status is MergeStatus.UP_TO_DATE


@pytest.mark.parametrize("dry_run", [False, True])
def test_close_closes_the_source_of_a_real_merge(mem: AgentMemory, dry_run: bool) -> None:
    mem.create_branch("x")
    mem.write(P, K, 1, branch="x")
    mem.merge_branch("x", close=True, dry_run=dry_run)
    assert [branch.name for branch in mem.branches("closed")] == ([] if dry_run else ["x"])
    mem.create_branch("idle")
    mem.merge_branch("idle", close=True, dry_run=dry_run)
    assert len(mem.branches("closed")) == (0 if dry_run else 2)
    if not dry_run:
        assert [event.event_type for event in mem.timeline(limit=4)] == [
            "branch_closed", "branch_created", "branch_closed", "branch_merged",
        ]  # fmt: skip
        with pytest.raises(BranchClosedError):
            mem.merge_branch("x")


# --- confidence and evidence -----------------------------------------------------------------------------------------


def test_confidence_alone_is_a_modification_that_never_conflicts(mem: AgentMemory) -> None:
    for key in ("taken", "edited", "deleted"):
        mem.write(P, key, 1, confidence=0.5)
    mem.create_branch("x")
    mem.commit_outcome("ref", "success", [(P, key) for key in ("taken", "edited", "deleted")], branch="x")
    edited = mem.write(P, "edited", 2, confidence=0.3)
    mem.delete(P, "deleted")
    changes = mem.diff_branch("x")
    assert [(change.key, change.diff_type, change.field_changes, change.conflict) for change in changes] == [
        (key, "modified", (), None) for key in ("deleted", "edited", "taken")
    ]
    assert mem.merge_branch("x").merged_entries == 1
    assert (mem.read(P, "edited"), mem.read(P, "deleted")) == (edited, None)
    assert (mem.read(P, "taken").confidence, mem.read(P, "taken").outcome_count) == (pytest.approx(2 / 3), 1)


def test_evidence_gathered_on_both_sides_is_added_once(mem: AgentMemory) -> None:
    mem.write(P, K, 1, confidence=0.5)
    mem.commit_outcome("before", "success", [(P, K)])
    mem.create_branch("x")
    mem.commit_outcome("x 1", "success", [(P, K)], branch="x")
    mem.commit_outcome("x 2", "minor_failure", [(P, K)], branch="x")
    mem.commit_outcome("main 1", "failure", [(P, K)])
    for _ in range(2):
        mem.merge_branch("x")
        entry = mem.read(P, K)
        assert (entry.confidence, entry.outcome_count) == (pytest.approx((1 + 2) / (2 + 2 + 3)), 4)
    mem.commit_outcome("x 3", "success", [(P, K)], branch="x")
    mem.merge_branch("x")
    assert mem.read(P, K).confidence == pytest.approx((1 + 3) / (2 + 3 + 3))


def test_equal_changes_gain_the_sources_evidence(mem: AgentMemory) -> None:
    mem.write(P, K, "old")
    mem.create_branch("x")
    mem.write(P, K, "new", confidence=0.5, branch="x")
    mem.commit_outcome("x", "success", [(P, K)], branch="x")
    mem.write(P, K, "new", confidence=0.5)
    mem.commit_outcome("main", "failure", [(P, K)])
    assert mem.diff_branch("x")[0].conflict is None
    mem.merge_branch("x")
    assert mem.read(P, K).confidence == pytest.approx((1 + 1) / (2 + 1 + 2))


# --- bases -----------------------------------------------------------------------------------------------------------


def edit(memory: AgentMemory, branch: str, **fields: Any) -> None:
    """Change fields of the one entry on a branch."""
    entry = memory.read(P, K, branch=branch)
    memory.write(P, K, {**(entry.value if entry else {}), **fields}, branch=branch)


@pytest.fixture
def tree(mem: AgentMemory) -> AgentMemory:
    """Return a memory with the branches x, y (siblings) and x/child, all with one entry."""
    edit(mem, "main", a=0, b=0, c=0)
    mem.create_branch("x")
    mem.create_branch("y")
    mem.create_branch("x/child", source="x")
    return mem


def state(memory: AgentMemory, branch: str) -> str:
    return "".join(str(number) for number in memory.read(P, K, branch=branch).value.values())


def test_the_base_advances_with_every_merge_in_either_direction(tree: AgentMemory) -> None:
    edit(tree, "x", a=1)
    tree.merge_branch("x")
    edit(tree, "main", a=2)
    edit(tree, "x", b=1)
    (change,) = tree.diff_branch("x")
    assert (change.base.value["a"], change.conflict) == (1, None)
    tree.merge_branch("x")
    assert state(tree, "main") == "210"
    tree.merge_branch("main", target="x")
    assert state(tree, "x") == "210"
    edit(tree, "x", a=3)
    assert tree.merge_branch("x").conflicts == ()
    assert (state(tree, "main"), state(tree, "x")) == ("310", "310")
    assert tree.merge_branch("main", target="x").status is MergeStatus.UP_TO_DATE


def test_siblings_merge_from_where_they_parted(tree: AgentMemory) -> None:
    edit(tree, "x", a=1)
    edit(tree, "y", b=1)
    edit(tree, "main", c=1)
    assert [change.field_changes[0].path for change in tree.diff_branch("x", "y")] == ["/a"]
    tree.merge_branch("x", target="y")
    assert (state(tree, "y"), state(tree, "x"), state(tree, "main")) == ("110", "100", "001")
    tree.merge_branch("y")
    assert state(tree, "main") == "111"
    assert tree.merge_branch("x").status is MergeStatus.UP_TO_DATE, "main has it through y"


def test_a_grandchild_brings_its_parents_changes_along(tree: AgentMemory) -> None:
    edit(tree, "x", a=1)
    tree.create_branch("x/late", source="x")
    edit(tree, "x/late", b=1)
    tree.write(P, "only on x", 1, branch="x")
    (change,) = tree.diff_branch("x/late", "main")
    assert [one.path for one in change.field_changes] == ["/a", "/b"]
    assert [one.path for one in tree.diff_branch("x/late")[0].field_changes] == ["/b"]
    assert tree.diff_branch("x/child", "main") == []
    tree.merge_branch("x/late", target="main")
    assert (state(tree, "main"), state(tree, "x")) == ("110", "100")
    assert [change.key for change in tree.diff_branch("x")] == ["only on x"]
    assert tree.merge_branch("main", target="x/child").merged_entries == 1
    assert state(tree, "x/child") == "110"


def test_criss_cross_merges_converge(tree: AgentMemory) -> None:
    edit(tree, "x", a=1)
    edit(tree, "y", b=1)
    tree.merge_branch("x", target="y")
    tree.merge_branch("y", target="x")
    assert (state(tree, "x"), state(tree, "y")) == ("110", "110")
    edit(tree, "x", a=2)
    edit(tree, "y", b=2)
    assert tree.merge_branch("x", target="y").conflicts == ()
    assert tree.merge_branch("y", target="x").conflicts == ()
    assert (state(tree, "x"), state(tree, "y")) == ("220", "220")
    assert tree.merge_branch("x", target="y").status is MergeStatus.UP_TO_DATE
    tree.merge_branch("x")
    assert tree.merge_branch("y").status is MergeStatus.UP_TO_DATE
    assert state(tree, "main") == "220"


def test_a_change_taken_back_on_the_source_is_taken_back_on_the_target(tree: AgentMemory) -> None:
    edit(tree, "x", a=1)
    tree.merge_branch("x")
    edit(tree, "x", a=0)
    assert [change.field_changes[0].new for change in tree.diff_branch("x")] == [0]
    tree.merge_branch("x")
    assert state(tree, "main") == "000"


def test_a_branch_from_the_past_is_not_behind_what_it_never_saw(mem: AgentMemory) -> None:
    first = mem.write(P, K, 1)
    mem.write(P, K, 2)
    mem.create_branch("x", at=first.seq)
    assert mem.diff_branch("x") == []
    assert mem.merge_branch("x").status is MergeStatus.UP_TO_DATE
    assert mem.merge_branch("main", target="x").base_seq == first.seq
    assert mem.read(P, K, branch="x").value == 2


# --- paths -----------------------------------------------------------------------------------------------------------


def test_paths_take_whole_segments_and_leave_the_base_where_it_was(mem: AgentMemory) -> None:
    mem.write("a", "clash", 0)
    mem.create_branch("x")
    for path in ("a", "a/b", "a/bc", "ab", "c"):
        mem.write(path, K, path, branch="x")
    mem.write("a", "clash", 1, branch="x")
    mem.write("a", "clash", 2)
    preview = mem.merge_branch("x", paths=["a/b", "c"], dry_run=True)
    result = mem.merge_branch("x", paths=["a/b", "c"])
    assert without(result, "event") == without(preview, "event")
    assert [change.entity_path for change in result.applied] == ["a/b", "c"]
    assert mem.timeline(limit=1)[0].details["paths"] == ["a/b", "c"]
    assert mem.merge_branch("x", paths=["nothing"]).status is MergeStatus.UP_TO_DATE
    with pytest.raises(MergeConflictError):
        mem.merge_branch("x", paths=["a"])
    rest = mem.merge_branch("x", strategy="source_wins")
    assert rest.base_seq == result.base_seq
    assert [change.entry_key for change in rest.applied] == ["a/clash", f"a/{K}", f"a/bc/{K}", f"ab/{K}"]
    assert mem.merge_branch("x").status is MergeStatus.UP_TO_DATE


# --- resolvers -------------------------------------------------------------------------------------------------------


@pytest.fixture
def clash(file_mem: AgentMemory) -> AgentMemory:
    """Return a memory with three conflicts and one change that merges."""
    for key in ("one", "two", "three"):
        file_mem.write(P, key, {"n": 0})
    file_mem.create_branch("x")
    for key in ("one", "two", "three"):
        file_mem.write(P, key, {"n": 1, "key": key}, branch="x")
        file_mem.write(P, key, {"n": 2})
    file_mem.write(P, "new", 1, branch="x")
    return file_mem


def test_a_resolver_may_keep_conflicts_and_then_nothing_is_applied(clash: AgentMemory) -> None:
    events = clash.timeline(agent_id="*")
    with pytest.raises(MergeConflictError) as caught:
        clash.merge_branch("x", resolver=lambda _, source, __: KEEP_CONFLICT if source["key"] == "two" else source)
    result = caught.value.result
    assert [conflict.key for conflict in result.conflicts] == ["two"]
    assert {change.key for change in result.applied} == {"one", "three", "new"}
    assert clash.timeline(agent_id="*") == events


@pytest.mark.parametrize("answer", [float("nan"), {1: 2}, object(), "x" * 2000], ids=["nan", "key", "object", "size"])
def test_an_answer_that_is_no_value_is_refused(open_memory: OpenMemory, clash: AgentMemory, answer: Any) -> None:
    events = clash.timeline(agent_id="*")
    with pytest.raises(InvalidValueError, match="resolver"):
        open_memory(max_value_bytes=1000).merge_branch("x", resolver=lambda *_: answer)
    assert clash.timeline(agent_id="*") == events


def test_an_exception_in_a_resolver_is_the_callers(clash: AgentMemory) -> None:
    events = clash.timeline(agent_id="*")
    with pytest.raises(ZeroDivisionError):
        clash.merge_branch("x", resolver=lambda *_: 1 // 0)
    assert clash.timeline(agent_id="*") == events


def test_a_resolver_runs_outside_the_transaction_and_is_asked_again_about_what_moved(
    open_memory: OpenMemory, clash: AgentMemory
) -> None:
    bob, asked = open_memory("bob"), []

    def resolve(base: Any, source: Any, target: Any) -> Any:
        asked.append((source["key"], target["n"]))
        if len(asked) == 3:
            bob.write(P, "one", {"n": 3})
            bob.write("elsewhere", "k", 1)
        return {"n": base["n"] + source["n"] + target["n"]}

    result = clash.merge_branch("x", resolver=resolve)
    assert asked == [("one", 2), ("three", 2), ("two", 2), ("one", 3)], "answers that still hold are kept"
    assert values(clash) == {"one": {"n": 4}, "three": {"n": 3}, "two": {"n": 3}, "new": 1}
    assert result.applied[1].target.value == {"n": 3}


def test_a_resolver_that_loses_every_race_gives_up(open_memory: OpenMemory, clash: AgentMemory) -> None:
    bob, asked = open_memory("bob"), []

    def resolve(*_: Any) -> Any:
        asked.append(1)
        bob.write(P, "one", {"n": 100 + len(asked)})
        return "mine"

    with pytest.raises(ContentionError):
        clash.merge_branch("x", resolver=resolve)
    assert "mine" not in values(clash).values()


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": "none"}, BranchNotFoundError),
        ({"name": "x", "target": "none"}, BranchNotFoundError),
        ({"name": "x", "target": "x"}, InvalidInputError),
        ({"name": "main"}, InvalidInputError),
        ({"name": "x", "strategy": "octopus"}, InvalidInputError),
        ({"name": "x", "paths": "svc"}, InvalidInputError),
        ({"name": "x", "paths": ["a//b"]}, InvalidInputError),
        ({"name": "x", "resolver": "theirs"}, InvalidInputError),
        ({"name": "x", "resolver": print, "strategy": "ours"}, InvalidInputError),
        ({"name": "main", "target": "x", "close": True, "strategy": "ours"}, BranchError),
    ],
    ids=str,
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_merge_that_makes_no_sense_is_refused(
    clash: AgentMemory, arguments: dict[str, Any], error: type[Exception], dry_run: bool
) -> None:
    events = clash.timeline(agent_id="*")
    name = arguments["name"]
    options = {key: value for key, value in arguments.items() if key != "name"}
    with pytest.raises(error):
        clash.merge_branch(name, dry_run=dry_run, **options)
    if error is BranchNotFoundError:
        with pytest.raises(BranchNotFoundError):
            clash.diff_branch(name, arguments.get("target"))
    assert clash.timeline(agent_id="*") == events
    assert clash.branches("closed") == []


def test_main_has_no_parent_to_be_compared_with(clash: AgentMemory) -> None:
    with pytest.raises(InvalidInputError, match="target="):
        clash.diff_branch("main")
    assert clash.diff_branch("x", "x") == []
