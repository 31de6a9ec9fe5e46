"""Briefs: what is known of a path, compiled from its entries, stored, and compiled anew only when these have changed.

A brief is shared: it covers shared entries alone, and is kept apart for those who may read other branches. A writer is
the user's code and runs outside any transaction; what it wrote is stored if it still holds for what the memory is then.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple, cast

from amfs.core import digest, pending, timeline, validation, versions
from amfs.core.conflicts import asking
from amfs.core.context import Access, Context, WriteContext, instant
from amfs.errors import InvalidInputError, InvalidValueError, WriterError
from amfs.models import Brief, BriefOutcome, EventType
from amfs.storage.rows import NOBODY, NOW, BriefKey, BriefRow, CoveredRow, ListFilter

BriefWriter = Callable[[str], str]
"""Takes a digest and returns it as prose."""

MAX_WRITTEN = 100_000
"""The most characters that a writer may return."""

_FORM = 1
"""Counts up when the text of a digest changes, so that those stored are compiled anew once something happens."""

_OUTCOMES = 5
_REMEMBERED = 1000


class Request(NamedTuple):
    """Which brief is wanted; ``writer_name`` is empty without a writer."""

    path: str | None
    about: str | None
    limit: int
    writer: BriefWriter | None
    writer_name: str


class Pulse(NamedTuple):
    """What changes whenever a brief of a branch may: its newest shared version, and the conflicts open there."""

    version: int
    conflicts: tuple[int, ...]


Checks = dict[BriefKey, tuple[str, Pulse]]
"""The fingerprints of stored briefs that were found to hold still, and when: a read writes nothing to remember it."""


class Compiled(NamedTuple):
    """A brief, the context it was found or compiled in, and whether it was compiled just now."""

    context: Context
    brief: Brief
    is_new: bool


class _Draft(NamedTuple):
    """What a brief would be now. ``details`` are those of its event, ``body`` what is stored beside them."""

    fingerprint: str
    pulse: Pulse
    expires: int | None
    details: dict[str, Any]
    body: dict[str, Any]


class _Unanswered(Exception):  # noqa: N818 - it is caught here, and never an error to anyone else
    """Leaves the transaction to ask the writer about a digest it has not seen yet."""

    def __init__(self, draft: _Draft) -> None:
        super().__init__(draft.fingerprint)
        self.draft = draft


# --- the gate --------------------------------------------------------------------------------------------------------


def request(entity_path: object, agent_id: object, limit: object, writer: BriefWriter | None) -> Request:
    """Return a request that passed the gate."""
    if writer is not None and not callable(writer):
        raise InvalidInputError("writer must be a function that takes a digest and returns text")
    return Request(
        None if entity_path is None else validation.entity_path(entity_path),
        validation.optional_name("agent_id", agent_id),
        validation.count("limit", limit, 1),
        writer,
        "" if writer is None else _name_of(writer),
    )


def _name_of(writer: BriefWriter) -> str:
    """Return what a writer is known by: its module and name, of an object those of its class."""
    while isinstance(writer, partial):
        writer = writer.func
    named = writer if hasattr(writer, "__qualname__") else type(writer)
    name = f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', '')}"
    return validation.name("the name of the writer", name, validation.MAX_PATH_BYTES)


# --- finding and compiling -------------------------------------------------------------------------------------------


def compile_resolving(access: Access, wanted: Request, checks: Checks) -> Compiled:
    """Return the stored brief if it still holds, else compile, write and store it."""
    answers: dict[str, str] = {}

    def attempt() -> Compiled:
        found = access.read(_find, wanted, checks, answers, may_store=not access.storage.read_only)
        return access.record(_store, wanted, answers) if found is None else found

    def ask(question: _Unanswered) -> None:
        answers[question.draft.fingerprint] = _written(wanted, question.draft.body["text"])

    return asking(attempt, _Unanswered, ask, "the writer of a brief")


def pulse(context: Context) -> Pulse:
    """Return what changes whenever a brief of the context's branch may, but for a deadline that passes."""
    newest = context.tx.last_shared_version(context.branch.id, NOW)
    return Pulse(newest, tuple(row.id for row, _ in pending.open_conflicts(context)))


def _find(
    context: Context, wanted: Request, checks: Checks, answers: Mapping[str, str], *, may_store: bool
) -> Compiled | None:
    """Return the brief if there is nothing to store, None if there is."""
    key = _key(context, wanted)
    row, now = context.tx.records.brief(key), pulse(context)
    if row is not None and _is_fresh(context, row, now, checks.get(key)):
        return Compiled(context, _stored(context, wanted, row), False)
    draft = _draft(context, wanted, now)
    if row is not None and row.fingerprint == draft.fingerprint:
        if len(checks) >= _REMEMBERED:
            checks.clear()
        checks[key] = (row.fingerprint, now)
        return Compiled(context, _stored(context, wanted, row), False)
    if _is_nothing(row, draft):
        return Compiled(context, _unstored(context, wanted, draft), False)
    written = _with_answer(wanted, draft, answers)
    return None if may_store else Compiled(context, _unstored(context, wanted, written), False)


