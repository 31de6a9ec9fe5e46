"""Rollback: restoring an earlier view by appending versions. History is never rewritten, so a rollback can be undone.

The whole view is restored, or one author's values are taken out and what stood under them comes back. What a rollback
restores is a version by reference: its value, its author and its evidence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from amfs.core import diff, moments, timeline, validation, versions
from amfs.core.context import Access, Context, WriteContext
from amfs.core.diff import View
from amfs.errors import InvalidInputError, RollbackTouchesOthersError
from amfs.models import Change, EventType, RollbackResult
from amfs.storage.rows import NOBODY, NOW, RollbackRow, Slot, VersionRow


class Request(NamedTuple):
    """A rollback that passed the gate; ``moment`` None is where the branch began."""

    moment: int | datetime | str | None
    author: str | None
    include_others: bool
    dry_run: bool


class Restored(NamedTuple):
    """An entry, its newest version, and the one whose state comes back (None: it is absent again)."""

    slot: Slot
    newest: VersionRow
    wanted: VersionRow | None


class Plan(NamedTuple):
    """What a rollback would do; ``skipped`` are entries on which others built, ``others`` who wrote since."""

    seq: int
    restored: list[Restored]
    skipped: list[Restored]
    others: dict[str, int]


def request(
    tag_name: object, timestamp: object, seq: object, agent_id: object, include_others: bool, dry_run: bool
) -> Request:
    """Return a rollback that passed the gate."""
    given = [one for one in (tag_name, timestamp, seq) if one is not None]
    author = validation.optional_name("agent_id", agent_id)
    if len(given) > 1 or not (given or author):
        raise InvalidInputError("say where to roll back to with one of tag_name=, timestamp= and seq=")
    if tag_name is not None:
        return Request(validation.tag_name(tag_name), author, include_others, dry_run)
    if timestamp is not None:
        return Request(validation.aware("timestamp", timestamp), author, include_others, dry_run)
    return Request(None if seq is None else validation.whole("seq", seq), author, include_others, dry_run)


def roll_back(access: Access, wanted: Request) -> RollbackResult:
    """Roll the branch of ``access`` back and return what was done, or would be."""
    if wanted.dry_run:
        return access.read(_preview, wanted)
    return access.write(_roll_back, wanted)


def _preview(context: Context, wanted: Request) -> RollbackResult:
    return _result(context, wanted, _plan(context, wanted), None)


def _roll_back(context: WriteContext, wanted: Request) -> RollbackResult:
    plan = _plan(context, wanted)
    if plan.others and not wanted.include_others:
        who = ", ".join(f"{agent} ({count})" for agent, count in plan.others.items())
        raise RollbackTouchesOthersError(
            f"other agents wrote on {context.branch.name!r} since seq {plan.seq}: {who}; pass include_others=True to "
            "undo that too, or agent_id= to undo one agent's values. Nothing was rolled back",
            _result(context, wanted, plan, None),
        )
    return _result(context, wanted, plan, _apply(context, wanted, plan) if plan.restored else None)


# --- planning --------------------------------------------------------------------------------------------------------


def _plan(context: Context, wanted: Request) -> Plan:
    seq = context.branch.fork_seq if wanted.moment is None else moments.view_at(context, wanted.moment)
    segments = diff.differing(context.tx, View(context.branch.id, seq), diff.head_view(context.tx, context.branch))
    if wanted.author is not None:
        author = context.tx.agent(wanted.author) or NOBODY
        return _plan_author(context, seq, author, context.tx.slots_authored(segments, context.agent_id, author))
    committers = context.tx.committers(segments, context.agent_id, context.namespace)
    slots = sorted({slot for slot, _ in committers})
    then, now = (context.tx.visible_many(context.branch.id, slots, upto) for upto in (seq, NOW))
    names = context.tx.slots(slots)
    restored = [
        Restored(names[slot], now[slot], versions.live(then.get(slot)))
        for slot in now
        if not diff.is_unchanged(versions.live(now[slot]), versions.live(then.get(slot)))
    ]
    touched = {one.newest.slot for one in restored}
    others = Counter(
        context.tx.agent_name(agent) for slot, agent in committers if slot in touched and agent != context.agent_id
    )
    return Plan(seq, _sorted(restored), [], dict(sorted(others.items())))


def _plan_author(context: Context, seq: int, author: int, slots: Sequence[int]) -> Plan:
    """Plan to take out what an author wrote after a seq, where it still stands on top."""
    then = context.tx.visible_many(context.branch.id, slots, seq)
    names = context.tx.slots(slots)
    plan = Plan(seq, [], [], {})
    for slot, made in _made_since(context, slots, seq).items():
        newest, before = made[-1], then.get(slot)
        if newest.author == author:
            under = next((row for row in reversed(made) if row.author != author), before)
            if not diff.is_unchanged(versions.live(newest), versions.live(under)):
                plan.restored.append(Restored(names[slot], newest, versions.live(under)))
        else:
            first = next(number for number, row in enumerate(made) if row.author == author)
            under = made[first - 1] if first else before
            plan.skipped.append(Restored(names[slot], newest, versions.live(under)))
    return plan._replace(restored=_sorted(plan.restored), skipped=_sorted(plan.skipped))


def _made_since(context: Context, slots: Sequence[int], seq: int) -> Mapping[int, list[VersionRow]]:
    by_slot: dict[int, list[VersionRow]] = {}
    for row in context.tx.histories(context.branch.id, slots, seq):
        by_slot.setdefault(row.slot, []).append(row)
    return by_slot


def _sorted(restored: list[Restored]) -> list[Restored]:
    return sorted(restored, key=lambda one: diff.by_name(one.slot))


# --- writing ---------------------------------------------------------------------------------------------------------


def _apply(context: WriteContext, wanted: Request, plan: Plan) -> int:
    """Write a plan and return the seq of its event."""
    event = timeline.append(context, EventType.ROLLBACK, _details(context, wanted, plan))
    rows = [
        versions.tombstone(one.newest, context.agent_id)
        if one.wanted is None
        else one.wanted._replace(version=one.newest.version + 1)
        for one in plan.restored
    ]
    versions.append_under(context, event, EventType.ROLLBACK, [(row, None) for row in rows])
    if wanted.author is None:
        context.tx.records.add_rollback(RollbackRow(context.branch.id, event, plan.seq, context.agent_id))
    return event


def _details(context: Context, wanted: Request, plan: Plan) -> dict[str, Any]:
    details: dict[str, Any] = {
        "seq": plan.seq,
        **timeline.figures("restored_entries", [one.slot for one in plan.restored], [one.slot for one in plan.skipped]),
    }
    if isinstance(wanted.moment, str):
        branch = context.tx.branch_by_id(moments.find_tag(context, wanted.moment).branch)
        details |= {"tag": wanted.moment, "tag_branch": branch.name}
    if wanted.author is not None:
        details["agent_id"] = wanted.author
    return details


def _result(context: Context, wanted: Request, plan: Plan, event: int | None) -> RollbackResult:
    return RollbackResult(
        branch=context.branch.name,
        seq=plan.seq,
        agent_id=wanted.author,
        restored_entries=len(plan.restored),
        restored=tuple(_change(context, one) for one in plan.restored),
        skipped=tuple(_change(context, one) for one in plan.skipped),
        others=plan.others,
        event=event,
        dry_run=wanted.dry_run,
    )


def _change(context: Context, one: Restored) -> Change:
    before, after = versions.live(one.newest), one.wanted
    return versions.change(
        one.slot,
        None if before is None else versions.entry(context, before, one.slot, superseded=True),
        None if after is None else versions.entry(context, after, one.slot),
    )
