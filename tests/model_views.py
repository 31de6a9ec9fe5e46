"""Which views a view contains, by brute force: every view that there is, named one by one.

A view is a branch as of a seq. A set of views is an integer with one bit for each, so that sets are united and
intersected in one step; the bits are in the order in which a merge base is chosen. It shares no code with the engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

WIDTH = 16
"""How many branches there can be."""

View = tuple[str, int]


@dataclass(frozen=True)
class Edge:
    """A complete merge: from ``seq`` on, ``target`` contains ``source`` as of ``source_seq``."""

    target: str
    seq: int
    source: str
    source_seq: int
    agent: str


@dataclass(frozen=True)
class Reset:
    """A rollback of a whole branch: from ``seq`` on, it contains of merges what it did as of ``to``."""

    branch: str
    seq: int
    to: int
    agent: str


class Views:
    """The lineage of the branches, the merges and the rollbacks of a namespace."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.parents: dict[str, tuple[str | None, int]] = {}
        self.edges: list[Edge] = []
        self.resets: list[Reset] = []
        self._contained: dict[tuple[str, int, str | None], int] = {}

    def add(self, name: str, parent: str | None, fork: int) -> None:
        """Add a branch that starts from its parent as of a seq."""
        assert len(self.names) < WIDTH
        self.names.append(name)
        self.parents[name] = parent, fork

    def merged(self, edge: Edge) -> None:
        """Note a complete merge."""
        self.edges.append(edge)

    def rolled_back(self, reset: Reset) -> None:
        """Note a rollback of a whole branch."""
        self.resets.append(reset)

    def base(self, one: View, other: View, agent: str | None) -> View:
        """Return the newest view that two views contain; of several names for it, the branch made last."""
        common = self.contained(*one, agent) & self.contained(*other, agent)
        seq, number = divmod(common.bit_length() - 1, WIDTH)
        return self.names[number], seq

    def contained(self, branch: str, at: int, agent: str | None) -> int:
        """Return every view that a branch contains as of a seq, through lineage and complete merges.

        With an agent, only the merges and rollbacks it made itself count: no others moved its private entries.
        """
        known = self._contained.get((branch, at, agent))
        if known is None:
            known = self.lineage(branch, at)
            for edge in self.merges(branch, at, agent):
                known |= self.contained(edge.source, edge.source_seq, agent)
            self._contained[branch, at, agent] = known
        return known

    def lineage(self, branch: str, at: int) -> int:
        """Return the views of a branch up to a seq, and those of what it descends from."""
        parent, fork = self.parents[branch]
        own = _up_to(self.names.index(branch), at)
        return own | self.lineage(parent, min(at, fork)) if parent else own

    def merges(self, branch: str, at: int, agent: str | None) -> list[Edge]:
        """Return the merges that count in a view: the last one of each source, none that was rolled back."""
        last: dict[str, Edge] = {}
        while True:
            resets = [one for one in self.resets if one.branch == branch and one.seq <= at]
            reset = next((one for one in reversed(resets) if agent in (None, one.agent)), None)
            since = reset.seq if reset else -1
            for edge in reversed(self.edges):
                if edge.target == branch and since < edge.seq <= at and agent in (None, edge.agent):
                    last.setdefault(edge.source, edge)
            if reset is None:
                break
            at = reset.to
        parent, fork = self.parents[branch]
        return [*last.values(), *(self.merges(parent, min(at, fork), agent) if parent else ())]


@cache
def _up_to(number: int, seq: int) -> int:
    """Return the views of the branch with a number from seq 0 to another."""
    return ((1 << (seq + 1) * WIDTH) - 1) // ((1 << WIDTH) - 1) << number
