"""Three-way difference: the base two views have in common, and what the source changed since.

A view contains another if it goes back to it through a fork or a complete merge that was not rolled back. The base is
the newest view that both sides contain, as git's merge base; of several that do not contain each other, the one with
the highest seq. A merge counts for shared entries and for the private ones of the agent that merged, so the base is
kept per slot owner.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from amfs.core import branches, fields, versions
from amfs.core.context import Context
from amfs.errors import AccessDeniedError, InvalidInputError
from amfs.models import Change, Conflict, Page
from amfs.storage.base import Reader
from amfs.storage.rows import NOBODY, SHARED, BranchRow, MergeEdge, RollbackRow, Segment, Slot, VersionRow


class View(NamedTuple):
    """A branch as of a seq."""

    branch: int
    seq: int


class Comparison(NamedTuple):
    """Two views, the base of shared entries, and that of the agent's own private ones."""

    source: View
    target: View
    base: View
    private_base: View


class Delta(NamedTuple):
    """One entry that the source changed since the base; a side on which it is absent is None.

    ``*_newest`` are the newest versions of the sides even where these are tombstones or have expired: numbering goes
    on from the target's, and who deleted an entry stands in the source's.
    """

    slot: Slot
    slot_id: int
    base: VersionRow | None
    source: VersionRow | None
    target: VersionRow | None
    source_newest: VersionRow | None
    target_newest: VersionRow | None

    @property
    def source_changed_value(self) -> bool:
        """Whether the source changed the value, not just the confidence or other particulars."""
        return not same_value(self.base, self.source)

    @property
    def target_changed_value(self) -> bool:
        """Whether the target changed the value as well."""
        return not same_value(self.base, self.target)

    def merge(self) -> fields.Merged:
        """Merge the values of both sides; a deletion against an edit clashes as a whole."""
        sides = [value_of(row) for row in (self.base, self.source, self.target)]
        return fields.merge(*sides)


def diff_branch(context: Context, target: str | None) -> Page[Change]:
    """Return what the context's branch changed since it and the target last had a view in common."""
    other = target_of(context, target)
    comparison = compare(context, context.branch, other)
    found = deltas(context, comparison, comparison.source, comparison.target)
    return Page([to_change(context, delta) for delta in found])


def target_of(context: Context, target: str | None) -> BranchRow:
    """Return the branch that the context's branch is compared with: the one named, else its parent."""
    if target is not None:
        return branches.named(context, target)
    parent = branches.parent_of(context, context.branch)
    if parent is None:
        raise InvalidInputError(f"branch {context.branch.name!r} has no parent; say which target= is meant")
    if not context.may_read(parent):
        raise AccessDeniedError(
            f"no permission to read the branch that {context.branch.name!r} was created from; say which target= is "
            "meant"
        )
    return parent


def compare(context: Context, source: BranchRow, target: BranchRow) -> Comparison:
    """Return the views of two branches as they are now, and their bases."""
    tx = context.tx
    ours, theirs = head_view(tx, source), head_view(tx, target)
    base = private = merge_base(tx, ours, theirs, None)
    if context.agent_id != NOBODY and tx.owns_private(context.agent_id):
        private = merge_base(tx, ours, theirs, context.agent_id)
    return Comparison(ours, theirs, base, private)


def head_view(tx: Reader, branch: BranchRow) -> View:
    """Return a branch as it is now: as of its own newest event, or of its fork if it has none."""
    return View(branch.id, max(tx.last_seq_of(branch.id), branch.fork_seq))


def merge_base(tx: Reader, one: View, other: View, agent: int | None) -> View:
    """Return the newest view that both views contain; ``agent`` counts only the merges that agent made."""
    merges = _Merges(tx, agent)
    mine, theirs = merges.reach(one), merges.reach(other)
    common = [View(branch, min(seq, theirs[branch])) for branch, seq in mine.items() if branch in theirs]
    return max(common, key=lambda view: (view.seq, view.branch))


class _Merges:
    """The merges and rollbacks of the branches that were looked at so far, and what views contain by them.

    A view contains what its lineage held, and the sources of the merges into it. A rollback of a whole branch takes
    back the merges between the view it restored and itself. Of several merges of one source the last counts: it
    brought whatever the source had become.
    """

    def __init__(self, tx: Reader, agent: int | None) -> None:
        self._tx = tx
        self._agent = agent
        self._edges: dict[int, list[MergeEdge]] = {}
        self._rollbacks: dict[int, list[RollbackRow]] = {}

    def reach(self, view: View) -> dict[int, int]:
        """Return how much of every branch a view contains, as the highest seq of each."""
        reached = self._walk(view, grows=True)
        return self._walk(view, grows=False) if any(self._rollbacks.values()) else reached

    def _walk(self, start: View, *, grows: bool) -> dict[int, int]:
        """Follow merges wave by wave. Where nothing was rolled back, a branch only ``grows``: older views are in newer.

        The first walk meets every branch that there is to meet, so it also finds whether that holds.
        """
        reached: dict[int, int] = {}
        met, wave = {start}, [start]
        while wave:
            self._load({part.branch for view in wave for part in self._tx.lineage(view.branch)})
            for view in wave:
                for branch, _, upper in self._tx.lineage(view.branch, view.seq):
                    reached[branch] = max(upper, reached.get(branch, -1))
            merged = dict.fromkeys(end for view in wave for end in self._merged(view) if end not in met)
            wave = [end for end in merged if not (grows and end.seq <= reached.get(end.branch, -1))]
            met.update(wave)
        return reached

    def _merged(self, view: View) -> Iterator[View]:
        """Yield the views that were merged into a view and not rolled back."""
        bound = view.seq
        for branch, _, upper in self._tx.lineage(view.branch):
            bound = min(bound, upper)
            sources: set[int] = set()
            while True:
                undone = next((row for row in reversed(self._rollbacks[branch]) if row.seq <= bound), None)
                for edge in reversed(self._edges[branch]):
                    if (undone is None or undone.seq < edge.seq) and edge.seq <= bound and edge.source not in sources:
                        sources.add(edge.source)
                        yield View(edge.source, edge.source_seq)
                if undone is None:
                    break
                bound = undone.to_seq

    def _load(self, branches: set[int]) -> None:
        new = sorted(branches - self._edges.keys())
        if not new:
            return
        for branch in new:
            self._edges[branch], self._rollbacks[branch] = [], []
        for edge in self._tx.records.merge_edges(new):
            if self._agent in (None, edge.agent):
                self._edges[edge.target].append(edge)
        for row in self._tx.records.rollbacks(new):
            if self._agent in (None, row.agent):
                self._rollbacks[row.branch].append(row)


