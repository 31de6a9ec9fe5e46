"""Timing: many calls one by one, in rounds that take turns, so that a slow phase of the machine hits all alike."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass
class Timings:
    """The times of one operation in microseconds, by round."""

    rounds: list[list[float]] = field(default_factory=list)

    def take(self, operation: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> Any:
        """Time an operation once for each set of arguments, as one round, and return its last result."""
        clock, taken, result = time.perf_counter_ns, [], None
        for one in arguments:
            start = clock()
            result = operation(*one)
            taken.append((clock() - start) / 1000)
        self.rounds.append(taken)
        return result

    @property
    def medians(self) -> list[float]:
        """The median of each round."""
        return [statistics.median(taken) for taken in self.rounds]

    @property
    def median(self) -> float:
        """The median of the rounds' medians."""
        return statistics.median(self.medians)

    @property
    def mean(self) -> float:
        """The mean over all calls."""
        return statistics.mean(one for taken in self.rounds for one in taken)

    def ratio(self, other: Timings) -> float:
        """Return how much longer this takes than another operation: the median of the rounds' ratios."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.medians, other.medians, strict=True))

    def mean_ratio(self, other: Timings) -> float:
        """Return the ratio of the means, which checkpoints and slow phases weigh on."""
        return self.mean / other.mean
