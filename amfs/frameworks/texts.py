"""What is found in a memory as documents of a framework: values as text that reads well, and where they are from."""

from __future__ import annotations

import json
from typing import cast

from amfs.models import SearchHit

__all__ = ["provenance", "readable"]


def readable(value: object) -> str:
    """Return a string as it is, a list and the fields of an object line by line, anything else as JSON."""
    if isinstance(value, dict) and value:
        return "\n".join(f"{name}: {_inline(part)}" for name, part in cast("dict[str, object]", value).items())
    if isinstance(value, list) and value:
        return "\n".join(f"- {_inline(part)}" for part in cast("list[object]", value))
    return _inline(cast("object", value))


def provenance(hit: SearchHit) -> dict[str, str | int | float]:
    """Return where a hit is from, as the metadata of a document."""
    entry = hit.entry
    return {
        "entity_path": entry.entity_path,
        "key": entry.key,
        "version": entry.version,
        "seq": entry.seq,
        "branch": hit.branch,
        "author": entry.agent_id,
        "confidence": entry.confidence,
    }


def _inline(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
