"""Finding entries, the newest first: from the end of the log backwards, then among all that a path covers.

Of many keys, those that are wanted are as a rule among what was written last, so on a branch without ancestors that is
walked first. Whoever looks may say what the values wanted are like; most rows that are not never leave SQLite.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator

from amfs.storage import queries as q
from amfs.storage.records import plain
from amfs.storage.rows import NOW, BranchRow, FieldRange, Hints, ListFilter, VersionRow

_RECENT = 500
"""How many rows at the end of a branch's log are walked. A row takes three times as long as a key of those covered."""

_MANY_KEYS = 1000
_MANY_PATHS = 250
"""Many are so many keys, or paths: to count on would take longer than it saves."""

_AT_A_TIME = 100
"""How many versions are fetched at once where it is not known how many are wanted."""

# --- statements ------------------------------------------------------------------------------------------------------

# Parameters 1 to 8 are those of lists, 9 is the seq below which is looked. 10 to 12 are texts ('' for none), 13 to 15
# the way to a field (NULL for none) and between what it lies.
_VALUE = "coalesce(h.value, (SELECT o.value FROM log o WHERE o.seq = h.value_seq))"
_TEXTS = " AND ".join(f"(?{number} = '' OR instr({_VALUE}, ?{number}))" for number in (10, 11, 12))
_ALIKE = f"{_TEXTS} AND (?13 IS NULL OR json_extract({_VALUE}, ?13) BETWEEN ?14 AND ?15)"
_NEWEST = f"AND h.seq < ?9 AND {_ALIKE} ORDER BY h.seq DESC"
# By whether the branch has no ancestors, and whether all paths are covered.
NEWEST = {
    (True, True): q.LIST_ROOT_ALL.replace("ORDER BY h.slot", _NEWEST),
    (True, False): q.LIST_ROOT_BELOW.replace("ORDER BY h.slot", _NEWEST),
    (False, True): q.LIST_VIEW_ALL.replace("ORDER BY q.slot", _NEWEST),
    (False, False): q.LIST_VIEW_BELOW.replace("ORDER BY q.slot", _NEWEST),
}
# Where nothing limits the rows, which are the newest is told before any value is fetched.
NEWEST_SEQS = {
    which: statement.replace(q.HEAD_COLUMNS, "h.seq").replace(q.VIEW_COLUMNS, "h.seq")
    for which, statement in NEWEST.items()
}
RECENT = f"""SELECT {q.HEAD_COLUMNS} FROM log v INDEXED BY log_branch
 CROSS JOIN path p ON p.id = v.slot >> 24 AND p.owner IN (0, ?2)
 AND (?3 IS NULL OR p.path = ?3 OR (p.path >= ?3 || '/' AND p.path < ?3 || '0'))
 CROSS JOIN head h ON h.branch = ?1 AND h.slot = v.slot AND h.seq = v.seq
 WHERE v.branch = ?1 AND v.seq >= ?8 AND v.seq < ?9 AND {q.LIVE} AND {_ALIKE} ORDER BY v.seq DESC LIMIT ?7"""
RECENT_BEGINS = "SELECT seq FROM log INDEXED BY log_branch WHERE branch = ? ORDER BY seq DESC LIMIT 1 OFFSET ?"
_PATHS = "SELECT p.next AS keys FROM path p WHERE p.owner IN (0, ?1)"
_BELOW = f"{_PATHS} AND p.path = ?2 UNION ALL {_PATHS} AND p.path >= ?2 || '/' AND p.path < ?2 || '0'"
COUNT_KEYS = {
    everything: f"SELECT count(*), sum(keys) FROM ({paths} LIMIT ?3)"
    for everything, paths in ((True, _PATHS), (False, _BELOW))
}

# --- what is found ---------------------------------------------------------------------------------------------------


def newest(connection: sqlite3.Connection, branch: BranchRow, which: ListFilter, hints: Hints) -> Iterator[VersionRow]:
    """Yield the entries of all paths, or of one and those below it, newest first.

    ``which.limit`` is how many are wanted at first; more may follow. Of the hints the three longest texts and a range
    are looked at.
    """
    finding = _Finding(connection, branch, which, hints)
    below = NOW
    if which.limit > 0 and branch.parent is None and finding.covers_many():
        below = finding.recent_begins()
        yield from finding.recent(below)
    if which.limit > 0 and below:
        rows = finding.page(below)
        yield from rows
        below = rows[-1].seq if len(rows) == which.limit else 0
    if below:
        yield from finding.all(below)


