"""What memory holds: entries, events, branches."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from amfs.models.base import Model
from amfs.models.words import BranchStatus, EventType, MemoryType


class Entry(Model):
    """What a key holds on a branch: one version.

    ``seq`` identifies the version, ``version`` is its ordinal along the branch. ``branch`` is where the version was
    made (an inherited entry names the ancestor). ``agent_id`` wrote the value, ``committed_by`` made this version.
    ``created_at`` belongs to the key, ``written_at`` to the version. ``value`` is the caller's own copy.
    """

    entity_path: str
    key: str
    value: Any
    version: int
    seq: int
    confidence: float
    branch: str
    memory_type: MemoryType
    shared: bool
    superseded: bool
    deleted: bool
    outcome_count: int
    expires_at: datetime | None
    pattern_refs: tuple[str, ...]
    agent_id: str
    committed_by: str
    session_id: str
    run_id: str | None
    created_at: datetime
    written_at: datetime

    @property
    def entry_key(self) -> str:
        """The path and key joined by a slash, for display only."""
        return f"{self.entity_path}/{self.key}"


class Event(Model):
    """One thing that happened, on one branch, by one agent.

    ``agent_id`` is whose timeline it stands on, ``actor`` who did it (another agent only for ``cross_agent_read``).
    Events with a common ``group`` were committed together.
    """

    seq: int
    event_type: EventType
    agent_id: str
    actor: str
    branch: str
    summary: str
    details: dict[str, Any]
    group: int | None
    session_id: str
    run_id: str | None
    created_at: datetime


class Branch(Model):
    """A line of memory. ``fork_seq`` is the view of ``parent`` it started from; both are None for main."""

    name: str
    parent: str | None
    fork_seq: int | None
    status: BranchStatus
    description: str
    created_by: str | None
    created_at: datetime
    depth: int


class PathInfo(Model):
    """An entity path and how many live entries stand directly under it."""

    entity_path: str
    entries: int
