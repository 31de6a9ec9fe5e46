"""Old import names, for code written for the product AMFS replaces; used only when asked for."""

from __future__ import annotations

import sys
from types import ModuleType

from amfs import errors, models

__all__ = ["extend_with_branching", "install"]


def extend_with_branching(memory: object) -> None:
    """Do nothing: branching is built in."""


def install() -> None:
    """Make ``amfs_core.models`` and ``amfs_branching.sdk`` importable, as names for what is here."""
    core, branching, sdk = (
        ModuleType("amfs_core"),
        ModuleType("amfs_branching"),
        ModuleType("amfs_branching.sdk"),
    )
    vars(core).update(models=models, exceptions=errors)
    vars(sdk).update(extend_with_branching=extend_with_branching)
    vars(branching).update(sdk=sdk)
    sys.modules.update(
        {
            "amfs_core": core,
            "amfs_core.models": models,
            "amfs_core.exceptions": errors,
            "amfs_branching": branching,
            "amfs_branching.sdk": sdk,
        }
    )
