"""Whatever is edited, deleted or damaged in a file shows: as a problem that verify reports, or as a typed error.

The exceptions are named, with the reason.
"""
# ruff: noqa: S608 - names of tables and columns, from the schema

from __future__ import annotations

import os
import random
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from amfs import AgentMemory
from amfs.errors import AMFSError
from amfs.storage.rows import NOW
from tests import helpers_busy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Damage = tuple[str, str, tuple[Any, ...]]
"""What is damaged, and the statement that does it with its parameters."""

ROWS = 6
"""How many rows of a table are edited in each of their columns, one at a time."""

_TOLD_BY_NOBODY = "no event tells it"
NOT_NOTICED = {
    "imported.last": "what was written there later could have been imported as well",
    "read_set.run": "any run could have read it",
    "read_set.outcome": "any later outcome of the run could have judged it",
    "read_set.seq": "any version could have been read",
    "read_set.count": _TOLD_BY_NOBODY,
    "conflict.id": "an event names a conflict only once it is resolved",
    "census.owner": "an owner with as many entries in that view",
    "search_state.seq": "what was written last could not have been taken in yet",
    "search_state.last": "more or less could have been written when it last caught up",
    "search_state.branch": "the branches made last could not have been taken in yet",
    "search_state.format": "an index of another format is made anew",
    "search_state.removed": _TOLD_BY_NOBODY,
}
"""Columns of which some row can be edited without a trace, and why."""

DELETED_UNNOTICED = {
    "log": "an event that nothing refers to, as a note, a read, a tag that is gone; an import leaves gaps as well",
    "access": "an import brings the events of grants, but no grants",
    "api_key": "an import brings the events of keys, but no keys",
    "brief": "it is compiled anew",
    "census": "it is counted anew",
    "embedded": "a text need not have a vector yet",
    "conflict": "a merge may have waited for any number of conflicts",
    "experiment": "any branch may be called experiment/...",
    "idempotency": "a write need not have a key",
    "read_set": "nothing need have been read",
    "pending_write": "a task need not have written yet",
}
"""Tables of which some row can be deleted without a trace, and why."""

OVERWRITES = 300
"""How many times four bytes of a file are overwritten, each in a copy of its own."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the content of a closed database in which everything that can be stored has been stored."""
    database = tmp_path_factory.mktemp("whole") / "memory.db"
    helpers_busy.build(database, entries=12)
    return database.read_bytes()


@pytest.fixture
def database(whole: bytes, tmp_path: Path) -> Path:
    """Return a copy of that database."""
    path = tmp_path / "memory.db"
    path.write_bytes(whole)
    return path


def is_noticed(database: Path) -> bool:
    """Return whether damage is reported, or met by a typed error."""
    try:
        with AgentMemory("alice", database) as mem:
            return not mem.verify().ok
    except AMFSError:
        return True


# --- rows ------------------------------------------------------------------------------------------------------------


