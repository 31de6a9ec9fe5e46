"""What differs between two states, and what a merge makes of it."""

from __future__ import annotations

from typing import Any

from amfs.models.base import Model
from amfs.models.entries import Entry
from amfs.models.words import ConflictStatus, DiffType, MergeStatus, Side


class _Keep:
    """The type of KEEP_CONFLICT."""

    def __repr__(self) -> str:
        return "KEEP_CONFLICT"


KEEP_CONFLICT = _Keep()
"""What a merge resolver returns to leave a conflict standing."""


class FieldChange(Model):
    """One field that differs: ``path`` is a JSON Pointer (RFC 6901), ``operation`` is add, remove or replace."""

    path: str
    operation: str
    old: Any = None
    new: Any = None


class Conflict(Model):
    """Both sides changed one entry in ways that cannot both stand.

    ``kind`` is edit_edit, edit_delete (the source edited, the target deleted), delete_edit or add_add; ``fields``
    are the JSON Pointers that clash (``""`` is the whole value). ``merged`` is what did merge: both sides' other
    fields, with the target's where they clash; None where a side is absent.

    A merge with strategy ``manual`` stores its conflicts: they have an ``id`` for ``resolve_conflict``, a status, the
    names of both branches and, once resolved, who resolved them and by taking what (``take`` None: a value of their
    own).
    """

    entity_path: str
    key: str
    kind: str
    base: Entry | None
    source: Entry | None
    target: Entry | None
    fields: tuple[str, ...]
    merged: Any = None
    id: int | None = None
    status: ConflictStatus = ConflictStatus.OPEN
    source_branch: str | None = None
    target_branch: str | None = None
    take: Side | None = None
    resolved_by: str | None = None

    @property
    def entry_key(self) -> str:
        """The path and key joined by a slash, for display only."""
        return f"{self.entity_path}/{self.key}"


class Change(Model):
    """What the source changed in one entry since the base.

    A side on which the entry is absent is None; ``conflict`` is set if both sides changed it and clash.
    """

    diff_type: DiffType
    entity_path: str
    key: str
    base: Entry | None
    source: Entry | None
    target: Entry | None
    field_changes: tuple[FieldChange, ...]
    conflict: Conflict | None = None

    @property
    def entry_key(self) -> str:
        """The path and key joined by a slash, for display only."""
        return f"{self.entity_path}/{self.key}"


class MergeResult(Model):
    """What a merge did, or (dry run) would do. ``applied`` and ``skipped`` hold one Change per entry.

    Of a merge with conflicts nothing is applied; ``applied`` then holds what would merge, ``merged_entries`` is 0.

    ``base_seq``, ``source_seq`` and ``target_seq`` are the views compared; ``event`` is the seq of the branch_merged
    (or cherry_pick) event, None if nothing was written.
    """

    source: str
    target: str
    strategy: str
    status: MergeStatus
    merged_entries: int
    applied: tuple[Change, ...]
    skipped: tuple[Change, ...]
    conflicts: tuple[Conflict, ...]
    base_branch: str
    base_seq: int
    source_seq: int
    target_seq: int
    event: int | None
    dry_run: bool


class RollbackResult(Model):
    """What a rollback did, or (dry run) would do, with one Change per entry from what it was to what it became.

    ``seq`` is the view that was restored. ``skipped`` are the entries that a rollback of one author (``agent_id``)
    left alone, since others built on top. ``others`` counts the entries that other agents had written since. ``event``
    is the seq of the rollback event, None if nothing was written.
    """

    branch: str
    seq: int
    agent_id: str | None
    restored_entries: int
    restored: tuple[Change, ...]
    skipped: tuple[Change, ...]
    others: dict[str, int]
    event: int | None
    dry_run: bool
