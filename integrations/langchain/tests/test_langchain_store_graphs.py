"""The store inside real graphs and agents: who wrote, in which run, on which branch."""

import asyncio
import uuid
from typing import TypedDict

import pytest
from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_amfs import AMFSStore
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_store
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import PutOp
from langgraph.types import RetryPolicy

from amfs import AgentMemory
from amfs.errors import BranchNotFoundError, InvalidValueError, StaleWriteError

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
async def aremember(key: str, text: str, runtime: ToolRuntime) -> str:
    """Save a note, awaited."""
    await runtime.store.aput(NOTES, key, {"text": text})
    return f"saved {key}"


@tool
async def arecall(key: str, runtime: ToolRuntime) -> str:
    """Search the notes, awaited."""
    items = await runtime.store.asearch(NOTES, filter={"text": {"$ne": ""}})
    return next((item.value["text"] for item in items if item.key == key), "nothing")


def save(key, text="tea"):
    return ("remember", {"key": key, "text": text})


def config(thread="t1", run_id=None, **configurable):
    run = {} if run_id is None else {"run_id": run_id}
    return {"configurable": {"thread_id": thread, **configurable}, **run}


def replies(result):
    return [message.content for message in result["messages"] if message.type == "tool"]


def writes(memory):
    return [(event.agent_id, event.details["key"]) for event in reversed(memory.timeline(agent_id="*"))
            if event.event_type == "write"]  # fmt: skip


# --- agents ------------------------------------------------------------------------------------------------


def test_an_agent_remembers_and_recalls(memory, store, script):
    model = script([save("drink")], [("recall", {"key": "drink"})], "You like tea.")
    agent = create_agent(model, [remember, recall], store=store, checkpointer=InMemorySaver(), name="waiter")
    run_id = uuid.uuid4()
    result = agent.invoke({"messages": "what do I drink?"}, config(run_id=run_id))
    assert replies(result) == ["saved drink", "tea"]
    (event,) = memory.timeline(agent_id="waiter")
    assert (event.summary, event.run_id, event.actor) == ("Wrote notes/u1/drink v1", str(run_id), "waiter")
    entry = memory.read("notes/u1", "drink")
    assert (entry.agent_id, entry.run_id, entry.session_id) == ("waiter", str(run_id), event.session_id)
    assert memory.timeline(agent_id="desk", event_type="write") == []


def test_an_async_agent(memory, store, script):
    model = script([("aremember", {"key": "drink", "text": "mate"})], [("arecall", {"key": "drink"})], "done")
    agent = create_agent(model, [aremember, arecall], store=store, name="waiter")
    result = asyncio.run(agent.ainvoke({"messages": "hi"}, {"run_id": uuid.uuid4()}))
    assert replies(result) == ["saved drink", "mate"]
    assert writes(memory) == [("waiter", "drink")]


@pytest.mark.parametrize("mode", ["updates", "values", "messages"])
def test_streaming(memory, store, script, mode):
    agent = create_agent(script([save("drink")], "done"), [remember], store=store, name="waiter")
    assert list(agent.stream({"messages": "hi"}, stream_mode=mode))
    assert writes(memory) == [("waiter", "drink")]


def test_async_streaming_of_events(memory, store, script):
    async def consume():
        return [event async for event in agent.astream_events({"messages": "hi"}, version="v2")]

    agent = create_agent(
        script([("aremember", {"key": "drink", "text": "tea"})], "done"),
        [aremember],
        store=store,
        name="waiter",
    )
    assert asyncio.run(consume())
    assert writes(memory) == [("waiter", "drink")]


def test_parallel_tool_calls_share_a_run(memory, store, script):
    turn = [save(f"k{n}") for n in range(8)]
    agent = create_agent(script(turn, "done"), [remember], store=store, name="waiter")
    assert len(replies(agent.invoke({"messages": "hi"}))) == 8
    events = memory.timeline(agent_id="waiter", event_type="write")
    assert {event.details["key"] for event in events} == {f"k{n}" for n in range(8)}
    assert len({(event.run_id, event.session_id) for event in events}) == 1


