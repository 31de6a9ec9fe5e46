"""What the core asks of a storage, and the rows it gets back.

A storage speaks integers: namespaces, agents, branches, runs and slots (an owner, an entity path and a key) have ids
that never change, so they may be cached. Instants are microseconds since 1970 UTC. ``value``, ``refs`` and ``details``
are JSON text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from amfs.models import EventType, MemoryType, Tokenizer
from amfs.storage.briefs import BriefKey, BriefRow, CoveredRow

SHARED = 0
"""The owner of shared slots; any other owner is the id of the agent whose private space it is."""

NOW = 2**63 - 1
"""The view bound that means "whatever is newest"."""

NOBODY = -1
"""The id of an agent that has not acted yet: it owns nothing."""

SLOT_BITS = 24
"""A slot's id is that of its path, shifted by these, plus a number: a path's keys are numbered as first written."""

EVENT_CODE: Mapping[EventType, int] = {
    EventType.WRITE: 1,
    EventType.DELETE: 2,
    EventType.OUTCOME: 3,
    EventType.CROSS_AGENT_READ: 4,
    EventType.BRIEF_COMPILED: 5,
    EventType.WEBHOOK_INGESTED: 6,
    EventType.BRANCH_CREATED: 7,
    EventType.BRANCH_MERGED: 8,
    EventType.BRANCH_CLOSED: 9,
    EventType.ACCESS_GRANTED: 10,
    EventType.ACCESS_REVOKED: 11,
    EventType.TAG_CREATED: 12,
    EventType.TAG_DELETED: 13,
    EventType.ROLLBACK: 14,
    EventType.CHERRY_PICK: 15,
    EventType.FORK: 16,
    EventType.READ: 17,
    EventType.PULL_REQUEST_OPENED: 18,
    EventType.PULL_REQUEST_REVIEWED: 19,
    EventType.PULL_REQUEST_MERGED: 20,
    EventType.PULL_REQUEST_CLOSED: 21,
    EventType.CONFLICT_RESOLVED: 22,
    EventType.CONTEXT: 23,
}
"""How event types are stored. Codes are never reused; 1 (write) and 5 below are literals in partial indexes."""

EVENT_TYPE: Mapping[int, EventType] = {code: event_type for event_type, code in EVENT_CODE.items()}

MEMORY_CODE: Mapping[MemoryType, int] = {
    MemoryType.FACT: 1,
    MemoryType.BELIEF: 2,
    MemoryType.EXPERIENCE: 3,
    MemoryType.PROCEDURE: 4,
    MemoryType.MESSAGE: 5,
}
"""How memory types are stored."""

MEMORY_TYPE: Mapping[int, MemoryType] = {code: memory_type for memory_type, code in MEMORY_CODE.items()}


class BranchRow(NamedTuple):
    """What never changes about a branch."""

    id: int
    namespace: int
    name: str
    parent: int | None
    fork_seq: int
    depth: int
    created_by: int | None
    created_at: int
    description: str


class Segment(NamedTuple):
    """The part of a branch's own rows that belongs to a view: those with ``lower < seq <= upper``."""

    branch: int
    lower: int
    upper: int


class Position(NamedTuple):
    """Where the log stands and whether the branch accepts writes."""

    is_open: bool
    seq: int
    ts: int


class Slot(NamedTuple):
    """The identity of an entry."""

    owner: int
    path: str
    key: str


class VersionRow(NamedTuple):
    """One version. ``value_seq`` is the version that owns the value, never one that refers on."""

    seq: int
    ts: int
    branch: int
    slot: int
    version: int
    live: int
    value: str | None
    value_seq: int
    agent: int
    author: int
    run: int
    confidence: float
    memory_type: int
    prior: float
    good: float
    bad: float
    outcomes: int
    born: int
    expires: int | None
    refs: str | None


class NewVersion(NamedTuple):
    """A version to append. Where ``value_seq`` refers to another version, the value is not stored again."""

    row: VersionRow
    event_type: int
    cause: int | None
    group: int | None
    origin: int | None
    details: str | None


class NewEvent(NamedTuple):
    """An event without a version of its own, to append."""

    seq: int
    ts: int
    branch: int
    event_type: int
    agent: int
    actor: int | None
    group: int | None
    run: int
    details: str | None


