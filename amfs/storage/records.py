"""What stands beside the log in SQLite: merges, tags, reviews, grants, keys, outcomes, experiments, briefs."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from amfs.storage import queries as q
from amfs.storage.hashing import row_hash
from amfs.storage.rows import (
    ApiKeyRow,
    BriefKey,
    BriefRow,
    ConflictRow,
    ExperimentRow,
    GrantRow,
    MergeEdge,
    PendingMergeRow,
    PullRequestRow,
    ReviewRow,
    RollbackRow,
    TagRow,
)


class Records:
    """A RecordReader, and inside a transaction that writes a RecordWriter."""

    __slots__ = ("_connection", "_execute")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute

    def _numbered(self, statement: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
        return self._execute(*plain(statement, parameters))

    # --- merges and rollbacks --------------------------------------------------------------------------------------

    def merge_edges(self, targets: Sequence[int]) -> list[MergeEdge]:
        return [MergeEdge._make(row) for row in self._numbered(q.MERGE_EDGES, (json.dumps(list(targets)),))]

    def add_merge_edge(self, edge: MergeEdge) -> None:
        self._execute(q.ADD_MERGE_EDGE, edge)

    def census(self, branch: int, owner: int) -> tuple[int, int] | None:
        """Return up to which seq an owner's entries without a deadline were counted, and how many there were."""
        return self._execute(q.CENSUS, (branch, owner)).fetchone()

    def save_census(self, branch: int, owner: int, seq: int, entries: int) -> None:
        self._execute(q.SAVE_CENSUS, (branch, owner, seq, entries))

    def rollbacks(self, branches: Sequence[int]) -> list[RollbackRow]:
        return [RollbackRow._make(row) for row in self._numbered(q.ROLLBACKS, (json.dumps(list(branches)),))]

    def add_rollback(self, row: RollbackRow) -> None:
        self._execute(q.ADD_ROLLBACK, row)

    def pending_merges(self, namespace: int) -> list[PendingMergeRow]:
        return [PendingMergeRow._make(row) for row in self._execute(q.PENDING_MERGES, (namespace,))]

    def open_merges(self, namespace: int) -> list[PendingMergeRow]:
        return [PendingMergeRow._make(row) for row in self._execute(q.OPEN_MERGES, (namespace,))]

    def save_pending_merge(self, row: PendingMergeRow) -> None:
        self._execute(q.SAVE_PENDING_MERGE, (row.close, row.pull_request, row_hash(row[1:-1]), row.id))

    def add_pending_merge(self, row: PendingMergeRow) -> int:
        return row_id(self._execute(q.ADD_PENDING_MERGE, (*row[1:], row_hash(row[1:-1]))))

    def end_pending_merge(self, number: int) -> None:
        self._execute(q.END_PENDING_MERGE, (number,))

    def conflict(self, namespace: int, number: int) -> tuple[ConflictRow, PendingMergeRow] | None:
        row = self._execute(q.CONFLICT, (namespace, number)).fetchone()
        return None if row is None else (ConflictRow._make(row[:10]), PendingMergeRow._make(row[10:]))

    def conflicts(self, merges: Sequence[int]) -> list[ConflictRow]:
        return [ConflictRow._make(row) for row in self._numbered(q.CONFLICTS, (json.dumps(list(merges)),))]

    def add_conflict(self, row: ConflictRow) -> int:
        return row_id(self._execute(q.ADD_CONFLICT, hashed(row[1:])))

    def save_conflict(self, row: ConflictRow) -> None:
        self._execute(q.SAVE_CONFLICT, (row.status, row.take, row.value, row.agent, row_hash(row[1:]), row.id))

    # --- tags and pull requests ------------------------------------------------------------------------------------

    def tag(self, namespace: int, name: str) -> TagRow | None:
        row = self._execute(q.TAG, (namespace, name)).fetchone()
        return None if row is None else TagRow._make(row)

    def tags(self, namespace: int) -> list[TagRow]:
        return [TagRow._make(row) for row in self._execute(q.TAGS, (namespace,))]

    def add_tag(self, row: TagRow) -> None:
        self._execute(q.ADD_TAG, row)

    def delete_tag(self, namespace: int, name: str) -> None:
        self._execute(q.DELETE_TAG, (namespace, name))

    def pull_request(self, namespace: int, number: int) -> PullRequestRow | None:
        row = self._execute(q.PULL_REQUEST, (namespace, number)).fetchone()
        return None if row is None else PullRequestRow._make(row)

    def pull_requests(self, namespace: int) -> list[PullRequestRow]:
        return [PullRequestRow._make(row) for row in self._execute(q.PULL_REQUESTS, (namespace,))]

    def add_pull_request(self, row: PullRequestRow) -> int:
        return row_id(self._execute(q.ADD_PULL_REQUEST, (*row[1:], row_hash(row[1:8]))))

    def end_pull_request(self, row: PullRequestRow) -> None:
        self._execute(q.END_PULL_REQUEST, (row.status, row.ended_by, row.ended_at, row.merge_event, row.id))

    def reviews(self, pull_requests: Sequence[int]) -> list[ReviewRow]:
        return [ReviewRow._make(row) for row in self._numbered(q.REVIEWS, (json.dumps(list(pull_requests)),))]

    def add_review(self, row: ReviewRow) -> None:
        self._execute(q.ADD_REVIEW, row)

    # --- access ----------------------------------------------------------------------------------------------------

    def grants(self, branch: int) -> list[GrantRow]:
        return [GrantRow._make(row) for row in self._execute(q.GRANTS, (branch,))]

    def grants_of(self, namespace: int, grantees: Sequence[tuple[str, str]]) -> list[tuple[int, str]]:
        """Return the branches that any of several grantees may use, and what for."""
        return self._numbered(q.GRANTS_OF, (namespace, json.dumps(list(grantees)))).fetchall()

    def save_grant(self, row: GrantRow) -> None:
        self._execute(q.SAVE_GRANT, hashed(row))

    def delete_grant(self, branch: int, grantee_type: str, grantee: str) -> bool:
        return self._execute(q.DELETE_GRANT, (branch, grantee_type, grantee)).rowcount > 0

    def api_key(self, key: str) -> ApiKeyRow | None:
        row = self._execute(q.API_KEY, (key,)).fetchone()
        return None if row is None else ApiKeyRow._make(row)

    def api_keys(self, namespace: int) -> list[ApiKeyRow]:
        return [ApiKeyRow._make(row) for row in self._execute(q.API_KEYS, (namespace,))]

    def add_api_key(self, row: ApiKeyRow) -> None:
        self._execute(q.ADD_API_KEY, (*row, row_hash(row[:-1])))

    def revoke_api_key(self, key: str, now: int) -> None:
        self._execute(q.REVOKE_API_KEY, (now, key))

    # --- outcomes, reads, experiments ------------------------------------------------------------------------------

    def idempotent(self, namespace: int, agent: int, token: str) -> tuple[int, str] | None:
        return self._execute(q.IDEMPOTENT, (namespace, agent, token)).fetchone()

    def add_idempotent(self, namespace: int, agent: int, token: str, seq: int, request: str) -> None:
        self._execute(q.ADD_IDEMPOTENT, hashed((namespace, agent, token, seq, request)))

    def outcome(self, namespace: int, ref: str, outcome_type: str) -> int | None:
        row = self._execute(q.OUTCOME, (namespace, ref, outcome_type)).fetchone()
        return None if row is None else row[0]

    def outcomes(self, namespace: int, ref: str) -> list[int]:
        return [row[0] for row in self._execute(q.OUTCOMES, (namespace, ref))]

    def add_outcome(self, namespace: int, ref: str, outcome_type: str, seq: int) -> None:
        self._execute(q.ADD_OUTCOME, (namespace, ref, outcome_type, seq))

    def read_set(self, runs: Sequence[int], outcome: int) -> list[int]:
        return [row[0] for row in self._numbered(q.READ_SET, (json.dumps(list(runs)), outcome))]

    def add_reads(self, run: int, reads: Mapping[int, int]) -> None:
        self._connection.executemany(q.ADD_READ, ((run, seq, count) for seq, count in reads.items()))

    def judge_reads(self, runs: Sequence[int], seqs: Sequence[int], outcome: int) -> None:
        self._numbered(q.JUDGE_READS, (json.dumps(list(runs)), json.dumps(list(seqs)), outcome))

    def judged(self, outcome: int) -> list[tuple[int, int | None, str | None]]:
        return self._execute(q.JUDGED, (outcome,)).fetchall()

    def add_judged(self, outcome: int, judged: Sequence[tuple[int, int | None, str | None]]) -> None:
        self._connection.executemany(q.ADD_JUDGED, (hashed((outcome, *one)) for one in judged))

    def experiments(self, namespace: int) -> list[ExperimentRow]:
        return [ExperimentRow._make(row) for row in self._execute(q.EXPERIMENTS, (namespace,))]

    def experiment(self, branch: int) -> ExperimentRow | None:
        row = self._execute(q.EXPERIMENT, (branch,)).fetchone()
        return None if row is None else ExperimentRow._make(row)

    def save_experiment(self, row: ExperimentRow) -> None:
        self._execute(q.SAVE_EXPERIMENT, hashed(row))

    def brief(self, key: BriefKey) -> BriefRow | None:
        row = self._execute(q.BRIEF, key).fetchone()
        return None if row is None else BriefRow._make(row)

    def save_brief(self, row: BriefRow) -> None:
        self._execute(q.SAVE_BRIEF, hashed(row))


def plain(statement: str, parameters: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """Return a statement whose parameters are numbered (``?2``) with plain placeholders, and a value for each.

    Python 3.12.0 to 3.12.3 warn of a numbered placeholder as if it were a named one.
    """
    text, order = _plain(statement)
    return text, [parameters[number] for number in order]


@cache
def _plain(statement: str) -> tuple[str, list[int]]:
    order = [int(number) - 1 for number in re.findall(r"\?(\d+)", statement)]
    return re.sub(r"\?\d+", "?", statement), order


def hashed(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row with its hash behind it."""
    return (*row, row_hash(row))


def row_id(cursor: sqlite3.Cursor) -> int:
    """Return the id of the row that an INSERT made."""
    number = cursor.lastrowid
    assert number is not None, "an INSERT has a rowid"  # noqa: S101
    return number