def test_parallel_async_tool_calls_share_a_run(memory, store, script):
    turn = [("aremember", {"key": f"k{n}", "text": "x"}) for n in range(8)]
    agent = create_agent(script(turn, "done"), [aremember], store=store, name="waiter")
    assert len(replies(asyncio.run(agent.ainvoke({"messages": "hi"})))) == 8
    assert len({event.run_id for event in memory.timeline(agent_id="waiter", event_type="write")}) == 1


def test_each_invocation_is_a_run_of_its_own(memory, store, script):
    agent = create_agent(script([save("a")], "done"), [remember], store=store, name="waiter")
    agent.invoke({"messages": "hi"})
    agent.invoke({"messages": "hi"})
    first, second = memory.timeline(agent_id="waiter", event_type="write")
    assert first.run_id
    assert second.run_id
    assert first.run_id != second.run_id


def test_concurrent_invocations_do_not_mix(memory, store, script):
    async def both():
        calls = [
            create_agent(
                script([("aremember", {"key": name, "text": "x"})], [("arecall", {"key": name})], "done"),
                [aremember, arecall], store=store, name=name,
            ).ainvoke({"messages": "hi"})
            for name in ("ann", "bob", "cat")
        ]  # fmt: skip
        await asyncio.gather(*calls)

    asyncio.run(both())
    assert sorted(writes(memory)) == [("ann", "ann"), ("bob", "bob"), ("cat", "cat")]
    assert len({event.run_id for event in memory.timeline(agent_id="*", event_type="write")}) == 3


def test_a_sub_agent_acts_in_its_own_name_and_in_the_same_run(memory, store, script):
    helper = create_agent(script([save("from helper")], "done"), [remember], name="helper")

    @tool
    def delegate(task: str) -> str:
        """Let the helper do it."""
        return helper.invoke({"messages": task})["messages"][-1].content

    model = script([save("from main")], [("delegate", {"task": "x"})], "done")
    agent = create_agent(model, [remember, delegate], store=store, checkpointer=InMemorySaver(), name="main-agent")
    run_id = uuid.uuid4()
    agent.invoke({"messages": "hi"}, config(run_id=run_id))
    assert writes(memory) == [("main-agent", "from main"), ("helper", "from helper")]
    assert {event.run_id for event in memory.timeline(agent_id="*", event_type="write")} == {str(run_id)}


def test_a_sub_agent_that_is_first_to_use_memory_sees_a_configured_run_id(memory, store, script):
    helper = create_agent(script([save("from helper")], "done"), [remember], name="helper")

    @tool
    def delegate(task: str) -> str:
        """Let the helper do it."""
        return helper.invoke({"messages": task})["messages"][-1].content

    model = script([("delegate", {"task": "x"})], [save("from main")], "done")
    agent = create_agent(model, [remember, delegate], store=store, name="main-agent")
    agent.invoke({"messages": "hi"}, {"configurable": {"run_id": "nightly-7"}})
    assert writes(memory) == [("helper", "from helper"), ("main-agent", "from main")]
    assert {event.run_id for event in memory.timeline(agent_id="*", event_type="write")} == {"nightly-7"}


def test_reading_what_another_agent_wrote_is_recorded_once_in_a_run(memory, store, script):
    create_agent(script([save("drink")], "done"), [remember], store=store, name="writer").invoke({"messages": "hi"})
    turn = [("recall", {"key": "drink"})]
    reader = create_agent(script(turn, turn, "done"), [recall], store=store, name="reader")
    assert replies(reader.invoke({"messages": "hi"})) == ["tea", "tea"]
    (event,) = memory.timeline(agent_id="writer", event_type="cross_agent_read")
    assert (event.actor, event.agent_id, event.details["reader_agent"]) == ("reader", "writer", "reader")
    assert (event.details["entity_path"], event.details["key"]) == ("notes/u1", "drink")
    assert event.run_id
    reader.invoke({"messages": "hi"})
    assert len(memory.timeline(agent_id="writer", event_type="cross_agent_read")) == 2


