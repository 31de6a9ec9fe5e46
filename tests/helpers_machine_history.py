"""Rules about history: tags, rollback, cherry-pick and fork."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from amfs.errors import RollbackTouchesOthersError
from tests.helpers_machine_branches import STRATEGIES, agree_merged, merged
from tests.helpers_machine_world import OFTEN, RARELY, SLOTS, Caller, Pick, World, rule
from tests.helpers_seen import agree, foretold_rollback, seen_rollback
from tests.model_blame import blame
from tests.model_history import Pick as Picked
from tests.model_history import cherry_pick, create_tag, delete_tag, fork, roll_back

if TYPE_CHECKING:
    from datetime import datetime

    from amfs import AgentMemory
    from amfs.models import RollbackResult
    from tests.model import Model, Moment

PICK_STRATEGIES = [one for one in STRATEGIES if one != "fast_forward"]


@rule(2)
def tag(world: World, pick: Pick) -> None:
    """Name a view of a branch, now or as of a moment; a name may be taken."""
    caller, branch = world.caller(pick), world.branch(pick, is_open=False)
    moment, at = world.moment(pick) if pick((True, False)) else (None, None)
    name = f"t/{len(world.model.tags) % 6}" if pick(RARELY) else f"t/{world.session.steps}"
    both = world.step(
        "create_tag",
        caller,
        partial(caller.memory.create_tag, name, at=moment, branch=branch),
        partial(create_tag, world.model, caller.agent, name, branch, at),
        branch,
    )
    if both:
        agree((both[0].branch, both[0].seq), (both[1].branch, both[1].seq))


@rule(1)
def untag(world: World, pick: Pick) -> None:
    """Delete a tag, one that is there or not."""
    caller, name = world.caller(pick), pick(sorted(world.model.tags) or ["unknown"])
    name = "unknown" if pick(RARELY) and pick(RARELY) else name
    both = world.step(
        "delete_tag",
        caller,
        partial(caller.memory.delete_tag, name),
        partial(delete_tag, world.model, caller.agent, name),
    )
    if both:
        agree((both[0].branch, both[0].seq), (both[1].branch, both[1].seq))


def roll_back_both(
    world: World, caller: Caller, branch: str, moment: int | datetime | str | None, at: Moment | None, **how: Any
) -> None:
    """Roll back on both sides and compare what was done."""
    kind = "tag_name" if isinstance(moment, str) else "seq" if isinstance(moment, int) else "timestamp"
    where = {} if moment is None else {kind: moment}
    known = {("author" if name == "agent_id" else name): what for name, what in how.items()}
    both = world.step(
        "rollback preview" if how.get("dry_run") else "rollback",
        caller,
        partial(rolled_back, caller.memory, branch=branch, **where, **how),
        partial(roll_back, world.model, caller.agent, branch, at, **known),
        branch,
    )
    if both:
        agree(seen_rollback(both[0]), foretold_rollback(both[1], world.model))
        tally, done = world.session.tally, both[1]
        tally["*rolled back by author" if how.get("agent_id") else "*rolled back"] += done.event is not None
        undone = any(one.seq == done.to + 1 and one.kind == "rollback" for one in world.model.events)
        tally["*rolled back a rollback"] += undone and done.event is not None
        tally["*rollback touches others"] += bool(done.others)
        tally["*rollback skips"] += bool(done.skipped)


def rolled_back(memory: AgentMemory, **how: Any) -> RollbackResult:
    """Roll back, and return the result also where that is refused since others wrote."""
    refused = False
    try:
        result = memory.rollback(**how)
    except RollbackTouchesOthersError as error:
        result, refused = error.result, True
    may_go_on = how.get("dry_run") or how.get("include_others") or not result.others
    assert refused is not bool(may_go_on)
    return result


@rule(5)
def rollback(world: World, pick: Pick) -> None:
    """Go back to an earlier view, most often a recent one; now and then ask only, or have others in the way."""
    caller, branch = world.caller(pick), world.branch(pick, is_open=pick((True, True, True, True, False)))
    moment, at = world.moment(pick) if pick((True, False)) else _recent(world, branch, pick)
    how = {"include_others": pick((True, True, False)), "dry_run": pick(RARELY) and pick((True, False))}
    roll_back_both(world, caller, branch, moment, at, **how)


@rule(4)
def rollback_author(world: World, pick: Pick) -> None:
    """Take out what one agent wrote since the branch began, or since a moment."""
    caller, branch = world.caller(pick), world.branch(pick)
    moment, at = pick(((None, None), _recent(world, branch, pick), world.moment(pick)))
    how = {"agent_id": pick((*world.agents, "nobody")), "dry_run": pick(RARELY) and pick((True, False))}
    roll_back_both(world, caller, branch, moment, at, **how)


@rule(1)
def rollback_rollback(world: World, pick: Pick) -> None:
    """Undo the last rollback or merge on a branch."""
    done = [one for one in world.model.events if one.kind in ("rollback", "branch_merged", "cherry_pick")]
    done = [one for one in done[-6:] if world.model.branches[one.branch].is_open]
    if done:
        event = pick(done)
        roll_back_both(
            world, world.owner(pick(world.agents)), event.branch, event.seq - 1, event.seq - 1, include_others=True
        )


def _recent(world: World, branch: str, pick: Pick) -> tuple[int, int]:
    """Pick a seq at which something happened on a branch of late."""
    seqs = [since for since, _ in world.model.branches[branch].views[-8:]]
    seq = max(pick(seqs) - pick((0, 1)), 0)
    return seq, seq


def picks_of(world: World, caller: Caller, source: str, pick: Pick) -> tuple[list[Any], list[Picked]]:
    """Pick entries of a branch, as the engine and as the model takes them: by name, or as one of their versions."""
    keys: list[Any] = []
    picked: list[Picked] = []
    for _ in range(pick((1, 1, 2))):
        held = [slot[1:] for slot in world.model.view(source) if slot[0] in (None, caller.agent)]
        path, key = pick(held) if held and pick(OFTEN) else pick(SLOTS)
        versions = world.model.history_of(caller.agent, source, path, key)
        if versions and pick((True, False, False)):
            version = pick(versions)
            entry = next(
                one for one in world.memory(caller.agent).history(path, key, branch=source) if one.seq == version.seq
            )
            keys.append(entry)
            picked.append(Picked(path, key, version.slot, version.seq))
        else:
            keys.append((path, key))
            picked.append(Picked(path, key))
    return keys, picked


@rule(5)
def cherry(world: World, pick: Pick) -> None:
    """Bring single entries of a branch into another, or ask what that would do."""
    caller = world.caller(pick)
    source, target = world.pair(caller.agent, pick)
    keys, picked = picks_of(world, caller, source, pick)
    strategy, dry_run = pick(PICK_STRATEGIES), pick(RARELY) and pick((True, False))
    both = world.step(
        "cherry_pick preview" if dry_run else "cherry_pick",
        caller,
        partial(merged, caller.memory.cherry_pick, source, keys, target=target, strategy=strategy, dry_run=dry_run),
        partial(cherry_pick, world.model, caller.agent, source, target, picked, strategy, dry_run=dry_run),
        target,
    )
    if both:
        agree_merged(world, *both)


def fork_both(world: World, pick: Pick) -> tuple[str, tuple[str, ...], Model] | None:
    """Fork on both sides; return the new namespace, who works in it, and its model."""
    caller, branch = world.caller(pick), world.branch(pick, is_open=False)
    known = world.session.namespaces | {one.actor for one in world.model.events}
    new = pick(sorted(known)) if pick(RARELY) else f"fork{len(world.session.namespaces)}"
    both = world.step(
        "fork",
        caller,
        partial(caller.memory.fork, new, branch=branch),
        partial(fork, world.model, caller.agent, branch, new, known),
        branch,
    )
    if both is None:
        return None
    agree(both[0], both[1][0])
    world.session.namespaces.add(new)
    return new, (new, *world.agents[:1]), both[1][1]


@rule(3, looks=True)
def ask_for_blame(world: World, pick: Pick) -> None:
    """Ask where an entry and its fields came from; what a fork inherited came from elsewhere."""
    if world.namespace != "default":
        return
    caller, branch = world.owner(pick(world.agents)), world.branch(pick, is_open=False)
    found = world.visible(caller.agent, branch, pick)
    slot = found.slot[1:] if found and pick(OFTEN) else pick(SLOTS)
    both = world.step(
        "blame",
        caller,
        partial(caller.memory.blame, *slot, branch=branch),
        partial(blame, world.model, caller.agent, branch, *slot),
    )
    if both:
        agree({one.path: one.version.seq for one in (both[0].origin, *both[0].fields)}, both[1])
