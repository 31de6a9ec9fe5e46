"""Merging one branch into another: one transaction, all or nothing.

For every entry that the source changed since the base: what the target did not change is taken over; what both changed
to the same value gains the source's evidence; two objects merge by field; what is left is a conflict, which the
strategy or a resolver settles, or which stops the merge before anything is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from amfs.core import branches, diff, experiments, fields, pending, timeline, validation, versions
from amfs.core.conflicts import asking
from amfs.core.context import Access, Context, WriteContext, closed
from amfs.core.evidence import posterior
from amfs.errors import (
    BranchClosedError,
    FastForwardRefusedError,
    InvalidInputError,
    MergeConflictError,
)
from amfs.models import (
    KEEP_CONFLICT,
    Conflict,
    EventType,
    ExperimentStatus,
    MergeResult,
    MergeStatus,
    MergeStrategy,
    Permission,
    Side,
)
from amfs.storage.rows import MergeEdge, VersionRow

if TYPE_CHECKING:
    from amfs.core.diff import Comparison, Delta
    from amfs.storage.rows import BranchRow

MergeResolver = Callable[[Any, Any, Any], Any]
"""Takes the values of base, source and target (None where absent) and returns one, or ``KEEP_CONFLICT``."""

Identity = tuple[int, int, int]
"""A slot and the versions of source and target that clash on it, 0 where absent: what a decision was made for."""

Decisions = Mapping[Identity, Side | str | None]
"""How conflicts are settled: by a side, by JSON text, or None to keep the conflict."""


_WAYS_OUT = "a strategy (source_wins, target_wins, manual) or resolver="


class Request(NamedTuple):
    """A merge that passed the gate."""

    strategy: MergeStrategy
    resolver: MergeResolver | None
    paths: tuple[str, ...] | None
    dry_run: bool
    close: bool


class Plan(NamedTuple):
    """What a merge would do, entry by entry; ``writes`` are the versions that the entries ``applied`` become."""

    comparison: Comparison
    changed: int
    applied: list[Delta]
    writes: list[Write]
    skipped: list[Delta]
    clashing: list[tuple[Delta, Conflict]]
    refused: bool

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """What stands between the entries that clash."""
        return tuple(conflict for _, conflict in self.clashing)


class Write(NamedTuple):
    """A version to make on the target, all but its position; ``origin`` is the version it was taken from."""

    row: VersionRow
    origin: int | None


class _Undecided(Exception):  # noqa: N818 - it is caught here, and never an error to anyone else
    """Leaves the transaction to ask the resolver about conflicts it has not seen yet."""

    def __init__(self, deltas: Sequence[Delta], context: Context) -> None:
        super().__init__(len(deltas))
        self.deltas = [
            delta if delta.base is None or context.shows(delta.base) else delta._replace(base=None) for delta in deltas
        ]
        self.max_value_bytes = context.settings.max_value_bytes


def request(strategy: object, resolver: MergeResolver | None, paths: object, dry_run: bool, close: bool) -> Request:
    """Return a merge that passed the gate."""
    if callable(strategy):
        if resolver is not None:
            raise InvalidInputError("pass one resolver: as strategy= or as resolver=")
        strategy, resolver = MergeStrategy.THREE_WAY, cast("MergeResolver", strategy)
    chosen = validation.choice("strategy", strategy, MergeStrategy)
    if resolver is not None and (not callable(resolver) or chosen is not MergeStrategy.THREE_WAY):
        raise InvalidInputError("resolver must be a function (base, source, target) -> value, with strategy three_way")
    checked = None if paths is None else tuple(map(validation.entity_path, validation.several("paths", paths)))
    return Request(chosen, resolver, checked, dry_run, close)


def merge_resolving(access: Access, target: str | None, wanted: Request) -> MergeResult:
    """Merge the branch of ``access`` into a target and return what was done, or would be."""
    source, into = access.read(sides, target)
    return asking_resolver(access.elsewhere(into), source, wanted, carry_out)


def asking_resolver(
    on_target: Access,
    source: str,
    wanted: Request,
    carry: Callable[[WriteContext, str, Request, Decisions], MergeResult],
) -> MergeResult:
    """Carry out or preview a merge into the branch of ``on_target``; a resolver is asked outside any transaction."""
    decisions: dict[Identity, Side | str | None] = {}

    def attempt() -> MergeResult:
        if wanted.dry_run:
            return on_target.read(preview, source, wanted, decisions)
        return on_target.write(carry, source, wanted, decisions)

    def ask(undecided: _Undecided) -> None:
        for delta in undecided.deltas:
            decisions[identity(delta)] = _ask(wanted, delta, undecided.max_value_bytes)

    return asking(attempt, _Undecided, ask, "the resolver")


def sides(context: Context, target: str | None) -> tuple[str, str]:
    """Return the names of the context's branch and of the one it is to be merged into."""
    other = diff.target_of(context, target)
    if other.id == context.branch.id:
        raise InvalidInputError(f"branch {other.name!r} cannot be merged into itself")
    return context.branch.name, other.name