def test_a_search_hit_of_another_agent_is_recorded(memory, store, script):
    create_agent(script([save("a"), save("b")], "done"), [remember], store=store, name="writer").invoke(
        {"messages": "hi"}
    )
    reader = create_agent(script([("arecall", {"key": "a"})], "done"), [arecall], store=store, name="reader")
    assert replies(asyncio.run(reader.ainvoke({"messages": "hi"}))) == ["tea"]
    (event,) = memory.timeline(agent_id="writer", event_type="cross_agent_read")
    assert {each["key"] for each in event.details["entries"]} == {"a", "b"}


# --- runs and outcomes -------------------------------------------------------------------------------------


def test_an_outcome_judges_what_a_run_read(memory, store, script):
    store.put(NOTES, "drink", {"text": "tea"})
    store.put(NOTES, "unread", {"text": "?"})
    agent = create_agent(script([("recall", {"key": "drink"})], "done"), [recall], store=store, name="waiter")
    run_id = uuid.uuid4()
    agent.invoke({"messages": "hi"}, config(run_id=run_id))
    outcome = memory.commit_outcome("ticket-7", "failure", run_id=str(run_id))
    assert [entry.key for entry in outcome.entries] == ["drink"]
    assert memory.read("notes/u1", "drink").confidence < 1
    assert store.get(NOTES, "drink").value == {"text": "tea"}


def test_a_run_of_the_caller_is_joined(memory, store, script):
    store.put(NOTES, "drink", {"text": "tea"})
    model = script([("recall", {"key": "drink"})], [save("new")], "done")
    agent = create_agent(model, [remember, recall], store=store, name="waiter")
    with memory.run("mine") as run:
        agent.invoke({"messages": "hi"}, config(run_id=uuid.uuid4()))
        asyncio.run(graph(store, write_node_awaited).ainvoke({"key": "k", "text": "x"}))
        outcome = memory.commit_outcome("ticket-7", "success")
    assert [entry.key for entry in outcome.entries] == ["drink"]
    events = memory.timeline(agent_id="*", event_type="write", limit=2)
    assert {(event.run_id, event.session_id) for event in events} == {("mine", run.session_id)}
    assert {event.agent_id for event in events} == {"waiter", "desk"}


def test_closing_the_memory_saves_the_read_sets(tmp_path, script):
    path, run_id = tmp_path / "amfs.db", uuid.uuid4()
    with AgentMemory("desk", path) as memory:
        store = AMFSStore(memory)
        store.put(NOTES, "drink", {"text": "tea"})
        agent = create_agent(script([("recall", {"key": "drink"})], "done"), [recall], store=store, name="waiter")
        agent.invoke({"messages": "hi"}, {"run_id": run_id})
    with AgentMemory("judge", path) as memory:
        outcome = memory.commit_outcome("ticket-7", "success", run_id=str(run_id))
        assert [entry.key for entry in outcome.entries] == ["drink"]


def test_more_runs_than_are_kept_all_save_their_read_sets(tmp_path):
    path = tmp_path / "amfs.db"
    run_ids = [uuid.uuid4() for _ in range(300)]
    with AMFSStore.from_conn_string(path, durability="normal") as store:
        store.put(NOTES, "drink", {"text": "tea"})
        graph = StateGraph(State).add_node("read", read_node).add_edge(START, "read").compile(store=store)
        for run_id in run_ids:
            graph.invoke({"key": "drink"}, {"run_id": run_id})
    with AgentMemory("judge", path) as memory:
        for run_id in (run_ids[0], run_ids[40], run_ids[-1]):
            assert len(memory.commit_outcome(f"t-{run_id}", "success", run_id=str(run_id)).causes) == 1


# --- conflicts ------------------------------------------------------------------------------------------


