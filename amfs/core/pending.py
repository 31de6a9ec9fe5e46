"""Merges that wait: the conflicts that a manual merge stored, until each is resolved or becomes obsolete.

A conflict row names three versions, which never change, so what clashed can be shown at any time. A resolution holds
for exactly these versions: when a side has moved on, it no longer counts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from amfs.core import diff, validation
from amfs.core.diff import Delta
from amfs.errors import ConflictNotFoundError
from amfs.models import Conflict, ConflictStatus, Page, Side
from amfs.storage.rows import SHARED, ConflictRow, PendingMergeRow

if TYPE_CHECKING:
    from amfs.core.context import Context, WriteContext
    from amfs.storage.rows import BranchRow


def store(
    context: WriteContext,
    source: BranchRow,
    paths: Sequence[str] | None,
    clashing: Sequence[Delta],
    *,
    close: bool,
    pull_request: int | None,
) -> tuple[Conflict, ...]:
    """Store the conflicts of a merge into the context's branch and return them.

    One that is stored already, over the same versions, keeps its id; those that no longer stand become obsolete.
    """
    records = context.tx.records
    merge = _find(context, source, context.branch, paths)
    if merge is None:
        merge = PendingMergeRow(
            0, context.namespace, source.id, context.branch.id, _text(paths), int(close), pull_request, 1
        )
        merge = merge._replace(id=records.add_pending_merge(merge))
    elif (close, pull_request or merge.pull_request) != (bool(merge.close), merge.pull_request):
        # Who asks last says what becomes of the branch and which pull request is merged.
        merge = merge._replace(close=int(close), pull_request=pull_request or merge.pull_request)
        records.save_pending_merge(merge)
    wanted = {_versions(delta): delta for delta in clashing}
    stored: list[ConflictRow] = []
    for row in _visible(context, records.conflicts([merge.id])):
        if row.status == ConflictStatus.OPEN and row[2:6] in wanted:
            del wanted[row[2:6]]
            stored.append(row)
        elif row.status == ConflictStatus.OPEN:
            records.save_conflict(row._replace(status=ConflictStatus.OBSOLETE))
    for versions in wanted:
        row = ConflictRow(0, merge.id, *versions, ConflictStatus.OPEN, None, None, None)
        stored.append(row._replace(id=records.add_conflict(row)))
    return tuple(_models(context, [(row, merge) for row in stored]))


def decisions(
    context: Context, source: BranchRow, target: BranchRow, paths: Sequence[str] | None
) -> dict[tuple[int, int, int], Side | str | None]:
    """Return how the conflicts of a pending merge were resolved, by slot and the versions they were resolved for."""
    merge = _find(context, source, target, paths)
    rows = [] if merge is None else context.tx.records.conflicts([merge.id])
    return {
        (row.slot, row.source, row.target): row.value if row.take is None else Side(row.take)
        for row in rows
        if row.status == ConflictStatus.RESOLVED
    }


def end(context: WriteContext, source: BranchRow, target: BranchRow, paths: Sequence[str] | None = None) -> None:
    """End the pending merges of two branches (those within ``paths``, if given): what is open there is obsolete."""
    text = _text(paths)
    _end(context, [
        merge
        for merge in context.tx.records.open_merges(context.namespace)
        if (merge.source, merge.target) == (source.id, target.id) and (paths is None or merge.paths == text)
    ])  # fmt: skip


def end_all_of(context: WriteContext, branch: BranchRow) -> None:
    """End the pending merges from or into a branch, which is being closed."""
    merges = context.tx.records.open_merges(context.namespace)
    _end(context, [merge for merge in merges if branch.id in (merge.source, merge.target)])


def list_conflicts(context: Context, branch: str | None, status: object) -> Page[Conflict]:
    """Return stored conflicts that the agent may see, of any branches or from and into the context's."""
    wanted = None if status is None else validation.choice("status", status, ConflictStatus)
    merges = {
        merge.id: merge
        for merge in context.tx.records.pending_merges(context.namespace)
        if _may_see(context, merge) and (branch is None or context.branch.id in (merge.source, merge.target))
    }
    rows = _visible(context, context.tx.records.conflicts(list(merges)))
    return Page(_models(context, [(row, merges[row.merge]) for row in rows if wanted in (None, row.status)]))


