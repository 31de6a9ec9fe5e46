"""AMFSSaver beside LangGraph's SqliteSaver, as ratios: how a file grows with a thread, and what calls take.

Run it with nothing else at work: ``python integrations/langchain/benchmarks/saver.py``. It needs
``langgraph-checkpoint-sqlite``. Both write with the same durability (WAL, every commit synced), in turns.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from langchain_amfs import AllowListSerializer, AMFSSaver
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.sqlite import SqliteSaver

STEPS = 200
TEXT = "what a message says, and what it says it about " * 20
THREAD = 50
SIZES = (1_000, 10_000)
ROUNDS = 200
LISTED = 20

Savers = dict[str, BaseCheckpointSaver[Any]]


def step(saver: BaseCheckpointSaver[Any], thread: str, number: int, messages: list[Any], config: Any) -> Any:
    """Store a step as a graph does: what the task wrote, then the checkpoint with the list that grew by it."""
    config = config or {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    if "checkpoint_id" in config["configurable"]:
        saver.put_writes(config, [("messages", [messages[-1]])], f"task-{number}", "~__pregel_pull, model")
    checkpoint = Checkpoint(
        v=4,
        id=str(uuid6(clock_seq=number)),
        ts="2026-01-01T00:00:00+00:00",
        channel_values={"messages": messages, "branch:to:model": None},
        channel_versions={"__start__": 2, "messages": number + 2, "branch:to:model": number + 2},
        versions_seen={"__input__": {}, "__start__": {"__start__": 1}, "model": {"branch:to:model": number + 1}},
        updated_channels=["messages"],
    )
    return saver.put(config, checkpoint, {"source": "loop", "step": number, "parents": {}}, {"messages": number + 2})


def conversation(length: int, salt: str = "") -> list[Any]:
    """Return messages that differ, as people and models take turns."""
    kinds = (HumanMessage, AIMessage)
    return [kinds[n % 2](f"{salt}{n}: {TEXT}", id=f"{salt}{n}") for n in range(length)]


@contextmanager
def savers() -> Iterator[tuple[Savers, Callable[[str], int]]]:
    """Yield both savers on new files, and a function that returns the size of one's file."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder, f"{name}.db") for name in ("AMFSSaver", "SqliteSaver")}

        def size(name: str) -> int:
            with closing(sqlite3.connect(paths[name])) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return paths[name].stat().st_size

        with (
            AMFSSaver.from_conn_string(paths["AMFSSaver"], durability="full") as ours,
            SqliteSaver.from_conn_string(str(paths["SqliteSaver"])) as theirs,
        ):
            theirs.serde = AllowListSerializer()
            yield {"AMFSSaver": ours, "SqliteSaver": theirs}, size


def growth() -> None:
    """Print the sizes of a file that holds one thread."""
    print(f"\none thread, a message of {len(TEXT)} bytes a step\n")
    print("| steps | AMFSSaver | SqliteSaver | ratio |\n|---|---|---|---|")
    messages = conversation(STEPS)
    with savers() as (both, size):
        configs: dict[str, Any] = {}
        for number in range(STEPS):
            for name, saver in both.items():
                configs[name] = step(saver, "t", number, messages[: number + 1], configs.get(name))
            if number + 1 in (STEPS // 4, STEPS // 2, STEPS):
                ours, theirs = (size(name) / 1e6 for name in ("AMFSSaver", "SqliteSaver"))
                print(f"| {number + 1} | {ours:.2f} MB | {theirs:.2f} MB | {ours / theirs:.3f} |")


def calls(checkpoints: int) -> None:
    """Print what calls take in a file with so many checkpoints, in threads of some length."""
    with savers() as (both, _):
        for thread in range(checkpoints // THREAD):
            messages = conversation(THREAD, f"{thread}-")
            for saver in both.values():
                config = None
                for number in range(THREAD):
                    config = step(saver, f"t{thread}", number, messages[: number + 1], config)
        times: dict[tuple[str, str], list[float]] = {}
        messages = conversation(ROUNDS, "new-")
        configs: dict[str, Any] = {}
        for number in range(ROUNDS):
            config = {"configurable": {"thread_id": f"t{number * 7 % (checkpoints // THREAD)}", "checkpoint_ns": ""}}
            for name, saver in (*both.items(), *list(both.items())[::-1]):
                begin = time.perf_counter()
                saver.get_tuple(config)
                times.setdefault((f"get the newest, {THREAD} messages", name), []).append(time.perf_counter() - begin)
                begin = time.perf_counter()
                list(saver.list(config, limit=LISTED))
                times.setdefault((f"list {LISTED} of {THREAD}", name), []).append(time.perf_counter() - begin)
                begin = time.perf_counter()
                list(saver.list(config, filter={"step": number % THREAD}))
                times.setdefault((f"list by a filter, 1 of {THREAD}", name), []).append(time.perf_counter() - begin)
            for name, saver in both.items():
                begin = time.perf_counter()
                seen = messages[number % THREAD : number % THREAD + 1 + number % THREAD]
                configs[name] = step(saver, f"new {number // THREAD}", number, seen, configs.get(name))
                times.setdefault(("put with its write", name), []).append(time.perf_counter() - begin)
        for what in dict.fromkeys(what for what, _ in times):
            ours, theirs = (statistics.median(times[what, name]) * 1e6 for name in ("AMFSSaver", "SqliteSaver"))
            print(f"| {what} | {checkpoints:,} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    growth()
    print("\nmedians in µs\n\n| call | checkpoints | AMFSSaver | SqliteSaver | ratio |\n|---|---|---|---|---|")
    for size in SIZES:
        calls(size)
