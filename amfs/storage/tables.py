"""What one SQLite transaction reads and writes: the storage protocol over a connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from amfs.errors import InvalidInputError
from amfs.models import EventType
from amfs.storage import finding, indexing, transfer
from amfs.storage import queries as q
from amfs.storage.checkpoints import Checkpoints
from amfs.storage.hashing import HASH_FUNCTION, row_hash
from amfs.storage.invariants import PROBLEMS
from amfs.storage.records import Records, hashed, plain, row_id
from amfs.storage.rows import (
    EVENT_CODE,
    NOW,
    SHARED,
    SLOT_BITS,
    BranchRow,
    CoveredRow,
    EventRow,
    ExportRow,
    Hints,
    ListFilter,
    Making,
    NewEvent,
    NewVersion,
    Position,
    RunRow,
    Segment,
    Slot,
    TimelineFilter,
    VersionRow,
)
from amfs.storage.search import Search

K = TypeVar("K")
V = TypeVar("V")

_INLINE = 1000
"""Values up to this many characters are kept in head too, so that a read touches one tree."""

_KEPT = 200_000
"""How many names of a kind are remembered before they are forgotten and learned anew."""

_SLOTS_OF_A_PATH = 1 << SLOT_BITS


class Names:
    """The ids learned so far. Names and ids never change, so what was committed once may be remembered for good."""

    def __init__(self) -> None:
        self.namespaces: dict[str, int] = {}
        self.agents: dict[str, int] = {}
        self.agent_names: dict[int, str] = {}
        self.branches: dict[tuple[int, str], BranchRow] = {}
        self.branches_by_id: dict[int, BranchRow] = {}
        self.lineages: dict[int, list[Segment]] = {}
        self.runs: dict[int, RunRow] = {}
        self.run_ids: dict[tuple[int, str, str], int] = {}
        self.paths: dict[tuple[int, str], int] = {}
        self.slots: dict[tuple[int, str, str], int] = {}
        self.slot_names: dict[int, Slot] = {}


class Tables:
    """A Reader, and inside a transaction that writes a Transaction."""

    __slots__ = ("_execute", "_learned", "_names", "checkpoints", "connection", "records", "search")

    def __init__(self, connection: sqlite3.Connection, names: Names) -> None:
        self.connection = connection
        self._execute = connection.execute
        self._names = names
        self.records = Records(connection)
        self.search = Search(connection)
        self.checkpoints = Checkpoints(connection)
        self._learned: list[tuple[dict[Any, Any], Any, Any]] | None = None

    def start_writing(self) -> None:
        """Keep the names learned from now on to this transaction, since it may be rolled back."""
        self._learned = []

    def stop_writing(self, *, keep_names: bool) -> None:
        """Make the names learned in the transaction known to all, if it was committed."""
        learned, self._learned = self._learned, None
        for known, name, value in (learned or ()) if keep_names else ():
            _remember(known, name, value)

    def _learn(self, known: dict[K, V], name: K, value: V) -> None:
        if self._learned is None:
            _remember(known, name, value)
        else:
            self._learned.append((known, name, value))

    def _numbered(self, statement: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
        return self._execute(*plain(statement, parameters))

    def _id(self, known: dict[K, int], name: K, statement: str, parameters: tuple[Any, ...]) -> int | None:
        found = known.get(name)
        if found is None:
            row = self._execute(statement, parameters).fetchone()
            if row is None:
                return None
            found = row[0]
            self._learn(known, name, found)
        return found

    # --- names -----------------------------------------------------------------------------------------------------

    def namespace(self, name: str) -> int | None:
        return self._id(self._names.namespaces, name, q.NAMESPACE, (name,))

    def namespace_name(self, namespace: int) -> str:
        return str(self._execute(q.NAMESPACE_NAME, (namespace,)).fetchone()[0])

    def agent(self, name: str) -> int | None:
        return self._id(self._names.agents, name, q.AGENT, (name,))

    def agent_name(self, agent: int) -> str:
        name = self._names.agent_names.get(agent)
        if name is None:
            name = str(self._execute(q.AGENT_NAME, (agent,)).fetchone()[0])
            self._learn(self._names.agent_names, agent, name)
        return name

    def agent_home(self, name: str) -> str | None:
        row = self._execute(q.AGENT_HOME, (name,)).fetchone()
        return None if row is None else row[0]

    def branch(self, namespace: int, name: str) -> BranchRow | None:
        found = self._names.branches.get((namespace, name))
        if found is None:
            row = self._execute(q.BRANCH, (namespace, name)).fetchone()
            if row is None:
                return None
            found = BranchRow._make(row)
            self._learn(self._names.branches, (namespace, name), found)
        return found

    def branch_by_id(self, branch: int) -> BranchRow:
        found = self._names.branches_by_id.get(branch)
        if found is None:
            found = BranchRow._make(self._execute(q.BRANCH_BY_ID, (branch,)).fetchone())
            self._learn(self._names.branches_by_id, branch, found)
        return found

    def branches(self, namespace: int) -> list[tuple[BranchRow, bool]]:
        return [(BranchRow._make(row[:-1]), bool(row[-1])) for row in self._execute(q.BRANCHES, (namespace,))]

    def is_open(self, branch: int) -> bool:
        return bool(self._execute(q.IS_OPEN, (branch,)).fetchone()[0])

    def lineage(self, branch: int, upto: int = NOW) -> list[Segment]:
        found = self._names.lineages.get(branch)
        if found is None:
            found = [Segment(ancestor, 0, upper) for ancestor, upper in self._execute(q.LINEAGE, (branch,))]
            self._learn(self._names.lineages, branch, found)
        return found if upto == NOW else [Segment(part.branch, 0, min(part.upper, upto)) for part in found]

    def run(self, run: int) -> RunRow:
        found = self._names.runs.get(run)
        if found is None:
            found = RunRow._make(self._execute(q.RUN, (run,)).fetchone())
            self._learn(self._names.runs, run, found)
        return found

    def runs(self, namespace: int, name: str) -> list[int]:
        return [row[0] for row in self._execute(q.RUNS, (namespace, name))]

    def slot(self, owner: int, path: str, key: str) -> int | None:
        found = self._names.slots.get((owner, path, key))
        if found is not None:
            return found
        path_id = self._id(self._names.paths, (owner, path), q.PATH_ID, (owner, path))
        if path_id is None:
            return None
        return self._id(self._names.slots, (owner, path, key), q.SLOT, (path_id, key))

    def slots(self, ids: Iterable[int]) -> Mapping[int, Slot]:
        known = self._names.slot_names
        wanted = list(ids)
        found = {number: known[number] for number in wanted if number in known}
        missing = [number for number in wanted if number not in found]
        if missing:
            for number, owner, path, key in self._numbered(q.SLOTS, (json.dumps(missing),)):
                found[number] = slot = Slot(owner, path, key)
                self._learn(known, number, slot)
        return found

    def owns_private(self, agent: int) -> bool:
        return bool(self._execute(q.OWNS_PRIVATE, (agent,)).fetchone()[0])

    def add_namespace(self, name: str, now: int) -> int:
        return row_id(self._execute(q.ADD_NAMESPACE, (name, now, row_hash((name,)))))

    def add_agent(self, name: str, home: int | None) -> int:
        return row_id(self._execute(q.ADD_AGENT, hashed((name, home))))

    def add_branch(self, row: BranchRow) -> int:
        made = row_id(self._execute(q.ADD_BRANCH, row[1:5] + row[5:]))
        is_fork = row.parent is not None and self.branch_by_id(row.parent).namespace != row.namespace
        self._numbered(q.ADD_LINEAGE, (made, row.parent, row.fork_seq, is_fork))
        return made

    def close_branch(self, branch: int, now: int) -> None:
        self._numbered(q.CLOSE_BRANCH, (branch, now))

    def adopt_branch(self, row: BranchRow) -> None:
        """Make an empty namespace and its main what the exported ones were."""
        self._execute(q.ADOPT_NAMESPACE, (row.created_at, row.namespace))
        self._execute(q.ADOPT_BRANCH, (row.created_by, row.created_at, row.description, row.id))
        self._learn(self._names.branches, (row.namespace, row.name), row)
        self._learn(self._names.branches_by_id, row.id, row)

    def add_run(self, namespace: int, session: str, name: str, thread: str | None, metadata: str | None) -> int:
        identity = (namespace, name, session)
        found = self._id(self._names.run_ids, identity, q.RUN_ID, identity)
        if found is None:
            found = row_id(self._execute(q.ADD_RUN, hashed((*identity, thread, metadata))))
            self._learn(self._names.run_ids, identity, found)
        return found

    def add_slot(self, owner: int, path: str, key: str) -> int:
        found = self.slot(owner, path, key)
        if found is not None:
            return found
        row = self._execute(q.PATH_ID, (owner, path)).fetchone()
        made = self.append_slot(self.append_path(owner, path) if row is None else row[0], key)
        self._learn(self._names.slots, (owner, path, key), made)
        return made

    def append_path(self, owner: int, path: str) -> int:
        """Make a path that does not exist yet."""
        return row_id(self._execute(q.ADD_PATH, (owner, path, 0, row_hash((owner, path)))))

    def append_slot(self, path: int, key: str) -> int:
        """Make a slot that does not exist yet, under a path given by its id."""
        name, number = self._execute(q.PATH, (path,)).fetchone()
        if number >= _SLOTS_OF_A_PATH:
            raise InvalidInputError(f"path {name!r} holds {number} keys, the most one path can; use more paths")
        made = (path << SLOT_BITS) + number
        self._execute(q.TAKE_SLOT, (path,))
        self._execute(q.ADD_SLOT, hashed((made, path, key)))
        return made

    # --- versions --------------------------------------------------------------------------------------------------

    def current(self, branch: BranchRow, path: str, key: str, agent: int) -> tuple[VersionRow | None, bool]:
        """Return the newest version of a shared slot, and whether the agent owns any private slot."""
        slot = self._names.slots.get((SHARED, path, key))
        if branch.parent is not None:
            slot = self.slot(SHARED, path, key) if slot is None else slot
            return None if slot is None else self.visible(branch, slot), self.owns_private(agent)
        if slot is not None:
            row = self._execute(q.CURRENT, (agent, branch.id, slot)).fetchone()
        else:
            path_id = self._id(self._names.paths, (SHARED, path), q.PATH_ID, (SHARED, path))
            row = self._execute(q.CURRENT_NAMED, (agent, path_id, key, branch.id)).fetchone()
        if row is None:
            return None, self.owns_private(agent)
        found = VersionRow._make(row[:-1])
        if slot is None:
            self._learn(self._names.slots, (SHARED, path, key), found.slot)
        return found, row[-1]

    def visible(self, branch: BranchRow, slot: int, upto: int = NOW) -> VersionRow | None:
        if upto == NOW and branch.parent is None:
            return _version(self._execute(q.HEAD, (branch.id, slot)))
        return _version(self._numbered(q.VISIBLE, (branch.id, slot, upto)))

    def visible_many(self, branch: int, slots: Sequence[int], upto: int = NOW) -> dict[int, VersionRow]:
        rows = self._numbered(q.VISIBLE_MANY, (branch, json.dumps(list(slots)), upto))
        return {row[3]: VersionRow._make(row) for row in rows}

    def version(self, seq: int) -> VersionRow | None:
        return _version(self._execute(q.VERSION, (seq,)))

    def versions(self, seqs: Sequence[int]) -> dict[int, VersionRow]:
        return {row[0]: VersionRow._make(row) for row in self._numbered(q.VERSIONS, (json.dumps(list(seqs)),))}

    def makings(self, seqs: Sequence[int]) -> dict[int, Making]:
        return {row[0]: Making._make(row) for row in self._numbered(q.MAKINGS, (json.dumps(list(seqs)),))}

    def newest_by(self, branch: int, slot: int, author: int) -> VersionRow | None:
        return _version(self._numbered(q.NEWEST_BY, (branch, slot, author)))

    def list(self, branch: BranchRow, upto: int, which: ListFilter) -> list[VersionRow]:
        is_root = upto == NOW and branch.parent is None
        if which.after_key is not None:
            statement = q.LIST_ROOT_AFTER if is_root else q.LIST_VIEW_AFTER
            parameters = (*_list_parameters(branch, which), upto, which.after_key)
            return [VersionRow._make(row) for row in self._numbered(statement, parameters)]
        if is_root:
            statement = _by_range(which, q.LIST_ROOT_ALL, q.LIST_ROOT_ONE, q.LIST_ROOT_BELOW)
            return [VersionRow._make(row) for row in self._numbered(statement, _list_parameters(branch, which))]
        statement = _by_range(which, q.LIST_VIEW_ALL, q.LIST_VIEW_ONE, q.LIST_VIEW_BELOW)
        return [VersionRow._make(row) for row in self._numbered(statement, (*_list_parameters(branch, which), upto))]

    def newest(self, branch: BranchRow, which: ListFilter, hints: Hints) -> Iterator[VersionRow]:
        return finding.newest(self.connection, branch, which, hints)

    def covered(self, branch: BranchRow, which: ListFilter) -> list[CoveredRow]:
        """Return the entries of all paths, or of one and those below it, without their values."""
        parameters = _list_parameters(branch, which)
        if branch.parent is None:
            statement = q.COVERED_ROOT_ALL if which.path is None else q.COVERED_ROOT_BELOW
        else:
            statement = q.COVERED_VIEW_ALL if which.path is None else q.COVERED_VIEW_BELOW
            parameters = (*parameters, NOW)
        return [CoveredRow._make(row) for row in self._numbered(statement, parameters)]

    def private(self, branch: BranchRow, owner: int, now: int) -> list[VersionRow]:
        """Return the live entries of one private space, messages included."""
        parameters = (branch.id, owner, None, now, None, -1, -1, NOW)
        return [VersionRow._make(row) for row in self._numbered(q.PRIVATE, parameters)]

    def paths(self, branch: BranchRow, viewer: int, now: int) -> list[tuple[str, int]]:
        if branch.parent is None:
            return self._numbered(q.PATHS_ROOT, (branch.id, viewer, None, now, None)).fetchall()
        return self._numbered(q.PATHS_VIEW, (branch.id, viewer, None, now, None, -1, -1, NOW)).fetchall()

    def history(self, branch: int, slot: int, upto: int = NOW) -> list[VersionRow]:
        return [VersionRow._make(row) for row in self._numbered(q.HISTORY, (branch, slot, upto))]

    def all_versions(self, branch: int, upto: int, which: ListFilter) -> list[VersionRow]:
        statement = _by_range(which, q.ALL_VERSIONS_ALL, q.ALL_VERSIONS_ONE, q.ALL_VERSIONS_BELOW)
        parameters = (
            branch, which.viewer, which.path, which.now, which.memory_type, which.after, which.limit, upto,
        )  # fmt: skip
        return [VersionRow._make(row) for row in self._numbered(statement, parameters)]

    def changed_slots(self, segments: Sequence[Segment], viewer: int) -> set[int]:
        return {row[0] for row in self._numbered(q.CHANGED, (json.dumps(list(segments)), viewer))}

    def committers(self, segments: Sequence[Segment], viewer: int, namespace: int) -> set[tuple[int, int]]:
        """Return the slots of versions in some parts of branches, and who committed these."""
        parameters = (json.dumps(list(segments)), viewer, namespace)
        return {(row[0], row[1]) for row in self._numbered(q.COMMITTERS, parameters)}

    def slots_authored(self, segments: Sequence[Segment], viewer: int, author: int) -> list[int]:
        parameters = (json.dumps(list(segments)), viewer, author)
        return [row[0] for row in self._numbered(q.SLOTS_AUTHORED, parameters)]

    def histories(self, branch: int, slots: Sequence[int], after: int) -> list[VersionRow]:
        """Return the versions of several slots along a branch after a seq, oldest first."""
        parameters = (branch, json.dumps(list(slots)), after)
        return [VersionRow._make(row) for row in self._numbered(q.HISTORIES, parameters)]

    def find_joined(self, name: str, viewer: int) -> list[int]:
        cuts = [index for index, character in enumerate(name) if character == "/"]
        pairs = [(name[:cut], name[cut + 1 :]) for cut in cuts]
        return [row[0] for row in self._numbered(q.FIND_JOINED, (json.dumps(pairs), viewer))]

    def position(self, branch: int) -> Position:
        is_open, seq, ts = self._execute(q.POSITION, (branch,)).fetchone()
        return Position(is_open, seq or 0, ts or 0)

    def append_version(self, new: NewVersion) -> None:
        self._execute(q.ADD_VERSION, _log_parameters(new))
        self._execute(q.SET_HEAD, _head_parameters(new.row))

    def append_versions(self, new: Sequence[NewVersion]) -> None:
        self.connection.executemany(q.ADD_VERSION, map(_log_parameters, new))
        self.connection.executemany(q.SET_HEAD, (_head_parameters(one.row) for one in new))

    # --- events ----------------------------------------------------------------------------------------------------

    def append_event(self, new: NewEvent) -> None:
        self._execute(q.ADD_EVENT, (*new, row_hash(new)))

    def event(self, seq: int) -> EventRow | None:
        row = self._execute(q.EVENT, (seq,)).fetchone()
        return None if row is None else EventRow._make(row)

    def timeline(self, which: TimelineFilter) -> list[EventRow]:
        parameters = (
            which.namespace, which.viewer, which.after, which.before, which.limit, which.agent, which.event_type,
            which.branch, which.messages, None if which.branches is None else json.dumps(list(which.branches)),
        )  # fmt: skip
        plain = which.event_type in (None, EVENT_CODE[EventType.WRITE])
        if which.branch is not None:
            rows = self._numbered(q.TIMELINE_BRANCH if plain else q.TIMELINE_BRANCH_RARE, parameters)
        elif which.agent is None or which.messages:
            rows = self._numbered(q.TIMELINE_ALL, parameters)
        elif plain:
            rows = self._numbered(q.TIMELINE_AGENT, parameters)
        else:
            rows = self._numbered(q.TIMELINE_AGENT_RARE, parameters)
        return [EventRow._make(row) for row in rows]

    def contexts(self, run: int, outcome: int) -> list[EventRow]:
        """Return what a run noted before an outcome and after the one before that."""
        return [EventRow._make(row) for row in self._numbered(q.CONTEXTS, (run, outcome))]

    def judging(
        self, branch: int, values: Sequence[tuple[int, int]], branches: Sequence[int] | None, limit: int
    ) -> list[int]:
        """Return the newest outcomes, along a branch, that judged values given as slots and the versions that own them.

        ``branches`` are those the viewer may read (None: all).
        """
        readable = None if branches is None else json.dumps(list(branches))
        return [row[0] for row in self._numbered(q.JUDGING, (branch, json.dumps(list(values)), readable, limit))]

    def seq_at(self, ts: int, branch: int) -> int:
        """Return the newest seq not after an instant, along a branch.

        Instants never go back along the log, so halving finds it. Only imported rows may be older than those before
        them: to their namespace nothing was before, and to all others they are not there.
        """
        own = {self.branch_by_id(part.branch).namespace for part in self.lineage(branch)}
        low, high, foreign = 0, self.last_seq(), list[transfer.ImportedPart]()
        for part in transfer.imported(self.connection):
            if part.namespace in own:
                low = part.lower
            else:
                foreign.insert(0, part)
        while low < high:
            middle = (low + high + 1) // 2
            row = self._execute(q.AT_OR_BEFORE, (_outside(foreign, middle),)).fetchone()
            if row is None or row[1] <= ts:
                low = middle
            else:
                high = row[0] - 1
        return low

    def end_of_event(self, seq: int) -> int:
        """Return the last seq of the event that a seq belongs to: of the last version under it, if there are any."""
        return self._numbered(q.END_OF_EVENT, (seq,)).fetchone()[0] or seq

    def last_seq(self) -> int:
        row = self._execute(q.LAST).fetchone()
        return 0 if row is None else row[0]

    def last_ts(self) -> int:
        row = self._execute(q.LAST_TS).fetchone()
        return 0 if row is None else row[0]

    def last_seq_of(self, branch: int) -> int:
        return self._execute(q.LAST_OF_BRANCH, (branch,)).fetchone()[0] or 0

    def last_shared_version(self, branch: int, upto: int) -> int:
        row = self._execute(q.LAST_SHARED_VERSION, (branch, upto)).fetchone()
        return 0 if row is None else row[0]

    def first_ts(self, branch: int) -> int | None:
        row = self._execute(q.FIRST_OF_BRANCH, (branch,)).fetchone()
        return None if row is None else row[0]

    # --- the whole -------------------------------------------------------------------------------------------------

    def count_lasting(self, branch: BranchRow, owner: int) -> int:
        """Return how many entries without a deadline an owner has in a branch; this walks all of them."""
        statement = q.COUNT_LASTING_ROOT if branch.parent is None else q.COUNT_LASTING
        return int(self._numbered(statement, (branch.id, owner, None, None, None, -1, -1, NOW)).fetchone()[0])

    def count_expiring(self, branch: BranchRow, viewer: int, now: int) -> int:
        """Return how many entries with a deadline are there now."""
        return int(self._numbered(q.COUNT_EXPIRING, (branch.id, viewer, now)).fetchone()[0])

    def counts(
        self, namespace: int, branch: BranchRow, viewer: int, now: int, branches: Sequence[int] | None
    ) -> dict[str, int]:
        readable = None if branches is None else json.dumps(list(branches))

        def count(statement: str, *parameters: Any) -> int:
            return int(self._numbered(statement, parameters).fetchone()[0])

        return {
            "entries": count(q.COUNT_ENTRIES, branch.id, viewer, None, now, None, -1, -1, NOW),
            "versions": count(q.COUNT_VERSIONS, namespace, viewer, readable),
            "events": count(q.COUNT_EVENTS, namespace, viewer, readable),
            "branches": count(q.COUNT_BRANCHES, namespace, viewer, readable),
            "agents": count(q.COUNT_AGENTS, namespace, viewer, readable),
        }

    def database_file(self) -> str | None:
        return self._execute(q.DATABASE_FILE).fetchone()[0] or None

    def namespace_counts(self, namespace: int) -> dict[str, int]:
        return transfer.counts(self.connection, namespace)

    def namespace_rows(self, namespace: int) -> Iterator[tuple[str, ExportRow]]:
        return transfer.rows(self.connection, namespace)

    def importing(self, namespace: int, exported: str) -> transfer.Import:
        return transfer.Import(self, namespace, exported, _INLINE)

    def problems(self) -> tuple[list[str], int, list[tuple[str, str]]]:
        self.connection.create_function(*HASH_FUNCTION)
        found = [("file_is_intact", row[0]) for row in self._execute(q.INTEGRITY) if row[0] != "ok"]
        checks: dict[str, Callable[[], Iterable[str]]] = {
            check: partial(self._named, statement) for check, statement in PROBLEMS.items()
        }
        checks["search_index_holds_its_words"] = partial(indexing.problems, self.connection)
        for check, lines in checks.items():
            try:
                found.extend((check, line) for line in lines())
            except (sqlite3.Error, UnicodeDecodeError) as error:
                # Damage may be so bad that a check cannot run, such as details that are no JSON; the others still can.
                if getattr(error, "sqlite_errorcode", None) not in (None, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT):
                    raise
                found.append((check, f"cannot be checked: {error}"))
        versions = int(self._execute(q.ALL_VERSIONS_COUNT).fetchone()[0])
        return ["file_is_intact", *checks], versions, found

    def _named(self, statement: str) -> Iterator[str]:
        for row in self._execute(statement):
            yield row[0] or "a row that lost its name"


def _outside(parts: Sequence[transfer.ImportedPart], seq: int) -> int:
    """Return the newest seq up to this one that is in none of several parts of the log, which come newest first."""
    for part in parts:
        if part.lower < seq <= part.upper:
            seq = part.lower
    return seq


def _remember(known: dict[K, V], name: K, value: V) -> None:
    if len(known) >= _KEPT:
        known.clear()
    known[name] = value


def _version(cursor: sqlite3.Cursor) -> VersionRow | None:
    row = cursor.fetchone()
    return None if row is None else VersionRow._make(row)


def _by_range(which: ListFilter, everything: str, one: str, below: str) -> str:
    return everything if which.path is None else below if which.prefix else one


def _list_parameters(branch: BranchRow, which: ListFilter) -> tuple[int | str | None, ...]:
    return (branch.id, which.viewer, which.path, which.now, which.memory_type, which.after, which.limit)


def _log_parameters(new: NewVersion) -> tuple[Any, ...]:
    row = new.row
    kept = (row.value, None) if row.value_seq == row.seq else (None, row.value_seq)
    event = (new.event_type, row.slot, new.cause, new.group, new.origin, new.details)
    columns = (*row[:3], *event, row.version, row.live, *kept, *row[8:])
    return (*columns, row_hash(columns))


def _head_parameters(row: VersionRow) -> tuple[Any, ...]:
    value = row.value
    return row if value is None or len(value) <= _INLINE else row._replace(value=None)
