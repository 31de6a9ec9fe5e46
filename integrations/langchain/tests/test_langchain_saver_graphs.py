"""The saver under real graphs and agents: resuming, time travel, subgraphs, parallel tasks, forks with their memory."""

import asyncio
import operator
import threading
from typing import Annotated, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_amfs import AMFSSaver, AMFSStore
from langgraph.channels.delta import DeltaChannel
from langgraph.config import get_store
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt

from amfs import BranchExistsError, CheckpointNotFoundError, ThreadExistsError

NOTES = ("notes", "u1")


@tool
def remember(key: str, text: str, runtime: ToolRuntime) -> str:
    """Save a note."""
    runtime.store.put(NOTES, key, {"text": text})
    return f"saved {key}"


@tool
def recall(key: str, runtime: ToolRuntime) -> str:
    """Read a note."""
    item = runtime.store.get(NOTES, key)
    return item.value["text"] if item else "nothing"


@tool
def ask(question: str) -> str:
    """Ask the user."""
    return interrupt(question)


def save(text, key="drink"):
    return ("remember", {"key": key, "text": text})


def config(thread="t1", **configurable):
    return {"configurable": {"thread_id": thread, **configurable}}


def texts(state):
    return [message.content for message in state["messages"]]


def at_step(graph, step, place=None):
    """Return the state of a thread as of a step."""
    return next(one for one in graph.get_state_history(place or config()) if one.metadata["step"] == step)


def note(memory, branch="main"):
    entry = memory.read("notes/u1", "drink", branch=branch)
    return None if entry is None else entry.value["text"]


# --- agents --------------------------------------------------------------------------------------------------


def test_an_agent_goes_on_in_a_thread(store, saver, script):
    agent = create_agent(script([save("tea")], "Noted.", "Hello again."), [remember], store=store, checkpointer=saver)
    agent.invoke({"messages": "I like tea."}, config())
    assert texts(agent.invoke({"messages": "Hi."}, config())) == [
        "I like tea.", "", "saved drink", "Noted.", "Hi.", "Hello again.",
    ]  # fmt: skip
    assert texts(agent.invoke({"messages": "Hi."}, config("t2")))[0] == "Hi."


def test_sync_and_async_turns_of_one_thread(store, saver, script):
    agent = create_agent(script([save("tea")], "one", "two", "three"), [remember], store=store, checkpointer=saver)
    agent.invoke({"messages": "a"}, config())

    async def turn():
        result = await agent.ainvoke({"messages": "b"}, config())
        return result, [one async for one in agent.aget_state_history(config())]

    result, history = asyncio.run(turn())
    assert texts(result)[-2:] == ["b", "two"]
    assert history == list(agent.get_state_history(config()))
    assert texts(agent.invoke({"messages": "c"}, config()))[-2:] == ["c", "three"]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_every_durability_of_langgraph(saver, script, durability):
    agent = create_agent(script("one", "two"), checkpointer=saver)
    agent.invoke({"messages": "a"}, config(), durability=durability)
    assert texts(agent.invoke({"messages": "b"}, config(), durability=durability)) == ["a", "one", "b", "two"]


def test_an_interrupt_waits_and_is_answered(saver, script):
    agent = create_agent(script([("ask", {"question": "Sure?"})], "Done."), [ask], checkpointer=saver)
    result = agent.invoke({"messages": "Go."}, config())
    assert [one.value for one in result["__interrupt__"]] == ["Sure?"]
    assert [one.value for one in agent.get_state(config()).interrupts] == ["Sure?"]
    assert texts(agent.invoke(Command(resume="yes"), config())) == ["Go.", "", "yes", "Done."]
    assert agent.get_state(config()).next == ()


# --- time travel ---------------------------------------------------------------------------------------------


class Count(TypedDict, total=False):
    n: int
    seen: Annotated[list, operator.add]


def add(state: Count) -> Count:
    return {"n": state.get("n", 0) + 1, "seen": [state.get("n", 0)]}


def counting(saver, steps=3):
    graph = StateGraph(Count)
    for number in range(steps):
        graph.add_node(f"add{number}", add)
        graph.add_edge(f"add{number - 1}" if number else START, f"add{number}")
    return graph.compile(checkpointer=saver)


