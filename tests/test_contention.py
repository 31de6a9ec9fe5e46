"""Several writers at once, in processes, threads, forks and tasks: no error, no lost update, no stuck lock."""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amfs import AgentMemory, AsyncAgentMemory
from amfs.errors import ContentionError, DatabaseBusyError, StaleWriteError
from amfs.models import ConflictPolicy
from tests import helpers_contention as children
from tests.helpers_processes import Child, run_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amfs.models import Entry

AGENTS = ("ada", "ben", "cleo", "dan")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A path for a database."""
    return tmp_path / "memory.db"


@pytest.fixture
def mem(database: Path) -> Iterator[AgentMemory]:
    """An open handle on it."""
    with AgentMemory("ada", database) as handle:
        yield handle
    with AgentMemory("auditor", database) as handle:
        report = handle.verify()
        assert report.ok, report


def numbers(mem: AgentMemory, key: str = "key") -> list[int]:
    """Return the version numbers of a shared key, oldest first."""
    return [entry.version for entry in mem.history("shared", key)]


# --- processes -------------------------------------------------------------------------------------------------------


def test_four_processes_write_one_key_and_every_write_is_a_version(mem: AgentMemory, database: Path) -> None:
    got = run_all(children.write_often, [(database, agent, 150) for agent in AGENTS])
    assert all(mine == sorted(mine) for mine in got)
    assert sorted(chain.from_iterable(got)) == list(range(1, 601))
    assert numbers(mem) == list(range(1, 601))
    for agent in AGENTS:
        values = [entry.value for entry in mem.history("shared", "key") if entry.agent_id == agent]
        assert values == [[agent, number] for number in range(150)]
    assert len(mem.timeline(agent_id="*", event_type="write", limit=1000)) == 600


def test_a_counter_kept_by_compare_and_set_loses_no_update(mem: AgentMemory, database: Path) -> None:
    run_all(children.count_up, [(database, agent, 40) for agent in AGENTS])
    entry = mem.read("shared", "counter")
    assert entry is not None
    assert (entry.value, entry.version) == (160, 160)


def test_eight_processes_count_up_beside_merges_and_rollbacks(mem: AgentMemory, database: Path) -> None:
    mem.write("shared", "counter", 0)
    mem.create_branch("side")
    mem.create_tag("begin", branch="side")
    done: list[children.Work] = run_all(children.count_up_beside_merges, [(database, n, 20) for n in range(8)])
    versions = mem.history("shared", "counter")
    assert [(entry.value, entry.version) for entry in versions] == [(n, n + 1) for n in range(161)]
    assert [work.counted for work in done] == [20] * 8
    for event_type, count in (
        ("branch_merged", sum(work.merges for work in done)),
        ("rollback", sum(work.rollbacks for work in done)),
    ):
        assert len(mem.timeline(branch="side", agent_id="*", event_type=event_type, limit=1000)) == count > 0
    side = [entry.version for entry in mem.history("shared", "counter", branch="side")]
    assert side == list(range(1, len(side) + 1))
    for work in done:
        print(
            f"{work.merges} merges, {work.rollbacks} rollbacks, {work.stale} stale, longest {work.longest * 1e3:.0f} ms"
        )


def test_a_counter_kept_by_resolvers_loses_no_update(mem: AgentMemory, database: Path) -> None:
    mem.write("shared", "counter", 0)
    run_all(children.add_by_resolver, [(database, agent, 25) for agent in AGENTS])
    entry = mem.read("shared", "counter")
    assert entry is not None
    assert (entry.value, entry.version) == (100, 101)


def test_four_processes_create_the_database_at_once(tmp_path: Path) -> None:
    for attempt in range(5):
        database = tmp_path / f"{attempt}.db"
        got = run_all(children.create_and_write, [(database, agent) for agent in AGENTS])
        assert sorted(got) == [1, 2, 3, 4]
        with AgentMemory("ada", database) as mem:
            assert mem.verify().ok
            assert len(mem.branches()) == 1


def test_a_hundred_outcomes_of_four_processes_on_one_key_all_count(mem: AgentMemory, database: Path) -> None:
    mem.write("shared", "key", "judged", confidence=0.5)
    assert run_all(children.judge, [(database, agent, 25) for agent in AGENTS]) == [25] * 4
    entry = mem.read("shared", "key")
    assert entry is not None
    assert (entry.outcome_count, entry.version) == (100, 101)
    assert entry.confidence == pytest.approx((0.5 * 2 + 100) / (2 + 100))
    assert len(mem.timeline(agent_id="*", event_type="outcome", limit=1000)) == 100


def test_an_idempotency_key_used_by_two_processes_writes_once(mem: AgentMemory, database: Path) -> None:
    first, second = run_all(children.write_with_token, [(database, "same"), (database, "same")])
    assert first == second
    assert numbers(mem, "job") == [1]


def test_an_idempotency_key_used_for_two_values_is_refused_once(mem: AgentMemory, database: Path) -> None:
    got = run_all(children.write_with_token, [(database, "one"), (database, "another")])
    assert "idempotency" in got
    assert numbers(mem, "job") == [1]


def test_policy_raise_notices_another_process(database: Path) -> None:
    with AgentMemory("careful", database, conflict_policy=ConflictPolicy.RAISE) as mem:
        mem.write("shared", "key", "mine")
        run_all(children.write_often, [(database, "ben", 3)])
        with pytest.raises(StaleWriteError, match="shared/key is at version 4") as caught:
            mem.write("shared", "key", "mine again")
        assert (caught.value.expected, caught.value.actual) == (1, 4)
        assert mem.read("shared", "key") is not None
        assert mem.write("shared", "key", "mine again").version == 5


def test_another_program_that_holds_the_database_gives_a_typed_error(
    mem: AgentMemory, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mem.write("shared", "key", "before")
    monkeypatch.setattr("amfs.storage.sqlite.BUSY_SECONDS", 0.05)
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with AgentMemory("ben", database) as impatient:
        with pytest.raises(DatabaseBusyError):
            impatient.write("shared", "key", "too early")
        assert [entry.value for entry in impatient.list("shared")] == ["before"]
        other.execute("ROLLBACK")
        other.close()
        assert impatient.write("shared", "key", "in time").version == 2


# --- forks and interrupts --------------------------------------------------------------------------------------------


def test_a_fork_with_an_open_handle_leaves_two_working_handles(mem: AgentMemory, database: Path) -> None:
    with Child(children.fork_and_write, database, 60) as child:
        assert child.result() == 0
    assert numbers(mem) == list(range(1, 122))


def test_a_forked_child_keeps_what_it_writes_after_its_parent_closed(mem: AgentMemory, database: Path) -> None:
    for handle_of_ours_is_open in (True, False):
        if not handle_of_ours_is_open:
            mem.close()
        with Child(children.fork_and_outlive, database, 20) as child:
            assert child.result() == 0
    with AgentMemory("ada", database) as again:
        assert [entry.value for entry in again.history("shared", "key")] == [*range(20), *range(20)]


def test_a_forked_child_has_a_lock_of_its_own(mem: AgentMemory, database: Path) -> None:
    with Child(children.fork_and_stay_inside_a_write, database) as child:
        assert child.receive() == "inside"
        with Path(f"{database}-lock").open("rb") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child.send()
        child.result()
    assert [entry.value for entry in mem.history("shared", "key")] == ["before", "child", "parent"]


def test_forks_while_threads_use_the_handle(mem: AgentMemory, database: Path) -> None:
    with Child(children.fork_among_threads, database, 30) as child:
        written = child.result()
    assert numbers(mem) == list(range(1, written + 1))


def test_a_forked_child_that_ends_normally_does_not_disturb_its_parent(database: Path) -> None:
    script = """
