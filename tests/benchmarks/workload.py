"""The databases that are measured, at several sizes, and what is done to them."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from plain import PlainHistory, PlainTable

from amfs import AgentMemory, Durability, Principal, Put

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DEPTHS = (1, 5, 10, 20, 40)
CHANGES = 100
CROWD = 1000
TAG = "bench/built"
_KEYS_OF_A_PATH = 100
_BATCH = 1000
_CHANGES_OF_A_CROWD = 10


def place(number: int) -> tuple[str, str]:
    """Return the path and key of an entry."""
    return f"service-{number // _KEYS_OF_A_PATH}", f"key-{number}"


def value(number: int) -> dict[str, Any]:
    """Return a value of about 130 bytes as JSON."""
    return {
        "max_retries": number % 7,
        "backoff": "exponential",
        "note": "the payment gateway drops one call in nine under load",
        "n": number,
        "tags": ["a", "b"],
    }


class Diverged(NamedTuple):
    """A branch with CHANGES entries of its own: its name, the view it began with, and the entries."""

    name: str
    start: int
    keys: list[tuple[str, str]]


@dataclass
class Subject:
    """One database: the memory, as its owner and through an API key, and the same keys in plain sqlite3."""

    size: int
    is_crowded: bool
    durability: Durability
    memory: AgentMemory
    keyed: AgentMemory
    table: PlainTable
    history: PlainHistory
    built: int
    random: random.Random

    def numbers(self, count: int) -> list[int]:
        """Return some entries at random."""
        return [self.random.randrange(self.size) for _ in range(count)]

    def salt(self) -> int:
        """Return what makes the values written with it unlike all others."""
        return self.random.randrange(10**9, 2 * 10**9)

    def change(self, branch: str, numbers: list[int]) -> list[tuple[str, str]]:
        """Give entries of a branch another value and return which."""
        self.memory.apply(_puts(numbers, self.salt()), branch=branch)
        return [place(number) for number in numbers]

    def diverge(self, names: list[str]) -> list[Diverged]:
        """Create branches with CHANGES entries of their own each, no two branches the same."""
        numbers = self.random.sample(range(self.size), CHANGES * len(names))
        diverged: list[Diverged] = []
        for index, name in enumerate(names):
            start = self.memory.create_branch(name, source="main").fork_seq
            assert start is not None
            keys = self.change(name, numbers[index * CHANGES : (index + 1) * CHANGES])
            diverged.append(Diverged(name, start, keys))
        return diverged

    def close(self) -> None:
        """Close the databases."""
        self.keyed.close()
        self.memory.close()
        self.table.close()
        self.history.close()


def build(folder: Path, size: int) -> Path:
    """Fill a database and its plain twin, tag it, and create a chain of branches; return the folder of both."""
    home = folder / str(size)
    home.mkdir(parents=True)
    with AgentMemory("agent", home / "memory.db", durability="normal") as memory:
        for start in range(0, size, _BATCH):
            memory.apply(_puts(range(start, min(start + _BATCH, size)), 0))
        memory.create_tag(TAG)
        chain = ["main", *map(branch_at, range(1, max(DEPTHS) + 1))]
        for source, name in pairwise(chain):
            memory.create_branch(name, source=source)
    table = PlainTable(home / "plain.db", "NORMAL")
    table.fill((*place(number), value(number)) for number in range(size))
    table.close()
    return home


def crowd(home: Path) -> Path:
    """Copy the databases of one size and add CROWD branches with changes of their own; return the folder."""
    crowded = home.with_name(f"{home.name}-crowded")
    shutil.copytree(home, crowded)
    numbers, size = random.Random(CROWD), int(home.name)
    with AgentMemory("agent", crowded / "memory.db", durability="normal") as memory:
        for number in range(CROWD):
            name = f"crowd/{number}"
            memory.create_branch(name, source="main")
            memory.apply(_puts(numbers.sample(range(size), _CHANGES_OF_A_CROWD), number), branch=name)
    return crowded


def branch_at(depth: int) -> str:
    """Return the name of the branch that is so many ancestors below main."""
    return f"depth/{depth}"


def open_subject(home: Path, size: int, durability: Durability, *, is_crowded: bool = False) -> Subject:
    """Open the databases of one folder."""
    database = home / "memory.db"
    memory = AgentMemory("agent", database, durability=durability)
    key = memory.create_api_key(f"bench {durability}", agent_ids=["agent"], role="writer").key
    (built,) = (tag.seq for tag in memory.tags() if tag.name == TAG)
    return Subject(
        size=size,
        is_crowded=is_crowded,
        durability=durability,
        memory=memory,
        keyed=AgentMemory("agent", database, durability=durability, principal=Principal(api_key=key)),
        table=PlainTable(home / "plain.db", durability.name),
        history=PlainHistory(home / f"history-{durability}.db", durability.name),
        built=built,
        random=random.Random(f"{size} {durability}"),
    )


def _puts(numbers: Iterable[int], salt: int) -> list[Put]:
    return [Put(entity_path=place(n)[0], key=place(n)[1], value=value(n + salt)) for n in numbers]
