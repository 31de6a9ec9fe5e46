"""Transactions of the SQLite storage: what reads, what writes in its turn, what searches."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from amfs.storage.codes import Failure, translate
from amfs.storage.indexing import catch_up, is_current
from amfs.storage.locking import WouldWait, is_at_once
from amfs.storage.rows import SearchIndex
from amfs.storage.tables import Tables

if TYPE_CHECKING:
    from amfs.storage.sqlite import SQLiteStorage

BUSY_SECONDS = 10.0
"""How long a connection waits for another program."""

CHECKPOINT_PAGES = 4000
"""How long the log grows until a commit writes it back."""


class SQLiteReading:
    """One statement, with nothing locked."""

    __slots__ = ("_storage", "_tables")

    def __init__(self, storage: SQLiteStorage) -> None:
        self._storage = storage

    def __enter__(self) -> Tables:
        try:
            self._tables = self._storage.take()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise translate(error, self._storage.database) from error
        return self._tables

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._storage.give_back(self._tables)
        if isinstance(error, Failure):
            raise translate(error, self._storage.database) from error


class SQLiteSnapshot(SQLiteReading):
    """Several statements that see the same state."""

    __slots__ = ()

    def __enter__(self) -> Tables:
        tables = super().__enter__()
        try:
            tables.connection.execute("BEGIN")
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return tables

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._tables.connection.in_transaction:
                self._tables.connection.execute("ROLLBACK")
        finally:
            super().__exit__(kind, error, trace)


class SQLiteWriting:
    """A transaction that writes: BEGIN IMMEDIATE under the lock, then COMMIT, or ROLLBACK on an exception.

    A signal handler may raise anywhere (Ctrl-C does), even before ``__exit__`` has begun; then the object is dropped,
    and dropping it ends the transaction.
    """

    __slots__ = ("_is_hurried", "_storage", "_tables")

    def __init__(self, storage: SQLiteStorage) -> None:
        self._tables: Tables | None = None
        self._is_hurried = False
        self._storage = storage

    def __enter__(self) -> Tables:
        storage = self._storage
        try:
            tables = self._tables = storage.take()
            self._take_turn(tables)
            tables.start_writing()
        except BaseException as error:
            self._end()
            if isinstance(error, sqlite3.Error):
                raise translate(error, storage.database) from error
            raise
        return tables

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tables = self._tables
        try:
            if kind is None and tables is not None:
                tables.connection.execute("COMMIT")
                tables.stop_writing(keep_names=True)
        except sqlite3.Error as failed:
            error = failed
        finally:
            self._end()
        if isinstance(error, Failure):
            raise translate(error, self._storage.database) from error

    def _take_turn(self, tables: Tables) -> None:
        at_once = is_at_once()
        if not self._storage.lock.acquire(wait=not at_once):
            raise WouldWait
        if at_once:
            self._is_hurried = True
            _set_pace(tables.connection, 0, 0)
        try:
            tables.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if at_once and error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise WouldWait from error
            raise

    def __del__(self) -> None:
        while getattr(self, "_tables", None) is not None:  # interrupted again, it goes on where it was
            with suppress(BaseException):
                self._end()

    def _end(self) -> None:
        """Undo what is not committed, and let go of the lock and the connection; does no harm if called again."""
        storage, tables = self._storage, self._tables
        try:
            # SQLite rolls back by itself when the disk is full; a second ROLLBACK would hide the first error.
            if tables is not None and tables.connection.in_transaction:
                tables.connection.execute("ROLLBACK")
            if tables is not None and self._is_hurried:
                _set_pace(tables.connection, BUSY_SECONDS, CHECKPOINT_PAGES)
        finally:
            try:
                storage.lock.release()
            finally:
                self._tables = None
                if tables is not None:
                    tables.stop_writing(keep_names=False)
                    storage.give_back(tables)


class SQLiteSearching(SQLiteWriting):
    """Several statements that see the same state, of which a search index holds all.

    Where the index lags behind it catches up first, in the turn of a writer; and the snapshot begins before the next
    one has its turn.
    """

    __slots__ = ("_index",)

    def __init__(self, storage: SQLiteStorage, index: SearchIndex) -> None:
        super().__init__(storage)
        self._index = index

    def __enter__(self) -> Tables:
        storage = self._storage
        try:
            tables = self._tables = storage.take()
            tables.connection.execute("BEGIN")
            if not is_current(tables.connection, self._index):
                if storage.read_only:  # what cannot be kept in the file is made, and kept, for this connection alone
                    while not catch_up(tables.connection, self._index, temporary=True):
                        pass
                else:
                    tables.connection.execute("ROLLBACK")
                    self._catch_up(tables.connection)
        except BaseException as error:
            self._end()
            if isinstance(error, sqlite3.Error):
                raise translate(error, storage.database) from error
            raise
        return tables

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        done = False
        while not done:
            self._storage.lock.acquire()
            connection.execute("BEGIN IMMEDIATE")
            done = catch_up(connection, self._index)
            connection.execute("COMMIT")
            connection.execute("BEGIN")
            is_current(connection, self._index)  # a snapshot begins with the first statement that reads
            self._storage.lock.release()
            if not done:
                connection.execute("ROLLBACK")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tables = self._tables
        try:
            if kind is None and tables is not None and self._storage.read_only:
                tables.connection.execute("COMMIT")  # of what is temporary; nothing else was written
        except sqlite3.Error as failed:
            error = failed
        finally:
            self._end()
        if isinstance(error, Failure):
            raise translate(error, self._storage.database) from error


def _set_pace(connection: sqlite3.Connection, busy_seconds: float, checkpoint_pages: int) -> None:
    connection.execute(f"PRAGMA busy_timeout = {busy_seconds * 1000:.0f}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}")
