"""What the child processes of the crash tests do, and the operations they are killed in.

Everything goes through the public API. Where a child must die at a certain point of a transaction, the point is found
from outside, by the statement that is about to run.
"""

from __future__ import annotations

import mmap
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from amfs import AgentMemory
from amfs.models import Delete, Get, Put
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


def perform(outbox: Outbox, database: Path, operation: str, kill_at: int | None) -> None:
    """Carry out an operation and die by SIGKILL before its statement number ``kill_at``, or before acknowledging it.

    With ``kill_at=-1`` the statements are sent instead, and nobody dies.
    """
    count, seen, armed = 0, list[str](), False

    def on_statement(statement: str) -> None:
        nonlocal count
        if armed:
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            seen.append(statement)

    with watching(on_statement):
        mem = repeatable("ada", database)
        armed = True
        OPERATIONS[operation](mem)
        armed = False
    if kill_at != -1:
        os.kill(os.getpid(), signal.SIGKILL)
    outbox.send(seen)
    mem.close()


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


def write_until_killed(outbox: Outbox, database: Path, durability: str, phase_file: Path) -> NoReturn:
    """Write on and acknowledge each write; the byte in ``phase_file`` is 1 from BEGIN to the acknowledgement."""
    with phase_file.open("r+b") as file:
        phase = mmap.mmap(file.fileno(), 1)

    def on_statement(statement: str) -> None:
        if statement.startswith("BEGIN IMMEDIATE"):
            phase[0] = 1

    with watching(on_statement):
        mem = AgentMemory("writer", database, durability=durability)
    phase[0] = 0
    number = 0
    while True:
        number += 1
        if number % 4:
            written = [mem.write("svc", f"k{number % 7}", [number, LARGE if number % 5 == 0 else ""])]
        else:
            with mem.transaction() as tx:
                written = [tx.write("svc", f"k{n}", [number, n]) for n in range(3)]
        outbox.send([(entry.seq, entry.key, entry.value) for entry in written])
        phase[0] = 0


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
