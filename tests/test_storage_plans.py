"""What calls cost, in numbers that no machine changes: query plans, statements, and instructions of SQLite's machine.

What a call costs must follow from what it returns or changes, not from how much memory there is.
"""

from __future__ import annotations

import math
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from amfs import AgentMemory
from amfs.models import Delete, Find, Get, Put
from amfs.storage import checkpoints, finding, queries
from amfs.storage.hashing import HASH_FUNCTION
from amfs.storage.invariants import PROBLEMS
from amfs.storage.rows import SearchIndex
from tests.helpers_statements import Cost, metering, on_every_connection
from tests.helpers_tables import changed, contents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SMALL, LARGE = 100, 5000
CHANGES = 10

PIECES = {"ROW_HASH", "DOCUMENT", "IS_SEEN", "HEAD_COLUMNS", "VIEW_COLUMNS", "LIVE"}
"""Expressions, which are no statements by themselves."""

_VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")

STATEMENTS = {
    name: statement
    for name, statement in (vars(queries) | vars(checkpoints) | vars(finding)).items()
    if name.isupper() and not name.startswith("_") and isinstance(statement, str) and name not in PIECES
} | {
    f"{name} of {getattr(key, 'value', key)}": statement
    for name, statements in (vars(queries) | vars(finding)).items()
    if name.isupper() and not name.startswith("_") and isinstance(statements, dict)
    for key, statement in statements.items()
    if statement.startswith(_VERBS)
}

FULL_SCANS = {
    "HASH_ALL": "the migration of an older file gives every row of the log a hash, once",
    "API_KEYS": "a table of a row per API key, small by nature; only api_keys() asks",
    "LAST": "the last row of the log, by LIMIT 1 from its end",
    "COUNT_EVENTS": "stats() counts all there is",
    "COUNT_AGENTS": "stats() counts all there is",
    "EMBEDDERS": "a table of a row per model, small by nature; a handle asks once",
    "HAS_TEMPORARY_SEARCH": "the schema of what is temporary",
    "COUNT_SEARCH_WORDS": "verify() counts all there is",
    "WRONG_DOCUMENTS": "verify() looks at all there is",
    "SEARCH_SIZES of current": "verify() looks at all there is",
    "SEARCH_SIZES of ever": "verify() looks at all there is",
    **dict.fromkeys(
        (f"FILL_HASHES of {table}" for table in queries.FILL_HASHES), "the migration of an older file, once"
    ),
}
"""Statements that may walk a whole table, and why."""

_SMALL_SOURCES = re.compile(
    r"SCAN (j|json_each|q|r|f|fresh|pragma_\w+|CONSTANT ROW|\(subquery-\d+\)"
    r"|search_\w+_text VIRTUAL TABLE INDEX \d+:=?M\d)(?= |$)"
)
"""What is not a table: parameters, ranges, results of a subquery, and what the index of words says of some words."""


# --- plans -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A plain connection to a migrated database."""
    database = tmp_path_factory.mktemp("schema") / "memory.db"
    with AgentMemory("ada", database) as mem:
        mem.rebuild_search_index()  # the tables of words are made with the first search
    connection = sqlite3.connect(database)
    connection.create_function(*HASH_FUNCTION)
    connection.execute(queries.SEARCH_WORDS[SearchIndex.CURRENT, False])
    yield connection
    connection.close()


def plan(connection: sqlite3.Connection, statement: str) -> list[str]:
    """Return the lines of a statement's query plan; an error if it is no valid SQL for this schema."""
    plain = re.sub(r"\?\d+", "?", statement)  # as the storage runs it
    parameters = (None,) * plain.count("?")
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {plain}", parameters)]


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_walks_a_whole_table(name: str, schema: sqlite3.Connection) -> None:
    scans = [line for line in plan(schema, STATEMENTS[name]) if "SCAN" in line and not _SMALL_SOURCES.match(line)]
    assert bool(scans) == (name in FULL_SCANS), scans


@pytest.mark.parametrize("check", PROBLEMS)
def test_every_invariant_is_valid_sql_and_holds_in_a_new_database(check: str, schema: sqlite3.Connection) -> None:
    assert plan(schema, PROBLEMS[check])
    assert schema.execute(PROBLEMS[check]).fetchall() == []


def test_all_statements_were_seen() -> None:
    assert len(STATEMENTS) > 120
    assert FULL_SCANS.keys() <= STATEMENTS.keys()
    assert {f"SEARCH_RANKED of {index.value}" for index in SearchIndex} <= STATEMENTS.keys()


# --- statements and steps --------------------------------------------------------------------------------------------


