"""The hash of a row of the log: what is edited or damaged later no longer fits it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

# Columns are joined by a character that JSON text never holds as itself; reals keep all their digits.
_EVENT = "\x1f".join(["%s"] * 9)
_VERSION = "\x1f".join(["%s"] * 16 + ["%.17g", "%s", "%.17g", "%.17g", "%.17g"] + ["%s"] * 4)


def row_hash(columns: Sequence[Any]) -> int:
    """Return 64 bits of BLAKE2b over the columns of an event (9) or of a version (25), as SQLite's signed integer."""
    text = (_VERSION if len(columns) == 25 else _EVENT) % tuple(columns)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def _row_hash(*columns: Any) -> int | None:
    try:
        return row_hash(columns)
    except TypeError:  # a column holds what no write puts there
        return None


HASH_FUNCTION: tuple[str, int, Callable[..., int | None]] = ("amfs_row_hash", -1, _row_hash)
"""The arguments of ``Connection.create_function``."""
