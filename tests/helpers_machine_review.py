"""Rules about review: manual merges with their conflicts, and pull requests."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tests.helpers_machine_branches import SCOPES, STRATEGIES, agree_merged, merged
from tests.helpers_machine_entries import VALUES
from tests.helpers_machine_world import RARELY, Pick, World, rule
from tests.helpers_seen import agree, foretold_conflict, foretold_pull, seen_conflict, seen_pull
from tests.model_review import close_pull, create_pull, merge_manually, merge_pull, resolve, review_pull

if TYPE_CHECKING:
    from amfs.models import MergeResult
    from tests.model_merge import Merge
    from tests.model_review import Conflict

VERDICTS = ("approved", "approved", "changes_requested", "commented")


def agree_stored(world: World, result: MergeResult, known: tuple[Merge, list[Conflict]]) -> None:
    """Compare the result of a merge, and the conflicts it stored."""
    done, left = known
    agree_merged(world, result, done)
    if left:
        ordered = sorted(left, key=lambda one: one.number)
        stored = sorted(map(seen_conflict, result.conflicts))
        agree(stored, [foretold_conflict(one, world.model) for one in ordered])


@rule(3)
def manual(world: World, pick: Pick) -> None:
    """Merge by hand: what clashes is stored."""
    caller = world.caller(pick)
    source, target = clashing_pair(world, caller.agent, pick)
    how = {"paths": pick(SCOPES), "close": pick(RARELY) and pick(RARELY)}
    both = world.step(
        "manual merge",
        caller,
        partial(merged, caller.memory.merge_branch, source, target=target, strategy="manual", **how),
        partial(merge_manually, world.model, caller.agent, source, target, **how),
        target,
    )
    if both:
        agree_stored(world, *both)


def clashing_pair(world: World, agent: str, pick: Pick) -> tuple[str, str]:
    """Pick two branches, most often such that clash."""
    for _ in range(3):
        source, target = world.pair(agent, pick)
        if any(change.clashes for change in world.model.diff(agent, source, target)):
            break
    return source, target


@rule(5)
def settle(world: World, pick: Pick) -> None:
    """Resolve a conflict, most often one that is open."""
    stored = [one for merge in world.model.pending for one in merge.conflicts]
    stored = [one for one in stored if one.status == "open"] or stored if pick((True, True, True, False)) else stored
    if not stored:
        return
    caller, conflict = world.caller(pick), pick(stored)
    side = pick(("source", "target", "base", None))
    value = pick(VALUES)
    how: dict[str, Any] = {"take": side} if side else {"value": value}
    known: dict[str, Any] = {"side": side} if side else {"value": value}
    both = world.step(
        "resolve_conflict",
        caller,
        partial(caller.memory.resolve_conflict, conflict.number, **how),
        partial(resolve, world.model, caller.agent, conflict.number, **known),
        conflict.merge.target,
    )
    if both:
        agree_stored(world, *both)
        world.session.tally["*resolved and merged"] += both[1][0].event is not None


@rule(2)
def open_pull(world: World, pick: Pick) -> None:
    """Propose a merge."""
    caller = world.caller(pick)
    source, target = world.pair(caller.agent, pick)
    both = world.step(
        "create_pull_request",
        caller,
        partial(caller.memory.create_pull_request, "why", source, target_branch=target),
        partial(create_pull, world.model, caller.agent, source, target),
        target,
    )
    if both:
        agree(seen_pull(both[0]), foretold_pull(both[1], world.model))


def pull_of(world: World, pick: Pick) -> int:
    """Pick the number of a pull request, most often of one that is open."""
    every = [one.number for one in world.model.pulls]
    still = [one.number for one in world.model.pulls if one.status == "open"]
    return pick(still) if still and not pick(RARELY) else pick([*every, 999])


@rule(3)
def review(world: World, pick: Pick) -> None:
    """Say something about a pull request."""
    if world.model.pulls:
        caller, number, verdict = world.caller(pick), pull_of(world, pick), pick(VERDICTS)
        both = world.step(
            "review_pull_request",
            caller,
            partial(caller.memory.review_pull_request, number, verdict),
            partial(review_pull, world.model, caller.agent, number, verdict),
        )
        if both:
            agree(seen_pull(both[0]), foretold_pull(both[1], world.model))


@rule(2)
def merge_reviewed(world: World, pick: Pick) -> None:
    """Merge a pull request, or preview that."""
    if not world.model.pulls:
        return
    caller, number = world.caller(pick), pull_of(world, pick)
    strategy, dry_run = pick((*STRATEGIES, "manual", "manual")), pick(RARELY)
    both = world.step(
        "merge_pull_request preview" if dry_run else "merge_pull_request",
        caller,
        partial(merged, caller.memory.merge_pull_request, number, strategy=strategy, dry_run=dry_run),
        partial(merge_pull, world.model, caller.agent, number, strategy, dry_run=dry_run),
    )
    if both:
        agree_stored(world, *both)


@rule(1)
def end_pull(world: World, pick: Pick) -> None:
    """Close a pull request, seldom."""
    if world.model.pulls and pick(RARELY):
        caller, number = world.caller(pick), pull_of(world, pick)
        both = world.step(
            "close_pull_request",
            caller,
            partial(caller.memory.close_pull_request, number),
            partial(close_pull, world.model, caller.agent, number),
        )
        if both:
            agree(seen_pull(both[0]), foretold_pull(both[1], world.model))
