"""AsyncAgentMemory: the same verbs with the same effect, and a loop that never waits for the database."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from amfs import (
    AgentMemory,
    AsyncAgentMemory,
    Delete,
    Durability,
    Experiment,
    Find,
    Get,
    HandleClosedError,
    InvalidInputError,
    Put,
    StaleWriteError,
)

P, K = "svc", "config"
OpenMemory = Callable[..., AgentMemory]

INSIDE = {"find", "find_many", "find_from", "find_batch", "record", "pending", "max_value_bytes"}
"""What the handle offers to AsyncAgentMemory and to transactions, and not to users."""


def public(kind: type) -> dict[str, Any]:
    return {name: member for name, member in inspect.getmembers(kind) if not name.startswith("_")}


def signature(member: Any) -> list[tuple[str, Any, Any]]:
    return [(one.name, one.kind, one.default) for one in inspect.signature(member).parameters.values()]


def test_every_verb_is_there_with_the_same_arguments() -> None:
    sync, awaited = public(AgentMemory), public(AsyncAgentMemory)
    assert set(sync) - INSIDE == set(awaited) - {"memory", "stop"}
    for name in set(sync) - INSIDE:
        if inspect.isfunction(sync[name]):
            assert signature(sync[name]) == signature(awaited[name]), name
        else:
            assert isinstance(awaited[name], property), name


async def test_an_experiment_offers_the_same_awaited(open_memory: OpenMemory) -> None:
    async with AsyncAgentMemory(open_memory()) as mem:
        awaited = mem.experiment("e")
    assert set(public(Experiment)) - {"start", "route", "unroute", "finish"} <= set(public(type(awaited)))


# --- the same effect -------------------------------------------------------------------------------------------------


def act(mem: AgentMemory) -> list[Any]:
    """Do a little of everything and return what it returned."""
    bob = mem.as_agent("bob")
    results: list[Any] = [
        mem.write(P, K, {"a": 1}, confidence=0.5, ttl=60, idempotency_key="t"),
        bob.read(P, K), bob.read_many([(P, K), "no/such"]), bob.read_from("alice", P, K),
        mem.apply([Put(entity_path=P, key="put", value=1), Get(entity_path=P, key=K)]),
        mem.apply([Find(filter={"a": 1}), Get(entity_path=P, key=K)]),
        mem.create_branch("x", "about"), mem.switch_branch("x"), mem.write(P, K, {"a": 2}), mem.switch_branch("main"),
        mem.branches(), mem.diff_branch("x"), mem.merge_branch("x", dry_run=True), mem.merge_branch("x"),
        mem.close_branch("x"), mem.record_context("label", "summary", "source"),
        bob.commit_outcome("ref", "failure", [(P, K)], causal_confidence=0.5, summary="s"), mem.explain("ref"),
        mem.delete(P, "put"), mem.list(P, include_superseded=True), mem.history(P, K, limit=1),
        mem.compare_versions(P, K), mem.timeline(agent_id="*"), mem.on_branch("x").read(P, K),
    ]  # fmt: skip
    results += review(mem, bob)
    with mem.transaction("why") as tx:
        results += [tx.write(P, "tx", 1), tx.read(P, "tx"), tx.delete(P, K), tx.read(P, K)]
    with mem.run("r", thread_id="t"):
        results.append(mem.write(P, "run", 1))
    with mem.experiment("e", params={"n": 1}) as exp:
        mem.write(P, "exp", 1)
        exp.log(score=1)
    return [*results, exp.merge(), mem.experiments(), mem.compare("e").rows, mem.timeline(agent_id="*"), mem.verify()]


async def act_awaited(mem: AsyncAgentMemory) -> list[Any]:
    """Do the same, awaited."""
    bob = mem.as_agent("bob")
    results: list[Any] = [
        await mem.write(P, K, {"a": 1}, confidence=0.5, ttl=60, idempotency_key="t"),
        await bob.read(P, K), await bob.read_many([(P, K), "no/such"]), await bob.read_from("alice", P, K),
        await mem.apply([Put(entity_path=P, key="put", value=1), Get(entity_path=P, key=K)]),
        await mem.apply([Find(filter={"a": 1}), Get(entity_path=P, key=K)]),
        await mem.create_branch("x", "about"), await mem.switch_branch("x"), await mem.write(P, K, {"a": 2}),
        await mem.switch_branch("main"),
        await mem.branches(), await mem.diff_branch("x"), await mem.merge_branch("x", dry_run=True),
        await mem.merge_branch("x"),
        await mem.close_branch("x"), await mem.record_context("label", "summary", "source"),
        await bob.commit_outcome("ref", "failure", [(P, K)], causal_confidence=0.5, summary="s"),
        await mem.explain("ref"),
        await mem.delete(P, "put"), await mem.list(P, include_superseded=True), await mem.history(P, K, limit=1),
        await mem.compare_versions(P, K), await mem.timeline(agent_id="*"), await mem.on_branch("x").read(P, K),
    ]  # fmt: skip
    results += await review_awaited(mem, bob)
    async with mem.transaction("why") as tx:
        results += [
            await tx.write(P, "tx", 1), await tx.read(P, "tx"), await tx.delete(P, K), await tx.read(P, K),
        ]  # fmt: skip
    async with mem.run("r", thread_id="t"):
        results.append(await mem.write(P, "run", 1))
    async with mem.experiment("e", params={"n": 1}) as exp:
        await mem.write(P, "exp", 1)
        await exp.log(score=1)
    return [
        *results, await exp.merge(), await mem.experiments(), (await mem.compare("e")).rows,
        await mem.timeline(agent_id="*"), await mem.verify(),
    ]  # fmt: skip


def review(mem: AgentMemory, bob: AgentMemory) -> list[Any]:
    """Tag, pick, merge by hand, review, roll back and fork, and return what that returned."""
    results: list[Any] = [mem.create_tag("v1", "about"), mem.create_branch("y"), bob.write(P, "y", "y", branch="y")]
    results += [bob.cherry_pick("y", [(P, "y")], dry_run=True), bob.cherry_pick("y", [(P, "y")]), mem.write(P, "y", 2)]
    results += [bob.write(P, "y", 3, branch="y"), mem.create_pull_request("t", "y", description="d")]
    results += [bob.review_pull_request(1, "approved", "fine"), mem.merge_pull_request(1, dry_run=True)]
    results += [mem.merge_pull_request(1, strategy="manual"), mem.conflicts("y"), mem.resolve_conflict(1, value=None)]
    results += [mem.create_branch("z"), mem.create_pull_request("u", "z"), mem.close_pull_request(2)]
    results += [mem.pull_requests(), mem.conflicts(status=None), mem.tags(), mem.read_many([(P, K)], at="v1")]
    results += [mem.rollback(tag_name="v1", dry_run=True), mem.rollback(tag_name="v1", include_others=True)]
    results += [mem.grant_branch_access("z", "team", "t", "read"), mem.branch_access("z")]
    results += [mem.revoke_branch_access("z", "team", "t"), mem.blame(P, K), mem.api_keys()]
    results += [mem.brief(P, writer=str.upper), bob.brief(), bob.brief(P, "alice", limit=1, branch="y")]
    return [*results, mem.delete_tag("v1"), bob.fork("carol")]


async def review_awaited(mem: AsyncAgentMemory, bob: AsyncAgentMemory) -> list[Any]:
    """Do the same, awaited."""
    calls = [
        mem.create_tag("v1", "about"), mem.create_branch("y"), bob.write(P, "y", "y", branch="y"),
        bob.cherry_pick("y", [(P, "y")], dry_run=True), bob.cherry_pick("y", [(P, "y")]), mem.write(P, "y", 2),
        bob.write(P, "y", 3, branch="y"), mem.create_pull_request("t", "y", description="d"),
        bob.review_pull_request(1, "approved", "fine"), mem.merge_pull_request(1, dry_run=True),
        mem.merge_pull_request(1, strategy="manual"), mem.conflicts("y"), mem.resolve_conflict(1, value=None),
        mem.create_branch("z"), mem.create_pull_request("u", "z"), mem.close_pull_request(2),
        mem.pull_requests(), mem.conflicts(status=None), mem.tags(), mem.read_many([(P, K)], at="v1"),
        mem.rollback(tag_name="v1", dry_run=True), mem.rollback(tag_name="v1", include_others=True),
        mem.grant_branch_access("z", "team", "t", "read"), mem.branch_access("z"),
        mem.revoke_branch_access("z", "team", "t"), mem.blame(P, K), mem.api_keys(),
        mem.brief(P, writer=str.upper), bob.brief(), bob.brief(P, "alice", limit=1, branch="y"),
        mem.delete_tag("v1"), bob.fork("carol"),
    ]  # fmt: skip
    return [await call for call in calls]


async def test_a_merge_function_runs_off_the_loop(open_memory: OpenMemory) -> None:
    seen: list[bool] = []

    def decide(_base: Any, source: Any, target: Any) -> Any:
        seen.append(threading.current_thread() is threading.main_thread())
        alice.write(P, "by the function", 1)
        return [source, target]

    alice = open_memory()
    async with AsyncAgentMemory(alice) as mem:
        await mem.create_branch("x")
        for branch in ("x", "main"):
            await mem.write(P, K, branch, branch=branch)
        pr = await mem.create_pull_request("t", "x")
        assert (await mem.merge_pull_request(pr.id, strategy=decide)).merged_entries == 1
        assert ((await mem.read(P, K)).value, seen) == (["x", "main"], [False])


def plain(result: Any) -> Any:
    """Return a result as data, without the random names of sessions."""
    if isinstance(result, list):
        return [plain(one) for one in result]
    data = result.model_dump() if hasattr(result, "model_dump") else result

    def strip(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: strip(value) for name, value in item.items() if name != "session_id"}
        return [strip(one) for one in item] if isinstance(item, list | tuple) else item

    return strip(data)


async def test_the_same_calls_have_the_same_results(open_memory: OpenMemory, tmp_path: Path) -> None:
    sync = act(open_memory(where=tmp_path / "sync.db"))
    async with AsyncAgentMemory(open_memory(where=tmp_path / "async.db")) as mem:
        awaited = await act_awaited(mem)
    for one, other in zip(sync, awaited, strict=True):
        assert plain(one) == plain(other)


async def test_errors_are_the_same(open_memory: OpenMemory) -> None:
    async with AsyncAgentMemory(open_memory()) as mem:
        await mem.write(P, K, 1)
        for attempt, error in (
            (mem.write(P, K, 2, expected_version=9), StaleWriteError),
            (mem.write(P, K, object()), InvalidInputError),
            (mem.apply([Delete(entity_path="", key=K)]), InvalidInputError),
            (mem.read(P, ""), InvalidInputError),
        ):
            with pytest.raises(error):
                await attempt

        async def abandon() -> None:
            async with mem.transaction() as tx:
                await tx.write(P, "tx", 1)
                raise KeyError

        with pytest.raises(KeyError):
            await abandon()
        assert [entry.key for entry in await mem.list()] == [K]


# --- reads of other agents -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["read", "read_many", "read_from", "get", "put", "transaction"])
async def test_reading_another_agents_entry_is_recorded_before_the_value_is_there(
    open_memory: OpenMemory, verb: str
) -> None:
    alice = open_memory()
    alice.write(P, K, 1)
    async with AsyncAgentMemory("bob", alice.database, durability="normal") as mem:
        get = Get(entity_path=P, key=K)
        for _ in range(2):
            async with mem.run("r"):
                if verb == "transaction":
                    async with mem.transaction() as tx:
                        await tx.read(P, K)
                else:
                    await {
                        "read": lambda: mem.read(P, K),
                        "read_many": lambda: mem.read_many([(P, K)]),
                        "read_from": lambda: mem.read_from("alice", P, K),
                        "get": lambda: mem.apply([get, get]),
                        "put": lambda: mem.apply([get, Put(entity_path=P, key="new", value=1)]),
                    }[verb]()
                events = alice.timeline(event_type="cross_agent_read")
                assert (events[0].actor, events[0].run_id, events[0].details["key"]) == ("bob", "r", K)
        outcome = await mem.commit_outcome("ref", "failure", run_id="r")
        assert [cause.entry.key for cause in outcome.causes] == [K]


# --- the loop --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", Durability)
async def test_the_loop_goes_on_while_a_write_waits_for_the_database(
    open_memory: OpenMemory, durability: Durability
) -> None:
    mem = open_memory(durability=durability)
    mem.write(P, K, 1)
    other = sqlite3.connect(mem.database, isolation_level=None)
    async with AsyncAgentMemory(mem) as awaited:
        other.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.create_task(awaited.write(P, K, number)) for number in (2, 3)]
        for _ in range(200):
            await asyncio.sleep(0)
            assert (await awaited.read(P, K)).value == 1
            assert len(await awaited.list()) == 1
        assert not any(task.done() for task in waiting)
        other.execute("ROLLBACK")
        other.close()
        assert [entry.version for entry in await asyncio.gather(*waiting)] == [2, 3]


@pytest.mark.parametrize("durability", Durability)
async def test_the_loop_goes_on_while_a_write_waits_for_its_turn(
    open_memory: OpenMemory, durability: Durability
) -> None:
    mem, other = open_memory(durability=durability), open_memory("other", durability=durability)
    mem.write(P, K, 1)
    async with AsyncAgentMemory(mem) as awaited:
        with other._storage.writing():
            waiting = [asyncio.create_task(awaited.write(P, K, number)) for number in (2, 3)]
            for _ in range(200):
                await asyncio.sleep(0)
                assert (await awaited.read(P, K)).value == 1
            assert not any(task.done() for task in waiting)
        assert [entry.version for entry in await asyncio.gather(*waiting)] == [2, 3]


class Threads:
    """A clock that keeps in which threads it was asked."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self) -> int:
        self.names.append(threading.current_thread().name.partition("_")[0])
        return time.time_ns() // 1000


