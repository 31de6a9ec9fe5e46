"""What the child processes of the contention tests do.

Everything goes through the public API. Where a child must be inside a transaction at a certain moment, the clock that a
transaction asks for the time keeps it there.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from amfs import AgentMemory
from amfs.errors import AMFSError, ContentionError, StaleWriteError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers_processes import Outbox


def start_together(outbox: Outbox) -> None:
    """Say that this child is ready and wait for the others."""
    outbox.send("ready")
    outbox.wait()


def write_often(outbox: Outbox, database: Path, agent: str, count: int) -> list[int]:
    """Write one key ``count`` times and return the version numbers."""
    with AgentMemory(agent, database) as mem:
        start_together(outbox)
        return [mem.write("shared", "key", [agent, number]).version for number in range(count)]


def create_and_write(outbox: Outbox, database: Path, agent: str) -> int:
    """Open a database that does not exist yet and write into it."""
    start_together(outbox)
    with AgentMemory(agent, database) as mem:
        return mem.write("shared", "key", agent).version


def count_up(outbox: Outbox, database: Path, agent: str, times: int) -> int:
    """Add one to a counter by compare-and-set and return how often that came too late."""
    lost = 0
    with AgentMemory(agent, database) as mem:
        start_together(outbox)
        for _ in range(times):
            done = False
            while not done:
                now = mem.read("shared", "counter")
                value, version = (0, 0) if now is None else (now.value, now.version)
                try:
                    mem.write("shared", "counter", value + 1, expected_version=version)
                    done = True
                except StaleWriteError:
                    lost += 1
    return lost


class Work(NamedTuple):
    """What a process did among others: steps of each kind, writes that came too late, and its longest wait for one."""

    counted: int
    merges: int
    rollbacks: int
    stale: int
    longest: float


def count_up_beside_merges(outbox: Outbox, database: Path, number: int, times: int) -> Work:
    """Add one to a counter by compare-and-set while some of the processes merge it into a branch or roll that back."""
    merges = rollbacks = stale = counted = 0
    longest = 0.0
    merging, rolling_back = number % 3 == 1, number % 3 == 2
    with AgentMemory(f"agent-{number}", database) as mem:
        start_together(outbox)
        while counted < times or (rolling_back and not rollbacks):
            if counted < times:
                now = mem.read("shared", "counter")
                assert now is not None
                begun = time.perf_counter()
                try:
                    mem.write("shared", "counter", now.value + 1, expected_version=now.version)
                    counted += 1
                except StaleWriteError:
                    stale += 1
                longest = max(longest, time.perf_counter() - begun)
            if merging:
                mem.write("side", f"by {number}", counted, branch="side")
                merges += mem.merge_branch("main", target="side", strategy="source_wins").event is not None
            elif rolling_back:
                rollbacks += mem.rollback(tag_name="begin", include_others=True, branch="side").event is not None
    return Work(counted, merges, rollbacks, stale, longest)


def add_by_resolver(outbox: Outbox, database: Path, agent: str, times: int) -> None:
    """Add one to a counter that others add to, with a resolver that adds up what all of them meant."""

    def add(existing: Any, _incoming: Any, value: int, base: Any) -> int:
        return existing.value + value - base.value

    with AgentMemory(agent, database, on_conflict=add) as mem:
        start_together(outbox)
        done = 0
        while done < times:
            now = mem.read("shared", "counter")
            assert now is not None
            with suppress(ContentionError):
                mem.write("shared", "counter", now.value + 1)
                done += 1


def judge(outbox: Outbox, database: Path, agent: str, times: int) -> int:
    """Commit ``times`` outcomes about one key and return how many were recorded."""
    with AgentMemory(agent, database) as mem:
        start_together(outbox)
        return sum(
            mem.commit_outcome(f"{agent} {number}", "success", [("shared", "key")]).recorded for number in range(times)
        )


def write_with_token(outbox: Outbox, database: Path, value: str) -> int | str:
    """Write with an idempotency key that others use too; return the seq, or the code of the error."""
    with AgentMemory("worker", database) as mem:
        start_together(outbox)
        try:
            return mem.write("shared", "job", value, idempotency_key="job 1").seq
        except AMFSError as error:
            return error.code


def stay_inside_a_write(outbox: Outbox, database: Path) -> int:
    """Begin a transaction, say so, and commit it when told to."""
    inside = False

    def clock() -> int:
        nonlocal inside
        if inside:
            inside = False
            outbox.send("inside")
            outbox.wait()
        return time.time_ns() // 1000

    with AgentMemory("holder", database, clock=clock) as mem:
        inside = True
        return mem.write("shared", "held", 1).seq


def fork_and_write(_outbox: Outbox, database: Path, count: int) -> int:
    """Fork while a handle is open and write from both processes through it; return the child's exit status."""
    with AgentMemory("forked", database) as mem:
        mem.write("shared", "key", "before")
        mem.read("shared", "key")
        pid = os.fork()
        if pid == 0:
            status = 1
            with suppress(Exception):
                status = len({mem.write("shared", "key", ["child", n]).seq for n in range(count)}) - count
                mem.close()
            os._exit(status)
        for number in range(count):
            mem.write("shared", "key", ["parent", number])
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork_among_threads(_outbox: Outbox, database: Path, forks: int) -> int:
    """Fork again and again while threads use the handle; each child writes. Return how many writes there were."""
    stop, written = threading.Event(), [1]

    def use(mem: AgentMemory, name: str) -> None:
        while not stop.is_set():
            mem.write("shared", "key", name)
            mem.list("shared")
            written.append(1)

    with AgentMemory("forked", database, durability="normal") as mem:
        mem.write("shared", "key", "before")
        threads = [threading.Thread(target=use, args=(mem, f"thread {n}")) for n in range(3)]
        for thread in threads:
            thread.start()
        try:
            for number in range(forks):
                pid = os.fork()
                if pid == 0:
                    status = 1
                    with suppress(Exception):
                        entry = mem.read("shared", "key")
                        assert entry is not None
                        status = int(mem.write("shared", "key", ["child", number]).version <= entry.version)
                    os._exit(status)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
                written.append(1)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    return len(written)