def test_going_back_and_on_from_there(saver):
    graph = counting(saver)
    assert graph.invoke({"n": 10}, config()) == {"n": 13, "seen": [10, 11, 12]}
    past = at_step(graph, 1)
    assert (past.values, past.next) == ({"n": 11, "seen": [10]}, ("add1",))
    assert graph.invoke(None, past.config) == {"n": 13, "seen": [10, 11, 12]}
    changed = graph.update_state(past.config, {"n": 100})
    assert graph.invoke(None, changed)["n"] == 102
    assert graph.get_state(config()).values["n"] == 102
    assert graph.get_state(at_step(graph, 3).config).values
    sources = [one.metadata["source"] for one in graph.get_state_history(config())]
    assert sources.count("update") + sources.count("fork") >= 1
    assert [one.values["n"] for one in graph.get_state_history(config(), filter={"source": "update"})] == [100]
    assert len(list(graph.get_state_history(config(), limit=2))) == 2


def test_a_thread_that_another_saver_wrote_goes_on(saver):
    from langgraph.checkpoint.memory import InMemorySaver

    other = InMemorySaver()
    graph = counting(other)
    graph.invoke({"n": 0}, config(), interrupt_before=["add2"])
    for one in reversed(list(other.list(config()))):
        place = one.parent_config or config(checkpoint_ns="")
        saver.put(place, one.checkpoint, one.metadata, one.checkpoint["channel_versions"])
    assert counting(saver).invoke(None, config())["n"] == 3


# --- parallel tasks and subgraphs ----------------------------------------------------------------------------


class Gathered(TypedDict, total=False):
    items: Annotated[list, operator.add]


def test_what_parallel_tasks_wrote_is_kept_when_another_fails(saver):
    calls = []

    def work(state):
        calls.append(state["n"])
        if state["n"] == 2 and calls.count(2) == 1:
            raise RuntimeError("not yet")
        return {"items": [state["n"]]}

    graph = StateGraph(Gathered).add_node("work", work).add_node("split", lambda _: {})
    graph.add_edge(START, "split")
    graph.add_conditional_edges("split", lambda _: [Send("work", {"n": n}) for n in range(5)], ["work"])
    graph = graph.compile(checkpointer=saver)
    with pytest.raises(RuntimeError, match="not yet"):
        graph.invoke({"items": []}, {**config(), "max_concurrency": 1})
    assert graph.invoke(None, config()) == {"items": [0, 1, 2, 3, 4]}
    assert calls.count(0) == calls.count(1) == 1, "what was done before is not done again"


def nested(saver, inner_saver=None):
    def wait(_: Gathered) -> Gathered:
        return {"items": [interrupt("go on?")]}

    inner = StateGraph(Gathered).add_node("first", lambda _: {"items": ["first"]}).add_node("wait", wait)
    inner.add_edge(START, "first").add_edge("first", "wait")
    outer = StateGraph(Gathered).add_node("before", lambda _: {"items": ["before"]})
    outer.add_node("inner", inner.compile(checkpointer=inner_saver)).add_edge(START, "before")
    return outer.add_edge("before", "inner").compile(checkpointer=saver)


@pytest.mark.parametrize("inner_saver", [None, True])
def test_a_graph_inside_a_graph_has_a_namespace_and_resumes(saver, inner_saver):
    graph = nested(saver, inner_saver)
    graph.invoke({"items": []}, config())
    inside = graph.get_state(config(), subgraphs=True).tasks[0].state
    assert inside.values["items"][-1] == "first"
    assert {one.config["configurable"]["checkpoint_ns"].split(":")[0] for one in saver.list(config())} == {"", "inner"}
    assert graph.invoke(Command(resume="yes"), config())["items"][-1] == "yes"
    saver.delete_thread("t1")
    assert list(saver.list(None)) == []


class Delta(TypedDict, total=False):
    log: Annotated[
        list, DeltaChannel(lambda state, writes: [*state, *(x for w in writes for x in w)], snapshot_frequency=4)
    ]