def deltas(context: Context, comparison: Comparison, side: View, other: View) -> list[Delta]:
    """Return what one side of a comparison changed since the base, sorted by path and key."""
    found = _deltas(context, comparison.base, side, other, None)
    if comparison.private_base != comparison.base:
        found = [delta for delta in found if delta.slot.owner == SHARED]
        found += _deltas(context, comparison.private_base, side, other, context.agent_id)
    return sorted(found, key=lambda delta: by_name(delta.slot))


def by_name(slot: Slot) -> tuple[str, str, int]:
    """Sort entries by path and key, a shared one before a private one of the same name."""
    return slot.path, slot.key, slot.owner


def _deltas(context: Context, base: View, side: View, other: View, owner: int | None) -> list[Delta]:
    tx, now = context.tx, context.time()
    candidates = tx.changed_slots(differing(tx, base, side), context.agent_id)
    names = tx.slots(candidates)
    slots = [slot for slot in candidates if owner is None or names[slot].owner == owner]
    before, after, there = (tx.visible_many(view.branch, slots, view.seq) for view in (base, side, other))
    found: list[Delta] = []
    for slot in slots:
        rows = (before.get(slot), after.get(slot), there.get(slot))
        old, new, opposite = (versions.present(row, now) for row in rows)
        if not is_unchanged(old, new):
            found.append(Delta(names[slot], slot, old, new, opposite, *rows[1:]))
    return found


def differing(tx: Reader, one: View, other: View) -> list[Segment]:
    """Return the parts of branches that only one of two views contains."""
    uppers = [{part.branch: part.upper for part in tx.lineage(view.branch, view.seq)} for view in (one, other)]
    segments: list[Segment] = []
    for branch in uppers[0].keys() | uppers[1].keys():
        low, high = sorted(upper.get(branch, 0) for upper in uppers)
        if low < high:
            segments.append(Segment(branch, low, high))
    return segments


def same_value(one: VersionRow | None, other: VersionRow | None) -> bool:
    """Return whether two states of an entry hold the same value, or are both absent."""
    if one is None or other is None:
        return one is other
    return one.value_seq == other.value_seq or fields.same_text(one.value, other.value)


def is_unchanged(one: VersionRow | None, other: VersionRow | None) -> bool:
    """Return whether two states of an entry are equal in all that a merge carries along."""
    return same_value(one, other) and particulars(one) == particulars(other)


def particulars(row: VersionRow | None) -> tuple[Any, ...] | None:
    """Return what besides its value a merge carries along."""
    if row is None:
        return None
    return row.confidence, row.prior, row.good, row.bad, row.outcomes, row.memory_type, row.expires, row.refs


def value_of(row: VersionRow | None) -> Any:
    """Return the value of a state of an entry, ABSENT if there is none."""
    return fields.ABSENT if row is None or row.value is None else json.loads(row.value)


def conflict_of(context: Context, delta: Delta) -> Conflict | None:
    """Return the conflict that stands between both sides of an entry, None if they merge."""
    if not (delta.source_changed_value and delta.target_changed_value):
        return None
    merged, clashes = delta.merge()
    if not clashes:
        return None
    base, source, target = sides_of(context, delta)
    if source is None or target is None:
        kind = "delete_edit" if source is None else "edit_delete"
    else:
        kind = "add_add" if delta.base is None else "edit_edit"
    return Conflict(
        entity_path=delta.slot.path,
        key=delta.slot.key,
        kind=kind,
        base=base,
        source=source,
        target=target,
        fields=clashes,
        merged=None if source is None or target is None else merged,
    )


def to_change(context: Context, delta: Delta) -> Change:
    """Return a delta as a model, with its conflict if there is one."""
    base, source, target = sides_of(context, delta)
    is_hidden = base is None and delta.base is not None
    found = versions.change(delta.slot, target if is_hidden else base, source, target)
    if is_hidden:
        found = found.model_copy(update={"base": None})
    conflict = conflict_of(context, delta)
    return found if conflict is None else found.model_copy(update={"conflict": conflict})


def sides_of(context: Context, delta: Delta) -> Sequence[Any]:
    """Return base, source and target of a delta as entries, None where absent.

    The base may come from a branch merged into both; where that is hidden from the principal, so is the base.
    """
    base = delta.base if delta.base is None or context.shows(delta.base) else None
    rows = (base, delta.source, delta.target)
    return [None if row is None else versions.entry(context, row, delta.slot) for row in rows]
