"""Child processes for tests, forked from a clean server process so that no thread of the test run is copied.

A child runs one function of a ``tests.helpers_*`` module. It may send what it likes on the way (acknowledgements, "I am
inside"); what it returns, or the traceback of what it raised, comes last.
"""

from __future__ import annotations

import traceback
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from types import TracebackType

_CONTEXT = get_context("forkserver")
_HELPERS = [f"tests.helpers_{name}" for name in ("contention", "crash", "limits", "search_index", "steps")]
_CONTEXT.set_forkserver_preload(["pytest", "sqlite_utils", *_HELPERS])  # what every child would have to import

_PATIENCE = 60.0
"""Seconds after which a child that sends nothing counts as hanging."""


class Child:
    """A running child process; leaving the ``with`` block kills what is left of it."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_serve, args=(theirs, function, arguments, named), daemon=True)
        self.process.start()
        theirs.close()

    def receive(self) -> Any:
        """Return what the child sends next; EOFError if it died."""
        if not self.pipe.poll(_PATIENCE):
            raise TimeoutError("the child process hangs")
        kind, value = self.pipe.recv()
        if kind == "error":
            raise AssertionError(f"the child process failed:\n{value}")
        return value

    def send(self, value: Any = None) -> None:
        """Send the child what it waits for in ``pipe.recv()``."""
        self.pipe.send(value)

    def result(self) -> Any:
        """Return what the child's function returned, and wait for its end."""
        value = self.receive()
        self.process.join(_PATIENCE)
        return value

    def rest(self) -> list[Any]:
        """Return what a child that died had sent and nobody received."""
        left: list[Any] = []
        while self.pipe.poll():
            try:
                left.append(self.receive())
            except EOFError:
                break
        return left

    def kill(self) -> None:
        """End the child at once, wherever it is, with SIGKILL."""
        self.process.kill()
        self.process.join(_PATIENCE)

    @property
    def exit_code(self) -> int | None:
        """How the process ended; negative numbers are signals."""
        self.process.join(_PATIENCE)
        return self.process.exitcode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self.process.close()
        self.pipe.close()


class Outbox:
    """The child's end: what is sent through it arrives in ``Child.receive``."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def send(self, value: Any) -> None:
        """Send something on the way."""
        self._pipe.send(("value", value))

    def wait(self) -> Any:
        """Wait for what the parent sends."""
        return self._pipe.recv()


def run_all(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Run a function in one process per call, all started at the same moment, and return what each returned.

    The function is given an Outbox first; it says that it is ready by sending anything, and waits.
    """
    children = [Child(function, *call) for call in calls]
    try:
        for child in children:
            child.receive()
        for child in children:
            child.send()
        return [child.result() for child in children]
    finally:
        for child in children:
            child.__exit__(None, None, None)


def _serve(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    try:
        pipe.send(("value", function(Outbox(pipe), *arguments, **named)))
    except BaseException:  # noqa: BLE001 - the parent raises it
        pipe.send(("error", traceback.format_exc()))
