"""What the state machine compares: all that the reference model predicts of what the engine shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.model_merge import Change, Merge, Version, canonical

if TYPE_CHECKING:
    from amfs.models import Change as EngineChange
    from amfs.models import Entry, Event, MergeResult

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def agree(actual: Any, expected: Any) -> None:
    """Fail, with both sides, unless the engine's answer is the model's."""
    if actual != expected:
        both = zip(actual, expected, strict=False) if isinstance(actual, list) else [(actual, expected)]
        differing = [f"{one!r}\n  not {other!r}" for one, other in both if one != other]
        raise AssertionError("\n".join(differing) or f"{actual!r}\n  not {expected!r}")


def instant(microseconds: int) -> datetime:
    """Return an instant of the model as the engine shows it."""
    return EPOCH + timedelta(microseconds=microseconds)


def seen(entry: Entry | None, *, superseded: bool | None = None) -> tuple[Any, ...] | None:
    """Return all of an entry that the model predicts; of a tombstone, only that it is one and whose."""
    if entry is None:
        return None
    common = (
        entry.entity_path, entry.key, entry.shared, entry.seq, entry.version, entry.branch, entry.agent_id,
        entry.committed_by, entry.written_at, entry.superseded if superseded is None else superseded,
    )  # fmt: skip
    if entry.deleted:
        return (*common, "deleted", entry.value)
    return (
        *common, canonical(entry.value), round(entry.confidence, 9), entry.outcome_count, entry.memory_type.value,
        entry.pattern_refs, entry.expires_at, entry.created_at,
    )  # fmt: skip


def foretold(version: Version | None, *, superseded: bool = False) -> tuple[Any, ...] | None:
    """Return what ``seen`` returns for the entry of a version of the model."""
    if version is None:
        return None
    owner, path, key = version.slot
    common = (
        path, key, owner is None, version.seq, version.number, version.branch, version.author, version.committer,
        instant(version.written), superseded,
    )  # fmt: skip
    if not version.live:
        return (*common, "deleted", None)
    return (
        *common, canonical(version.value), round(version.confidence, 9), version.evidence[2], version.memory_type,
        version.refs, version.expires and instant(version.expires), instant(version.born),
    )  # fmt: skip


def foretold_all(versions: list[Version]) -> list[tuple[Any, ...] | None]:
    """Return the versions of one or many slots as a listing with superseded ones shows them."""
    newest = {version.slot: version.seq for version in versions}
    return [foretold(version, superseded=version.seq != newest[version.slot]) for version in versions]


def seen_change(change: EngineChange) -> tuple[Any, ...]:
    """Return all of a change that the model predicts."""
    conflict = change.conflict
    sides = (change.base, change.source, change.target)
    return (
        change.diff_type.value, change.entity_path, change.key,
        tuple(seen(side, superseded=False) for side in sides),
        None if conflict is None else (conflict.kind, sorted(conflict.fields)),
    )  # fmt: skip


def foretold_change(change: Change) -> tuple[Any, ...]:
    """Return what ``seen_change`` returns for a change of the model."""
    _, path, key = change.slot
    sides = (change.base, change.source, change.target)
    kinds = ((change.source, "delete_edit"), (change.target, "edit_delete"), (change.base, "add_add"))
    kind = next((kind for side, kind in kinds if side is None), "edit_edit")
    conflict = (kind, sorted(change.clashes)) if change.clashes else None
    return change.kind, path, key, tuple(map(foretold, sides)), conflict


def seen_merge(result: MergeResult) -> list[tuple[str, Any]]:
    """Return all of a merge result that the model predicts."""
    return [
        ("status", result.status.value),
        ("count", result.merged_entries),
        ("applied", list(map(seen_change, result.applied))),
        ("skipped", list(map(seen_change, result.skipped))),
        ("conflicts", [(one.entity_path, one.key, one.kind, sorted(one.fields)) for one in result.conflicts]),
        ("views", ((result.base_branch, result.base_seq), result.source_seq, result.target_seq)),
        ("event", result.event),
    ]


def foretold_merge(merge: Merge) -> list[tuple[str, Any]]:
    """Return what ``seen_merge`` returns for a merge of the model."""
    applied, skipped, conflicts = (
        [foretold_change(change) for change in merge.fated(fate)] for fate in ("apply", "skip", "conflict")
    )
    return [
        ("status", merge.status),
        ("count", merge.count),
        ("applied", applied),
        ("skipped", skipped),
        ("conflicts", [(path, key, *conflict) for _, path, key, _, conflict in conflicts]),
        ("views", (merge.base, merge.source_seq, merge.target_seq)),
        ("event", merge.event),
    ]


def seen_event(event: Event) -> tuple[Any, ...]:
    """Return all of an event that the model predicts."""
    return event.seq, event.event_type.value, event.agent_id, event.actor, event.branch, event.created_at
