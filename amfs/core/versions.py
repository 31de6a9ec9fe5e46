"""Entries and their versions: writing, deleting, reading, listing and comparing them.

A write appends a version (the log row is its event too) and never changes one. A private entry is another slot than a
shared one of the same path and key; an agent's own comes first.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import TYPE_CHECKING, Any

from amfs.core import conflicts, fields, moments, validation
from amfs.core.context import Context, Sighting, WriteContext, instant
from amfs.core.evidence import posterior
from amfs.core.validation import Named
from amfs.errors import AmbiguousKeyError, EntryNotFoundError, IdempotencyError, InvalidInputError
from amfs.models import Change, ConflictPolicy, DiffType, Entry, EventType, MemoryType, Page
from amfs.storage.rows import (
    EVENT_CODE,
    MEMORY_CODE,
    MEMORY_TYPE,
    NOW,
    SHARED,
    ListFilter,
    NewVersion,
    Slot,
    VersionRow,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from amfs.core.validation import CheckedPut

_WRITE = EVENT_CODE[EventType.WRITE]
_DELETE = EVENT_CODE[EventType.DELETE]
_ENTRY_FIELDS = set(Entry.model_fields)  # shared by all entries: they are frozen, and a copy copies it
_RENEWALS = 100
"""How often at most an entry is renewed in the time that it lives."""

_decode = json.JSONDecoder().raw_decode
_new, _set = object.__new__, object.__setattr__


# --- writing ---------------------------------------------------------------------------------------------------------


def write(context: WriteContext, put: CheckedPut, details: str | None = None) -> Entry:
    """Append a version and return it. ``details`` is JSON that the event shows besides its own."""
    tx = context.tx
    slot = Slot(SHARED if put.shared else context.agent_id, put.path, put.key)
    if put.idempotency_key is not None:
        done = tx.records.idempotent(context.namespace, context.agent_id, put.idempotency_key)
        if done is not None:
            return _repeated(context, put, slot, *done)
    slot_id = tx.add_slot(*slot)
    newest = tx.visible(context.branch, slot_id)
    current = present(newest, context.now)
    settled = _settle(context, slot, put, current, newest)
    row = _next_version(context, slot_id, settled, newest, current)
    tx.append_version(NewVersion(row, _WRITE, None, context.group, None, details))
    if put.idempotency_key is not None:
        tx.records.add_idempotent(context.namespace, context.agent_id, put.idempotency_key, row.seq, _digest(put))
    conflicts.sight(context, slot, row)
    return entry(context, row, slot)


def delete(context: WriteContext, wanted: Named, details: str | None = None) -> bool:
    """Append a tombstone to the entry that a read would return and say whether there was one."""
    row, slot = find(context, wanted)
    if row is None:
        return False
    if context.settings.conflict_policy is ConflictPolicy.RAISE and conflicts.has_moved(context, slot, row):
        raise conflicts.stale(slot, _last_seen(context, slot), row.version, "and this handle saw another value")
    seq = context.next_seq()
    gone = tombstone(row, context.agent_id)._replace(
        seq=seq, ts=context.now, branch=context.branch.id, value_seq=seq, agent=context.agent_id, run=context.run_row
    )
    context.tx.append_version(NewVersion(gone, _DELETE, None, context.group, None, details))
    conflicts.sight(context, slot, None)
    return True


def renew(context: WriteContext, wanted: Named, details: str | None = None) -> bool:
    """Append a version with a later deadline to an entry that expires and say whether it was time to."""
    row, slot = find(context, wanted)
    if row is None or row.expires is None:
        return False
    # Outcomes and merges keep a deadline: how long an entry lives is told by the version that first had this one.
    rows = reversed(context.tx.history(context.branch.id, row.slot))
    first = list(itertools.takewhile(lambda one: one.expires == row.expires, rows))[-1]
    life = row.expires - first.ts
    if (context.now - first.ts) * _RENEWALS < life:
        return False
    seq = context.next_seq()
    renewed = row._replace(
        seq=seq, ts=context.now, branch=context.branch.id, version=row.version + 1, agent=context.agent_id,
        run=context.run_row, expires=context.now + life,
    )  # fmt: skip
    context.tx.append_version(NewVersion(renewed, _WRITE, None, context.group, None, details))
    conflicts.sight(context, slot, renewed)
    return True


def append_under(
    context: WriteContext, event: int, event_type: EventType, made: Iterable[tuple[VersionRow, int | None]]
) -> list[VersionRow]:
    """Append the versions that a larger event makes, each with the version it was taken from, and return them.

    A row says all but where, when, by whom and in which run it is committed; without a ``value_seq`` it owns its value.
    """
    appended: list[NewVersion] = []
    for row, origin in made:
        seq = context.next_seq()
        placed = row._replace(
            seq=seq, ts=context.now, branch=context.branch.id, agent=context.agent_id, run=context.run_row,
            value_seq=row.value_seq or seq,
        )  # fmt: skip
        appended.append(NewVersion(placed, EVENT_CODE[event_type], event, context.group, origin, None))
    context.tx.append_versions(appended)
    return [new.row for new in appended]


def tombstone(row: VersionRow, author: int) -> VersionRow:
    """Return the version that says an entry is gone, all but where and when it is made."""
    return row._replace(
        version=row.version + 1, live=0, value=None, value_seq=0, author=author, good=0.0, bad=0.0, outcomes=0,
        expires=None, refs=None,
    )  # fmt: skip


def pending(context: Context, put: CheckedPut) -> Entry:
    """Return a write that is not committed yet as an entry: its seq and version are 0."""
    now = instant(context.clock())
    return Entry(
        entity_path=put.path, key=put.key, value=json.loads(put.text), version=0, seq=0, confidence=put.confidence,
        branch=context.branch.name, memory_type=put.memory_type, shared=put.shared, superseded=False, deleted=False,
        outcome_count=0, expires_at=None, pattern_refs=put.refs, agent_id=context.agent, committed_by=context.agent,
        session_id=context.run.session_id, run_id=context.run.run_id or None, created_at=now, written_at=now,
    )  # fmt: skip


def _settle(
    context: WriteContext, slot: Slot, put: CheckedPut, current: VersionRow | None, newest: VersionRow | None
) -> CheckedPut:
    """Refuse a write that came too late, or return what to write instead of it."""
    actual = 0 if current is None else current.version
    if put.expected_version is not None and put.expected_version != actual:
        raise conflicts.stale(slot, put.expected_version, actual, f"not at version {put.expected_version} as expected")
    settled = None if context.settled is None else context.settled.get(slot)
    if settled is not None and settled.seq == (0 if current is None else current.seq):
        return settled.put
    # An entry that expired has not moved, whether it was last seen there or gone: nobody wrote it.
    held = newest if newest is not None and newest.live else None
    unmoved = any(not conflicts.has_moved(context, slot, row) for row in (current, held))
    if settled is None and unmoved:
        return put
    seen = context.seen.get((context.branch.id, slot), Sighting(0, 0))
    before = context.tx.version(seen.seq) if seen.seq else None
    if context.settings.on_conflict is None:
        expected = _last_seen(context, slot)
        raise conflicts.stale(slot, expected, actual, f"and this handle last saw version {expected}")
    existing = None if current is None else entry(context, current, slot)
    incoming = entry(context, _next_version(context, 0, put, newest, current), slot)
    base = None if before is None else entry(context, before, slot)
    raise conflicts.Moved(context, slot, put, existing, incoming, base)


def _next_version(
    context: WriteContext,
    slot_id: int,
    put: CheckedPut,
    newest: VersionRow | None,
    current: VersionRow | None,
) -> VersionRow:
    seq = context.next_seq()
    repeated = current if current is not None and fields.same_text(current.value, put.text) else None
    good, bad, outcomes = (0.0, 0.0, 0) if repeated is None else (repeated.good, repeated.bad, repeated.outcomes)
    return VersionRow(
        seq,
        context.now,
        context.branch.id,
        slot_id,
        1 if newest is None else newest.version + 1,
        1,
        put.text if repeated is None else repeated.value,
        seq if repeated is None else repeated.value_seq,
        context.agent_id,
        context.agent_id,
        context.run_row,
        posterior(put.confidence, good, bad),
        MEMORY_CODE[put.memory_type],
        put.confidence,
        good,
        bad,
        outcomes,
        context.now if current is None else current.born,
        None if put.ttl is None else context.now + put.ttl,
        json.dumps(put.refs, ensure_ascii=False) if put.refs else None,
    )


def _last_seen(context: Context, slot: Slot) -> int:
    """Return the number of the version this handle last saw, 0 if it saw none."""
    seen = context.seen.get((context.branch.id, slot))
    row = None if seen is None or not seen.seq else context.tx.version(seen.seq)
    return 0 if row is None else row.version


def _repeated(context: Context, put: CheckedPut, slot: Slot, seq: int, digest: str) -> Entry:
    row = context.tx.version(seq)
    if row is None or row.branch != context.branch.id or digest != _digest(put):
        raise IdempotencyError(
            f"idempotency_key {put.idempotency_key!r} was used for another write (seq {seq}); use a fresh one"
        )
    return entry(context, row, slot)


def _digest(put: CheckedPut) -> str:
    """Return what tells two writes apart: where they write, and the value asked for."""
    request = json.dumps([put.path, put.key, put.shared, put.value], sort_keys=True)
    return hashlib.sha256(request.encode()).hexdigest()


# --- reading ---------------------------------------------------------------------------------------------------------


def find(context: Context, wanted: Named, upto: int = NOW) -> tuple[VersionRow | None, Slot]:
    """Return the live version that a read sees, and its slot: the agent's own private one before the shared one."""
    path, key, shared = wanted
    tx, agent = context.tx, context.agent_id
    slot = Slot(SHARED, path, key)
    if upto == NOW:
        row, private = tx.current(context.branch, path, key, agent)
    else:
        slot_id = tx.slot(SHARED, path, key)
        row = None if slot_id is None else tx.visible(context.branch, slot_id, upto)
        private = tx.owns_private(agent)
    if shared is False:
        row = None
    if private and shared is not True and (own_id := tx.slot(agent, path, key)) is not None:
        own = _visible_now(context, tx.visible(context.branch, own_id, upto), upto)
        if own is not None:
            return own, Slot(agent, path, key)
    return _visible_now(context, row, upto), slot


