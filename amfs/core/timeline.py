"""The timeline: appending events, reading them back, and how each reads as a sentence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from amfs.core import moments, validation
from amfs.core.context import HIDDEN, MAIN, Context, WriteContext, instant
from amfs.models import Entry, Event, EventType, Page
from amfs.storage.rows import (
    EVENT_CODE,
    EVENT_TYPE,
    MEMORY_TYPE,
    NOBODY,
    NOW,
    SHARED,
    EventRow,
    NewEvent,
    Slot,
    TimelineFilter,
)

if TYPE_CHECKING:
    pass

_ANNOUNCED = {
    EventType.BRANCH_CREATED: "branch",
    EventType.PULL_REQUEST_OPENED: "source",
    EventType.PULL_REQUEST_REVIEWED: "source",
    EventType.PULL_REQUEST_MERGED: "source",
    EventType.PULL_REQUEST_CLOSED: "source",
    EventType.CONFLICT_RESOLVED: "source",
}
"""The events that only tell of another branch, and where its name stands in their details."""

_MERGES = (EventType.BRANCH_MERGED, EventType.CHERRY_PICK)

acting_task: ContextVar[str | None] = ContextVar("amfs_task", default=None)
"""The step of the run that acts in this context, if a framework names it."""

EVERYONE = "*"
"""The agent id that stands for all agents in a timeline query."""


def append(
    context: WriteContext,
    event_type: EventType,
    details: dict[str, Any],
    *,
    agent: int | None = None,
    branch: int | None = None,
) -> int:
    """Append an event without a version and return its seq.

    ``agent`` is whose timeline it stands on, if not the acting agent's own. Details under ``private`` are shown to
    the acting agent only.
    """
    seq = context.next_seq()
    owner = context.agent_id if agent is None else agent
    context.tx.append_event(
        NewEvent(
            seq=seq,
            ts=context.now,
            branch=context.branch.id if branch is None else branch,
            event_type=EVENT_CODE[event_type],
            agent=owner,
            actor=None if owner == context.agent_id else context.agent_id,
            group=context.group,
            run=context.run_row,
            details=json.dumps(details, ensure_ascii=False) if details else None,
        )
    )
    return seq


def told_of_write(message: str) -> str | None:
    """Return what the event of a write or deletion shows besides the version: why, and in which step of the run."""
    details = {"message": message, "task": acting_task.get()}
    told = {name: text for name, text in details.items() if text}
    return json.dumps(told, ensure_ascii=False) if told else None


def cross_agent_reads(context: WriteContext, entries: Sequence[Entry], task: str | None = None) -> None:
    """Record that this agent read entries of others: one event per author, on the author's timeline."""
    task = task or acting_task.get()
    by_author: dict[str, list[Entry]] = {}
    for entry in entries:
        by_author.setdefault(entry.agent_id, []).append(entry)
    for author, read in by_author.items():
        owner = context.tx.agent(author)
        details: dict[str, Any] = {"reader_agent": context.agent, **_read_details(read[0])}
        if len(read) > 1:
            details["entries"] = [_read_details(entry) for entry in read]
        if task is not None:
            details["task"] = task
        append(context, EventType.CROSS_AGENT_READ, details, agent=owner)


def record_context(context: WriteContext, label: object, summary: object, source: object) -> Event:
    """Record something from outside memory that a run relied on."""
    details = {
        "label": validation.name("label", label),
        "summary": validation.name("summary", summary, validation.MAX_VALUE_BYTES),
    }
    if source is not None:
        details["source"] = validation.name("source", source, validation.MAX_VALUE_BYTES)
    seq = append(context, EventType.CONTEXT, details)
    return event_at(context, seq)


def figures(counted: str, done: Iterable[Slot], skipped: Iterable[Slot]) -> dict[str, Any]:
    """Return how many entries an event changed, under the name ``counted``, and which it skipped.

    Those that are private stand apart, to be added for whom they concern.
    """
    counts, names = Counter(slot.owner == SHARED for slot in done), dict[bool, list[str]]()
    for slot in skipped:
        names.setdefault(slot.owner == SHARED, []).append(f"{slot.path}/{slot.key}")
    shared, private = (
        {counted: counts[is_shared], **({"skipped": names[is_shared]} if is_shared in names else {})}
        for is_shared in (True, False)
    )
    return {**shared, **({"private": private} if counts[False] or False in names else {})}