def fork_and_stay_inside_a_write(outbox: Outbox, database: Path) -> None:
    """Fork; the child stays inside a transaction while the parent reads, and until the test says go on."""
    child_is_inside, go_on = os.pipe(), os.pipe()
    inside = False

    def clock() -> int:
        if inside:
            os.write(child_is_inside[1], b".")
            os.read(go_on[0], 1)
        return time.time_ns() // 1000

    with AgentMemory("forked", database, clock=clock) as mem:
        mem.write("shared", "key", "before")
        pid = os.fork()
        if pid == 0:
            inside = True
            with suppress(Exception):
                mem.write("shared", "key", "child")
                os._exit(0)
            os._exit(1)
        os.read(child_is_inside[0], 1)
        entry = mem.read("shared", "key")
        assert entry is not None
        assert entry.value == "before"
        outbox.send("inside")
        outbox.wait()
        os.write(go_on[1], b".")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        mem.write("shared", "key", "parent")


def fork_and_outlive(_outbox: Outbox, database: Path, count: int) -> int:
    """Fork; the child writes, its parent closes, the child writes on and closes. Return the child's exit status."""
    child_wrote, parent_closed = os.pipe(), os.pipe()
    mem = AgentMemory("forked", database)
    mem.write("shared", "key", 0)
    pid = os.fork()
    if pid == 0:
        with suppress(Exception):
            mem.write("shared", "key", 1)
            os.write(child_wrote[1], b".")
            os.read(parent_closed[0], 1)
            for number in range(2, count):
                mem.write("shared", "key", number)
            mem.close()
            os._exit(0)
        os._exit(1)
    os.read(child_wrote[0], 1)
    mem.close()
    os.write(parent_closed[1], b".")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Interrupted(BaseException):
    """What the signal handler of ``write_and_be_interrupted`` raises, as Ctrl-C raises KeyboardInterrupt."""


def write_and_be_interrupted(outbox: Outbox, database: Path, seed: int, times: int) -> int:
    """Write on while signals interrupt at random moments; then write once more and return what was acknowledged."""
    rng, armed, acknowledged = random.Random(seed), False, 0

    def interrupt(*_: object) -> None:
        if armed:
            raise Interrupted

    signal.signal(signal.SIGALRM, interrupt)
    with AgentMemory(f"agent-{seed}", database, durability="normal") as mem:
        start_together(outbox)
        for _ in range(times):
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.00001, 0.0015), 0.003)  # again, if it came too early
            try:
                armed = True
                while True:
                    mem.write("interrupted", f"{seed}.{acknowledged % 9}", acknowledged)
                    acknowledged += 1
            except Interrupted:
                armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        mem.write("interrupted", f"{seed}.last", acknowledged)
    return acknowledged
