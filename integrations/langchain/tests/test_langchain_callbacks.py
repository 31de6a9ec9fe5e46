"""AMFSCallbackHandler: runs of graphs and chains, with a middleware and without, and how they end."""

import asyncio
import logging
import uuid

import pytest
from langchain.agents import create_agent
from langchain.tools import tool
from langchain_amfs import AMFSCallbackHandler, AMFSMiddleware
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_store
from langgraph.errors import GraphRecursionError
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from amfs import AgentMemory
from integrations.langchain.tests.helpers_runs import (
    NOTES,
    ask,
    delegating,
    events,
    fail,
    last,
    play,
    read,
    recall,
    remember,
    runs_of,
    save,
    story,
)


@pytest.fixture
def handler(memory):
    return AMFSCallbackHandler(memory)


def run(runnable, given, awaited, config):
    return asyncio.run(runnable.ainvoke(given, config)) if awaited else runnable.invoke(given, config)


def agent(model, store, tools=(remember, recall, fail, ask), **options):
    return create_agent(model, list(tools), store=store, **{"name": "waiter", **options})


both = pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
with_and_without = pytest.mark.parametrize("middled", [False, True], ids=["alone", "with middleware"])


# --- graphs and agents -------------------------------------------------------------------------------------------


@both
@with_and_without
def test_a_run_is_recorded_once(memory, store, handler, awaited, middled):
    middleware = [AMFSMiddleware(memory)] if middled else []
    graph = agent(play([save("drink")], [read("drink")], "You like tea."), store, middleware=middleware)
    run_id = uuid.uuid4()
    run(graph, {"messages": "hi"}, awaited, {"callbacks": [handler], "run_id": run_id})
    assert story(memory) == [
        "waiter: Wrote notes/u1/drink v1",
        'waiter: Noted tool remember: ok {"key":"drink","text":"tea"} -> saved drink',
        'waiter: Noted tool recall: ok {"key":"drink"} -> tea',
        "waiter: Outcome RUN: success (0 entries updated)",
    ]
    assert runs_of(memory) == {str(run_id)}
    assert handler.failures == ()


@both
@with_and_without
def test_the_root_of_the_callbacks_names_the_run(memory, store, handler, awaited, middled):
    middleware = [AMFSMiddleware(memory)] if middled else []
    graph = agent(play([save("a")], "done"), store, middleware=middleware)
    run(graph, {"messages": "hi"}, awaited, {"callbacks": [handler]})
    (run_id,) = runs_of(memory)
    assert uuid.UUID(run_id)


@both
@with_and_without
def test_a_failure_is_recorded_once(memory, store, handler, awaited, middled):
    middleware = [AMFSMiddleware(memory)] if middled else []
    graph = agent(play([("fail", {"why": "x", "api_key": "12345"})]), store, middleware=middleware)
    with pytest.raises(ValueError, match="x"):
        run(graph, {"messages": "hi"}, awaited, {"callbacks": [handler]})
    assert story(memory) == [
        'waiter: Noted tool fail: error {"why":"x","api_key":"***"} -> ValueError: x',
        "waiter: Outcome RUN: failure (0 entries updated)",
    ]


@both
@with_and_without
def test_a_failure_that_no_middleware_sees(memory, store, handler, awaited, middled):
    middleware = [AMFSMiddleware(memory)] if middled else []
    graph = agent(play(*[[read("a")]] * 6), store, middleware=middleware)
    with pytest.raises(GraphRecursionError):
        run(graph, {"messages": "hi"}, awaited, {"callbacks": [handler], "recursion_limit": 4})
    assert story(memory)[-1] == "waiter: Outcome RUN: failure (0 entries updated)"
    assert events(memory)[-1].details["summary"].startswith("GraphRecursionError: Recursion limit of 4")


