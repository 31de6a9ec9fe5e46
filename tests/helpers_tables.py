"""All rows of all tables of a database file, read beside the engine: what a refused call must leave as it was."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def contents(database: str | Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of every table by the table's name."""
    with closing(sqlite3.connect(database)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in names}  # noqa: S608 - names of tables


def changed(before: dict[str, list[tuple[Any, ...]]], after: dict[str, list[tuple[Any, ...]]]) -> dict[str, int]:
    """Return how many rows of each table are in one state and not in the other; tables that are equal are left out."""
    counts = {name: len(set(before.get(name, ())) ^ set(after.get(name, ()))) for name in before.keys() | after.keys()}
    return {name: count for name, count in counts.items() if count}