def _visible_now(context: Context, row: VersionRow | None, upto: int) -> VersionRow | None:
    """Return a version if it is there in a view; the past ignores expiry, and few entries ever need the time."""
    expires = row is not None and row.expires is not None and upto == NOW
    return present(row, context.time() if expires else None)


def read(context: Context, path: object, key: object, at: object, min_confidence: object) -> Entry | None:
    """Return what an agent reads under a path and key."""
    least = 0.0 if min_confidence == 0.0 else validation.fraction("min_confidence", min_confidence)
    upto = NOW if at is None else moments.view_at(context, at)
    row, slot = find(context, validation.entry_key(path, key), upto)
    if at is None and context.settings.tracks:
        conflicts.sight(context, slot, row)
    if row is None or row.confidence < least:
        return None
    return entry(context, row, slot)


def read_many(context: Context, keys: Sequence[object], at: object) -> list[Entry | None]:
    """Return what an agent reads under several names."""
    upto = NOW if at is None else moments.view_at(context, at)
    return [_read_named(context, validation.named(one), upto) for one in keys]


def _read_named(context: Context, named: Named | str, upto: int) -> Entry | None:
    wanted = joined(context, named, upto) if isinstance(named, str) else named
    if wanted is None:
        return None
    row, slot = find(context, wanted, upto)
    if upto == NOW:
        conflicts.sight(context, slot, row)
    return None if row is None else entry(context, row, slot)


