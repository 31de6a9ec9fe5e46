"""How differences look: changes, conflicts, and what merges and rollbacks did."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from amfs.display.parts import Changed, Line, Part, Stack, Table, compact, count, sentence, short, stack

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from amfs import models

SIGNS = {"added": "+", "modified": "~", "deleted": "-"}


def changes(found: Sequence[models.Change]) -> list[Part]:
    """Return the view of a diff."""
    kinds = Counter("in conflict" if change.conflict else str(change.diff_type) for change in found)
    return [sentence(count(len(found), "change"), *_counts(kinds)), _change_table(found)]


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
        return stack(lines)
    target = "is absent" if change.target is None else f"has {compact(change.target.value)}"
    return Stack([*stack(lines).lines, f"{_kind(change.conflict)}: the target {target}"])


def _field(pointer: str, operation: str, old: object, new: object) -> Changed:
    label = short(pointer.removeprefix("/")) or "value"
    return Changed(
        label,
        None if operation == "add" else compact(old),
        None if operation == "remove" else compact(new),
    )


def _kind(conflict: models.Conflict) -> str:
    return conflict.kind.replace("_", "/")


def conflicts(found: Sequence[models.Conflict]) -> list[Part]:
    """Return the view of conflicts; those that a manual merge stored say which they are and where they stand."""
    stored = any(conflict.id is not None for conflict in found)
    headers = ["", "path", "key", "kind", "fields", "base", "source", "target"]
    rows = [[*(_standing(it) if stored else ()), *_clash(it)] for it in found]
    return [Table(["id", "branches", "status", *headers] if stored else headers, rows)]


def _standing(conflict: models.Conflict) -> list[object]:
    status = str(conflict.status)
    if conflict.resolved_by is not None:
        taken = "a value" if conflict.take is None else str(conflict.take)
        status = f"{status}: {taken}, by {conflict.resolved_by}"
    return [conflict.id, f"{conflict.source_branch} -> {conflict.target_branch}", status]


def _clash(conflict: models.Conflict) -> list[object]:
    return [
        "!" if conflict.status == "open" else "",
        conflict.entity_path,
        conflict.key,
        _kind(conflict),
        stack([short(pointer.removeprefix("/")) or "value" for pointer in conflict.fields]),
        *(_side(side) for side in (conflict.base, conflict.source, conflict.target)),
    ]


def _side(entry: models.Entry | None) -> str:
    return "(absent)" if entry is None or entry.deleted else compact(entry.value)


def merge(result: models.MergeResult) -> list[Part]:
    """Return the view of what a merge or cherry-pick did, or would do."""
    stuck = result.status in {"conflicts", "refused"}
    done = "applied:" if not (stuck or result.dry_run) else "free of conflicts:" if stuck else "would be applied:"
    line = sentence(
        f"{'dry run, ' if result.dry_run else ''}{str(result.status).replace('_', ' ')}: "
        f"{result.source} -> {result.target}",
        "nothing applied" if stuck else count(result.merged_entries, "entry", "entries"),
        f"strategy {result.strategy}",
        "" if result.event is None else f"event {result.event}",
    )
    parts = [line, *_titled(done, result.applied), *_titled("skipped:", result.skipped)]
    return parts + ([Line("conflicts:"), *conflicts(result.conflicts)] if result.conflicts else [])


def rollback(result: models.RollbackResult) -> list[Part]:
    """Return the view of what a rollback did, or would do, or why it was refused."""
    refused = bool(result.restored) and result.event is None and not result.dry_run
    line = sentence(
        f"{'dry run, ' if result.dry_run else ''}{'refused' if refused else 'rolled back'}: {result.branch} to seq "
        f"{result.seq}",
        "" if result.agent_id is None else f"only what {result.agent_id} wrote",
        "nothing restored" if refused else count(result.restored_entries, "entry", "entries"),
        "" if result.event is None else f"event {result.event}",
    )
    done = "restored:" if result.event is not None else "would be restored:"
    others = [f"{agent} ({count(entries, 'entry', 'entries')})" for agent, entries in result.others.items()]
    written = [sentence(f"others wrote since: {others[0]}", *others[1:])] if others else []
    skipped = _titled("skipped, as others built on it:", result.skipped)
    return [line, *written, *_titled(done, result.restored), *skipped]


def _titled(title: str, found: Sequence[models.Change]) -> list[Part]:
    return [Line(title), _change_table(found)] if found else []
