"""What users hold: entries, events, branches, changes and results, as frozen pydantic models.

Every model prints readably (``str``), shows well in a notebook (``amfs.display``) and dumps to JSON
(``model_dump(mode="json")``). Enums are ``StrEnum``s: plain strings are accepted wherever one is expected.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

from amfs import display

__all__ = [
    "KEEP_CONFLICT",
    "Branch",
    "BranchStatus",
    "Cause",
    "Change",
    "Conflict",
    "ConflictPolicy",
    "Delete",
    "DiffType",
    "Durability",
    "Entry",
    "Event",
    "EventType",
    "Evidence",
    "ExperimentRecord",
    "ExperimentStatus",
    "Explanation",
    "FieldChange",
    "Find",
    "Get",
    "JsonValue",
    "ListPaths",
    "MemoryType",
    "MergeResult",
    "MergeStatus",
    "MergeStrategy",
    "Operation",
    "Outcome",
    "OutcomeType",
    "Page",
    "PathInfo",
    "Problem",
    "Put",
    "ReadEvents",
    "Stats",
    "VerifyReport",
]

T = TypeVar("T")


class _Keep:
    """The type of KEEP_CONFLICT."""

    def __repr__(self) -> str:
        return "KEEP_CONFLICT"


KEEP_CONFLICT = _Keep()
"""What a merge resolver returns to leave a conflict standing."""


# --- words -----------------------------------------------------------------------------------------------------------


class MemoryType(StrEnum):
    """What kind of thing an entry is. ``message`` is chat history: left out of lists and timelines unless asked for."""

    FACT = "fact"
    BELIEF = "belief"
    EXPERIENCE = "experience"
    PROCEDURE = "procedure"
    MESSAGE = "message"


class EventType(StrEnum):
    """What can happen on a timeline."""

    WRITE = "write"
    DELETE = "delete"
    OUTCOME = "outcome"
    CROSS_AGENT_READ = "cross_agent_read"
    BRIEF_COMPILED = "brief_compiled"
    WEBHOOK_INGESTED = "webhook_ingested"
    BRANCH_CREATED = "branch_created"
    BRANCH_MERGED = "branch_merged"
    BRANCH_CLOSED = "branch_closed"
    ACCESS_GRANTED = "access_granted"
    ACCESS_REVOKED = "access_revoked"
    TAG_CREATED = "tag_created"
    TAG_DELETED = "tag_deleted"
    ROLLBACK = "rollback"
    CHERRY_PICK = "cherry_pick"
    FORK = "fork"
    READ = "read"
    PULL_REQUEST_OPENED = "pull_request_opened"
    PULL_REQUEST_REVIEWED = "pull_request_reviewed"
    PULL_REQUEST_MERGED = "pull_request_merged"
    PULL_REQUEST_CLOSED = "pull_request_closed"
    CONFLICT_RESOLVED = "conflict_resolved"
    CONTEXT = "context"


class OutcomeType(StrEnum):
    """How using memory ended."""

    SUCCESS = "success"
    MINOR_FAILURE = "minor_failure"
    FAILURE = "failure"
    CRITICAL_FAILURE = "critical_failure"


class ConflictPolicy(StrEnum):
    """What happens when two agents write one key at once."""

    LAST_WRITE_WINS = "last_write_wins"
    RAISE = "raise"


class MergeStrategy(StrEnum):
    """How a merge treats what both sides changed."""

    FAST_FORWARD = "fast_forward"
    THREE_WAY = "three_way"
    SOURCE_WINS = "source_wins"
    TARGET_WINS = "target_wins"
    MANUAL = "manual"
    THEIRS = "source_wins"
    OURS = "target_wins"
    BRANCH_WINS = "source_wins"
    MAIN_WINS = "target_wins"

    @classmethod
    def _missing_(cls, value: object) -> MergeStrategy | None:
        aliases = {"theirs": "source_wins", "ours": "target_wins"}
        aliases |= {"branch_wins": "source_wins", "main_wins": "target_wins"}
        return cls(aliases[value]) if isinstance(value, str) and value in aliases else None


class MergeStatus(StrEnum):
    """What a merge did, or would do."""

    FAST_FORWARD = "fast_forward"
    MERGED = "merged"
    UP_TO_DATE = "up_to_date"
    CONFLICTS = "conflicts"
    REFUSED = "refused"


class BranchStatus(StrEnum):
    """Whether a branch can be written. A merged branch stays open."""

    OPEN = "open"
    CLOSED = "closed"


class DiffType(StrEnum):
    """What the source did to an entry since the base."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"