import os, sys
from amfs import AgentMemory
mem = AgentMemory("forked", sys.argv[1])
mem.write("shared", "key", 0)
pid = os.fork()
if pid == 0:
    sys.exit(0)
for number in range(20):
    mem.write("shared", "key", number)
assert os.waitpid(pid, 0)[1] == 0
mem.write("shared", "key", "end")
assert mem.verify().ok
"""
    done = subprocess.run([sys.executable, "-c", script, str(database)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    with AgentMemory("ada", database) as mem:
        assert numbers(mem) == list(range(1, 23))


def test_handles_work_after_interrupts_at_any_moment(mem: AgentMemory, database: Path) -> None:
    for first in (0, 2, 4):
        seeds = (first, first + 1)
        acknowledged = run_all(children.write_and_be_interrupted, [(database, seed, 250) for seed in seeds])
        for seed, number in zip(seeds, acknowledged, strict=True):
            entry = mem.read("interrupted", f"{seed}.last")
            assert entry is not None
            assert entry.value == number
            written = mem.list("interrupted", include_superseded=True)
            values = {one.value for one in written if one.agent_id == f"agent-{seed}"}
            assert values >= set(range(number))


# --- threads ---------------------------------------------------------------------------------------------------------


def test_eight_threads_share_one_handle(mem: AgentMemory) -> None:
    def work(thread: int) -> list[int]:
        mine: list[int] = []
        for number in range(40):
            mine.append(mem.write("shared", "key", [thread, number]).version)
            private = mem.write("threads", f"t{thread}", number)
            found = mem.read("threads", f"t{thread}")
            assert found is not None
            assert (found.value, found.version) == (number, private.version) == (number, number + 1)
        return mine

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(work, range(8)))
    assert sorted(chain.from_iterable(got)) == list(range(1, 321)) == numbers(mem)


def test_a_dropped_handle_is_collected_while_another_one_writes(mem: AgentMemory, database: Path) -> None:
    for number in range(150):
        dropped = AgentMemory("ben", database)
        dropped.read("shared", "key")
        del dropped
        for _ in range(5):
            mem.write("shared", "key", [{"n": n} for n in range(60)], confidence=number / 150)
    assert len(numbers(mem)) == 750


# --- resolvers -------------------------------------------------------------------------------------------------------


def test_resolvers_in_threads_lose_nothing(mem: AgentMemory, database: Path) -> None:
    def union(existing: Entry | None, incoming: Entry, value: list[str]) -> list[str]:
        assert existing is not None
        assert incoming.value == value
        return list({*existing.value, *value})

    mem.write("shared", "set", [])

    def work(thread: int) -> None:
        with AgentMemory(f"agent-{thread}", database, on_conflict=union) as mine:
            done = 0
            while done < 12:
                now = mine.read("shared", "set")
                assert now is not None
                with suppress(ContentionError):  # it lost ten races: nothing was written, so it tries again
                    mine.write("shared", "set", [*now.value, f"{thread}.{done}"])
                    done += 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    entry = mem.read("shared", "set")
    assert entry is not None
    assert sorted(entry.value) == sorted(f"{thread}.{number}" for thread in range(4) for number in range(12))


def test_a_resolver_may_use_the_memory(mem: AgentMemory, database: Path) -> None:
    def note(existing: Entry | None, _incoming: Entry, value: Any) -> Any:
        assert existing is not None
        careful.write("shared", "log of conflicts", [existing.seq, value])
        policy = careful.read("shared", "policy")
        assert policy is not None
        return f"{existing.value} {policy.value} {value}"

    mem.write("shared", "policy", "and")
    with AgentMemory("careful", database, on_conflict=note) as careful:
        assert careful.read("shared", "key") is None
        theirs = mem.write("shared", "key", "theirs")
        assert careful.write("shared", "key", "ours").value == "theirs and ours"
        noted = mem.read("shared", "log of conflicts")
        assert noted is not None
        assert noted.value == [theirs.seq, "ours"]


def test_a_resolver_of_four_arguments_gets_the_base(mem: AgentMemory, database: Path) -> None:
    seen: list[tuple[Any, ...]] = []

    def remember(existing: Entry | None, incoming: Entry, value: Any, base: Entry | None) -> Any:
        seen.append((existing and existing.value, incoming.value, incoming.version, value, base and base.value))
        return "settled"

    with AgentMemory("careful", database, on_conflict=remember) as careful:
        careful.write("shared", "key", "base")
        mem.write("shared", "key", "theirs")
        assert careful.write("shared", "key", "ours").value == "settled"
        mem.delete("shared", "key")
        assert careful.write("shared", "key", "ours again").value == "settled"
    assert seen == [("theirs", "ours", 3, "ours", "base"), (None, "ours again", 5, "ours again", "settled")]


def test_a_resolver_that_always_comes_too_late_ends_in_a_typed_error(mem: AgentMemory, database: Path) -> None:
    calls = 0

    def outpaced(existing: Entry | None, _incoming: Entry, value: Any) -> Any:
        nonlocal calls
        calls += 1
        assert existing is not None
        assert existing.value == calls - 1
        mem.write("shared", "key", calls)
        return value

    with AgentMemory("careful", database, on_conflict=outpaced) as careful:
        careful.read("shared", "key")
        mem.write("shared", "key", 0)
        with pytest.raises(ContentionError, match="10 times"):
            careful.write("shared", "key", "never")
    assert 10 <= calls <= 11
    assert [entry.value for entry in mem.history("shared", "key")] == list(range(calls + 1))


def test_a_resolver_that_raises_leaves_nothing_behind(mem: AgentMemory, database: Path) -> None:
    def broken(_existing: Entry | None, _incoming: Entry, _value: Any) -> Any:
        raise ZeroDivisionError

    with AgentMemory("careful", database, on_conflict=broken) as careful:
        careful.read("shared", "key")
        mem.write("shared", "key", "theirs")
        with pytest.raises(ZeroDivisionError):
            careful.write("shared", "key", "ours")
        assert numbers(mem) == [1]
        careful.read("shared", "key")
        assert careful.write("shared", "key", "ours").version == 2


# --- asyncio ---------------------------------------------------------------------------------------------------------


async def test_fifty_tasks_write_and_read_at_once(database: Path) -> None:
    async with AsyncAgentMemory("ada", database) as mem:

        async def work(number: int) -> int:
            mine = await mem.write("tasks", f"t{number}", number)
            assert await mem.read("tasks", f"t{number}") == mine
            return (await mem.write("shared", "key", number)).version

        assert sorted(await asyncio.gather(*map(work, range(50)))) == list(range(1, 51))
        assert len(await mem.list("tasks")) == 50
        assert (await mem.verify()).ok


async def test_the_event_loop_reads_on_while_another_process_holds_the_lock(database: Path) -> None:
    async with AsyncAgentMemory("ada", database) as mem, AsyncAgentMemory("ben", database) as other:
        await mem.write("shared", "key", 1)
        await other.write("shared", "theirs", 1)
        with Child(children.stay_inside_a_write, database) as child:
            assert child.receive() == "inside"
            waiting = [
                asyncio.create_task(mem.write("shared", "key", 2)),
                asyncio.create_task(mem.read("shared", "theirs")),  # records an event, so it waits its turn
                asyncio.create_task(mem.create_branch("later")),
            ]
            for _ in range(20):
                entry = await mem.read("shared", "key")
                assert entry is not None
                assert entry.value == 1
                assert len(await mem.list("shared")) == 2
                await asyncio.sleep(0)
            assert not any(task.done() for task in waiting)
            child.send()
            written, theirs, _ = await asyncio.gather(*waiting)
            assert written.version == 2
            assert theirs.value == 1
            assert child.result() < written.seq


async def test_a_cancelled_write_leaves_the_database_usable(database: Path) -> None:
    async with AsyncAgentMemory("ada", database) as mem:
        await mem.write("shared", "key", "first")
        with Child(children.stay_inside_a_write, database) as child:
            assert child.receive() == "inside"
            tasks = [asyncio.create_task(mem.write("shared", "key", number)) for number in range(5)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            assert all(
                isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*tasks, return_exceptions=True)
            )
            child.send()
            child.result()
        last = await mem.write("shared", "key", "last")
        history = await mem.history("shared", "key")
        assert [entry.version for entry in history] == list(range(1, last.version + 1))
        assert await mem.read("shared", "key") == last
        assert (await mem.verify()).ok


async def test_a_cancelled_transaction_writes_all_or_nothing(database: Path) -> None:
    async with AsyncAgentMemory("ada", database) as mem:

        async def work() -> None:
            async with mem.transaction() as tx:
                await tx.write("shared", "one", 1)
                await tx.write("shared", "two", 2)
                never = asyncio.get_running_loop().create_future()
                await never

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await mem.list("shared") == []
        assert (await mem.write("shared", "one", 1)).version == 1


def test_two_event_loops_share_one_handle(mem: AgentMemory) -> None:
    async def work(name: str) -> None:
        shared = AsyncAgentMemory(mem)
        for number in range(20):
            await shared.write("shared", name, number)
        await shared.close()

    threads = [threading.Thread(target=lambda name=name: asyncio.run(work(name))) for name in AGENTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [numbers(mem, name) for name in AGENTS] == [list(range(1, 21))] * 4
