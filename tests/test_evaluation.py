"""Search answers the questions of the evaluation as well as is promised; the figures do not depend on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "evaluation"
ROWS = ("words alone (BM25)", "vectors alone", "words, and what memory knows", "hybrid (the default)")


def test_hybrid_is_at_least_the_better_of_words_and_vectors_on_questions_nothing_was_tuned_on():
    run = subprocess.run([sys.executable, FOLDER], capture_output=True, text=True, check=True)
    cells = [line.strip("| ").split(" | ") for line in run.stdout.splitlines() if line.startswith("| ")]
    measures = {name: [float(figure) for figure in figures] for name, *figures in cells if name in ROWS}
    assert set(measures) == set(ROWS), run.stdout
    words, vectors, _, hybrid = (measures[name] for name in ROWS)
    assert all(both >= max(one, other) - 0.01 for one, other, both in zip(words, vectors, hybrid, strict=True)), (
        run.stdout
    )


def test_no_question_is_in_both_halves():
    halves = [
        [json.loads(line) for line in (FOLDER / "data" / f"questions-{half}.jsonl").read_text().splitlines()]
        for half in ("dev", "held-out")
    ]
    asked = [{one["question"].lower() for one in half} for half in halves]
    answers = [{(one["branch"], *map(tuple, one["answers"])) for one in half} for half in halves]
    assert not asked[0] & asked[1]
    assert not answers[0] & answers[1]
    assert [len(half) for half in asked] == [130, 130]
