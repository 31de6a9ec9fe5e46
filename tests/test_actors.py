"""Actors: whoever acts in a run has a handle of their own, one run for all of them, and what is idle is closed."""

from __future__ import annotations

import pytest

from amfs import AgentMemory, AsyncAgentMemory
from amfs.errors import HandleClosedError
from amfs.frameworks.actors import Actors, Caller


@pytest.fixture
def memory(tmp_path):
    with AgentMemory("desk", tmp_path / "amfs.db") as memory:
        yield memory


@pytest.fixture
def actors(memory):
    return Actors(AsyncAgentMemory(memory), limit=2)


def is_open(actor):
    try:
        actor.memory.read("a", "b")
    except HandleClosedError:
        return False
    return True


def test_without_an_agent_and_a_run_it_is_the_memory_itself(memory, actors):
    with actors.acting(Caller()) as actor:
        assert actor.memory is memory
        assert memory.current_run is None


def test_the_agents_of_a_run_share_it(memory, actors):
    memory.write("tea", "colour", "green")
    for agent in ("ann", "bob", "ann"):
        with actors.acting(Caller(agent, "r1", thread_id="t", task="tasting", metadata={"framework": "none"})) as actor:
            assert actor.memory.agent_id == agent
            assert memory.current_run.run_id == "r1"
            assert (memory.current_run.thread_id, memory.current_run.metadata) == ("t", {"framework": "none"})
            actor.memory.read("tea", "colour")
    actors.close()
    reads = memory.timeline(event_type="cross_agent_read")
    assert [(event.actor, event.run_id, event.details["task"]) for event in reads] == [
        ("bob", "r1", "tasting"),
        ("ann", "r1", "tasting"),
    ]
    outcome = memory.commit_outcome("o", "success", run_id="r1")
    assert [cause.entry.entry_key for cause in outcome.causes] == ["tea/colour"]


def test_a_run_that_the_caller_opened_is_joined(memory, actors):
    with memory.run("mine"), actors.acting(Caller("ann", "r1")):
        assert memory.current_run.run_id == "mine"


def test_a_memory_follows_the_branch_of_the_one_it_comes_from(memory, actors):
    memory.create_branch("idea")
    with actors.memory(Caller("ann")) as ann:
        assert ann.branch == "main"
    memory.switch_branch("idea")
    with actors.memory(Caller("ann")) as ann:
        assert (ann.agent_id, ann.branch) == ("ann", "idea")
    with actors.memory(Caller("ann"), "main") as ann:
        assert ann.branch == "main"


def test_those_beyond_the_limit_are_closed_unless_they_are_in_use(actors):
    made = {}
    with actors.acting(Caller("busy")) as busy:
        for name in ("one", "two", "three"):
            with actors.acting(Caller(name)) as made[name]:
                pass
        with actors.memory(Caller("four")):
            assert [is_open(actor) for actor in made.values()] == [False, False, True]
            assert is_open(busy)
    assert actors.crowded
    actors.retire()
    assert not actors.crowded


async def test_closed_while_in_use_they_are_closed_with_the_last_user(memory, actors):
    with actors.acting(Caller("busy", "r1")) as busy:
        with actors.acting(Caller("idle", "r1")) as idle:
            pass
        await actors.aclose()
        assert not is_open(idle)
        assert is_open(busy)
    assert not is_open(busy)
    with actors.acting(Caller("late", "r1")) as late:
        assert is_open(late)
    assert not is_open(late)
    assert memory.stats().entries == 0
