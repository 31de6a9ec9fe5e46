"""SQLite's errors as ours, by their codes."""

from __future__ import annotations

import json
import sqlite3

from amfs.errors import (
    CannotOpenDatabaseError,
    CorruptDatabaseError,
    DatabaseBusyError,
    DatabaseError,
    DatabaseFullError,
    NotADatabaseError,
    ReadOnlyDatabaseError,
)

_ERRORS: dict[int, tuple[type[DatabaseError], str]] = {
    sqlite3.SQLITE_NOTADB: (NotADatabaseError, "is not an SQLite database; nothing was written to it"),
    sqlite3.SQLITE_CANTOPEN: (
        CannotOpenDatabaseError,
        "cannot be opened: check that it exists and who may read it",
    ),
    sqlite3.SQLITE_PERM: (CannotOpenDatabaseError, "cannot be opened: permission denied"),
    sqlite3.SQLITE_READONLY: (ReadOnlyDatabaseError, "is read-only: it can be read, not written"),
    sqlite3.SQLITE_FULL: (
        DatabaseFullError,
        "cannot grow: the disk is full. The write was undone; free some space",
    ),
    sqlite3.SQLITE_IOERR: (DatabaseFullError, "cannot be written or read: disk error, or the disk is full"),
    sqlite3.SQLITE_BUSY: (DatabaseBusyError, "is locked by another program; try again when it is done"),
    sqlite3.SQLITE_LOCKED: (DatabaseBusyError, "is locked by another program; try again when it is done"),
    sqlite3.SQLITE_CORRUPT: (CorruptDatabaseError, "is damaged: restore a backup"),
}


Failure = sqlite3.Error | json.JSONDecodeError | UnicodeDecodeError
"""What comes out of a database that cannot be used; also text of SQLite's, or in it, that is no UTF-8 or no JSON."""


def translate(error: Failure, database: str) -> DatabaseError:
    """Return SQLite's error as ours, by its code and never by its text; what cannot be read back is damage too."""
    code = getattr(error, "sqlite_errorcode", None)
    kind, what = _ERRORS.get((code or 0) & 0xFF, (DatabaseError, f"failed: {error}"))
    # Python's own errors, of text that is no UTF-8 or no JSON, have no code.
    if code is None and isinstance(error, sqlite3.OperationalError | json.JSONDecodeError | UnicodeDecodeError):
        kind, what = _ERRORS[sqlite3.SQLITE_CORRUPT]
    if code == sqlite3.SQLITE_CORRUPT_VTAB:
        what = "has a damaged search index: rebuild_search_index() makes it anew from the log"
    return kind(f"database {database!r} {what}")
