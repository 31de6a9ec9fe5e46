"""Four processes that write one database for a few seconds: what each got done, and what failed."""

from __future__ import annotations

import multiprocessing
import time
from typing import TYPE_CHECKING, NamedTuple

from amfs import AgentMemory, Durability

if TYPE_CHECKING:
    from pathlib import Path

PROCESSES = 4


class Contention(NamedTuple):
    """Writes per process, errors, and versions missing from the history afterwards."""

    writes: list[int]
    errors: int
    lost: int

    @property
    def fairness(self) -> float:
        """The slowest process as a fraction of the fastest."""
        return min(self.writes) / max(self.writes)


def contend(database: Path, durability: Durability, seconds: float) -> Contention:
    """Let PROCESSES processes write one key as fast as they can."""
    AgentMemory("agent", database, durability=durability).close()
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    results = context.Queue()
    workers = [
        context.Process(target=_work, args=(str(database), str(durability), seconds, number, barrier, results))
        for number in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    counts = [results.get(timeout=seconds + 60) for _ in workers]
    for worker in workers:
        worker.join()
    writes, errors = [count for count, _ in counts], sum(failed for _, failed in counts)
    with AgentMemory("agent", database) as memory:
        entry = memory.read("counter", "shared")
    return Contention(writes, errors, sum(writes) - (entry.version if entry else 0))


def _work(database: str, durability: str, seconds: float, number: int, barrier, results) -> None:
    written = failed = 0
    with AgentMemory(f"agent-{number}", database, durability=Durability(durability)) as memory:
        barrier.wait()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                memory.write("counter", "shared", {"agent": number, "n": written})
                written += 1
            except Exception:  # noqa: BLE001 - any failure is counted
                failed += 1
    results.put((written, failed))
