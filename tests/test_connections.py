"""What a handle leaves behind when it is closed, dropped or used by threads that end: nothing.

Counted are the files this process has open, its threads, and the locks it holds.
"""

from __future__ import annotations

import fcntl
import gc
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from amfs import AgentMemory, AsyncAgentMemory
from amfs.errors import BranchNotFoundError, HandleClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")


def open_files(folder: Path) -> list[str]:
    """Return the names of the files below a folder that this process has open, once per descriptor."""
    found = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sorted(path.name for path in found if path.is_relative_to(folder))


def connections(folder: Path) -> int:
    """Return how many connections this process has to the database in a folder."""
    return open_files(folder).count("memory.db")


def is_free(database: Path) -> bool:
    """Return whether nobody holds the lock that writers queue at."""
    with Path(f"{database}-lock").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    """A path for a database; afterwards nothing of it may be open, locked or lying about, and no thread may be left."""
    gc.collect()
    threads = set(threading.enumerate())
    path = tmp_path / "memory.db"
    yield path
    gc.collect()
    wait_for_writers()
    assert set(threading.enumerate()) <= threads
    assert open_files(tmp_path) == []
    assert is_free(path)
    assert {file.name for file in tmp_path.iterdir()} == {"memory.db", "memory.db-lock"}


def wait_for_writers() -> None:
    """Wait for the writer threads of asynchronous handles to end."""
    for thread in threading.enumerate():
        if thread.name.startswith("amfs-writer"):
            thread.join(5)
            assert not thread.is_alive(), thread


class Gate:
    """A clock that stops whoever asks it for the time inside a transaction, once it is armed."""

    def __init__(self) -> None:
        self.armed = False
        self.arrived = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> int:
        if self.armed:
            self.armed = False
            self.arrived.set()
            assert self.opened.wait(30)
        return time.time_ns() // 1000


# --- closing ---------------------------------------------------------------------------------------------------------


def test_five_hundred_handles_leave_nothing_behind(database: Path) -> None:
    for number in range(500):
        with AgentMemory("ada", database, durability="normal") as mem:
            if number % 10 == 0:
                mem.write("svc", "key", number)
            assert len(mem.list("svc")) == 1
        assert open_files(database.parent) == []
    with AgentMemory("ada", database) as mem:
        assert [entry.value for entry in mem.history("svc", "key")] == list(range(0, 500, 10))


async def test_a_hundred_async_handles_leave_nothing_behind(database: Path) -> None:
    for number in range(100):
        async with AsyncAgentMemory("ada", database, durability="normal") as mem:
            await mem.write("svc", "key", number)
            assert await mem.read("svc", "key") is not None
        assert open_files(database.parent) == []


def test_handles_that_cannot_be_opened_leave_nothing_behind(database: Path) -> None:
    AgentMemory("ada", database).close()
    for _ in range(50):
        with pytest.raises(BranchNotFoundError):
            AgentMemory("ada", database, branch="nowhere")
        assert open_files(database.parent) == []


def test_views_open_nothing_of_their_own(database: Path) -> None:
    with AgentMemory("ada", database) as mem:
        mem.write("svc", "key", 1)
        before = open_files(database.parent)
        for number in range(100):
            with mem.as_agent(f"agent-{number}") as other, other.on_branch("main") as view:
                assert view.list("svc") == mem.list("svc")
        assert open_files(database.parent) == before


def test_closing_while_another_thread_reads_lets_it_finish(database: Path) -> None:
    gate, found = Gate(), list[object]()
    mem = AgentMemory("ada", database, clock=gate)
    mem.write("svc", "key", 1)
    gate.armed = True
    reader = threading.Thread(target=lambda: found.extend(mem.list("svc")))
    reader.start()
    assert gate.arrived.wait(30)
    mem.close()
    gate.opened.set()
    reader.join()
    assert len(found) == 1
    assert open_files(database.parent) == []
    with pytest.raises(HandleClosedError):
        mem.list("svc")


