"""Watching the SQL statements that run, from outside: no part of the storage is replaced.

SQLite tells a trace callback of every statement that is about to run; it is set on each connection as it is opened.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def watching(callback: Callable[[str], None]) -> Iterator[None]:
    """Call a function with each statement about to run on a connection that is opened inside the block."""
    connect = sqlite3.connect

    def watched(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(callback)
        return connection

    sqlite3.connect = watched
    try:
        yield
    finally:
        sqlite3.connect = connect


@contextmanager
def statements() -> Iterator[list[str]]:
    """Return the list to which statements are added as they run; clear it to start counting."""
    seen: list[str] = []
    with watching(seen.append):
        yield seen
