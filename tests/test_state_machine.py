"""The engine agrees with the reference model, whatever a state machine does to both.

``AMFS_HYPOTHESIS_PROFILE`` (dev, ci, nightly) sets the budget, ``AMFS_HYPOTHESIS_SEED`` repeats a run.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.helpers_machine import run_machine

if TYPE_CHECKING:
    from pathlib import Path

PROFILE = os.environ.get("AMFS_HYPOTHESIS_PROFILE", "ci")
BUDGETS = {"dev": (20, 50), "ci": (240, 100), "nightly": (20_000, 100)}  # runs, and the most steps of one
SECONDS = {"dev": 600, "ci": 600, "nightly": 4 * 3600}  # a failure takes minutes to shrink

for _name, (_runs, _steps) in BUDGETS.items():
    settings.register_profile(
        f"amfs-{_name}",
        max_examples=_runs,
        stateful_step_count=_steps,
        phases=[Phase.generate, Phase.shrink],
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.timeout(SECONDS[PROFILE])
def test_engine_agrees_with_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    start = int(os.environ.get("AMFS_HYPOTHESIS_SEED") or random.SystemRandom().randrange(2**32))
    print(f"to repeat this run: AMFS_HYPOTHESIS_PROFILE={PROFILE} AMFS_HYPOTHESIS_SEED={start}")
    tally = run_machine(tmp_path, settings.get_profile(f"amfs-{PROFILE}"), start)
    taken = {name: count for name, count in tally.most_common() if not name.startswith("*")}
    notes = {name[1:]: count for name, count in tally.most_common() if name.startswith("*")}
    steps = sum(taken.values())
    with capsys.disabled():
        print(f"\n{steps} steps (seed {start}): {taken}\n{notes}")
    assert notes["changed"] * 2 >= steps, "too few steps change anything"
    for relation in ("parent and child", "siblings", "grandchild", "criss-cross"):
        assert PROFILE == "dev" or notes[f"merge {relation}"], f"no merge between {relation}"
