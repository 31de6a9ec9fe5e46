"""Rules about branches: creating and closing them, comparing and merging them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from amfs.errors import AMFSError, FastForwardRefusedError, MergeConflictError
from tests.helpers_machine_compare import compare_branch
from tests.helpers_machine_entries import write_both
from tests.helpers_machine_world import RARELY, Caller, Pick, World, rule
from tests.helpers_seen import agree, foretold_change, foretold_merge, seen_change, seen_merge

if TYPE_CHECKING:
    from collections.abc import Callable

    from amfs.models import MergeResult
    from tests.model import Moment
    from tests.model_merge import Merge

STRATEGIES = ("three_way", "three_way", "three_way", "source_wins", "source_wins", "target_wins", "fast_forward")
SCOPES: tuple[tuple[str, ...] | None, ...] = (None, None, None, None, None, ("svc",), ("notes", "svc/db"))
MAX_BRANCHES = 8


def create_both(world: World, caller: Caller, source: str, moment: object = None, at: Moment | None = None) -> None:
    """Create a branch on both sides and compare what it starts with."""
    name = f"line/{len(world.model.branches)}"
    create: Callable[..., Any] = caller.memory.create_branch
    both = world.step(
        "create_branch",
        caller,
        partial(create, name, source=source, at=moment),
        partial(world.model.create_branch, caller.agent, name, source, at),
        source,
    )
    if both:
        agree((both[0].parent, both[0].fork_seq), (both[1].parent, both[1].fork))
        compare_branch(world, caller.agent, name)


@rule(2)
def create_branch(world: World, pick: Pick) -> None:
    """Create a branch from any other, as it is or was."""
    if len(world.model.branches) < MAX_BRANCHES:
        when = world.moment(pick) if pick((True, False)) else (None, None)
        create_both(world, world.caller(pick), world.branch(pick, is_open=False), *when)


@rule(1)
def close_branch(world: World, pick: Pick) -> None:
    """Close a branch, or try to: main and closed ones cannot be."""
    if sum(one.is_open for one in world.model.branches.values()) > 4 and pick(RARELY):
        caller, name = world.caller(pick), world.branch(pick, is_open=pick((True, True, False)))
        world.step(
            "close_branch",
            caller,
            partial(caller.memory.close_branch, name),
            partial(world.model.close_branch, caller.agent, name),
            name,
        )


@rule(1, looks=True)
def write_closed(world: World, pick: Pick) -> None:
    """Try to write a closed branch."""
    closed = [name for name, one in world.model.branches.items() if not one.is_open]
    if closed and pick(RARELY):
        write_both(world, world.caller(pick), pick(closed), ("svc", "k"), 1)


@rule(2, looks=True)
def diff(world: World, pick: Pick) -> None:
    """Compare two branches, related in any way."""
    caller = world.caller(pick)
    names = world.branch(pick, is_open=False), world.branch(pick, is_open=False)
    both = world.step(
        "diff",
        caller,
        partial(caller.memory.diff_branch, *names),
        partial(world.model.read_diff, caller.agent, *names),
    )
    if both:
        agree(list(map(seen_change, both[0])), [foretold_change(one, world.model) for one in both[1]])


def merge_both(world: World, caller: Caller, source: str, target: str | None, strategy: str, **how: Any) -> None:
    """Merge on both sides and compare what was done."""
    into = target or world.model.branches[source].parent or source
    related = relation(world, source, into)
    both = world.step(
        "merge preview" if how.get("dry_run") else "merge",
        caller,
        partial(merged, caller.memory.merge_branch, source, target=target, strategy=strategy, **how),
        partial(world.model.merge, caller.agent, source, into, strategy, **how),
        into,
    )
    if both:
        agree_merged(world, *both)
        if both[1].event:
            world.session.tally[f"*merge {related}"] += 1
            resets = {one.branch for one in world.model.views.resets}
            world.session.tally["*merge after a rollback"] += bool(resets & {source, into})


def agree_merged(world: World, result: MergeResult, known: Merge) -> None:
    """Compare the result of a merge and count what became of the entries."""
    agree(seen_merge(result), foretold_merge(known, world.model))
    world.session.tally[f"*merge {known.status}"] += 1
    world.session.tally.update(f"*{change.fate} {change.kind}" for change in known.changes)


def relation(world: World, source: str, target: str) -> str:
    """Return how two branches are related, for the tally."""
    edges = {(edge.source, edge.target) for edge in world.model.views.edges}
    if {(source, target), (target, source)} <= edges:
        return "criss-cross"
    parents = {name: branch.parent for name, branch in world.model.branches.items()}
    if parents[source] == target or parents[target] == source:
        return "parent and child"
    if parents[source] == parents[target]:
        return "siblings"
    lines = ((source, target), (target, source))
    return "grandchild" if any(parents.get(parents[one] or "") == other for one, other in lines) else "others"


@rule(4)
def merge_family(world: World, pick: Pick) -> None:
    """Merge a branch into its parent, or bring it up to date with its parent."""
    caller, child = world.caller(pick), world.branch(pick)
    parent, down = world.model.branches[child].parent, pick((True, False))
    if parent is None:
        return
    sides = (parent, child) if down else (child, parent)
    if not world.model.diff(caller.agent, *sides) and not pick(RARELY):
        return
    strategy, scope = pick(STRATEGIES), pick(SCOPES)
    if down:
        merge_both(world, caller, *sides, strategy, paths=scope)
    else:
        close = pick(RARELY) and pick(RARELY)
        merge_both(world, caller, child, None, strategy, paths=scope, close=close)


@rule(4)
def merge(world: World, pick: Pick) -> None:
    """Merge two branches of which one has something to bring, or now and then any, closed ones included."""
    caller = world.caller(pick)
    merge_both(world, caller, *world.pair(caller.agent, pick), pick(STRATEGIES), paths=pick(SCOPES))


@rule(2, looks=True)
def preview(world: World, pick: Pick) -> None:
    """Ask what a merge would do."""
    caller = world.caller(pick)
    merge_both(world, caller, *world.pair(caller.agent, pick), pick(STRATEGIES), paths=pick(SCOPES), dry_run=True)


def merged(merge: Callable[..., MergeResult], *args: Any, **how: Any) -> MergeResult:
    """Merge, and return the result also where the merge is refused for what it says."""
    raised: type[AMFSError] | None = None
    try:
        result = merge(*args, **how)
    except (MergeConflictError, FastForwardRefusedError) as error:
        result, raised = error.result, type(error)
    refusals = {"conflicts": MergeConflictError, "refused": FastForwardRefusedError}
    if how.get("dry_run") or how.get("strategy") == "manual":
        refusals.pop("conflicts")
    assert raised is (None if how.get("dry_run") else refusals.get(result.status.value))
    return result
