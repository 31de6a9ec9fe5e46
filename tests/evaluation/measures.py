"""How well search answers questions: hit@5, hit@10 and the mean reciprocal rank, over all and by kind of question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from amfs import AgentMemory, SearchWeights

PAGE = 10


class Measures(NamedTuple):
    """hit@5, hit@10, MRR (of the first answer within the page), and over how many questions."""

    hit5: float
    hit10: float
    mrr: float
    questions: int


def place_of_answer(mem: AgentMemory, question: Mapping[str, Any], weights: SearchWeights | None) -> int | None:
    """Return the place of the first answer among the hits, from 1, None if no answer is there."""
    hits = mem.as_agent(question["agent"]).search(
        question["question"], branch=question["branch"], memory_type=question.get("memory_types"),
        entity_path=question.get("path"), weights=weights, limit=PAGE,
    )  # fmt: skip
    answers = {tuple(answer) for answer in question["answers"]}
    found = (place for place, hit in enumerate(hits, 1) if (hit.entry.entity_path, hit.entry.key) in answers)
    return next(found, None)


def measure(places: Iterable[int | None]) -> Measures:
    """Return the measures of the places of answers."""
    known = list(places)
    found = [place for place in known if place is not None]
    total = len(known)
    return Measures(
        sum(place <= 5 for place in found) / total, len(found) / total, sum(1 / place for place in found) / total, total
    )
