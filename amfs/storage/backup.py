"""Backup and restore: a whole database is copied, the copy is verified, and only then it takes its place.

A copy is made by SQLite, never by copying files: those lack what stands in the log beside them, and closing a file that
SQLite has open in the same process would drop its locks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

from amfs.errors import (
    CannotOpenDatabaseError,
    CorruptDatabaseError,
    DatabaseBusyError,
    InvalidInputError,
    NotADatabaseError,
)
from amfs.models import Durability
from amfs.storage import files
from amfs.storage.codes import translate
from amfs.storage.locking import FileLock
from amfs.storage.migrations import APPLICATION_ID
from amfs.storage.sqlite import MEMORY, SQLiteStorage, look_at, recognise

Checked = tuple[list[str], int, list[tuple[str, str]]]
"""The names of the checks, the number of versions, and what was found."""


def backup_database(storage: SQLiteStorage, path: object) -> Checked:
    """Copy a database, as it is now, into a file, and return what the check of the copy found: nothing.

    All pages are copied in one step, which reads one state while others go on writing. So there is no need to make
    them wait at their lock, and nothing makes the copy start again, as copying some pages at a time does whenever
    another process writes: under load that never came to an end.
    """
    target = files.file_path("path", path)
    database = None if storage.database == MEMORY else storage.database
    files.refuse_own("path", target, database)
    with files.explained(target), files.workshop(target) as folder:
        copy = folder / "copy.db"
        with storage.reading() as tables:
            _copy(tables.connection, copy, target)
        found = _checked(copy, f"the copy, and so database {storage.database!r},")
        is_used = target.exists() or Path(f"{target}-lock").exists()
        with _holding(target) if is_used else nullcontext():  # a place nobody uses stays without a lock beside it
            _put_in_place(copy, target, None if database is None else Path(database))
    return found


def restore_database(path: object, source: object) -> Checked:
    """Put a copy of a backup in the place of a database that nobody has open, and return what the check of it found.

    A handle that has no connection at that moment, as just after its process was forked, cannot be noticed.
    """
    target, origin = files.file_path("path", path), files.file_path("source", source)
    if target == origin or (target.exists() and origin.exists() and target.samefile(origin)):
        raise InvalidInputError(f"path and source are the same file, {str(target)!r}; there is nothing to restore")
    with files.explained(origin), _source(origin) as connection, files.explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.workshop(target) as folder:
            copy = folder / "copy.db"
            _copy(connection, copy, target)
            found = _checked(copy, f"backup {str(origin)!r}")
            with _holding(target):
                _put_in_place(copy, target, target if target.exists() else origin)
    return found


def _source(path: Path) -> closing[sqlite3.Connection]:
    """Open a backup so that neither it nor a log beside it can change."""
    if not path.exists():
        raise CannotOpenDatabaseError(f"there is no file {str(path)!r}; pass the path of a backup")
    connection = look_at(path)
    try:
        is_empty = recognise(connection, str(path)) == 0
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise translate(error, str(path)) from error
        raise
    if is_empty:
        connection.close()
        raise NotADatabaseError(f"{str(path)!r} is empty; pass the path of a backup")
    return closing(connection)


def _copy(connection: sqlite3.Connection, copy: Path, target: Path) -> None:
    try:
        with closing(sqlite3.connect(copy, isolation_level=None)) as destination:
            destination.execute("PRAGMA journal_mode = OFF")  # it is thrown away if anything fails
            destination.execute("PRAGMA synchronous = OFF")
            connection.backup(destination, pages=-1)
    except sqlite3.Error as error:
        raise translate(error, str(target)) from error


def _checked(copy: Path, what: str) -> Checked:
    """Verify a copy as any database, which brings it to the schema of this code too."""
    try:
        with SQLiteStorage(str(copy), Durability.NORMAL) as storage, storage.snapshot() as tables:
            found = tables.problems()
    except (CorruptDatabaseError, NotADatabaseError) as error:
        raise CorruptDatabaseError(f"{what} is damaged and cannot be read; nothing was changed") from error
    if found[2]:
        check, detail = found[2][0]
        raise CorruptDatabaseError(f"{what} is damaged ({check}: {detail}); nothing was changed")
    return found


@contextmanager
def _holding(path: Path) -> Generator[None]:
    """Keep everybody from opening a database."""
    with closing(FileLock(Path(f"{path}-lock"))) as lock:
        lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _put_in_place(copy: Path, path: Path, like: Path | None) -> None:
    """Put a verified copy in its place; what was there before is complete in its file until that moment."""
    if path.exists():
        _require_unused(path)
    for sidecar in (Path(f"{path}{suffix}") for suffix in files.SIDECARS):
        sidecar.unlink(missing_ok=True)
    files.put(copy, path, like)


def _require_unused(path: Path) -> None:
    """Refuse a file that is not ours, or that anybody has open; what is in its log is brought into the file."""
    busy = f"database {str(path)!r} is open: close every handle on it, here and in other processes, then try again"
    try:
        _require_ours(path)
        uri = f"{path.as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")  # every connection to a database with a log keeps a lock on it
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        code = error.sqlite_errorcode & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise DatabaseBusyError(busy) from error
        if code == sqlite3.SQLITE_NOTADB:
            raise NotADatabaseError(
                f"{str(path)!r} is not an SQLite database; it was not touched. If it is one that was damaged, move it "
                "away and try again"
            ) from error
        if code != sqlite3.SQLITE_CORRUPT:  # it is to be replaced, so it may be damaged
            raise translate(error, str(path)) from error
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size:
        raise DatabaseBusyError(busy)


def _require_ours(path: Path) -> None:
    with closing(look_at(path)) as connection:
        ours = int(connection.execute("PRAGMA application_id").fetchone()[0]) == APPLICATION_ID
    if not ours and path.stat().st_size:
        raise NotADatabaseError(f"{str(path)!r} is a file of another program; it was not touched. Choose another path")
