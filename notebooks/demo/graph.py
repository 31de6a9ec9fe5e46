"""A timeline drawn as git draws its log: one column per branch, the oldest event first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from amfs import Event

__all__ = ["draw"]


def draw(events: Iterable[Event]) -> Iterator[str]:
    """Yield a line per event; the branches get their columns in the order in which they began."""
    history = sorted(events, key=lambda event: event.seq)
    forks = [event.details["branch"] for event in history if event.event_type == "branch_created"]
    lanes = ["main", *forks]
    known = 1
    for event in history:
        forked = event.event_type == "branch_created"
        known += forked
        marks = _marks(lanes.index(event.branch), known, forked=forked).ljust(2 * len(lanes))
        yield f"{event.seq:>3}  {marks} {event.actor}  {event.summary}"


def _marks(lane: int, known: int, *, forked: bool) -> str:
    """Return the columns of a line: the event in its lane and, if it began a branch, an arm to that."""
    newest = known - 1
    drawn = ["●" if number == lane else "│" for number in range(known)]
    if not forked:
        return " ".join(drawn)
    arm = ["┼" if mark == "│" else mark for mark in drawn[lane:newest]]
    return " ".join(drawn[:lane]) + (" " if lane else "") + "─".join([*arm, "╮"])
