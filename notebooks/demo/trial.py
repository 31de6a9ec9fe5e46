"""A trial is one policy measured on a branch of its own; a rule picks the best of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from client import KEY, PATH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from client import RetryingClient

    from amfs import AgentMemory, ExperimentRecord

__all__ = ["RULE", "best", "measure_policy", "run_trial"]

TIE = 0.5
RULE = f"highest success rate; within {TIE} points of it, lowest p95"


def measure_policy(memory: AgentMemory, client: RetryingClient, requests: int, title: str) -> dict[str, float]:
    """Measure the policy in memory, record the outcome, and return the figures.

    The outcome names no entries: what the client read in this run is what it judges.
    """
    with memory.run():
        measured = client.measure(requests, title)
        words = f"{measured.success_rate:.1f} % answered, p95 {measured.p95_ms:.0f} ms"
        memory.commit_outcome(title, measured.outcome, summary=words)
    return {"success_rate": measured.success_rate, "p95_ms": measured.p95_ms}


def run_trial(
    memory: AgentMemory, client: RetryingClient, requests: int, name: str, policy: dict[str, Any]
) -> dict[str, float]:
    """Write a policy to a fresh branch, measure it there, and return the figures."""
    with memory.experiment(name, params=policy) as experiment:
        memory.write(PATH, KEY, policy, confidence=0.5)
        figures = measure_policy(memory, client, requests, name)
        experiment.log(**figures)
    return figures


def best(records: Sequence[ExperimentRecord]) -> ExperimentRecord:
    """Return the experiment that wins by ``RULE``, from nothing but its recorded metrics."""
    top = max(record.metrics["success_rate"] for record in records)
    tied = [record for record in records if round(top - record.metrics["success_rate"], 2) <= TIE]
    return min(tied, key=lambda record: record.metrics["p95_ms"])
