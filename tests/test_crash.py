"""Crashes: processes killed with SIGKILL at every statement and at random moments, and -wal files cut anywhere.

An acknowledged write is there afterwards, with its event; one that was not acknowledged is there whole or not at all;
the invariants hold; writing goes on and the lock is free.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amfs import AgentMemory
from amfs.errors import OutcomeNotFoundError
from tests import helpers_crash as children
from tests.helpers_processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amfs.models import Entry

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and forked children")

ROUNDS = 110
SMALLEST_TRANSACTION = 3


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder, in memory where there is such a place: a killed process loses no file, wherever that is."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder inside has a name of its own
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed database that operations start from."""
    database = tmp_path_factory.mktemp("base") / "memory.db"
    children.build(database)
    return database


# --- at every statement ----------------------------------------------------------------------------------------------


def state(database: Path) -> list[Any]:
    """Return all that can be seen of a database, by its main agent."""
    with children.repeatable("ada", database) as mem:
        assert mem.verify().ok, mem.verify()
        branches = mem.branches()
        seen: list[Any] = [branch.model_dump() for branch in branches]
        for branch in branches:
            seen += [entry.model_dump() for entry in mem.list(branch=branch.name)]
            seen += [entry.model_dump() for entry in mem.list(include_superseded=True, branch=branch.name)]
            seen += [event.model_dump() for event in mem.timeline(branch=branch.name, limit=1000)]
        try:
            seen.append(mem.explain("deploy-1").model_dump())
        except OutcomeNotFoundError:
            seen.append(None)
        return seen


def is_usable(database: Path) -> bool:
    """Return whether others can open the database, write, and find nothing wrong."""
    with AgentMemory("survivor", database) as mem:
        before = mem.read("svc", "a")
        entry = mem.write("svc", "a", "life goes on")
        assert before is None or entry.version == before.version + 1
        return mem.verify().ok


def killed(database: Path, operation: str, kill_at: int | None) -> list[Any]:
    """Return the state that an operation leaves that is killed before a statement, or before it is acknowledged."""
    with Child(children.perform, database, operation, kill_at) as child:
        assert child.exit_code == -signal.SIGKILL
        assert child.rest() == []
    found = state(database)
    assert is_usable(database)
    return found


@pytest.mark.parametrize("operation", children.OPERATIONS)
def test_an_operation_killed_at_any_statement_is_done_or_was_never_begun(
    operation: str, base: Path, folder: Path
) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copy(base, folder / f"{name}.db"))

    before = state(copy("before"))
    with Child(children.perform, copy("statements"), operation, -1) as child:
        statements = child.receive()
    begin, commit = statements.index("BEGIN IMMEDIATE"), statements.index("COMMIT")
    assert statements.count("BEGIN IMMEDIATE") == 1, "one operation is one transaction"
    for number in range(begin + 1, commit + 1):
        assert killed(copy(str(number)), operation, number) == before, statements[number]
    after = killed(copy("after"), operation, None)
    assert after != before
    with Child(children.perform, copy("undisturbed"), operation, -1) as child:
        child.receive()
        assert child.exit_code == 0
    assert state(folder / "undisturbed.db") == after


def test_a_creation_killed_at_any_statement_can_be_completed(folder: Path) -> None:
    with Child(children.create, folder / "whole.db", -1) as child:
        statements = child.result()
    assert statements > 20
    for number in range(statements):
        database = folder / f"{number}.db"
        with Child(children.create, database, number) as child:
            assert child.exit_code == -signal.SIGKILL
        assert is_usable(database)


# --- at random moments -----------------------------------------------------------------------------------------------


def check(database: Path, acknowledged: dict[int, tuple[str, Any]], unacknowledged: int) -> None:
    """Assert that what was acknowledged is there, with its events, and of the rest at most so many versions."""
    with AgentMemory("survivor", database) as mem:
        report = mem.verify()
        assert report.ok, report
        versions: dict[int, Entry] = {entry.seq: entry for entry in mem.list(include_superseded=True)}
        events = {event.seq: event for event in mem.timeline(agent_id="*", event_type="write", limit=100_000)}
        assert versions.keys() == events.keys()
        for seq, (key, value) in acknowledged.items():
            assert (versions[seq].key, versions[seq].value) == (key, value)
            assert events[seq].details["key"] == key
            assert events[seq].details["version"] == versions[seq].version
        assert 0 <= len(versions) - len(acknowledged) <= unacknowledged
        groups = [event.group for event in events.values() if event.group is not None]
        assert all(groups.count(group) == SMALLEST_TRANSACTION for group in set(groups))
        more = mem.write("svc", "survivor", len(versions))
        acknowledged.update({entry.seq: (entry.key, entry.value) for entry in (*versions.values(), more)})