@both
def test_the_verdict_of_the_middleware_counts(memory, store, handler, awaited):
    store.put(NOTES, "drink", {"text": "tea"})
    middleware = AMFSMiddleware(memory, outcome=lambda _: ("minor_failure", 0.5))
    graph = agent(play([read("drink")], "done"), store, middleware=[middleware])
    run(graph, {"messages": "hi"}, awaited, {"callbacks": [handler]})
    assert story(memory)[-1] == "waiter: Outcome RUN: minor_failure (1 entry updated)"
    assert memory.read("notes/u1", "drink").confidence < 1


@both
@with_and_without
def test_an_interrupted_run_waits_and_goes_on(memory, store, handler, awaited, middled):
    store.put(NOTES, "drink", {"text": "tea"})
    middleware = [AMFSMiddleware(memory)] if middled else []
    model = play([read("drink")], [("ask", {"question": "Milk?"})], [save("milk", "yes")], "done")
    graph = agent(model, store, middleware=middleware, checkpointer=InMemorySaver())
    config = {"callbacks": [handler], "configurable": {"thread_id": "t1"}}
    start = last(memory)
    run(graph, {"messages": "hi"}, awaited, config)
    assert story(memory, start) == [
        "waiter: waiter read desk's notes/u1/drink v1",
        'waiter: Noted tool recall: ok {"key":"drink"} -> tea',
        "waiter: Noted interrupt: Milk?",
    ]
    waiting = last(memory)
    run(graph, Command(resume="yes"), awaited, config)
    assert story(memory, waiting) == [
        'waiter: Noted tool ask: ok {"question":"Milk?"} -> they said yes',
        "waiter: Wrote notes/u1/milk v1",
        'waiter: Noted tool remember: ok {"key":"milk","text":"yes"} -> saved milk',
        "waiter: Outcome RUN: success (0 entries updated)",
    ]
    (run_id,) = runs_of(memory, start)
    explained = memory.explain(run_id)
    assert [cause.entry.entry_key for cause in explained.causes] == ["notes/u1/drink"]
    assert [event.details["label"] for event in explained.contexts] == [
        "tool recall", "interrupt", "tool ask", "tool remember",
    ]  # fmt: skip


def test_two_threads_that_wait_do_not_mix(memory, store, handler):
    graph = agent(
        play([("ask", {"question": "?"})], [("ask", {"question": "?"})], "done", "done"),
        store, checkpointer=InMemorySaver(),
    )  # fmt: skip
    configs = [{"callbacks": [handler], "configurable": {"thread_id": name}} for name in ("a", "b")]
    for config in configs:
        graph.invoke({"messages": "hi"}, config)
    for config in reversed(configs):
        graph.invoke(Command(resume="yes"), config)
    ids = [event.run_id for event in events(memory)]
    first, second = dict.fromkeys(ids)
    assert ids == [first, second, second, second, first, first]


@both
@with_and_without
def test_a_run_that_is_cancelled_has_no_outcome(memory, store, handler, awaited, middled):
    middleware = [AMFSMiddleware(memory)] if middled else []
    graph = agent(play([save("a")], "done"), store, middleware=middleware)

    async def leave_early():
        stream = graph.astream({"messages": "hi"}, {"callbacks": [handler]}, stream_mode="updates")
        async for update in stream:
            if "tools" in update:
                await stream.aclose()

    if awaited:
        asyncio.run(leave_early())
    else:
        stream = graph.stream({"messages": "hi"}, {"callbacks": [handler]}, stream_mode="updates")
        next(update for update in stream if "tools" in update)
        stream.close()
    assert [event.event_type for event in events(memory)] == ["write", "context"]


@with_and_without
def test_a_task_that_is_cancelled_has_no_outcome(memory, store, handler, middled):
    reached = asyncio.Event()

    @tool
    async def hang() -> str:
        """Wait for ever."""
        reached.set()
        await asyncio.Event().wait()

    async def cancel():
        middleware = [AMFSMiddleware(memory)] if middled else []
        graph = agent(play([("hang", {})]), store, [hang], middleware=middleware)
        task = asyncio.create_task(graph.ainvoke({"messages": "hi"}, {"callbacks": [handler]}))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert events(memory) == []
    assert handler.failures == ()


