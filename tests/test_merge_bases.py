"""Which view two branches have in common: through forks, merges in every direction, and rollbacks of either side."""

from __future__ import annotations

from typing import Any

import pytest

from amfs import AgentMemory, MergeConflictError, MergeStatus

P, K = "svc", "config"


def edit(memory: AgentMemory, branch: str, **fields: Any) -> int:
    """Change fields of the one entry on a branch and return the seq."""
    entry = memory.read(P, K, branch=branch)
    return memory.write(P, K, {**(entry.value if entry else {}), **fields}, branch=branch).seq


def state(memory: AgentMemory, branch: str) -> str:
    """Return the fields of the one entry on a branch, as digits."""
    return "".join(str(number) for _, number in sorted(memory.read(P, K, branch=branch).value.items()))


def base(memory: AgentMemory, source: str, target: str = "main") -> tuple[str, int]:
    """Return the view that a merge would start from."""
    result = memory.merge_branch(source, target=target, dry_run=True)
    return result.base_branch, result.base_seq


def last(memory: AgentMemory, branch: str) -> int:
    """Return the seq of the newest event on a branch."""
    return memory.timeline(branch=branch, limit=1)[0].seq


@pytest.fixture
def tree(mem: AgentMemory) -> AgentMemory:
    """Return a memory with one entry and the branches x, y (siblings) and x/child."""
    edit(mem, "main", a=0, b=0, c=0)
    mem.create_branch("x")
    mem.create_branch("y")
    mem.create_branch("x/child", source="x")
    return mem


# --- forks and merges ------------------------------------------------------------------------------------------------


def test_without_merges_the_base_is_the_newest_view_both_go_back_to(tree: AgentMemory) -> None:
    forks = {branch.name: branch.fork_seq for branch in tree.branches()}
    edit(tree, "main", a=1)
    assert base(tree, "x") == base(tree, "main", "x") == ("main", forks["x"])
    assert base(tree, "x", "y") == base(tree, "y", "x") == ("main", forks["x"]), "y forked later"
    assert base(tree, "x/child", "x") == base(tree, "x", "x/child") == ("x", forks["x/child"])
    assert base(tree, "x/child") == base(tree, "x/child", "y") == ("main", forks["x"])


@pytest.mark.parametrize(
    ("source", "target"), [("x", "main"), ("main", "x"), ("x", "y"), ("x/child", "main"), ("y", "x/child")]
)
def test_a_merge_makes_the_source_the_base_of_both_directions(tree: AgentMemory, source: str, target: str) -> None:
    for number in (1, 2):
        merged = edit(tree, source, a=number)
        edit(tree, target, b=number)
        tree.merge_branch(source, target=target)
        assert base(tree, source, target) == (source, merged)
        assert base(tree, target, source) == (source, merged)
        assert state(tree, target) == f"{number}{number}0"
        assert tree.merge_branch(source, target=target).status is MergeStatus.UP_TO_DATE
    tree.merge_branch(target, target=source)
    assert state(tree, source) == "220"
    assert tree.merge_branch(target, target=source).status is MergeStatus.UP_TO_DATE
    assert tree.merge_branch(source, target=target).status is MergeStatus.UP_TO_DATE


def test_a_merge_with_nothing_to_bring_moves_no_base(tree: AgentMemory) -> None:
    before = base(tree, "x")
    result = tree.merge_branch("x")
    assert (result.status, result.event, base(tree, "x")) == (MergeStatus.UP_TO_DATE, None, before)


def test_a_merge_is_passed_on(tree: AgentMemory) -> None:
    merged = edit(tree, "x", a=1)
    tree.merge_branch("x", target="y")
    tree.merge_branch("y")
    assert base(tree, "x") == ("x", merged), "main has it through y"
    edit(tree, "main", b=1)
    tree.create_branch("late")
    edit(tree, "x", c=1)
    tree.merge_branch("x", target="late")
    assert state(tree, "late") == "111", "late inherits what main merged"


def test_criss_cross(tree: AgentMemory) -> None:
    edit(tree, "x", a=1)
    edit(tree, "y", b=1)
    tree.create_branch("x as it was", source="x")
    tree.merge_branch("y", target="x")
    tree.merge_branch("x as it was", target="y")
    assert (state(tree, "x"), state(tree, "y")) == ("110", "110")
    edit(tree, "x", a=2)
    edit(tree, "y", c=2)
    tree.merge_branch("x", target="y")
    tree.merge_branch("y", target="x")
    assert (state(tree, "x"), state(tree, "y")) == ("212", "212")
    assert tree.merge_branch("x", target="y").status is MergeStatus.UP_TO_DATE


