"""Checkpoints of threads: storing, finding, copying, pruning and deleting them, and going back to one with memory.

They are what an agent framework needs to go on where it was, and no part of memory: they have no events, and may be
replaced and deleted. Each remembers what memory was when it was made, a branch as of a seq. Only the owner, admins and
writers of main may use them: a thread holds whatever its agent was told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from amfs.core import branches, contents, validation
from amfs.core.contents import Blob, Content
from amfs.core.context import MAIN, Context, WriteContext, microseconds
from amfs.errors import AccessDeniedError, InvalidFilterError
from amfs.models import Permission
from amfs.storage.rows import BranchRow, CheckpointKey, CheckpointRow, PendingWriteRow, Piece

_MAX_NAME_BYTES = 1 << 13
"""The limit of the names of threads, scopes, tasks and channels; nested graphs have long ones."""

_MAX_THREAD_BYTES = 1 << 10


class PendingWrite(NamedTuple):
    """What a task wrote to a channel after a checkpoint; ``number`` tells the writes of one task apart."""

    task: str
    number: int
    channel: str
    value: Content
    path: str = ""


class Checkpoint(NamedTuple):
    """A stored checkpoint, and what memory was when it was made: ``branch`` as of ``seq``."""

    thread: str
    scope: str
    id: str
    parent: str | None
    branch: str
    seq: int
    run: str | None
    metadata: dict[str, Any]
    body: Blob
    channels: dict[str, Content]
    writes: list[PendingWrite]


class Place(NamedTuple):
    """A thread, or a scope of it, by name; None stands for all."""

    thread: str | None
    scope: str | None


class NewCheckpoint(NamedTuple):
    """A checkpoint that passed the gate."""

    place: Place
    id: str
    parent: str | None
    branch: str
    made_at: int | None
    run: str | None
    metadata: str
    body: Blob
    channels: Mapping[str, Piece]


class NewWrite(NamedTuple):
    """A write that passed the gate."""

    task: str
    number: int
    path: str
    channel: str
    piece: Piece


class Listing(NamedTuple):
    """Which checkpoints to list."""

    place: Place
    id: str | None
    before: str | None
    filter: Mapping[str, Any]
    limit: int | None


# --- the gate --------------------------------------------------------------------------------------------------------


def place(thread: object, scope: object = "") -> Place:
    """Return a thread and a scope of it; the empty scope is the thread itself."""
    return Place(validation.name("thread", thread, _MAX_THREAD_BYTES), "" if scope == "" else _name("scope", scope))


def threads(names: object) -> list[str]:
    """Return the names of threads."""
    return [validation.name("thread", name, _MAX_THREAD_BYTES) for name in validation.several("threads", names)]


def checkpoint_name(name: object) -> str:
    """Return the id of a checkpoint, as its framework names it."""
    return validation.name("checkpoint id", name)


def prepared(
    where: Place,
    name: object,
    parent: object,
    branch: str,
    made_at: object,
    run: object,
    metadata: Mapping[str, Any] | None,
    body: object,
    channels: Mapping[str, Content],
) -> NewCheckpoint:
    """Return a checkpoint that passed the gate."""
    return NewCheckpoint(
        where,
        checkpoint_name(name),
        None if parent is None else checkpoint_name(parent),
        branch,
        None if made_at is None else microseconds(validation.aware("made_at", made_at)),
        validation.optional_name("run", run),
        validation.json_text(validation.metadata(metadata), what="metadata"),
        contents.checked("body", body),
        {_name("channel", channel): contents.piece(f"channel {channel!r}", it) for channel, it in channels.items()},
    )


def prepared_writes(writes: Iterable[PendingWrite]) -> list[NewWrite]:
    """Return writes that passed the gate."""
    return [
        NewWrite(
            _name("task", one.task),
            validation.whole("number", one.number, -(1 << 31)),
            "" if one.path == "" else _name("path", one.path),
            _name("channel", one.channel),
            contents.piece(f"a write to {one.channel!r}", one.value),
        )
        for one in writes
    ]


def listing(where: Place, name: object, before: object, conditions: object, limit: object) -> Listing:
    """Return which checkpoints to list; a filter names fields of the metadata and what they equal."""
    return Listing(
        where,
        None if name is None else checkpoint_name(name),
        None if before is None else checkpoint_name(before),
        _conditions(conditions),
        None if limit is None else validation.count("limit", limit),
    )


def _conditions(conditions: object) -> dict[str, Any]:
    if conditions is None:
        return {}
    fields = dict(cast("Mapping[object, object]", conditions)) if isinstance(conditions, Mapping) else None
    if fields is None or not all(isinstance(field, str) for field in fields):
        shown = validation.shown(cast("object", conditions))
        raise InvalidFilterError(f"a filter is a dict of fields and values, not {shown}")
    return json.loads(validation.json_text(fields, what="filter"))


def _name(what: str, name: object) -> str:
    return validation.name(what, name, _MAX_NAME_BYTES)


# --- storing ---------------------------------------------------------------------------------------------------------


def put(context: WriteContext, new: NewCheckpoint) -> None:
    """Store a checkpoint, in the place of one of the same id."""
    require_use(context)
    store, branch = context.tx.checkpoints, branches.named(context, new.branch)
    thread = store.add_thread(context.namespace, new.place.thread or "", new.place.scope or "")
    before = store.checkpoint_id(thread, new.id)
    unused = set[int]() if before is None else store.delete_checkpoints([before])
    channels = {name: store.add_content(piece) for name, piece in new.channels.items()}
    seq = _seq_at(context, branch, new.made_at)
    row = CheckpointRow(0, thread, new.id, new.parent, branch.id, seq, new.run, new.metadata, *new.body)
    store.add_checkpoint(row, channels)
    store.sweep(unused)


def _seq_at(context: WriteContext, branch: BranchRow, made_at: int | None) -> int:
    """Return the seq as of which memory is seen as it was when a checkpoint was made.

    A framework may store a checkpoint while what comes after it runs already, and writes memory. One that was made
    later than the handle's clock says was not timed by the same clock: then what counts is that it is stored now.
    """
    if made_at is None or made_at > context.clock() or context.tx.last_ts() <= made_at:
        return context.seq
    return context.tx.seq_at(made_at, branch.id)


def put_writes(context: WriteContext, where: Place, name: str, writes: Sequence[NewWrite]) -> None:
    """Store what a task wrote after a checkpoint. A write with a number below 0 takes the place of an earlier one."""
    require_use(context)
    store, unused = context.tx.checkpoints, set[int]()
    thread = store.add_thread(context.namespace, where.thread or "", where.scope or "") if writes else 0
    for one in writes:
        blob = store.add_content(one.piece)
        row = PendingWriteRow(thread, name, one.task, one.number, one.path, one.channel, blob)
        unused |= store.save_write(row, replace=one.number < 0)
    store.sweep(unused)


# --- finding ---------------------------------------------------------------------------------------------------------


def find(context: Context, where: Place, name: str | None) -> Checkpoint | None:
    """Return a checkpoint of a thread, the newest one for None."""
    require_use(context)
    found = named_threads(context, where)
    thread = next(iter(found), None)
    if thread is None:
        return None
    if name is None:
        keys = context.tx.checkpoints.keys([thread], None, None, 1)
        number = keys[0].id if keys else None
    else:
        number = context.tx.checkpoints.checkpoint_id(thread, name)
    return None if number is None else _load(context, [number], found)[0]


def keys(context: Context, which: Listing, after: CheckpointKey | None, size: int) -> list[CheckpointKey]:
    """Return keys of checkpoints, newest first, those after a key; they may yet fail the filter."""
    require_use(context)
    found = list(named_threads(context, which.place))
    if which.id is None:
        return context.tx.checkpoints.keys(found, which.before, after, size)
    named = [(context.tx.checkpoints.checkpoint_id(thread, which.id), thread) for thread in found]
    if after is not None or (which.before is not None and which.id >= which.before):
        return []
    rows = {row.id: row for row in context.tx.checkpoints.rows([number for number, _ in named if number is not None])}
    return [CheckpointKey(row.id, row.name, row.thread, row.metadata) for row in rows.values()]


def passes(which: Listing, key: CheckpointKey) -> bool:
    """Return whether a checkpoint passes the filter."""
    if not which.filter:
        return True
    metadata = json.loads(key.metadata)
    return all(metadata.get(field) == value for field, value in which.filter.items())


def load(context: Context, which: Listing, wanted: Sequence[CheckpointKey]) -> list[Checkpoint]:
    """Return checkpoints by key; one that was deleted meanwhile is left out."""
    require_use(context)
    return _load(context, [key.id for key in wanted], named_threads(context, which.place))


def named_threads(context: Context, where: Place) -> dict[int, tuple[str, str]]:
    """Return the ids of the threads at a place, with their names and scopes."""
    rows = context.tx.checkpoints.threads(context.namespace, where.thread, where.scope)
    return {number: (name, scope) for number, name, scope in rows}


def _load(context: Context, numbers: Sequence[int], names: Mapping[int, tuple[str, str]]) -> list[Checkpoint]:
    store = context.tx.checkpoints
    rows = {row.id: row for row in store.rows(numbers) if row.thread in names}
    channels = store.channels(list(rows))
    writes = store.writes([(row.thread, row.name) for row in rows.values()])
    values = store.contents([*(blob for _, _, blob in channels), *(write.blob for write in writes)])
    held: dict[int, dict[str, Content]] = {number: {} for number in rows}
    for number, name, blob in channels:
        held[number][name] = values[blob]
    written: dict[tuple[int, str], list[PendingWrite]] = {(row.thread, row.name): [] for row in rows.values()}
    for it in writes:
        write = PendingWrite(it.task, it.number, it.channel, values[it.blob], it.path)
        written[it.thread, it.checkpoint].append(write)
    return [
        Checkpoint(
            *names[row.thread],
            row.name,
            row.parent,
            context.name_of(row.branch),
            row.seq,
            row.run,
            json.loads(row.metadata),
            Blob(row.kind, row.body),
            held[row.id],
            written[row.thread, row.name],
        )
        for row in (rows[number] for number in numbers if number in rows)
    ]


# --- deleting --------------------------------------------------------------------------------------------------------


def delete(context: WriteContext, names: Iterable[str]) -> None:
    """Delete threads, with their scopes and all that is in them."""
    require_use(context)
    numbers = [number for name in names for number in named_threads(context, Place(name, None))]
    context.tx.checkpoints.sweep(context.tx.checkpoints.delete_threads(numbers))


def delete_runs(context: WriteContext, runs: Iterable[str]) -> None:
    """Delete the checkpoints that runs made, and what was written after these."""
    require_use(context)
    store = context.tx.checkpoints
    doomed = [row for run in runs for row in store.rows(store.of_run(context.namespace, run))]
    delete_rows(context, [(row.id, row.thread, row.name) for row in doomed])
    store.drop_empty(list({row.thread for row in doomed}))


def delete_rows(context: WriteContext, doomed: Sequence[tuple[int, int, str]]) -> None:
    """Delete checkpoints, each by its id, thread and name, with what was written after them."""
    store = context.tx.checkpoints
    unused = store.delete_checkpoints([number for number, _, _ in doomed])
    store.sweep(unused | store.delete_writes([(thread, name) for _, thread, name in doomed]))


def require_use(context: Context) -> None:
    """Refuse whoever may not use checkpoints."""
    if not context.rights.allow(MAIN, None, Permission.READ_WRITE):
        raise AccessDeniedError("only the owner of the database, admins and writers of main may use checkpoints")
