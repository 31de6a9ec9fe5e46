"""Blame in the reference model: every part of a value is followed back by itself.

It shares no code with the engine but the error classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amfs.errors import EntryNotFoundError
from tests.model_access import READ
from tests.model_merge import ABSENT, Version, canonical

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model import Model


def blame(model: Model, agent: str, branch: str, path: str, key: str) -> dict[str, int]:
    """Return, by JSON Pointer, the seq of the version that brought each part of what an agent reads."""
    model.need(agent, (branch, READ))
    found = model.find(agent, branch, path, key)
    if found is None:
        raise EntryNotFoundError(path)
    return {pointer(place): origin_of(model, found, branch, place).seq for place in places(found.value)}


def origin_of(model: Model, version: Version, branch: str, place: tuple[str, ...]) -> Version:
    """Return the version that brought what stands at a place: along the branch, and on along where it came from."""
    held = at(version, place)
    history = model.history(version.slot, branch, version.seq)
    oldest = history.pop()
    while history and lasts(history[-1], oldest) and at(history[-1], place) == held:
        oldest = history.pop()
    source = model.made.get(oldest.origin)
    if source is None or at(source, place) != held:
        return oldest
    return origin_of(model, source, source.branch, place)


def lasts(version: Version, following: Version) -> bool:
    """Return whether a version was there until the one that followed it."""
    return version.live and (version.expires is None or version.expires > following.written)


def places(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield where a value has parts, itself first."""
    yield place
    for name in value if isinstance(value, dict) else ():
        yield from places(value[name], (*place, name))


def at(version: Version, place: tuple[str, ...]) -> str:
    """Return what a version holds at a place, as text."""
    value = version.value if version.live else ABSENT
    for name in place:
        value = value.get(name, ABSENT) if isinstance(value, dict) else ABSENT
    return canonical(value)


def pointer(place: tuple[str, ...]) -> str:
    """Return a place as a JSON Pointer."""
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in place)