def _store(context: WriteContext, wanted: Request, answers: Mapping[str, str]) -> Compiled:
    """Store a brief of what the branch holds in this transaction, unless somebody else has."""
    key, records = _key(context, wanted), context.tx.records
    row, draft = records.brief(key), _draft(context, wanted, pulse(context))
    if row is not None and row.fingerprint == draft.fingerprint:
        return Compiled(context, _stored(context, wanted, row), False)
    if _is_nothing(row, draft):
        return Compiled(context, _unstored(context, wanted, draft), False)
    draft = _with_answer(wanted, draft, answers)
    seq = timeline.append(context, EventType.BRIEF_COMPILED, draft.details)
    body = json.dumps(draft.body, ensure_ascii=False)
    row = BriefRow(*key, draft.fingerprint, draft.pulse.version, draft.expires, seq, body)
    records.save_brief(row)
    return Compiled(context, _stored(context, wanted, row), True)


def _is_nothing(row: BriefRow | None, draft: _Draft) -> bool:
    """Return whether nothing is known and no brief says otherwise: then there is nothing to store."""
    return row is None and not draft.details["entry_count"]


def _key(context: Context, wanted: Request) -> BriefKey:
    return BriefKey(
        context.branch.id, wanted.path or "", wanted.about or "", wanted.limit, wanted.writer_name, _scope(context)
    )


def _scope(context: Context) -> str:
    """Return what tells apart who may read which branches: a brief may tell of conflicts with any of them."""
    readable = context.readable()
    return "" if readable is None else sha256(json.dumps(sorted(readable)).encode()).hexdigest()


def _is_fresh(context: Context, row: BriefRow, now: Pulse, check: tuple[str, Pulse] | None) -> bool:
    if row.expires is not None and row.expires <= context.time():
        return False
    compiled = Pulse(row.checked, tuple(json.loads(row.body)["open"]))
    return now == compiled or check == (row.fingerprint, now)


# --- what a brief covers ---------------------------------------------------------------------------------------------


def _draft(context: Context, wanted: Request, now: Pulse) -> _Draft:
    covered = _covered(context, wanted)
    cited = covered[: wanted.limit]
    clashes = _clashes(context, covered)
    outcomes = _outcomes(context, covered)
    told = digest.Digest(
        wanted.path, wanted.about, context.branch.name, len(covered), _agents(context, covered),
        _cited(context, cited), clashes, outcomes,
    )  # fmt: skip
    details = {
        "digest_type": "digest",
        "entry_count": len(covered),
        "entities": sorted({row.path for row in covered}),
        **({} if wanted.path is None else {"entity_path": wanted.path}),
        **({} if wanted.about is None else {"agent_id": wanted.about}),
    }
    body = {
        "text": digest.text(told),
        "citations": [row.seq for row in cited],
        "agents": told.agents,
        "conflicts": len(clashes),
        "outcomes": [one.model_dump() for one in outcomes],
        "open": now.conflicts,
    }
    deadlines = [row.expires for row in covered if row.expires is not None]
    return _Draft(_fingerprint(covered, clashes, outcomes), now, min(deadlines, default=None), details, body)


def _covered(context: Context, wanted: Request) -> list[CoveredRow]:
    """Return the shared entries that a brief covers: the surest first, then the best tried, then the newest."""
    which = ListFilter(
        viewer=NOBODY, path=wanted.path, prefix=True, memory_type=None, now=context.time(), after=-1, limit=-1
    )
    author = None if wanted.about is None else context.tx.agent(wanted.about) or NOBODY
    rows = [row for row in context.tx.covered(context.branch, which) if author in (None, row.author)]
    return sorted(rows, key=lambda row: (-row.confidence, -row.outcomes, -row.seq))


def _fingerprint(
    covered: Sequence[CoveredRow], clashes: Sequence[digest.Clash], outcomes: Sequence[BriefOutcome]
) -> str:
    """Return what changes whenever what a brief tells does; a version never changes, so its seq stands for it."""
    told = [_FORM, [row.seq for row in covered], clashes, [one.seq for one in outcomes]]
    return sha256(json.dumps(told).encode()).hexdigest()


def _agents(context: Context, covered: Sequence[CoveredRow]) -> dict[str, int]:
    """Return how many of the entries each agent wrote, who wrote most first."""
    counts = Counter(row.author for row in covered)
    named = [(context.tx.agent_name(author), entries) for author, entries in counts.items()]
    return dict(sorted(named, key=lambda one: (-one[1], one[0])))


