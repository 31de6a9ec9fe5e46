"""Where memory is kept: the only package that knows SQL."""

from __future__ import annotations

import os
from pathlib import Path

from amfs.errors import InvalidInputError, NotSupportedError
from amfs.models import Durability
from amfs.storage.backup import restore_database
from amfs.storage.base import Storage
from amfs.storage.sqlite import MEMORY, SQLiteStorage

__all__ = ["open_storage", "restore_database"]

_DEFAULT = Path(".amfs") / "amfs.db"


def open_storage(database: str | os.PathLike[str] | None, durability: Durability) -> Storage:
    """Open a database, making it if it does not exist.

    ``database`` is a path, a ``file:`` URI (``file:/path?mode=ro`` opens read-only) or ``":memory:"``; None is
    ``$AMFS_DATABASE``, else ``.amfs/amfs.db``.
    """
    if database is None:
        database = os.environ.get("AMFS_DATABASE") or _DEFAULT
    if not isinstance(database, str | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidInputError(f"database must be a path, a file: URI or ':memory:', not {type(database).__name__}")
    text = os.fspath(database)
    if text.startswith(("postgresql:", "postgres:")):
        raise NotSupportedError("PostgreSQL is not supported by this version; pass the path of a file")
    return SQLiteStorage(MEMORY if text == MEMORY else text, durability)
