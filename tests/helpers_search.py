"""Short words for what the tests of search ask again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amfs import AgentMemory, SearchHit, SearchWeights

if TYPE_CHECKING:
    from collections.abc import Iterable

P, K = "svc/checkout", "retry-pattern"
NOTHING = dict.fromkeys((name for name in SearchWeights.model_fields if name != "half_life"), 0.0)
BY_WORDS = SearchWeights(**{**NOTHING, "text": 1.0})


def keys(hits: Iterable[SearchHit]) -> list[str]:
    """Return the keys of hits, in their order."""
    return [hit.entry.key for hit in hits]


def found(mem: AgentMemory, query: str | None = None, **how: Any) -> set[str]:
    """Return the keys of all that a search finds."""
    return set(keys(mem.search(query, limit=1000, **how)))