class Fixture:
    """A database of some size, with two handles that have used it, so that names are known."""

    def __init__(self, database: Path, entries: int, depth: int = 1) -> None:
        with metering() as self.meter:
            self.mem = AgentMemory("ada", database, durability="normal")
            self.other = self.mem.as_agent("ben")
            with self.mem.transaction() as tx:
                for number in range(entries):
                    tx.write("log", f"{number:06d}", number)
            self.late = f"{entries - 6:06d}"
            for round_ in range(2):
                with self.mem.transaction() as tx:
                    for number in range(entries):
                        tx.write(f"svc-{number // 50}", f"k{number % 50}", {"n": number, "round": round_})
            self.other.write("theirs", "key", 1)
            self.deep = "main"
            for level in range(depth):
                self.mem.create_branch(f"level-{level}", source=self.deep)
                self.deep = f"level-{level}"
                self.mem.write("deep", f"k{level}", level, branch=self.deep)
            self.mem.create_tag("fixed")
            self.mem.create_branch("tagged")
            self.mem.create_branch("side")
            for number in range(CHANGES):
                self.mem.write("svc-0", f"k{number}", {"n": -1, "round": 1}, branch="side")
        self._numbers = count()

    @property
    def number(self) -> int:
        """A number that was not used before."""
        return next(self._numbers)

    def prepare(self) -> None:
        """Make a branch that nothing was written on, and count what the next fork need not count."""
        self.empty = f"empty {self.number}"
        self.mem.create_branch(self.empty)
        self.mem.fork(f"agent {self.number}")

    def cost(self, call: Callable[[Fixture], object]) -> Cost:
        """Return what a call does when it is made for the second time in a run, so that all names are known."""
        with self.mem.run():
            call(self)
            return self.meter.cost(lambda: call(self))


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Fixture]]:
    """A small and a large database, and one with a deep branch."""
    folder = tmp_path_factory.mktemp("sizes")
    made = {
        "small": Fixture(folder / "small.db", SMALL),
        "large": Fixture(folder / "large.db", LARGE),
        "deep": Fixture(folder / "deep.db", SMALL, depth=20),
    }
    yield made
    for one in made.values():
        one.mem.close()


BUDGETS: dict[str, tuple[int, Callable[[Fixture], Any]]] = {
    "read": (1, lambda f: f.mem.read("svc-0", "k3")),
    "read of another agent's entry, again": (1, lambda f: f.mem.read("theirs", "key")),
    "read of a missing entry": (2, lambda f: f.mem.read("svc-0", "missing")),
    "read on a branch": (3, lambda f: f.mem.read("svc-0", "k3", branch=f.deep)),
    "read on a branch of its own": (3, lambda f: f.mem.read("deep", "k0", branch=f.deep)),
    "read of the past": (4, lambda f: f.mem.read("svc-0", "k3", at=150)),
    "read_many": (8, lambda f: f.mem.read_many([("svc-0", f"k{n}") for n in range(5)])),
    "list of a path": (5, lambda f: f.mem.list("svc-0")),
    "list of a path on a branch": (5, lambda f: f.mem.list("svc-0", branch=f.deep)),
    "list after a key": (5, lambda f: f.mem.list("log", after_key=f.late)),
    "list after a key on a branch": (5, lambda f: f.mem.list("log", after_key=f.late, branch=f.deep)),
    "a page of everything": (5, lambda f: f.mem.list(limit=5)),
    "history": (5, lambda f: f.mem.history("svc-0", "k20")),
    "timeline": (5, lambda f: f.mem.timeline(limit=5)),
    "timeline of a rare type": (5, lambda f: f.mem.timeline(limit=5, event_type="outcome")),
    "timeline of a branch": (5, lambda f: f.mem.timeline(limit=5, branch="main")),
    "timeline of everyone": (5, lambda f: f.mem.timeline(limit=5, agent_id="*")),
    "write": (7, lambda f: f.mem.write("svc-0", "k30", f.number)),
    "write of a new key": (11, lambda f: f.mem.write("svc-0", f"new {f.number}", 1)),
    "write on a branch": (7, lambda f: f.mem.write("svc-0", "k30", f.number, branch=f.deep)),
    "create_branch": (10, lambda f: f.mem.create_branch(f"branch {f.number}")),
    "create_branch from a deep one": (10, lambda f: f.mem.create_branch(f"branch {f.number}", source=f.deep)),
    "create_tag": (9, lambda f: f.mem.create_tag(f"tag {f.number}")),
    "create_tag of the past": (9, lambda f: f.mem.create_tag(f"tag {f.number}", at=150)),
    "read at a tag": (5, lambda f: f.mem.read("svc-0", "k3", at="fixed")),
    "rollback that restores nothing": (14, lambda f: f.mem.rollback(tag_name="fixed", branch="tagged")),
    "brief": (7, lambda f: f.mem.brief("svc-0")),
    "brief of a branch": (7, lambda f: f.mem.brief("svc-0", branch=f.deep)),
    "search without a query": (7, lambda f: f.mem.search(entity_path="svc-0", limit=5)),
    "record_context": (7, lambda f: f.mem.record_context("ticket", "text")),
}


