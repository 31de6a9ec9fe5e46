"""Three-way difference: the base two views have in common, and what the source changed since.

A view contains another if it goes back to it through a fork or a complete merge. The base is the newest view that both
sides contain, as git's merge base; of several that do not contain each other, the one with the highest seq. A merge
counts for shared entries and for the private ones of the agent that merged, so the base is kept per slot owner.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from amfs.core import branches, fields, versions
from amfs.core.context import Context
from amfs.errors import InvalidInputError
from amfs.models import Change, Conflict, Page
from amfs.storage.base import NOBODY, SHARED, BranchRow, Reader, Segment, Slot, VersionRow


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
    return branches.named(context, parent.name)


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
    mine, theirs = _reach(tx, one, agent), _reach(tx, other, agent)
    common = [View(branch, min(seq, theirs[branch])) for branch, seq in mine.items() if branch in theirs]
    return max(common, key=lambda view: (view.seq, view.branch))


def _reach(tx: Reader, view: View, agent: int | None) -> dict[int, int]:
    """Return how much of every branch a view contains, as the highest seq of each."""
    reached: dict[int, int] = {}
    wave = [view]
    while wave:
        for branch, seq in wave:
            reached[branch] = max(seq, reached.get(branch, -1))
        ends = {branch: reached[branch] for branch, _ in wave}
        # Edges come oldest first; of those from one source the last contains the others.
        newest: dict[tuple[int, int], View] = {}
        for edge in tx.records.merge_edges(list(ends)):
            if edge.seq <= ends[edge.target] and agent in (None, edge.agent):
                newest[edge.target, edge.source] = View(edge.source, edge.source_seq)
        rows = (tx.branch_by_id(branch) for branch in ends)
        parents = [View(row.parent, min(row.fork_seq, ends[row.id])) for row in rows if row.parent is not None]
        wave = [end for end in (*parents, *newest.values()) if end.seq > reached.get(end.branch, -1)]
    return reached


def deltas(context: Context, comparison: Comparison, side: View, other: View) -> list[Delta]:
    """Return what one side of a comparison changed since the base, sorted by path and key."""
    found = _deltas(context, comparison.base, side, other, None)
    if comparison.private_base != comparison.base:
        found = [delta for delta in found if delta.slot.owner == SHARED]
        found += _deltas(context, comparison.private_base, side, other, context.agent_id)
    return sorted(found, key=lambda delta: (delta.slot.path, delta.slot.key, delta.slot.owner))


def _deltas(context: Context, base: View, side: View, other: View, owner: int | None) -> list[Delta]:
    tx, now = context.tx, context.time()
    candidates = tx.changed_slots(_differing(tx, base, side), context.agent_id)
    names = tx.slots(candidates)
    slots = [slot for slot in candidates if owner is None or names[slot].owner == owner]
    before, after, there = (tx.visible_many(view.branch, slots, view.seq) for view in (base, side, other))
    found: list[Delta] = []
    for slot in slots:
        rows = (before.get(slot), after.get(slot), there.get(slot))
        old, new, opposite = (versions.present(row, now) for row in rows)
        if not (same_value(old, new) and particulars(old) == particulars(new)):
            found.append(Delta(names[slot], slot, old, new, opposite, *rows[1:]))
    return found


def _differing(tx: Reader, one: View, other: View) -> list[Segment]:
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
    clashes = delta.merge().clashes
    if not clashes:
        return None
    base, source, target = sides_of(context, delta)
    if source is None or target is None:
        kind = "delete_edit" if source is None else "edit_delete"
    else:
        kind = "add_add" if base is None else "edit_edit"
    return Conflict(
        entity_path=delta.slot.path,
        key=delta.slot.key,
        kind=kind,
        base=base,
        source=source,
        target=target,
        fields=clashes,
    )


def to_change(context: Context, delta: Delta) -> Change:
    """Return a delta as a model, with its conflict if there is one."""
    found = versions.change(delta.slot, *sides_of(context, delta))
    conflict = conflict_of(context, delta)
    return found if conflict is None else found.model_copy(update={"conflict": conflict})


def sides_of(context: Context, delta: Delta) -> Sequence[Any]:
    """Return base, source and target of a delta as entries, None where absent."""
    rows = (delta.base, delta.source, delta.target)
    return [None if row is None else versions.entry(context, row, delta.slot) for row in rows]
