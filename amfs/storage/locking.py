"""A fair lock between the processes and threads that write one database.

SQLite's own lock is correct but unfair: a waiter polls, and may poll for seconds while another process writes on.
``flock`` queues waiters in the kernel. It is held around begin..commit, checkpoints and close, which also keeps our own
connections clear of the WAL-reset bug of SQLite before 3.51.3 (two connections checkpointing and writing at once).
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int, wait: bool) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        while True:
            try:
                msvcrt.locking(fd, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except OSError:  # LK_LOCK gives up after ten tries, a second apart
                if not wait:
                    raise
                continue
            return

    def _unlock(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(fd: int, wait: bool) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


class WouldWait(Exception):  # noqa: N818 - it is caught by who asked for it, and never an error to anyone else
    """A transaction that was to begin at once would have to wait for its turn; nothing was done."""


class _Manner(threading.local):
    at_once = False


_manner = _Manner()


@contextmanager
def at_once() -> Generator[None]:
    """Return a context in which this thread's writes begin at once or raise WouldWait, and leave checkpoints to others.

    For an event loop, which must wait neither for another writer nor for the disk.
    """
    _manner.at_once = True
    try:
        yield
    finally:
        _manner.at_once = False


def is_at_once() -> bool:
    """Return whether this thread must not wait."""
    return _manner.at_once


class FileLock:
    """An exclusive lock on a sidecar file; waits without limit, first come first served between processes.

    A signal handler may raise between any two steps (Ctrl-C does), so ``release`` asks for the state instead of
    trusting that ``acquire`` came to its end: called once more it does no harm. A forked child must not share the
    parent's open file, or it would hold the parent's lock; it opens its own.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = threading.RLock()
        self._holder: int | None = None
        self._fd: int | None = None
        _all.add(self)

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock and say whether that worked; without ``wait`` it fails where it would have to wait."""
        me = threading.get_ident()
        # Where this thread holds it already, an interrupted release left it so.
        if self._holder != me and not self._thread.acquire(blocking=wait):
            return False
        try:
            self._holder = me
            if self._fd is None:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            _lock(self._fd, wait)
        except BaseException as error:
            self.release()
            if not wait and isinstance(error, OSError):
                return False
            raise
        return True

    def release(self) -> None:
        """Let the next waiter go on; does nothing where this thread does not hold the lock."""
        if self._holder == threading.get_ident():
            if self._fd is not None:
                _unlock(self._fd)
            self._holder = None
            self._thread.release()
        else:
            with suppress(RuntimeError):  # raised where this thread does not hold it
                self._thread.release()

    def close(self) -> None:
        """Close the file, unless a thread is using it; a later acquire opens it again."""
        if not self._thread.acquire(blocking=False):
            return
        try:
            fd, self._fd = self._fd, None
            if fd is not None:
                os.close(fd)
        finally:
            self._thread.release()

    def forget(self) -> None:
        """Drop what was inherited over a fork."""
        self._thread, self._holder = threading.RLock(), None
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


class NoLock:
    """The lock of a database that only one process can see, or that cannot be written."""

    def acquire(self, *, wait: bool = True) -> bool:  # noqa: ARG002 - there is nothing to wait for
        """Take nothing."""
        return True

    def release(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


_all: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_all):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
