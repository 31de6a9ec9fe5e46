"""The evaluation of search: how often it finds what a person would have picked, by words, by meaning, and by both.

``make eval`` reports the held-out questions, on which nothing was tuned; ``--dev`` the others. The vectors are those of
a real model, kept in a file (see ``vectors.py``).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measures import Measures, measure, place_of_answer
from story import lines, replay
from vectors import Stored

from amfs import AgentMemory, SearchWeights

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALONE = dict.fromkeys(("neighbours", "place", "author", "recency", "confidence", "outcomes"), 0.0)
WAYS: Mapping[str, SearchWeights | None] = {
    "words alone (BM25)": SearchWeights(meaning=0.0, **_ALONE),
    "vectors alone": SearchWeights(text=0.0, **_ALONE),
    "words, and what memory knows": SearchWeights(meaning=0.0),
    "hybrid (the default)": None,
}
"""What is compared."""


def main() -> None:
    """Run the evaluation and print its report as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true", help="the questions that weights were chosen on")
    parser.add_argument("--make-vectors", action="store_true", help="make the file of vectors anew, with the model")
    parser.add_argument("--kinds", action="store_true", help="each kind of question, too")
    options = parser.parse_args()
    half = "questions-dev" if options.dev else "questions-held-out"
    embed = Stored(with_model=options.make_vectors)
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "story.db"
        replay(database)
        with AgentMemory("reader", database, durability="normal", embed=embed) as mem:
            if options.make_vectors:
                for question in (*lines("questions-dev"), *lines("questions-held-out")):
                    place_of_answer(mem, question, None)
                embed.save()
            else:
                sys.stdout.write("\n".join(report(mem, lines(half), half, by_kind=options.kinds)) + "\n")


def report(mem: AgentMemory, questions: list[dict[str, Any]], title: str, *, by_kind: bool) -> list[str]:
    """Return the measures of each way to search as a table."""
    table = [f"**{title}**: {len(questions)} questions", "", "| | hit@5 | hit@10 | MRR |", "|---|---|---|---|"]
    places = {way: [place_of_answer(mem, one, weights) for one in questions] for way, weights in WAYS.items()}
    table += [_row(way, measure(found)) for way, found in places.items()]
    if by_kind:
        for kind in sorted({one["kind"] for one in questions}):
            for way, found in places.items():
                those = [place for place, one in zip(found, questions, strict=True) if one["kind"] == kind]
                table.append(_row(f"{kind} ({len(those)}): {way}", measure(those)))
    return [*table, ""]


def _row(name: str, measures: Measures) -> str:
    return f"| {name} | {measures.hit5:.3f} | {measures.hit10:.3f} | {measures.mrr:.3f} |"


if __name__ == "__main__":
    main()
