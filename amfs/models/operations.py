"""The operations of a batch: plain records; the gate checks what is in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from amfs.models.words import MemoryType


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Write an entry; the arguments are those of ``AgentMemory.write``."""

    entity_path: str
    key: str
    value: Any
    confidence: float = 1.0
    memory_type: MemoryType | str = MemoryType.FACT
    pattern_refs: Iterable[str] = ()
    shared: bool = True
    ttl: float | timedelta | None = None
    expected_version: int | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete an entry; deleting an absent one does nothing."""

    entity_path: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew:
    """Give an entry that expires its whole time again, from now on, and say whether its deadline moved.

    It stays its author's. At most every hundredth of that time makes a version; an entry that is gone, or does not
    expire, is left as it is.
    """

    entity_path: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Get:
    """Read an entry. The result is an Entry or None."""

    entity_path: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """List entries below a path, newest first, filtered by the fields of their values.

    ``entity_path=None`` is everything. ``filter`` maps a field to a value or to operators (``$eq $ne $gt $gte $lt
    $lte $in``), ``$and`` and ``$or`` combine. The result is a list of entries.
    """

    entity_path: str | None = None
    filter: dict[str, Any] | None = None
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPaths:
    """List entity paths that hold live entries, in text order by segment.

    ``prefix`` and ``suffix`` are segments, ``*`` standing for any one; ``max_depth`` cuts paths to that many segments
    (and makes them distinct). The result is a list of PathInfo.
    """

    prefix: tuple[str, ...] = ()
    suffix: tuple[str, ...] = ()
    max_depth: int | None = None
    limit: int | None = None
    offset: int = 0


Operation = Put | Delete | Renew | Get | Find | ListPaths
"""What ``AgentMemory.apply`` takes several of."""
