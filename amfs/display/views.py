"""Which view each model has: what its tables and sentences say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from amfs.display import changes
from amfs.display.drawing import NOTHING
from amfs.display.parts import (
    MAX_LINE,
    MAX_PLAIN,
    Block,
    Line,
    Part,
    Stack,
    Table,
    clean,
    compact,
    count,
    pairs,
    pretty,
    sentence,
    short,
    stack,
    utc,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from amfs import models


# --- entries and events ----------------------------------------------------------------------------------------------


def _entry(entry: models.Entry) -> list[Part]:
    line = _entry_line(entry)
    return [line] if entry.deleted else [line, pretty(entry.value)]


def _entry_line(entry: models.Entry) -> Line:
    committer = "" if entry.committed_by == entry.agent_id else f"committed by {entry.committed_by}"
    marks = [word for word in ("deleted", "superseded") if getattr(entry, word)]
    return sentence(
        f"{entry.entry_key} v{entry.version}",
        *marks,
        "" if entry.memory_type == "fact" else str(entry.memory_type),
        f"confidence {entry.confidence:.2f}",
        f"by {_author(entry)}",
        committer,
        f"on {entry.branch}",
        f"seq {entry.seq}",
        f"{utc(entry.written_at)} UTC",
        f"expires {utc(entry.expires_at)} UTC" if entry.expires_at else "",
    )


def _entries(entries: Sequence[models.Entry]) -> list[Part]:
    headers = ["path", "key", "v", "value", "confidence", "author", "branch", "when (UTC)"]
    rows = [
        [
            entry.entity_path,
            entry.key,
            entry.version,
            "(deleted)" if entry.deleted else compact(entry.value),
            f"{entry.confidence:.2f}",
            _author(entry),
            entry.branch,
            utc(entry.written_at),
        ]
        for entry in entries
    ]
    return [Table(headers, rows)]


def _hits(hits: Sequence[models.SearchHit]) -> list[Part]:
    scored, explained = any(hit.score for hit in hits), any(hit.parts for hit in hits)
    headers = [
        *["score"] * scored,
        "path",
        "key",
        "v",
        "value",
        "confidence",
        "author",
        "branch",
        *["parts"] * explained,
    ]
    rows = [
        [
            *[f"{hit.score:.3f}"] * scored,
            hit.entry.entity_path,
            hit.entry.key,
            hit.entry.version,
            compact(hit.entry.value),
            f"{hit.entry.confidence:.2f}",
            _author(hit.entry),
            hit.branch,
            *[pairs({name: round(part, 3) for name, part in (hit.parts or {}).items() if part >= 0.0005})] * explained,
        ]
        for hit in hits
    ]
    return [Table(headers, rows)]


def _author(entry: models.Entry) -> str:
    return entry.agent_id if entry.shared else f"{entry.agent_id} (private)"


def _event(event: models.Event) -> list[Part]:
    when = f"{utc(event.created_at)} UTC"
    line = sentence(event.summary, f"by {event.actor}", f"on {event.branch}", f"seq {event.seq}", when)
    return [line, pretty(event.details)] if event.details else [line]


def _events(events: Sequence[models.Event]) -> list[Part]:
    headers = ["seq", "time (UTC)", "agent", "branch", "summary"]
    return [Table(headers, [[it.seq, utc(it.created_at), it.actor, it.branch, _summary(it)] for it in events])]


def _summary(event: models.Event) -> Stack:
    # The last column may be wide, and the version number is at the end.
    return Stack([clean(event.summary, MAX_LINE)])


def _paths(paths: Sequence[models.PathInfo]) -> list[Part]:
    return [Table(["path", "entries"], [[path.entity_path, path.entries] for path in paths])]


# --- branches and experiments ------------------------------------------------------------------------------------


def _branches(branches: Sequence[models.Branch]) -> list[Part]:
    """Draw each branch under its parent; one whose parent is not on the page stands at the left."""
    names = {branch.name for branch in branches}
    children: dict[str | None, list[models.Branch]] = {}
    for branch in branches:
        children.setdefault(branch.parent if branch.parent in names else None, []).append(branch)

    def below(name: str, indent: str) -> Iterable[str]:
        family = children.get(name, [])
        for number, branch in enumerate(family, 1):
            last = number == len(family)
            yield indent + ("`-- " if last else "|-- ") + _branch_line(branch)
            yield from below(branch.name, indent + ("    " if last else "|   "))

    roots = children.get(None, [])
    return [Block([line for root in roots for line in (_branch_line(root), *below(root.name, ""))])]


def _branch_line(branch: models.Branch) -> str:
    origin = "" if branch.parent is None else f"from {branch.parent} at {branch.fork_seq}"
    author = f"by {branch.created_by}" if branch.created_by else ""
    marks = ", ".join(word for word in (str(branch.status), origin, author) if word)
    return clean(f"{branch.name} ({marks}) {branch.description}".rstrip(), MAX_LINE)


def _experiments(records: Sequence[models.ExperimentRecord]) -> list[Part]:
    rows = [
        [
            it.name,
            f"{it.status}: {it.error}" if it.error else str(it.status),
            it.source,
            pairs(it.params),
            pairs(it.metrics),
            it.agent_id,
            utc(it.started_at),
            utc(it.ended_at),
        ]
        for it in records
    ]
    headers = ["experiment", "status", "from", "params", "metrics", "agent", "started (UTC)", "ended (UTC)"]
    return [Table(headers, rows)]


# --- tags, review, access ---------------------------------------------------------------------------------------------


def _tags(tags: Sequence[models.Tag]) -> list[Part]:
    rows = [[it.name, it.branch, it.seq, it.description, it.created_by, utc(it.created_at)] for it in tags]
    return [Table(["tag", "branch", "seq", "description", "by", "created (UTC)"], rows)]


def _pull_request(request: models.PullRequest) -> list[Part]:
    line = sentence(
        f"pull request {request.id}: {request.title}",
        f"{request.source_branch} -> {request.target_branch}",
        _end(request),
        _verdict(request),
        f"by {request.agent_id}",
        f"{utc(request.created_at)} UTC",
    )
    about = [Line(clean(request.description, MAX_PLAIN))] if request.description else []
    return [line, *about, *(_reviews(request.reviews) if request.reviews else [])]


def _end(request: models.PullRequest) -> str:
    who = "" if request.ended_by is None else f" by {request.ended_by}"
    event = "" if request.merge_event is None else f" (event {request.merge_event})"
    return f"{request.status}{who}{event}"


def _verdict(request: models.PullRequest) -> str:
    if request.changes_requested_by:
        return f"changes requested by {', '.join(request.changes_requested_by)}"
    return "approved" if request.approved else "not approved"


def _pull_requests(requests: Sequence[models.PullRequest]) -> list[Part]:
    rows = [
        [
            it.id,
            it.title,
            f"{it.source_branch} -> {it.target_branch}",
            _end(it),
            _verdict(it),
            it.agent_id,
            utc(it.created_at),
        ]
        for it in requests
    ]
    return [Table(["id", "title", "branches", "status", "review", "by", "opened (UTC)"], rows)]


VERDICT_SIGNS = {"approved": "+", "changes_requested": "!", "commented": ""}


def _reviews(reviews: Sequence[models.Review]) -> list[Part]:
    rows = [
        [
            "" if it.dismissed else VERDICT_SIGNS[it.verdict],
            it.agent_id,
            f"{str(it.verdict).replace('_', ' ')}{' (dismissed)' if it.dismissed else ''}",
            it.comment,
            it.source_seq,
            utc(it.created_at),
        ]
        for it in reviews
    ]
    return [Table(["", "reviewer", "verdict", "comment", "source seq", "when (UTC)"], rows)]


def _grants(grants: Sequence[models.Grant]) -> list[Part]:
    rows = [
        [it.branch, str(it.grantee_type), it.grantee_id, str(it.permission), it.granted_by, utc(it.granted_at)]
        for it in grants
    ]
    return [Table(["branch", "for", "id", "permission", "by", "granted (UTC)"], rows)]


def _api_keys(keys: Sequence[models.ApiKey]) -> list[Part]:
    rows = [
        [
            it.id,
            it.name,
            stack([short(agent) for agent in it.agent_ids]),
            str(it.role),
            it.created_by,
            utc(it.created_at),
            utc(it.expires_at),
            utc(it.revoked_at),
        ]
        for it in keys
    ]
    return [Table(["id", "name", "agents", "role", "by", "created (UTC)", "expires (UTC)", "revoked (UTC)"], rows)]


def _created_api_key(key: models.CreatedApiKey) -> list[Part]:
    return [*_api_keys([key]), Line("the key itself is in .key of this object and nowhere else")]


def _blame(blame: models.Blame) -> list[Part]:
    return [_entry_line(blame.entry), *_origins([blame.origin, *blame.fields])]


def _origins(origins: Sequence[models.Origin]) -> list[Part]:
    headers = ["field", "value", "v", "author", "branch", "event", "merged at", "outcomes", "run", "when (UTC)"]
    rows = [
        [
            short(it.path.removeprefix("/")) or "value",
            compact(it.value),
            f"v{it.version.version}",
            _author(it.version),
            it.version.branch,
            f"{str(it.event_type).replace('_', ' ')} {it.event}",
            stack([str(seq) for seq in it.merges]),
            stack([short(ref) for ref in it.outcomes]),
            it.version.run_id,
            utc(it.version.written_at),
        ]
        for it in origins
    ]
    return [Table(headers, rows)]


def _brief(brief: models.Brief) -> list[Part]:
    line = sentence(
        f"{brief.digest_type} brief of {'everything' if brief.entity_path is None else brief.entity_path}",
        "" if brief.agent_id is None else f"only what {brief.agent_id} wrote",
        f"on {brief.branch}",
        count(brief.entry_count, "entry", "entries"),
        f"{len(brief.citations):,} cited",
        count(brief.conflicts, "open conflict") if brief.conflicts else "",
        f"seq {brief.seq}" if brief.seq else "not stored",
        f"{utc(brief.compiled_at)} UTC",
    )
    text = Block([clean(line, MAX_PLAIN) for line in brief.text.split("\n")])
    return [line, text, _citations(brief.citations)] if brief.digest_type == "written" else [line, text]


def _citations(citations: Sequence[models.Entry]) -> Table:
    rows = [
        [f"[{number}]", it.entity_path, it.key, it.version, compact(it.value), f"{it.confidence:.2f}", it.agent_id]
        for number, it in enumerate(citations, 1)
    ]
    return Table(["", "path", "key", "v", "value", "confidence", "author"], rows)


# --- outcomes and reports ----------------------------------------------------------------------------------------


def _outcome(outcome: models.Outcome) -> list[Part]:
    line = sentence(
        f"outcome {outcome.outcome_ref}: {outcome.outcome_type}",
        f"weight {outcome.causal_confidence:.10g}",
        f"seq {outcome.seq}",
        "" if outcome.recorded else "recorded before, nothing changed",
    )
    return [line, _causes(outcome.causes)]


def _causes(causes: Sequence[models.Cause]) -> Table:
    rows = [[it.entry.entity_path, it.entry.key, f"v{it.entry.version}", _moved(it)] for it in causes]
    return Table(["path", "key", "v", "confidence"], rows)


def _moved(cause: models.Cause) -> Stack:
    before = f"{cause.confidence_before:.2f}"
    if cause.skipped or cause.confidence_after is None:
        return Stack([f"{before}, not moved: {short(cause.skipped)}" if cause.skipped else before])
    return Stack([f"{before} -> {cause.confidence_after:.2f}"])


def _explanation(explanation: models.Explanation) -> list[Part]:
    parts: list[Part] = [sentence(f"outcome {explanation.outcome_ref}"), *_events(explanation.outcomes)]
    parts += [Line("entries that led to it:"), _causes(explanation.causes)]
    return parts + ([Line("context:"), *_events(explanation.contexts)] if explanation.contexts else [])


def _stats(stats: models.Stats) -> list[Part]:
    figures = stats.model_dump(exclude={"notes"})
    return [Table(["figure", "value"], list(figures.items())), *map(sentence, stats.notes)]


def _verify(report: models.VerifyReport) -> list[Part]:
    found = count(len(report.problems), "problem") if report.problems else "no problems"
    looked = f"{count(len(report.checks), 'check')} over {count(report.versions, 'version')}"
    problems = [[it.check, it.detail] for it in report.problems]
    return [sentence(found, looked), *([Table(["check", "detail"], problems)] if problems else [])]


# --- which view for what -----------------------------------------------------------------------------------------

# By name, since models import this module.
ONE: dict[str, Callable[[Any], list[Part]]] = {
    "Blame": _blame,
    "Brief": _brief,
    "CreatedApiKey": _created_api_key,
    "Entry": _entry,
    "Event": _event,
    "Explanation": _explanation,
    "MergeResult": changes.merge,
    "Outcome": _outcome,
    "PullRequest": _pull_request,
    "RollbackResult": changes.rollback,
    "Stats": _stats,
    "VerifyReport": _verify,
}
MANY: dict[str, Callable[[Any], list[Part]]] = {
    "ApiKey": _api_keys,
    "Branch": _branches,
    "Change": changes.changes,
    "Conflict": changes.conflicts,
    "CreatedApiKey": _api_keys,
    "Entry": _entries,
    "Event": _events,
    "ExperimentRecord": _experiments,
    "Grant": _grants,
    "Origin": _origins,
    "PathInfo": _paths,
    "PullRequest": _pull_requests,
    "Review": _reviews,
    "SearchHit": _hits,
    "Tag": _tags,
}


def view(thing: object) -> list[Part]:
    """Return the parts that show a model, a page of models, or anything else."""
    name = type(thing).__name__
    if isinstance(thing, list):
        return _page(cast("list[object]", thing))
    return ONE[name](thing) if name in ONE else MANY.get(name, _plain)([thing])


def _page(items: list[object]) -> list[Part]:
    if not items:
        return [Line(NOTHING)]
    parts = MANY.get(type(items[0]).__name__, _plain)(items)
    more = [Line("more with cursor=page.next_cursor")] if getattr(items, "next_cursor", None) else []
    return [*parts, *more]


def _plain(things: Sequence[object]) -> list[Part]:
    return [Block([clean(repr(thing), MAX_PLAIN) for thing in things])]
