"""What users of LangGraph do, and the story that the timeline tells of it afterwards."""

import asyncio

import pytest
from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_amfs import AMFSCallbackHandler, AMFSMiddleware, AMFSStore
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command

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

both = pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
with_and_without = pytest.mark.parametrize("handled", [False, True], ids=["middleware", "with handler"])


def run(graph, given, awaited, config=None):
    return asyncio.run(graph.ainvoke(given, config)) if awaited else graph.invoke(given, config)


@both
@with_and_without
def test_sub_agents_as_tools(memory, store, awaited, handled):
    middleware = AMFSMiddleware(memory)
    scout = create_agent(play([save("price", "3 EUR")], "3 EUR"), [remember], middleware=[middleware], name="scout")
    buyer = create_agent(play([read("price")], "bought"), [recall], middleware=[middleware], name="buyer")
    tools = []
    for agent in (scout, buyer):
        delegate, adelegate = delegating(agent)
        tools.append((adelegate if awaited else delegate).model_copy(update={"name": agent.name}))
    model = play([("scout", {"task": "find"})], [("buyer", {"task": "buy"})], [read("price")], "Done.")
    boss = create_agent(model, [*tools, recall], middleware=[middleware], store=store, name="boss")
    callbacks = [AMFSCallbackHandler(memory)] if handled else []
    run(boss, {"messages": "tea, please"}, awaited, {"callbacks": callbacks})
    assert story(memory) == [
        "scout: Wrote notes/u1/price v1",
        'scout: Noted tool remember: ok {"key":"price","text":"3 EUR"} -> saved price',
        'boss: Noted tool scout: ok {"task":"find"} -> 3 EUR',
        "buyer: buyer read scout's notes/u1/price v1",
        'buyer: Noted tool recall: ok {"key":"price"} -> 3 EUR',
        'boss: Noted tool buyer: ok {"task":"buy"} -> bought',
        "boss: boss read scout's notes/u1/price v1",
        'boss: Noted tool recall: ok {"key":"price"} -> 3 EUR',
        "boss: Outcome RUN: success (0 entries updated)",
    ]
    (run_id,) = runs_of(memory)
    explained = memory.explain(run_id)
    assert {(cause.entry.agent_id, cause.entry.entry_key) for cause in explained.causes} == {
        ("scout", "notes/u1/price")
    }
    assert len(explained.contexts) == 5
    assert middleware.failures == ()


@both
def test_a_sub_agent_that_fails_and_is_forgiven(memory, store, awaited):
    middleware = AMFSMiddleware(memory)
    helper = create_agent(play([("fail", {"why": "no idea"})]), [fail], middleware=[middleware], name="helper")

    @tool
    def consult(task: str) -> str:
        """Ask the helper."""
        try:
            return str(helper.invoke({"messages": task}))
        except ValueError:
            return "the helper does not know"

    boss = create_agent(play([("consult", {"task": "x"})], "Never mind."), [consult], middleware=[middleware],
                        store=store, name="boss")  # fmt: skip
    run(boss, {"messages": "hi"}, awaited)
    assert story(memory) == [
        'helper: Noted tool fail: error {"why":"no idea"} -> ValueError: no idea',
        'boss: Noted tool consult: ok {"task":"x"} -> the helper does not know',
        "boss: Outcome RUN: success (0 entries updated)",
    ]


@both
def test_sub_agents_in_parallel(memory, store, awaited):
    middleware = AMFSMiddleware(memory)
    names = [f"agent-{number}" for number in range(6)]
    tools = []
    for name in names:
        delegate, adelegate = delegating(
            create_agent(play([save(name)], "done"), [remember], middleware=[middleware], name=name)
        )
        tools.append((adelegate if awaited else delegate).model_copy(update={"name": name}))
    boss = create_agent(play([(name, {"task": "x"}) for name in names], "done"), tools, middleware=[middleware],
                        store=store, name="boss")  # fmt: skip
    run(boss, {"messages": "hi"}, awaited)
    assert {(entry.agent_id, entry.key) for entry in memory.list("notes/u1")} == {(name, name) for name in names}
    assert len(runs_of(memory)) == 1
    for name in names:
        assert [event.event_type for event in events(memory) if event.actor == name] == ["write", "context"]
    assert [event.event_type for event in events(memory) if event.actor == "boss"] == ["context"] * 6 + ["outcome"]