def event_at(context: Context, seq: int) -> Event:
    """Return the event at a seq that is known to exist."""
    row = context.tx.event(seq)
    assert row is not None, "the seq is that of an event"  # noqa: S101
    return to_event(context, row)


def query(
    context: Context,
    on_branch: bool,
    limit: object,
    event_type: object,
    agent_id: object,
    since: object,
    until: object,
    cursor: object,
    messages: bool,
) -> Page[Event]:
    """Return a page of events, newest first."""
    count = validation.count("limit", limit, 1)
    agent: int | None = context.agent_id
    if agent_id is not None and agent_id != EVERYONE:
        agent = context.tx.agent(validation.name("agent_id", agent_id)) or NOBODY
    elif agent_id == EVERYONE or on_branch:
        agent = None
    before = validation.cursor(cursor)
    last = moments.last_seq(context, until)
    kind = None if event_type is None else EVENT_CODE[validation.choice("event_type", event_type, EventType)]
    which = TimelineFilter(
        namespace=context.namespace,
        viewer=context.agent_id,
        agent=agent,
        branch=context.branch.id if on_branch else None,
        event_type=kind,
        messages=messages,
        branches=context.readable(),
        after=moments.first_seq(context, since) - 1,
        before=min(last if last == NOW else last + 1, NOW if before is None else before),
        limit=count + 1,
    )
    rows = _shown(context, which)
    events = [to_event(context, row) for row in rows[:count]]
    return Page(events, str(events[-1].seq) if len(rows) > count else None)


def _shown(context: Context, which: TimelineFilter) -> list[EventRow]:
    """Return as many events as asked for, without those that only tell of a branch the principal may not read."""
    shown: list[EventRow] = []
    while True:
        page = context.tx.timeline(which)
        shown += [row for row in page if not _tells_of_hidden(context, row)]
        if len(page) < which.limit or len(shown) >= which.limit:
            return shown[: which.limit]
        which = which._replace(before=page[-1].seq)


def _tells_of_hidden(context: Context, row: EventRow) -> bool:
    field = _ANNOUNCED.get(EVENT_TYPE[row.event_type])
    if field is None or row.details is None or context.reads_everything:
        return False
    return _is_hidden(context, json.loads(row.details).get(field))


def _is_hidden(context: Context, name: str) -> bool:
    branch = context.tx.branch(context.namespace, name)
    return branch is None or not context.may_read(branch)


def to_event(context: Context, row: EventRow) -> Event:
    """Return a stored event as a model, with its details as this agent may see them."""
    tx = context.tx
    agent, actor = tx.agent_name(row.agent), tx.agent_name(row.agent if row.actor is None else row.actor)
    event_type = EVENT_TYPE[row.event_type]
    details = _details(context, row)
    run = tx.run(row.run)
    return Event(
        seq=row.seq,
        event_type=event_type,
        agent_id=agent,
        actor=actor,
        branch=tx.branch_by_id(row.branch).name,
        summary=_summary(event_type, agent, actor, details),
        details=details,
        group=row.group,
        session_id=run.session,
        run_id=run.name or None,
        created_at=instant(row.ts),
    )


def _details(context: Context, row: EventRow) -> dict[str, Any]:
    details: dict[str, Any] = json.loads(row.details) if row.details else {}
    if not context.reads_everything:
        _mask(context, EVENT_TYPE[row.event_type], details)
    for figures in details.pop("elsewhere", {}).values():
        _add(details, figures)
    private: dict[str, Any] | None = details.pop("private", None)
    if private is not None and context.agent_id in (row.agent, row.actor):
        _add(details, private)
    if row.slot is None or row.memory_type is None:
        return details
    return {
        "entity_path": row.path,
        "key": row.key,
        "version": row.version,
        "confidence": row.confidence,
        "memory_type": MEMORY_TYPE[row.memory_type].value,
        "shared": row.owner == SHARED,
        **details,
    }


def _mask(context: Context, event_type: EventType, details: dict[str, Any]) -> None:
    """Take out of an event's details what tells of branches that the principal may not read."""
    if event_type in _MERGES:
        for field in ("source", "base_branch"):
            if details[field] != MAIN and _is_hidden(context, details[field]):
                details[field] = HIDDEN
    elif "tag_branch" in details and _is_hidden(context, details["tag_branch"]):
        del details["tag"], details["tag_branch"]
    elif "elsewhere" in details:
        read = details["elsewhere"].items()
        details["elsewhere"] = {name: more for name, more in read if not _is_hidden(context, name)}


