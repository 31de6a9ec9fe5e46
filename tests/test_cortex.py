"""Cortex: briefs become fresh by themselves, in a thread and in a process; what fails shows, and it ends cleanly."""

from __future__ import annotations

import logging
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from amfs import (
    AgentMemory,
    BranchNotFoundError,
    Cortex,
    HandleClosedError,
    InvalidApiKeyError,
    InvalidInputError,
    Principal,
    ReadOnlyDatabaseError,
    WriterError,
)
from tests import helpers_cortex
from tests.helpers_processes import Child

P = "checkout-service"
PATIENCE = 60.0
ROOT = Path(__file__).parents[1]
OpenMemory = Callable[..., AgentMemory]


class After:
    """Ends the work after a number of looks, without any time passing; between two of them something may be done."""

    def __init__(self, looks: int, between: Callable[[int], Any] = lambda _: None) -> None:
        self._left = looks
        self._between = between

    def is_set(self) -> bool:
        """Return whether there were enough looks."""
        return self._left == 0

    def wait(self, _timeout: float) -> bool:
        """Count a look."""
        self._left -= 1
        self._between(self._left)
        return self.is_set()


class Records(logging.Handler):
    """Keeps what is logged for a test that waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: queue.Queue[logging.LogRecord] = queue.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.put(record)

    def next(self) -> logging.LogRecord:
        """Return what is logged next."""
        return self.kept.get(timeout=PATIENCE)

    def rest(self) -> list[str]:
        """Return the levels of what was logged and nobody looked at."""
        return [self.kept.get_nowait().levelname for _ in range(self.kept.qsize())]


@pytest.fixture
def logged() -> Iterator[Records]:
    """Return what the logger of AMFS is told."""
    logger, handler = logging.getLogger("amfs"), Records()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


def compiled(mem: AgentMemory) -> list[tuple[str, str]]:
    """Return who compiled what, oldest first."""
    events = mem.timeline(agent_id="*", event_type="brief_compiled", limit=1000)
    return [(event.agent_id, event.summary) for event in reversed(events)]


# --- here and now ----------------------------------------------------------------------------------------------------


def test_refreshing_compiles_what_is_not_fresh_and_nobody_has_read_it(mem: AgentMemory) -> None:
    mem.write(P, "retry", 3)
    mem.write("search", "owner", "discovery")
    cortex = Cortex(mem.as_agent("cortex"), [P, "search", None])
    assert [brief.entity_path for brief in cortex.refresh()] == [P, "search", None]
    assert cortex.refresh() == []
    mem.write(P, "retry", 4)
    refreshed = cortex.refresh()
    assert [brief.entity_path for brief in refreshed] == [P, None]
    assert mem.brief(P) == refreshed[0]
    assert {agent for agent, _ in compiled(mem)} == {"cortex"}
    assert mem.timeline(agent_id="*", event_type="cross_agent_read") == []
    assert mem.as_agent("cortex").commit_outcome("o", "failure").causes == ()


def test_it_stays_on_its_branch_whatever_the_handle_does(mem: AgentMemory) -> None:
    mem.write(P, "retry", 3)
    mem.create_branch("side")
    of_main, of_side = Cortex(mem), Cortex(mem, branch="side")
    mem.switch_branch("side")
    with mem.experiment("e"):
        mem.write(P, "retry", 4)
        assert [brief.branch for cortex in (of_main, of_side) for brief in cortex.refresh()] == ["main", "side"]
        of_main.run_until(After(1))
    assert of_main.failures == ()


def test_a_refresh_in_the_foreground_raises(mem: AgentMemory) -> None:
    mem.write(P, "retry", 3)
    cortex = Cortex(mem, writer=lambda _: "")
    with pytest.raises(WriterError):
        cortex.refresh()
    assert cortex.failures == ()


@pytest.mark.parametrize(
    "arguments",
    [{"scopes": P}, {"scopes": [""]}, {"scopes": [1]}, {"scopes": None}, {"interval": 0}, {"interval": -1},
     {"interval": "1"}, {"writer": "gpt"}],
)  # fmt: skip
def test_bad_arguments_are_refused(mem: AgentMemory, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        Cortex(mem, **arguments)


def test_there_must_be_a_branch_and_a_place_for_briefs(file_mem: AgentMemory) -> None:
    with pytest.raises(BranchNotFoundError):
        Cortex(file_mem, branch="sied")
    file_mem.close()
    with AgentMemory("cortex", f"file:{file_mem.database}?mode=ro") as mem, pytest.raises(ReadOnlyDatabaseError):
        Cortex(mem)


# --- in a thread -----------------------------------------------------------------------------------------------------


def test_a_brief_becomes_fresh_after_a_write(mem: AgentMemory, logged: Records) -> None:
    mem.write(P, "retry", 3)
    with Cortex(mem.as_agent("cortex"), [P], interval=0.01) as cortex:
        assert (cortex.running, "running" in repr(cortex)) == (True, True)
        for version in (2, 3, 4):
            assert logged.next().getMessage().startswith(f"cortex compiled the brief of {P}: 1 entry, seq ")
            assert mem.brief(P).citations[0].version == version - 1
            mem.write(P, "retry", version)
        logged.next()
    assert (cortex.running, cortex.failures, "not running" in repr(cortex)) == (False, (), True)
    assert compiled(mem) == [("cortex", f"Compiled brief of {P}: 1 entry")] * 4
    assert mem.brief(P).seq == mem.timeline(agent_id="cortex", event_type="brief_compiled")[0].seq


def threads() -> list[threading.Thread]:
    """Return the threads of all Cortexes."""
    return [thread for thread in threading.enumerate() if thread.name == "amfs-cortex"]


def test_it_is_started_and_stopped_as_often_as_one_likes(mem: AgentMemory, logged: Records) -> None:
    mem.write(P, "retry", 0)
    cortex = Cortex(mem, [P], interval=3600)
    cortex.stop()
    for number in range(3):
        assert cortex.start() is cortex.start()
        assert len(threads()) == 1
        logged.next()
        cortex.stop()
        cortex.stop()
        assert (threads(), cortex.running) == ([], False)
        mem.write(P, "retry", number)
    assert len(compiled(mem)) == 3


def test_the_writer_may_stop_it(mem: AgentMemory) -> None:
    mem.write(P, "retry", 3)

    def writer(text: str) -> str:
        cortex.stop()
        return text

    cortex = Cortex(mem, [P], writer=writer, interval=0.01)
    cortex.start()
    for thread in threads():
        thread.join(PATIENCE)
    assert (cortex.running, len(compiled(mem)), cortex.failures) == (False, 1, ())


@pytest.mark.parametrize("whose", ["the handle", "its owner"])
def test_it_ends_when_its_handle_is_closed(open_memory: OpenMemory, whose: str, logged: Records) -> None:
    owner = open_memory()
    owner.write(P, "retry", 3)
    mem = owner.as_agent("cortex") if whose == "its owner" else owner
    cortex = Cortex(mem, [P], interval=0.01).start()
    logged.next()
    owner.close()
    for thread in threads():
        thread.join(PATIENCE)
    assert (cortex.running, [type(error) for error in cortex.failures]) == (False, [HandleClosedError])
    assert logged.rest() == ["ERROR"]
    cortex.stop()


# --- what fails ------------------------------------------------------------------------------------------------------


def test_what_failed_is_kept_and_tried_again_once_something_changed(mem: AgentMemory, logged: Records) -> None:
    mem.write(P, "retry", 3)
    mem.write("search", "owner", "discovery")
    asked: list[str] = []

    def writer(text: str) -> str:
        asked.append(text)
        if P in text and len(asked) < 4:
            raise ConnectionError("no route")
        return "prose"

    def between(left: int) -> None:
        if left in (6, 3):
            mem.write(P, "retry", left)

    cortex = Cortex(mem, [P, "search"], writer=writer)
    cortex.run_until(After(9, between))
    assert ["search" in text for text in asked] == [False, True, False, False], "the other brief did not wait"
    assert [(type(error), type(error.__cause__)) for error in cortex.failures] == [(WriterError, ConnectionError)] * 2
    assert [logged.next().levelname for _ in range(4)] == ["ERROR", "INFO", "ERROR", "INFO"]
    assert mem.brief(P, writer=writer).text == "prose"
    assert len(asked) == 4


def test_of_very_many_failures_the_last_are_kept(mem: AgentMemory) -> None:
    mem.write(P, "retry", 0)
    asked: list[str] = []

    def writer(text: str) -> str:
        asked.append(text)
        raise KeyError(len(asked))

    cortex = Cortex(mem, writer=writer)
    cortex.run_until(After(130, lambda left: mem.write(P, "retry", left)))
    assert [error.__cause__.args for error in cortex.failures] == [(number,) for number in range(31, 131)]


def test_a_memory_that_cannot_be_looked_at_is_one_failure_until_it_can(
    open_memory: OpenMemory, logged: Records
) -> None:
    owner = open_memory()
    owner.write(P, "retry", 3)
    key = owner.create_api_key("worker", agent_ids=["worker"], role="writer")
    with AgentMemory("worker", owner.database, principal=Principal(api_key=key.key)) as mem:
        cortex = Cortex(mem, [P])
        cortex.run_until(After(6, lambda left: left == 4 and owner.revoke_api_key(key.id)))
    assert [type(error) for error in cortex.failures] == [InvalidApiKeyError]
    assert logged.rest() == ["INFO", "ERROR"]


# --- in a process ----------------------------------------------------------------------------------------------------


def test_a_process_of_ones_own_keeps_briefs_fresh(file_mem: AgentMemory) -> None:
    file_mem.write(P, "retry", 3)
    with Child(helpers_cortex.work, Path(file_mem.database), P) as child:
        assert f"{P}/retry: 3 " in child.receive()
        file_mem.write(P, "retry", 4)
        assert f"{P}/retry: 4 " in child.receive()
        child.send()
        assert child.result() == []
    assert {agent for agent, _ in compiled(file_mem)} == {"worker"}


def test_it_is_not_at_work_in_a_forked_process_and_may_be_started_there(file_mem: AgentMemory) -> None:
    file_mem.write(P, "retry", 3)
    with Child(helpers_cortex.fork_at_work, Path(file_mem.database), P) as child:
        assert child.result() == (True, 0)


def worker(*arguments: str) -> subprocess.Popen[str]:
    """Start the worker as people do."""
    command = [sys.executable, "-W", "error", "-m", "amfs.cortex", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_keeps_briefs_fresh_until_a_signal_comes(file_mem: AgentMemory, number: signal.Signals) -> None:
    file_mem.write(P, "retry", 3)
    with worker(file_mem.database, "--agent", "keeper", "--scope", P, "--scope", "search", "--interval", "0.05") as it:
        assert it.stderr is not None
        assert it.stderr.readline().startswith(f"INFO cortex compiled the brief of {P}: 1 entry, seq ")
        file_mem.write("search", "owner", "discovery")
        assert it.stderr.readline().startswith("INFO cortex compiled the brief of search: 1 entry")
        it.send_signal(number)
        printed, logged = it.communicate(timeout=PATIENCE)
    assert (it.returncode, printed, logged) == (0, "", "")
    assert [agent for agent, _ in compiled(file_mem)] == ["keeper", "keeper"]
    assert file_mem.brief(P).seq == file_mem.timeline(agent_id="keeper", event_type="brief_compiled")[1].seq


def test_the_command_covers_everything_by_default_and_works_on_a_branch(file_mem: AgentMemory) -> None:
    file_mem.write(P, "retry", 3)
    file_mem.create_branch("side")
    with worker(file_mem.database, "--branch", "side", "--namespace", "default") as it:
        assert it.stderr is not None
        assert "the brief of everything" in it.stderr.readline()
        it.terminate()
        it.communicate(timeout=PATIENCE)
    assert [
        (event.branch, event.agent_id) for event in file_mem.timeline(branch="side", event_type="brief_compiled")
    ] == [("side", "cortex")]


@pytest.mark.parametrize(
    "arguments", [["--branch", "sied"], ["--scope", ""], ["--interval", "0"], ["--interval", "soon"], ["--agent", ""]]
)
def test_the_command_says_what_is_wrong(file_mem: AgentMemory, arguments: list[str]) -> None:
    with worker(file_mem.database, *arguments) as it:
        _, logged = it.communicate(timeout=PATIENCE)
    assert it.returncode != 0
    assert "cortex: " in logged
    assert "Traceback" not in logged
