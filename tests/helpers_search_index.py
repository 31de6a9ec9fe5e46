"""What the child processes of the tests of the search index do."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from amfs import AgentMemory
from amfs.storage import indexing
from tests.helpers_contention import start_together
from tests.helpers_statements import watching

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.helpers_processes import Outbox


def search_and_die(outbox: Outbox, database: Path, kill_at: int, rows: int) -> None:
    """Search and die by SIGKILL before a statement of it; send the statements if nobody died.

    The index takes in so many rows of the log in a transaction.
    """
    vars(indexing)["_ROWS"] = rows
    seen: list[str] | None = None

    def on_statement(text: str) -> None:
        if seen is not None:
            if len(seen) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen.append(text)

    with watching(on_statement), AgentMemory("ada", database) as mem:
        mem.read("svc", "a")  # it opens the connection
        seen = []
        mem.search("zebra")
        outbox.send(seen)


def write_and_say_so(outbox: Outbox, database: Path, number: int, times: int) -> int:
    """Write entries with a word of their own, and say of each in a file that it was acknowledged."""
    with AgentMemory(f"writer-{number}", database) as mem, open(f"{database}-said-{number}", "a") as said:  # noqa: PTH123
        start_together(outbox)
        for step in range(times):
            mem.write(f"of-{number}", "last", f"word{number}x{step} common")
            said.write("x")
            said.flush()
    return times


def search_for_the_newest(outbox: Outbox, database: Path, writers: int, times: int) -> int:
    """Look for what each writer wrote last until all is there; what was said before is found, or something newer."""
    searches, newest = 0, dict.fromkeys(range(writers), 0)
    with AgentMemory(f"searcher-{os.getpid()}", database) as mem:
        start_together(outbox)
        while min(newest.values()) < times:
            said = {number: _said(database, number) for number in newest}
            hits = mem.search("common", limit=writers)
            searches += 1
            found = {hit.entry.entity_path: int(hit.entry.value.split()[0].split("x")[1]) + 1 for hit in hits}
            for number, before in said.items():
                newest[number] = found.get(f"of-{number}", 0)
                assert newest[number] >= before, "an acknowledged write was not found"
    return searches


def call(outbox: Outbox, function: Callable[..., int], *arguments: Any) -> int:
    """Call one of the functions above, for processes that do different things at once."""
    return function(outbox, *arguments)


def _said(database: Path, number: int) -> int:
    path = f"{database}-said-{number}"
    return os.path.getsize(path) if os.path.exists(path) else 0  # noqa: PTH110, PTH202
