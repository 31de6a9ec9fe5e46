"""A reference model of AMFS in plain dictionaries, full copies and brute force: it defines what right is.

It is written to be read, not to be fast. Every change copies the whole view of a branch, so the past is looked up and
never computed; a merge base is found by listing every view that each side contains. It shares no code with the engine,
only the error classes (so that refusals can be compared), and it knows one namespace.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from amfs.errors import BranchClosedError, BranchError, EntryNotFoundError, InvalidInputError, StaleWriteError
from tests.model_merge import NO_EVIDENCE, Change, Merge, Slot, Version, same_value, tombstone

NOW = 2**63
WEIGHTS = {"success": (1, 0), "minor_failure": (0, 1), "failure": (0, 2), "critical_failure": (0, 4)}

View = dict[Slot, Version]


@dataclass(frozen=True)
class Event:
    """Something that happened; ``slot`` is set for what happened to one entry."""

    seq: int
    kind: str
    agent: str
    actor: str
    branch: str
    at: int
    slot: Slot | None = None


@dataclass
class Branch:
    """A line of memory: its own versions, and every view it ever had with the seq from which on it had it."""

    name: str
    parent: str | None
    fork: int
    views: list[tuple[int, View]]
    versions: list[Version] = field(default_factory=list)
    newest: int | None = None
    is_open: bool = True

    @property
    def position(self) -> int:
        """The newest seq on the branch itself, else where it was forked."""
        return self.fork if self.newest is None else self.newest


@dataclass(frozen=True)
class Edge:
    """A complete merge: from ``seq`` on, ``target`` contains ``source`` as of ``source_seq``."""

    target: str
    seq: int
    source: str
    source_seq: int
    agent: str


class Model:
    """The memory of a namespace. Whoever drives it moves its clock, by ``tick`` before each call."""

    def __init__(self) -> None:
        self.now = 0
        self.seq = 0
        self.branches = {"main": Branch("main", None, 0, [(0, {})])}
        self.events: list[Event] = []
        self.edges: list[Edge] = []
        self.order: dict[Slot, tuple[int, int]] = {}
        self.outcomes: set[tuple[str, str]] = set()
        self.noticed: set[tuple[str, int]] = set()
        self._contained: dict[tuple[str, int, str | None], set[tuple[str, int]]] = {}

    def tick(self, clock: int) -> None:
        """Move the time, in microseconds: on to the clock's, but never back to that of the last event."""
        self.now = max(clock, self.events[-1].at + 1 if self.events else 0)

    def seq_at(self, time: int) -> int:
        """Return the newest seq that is not after a time."""
        made = [version for line in self.branches.values() for version in line.versions]
        seqs = {one.seq: one.at for one in self.events} | {one.seq: one.written for one in made}
        return max((seq for seq, at in seqs.items() if at <= time), default=0)

    def view(self, branch: str, at: int = NOW) -> View:
        """Return all that a branch held as of a seq, tombstones and expired entries included."""
        line = self.branches[branch]
        for since, view in reversed(line.views):
            if since <= at:
                return view
        return self.view(line.parent, at) if line.parent else {}

    def alive(self, version: Version | None, at: int | None = None) -> bool:
        """Return whether a version is there to be seen; a view of the past knows no expiry."""
        if version is None or not version.live:
            return False
        return at is not None or version.expires is None or version.expires > self.now

    def find(self, agent: str, branch: str, path: str, key: str, at: int | None = None) -> Version | None:
        """Return what an agent sees of a key: its private entry, else the shared one."""
        view = self.view(branch, NOW if at is None else at)
        own, shared = view.get((agent, path, key)), view.get((None, path, key))
        return own if self.alive(own, at) else shared if self.alive(shared, at) else None

    def list(self, agent: str, branch: str, at: int | None = None) -> list[Version]:
        """Return the live entries an agent sees, as first written, those of one owner's path together."""
        view = self.view(branch, NOW if at is None else at)
        seen = [one for slot, one in view.items() if slot[0] in (None, agent) and self.alive(one, at)]
        return sorted(seen, key=lambda version: self.order[version.slot])

    def history(self, slot: Slot, branch: str, at: int = NOW) -> list[Version]:
        """Return the versions of a slot along the branch and what it inherited, oldest first."""
        line = self.branches[branch]
        inherited = self.history(slot, line.parent, min(at, line.fork)) if line.parent else []
        return inherited + [one for one in line.versions if one.slot == slot and one.seq <= at]

    def timeline(self, viewer: str, *, agent: str | None = None, branch: str | None = None) -> list[Event]:
        """Return events newest first: on an agent's timeline or done by it, on one branch or on all."""
        return [
            event
            for event in reversed(self.events)
            if (agent is None or agent in (event.agent, event.actor))
            and branch in (None, event.branch)
            and (event.slot is None or event.slot[0] in (None, viewer))
        ]

    # --- entries -----------------------------------------------------------------------------------------------

    def read(self, agent: str, branch: str, path: str, key: str, at: int | None = None) -> Version | None:
        """Find an entry and record, once per session and version, that another agent's was read."""
        found = self.find(agent, branch, path, key, at)
        if found and found.author != agent and (agent, found.seq) not in self.noticed:
            self.noticed.add((agent, found.seq))
            self._event("cross_agent_read", found.author, branch, actor=agent)
        return found

    def write(
        self, agent: str, branch: str, path: str, key: str, value: Any, *, shared: bool = True,
        confidence: float = 1.0, memory_type: str = "fact", refs: tuple[str, ...] = (),
        ttl: float | None = None, expected: int | None = None,
    ) -> Version:  # fmt: skip
        """Write a version; an equal value keeps its evidence, another one starts anew."""
        self._must_be_open(branch)
        slot = (None if shared else agent, path, key)
        old = self.view(branch).get(slot)
        old = old if self.alive(old) else None
        actual = old.number if old else 0
        if expected not in (None, actual):
            raise StaleWriteError("not as expected", expected=expected or 0, actual=actual)
        expires = None if ttl is None else self.now + round(ttl * 1_000_000)
        new = Version(slot, deepcopy(value), agent, confidence, True, NO_EVIDENCE, memory_type, refs, expires)
        new = replace(new, born=old.born if old else self.now)
        if old and same_value(old, new):
            new = replace(new, evidence=old.evidence)
        return self._put(new, branch, agent, self._event("write", agent, branch, slot=slot))

    def delete(self, agent: str, branch: str, path: str, key: str) -> bool:
        """Put a tombstone where ``read`` would find something."""
        self._must_be_open(branch)
        old = self.find(agent, branch, path, key)
        if old:
            event = self._event("delete", agent, branch, slot=old.slot)
            self._put(tombstone(old, agent), branch, agent, event)
        return old is not None

    def commit_outcome(
        self, agent: str, branch: str, ref: str, kind: str, keys: list[tuple[str, str]], weight: float = 1.0
    ) -> tuple[Event | None, list[Version]]:
        """Judge entries; the event is None if the same ref and kind had been recorded before."""
        self._must_be_open(branch)
        if (ref, kind) in self.outcomes:
            return None, []
        found = [self.find(agent, branch, *key) for key in keys]
        if None in found:
            raise EntryNotFoundError(ref)
        self.outcomes.add((ref, kind))
        event = self._event("outcome", agent, branch)
        gained = (*(weight * share for share in WEIGHTS[kind]), 1)
        judged = {old.slot: old for old in found if old and weight}.values()
        return event, [
            self._put(replace(old, evidence=tuple(map(sum, zip(old.evidence, gained, strict=True)))), branch, agent)
            for old in judged
        ]

    # --- branches ----------------------------------------------------------------------------------------------

    def create_branch(self, agent: str, name: str, source: str, at: int | None = None) -> Branch:
        """Fork a branch from what another, open or closed, holds now or held as of a seq."""
        event = self._event("branch_created", agent, source)
        fork = event.seq if at is None else at
        self.branches[name] = Branch(name, source, fork, [(fork, dict(self.view(source, fork)))])
        return self.branches[name]

    def close_branch(self, agent: str, name: str) -> None:
        """Make a branch read-only; main cannot be."""
        self._must_be_open(name)
        if name == "main":
            raise BranchError(name)
        self._event("branch_closed", agent, name)
        self.branches[name].is_open = False

    def contained(self, branch: str, at: int, agent: str | None) -> set[tuple[str, int]]:
        """Return every view that a branch contains as of a seq, through lineage and complete merges.

        With an agent, only the merges it made itself count: no others moved its private entries.
        """
        known = self._contained.get((branch, at, agent))
        if known is None:
            line = self.branches[branch]
            known = {(branch, seq) for seq in range(at + 1)}
            if line.parent:
                known |= self.contained(line.parent, min(at, line.fork), agent)
            for edge in self.edges:
                if edge.target == branch and edge.seq <= at and agent in (None, edge.agent):
                    known |= self.contained(edge.source, edge.source_seq, agent)
            self._contained[branch, at, agent] = known
        return known

    def base(self, source: str, target: str, agent: str | None = None) -> tuple[str, int]:
        """Return the newest view that both branches contain; of several names for it, the branch made last."""
        sides = (self.contained(name, self.branches[name].position, agent) for name in (source, target))
        made = list(self.branches)
        return max(set.intersection(*sides), key=lambda view: (view[1], made.index(view[0])))

    def diff(self, agent: str, source: str, target: str) -> list[Change]:
        """Return what the source changed since the base, as far as the agent can see it, by path and key."""
        views = self.view(source), self.view(target)
        bases = {owner: self.view(*self.base(source, target, owner)) for owner in (None, agent)}
        slots = {slot for view in (*views, *bases.values()) for slot in view if slot[0] in bases}
        changes = []
        for slot in sorted(slots, key=lambda slot: (slot[1:], slot[0] or "")):
            sides = (view.get(slot) for view in (bases[slot[0]], *views))
            change = Change(slot, *(side if self.alive(side) else None for side in sides), views[0].get(slot))
            base, now = change.base, change.source
            if not (same_value(base, now) and (base is None or now is None or base.metadata == now.metadata)):
                change.find_clashes()
                changes.append(change)
        return changes

    def merge(
        self, agent: str, source: str, target: str, strategy: str = "three_way", *,
        paths: tuple[str, ...] | None = None, dry_run: bool = False, close: bool = False,
    ) -> Merge:  # fmt: skip
        """Bring what the source changed into the target, all of it or nothing."""
        if source == target:
            raise InvalidInputError(source)
        self._must_be_open(source)
        self._must_be_open(target)
        changes = [one for one in self.diff(agent, source, target) if _under(one.slot, paths)]
        positions = (self.branches[name].position for name in (source, target))
        merge = Merge("merged", changes, self.base(source, target), *positions)
        for change in changes:
            change.settle(strategy, agent)
        if not changes:
            merge.status = "up_to_date"
        elif strategy == "fast_forward":
            moves = self.diff(agent, target, source)
            moved = any(not same_value(move.base, move.source) for move in moves)
            merge.status = "refused" if moved else "fast_forward"
        elif merge.fated("conflict"):
            merge.status = "conflicts"
        if not dry_run and merge.status not in ("refused", "conflicts"):
            if close and source == "main":
                raise BranchError(source)
            self._carry_out(merge, agent, source, target, partial=paths is not None)
            if close:
                self.close_branch(agent, source)
        return merge

    def _carry_out(self, merge: Merge, agent: str, source: str, target: str, *, partial: bool) -> None:
        if not merge.changes:
            return
        merge.event = self._event("branch_merged", agent, target).seq
        for change in merge.changes:
            if change.result:
                self._put(change.result, target, agent)
        if not partial:
            self.edges.append(Edge(target, merge.event, source, merge.source_seq, agent))

    # --- inside ------------------------------------------------------------------------------------------------

    def _must_be_open(self, branch: str) -> None:
        if not self.branches[branch].is_open:
            raise BranchClosedError(branch)

    def _event(
        self, kind: str, agent: str, branch: str, *, actor: str | None = None, slot: Slot | None = None
    ) -> Event:
        self.seq += 1
        self.events.append(Event(self.seq, kind, agent, actor or agent, branch, self.now, slot))
        self.branches[branch].newest = self.seq
        return self.events[-1]

    def _put(self, new: Version, branch: str, agent: str, own: Event | None = None) -> Version:
        """Append a version: at the seq of its own event, or at one of its own under a larger event."""
        self.seq = own.seq if own else self.seq + 1
        line, view = self.branches[branch], self.view(branch)
        number = view[new.slot].number + 1 if new.slot in view else 1
        new = replace(new, seq=self.seq, number=number, branch=branch, committer=agent, written=self.now)
        line.versions.append(new)
        line.views.append((self.seq, {**view, new.slot: new}))
        line.newest = self.seq
        paths = {slot[:2]: order[0] for slot, order in self.order.items()}
        path = paths.get(new.slot[:2], len(set(paths.values())))
        self.order.setdefault(new.slot, (path, len(self.order)))
        return new


def _under(slot: Slot, paths: tuple[str, ...] | None) -> bool:
    return paths is None or any(f"{slot[1]}/".startswith(f"{path}/") for path in paths)
