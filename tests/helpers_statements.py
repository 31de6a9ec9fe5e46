"""Watching the SQL statements that run, and what they cost, from outside: no part of the storage is replaced.

SQLite tells a trace callback of every statement that is about to run, and a progress handler of every instruction of
its virtual machine. Both are set on each connection as it is opened.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Cost(NamedTuple):
    """What a call did: its statements, and how many instructions SQLite carried out. Neither depends on the machine."""

    statements: list[str]
    steps: int


class Meter:
    """Counts what happens on the connections opened inside a ``metering()`` block."""

    def __init__(self) -> None:
        self._statements: list[str] = []
        self._steps = 0

    def watch(self, connection: sqlite3.Connection) -> None:
        """Count what happens on a connection from now on."""
        connection.set_trace_callback(self._statements.append)
        connection.set_progress_handler(self._step, 1)

    def cost(self, call: Callable[[], object]) -> Cost:
        """Carry out a call and return what it did."""
        self._statements.clear()
        self._steps = 0
        call()
        return Cost(list(self._statements), self._steps)

    def _step(self) -> None:
        self._steps += 1


@contextmanager
def on_every_connection(prepare: Callable[[sqlite3.Connection], None]) -> Iterator[None]:
    """Call a function with each connection that is opened inside the block."""
    connect = sqlite3.connect

    def prepared(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)
        prepare(connection)
        return connection

    sqlite3.connect = prepared
    try:
        yield
    finally:
        sqlite3.connect = connect


@contextmanager
def watching(callback: Callable[[str], None]) -> Iterator[None]:
    """Call a function with each statement about to run on a connection that is opened inside the block."""
    with on_every_connection(lambda connection: connection.set_trace_callback(callback)):
        yield


@contextmanager
def metering() -> Iterator[Meter]:
    """Return a meter of the connections that are opened inside the block."""
    meter = Meter()
    with on_every_connection(meter.watch):
        yield meter