@pytest.mark.parametrize("call", BUDGETS)
def test_a_call_keeps_to_its_budget_of_statements(call: str, fixtures: dict[str, Fixture]) -> None:
    budget, made = BUDGETS[call]
    costs = {name: one.cost(made) for name, one in fixtures.items()}
    assert {len(cost.statements) for cost in costs.values()} == {len(costs["small"].statements)}, costs
    assert len(costs["small"].statements) <= budget, costs["small"].statements


def work(f: Fixture, agent: str = "ada") -> str:
    """Return the name of a new branch with ten changes by an agent."""
    name = f"work {f.number}"
    f.mem.create_branch(name)
    handle = f.mem if agent == "ada" else f.other
    handle.apply([Put(entity_path="svc-1", key=f"k{n}", value=f.number) for n in range(CHANGES)], branch=name)
    return name


def clash(f: Fixture) -> str:
    """Return the name of a new branch with ten changes that clash with a branch it came from."""
    below, above = work(f), f"above {f.number}"
    f.mem.create_branch(above, source=below)
    for name in (below, above):
        f.mem.apply([Put(entity_path="svc-1", key=f"k{n}", value=f.number) for n in range(CHANGES)], branch=name)
    return above


def settle(f: Fixture) -> None:
    """Merge by hand, conflict by conflict."""
    for conflict in f.mem.merge_branch(clash(f), strategy="manual").conflicts:
        f.mem.resolve_conflict(conflict.id, take="source")


def review(f: Fixture) -> None:
    """Take a pull request from its beginning to its end."""
    name = work(f)
    f.mem.create_branch(f"{name}/next", source=name)
    f.mem.write("svc-1", "k0", f.number, branch=f"{name}/next")
    pr = f.mem.create_pull_request("title", f"{name}/next")
    f.mem.review_pull_request(pr.id, "approved")
    f.mem.merge_pull_request(pr.id)


GROWING = {
    "search": lambda f: f.mem.search("theirs"),
    "search on a branch": lambda f: f.mem.search("theirs", branch=f.deep),
    "search below a path": lambda f: f.mem.search("theirs", entity_path="theirs"),
    "search of the past": lambda f: f.mem.search("theirs", at="fixed"),
    "search without a query on a branch": lambda f: f.mem.search(entity_path="svc-0", branch=f.deep),
    "brief after a write": lambda f: (f.mem.write("svc-0", "k45", f.number), f.mem.brief("svc-0", "ada", limit=5)),
    "brief of a branch after a write": lambda f: (
        f.mem.write("svc-0", "k45", f.number, branch=f.deep),
        f.mem.brief("svc-0", limit=5, branch=f.deep),
    ),
    "rollback": lambda f: f.mem.rollback(tag_name="fixed", branch=work(f)),
    "rollback, looked at": lambda f: f.mem.rollback(tag_name="fixed", branch=work(f), dry_run=True),
    "rollback over others": lambda f: f.mem.rollback(tag_name="fixed", branch=work(f, "ben"), include_others=True),
    "rollback of one author": lambda f: f.mem.rollback(agent_id="ben", branch=work(f, "ben")),
    "cherry-pick": lambda f: (
        f.mem.create_branch(name := f"branch {f.number}"),
        f.mem.cherry_pick(work(f), [("svc-1", f"k{n}") for n in range(3)], target=name),
    ),
    "fork": lambda f: f.mem.fork(f"agent {f.number}"),
    "manual merge": settle,
    "pull request": review,
    "merge after a rollback": lambda f: (
        f.mem.create_branch(name := f"{work(f)}/next", source=(below := work(f))),
        f.mem.write("svc-1", "k0", f.number, branch=name),
        f.mem.merge_branch(name, target=below),
        f.mem.rollback(seq=f.mem.branches()[-1].fork_seq, branch=below),
        f.mem.merge_branch(name, target=below),
    ),
    "diff": lambda f: f.mem.diff_branch("side"),
    "dry run": lambda f: f.mem.merge_branch("side", strategy="source_wins", dry_run=True),
    "batch": lambda f: f.mem.apply(
        [Put(entity_path="svc-0", key=f"k{n}", value=f.number) for n in range(20, 30)]
        + [Delete(entity_path="svc-0", key="k31"), Get(entity_path="svc-0", key="k32")]
    ),
    "outcome": lambda f: f.mem.commit_outcome(f"o{f.number}", "success", [("svc-0", "k40"), ("svc-1", "k41")]),
    "outcome of a read set": lambda f: (
        f.mem.read_many([("svc-0", "k42"), ("svc-1", "k43")]),
        f.mem.commit_outcome(f"o{f.number}", "success"),
    ),
    "merge": lambda f: (
        f.mem.create_branch(name := f"merged {f.number}"),
        [f.mem.write("svc-1", f"k{n}", f.number, branch=name) for n in range(CHANGES)],
        f.mem.merge_branch(name),
        f.mem.merge_branch(name),
    ),
}


