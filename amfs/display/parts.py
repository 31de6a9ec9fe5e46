"""What a view is made of: sentences, blocks and tables, and the words in them, made safe to show."""

from __future__ import annotations

import json
import re
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

MAX_FIELDS = 5
MAX_CELL = 60
MAX_LINE = 110
MAX_PLAIN = 2000

# Line breaks and terminal commands would leave their cell, direction marks reorder what stands beside them.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Changed(NamedTuple):
    """A field (or without a label, the value) before and after; None on a side where it is absent."""

    label: str
    old: str | None
    new: str | None


class Stack(NamedTuple):
    """A cell of several lines."""

    lines: Sequence[str | Changed]


class Line(NamedTuple):
    """A sentence."""

    text: str


class Block(NamedTuple):
    """Lines that keep their spaces, such as a value or a tree."""

    lines: Sequence[str]


class Table(NamedTuple):
    """Rows under headers; the first 20 are drawn."""

    headers: Sequence[str]
    rows: Sequence[Sequence[object]]


Part = Line | Block | Table


# --- words -----------------------------------------------------------------------------------------------


def clean(words: str, limit: int) -> str:
    """Return words without what would leave their place, cut to a length."""
    # Only what can be shown is looked at: a value may be a megabyte.
    return cut(UNSAFE.sub(lambda match: ascii(match[0])[1:-1], words[: limit + 1]), limit)


def cut(words: str, limit: int) -> str:
    """Return words cut to a length, with a sign that they were."""
    return words if len(words) <= limit else words[: limit - 1] + "…"


def short(value: object) -> str:
    """Return the text of a cell: strings as they are, other values as JSON, on one line, cut."""
    match value:
        case None:
            return ""
        case str():
            return clean(value, MAX_CELL)
        case float():
            return f"{value:.10g}"
        case _:
            return compact(value)


def compact(value: object) -> str:
    """Return a value as JSON on one line, cut."""
    return clean(json_text(value), MAX_CELL)


def json_text(value: object, indent: int | None = None) -> str:
    """Return a value as JSON, with names and letters as they are."""
    return json.dumps(value, ensure_ascii=False, indent=indent, default=repr)


def pretty(value: object) -> Block:
    """Return a value as JSON over several lines."""
    return Block([clean(line, MAX_LINE) for line in json_text(value, indent=2).split("\n")])


def pairs(values: Mapping[str, Any]) -> Stack:
    """Return a cell of names and values."""
    return stack([f"{short(name)}={short(value)}" for name, value in values.items()])


def stack(lines: Sequence[str | Changed]) -> Stack:
    """Return a cell of several lines; of more than 5 it says how many were left out."""
    more = [f"… {len(lines) - MAX_FIELDS} more"] if len(lines) > MAX_FIELDS else []
    return Stack([*lines[:MAX_FIELDS], *more] or [""])


def utc(moment: datetime | None) -> str:
    """Return a moment to the second."""
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def sentence(*words: str) -> Line:
    """Return the words that are not empty, joined by commas."""
    return Line(clean(", ".join(word for word in words if word), MAX_PLAIN))