@both
@with_and_without
def test_parallel_tool_calls(memory, store, awaited, handled):
    turn = [save(f"k{number}") for number in range(8)]
    agent = create_agent(play(turn, [read("k0"), read("k1")], "done"), [remember, recall],
                         middleware=[AMFSMiddleware(memory)], store=store, name="waiter")  # fmt: skip
    run(agent, {"messages": "hi"}, awaited, {"callbacks": [AMFSCallbackHandler(memory)] if handled else []})
    told = story(memory)
    assert sorted(told[:-1]) == sorted(
        [f"waiter: Wrote notes/u1/k{number} v1" for number in range(8)]
        + [f'waiter: Noted tool remember: ok {{"key":"k{n}","text":"tea"}} -> saved k{n}' for n in range(8)]
        + [f'waiter: Noted tool recall: ok {{"key":"k{n}"}} -> tea' for n in range(2)]
    )  # fmt: skip
    assert told[-1] == "waiter: Outcome RUN: success (0 entries updated)"
    assert len(runs_of(memory)) == 1


@both
def test_one_of_parallel_tool_calls_fails(memory, store, awaited):
    turn = [save("a"), ("fail", {"why": "x"}), ("fail", {"why": "x"})]
    agent = create_agent(play(turn), [remember, fail], middleware=[AMFSMiddleware(memory)], store=store, name="waiter")
    with pytest.raises(ValueError, match="x"):
        run(agent, {"messages": "hi"}, awaited)
    assert [line for line in story(memory) if "Outcome" in line] == ["waiter: Outcome RUN: failure (0 entries updated)"]


# --- interrupts --------------------------------------------------------------------------------------------------


@both
def test_an_interrupt_and_its_resumption_are_one_run(memory, store, awaited):
    store.put(NOTES, "drink", {"text": "tea"})
    model = play([read("drink")], [("ask", {"question": "Milk?"})], [save("milk", "yes")], "done")
    middleware = AMFSMiddleware(memory, outcome=lambda _: "failure")
    agent = create_agent(model, [recall, ask, remember], middleware=[middleware], store=store,
                         name="waiter", checkpointer=InMemorySaver())  # fmt: skip
    config = {"configurable": {"thread_id": "t1"}}
    run(agent, {"messages": "hi"}, awaited, config)
    assert story(memory, 1) == [
        "waiter: waiter read desk's notes/u1/drink v1",
        'waiter: Noted tool recall: ok {"key":"drink"} -> tea',
    ]
    run(agent, Command(resume="yes"), awaited, config)
    assert story(memory, 3) == [
        'waiter: Noted tool ask: ok {"question":"Milk?"} -> they said yes',
        "waiter: Wrote notes/u1/milk v1",
        'waiter: Noted tool remember: ok {"key":"milk","text":"yes"} -> saved milk',
        "waiter: Outcome RUN: failure (1 entry updated)",
    ]
    assert len(runs_of(memory, 1)) == 1