def _source(context: Context, name: str, wanted: Request) -> BranchRow:
    closes = wanted.close and not wanted.dry_run
    row = branches.named(context, name, Permission.READ_WRITE if closes else Permission.READ)
    if wanted.close:
        branches.require_closable(row)
    if not context.tx.is_open(row.id):
        raise BranchClosedError(
            f"branch {name!r} is closed and cannot be merged; create a branch from it and merge that"
        )
    return row


def preview(context: Context, source: str, wanted: Request, decisions: Decisions) -> MergeResult:
    """Return what a merge into the context's branch would do."""
    row = _source(context, source, wanted)
    if not context.tx.is_open(context.branch.id):
        raise closed(context.branch)
    return result(context, row, wanted, _plan(context, row, wanted, decisions), None)


def carry_out(
    context: WriteContext, source: str, wanted: Request, decisions: Decisions, pull_request: int | None = None
) -> MergeResult:
    """Merge a branch into the context's, or raise; a manual merge with open conflicts stores them instead."""
    row = _source(context, source, wanted)
    plan = _plan(context, row, wanted, decisions)
    refuse(context, row, wanted, plan)
    if plan.conflicts:
        clashing = [delta for delta, _ in plan.clashing]
        stored = pending.store(context, row, wanted.paths, clashing, close=wanted.close, pull_request=pull_request)
        return result(context, row, wanted, plan, None).model_copy(update={"conflicts": stored})
    done = result(context, row, wanted, plan, _apply(context, row, wanted, plan) if plan.changed else None)
    if wanted.paths is None:
        pending.end(context, row, context.branch)
        if plan.changed:
            experiments.conclude(context, row, ExperimentStatus.MERGED)
    elif wanted.strategy is MergeStrategy.MANUAL:
        pending.end(context, row, context.branch, wanted.paths)
    if wanted.close:
        branches.close_row(context, row)
    return done


def refuse(context: Context, source: BranchRow, wanted: Request, plan: Plan, ways_out: str = _WAYS_OUT) -> None:
    """Raise where a plan cannot be carried out."""
    if plan.refused:
        raise FastForwardRefusedError(
            f"{context.branch.name!r} changed since it and {source.name!r} parted; merge with strategy three_way",
            result(context, source, wanted, plan, None),
        )
    if plan.conflicts and wanted.strategy is not MergeStrategy.MANUAL:
        names = ", ".join(f"{one.entity_path}/{one.key}" for one in plan.conflicts[:5])
        count = "1 conflict" if len(plan.conflicts) == 1 else f"{len(plan.conflicts)} conflicts"
        raise MergeConflictError(
            f"{count} between {source.name!r} and {context.branch.name!r}: {names}; "
            f"pass {ways_out}. Nothing was merged",
            result(context, source, wanted, plan, None),
        )


# --- planning --------------------------------------------------------------------------------------------------------


def _plan(context: Context, source: BranchRow, wanted: Request, decisions: Decisions) -> Plan:
    comparison = diff.compare(context, source, context.branch)
    changed = [
        delta
        for delta in diff.deltas(context, comparison, comparison.source, comparison.target)
        if wanted.paths is None or _under(delta.slot.path, wanted.paths)
    ]
    refused = bool(changed) and _refused(context, comparison, wanted)
    if wanted.strategy is MergeStrategy.MANUAL:
        decisions = pending.decisions(context, source, context.branch, wanted.paths)
    return decide_all(context, comparison, changed, wanted, decisions, refused=refused)


def decide_all(
    context: Context,
    comparison: Comparison,
    changed: Sequence[Delta],
    wanted: Request,
    decisions: Decisions,
    *,
    refused: bool = False,
) -> Plan:
    """Return what becomes of every entry; entries that a resolver has not seen yet leave the transaction."""
    plan = Plan(comparison, len(changed), [], [], [], [], refused)
    undecided: list[Delta] = []
    for delta in changed:
        _decide(context, delta, wanted, decisions, plan, undecided)
    if undecided:
        raise _Undecided(undecided, context)
    return plan


