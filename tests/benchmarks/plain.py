"""What a user would write without AMFS: the current state of every key in one table of plain sqlite3."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_UPSERT = """INSERT OR REPLACE INTO entry(path, key, value, version, confidence, agent, created_at, updated_at)
 VALUES(?, ?, ?, ?, ?, ?, ?, ?)"""
_SELECT = "SELECT value, version, confidence, agent, created_at, updated_at FROM entry WHERE path = ? AND key = ?"


class PlainTable:
    """One row per key: no versions, no events, no branches."""

    def __init__(self, path: Path, durability: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {durability}")
        self._connection.execute("PRAGMA cache_size = -16384")
        self._connection.execute("PRAGMA wal_autocheckpoint = 4000")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS entry(path TEXT, key TEXT, value TEXT, version INTEGER, confidence REAL,"
            " agent TEXT, created_at INTEGER, updated_at INTEGER, PRIMARY KEY(path, key)) WITHOUT ROWID"
        )

    def fill(self, items: Iterable[tuple[str, str, Any]]) -> None:
        """Write many rows in one transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        rows = ((path, key, json.dumps(value), 1, 1.0, "agent", 0, 0) for path, key, value in items)
        self._connection.executemany(_UPSERT, rows)
        self._connection.execute("COMMIT")

    def write(self, path: str, key: str, value: Any) -> None:
        """Write one row in a transaction of its own."""
        now = time.time_ns() // 1000
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(_UPSERT, (path, key, json.dumps(value), 2, 1.0, "agent", now, now))
        self._connection.execute("COMMIT")

    def read(self, path: str, key: str) -> Any:
        """Return the row of a key."""
        return self._connection.execute(_SELECT, (path, key)).fetchone()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class PlainHistory:
    """What a user would write by hand to keep history: a row in a version table and one in an event table."""

    def __init__(self, path: Path, durability: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {durability}")
        self._connection.execute("PRAGMA wal_autocheckpoint = 4000")
        self._connection.executescript(
            "CREATE TABLE IF NOT EXISTS version(id INTEGER PRIMARY KEY, path TEXT, key TEXT, version INTEGER,"
            " value TEXT, confidence REAL, agent TEXT, written_at INTEGER, UNIQUE(path, key, version));"
            "CREATE TABLE IF NOT EXISTS event(id INTEGER PRIMARY KEY, type TEXT, agent TEXT, summary TEXT, at INTEGER);"
            "CREATE INDEX IF NOT EXISTS event_agent ON event(agent)"
        )

    def write(self, path: str, key: str, value: Any) -> None:
        """Write a version and its event in one transaction."""
        now = time.time_ns() // 1000
        self._connection.execute("BEGIN IMMEDIATE")
        newest = self._connection.execute(
            "SELECT max(version) FROM version WHERE path = ? AND key = ?", (path, key)
        ).fetchone()[0]
        number = (newest or 0) + 1
        self._connection.execute(
            "INSERT INTO version(path, key, version, value, confidence, agent, written_at) VALUES(?, ?, ?, ?, ?, ?, ?)",
            (path, key, number, json.dumps(value), 1.0, "agent", now),
        )
        self._connection.execute(
            "INSERT INTO event(type, agent, summary, at) VALUES(?, ?, ?, ?)",
            ("write", "agent", f"Wrote {path}/{key} v{number}", now),
        )
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
