"""What takes as long as there is much in the database: verify, backup, and the first fork of a branch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from amfs import AgentMemory, Durability

if TYPE_CHECKING:
    from pathlib import Path

_LARGEST_TO_BACK_UP = 100_000


class Whole(NamedTuple):
    """The seconds that each took at one size; no backup is made of the largest."""

    size: int
    versions: int
    verify: float
    megabytes: float
    backup: float | None
    fork: float


def measure_whole(home: Path, size: int) -> Whole:
    """Measure what grows with the database, once each, on the one of a size."""
    clock, copy = time.perf_counter, home / "backup.db"
    backup = None
    with AgentMemory("agent", home / "memory.db", durability=Durability.NORMAL) as memory:
        memory.create_branch("first", source="main")
        start = clock()
        memory.fork("forked/first", branch="first")
        fork, start = clock() - start, clock()
        report = memory.verify()
        verify, start = clock() - start, clock()
        if not report.ok:
            raise RuntimeError(f"the measured database is damaged: {report.problems[:3]}")
        if size <= _LARGEST_TO_BACK_UP:
            memory.backup(copy)
            backup = clock() - start
        megabytes = memory.stats().file_bytes / 1e6
    return Whole(size, report.versions, verify, megabytes, backup, fork)