def test_closing_while_another_thread_writes_waits_for_it(database: Path) -> None:
    gate, written = Gate(), list[object]()
    mem = AgentMemory("ada", database, clock=gate)
    gate.armed = True
    writer = threading.Thread(target=lambda: written.append(mem.write("svc", "key", 1)))
    writer.start()
    assert gate.arrived.wait(30)
    closer = threading.Thread(target=mem.close)
    closer.start()
    gate.opened.set()
    writer.join()
    closer.join()
    assert open_files(database.parent) == []
    with AgentMemory("ada", database) as again:
        assert again.list("svc") == written


# --- threads ---------------------------------------------------------------------------------------------------------


def in_threads(work: Callable[[], object], number: int, *, at_once: bool) -> None:
    """Call a function in so many threads, one after the other or all at once."""
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
        if not at_once:
            thread.join()
    for thread in threads:
        thread.join()


def test_threads_that_end_take_no_connection_along(database: Path) -> None:
    with AgentMemory("ada", database, durability="normal") as mem:

        def work() -> None:
            mem.write("svc", "key", threading.get_ident())
            assert mem.read("svc", "key") is not None
            assert mem.list("svc")

        in_threads(work, 100, at_once=False)
        assert connections(database.parent) == 1
        in_threads(work, 8, at_once=True)
        assert connections(database.parent) <= 8
        assert len(mem.history("svc", "key")) == 108


def test_handles_opened_in_threads_that_end_leave_nothing_behind(database: Path) -> None:
    AgentMemory("ada", database).close()

    def work() -> None:
        with AgentMemory("ada", database, durability="normal") as mem:
            mem.write("svc", "key", 1)

    for _ in range(10):
        in_threads(work, 8, at_once=True)
        assert open_files(database.parent) == []


# --- dropping --------------------------------------------------------------------------------------------------------


def test_dropped_handles_are_collected_without_a_warning(database: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(50):
            mem = AgentMemory(f"agent-{number}", database, durability="normal")
            mem.write("svc", "key", number)
            view = mem.as_agent("ben").on_branch("main")
            assert view.read("svc", "key") is not None
            del mem
            assert view.list("svc")
            del view
        gc.collect()
    assert open_files(database.parent) == []
    assert is_free(database)
    with AgentMemory("ada", database) as mem:
        assert len(mem.history("svc", "key")) == 50


async def test_dropped_async_handles_are_collected(database: Path) -> None:
    for number in range(20):
        mem = AsyncAgentMemory("ada", database)
        await mem.write("svc", "key", number)
        del mem
    gc.collect()
    wait_for_writers()
    gc.collect()
    assert open_files(database.parent) == []


ENDINGS = {
    "closed": "mem.close()",
    "dropped": "del mem",
    "left open": "",
    "left open in a thread": "import threading; threading.Thread(target=lambda: mem.read('svc', 'key')).start()",
    "closed, and its folder is gone": "mem.close(); shutil.rmtree(folder)",
    "left open, and its folder is gone": "shutil.rmtree(folder)",
    "asynchronous and left open": "import asyncio; asyncio.run(AsyncAgentMemory(mem).write('svc', 'key', 2))",
    "ended by an exception": "sys.excepthook = lambda *_: None; raise RuntimeError",
    "in a run": "run = mem.run(); run.__enter__(); mem.read('svc', 'key')",
    "in an experiment": "exp = mem.experiment('e'); exp.__enter__(); mem.write('svc', 'key', 2)",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_ends_quietly(ending: str, tmp_path: Path) -> None:
    script = f"""
import shutil, sys
from pathlib import Path
from amfs import AgentMemory, AsyncAgentMemory
folder = Path(sys.argv[1])
mem = AgentMemory("ada", folder / "memory.db")
mem.write("svc", "key", 1)
{ENDINGS[ending]}
"""
    folder = tmp_path / "folder"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", script, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.returncode == (1 if "exception" in ending else 0)
    if "gone" in ending:
        assert not folder.exists()
    else:
        with AgentMemory("ben", folder / "memory.db") as mem:
            assert mem.history("svc", "key")[0].value == 1
            assert mem.verify().ok
