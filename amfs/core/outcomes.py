"""Outcomes: what came of using memory, and the confidence it moves.

An outcome is an event; every entry it judges gets a version under it with the same value, by reference, and updated
evidence. A policy that a user supplied runs outside the transaction: the evidence it is asked about is collected, and
the outcome is tried again with the answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from amfs.core import fields, runs, timeline, validation, versions
from amfs.core.conflicts import ATTEMPTS
from amfs.core.context import Access, Context, WriteContext
from amfs.core.evidence import beta_posterior
from amfs.errors import ContentionError, EntryNotFoundError, InvalidInputError, OutcomeNotFoundError
from amfs.models import Cause, Entry, EventType, Evidence, Explanation, Outcome, OutcomeType
from amfs.storage.base import EVENT_CODE, SHARED, NewVersion, Slot, VersionRow

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["beta_posterior", "commit_resolving", "explain"]

_OUTCOME = EVENT_CODE[EventType.OUTCOME]


class Judgement(NamedTuple):
    """An outcome that passed the gate. ``named`` is None where the read set is judged."""

    ref: str
    outcome_type: OutcomeType
    named: list[tuple[str, str] | str] | None
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
    causal_entry_keys: Iterable[object] | None,
    causal_confidence: object,
    run_id: object,
    summary: object,
) -> Outcome:
    """Record an outcome and return what it did."""
    if isinstance(causal_entry_keys, str | Entry):
        raise InvalidInputError("causal_entry_keys must be several entries, such as [entry], not one")
    judgement = Judgement(
        validation.name("outcome_ref", outcome_ref),
        validation.choice("outcome_type", outcome_type, OutcomeType),
        None if causal_entry_keys is None else [validation.as_pair(one) for one in causal_entry_keys],
        validation.fraction("causal_confidence", causal_confidence),
        validation.optional_name("run_id", run_id),
        None if summary is None else validation.name("summary", summary, validation.MAX_VALUE_BYTES),
    )
    answers: dict[Evidence, Evidence] = {}
    for _ in range(ATTEMPTS + 1):
        try:
            return access.write(_commit, judgement, answers)
        except _Unanswered as open_question:
            for evidence in open_question.evidence:
                answer = open_question.policy(evidence, judgement.outcome_type, judgement.weight)
                answers[evidence] = _checked(answer)
    raise ContentionError(f"the entries moved {ATTEMPTS} times while the outcome policy was asked; try again later")


def explain(context: Context, outcome_ref: object) -> Explanation:
    """Return why an outcome came about."""
    ref = validation.name("outcome_ref", outcome_ref)
    seqs = context.tx.outcomes(context.namespace, ref)
    if not seqs:
        raise OutcomeNotFoundError(f"no outcome {ref!r} was committed in this namespace")
    rows = [row for row in (context.tx.event(seq) for seq in seqs) if row is not None]
    contexts = context.tx.contexts(list({row.run for row in rows}), seqs[-1])
    return Explanation(
        outcome_ref=ref,
        outcomes=tuple(timeline.to_event(context, row) for row in rows),
        causes=tuple(cause for seq in seqs for cause in _causes(context, seq)),
        contexts=tuple(timeline.to_event(context, row) for row in contexts),
    )


def _commit(context: WriteContext, judgement: Judgement, answers: Mapping[Evidence, Evidence]) -> Outcome:
    tx = context.tx
    done = tx.outcome(context.namespace, judgement.ref, judgement.outcome_type)
    if done is not None:
        return _result(context, judgement, done, recorded=False, made=[])
    run_rows = _run_rows(context, judgement)
    judged = _named(context, judgement.named) if judgement.named is not None else _read(context, run_rows)
    moved = [one for one in judged if one.skipped is None and judgement.weight > 0]
    after = _evidence_after(context, judgement, moved, answers)
    context.run_row = run_rows[-1]
    seq = timeline.append(context, EventType.OUTCOME, _details(judgement, judged, moved))
    made = [_version(context, one, evidence) for one, evidence in zip(moved, after, strict=True)]
    tx.append_versions([NewVersion(row, _OUTCOME, seq, context.group, None, None) for row in made])
    tx.add_outcome(context.namespace, judgement.ref, judgement.outcome_type, seq)
    if judgement.weight > 0:
        tx.judge_reads(run_rows, seq)
        made_by_slot = {row.slot: row.seq for row in made}
        tx.add_judged(seq, [(one.read.seq, made_by_slot.get(one.read.slot), one.skipped) for one in judged])
    return _result(context, judgement, seq, recorded=True, made=made)


def _run_rows(context: WriteContext, judgement: Judgement) -> list[int]:
    """Return the stored ids of the run that is judged, with what it read so far saved."""
    if judgement.run_id is not None:
        return runs.rows_of(context, judgement.run_id)
    runs.save_within(context, context.run)
    return [context.run_row]


def _named(context: Context, named: list[tuple[str, str] | str]) -> list[Judged]:
    judged: dict[int, Judged] = {}
    for one in named:
        pair = versions.joined(context, one) if isinstance(one, str) else one
        row, slot = (None, None) if pair is None else versions.find(context, *pair)
        if row is None or slot is None:
            raise EntryNotFoundError(f"no entry {one!r} on branch {context.branch.name!r}; nothing was recorded")
        judged[row.slot] = Judged(slot, row, row, None)
    return list(judged.values())


def _read(context: WriteContext, run_rows: Sequence[int]) -> list[Judged]:
    """Return the read set since the last outcome, one per entry, at the version read last."""
    tx = context.tx
    last_read = {row.slot: row for row in tx.versions(tx.read_set(run_rows, 0)).values()}
    names = tx.slots(last_read)
    judged: list[Judged] = []
    for slot_id, read in last_read.items():
        slot = names[slot_id]
        if slot.owner not in (SHARED, context.agent_id):
            continue
        current = tx.visible(context.branch, slot_id)
        expired = current is not None and current.expires is not None and current.expires <= context.now
        if current is None or not current.live or expired:
            judged.append(Judged(slot, read, None, f"absent on branch {context.branch.name} now"))
        elif current.value_seq != read.value_seq and not _same_value(current, read):
            judged.append(Judged(slot, read, None, f"rewritten with another value since (v{current.version} now)"))
        else:
            judged.append(Judged(slot, read, current, None))
    return judged


def _same_value(one: VersionRow, other: VersionRow) -> bool:
    return fields.equal(json.loads(one.value or "null"), json.loads(other.value or "null"))


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


def _version(context: WriteContext, judged: Judged, evidence: Evidence) -> VersionRow:
    current = judged.current
    assert current is not None, "what is not skipped is there"  # noqa: S101
    return current._replace(
        seq=context.next_seq(), ts=context.now, branch=context.branch.id, version=current.version + 1,
        agent=context.agent_id, run=context.run_row, confidence=evidence.confidence, prior=evidence.prior,
        good=evidence.good, bad=evidence.bad, outcomes=current.outcomes + 1,
    )  # fmt: skip


def _details(judgement: Judgement, judged: Sequence[Judged], moved: Sequence[Judged]) -> dict[str, Any]:
    def figures(shared: bool) -> dict[str, Any]:
        mine = [one for one in judged if (one.slot.owner == SHARED) is shared]
        skipped = [f"{one.slot.path}/{one.slot.key}" for one in mine if one.skipped]
        return {
            "causal_entries": len(mine),
            "entries_updated": sum((one.slot.owner == SHARED) is shared for one in moved),
            **({"skipped": skipped} if skipped else {}),
        }

    details: dict[str, Any] = {
        "outcome_ref": judgement.ref,
        "outcome_type": judgement.outcome_type.value,
        "causal_confidence": judgement.weight,
        **figures(shared=True),
    }
    if judgement.summary is not None:
        details["summary"] = judgement.summary
    if any(one.slot.owner != SHARED for one in judged):
        details["private"] = figures(shared=False)
    return details


def _result(context: Context, judgement: Judgement, seq: int, *, recorded: bool, made: Sequence[VersionRow]) -> Outcome:
    return Outcome(
        outcome_ref=judgement.ref,
        outcome_type=judgement.outcome_type,
        causal_confidence=judgement.weight,
        seq=seq,
        recorded=recorded,
        entries=tuple(versions.entries_of(context, made)),
        causes=tuple(_causes(context, seq)),
    )


def _causes(context: Context, outcome: int) -> list[Cause]:
    """Return what an outcome judged, as this agent may see it."""
    tx = context.tx
    judged = tx.judged(outcome)
    seqs = [seq for read, made, _ in judged for seq in (read, made) if seq is not None]
    rows = tx.versions(seqs)
    names = tx.slots({row.slot for row in rows.values()})
    causes: list[Cause] = []
    for read_seq, made_seq, skipped in judged:
        read, slot = rows[read_seq], names[rows[read_seq].slot]
        if slot.owner not in (SHARED, context.agent_id):
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
