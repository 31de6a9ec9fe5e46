"""How models look in a terminal (``text``) and in a notebook (``html``).

Each kind of model has one view: a list of parts (a line, a block kept as it is, a table), drawn both ways.
Names and values are other people's data: control characters are shown as escapes, HTML is escaped, long
things are cut and say so. Signs (``+ ~ - !``) carry the meaning, colours only repeat it, so that a diff also
reads where styles are stripped. Nothing here reads the database.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC
from html import escape
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from unicodedata import category, east_asian_width

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from amfs import models

__all__ = ["html", "html_table", "text", "text_table"]

MAX_ROWS = 20
MAX_FIELDS = 5
MAX_CELL = 60
MAX_LINE = 110
MAX_PLAIN = 2000
NOTHING = "nothing here"

# Translucent, so that they also work on a dark page.
CAME, LEFT = "background:rgba(0,160,0,.2)", "background:rgba(220,0,0,.2)"

# Line breaks and terminal commands would leave their cell, direction marks reorder what stands beside them.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Changed(NamedTuple):
    """A field (or without a label, the value) before and after; None on a side where it is absent."""

    label: str
    old: str | None
    new: str | None


class Stack(NamedTuple):
    """A cell of several lines."""

    lines: Sequence[str | Changed]


class Line(NamedTuple):
    """A sentence."""

    text: str


class Block(NamedTuple):
    """Lines that keep their spaces, such as a value or a tree."""

    lines: Sequence[str]


class Table(NamedTuple):
    """Rows under headers; the first 20 are drawn."""

    headers: Sequence[str]
    rows: Sequence[Sequence[object]]


Part = Line | Block | Table


def text(thing: object) -> str:
    """Return how a model or a page of models reads in a terminal."""
    return "\n".join(_text_part(part) for part in _view(thing))


def html(thing: object) -> str:
    """Return how a model or a page of models looks in a notebook."""
    return _wrap("".join(_html_part(part) for part in _view(thing)))


def text_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table with aligned columns; of more than 20 rows it says how many were left out."""
    if not rows:
        return NOTHING
    grid = [[[_text_line(line) for line in _lines(cell)] for cell in row] for row in [headers, *rows[:MAX_ROWS]]]
    widths = [max(_width(line) for row in grid for line in row[column]) for column in range(len(headers))]
    drawn = [
        "  ".join(line + " " * (width - _width(line)) for line, width in zip(lines, widths, strict=True)).rstrip()
        for row in grid
        for lines in zip_longest(*row, fillvalue="")
    ]
    return "\n".join([*drawn, *_more(len(rows))])


