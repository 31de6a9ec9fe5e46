"""Rules about entries: writing, deleting, reading and judging them."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from amfs import SearchWeights
from tests.helpers_machine_world import RARELY, SLOTS, Caller, Pick, World, rule
from tests.helpers_seen import agree, foretold, foretold_all, foretold_event, seen, seen_event

if TYPE_CHECKING:
    from collections.abc import Callable

OUTCOMES = ("success", "minor_failure", "failure", "critical_failure")
GONE = ...
FIELDS: dict[str, tuple[Any, ...]] = {
    "a": (GONE, 1, 1.0, True),
    "b": (GONE, {}, {"c": 1}, {"c": 2, "d~/": [1]}),
    "x/y": (GONE, None),
}
OBJECTS = [
    {name: value for name, value in zip(FIELDS, values, strict=True) if value is not GONE}
    for values in product(*FIELDS.values())
]
VALUES = [1, 1.0, True, "x", None, [1], [True], *OBJECTS]
FIELD_CHANGES = [(name, value) for name, those in FIELDS.items() for value in those]
CONFIDENCES = (1.0, 0.5, 0.25, 0.0)
PARTICULARS: tuple[dict[str, Any], ...] = (
    {}, {}, {}, {"ttl": 3.5}, {"ttl": 15}, {"memory_type": "belief"}, {"pattern_refs": ("p", "q")},
)  # fmt: skip
WORDS = ("svc", "db", "z", "a", "x", "1", "true", "null")
BY_AGE = {**dict.fromkeys(SearchWeights.model_fields, 0), "text": 1e-12, "half_life": timedelta(days=1)}
NAMES = {"pattern_refs": "refs", "expected_version": "expected"}


def write_both(world: World, caller: Caller, branch: str, slot: tuple[str, str], value: Any, **how: Any) -> None:
    """Write on both sides and compare the entries."""
    both = world.step(
        "write",
        caller,
        partial(caller.memory.write, *slot, value, branch=branch, **how),
        partial(
            world.model.write, caller.agent, branch, *slot, value, **{NAMES.get(name, name): how[name] for name in how}
        ),
        branch,
    )
    if both:
        agree(seen(both[0]), foretold(both[1], world.model))


@rule(9)
def write(world: World, pick: Pick) -> None:
    """Write any value anywhere."""
    how = {"shared": pick((True, True, False)), "confidence": pick(CONFIDENCES), **pick(PARTICULARS)}
    write_both(world, world.caller(pick), world.branch(pick), pick(SLOTS), pick(VALUES), **how)


@rule(8)
def diverge(world: World, pick: Pick) -> None:
    """Change fields of one object on two branches, or delete it on one, so that merges have something to settle."""
    caller, slot = world.owner(pick(world.agents)), pick(SLOTS)
    for change in (pick(FIELD_CHANGES), pick([*FIELD_CHANGES, None])):
        branch = world.branch(pick)
        found = world.model.find(caller.agent, branch, *slot)
        if change is None and found:
            delete_both(world, caller, branch, slot)
        elif change is not None:
            old = found.value if found and isinstance(found.value, dict) else {}
            value = {name: value for name, value in {**old, change[0]: change[1]}.items() if value is not GONE}
            is_shared = found.slot[0] is None if found else pick((True, False))
            write_both(world, caller, branch, slot, value, shared=is_shared)


@rule(3)
def write_again(world: World, pick: Pick) -> None:
    """Write the value that is there once more, expecting the right version number or a wrong one."""
    caller, branch = world.caller(pick), world.branch(pick)
    found = world.visible(caller.agent, branch, pick)
    slot, value = (found.slot[1:], found.value) if found else (("svc", "k"), 1)
    expected = max((found.number if found else 0) + pick((0, 0, 0, 1, -1)), 0)
    how = {"shared": not found or found.slot[0] is None, "expected_version": expected}
    write_both(world, caller, branch, slot, value, confidence=pick(CONFIDENCES), **how)


def delete_both(world: World, caller: Caller, branch: str, slot: tuple[str, str]) -> None:
    """Delete on both sides."""
    both = world.step(
        "delete",
        caller,
        partial(caller.memory.delete, *slot, branch=branch),
        partial(world.model.delete, caller.agent, branch, *slot),
        branch,
    )
    if both:
        agree(both[0], both[1])


@rule(3)
def delete(world: World, pick: Pick) -> None:
    """Delete an entry that is there, or now and then one that is not."""
    caller, branch = world.caller(pick), world.branch(pick)
    found = world.visible(caller.agent, branch, pick)
    delete_both(world, caller, branch, found.slot[1:] if found and not pick(RARELY) else pick(SLOTS))


@rule(4, looks=True)
def read(world: World, pick: Pick) -> None:
    """Read an entry; the first sight of another agent's version is an event."""
    _read_both(world, world.caller(pick), pick, "read", {}, {})


