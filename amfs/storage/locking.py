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
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        while True:
            try:
                msvcrt.locking(fd, msvcrt.LK_LOCK, 1)
            except OSError:  # LK_LOCK gives up after ten tries, a second apart
                continue
            return

    def _unlock(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX)

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


class FileLock:
    """An exclusive lock on a sidecar file; waits without limit, first come first served between processes.

    A forked child must not share the parent's open file, or it would hold the parent's lock; it opens its own.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = threading.Lock()
        self._fd: int | None = None
        _all.add(self)

    def acquire(self) -> None:
        """Wait for the lock."""
        self._thread.acquire()
        try:
            if self._fd is None:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            _lock(self._fd)
        except BaseException:
            self._thread.release()
            raise

    def release(self) -> None:
        """Let the next waiter go on."""
        if self._fd is not None:
            _unlock(self._fd)
        self._thread.release()

    def close(self) -> None:
        """Close the file; a later acquire opens it again."""
        with self._thread:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def forget(self) -> None:
        """Drop what was inherited over a fork."""
        self._thread = threading.Lock()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class NoLock:
    """The lock of a database that only one process can see, or that cannot be written."""

    def acquire(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


_all: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_all):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
