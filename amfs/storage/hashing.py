"""The hash of a row: what is edited or damaged later no longer fits it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from typing import Any

_VERSION_COLUMNS = 25
_REALS = (16, 18, 19, 20)


def row_hash(columns: tuple[Any, ...]) -> int:
    """Return 64 bits of BLAKE2b over the columns of a row, as SQLite's signed integer.

    A row of 25 columns is a version, with reals in four of them.
    """
    text = _form(len(columns)) % columns
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


@cache
def _form(length: int) -> str:
    reals = _REALS if length == _VERSION_COLUMNS else ()
    # Joined by a character that JSON text never holds as itself; reals keep all their digits.
    return "\x1f".join("%.17g" if column in reals else "%s" for column in range(length))


def _row_hash(*columns: Any) -> int | None:
    try:
        return row_hash(columns)
    except TypeError:  # a column holds what no write puts there
        return None


HASH_FUNCTION: tuple[str, int, Callable[..., int | None]] = ("amfs_row_hash", -1, _row_hash)
"""The arguments of ``Connection.create_function``."""