def joined(context: Context, name: str, upto: int = NOW) -> Named | None:
    """Return the entry that a "path/key" names, None if none matches; two that match are refused."""
    slots = context.tx.slots(context.tx.find_joined(name, context.agent_id)).values()
    names = {Named(slot.path, slot.key, None) for slot in slots}
    matching = sorted(one for one in names if find(context, one, upto)[0] is not None)
    if len(matching) > 1:
        pairs = [(one.path, one.key) for one in matching]
        raise AmbiguousKeyError(f"{name!r} matches {pairs}; pass the (path, key) pair that is meant")
    return matching[0] if matching else None


def read_from(context: Context, agent_id: object, path: object, key: object) -> Entry | None:
    """Return the newest version of a key that an agent authored."""
    author = context.tx.agent(validation.name("agent_id", agent_id))
    name = validation.entry_key(path, key)
    if author is None:
        return None
    for owner in context.owners if author == context.agent_id else (SHARED,):
        slot_id = context.tx.slot(owner, name.path, name.key)
        row = None if slot_id is None else context.tx.newest_by(context.branch.id, slot_id, author)
        if row is not None and _visible_now(context, row, NOW) is not None:
            slot = Slot(owner, name.path, name.key)
            newest = context.tx.visible(context.branch, row.slot)
            return entry(context, row, slot, superseded=newest is not None and newest.seq != row.seq)
    return None


