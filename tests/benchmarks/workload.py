"""The databases that are measured, at several sizes, and what is done to them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plain import PlainHistory, PlainTable

from amfs import AgentMemory, Durability, Put

if TYPE_CHECKING:
    from pathlib import Path

DEPTH = 20
CHANGES = 100
_KEYS_OF_A_PATH = 100
_BATCH = 1000


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


@dataclass
class Subject:
    """One size: the memory, and the same keys in plain sqlite3."""

    size: int
    durability: Durability
    memory: AgentMemory
    table: PlainTable
    history: PlainHistory
    random: random.Random

    def numbers(self, count: int) -> list[int]:
        """Return some entries at random."""
        return [self.random.randrange(self.size) for _ in range(count)]

    def write(self, number: int, salt: int) -> None:
        """Write an entry of the memory."""
        self.memory.write(*place(number), value(number + salt))

    def diverge(self, name: str, salt: int) -> None:
        """Create a branch with CHANGES entries of its own."""
        self.memory.create_branch(name, source="main")
        numbers = self.random.sample(range(self.size), CHANGES)
        for number in numbers:
            self.memory.write(*place(number), value(number + salt), branch=name)

    def close(self) -> None:
        """Close the databases."""
        self.memory.close()
        self.table.close()
        self.history.close()


def build(folder: Path, size: int) -> Path:
    """Fill a database and its plain twin, and create a chain of branches DEPTH deep; return the folder of both."""
    home = folder / str(size)
    home.mkdir(parents=True)
    with AgentMemory("agent", home / "memory.db", durability="normal") as memory:
        for start in range(0, size, _BATCH):
            numbers = range(start, min(start + _BATCH, size))
            memory.apply([Put(entity_path=place(n)[0], key=place(n)[1], value=value(n)) for n in numbers])
        source = "main"
        for depth in range(1, DEPTH + 1):
            memory.create_branch(f"depth/{depth}", source=source)
            source = f"depth/{depth}"
    table = PlainTable(home / "plain.db", "NORMAL")
    table.fill((*place(number), value(number)) for number in range(size))
    table.close()
    return home


def open_subject(home: Path, size: int, durability: Durability) -> Subject:
    """Open the databases of one size."""
    return Subject(
        size,
        durability,
        AgentMemory("agent", home / "memory.db", durability=durability),
        PlainTable(home / "plain.db", durability.name),
        PlainHistory(home / f"history-{durability}.db", durability.name),
        random.Random(size),
    )
