"""What the child processes of the crash tests do, and simple operations to disturb.

Everything goes through the public API. Where a child must die at a certain point of a transaction, the point is found
from outside, by the statement that is about to run.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from amfs import AgentMemory
from amfs.models import Delete, Get, Put
from amfs.storage import sqlite
from tests.helpers_statements import watching

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.helpers_processes import Outbox

START = 1_700_000_000_000_000
LARGE = "a value that takes some room " * 140


def repeatable(agent: str, database: Path) -> AgentMemory:
    """Open a handle whose every step gives the same rows whenever it is repeated: fixed clock, fixed session."""
    return AgentMemory(agent, database, clock=lambda: START, session_id=f"session of {agent}")


def build(database: Path) -> None:
    """Make the database that the operations below start from."""
    with repeatable("ada", database) as mem:
        for key in "abcd":
            mem.write("svc", key, {"n": 0, "text": LARGE if key == "d" else "short"})
        mem.as_agent("ben").write("svc", "theirs", 1)
        mem.create_branch("work")
        work = mem.on_branch("work")
        work.write("svc", "a", {"n": 1, "text": "short"})
        work.write("svc", "new", [1, 2])
        work.delete("svc", "b")
        work.write("svc", "c", {"n": 0, "text": "theirs"})
        mem.write("svc", "c", {"n": 5, "text": "short"})


def _transaction(mem: AgentMemory) -> None:
    with mem.transaction("three at once") as tx:
        tx.write("svc", "a", 1)
        tx.write("other/place", "x", LARGE)
        tx.delete("svc", "b")


OPERATIONS: dict[str, Callable[[AgentMemory], object]] = {
    "write": lambda mem: mem.write("svc", "a", "again"),
    "write of a new key": lambda mem: mem.write("other", "z", LARGE, ttl=3600, idempotency_key="once"),
    "private write": lambda mem: mem.write("svc", "mine", 1, shared=False),
    "delete": lambda mem: mem.delete("svc", "a"),
    "transaction": _transaction,
    "batch": lambda mem: mem.apply(
        [
            Put(entity_path="svc", key="a", value=1),
            Delete(entity_path="svc", key="c"),
            Put(entity_path="svc", key="fresh", value=LARGE),
            Get(entity_path="svc", key="theirs"),
        ]
    ),
    "merge": lambda mem: mem.merge_branch("work", close=True),
    "outcome": lambda mem: mem.commit_outcome("deploy-1", "failure", [("svc", "a"), ("svc", "d")]),
    "new branch": lambda mem: mem.create_branch("work/next", "a branch"),
    "read of another agent's entry": lambda mem: mem.read("svc", "theirs"),
}


def die_of_large_files(size: int) -> None:
    """Let the kernel end this process at once, without a word, when it writes beyond that size of any file."""
    import resource  # not on Windows, where these tests do not run

    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def create(outbox: Outbox, database: Path, kill_at: int) -> None:
    """Create a database and die by SIGKILL before the statement number ``kill_at``; send their number if it lives."""
    count = 0

    def on_statement(_statement: str) -> None:
        nonlocal count
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    with watching(on_statement), repeatable("ada", database):
        outbox.send(count)


def write_until_killed(outbox: Outbox, database: Path, durability: str, checkpoint_pages: int, before: int) -> NoReturn:
    """Acknowledge so many writes, then say "begun" within the next one, and never acknowledge that."""
    writes = 0

    def on_statement(statement: str) -> None:
        if writes == before and statement.startswith("BEGIN IMMEDIATE"):
            outbox.send("begun")

    vars(sqlite)["_CHECKPOINT_PAGES"] = checkpoint_pages
    with watching(on_statement):
        mem = AgentMemory("writer", database, durability=durability)
    while True:
        number = len(mem.list(include_superseded=True))
        if number % 4:
            written = [mem.write("svc", f"k{number % 7}", [number, LARGE * (number % 5)])]
        else:
            with mem.transaction() as tx:
                written = [tx.write("svc", f"k{n}", [number, n]) for n in range(3)]
        if writes == before:
            outbox.wait()
        outbox.send([(entry.seq, entry.key, entry.value) for entry in written])
        writes += 1


def open_write_close_until_killed(outbox: Outbox, database: Path) -> NoReturn:
    """Open, write twice and close, again and again, so that opening and the checkpoint at close are hit as well."""
    while True:
        with AgentMemory("writer", database) as mem:
            for number in range(2):
                entry = mem.write("svc", f"k{number}", LARGE)
                outbox.send([(entry.seq, entry.key, entry.value)])


def write_and_die(outbox: Outbox, database: Path, count: int) -> NoReturn:
    """Write ``count`` versions, acknowledge them, and die without closing, so that the -wal file holds them."""
    mem = repeatable("writer", database)
    outbox.send([mem.write("svc", f"k{n % 4}", [n, LARGE[: n * 40]]).seq for n in range(count)])
    outbox.wait()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def close_until_killed(outbox: Outbox, database: Path, size: int | None) -> None:
    """Open a database whose -wal file is full and close it, which moves all into the database file.

    Die when that file is to grow beyond ``size``, or wait to be killed.
    """
    mem = repeatable("writer", database)
    if size is not None:
        die_of_large_files(size)
    outbox.send("closing")
    mem.close()
    outbox.wait()


def migrate(outbox: Outbox, database: Path, statement: int | None, size: int | None) -> None:
    """Open an older database and die before a statement, or where a commit makes the -wal file larger than ``size``.

    Whoever lives sends the statements, and how large the -wal file was at each of them.
    """
    seen: list[tuple[str, int]] = []
    wal = Path(f"{database}-wal")

    def on_statement(text: str) -> None:
        if len(seen) == statement:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.append((text, wal.stat().st_size if wal.exists() else 0))
        if size is not None and text == "COMMIT":
            die_of_large_files(size)

    with watching(on_statement), AgentMemory("ada", database):
        seen.append(("end", wal.stat().st_size))
        outbox.send(seen)
