"""The engine agrees with the reference model, whatever a state machine does to both.

``AMFS_HYPOTHESIS_PROFILE`` (dev, ci, nightly) sets the budget, ``AMFS_HYPOTHESIS_SEED`` repeats a run.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.helpers_machine import run_machine, run_random

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from pathlib import Path

PROFILE = os.environ.get("AMFS_HYPOTHESIS_PROFILE", "ci")
STEPS = {"dev": 2_000, "ci": 160_000, "nightly": 2_000_000}[PROFILE]
"""How many steps are taken at random, in parts that may run side by side."""
PARTS = 4
RUNS = {"dev": 10, "ci": 100, "nightly": 1_000}[PROFILE]
"""How many runs Hypothesis draws: they are slow, but what they find is shrunk."""
SECONDS = {"dev": 600, "ci": 900, "nightly": 4 * 3600}[PROFILE]  # a failure takes minutes to shrink
START = int(os.environ.get("AMFS_HYPOTHESIS_SEED") or random.SystemRandom().randrange(2**32))

DRAWN = settings(
    max_examples=RUNS,
    stateful_step_count=40,
    phases=[Phase.generate, Phase.shrink],
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
OPERATIONS = {
    "write", "delete", "read", "read as of", "list as of", "history window", "outcome", "create_branch", "close_branch",
    "diff", "merge", "merge preview", "manual merge", "resolve_conflict", "create_tag", "delete_tag", "rollback",
    "rollback preview", "cherry_pick", "cherry_pick preview", "fork", "create_pull_request", "review_pull_request",
    "merge_pull_request", "merge_pull_request preview", "close_pull_request", "grant_branch_access",
    "revoke_branch_access", "create_api_key", "revoke_api_key", "open", "reopen", "blame", "search", "search as of",
}  # fmt: skip
HAPPENED = {
    "merge parent and child", "merge siblings", "merge grandchild", "merge criss-cross", "merge after a rollback",
    "rolled back", "rolled back by author", "rolled back a rollback", "rollback skips", "rollback touches others",
    "as a guest", "in a fork", "resolved and merged", "refused AccessDeniedError", "refused InvalidApiKeyError",
    "refused TagOffLineageError", "refused BeforeHistoryError", "refused BranchClosedError",
    "refused PullRequestBlockedError", "refused ConflictResolvedError", "refused StaleWriteError",
}  # fmt: skip


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("part", range(PARTS))
def test_engine_agrees_with_the_model(part: int, tmp_path: Path, record_property: Callable[[str, object], None]):
    start = START + part
    print(f"to repeat this run: AMFS_HYPOTHESIS_PROFILE={PROFILE} AMFS_HYPOTHESIS_SEED={START}")
    tally = run_random(tmp_path, start, STEPS // PARTS)
    taken, notes = _split(tally)
    steps = sum(taken.values())
    record_property("tally", f"{steps} steps (seed {START}, part {part}): {taken}\n{notes}")
    assert steps >= STEPS // PARTS
    assert notes["changed"] * 2 >= steps, "too few steps change anything"
    if PROFILE != "dev":
        assert not OPERATIONS - taken.keys(), "an operation never took place"
        assert not HAPPENED - notes.keys(), "a case never came up"


@pytest.mark.timeout(SECONDS)
def test_engine_agrees_with_the_model_as_hypothesis_draws(
    tmp_path: Path, record_property: Callable[[str, object], None]
):
    print(f"to repeat this run: AMFS_HYPOTHESIS_PROFILE={PROFILE} AMFS_HYPOTHESIS_SEED={START}")
    taken, notes = _split(run_machine(tmp_path, DRAWN, START))
    record_property("tally", f"{sum(taken.values())} steps drawn (seed {START}): {taken}\n{notes}")
    assert notes["changed"] * 2 >= sum(taken.values()), "too few steps change anything"


def _split(tally: Counter[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return how often each operation took place, and how often else what came up."""
    taken = {name: count for name, count in tally.most_common() if not name.startswith("*")}
    return taken, {name[1:]: count for name, count in tally.most_common() if name.startswith("*") and count}
