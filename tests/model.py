"""A reference model of AMFS in plain dictionaries, full copies and brute force: it defines what right is.

It is written to be read, not to be fast. Every change copies the whole view of a branch, so the past is looked up and
never computed; a merge base is found by listing every view that each side contains. It shares no code with the engine,
only the error classes (so that refusals can be compared), and it knows one namespace.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import Any

from amfs.errors import (
    BeforeHistoryError,
    BranchClosedError,
    BranchError,
    EntryNotFoundError,
    InvalidInputError,
    StaleWriteError,
    TagNotFoundError,
    TagOffLineageError,
)
from tests.model_access import READ, WRITE, Access
from tests.model_merge import Change, Merge, Slot, Version, canonical, same_value, tombstone
from tests.model_views import Edge, Reset, Views

NOW = 2**63
WEIGHTS = {"success": (1, 0), "minor_failure": (0, 1), "failure": (0, 2), "critical_failure": (0, 4)}

View = dict[Slot, Version]


@dataclass(frozen=True)
class Time:
    """A moment that is given as an instant, in microseconds."""

    at: int


Moment = int | Time | str
"""A seq, an instant or the name of a tag."""


@dataclass(frozen=True)
class Event:
    """Something that happened; ``slot`` is set for what happened to one entry, ``about`` if it announces a branch."""

    seq: int
    kind: str
    agent: str
    actor: str
    branch: str
    at: int
    slot: Slot | None = None
    about: str | None = None


@dataclass
class Branch:
    """A line of memory: its own versions, and every view it ever had with the seq from which on it had it."""

    name: str
    parent: str | None
    fork: int
    views: list[tuple[int, View]]
    versions: dict[Slot, list[Version]] = field(default_factory=dict)
    newest: int | None = None
    is_open: bool = True

    @property
    def position(self) -> int:
        """The newest seq on the branch itself, else where it was forked."""
        return self.fork if self.newest is None else self.newest


@dataclass(frozen=True)
class Tag:
    """A name for a branch as of a seq."""

    name: str
    branch: str
    seq: int
    agent: str


@dataclass
class Log:
    """What namespaces in one database share: the time of every seq, the order of lists, and numbers.

    ``events`` names the larger event of a version that was made by one, ``ends`` the last version of such an event.
    """

    times: list[int] = field(default_factory=list)
    paths: dict[tuple[str | None, str], int] = field(default_factory=dict)
    order: dict[Slot, tuple[int, int]] = field(default_factory=dict)
    events: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    conflicts: int = 0
    pulls: int = 0

    @property
    def seq(self) -> int:
        """The newest seq."""
        return len(self.times)

    def seq_at(self, time: int) -> int:
        """Return the newest seq that is not after a time."""
        return bisect_right(self.times, time)

    def end_of(self, seq: int) -> int:
        """Return the last seq of the event that a seq belongs to: a larger event is seen whole or not at all."""
        return self.ends.get(self.events.get(seq, seq), seq)


class Model:
    """The memory of a namespace. Before each call ``tick`` has to say what time it is, and who calls."""

    def __init__(self, log: Log | None = None, main: Branch | None = None, began: int | None = None) -> None:
        self.log = log or Log()
        self.began = began
        self.now = self.clock = 0
        self.branches = {"main": main or Branch("main", None, 0, [(0, {})])}
        self.events: list[Event] = []
        self.views = Views()
        self.views.add("main", None, 0)
        self.made: dict[int, Version] = {}
        self.order = self.log.order
        self.outcomes: set[tuple[str, str]] = set()
        self.noticed: set[tuple[str | None, str, int]] = set()
        self.tags: dict[str, Tag] = {}
        self.pending: list[Any] = []
        self.pulls: list[Any] = []
        self.access = Access()

    def tick(self, clock: int, principal: str | None = None) -> None:
        """Move the time, in microseconds: on to the clock's, but never back to that of the last event."""
        self.clock = clock
        self.now = max(clock, self.log.times[-1] + 1 if self.log.times else 0)
        self.access.principal = principal

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

    def seq_of(self, branch: str, moment: Moment | None) -> int | None:
        """Return the seq as of which a branch is seen at a moment, None for now."""
        if isinstance(moment, str):
            tag = self.tag(moment)
            if not self.sees(branch, tag.branch, tag.seq):
                raise TagOffLineageError(moment)
            return tag.seq
        if isinstance(moment, Time):
            if self.began is None or moment.at < self.began:
                raise BeforeHistoryError(moment)
            return self.log.seq_at(moment.at)
        if moment is not None and moment > self.log.seq:
            raise InvalidInputError(moment)
        return None if moment is None else self.log.end_of(moment)

    def tag(self, name: str) -> Tag:
        """Return a tag by name; one on a hidden branch is not there."""
        tag = self.tags.get(name)
        if tag is None or not self.may(tag.branch):
            raise TagNotFoundError(name)
        return tag

    def sees(self, branch: str, other: str, seq: int) -> bool:
        """Return whether a view of another branch lies in the lineage of a branch."""
        line = self.branches[branch]
        return branch == other or bool(line.parent and seq <= line.fork and self.sees(line.parent, other, seq))

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
        return inherited + [one for one in line.versions.get(slot, ()) if one.seq <= at]

    def history_of(self, agent: str, branch: str, path: str, key: str) -> list[Version]:
        """Return the history of the slot a read sees; where none is live, of one that ever was."""
        kept = [self.history((owner, path, key), branch) for owner in (agent, None)]
        live = [versions for versions in kept if versions and self.alive(versions[-1])]
        return next((versions for versions in (*live, *kept) if versions), [])

    def read_history(self, agent: str, branch: str, path: str, key: str) -> list[Version]:
        """Return the history of the slot a read sees."""
        self.need(agent, (branch, READ))
        return self.history_of(agent, branch, path, key)

    def timeline(self, viewer: str, *, agent: str | None = None, branch: str | None = None) -> list[Event]:
        """Return events newest first: on an agent's timeline or done by it, on one branch or on all."""
        return [
            event
            for event in reversed(self.events)
            if (agent is None or agent in (event.agent, event.actor))
            and branch in (None, event.branch)
            and (event.slot is None or event.slot[0] in (None, viewer))
            and self.may(event.branch)
            and (event.about is None or self.may(event.about))
        ]

    def may(self, branch: str, wanted: str = READ) -> bool:
        """Return whether the caller may use a branch."""
        return self.access.allows(branch, wanted)

    def shown(self, version: Version | None) -> Version | None:
        """Return a version unless it was made on a branch, and is seen on none, that the caller may read."""
        if version is None or self.may(version.branch):
            return version
        return (
            version
            if any(self.may(one) and self.sees(one, version.branch, version.seq) for one in self.branches)
            else None
        )

    def need(self, agent: str, *wanted: tuple[str, str]) -> None:
        """Refuse a call that the caller may not make, each need being a branch and a permission."""
        self.access.check(agent, self.clock, wanted)

    # --- entries -----------------------------------------------------------------------------------------------

    def read(self, agent: str, branch: str, path: str, key: str, at: Moment | None = None) -> Version | None:
        """Find an entry and record, once per session and version, that another agent's was read."""
        self.need(agent, (branch, READ))
        found = self.find(agent, branch, path, key, self.seq_of(branch, at))
        session = (self.access.principal, agent)
        if found and found.author != agent and (*session, found.seq) not in self.noticed:
            self.noticed.add((*session, found.seq))
            self.event("cross_agent_read", found.author, branch, actor=agent)
        return found

    def read_list(self, agent: str, branch: str, at: Moment | None = None) -> list[Version]:
        """List what an agent sees as of a moment."""
        self.need(agent, (branch, READ))
        return self.list(agent, branch, self.seq_of(branch, at))

    def search(self, agent: str, branch: str, word: str, at: Moment | None = None) -> list[Version]:
        """Find what holds a word, newest first, and record for each author, once, that another agent read it."""
        self.need(agent, (branch, READ))
        found = [one for one in self.list(agent, branch, self.seq_of(branch, at)) if word in words_of(one)]
        found.sort(key=lambda one: -one.seq)
        session = (self.access.principal, agent)
        new = [one for one in found if one.author != agent and (*session, one.seq) not in self.noticed]
        self.noticed.update((*session, one.seq) for one in new)
        for author in dict.fromkeys(one.author for one in new):
            self.event("cross_agent_read", author, branch, actor=agent)
        return found

    def write(
        self, agent: str, branch: str, path: str, key: str, value: Any, *, shared: bool = True,
        confidence: float = 1.0, memory_type: str = "fact", refs: tuple[str, ...] = (),
        ttl: float | None = None, expected: int | None = None,
    ) -> Version:  # fmt: skip
        """Write a version; an equal value keeps its evidence, another one starts anew."""
        self.need(agent, (branch, WRITE))
        self.must_be_open(branch)
        slot = (None if shared else agent, path, key)
        old = self.view(branch).get(slot)
        old = old if self.alive(old) else None
        actual = old.number if old else 0
        if expected not in (None, actual):
            raise StaleWriteError("not as expected", expected=expected or 0, actual=actual)
        expires = None if ttl is None else self.now + round(ttl * 1_000_000)
        new = Version(
            slot, value, canonical(value), agent, confidence, memory_type=memory_type, refs=refs, expires=expires,
            born=old.born if old else self.now,
        )  # fmt: skip
        if old and same_value(old, new):
            new = replace(new, evidence=old.evidence)
        return self.put(new, branch, agent, self.event("write", agent, branch, slot=slot))

    def delete(self, agent: str, branch: str, path: str, key: str) -> bool:
        """Put a tombstone where ``read`` would find something."""
        self.need(agent, (branch, WRITE))
        self.must_be_open(branch)
        old = self.find(agent, branch, path, key)
        if old:
            event = self.event("delete", agent, branch, slot=old.slot)
            self.put(tombstone(old, agent), branch, agent, event)
        return old is not None

    def commit_outcome(
        self, agent: str, branch: str, ref: str, kind: str, keys: list[tuple[str, str]], weight: float = 1.0
    ) -> tuple[Event | None, list[Version]]:
        """Judge entries; the event is None if the same ref and kind had been recorded before."""
        self.need(agent, (branch, WRITE))
        self.must_be_open(branch)
        if (ref, kind) in self.outcomes:
            return None, []
        found = [self.find(agent, branch, *key) for key in keys]
        if None in found:
            raise EntryNotFoundError(ref)
        self.outcomes.add((ref, kind))
        event = self.event("outcome", agent, branch)
        gained = (*(weight * share for share in WEIGHTS[kind]), 1)
        judged = {old.slot: old for old in found if old and weight}.values()
        return event, [
            self.put(replace(old, evidence=tuple(map(sum, zip(old.evidence, gained, strict=True)))), branch, agent)
            for old in judged
        ]

    # --- branches ----------------------------------------------------------------------------------------------

    def create_branch(self, agent: str, name: str, source: str, at: Moment | None = None) -> Branch:
        """Fork a branch from what another, open or closed, holds now or held as of a moment."""
        self.need(agent, (source, READ))
        seq = self.seq_of(source, at)
        event = self.event("branch_created", agent, source, about=name)
        fork = event.seq if seq is None else seq
        self.branches[name] = Branch(name, source, fork, [(fork, dict(self.view(source, fork)))])
        self.views.add(name, source, fork)
        self.access.created(name)
        return self.branches[name]

    def close_branch(self, agent: str, name: str) -> None:
        """Make a branch read-only; main cannot be."""
        self.need(agent, (name, WRITE))
        self.must_be_open(name)
        if name == "main":
            raise BranchError(name)
        self.event("branch_closed", agent, name)
        self.branches[name].is_open = False
        for merge in self.pending:
            if name in (merge.source, merge.target):
                merge.end()

    def base(self, source: str, target: str, agent: str | None = None) -> tuple[str, int]:
        """Return the newest view that both branches contain."""
        return self.views.base(*((name, self.branches[name].position) for name in (source, target)), agent)

    def diff(self, agent: str, source: str, target: str) -> list[Change]:
        """Return what the source changed since the base, as far as the agent can see it, by path and key."""
        views = self.view(source), self.view(target)
        bases = {owner: self.view(*self.base(source, target, owner)) for owner in (None, agent)}
        slots = {slot for view in (*views, *bases.values()) for slot in view if slot[0] in bases}
        changes = []
        for slot in sorted(slots, key=by_name):
            versions = bases[slot[0]].get(slot), views[0].get(slot), views[1].get(slot)
            if versions[0] is versions[1]:
                continue
            change = Change(slot, *(side if self.alive(side) else None for side in versions), versions[1])
            base, now = change.base, change.source
            if not (same_value(base, now) and (base is None or now is None or base.metadata == now.metadata)):
                change.find_clashes()
                changes.append(change)
        return changes

    def read_diff(self, agent: str, source: str, target: str) -> list[Change]:
        """Compare two branches."""
        self.need(agent, (source, READ), (target, READ))
        return self.diff(agent, source, target)

    def merge(
        self, agent: str, source: str, target: str, strategy: str = "three_way", *,
        paths: tuple[str, ...] | None = None, dry_run: bool = False, close: bool = False,
    ) -> Merge:  # fmt: skip
        """Bring what the source changed into the target, all of it or nothing."""
        self.may_merge(agent, source, target, close=close, dry_run=dry_run)
        merge = self.plan_merge(agent, source, target, strategy, paths)
        if not dry_run and merge.status not in ("refused", "conflicts"):
            self.carry_out(merge, agent, source, target, partial=paths is not None)
            if close:
                self.close_branch(agent, source)
        return merge

    def may_merge(self, agent: str, source: str, target: str, *, close: bool, dry_run: bool = False) -> None:
        """Refuse a merge that the caller may not make, or nobody."""
        self.need(agent, (source, READ), (target, READ))
        if source == target:
            raise InvalidInputError(source)
        self.need(agent, (target, READ if dry_run else WRITE))
        self.must_be_open(target)
        self.need(agent, (source, WRITE if close and not dry_run else READ))
        if close and source == "main":
            raise BranchError(source)
        self.must_be_open(source)

    def plan_merge(
        self, agent: str, source: str, target: str, strategy: str, paths: tuple[str, ...] | None = None
    ) -> Merge:
        """Return what a merge would do."""
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
        return merge

    def carry_out(self, merge: Merge, agent: str, source: str, target: str, *, partial: bool = False) -> None:
        """Write what a merge does, and that it was done."""
        if merge.changes:
            merge.event = self.event("branch_merged", agent, target).seq
            for change in merge.fated("apply"):
                if change.result:
                    self.put(change.result, target, agent, origin=change.origin)
            if not partial:
                self.views.merged(Edge(target, merge.event, source, merge.source_seq, agent))
        if not partial:
            for pending in self.pending:
                if (pending.source, pending.target) == (source, target):
                    pending.end()

    # --- changing ----------------------------------------------------------------------------------------------

    def must_be_open(self, branch: str) -> None:
        """Refuse to write a closed branch."""
        if not self.branches[branch].is_open:
            raise BranchClosedError(branch)

    def event(
        self, kind: str, agent: str, branch: str, *,
        actor: str | None = None, slot: Slot | None = None, about: str | None = None,
    ) -> Event:  # fmt: skip
        """Append an event."""
        self.log.times.append(self.now)
        if branch == "main" and self.began is None:
            self.began = self.now
        self.events.append(Event(self.log.seq, kind, agent, actor or agent, branch, self.now, slot, about))
        self.branches[branch].newest = self.log.seq
        return self.events[-1]

    def put(self, new: Version, branch: str, agent: str, own: Event | None = None, origin: int = 0) -> Version:
        """Append a version: at the seq of its own event, or at one of its own under a larger event."""
        if own is None:
            self.log.times.append(self.now)
            self.log.events[self.log.seq] = self.events[-1].seq
            self.log.ends[self.events[-1].seq] = self.log.seq
        line, view = self.branches[branch], self.view(branch)
        number = view[new.slot].number + 1 if new.slot in view else 1
        new = replace(
            new, seq=self.log.seq, number=number, branch=branch, committer=agent, written=self.now, origin=origin
        )
        self.made[new.seq] = new
        line.versions.setdefault(new.slot, []).append(new)
        line.views.append((self.log.seq, {**view, new.slot: new}))
        line.newest = self.log.seq
        path = self.log.paths.setdefault(new.slot[:2], len(self.log.paths))
        self.order.setdefault(new.slot, (path, len(self.order)))
        return new

    def roll_views_back(self, branch: str, event: int, to: int, agent: str) -> None:
        """Note that a branch went back to an earlier view as a whole."""
        self.views.rolled_back(Reset(branch, event, to, agent))


def by_name(slot: Slot) -> tuple[Any, ...]:
    """Sort slots by path and key, the shared one of a name first."""
    return slot[1:], slot[0] or ""


def _under(slot: Slot, paths: tuple[str, ...] | None) -> bool:
    return paths is None or any(f"{slot[1]}/".startswith(f"{path}/") for path in paths)


def words_of(version: Version) -> set[str]:
    """Return the words in the path, the key and the value of a version."""
    _, path, key = version.slot
    return set(re.findall(r"[^\W_]+", " ".join((path, key, json.dumps(version.value))).lower()))
