"""stub"""

from __future__ import annotations

from typing import Any

from amfs.errors import NotSupportedError


def blame(*args: Any) -> Any:
    raise NotSupportedError("stub")
