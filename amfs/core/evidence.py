"""How outcomes move confidence: the default policy, a Beta posterior."""

from __future__ import annotations

from amfs.models import Evidence, OutcomeType

STRENGTH = 2.0
"""How many observations the confidence a value was written with is worth."""

_GOOD = {OutcomeType.SUCCESS: 1.0}
_BAD = {OutcomeType.MINOR_FAILURE: 1.0, OutcomeType.FAILURE: 2.0, OutcomeType.CRITICAL_FAILURE: 4.0}


def posterior(prior: float, good: float, bad: float) -> float:
    """Return the mean of a Beta distribution: the prior, worth STRENGTH observations, and the evidence since.

    (STRENGTH * prior + good) / (STRENGTH + good + bad); without evidence exactly the prior.
    """
    if not (good or bad):
        return prior
    return (STRENGTH * prior + good) / (STRENGTH + good + bad)


def beta_posterior(evidence: Evidence, outcome_type: OutcomeType, weight: float) -> Evidence:
    """Return the evidence of a value after an outcome: the default outcome policy.

    A success adds ``weight`` to the good side; a minor failure 1, a failure 2, a critical failure 4 times ``weight``
    to the bad side.
    """
    good = evidence.good + weight * _GOOD.get(outcome_type, 0.0)
    bad = evidence.bad + weight * _BAD.get(outcome_type, 0.0)
    return Evidence(prior=evidence.prior, good=good, bad=bad, confidence=posterior(evidence.prior, good, bad))