def _decide(
    context: Context, delta: Delta, wanted: Request, decisions: Decisions, plan: Plan, undecided: list[Delta]
) -> None:
    """Add one entry to what is applied, skipped or in conflict."""
    decision = decisions.get(identity(delta))
    conflict = diff.conflict_of(context, delta)
    if conflict is None:
        _accept(delta, _write(context, delta), plan)
    elif wanted.strategy is MergeStrategy.SOURCE_WINS:
        _accept(delta, _take(delta, context.agent_id), plan)
    elif wanted.strategy is MergeStrategy.TARGET_WINS or decision is Side.TARGET:
        plan.skipped.append(delta)
    elif isinstance(decision, Side):
        chosen = delta if decision is Side.SOURCE else delta._replace(source=delta.base, source_newest=None)
        _accept(delta, _take(chosen, context.agent_id), plan)
    elif decision is not None:
        _accept(delta, _combined(context, delta, decision), plan)
    elif wanted.resolver is not None and identity(delta) not in decisions:
        undecided.append(delta)
    else:
        plan.clashing.append((delta, conflict))


def _accept(delta: Delta, write: Write | None, plan: Plan) -> None:
    if write is not None:
        plan.applied.append(delta)
        plan.writes.append(write)


def _refused(context: Context, comparison: Comparison, wanted: Request) -> bool:
    """Return whether a fast-forward finds values of its own on the target."""
    if wanted.strategy is not MergeStrategy.FAST_FORWARD:
        return False
    theirs = diff.deltas(context, comparison, comparison.target, comparison.source)
    return any(delta.source_changed_value for delta in theirs)


def _write(context: Context, delta: Delta) -> Write | None:
    """Return the version an entry without a conflict becomes on the target, None if it stays as it is."""
    if not delta.source_changed_value:
        return None if delta.target_changed_value else _add_evidence(delta)
    if not delta.target_changed_value:
        return _take(delta, context.agent_id)
    if diff.same_value(delta.source, delta.target):
        return _add_evidence(delta)
    merged = delta.merge().value
    if fields.equal(merged, diff.value_of(delta.target)):
        return None
    return _combined(context, delta, validation.json_text(merged, context.settings.max_value_bytes))


def _take(delta: Delta, merger: int) -> Write | None:
    """Take the source's state over: its value and all that belongs to it, or its deletion."""
    source, target = delta.source, delta.target
    if source is None:
        return None if target is None else Write(_tombstone(delta, target, merger), None)
    born = source.born if target is None else target.born
    return Write(source._replace(version=_number(delta), born=born), source.seq)


def _add_evidence(delta: Delta) -> Write | None:
    """Add to the target what the source learned about the same value since the base.

    Particulars that the source changed are taken over. If the base held another value, all of the source's evidence
    is new, and the target keeps its own particulars.
    """
    source, target, base = delta.source, delta.target, delta.base
    if source is None or target is None:
        return None
    known = base if base is not None and diff.same_value(base, source) else None
    if diff.particulars(target) == diff.particulars(known):
        row = source._replace(born=target.born)
    else:
        before = (0.0, 0.0, 0) if known is None else (known.good, known.bad, known.outcomes)
        row = target._replace(
            prior=target.prior if known is None or source.prior == known.prior else source.prior,
            good=target.good + max(source.good - before[0], 0.0),
            bad=target.bad + max(source.bad - before[1], 0.0),
            outcomes=target.outcomes + max(source.outcomes - before[2], 0),
            **({} if known is None else _described(known, source, target)),
        )
        if (row.prior, row.good, row.bad) != (target.prior, target.good, target.bad):
            row = row._replace(confidence=posterior(row.prior, row.good, row.bad))
    if diff.particulars(row) == diff.particulars(target):
        return None
    return Write(row._replace(version=_number(delta)), source.seq)


def _described(base: VersionRow | None, source: VersionRow, target: VersionRow) -> dict[str, Any]:
    """Return type, deadline and pattern refs: the source's where it changed them since the base, else the target's."""
    names = ("memory_type", "expires", "refs")
    return {
        name: getattr(target if base is not None and getattr(source, name) == getattr(base, name) else source, name)
        for name in names
    }