class EventRow(NamedTuple):
    """An event as stored; the last seven columns are None unless it is a version too."""

    seq: int
    ts: int
    branch: int
    event_type: int
    agent: int
    actor: int | None
    group: int | None
    run: int
    details: str | None
    slot: int | None
    version: int | None
    confidence: float | None
    memory_type: int | None
    path: str | None
    key: str | None
    owner: int | None


class RunRow(NamedTuple):
    """A session (``name`` is empty) or a run inside one."""

    id: int
    session: str
    name: str


class MergeEdge(NamedTuple):
    """A complete merge: from event ``seq`` on, ``target`` contains ``source`` as of ``source_seq``."""

    target: int
    seq: int
    source: int
    source_seq: int
    agent: int


class ExperimentRow(NamedTuple):
    """An experiment as stored; ``params`` and ``metrics`` are JSON text."""

    branch: int
    name: str
    source: int
    params: str
    metrics: str
    status: str
    error: str | None
    agent: int
    started: int
    ended: int | None


class TagRow(NamedTuple):
    """A name for a view."""

    namespace: int
    name: str
    branch: int
    seq: int
    description: str
    agent: int
    created_at: int


class RollbackRow(NamedTuple):
    """A rollback of a whole branch: event ``seq`` restored the view as of ``to_seq``, for shared and own entries."""

    branch: int
    seq: int
    to_seq: int
    agent: int


class PullRequestRow(NamedTuple):
    """A pull request as stored."""

    id: int
    namespace: int
    title: str
    description: str
    source: int
    target: int
    agent: int
    created_at: int
    status: str
    ended_by: int | None
    ended_at: int | None
    merge_event: int | None


class ReviewRow(NamedTuple):
    """A review; ``seq`` is its event, ``source_seq`` the newest shared version on the source that was reviewed."""

    seq: int
    pull_request: int
    agent: int
    verdict: str
    comment: str
    source_seq: int
    created_at: int


class PendingMergeRow(NamedTuple):
    """A merge that waits until its conflicts are resolved; ``paths`` is JSON text or None."""

    id: int
    namespace: int
    source: int
    target: int
    paths: str | None
    close: int
    pull_request: int | None
    is_open: int


class ConflictRow(NamedTuple):
    """A stored conflict: the versions of the three sides (0: absent) and, once resolved, how.

    ``take`` names a side, or ``value`` is the JSON text chosen instead.
    """

    id: int
    merge: int
    slot: int
    base: int
    source: int
    target: int
    status: str
    take: str | None
    value: str | None
    agent: int | None


class GrantRow(NamedTuple):
    """Access of a user, a team or an API key to a branch."""

    branch: int
    grantee_type: str
    grantee: str
    permission: str
    agent: int
    created_at: int


class ApiKeyRow(NamedTuple):
    """An API key; ``digest`` is the SHA-256 of its secret, ``agents`` JSON text."""

    id: str
    namespace: int
    name: str
    digest: bytes
    agents: str
    role: str
    agent: int
    created_at: int
    expires_at: int | None
    revoked_at: int | None


class Making(NamedTuple):
    """How a version came to be: its type, the larger event that made it, and the version it was taken from."""

    seq: int
    event_type: int
    cause: int | None
    origin: int | None


ExportRow = dict[str, str | int | float]
"""A row of an exported namespace: column names and values, without those that hold nothing."""

JSON_COLUMNS = frozenset({"value", "refs", "details", "metadata", "params", "metrics", "paths"})
"""The columns of exported rows that are JSON text."""


class TimelineFilter(NamedTuple):
    """Which events to return, newest first: ``after < seq < before``; ``agent`` or ``branch`` None means any.

    ``branches`` are those the viewer may read (None: all).
    """

    namespace: int
    viewer: int
    agent: int | None
    branch: int | None
    event_type: int | None
    messages: bool
    branches: Sequence[int] | None
    after: int
    before: int
    limit: int


class ListFilter(NamedTuple):
    """Which entries of a view to return, in the order in which their slots were first written.

    ``path`` None is every path; ``prefix`` adds the paths below it. ``now`` hides what has expired (None: nothing
    has). ``memory_type`` None is every type but messages.
    """

    viewer: int
    path: str | None
    prefix: bool
    memory_type: int | None
    now: int | None
    after: int
    limit: int


class SearchIndex(Enum):
    """Which documents to search: those that some branch sees now, or all that ever were."""

    CURRENT = "current"
    EVER = "ever"