def _cited(context: Context, cited: Sequence[CoveredRow]) -> list[digest.Cited]:
    rows = context.tx.versions([row.seq for row in cited])
    names = context.tx.slots([row.slot for row in cited])
    return [
        digest.Cited(
            row.slot,
            f"{names[row.slot].path}/{names[row.slot].key}",
            rows[row.seq].value or "",
            rows[row.seq].version,
            row.confidence,
            row.outcomes,
            context.tx.agent_name(row.author),
        )
        for row in cited
    ]


def _clashes(context: Context, covered: Sequence[CoveredRow]) -> list[digest.Clash]:
    """Return the open conflicts over covered entries that the principal may see, oldest first."""
    slots = {row.slot for row in covered}
    found = [(row.slot, merge) for row, merge in pending.open_conflicts(context) if row.slot in slots]
    names = context.tx.slots([slot for slot, _ in found])
    branch = context.tx.branch_by_id
    return [
        digest.Clash(
            slot, f"{names[slot].path}/{names[slot].key}", branch(merge.source).name, branch(merge.target).name
        )
        for slot, merge in found
    ]


def _outcomes(context: Context, covered: Sequence[CoveredRow]) -> list[BriefOutcome]:
    """Return the last outcomes on the branch and what it inherited that judged the values that stand, newest first."""
    judged = [(row.slot, row.value_seq) for row in covered if row.outcomes]
    seqs = context.tx.judging(context.branch.id, judged, context.readable(), _OUTCOMES) if judged else []
    found = [timeline.event_at(context, seq) for seq in seqs]
    return [
        BriefOutcome(outcome_ref=it.details["outcome_ref"], outcome_type=it.details["outcome_type"], seq=it.seq)
        for it in found
    ]


# --- the writer ------------------------------------------------------------------------------------------------------


def _with_answer(wanted: Request, draft: _Draft, answers: Mapping[str, str]) -> _Draft:
    """Return a draft as the writer wrote it; one who has nothing to write about is not asked."""
    if wanted.writer is None or not draft.details["entry_count"]:
        return draft
    if draft.fingerprint not in answers:
        raise _Unanswered(draft)
    details = {**draft.details, "digest_type": "written"}
    return draft._replace(details=details, body={**draft.body, "text": answers[draft.fingerprint]})


def _written(wanted: Request, text: str) -> str:
    """Return what the writer makes of a digest."""
    assert wanted.writer is not None, "a writer is asked"  # noqa: S101
    try:
        prose = cast("object", wanted.writer(text))
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise WriterError(f"the writer {wanted.writer_name} failed: {what}. Nothing was stored") from error
    must = f"it must return text of 1 to {MAX_WRITTEN:,} characters. Nothing was stored"
    if not isinstance(prose, str):
        raise WriterError(f"the writer {wanted.writer_name} returned a {type(prose).__name__}; {must}")
    if not prose.strip() or len(prose) > MAX_WRITTEN:
        raise WriterError(f"the writer {wanted.writer_name} returned {len(prose):,} characters, or blank ones; {must}")
    try:
        return str(json.loads(validation.json_text(prose, 6 * MAX_WRITTEN + 2, "the text")))
    except InvalidValueError as error:
        raise WriterError(f"the writer {wanted.writer_name} returned what cannot be stored: {error}; {must}") from error


# --- models ----------------------------------------------------------------------------------------------------------


def _stored(context: Context, wanted: Request, row: BriefRow) -> Brief:
    event = context.tx.event(row.seq)
    assert event is not None, "a brief has its event"  # noqa: S101
    return _model(context, wanted, json.loads(event.details or "{}"), json.loads(row.body), row.seq, event.ts)


def _unstored(context: Context, wanted: Request, draft: _Draft) -> Brief:
    return _model(context, wanted, draft.details, draft.body, 0, context.time())


def _model(
    context: Context, wanted: Request, details: dict[str, Any], body: dict[str, Any], seq: int, ts: int
) -> Brief:
    rows = context.tx.versions(body["citations"])
    return Brief(
        entity_path=wanted.path,
        agent_id=wanted.about,
        branch=context.branch.name,
        digest_type=details["digest_type"],
        text=body["text"],
        citations=tuple(versions.entries_of(context, [rows[cited] for cited in body["citations"]])),
        entry_count=details["entry_count"],
        entities=tuple(details["entities"]),
        agents=body["agents"],
        conflicts=body["conflicts"],
        outcomes=tuple(BriefOutcome.model_validate(one) for one in body["outcomes"]),
        seq=seq,
        compiled_at=instant(ts),
    )