def databases(folder: Path, rounds: int, each: int) -> Iterator[tuple[Path, dict[int, tuple[str, Any]]]]:
    """Yield a database, with what was acknowledged in it, for every round; every so many rounds a fresh one."""
    for number in range(0, rounds, each):
        database = folder / f"{number}.db"
        AgentMemory("survivor", database).close()
        acknowledged: dict[int, tuple[str, Any]] = {}
        yield from [(database, acknowledged)] * min(each, rounds - number)


def test_acknowledged_writes_survive_a_hundred_kills_of_their_writer(folder: Path) -> None:
    rng, hits, phase = random.Random(20), 0, folder / "phase"
    for number, (database, acknowledged) in enumerate(databases(folder, ROUNDS * 2, 22)):
        phase.write_bytes(b"\0")
        with Child(children.write_until_killed, database, ("full", "normal")[number % 2], phase) as child:
            received = [child.receive() for _ in range(rng.randrange(1, 5))]
            child.pipe.poll(rng.uniform(0, 0.002))
            child.kill()
            received += child.rest()
        hits += phase.read_bytes()[0]
        acknowledged.update({seq: (key, value) for written in received for seq, key, value in written})
        check(database, acknowledged, SMALLEST_TRANSACTION)
        if hits >= ROUNDS:
            break
    assert hits >= 100, "kills between BEGIN and the acknowledgement"


def test_kills_of_a_process_that_opens_and_closes_all_the_time(folder: Path) -> None:
    rng = random.Random(21)
    for database, acknowledged in databases(folder, 40, 20):
        with Child(children.open_write_close_until_killed, database) as child:
            received = [child.receive() for _ in range(rng.randrange(1, 6))]
            child.pipe.poll(rng.uniform(0, 0.004))
            child.kill()
            received += child.rest()
        acknowledged.update({seq: (key, value) for written in received for seq, key, value in written})
        check(database, acknowledged, 1)


# --- a -wal file that lost its end -----------------------------------------------------------------------------------


def history_of(database: Path) -> list[int]:
    """Return the seqs of all versions, after checking that versions and events are the same ones."""
    with AgentMemory("auditor", database, clock=lambda: children.START) as mem:
        report = mem.verify()
        assert report.ok, report
        versions = mem.list(include_superseded=True)
        events = mem.timeline(agent_id="*", limit=1000)
        assert [entry.seq for entry in versions] == [event.seq for event in reversed(events)]
        assert all(entry.value[0] == number for number, entry in enumerate(versions))
        return [entry.seq for entry in versions]


@pytest.mark.parametrize("damage", ["cut", "one byte", "a sector of zeros"])
def test_of_a_damaged_wal_file_an_exact_prefix_of_history_is_left(damage: str, tmp_path: Path) -> None:
    rng = random.Random(22)
    database, copy = tmp_path / "memory.db", tmp_path / "copy.db"
    AgentMemory("writer", database).close()
    with Child(children.write_and_die, database, 80) as child:
        seqs = child.receive()
        child.send()
        assert child.exit_code == -signal.SIGKILL
    wal = Path(f"{database}-wal").read_bytes()
    assert len(wal) > 80 * 4096
    lengths: set[int] = set()
    for _ in range(200 if damage == "cut" else 50):
        at = rng.randrange(len(wal))
        shutil.copy(database, copy)
        Path(f"{copy}-wal").write_bytes(
            wal[:at] if damage == "cut"
            else wal[:at] + bytes([wal[at] ^ 1]) + wal[at + 1 :] if damage == "one byte"
            else wal[: at & ~511] + bytes(512) + wal[(at & ~511) + 512 :]
        )  # fmt: skip
        left = history_of(copy)
        assert left == seqs[: len(left)]
        lengths.add(len(left))
    assert len(lengths) > 10
    Path(f"{copy}-wal").write_bytes(wal)
    shutil.copy(database, copy)
    assert history_of(copy) == seqs