@both
def test_a_plain_graph(memory, store, handler, awaited):
    def node(_: MessagesState) -> dict:
        get_store().put(NOTES, "k", {"text": "x"})
        return {}

    graph = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile(store=store)
    run(graph, {"messages": []}, awaited, {"callbacks": [handler], "metadata": {"thread_id": "t1"}})
    assert story(memory) == ["desk: Wrote notes/u1/k v1", "desk: Outcome RUN: success (0 entries updated)"]
    assert len(runs_of(memory)) == 1


@both
def test_interrupts_of_a_graph_before_a_node(memory, store, handler, awaited):
    def node(_: MessagesState) -> dict:
        get_store().put(NOTES, "k", {"text": "x"})
        return {}

    graph = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node")
    compiled = graph.compile(store=store, checkpointer=InMemorySaver(), interrupt_before=["node"])
    config = {"callbacks": [handler], "configurable": {"thread_id": "t1"}}
    run(compiled, {"messages": []}, awaited, config)
    run(compiled, None, awaited, config)
    assert story(memory) == [
        "desk: Noted interrupt: waits to go on",
        "desk: Wrote notes/u1/k v1",
        "desk: Outcome RUN: success (0 entries updated)",
    ]
    assert len(runs_of(memory)) == 1


@both
def test_a_sub_agent_without_middleware_is_told_of_in_its_own_name(memory, store, handler, awaited):
    helper = create_agent(play([save("from helper")], "done"), [remember], name="helper")
    task = ("adelegate" if awaited else "delegate", {"task": "x"})
    graph = agent(play([task], "done"), store, delegating(helper), middleware=[AMFSMiddleware(memory)])
    run(graph, {"messages": "hi"}, awaited, {"callbacks": [handler]})
    assert [event.actor for event in events(memory)] == ["helper", "helper", "waiter", "waiter"]
    assert len(runs_of(memory)) == 1


def test_a_handler_of_a_sub_agent_alone_says_what_came_of_that_part(memory, store, handler):
    helper = create_agent(play([save("b")], "done"), [remember], name="helper").with_config(callbacks=[handler])
    graph = agent(play([save("a")], [("delegate", {"task": "x"})], "done"), store, [remember, *delegating(helper)])
    graph.invoke({"messages": "hi"}, {"run_id": (run_id := uuid.uuid4())})
    assert runs_of(memory) == {str(run_id)}
    assert story(memory)[-1] == "helper: Outcome RUN/helper: success (0 entries updated)"


def test_a_handler_bound_to_the_agent(memory, store, handler):
    graph = agent(play([save("a")], "done"), store).with_config(callbacks=[handler])
    graph.invoke({"messages": "hi"})
    assert story(memory)[-1] == "waiter: Outcome RUN: success (0 entries updated)"


def test_a_middleware_of_another_database_is_not_bothered(memory, store, handler, tmp_path):
    with AgentMemory("other", tmp_path / "other.db") as other:
        graph = agent(play([save("a")], "done"), store, middleware=[AMFSMiddleware(other)])
        graph.invoke({"messages": "hi"}, {"callbacks": [handler]})
        assert [event.event_type for event in events(other)] == ["context", "outcome"]
    assert [event.event_type for event in events(memory)] == ["write", "context", "outcome"]


# --- chains ------------------------------------------------------------------------------------------------------


@both
def test_a_chain_of_runnables(memory, store, handler, awaited):
    @tool
    def double(number: int) -> int:
        """Double it."""
        store.put(NOTES, "number", {"is": 2 * number})
        return 2 * number

    chain = RunnableLambda(lambda number: {"number": number}) | double | RunnableLambda(lambda number: number + 1)
    assert run(chain, 3, awaited, {"callbacks": [handler]}) == 7
    assert story(memory) == [
        "desk: Wrote notes/u1/number v1",
        'desk: Noted tool double: ok {"number":3} -> 6',
        "desk: Outcome RUN: success (0 entries updated)",
    ]
    assert len(runs_of(memory)) == 1


