"""Processes that share one database for a few seconds: what each got done, what failed, and how long it had to wait."""

from __future__ import annotations

import multiprocessing
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from amfs import AgentMemory, Durability
from amfs.errors import StaleWriteError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WRITERS = 4
COUNTERS = 8
_PLACE = ("counter", "shared")


class Share(NamedTuple):
    """What one process did: writes made, writes refused as stale, errors, and its longest operation in seconds."""

    written: int
    refused: int
    failed: int
    longest: float


class Contention(NamedTuple):
    """What the processes did, and the writes missing from the database afterwards."""

    shares: list[Share]
    seconds: float
    lost: int

    @property
    def fairness(self) -> float:
        """The slowest process as a fraction of the fastest."""
        written = [share.written for share in self.shares]
        return min(written) / max(written) if any(written) else 0.0

    @property
    def throughput(self) -> float:
        """The writes per second of all processes."""
        return sum(share.written for share in self.shares) / self.seconds

    @property
    def refused(self) -> int:
        """How many writes came too late."""
        return sum(share.refused for share in self.shares)

    @property
    def errors(self) -> int:
        """How many operations failed."""
        return sum(share.failed for share in self.shares)

    @property
    def longest(self) -> float:
        """The longest that one operation took, in seconds."""
        return max(share.longest for share in self.shares)


def contend(database: Path, durability: Durability, seconds: float) -> Contention:
    """Let WRITERS processes write one key as fast as they can."""
    shares = _run(_write, WRITERS, database, durability, seconds)
    with AgentMemory("agent", database) as memory:
        entry = memory.read(*_PLACE)
    lost = sum(share.written for share in shares) - (entry.version if entry else 0)
    return Contention(shares, seconds, lost)


def count_up(database: Path, durability: Durability, seconds: float) -> Contention:
    """Let COUNTERS processes read a counter and write the next number, if nobody else did meanwhile."""
    shares = _run(_add_one, COUNTERS, database, durability, seconds)
    with AgentMemory("agent", database) as memory:
        entry = memory.read(*_PLACE)
    lost = sum(share.written for share in shares) - (entry.value if entry else 0)
    return Contention(shares, seconds, lost)


def _write(memory: AgentMemory, number: int) -> None:
    memory.write(*_PLACE, {"agent": number})


def _add_one(memory: AgentMemory, _number: int) -> None:
    entry = memory.read(*_PLACE)
    value, version = (0, 0) if entry is None else (entry.value, entry.version)
    memory.write(*_PLACE, value + 1, expected_version=version)


def _run(
    operation: Callable[[AgentMemory, int], None],
    processes: int,
    database: Path,
    durability: Durability,
    seconds: float,
) -> list[Share]:
    AgentMemory("agent", database, durability=durability).close()
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_work, args=(operation, str(database), str(durability), seconds, one, barrier, results))
        for one in range(processes)
    ]
    for worker in workers:
        worker.start()
    shares = [results.get(timeout=seconds + 60) for _ in workers]
    for worker in workers:
        worker.join()
    return shares


def _work(
    operation: Callable[[AgentMemory, int], None],
    database: str,
    durability: str,
    seconds: float,
    number: int,
    barrier: Any,
    results: Any,
) -> None:
    written = refused = failed = 0
    longest, clock = 0.0, time.monotonic
    with AgentMemory(f"agent-{number}", database, durability=Durability(durability)) as memory:
        barrier.wait()
        end = clock() + seconds
        while (start := clock()) < end:
            try:
                operation(memory, number)
                written += 1
            except StaleWriteError:
                refused += 1
            except Exception:  # noqa: BLE001 - any failure is counted
                failed += 1
            longest = max(longest, clock() - start)
    results.put(Share(written, refused, failed, longest))
