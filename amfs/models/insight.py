"""What can be said about a database as a whole."""

from __future__ import annotations

from typing import Any

from amfs.models.base import Model
from amfs.models.entries import Entry
from amfs.models.words import EventType


class Stats(Model):
    """Figures about the database and what this agent can see on the current branch."""

    database: str
    namespace: str
    branch: str
    agent_id: str
    entries: int
    versions: int
    events: int
    branches: int
    agents: int
    file_bytes: int
    durability: str
    read_events: str
    read_only: bool
    schema_version: int
    sqlite_version: str
    notes: tuple[str, ...]


class Problem(Model):
    """One violated invariant: ``check`` names it, ``detail`` says where."""

    check: str
    detail: str


class VerifyReport(Model):
    """The result of ``verify()``: which invariants were checked and what violates them."""

    checks: tuple[str, ...]
    versions: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


class Origin(Model):
    """Where an entry, or one field of it, came from.

    ``path`` is a JSON Pointer (RFC 6901; ``""`` is the whole value) and ``value`` what stands there now. ``version``
    brought it: who wrote it, on which branch, in which run. ``event_type`` and ``event`` say how: a write, or the
    larger event (rollback, merge with a resolver ...) that made the version. ``merges`` are the seqs of the merges and
    cherry-picks that carried it here, first to last; ``outcomes`` the outcomes that judged the entry since, oldest
    first.
    """

    path: str
    value: Any
    version: Entry
    event_type: EventType
    event: int
    merges: tuple[int, ...]
    outcomes: tuple[str, ...]


class Blame(Model):
    """Where an entry came from, as a whole and field by field (a field of a field has its own Origin)."""

    entry: Entry
    origin: Origin
    fields: tuple[Origin, ...]
