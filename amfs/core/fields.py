"""Comparing and merging JSON values: objects by field, recursively; arrays and scalars as a whole.

Equality is typed: 1, 1.0 and True are three values. The order of an object's fields does not count.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard, cast

from amfs.models import FieldChange

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Absent:
    """The type of ABSENT."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
"""Stands for a field, or an entry, that is not there."""


class Merged(NamedTuple):
    """The outcome of a three-way merge: the value, and the JSON Pointers at which the sides clash."""

    value: Any
    clashes: tuple[str, ...]


def equal(one: Any, other: Any) -> bool:
    """Return whether two JSON values are the same, types included."""
    # Values that Python finds different are different; most are told apart here, in C.
    if one != other or type(one) is not type(other):
        return False
    if isinstance(one, dict):
        mine, theirs = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
        return all(equal(value, theirs[name]) for name, value in mine.items())
    if isinstance(one, list):
        return all(map(equal, cast("list[Any]", one), cast("list[Any]", other)))
    return True


def same_text(one: str | None, other: str | None) -> bool:
    """Return whether two values kept as JSON text are the same: equal JSON, written by one encoder, is equally long."""
    if one == other:
        return True
    if one is None or other is None or len(one) != len(other):
        return False
    if sum(one.encode()) != sum(other.encode()):  # the same characters, in whatever order: a glance spares the parsing
        return False
    return equal(json.loads(one), json.loads(other))


def changes(old: Any, new: Any, pointer: str = "") -> Iterator[FieldChange]:
    """Yield what differs between two values, by field, in the order of the new value's fields."""
    if equal(old, new):
        return
    if _is_object(old) and _is_object(new):
        for name in (*new, *(name for name in old if name not in new)):
            yield from changes(old.get(name, ABSENT), new.get(name, ABSENT), f"{pointer}/{_escape(name)}")
    elif old is ABSENT:
        yield FieldChange(path=pointer, operation="add", new=new)
    elif new is ABSENT:
        yield FieldChange(path=pointer, operation="remove", old=old)
    else:
        yield FieldChange(path=pointer, operation="replace", old=old, new=new)


def merge(base: Any, source: Any, target: Any, pointer: str = "") -> Merged:
    """Merge two values that came from one base.

    A side that did not change yields to the one that did. Two objects merge field by field, an absent base counting
    as an empty object. Anything else that both sides changed differently clashes; there the target's value stands.
    """
    if equal(source, target) or equal(base, source):
        return Merged(target, ())
    if equal(base, target):
        return Merged(source, ())
    if not (_is_object(source) and _is_object(target) and (base is ABSENT or _is_object(base))):
        return Merged(target, (pointer,))
    before: dict[str, Any] = {} if base is ABSENT else base
    value: dict[str, Any] = {}
    clashes: tuple[str, ...] = ()
    for name in (*target, *(name for name in source if name not in target)):
        field = merge(
            before.get(name, ABSENT), source.get(name, ABSENT), target.get(name, ABSENT), f"{pointer}/{_escape(name)}"
        )
        clashes += field.clashes
        if field.value is not ABSENT:
            value[name] = field.value
    return Merged(value, clashes)


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _escape(name: str) -> str:
    """Escape a field name for a JSON Pointer (RFC 6901, section 3)."""
    return name.replace("~", "~0").replace("/", "~1")
