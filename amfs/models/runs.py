"""What came of using memory: outcomes, what led to them, experiments."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from amfs.models.base import Model
from amfs.models.entries import Entry, Event
from amfs.models.words import ExperimentStatus, OutcomeType


class Evidence(Model):
    """What outcomes say about a value: ``prior`` is the confidence it was written with."""

    prior: float
    good: float
    bad: float
    confidence: float


class Cause(Model):
    """An entry that an outcome judged: the version that was read, and the confidence before and after.

    ``skipped`` says why the outcome did not move it (None if it did).
    """

    entry: Entry
    confidence_before: float
    confidence_after: float | None
    skipped: str | None = None


class Outcome(Model):
    """What ``commit_outcome`` recorded. ``recorded`` is False when the same ref and type had been recorded before."""

    outcome_ref: str
    outcome_type: OutcomeType
    causal_confidence: float
    seq: int
    recorded: bool
    entries: tuple[Entry, ...]
    causes: tuple[Cause, ...]

    @property
    def skipped(self) -> tuple[Cause, ...]:
        """The causes the outcome did not move, each with its reason."""
        return tuple(cause for cause in self.causes if cause.skipped)


class Explanation(Model):
    """Why an outcome came about: the events recorded under its ref, the entries that were read, the context noted."""

    outcome_ref: str
    outcomes: tuple[Event, ...]
    causes: tuple[Cause, ...]
    contexts: tuple[Event, ...]


class ExperimentRecord(Model):
    """What is known of an experiment: its branch, parameters, metrics and how it ended."""

    name: str
    branch: str
    source: str
    params: dict[str, Any]
    metrics: dict[str, Any]
    status: ExperimentStatus
    error: str | None
    agent_id: str
    started_at: datetime
    ended_at: datetime | None