HALVINGS = {
    "pull request": 1,
    **dict.fromkeys(("search", "search on a branch", "search below a path", "search of the past"), 1),
}
"""How often a call looks up what stood at a time, or where a word stands: a statement more each time the log
doubles."""


@pytest.mark.parametrize("call", [*BUDGETS, *GROWING])
def test_what_a_call_costs_does_not_grow_with_the_memory(call: str, fixtures: dict[str, Fixture]) -> None:
    made = BUDGETS[call][1] if call in BUDGETS else GROWING[call]
    small, large = fixtures["small"].cost(made), fixtures["large"].cost(made)
    more = len(large.statements) - len(small.statements)
    assert 0 <= more <= HALVINGS.get(call, 0) * math.ceil(math.log2(LARGE / SMALL))
    assert large.steps <= small.steps * 1.25 + 50, (small.steps, large.steps)


def fork_of(f: Fixture, name: str) -> int:
    """Return the seq that a branch was made at."""
    return next(branch.fork_seq for branch in f.mem.branches() if branch.name == name)


ROWS: dict[str, dict[str, int]] = {
    "rollback": {"log": CHANGES + 1, "head": 2 * CHANGES, "rollback": 1},
    "rollback of one author": {"log": CHANGES + 1, "head": 2 * CHANGES},
    "rollback, looked at": {},
    "cherry-pick": {"log": CHANGES + 1, "head": CHANGES},
    "fork": {"log": 2, "namespace": 1, "agent": 1, "branch": 1, "lineage": 2, "census": 2},
    "create_tag": {"log": 1, "tag": 1},
}
"""How many rows a call adds, takes away or changes (a changed one counts twice, as it was and as it is)."""

CHANGING: dict[str, Callable[[Fixture, str], Any]] = {
    "rollback": lambda f, name: f.mem.rollback(seq=fork_of(f, name), branch=name),
    "rollback of one author": lambda f, name: f.mem.rollback(agent_id="ada", branch=name),
    "rollback, looked at": lambda f, name: f.mem.rollback(seq=fork_of(f, name), branch=name, dry_run=True),
    "cherry-pick": lambda f, name: f.mem.cherry_pick(
        name, [("svc-1", f"k{n}") for n in range(CHANGES)], target=f.empty
    ),
    "fork": lambda f, _: f.mem.fork(f"agent {f.number}"),
    "create_tag": lambda f, name: f.mem.create_tag(f"tag {f.number}", branch=name),
}


@pytest.mark.parametrize("call", ROWS)
@pytest.mark.parametrize("size", ["small", "large"])
def test_a_call_changes_as_many_rows_as_it_changes_entries(call: str, size: str, fixtures: dict[str, Fixture]) -> None:
    one = fixtures[size]
    name, _ = work(one), one.prepare()
    before = contents(one.mem.database)
    CHANGING[call](one, name)
    assert changed(before, contents(one.mem.database)) == ROWS[call]


def test_a_merge_executes_a_few_statements_per_change(fixtures: dict[str, Fixture]) -> None:
    few, many = (
        fixtures["small"].cost(
            lambda f, changes=changes: (
                f.mem.create_branch(name := f"branch {f.number}"),
                f.mem.apply(
                    [Put(entity_path="svc-1", key=f"k{n}", value=f.number) for n in range(changes)], branch=name
                ),
                f.mem.merge_branch(name),
            )
        )
        for changes in (5, 25)
    )
    assert len(many.statements) - len(few.statements) <= 20 * 2 * 5


