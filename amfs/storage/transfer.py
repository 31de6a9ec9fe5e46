"""A namespace as rows: read in an order in which another database can take them, and added there under new ids.

What a row refers to (agents, branches, runs, paths, slots) comes before it. Seqs, and the numbers of pull requests and
conflicts, keep their distances: all of a kind are moved up by what the database holds already, which is nothing in a
new one. A slot, its path and an agent that exist already are found by name.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from amfs.errors import InvalidExportError
from amfs.storage import queries as q
from amfs.storage.hashing import HASH_FUNCTION, row_hash
from amfs.storage.records import plain
from amfs.storage.rows import EVENT_TYPE, MEMORY_TYPE, SHARED, BranchRow, ExportRow

if TYPE_CHECKING:
    from amfs.storage.tables import Tables

JsonValue = dict[str, "JsonValue"] | list["JsonValue"] | str | int | float | bool | None

_MOST = 2**62


class _Column(NamedTuple):
    """A column: ``holds`` is a type, or what its numbers refer to."""

    name: str
    holds: str
    optional: bool


class _Table(NamedTuple):
    """A kind of row: its columns, and the statements that read, count and add it, with one column ``besides``."""

    columns: tuple[_Column, ...]
    select: str
    how_many: str
    insert: str
    is_of_namespace: bool


def _table(name: str, columns: str, rest: str, *, besides: str | None = None) -> _Table:
    parsed: list[_Column] = []
    for column in columns.split():
        column_name, holds = column.split(":")
        parsed.append(_Column(column_name, holds.rstrip("?"), holds.endswith("?")))
    names = [column.name for column in parsed]
    added = names if besides is None else [*names, besides]
    # Put together here once, from the constants below; input is always bound.
    return _Table(
        columns=tuple(parsed),
        select=f"SELECT {', '.join(f'v.{one}' for one in names)} FROM {rest}",  # noqa: S608
        how_many=f"SELECT count(*) FROM (SELECT 1 FROM {rest})",  # noqa: S608
        insert=f"INSERT INTO {name}({', '.join(added)}) VALUES({', '.join('?' * len(added))})",
        is_of_namespace=besides == "namespace",
    )


_IN = "CROSS JOIN branch b ON b.id = v.{} AND b.namespace = ?1"
_OURS = "{0} v WHERE v.namespace = ?1 ORDER BY {1}"

_AGENTS = """(SELECT a.id, a.name, n.name AS home FROM agent a LEFT JOIN namespace n ON n.id = a.home WHERE a.id IN (
 SELECT v.agent FROM log v CROSS JOIN branch b ON b.id = v.branch AND b.namespace = ?1
 UNION SELECT v.author FROM log v CROSS JOIN branch b ON b.id = v.branch AND b.namespace = ?1
 UNION SELECT v.actor FROM log v CROSS JOIN branch b ON b.id = v.branch AND b.namespace = ?1
 UNION SELECT p.owner FROM log v CROSS JOIN branch b ON b.id = v.branch AND b.namespace = ?1
 CROSS JOIN path p ON p.id = v.slot >> 24
 UNION SELECT v.agent FROM idempotency v WHERE v.namespace = ?1
 UNION SELECT c.agent FROM pending_merge m CROSS JOIN conflict c ON c.merge = m.id WHERE m.namespace = ?1
 UNION SELECT v.ended_by FROM pull_request v WHERE v.namespace = ?1)) v ORDER BY v.id"""
_SLOTS = """(SELECT s.id, s.path, s.key FROM slot s WHERE s.id IN (
 SELECT v.slot FROM log v CROSS JOIN branch b ON b.id = v.branch AND b.namespace = ?1)) v ORDER BY v.id"""
_PATHS = """(SELECT p.id, p.owner, p.path FROM path p WHERE p.id IN (
 SELECT v.slot >> 24 FROM log v CROSS JOIN branch b ON b.id = v.branch AND b.namespace = ?1)) v ORDER BY v.id"""

_TABLES: Mapping[str, _Table] = {
    "agent": _table("agent", "id:agent name:text home:text?", _AGENTS),
    "run": _table("run", "id:run session:text name:text thread:text? metadata:text?", _OURS.format("run", "v.id")),
    "branch": _table(
        "branch",
        "id:branch name:text parent:branch? fork_seq:seq depth:int created_by:agent? created_at:int description:text"
        " closed_at:int?",
        _OURS.format("branch", "v.id"),
    ),
    "path": _table("path", "id:path owner:owner path:text", _PATHS),
    "slot": _table("slot", "id:slot path:path key:text", _SLOTS),
    "log": _table(
        "log",
        "seq:seq ts:int branch:branch type:int slot:slot? cause:seq? actor:agent? grp:seq? origin:seq? details:text?"
        " version:int? live:int? value:text? value_seq:seq? agent:agent author:agent? run:run confidence:real?"
        " memory_type:int? prior:real? good:real? bad:real? outcomes:int? born:int? expires:int? refs:text?",
        f"log v {_IN.format('branch')} ORDER BY v.seq",
        besides="hash",
    ),
    "merge_edge": _table(
        "merge_edge",
        "target:branch seq:seq source:branch source_seq:seq agent:agent",
        f"merge_edge v {_IN.format('target')} ORDER BY v.target, v.seq",
    ),
    "rollback": _table(
        "rollback",
        "branch:branch seq:seq to_seq:seq agent:agent",
        f"rollback v {_IN.format('branch')} ORDER BY v.branch, v.seq",
    ),
    "tag": _table(
        "tag",
        "name:text branch:branch seq:seq description:text agent:agent created_at:int",
        _OURS.format("tag", "v.name"),
        besides="namespace",
    ),
    "pull_request": _table(
        "pull_request",
        "id:pull_request title:text description:text source:branch target:branch agent:agent created_at:int"
        " status:text ended_by:agent? ended_at:int? merge_event:seq?",
        _OURS.format("pull_request", "v.id"),
        besides="namespace",
    ),
    "review": _table(
        "review",
        "seq:seq pull_request:pull_request agent:agent verdict:text comment:text source_seq:seq created_at:int",
        "review v CROSS JOIN pull_request r ON r.id = v.pull_request AND r.namespace = ?1 ORDER BY v.seq",
    ),
    "pending_merge": _table(
        "pending_merge",
        "id:pending_merge source:branch target:branch paths:text? close:int pull_request:pull_request? is_open:int",
        _OURS.format("pending_merge", "v.id"),
        besides="namespace",
    ),
    "conflict": _table(
        "conflict",
        "id:conflict merge:pending_merge slot:slot base:seq source:seq target:seq status:text take:text? value:text?"
        " agent:agent?",
        "conflict v CROSS JOIN pending_merge m ON m.id = v.merge AND m.namespace = ?1 ORDER BY v.id",
    ),
    "outcome": _table(
        "outcome", "ref:text type:text seq:seq", _OURS.format("outcome", "v.ref, v.type"), besides="namespace"
    ),
    "judged": _table(
        "judged",
        "outcome:seq seq:seq made:seq? skipped:text?",
        "outcome o CROSS JOIN judged v ON v.outcome = o.seq WHERE o.namespace = ?1 ORDER BY v.outcome, v.seq",
    ),
    "read_set": _table(
        "read_set",
        "run:run outcome:seq seq:seq count:int",
        "run r CROSS JOIN read_set v ON v.run = r.id WHERE r.namespace = ?1 ORDER BY v.run, v.outcome, v.seq",
    ),
    "idempotency": _table(
        "idempotency",
        "agent:agent token:text seq:seq request:text",
        _OURS.format("idempotency", "v.agent, v.token"),
        besides="namespace",
    ),
    "experiment": _table(
        "experiment",
        "branch:branch name:text source:branch params:text metrics:text status:text error:text? agent:agent"
        " started:int ended:int?",
        f"experiment v {_IN.format('branch')} ORDER BY v.branch",
    ),
}

_NUMBERED = ("pull_request", "pending_merge", "conflict")
_HIGHEST = {
    "pull_request": "SELECT max(id) FROM pull_request",
    "pending_merge": "SELECT max(id) FROM pending_merge",
    "conflict": "SELECT max(id) FROM conflict",
}
_NAMED_IN_DETAILS = {
    "seq": "seq",
    "fork_seq": "seq",
    "base_seq": "seq",
    "source_seq": "seq",
    "target_seq": "seq",
    "merge_event": "seq",
    "pull_request": "pull_request",
    "conflict": "conflict",
}
"""Where the details of events name seqs and numbers."""

_CODES = {"type": EVENT_TYPE, "memory_type": MEMORY_TYPE}

_HASHED = {kind: re.split(r",\s+", columns) for kind, columns in q.LOG_COLUMNS.items()}

_FILL_HEAD = """INSERT INTO head(branch, slot, seq, ts, version, live, value, value_seq, agent, author, run, confidence,
 memory_type, prior, good, bad, outcomes, born, expires, refs)
 SELECT v.branch, v.slot, v.seq, v.ts, v.version, v.live,
 CASE WHEN v.live AND length(o.value) <= ?2 THEN o.value END, o.seq, v.agent, v.author, v.run, v.confidence,
 v.memory_type, v.prior, v.good, v.bad, v.outcomes, v.born, v.expires, v.refs
 FROM (SELECT max(w.seq) AS seq FROM log w CROSS JOIN branch b ON b.id = w.branch AND b.namespace = ?1
 WHERE w.slot IS NOT NULL GROUP BY w.branch, w.slot) n
 CROSS JOIN log v ON v.seq = n.seq CROSS JOIN log o ON o.seq = coalesce(v.value_seq, v.seq)
 ORDER BY v.branch, v.slot"""


_IMPORTED = "SELECT namespace, first - 1, last FROM imported ORDER BY first"
_ADD_IMPORTED = "INSERT INTO imported(first, last, namespace, ts) VALUES(?, ?, ?, ?)"


class ImportedPart(NamedTuple):
    """The part of the log, ``lower < seq <= upper``, that an import of older rows filled."""

    namespace: int
    lower: int
    upper: int


def imported(connection: sqlite3.Connection) -> list[ImportedPart]:
    """Return the parts of the log whose rows are older than some before them, oldest import first."""
    return [ImportedPart._make(row) for row in connection.execute(_IMPORTED)]


def counts(connection: sqlite3.Connection, namespace: int) -> dict[str, int]:
    """Return how many rows of each kind a namespace has."""
    return {
        kind: int(connection.execute(*plain(table.how_many, (namespace,))).fetchone()[0])
        for kind, table in _TABLES.items()
    }


def rows(connection: sqlite3.Connection, namespace: int) -> Iterator[tuple[str, ExportRow]]:
    """Yield every row of a namespace with its kind; columns that hold nothing are left out."""
    for kind, table in _TABLES.items():
        names = [column.name for column in table.columns]
        for row in connection.execute(*plain(table.select, (namespace,))):
            yield kind, {name: value for name, value in zip(names, row, strict=True) if value is not None}


class Import:
    """Adds the rows of an exported namespace to one that holds nothing but its main."""

    def __init__(self, tables: Tables, namespace: int, exported: str, inline: int) -> None:
        self._tables = tables
        self._connection = tables.connection
        self._namespace = namespace
        self._exported = exported
        self._inline = inline
        self._last_ts = tables.last_ts()
        self._moved = {"seq": tables.last_seq()}
        for kind in _NUMBERED:
            self._moved[kind] = self._connection.execute(_HIGHEST[kind]).fetchone()[0] or 0
        self._new: dict[str, dict[int, int]] = {kind: {} for kind in ("agent", "run", "branch", "path", "slot")}
        self._known_paths: set[int] = set()
        self._started = self._is_older = False

    def add(self, kind: str, row: Mapping[str, object]) -> None:
        """Add a row as ``rows`` yielded it.

        Raises:
            InvalidExportError: No such row can have been exported.
        """
        table = _TABLES.get(kind)
        if table is None:
            raise InvalidExportError(f"{kind!r} is no kind of line")
        unknown = row.keys() - {column.name for column in table.columns}
        if unknown:
            raise InvalidExportError(f"a line of kind {kind!r} has no {', '.join(sorted(unknown))}")
        values = {column.name: self._value(kind, column, row.get(column.name)) for column in table.columns}
        try:
            self._insert(kind, table, values)
        except (sqlite3.IntegrityError, OverflowError, UnicodeError) as error:
            raise InvalidExportError(f"a line of kind {kind!r} does not fit the others: {error}") from error

    def finish(self) -> None:
        """Make what follows from the rows, and check every invariant.

        Raises:
            InvalidExportError: The rows contradict each other.
        """
        if self._is_older:
            before = self._moved["seq"]
            imported = (before + 1, self._tables.last_seq(), self._namespace, self._last_ts)
            self._connection.execute(_ADD_IMPORTED, imported)
        try:
            self._connection.execute(*plain(_FILL_HEAD, (self._namespace, self._inline)))
        except sqlite3.IntegrityError as error:
            raise InvalidExportError(f"its versions contradict each other: {error}") from error
        self._connection.create_function(*HASH_FUNCTION)
        for statement in q.FILL_HASHES.values():
            self._connection.execute(statement)
        found = self._tables.problems()[2]
        if found:
            check, detail = found[0]
            raise InvalidExportError(f"with it the database would break an invariant ({check}: {detail})")

    def _value(self, kind: str, column: _Column, value: object) -> Any:
        name, holds = column.name, column.holds
        if value is None:
            if column.optional:
                return None
        elif holds == "text":
            if isinstance(value, str):
                return value
        elif holds == "real":
            if isinstance(value, float | int) and not isinstance(value, bool):
                return float(value)
        elif isinstance(value, int) and not isinstance(value, bool) and -_MOST < value < _MOST:
            if name == "id" and holds in self._new:
                return value
            if name not in _CODES or value in _CODES[name] or kind != "log":
                return self._number(kind, name, holds, value)
        raise InvalidExportError(f"{name} of a line of kind {kind!r} cannot be {str(value)[:60]!r}")

    def _number(self, kind: str, name: str, holds: str, value: int) -> int:
        if holds == "int":
            return value
        if holds in self._moved:
            return value + self._moved[holds] if value else 0
        if holds == "owner":
            if value == SHARED:
                return SHARED
            holds = "agent"
        found = self._new[holds].get(value)
        if found is None:
            raise InvalidExportError(f"{name} of a line of kind {kind!r} names {holds} {value}, which is not there")
        return found

    def _insert(self, kind: str, table: _Table, values: dict[str, Any]) -> None:
        match kind:
            case "agent":
                self._new[kind][values["id"]] = self._agent(values["name"], values["home"])
            case "run":
                number = values.pop("id")
                self._new[kind][number] = self._tables.add_run(self._namespace, **values)
            case "branch":
                self._new[kind][values["id"]] = self._branch(values)
            case "path":
                self._new[kind][values["id"]] = self._path((values["owner"], values["path"]))
            case "slot":
                self._new[kind][values["id"]] = self._slot(values["path"], values["key"])
            case "log":
                self._log(table, values)
            case _:
                besides = (self._namespace,) if table.is_of_namespace else ()
                self._connection.execute(table.insert, (*values.values(), *besides))

    def _agent(self, name: str, home: str | None) -> int:
        found = self._tables.agent(name)
        if found is not None:
            return found
        other = None if home in (None, self._exported) else self._tables.namespace(home)
        return self._tables.add_agent(name, self._namespace if other is None else other)

    def _branch(self, values: dict[str, Any]) -> int:
        closed = values["closed_at"]
        row = BranchRow(
            0, self._namespace, values["name"], values["parent"], values["fork_seq"], values["depth"],
            values["created_by"], values["created_at"], values["description"],
        )  # fmt: skip
        if row.parent is not None:
            made = self._tables.add_branch(row)
            if closed is not None:
                self._tables.close_branch(made, closed)
            return made
        main = self._tables.branches(self._namespace)[0][0]
        if self._new["branch"] or closed is not None or row[2:6] != main[2:6]:
            raise InvalidExportError(f"branch {row.name!r} has no parent and is not main")
        self._tables.adopt_branch(row._replace(id=main.id))
        return main.id

    def _path(self, identity: tuple[int, str]) -> int:
        found = self._connection.execute(q.PATH_ID, identity).fetchone()
        if found is None:
            return self._tables.append_path(*identity)
        self._known_paths.add(found[0])
        return int(found[0])

    def _slot(self, path: int, key: str) -> int:
        """Find or make a slot; the names of millions need not be remembered, as those of one write are."""
        found = self._connection.execute(q.SLOT, (path, key)).fetchone() if path in self._known_paths else None
        return int(found[0]) if found is not None else self._tables.append_slot(path, key)

    def _log(self, table: _Table, values: dict[str, Any]) -> None:
        if not self._started:
            self._started = True
            self._is_older = values["ts"] <= self._last_ts
        if values["details"] is not None and any(self._moved.values()):
            values["details"] = json.dumps(self._moved_within(json.loads(values["details"])), ensure_ascii=False)
        hashed = _HASHED["event" if values["slot"] is None else "version"]
        made = row_hash(tuple(values[name] for name in hashed))
        self._connection.execute(table.insert, (*values.values(), made))

    def _moved_within(self, details: JsonValue) -> JsonValue:
        if isinstance(details, list):
            return [self._moved_within(one) for one in details]
        if not isinstance(details, dict):
            return details
        return {
            name: self._moved[_NAMED_IN_DETAILS[name]] + one
            if isinstance(one, int) and one and name in _NAMED_IN_DETAILS
            else self._moved_within(one)
            for name, one in details.items()
        }
