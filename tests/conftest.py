"""What all tests share: a clock that the test moves, a database, and handles that are checked when they are closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from amfs import AgentMemory, HandleClosedError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ManualClock:
    """A clock in microseconds that stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 1_750_000_000_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the clock; a negative number moves it back."""
        self.now += round(seconds * 1_000_000)

    def reach(self, moment: datetime) -> None:
        """Move the clock on to a moment; writes within one microsecond may be dated a little ahead of the clock."""
        self.now = max(self.now, (moment - _EPOCH) // timedelta(microseconds=1))

    @property
    def moment(self) -> datetime:
        """The time now, as an aware datetime."""
        return _EPOCH + timedelta(microseconds=self.now)


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock at a fixed moment."""
    return ManualClock()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return the path of a database that does not exist yet."""
    return tmp_path / "memory.db"


@pytest.fixture
def open_memory(database: Path, clock: ManualClock) -> Iterator[Callable[..., AgentMemory]]:
    """Return a function that opens a handle on the database; all are closed, and the database verified, at the end."""
    opened: list[AgentMemory] = []

    def open_one(agent_id: str = "alice", where: str | Path | None = None, **options: Any) -> AgentMemory:
        options = {"durability": "normal", "clock": clock, **options}
        opened.append(AgentMemory(agent_id, database if where is None else where, **options))
        return opened[-1]

    yield open_one
    for memory in reversed(opened):
        _verify(memory)
        memory.close()


@pytest.fixture(params=["file", "memory"])
def mem(request: pytest.FixtureRequest, database: Path, open_memory: Callable[..., AgentMemory]) -> AgentMemory:
    """Return alice's handle on an empty database, once in a file and once in memory."""
    return open_memory("alice", database if request.param == "file" else ":memory:")


@pytest.fixture
def file_mem(open_memory: Callable[..., AgentMemory]) -> AgentMemory:
    """Return alice's handle on an empty database in a file, where the storage makes no difference to the test."""
    return open_memory("alice")


def _verify(memory: AgentMemory) -> None:
    try:
        report = memory.verify()
    except HandleClosedError:
        return
    assert report.problems == (), "the test left a database that violates an invariant"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests counted, also those that ran in another process."""
    for report in terminalreporter.getreports("passed"):
        for name, counted in report.user_properties:
            if name == "tally":
                terminalreporter.write_line(f"{report.nodeid}: {counted}")
