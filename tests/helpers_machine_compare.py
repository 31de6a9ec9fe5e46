"""Comparing a namespace in the engine with the model of it: a little after every change, more at intervals."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from tests.helpers_seen import (
    agree,
    foretold,
    foretold_all,
    foretold_conflict,
    foretold_event,
    foretold_pull,
    name_of,
    seen,
    seen_conflict,
    seen_event,
    seen_pull,
)
from tests.model_history import list_tags
from tests.model_review import list_conflicts, list_pulls

if TYPE_CHECKING:
    from tests.helpers_machine_world import Caller, World
    from tests.model_merge import Version


def compare_branch(world: World, agent: str, branch: str) -> None:
    """Compare what an agent sees on a branch."""
    model = world.model
    model.tick(world.session.now)
    listed = list(map(seen, world.memory(agent).list(branch=branch)))
    agree(listed, [foretold(one, model) for one in model.list(agent, branch)])


def compare_some(world: World, turn: int) -> None:
    """Compare what is recorded beside the entries, and one branch with its past as one agent sees it."""
    agent = world.agents[turn % len(world.agents)]
    compare_records(world, world.owner(agent))
    branches = list(world.model.branches)
    compare_past(world, agent, branches[turn % len(branches)])


def compare_all(world: World) -> None:
    """Compare all branches, histories and timelines, now and at one moment of the past, and check the invariants."""
    for agent in world.agents:
        compare_records(world, world.owner(agent))
        for branch in world.model.branches:
            compare_branch(world, agent, branch)
    for number, branch in enumerate(world.model.branches):
        compare_past(world, world.agents[number % len(world.agents)], branch)
    report = world.memory(world.agents[0]).verify()
    assert report.ok, report


def compare_records(world: World, caller: Caller) -> None:
    """Compare branches, tags, conflicts, pull requests and timelines as a caller sees them."""
    model, memory = world.model, caller.memory
    model.tick(world.session.now, caller.principal)
    compare_branches(world, caller)
    agree(
        list(map(seen_conflict, memory.conflicts(status=None))),
        [foretold_conflict(one, model) for one in list_conflicts(model, caller.agent, None, None)],
    )
    branch = list(model.branches)[world.session.steps % len(model.branches)]
    if model.may(branch):
        stored = list_conflicts(model, caller.agent, branch, "open")
        agree([one.id for one in memory.conflicts(branch)], [one.number for one in stored])
    agree(
        [(one.name, one.branch, one.seq, one.created_by) for one in memory.tags()],
        [(one.name, one.branch, one.seq, one.agent) for one in list_tags(model, caller.agent)],
    )
    agree(
        list(map(seen_pull, memory.pull_requests())),
        [foretold_pull(one, model) for one in list_pulls(model, caller.agent)],
    )
    if not model.may(memory.branch):
        return
    events = list(map(seen_event, memory.timeline(limit=10_000)))
    agree(events, list(map(foretold_event, model.timeline(caller.agent, agent=caller.agent))))


def compare_branches(world: World, caller: Caller) -> None:
    """Compare the branches that a caller is shown."""
    model = world.model
    shown = [(one.name, one.parent, one.fork_seq, one.status.value) for one in caller.memory.branches()]
    expected = [
        (
            one.name, one.parent and name_of(model, one.parent), one.fork if one.parent else None,
            "open" if one.is_open else "closed",
        )
        for one in model.branches.values()
        if model.may(one.name)
    ]  # fmt: skip
    agree(shown, expected)


def compare_guest(world: World, caller: Caller) -> None:
    """Compare what a guest is shown."""
    model = world.model
    model.tick(world.session.now, caller.principal)
    if not model.access.is_valid(caller.agent, model.clock):
        return
    compare_records(world, caller)
    for branch in filter(model.may, model.branches):
        listed = list(map(seen, caller.memory.list(branch=branch)))
        agree(listed, [foretold(one, model) for one in model.list(caller.agent, branch)])
        events = list(map(seen_event, caller.memory.timeline(branch=branch, limit=10_000)))
        agree(events, list(map(foretold_event, model.timeline(caller.agent, branch=branch))))


def compare_after_keys(world: World, agent: str, branch: str, at: int) -> None:
    """Compare the entries of each path whose keys sort after one, now and in the past."""
    model, memory = world.model, world.memory(agent)
    for moment, seq in ((None, None), (at, model.seq_of(branch, at))):
        standing = model.list(agent, branch, seq)
        for path, key in {(one.slot[1], one.slot[2]) for one in standing}:
            listed = list(map(seen, memory.list(path, after_key=key, branch=branch, at=moment)))
            after = [one for one in standing if one.slot[1] == path and one.slot[2] > key]
            agree(listed, [foretold(one, model) for one in after])


def compare_past(world: World, agent: str, branch: str) -> None:
    """Compare what an agent sees of a branch's past."""
    model, memory = world.model, world.memory(agent)
    model.tick(world.session.now)
    at = model.log.seq // 2
    listed = list(map(seen, memory.list(branch=branch, at=at)))
    agree(listed, [foretold(one, model) for one in model.list(agent, branch, model.seq_of(branch, at))])
    compare_after_keys(world, agent, branch, at)
    slots = [slot for slot in model.view(branch) if slot[0] in (None, agent)]
    versions = sorted((one for slot in slots for one in model.history(slot, branch)), key=by_seq)
    agree(list(map(seen, memory.list(branch=branch, include_superseded=True))), foretold_all(versions, model))
    for path, key in product({slot[1] for slot in slots}, {slot[2] for slot in slots}):
        history = list(map(seen, memory.history(path, key, branch=branch)))
        agree(history, foretold_all(model.history_of(agent, branch, path, key), model))
    events = list(map(seen_event, memory.timeline(branch=branch, limit=10_000)))
    agree(events, list(map(foretold_event, model.timeline(agent, branch=branch))))


def by_seq(version: Version) -> int:
    """Sort versions by age."""
    return version.seq
