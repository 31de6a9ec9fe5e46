"""The rows of briefs: as they are stored, and the entries that one covers."""

from __future__ import annotations

from typing import NamedTuple


class BriefKey(NamedTuple):
    """Which brief: of what, how many entries it cites, who wrote it and for whom; empty text stands for all or none.

    ``scope`` tells apart who may read which branches.
    """

    branch: int
    path: str
    about: str
    cited: int
    writer: str
    scope: str


class BriefRow(NamedTuple):
    """A stored brief. ``checked`` is the newest shared version on its branch when it was compiled, ``seq`` its event.

    ``expires`` is the first deadline of an entry it covers, ``body`` JSON text.
    """

    branch: int
    path: str
    about: str
    cited: int
    writer: str
    scope: str
    fingerprint: str
    checked: int
    expires: int | None
    seq: int
    body: str


class CoveredRow(NamedTuple):
    """The current version of an entry that a brief covers, without its value."""

    seq: int
    slot: int
    path: str
    author: int
    confidence: float
    outcomes: int
    expires: int | None
    value_seq: int