def test_a_partial_merge_moves_no_base(tree: AgentMemory) -> None:
    tree.write("other", K, 1, branch="x")
    edit(tree, "x", a=1)
    before = base(tree, "x")
    assert tree.merge_branch("x", paths=["other"]).merged_entries == 1
    assert base(tree, "x") == before
    assert [change.entity_path for change in tree.diff_branch("x")] == ["other", P]
    edit(tree, "main", b=1)
    assert tree.merge_branch("x").merged_entries == 1, "what was taken before is equal"
    assert (state(tree, "main"), tree.read("other", K).version) == ("110", 1)
    assert tree.merge_branch("x", paths=["other"]).status is MergeStatus.UP_TO_DATE


def test_a_partial_merge_then_an_edit_of_the_target_clash_with_the_next(tree: AgentMemory) -> None:
    edit(tree, "x", a=1)
    tree.merge_branch("x", paths=[P])
    edit(tree, "main", a=2)
    with pytest.raises(MergeConflictError):
        tree.merge_branch("x")


# --- rollbacks of the target -----------------------------------------------------------------------------------------


def test_a_merge_that_the_target_rolled_back_can_be_made_again(tree: AgentMemory) -> None:
    before, fork = last(tree, "main"), base(tree, "x")
    edit(tree, "x", a=1)
    tree.merge_branch("x")
    tree.rollback(seq=before)
    assert state(tree, "main") == "000"
    assert base(tree, "x") == fork
    assert [change.conflict for change in tree.diff_branch("x")] == [None]
    result = tree.merge_branch("x")
    assert (result.status, state(tree, "main")) == (MergeStatus.MERGED, "100")
    assert tree.merge_branch("x").status is MergeStatus.UP_TO_DATE


def test_a_merge_that_came_back_with_its_rollback_undone_counts_again(tree: AgentMemory) -> None:
    before = last(tree, "main")
    merged = edit(tree, "x", a=1)
    tree.merge_branch("x")
    event = tree.rollback(seq=before).event
    tree.rollback(seq=event - 1)
    assert (state(tree, "main"), base(tree, "x")) == ("100", ("x", merged))
    assert tree.merge_branch("x").status is MergeStatus.UP_TO_DATE
    edit(tree, "main", a=5)
    edit(tree, "x", b=1)
    assert tree.merge_branch("x").conflicts == ()
    assert state(tree, "main") == "510"


def test_a_rollback_takes_back_the_merges_since_and_no_others(tree: AgentMemory) -> None:
    first = edit(tree, "x", a=1)
    tree.merge_branch("x")
    tree.create_tag("v1")
    edit(tree, "x", a=2)
    tree.merge_branch("x")
    edit(tree, "y", b=1)
    tree.merge_branch("y")
    tree.rollback(tag_name="v1")
    assert state(tree, "main") == "100"
    assert base(tree, "x") == ("x", first)
    edit(tree, "main", a=9)
    edit(tree, "y", c=1)
    tree.merge_branch("y")
    assert state(tree, "main") == "911", "all that y ever changed"
    with pytest.raises(MergeConflictError):
        tree.merge_branch("x")


@pytest.mark.parametrize("beyond", range(4))
@pytest.mark.parametrize("way", ["rollback", "branch", "tag"])
def test_whatever_seq_is_gone_back_to_a_merge_is_there_or_can_be_made(tree: AgentMemory, way: str, beyond: int) -> None:
    edit(tree, "x", a=1)
    tree.write(P, "more", 1, branch="x")
    seq = tree.merge_branch("x").event + beyond - 1
    tree.write(P, "later", 1)
    if way == "rollback":
        tree.rollback(seq=seq)
    elif way == "branch":
        tree.create_branch("main again", at=seq)
    else:
        tree.create_tag("v1", at=seq)
        tree.create_branch("main again", at="v1")
    target = "main" if way == "rollback" else "main again"
    tree.merge_branch("x", target=target)
    assert state(tree, target) == "100"
    assert tree.read(P, "more", branch=target) is not None
    assert tree.read(P, "later", branch=target) is None


def test_a_rollback_of_nothing_moves_no_base(tree: AgentMemory) -> None:
    edit(tree, "x", a=1)
    tree.merge_branch("x")
    tree.write(P, "later", 1)
    here = base(tree, "x")
    assert tree.rollback(seq=last(tree, "main")).event is None
    assert tree.rollback(agent_id="nobody").event is None
    assert base(tree, "x") == here


def test_taking_an_author_out_takes_back_no_merge(tree: AgentMemory) -> None:
    bob = tree.as_agent("bob")
    edit(bob, "x", a=1)
    tree.merge_branch("x")
    here = base(tree, "x")
    assert tree.rollback(agent_id="bob", seq=here[1] - 1).restored_entries == 1
    assert (state(tree, "main"), base(tree, "x")) == ("000", here)
    assert tree.merge_branch("x").status is MergeStatus.UP_TO_DATE, "it was reverted, not rolled back"


