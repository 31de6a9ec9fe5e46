"""What came of a run, and how much that says about the memories it read."""

from __future__ import annotations

from typing import NamedTuple

from amfs.models import OutcomeType

__all__ = ["FAILURE", "SUCCESS", "Judgement", "Verdict", "verdict_of"]

Judgement = OutcomeType | str | tuple[OutcomeType | str, float] | None
"""What a judge answers: an outcome, which counts in full, or one and a weight from 0 to 1; None is no opinion."""


class Verdict(NamedTuple):
    """What came of a run, and with which weight it moves the confidence of what the run read."""

    outcome: OutcomeType
    weight: float = 0.0


SUCCESS = Verdict(OutcomeType.SUCCESS)
"""It ended well, which by itself says nothing about the memories it read."""

FAILURE = Verdict(OutcomeType.FAILURE)
"""An error ended it, which by itself says nothing about the memories it read."""


def verdict_of(answer: Judgement) -> Verdict:
    """Return the verdict that a judge's answer stands for, that of a success that moves nothing for None.

    Raises:
        ValueError: The outcome is none, or the weight is not from 0 to 1.
    """
    if answer is None:
        return SUCCESS
    kind, weight = answer if isinstance(answer, tuple) else (answer, 1.0)
    if not 0 <= weight <= 1:
        raise ValueError(f"a run is judged with a weight from 0 to 1, not {weight!r}")
    return Verdict(OutcomeType(kind), weight)
