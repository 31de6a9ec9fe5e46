"""Concurrent writes of one key: noticing that an entry moved, refusing the write, or asking a resolver.

A resolver is the user's code and runs outside any transaction: the write is undone, the resolver is called, and the
write is tried again for the version the resolver saw. If that has moved too, the resolver is asked again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar, cast

from amfs.core.context import Access, Context, Resolver, Sighting, WriteContext
from amfs.core.fields import same_text
from amfs.core.validation import CheckedPut, json_text
from amfs.errors import ContentionError, StaleWriteError
from amfs.storage.rows import Slot

if TYPE_CHECKING:
    from amfs.models import Entry
    from amfs.storage.rows import VersionRow

P = ParamSpec("P")
T = TypeVar("T")
Q = TypeVar("Q", bound=Exception)

ATTEMPTS = 10
"""How many races a compare-and-set may lose before it gives up."""


_asking: ContextVar[frozenset[tuple[int, int, Slot]]] = ContextVar("amfs_asking", default=frozenset())
"""The entries whose resolver is being asked: what it writes to them itself is no conflict."""


class Settlement(NamedTuple):
    """The write that a resolver chose, and the version it chose it for (0: the entry was absent)."""

    seq: int
    put: CheckedPut


class Moved(Exception):  # noqa: N818 - it is caught here, and never an error to anyone else
    """Leaves the transaction to ask the resolver."""

    def __init__(
        self,
        context: Context,
        slot: Slot,
        put: CheckedPut,
        existing: Entry | None,
        incoming: Entry,
        base: Entry | None,
    ) -> None:
        super().__init__(slot)
        self.slot = slot
        self.put = put
        self.existing = existing
        self.incoming = incoming
        self.base = base
        self.settings = context.settings
        self.place = (id(context.seen), context.branch.id, slot)


def asking(attempt: Callable[[], T], question: type[Q], ask: Callable[[Q], None], whom: str) -> T:
    """Call ``attempt`` until it needs no more answers from the user's code, which is asked outside any transaction.

    ``attempt`` raises ``question`` where an answer is missing, or no longer fits what has moved meanwhile.
    """
    for number in range(ATTEMPTS + 1):
        try:
            return attempt()
        except question as asked:
            if number == ATTEMPTS:
                break
            ask(asked)
    raise ContentionError(f"what was to be written moved {ATTEMPTS} times while {whom} was asked; try again later")


def resolving(
    access: Access, operation: Callable[Concatenate[WriteContext, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run an operation that writes; where it meets a conflict and there is a resolver, ask it and try again."""
    settled: dict[Slot, Settlement] = {}
    bases: dict[Slot, Entry | None] = {}  # what the value was made from stays the same, however often is asked

    def attempt() -> T:
        if not settled:
            return access.write(operation, *args, **kwargs)
        return access.write(lambda context: operation(context.settling(settled), *args, **kwargs))

    def ask(moved: Moved) -> None:
        base = bases.setdefault(moved.slot, moved.base)
        settled[moved.slot] = Settlement(moved.existing.seq if moved.existing else 0, _resolve(moved, base))

    return asking(attempt, Moved, ask, "a resolver")


def sight(context: Context, slot: Slot, row: VersionRow | None) -> None:
    """Remember what this handle saw of an entry (None: that it is absent)."""
    if not context.settings.tracks:
        return
    seen = Sighting(0, 0) if row is None else Sighting(row.seq, row.value_seq)

    def remember(committed: bool) -> None:
        if committed:
            context.seen[context.branch.id, slot] = seen

    if isinstance(context, WriteContext):
        context.at_end(remember)
    else:
        remember(True)


def has_moved(context: Context, slot: Slot, row: VersionRow | None) -> bool:
    """Return whether an entry's value is another than this handle last saw. What was never seen has not moved."""
    seen = context.seen.get((context.branch.id, slot)) if context.settings.tracks else None
    if seen is None or (id(context.seen), context.branch.id, slot) in _asking.get():
        return False
    value_seq = 0 if row is None else row.value_seq
    if seen.value_seq == value_seq:
        return False
    before = context.tx.version(seen.value_seq) if seen.value_seq else None
    if row is None or row.value is None or before is None or before.value is None:
        return True
    return not same_text(before.value, row.value)


def stale(slot: Slot, expected: int, actual: int, why: str) -> StaleWriteError:
    """Return the error of a write that came too late."""
    now = f"is at version {actual}" if actual else "is absent"
    return StaleWriteError(
        f"{slot.path}/{slot.key} {now}, {why}; read it again and decide", expected=expected, actual=actual
    )


def _resolve(moved: Moved, base: Entry | None) -> CheckedPut:
    resolver = cast("Resolver", moved.settings.on_conflict)
    arguments: tuple[Any, ...] = (moved.existing, moved.incoming, moved.put.value)
    outer = _asking.get()
    _asking.set(outer | {moved.place})
    try:
        value = resolver(*arguments, base) if _takes_base(resolver) else resolver(*arguments)
    finally:
        _asking.set(outer)
    text = json_text(value, moved.settings.max_value_bytes, "the value that on_conflict returned")
    return moved.put._replace(value=value, text=text)


def _takes_base(resolver: Resolver) -> bool:
    try:
        parameters = inspect.signature(resolver).parameters.values()
    except ValueError:  # a builtin, such as max
        return False
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 3 or any(one.kind is one.VAR_POSITIONAL for one in parameters)