def open_conflicts(context: Context) -> list[tuple[ConflictRow, PendingMergeRow]]:
    """Return the open conflicts over shared entries, from or into the context's branch, that the principal may see."""
    merges = {
        merge.id: merge
        for merge in context.tx.records.open_merges(context.namespace)
        if context.branch.id in (merge.source, merge.target) and _may_see(context, merge)
    }
    rows = context.tx.records.conflicts(list(merges)) if merges else []
    names = context.tx.slots({row.slot for row in rows})
    is_open = [row for row in rows if row.status == ConflictStatus.OPEN and names[row.slot].owner == SHARED]
    return [(row, merges[row.merge]) for row in is_open]


def find(context: Context, number: int) -> tuple[ConflictRow, PendingMergeRow]:
    """Return a stored conflict that the agent may see, and its merge."""
    found = context.tx.records.conflict(context.namespace, number)
    if found is None or not _may_see(context, found[1]) or not _visible(context, [found[0]]):
        raise ConflictNotFoundError(f"no conflict {number} in this namespace; conflicts() lists those that are open")
    return found


def _find(
    context: Context, source: BranchRow, target: BranchRow, paths: Sequence[str] | None
) -> PendingMergeRow | None:
    wanted = (source.id, target.id, _text(paths))
    merges = context.tx.records.open_merges(context.namespace)
    return next((one for one in merges if one.is_open and (one.source, one.target, one.paths) == wanted), None)


def _end(context: WriteContext, merges: Sequence[PendingMergeRow]) -> None:
    ended = [merge.id for merge in merges if merge.is_open]
    for row in context.tx.records.conflicts(ended) if ended else ():
        if row.status == ConflictStatus.OPEN:
            context.tx.records.save_conflict(row._replace(status=ConflictStatus.OBSOLETE))
    for number in ended:
        context.tx.records.end_pending_merge(number)


def _may_see(context: Context, merge: PendingMergeRow) -> bool:
    return all(context.may_read(context.tx.branch_by_id(branch)) for branch in (merge.source, merge.target))


def _visible(context: Context, rows: Sequence[ConflictRow]) -> list[ConflictRow]:
    names = context.tx.slots({row.slot for row in rows})
    return [row for row in rows if names[row.slot].owner in (SHARED, context.agent_id)]


def _models(context: Context, stored: Sequence[tuple[ConflictRow, PendingMergeRow]]) -> list[Conflict]:
    tx = context.tx
    versions = tx.versions([seq for row, _ in stored for seq in (row.base, row.source, row.target) if seq])
    names = tx.slots({row.slot for row, _ in stored})
    models: list[Conflict] = []
    for row, merge in stored:
        sides = (versions.get(row.base), versions.get(row.source), versions.get(row.target))
        clash = diff.conflict_of(context, Delta(names[row.slot], row.slot, *sides, sides[1], sides[2]))
        assert clash is not None, "what clashed once clashes for good"  # noqa: S101
        about = {
            "id": row.id,
            "status": ConflictStatus(row.status),
            "source_branch": tx.branch_by_id(merge.source).name,
            "target_branch": tx.branch_by_id(merge.target).name,
            "take": None if row.take is None else Side(row.take),
            "resolved_by": None if row.agent is None else tx.agent_name(row.agent),
        }
        models.append(clash.model_copy(update=about))
    return models


def _versions(delta: Delta) -> tuple[int, int, int, int]:
    base, source, target = (0 if row is None else row.seq for row in (delta.base, delta.source, delta.target))
    return delta.slot_id, base, source, target


def _text(paths: Sequence[str] | None) -> str | None:
    return None if paths is None else json.dumps(sorted(set(paths)), ensure_ascii=False)