def test_reading_costs_little_more_the_deeper_the_branch(fixtures: dict[str, Fixture]) -> None:
    for path, key in (("svc-0", "k3"), ("deep", "k0")):
        shallow, deep = (
            fixtures[name].cost(lambda f, path=path, key=key: f.mem.read(path, key, branch=f.deep))
            for name in ("small", "deep")
        )
        assert len(shallow.statements) == len(deep.statements)
        assert deep.steps - shallow.steps <= 19 * 15, "steps per level of the lineage"


def test_history_costs_no_more_for_many_versions_elsewhere(fixtures: dict[str, Fixture]) -> None:
    small = fixtures["small"]
    before = small.cost(lambda f: f.mem.read("svc-1", "k9"))
    for number in range(200):
        small.mem.write("svc-1", "k9", number)
    after = small.cost(lambda f: f.mem.read("svc-1", "k9"))
    assert (len(after.statements), after.steps) == (len(before.statements), before.steps)
    branch_before = small.cost(lambda f: f.mem.read("svc-1", "k9", branch="side"))
    for number in range(200):
        small.mem.write("svc-1", "k9", number)
    branch_after = small.cost(lambda f: f.mem.read("svc-1", "k9", branch="side"))
    assert branch_after.steps == branch_before.steps


@pytest.mark.parametrize("conditions", [None, {"round": 1}, {"round": {"$gt": 0}}])
def test_the_newest_of_many_are_found_at_the_end_of_the_log(
    conditions: dict[str, Any] | None, fixtures: dict[str, Fixture]
) -> None:
    small, large = (
        fixtures[size].cost(lambda f: f.mem.apply([Find(filter=conditions, limit=5)])) for size in ("small", "large")
    )
    assert len(large.statements) <= len(small.statements) + 1, "where the end of the log begins"
    assert large.steps <= small.steps * 1.25 + 50
    assert sum("INDEXED BY log_branch" in statement for statement in large.statements) == 2


@pytest.mark.parametrize("conditions", [{"n": LARGE - 1}, {"n": -9}, {"n": {"$lt": -8}}])
def test_to_find_what_is_rare_looks_once_at_each_key(conditions: dict[str, Any], fixtures: dict[str, Fixture]) -> None:
    small, large = (
        fixtures[size].cost(lambda f: f.mem.apply([Find(filter=conditions, limit=5)])) for size in ("small", "large")
    )
    assert large.steps <= small.steps * 1.25 * LARGE / SMALL
    assert len(large.statements) <= len(small.statements) + 3


@pytest.mark.parametrize("conditions", [{"n": "none"}, {"n": {"$lt": -8}}, {"n": {"$gt": "a"}}])
def test_what_sqlite_can_tell_does_not_match_is_not_fetched(
    conditions: dict[str, Any], fixtures: dict[str, Fixture]
) -> None:
    def cost(conditions: dict[str, Any]) -> Cost:
        return fixtures["small"].cost(lambda f: f.mem.apply([Find(entity_path="svc-0", filter=conditions)]))

    assert len(cost(conditions).statements) < len(cost({"$or": [{"n": "none"}, {"n": -9}]}).statements)


def test_a_first_cross_agent_read_is_one_transaction(fixtures: dict[str, Fixture]) -> None:
    one = fixtures["small"]
    one.other.write("theirs", "key", one.number)
    cost = one.meter.cost(lambda: one.mem.read("theirs", "key"))
    assert cost.statements.count("BEGIN IMMEDIATE") == cost.statements.count("COMMIT") == 1
    assert len(cost.statements) <= 7
    assert len(one.meter.cost(lambda: one.mem.read("theirs", "key")).statements) == 1


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("normal", 1)])
def test_every_connection_is_as_durable_as_was_asked(durability: str, synchronous: int, tmp_path: Path) -> None:
    opened: list[sqlite3.Connection] = []
    with on_every_connection(opened.append), AgentMemory("ada", tmp_path / "x.db", durability=durability) as mem:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: mem.write("svc", "key", number), range(20)))
        assert mem.stats().durability == durability
        writers = [connection for connection in opened if not is_closed(connection)]
        assert writers
        for connection in writers:
            assert connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("PRAGMA mmap_size").fetchone() == (0,)


def is_closed(connection: sqlite3.Connection) -> bool:
    """Return whether a connection was closed."""
    try:
        connection.total_changes  # noqa: B018 - raises on a closed connection
    except sqlite3.ProgrammingError:
        return True
    return False


def test_a_meter_counts(tmp_path: Path) -> None:
    with metering() as meter:
        connection = sqlite3.connect(tmp_path / "x.db")
    cost = meter.cost(lambda: connection.execute("SELECT 1").fetchall())
    assert cost.statements == ["SELECT 1"]
    assert cost.steps > 0
    connection.close()