def test_the_conflict_policy_of_the_memory_holds_in_a_graph(tmp_path):
    with AgentMemory("desk", tmp_path / "amfs.db", conflict_policy="raise") as memory, AMFSStore(memory) as store:
        store.put(NOTES, "k", {"text": "old"})

        def overtaken(state: State, runtime: Runtime) -> State:
            runtime.store.get(NOTES, "k")
            memory.as_agent("rival").write("notes/u1", "k", {"text": "rival"})
            runtime.store.put(NOTES, "k", {"text": "mine"})
            return state

        with pytest.raises(StaleWriteError):
            graph(store, overtaken).invoke({"key": "k"})
        assert store.get(NOTES, "k").value == {"text": "rival"}


# --- plain graphs ------------------------------------------------------------------------------------------


class State(TypedDict, total=False):
    key: str
    text: str


def read_node(state: State, runtime: Runtime) -> State:
    item = runtime.store.get(NOTES, state["key"])
    return {"text": item.value["text"] if item else ""}


def write_node(state: State) -> State:
    get_store().put(NOTES, state["key"], {"text": state["text"]})
    return {}


async def write_node_awaited(state: State) -> State:
    await get_store().aput(NOTES, state["key"], {"text": state["text"]})
    return {}


def graph(store, node=write_node):
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile(store=store)


def test_a_plain_graph_acts_as_the_memory(memory, store):
    graph(store).invoke({"key": "k", "text": "x"})
    (event,) = memory.timeline(event_type="write")
    assert event.agent_id == "desk"
    assert event.run_id


def test_a_plain_graph_may_name_its_agent(memory, store):
    graph(store).invoke({"key": "k", "text": "x"}, config(agent="planner"))
    asyncio.run(graph(store, write_node_awaited).ainvoke({"key": "k2", "text": "x"}, config(agent="planner")))
    assert writes(memory) == [("planner", "k"), ("planner", "k2")]


def test_outside_of_a_graph_the_memory_acts(memory, store):
    store.put(NOTES, "k", {})
    RunnableLambda(lambda _: store.put(NOTES, "k2", {})).invoke(None)
    assert writes(memory) == [("desk", "k"), ("desk", "k2")]
    assert {event.run_id for event in memory.timeline(event_type="write")} == {None}


def test_the_configuration_may_name_a_branch(memory, store):
    memory.create_branch("try")
    memory.create_branch("other")
    graph(store.on_branch("other")).invoke({"key": "k", "text": "x"}, config(amfs_branch="try"))
    assert [change.key for change in memory.diff_branch("try")] == ["k"]
    assert memory.diff_branch("other") == []
    with pytest.raises(BranchNotFoundError):
        graph(store).invoke({"key": "k", "text": "x"}, config(amfs_branch="nowhere"))


def test_a_graph_rebound_to_a_branch(memory, store):
    memory.create_branch("try")
    original = graph(store)
    original.copy(update={"store": store.on_branch("try")}).invoke({"key": "k", "text": "x"})
    assert memory.read("notes/u1", "k") is None
    assert memory.read("notes/u1", "k", branch="try").value == {"text": "x"}


def test_agents_follow_an_experiment(memory, store, script):
    with memory.experiment("tea") as experiment:
        create_agent(script([save("a"), save("b")], "done"), [remember], store=store, name="waiter").invoke(
            {"messages": "hi"}
        )
        turn = [("aremember", {"key": "c", "text": "x"})]
        agent = create_agent(script(turn, "done"), [aremember], store=store, name="waiter")
        asyncio.run(agent.ainvoke({"messages": "hi"}))
    assert store.search(()) == []
    assert {(change.key, change.source.agent_id) for change in experiment.diff()} == {(key, "waiter") for key in "abc"}


# --- retries and tasks ----------------------------------------------------------------------------------


def retrying(store, node):
    policy = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=3, retry_on=OSError)
    return StateGraph(State).add_node("node", node, retry_policy=policy).add_edge(START, "node").compile(store=store)


