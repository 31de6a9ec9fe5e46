"""What a search returns, and what counts in it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from amfs.models.base import Model
from amfs.models.entries import Entry


class SearchHit(Model):
    """An entry that a search found. ``branch`` is the one it was found on; a higher ``score`` is better.

    ``parts`` is what the score is the sum of, by the names of ``SearchWeights``; None unless asked for.
    """

    entry: Entry
    score: float
    branch: str
    parts: Mapping[str, float] | None = None


class SearchWeights(Model):
    """How much each part of a score counts: a part is between 0 and 1 before it is multiplied by its weight.

    ``text`` is how well the words match (BM25), ``meaning`` how near the vectors are (cosine); each is 1 for the best
    entry there is. Beside meaning, words count less where even the best match lacks some of the query's.
    ``neighbours`` is how well the message before or after matches, for messages. ``place`` and ``author`` are whether
    the query names the path and key, or the agent that wrote the value. ``recency`` halves with every ``half_life``
    since the version was written. ``confidence`` is the entry's, ``outcomes`` how much of its evidence is good.
    """

    text: float = 1.0
    meaning: float = 1.0
    neighbours: float = 0.5
    place: float = 0.05
    author: float = 0.3
    recency: float = 0.05
    confidence: float = 0.15
    outcomes: float = 0.05
    half_life: timedelta = timedelta(days=30)