class SearchFilter(NamedTuple):
    """Which versions of a view a search may find: ``first <= seq <= last``, ``memory_types`` None is all but messages.

    ``now`` hides what has expired (None: nothing has); ``path`` takes in the paths below it.
    """

    viewer: int
    upto: int
    now: int | None
    path: str | None
    author: int | None
    memory_types: Sequence[int] | None
    least_confidence: float
    first: int
    last: int


class Vector(NamedTuple):
    """A document, whose it is, and, if its text has one, the id of its vector and the vector as single precision."""

    doc: int
    owner: int
    embedding: int | None
    vector: bytes | None


class SearchReader(Protocol):
    """What the search index can be asked; a document is the first version that brought a value to its slot."""

    def tokenizer(self) -> Tokenizer: ...
    def extent(self, index: SearchIndex) -> tuple[int, int]: ...
    def ranked(
        self, index: SearchIndex, words: Sequence[str], viewer: int, path: str | None
    ) -> Iterator[tuple[int, float]]: ...
    def scores(self, index: SearchIndex, words: Sequence[str], docs: Sequence[int]) -> dict[int, float]: ...
    def documents(
        self, branch: BranchRow, docs: Sequence[int], which: SearchFilter
    ) -> list[tuple[int, VersionRow]]: ...
    def slots(self, branch: BranchRow, slots: Sequence[int], which: SearchFilter) -> list[tuple[int, VersionRow]]: ...
    def embedders(self) -> list[tuple[int, str, bytes]]: ...
    def vectors(self, index: SearchIndex, embedder: int, namespaces: Sequence[int], after: int) -> Iterator[Vector]: ...
    def embeddings(self, embedder: int, digests: Sequence[str]) -> dict[str, tuple[int, bytes]]: ...


class SearchWriter(SearchReader, Protocol):
    """What can be written to the search index, inside a transaction; none of it is part of memory."""

    def make_anew(self, tokenizer: Tokenizer) -> None: ...
    def add_embedder(self, name: str, probes: bytes) -> int: ...
    def add_embeddings(self, embedder: int, vectors: Mapping[str, bytes], docs: Mapping[int, str]) -> None: ...


class RecordReader(Protocol):
    """What stands beside the log and can be read."""

    def idempotent(self, namespace: int, agent: int, token: str) -> tuple[int, str] | None: ...
    def outcome(self, namespace: int, ref: str, outcome_type: str) -> int | None: ...
    def outcomes(self, namespace: int, ref: str) -> list[int]: ...
    def read_set(self, runs: Sequence[int], outcome: int) -> list[int]: ...
    def judged(self, outcome: int) -> list[tuple[int, int | None, str | None]]: ...
    def experiments(self, namespace: int) -> list[ExperimentRow]: ...
    def experiment(self, branch: int) -> ExperimentRow | None: ...
    def merge_edges(self, targets: Sequence[int]) -> list[MergeEdge]: ...
    def census(self, branch: int, owner: int) -> tuple[int, int] | None: ...
    def rollbacks(self, branches: Sequence[int]) -> list[RollbackRow]: ...
    def tag(self, namespace: int, name: str) -> TagRow | None: ...
    def tags(self, namespace: int) -> list[TagRow]: ...
    def pull_request(self, namespace: int, number: int) -> PullRequestRow | None: ...
    def pull_requests(self, namespace: int) -> list[PullRequestRow]: ...
    def reviews(self, pull_requests: Sequence[int]) -> list[ReviewRow]: ...
    def pending_merges(self, namespace: int) -> list[PendingMergeRow]: ...
    def open_merges(self, namespace: int) -> list[PendingMergeRow]: ...
    def conflict(self, namespace: int, number: int) -> tuple[ConflictRow, PendingMergeRow] | None: ...
    def conflicts(self, merges: Sequence[int]) -> list[ConflictRow]: ...
    def grants(self, branch: int) -> list[GrantRow]: ...
    def grants_of(self, namespace: int, grantees: Sequence[tuple[str, str]]) -> list[tuple[int, str]]: ...
    def api_key(self, key: str) -> ApiKeyRow | None: ...
    def api_keys(self, namespace: int) -> list[ApiKeyRow]: ...
    def brief(self, key: BriefKey) -> BriefRow | None: ...