def test_a_branch_rolled_back_past_a_merge_from_its_parent_gets_it_again(tree: AgentMemory) -> None:
    fork = last(tree, "x/child") if tree.timeline(branch="x/child") else tree.branches()[-1].fork_seq
    edit(tree, "main", a=1)
    tree.merge_branch("main", target="x/child")
    edit(tree, "x/child", b=1)
    tree.rollback(seq=fork, branch="x/child")
    assert state(tree, "x/child") == "000"
    tree.merge_branch("main", target="x/child")
    assert state(tree, "x/child") == "100"
    edit(tree, "main", c=1)
    assert tree.merge_branch("main", target="x/child").conflicts == ()


def test_a_branch_forked_before_the_rollback_still_has_the_merge(tree: AgentMemory) -> None:
    before = last(tree, "main")
    merged = edit(tree, "x", a=1)
    tree.merge_branch("x")
    tree.create_branch("before")
    tree.rollback(seq=before)
    tree.create_branch("after")
    assert base(tree, "x", "before") == ("x", merged)
    assert tree.merge_branch("x", target="before").status is MergeStatus.UP_TO_DATE
    assert (state(tree, "before"), state(tree, "after")) == ("100", "000")
    assert tree.merge_branch("x", target="after").merged_entries == 1
    assert state(tree, "after") == "100"


# --- rollbacks of the source -----------------------------------------------------------------------------------------


def test_the_reversal_of_a_merged_source_travels(tree: AgentMemory) -> None:
    before = base(tree, "x")[1]
    edit(tree, "x", a=1)
    edit(tree, "main", b=1)
    tree.merge_branch("x")
    assert state(tree, "main") == "110"
    tree.rollback(seq=before, branch="x")
    assert state(tree, "x") == "000"
    (change,) = tree.diff_branch("x")
    assert ([one.path for one in change.field_changes], change.conflict) == (["/a"], None)
    tree.merge_branch("x")
    assert state(tree, "main") == "010", "what x took back is taken back, what main changed stays"


def test_a_source_rolled_back_before_it_was_merged_brings_nothing(tree: AgentMemory) -> None:
    before = base(tree, "x")[1]
    edit(tree, "x", a=1)
    tree.write(P, "new", 1, branch="x")
    tree.rollback(seq=before, branch="x")
    assert tree.diff_branch("x") == []
    assert tree.merge_branch("x").status is MergeStatus.UP_TO_DATE


def test_both_sides_rolled_back_start_again(tree: AgentMemory) -> None:
    main, fork = last(tree, "main"), base(tree, "x")
    edit(tree, "x", a=1)
    tree.merge_branch("x")
    edit(tree, "main", b=1)
    tree.merge_branch("main", target="x")
    tree.rollback(seq=main)
    tree.rollback(seq=fork[1], branch="x")
    assert base(tree, "x") == base(tree, "main", "x") == fork
    assert tree.merge_branch("x").status is MergeStatus.UP_TO_DATE
    edit(tree, "x", c=3)
    tree.merge_branch("x")
    assert state(tree, "main") == "003"


# --- private entries -------------------------------------------------------------------------------------------------


def test_each_agent_has_a_base_for_what_is_private(tree: AgentMemory) -> None:
    alice, bob = tree, tree.as_agent("bob")
    for one in (alice, bob):
        one.write(P, "mine", one.agent_id, shared=False, branch="x")
    edit(alice, "x", a=1)
    assert alice.merge_branch("x").merged_entries == 2
    assert (bob.read(P, "mine"), [change.key for change in bob.diff_branch("x")]) == (None, ["mine"])
    assert bob.merge_branch("x").merged_entries == 1
    assert [one.read(P, "mine").value for one in (alice, bob)] == ["alice", "bob"]
    assert [one.merge_branch("x").status for one in (alice, bob)] == [MergeStatus.UP_TO_DATE] * 2


def test_a_rollback_takes_back_what_is_private_to_who_rolled_back(tree: AgentMemory) -> None:
    alice, bob = tree, tree.as_agent("bob")
    before = last(alice, "main")
    for one in (alice, bob):
        one.write(P, "mine", one.agent_id, shared=False, branch="x")
    edit(alice, "x", a=1)
    bob.merge_branch("x")
    alice.merge_branch("x")
    alice.rollback(seq=before, include_others=True)
    assert (alice.read(P, "mine"), bob.read(P, "mine").value) == (None, "bob")
    assert [(change.key, change.conflict) for change in bob.diff_branch("x")] == [(K, None)], (
        "bob's own counts as merged"
    )
    assert [change.key for change in alice.diff_branch("x")] == [K, "mine"]
    alice.merge_branch("x")
    assert (state(alice, "main"), alice.read(P, "mine").value) == ("100", "alice")
    assert [one.merge_branch("x").status for one in (alice, bob)] == [MergeStatus.UP_TO_DATE] * 2