@pytest.mark.parametrize("branched", [False, True], ids=["main", "branch per run"])
def test_a_run_is_resumed_in_another_process(tmp_path, branched):
    """Everything is opened anew, as another process would; what the first one read is judged."""

    def waiter(memory, saver, *turns):
        middleware = AMFSMiddleware(memory, outcome=lambda _: "failure", branch_per_run=branched)
        return create_agent(play(*turns), [recall, ask, remember], middleware=[middleware], store=AMFSStore(memory),
                            name="waiter", checkpointer=saver)  # fmt: skip

    config = {"configurable": {"thread_id": "t1"}}
    with (
        AgentMemory("desk", tmp_path / "amfs.db") as memory,
        SqliteSaver.from_conn_string(str(tmp_path / "s")) as saver,
    ):
        AMFSStore(memory).put(NOTES, "drink", {"text": "tea"})
        waiter(memory, saver, [read("drink")], [("ask", {"question": "Milk?"})]).invoke({"messages": "hi"}, config)
    with (
        AgentMemory("desk", tmp_path / "amfs.db") as memory,
        SqliteSaver.from_conn_string(str(tmp_path / "s")) as saver,
    ):
        start = last(memory)
        waiter(memory, saver, [save("milk", "yes")], "done").invoke(Command(resume="yes"), config)
        assert story(memory, start) == [
            'waiter: Noted tool ask: ok {"question":"Milk?"} -> they said yes',
            "waiter: Wrote notes/u1/milk v1",
            'waiter: Noted tool remember: ok {"key":"milk","text":"yes"} -> saved milk',
            "waiter: Outcome RUN: failure (1 entry updated)",
        ]
        (run_id,) = runs_of(memory, start)
        assert [cause.entry.entry_key for cause in memory.explain(run_id).causes] == ["notes/u1/drink"]
        where = {f"experiment/{run_id}"} if branched else {"main"}
        assert {event.branch for event in events(memory, start)} == where


# --- streaming ---------------------------------------------------------------------------------------------------


@both
@with_and_without
@pytest.mark.parametrize(
    "mode", ["values", "updates", "messages", "custom", "debug", ["values", "updates", "messages", "custom", "debug"]],
    ids=str,
)  # fmt: skip
def test_streaming_tells_the_same_story(memory, store, awaited, handled, mode):
    @tool
    def tell(runtime: ToolRuntime) -> str:
        """Tell how it goes."""
        runtime.stream_writer({"progress": 0.5})
        return "told"

    model = play([save("drink"), ("tell", {})], [read("drink")], "You like tea.")
    agent = create_agent(
        model, [remember, recall, tell], middleware=[AMFSMiddleware(memory)], store=store, name="waiter"
    )
    config = {"callbacks": [AMFSCallbackHandler(memory)] if handled else []}

    async def consume():
        return [part async for part in agent.astream({"messages": "hi"}, config, stream_mode=mode)]

    given = {"messages": "hi"}
    parts = asyncio.run(consume()) if awaited else list(agent.stream(given, config, stream_mode=mode))
    assert parts
    told = story(memory)
    assert sorted(told[:3]) == [
        'waiter: Noted tool remember: ok {"key":"drink","text":"tea"} -> saved drink',
        "waiter: Noted tool tell: ok {} -> told",
        "waiter: Wrote notes/u1/drink v1",
    ]
    assert told[3:] == [
        'waiter: Noted tool recall: ok {"key":"drink"} -> tea',
        "waiter: Outcome RUN: success (0 entries updated)",
    ]
    assert len(runs_of(memory)) == 1


def test_streaming_of_events(memory, store):
    agent = create_agent(play([save("drink")], "done"), [remember], middleware=[AMFSMiddleware(memory)], store=store,
                         name="waiter")  # fmt: skip

    async def consume():
        return [event async for event in agent.astream_events({"messages": "hi"}, version="v2")]

    assert asyncio.run(consume())
    assert story(memory)[-1] == "waiter: Outcome RUN: success (0 entries updated)"


@with_and_without
def test_memories_are_quoted_but_not_kept_or_streamed(memory, store, handled):
    store.put(NOTES, "drink", {"text": "green tea"})
    saver = InMemorySaver()
    agent = create_agent(play("You like tea."), [recall], middleware=[AMFSMiddleware(memory)], store=store,
                         name="waiter", checkpointer=saver)  # fmt: skip
    config = {"configurable": {"thread_id": "t"}, "callbacks": [AMFSCallbackHandler(memory)] if handled else []}
    parts = list(agent.stream({"messages": "tea?"}, config, stream_mode=["values", "updates", "messages", "debug"]))
    assert "green tea" not in repr(parts)
    assert "green tea" not in repr(list(saver.list(config)))
    assert "amfs_run" not in agent.invoke({"messages": "tea?"}, config)


