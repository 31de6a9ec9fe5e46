"""What the child processes of the damage tests do: they meet limits, and rights they do not have."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from amfs import AgentMemory
from amfs.errors import AMFSError, DatabaseFullError
from tests.helpers_crash import LARGE, OPERATIONS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers_processes import Outbox


def write_until_full(outbox: Outbox, database: Path, limits: Iterator[int] | tuple[int, ...]) -> list[Any]:
    """Write until a limit on the size of files stops it, twice, then lift the limit and write on."""
    import resource  # not on Windows, where these tests do not run

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    acknowledged: list[Any] = []
    codes: list[str] = []
    with AgentMemory("writer", database) as mem:
        for limit in limits:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            try:
                while True:
                    number = len(acknowledged)
                    acknowledged.append((mem.write("svc", f"k{number}", [number, LARGE]).seq, number))
            except DatabaseFullError as error:
                codes.append(error.code)
            entry = mem.read("svc", "k0")
            assert entry is not None
            assert entry.value == [0, LARGE]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        acknowledged.append((mem.write("svc", "after", [len(acknowledged), LARGE]).seq, len(acknowledged)))
        assert mem.verify().ok
    outbox.send(codes)
    return acknowledged


def as_nobody(_outbox: Outbox, database: Path, function: str) -> Any:
    """Give up root's rights for good and run one of the functions of this module on a database."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    return globals()[function](database)


def use_read_only(database: Path) -> dict[str, Any]:
    """Read what there is to read and try every kind of write; return what came of it."""
    with AgentMemory("reader", database) as mem:
        entry = mem.read("svc", "a")
        stats = mem.stats()
        refused: list[str] = []
        for attempt in OPERATIONS.values():
            try:
                attempt(mem)
            except AMFSError as error:
                refused.append(error.code)
        return {
            "value": None if entry is None else entry.value,
            "keys": [entry.key for entry in mem.list("svc")],
            "events": len(mem.timeline(agent_id="*")),
            "changes": len(mem.diff_branch("work")),
            "read_only": stats.read_only,
            "read_events": stats.read_events,
            "refused": refused,
            "ok": mem.verify().ok,
        }
