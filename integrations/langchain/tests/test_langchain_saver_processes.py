"""Threads in a file that several processes use: resumed elsewhere, written side by side, and cut short by a kill."""

import operator
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypedDict

import pytest
from langchain_amfs import AMFSSaver
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt  # noqa: F401 - the other process takes Command from here

from amfs import AgentMemory


class State(TypedDict, total=False):
    log: Annotated[list, operator.add]


def wait(_: State) -> State:
    return {"log": [interrupt("go on?")]}


def graph(saver):
    built = StateGraph(State).add_node("first", lambda _: {"log": ["first"]}).add_node("wait", wait)
    return built.add_edge(START, "first").add_edge("first", "wait").compile(checkpointer=saver)


def config(thread="t1"):
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}


CHILD = """
import os, signal, sqlite3, sys
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

database, thread, steps, deadly = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
armed = False


def watch(statement):
    if armed and statement.startswith(deadly):
        os.kill(os.getpid(), signal.SIGKILL)


class Watched(sqlite3.Connection):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.set_trace_callback(watch)


connect = sqlite3.connect
if deadly:
    sqlite3.connect = lambda *arguments, **options: connect(*arguments, factory=Watched, **options)

from langchain_amfs import AMFSSaver

with AMFSSaver.from_conn_string(database, agent_id=thread, durability="normal") as saver:
    place, messages = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}, []
    for number in range(steps):
        armed = number == steps - 1
        messages = [*messages, HumanMessage(f"{thread} {number}", id=f"{number}")]
        made = {"id": str(uuid6(clock_seq=number)), "channel_values": {"messages": messages, "same": ["equal"] * 30}}
        place = saver.put(place, {**empty_checkpoint(), **made}, {"step": number}, {})
        saver.put_writes(place, [("messages", messages[-1:])], f"task {number}")
        print(made["id"], flush=True)
"""


def run(code, *arguments):
    """Run Python in another process, with the same things to import."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)  # noqa: S603, PLW1510


RESUMED = """
import importlib.util, sys

spec = importlib.util.spec_from_file_location("shared", sys.argv[2])
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)
with shared.AMFSSaver.from_conn_string(sys.argv[1]) as saver:
    print(shared.graph(saver).invoke(shared.Command(resume="from afar"), shared.config())["log"])
"""


def test_an_interrupt_is_answered_in_another_process(tmp_path):
    database = tmp_path / "amfs.db"
    with AMFSSaver.from_conn_string(database) as saver:
        assert graph(saver).invoke({"log": []}, config())["__interrupt__"][0].value == "go on?"
        done = run(RESUMED, database, __file__)  # while this process has the file open
        assert done.stdout.strip() == "['first', 'from afar']", done.stderr
        assert graph(saver).get_state(config()).values == {"log": ["first", "from afar"]}
        assert graph(saver).get_state(config()).next == ()


def test_four_processes_write_threads_into_one_file(tmp_path):
    database, steps = tmp_path / "amfs.db", 40
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda number: run(CHILD, database, f"t{number}", steps, ""), range(4)))
    assert [one.returncode for one in done] == [0] * 4, [one.stderr for one in done]
    with AMFSSaver.from_conn_string(database) as saver:
        for number, one in enumerate(done):
            found = list(saver.list(config(f"t{number}")))
            assert [it.checkpoint["id"] for it in found][::-1] == one.stdout.split()
            expected = [f"t{number} {step}" for step in range(steps)]
            assert [it.content for it in found[0].checkpoint["channel_values"]["messages"]] == expected
            assert all(len(it.pending_writes) == 1 for it in found)
        assert saver.memory.verify().problems == ()


def test_threads_of_one_process_share_a_saver(tmp_path):
    def work(saver, number):
        place = config(f"t{number}")
        for step in range(20):
            messages = [HumanMessage(f"{n}", id=f"{n}") for n in range(step)]
            made = {"id": str(uuid6(clock_seq=step)), "channel_values": {"messages": messages}}
            place = saver.put(place, {**empty_checkpoint(), **made}, {"step": step}, {})
            assert saver.get_tuple(place).checkpoint["channel_values"]["messages"] == messages
        return len(list(saver.list(config(f"t{number}"))))

    with AMFSSaver.from_conn_string(tmp_path / "amfs.db", durability="normal") as saver, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: work(saver, number), range(8))) == [20] * 8
        assert saver.memory.verify().problems == ()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize(
    "deadly",
    [
        "BEGIN IMMEDIATE",
        "INSERT INTO blob(",
        "INSERT INTO blob_part(",
        "INSERT INTO checkpoint(",
        "INSERT INTO channel(",
        "COMMIT",
    ],
)
def test_a_kill_in_the_middle_of_a_put_leaves_what_was_acknowledged(tmp_path, deadly):
    database, steps = tmp_path / "amfs.db", 12
    done = run(CHILD, database, "t1", steps, deadly)
    assert done.returncode == -9, done.stderr
    acknowledged = done.stdout.split()
    assert len(acknowledged) == steps - 1
    with AgentMemory("after", database) as memory, AMFSSaver(memory) as saver:
        assert memory.verify().problems == ()
        found = list(saver.list(config()))
        assert [it.checkpoint["id"] for it in found][::-1] == acknowledged
        assert [len(it.checkpoint["channel_values"]["messages"]) for it in found] == list(range(steps - 1, 0, -1))
        saver.put(found[0].config, {**empty_checkpoint(), "channel_values": {"messages": []}}, {}, {})
        saver.delete_thread("t1")
        assert memory.verify().problems == ()
    assert run(CHILD, database, "t1", 3, "").returncode == 0