class RecordWriter(RecordReader, Protocol):
    """What stands beside the log and can be written, inside a transaction."""

    def add_merge_edge(self, edge: MergeEdge) -> None: ...
    def add_idempotent(self, namespace: int, agent: int, token: str, seq: int, request: str) -> None: ...
    def add_outcome(self, namespace: int, ref: str, outcome_type: str, seq: int) -> None: ...
    def add_reads(self, run: int, reads: Mapping[int, int]) -> None: ...
    def judge_reads(self, runs: Sequence[int], seqs: Sequence[int], outcome: int) -> None: ...
    def add_judged(self, outcome: int, judged: Sequence[tuple[int, int | None, str | None]]) -> None: ...
    def save_experiment(self, row: ExperimentRow) -> None: ...
    def save_census(self, branch: int, owner: int, seq: int, entries: int) -> None: ...
    def add_rollback(self, row: RollbackRow) -> None: ...
    def add_tag(self, row: TagRow) -> None: ...
    def delete_tag(self, namespace: int, name: str) -> None: ...
    def add_pull_request(self, row: PullRequestRow) -> int: ...
    def end_pull_request(self, row: PullRequestRow) -> None: ...
    def add_review(self, row: ReviewRow) -> None: ...
    def add_pending_merge(self, row: PendingMergeRow) -> int: ...
    def save_pending_merge(self, row: PendingMergeRow) -> None: ...
    def end_pending_merge(self, number: int) -> None: ...
    def add_conflict(self, row: ConflictRow) -> int: ...
    def save_conflict(self, row: ConflictRow) -> None: ...
    def save_grant(self, row: GrantRow) -> None: ...
    def delete_grant(self, branch: int, grantee_type: str, grantee: str) -> bool: ...
    def add_api_key(self, row: ApiKeyRow) -> None: ...
    def revoke_api_key(self, key: str, now: int) -> None: ...
    def save_brief(self, row: BriefRow) -> None: ...


class Reader(Protocol):
    """What can be read inside one consistent view of the database."""

    # names
    def namespace(self, name: str) -> int | None: ...
    def namespace_name(self, namespace: int) -> str: ...
    def agent(self, name: str) -> int | None: ...
    def agent_name(self, agent: int) -> str: ...
    def agent_home(self, name: str) -> str | None: ...
    def branch(self, namespace: int, name: str) -> BranchRow | None: ...
    def branch_by_id(self, branch: int) -> BranchRow: ...
    def branches(self, namespace: int) -> list[tuple[BranchRow, bool]]: ...
    def is_open(self, branch: int) -> bool: ...
    def lineage(self, branch: int, upto: int = NOW) -> list[Segment]: ...
    def run(self, run: int) -> RunRow: ...
    def runs(self, namespace: int, name: str) -> list[int]: ...
    def slot(self, owner: int, path: str, key: str) -> int | None: ...
    def slots(self, ids: Iterable[int]) -> Mapping[int, Slot]: ...
    def owns_private(self, agent: int) -> bool: ...

    # versions
    def current(self, branch: BranchRow, path: str, key: str, agent: int) -> tuple[VersionRow | None, bool]: ...
    def visible(self, branch: BranchRow, slot: int, upto: int = NOW) -> VersionRow | None: ...
    def visible_many(self, branch: int, slots: Sequence[int], upto: int = NOW) -> dict[int, VersionRow]: ...
    def version(self, seq: int) -> VersionRow | None: ...
    def versions(self, seqs: Sequence[int]) -> dict[int, VersionRow]: ...
    def makings(self, seqs: Sequence[int]) -> dict[int, Making]: ...
    def newest_by(self, branch: int, slot: int, author: int) -> VersionRow | None: ...
    def list(self, branch: BranchRow, upto: int, which: ListFilter) -> list[VersionRow]: ...
    def newest(self, branch: BranchRow, which: ListFilter) -> Iterator[VersionRow]: ...
    def covered(self, branch: BranchRow, which: ListFilter) -> list[CoveredRow]: ...
    def private(self, branch: BranchRow, owner: int, now: int) -> list[VersionRow]: ...
    def paths(self, branch: BranchRow, viewer: int, now: int) -> list[tuple[str, int]]: ...
    def history(self, branch: int, slot: int, upto: int = NOW) -> list[VersionRow]: ...
    def all_versions(self, branch: int, upto: int, which: ListFilter) -> list[VersionRow]: ...
    def changed_slots(self, segments: Sequence[Segment], viewer: int) -> set[int]: ...
    def committers(self, segments: Sequence[Segment], viewer: int, namespace: int) -> set[tuple[int, int]]: ...
    def slots_authored(self, segments: Sequence[Segment], viewer: int, author: int) -> list[int]: ...
    def histories(self, branch: int, slots: Sequence[int], after: int) -> list[VersionRow]: ...
    def find_joined(self, name: str, viewer: int) -> list[int]: ...

    # events
    def event(self, seq: int) -> EventRow | None: ...
    def timeline(self, which: TimelineFilter) -> list[EventRow]: ...
    def contexts(self, run: int, outcome: int) -> list[EventRow]: ...
    def judging(
        self, branch: int, values: Sequence[tuple[int, int]], branches: Sequence[int] | None, limit: int
    ) -> list[int]: ...
    def seq_at(self, ts: int, branch: int) -> int: ...
    def end_of_event(self, seq: int) -> int: ...
    def last_seq(self) -> int: ...
    def last_ts(self) -> int: ...
    def last_seq_of(self, branch: int) -> int: ...
    def last_shared_version(self, branch: int, upto: int) -> int: ...
    def first_ts(self, branch: int) -> int | None: ...

    # beside the log
    @property
    def records(self) -> RecordReader: ...
    @property
    def search(self) -> SearchReader: ...

    # the whole
    def count_lasting(self, branch: BranchRow, owner: int) -> int: ...
    def count_expiring(self, branch: BranchRow, viewer: int, now: int) -> int: ...
    def counts(
        self, namespace: int, branch: BranchRow, viewer: int, now: int, branches: Sequence[int] | None
    ) -> dict[str, int]: ...
    def problems(self) -> tuple[list[str], int, list[tuple[str, str]]]: ...
    def database_file(self) -> str | None: ...
    def namespace_counts(self, namespace: int) -> dict[str, int]: ...
    def namespace_rows(self, namespace: int) -> Iterator[tuple[str, ExportRow]]: ...


