"""Runs, sessions and their read sets; reads of other agents' entries."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amfs import (
    AgentMemory,
    AsyncAgentMemory,
    Delete,
    EntryNotFoundError,
    Event,
    Find,
    Get,
    InvalidInputError,
    ListPaths,
    Put,
    ReadOnlyDatabaseError,
    RunNotFoundError,
    StaleWriteError,
)

P, K = "svc", "config"
OpenMemory = Callable[..., AgentMemory]


def reads(memory: AgentMemory, **query: Any) -> list[Event]:
    """Return all cross-agent reads, oldest first."""
    return memory.timeline(agent_id="*", event_type="cross_agent_read", limit=1000, **query)[::-1]


def judged(memory: AgentMemory, ref: str, **options: Any) -> list[tuple[str, Any]]:
    """Commit an outcome of what was read and return what it judged."""
    return [(cause.entry.key, cause.entry.value) for cause in memory.commit_outcome(ref, "failure", **options).causes]


# --- reads across agents ---------------------------------------------------------------------------------------------

READS: dict[str, tuple[Callable[[AgentMemory], Any], int]] = {
    "read": (lambda bob: bob.read(P, K), 1),
    "read_many": (lambda bob: bob.read_many([(P, K)]), 1),
    "read_from": (lambda bob: bob.read_from("alice", P, K), 1),
    "past": (lambda bob: bob.read(P, K, at=1), 1),
    "get": (lambda bob: bob.apply([Get(entity_path=P, key=K)]), 1),
    "get beside a write": (lambda bob: bob.apply([Get(entity_path=P, key=K), Put(entity_path=P, key="b", value=1)]), 1),
    "find": (lambda bob: bob.apply([Find(entity_path=P)]), 1),
    "brief": (lambda bob: bob.brief(P), 1),
    "branch": (lambda bob: bob.read(P, K, branch="x"), 1),
    "paths": (lambda bob: bob.apply([ListPaths()]), 0),
    "list": (lambda bob: bob.list(), 0),
    "history": (lambda bob: bob.history(P, K), 0),
    "compare": (lambda bob: bob.compare_versions(P, K), 0),
    "diff": (lambda bob: bob.diff_branch("x"), 0),
    "timeline": (lambda bob: bob.timeline(agent_id="alice"), 0),
    "absent": (lambda bob: bob.read(P, "absent"), 0),
    "below": (lambda bob: bob.read(P, K, min_confidence=0.9), 0),
}


@pytest.mark.parametrize("name", READS)
def test_reading_is_recorded_once_per_version_and_inspection_is_not(mem: AgentMemory, name: str) -> None:
    read, events = READS[name]
    bob = mem.as_agent("bob")
    entry = mem.write(P, K, 1, confidence=0.5)
    mem.create_branch("x")
    for _ in range(3):
        read(bob)
    found = reads(mem)
    assert [(event.agent_id, event.actor, event.details["seq"]) for event in found] == [
        ("alice", "bob", entry.seq),
    ] * events  # fmt: skip
    assert [event.branch for event in found] == ["x" if name == "branch" else "main"] * events
    assert judged(bob, "ref") == [(K, 1)] * events


def test_a_new_version_a_new_run_and_a_new_reader_are_recorded_anew(mem: AgentMemory) -> None:
    bob, carol = mem.as_agent("bob"), mem.as_agent("carol")
    mem.write(P, K, 1)
    bob.read(P, K)
    mem.write(P, K, 1)
    bob.read(P, K)
    with mem.run("r"):
        for _ in range(2):
            for reader in (mem, bob, carol):
                reader.read(P, K)
    assert [(event.actor, event.details["version"], event.run_id) for event in reads(mem)] == [
        ("bob", 1, None), ("bob", 2, None), ("bob", 2, "r"), ("carol", 2, "r"),
    ]  # fmt: skip


def test_one_event_per_owner_and_call(mem: AgentMemory) -> None:
    bob, carol = mem.as_agent("bob"), mem.as_agent("carol")
    seqs = [agent.write(P, f"{agent.agent_id} {number}", 1).seq for number in (1, 2) for agent in (mem, bob, carol)]
    keys = [(P, f"{name} {number}") for number in (1, 2) for name in ("alice", "bob", "carol")]
    carol.read_many([*keys, (P, "absent"), keys[0]])
    first, second = reads(mem)
    assert (first.agent_id, second.agent_id, first.actor) == ("alice", "bob", "carol")
    assert [one["seq"] for one in first.details["entries"]] == [seqs[0], seqs[3]]
    assert first.details["entries"][1] == {
        "entity": f"{P}/alice 2", "entity_path": P, "key": "alice 2", "version": 1, "seq": seqs[3],
    }  # fmt: skip
    assert (first.details["reader_agent"], first.details["key"]) == ("carol", "alice 1")
    assert first.summary == f"carol read alice's {P}/alice 1 v1 and 1 other"


def test_the_author_counts_not_the_committer(mem: AgentMemory) -> None:
    bob = mem.as_agent("bob")
    mem.write(P, K, 1)
    bob.commit_outcome("ref", "success", [(P, K)])
    entry = bob.read(P, K)
    assert (entry.agent_id, entry.committed_by) == ("alice", "bob")
    mem.read(P, K)
    assert [(event.agent_id, event.actor) for event in reads(mem)] == [("alice", "bob")]


def test_reads_of_a_closed_branch_are_recorded(mem: AgentMemory) -> None:
    mem.create_branch("x")
    mem.write(P, K, 1, branch="x")
    mem.close_branch("x")
    assert mem.as_agent("bob").read(P, K, branch="x").value == 1
    assert [event.branch for event in reads(mem)] == ["x"]


def test_what_a_failed_batch_read_is_recorded_when_it_is_read_again(mem: AgentMemory) -> None:
    bob = mem.as_agent("bob")
    mem.write(P, K, 1)
    with pytest.raises(StaleWriteError):
        bob.apply([Get(entity_path=P, key=K), Put(entity_path=P, key="b", value=1, expected_version=9)])
    assert reads(mem) == []
    bob.read(P, K)
    assert len(reads(mem)) == 1


def test_read_from_returns_an_agents_own_newest_version(mem: AgentMemory) -> None:
    bob = mem.as_agent("bob")
    mem.write(P, K, "a1")
    mem.write(P, K, "a2")
    bob.write(P, K, "b")
    mem.create_branch("x")
    mem.write(P, K, "a3")
    assert (bob.read_from("alice", P, K).value, bob.read_from("alice", P, K, branch="x").value) == ("a3", "a2")
    found = mem.read_from("bob", P, K)
    assert (found.value, found.superseded, found.agent_id) == ("b", True, "bob")
    bob.delete(P, K)
    assert mem.read_from("alice", P, K).value == "a3", "what another deleted since was still hers"
    mem.write(P, K, "a4")
    mem.delete(P, K)
    assert bob.read_from("alice", P, K) is None, "her own newest is a deletion"


# --- when reads are recorded -----------------------------------------------------------------------------------------


def test_read_events_off_records_none_and_still_knows_what_was_read(open_memory: OpenMemory) -> None:
    mem = open_memory(read_events="off")
    mem.write(P, K, 1)
    bob = mem.as_agent("bob")
    bob.read(P, K)
    assert judged(bob, "ref") == [(K, 1)]
    assert reads(mem) == []
    assert mem.stats().read_events == "off"


@pytest.mark.parametrize("then", ["write", "outcome", "close", "owner closes"])
def test_batched_reads_are_recorded_with_what_comes_next(open_memory: OpenMemory, then: str) -> None:
    open_memory("carol").write(P, "c", 1)
    mem = open_memory(read_events="batched")
    bob, other = mem.as_agent("bob"), open_memory("zoe")
    mem.write(P, K, 1)
    mem.write(P, "second", 1)
    mem.create_branch("x")
    for _ in range(2):
        bob.read(P, K, branch="x")
        bob.read(P, "second", branch="x")
        bob.read(P, "c", branch="x")
    assert reads(other) == []
    if then == "write":
        bob.write("b", "b", 1)
    elif then == "outcome":
        bob.commit_outcome("ref", "success")
    elif then == "close":
        bob.close()
    else:
        mem.close()
    found = reads(other)
    assert [(event.actor, event.agent_id, event.branch) for event in found] == [
        ("bob", "alice", "x"), ("bob", "carol", "x"),
    ]  # fmt: skip
    assert [one["key"] for one in found[0].details["entries"]] == [K, "second"]
    assert {event.details["reader_agent"] for event in found} == {"bob"}


def test_batched_reads_of_a_run_stand_under_each_reader(open_memory: OpenMemory) -> None:
    mem = open_memory(read_events="batched")
    bob = mem.as_agent("bob")
    mem.write(P, K, 1)
    bob.write(P, "b", 1)
    with mem.run("r"):
        bob.read(P, K)
        mem.read(P, "b")
        assert reads(mem) == []
    assert sorted((event.actor, event.agent_id, event.run_id) for event in reads(mem)) == [
        ("alice", "bob", "r"), ("bob", "alice", "r"),
    ]  # fmt: skip


def test_what_a_handle_read_is_kept_when_the_handle_is_gone(open_memory: OpenMemory) -> None:
    mem = open_memory(read_events="batched")
    mem.write(P, K, 1)
    mem.as_agent("bob").read(P, K)
    gc.collect()
    mem.close()
    assert [event.actor for event in reads(open_memory())] == ["bob"]


def test_a_read_only_database_can_be_read_and_says_that_events_are_off(open_memory: OpenMemory, database: Path) -> None:
    mem = open_memory()
    entry = mem.write(P, K, 1)
    mem.close()
    with AgentMemory("bob", f"file:{database}?mode=ro") as bob:
        assert (bob.read(P, K), bob.list()) == (entry, [entry])
        stats = bob.stats()
        assert (stats.read_only, stats.read_events, len(bob.timeline(agent_id="*"))) == (True, "off", 1)
        assert any("read" in note for note in stats.notes)
        for act in (lambda: bob.write(P, K, 2), lambda: bob.commit_outcome("r", "success"), lambda: bob.delete(P, K)):
            with pytest.raises(ReadOnlyDatabaseError):
                act()
    assert reads(open_memory()) == []


# --- runs ------------------------------------------------------------------------------------------------------------


def test_what_happens_in_a_run_carries_its_id(mem: AgentMemory) -> None:
    assert mem.current_run is None
    with mem.run("outer", thread_id="t", metadata={"model": "x"}) as outer:
        assert mem.current_run is outer
        with mem.run() as inner:
            assert mem.write(P, K, 1).run_id == inner.run_id != "outer"
        assert mem.as_agent("bob").write(P, K, 2).run_id == "outer"
        assert mem.record_context("a", "b").run_id == "outer"
        with outer.attached():
            assert mem.current_run is outer
    assert mem.current_run is None
    entry = mem.write(P, K, 3)
    assert (entry.run_id, entry.session_id) == (None, mem.session_id)
    assert [event.run_id for event in mem.timeline(agent_id="*")][:3] == [None, "outer", "outer"]


def test_what_is_written_in_a_step_of_a_run_names_it(mem: AgentMemory) -> None:
    with mem.run() as run:
        with run.attached("step 1"):
            mem.write(P, K, 1)
            mem.apply([Put(entity_path=P, key=K, value=2), Delete(entity_path=P, key="other")])
            with mem.transaction("because") as tx:
                tx.write(P, K, 3)
            mem.delete(P, K)
        mem.write(P, K, 4)
    told = [(event.details.get("task"), event.details.get("message")) for event in mem.timeline()]
    assert told == [(None, None), ("step 1", None), ("step 1", "because"), ("step 1", None), ("step 1", None)]


@pytest.mark.parametrize(
    "options",
    [{"run_id": ""}, {"thread_id": ""}, {"metadata": {"a": object()}}],
    ids=["run_id", "thread_id", "metadata"],
)
def test_a_run_that_cannot_be_stored_is_refused(mem: AgentMemory, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        mem.run(**options)


def test_the_read_set_of_a_run_is_what_was_read_inside(mem: AgentMemory) -> None:
    for key in ("before", "inside", "nested", "after"):
        mem.write(P, key, 1)
    mem.read(P, "before")
    with mem.run("r"):
        mem.read(P, "inside")
        with mem.run("n"):
            mem.read(P, "nested")
        mem.write(P, "written", 1)
        mem.list()
    mem.read(P, "after")
    assert judged(mem, "one", run_id="r") == [("inside", 1)]
    assert judged(mem, "two", run_id="n") == [("nested", 1)]
    assert judged(mem, "three") == [("before", 1), ("after", 1)]


def test_a_run_is_known_by_its_id_while_it_lives_and_when_it_is_over(mem: AgentMemory) -> None:
    mem.write(P, K, 1)
    mem.write(P, "late", 1)
    with mem.run("r"):
        mem.read(P, K)
        assert judged(mem.as_agent("judge"), "one", run_id="r") == [(K, 1)]
        mem.read(P, "late")
    assert judged(mem.as_agent("judge"), "two", run_id="r") == [("late", 1)]
    with mem.run("idle"):
        pass
    gc.collect()
    assert judged(mem, "three", run_id="idle") == []
    with pytest.raises(RunNotFoundError, match="never"):
        mem.commit_outcome("four", "success", run_id="never")


def test_a_run_left_by_an_exception_keeps_its_read_set(mem: AgentMemory) -> None:
    mem.write(P, K, 1)

    def fail() -> None:
        with mem.run("r"):
            mem.read(P, K)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert mem.current_run is None
    assert judged(mem, "ref", run_id="r") == [(K, 1)]


def test_a_run_of_several_sessions_is_judged_as_one(open_memory: OpenMemory) -> None:
    mem = open_memory()
    mem.write(P, "a", 1)
    mem.write(P, "b", 2)
    for key in ("a", "b"):
        with open_memory(session_id=f"session {key}") as other, other.run("r"):
            other.read(P, key)
    assert judged(mem, "ref", run_id="r") == [("a", 1), ("b", 2)]


def test_a_run_is_followed_on_its_own_database_and_namespace_only(open_memory: OpenMemory, tmp_path: Path) -> None:
    mem, same = open_memory(), open_memory("bob")
    elsewhere, team = open_memory(where=tmp_path / "other.db"), open_memory(namespace="team")
    with mem.run("r") as run:
        assert same.current_run is run
        assert (elsewhere.current_run, team.current_run) == (None, None)
        assert (elsewhere.write(P, K, 1).run_id, team.write(P, K, 1).run_id) == (None, None)
        assert same.write(P, K, 1).run_id == "r"


def test_two_sessions_of_one_agent_do_not_mix(open_memory: OpenMemory) -> None:
    one, two = open_memory(), open_memory()
    one.write(P, "a", 1)
    one.write(P, "b", 2)
    one.read(P, "a")
    two.read(P, "b")
    assert (judged(two, "two"), judged(one, "one")) == ([("b", 2)], [("a", 1)])


def test_live_runs_in_threads_do_not_mix(open_memory: OpenMemory) -> None:
    mem, barrier, found = open_memory(), threading.Barrier(3), {}
    for number in range(3):
        mem.write(P, f"k{number}", number)

    def work(number: int) -> None:
        with mem.run(f"r{number}"):
            barrier.wait(20)
            for _ in range(20):
                mem.read(P, f"k{number}")
            barrier.wait(20)
            found[number] = judged(mem, f"ref{number}")

    threads = [threading.Thread(target=work, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [(f"k{number}", number)] for number in range(3)}


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_live_runs_in_tasks_do_not_mix(open_memory: OpenMemory, kind: str) -> None:
    mem = open_memory()
    awaited = AsyncAgentMemory(mem)
    mem.as_agent("bob").apply([Put(entity_path=P, key=f"k{number}", value=number) for number in range(3)])

    async def work(number: int) -> list[tuple[str, Any]]:
        async with mem.run(f"r{number}"):
            for _ in range(5):
                await asyncio.sleep(0)
                if kind == "sync":
                    mem.read(P, f"k{number}")
                else:
                    await awaited.read(P, f"k{number}")
            return judged(mem, f"ref{number}")

    found = await asyncio.gather(*(work(number) for number in range(3)))
    assert found == [[(f"k{number}", number)] for number in range(3)]
    assert [event.run_id for event in reads(mem)].count("r1") == 1
    await awaited.close()


def test_a_thread_follows_a_run_if_it_copies_the_context(mem: AgentMemory) -> None:
    found: list[Any] = []

    def look() -> None:
        found.append(mem.current_run)

    with mem.run("r") as run:
        context = contextvars.copy_context()
        for target, arguments in ((look, []), (context.run, [look])):
            thread = threading.Thread(target=target, args=arguments)
            thread.start()
            thread.join()
    assert found == [None, run]


def test_a_run_that_ended_in_another_process_is_judged_by_its_id(open_memory: OpenMemory, database: Path) -> None:
    mem = open_memory()
    entry = mem.write(P, K, {"retries": 3}, confidence=0.5)
    script = f"""
from amfs import AgentMemory
with AgentMemory("worker", {str(database)!r}) as mem, mem.run("job-1"):
    print(mem.read({P!r}, {K!r}).value["retries"])
    mem.record_context("ticket", "from the other process")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("3\n", "")
    assert [(event.actor, event.run_id) for event in reads(mem)] == [("worker", "job-1")]
    outcome = mem.commit_outcome("INC-9", "failure", run_id="job-1")
    assert [(cause.entry.seq, cause.confidence_before, cause.confidence_after) for cause in outcome.causes] == [
        (entry.seq, 0.5, 0.25),
    ]  # fmt: skip
    assert [event.details["summary"] for event in mem.explain("INC-9").contexts] == ["from the other process"]


def test_a_failed_outcome_leaves_the_read_set_open(mem: AgentMemory) -> None:
    mem.write(P, K, 1)
    mem.read(P, K)
    with pytest.raises(EntryNotFoundError):
        mem.commit_outcome("one", "success", [(P, "absent")])
    assert judged(mem, "two") == [(K, 1)]