CALLS: dict[str, Callable[[AsyncAgentMemory, int], Awaitable[object]]] = {
    "write": lambda mem, number: mem.write(P, K, number),
    "delete": lambda mem, number: mem.delete(P, str(number)),
    "apply": lambda mem, number: mem.apply([Put(entity_path=P, key=K, value=number)]),
    "read": lambda mem, number: mem.read(P, str(number)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_what_needs_no_sync_is_written_at_once_but_now_and_then(
    open_memory: OpenMemory, call: Callable[[AsyncAgentMemory, int], Awaitable[object]]
) -> None:
    open_memory("other").apply([Put(entity_path=P, key=str(number), value=number) for number in range(400)])
    threads = Threads()
    async with AsyncAgentMemory(open_memory(clock=threads)) as mem:
        for number in range(400):
            await call(mem, number)
    assert threads.names.count("MainThread") >= 400 - 2
    assert 1 <= threads.names.count("amfs-writer") <= 2, "the log is written back there"


async def test_what_is_synced_or_large_never_holds_the_loop_up(open_memory: OpenMemory) -> None:
    for durability, count in (("full", 1), ("normal", 50)):
        threads = Threads()
        async with AsyncAgentMemory(open_memory(clock=threads, durability=durability)) as mem:
            threads.names.clear()
            await mem.apply([Put(entity_path=P, key=str(number), value=number) for number in range(count)])
            assert set(threads.names) == {"amfs-writer"}


@pytest.mark.parametrize("durability", Durability)
async def test_many_tasks_lose_nothing(open_memory: OpenMemory, durability: Durability) -> None:
    async with AsyncAgentMemory(open_memory(durability=durability)) as mem:
        entries = await asyncio.gather(*(mem.write(P, K, number) for number in range(50)))
        assert sorted(entry.version for entry in entries) == list(range(1, 51))
        assert len(await mem.history(P, K)) == 50


async def test_a_resolver_runs_off_the_loop_with_the_callers_context_and_may_use_the_memory(
    open_memory: OpenMemory,
) -> None:
    seen: list[Any] = []

    def resolve(existing: Any, _: Any, value: Any) -> Any:
        seen.append((threading.current_thread() is threading.main_thread(), alice.current_run.run_id))
        alice.write(P, "by resolver", 1)
        return existing.value + value

    alice = open_memory(on_conflict=resolve, durability="normal")
    async with AsyncAgentMemory(alice) as mem:
        await mem.write(P, K, 1)
        open_memory("bob").write(P, K, 10)
        async with mem.run("r"):
            entry = await mem.write(P, K, 100)
    assert (entry.value, entry.run_id, seen) == (110, "r", [(False, "r")])
    assert alice.read(P, "by resolver").run_id == "r"


async def test_a_cancelled_write_leaves_the_memory_usable(open_memory: OpenMemory) -> None:
    alice = open_memory()
    other = sqlite3.connect(alice.database, isolation_level=None)
    async with AsyncAgentMemory(alice) as mem:
        other.execute("BEGIN IMMEDIATE")
        task = asyncio.create_task(mem.write(P, K, 1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        other.execute("ROLLBACK")
        other.close()
        entry = await mem.write(P, K, 2)
        assert (await mem.read(P, K), entry.value) == (entry, 2)


async def test_closing_releases_what_was_opened_and_no_more(open_memory: OpenMemory, database: Path) -> None:
    alice, before = open_memory(), set(threading.enumerate())
    async with AsyncAgentMemory(alice) as mem:
        await mem.write(P, K, 1)
    assert alice.read(P, K).value == 1
    owned = AsyncAgentMemory("bob", database, durability="normal")
    await owned.write(P, K, 2)
    await owned.close()
    await owned.close()
    with pytest.raises(HandleClosedError):
        await owned.read(P, K)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive(), "the writer thread is gone"
