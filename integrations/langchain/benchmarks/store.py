"""AMFSStore beside LangGraph's SqliteStore and InMemoryStore, as ratios of what calls take.

Run it with nothing else at work: ``python integrations/langchain/benchmarks/store.py``. It needs
``langgraph-checkpoint-sqlite``. SqliteStore is measured as it is shipped: it sets no WAL, so every commit makes and
syncs a rollback journal. AMFSStore is measured with ``durability="normal"`` and ``"full"``; what a full put may cost is
told by a bare commit of one row in plain sqlite3 (WAL, synced).
"""

from __future__ import annotations

import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from langchain_amfs import AMFSStore
from langgraph.store.base import BaseStore, PutOp
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import SqliteStore

SIZES = (1_000, 10_000)
ROUNDS = 7
KINDS = 10
OF_A_USER = 100
TOPICS = ("notes", "facts")
BATCH = 100

NORMAL, FULL, SQLITE, MEMORY, BARE = "normal", "full", "SqliteStore", "InMemoryStore", "bare commit"

Call = Callable[[int], object]
Times = dict[str, dict[str, list[float]]]


class Row(NamedTuple):
    """A call that is timed: how often in a round, how much faster than SqliteStore it is to be, and "full" at most."""

    title: str
    count: int
    least: float | None = None
    most: float | None = None

    @property
    def promise(self) -> str:
        """The promise in words."""
        faster = "" if self.least is None else f"normal >= {self.least:g}"
        return faster if self.most is None else f"{faster}; full <= {self.most:g} commits"


PUT = Row("put", 60, least=10, most=2)
GET = Row("get", 100)
FILTERED = Row(f"search by a filter under a prefix of {OF_A_USER}", 15, least=10)
FILTERED_ALL = Row("search by a filter under a prefix of all", 8, least=10)
RARE = Row("search by a filter that one of all matches", 8)
RANGE = Row("search by a range that ten of all match", 4)
SEARCH = Row("search of a namespace", 30)
PUTS = Row(f"batch of {BATCH} puts", 4)
ROWS = (PUT, GET, FILTERED, FILTERED_ALL, RARE, RANGE, SEARCH, PUTS)


def place(number: int) -> tuple[tuple[str, ...], str]:
    """Return the namespace and key of an item."""
    return ("users", f"user-{number // OF_A_USER}", TOPICS[number % len(TOPICS)]), f"key-{number}"


def value(number: int, salt: int = 0) -> dict[str, Any]:
    """Return a value of about 130 bytes as JSON."""
    text = "prefers window seats and answers that fit on a page"
    return {"kind": f"kind-{number // 2 % KINDS}", "text": text, "n": number, "salt": salt, "tags": ["a", "b"]}


def calls(store: BaseStore, size: int) -> dict[Row, Call]:
    """Return what is timed on a store; each call takes a number that says of which item."""

    def put(number: int) -> None:
        store.put(*place(number), value(number, random.getrandbits(32)))

    def filtered(prefix: tuple[str, ...], conditions: dict[str, Any]) -> object:
        return store.search(prefix, filter=conditions, limit=10)

    def puts(number: int) -> None:
        salt = random.getrandbits(32)
        numbers = [(number + offset) % size for offset in range(BATCH)]
        store.batch([PutOp(*place(one), value(one, salt)) for one in numbers])

    return {
        PUT: put,
        GET: lambda number: store.get(*place(number)),
        FILTERED: lambda number: filtered(place(number)[0][:2], {"kind": f"kind-{number % KINDS}"}),
        FILTERED_ALL: lambda number: filtered(("users",), {"kind": f"kind-{number % KINDS}"}),
        RARE: lambda number: filtered(("users",), {"n": number}),
        RANGE: lambda _number: filtered(("users",), {"n": {"$lt": 10}}),
        SEARCH: lambda number: store.search(place(number)[0], limit=10),
        PUTS: puts,
    }


