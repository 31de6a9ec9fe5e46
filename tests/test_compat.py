"""Names of the product this one replaces, for code that asks for them."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

import amfs
from amfs import AgentMemory, MergeStrategy, compat, extend_with_branching

NAMES = ["amfs_core", "amfs_core.models", "amfs_core.exceptions", "amfs_branching", "amfs_branching.sdk"]


@pytest.fixture
def old_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the old names before the test, and whatever it installs after it."""
    for name in NAMES:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("old_names")
def test_old_import_names_work_once_installed() -> None:
    for name in NAMES:
        with pytest.raises(ImportError):
            importlib.import_module(name)
    compat.install()
    compat.install()
    from amfs_branching.sdk import extend_with_branching as extend
    from amfs_core import models
    from amfs_core.exceptions import StaleWriteError
    from amfs_core.models import ConflictPolicy

    assert (extend, StaleWriteError) == (amfs.extend_with_branching, amfs.StaleWriteError)
    assert (ConflictPolicy, models.MergeStrategy) == (amfs.ConflictPolicy, amfs.MergeStrategy)
    assert [importlib.import_module(name).__name__ is not None for name in NAMES] == [True] * 5


def test_nothing_is_installed_by_importing_amfs() -> None:
    assert not [name for name in NAMES if sys.modules.get(name) is not None]


def test_extending_with_branching_does_nothing(file_mem: AgentMemory) -> None:
    before = dict(vars(file_mem))
    assert extend_with_branching(file_mem) is None
    assert vars(file_mem) == before
    assert file_mem.create_branch("x").name == "x", "branching is built in"


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("theirs", "source_wins"), ("branch_wins", "source_wins"), (MergeStrategy.THEIRS, "source_wins"),
        (MergeStrategy.BRANCH_WINS, "source_wins"), ("ours", "target_wins"), ("main_wins", "target_wins"),
        (MergeStrategy.OURS, "target_wins"), (MergeStrategy.MAIN_WINS, "target_wins"),
    ],
)  # fmt: skip
def test_old_names_of_strategies_are_accepted(file_mem: AgentMemory, name: Any, strategy: str) -> None:
    file_mem.write("p", "k", 0)
    file_mem.create_branch("x")
    file_mem.write("p", "k", "branch", branch="x")
    file_mem.write("p", "k", "main")
    assert file_mem.merge_branch("x", strategy=name).strategy == strategy
    assert file_mem.read("p", "k").value == ("branch" if strategy == "source_wins" else "main")
