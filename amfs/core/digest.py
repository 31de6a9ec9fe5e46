"""The text of a brief: what is known as lines, for people and for prompts, with a number for every entry cited.

It follows from what it tells alone: the same memory gives the same text, wherever and whenever. Names and values are
other people's data: each stays on its line, without control characters, and is cut where it is long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from amfs.display.parts import clean, count
from amfs.models import BriefOutcome

_MOST_NAME = 200
_MOST_VALUE = 300
_MOST_LINES = 20


class Cited(NamedTuple):
    """An entry as the text shows it; ``value`` is JSON text."""

    slot: int
    name: str
    value: str
    version: int
    confidence: float
    outcomes: int
    author: str


class Clash(NamedTuple):
    """An open conflict: the entry, and the branches it stands between."""

    slot: int
    name: str
    source: str
    target: str


class Digest(NamedTuple):
    """What is known: all that the text tells."""

    path: str | None
    about: str | None
    branch: str
    entry_count: int
    agents: Mapping[str, int]
    cited: Sequence[Cited]
    clashes: Sequence[Clash]
    outcomes: Sequence[BriefOutcome]


def text(digest: Digest) -> str:
    """Return what is known as text."""
    numbers = {one.slot: number for number, one in enumerate(digest.cited, 1)}
    clashes = [_clash(clash, numbers.get(clash.slot)) for clash in digest.clashes]
    outcomes = [f"- {_name(one.outcome_ref)}: {one.outcome_type}" for one in digest.outcomes]
    agents = [f"- {_name(agent)}: {_entries(entries)}" for agent, entries in digest.agents.items()]
    return "\n".join(
        [
            *_head(digest),
            *_section("Entries", list(_cited(digest))),
            *_section("Open conflicts", _first(clashes)),
            *_section("Recent outcomes", outcomes),
            *_section("Who knows", _first(agents)),
        ]
    )


def _head(digest: Digest) -> list[str]:
    what = "everything" if digest.path is None else _name(digest.path)
    only = "" if digest.about is None else f", only what {_name(digest.about)} wrote"
    by = f" by {count(len(digest.agents), 'agent')}" if digest.agents else ""
    return [f"# Brief of {what}", "", f"{_entries(digest.entry_count)}{by} on branch {_name(digest.branch)}{only}"]


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {title}" if lines else f"## {title}: none", *lines]


def _first(lines: Sequence[str]) -> list[str]:
    more = [f"- {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
    return [*lines[:_MOST_LINES], *more]


def _cited(digest: Digest) -> Iterator[str]:
    for number, one in enumerate(digest.cited, 1):
        judged = f" after {count(one.outcomes, 'outcome')}" if one.outcomes else ""
        particulars = f"confidence {one.confidence:.2f}{judged}, v{one.version} by {_name(one.author)}"
        yield f"- [{number}] {_name(one.name)}: {clean(one.value, _MOST_VALUE)} ({particulars})"
    left = digest.entry_count - len(digest.cited)
    if left:
        yield f"- {left} more, not cited"


def _clash(clash: Clash, number: int | None) -> str:
    cited = "" if number is None else f" [{number}]"
    return f"- {_name(clash.name)}{cited}: {_name(clash.source)} -> {_name(clash.target)}"


def _name(text: str) -> str:
    return clean(text, _MOST_NAME)


def _entries(number: int) -> str:
    return count(number, "entry", "entries")
