"""Operations disturbed at each of their statements: nothing of them is there, and the same handle does them then.

The database is a real one and so are the errors: SQLite is told to interrupt the statement, is asked for a table that
is not there, or finds no room for a commit. Ctrl-C arrives where Python lets it in, right after a statement.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amfs import AgentMemory
from amfs.errors import DatabaseError
from tests.helpers_crash import repeatable
from tests.helpers_steps import STEPS, Step, build_for_review
from tests.helpers_tables import contents

if TYPE_CHECKING:
    from collections.abc import Iterator


resource = pytest.importorskip("resource", reason="limits of POSIX")

Rows = dict[str, list[tuple[Any, ...]]]
Run = Callable[[], sqlite3.Cursor]
Act = Callable[[sqlite3.Connection, str, Run], sqlite3.Cursor]


class Disturbance:
    """Counts the statements of a call, and does something to one of them."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.connections = 0
        self._act: Act | None = None
        self._at = -1

    def arm(self, at: int, act: Act | None = None) -> None:
        """Count anew, and disturb the statement with that number."""
        self.statements, self._at, self._act = [], at, act

    def carry_out(self, connection: sqlite3.Connection, statement: str, run: Run) -> sqlite3.Cursor:
        """Run a statement, or disturb it."""
        self.statements.append(statement)
        if self._act is not None and len(self.statements) - 1 == self._at:
            return self._act(connection, statement, run)
        return run()


def fail(connection: sqlite3.Connection, statement: str, run: Run) -> sqlite3.Cursor:
    """Let the statement fail as one that SQLite undoes by itself."""
    if statement == "COMMIT":
        with no_room():
            return run()
    return interrupt(connection, run)


def refuse(connection: sqlite3.Connection, statement: str, run: Run) -> sqlite3.Cursor:
    """Let the statement fail as one after which the transaction goes on, unless somebody ends it."""
    if statement == "COMMIT":
        return fail(connection, statement, run)
    return sqlite3.Connection.execute(connection, "SELECT 1 FROM missing")


def press_ctrl_c(_connection: sqlite3.Connection, _statement: str, run: Run) -> sqlite3.Cursor:
    """Let the statement be carried out and an interrupt arrive right after it, before anyone has its result."""
    run()
    raise KeyboardInterrupt


def interrupt(connection: sqlite3.Connection, run: Run) -> sqlite3.Cursor:
    """Let SQLite break off a statement in its first step."""
    connection.set_progress_handler(lambda: 1, 1)
    try:
        return run()
    finally:
        connection.set_progress_handler(None, 0)


@contextmanager
def no_room() -> Iterator[None]:
    """Let no file grow, or be written at all, inside the block."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def disturbance(monkeypatch: pytest.MonkeyPatch) -> Disturbance:
    """A disturbance of the statements on all connections that are opened during the test."""
    found = Disturbance()

    class Disturbed(sqlite3.Connection):
        """A connection that asks before it runs a statement."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            found.connections += 1

        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            return found.carry_out(self, sql, partial(super().execute, sql, parameters))

        def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
            run = partial(super().executemany, sql, rows := list(parameters))
            return found.carry_out(self, sql, run) if rows else run()

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Disturbed))
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed database that operations start from."""
    database = tmp_path_factory.mktemp("base") / "memory.db"
    build_for_review(database)
    return database


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder, in memory where there is such a place."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder inside has a name of its own
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def undisturbed(step: Step, database: Path, disturbance: Disturbance) -> tuple[list[str], Rows]:
    """Return the statements of an operation and the rows it leaves."""
    with step.open(database) as mem:
        disturbance.arm(-1)
        step.call(mem)
        statements, after = list(disturbance.statements), contents(database)
    with repeatable("ada", database) as owner:
        report = owner.verify()
        assert report.ok, report
    return statements, after


def repeated(step: Step, mem: AgentMemory, disturbance: Disturbance) -> int:
    """Carry out an operation that failed once more and return how many connections were opened for it."""
    before = disturbance.connections
    disturbance.arm(-1)
    step.call(mem)
    return disturbance.connections - before


@pytest.mark.parametrize("act", [fail, refuse, press_ctrl_c], ids=["an error", "a refusal", "an interrupt"])
@pytest.mark.parametrize("name", STEPS)
def test_of_an_operation_disturbed_at_any_statement_nothing_is_left(
    name: str, act: Act, base: Path, folder: Path, disturbance: Disturbance
) -> None:
    step = STEPS[name]
    statements, after = undisturbed(step, Path(shutil.copy(base, folder / "undisturbed.db")), disturbance)
    points = [at for at, text in enumerate(statements) if act is press_ctrl_c or text != "ROLLBACK"]
    assert "COMMIT" in map(statements.__getitem__, points)
    for at in points:
        database = Path(shutil.copy(base, folder / f"{at}.db"))
        with step.open(database) as mem:
            before = contents(database)
            disturbance.arm(at, act)
            with pytest.raises(KeyboardInterrupt if act is press_ctrl_c else DatabaseError):
                step.call(mem)
            assert disturbance.statements[: at + 1] == statements[: at + 1]
            if statements[at] == "COMMIT" and act is press_ctrl_c:
                assert contents(database) == after
                mem.write("svc", "a", "goes on")
                continue
            assert contents(database) == before, statements[at]
            assert repeated(step, mem, disturbance) == 0, "a connection was lost"
            assert contents(database) == after, statements[at]
    print(f"{name}: {len(points)} statements disturbed")


def test_an_interrupted_read_of_a_database_in_memory_stops_nobody_else(disturbance: Disturbance) -> None:
    with AgentMemory("ada", ":memory:") as mem, ThreadPoolExecutor(1) as others:
        written = mem.write("svc", "a", 1)
        mem.history("svc", "a")  # it looks up names that it knows from then on
        disturbance.arm(-1)
        mem.history("svc", "a")
        statements = list(disturbance.statements)
        assert (statements[0], statements[-1]) == ("BEGIN", "ROLLBACK")
        for act in (fail, refuse, press_ctrl_c):
            for at in range(len(statements) - (act is not press_ctrl_c)):
                disturbance.arm(at, act)
                with pytest.raises(KeyboardInterrupt if act is press_ctrl_c else DatabaseError):
                    mem.history("svc", "a")
                disturbance.arm(-1)
                assert others.submit(mem.read, "svc", "a").result(timeout=30) == written
