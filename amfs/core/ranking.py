"""How candidates of a search become an order: parts between 0 and 1, each times its weight, added up.

Words and meaning are brought to one scale by the best of each: that keeps how much better the best one is, which the
ranks alone forget. Then comes what memory knows besides: the messages around, whether the query names the place or the
author, age, confidence and outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from amfs.core import terms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from amfs.core.context import Context
    from amfs.models import SearchWeights
    from amfs.storage.rows import Slot, VersionRow

PARTS = ("text", "meaning", "neighbours", "place", "author", "recency", "confidence", "outcomes")
"""The names of the parts, which are those of their weights."""

NEVER = 1 << 62
"""The place of a candidate in a ranking that it is not in."""

_DOUBT = 2.0


@dataclass(slots=True)
class Candidate:
    """A version that may be a hit, where it was found, and how well it does."""

    doc: int
    row: VersionRow
    slot: Slot
    context: Context
    place: int = NEVER
    """Its best place in the rankings by words and by meaning, from 0."""

    text: float = 0.0
    meaning: float = 0.0
    neighbours: float = 0.0


class Ranking:
    """What the parts of scores are measured by, for one query."""

    def __init__(self, query: str, weights: SearchWeights, now: int) -> None:
        self._words = frozenset(terms.all_words(query))
        self._weights = weights
        self._now = now
        self._half_life = weights.half_life / timedelta(microseconds=1)
        self._shares: dict[str, float] = {}

    def relevance(self, candidate: Candidate) -> float:
        """Return what words and meaning add to the score."""
        return self._weights.text * candidate.text + self._weights.meaning * candidate.meaning

    def parts(self, candidate: Candidate) -> tuple[float, ...]:
        """Return the weighted parts of the score, in the order of ``PARTS``."""
        weights, row, slot = self._weights, candidate.row, candidate.slot
        author = candidate.context.tx.agent_name(row.author)
        age = max(0, self._now - row.ts) / self._half_life
        return (
            weights.text * candidate.text,
            weights.meaning * candidate.meaning,
            weights.neighbours * candidate.neighbours,
            weights.place * max(self._named(slot.path), self._named(slot.key)),
            weights.author * (self._named(author) == 1.0),
            weights.recency * 0.5**age,
            weights.confidence * row.confidence,
            weights.outcomes * row.good / (row.good + row.bad + _DOUBT),
        )

    def score(self, candidate: Candidate) -> float:
        """Return the whole score."""
        return round(sum(self.parts(candidate)), 9)

    def in_order(self, candidates: Iterable[Candidate], depth: int) -> list[Candidate]:
        """Return candidates, the best first; those that no ranking has among its first ``depth`` come last, as there.

        Then more candidates never change the order of those before, and pages fit each other. Of equal ones the newer
        comes first.
        """
        first: list[Candidate] = []
        rest: list[Candidate] = []
        for candidate in candidates:
            (first if candidate.place < depth or candidate.neighbours else rest).append(candidate)
        first.sort(key=lambda one: (-self.score(one), -one.row.seq))
        rest.sort(key=lambda one: (one.place, -self.relevance(one), -one.row.seq))
        return first + rest

    def _named(self, name: str) -> float:
        """Return the share of the words of a name that stand in the query."""
        share = self._shares.get(name)
        if share is None:
            words = terms.of_name(name)
            share = self._shares[name] = len(self._words.intersection(words)) / (len(words) or 1)
        return share
