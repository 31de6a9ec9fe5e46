"""stub"""

from __future__ import annotations

from typing import Any

from amfs.errors import NotSupportedError


def create(*args: Any) -> Any:
    raise NotSupportedError("stub")


def review(*args: Any) -> Any:
    raise NotSupportedError("stub")


def merge(*args: Any) -> Any:
    raise NotSupportedError("stub")


def close(*args: Any) -> Any:
    raise NotSupportedError("stub")


def list_pull_requests(*args: Any) -> Any:
    raise NotSupportedError("stub")