@both
def test_a_chain_that_fails(memory, handler, awaited):
    with pytest.raises(ZeroDivisionError):
        run(RunnableLambda(lambda number: 1 / number), 0, awaited, {"callbacks": [handler]})
    (event,) = events(memory)
    assert event.details["outcome_type"] == "failure"
    assert event.details["summary"] == "ZeroDivisionError: division by zero"


@both
def test_a_tool_alone(memory, handler, awaited):
    with pytest.raises(ValueError, match="x"):
        run(fail, {"why": "x"}, awaited, {"callbacks": [handler]})
    assert [event.event_type for event in events(memory)] == ["context", "outcome"]


def test_a_run_of_the_caller_is_joined(memory, handler):
    with memory.run("mine"):
        RunnableLambda(lambda _: None).invoke(None, {"callbacks": [handler]})
        fail.with_fallbacks([RunnableLambda(lambda _: "saved")]).invoke({"why": "x"}, {"callbacks": [handler]})
    assert story(memory) == ['desk: Noted tool fail: error {"why":"x"} -> ValueError: x']
    assert runs_of(memory) == {"mine"}


def test_many_runs_at_a_time(memory, handler):
    async def one(number):
        chain = RunnableLambda(lambda n: n) | RunnableLambda(lambda n: {"why": str(n)}) | fail
        with pytest.raises(ValueError, match=str(number)):
            await chain.ainvoke(number, {"callbacks": [handler]})

    async def all_of_them():
        await asyncio.gather(*(one(number) for number in range(20)))

    asyncio.run(all_of_them())
    assert len(runs_of(memory)) == 20
    assert handler.failures == ()
    assert handler._recordings == {}


def test_classic_chains(memory, handler):
    classic = pytest.importorskip("langchain_classic.agents", reason="langchain-classic is not installed")
    from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder

    @tool
    def shout(text: str) -> str:
        """Shout."""
        return text.upper()

    prompt = ChatPromptTemplate.from_messages([("human", "{input}"), MessagesPlaceholder("agent_scratchpad")])
    model = play([("shout", {"text": "hi"})], "done")
    executor = classic.AgentExecutor(agent=classic.create_tool_calling_agent(model, [shout], prompt), tools=[shout])
    executor.invoke({"input": "hi"}, {"callbacks": [handler]})
    assert story(memory) == [
        'desk: Noted tool shout: ok {"text":"hi"} -> HI',
        "desk: Outcome RUN: success (0 entries updated)",
    ]


# --- what goes wrong ---------------------------------------------------------------------------------------------


@both
def test_a_handler_that_fails_does_not_break_the_run(tmp_path, awaited, caplog):
    memory = AgentMemory("desk", tmp_path / "amfs.db")
    handler = AMFSCallbackHandler(memory)
    memory.close()

    @tool
    def shout(text: str) -> str:
        """Shout."""
        return text.upper()

    with caplog.at_level(logging.ERROR, "amfs"):
        assert run(shout, {"text": "hi"}, awaited, {"callbacks": [handler]}) == "HI"
    assert handler.failed == len(handler.failures) == 2
    assert "amfs could not record an outcome" in caplog.text
    assert handler._recordings == {}


def test_nothing_is_left_of_runs_that_ended(store, handler):
    @tool
    def jump() -> str:
        """Wait."""
        return interrupt("?")

    graph = agent(play([("jump", {})]), store, [jump], checkpointer=InMemorySaver())
    graph.invoke({"messages": "hi"}, {"callbacks": [handler], "configurable": {"thread_id": "t"}})
    with pytest.raises(ValueError, match="x"):
        fail.invoke({"why": "x"}, {"callbacks": [handler]})
    assert handler._recordings == {}
