"""stub"""

from __future__ import annotations

from typing import Any

from amfs.errors import NotSupportedError


def export_to(*args: Any) -> Any:
    raise NotSupportedError("stub")


def import_from(*args: Any) -> Any:
    raise NotSupportedError("stub")
