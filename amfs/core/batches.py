"""Batches: several operations as one. Reads see the state before; all writes commit together, or none."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from amfs.core import conflicts, filters, runs, validation, versions
from amfs.core.context import Access, Context, WriteContext
from amfs.core.validation import CheckedPut, Named
from amfs.errors import InvalidInputError
from amfs.models import Delete, Entry, Find, Get, ListPaths, PathInfo, Put, Renew
from amfs.storage.rows import SHARED, ListFilter, Slot

ANY = "*"
"""The segment of a ListPaths prefix or suffix that matches any one segment."""


class Batch(NamedTuple):
    """Operations that passed the gate, by position. A write is a put, or the name of an entry to delete."""

    reads: dict[int, Get | Find | ListPaths]
    writes: dict[int, CheckedPut | Named]
    renewals: dict[int, Named]
    length: int

    @property
    def changes(self) -> bool:
        """Whether there is anything but reads."""
        return bool(self.writes or self.renewals)

    @property
    def is_one_read(self) -> bool:
        """Whether it is nothing but what ``AgentMemory.read`` does."""
        return self.length == 1 and isinstance(self.reads.get(0), Get)


def prepare(operations: Sequence[object], max_value_bytes: int) -> Batch:
    """Return operations that passed the gate."""
    batch = Batch({}, {}, {}, len(operations))
    for position, operation in enumerate(operations):
        match operation:
            case Put():
                batch.writes[position] = validation.put(
                    max_value_bytes, operation.entity_path, operation.key, operation.value, operation.confidence,
                    operation.memory_type, operation.pattern_refs, operation.shared, operation.ttl,
                    operation.expected_version, operation.idempotency_key,
                )  # fmt: skip
            case Delete():
                batch.writes[position] = validation.entry_key(operation.entity_path, operation.key)
            case Renew():
                batch.renewals[position] = validation.entry_key(operation.entity_path, operation.key)
            case Get() | Find() | ListPaths():
                _check_read(operation)
                batch.reads[position] = operation
            case _:
                what = validation.shown(operation)
                raise InvalidInputError(f"a batch takes Put, Delete, Renew, Get, Find and ListPaths, not {what}")
    return batch


def apply_resolving(access: Access, batch: Batch, message: str = "") -> list[Any]:
    """Carry out a batch that writes, and return a result per operation."""
    return conflicts.resolving(access, _apply, batch, message)


def read_only(context: Context, batch: Batch) -> list[Any]:
    """Carry out a batch that only reads, and return a result per operation."""
    return [_read(context, batch.reads[position]) for position in range(batch.length)]


def _apply(context: WriteContext, batch: Batch, message: str) -> list[Any]:
    results: list[Any] = [None] * batch.length
    for position, operation in batch.reads.items():
        results[position] = _read(context, operation)
    if batch.reads:
        runs.observe_writing(context, results)
    final = _final_writes(context, batch, results)
    context.group = context.seq + 1 if len(final) + len(batch.renewals) > 1 else None
    written = {(slot.path, slot.key) for slot in final}
    for position, named in batch.renewals.items():
        # What the batch writes has a deadline of its own.
        results[position] = (named.path, named.key) not in written and versions.renew(context, named, message)
    for slot, (write, positions) in final.items():
        if isinstance(write, CheckedPut):
            entry = versions.write(context, write, message)
            for position in positions:
                results[position] = entry
        else:
            versions.delete(context, Named(slot.path, slot.key, slot.owner == SHARED), message)
    return results


def _final_writes(
    context: WriteContext, batch: Batch, results: list[Any]
) -> dict[Slot, tuple[CheckedPut | Named, list[int]]]:
    """Return the last write of every entry, with the positions of its puts, and fill in what the deletions find.

    A deletion means the entry that a read would find at its place in the batch.
    """
    final: dict[Slot, tuple[CheckedPut | Named, list[int]]] = {}
    for position, write in batch.writes.items():
        if isinstance(write, CheckedPut):
            slot = Slot(SHARED if write.shared else context.agent_id, write.path, write.key)
            before = final.pop(slot, None)
            final[slot] = (write, [*(before[1] if before else ()), position])
        else:
            found = _found_by_delete(context, write, final)
            results[position] = found is not None
            if found is not None:
                final.pop(found, None)
                final[found] = (write, [])
    return final


def _found_by_delete(
    context: WriteContext, wanted: Named, final: dict[Slot, tuple[CheckedPut | Named, list[int]]]
) -> Slot | None:
    for owner in context.owners:
        shared = owner == SHARED
        slot = Slot(owner, wanted.path, wanted.key)
        if wanted.shared not in (None, shared):
            continue
        if slot in final:
            if isinstance(final[slot][0], CheckedPut):
                return slot
        elif versions.find(context, Named(wanted.path, wanted.key, shared))[0] is not None:
            return slot
    return None


def _read(context: Context, operation: Get | Find | ListPaths) -> Any:
    match operation:
        case Get():
            return versions.read(context, operation.entity_path, operation.key, None, 0.0)
        case Find():
            return _find(context, operation)
        case ListPaths():
            return _list_paths(context, operation)


def _find(context: Context, operation: Find) -> list[Entry]:
    stop, wanted = _stop(operation), operation.filter
    which = ListFilter(
        context.agent_id, operation.entity_path, True, None, context.time(), -1, -1 if stop is None else stop
    )
    rows = context.tx.newest(context.branch, which, filters.hints(wanted))
    if wanted is not None:
        rows = (row for row in rows if filters.matches(json.loads(row.value or "null"), wanted))
    return versions.entries_of(context, list(itertools.islice(rows, operation.offset, stop)))


def _list_paths(context: Context, operation: ListPaths) -> list[PathInfo]:
    counts: dict[tuple[str, ...], int] = {}
    for path, entries in context.tx.paths(context.branch, context.agent_id, context.time()):
        segments = tuple(path.split("/"))
        prefix, suffix = operation.prefix, operation.suffix
        if _fits(segments[: len(prefix)], prefix) and _fits(segments[len(segments) - len(suffix) :], suffix):
            shown = segments[: operation.max_depth]
            counts[shown] = counts.get(shown, 0) + entries
    stop = _stop(operation)
    return [
        PathInfo(entity_path="/".join(segments), entries=counts[segments])
        for segments in sorted(counts)[operation.offset : stop]
    ]


def _stop(operation: Find | ListPaths) -> int | None:
    """Return where the window ends; one that is larger than any result has no end."""
    stop = None if operation.limit is None else operation.offset + operation.limit
    return None if stop is None or stop > sys.maxsize // 2 else stop


def _fits(segments: Sequence[str], pattern: Sequence[str]) -> bool:
    pairs = zip(segments, pattern, strict=False)
    return len(segments) == len(pattern) and all(wanted in (ANY, segment) for segment, wanted in pairs)


def _check_read(operation: Get | Find | ListPaths) -> None:
    match operation:
        case Get():
            validation.entry_key(operation.entity_path, operation.key)
        case Find():
            if operation.entity_path is not None:
                validation.entity_path(operation.entity_path)
            if operation.filter is not None:
                filters.check(operation.filter)
            _check_window(operation.limit, operation.offset)
        case ListPaths():
            if operation.max_depth is not None:
                validation.whole("max_depth", operation.max_depth, 1)
            _check_window(operation.limit, operation.offset)


def _check_window(limit: int | None, offset: int) -> None:
    if limit is not None:
        validation.count("limit", limit)
    validation.count("offset", offset)
