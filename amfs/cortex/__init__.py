"""The worker that keeps briefs fresh: in a thread of its own, or (``python -m amfs.cortex``) in a process."""

# It stands beside the handle and uses what the handle offers inside: compiling a brief without reading it.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Protocol, Self

from amfs.core import briefs, validation
from amfs.display.parts import count
from amfs.errors import HandleClosedError, ReadOnlyDatabaseError
from amfs.memory import AgentMemory
from amfs.models import Brief

__all__ = ["Cortex"]

LIMIT = 20
"""How many entries a brief cites: as many as one that ``brief()`` is asked for without ``limit=``."""

_KEPT = 100
_log = logging.getLogger("amfs")


class Stop(Protocol):
    """What ends the work: an Event of threading or of multiprocessing."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float, /) -> bool: ...


class Cortex:
    """Keeps briefs fresh, so that ``brief()`` finds them compiled: use it in a ``with`` statement, or ``start`` it.

    Args:
        memory: The handle it works with; its agent compiles the briefs. Stop the Cortex before the handle is closed.
        scopes: The entity paths to compile a brief of, each with those below it; None stands for everything.
        writer: Makes prose of each digest; whoever reads the briefs passes the same one.
        interval: How many seconds pass between two looks at whether anything changed.
        branch: Whose memory the briefs are about. Default: the current branch of the handle, as it is now.

    What fails in the background is logged to the logger ``amfs`` and kept in ``failures``; a brief that failed is
    tried again once something has changed. A forked process has no thread of the Cortex it inherited; it may start it.

    Raises:
        ReadOnlyDatabaseError: There is no place to keep a brief.
    """

    def __init__(
        self,
        memory: AgentMemory,
        scopes: Iterable[str | None] = (None,),
        *,
        writer: Callable[[str], str] | None = None,
        interval: float = 1.0,
        branch: str | None = None,
    ) -> None:
        wanted = validation.several("scopes", scopes)
        self._wanted = [briefs.request(scope, None, LIMIT, writer) for scope in wanted]
        self._interval = (validation.seconds("interval", interval) or 1) / 1_000_000
        if memory._storage.read_only:
            raise ReadOnlyDatabaseError(f"database {memory.database!r} is read-only: no brief can be kept in it")
        self._memory = memory.on_branch(memory.branch if branch is None else branch)
        self._failures: deque[Exception] = deque(maxlen=_KEPT)
        self._failed: dict[briefs.Request, briefs.Pulse] = {}
        self._blind: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    @property
    def failures(self) -> tuple[Exception, ...]:
        """What failed in the background, oldest first; of very many, the last 100."""
        return tuple(self._failures)

    @property
    def running(self) -> bool:
        """Whether the thread is at work in this process."""
        return self._thread is not None and self._pid == os.getpid() and self._thread.is_alive()

    def refresh(self) -> list[Brief]:
        """Compile, here and now, the briefs that are not fresh, and return them. Nobody has read them by that."""
        compiled = [self._memory._compile_brief(one, branch=None) for one in self._wanted]
        return [one.brief for one in compiled if one.is_new]

    def start(self) -> Self:
        """Start the thread, if it does not run yet."""
        if not self.running:
            self._pid, self._stop = os.getpid(), threading.Event()
            self._thread = threading.Thread(target=self.run_until, args=(self._stop,), name="amfs-cortex", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread once it has done what it is at. Safe to call twice, and from the writer."""
        if self.running and self._thread is not None:
            self._stop.set()
            if self._thread is not threading.current_thread():
                self._thread.join()
                self._thread = None

    def run_until(self, stop: Stop) -> None:
        """Keep the briefs fresh until an event is set: what the thread does, or a process of your own."""
        while not stop.is_set():
            try:
                self._look()
            except HandleClosedError as error:
                self._keep(error, "cortex ends, for its handle was closed")
                return
            except Exception as error:  # noqa: BLE001 - it goes on; what failed is kept and logged
                self._keep_new(error)
            stop.wait(self._interval)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        scopes = [one.path for one in self._wanted]
        return f"Cortex({self._memory!r}, {scopes!r}, {'running' if self.running else 'not running'})"

    def _look(self) -> None:
        """Refresh each brief, but for those that failed when the memory was as it is now."""
        pulse = self._memory._brief_pulse()
        self._blind = None
        for wanted in self._wanted:
            if self._failed.get(wanted) != pulse:
                self._refresh_one(wanted, pulse)

    def _refresh_one(self, wanted: briefs.Request, pulse: briefs.Pulse) -> None:
        what = "everything" if wanted.path is None else wanted.path
        try:
            _, brief, is_new = self._memory._compile_brief(wanted, branch=None)
        except HandleClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - kept and logged; the other briefs do not wait for this one
            self._failed[wanted] = pulse
            self._keep(error, f"cortex could not refresh the brief of {what}")
        else:
            self._failed.pop(wanted, None)
            if is_new:
                entries = count(brief.entry_count, "entry", "entries")
                _log.info("cortex compiled the brief of %s: %s, seq %d", what, entries, brief.seq)

    def _keep(self, error: Exception, what: str) -> None:
        self._failures.append(error)
        _log.error("%s: %s", what, error, exc_info=error)

    def _keep_new(self, error: Exception) -> None:
        """Keep what failed before any brief was looked at; the same again and again is one failure."""
        if repr(error) != self._blind:
            self._blind = repr(error)
            self._keep(error, "cortex could not look at the memory")
