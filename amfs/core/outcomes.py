"""Outcomes: what came of using memory, and the confidence it moves.

An outcome is an event; every entry it judges gets a version under it with the same value, by reference, and updated
evidence. A policy that a user supplied runs outside the transaction: the evidence it is asked about is collected, and
the outcome is tried again with the answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from amfs.core import diff, runs, timeline, validation, versions
from amfs.core.conflicts import asking
from amfs.core.context import Access, Context, WriteContext
from amfs.core.evidence import beta_posterior
from amfs.core.validation import Named
from amfs.errors import EntryNotFoundError, InvalidInputError, OutcomeNotFoundError
from amfs.models import Cause, EventType, Evidence, Explanation, MemoryType, Outcome, OutcomeType
from amfs.storage.rows import MEMORY_CODE, SHARED, Slot, VersionRow

__all__ = ["beta_posterior", "commit_resolving", "explain"]

_MESSAGE = MEMORY_CODE[MemoryType.MESSAGE]


class Judgement(NamedTuple):
    """An outcome that passed the gate. ``named`` is None where the read set is judged."""

    ref: str
    outcome_type: OutcomeType
    named: list[Named | str] | None
    weight: float
    run_id: str | None
    summary: str | None


class Judged(NamedTuple):
    """An entry that an outcome judges: the version read, the current one, and why it is left alone, if it is."""

    slot: Slot
    read: VersionRow
    current: VersionRow | None
    skipped: str | None


class _Unanswered(Exception):  # noqa: N818 - it is caught here, and never an error to anyone else
    """Leaves the transaction to ask the policy about evidence it has not seen yet."""

    def __init__(self, evidence: Sequence[Evidence], context: Context) -> None:
        super().__init__(len(evidence))
        self.evidence = evidence
        self.policy = context.settings.outcome_policy


def commit_resolving(
    access: Access,
    outcome_ref: object,
    outcome_type: object,
    causal_entry_keys: object,
    causal_confidence: object,
    run_id: object,
    summary: object,
) -> Outcome:
    """Record an outcome and return what it did."""
    keys = None if causal_entry_keys is None else validation.several("causal_entry_keys", causal_entry_keys)
    judgement = Judgement(
        validation.name("outcome_ref", outcome_ref),
        validation.choice("outcome_type", outcome_type, OutcomeType),
        None if keys is None else [validation.named(one) for one in keys],
        validation.fraction("causal_confidence", causal_confidence),
        validation.optional_name("run_id", run_id),
        None if summary is None else validation.name("summary", summary, validation.MAX_VALUE_BYTES),
    )
    answers: dict[Evidence, Evidence] = {}

    def ask(question: _Unanswered) -> None:
        for evidence in question.evidence:
            answers[evidence] = _checked(question.policy(evidence, judgement.outcome_type, judgement.weight))

    return asking(lambda: access.write(_commit, judgement, answers), _Unanswered, ask, "the outcome policy")


def explain(context: Context, outcome_ref: object) -> Explanation:
    """Return why an outcome came about."""
    ref = validation.name("outcome_ref", outcome_ref)
    seqs = context.tx.records.outcomes(context.namespace, ref)
    found = [row for row in (context.tx.event(seq) for seq in seqs) if row is not None]
    rows = [row for row in found if context.may_read(context.tx.branch_by_id(row.branch))]
    if not rows:
        raise _not_found(ref)
    noted = {
        one.seq: one for row in rows for run in _sessions(context, row.run) for one in context.tx.contexts(run, row.seq)
    }
    contexts = [one for _, one in sorted(noted.items()) if context.may_read(context.tx.branch_by_id(one.branch))]
    return Explanation(
        outcome_ref=ref,
        outcomes=tuple(timeline.to_event(context, row) for row in rows),
        causes=tuple(cause for row in rows for cause in _causes(context, row.seq)),
        contexts=tuple(timeline.to_event(context, one) for one in contexts),
    )


def _sessions(context: Context, run: int) -> list[int]:
    """Return the stored ids of the whole run that one is a part of: one per session it took part in."""
    name = context.tx.run(run).name
    return context.tx.runs(context.namespace, name) if name else [run]


def _not_found(ref: str) -> OutcomeNotFoundError:
    return OutcomeNotFoundError(f"no outcome {ref!r} was committed in this namespace")


def _commit(context: WriteContext, judgement: Judgement, answers: Mapping[Evidence, Evidence]) -> Outcome:
    tx = context.tx
    done = tx.records.outcome(context.namespace, judgement.ref, judgement.outcome_type)
    if done is not None:
        return _result(context, judgement, done, recorded=False, made=[])
    run_rows = _run_rows(context, judgement)
    window = _own(context, tx.records.read_set(run_rows, 0))
    judged = _read(context, window) if judgement.named is None else _named(context, judgement.named)
    if judgement.weight == 0:
        judged = [one._replace(skipped=one.skipped or "the outcome weighs nothing") for one in judged]
    moved = [one for one in judged if one.skipped is None]
    after = _evidence_after(context, judgement, moved, answers)
    context.run_row = run_rows[-1]
    seq = timeline.append(context, EventType.OUTCOME, _details(context, judgement, judged))
    judged_rows = [(_version(one, evidence), None) for one, evidence in zip(moved, after, strict=True)]
    made = versions.append_under(context, seq, EventType.OUTCOME, judged_rows)
    tx.records.add_outcome(context.namespace, judgement.ref, judgement.outcome_type, seq)
    made_by_slot = {row.slot: row.seq for row in made}
    tx.records.add_judged(seq, [(one.read.seq, made_by_slot.get(one.read.slot), one.skipped) for one in judged])
    if judgement.weight > 0:
        tx.records.judge_reads(run_rows, list(window), seq)
    return _result(context, judgement, seq, recorded=True, made=made)


def _run_rows(context: WriteContext, judgement: Judgement) -> list[int]:
    """Return the stored ids of the run that is judged, with what it read so far saved."""
    if judgement.run_id is not None:
        return runs.rows_of(context, judgement.run_id)
    runs.save_within(context, context.run)
    return [context.run_row]


def _own(context: Context, seqs: Sequence[int]) -> dict[int, VersionRow]:
    """Return the versions among those read that may be judged: shared and own ones, on branches that may be read."""
    rows = context.tx.versions(seqs)
    names = context.tx.slots({row.slot for row in rows.values()})
    return {
        seq: row
        for seq, row in rows.items()
        if names[row.slot].owner in (SHARED, context.agent_id) and context.shows(row)
    }


def _named(context: Context, named: Sequence[Named | str]) -> list[Judged]:
    judged: dict[int, Judged] = {}
    for one in named:
        wanted = versions.joined(context, one) if isinstance(one, str) else one
        row, slot = (None, None) if wanted is None else versions.find(context, wanted)
        if row is None or slot is None:
            what = one if isinstance(one, str) else f"{one.path}/{one.key}"
            raise EntryNotFoundError(f"no entry {what!r} on branch {context.branch.name!r}; nothing was recorded")
        judged[row.slot] = Judged(slot, row, row, None)
    return list(judged.values())


def _read(context: WriteContext, window: Mapping[int, VersionRow]) -> list[Judged]:
    """Return what was read since the last outcome, one per entry; messages are no claims and are left out.

    Of several versions read, one that holds the current value counts, else the last.
    """
    tx = context.tx
    by_slot: dict[int, list[VersionRow]] = {}
    for row in window.values():
        if row.memory_type != _MESSAGE:
            by_slot.setdefault(row.slot, []).append(row)
    names = tx.slots(by_slot)
    judged: list[Judged] = []
    for slot_id, reads in by_slot.items():
        slot, last = names[slot_id], reads[-1]
        current = versions.present(tx.visible(context.branch, slot_id), context.now)
        if current is None:
            judged.append(Judged(slot, last, None, f"absent on branch {context.branch.name} now"))
            continue
        same = [read for read in reads if diff.same_value(read, current)]
        if same:
            judged.append(Judged(slot, same[-1], current, None))
        else:
            judged.append(Judged(slot, last, None, f"rewritten with another value since (v{current.version} now)"))
    return judged


def _evidence_after(
    context: WriteContext, judgement: Judgement, moved: Sequence[Judged], answers: Mapping[Evidence, Evidence]
) -> list[Evidence]:
    before = [_evidence(one.current) for one in moved if one.current is not None]
    if context.settings.outcome_policy is beta_posterior:
        return [beta_posterior(one, judgement.outcome_type, judgement.weight) for one in before]
    unanswered = [one for one in before if one not in answers]
    if unanswered:
        raise _Unanswered(unanswered, context)
    return [answers[one] for one in before]


def _evidence(row: VersionRow) -> Evidence:
    return Evidence(prior=row.prior, good=row.good, bad=row.bad, confidence=row.confidence)


def _checked(answer: object) -> Evidence:
    if not isinstance(answer, Evidence):
        raise InvalidInputError(f"outcome_policy must return an Evidence, not {type(answer).__name__}")
    if not (0 <= answer.good < float("inf") and 0 <= answer.bad < float("inf")):
        raise InvalidInputError(f"outcome_policy returned evidence that is negative or not finite: {answer!r}")
    validation.fraction("the prior that outcome_policy returned", answer.prior)
    validation.fraction("the confidence that outcome_policy returned", answer.confidence)
    return answer


def _version(judged: Judged, evidence: Evidence) -> VersionRow:
    current = judged.current
    assert current is not None, "what is not skipped is there"  # noqa: S101
    return current._replace(
        version=current.version + 1, confidence=evidence.confidence, prior=evidence.prior, good=evidence.good,
        bad=evidence.bad, outcomes=current.outcomes + 1,
    )  # fmt: skip


def _details(context: Context, judgement: Judgement, judged: Sequence[Judged]) -> dict[str, Any]:
    def figures(some: Sequence[Judged]) -> dict[str, Any]:
        skipped = [f"{one.slot.path}/{one.slot.key}" for one in some if one.skipped]
        return {
            "causal_entries": len(some),
            "entries_updated": sum(one.skipped is None for one in some),
            **({"skipped": skipped} if skipped else {}),
        }

    # What was read on another branch and is not here is told only to those who may read that branch.
    inherited = {part.branch: part.upper for part in context.tx.lineage(context.branch.id)}
    private = [one for one in judged if one.slot.owner != SHARED]
    shared = [one for one in judged if one.slot.owner == SHARED]
    here = [one for one in shared if one.skipped is None or one.read.seq <= inherited.get(one.read.branch, 0)]
    elsewhere: dict[str, list[Judged]] = {}
    for one in shared:
        if one not in here:
            elsewhere.setdefault(context.tx.branch_by_id(one.read.branch).name, []).append(one)

    details: dict[str, Any] = {
        "outcome_ref": judgement.ref,
        "outcome_type": judgement.outcome_type.value,
        "causal_confidence": judgement.weight,
        **figures(here),
    }
    if judgement.summary is not None:
        details["summary"] = judgement.summary
    if elsewhere:
        details["elsewhere"] = {name: figures(some) for name, some in elsewhere.items()}
    if private:
        details["private"] = figures(private)
    return details


def _result(context: Context, judgement: Judgement, seq: int, *, recorded: bool, made: Sequence[VersionRow]) -> Outcome:
    weight = judgement.weight if recorded else timeline.event_at(context, seq).details["causal_confidence"]
    return Outcome(
        outcome_ref=judgement.ref,
        outcome_type=judgement.outcome_type,
        causal_confidence=weight,
        seq=seq,
        recorded=recorded,
        entries=tuple(versions.entries_of(context, made)),
        causes=tuple(_causes(context, seq)),
    )


def _causes(context: Context, outcome: int) -> list[Cause]:
    """Return what an outcome judged, as this agent may see it."""
    tx = context.tx
    judged = tx.records.judged(outcome)
    seqs = [seq for read, made, _ in judged for seq in (read, made) if seq is not None]
    rows = tx.versions(seqs)
    names = tx.slots({row.slot for row in rows.values()})
    causes: list[Cause] = []
    for read_seq, made_seq, skipped in judged:
        read, slot = rows[read_seq], names[rows[read_seq].slot]
        if slot.owner not in (SHARED, context.agent_id) or not context.shows(read):
            continue
        made = None if made_seq is None else rows[made_seq]
        before = None if made is None else tx.visible(tx.branch_by_id(made.branch), made.slot, made.seq - 1)
        causes.append(
            Cause(
                entry=versions.entry(context, read, slot),
                confidence_before=read.confidence if before is None else before.confidence,
                confidence_after=None if made is None else made.confidence,
                skipped=skipped,
            )
        )
    return causes
