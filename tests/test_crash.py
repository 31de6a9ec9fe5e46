"""Crashes: processes killed at every statement, inside commits and at random moments, and -wal files cut anywhere.

An acknowledged write is there afterwards, with its event; one that was not acknowledged is there whole or not at all;
the invariants hold; writing goes on and the lock is free.
"""

from __future__ import annotations

import gzip
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amfs import AgentMemory
from tests import helpers_crash as children
from tests import helpers_steps as steps
from tests.helpers_processes import Child
from tests.helpers_tables import contents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from amfs.models import Entry

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and forked children")

OLD = Path(__file__).parent / "data" / "schema-1.db.gz"  # made by the code of schema 1
SMALLEST_TRANSACTION = 3
WRITING = ("INSERT", "UPDATE", "DELETE", "COMMIT", "CREATE", "ALTER", "PRAGMA")


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
    steps.build_for_review(database)
    return database


def is_usable(database: Path) -> bool:
    """Return whether others can open the database, write, and find nothing wrong."""
    with AgentMemory("survivor", database) as mem:
        before = mem.read("svc", "a")
        entry = mem.write("svc", "a", "life goes on")
        assert before is None or entry.version == before.version + 1
        return mem.verify().ok


def amounts(rng: random.Random, low: int, high: int, count: int) -> list[int]:
    """Return so many different sizes from ``low`` up to, and without, ``high``; ``low`` is one of them."""
    return [low, *rng.sample(range(low + 1, high), count - 1)]


def spend(seconds: float) -> None:
    """Let some time pass, more exactly than waiting would, to the part of a millisecond that a write takes."""
    begun = time.perf_counter()
    while time.perf_counter() < begun + seconds:
        pass


# --- in the middle of an operation -----------------------------------------------------------------------------------


def killed(database: Path, name: str, **when: int) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows that an operation leaves that is killed at some point, or before it is acknowledged."""
    with Child(steps.perform, database, name, **when) as child:
        assert child.exit_code == -(signal.SIGXFSZ if "size" in when else signal.SIGKILL)
        assert child.rest() == []
    with children.repeatable("ada", database) as mem:
        assert mem.verify().ok
    rows = contents(database)
    assert is_usable(database)
    return rows


@pytest.mark.parametrize("name", steps.STEPS)
def test_an_operation_killed_anywhere_is_done_or_was_never_begun(name: str, base: Path, folder: Path) -> None:
    def copy(which: str) -> Path:
        return Path(shutil.copy(base, folder / f"{which}.db"))

    with steps.STEPS[name].open(copy("before")):
        before = contents(folder / "before.db")
    with Child(steps.perform, copy("undisturbed"), name, live=True) as child:
        statements, (small, large) = child.receive()
        after = contents(folder / "undisturbed.db")
        child.send()
        assert child.exit_code == 0
    assert after != before
    assert statements.count("BEGIN IMMEDIATE") == statements.count("COMMIT") == 1, "one operation is one transaction"
    writing = [number for number, text in enumerate(statements) if text.split()[0] in WRITING]
    for number in writing:
        assert killed(copy(f"at {number}"), name, statement=number) == before, statements[number]
    sizes = amounts(random.Random(name), small, large, 5)
    for size in sizes:
        assert killed(copy(f"at size {size}"), name, size=size) == before
    assert killed(copy("after"), name) == after
    print(f"{name}: {len(writing)} kills at statements, {len(sizes)} inside the commit, 1 before it is acknowledged")


def test_a_creation_killed_at_any_statement_can_be_completed(folder: Path) -> None:
    with Child(children.create, folder / "whole.db", -1) as child:
        statements = child.result()
    assert statements > 20
    for number in range(statements):
        database = folder / f"{number}.db"
        with Child(children.create, database, number) as child:
            assert child.exit_code == -signal.SIGKILL
        assert is_usable(database)


def schema_of(database: Path, copy: Path, old: Path) -> int:
    """Return the schema version that a killed process left, looking at a copy of its files; no row may be changed."""
    for suffix in ("", "-wal"):
        if Path(f"{database}{suffix}").exists():
            shutil.copy(f"{database}{suffix}", f"{copy}{suffix}")
    with closing(sqlite3.connect(copy)) as connection:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    assert rows_of(copy).keys() >= {"log", "head"}
    if version == 1:
        assert rows_of(copy) == rows_of(old)
    return version


def rows_of(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows but the times at which the schema was changed, which is noted by the system's clock."""
    return {name: rows for name, rows in contents(database).items() if name != "_sqlite_migrations"}


