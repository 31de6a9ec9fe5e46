"""stub"""

from __future__ import annotations

from typing import Any

from amfs.errors import NotSupportedError


def list_conflicts(*args: Any) -> Any:
    raise NotSupportedError("stub")


def answer(*args: Any) -> Any:
    raise NotSupportedError("stub")


def resolve(*args: Any) -> Any:
    raise NotSupportedError("stub")


UNSET: Any = object()
