"""AMFSMemory beside LlamaIndex's own Memory on disk, as ratios of what calls take.

Run it with nothing else at work: ``python integrations/llamaindex/benchmarks/memory.py``. The stock Memory is measured
as it is shipped, on a SQLite file; AMFSMemory with ``durability="normal"`` and ``"full"``. What a full put may cost is
told by a bare commit of one row in plain sqlite3 (WAL, synced). All messages are active unless a row says otherwise.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from llama_index.core.llms import ChatMessage
from llama_index.core.memory import Memory
from llama_index.memory.amfs import AMFSMemory

from amfs import AgentMemory

SIZES = (0, 500, 5_000)
ROUNDS = 5
BATCH = 500
UNBOUNDED = 100_000_000
"""A token limit that no conversation here reaches."""

NORMAL, FULL, STOCK, BARE = "normal", "full", "stock", "bare commit"

Call = Callable[[], Awaitable[object]]


class Row(NamedTuple):
    """A call that is timed: how often in a round, how much faster than stock it is to be, and "full" at most."""

    title: str
    count: int
    least: float | None = None
    most: float | None = None

    @property
    def promise(self) -> str:
        """The promise in words."""
        faster = "" if self.least is None else f"normal >= {self.least:g}"
        return faster if self.most is None else f"{faster}; full <= {self.most:g} commits"


PUT = Row("put", 20, least=100, most=2)
GET = Row("get", 5)
PUTS = Row(f"batch of {BATCH} messages", 1)
WINDOWED_PUT = Row("put, window of 30,000 tokens", 20)
WINDOWED_GET = Row("get, window of 30,000 tokens", 5)
ROWS = (PUT, GET, WINDOWED_PUT, WINDOWED_GET, PUTS)


def message() -> ChatMessage:
    """Return a message of about 225 characters."""
    words = " ".join(random.choices(("window", "seat", "flight", "please", "tomorrow", "cheaper"), k=33))  # noqa: S311
    return ChatMessage(role=random.choice(("user", "assistant")), content=words)  # noqa: S311


async def opened(stack: ExitStack, folder: Path, size: int) -> dict[str, dict[Row, Call]]:
    """Return the calls by kind of memory, each on new files with so many messages."""
    timed: dict[str, dict[Row, Call]] = {}
    for kind in (NORMAL, FULL, STOCK):
        calls: dict[Row, Call] = {}
        for limit, put, get in ((UNBOUNDED, PUT, GET), (30_000, WINDOWED_PUT, WINDOWED_GET)):
            path = folder / f"{kind}-{limit}.db"
            if kind == STOCK:
                uri = f"sqlite+aiosqlite:///{path}"
                memory = Memory.from_defaults("s", token_limit=limit, async_database_uri=uri)
            else:
                handle = stack.enter_context(AgentMemory("ann", path, durability=kind))
                memory = AMFSMemory.from_memory(handle, session_id="s", token_limit=limit)
            if size:
                await memory.aput_messages([message() for _ in range(size)])
            calls |= {put: lambda memory=memory: memory.aput(message()), get: memory.aget}
            if put is PUT:
                batch = [message() for _ in range(BATCH)]
                calls[PUTS] = lambda memory=memory, batch=batch: memory.aput_messages(batch)
        timed[kind] = calls
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    stack.callback(connection.close)
    return timed | {BARE: {PUT: bare_commit(connection)}}


def bare_commit(connection: sqlite3.Connection) -> Call:
    """Return a call that commits one row, synced: the least that a durable put costs."""
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE message(id INTEGER PRIMARY KEY, session TEXT, value TEXT)")

    async def commit() -> None:
        text = message().model_dump_json()
        connection.execute("INSERT INTO message(session, value) VALUES(?, ?)", ("s", text))

    return commit


async def measure(size: int) -> dict[Row, dict[str, list[float]]]:
    """Return the median of each round in µs, by call and memory; the memories take turns, the first round warms up."""
    medians: dict[Row, dict[str, list[float]]] = {row: defaultdict(list) for row in ROWS}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        timed = await opened(stack, Path(name), size)
        for turn in range(ROUNDS + 1):
            for row in ROWS:
                for kind in sorted(timed, reverse=turn % 2 == 1):
                    if row in timed[kind] and (row is not PUTS or turn == ROUNDS):
                        taken = await take(timed[kind][row], row.count)
                        medians[row][kind] += [taken] if turn else []
    return medians


async def take(call: Call, count: int) -> float:
    """Return the median time of a call in µs."""
    clock, taken = time.perf_counter_ns, list[int]()
    for _ in range(count):
        begin = clock()
        await call()
        taken.append(clock() - begin)
    return statistics.median(taken) / 1000


def line(row: Row, size: int, medians: dict[str, list[float]]) -> str:
    """Return the row of the table for a call."""
    cells = [
        judged(ratio(medians[STOCK], medians[NORMAL]), least=row.least if size else None),
        judged(ratio(medians[STOCK], medians[FULL])),
        judged(ratio(medians[FULL], medians[BARE]), most=row.most) if BARE in medians else "",
        *(f"{statistics.median(medians[kind]):,.0f}" for kind in (NORMAL, FULL, STOCK)),
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


async def main() -> None:
    """Print the table."""
    print("stock Memory / AMFSMemory: how many times faster AMFSMemory is. Medians in µs\n")
    columns = ["stock / normal", "stock / full", "full / bare FULL commit"]
    columns += [f"{kind}, µs" for kind in (NORMAL, FULL, STOCK, BARE)]
    print(f"| call | messages before | promise | {' | '.join(columns)} |\n|{'---|' * (3 + len(columns))}")
    measured = {size: await measure(size) for size in SIZES}
    for row in ROWS:
        for size, medians in measured.items():
            print(line(row, size, medians[row]))


if __name__ == "__main__":
    asyncio.run(main())