def html_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return an HTML table, every cell escaped; of more than 20 rows it says how many were left out."""
    return _wrap(_html_part(Table(headers, rows)))


# --- drawing -----------------------------------------------------------------------------------------------


def _text_part(part: Part) -> str:
    match part:
        case Line():
            return part.text
        case Block():
            return "\n".join([*part.lines[:MAX_ROWS], *_more(len(part.lines))])
        case Table():
            return text_table(part.headers, part.rows)


def _html_part(part: Part) -> str:
    match part:
        case Line():
            return f"<p>{escape(part.text)}</p>"
        case Block():
            return f"<pre>{escape(_text_part(part))}</pre>"
        case Table(_, []):
            return f"<p>{NOTHING}</p>"
        case Table():
            head = "".join(_html_cell("th", header) for header in part.headers)
            rows = ["".join(_html_cell("td", cell) for cell in row) for row in part.rows[:MAX_ROWS]]
            body = "".join(f"<tr>{row}</tr>" for row in rows)
            more = "".join(f"<p>{line}</p>" for line in _more(len(part.rows)))
            return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _html_cell(tag: str, cell: object) -> str:
    content = "<br>".join(_html_line(line) for line in _lines(cell))
    return f'<{tag} style="text-align:left;white-space:pre-wrap">{content}</{tag}>'


def _html_line(line: str | Changed) -> str:
    if isinstance(line, str):
        return escape(line)
    old = None if line.old is None else f'<del style="{LEFT}">{escape(line.old)}</del>'
    new = None if line.new is None else f'<ins style="{CAME}">{escape(line.new)}</ins>'
    sides = " → ".join(side for side in (old, new) if side)
    return f"{escape(line.label)}: {sides}" if line.label else sides


def _text_line(line: str | Changed) -> str:
    match line:
        case str():
            return line
        case Changed("", old, new):
            return old or new or ""
        case Changed(label, None, new):
            return f"{label}: added {new}"
        case Changed(label, old, None):
            return f"{label}: removed {old}"
        case Changed(label, old, new):
            return f"{label}: {old} -> {new}"


def _wrap(body: str) -> str:
    # Notebooks would typeset what stands between two dollar signs as a formula, unless told to keep off.
    return f'<div class="tex2jax_ignore mathjax_ignore">{body}</div>'


def _more(count: int) -> list[str]:
    return [f"… {count - MAX_ROWS} more"] if count > MAX_ROWS else []


def _lines(cell: object) -> Sequence[str | Changed]:
    return cell.lines if isinstance(cell, Stack) else [_short(cell)]


def _width(line: str) -> int:
    """Return how many columns of a terminal a line takes: wide letters and emoji take two."""
    return sum(
        0 if category(char) in {"Mn", "Me", "Cf"} else 2 if east_asian_width(char) in "WF" else 1 for char in line
    )


# --- words -------------------------------------------------------------------------------------------------


def _clean(words: str, limit: int) -> str:
    # Only what can be shown is looked at: a value may be a megabyte.
    return _cut(UNSAFE.sub(lambda match: ascii(match[0])[1:-1], words[: limit + 1]), limit)


def _cut(words: str, limit: int) -> str:
    return words if len(words) <= limit else words[: limit - 1] + "…"


def _short(value: object) -> str:
    """Return the text of a cell: strings as they are, other values as JSON, on one line, cut."""
    match value:
        case None:
            return ""
        case str():
            return _clean(value, MAX_CELL)
        case float():
            return f"{value:.10g}"
        case _:
            return _value(value)


def _value(value: object) -> str:
    return _clean(_json(value), MAX_CELL)


def _json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, default=repr)


def _pretty(value: object) -> Block:
    return Block([_clean(line, MAX_LINE) for line in _json(value, indent=2).split("\n")])


def _pairs(values: Mapping[str, Any]) -> Stack:
    return _stack([f"{_short(name)}={_short(value)}" for name, value in values.items()])


def _stack(lines: Sequence[str | Changed]) -> Stack:
    more = [f"… {len(lines) - MAX_FIELDS} more"] if len(lines) > MAX_FIELDS else []
    return Stack([*lines[:MAX_FIELDS], *more] or [""])


def _when(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _line(*words: str) -> Line:
    return Line(_clean(", ".join(word for word in words if word), MAX_PLAIN))


# --- entries and events ------------------------------------------------------------------------------------


def _entry(entry: models.Entry) -> list[Part]:
    committer = "" if entry.committed_by == entry.agent_id else f"committed by {entry.committed_by}"
    marks = [word for word in ("deleted", "superseded") if getattr(entry, word)]
    line = _line(
        f"{entry.entry_key} v{entry.version}",
        *marks,
        "" if entry.memory_type == "fact" else str(entry.memory_type),
        f"confidence {entry.confidence:.2f}",
        f"by {_author(entry)}",
        committer,
        f"on {entry.branch}",
        f"seq {entry.seq}",
        f"{_when(entry.written_at)} UTC",
        f"expires {_when(entry.expires_at)} UTC" if entry.expires_at else "",
    )
    return [line] if entry.deleted else [line, _pretty(entry.value)]


def _entries(entries: Sequence[models.Entry]) -> list[Part]:
    headers = ["path", "key", "v", "value", "confidence", "author", "branch", "when (UTC)"]
    rows = [
        [
            entry.entity_path,
            entry.key,
            entry.version,
            "(deleted)" if entry.deleted else _value(entry.value),
            f"{entry.confidence:.2f}",
            _author(entry),
            entry.branch,
            _when(entry.written_at),
        ]
        for entry in entries
    ]
    return [Table(headers, rows)]


def _author(entry: models.Entry) -> str:
    return entry.agent_id if entry.shared else f"{entry.agent_id} (private)"


def _event(event: models.Event) -> list[Part]:
    when = f"{_when(event.created_at)} UTC"
    line = _line(event.summary, f"by {event.actor}", f"on {event.branch}", f"seq {event.seq}", when)
    return [line, _pretty(event.details)] if event.details else [line]


def _events(events: Sequence[models.Event]) -> list[Part]:
    headers = ["seq", "time (UTC)", "agent", "branch", "summary"]
    return [Table(headers, [[it.seq, _when(it.created_at), it.actor, it.branch, _summary(it)] for it in events])]


def _summary(event: models.Event) -> Stack:
    # The last column may be wide, and the version number is at the end.
    return Stack([_clean(event.summary, MAX_LINE)])


def _paths(paths: Sequence[models.PathInfo]) -> list[Part]:
    return [Table(["path", "entries"], [[path.entity_path, path.entries] for path in paths])]


# --- changes and merges ------------------------------------------------------------------------------------

SIGNS = {"added": "+", "modified": "~", "deleted": "-"}


def _changes(changes: Sequence[models.Change]) -> list[Part]:
    kinds = Counter("in conflict" if change.conflict else str(change.diff_type) for change in changes)
    return [_line(_count(len(changes), "change"), *_counts(kinds)), _change_table(changes)]


def _counts(kinds: Counter[str]) -> list[str]:
    return [f"{kinds[kind]} {kind}" for kind in (*SIGNS, "in conflict") if kinds[kind]]


def _change_table(changes: Iterable[models.Change]) -> Table:
    headers = ["", "path", "key", "v", "change"]
    return Table(headers, [[_sign(it), it.entity_path, it.key, _versions(it), _fields(it)] for it in changes])


def _sign(change: models.Change) -> str:
    return "!" if change.conflict else SIGNS[change.diff_type]


def _versions(change: models.Change) -> str:
    return " -> ".join(f"v{side.version}" for side in (change.base, change.source) if side)


def _fields(change: models.Change) -> Stack:
    """Return what a change did: whole values where a side is missing, else field by field; then the clash."""
    old, new = change.base, change.source
    lines: list[str | Changed] = [_field(it.path, it.operation, it.old, it.new) for it in change.field_changes]
    if change.diff_type == "added":
        lines = [Changed("", None, _side(new))]
    elif change.diff_type == "deleted":
        lines = [Changed("", _side(old), None)]
    elif old and new and old.confidence != new.confidence:
        lines.append(Changed("confidence", f"{old.confidence:.2f}", f"{new.confidence:.2f}"))
    if change.conflict is None:
        return _stack(lines)
    target = "is absent" if change.target is None else f"has {_value(change.target.value)}"
    return Stack([*_stack(lines).lines, f"{_kind(change.conflict)}: the target {target}"])


def _field(pointer: str, operation: str, old: object, new: object) -> Changed:
    label = _short(pointer.removeprefix("/")) or "value"
    return Changed(
        label,
        None if operation == "add" else _value(old),
        None if operation == "remove" else _value(new),
    )


def _kind(conflict: models.Conflict) -> str:
    return conflict.kind.replace("_", "/")


def _conflicts(conflicts: Sequence[models.Conflict]) -> list[Part]:
    rows = [
        [
            "!",
            it.entity_path,
            it.key,
            _kind(it),
            _stack([_short(pointer.removeprefix("/")) or "value" for pointer in it.fields]),
            *(_side(side) for side in (it.base, it.source, it.target)),
        ]
        for it in conflicts
    ]
    return [Table(["", "path", "key", "kind", "fields", "base", "source", "target"], rows)]


def _side(entry: models.Entry | None) -> str:
    return "(absent)" if entry is None or entry.deleted else _value(entry.value)


def _merge(result: models.MergeResult) -> list[Part]:
    stuck = result.status in {"conflicts", "refused"}
    done = "applied:" if not (stuck or result.dry_run) else "free of conflicts:" if stuck else "would be applied:"
    line = _line(
        f"{'dry run, ' if result.dry_run else ''}{str(result.status).replace('_', ' ')}: "
        f"{result.source} -> {result.target}",
        "nothing applied" if stuck else _count(result.merged_entries, "entry", "entries"),
        f"strategy {result.strategy}",
        "" if result.event is None else f"event {result.event}",
    )
    parts: list[Part] = [line]
    for title, changes in ((done, result.applied), ("skipped:", result.skipped)):
        parts += [Line(title), _change_table(changes)] if changes else []
    return parts + ([Line("conflicts:"), *_conflicts(result.conflicts)] if result.conflicts else [])


# --- branches and experiments ------------------------------------------------------------------------------


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
    return _clean(f"{branch.name} ({marks}) {branch.description}".rstrip(), MAX_LINE)


def _experiments(records: Sequence[models.ExperimentRecord]) -> list[Part]:
    rows = [
        [
            it.name,
            f"{it.status}: {it.error}" if it.error else str(it.status),
            it.source,
            _pairs(it.params),
            _pairs(it.metrics),
            it.agent_id,
            _when(it.started_at),
            _when(it.ended_at),
        ]
        for it in records
    ]
    headers = ["experiment", "status", "from", "params", "metrics", "agent", "started (UTC)", "ended (UTC)"]
    return [Table(headers, rows)]


# --- outcomes and reports ----------------------------------------------------------------------------------


def _outcome(outcome: models.Outcome) -> list[Part]:
    line = _line(
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
        return Stack([f"{before}, not moved: {_short(cause.skipped)}" if cause.skipped else before])
    return Stack([f"{before} -> {cause.confidence_after:.2f}"])


def _explanation(explanation: models.Explanation) -> list[Part]:
    parts: list[Part] = [_line(f"outcome {explanation.outcome_ref}"), *_events(explanation.outcomes)]
    parts += [Line("entries that led to it:"), _causes(explanation.causes)]
    return parts + ([Line("context:"), *_events(explanation.contexts)] if explanation.contexts else [])


def _stats(stats: models.Stats) -> list[Part]:
    figures = stats.model_dump(exclude={"notes"})
    return [Table(["figure", "value"], list(figures.items())), *map(_line, stats.notes)]


def _verify(report: models.VerifyReport) -> list[Part]:
    found = _count(len(report.problems), "problem") if report.problems else "no problems"
    looked = f"{_count(len(report.checks), 'check')} over {_count(report.versions, 'version')}"
    problems = [[it.check, it.detail] for it in report.problems]
    return [_line(found, looked), *([Table(["check", "detail"], problems)] if problems else [])]


# --- which view for what -----------------------------------------------------------------------------------

# By name, since models import this module.
ONE: dict[str, Callable[[Any], list[Part]]] = {
    "Entry": _entry,
    "Event": _event,
    "Explanation": _explanation,
    "MergeResult": _merge,
    "Outcome": _outcome,
    "Stats": _stats,
    "VerifyReport": _verify,
}
MANY: dict[str, Callable[[Any], list[Part]]] = {
    "Branch": _branches,
    "Change": _changes,
    "Conflict": _conflicts,
    "Entry": _entries,
    "Event": _events,
    "ExperimentRecord": _experiments,
    "PathInfo": _paths,
}


def _view(thing: object) -> list[Part]:
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
    return [Block([_clean(repr(thing), MAX_PLAIN) for thing in things])]