class _Finding:
    """What is looked for on a branch, and how it is found."""

    def __init__(self, connection: sqlite3.Connection, branch: BranchRow, which: ListFilter, hints: Hints) -> None:
        self._execute = connection.execute
        self._branch, self._which = branch, which
        texts = sorted(hints.texts, key=lambda text: (-len(text), text))
        within = (within for one in hints.ranges if (within := _within(one)) is not None)
        self._alike = (*(*texts, "", "", "")[:3], *next(within, (None, None, None)))
        self._kind = branch.parent is None, which.path is None

    def covers_many(self) -> bool:
        """Return whether there are so many keys that it pays to walk the end of the log first."""
        parameters = (self._which.viewer, self._which.path, _MANY_PATHS)
        paths, keys = self._execute(*plain(COUNT_KEYS[self._which.path is None], parameters)).fetchone()
        return paths == _MANY_PATHS or (keys or 0) >= _MANY_KEYS

    def recent_begins(self) -> int:
        """Return the seq with which the end of the branch's log begins, 0 if that is all of it."""
        row = self._execute(RECENT_BEGINS, (self._branch.id, _RECENT)).fetchone()
        return 0 if row is None else row[0]

    def recent(self, begin: int) -> Iterator[VersionRow]:
        """Yield what was written from a seq on."""
        below, limit = NOW, self._which.limit
        while below > begin:
            rows = self._versions(RECENT, limit, begin, below)
            yield from rows
            below, limit = rows[-1].seq if len(rows) == limit else begin, _AT_A_TIME

    def page(self, below: int) -> list[VersionRow]:
        """Return as many as are wanted at first, of those written before a seq."""
        return self._versions(NEWEST[self._kind], self._which.limit, NOW, below)

    def all(self, below: int) -> Iterator[VersionRow]:
        """Yield what was written before a seq, a few at a time: seldom is all of it wanted."""
        seqs = [row[0] for row in self._rows(NEWEST_SEQS[self._kind], -1, NOW, below)]
        for start in range(0, len(seqs), _AT_A_TIME):
            some = seqs[start : start + _AT_A_TIME]
            rows = {row[0]: row for row in self._execute(*plain(q.VERSIONS, (json.dumps(some),)))}
            yield from (VersionRow._make(rows[seq]) for seq in some)

    def _versions(self, statement: str, limit: int, bound: int, below: int) -> list[VersionRow]:
        return [VersionRow._make(row) for row in self._rows(statement, limit, bound, below)]

    def _rows(self, statement: str, limit: int, bound: int, below: int) -> sqlite3.Cursor:
        which = self._which
        listed = (self._branch.id, which.viewer, which.path, which.now, which.memory_type, which.after, limit, bound)
        return self._execute(*plain(statement, (*listed, below, *self._alike)))


def _within(one: FieldRange) -> tuple[str, float | str | bytes, float | str | bytes] | None:
    """Return the way to a field and two ends with all of its range between them, None if SQLite may look elsewhere.

    In SQLite's order all numbers come before all texts, and these before what is neither.
    """
    if not one.name or "." in one.name or json.dumps(one.name, ensure_ascii=False) != f'"{one.name}"':
        return None
    way, least, most = f'$."{one.name}"', one.least, one.most
    try:
        way.encode()
        if isinstance(most if least is None else least, str):
            return way, _text(least, ""), _text(most, b"")
        return way, _number(least, -math.inf), _number(most, math.inf)
    except (OverflowError, UnicodeEncodeError):  # a number, or text, that no value holds
        return None


def _text(end: object, none: str | bytes) -> str | bytes:
    return end.encode().decode() if isinstance(end, str) else none


def _number(end: object, none: float) -> float:
    """Return the end of a range of numbers, moved a little: SQLite may read the last digits of a number differently."""
    if not isinstance(end, int | float):
        return none
    return float(end) + math.copysign(abs(float(end)) * 1e-9 + 1e-290, none)