def failing_twice(*attempts):
    """Return a node whose attempts write these texts in turn, the first two failing afterwards."""
    numbers = iter(range(3))

    def node(state: State, runtime: Runtime) -> State:
        number = next(numbers)
        for text in attempts[number]:
            runtime.store.put(NOTES, state["key"], {"text": text})
        if number < 2:
            raise OSError("try again")
        return {}

    async def awaited(state: State, runtime: Runtime) -> State:
        number = next(numbers)
        for text in attempts[number]:
            await runtime.store.aput(NOTES, state["key"], {"text": text})
        if number < 2:
            raise OSError("try again")
        return {}

    return node, awaited


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(
    ("attempts", "written"),
    [
        ([["a"], ["a"], ["a"]], ["a"]),
        ([["a", "b"], ["a", "b"], ["a", "b"]], ["a", "b"]),
        ([["a", "b", "a"], ["a", "b", "a"], ["a", "b", "a"]], ["a", "b", "a"]),
        ([["a"], ["a", "b"], ["a", "b", "c"]], ["a", "b", "c"]),
        ([["a"], ["other"], ["other"]], ["a", "other"]),
        ([["a"], [], ["a"]], ["a"]),
    ],
)
def test_a_node_that_is_retried_writes_once(memory, store, attempts, written, way):
    node, awaited = failing_twice(*attempts)
    if way == "sync":
        retrying(store, node).invoke({"key": "k"})
    else:
        asyncio.run(retrying(store, awaited).ainvoke({"key": "k"}))
    assert [entry.value["text"] for entry in memory.history("notes/u1", "k")] == written


def test_a_retried_node_deletes_once_and_another_invocation_writes_again(memory, store):
    def node(state: State, runtime: Runtime) -> State:
        runtime.store.put(NOTES, state["key"], {"text": "x"})
        runtime.store.delete(NOTES, state["key"])
        if runtime.execution_info.node_attempt < 3:
            raise OSError("try again")
        return {}

    for times in (1, 2):
        retrying(store, node).invoke({"key": "k"})
        assert [entry.deleted for entry in memory.history("notes/u1", "k")] == [False, True] * times


def test_a_write_that_failed_is_made_by_the_next_attempt(memory, store):
    def node(state: State, runtime: Runtime) -> State:
        missing = runtime.execution_info.node_attempt == 1
        runtime.store.put(NOTES, "other", {"text": "y"})
        try:
            bad = PutOp(NOTES, "bad", {"text": object() if missing else "z"})
            runtime.store.batch([PutOp(NOTES, "k", {"text": state["text"]}), bad])
        except InvalidValueError as error:
            raise OSError("try again") from error
        return {}

    retrying(store, node).invoke({"key": "k", "text": "x"})
    assert sorted(event.summary for event in memory.timeline(event_type="write")) == [
        "Wrote notes/u1/bad v1", "Wrote notes/u1/k v1", "Wrote notes/u1/other v1",
    ]  # fmt: skip


def test_reads_and_writes_name_their_task(memory, store):
    memory.as_agent("author").write("notes/u1", "k", {"text": "x"})
    memory.as_agent("author").write("notes/u1", "k2", {"text": "x"})
    tasks = []

    def first(state: State, runtime: Runtime) -> State:
        tasks.append(runtime.execution_info.task_id)
        runtime.store.get(NOTES, "k")
        runtime.store.put(NOTES, "mine", {"text": "first"})
        return state

    async def second(state: State, runtime: Runtime) -> State:
        tasks.append(runtime.execution_info.task_id)
        await runtime.store.asearch(NOTES, query="x")
        await runtime.store.aput(NOTES, "mine", {"text": "second"})
        return state

    builder = StateGraph(State).add_node("first", first).add_node("second", second)
    chain = builder.add_edge(START, "first").add_edge("first", "second").compile(store=store)
    asyncio.run(chain.ainvoke({"key": "k"}, config(run_id=(run_id := uuid.uuid4()))))
    events = list(reversed(memory.timeline(agent_id="author", event_type="cross_agent_read")))
    assert [event.details["task"] for event in events] == tasks
    written = list(reversed(memory.timeline(agent_id="*", event_type="write", limit=2)))
    assert [event.details["task"] for event in written] == tasks
    assert {event.run_id for event in events} == {str(run_id)}
