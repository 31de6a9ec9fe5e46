"""The SQLite storage: connections, durability, and what may be opened at all.

A connection serves one thread at a time: a transaction takes one from the pool and gives it back, so a thread that
works alone keeps meeting the same one, with its caches warm. No connection lives across a fork. ``":memory:"`` is one
connection behind a lock.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from amfs.errors import (
    CannotOpenDatabaseError,
    HandleClosedError,
    NewerSchemaError,
    NotADatabaseError,
    ReadOnlyDatabaseError,
)
from amfs.models import Durability
from amfs.storage.codes import translate
from amfs.storage.locking import FileLock, NoLock
from amfs.storage.migrations import APPLICATION_ID, SCHEMA_VERSION, migrate
from amfs.storage.queries import PAGE_BYTES
from amfs.storage.rows import SearchIndex
from amfs.storage.tables import Names, Tables
from amfs.storage.transactions import (
    BUSY_SECONDS,
    CHECKPOINT_PAGES,
    SQLiteReading,
    SQLiteSearching,
    SQLiteSnapshot,
    SQLiteWriting,
)

MEMORY = ":memory:"

_CACHE_KIB = 16_384


def look_at(path: Path) -> sqlite3.Connection:
    """Open a database that must not change, not even by recovering its log."""
    # Without a log beside it the file is all there is; to say so keeps SQLite from making the files a log needs.
    logged = Path(f"{path}-wal").exists()
    uri = f"{path.as_uri()}?mode=ro{'' if logged else '&immutable=1'}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def recognise(connection: sqlite3.Connection, database: str) -> int:
    """Return the schema version of a database that is ours, 0 of one that is empty, or raise."""
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    ours = int(connection.execute("PRAGMA application_id").fetchone()[0]) == APPLICATION_ID
    tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if not ours and (tables or found):
        raise NotADatabaseError(f"{database!r} is an SQLite database of another program; it was not touched")
    if found > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"database {database!r} has schema {found}, this version of AMFS knows {SCHEMA_VERSION}: "
            "upgrade AMFS. The file was not touched"
        )
    return found


class SQLiteStorage:
    """A database in one SQLite file, or in memory."""

    def __init__(self, database: str, durability: Durability) -> None:
        self._location = _Location.parse(database)
        self._durability = durability
        self._names = Names()
        self._closed = False
        self._idle: deque[Tables] = deque()
        self._mutex = threading.RLock()
        self._gate = threading.Condition(self._mutex)
        self._in_use = 0
        self._forking = False
        self._in_memory = database == MEMORY
        self._lock: FileLock | NoLock = NoLock()
        try:
            self._read_only = self._location.check()
        except OSError as error:
            raise CannotOpenDatabaseError(f"database {database!r} cannot be opened: {error}") from error
        path = self._location.path
        self._identity = f"memory:{id(self)}" if path is None else str(path.resolve())
        if self._location.path is not None and not self._read_only:
            self._lock = FileLock(Path(f"{self._location.path}-lock"))
        self._finalizer = weakref.finalize(self, _close_all, self._idle, self._lock, wait=False)
        self._open()
        _storages.add(self)

    # --- what it is ------------------------------------------------------------------------------------------------

    @property
    def identity(self) -> str:
        """What two handles on the same database have in common."""
        return self._identity

    @property
    def database(self) -> str:
        """Where the database is."""
        return MEMORY if self._location.path is None else str(self._location.path)

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written."""
        return self._read_only

    @property
    def syncs(self) -> bool:
        """Whether a commit waits for the disk, or for a connection."""
        return self._in_memory or self._durability is Durability.FULL

    def describe(self) -> dict[str, str | int]:
        """Return durability, schema and engine versions and the size of the file in bytes."""
        with self.reading() as tables:
            size = int(tables.connection.execute(PAGE_BYTES).fetchone()[0])
        return {
            "durability": self._durability.value,
            "schema_version": SCHEMA_VERSION,
            "engine_version": sqlite3.sqlite_version,
            "file_bytes": size,
        }

    # --- transactions ----------------------------------------------------------------------------------------------

    def reading(self) -> SQLiteReading:
        """Return a context for one statement."""
        return SQLiteReading(self)

    def snapshot(self) -> SQLiteSnapshot:
        """Return a context in which several statements see the same state."""
        return SQLiteSnapshot(self)

    def writing(self) -> SQLiteWriting:
        """Return a context for a transaction that writes; it waits for its turn."""
        if self._read_only:
            raise ReadOnlyDatabaseError(f"database {self.database!r} is read-only: it can be read, not written")
        return SQLiteWriting(self)

    def searching(self, index: SearchIndex) -> SQLiteSearching:
        """Return a context in which several statements see the same state, of which a search index holds all."""
        return SQLiteSearching(self, index)

    def backup(self, path: object) -> tuple[list[str], int, list[tuple[str, str]]]:
        """Copy the database into a file and return what the check of the copy found."""
        from amfs.storage.backup import backup_database  # it opens the copy as a storage, so it imports this module

        return backup_database(self, path)

    # --- connections -----------------------------------------------------------------------------------------------

    @property
    def lock(self) -> FileLock | NoLock:
        """The lock that writers queue at."""
        return self._lock

    def take(self) -> Tables:
        """Take an idle connection, or open one; there is just one in memory, and others wait for it."""
        if self._in_memory:
            return self._take_only()
        with self._mutex:
            while self._forking:
                self._gate.wait()
            if self._closed:
                raise HandleClosedError("this database was closed; open it again")
            tables = self._idle.pop() if self._idle else Tables(self._connect(), self._names)
            if tables.connection.in_transaction:  # an interrupted snapshot left it so
                tables.connection.execute("ROLLBACK")
            self._in_use += 1
        return tables

    def _take_only(self) -> Tables:
        self._gate.acquire()
        if self._closed:
            self._gate.release()
            raise HandleClosedError("this database was closed; open it again")
        return self._idle[0]

    def give_back(self, tables: Tables) -> None:
        """Return a connection to the pool."""
        if self._in_memory:
            self._gate.release()
            return
        with self._mutex:
            self._in_use -= 1
            self._idle.append(tables)
            if self._forking:
                self._gate.notify_all()
        if self._closed:
            _close_all(self._idle, self._lock, wait=False)

    def close(self) -> None:
        """Close every connection that is not in use; those in use close when they are given back."""
        self._closed = True
        if self._finalizer.detach() is not None:
            _close_all(self._idle, self._lock, wait=True)

    def before_fork(self) -> None:
        """Let no connection live across a fork: SQLite would take the parent's file locks for the child's own.

        Waits until those in use are given back; a transaction runs no user code, so that is soon.
        """
        self._gate.acquire()
        self._forking = True
        self._gate.wait_for(lambda: not self._in_use, timeout=BUSY_SECONDS)
        if not self._in_memory:
            _close_all(self._idle, self._lock, wait=False)

    def after_fork_in_parent(self) -> None:
        """Go on; connections are opened anew on demand."""
        self._forking = False
        self._gate.notify_all()
        self._gate.release()

    def after_fork_in_child(self) -> None:
        """Start anew: the threads that held anything are not in this process."""
        self._mutex = threading.RLock()
        self._gate = threading.Condition(self._mutex)
        self._in_use, self._forking = 0, False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._location.uri(read_only=self._read_only),
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA synchronous = {self._durability.name}")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # reads the file, and finds what it is
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self) -> None:
        try:
            self._lock.acquire()
            try:
                self._look()
                connection = self._connect_first()
                try:
                    self._prepare(connection)
                except BaseException:
                    connection.close()
                    raise
            finally:
                self._lock.release()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise translate(error, self.database) from error
        except OSError as error:
            raise CannotOpenDatabaseError(f"database {self.database!r} cannot be opened: {error}") from error
        self._idle.append(Tables(connection, self._names))

    def _connect_first(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.OperationalError as error:
            # A read-only folder cannot hold the files WAL needs; without a -wal file nobody is writing.
            unreadable = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
            if not (self._read_only and unreadable and self._location.freeze()):
                raise
        return self._connect()

    def _look(self) -> None:
        """Refuse a file that is not ours through a connection that cannot change it, not even recover its log."""
        path = self._location.path
        if path is None or self._read_only or not path.exists():
            return
        connection = look_at(path)
        try:
            recognise(connection, self.database)
        except sqlite3.OperationalError:  # it must be recovered first, which only a connection that writes can do
            return
        finally:
            connection.close()

    def _prepare(self, connection: sqlite3.Connection) -> None:
        found = recognise(connection, self.database)
        if not self._in_memory and not self._read_only:  # of a copy that another tool made, the mode may be another
            mode = str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
            if mode != "wal":
                raise CannotOpenDatabaseError(f"{self.database!r}: this file system cannot hold a shared database")
        if found == SCHEMA_VERSION:
            return
        if self._read_only:
            raise ReadOnlyDatabaseError(f"database {self.database!r} must be upgraded first and is read-only")
        # First of all, so that a file whose making was cut short is known as ours and completed when next opened.
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(connection)


class _Location:
    """A path or URI as given, and how SQLite is to open it."""

    def __init__(self, path: Path | None, mode: str | None) -> None:
        self.path = path
        self._mode = mode
        self._frozen = False

    @classmethod
    def parse(cls, database: str) -> _Location:
        if database == MEMORY:
            return cls(None, None)
        if database.startswith("file:"):
            parts = urlsplit(database)
            mode = parse_qs(parts.query).get("mode", [None])[0]
            return cls(Path(unquote(parts.path)).absolute(), mode)
        return cls(Path(database).absolute() if database else Path(), None)

    def check(self) -> bool:
        """Refuse what cannot be a database, make the folder for a new one, and say whether it is read-only."""
        if self.path is None:
            return False
        if "\0" in str(self.path):
            raise CannotOpenDatabaseError(f"{str(self.path)!r} is not the path of a file")
        if self.path.is_dir():
            raise CannotOpenDatabaseError(f"{str(self.path)!r} is a directory; pass the path of a file in it")
        if self._mode == "ro":
            return True
        if self.path.exists():
            return not os.access(self.path, os.W_OK)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return False

    def freeze(self) -> bool:
        """Open the file as one that nobody changes, if nobody is writing it."""
        self._frozen = self.path is not None and not Path(f"{self.path}-wal").exists()
        return self._frozen

    def uri(self, *, read_only: bool) -> str:
        if self.path is None:
            return "file::memory:"
        options = "mode=ro&immutable=1" if self._frozen else "mode=ro" if read_only else "mode=rwc"
        return f"{self.path.as_uri()}?{options}"


_storages: weakref.WeakSet[SQLiteStorage] = weakref.WeakSet()
_forking: list[SQLiteStorage] = []
"""The storages that the fork under way has stopped."""


def _before_fork() -> None:
    for storage in list(_storages):
        _forking.append(storage)
        storage.before_fork()


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop().after_fork_in_parent()


def _after_fork_in_child() -> None:
    while _forking:
        _forking.pop().after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def _close_all(idle: deque[Tables], lock: FileLock | NoLock, *, wait: bool) -> None:
    """Close idle connections, under the lock if it can be had.

    A finalizer must not wait: it may run inside a write of the very thread that holds the lock. Then somebody else has
    the database open, and closing does not checkpoint.
    """
    held = lock.acquire(wait=wait)
    try:
        while idle:
            idle.pop().connection.close()
    finally:
        if held:
            lock.release()
        lock.close()
