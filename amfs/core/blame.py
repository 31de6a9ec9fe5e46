"""Blame: which version brought the value that an entry, and each field of it, holds now.

A value is followed back while it stays the same: along the branch and what it inherited and, where a merge or
cherry-pick brought it from another branch, on along that one. What changed particulars only (an outcome, an equal
value written again) is passed over.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from amfs.core import fields, validation, versions
from amfs.errors import EntryNotFoundError
from amfs.models import Blame, EventType, Origin
from amfs.storage.rows import EVENT_CODE, EVENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amfs.core.context import Context
    from amfs.storage.rows import Making, Slot, VersionRow

_OUTCOME = EVENT_CODE[EventType.OUTCOME]
_CARRIERS = {EVENT_CODE[EventType.BRANCH_MERGED], EVENT_CODE[EventType.CHERRY_PICK]}


class _Place(NamedTuple):
    """A part of a value: its JSON Pointer, the field names on the way to it, and what stands there."""

    pointer: str
    names: tuple[str, ...]
    value: Any


def blame(context: Context, path: object, key: object) -> Blame:
    """Return where the entry that a read finds came from, as a whole and field by field."""
    wanted = validation.entry_key(path, key)
    row, slot = versions.find(context, wanted)
    if row is None or row.value is None:
        raise EntryNotFoundError(f"no entry {wanted.path}/{wanted.key} on branch {context.branch.name!r}")
    past = _Past(context, row, slot)
    whole, *parts = [past.origin_of(place) for place in _places(_Place("", (), json.loads(row.value)))]
    return Blame(entry=versions.entry(context, row, slot), origin=whole, fields=tuple(parts))


def _places(place: _Place) -> Iterator[_Place]:
    """Yield a value and, where it is an object, all that is in it, each before its own fields."""
    yield place
    value = place.value
    if isinstance(value, dict):
        parts = cast("dict[str, Any]", value)
        # Against an empty object every field is an addition, and comes with its pointer.
        for name, field in zip(parts, fields.changes({}, parts, place.pointer), strict=True):
            yield from _places(_Place(field.path, (*place.names, name), parts[name]))


class _Past:
    """What is known of the versions of one entry, loaded once per branch that the value is followed to."""

    def __init__(self, context: Context, newest: VersionRow, slot: Slot) -> None:
        self._context = context
        self._newest = newest
        self._slot = slot
        self._rows: dict[tuple[int, int], list[VersionRow]] = {}
        self._makings: dict[int, Making] = {}
        self._values: dict[int, Any] = {}

    def origin_of(self, place: _Place) -> Origin:
        """Follow what stands at a place back to the version that brought it."""
        merges: list[int] = []
        judged: set[int] = set()
        at: VersionRow | None = self._newest
        branch, row = self._context.branch.id, self._newest
        while at is not None:
            run = self._run(branch, at, place)
            row = run[-1]
            judged.update(self._cause(one) for one in run[:-1] if self._makings[one.seq].event_type == _OUTCOME)
            at = self._source(row, place)
            if at is not None:
                merges.append(self._cause(row))
                branch = at.branch
        return Origin(
            path=place.pointer,
            value=place.value,
            version=versions.entry(self._context, row, self._slot, superseded=row.seq != self._newest.seq),
            event_type=EVENT_TYPE[self._makings[row.seq].event_type],
            event=self._cause(row),
            merges=tuple(sorted(merges)),
            outcomes=tuple(dict.fromkeys(ref for seq in sorted(judged) for ref in self._refs(seq))),
        )

    def _run(self, branch: int, newest: VersionRow, place: _Place) -> list[VersionRow]:
        """Return the versions, newest first, that hold what stands at a place without a break up to ``newest``."""
        rows = self._history(branch, newest.slot)
        run = [newest]
        for row in reversed(rows[: bisect_right(rows, newest.seq, key=lambda one: one.seq) - 1]):
            # What had expired when the next version came was absent in between.
            is_there = versions.present(row, run[-1].ts) is not None
            if not (is_there and fields.equal(self._at(row, place), place.value)):
                break
            run.append(row)
        return run

    def _source(self, row: VersionRow, place: _Place) -> VersionRow | None:
        """Return the version on another branch that brought a value to this one, as far as one may look."""
        making = self._makings[row.seq]
        if making.event_type not in _CARRIERS or making.origin is None:
            return None
        origin = self._context.tx.version(making.origin)
        if origin is None or not fields.equal(self._at(origin, place), place.value):
            return None
        return origin if self._context.may_read(self._context.tx.branch_by_id(origin.branch)) else None

    def _history(self, branch: int, slot: int) -> list[VersionRow]:
        if (branch, slot) not in self._rows:
            rows = self._rows[branch, slot] = self._context.tx.history(branch, slot)
            self._makings.update(self._context.tx.makings([row.seq for row in rows]))
        return self._rows[branch, slot]

    def _at(self, row: VersionRow, place: _Place) -> Any:
        """Return what a version holds at a place, ABSENT if nothing."""
        if row.value is None:
            return fields.ABSENT
        if row.value_seq not in self._values:
            self._values[row.value_seq] = json.loads(row.value)
        value = self._values[row.value_seq]
        for name in place.names:
            value = cast("dict[str, Any]", value).get(name, fields.ABSENT) if isinstance(value, dict) else fields.ABSENT
        return value

    def _cause(self, row: VersionRow) -> int:
        """Return the seq of the event that made a version: the version's own, unless it came with a larger one."""
        cause = self._makings[row.seq].cause
        return row.seq if cause is None else cause

    def _refs(self, outcome: int) -> Iterator[str]:
        """Yield the ref of an outcome, unless it was committed on a branch that one may not read."""
        event = self._context.tx.event(outcome)
        if event is not None and event.details and self._context.may_read(self._context.tx.branch_by_id(event.branch)):
            yield json.loads(event.details)["outcome_ref"]