def test_a_delta_channel_survives_pruning_copying_and_forking(saver):
    graph = StateGraph(Delta).add_node("add", lambda state: {"log": [len(state.get("log", []))]})
    graph = graph.add_edge(START, "add").compile(checkpointer=saver)
    for number in range(7):
        graph.invoke({"log": [f"input {number}"]}, config())
    whole = graph.get_state(config()).values
    assert len(whole["log"]) == 14
    saver.copy_thread("t1", "t2")
    fork = saver.fork_thread("t1", None, "e")
    saver.prune(["t1"])
    assert 1 <= len(list(saver.list(config()))) < 14
    for place in (config(), config("t2"), fork.config):
        assert graph.get_state(place).values == whole
        assert len(graph.invoke({"log": ["more"]}, place)["log"]) == 16


# --- forks ---------------------------------------------------------------------------------------------------


def drinker(store, saver, script, *turns):
    return create_agent(script(*turns), [remember, recall, ask], store=store, checkpointer=saver, name="waiter")


@pytest.fixture
def agent(store, saver, script):
    """Return an agent that in two turns of thread t1 wrote tea, then coffee."""
    agent = drinker(store, saver, script, [save("tea")], "Noted.", [save("coffee")], "Noted, too.")
    agent.invoke({"messages": "I like tea."}, config())
    agent.invoke({"messages": "No, coffee."}, config())
    return agent


def test_every_checkpoint_knows_the_memory_of_its_moment(agent, memory):
    found = {}
    for number, state in enumerate(agent.get_state_history(config())):
        fork = AMFSSaver(memory).fork_thread("t1", state.config["configurable"]["checkpoint_id"], f"e{number}")
        found[state.metadata["step"]] = note(memory, fork.branch)
    assert found == {
        -1: None,
        0: None,
        1: None,
        2: "tea",
        3: "tea",
        4: "tea",
        5: "tea",
        6: "tea",
        7: "coffee",
        8: "coffee",
    }


class Slow(AMFSSaver):
    """A saver whose puts wait until the step that comes next has written."""

    written = threading.Event()

    def put(self, *arguments):
        assert self.written.wait(60)
        return super().put(*arguments)


def test_memory_is_that_of_the_moment_when_a_checkpoint_was_made_however_late_it_is_stored(memory, store):
    def write(_: Count) -> Count:
        get_store().put(NOTES, "drink", {"text": "tea"})
        Slow.written.set()
        return {}

    saver = Slow(memory)
    graph = StateGraph(Count).add_node("write", write).add_edge(START, "write")
    graph.compile(checkpointer=saver, store=store).invoke({"n": 1}, config())
    forks = [saver.fork_thread("t1", one.checkpoint["id"], str(one.metadata["step"])) for one in saver.list(config())]
    assert {fork.branch: note(memory, fork.branch) for fork in forks} == {
        "experiment/-1": None,
        "experiment/0": None,
        "experiment/1": "tea",
    }


def test_a_forked_thread_takes_the_memory_along(agent, memory, store, saver, script):
    before = list(saver.list(config()))
    past = at_step(agent, 3)
    fork = saver.fork_thread("t1", past.config["configurable"]["checkpoint_id"], "juice")
    assert (fork.thread_id, fork.branch) == ("t1/juice", "experiment/juice")
    assert agent.get_state(fork.config).values == past.values
    assert [s.values for s in agent.get_state_history(fork.config)] == [
        s.values for s in agent.get_state_history(config()) if s.metadata["step"] <= 3
    ]
    other = drinker(store, saver, script, [("recall", {"key": "drink"})], [save("juice")], "Juice it is.")
    result = other.invoke({"messages": "What about juice?"}, fork.config)
    assert texts(result)[4:] == ["What about juice?", "", "tea", "", "saved drink", "Juice it is."]
    assert (note(memory), note(memory, fork.branch)) == ("coffee", "juice")
    assert list(saver.list(config())) == before
    assert [(change.key, change.source.value["text"]) for change in memory.diff_branch(fork.branch)] == [
        ("drink", "juice")
    ]
    assert saver.fork_thread("t1/juice", None, "again").branch == "experiment/again"
    assert note(memory, "experiment/again") == "juice"
    memory.merge_branch(fork.branch, strategy="source_wins", close=True)
    assert note(memory) == "juice"


