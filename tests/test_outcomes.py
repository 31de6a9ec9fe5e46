"""Outcomes: which entries they judge, how far they move confidence, and how they are explained."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from amfs import (
    AgentMemory,
    AmbiguousKeyError,
    BranchClosedError,
    EntryNotFoundError,
    Evidence,
    InvalidInputError,
    Outcome,
    OutcomeNotFoundError,
    OutcomeType,
    beta_posterior,
)

P, K = "svc", "retry"
OpenMemory = Callable[..., AgentMemory]


def causes(outcome: Outcome) -> list[tuple[str, int, bool]]:
    """Return what an outcome looked at: key, version read, whether it was moved."""
    return [(cause.entry.key, cause.entry.version, cause.skipped is None) for cause in outcome.causes]


# --- figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prior", "outcomes", "expected"),
    [
        (0.5, ["success"], Fraction(2, 3)),
        (0.5, ["minor_failure"], Fraction(1, 3)),
        (0.5, ["failure"], Fraction(1, 4)),
        (0.5, ["critical_failure"], Fraction(1, 6)),
        (1.0, ["success"], Fraction(1)),
        (1.0, ["failure"], Fraction(2, 4)),
        (0.0, ["critical_failure"], Fraction(0)),
        (0.0, ["success", "success"], Fraction(2, 4)),
        (0.5, ["success", "failure", "success"], Fraction(3, 6)),
        (0.25, ["success"] * 10, Fraction(21, 24)),
        (0.5, [("success", 0.5)], Fraction(3, 5)),
        (0.5, [("critical_failure", 0.25)], Fraction(1, 3)),
        (0.5, [("success", 0.5), ("failure", 0.75), ("success", 0.0)], Fraction(3, 8)),
    ],
)
def test_confidence_is_the_mean_of_a_beta_posterior(
    mem: AgentMemory, prior: float, outcomes: list[Any], expected: Fraction
) -> None:
    mem.write(P, K, 1, confidence=prior)
    for number, outcome in enumerate(outcomes):
        kind, weight = outcome if isinstance(outcome, tuple) else (outcome, 1.0)
        mem.commit_outcome(f"ref-{number}", kind, [(P, K)], causal_confidence=weight)
    entry = mem.read(P, K)
    moving = [outcome for outcome in outcomes if not isinstance(outcome, tuple) or outcome[1]]
    assert entry.confidence == pytest.approx(float(expected), abs=1e-12)
    assert (entry.outcome_count, entry.version) == (len(moving), 1 + len(moving))


def test_the_version_an_outcome_makes_differs_in_confidence_alone(mem: AgentMemory, clock) -> None:
    first = mem.write(
        P, K, {"max": 3}, confidence=0.5, memory_type="belief", pattern_refs=["retry"], ttl=3600, branch="main"
    )
    clock.advance(60)
    judge = mem.as_agent("judge")
    outcome = judge.commit_outcome("INC-1", OutcomeType.SUCCESS, [first], summary="went well")
    (entry,) = outcome.entries
    assert entry.model_dump() == {
        **first.model_dump(), "version": 2, "seq": entry.seq, "confidence": 2 / 3, "outcome_count": 1,
        "committed_by": "judge", "session_id": judge.session_id, "written_at": clock.moment,
    }  # fmt: skip
    assert mem.read(P, K) == entry
    assert mem.history(P, K) == [first.model_copy(update={"superseded": True}), entry]
    (cause,) = outcome.causes
    assert (cause.entry.seq, cause.confidence_before, cause.confidence_after) == (first.seq, 0.5, 2 / 3)
    assert (outcome.recorded, outcome.skipped, outcome.seq) == (True, (), judge.timeline()[0].seq)


@pytest.mark.parametrize("value", [{"max": 3}, {"max": 4}])
def test_an_equal_value_keeps_its_evidence_and_another_starts_anew(mem: AgentMemory, value: Any) -> None:
    mem.write(P, K, {"max": 3}, confidence=0.5)
    mem.commit_outcome("a", "success", [(P, K)])
    mem.commit_outcome("b", "failure", [(P, K)])
    entry = mem.as_agent("bob").write(P, K, value, confidence=0.8)
    if value == {"max": 3}:
        assert (entry.confidence, entry.outcome_count) == (pytest.approx((2 * 0.8 + 1) / (2 + 1 + 2)), 2)
    else:
        assert (entry.confidence, entry.outcome_count) == (0.8, 0)


# --- what is judged --------------------------------------------------------------------------------------------------


def test_without_keys_the_read_set_since_the_last_outcome_is_judged(mem: AgentMemory) -> None:
    for key in "abcd":
        mem.write(P, key, 1)
    mem.read(P, "a")
    mem.read_many([(P, "b")])
    mem.list()
    assert causes(mem.commit_outcome("one", "success")) == [("a", 1, True), ("b", 1, True)]
    mem.read(P, "b")
    mem.read_from("alice", P, "c")
    assert causes(mem.commit_outcome("two", "success")) == [("c", 1, True), ("b", 2, True)]
    assert causes(mem.commit_outcome("three", "success")) == []
    mem.read(P, "a")
    mem.commit_outcome("four", "success", [(P, "d")])
    assert causes(mem.commit_outcome("five", "success")) == [], "keys given by name end the read set too"


def test_an_entry_rewritten_with_another_value_since_is_skipped_and_named(mem: AgentMemory) -> None:
    for key in ("same", "other", "gone", "again"):
        mem.write(P, key, {"n": 1}, confidence=0.5)
        mem.read(P, key)
    bob = mem.as_agent("bob")
    bob.write(P, "same", {"n": 1}, confidence=0.5)
    bob.write(P, "other", {"n": 2}, confidence=0.5)
    bob.delete(P, "gone")
    bob.delete(P, "again")
    bob.write(P, "again", {"n": 1}, confidence=0.5)
    outcome = mem.commit_outcome("ref", "failure")
    assert causes(outcome) == [("same", 1, True), ("other", 1, False), ("gone", 1, False), ("again", 1, True)]
    assert [cause.entry.key for cause in outcome.skipped] == ["other", "gone"]
    assert "v2" in str(outcome.skipped[0].skipped)
    assert {entry.key: entry.confidence for entry in mem.list()} == {"same": 0.25, "other": 0.5, "again": 0.25}
    (event,) = mem.timeline(event_type="outcome")
    assert event.details["skipped"] == [f"{P}/other", f"{P}/gone"]
    assert (event.details["causal_entries"], event.details["entries_updated"]) == (4, 2)


def test_any_version_that_was_read_and_still_holds_is_judged(mem: AgentMemory) -> None:
    mem.write(P, K, "main")
    mem.create_branch("x")
    mem.write(P, K, "x", branch="x")
    mem.read(P, K)
    mem.read(P, K, branch="x")
    outcome = mem.commit_outcome("ref", "failure")
    assert [(entry.value, entry.branch, entry.confidence) for entry in outcome.entries] == [("main", "main", 0.5)]
    assert mem.read(P, K, branch="x").confidence == 1.0


def test_an_outcome_judges_on_the_branch_it_is_committed_to(mem: AgentMemory) -> None:
    mem.write(P, K, 1)
    mem.create_branch("x")
    mem.read(P, K)
    outcome = mem.commit_outcome("ref", "failure", branch="x")
    assert [(entry.branch, entry.version) for entry in outcome.entries] == [("x", 2)]
    assert (mem.read(P, K).confidence, mem.read(P, K, branch="x").confidence) == (1.0, 0.5)
    assert mem.timeline(branch="x")[0].event_type == "outcome"


def test_keys_come_in_every_form_and_count_once(mem: AgentMemory) -> None:
    one, two = mem.write(P, "one", 1), mem.write("a/b", "c/d", 1)
    outcome = mem.commit_outcome("ref", "failure", [one, (P, "one"), f"{P}/one", "a/b/c/d"])
    assert sorted(entry.key for entry in outcome.entries) == ["c/d", "one"]
    assert [mem.read_many([two])[0].confidence, mem.read(P, "one").confidence] == [0.5, 0.5]
    mem.write("a", "b/c/d", 1)
    with pytest.raises(AmbiguousKeyError):
        mem.commit_outcome("other", "failure", ["a/b/c/d"])


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (("ref", "success", [(P, "none")]), {}, EntryNotFoundError),
        (("ref", "success", [(P, K), "no/such"]), {}, EntryNotFoundError),
        (("ref", "success", f"{P}/{K}"), {}, InvalidInputError),
        (("ref", "success", [(P, K, 1)]), {}, InvalidInputError),
        (("ref", "victory"), {}, InvalidInputError),
        (("", "success"), {}, InvalidInputError),
        (("ref", "success"), {"causal_confidence": 1.1}, InvalidInputError),
        (("ref", "success"), {"causal_confidence": -0.1}, InvalidInputError),
        (("ref", "success"), {"run_id": ""}, InvalidInputError),
        (("ref", "success"), {"branch": "closed"}, BranchClosedError),
    ],
    ids=str,
)
def test_an_outcome_that_is_refused_changes_nothing(
    mem: AgentMemory, arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception]
) -> None:
    mem.write(P, K, 1)
    mem.create_branch("closed")
    mem.close_branch("closed")
    mem.read(P, K)
    before = mem.timeline(agent_id="*")
    with pytest.raises(error):
        mem.commit_outcome(*arguments, **options)
    assert mem.timeline(agent_id="*") == before
    assert causes(mem.commit_outcome("after", "success")) == [(K, 1, True)], "and the read set is still there"


def test_weight_zero_records_the_event_and_moves_nothing(mem: AgentMemory) -> None:
    entry = mem.write(P, K, 1, confidence=0.5)
    mem.read(P, K)
    outcome = mem.commit_outcome("run-1", "success", causal_confidence=0)
    assert (outcome.recorded, outcome.entries) == (True, ())
    assert mem.list() == [entry]
    assert [event.event_type for event in mem.timeline()] == ["outcome", "write"]
    (cause,) = mem.explain("run-1").causes
    assert (cause.entry, cause.confidence_after) == (entry.model_copy(), None), "what the run read is known"
    assert causes(mem.commit_outcome("verdict", "failure")) == [(K, 1, True)], "a judge comes later"


def test_the_same_ref_and_type_change_nothing_the_second_time(open_memory: OpenMemory) -> None:
    mem = open_memory()
    mem.write(P, K, 1, confidence=0.5)
    mem.write(P, "other", 1)
    first = mem.commit_outcome("INC-1", "failure", [(P, K)], causal_confidence=0.5)
    before = mem.timeline(agent_id="*")
    mem.read(P, "other")
    for memory in (mem, mem.as_agent("bob"), open_memory("carol")):
        again = memory.commit_outcome("INC-1", "failure", [(P, "other")], causal_confidence=1.0)
        assert (again.recorded, again.seq, again.causal_confidence) == (False, first.seq, 0.5)
        assert causes(again) == [(K, 1, True)]
    assert mem.timeline(agent_id="*") == before
    assert causes(mem.commit_outcome("INC-1", "success")) == [("other", 1, True)], "another type is another outcome"


# --- policies --------------------------------------------------------------------------------------------------------


def test_a_policy_of_ones_own_takes_evidence_and_returns_it(open_memory: OpenMemory) -> None:
    asked: list[Any] = []

    def halve(evidence: Evidence, outcome_type: OutcomeType, weight: float) -> Evidence:
        asked.append((evidence, outcome_type, weight))
        mem.write("audit", "asked", len(asked))
        return evidence.model_copy(update={"bad": evidence.bad + 1, "confidence": evidence.confidence / 2})

    mem = open_memory(outcome_policy=halve)
    mem.write(P, K, 1, confidence=0.8)
    mem.read(P, K)
    assert mem.commit_outcome("one", "failure", causal_confidence=0.5).entries[0].confidence == 0.4
    mem.read(P, K)
    assert causes(mem.commit_outcome("two", "success")) == [(K, 2, True)]
    assert [(evidence.confidence, evidence.bad, kind, weight) for evidence, kind, weight in asked] == [
        (0.8, 0.0, OutcomeType.FAILURE, 0.5), (0.4, 1.0, OutcomeType.SUCCESS, 1.0),
    ]  # fmt: skip
    assert (mem.read(P, K).confidence, mem.read("audit", "asked").value) == (0.2, 2)
    assert beta_posterior(Evidence(prior=0.5, good=0, bad=0, confidence=0.5), OutcomeType.SUCCESS, 1).good == 1


def test_a_policy_is_asked_again_if_the_entry_moved_meanwhile(open_memory: OpenMemory) -> None:
    asked: list[float] = []
    bob = open_memory("bob")

    def policy(evidence: Evidence, outcome_type: OutcomeType, weight: float) -> Evidence:
        asked.append(evidence.good)
        if len(asked) == 1:
            bob.commit_outcome("bob's", "success", [(P, K)])
        return beta_posterior(evidence, outcome_type, weight)

    mem = open_memory(outcome_policy=policy)
    mem.write(P, K, 1, confidence=0.5)
    mem.commit_outcome("mine", "success", [(P, K)])
    assert asked == [0.0, 1.0]
    assert mem.read(P, K).confidence == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    "answer",
    [None, 0.5, Evidence(prior=0.5, good=-1, bad=0, confidence=0.5), Evidence(prior=2, good=0, bad=0, confidence=0.5),
     Evidence(prior=0.5, good=0, bad=float("inf"), confidence=0.5),
     Evidence(prior=0.5, good=0, bad=0, confidence=float("nan"))],
    ids=str,
)  # fmt: skip
def test_an_answer_that_is_no_evidence_is_refused(open_memory: OpenMemory, answer: Any) -> None:
    mem = open_memory(outcome_policy=lambda *_: answer)
    entry = mem.write(P, K, 1)
    mem.read(P, K)
    with pytest.raises(InvalidInputError):
        mem.commit_outcome("ref", "success")
    assert (mem.read(P, K), len(mem.timeline())) == (entry, 1)


def test_confidence_that_a_policy_of_ones_own_moved_goes_along_in_a_merge(open_memory: OpenMemory) -> None:
    mem = open_memory(outcome_policy=lambda evidence, *_: evidence.model_copy(update={"confidence": 0.125}))
    mem.write(P, K, 1, confidence=0.5)
    mem.create_branch("x")
    mem.commit_outcome("ref", "failure", [(P, K)], branch="x")
    assert mem.merge_branch("x").merged_entries == 1
    assert mem.read(P, K).confidence == 0.125


# --- explaining ------------------------------------------------------------------------------------------------------


def test_explain_shows_events_versions_and_context(mem: AgentMemory) -> None:
    first = mem.write(P, K, {"max": 3}, confidence=0.5)
    with mem.run("elsewhere"):
        mem.record_context("noise", "of another run")
    with mem.run("r") as run:
        mem.record_context("ticket", "Customers cannot pay", "jira")
        mem.read(P, K)
        mem.commit_outcome("INC-1", "minor_failure", summary="slow")
        mem.as_agent("bob").write(P, K, {"max": 9})
        mem.record_context("later", "after the first verdict")
        mem.commit_outcome("INC-1", "critical_failure", [(P, K)])
    found = mem.explain("INC-1")
    assert [(event.details["outcome_type"], event.run_id) for event in found.outcomes] == [
        ("minor_failure", run.run_id), ("critical_failure", run.run_id),
    ]  # fmt: skip
    assert [(cause.entry.seq, cause.entry.value, cause.confidence_before) for cause in found.causes] == [
        (first.seq, {"max": 3}, 0.5), (mem.history(P, K)[2].seq, {"max": 9}, 1.0),
    ]  # fmt: skip
    assert found.causes[0].confidence_after == pytest.approx(1 / 3)
    assert [event.details["label"] for event in found.contexts] == ["ticket", "later"]
    with pytest.raises(OutcomeNotFoundError, match="INC-2"):
        mem.explain("INC-2")


def test_explain_shows_what_was_noted_in_every_session_of_a_run(mem: AgentMemory) -> None:
    for agent in ("ann", "bob"):
        with mem.as_agent(agent).run("r"):
            mem.as_agent(agent).record_context(f"of {agent}", "text")
    with mem.run("other"):
        mem.record_context("of another run", "text")
    for run_id in ("r", None):
        mem.commit_outcome(f"ref {run_id}", "success", run_id=run_id)
    assert [event.details["label"] for event in mem.explain("ref r").contexts] == ["of ann", "of bob"]
    assert mem.explain("ref None").contexts == ()


def test_context_counts_for_the_outcome_that_follows_it(mem: AgentMemory) -> None:
    for number in (1, 2):
        mem.record_context(f"context {number}", "text")
        mem.commit_outcome(f"ref {number}", "success")
    assert [event.details["label"] for event in mem.explain("ref 2").contexts] == ["context 2"]
