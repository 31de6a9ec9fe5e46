"""The rows that a storage takes and returns, and how what is in them is coded.

A storage speaks integers: namespaces, agents, branches, runs and slots (an owner, an entity path and a key) have ids
that never change, so they may be cached. Instants are microseconds since 1970 UTC. ``value``, ``refs`` and ``details``
are JSON text.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from amfs.models import EventType, MemoryType

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


class FieldRange(NamedTuple):
    """Between what the field of a value lies: numbers or texts, None where that side is open.

    A name with dots may be that of a field, or a way through fields.
    """

    name: str
    least: object
    most: object


class Hints(NamedTuple):
    """What the values that are wanted are like: a storage may leave out any that is not, and need not.

    ``texts`` are contained in their JSON, written without spaces.
    """

    texts: Collection[str] = ()
    ranges: Sequence[FieldRange] = ()


class ListFilter(NamedTuple):
    """Which entries of a view to return, in the order in which their slots were first written.

    ``path`` None is every path; ``prefix`` adds the paths below it; of one path,
    ``after_key`` leaves keys up to it out. ``now`` hides what has expired (None: nothing
    has). ``memory_type`` None is every type but messages.
    """

    viewer: int
    path: str | None
    prefix: bool
    memory_type: int | None
    now: int | None
    after: int
    limit: int
    after_key: str | None = None


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


class BriefKey(NamedTuple):
    """Which brief: of what, how many entries it cites, who wrote it and for whom; empty text stands for all or none.

    ``scope`` tells apart who may read which branches.
    """

    branch: int
    path: str
    about: str
    cited: int
    writer: str
    scope: str


class BriefRow(NamedTuple):
    """A stored brief. ``checked`` is the newest shared version on its branch when it was compiled, ``seq`` its event.

    ``expires`` is the first deadline of an entry it covers, ``body`` JSON text.
    """

    branch: int
    path: str
    about: str
    cited: int
    writer: str
    scope: str
    fingerprint: str
    checked: int
    expires: int | None
    seq: int
    body: str


class CoveredRow(NamedTuple):
    """The current version of an entry that a brief covers, without its value."""

    seq: int
    slot: int
    path: str
    author: int
    confidence: float
    outcomes: int
    expires: int | None
    value_seq: int


class CheckpointKey(NamedTuple):
    """Which checkpoint: its row, its name and thread, and what it can be filtered by, as JSON text."""

    id: int
    name: str
    thread: int
    metadata: str


class CheckpointRow(NamedTuple):
    """A checkpoint of a thread, and the memory at that moment: ``branch`` as of ``seq``."""

    id: int
    thread: int
    name: str
    parent: str | None
    branch: int
    seq: int
    run: str | None
    metadata: str
    kind: str
    body: bytes


class PendingWriteRow(NamedTuple):
    """What a task wrote to a channel after a checkpoint; ``number`` tells the writes of one task apart."""

    thread: int
    checkpoint: str
    task: str
    number: int
    path: str
    channel: str
    blob: int


class Blob(NamedTuple):
    """A serialized value: what serialized it calls ``kind`` how it did."""

    kind: str
    data: bytes


Content = Blob | list[Blob]
"""A value of a channel: one blob, or the elements of a list, each as a blob."""


class Piece(NamedTuple):
    """A blob under the digest of its content, or a run of pieces (``blob`` None) under that of theirs."""

    digest: bytes
    blob: Blob | None
    parts: tuple[Piece, ...]