def _combined(context: Context, delta: Delta, text: str) -> Write:
    """Return a value of both sides: a new one, by the merging agent, as sure as the less sure side."""
    sides = [row for row in (delta.source, delta.target) if row is not None]
    confidence = min(row.confidence for row in sides)
    row = sides[-1]._replace(
        version=_number(delta), value=text, value_seq=0, author=context.agent_id, confidence=confidence,
        prior=confidence, good=0.0, bad=0.0, outcomes=0,
    )  # fmt: skip
    if delta.source is not None and delta.target is not None:
        row = row._replace(**_described(delta.base, delta.source, delta.target))
    return Write(row, None if delta.source is None else delta.source.seq)


def _tombstone(delta: Delta, target: VersionRow, merger: int) -> VersionRow:
    """Return the target's entry deleted, by whoever deleted it on the source; by the merger, if nobody did there."""
    gone = delta.source_newest
    return versions.tombstone(target, merger if gone is None else gone.author)


def _number(delta: Delta) -> int:
    return 1 if delta.target_newest is None else delta.target_newest.version + 1


def _under(path: str, prefixes: Sequence[str]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in prefixes)


def identity(delta: Delta) -> Identity:
    """Return what a decision about an entry is made for."""
    seqs = [0 if row is None else row.seq for row in (delta.source, delta.target)]
    return delta.slot_id, seqs[0], seqs[1]


def _ask(wanted: Request, delta: Delta, max_value_bytes: int) -> str | None:
    assert wanted.resolver is not None, "only a merge with a resolver asks"  # noqa: S101
    base, source, target = (None if row is None or row.value is None else json.loads(row.value) for row in _rows(delta))
    answer = wanted.resolver(base, source, target)
    if answer is KEEP_CONFLICT:
        return None
    return validation.json_text(answer, max_value_bytes, "the value that resolver returned")


def _rows(delta: Delta) -> tuple[VersionRow | None, VersionRow | None, VersionRow | None]:
    return delta.base, delta.source, delta.target


# --- writing ---------------------------------------------------------------------------------------------------------


def _apply(context: WriteContext, source: BranchRow, wanted: Request, plan: Plan) -> int:
    """Write a plan and return the seq of its event."""
    event = write_plan(context, plan, EventType.BRANCH_MERGED, details(context, source, wanted, plan))
    if wanted.paths is None:
        edge = MergeEdge(context.branch.id, event, source.id, plan.comparison.source.seq, context.agent_id)
        context.tx.records.add_merge_edge(edge)
    return event


def write_plan(context: WriteContext, plan: Plan, event_type: EventType, about: dict[str, Any]) -> int:
    """Append an event and the versions under it, and return its seq."""
    event = timeline.append(context, event_type, about)
    versions.append_under(context, event, event_type, plan.writes)
    return event


def details(context: Context, source: BranchRow, wanted: Request, plan: Plan) -> dict[str, Any]:
    """Return what the event of a merge or cherry-pick tells."""
    comparison = plan.comparison
    about: dict[str, Any] = {
        "source": source.name,
        "strategy": wanted.strategy.value,
        **timeline.figures(
            "merged_entries", [delta.slot for delta in plan.applied], [delta.slot for delta in plan.skipped]
        ),
        "base_branch": context.tx.branch_by_id(comparison.base.branch).name,
        "base_seq": comparison.base.seq,
        "source_seq": comparison.source.seq,
        "target_seq": comparison.target.seq,
    }
    if wanted.paths is not None:
        about["paths"] = list(wanted.paths)
    return about


def result(context: Context, source: BranchRow, wanted: Request, plan: Plan, event: int | None) -> MergeResult:
    """Return what a plan did, or would do."""
    status = (
        MergeStatus.REFUSED if plan.refused
        else MergeStatus.CONFLICTS if plan.conflicts
        else MergeStatus.UP_TO_DATE if not plan.changed
        else MergeStatus.FAST_FORWARD if wanted.strategy is MergeStrategy.FAST_FORWARD
        else MergeStatus.MERGED
    )  # fmt: skip
    comparison = plan.comparison
    return MergeResult(
        source=source.name,
        target=context.branch.name,
        strategy=wanted.strategy.value,
        status=status,
        merged_entries=0 if plan.refused or plan.conflicts else len(plan.applied),
        applied=tuple(diff.to_change(context, delta) for delta in plan.applied),
        skipped=tuple(diff.to_change(context, delta) for delta in plan.skipped),
        conflicts=plan.conflicts,
        base_branch=context.name_of(comparison.base.branch),
        base_seq=comparison.base.seq,
        source_seq=comparison.source.seq,
        target_seq=comparison.target.seq,
        event=event,
        dry_run=wanted.dry_run,
    )