def list_entries(
    context: Context,
    path: object,
    prefix: bool,
    include_superseded: bool,
    memory_type: object,
    after_key: object,
    at: object,
    limit: object,
    cursor: object,
) -> Page[Entry]:
    """Return a page of entries, or of their versions."""
    if after_key is not None and (path is None or prefix or include_superseded):
        raise InvalidInputError("after_key= is for the entries of one path: pass entity_path and leave prefix out")
    upto = NOW if at is None else moments.view_at(context, at)
    count, after = validation.limit(limit), validation.cursor(cursor)
    kind = None if memory_type is None else MEMORY_CODE[validation.choice("memory_type", memory_type, MemoryType)]
    which = ListFilter(
        viewer=context.agent_id,
        path=None if path is None else validation.entity_path(path),
        prefix=prefix,
        memory_type=kind,
        now=context.time() if upto == NOW else None,
        after=-1 if after is None else after,
        limit=count + 1 if count > 0 else -1,
        after_key=None if after_key is None else validation.key(after_key),
    )
    if include_superseded:
        rows = context.tx.all_versions(context.branch.id, upto, which)
    else:
        rows = context.tx.list(context.branch, upto, which)
    more = 0 < count < len(rows)
    rows = rows[:count] if more else rows
    entries = _entries(context, rows, upto) if include_superseded else entries_of(context, rows)
    position = None if not more else rows[-1].seq if include_superseded else rows[-1].slot
    return Page(entries, None if position is None else str(position))


def history(
    context: Context, path: object, key: object, since: object, until: object, limit: object, cursor: object
) -> Page[Entry]:
    """Return a page of the versions of an entry, oldest first."""
    first, last = moments.first_seq(context, since), moments.last_seq(context, until)
    count, after = validation.limit(limit), validation.cursor(cursor) or 0
    rows = versions_of(context, validation.entry_key(path, key))
    newest = rows[-1].seq if rows else 0
    wanted = [row for row in rows if first <= row.seq <= last and row.seq > after]
    more = 0 < count < len(wanted)
    wanted = wanted[:count] if more else wanted
    names = context.tx.slots({row.slot for row in wanted})
    page = [entry(context, row, names[row.slot], superseded=row.seq != newest) for row in wanted]
    return Page(page, str(wanted[-1].seq) if more else None)


def compare(context: Context, path: object, key: object, old: object, new: object) -> Change:
    """Return what changed between two versions of an entry."""
    name = validation.entry_key(path, key)
    rows = versions_of(context, name)
    if not rows:
        raise EntryNotFoundError(f"no entry {name.path}/{name.key} on branch {context.branch.name!r}")
    by_number = {row.version: row for row in rows}
    later = rows[-1].version if new is None else validation.whole("new", new, 1)
    earlier = later - 1 if old is None else validation.whole("old", old, 1)
    for wanted in (later, earlier):
        if wanted not in by_number and not (wanted == 0 and old is None):
            raise EntryNotFoundError(
                f"{name.path}/{name.key} has versions {min(by_number)} to {max(by_number)}, not {wanted}"
            )
    slot = context.tx.slots([rows[-1].slot])[rows[-1].slot]
    before, after = by_number.get(earlier), by_number[later]
    newest = rows[-1].seq
    return change(
        slot,
        None if before is None else entry(context, before, slot, superseded=before.seq != newest),
        entry(context, after, slot, superseded=after.seq != newest),
    )