@pytest.mark.usefixtures("agent")
async def test_forking_without_a_wait(memory, saver):
    fork = await saver.afork_thread("t1", None, "e", target_thread_id="elsewhere")
    assert (fork.thread_id, note(memory, fork.branch)) == ("elsewhere", "coffee")


@pytest.mark.usefixtures("agent")
def test_a_fork_that_cannot_be_made_leaves_nothing(memory, saver):
    saver.fork_thread("t1", None, "taken")
    before = (list(saver.list(None)), memory.branches(), memory.timeline(agent_id="*"))
    for arguments, error in (
        (("t1", None, "taken"), ThreadExistsError),
        (("t1", "unknown", "e"), CheckpointNotFoundError),
        (("unknown", None, "e"), CheckpointNotFoundError),
    ):
        with pytest.raises(error):
            saver.fork_thread(*arguments)
    with pytest.raises(BranchExistsError):
        saver.fork_thread("t1", None, "taken", target_thread_id="free")
    assert (list(saver.list(None)), memory.branches(), memory.timeline(agent_id="*")) == before


def test_an_interrupt_is_answered_in_another_way_in_a_fork(memory, store, saver, script):
    turns = ([save("tea")], [("ask", {"question": "Coffee?"})], [("recall", {"key": "drink"})], "Done.")
    agent = drinker(store, saver, script, *turns)
    agent.invoke({"messages": "Go."}, config())
    fork = saver.fork_thread("t1", None, "no")
    assert [one.value for one in agent.get_state(fork.config).interrupts] == ["Coffee?"]
    memory.write("notes/u1", "drink", {"text": "meanwhile"})
    assert texts(agent.invoke(Command(resume="yes"), config()))[-4:] == ["yes", "", "meanwhile", "Done."]
    agent = drinker(store, saver, script, [("recall", {"key": "drink"})], "Done.")
    assert texts(agent.invoke(Command(resume="no"), fork.config))[-4:] == ["no", "", "tea", "Done."]


def test_a_fork_in_the_middle_of_a_step_runs_the_step_anew(memory, store, saver):
    def write(state: Count) -> Count:
        get_store().put(NOTES, "drink", {"text": f"by {state['n']}"})
        return {"seen": ["wrote"]}

    def stop(_: Count) -> Count:
        return {"seen": [interrupt("?")]}

    graph = StateGraph(Count).add_node("write", write).add_node("stop", stop)
    graph = graph.add_edge(START, "write").add_edge(START, "stop").compile(checkpointer=saver, store=store)
    graph.invoke({"n": 1}, config())
    assert note(memory) == "by 1"
    fork = saver.fork_thread("t1", None, "e")
    assert note(memory, fork.branch) is None, "the checkpoint is older than what its step wrote"
    assert sorted(graph.invoke(Command(resume="x"), fork.config)["seen"]) == ["wrote", "x"]
    assert note(memory, fork.branch) == "by 1"
    assert memory.history("notes/u1", "drink", branch=fork.branch)[0].branch == fork.branch


@pytest.mark.parametrize("inner_saver", [None, True])
def test_a_fork_of_a_graph_inside_a_graph(saver, inner_saver):
    graph = nested(saver, inner_saver)
    graph.invoke({"items": []}, config())
    fork = saver.fork_thread("t1", None, "e")
    whole = graph.invoke(Command(resume="yes"), config())["items"]
    assert graph.invoke(Command(resume="no"), fork.config)["items"] == [*whole[:-1], "no"]


def test_an_experiment_is_followed(memory, store, saver, script):
    with memory.experiment("tea"):
        drinker(store, saver, script, [save("tea")], "ok").invoke({"messages": "hi"}, config())
    assert note(memory) is None
    fork = saver.fork_thread("t1", None, "onward")
    assert note(memory, fork.branch) == "tea"
    (branch,) = [one for one in memory.branches() if one.name == fork.branch]
    assert branch.parent == "experiment/tea"


@pytest.mark.usefixtures("agent")
def test_checkpoints_do_not_show_in_memory(memory, store):
    assert [entry.entry_key for entry in memory.list()] == ["notes/u1/drink"]
    assert {event.event_type for event in memory.timeline(agent_id="*")} <= {"write", "cross_agent_read"}
    assert store.search(()) != []
    assert AMFSStore(memory).list_namespaces() == [NOTES]
