"""Values as text that reads well."""

from __future__ import annotations

import json
from typing import cast

__all__ = ["readable"]


def readable(value: object) -> str:
    """Return a string as it is, a list and the fields of an object line by line, anything else as JSON."""
    if isinstance(value, dict) and value:
        return "\n".join(f"{name}: {_inline(part)}" for name, part in cast("dict[str, object]", value).items())
    if isinstance(value, list) and value:
        return "\n".join(f"- {_inline(part)}" for part in cast("list[object]", value))
    return _inline(cast("object", value))


def _inline(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
