"""Threads as a whole: pruned to what they need, copied, and forked at a checkpoint together with memory."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from amfs.core import branches
from amfs.core.checkpoints import Place, delete_rows, named_threads, require_use
from amfs.core.context import Context, WriteContext
from amfs.errors import AccessDeniedError, CheckpointNotFoundError, ThreadExistsError
from amfs.storage.rows import CheckpointRow, PendingWriteRow


class ThreadFork(NamedTuple):
    """A thread that begins with the history of another, and the branch of memory as of then that goes with it."""

    thread: str
    branch: str
    checkpoint: str
    seq: int


def prune(context: WriteContext, names: Iterable[str], spread: str | None) -> None:
    """Delete all but the newest checkpoint of each scope of threads, and those that it needs.

    ``spread`` names a field of the metadata whose fields name channels: the values of these are spread over what
    checkpoints before wrote, back to the last that holds the channel.
    """
    require_use(context)
    store = context.tx.checkpoints
    for thread in [number for name in names for number in named_threads(context, Place(name, None))]:
        found = store.keys([thread], None, None, -1)
        kept = _needed(context, store.rows([found[0].id])[0], spread) if found else set[int]()
        delete_rows(context, [(key.id, thread, key.name) for key in found if key.id not in kept])


def _needed(context: Context, newest: CheckpointRow, spread: str | None) -> set[int]:
    """Return a checkpoint and those before it without which some of its channels have no value."""
    missing = set[str](json.loads(newest.metadata).get(spread) or ())
    needed = set[int]()
    for row in _ancestry(context, newest):
        needed.add(row.id)
        missing -= {name for _, name, _ in context.tx.checkpoints.channels([row.id])}
        if not missing:
            break
    return needed


def _ancestry(context: Context, row: CheckpointRow) -> Iterator[CheckpointRow]:
    """Yield a checkpoint, its parent, and so on, as far as they are there."""
    store, seen = context.tx.checkpoints, set[int]()
    number: int | None = row.id
    while number is not None and number not in seen:
        seen.add(number)
        (row,) = store.rows([number])
        yield row
        number = None if row.parent is None else store.checkpoint_id(row.thread, row.parent)


def copy(context: WriteContext, source: str, target: str) -> None:
    """Give a thread that has none the checkpoints of another."""
    require_use(context)
    store, found = context.tx.checkpoints, named_threads(context, Place(source, None))
    if not found:
        raise CheckpointNotFoundError(f"thread {source!r} has no checkpoints")
    _require_empty(context, target)
    for thread, (_, scope) in found.items():
        copied = [key.id for key in store.keys([thread], None, None, -1)]
        _copy(context, copied, store.writes_of([thread]), Place(target, scope))


def fork(
    context: WriteContext, source: str, name: str | None, target: str, branch: str, kept: Collection[str]
) -> ThreadFork:
    """Begin a thread with the history of another up to a checkpoint, and a branch of memory as of then.

    What tasks wrote after that checkpoint stays behind, save to channels in ``kept``: they run anew, on that branch.
    """
    require_use(context)
    head = _head(context, source, name)
    _require_empty(context, target)
    made_on = context.tx.branch_by_id(head.branch)
    if not context.may_read(made_on):
        raise AccessDeniedError(f"no permission to read the branch on which checkpoint {head.name!r} was made")
    about = f"thread {source} at checkpoint {head.name}"
    made = branches.create(replace(context, branch=made_on), branch, about, head.seq)
    for thread, (_, scope) in named_threads(context, Place(source, None)).items():
        _copy_until(context, thread, head, kept, Place(target, scope))
    return ThreadFork(target, made.name, head.name, head.seq)


def _head(context: Context, source: str, name: str | None) -> CheckpointRow:
    store = context.tx.checkpoints
    thread = next(iter(named_threads(context, Place(source, ""))), None)
    newest = store.keys([thread], None, None, 1) if thread is not None and name is None else []
    number = newest[0].id if newest else store.checkpoint_id(thread, name) if thread and name else None
    if number is None:
        what = "no checkpoints" if name is None else f"no checkpoint {name!r}"
        raise CheckpointNotFoundError(f"thread {source!r} has {what}; nothing was forked")
    return store.rows([number])[0]


def _copy_until(context: WriteContext, thread: int, head: CheckpointRow, kept: Collection[str], to: Place) -> None:
    """Copy what led to a checkpoint; of the other scopes of its thread, what was there when it was made."""
    store = context.tx.checkpoints
    if thread == head.thread:
        led = [(row.id, row.name) for row in _ancestry(context, head)]
    else:
        led = [(key.id, key.name) for key in store.keys([thread], head.name, None, -1)]
    writes = store.writes([(thread, name) for _, name in led])
    is_head = (head.thread, head.name)
    writes = [one for one in writes if (one.thread, one.checkpoint) != is_head or one.channel in kept]
    _copy(context, [number for number, _ in led], writes, to)


def _copy(context: WriteContext, numbers: Sequence[int], writes: Iterable[PendingWriteRow], to: Place) -> None:
    store, added = context.tx.checkpoints, list(writes)
    if not numbers and not added:
        return
    thread = store.add_thread(context.namespace, to.thread or "", to.scope or "")
    held: dict[int, dict[str, int]] = {number: {} for number in numbers}
    for number, name, blob in store.channels(numbers):
        held[number][name] = blob
    for number in numbers:
        (row,) = store.rows([number])
        store.add_checkpoint(row._replace(thread=thread), held[number])
    for one in added:
        store.save_write(one._replace(thread=thread), replace=True)


def _require_empty(context: Context, thread: str) -> None:
    if named_threads(context, Place(thread, None)):
        raise ThreadExistsError(f"thread {thread!r} has checkpoints already; choose another name, or delete it first")