class Import(Protocol):
    """Adds the rows of an exported namespace to one that holds nothing yet; InvalidExportError if they do not fit."""

    def add(self, kind: str, row: Mapping[str, object]) -> None: ...
    def finish(self) -> None: ...


class Transaction(Reader, Protocol):
    """What can be written. All of it becomes visible at once, or none of it."""

    def position(self, branch: int) -> Position: ...
    def add_namespace(self, name: str, now: int) -> int: ...
    def add_agent(self, name: str, home: int | None) -> int: ...
    def add_branch(self, row: BranchRow) -> int: ...
    def close_branch(self, branch: int, now: int) -> None: ...
    def add_run(self, namespace: int, session: str, name: str, thread: str | None, metadata: str | None) -> int: ...
    def add_slot(self, owner: int, path: str, key: str) -> int: ...
    def append_version(self, new: NewVersion) -> None: ...
    def append_versions(self, new: Sequence[NewVersion]) -> None: ...
    def append_event(self, new: NewEvent) -> None: ...
    def importing(self, namespace: int, exported: str) -> Import: ...
    @property
    def records(self) -> RecordWriter: ...
    @property
    def search(self) -> SearchWriter: ...


class Reading(Protocol):
    """A context in which a Reader may be used."""

    def __enter__(self) -> Reader: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Writing(Protocol):
    """A context in which a Transaction may be used; leaving it commits, an exception rolls back."""

    def __enter__(self) -> Transaction: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Storage(Protocol):
    """A database that holds memory."""

    @property
    def identity(self) -> str:
        """What two handles on the same database have in common."""
        ...

    @property
    def database(self) -> str:
        """Where it is, as people write it."""
        ...

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written."""
        ...

    def reading(self) -> Reading:
        """Return a context for one statement; nothing is locked."""
        ...

    def snapshot(self) -> Reading:
        """Return a context in which several statements see the same state."""
        ...

    def writing(self) -> Writing:
        """Return a context for a transaction that writes; it waits for its turn."""
        ...

    def searching(self, index: SearchIndex) -> Reading:
        """Return a context in which several statements see the same state, of which a search index holds all."""
        ...

    def describe(self) -> dict[str, str | int]:
        """Return durability, schema and engine versions and the size of the file in bytes."""
        ...

    def backup(self, path: object) -> tuple[list[str], int, list[tuple[str, str]]]:
        """Copy the database into a file while others use it; return what the check of the copy found."""
        ...

    def close(self) -> None:
        """Release every connection and file."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