def _add(details: dict[str, Any], more: dict[str, Any]) -> None:
    """Add figures and names that not everyone sees to those that everyone does."""
    for name, value in more.items():
        known = details.get(name)
        if isinstance(known, int) and isinstance(value, int):
            details[name] = known + value
        elif isinstance(known, list) and isinstance(value, list):
            details[name] = [*known, *value]
        else:
            details[name] = value


def _read_details(entry: Entry) -> dict[str, Any]:
    return {
        "entity": entry.entry_key,
        "entity_path": entry.entity_path,
        "key": entry.key,
        "version": entry.version,
        "seq": entry.seq,
    }


def _summary(event_type: EventType, agent: str, actor: str, details: dict[str, Any]) -> str:
    match event_type:
        case EventType.WRITE:
            return f"Wrote {details['entity_path']}/{details['key']} v{details['version']}"
        case EventType.DELETE:
            return f"Deleted {details['entity_path']}/{details['key']} v{details['version']}"
        case EventType.OUTCOME:
            moved = _count(details["entries_updated"], "entry", "entries")
            return f"Outcome {details['outcome_ref']}: {details['outcome_type']} ({moved} updated)"
        case EventType.CROSS_AGENT_READ:
            more = len(details.get("entries", ())) - 1
            rest = f" and {_count(more, 'other', 'others')}" if more > 0 else ""
            return f"{actor} read {agent}'s {details['entity']} v{details['version']}{rest}"
        case EventType.BRANCH_CREATED:
            return f"Created branch {details['branch']}"
        case EventType.BRANCH_MERGED:
            return f"Merged {details['source']}: {_count(details['merged_entries'], 'entry', 'entries')}"
        case EventType.BRANCH_CLOSED:
            return f"Closed branch {details['branch']}"
        case EventType.TAG_CREATED:
            return f"Tagged {details['tag']} at seq {details['seq']}"
        case EventType.TAG_DELETED:
            return f"Deleted tag {details['tag']}"
        case EventType.ROLLBACK:
            whose = f" {details['agent_id']}'s values" if "agent_id" in details else ""
            to = details.get("tag", f"seq {details['seq']}")
            return f"Rolled{whose} back to {to}: {_count(details['restored_entries'], 'entry', 'entries')}"
        case EventType.CHERRY_PICK:
            return f"Picked from {details['source']}: {_count(details['merged_entries'], 'entry', 'entries')}"
        case EventType.FORK:
            entries = _count(details["entries"], "entry", "entries")
            where = f"to {details['new_agent']}" if "new_agent" in details else f"from {details['source_agent']}"
            return f"Forked {where}: {entries}"
        case EventType.ACCESS_GRANTED:
            return f"Granted {_grantee(details)} {details['permission']} on {details['branch']}"
        case EventType.ACCESS_REVOKED:
            return f"Revoked {_grantee(details)} {details['permission']} on {details['branch']}"
        case EventType.PULL_REQUEST_REVIEWED:
            return f"Reviewed pull request {details['pull_request']}: {details['verdict']}"
        case EventType.PULL_REQUEST_OPENED | EventType.PULL_REQUEST_MERGED | EventType.PULL_REQUEST_CLOSED:
            verb = event_type.value.rpartition("_")[2].capitalize()
            return f"{verb} pull request {details['pull_request']}: {details['title']}"
        case EventType.CONFLICT_RESOLVED:
            return f"Resolved conflict {details['conflict']} with {details['source']}"
        case EventType.BRIEF_COMPILED:
            whose = f"{details['agent_id']}'s " if "agent_id" in details else ""
            entries = _count(details["entry_count"], "entry", "entries")
            return f"Compiled brief of {whose}{details.get('entity_path', 'memory')}: {entries}"
        case EventType.CONTEXT:
            return f"Noted {details['label']}: {details['summary'][:80]}"
        case _:
            return event_type.value.replace("_", " ").capitalize()


def _grantee(details: dict[str, Any]) -> str:
    return f"{details['grantee_type']} {details['grantee_id']}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
