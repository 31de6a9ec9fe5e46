"""stub"""

from __future__ import annotations

from typing import Any

from amfs.errors import NotSupportedError


def request(*args: Any) -> Any:
    raise NotSupportedError("stub")


def pick(*args: Any) -> Any:
    raise NotSupportedError("stub")
