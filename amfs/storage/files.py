"""Files that appear whole or not at all: made in a folder beside their place, made durable, and only then put there."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from amfs.errors import CannotOpenDatabaseError, DatabaseFullError, InvalidInputError

SIDECARS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database; a stray one beside another database would be taken for its own."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def file_path(what: str, path: object) -> Path:
    """Return where a file is, or is to be, with links followed."""
    if not isinstance(path, str | os.PathLike):
        raise InvalidInputError(f"{what} must be the path of a file, not {type(path).__name__}")
    text: str | bytes = os.fspath(path)  # pyright: ignore[reportUnknownVariableType] - a PathLike of anything
    if not isinstance(text, str) or not text or "\0" in text or text == ":memory:" or text.startswith("file:"):
        raise InvalidInputError(f"{what}={text!r} is not the plain path of a file")
    real = Path(os.path.realpath(text))
    with explained(real):
        if real.exists() and stat.S_ISDIR(real.stat().st_mode):
            raise InvalidInputError(f"{what}={text!r} is a directory; pass the path of a file in it")
    return real


def refuse_own(what: str, path: Path, database: str | None) -> None:
    """Refuse a path that is the database in use, or one of the files that belong to it."""
    if database is None:
        return
    for known in (database, os.path.realpath(database)):
        for own in (Path(f"{known}{suffix}") for suffix in ("", "-lock", *SIDECARS)):
            if path == own or (path.exists() and own.exists() and path.samefile(own)):
                raise InvalidInputError(f"{what}={str(path)!r} belongs to the database in use; choose another file")


@contextmanager
def explained(path: Path) -> Generator[None]:
    """Raise what the operating system refuses about a file as one of our errors."""
    try:
        yield
    except OSError as error:
        kind = DatabaseFullError if error.errno in _FULL else CannotOpenDatabaseError
        raise kind(f"{str(path)!r} cannot be used: {error.strerror or error}; nothing was changed") from error


@contextmanager
def workshop(path: Path) -> Generator[Path]:
    """Make a folder beside a file, on the same disk and for its owner only; it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=".amfs-", dir=path.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def replacing(path: Path, database: str | None) -> Generator[Callable[[bytes], object]]:
    """Return a function that writes a new file; it takes its place if all went well, with a database's rights."""
    with explained(path), workshop(path) as folder:
        made = folder / "new"
        with made.open("wb") as file:
            yield file.write
        put(made, path, None if database is None else Path(database))


def put(made: Path, path: Path, like: Path | None) -> None:
    """Put a finished file in its place, durably and with the permissions of another one."""
    if like is not None:
        made.chmod(stat.S_IMODE(like.stat().st_mode))
    _sync(made, os.O_RDWR)
    made.replace(path)
    if sys.platform != "win32":  # where a folder cannot be opened
        _sync(path.parent, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