@contextmanager
def stores(size: int) -> Iterator[dict[str, dict[Row, Call]]]:
    """Yield the calls by store, each store on a new file with so many items, and the bare commit."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        opened: dict[str, BaseStore] = {MEMORY: InMemoryStore()}
        for durability in (NORMAL, FULL):
            store = AMFSStore.from_conn_string(folder / f"{durability}.db", durability=durability)
            opened[durability] = stack.enter_context(store)
        opened[SQLITE] = stack.enter_context(SqliteStore.from_conn_string(str(folder / "sqlite.db")))
        opened[SQLITE].setup()
        for store in opened.values():
            for start in range(0, size, SIZES[0]):
                store.batch([PutOp(*place(number), value(number)) for number in range(start, start + SIZES[0])])
        timed = {name: calls(store, size) for name, store in opened.items()}
        connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
        stack.callback(connection.close)
        yield timed | {BARE: {PUT: bare_commit(connection)}}


def bare_commit(connection: sqlite3.Connection) -> Call:
    """Return a call that commits one row, synced: the least that a durable put costs."""
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE item(path TEXT, key TEXT, value TEXT, PRIMARY KEY(path, key)) WITHOUT ROWID")

    def commit(number: int) -> None:
        namespace, key = place(number)
        row = ("/".join(namespace), key, json.dumps(value(number, random.getrandbits(32))))
        connection.execute("INSERT OR REPLACE INTO item VALUES(?, ?, ?)", row)

    return commit


def measure(size: int) -> dict[Row, dict[str, list[float]]]:
    """Return the median of each round in µs, by call and store; the stores take turns, the first round warms up."""
    medians: dict[Row, dict[str, list[float]]] = {row: defaultdict(list) for row in ROWS}
    with stores(size) as timed:
        for turn in range(ROUNDS + 1):
            for row in ROWS:
                numbers = random.sample(range(size), row.count)
                for name in sorted(timed, reverse=turn % 2 == 1):
                    if row in timed[name]:
                        taken = take(timed[name][row], numbers)
                        medians[row][name] += [taken] if turn else []
    return medians


def take(call: Call, numbers: list[int]) -> float:
    """Return the median time of a call in µs."""
    clock, taken = time.perf_counter_ns, list[int]()
    for number in numbers:
        begin = clock()
        call(number)
        taken.append(clock() - begin)
    return statistics.median(taken) / 1000


def line(row: Row, size: int, medians: dict[str, list[float]]) -> str:
    """Return the row of the table for a call."""
    cells = [
        judged(ratio(medians[SQLITE], medians[NORMAL]), least=row.least),
        judged(ratio(medians[SQLITE], medians[FULL])),
        judged(ratio(medians[MEMORY], medians[NORMAL])),
        judged(ratio(medians[FULL], medians[BARE]), most=row.most) if BARE in medians else "",
        *(f"{statistics.median(medians[name]):,.0f}" for name in (NORMAL, FULL, SQLITE, MEMORY)),
        f"{statistics.median(medians[BARE]):,.0f}" if BARE in medians else "",
    ]
    return f"| {row.title} | {size:,} | {row.promise} | {' | '.join(cells)} |"


def ratio(mine: list[float], theirs: list[float]) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(one / other for one, other in zip(mine, theirs, strict=True))


def judged(figure: float, least: float | None = None, most: float | None = None) -> str:
    """Return a ratio, with what was missed in plain sight."""
    shown = f"{figure:.1f}" if figure >= 1 else f"{figure:.3f}"
    is_kept = (least is None or round(figure, 1) >= least) and (most is None or round(figure, 1) <= most)
    return f"**{shown}**" if is_kept else f"**{shown} missed**"


if __name__ == "__main__":
    print("SqliteStore / AMFSStore: how many times faster AMFSStore is. Medians in µs; limit 10\n")
    columns = ["SqliteStore / normal", "SqliteStore / full", "InMemoryStore / normal", "full / bare FULL commit"]
    columns += [f"{name}, µs" for name in (NORMAL, FULL, SQLITE, MEMORY, BARE)]
    print(f"| call | items | promise | {' | '.join(columns)} |\n|{'---|' * (3 + len(columns))}")
    measured = {size: measure(size) for size in SIZES}
    for row in ROWS:
        for size, medians in measured.items():
            print(line(row, size, medians[row]))