def change(slot: Slot, base: Entry | None, source: Entry | None, target: Entry | None = None) -> Change:
    """Return the difference between two states of an entry as a Change; deleted versions count as absent."""
    base = None if base is None or base.deleted else base
    source = None if source is None or source.deleted else source
    old = fields.ABSENT if base is None else base.value
    new = fields.ABSENT if source is None else source.value
    kind = DiffType.MODIFIED
    if (base is None) is not (source is None):
        kind = DiffType.ADDED if base is None else DiffType.DELETED
    return Change(
        diff_type=kind,
        entity_path=slot.path,
        key=slot.key,
        base=base,
        source=source,
        target=target,
        field_changes=tuple(fields.changes(old, new)),
    )


def versions_of(context: Context, name: Named) -> list[VersionRow]:
    """Return the versions of the slot that a read sees, oldest first; of one that ever had any, where none is live."""
    found: list[VersionRow] = []
    for owner in context.owners:
        if name.shared not in (None, owner == SHARED):
            continue
        slot_id = context.tx.slot(owner, name.path, name.key)
        rows = [] if slot_id is None else context.tx.history(context.branch.id, slot_id)
        if rows and _visible_now(context, rows[-1], NOW) is not None:
            return rows
        found = found or rows
    return found


def live(row: VersionRow | None) -> VersionRow | None:
    """Return a version if it is live, whether or not its deadline has passed."""
    return present(row, None)


def present(row: VersionRow | None, now: int | None) -> VersionRow | None:
    """Return a version if it is live and, where ``now`` is given, has not expired."""
    if row is None or not row.live:
        return None
    if row.expires is not None and now is not None and row.expires <= now:
        return None
    return row


# --- models ----------------------------------------------------------------------------------------------------------


def entry(context: Context, row: VersionRow, slot: Slot, *, superseded: bool = False) -> Entry:
    """Return a stored version as a model. It was validated when it was written, so it is not validated again."""
    tx = context.tx
    run = tx.run(row.run)
    author, written = tx.agent_name(row.author), instant(row.ts)
    values: dict[str, Any] = {
        "entity_path": slot.path,
        "key": slot.key,
        "value": None if row.value is None else _decode(row.value)[0],
        "version": row.version,
        "seq": row.seq,
        "confidence": row.confidence,
        "branch": context.branch.name if row.branch == context.branch.id else context.name_of(row.branch),
        "memory_type": MEMORY_TYPE[row.memory_type],
        "shared": slot.owner == SHARED,
        "superseded": superseded,
        "deleted": not row.live,
        "outcome_count": row.outcomes,
        "expires_at": None if row.expires is None else instant(row.expires),
        "pattern_refs": () if row.refs is None else tuple(json.loads(row.refs)),
        "agent_id": author,
        "committed_by": author if row.agent == row.author else tx.agent_name(row.agent),
        "session_id": run.session,
        "run_id": run.name or None,
        "created_at": written if row.born == row.ts else instant(row.born),
        "written_at": written,
    }
    made = _new(Entry)
    _set(made, "__dict__", values)
    _set(made, "__pydantic_fields_set__", _ENTRY_FIELDS)
    _set(made, "__pydantic_extra__", None)
    _set(made, "__pydantic_private__", None)
    return made


def entries_of(context: Context, rows: Sequence[VersionRow]) -> list[Entry]:
    """Return current versions as models."""
    names = context.tx.slots({row.slot for row in rows})
    return [entry(context, row, names[row.slot]) for row in rows]


def _entries(context: Context, rows: Sequence[VersionRow], upto: int) -> list[Entry]:
    """Return versions of any age as models, marked where a newer one stands in the view."""
    ids = {row.slot for row in rows}
    names = context.tx.slots(ids)
    newest = context.tx.visible_many(context.branch.id, list(ids), upto)
    return [entry(context, row, names[row.slot], superseded=newest[row.slot].seq != row.seq) for row in rows]