@rule(5, looks=True)
def read_past(world: World, pick: Pick) -> None:
    """Read an entry as it was at a moment."""
    moment, at = world.moment(pick)
    _read_both(world, world.caller(pick), pick, "read as of", {"at": moment}, {"at": at})


def _read_both(
    world: World, caller: Caller, pick: Pick, operation: str, how: dict[str, Any], known: dict[str, Any]
) -> None:
    branch, slot = world.branch(pick, is_open=False), pick(SLOTS)
    both = world.step(
        operation,
        caller,
        partial(caller.memory.read, *slot, branch=branch, **how),
        partial(world.model.read, caller.agent, branch, *slot, **known),
        branch,
    )
    if both:
        agree(seen(both[0]), foretold(both[1], world.model))


@rule(2, looks=True)
def list_past(world: World, pick: Pick) -> None:
    """List what there was at a moment."""
    caller, branch, (moment, at) = world.caller(pick), world.branch(pick, is_open=False), world.moment(pick)
    both = world.step(
        "list as of",
        caller,
        partial(caller.memory.list, at=moment, branch=branch),
        partial(world.model.read_list, caller.agent, branch, at),
    )
    if both:
        agree(list(map(seen, both[0])), [foretold(one, world.model) for one in both[1]])


@rule(3, looks=True)
def search(world: World, pick: Pick) -> None:
    """Search for a word; with nothing but a little for words in the score, the newest comes first."""
    caller, branch, word = world.caller(pick), world.branch(pick, is_open=False), pick(WORDS)
    moment, at = world.moment(pick) if pick(RARELY) else (None, None)
    both = world.step(
        "search" if moment is None else "search as of",
        caller,
        partial(caller.memory.search, word, branch=branch, at=moment, weights=BY_AGE, limit=1000),
        partial(world.model.search, caller.agent, branch, word, at),
        branch,
    )
    if both:
        agree([seen(hit.entry) for hit in both[0]], [foretold(one, world.model) for one in both[1]])


@rule(5)
def commit_outcome(world: World, pick: Pick) -> None:
    """Judge entries that are there, and now and then one that is not."""
    caller, branch = world.caller(pick), world.branch(pick)
    found = [world.visible(caller.agent, branch, pick) for _ in range(pick((0, 1, 1, 2)))]
    slots = [one.slot[1:] if one else ("svc", "k") for one in found]
    ref, kind, weight = f"r{pick(range(60))}", pick(OUTCOMES), pick((1.0, 1.0, 0.5, 0.0))
    commit: Callable[..., Any] = caller.memory.commit_outcome
    both = world.step(
        "outcome",
        caller,
        partial(commit, ref, kind, slots, causal_confidence=weight, branch=branch),
        partial(world.model.commit_outcome, caller.agent, branch, ref, kind, slots, weight),
        branch,
    )
    if both:
        result, (event, versions) = both
        assert result.recorded == (event is not None)
        assert event is None or result.seq == event.seq
        agree(list(map(seen, result.entries)), [foretold(one, world.model) for one in versions])


@rule(2, looks=True)
def window(world: World, pick: Pick) -> None:
    """Ask for what happened to an entry, and on a branch, between two moments; a tag stands for its seq."""
    caller, branch, slot = world.caller(pick), world.branch(pick, is_open=False), pick(SLOTS)
    bounds = sorted((pick(range(1, world.model.log.seq + 1)), pick(range(1, world.model.log.seq + 1))))
    tags = [one for one in world.model.tags.values() if one.seq <= bounds[1] and not caller.principal]
    tag = pick(tags) if tags and pick((True, False)) else None
    since, until = tag.seq if tag else bounds[0], bounds[1]
    between = {"since": tag.name if tag else since, "until": until, "branch": branch}
    both = world.step(
        "history window",
        caller,
        partial(caller.memory.history, *slot, **between),
        partial(world.model.read_history, caller.agent, branch, *slot),
    )
    if both:
        known = [one for one in foretold_all(both[1], world.model) if one and since <= one[3] <= until]
        agree(list(map(seen, both[0])), known)
        events = world.model.timeline(caller.agent, branch=branch)
        shown = list(map(seen_event, caller.memory.timeline(limit=10_000, **between)))
        agree(shown, [foretold_event(one) for one in events if since <= one.seq <= until])
