"""stub"""

from __future__ import annotations

from typing import Any

from amfs.errors import NotSupportedError


def create(*args: Any) -> Any:
    raise NotSupportedError("stub")


def list_tags(*args: Any) -> Any:
    raise NotSupportedError("stub")


def delete(*args: Any) -> Any:
    raise NotSupportedError("stub")
