"""What the state machine compares: all that the reference model predicts of what the engine shows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.model_merge import Change, Merge, Version, canonical
from tests.model_review import newest_of

if TYPE_CHECKING:
    from amfs.models import Change as EngineChange
    from amfs.models import Conflict as EngineConflict
    from amfs.models import Entry, Event, MergeResult, PullRequest, RollbackResult
    from tests.model import Event as KnownEvent
    from tests.model import Model
    from tests.model_history import Rollback
    from tests.model_review import Conflict, Pull

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HIDDEN = "(hidden)"


def agree(actual: Any, expected: Any) -> None:
    """Fail, with both sides, unless the engine's answer is the model's."""
    if actual != expected:
        both = zip(actual, expected, strict=False) if isinstance(actual, list) else [(actual, expected)]
        differing = [f"{one!r}\n  not {other!r}" for one, other in both if one != other]
        raise AssertionError("\n".join(differing) or f"{actual!r}\n  not {expected!r}")


def instant(microseconds: int) -> datetime:
    """Return an instant of the model as the engine shows it."""
    return EPOCH + timedelta(microseconds=microseconds)


def name_of(model: Model, branch: str) -> str:
    """Return the name of a branch as the caller may know it; that there is a main is no secret."""
    return branch if branch == "main" or model.may(branch) else HIDDEN


# --- entries -----------------------------------------------------------------------------------------------------


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


def foretold(version: Version | None, model: Model, *, superseded: bool = False) -> tuple[Any, ...] | None:
    """Return what ``seen`` returns for the entry of a version of the model."""
    if version is None:
        return None
    owner, path, key = version.slot
    common = (
        path, key, owner is None, version.seq, version.number, name_of(model, version.branch), version.author,
        version.committer, instant(version.written), superseded,
    )  # fmt: skip
    if not version.live:
        return (*common, "deleted", None)
    return (
        *common, version.text, round(version.confidence, 9), version.evidence[2], version.memory_type,
        version.refs, version.expires and instant(version.expires), instant(version.born),
    )  # fmt: skip


def foretold_all(versions: list[Version], model: Model) -> list[tuple[Any, ...] | None]:
    """Return the versions of one or many slots as a listing with superseded ones shows them."""
    newest = {version.slot: version.seq for version in versions}
    return [foretold(version, model, superseded=version.seq != newest[version.slot]) for version in versions]


def seen_event(event: Event) -> tuple[Any, ...]:
    """Return all of an event that the model predicts."""
    return event.seq, event.event_type.value, event.agent_id, event.actor, event.branch, event.created_at


def foretold_event(event: KnownEvent) -> tuple[Any, ...]:
    """Return what ``seen_event`` returns for an event of the model."""
    return event.seq, event.kind, event.agent, event.actor, event.branch, instant(event.at)


# --- changes -----------------------------------------------------------------------------------------------------


def seen_change(change: EngineChange) -> tuple[Any, ...]:
    """Return all of a change that the model predicts."""
    conflict = change.conflict
    sides = (change.base, change.source, change.target)
    return (
        change.diff_type.value, change.entity_path, change.key,
        tuple(seen(side, superseded=False) for side in sides),
        None if conflict is None else (conflict.kind, sorted(conflict.fields)),
    )  # fmt: skip


def foretold_change(change: Change, model: Model) -> tuple[Any, ...]:
    """Return what ``seen_change`` returns for a change of the model."""
    _, path, key = change.slot
    base = model.shown(change.base)
    kind = change.kind if base or not change.base else replace(change, base=change.target).kind
    conflict = (change.clash, sorted(change.clashes)) if change.clashes else None
    return kind, path, key, tuple(foretold(side, model) for side in (base, change.source, change.target)), conflict


def seen_merge(result: MergeResult) -> list[tuple[str, Any]]:
    """Return all of a merge result that the model predicts."""
    return [
        ("status", result.status.value),
        ("count", result.merged_entries),
        ("applied", list(map(seen_change, result.applied))),
        ("skipped", list(map(seen_change, result.skipped))),
        ("conflicts", sorted((one.entity_path, one.key, one.kind, sorted(one.fields)) for one in result.conflicts)),
        ("views", ((result.base_branch, result.base_seq), result.source_seq, result.target_seq)),
        ("event", result.event),
    ]


def foretold_merge(merge: Merge, model: Model) -> list[tuple[str, Any]]:
    """Return what ``seen_merge`` returns for a merge of the model."""
    applied, skipped, conflicts = (
        [foretold_change(change, model) for change in merge.fated(fate)] for fate in ("apply", "skip", "conflict")
    )
    base, seq = merge.base
    return [
        ("status", merge.status),
        ("count", merge.count),
        ("applied", applied),
        ("skipped", skipped),
        ("conflicts", sorted((path, key, *conflict) for _, path, key, _, conflict in conflicts)),
        ("views", ((name_of(model, base), seq), merge.source_seq, merge.target_seq)),
        ("event", merge.event),
    ]


def seen_rollback(result: RollbackResult) -> list[tuple[str, Any]]:
    """Return all of the result of a rollback that the model predicts."""
    return [
        ("seq", result.seq),
        ("count", result.restored_entries),
        ("restored", list(map(seen_change, result.restored))),
        ("skipped", list(map(seen_change, result.skipped))),
        ("others", result.others),
        ("event", result.event),
    ]


def foretold_rollback(rollback: Rollback, model: Model) -> list[tuple[str, Any]]:
    """Return what ``seen_rollback`` returns for a rollback of the model."""
    restored, skipped = (
        [
            foretold_change(Change(slot, newest if newest.live else None, wanted, None), model)
            for slot, newest, wanted in changes
        ]
        for changes in (rollback.restored, rollback.skipped)
    )
    return [
        ("seq", rollback.to),
        ("count", len(restored)),
        ("restored", restored),
        ("skipped", skipped),
        ("others", rollback.others),
        ("event", rollback.event),
    ]


# --- review ------------------------------------------------------------------------------------------------------


def seen_conflict(one: EngineConflict) -> tuple[Any, ...]:
    """Return all of a stored conflict that the model predicts."""
    return (
        one.id, one.status.value, one.source_branch, one.target_branch, one.entity_path, one.key, one.kind,
        sorted(one.fields), tuple(seen(side, superseded=False) for side in (one.base, one.source, one.target)),
        one.take and one.take.value, one.resolved_by,
    )  # fmt: skip


def foretold_conflict(one: Conflict, model: Model) -> tuple[Any, ...]:
    """Return what ``seen_conflict`` returns for a conflict of the model."""
    change, merge = one.change, one.merge
    _, path, key = change.slot
    return (
        one.number, one.status, merge.source, merge.target, path, key, change.clash, sorted(change.clashes),
        tuple(foretold(side, model) for side in (model.shown(change.base), change.source, change.target)),
        one.take, one.resolver,
    )  # fmt: skip


def seen_pull(one: PullRequest) -> tuple[Any, ...]:
    """Return all of a pull request that the model predicts."""
    reviews = [(said.agent_id, said.verdict.value, said.source_seq, said.dismissed, said.seq) for said in one.reviews]
    return (
        one.id, one.source_branch, one.target_branch, one.status.value, one.approved, one.changes_requested_by,
        reviews, one.agent_id, one.ended_by, one.merge_event,
    )  # fmt: skip


def foretold_pull(one: Pull, model: Model) -> tuple[Any, ...]:
    """Return what ``seen_pull`` returns for a pull request of the model."""
    newest = newest_of(model, one)
    reviews = [(said.agent, said.verdict, said.newest, one.dismissed(said, newest), said.seq) for said in one.reviews]
    approved = any(verdict == "approved" and not dismissed for _, verdict, _, dismissed, _ in reviews)
    return (
        one.number, one.source, one.target, one.status, approved, tuple(one.blocked_by),
        reviews, one.agent, one.ended_by, one.merge,
    )  # fmt: skip