def test_a_migration_killed_anywhere_is_done_or_was_never_begun(folder: Path) -> None:
    def copy(which: object) -> Path:
        return Path(shutil.copy(old, folder / f"{which}.db"))

    old = folder / "old.db"
    old.write_bytes(gzip.decompress(OLD.read_bytes()))
    with Child(children.migrate, copy("whole"), None, None) as child:
        seen = child.result()
    after, versions = rows_of(folder / "whole.db"), list[int]()
    writing = [number for number, (text, _) in enumerate(seen) if text.split()[0] in WRITING]
    small, large = next(size for text, size in seen if text == "COMMIT"), seen[-1][1]
    points = [(number, None) for number in writing] + [
        (None, size) for size in amounts(random.Random(5), small, large, 20)
    ]
    for number, (statement, size) in enumerate(points):
        database = copy(number)
        with Child(children.migrate, database, statement, size) as child:
            assert child.exit_code == -(signal.SIGKILL if size is None else signal.SIGXFSZ)
        versions.append(schema_of(database, folder / "look.db", old))
        with AgentMemory("ada", database) as mem:
            assert mem.verify().ok
        assert rows_of(database) == after
        assert is_usable(database)
    print(f"migration: {len(points)} kills, {versions.count(2)} after it was done")
    assert len(points) > 40
    assert versions.count(1) > 30


# --- in a checkpoint -------------------------------------------------------------------------------------------------


def test_a_close_killed_while_it_moves_the_log_into_the_file_loses_nothing(folder: Path) -> None:
    rng, database, copy = random.Random(23), folder / "memory.db", folder / "copy.db"
    seqs = die_with_a_full_log(database)
    wal = Path(f"{database}-wal").read_bytes()
    with Child(children.close_until_killed, fill(copy, database, wal), None) as child:
        child.receive()
        child.send()
        assert child.exit_code == 0
    small, large = database.stat().st_size, copy.stat().st_size
    sizes = [*amounts(rng, small, large, 30), *[None] * 30]
    for size in sizes:
        with Child(children.close_until_killed, fill(copy, database, wal), size) as child:
            if size is None:
                assert child.receive() == "closing"
                spend(rng.uniform(0, 0.003))
                child.kill()
            else:
                assert child.exit_code == -signal.SIGXFSZ
                assert Path(f"{copy}-wal").read_bytes() == wal
                assert small <= copy.stat().st_size <= size
        assert history_of(copy) == seqs
        assert is_usable(copy)
    print(f"checkpoint: {len(sizes)} kills")


def die_with_a_full_log(database: Path) -> list[int]:
    """Let a process write many versions and die, so that the -wal file holds them; return their seqs."""
    AgentMemory("writer", database).close()
    with Child(children.write_and_die, database, 60) as child:
        seqs = child.receive()
        child.send()
        assert child.exit_code == -signal.SIGKILL
    return seqs


def fill(copy: Path, database: Path, wal: bytes) -> Path:
    """Make a copy of a database with a -wal file beside it, in the place of what was there."""
    Path(f"{copy}-shm").unlink(missing_ok=True)
    shutil.copy(database, copy)
    Path(f"{copy}-wal").write_bytes(wal)
    return copy


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


@pytest.mark.parametrize("checkpoint_pages", [4000, 8])
def test_acknowledged_writes_survive_a_hundred_kills_of_their_writer(checkpoint_pages: int, folder: Path) -> None:
    rng = random.Random(checkpoint_pages)
    for number, (database, acknowledged) in enumerate(databases(folder, 60, 10)):
        before = rng.randrange(1, 6)
        arguments = (database, ("full", "normal")[number % 2], checkpoint_pages, before)
        with Child(children.write_until_killed, *arguments) as child:
            received = [child.receive() for _ in range(before)]
            assert child.receive() == "begun"
            spend(rng.uniform(0, 0.001))
            child.kill()
            assert child.rest() == []
        acknowledged.update({seq: (key, value) for written in received for seq, key, value in written})
        check(database, acknowledged, SMALLEST_TRANSACTION)


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


DAMAGES: dict[str, Callable[[bytes, int], bytes]] = {
    "cut": lambda wal, at: wal[:at],
    "one bit": lambda wal, at: wal[:at] + bytes([wal[at] ^ 1]) + wal[at + 1 :],
    "one byte": lambda wal, at: wal[:at] + bytes([wal[at] ^ 255]) + wal[at + 1 :],
    "a sector of zeros": lambda wal, at: wal[: at & ~511] + bytes(512) + wal[(at & ~511) + 512 :],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_of_a_damaged_wal_file_an_exact_prefix_of_history_is_left(damage: str, folder: Path) -> None:
    rng, database, copy = random.Random(damage), folder / "memory.db", folder / "copy.db"
    seqs = die_with_a_full_log(database)
    wal = Path(f"{database}-wal").read_bytes()
    assert len(wal) > 60 * 4096
    lengths: set[int] = set()
    for _ in range(250):
        left = history_of(fill(copy, database, DAMAGES[damage](wal, rng.randrange(len(wal)))))
        assert left == seqs[: len(left)]
        lengths.add(len(left))
    assert len(lengths) > 40
    assert history_of(fill(copy, database, wal)) == seqs
