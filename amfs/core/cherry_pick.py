"""Cherry-pick: bringing single entries of one branch into another, as a merge of what their last write changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from amfs.core import branches, diff, merge, validation, versions
from amfs.core.context import Access, Context, WriteContext, closed
from amfs.core.diff import Delta
from amfs.core.validation import Named
from amfs.errors import EntryNotFoundError, InvalidInputError
from amfs.models import Entry, EventType, MergeResult, MergeStrategy
from amfs.storage.rows import BranchRow, VersionRow


class Pick(NamedTuple):
    """An entry to pick; ``seq`` names one version of it, None its newest."""

    named: Named | str
    seq: int | None


class Request(NamedTuple):
    """A cherry-pick that passed the gate."""

    picks: list[Pick]
    merge: merge.Request


def request(keys: object, strategy: object, dry_run: bool) -> Request:
    """Return a cherry-pick that passed the gate."""
    chosen = validation.choice("strategy", strategy, MergeStrategy)
    allowed = (MergeStrategy.THREE_WAY, MergeStrategy.SOURCE_WINS, MergeStrategy.TARGET_WINS)
    if chosen not in allowed:
        names = ", ".join(one.value for one in allowed)
        raise InvalidInputError(f"a cherry-pick takes strategy {names}, not {chosen.value}")
    picks = [
        Pick(validation.named(one), one.seq if isinstance(one, Entry) else None)
        for one in validation.several("keys", keys)
    ]
    return Request(picks, merge.Request(chosen, None, None, dry_run, close=False))


def pick(access: Access, target: str | None, wanted: Request) -> MergeResult:
    """Pick entries of the branch of ``access`` into a target and return what was done, or would be."""
    source, into = access.read(merge.sides, target)
    on_target = access.elsewhere(into)
    if wanted.merge.dry_run:
        return on_target.read(_preview, source, wanted)
    return on_target.write(_pick, source, wanted)


def _preview(context: Context, source: str, wanted: Request) -> MergeResult:
    row = branches.named(context, source)
    if not context.tx.is_open(context.branch.id):
        raise closed(context.branch)
    return merge.result(context, row, wanted.merge, _plan(context, row, wanted), None)


def _pick(context: WriteContext, source: str, wanted: Request) -> MergeResult:
    row = branches.named(context, source)
    plan = _plan(context, row, wanted)
    merge.refuse(context, row, wanted.merge, plan, "strategy source_wins or target_wins")
    event = None
    if plan.writes:
        about = merge.details(context, row, wanted.merge, plan)
        event = merge.write_plan(context, plan, EventType.CHERRY_PICK, about)
    return merge.result(context, row, wanted.merge, plan, event)


def _plan(context: Context, source: BranchRow, wanted: Request) -> merge.Plan:
    on_source = replace(context, branch=source)
    deltas = {delta.slot_id: delta for one in wanted.picks for delta in [_delta(context, on_source, one)]}
    changed = [delta for delta in deltas.values() if not diff.is_unchanged(delta.base, delta.source)]
    changed.sort(key=lambda delta: diff.by_name(delta.slot))
    comparison = diff.compare(context, source, context.branch)
    plan = merge.decide_all(context, comparison, changed, wanted.merge, {})
    return plan if plan.applied or plan.skipped or plan.clashing else plan._replace(changed=0)


def _delta(context: Context, on_source: Context, wanted: Pick) -> Delta:
    """Return what the picked version changed, against what the target holds.

    The base is what stood under the picked value: the newest version before it with another value. Where the target
    never had the entry, neither had it what stood under it.
    """
    made = _history(on_source, wanted)
    picked = made[-1]
    target = context.tx.visible(context.branch, picked.slot)
    state = versions.live(picked)
    under = [row for row in map(versions.live, made[:-1]) if not diff.same_value(row, state)]
    now = context.time()
    return Delta(
        context.tx.slots([picked.slot])[picked.slot],
        picked.slot,
        under[-1] if under and target is not None else None,
        state,
        versions.present(target, now),
        picked,
        target,
    )


def _history(on_source: Context, wanted: Pick) -> Sequence[VersionRow]:
    """Return the versions of an entry on the source up to the picked one, oldest first."""
    named = wanted.named
    if isinstance(named, str):
        named = versions.joined(on_source, named)
    rows = [] if named is None else versions.versions_of(on_source, named)
    if wanted.seq is not None:
        rows = rows[: next((number + 1 for number, row in enumerate(rows) if row.seq == wanted.seq), 0)]
    expired = bool(rows) and rows[-1].live and versions.present(rows[-1], on_source.time()) is None
    if not rows or expired:
        what = wanted.named if isinstance(wanted.named, str) else f"{wanted.named.path}/{wanted.named.key}"
        version = "" if wanted.seq is None else f" with version seq {wanted.seq}"
        raise EntryNotFoundError(f"no entry {what!r}{version} on branch {on_source.branch.name!r} to pick")
    return rows