def tables(database: Path) -> dict[str, list[str]]:
    """Return the columns of every table."""
    with closing(sqlite3.connect(database)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        names.remove("_sqlite_migrations")  # what sqlite-utils keeps about itself; what counts is user_version
        # What FTS5 keeps of words is made of the log; verify counts them, and rebuild_search_index makes them anew.
        names = [name for name in names if not re.fullmatch(r"search_\w+_text\w*", name)]
        return {
            name: [row[1] for row in connection.execute("SELECT * FROM pragma_table_info(?)", (name,))]
            for name in names
        }


def rows(
    connection: sqlite3.Connection, table: str, columns: list[str], most: int | None = None
) -> list[tuple[str, tuple[Any, ...]]]:
    """Return rows of a table, ``most`` and the last one spread over it, each with the condition that finds it."""
    found = connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {', '.join(columns)}").fetchall()
    step = 1 if most is None else max(1, len(found) // most)
    return [(" AND ".join(f"{column} IS ?" for column in columns), row) for row in [*found[:-1:step], found[-1]]]


def others(connection: sqlite3.Connection, table: str, column: str, value: object) -> list[object]:
    """Return plausible values to put in the place of one: what another row holds there, and what is near to it."""
    query = f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT ? AND {column} IS NOT NULL LIMIT 3"
    found: list[object] = [other for (other,) in connection.execute(query, (value,))]
    match value:
        case int() | float():
            found.append(value - 1 if value == NOW else value + 1)
        case str() if re.fullmatch(r"[\[{\"].*", value):
            found.append(re.sub(r"\d|[a-z](?=\")", "7", value, count=1))
        case str():
            found.append(f"{value[:-1]}X")
        case bytes():
            found.append(bytes(len(value)))
        case _:
            pass
    return [one for one in found if one != value]


def edits(database: Path) -> Iterator[Damage]:
    """Yield edits of one value each: the column, a statement and its parameters."""
    with closing(sqlite3.connect(database)) as connection:
        for table, columns in tables(database).items():
            for condition, row in rows(connection, table, columns, ROWS):
                for column, value in zip(columns, row, strict=True):
                    for other in others(connection, table, column, value)[-2:]:
                        statement = f"UPDATE {table} SET {column} = ? WHERE {condition}"
                        yield f"{table}.{column}", statement, (other, *row)


def deletions(database: Path) -> Iterator[Damage]:
    """Yield deletions of one row each: the table, a statement and its parameters."""
    with closing(sqlite3.connect(database)) as connection:
        for table, columns in tables(database).items():
            for condition, row in rows(connection, table, columns):
                yield table, f"DELETE FROM {table} WHERE {condition}", row


def unnoticed(database: Path, damage: Iterable[Damage]) -> tuple[set[str], set[str]]:
    """Do each damage to a copy of its own; return the names of what was done, and of what was not noticed."""
    whole = database.read_bytes()
    done: set[str] = set()
    missed: set[str] = set()
    for name, statement, parameters in damage:
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = off")
            try:
                assert connection.execute(statement, parameters).rowcount == 1
            except sqlite3.IntegrityError:  # the schema itself refuses it
                continue
        done.add(name)
        if not is_noticed(database):
            missed.add(name)
        database.write_bytes(whole)
    return done, missed


def test_an_edit_of_any_column_is_noticed(database: Path) -> None:
    done, missed = unnoticed(database, list(edits(database)))
    assert done == {f"{table}.{column}" for table, columns in tables(database).items() for column in columns}
    assert missed == NOT_NOTICED.keys()


def test_a_deleted_row_is_noticed(database: Path) -> None:
    done, missed = unnoticed(database, list(deletions(database)))
    assert done == tables(database).keys()
    assert missed == DELETED_UNNOTICED.keys()


# --- bytes -----------------------------------------------------------------------------------------------------------


def test_random_damage_never_gives_a_wrong_answer_without_a_report(tmp_path: Path) -> None:
    seed = int(os.environ.get("AMFS_DAMAGE_SEED") or random.SystemRandom().randrange(2**32))
    print(f"to repeat this run: AMFS_DAMAGE_SEED={seed}")
    chance = random.Random(seed)
    database = tmp_path / "memory.db"
    helpers_busy.build(database, entries=700, clock=lambda: 1_750_000_000_000_000)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("VACUUM")  # what is free can be overwritten without harm
    content = database.read_bytes()
    whole = readable(database)
    reported = 0
    for _ in range(OVERWRITES):
        position = chance.randrange(len(content) - 4)
        database.write_bytes(content[:position] + chance.randbytes(4) + content[position + 4 :])
        if is_noticed(database):
            reported += 1
        else:
            assert readable(database) == whole, f"bytes {position} to {position + 3}"
    assert reported > OVERWRITES / 2, "most of the file holds something"


def readable(database: Path) -> list[Any]:
    """Return what can be read of both namespaces, or that nothing can."""
    try:
        with AgentMemory("alice", database) as mem, AgentMemory("carol", database) as carol:
            return [*helpers_busy.everything(mem), *helpers_busy.everything(carol)]
    except AMFSError as error:
        return [error.code]