class ExperimentStatus(StrEnum):
    """Where an experiment stands."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    MERGED = "merged"
    DISCARDED = "discarded"


class Durability(StrEnum):
    """What an acknowledged write survives: ``full`` also survives power loss, ``normal`` the death of the process."""

    FULL = "full"
    NORMAL = "normal"


class ReadEvents(StrEnum):
    """When cross-agent reads are recorded: before the value is returned, together with the next write, or never."""

    SYNC = "sync"
    BATCHED = "batched"
    OFF = "off"


# --- models ----------------------------------------------------------------------------------------------------------


class Model(BaseModel):
    """Base of all models: frozen, strict about unknown fields, displayed by ``amfs.display``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __str__(self) -> str:
        return display.text(self)

    def _repr_html_(self) -> str:
        return display.html(self)

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(display.text(self))


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


class FieldChange(Model):
    """One field that differs: ``path`` is a JSON Pointer (RFC 6901), ``operation`` is add, remove or replace."""

    path: str
    operation: str
    old: Any = None
    new: Any = None


class Conflict(Model):
    """Both sides changed one entry in ways that cannot both stand.

    ``kind`` is edit_edit, edit_delete (the source edited, the target deleted), delete_edit or add_add; ``fields``
    are the JSON Pointers that clash (``""`` is the whole value).
    """

    entity_path: str
    key: str
    kind: str
    base: Entry | None
    source: Entry | None
    target: Entry | None
    fields: tuple[str, ...]


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

    ``base``, ``source_seq`` and ``target_seq`` are the views compared; ``event`` is the seq of the branch_merged
    event, None if nothing was written.
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


class Evidence(Model):
    """What outcomes say about a value: ``prior`` is the confidence it was written with."""

    prior: float
    good: float
    bad: float
    confidence: float


class Cause(Model):
    """An entry that an outcome judged: the version that was read, and the confidence before and after.

    ``skipped`` says why the outcome did not move it (None if it did).
    """

    entry: Entry
    confidence_before: float
    confidence_after: float | None
    skipped: str | None = None


class Outcome(Model):
    """What ``commit_outcome`` recorded. ``recorded`` is False when the same ref and type had been recorded before."""

    outcome_ref: str
    outcome_type: OutcomeType
    causal_confidence: float
    seq: int
    recorded: bool
    entries: tuple[Entry, ...]
    causes: tuple[Cause, ...]

    @property
    def skipped(self) -> tuple[Cause, ...]:
        """The causes the outcome did not move, each with its reason."""
        return tuple(cause for cause in self.causes if cause.skipped)


class Explanation(Model):
    """Why an outcome came about: the events recorded under its ref, the entries that were read, the context noted."""

    outcome_ref: str
    outcomes: tuple[Event, ...]
    causes: tuple[Cause, ...]
    contexts: tuple[Event, ...]


class PathInfo(Model):
    """An entity path and how many live entries stand directly under it."""

    entity_path: str
    entries: int


class ExperimentRecord(Model):
    """What is known of an experiment: its branch, parameters, metrics and how it ended."""

    name: str
    branch: str
    source: str
    params: dict[str, Any]
    metrics: dict[str, Any]
    status: ExperimentStatus
    error: str | None
    agent_id: str
    started_at: datetime
    ended_at: datetime | None


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


class Page(list[T]):
    """A list that knows where the next page starts: pass ``next_cursor`` as ``cursor=``; None at the end."""

    __slots__ = ("next_cursor",)

    def __init__(self, items: list[T] | None = None, next_cursor: str | None = None) -> None:
        super().__init__(items or ())
        self.next_cursor = next_cursor

    def __str__(self) -> str:
        return display.text(self)

    def _repr_html_(self) -> str:
        return display.html(self)

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(display.text(self))


# --- operations of a batch -------------------------------------------------------------------------------------------
# Plain records: the gate checks what is in them.


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Write an entry; the arguments are those of ``AgentMemory.write``."""

    entity_path: str
    key: str
    value: Any
    confidence: float = 1.0
    memory_type: MemoryType | str = MemoryType.FACT
    pattern_refs: Iterable[str] = ()
    shared: bool = True
    ttl: float | timedelta | None = None
    expected_version: int | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete an entry; deleting an absent one does nothing."""

    entity_path: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Get:
    """Read an entry. The result is an Entry or None."""

    entity_path: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """List entries below a path, newest first, filtered by the fields of their values.

    ``entity_path=None`` is everything. ``filter`` maps a field to a value or to operators (``$eq $ne $gt $gte $lt
    $lte $in``), ``$and`` and ``$or`` combine. The result is a list of entries.
    """

    entity_path: str | None = None
    filter: dict[str, Any] | None = None
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPaths:
    """List entity paths that hold live entries, in text order by segment.

    ``prefix`` and ``suffix`` are segments, ``*`` standing for any one; ``max_depth`` cuts paths to that many segments
    (and makes them distinct). The result is a list of PathInfo.
    """

    prefix: tuple[str, ...] = ()
    suffix: tuple[str, ...] = ()
    max_depth: int | None = None
    limit: int | None = None
    offset: int = 0


Operation = Put | Delete | Get | Find | ListPaths
"""What ``AgentMemory.apply`` takes several of."""