# --- time travel -------------------------------------------------------------------------------------------------


@both
@with_and_without
def test_what_is_run_again_from_the_past_is_a_run_of_its_own(memory, store, awaited, handled):
    model = play([save("drink", "tea")], "Noted.", [save("drink", "coffee")], "Noted again.")
    agent = create_agent(model, [remember], middleware=[AMFSMiddleware(memory)], store=store, name="waiter",
                         checkpointer=InMemorySaver())  # fmt: skip
    config = {"configurable": {"thread_id": "t1"}, "callbacks": [AMFSCallbackHandler(memory)] if handled else []}
    run(agent, {"messages": "hi"}, awaited, config)
    first = last(memory)
    before_model = [state for state in agent.get_state_history(config) if state.next == ("model",)][-1]
    again = {**before_model.config, "callbacks": config["callbacks"]}
    assert run(agent, None, awaited, again)["messages"][-1].content == "Noted again."
    assert story(memory, first) == [
        "waiter: Wrote notes/u1/drink v2",
        'waiter: Noted tool remember: ok {"key":"drink","text":"coffee"} -> saved drink',
        "waiter: Outcome RUN: success (0 entries updated)",
    ]
    assert len(runs_of(memory)) == 2
    assert len(runs_of(memory, first)) == 1


@both
def test_an_edited_past_is_a_run_of_its_own(memory, store, awaited):
    agent = create_agent(play([save("drink", "tea")], "done", [save("drink", "coffee")], "done"), [remember],
                         middleware=[AMFSMiddleware(memory, branch_per_run=True)], store=store, name="waiter",
                         checkpointer=InMemorySaver())  # fmt: skip
    config = {"configurable": {"thread_id": "t1"}}
    run(agent, {"messages": "hi"}, awaited, config)
    past = [state for state in agent.get_state_history(config) if state.next == ("model",)][-1]
    edited = agent.update_state(past.config, {"messages": [("user", "no, coffee")]})
    run(agent, None, awaited, edited)
    first, second = memory.experiments()
    assert memory.list("notes") == []
    assert memory.read("notes/u1", "drink", branch=first.branch).value == {"text": "tea"}
    assert memory.read("notes/u1", "drink", branch=second.branch).value == {"text": "coffee"}
    assert [record.status for record in (first, second)] == ["finished", "finished"]


@both
def test_a_run_that_failed_is_tried_again_as_another(memory, store, awaited):
    agent = create_agent(play([save("a")], "FAIL", "done"), [remember], middleware=[AMFSMiddleware(memory)],
                         store=store, name="waiter", checkpointer=InMemorySaver())  # fmt: skip
    config = {"configurable": {"thread_id": "t1"}}
    with pytest.raises(ConnectionError):
        run(agent, {"messages": "hi"}, awaited, config)
    run(agent, None, awaited, config)
    assert [line for line in story(memory) if "Outcome" in line] == [
        "waiter: Outcome RUN: failure (0 entries updated)",
        "waiter: Outcome RUN: success (0 entries updated)",
    ]
    assert len(runs_of(memory)) == 2


def test_an_interrupt_that_is_answered_twice_makes_two_runs(memory, store):
    agent = create_agent(play([("ask", {"question": "?"})], "done", "done"), [ask], store=store, name="waiter",
                         middleware=[AMFSMiddleware(memory)], checkpointer=InMemorySaver())  # fmt: skip
    config = {"configurable": {"thread_id": "t1"}}
    agent.invoke({"messages": "hi"}, config)
    waiting = agent.get_state(config).config
    agent.invoke(Command(resume="yes"), config)
    agent.invoke(Command(resume="yes"), waiting)
    assert story(memory) == [
        'waiter: Noted tool ask: ok {"question":"?"} -> they said yes',
        "waiter: Outcome RUN: success (0 entries updated)",
        'waiter: Noted tool ask: ok {"question":"?"} -> they said yes',
        "waiter: Outcome RUN: success (0 entries updated)",
    ]
    assert len(runs_of(memory)) == 2
