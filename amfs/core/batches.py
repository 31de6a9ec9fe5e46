"""Batches: several operations as one. Reads see the state before; all writes commit together, or none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from amfs.core import conflicts, filters, runs, validation, versions
from amfs.core.context import Access, Context, WriteContext
from amfs.errors import InvalidInputError
from amfs.models import Delete, Entry, Find, Get, ListPaths, PathInfo, Put
from amfs.storage.base import NOW, ListFilter

if TYPE_CHECKING:
    from amfs.core.validation import CheckedPut

Write = "CheckedPut | tuple[str, str]"

ANY = "*"
"""The segment of a ListPaths prefix or suffix that matches any one segment."""


class Batch(NamedTuple):
    """Operations that passed the gate. ``writes`` maps the position of a write to it: a put, or a deletion's key."""

    reads: dict[int, Get | Find | ListPaths]
    writes: dict[int, CheckedPut | tuple[str, str]]
    length: int


def prepare(operations: Sequence[object], max_value_bytes: int) -> Batch:
    """Return operations that passed the gate."""
    reads: dict[int, Get | Find | ListPaths] = {}
    writes: dict[int, CheckedPut | tuple[str, str]] = {}
    for position, operation in enumerate(operations):
        match operation:
            case Put():
                writes[position] = validation.put(
                    max_value_bytes, operation.entity_path, operation.key, operation.value, operation.confidence,
                    operation.memory_type, operation.pattern_refs, operation.shared, operation.ttl,
                    operation.expected_version, operation.idempotency_key,
                )  # fmt: skip
            case Delete():
                writes[position] = validation.entry_key(operation.entity_path, operation.key)
            case Get():
                validation.entry_key(operation.entity_path, operation.key)
                reads[position] = operation
            case Find():
                _check_find(operation)
                reads[position] = operation
            case ListPaths():
                _check_window(operation.limit, operation.offset)
                reads[position] = operation
            case _:
                raise InvalidInputError(f"a batch takes Put, Delete, Get, Find and ListPaths, not {operation!r}")
    return Batch(reads, writes, len(operations))


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
    runs.observe_writing(context, results)
    details = json.dumps({"message": message}, ensure_ascii=False) if message else None
    last = {_target(write): position for position, write in batch.writes.items()}
    context.group = context.seq + 1 if len(last) > 1 else None
    done = {target: _write(context, batch.writes[position], details) for target, position in last.items()}
    for position, write in batch.writes.items():
        results[position] = done[_target(write)]
    return results


def _target(write: CheckedPut | tuple[str, str]) -> tuple[str, str, bool | None]:
    """Return what tells the writes of a batch apart; a deletion finds out by itself which slot it means."""
    return (write.path, write.key, write.shared) if isinstance(write, validation.CheckedPut) else (*write, True)


def _write(context: WriteContext, write: CheckedPut | tuple[str, str], details: str | None) -> Entry | bool:
    if isinstance(write, validation.CheckedPut):
        return versions.write(context, write, details)
    return versions.delete(context, *write, details)


def _read(context: Context, operation: Get | Find | ListPaths) -> Any:
    match operation:
        case Get():
            return versions.read(context, operation.entity_path, operation.key, None, 0.0)
        case Find():
            return _find(context, operation)
        case ListPaths():
            return _list_paths(context, operation)


def _find(context: Context, operation: Find) -> list[Entry]:
    which = ListFilter(context.agent_id, operation.entity_path, True, None, context.clock(), -1, -1)
    rows = sorted(context.tx.list(context.branch, NOW, which), key=lambda row: -row.seq)
    if operation.filter is not None:
        rows = [row for row in rows if filters.matches(json.loads(row.value or "null"), operation.filter)]
    stop = None if operation.limit is None else operation.offset + operation.limit
    return versions.entries_of(context, rows[operation.offset : stop])


def _list_paths(context: Context, operation: ListPaths) -> list[PathInfo]:
    counts: dict[tuple[str, ...], int] = {}
    for path, entries in context.tx.paths(context.branch, context.agent_id, context.clock()):
        segments = tuple(path.split("/"))
        prefix, suffix = operation.prefix, operation.suffix
        if _fits(segments[: len(prefix)], prefix) and _fits(segments[len(segments) - len(suffix) :], suffix):
            shown = segments[: operation.max_depth]
            counts[shown] = counts.get(shown, 0) + entries
    stop = None if operation.limit is None else operation.offset + operation.limit
    return [
        PathInfo(entity_path="/".join(segments), entries=counts[segments])
        for segments in sorted(counts)[operation.offset : stop]
    ]


def _fits(segments: Sequence[str], pattern: Sequence[str]) -> bool:
    pairs = zip(segments, pattern, strict=False)
    return len(segments) == len(pattern) and all(wanted in (ANY, segment) for segment, wanted in pairs)


def _check_find(operation: Find) -> None:
    if operation.entity_path is not None:
        validation.entity_path(operation.entity_path)
    if operation.filter is not None:
        filters.check(operation.filter)
    _check_window(operation.limit, operation.offset)


def _check_window(limit: int | None, offset: int) -> None:
    if limit is not None:
        validation.whole("limit", limit)
    validation.whole("offset", offset)
