"""Resolving the stored conflicts of a manual merge, one by one; with the last one the merge is carried out."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from amfs.core import merge, pending, pulls, timeline, validation
from amfs.core.context import Access, Context, WriteContext
from amfs.errors import AccessDeniedError, ConflictResolvedError, InvalidInputError
from amfs.models import ConflictStatus, EventType, MergeResult, MergeStatus, MergeStrategy, Side
from amfs.storage.rows import SHARED, ConflictRow


class _Unset:
    """The type of UNSET."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset()
"""Stands for a value that was not passed, since None is a value."""


class Answer(NamedTuple):
    """How a conflict is to be resolved: by a side, or by a value as JSON text."""

    conflict: int
    take: Side | None
    text: str | None


def answer(conflict_id: object, take: object, value: Any, max_value_bytes: int) -> Answer:
    """Return an answer that passed the gate."""
    if (take is None) is (value is UNSET):
        raise InvalidInputError("resolve a conflict with either take= (source, target or base) or value=")
    number = validation.whole("conflict_id", conflict_id, 1)
    if take is not None:
        return Answer(number, validation.choice("take", take, Side), None)
    return Answer(number, None, validation.json_text(value, max_value_bytes))


def resolve(access: Access, chosen: Answer) -> MergeResult:
    """Resolve a conflict and, if it was the last one, merge; return where the merge stands then."""
    target = access.read(_target_of, chosen.conflict)
    return access.elsewhere(target).write(_resolve, chosen)


def _target_of(context: Context, number: int) -> str:
    _, waiting = pending.find(context, number)
    return context.tx.branch_by_id(waiting.target).name


def _resolve(context: WriteContext, chosen: Answer) -> MergeResult:
    row, waiting = pending.find(context, chosen.conflict)
    if row.status != ConflictStatus.OPEN:
        how = "was resolved already" if row.status == ConflictStatus.RESOLVED else "is obsolete"
        raise ConflictResolvedError(f"conflict {row.id} {how}; conflicts() lists those that are open")
    if chosen.take is Side.BASE and not _shows(context, row.base):
        raise AccessDeniedError(
            f"the base of conflict {row.id} stands on a branch that may not be read; take source, target or value="
        )
    source = context.tx.branch_by_id(waiting.source)
    settled = row._replace(status=ConflictStatus.RESOLVED, take=chosen.take, value=chosen.text, agent=context.agent_id)
    context.tx.records.save_conflict(settled)
    timeline.append(context, EventType.CONFLICT_RESOLVED, _details(context, settled, source.name))
    paths = None if waiting.paths is None else tuple(json.loads(waiting.paths))
    again = merge.Request(MergeStrategy.MANUAL, None, paths, dry_run=False, close=bool(waiting.close))
    result = merge.carry_out(context, source.name, again, {}, waiting.pull_request)
    if waiting.pull_request is not None and result.status is not MergeStatus.CONFLICTS:
        pulls.merged(context, waiting.pull_request, result)
    return result


def _shows(context: Context, seq: int) -> bool:
    row = context.tx.version(seq)
    return row is None or context.shows(row)


def _details(context: Context, row: ConflictRow, source: str) -> dict[str, Any]:
    slot = context.tx.slots([row.slot])[row.slot]
    about = {"entity_path": slot.path, "key": slot.key, "take": row.take or "value"}
    details: dict[str, Any] = {"conflict": row.id, "source": source}
    return {**details, **about} if slot.owner == SHARED else {**details, "private": about}
