"""What narrows a search of memory; the words are those of ``AgentMemory.search``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypedDict, cast

from amfs.errors import InvalidInputError
from amfs.models import SearchWeights

__all__ = ["Filters", "checked"]


class Filters(TypedDict, total=False):
    """What narrows the search for memories; the words are those of ``AgentMemory.search``."""

    entity_path: str
    agent_id: str
    memory_type: str | Iterable[str]
    min_confidence: float
    since: int | datetime | str
    until: int | datetime | str
    pattern_refs: Iterable[str]
    filter: Mapping[str, Any]
    weights: SearchWeights | Mapping[str, Any]


def checked(filters: Filters | Mapping[str, Any]) -> Filters:
    """Return filters as they can be used again and again, or say which of them no search knows.

    Raises:
        InvalidInputError: They are no mapping, or a name is none of those of ``Filters``. A search checks the values.
    """
    if not isinstance(cast("object", filters), Mapping):
        raise InvalidInputError(f"filters are a mapping of names to values, not {filters!r:.100}")
    unknown = sorted(str(name) for name in filters if name not in Filters.__annotations__)
    if unknown:
        known = ", ".join(Filters.__annotations__)
        raise InvalidInputError(f"a search is not narrowed by {', '.join(unknown)}; filters are {known}")
    return cast("Filters", {name: _lasting(value) for name, value in filters.items()})


def _lasting(value: object) -> object:
    if isinstance(value, str | Mapping | SearchWeights) or not isinstance(value, Iterable):
        return cast("object", value)
    return list(cast("Iterable[object]", value))
