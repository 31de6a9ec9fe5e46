"""AMFSMemory in real agents and engines with scripted models: nothing is mocked but the language model."""

from __future__ import annotations

import json

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.workflow import Context, JsonSerializer
from llama_index.memory.amfs import AMFSMemory

from amfs import AgentMemory

# LlamaIndex's workflows look at every attribute of an agent, the deprecated ones of pydantic models included.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:The `\w+` attribute is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:Accessing the '\w+' attribute on the instance:DeprecationWarning"),
]


def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


def fail(reason: str) -> str:
    """Fail."""
    raise ValueError(reason)


def shape(messages):
    return [(message.role.value, message.content) for message in messages]


@pytest.fixture
def memory(mem):
    return AMFSMemory.from_memory(mem, session_id="s")


@pytest.fixture
def calculator(scripted, call, say):
    def make(*replies):
        replies = replies or (call("add", a=2, b=3), say("It is 5"))
        return FunctionAgent(name="calc", tools=[add, fail], llm=scripted(*replies), system_prompt="You add.")

    return make


async def test_function_agent_with_a_tool(calculator, memory):
    result = await calculator().run(user_msg="what is 2+3?", memory=memory)
    assert str(result) == "It is 5"
    assert shape(await memory.aget_all()) == [
        ("user", "what is 2+3?"),
        ("assistant", None),
        ("tool", "5"),
        ("assistant", "It is 5"),
    ]


async def test_function_agent_remembers_the_run_before(calculator, memory, say):
    await calculator().run(user_msg="what is 2+3?", memory=memory)
    agent = calculator(say("You asked for 2+3"))
    await agent.run(user_msg="what did I ask?", memory=memory)
    (prompt,) = agent.llm.response_generator.prompts
    assert [message.content for message in prompt] == [
        "You add.",
        "what is 2+3?",
        None,
        "5",
        "It is 5",
        "what did I ask?",
    ]


async def test_function_agent_with_a_tool_that_fails(calculator, memory, call, say):
    agent = calculator(call("fail", reason="no luck"), say("Sorry"))
    await agent.run(user_msg="try", memory=memory)
    contents = shape(await memory.aget_all())
    assert contents[2][0] == "tool"
    assert "no luck" in contents[2][1]
    assert contents[3] == ("assistant", "Sorry")


async def test_chat_history_archives_what_stood_before_and_goes_on(calculator, memory, user, say):
    await memory.aput(user("precious"))
    await calculator(say("fine")).run(user_msg="now", chat_history=[user("a"), say("b")], memory=memory)
    assert [content for _, content in shape(await memory.aget())] == ["a", "b", "now", "fine"]
    assert [content for _, content in shape(await memory.aget_all())] == ["precious", "a", "b", "now", "fine"]


async def test_chat_history_that_is_known_already_is_not_stored_again(mem, calculator, memory, say):
    for turn, number in enumerate(("one", "two", "three")):
        history = await memory.aget()
        assert len(history) == 2 * turn
        await calculator(say(number)).run(user_msg=number.upper(), chat_history=history, memory=memory)
    assert [content for _, content in shape(await memory.aget_all())] == ["ONE", "one", "TWO", "two", "THREE", "three"]
    assert not mem.list("chat-state", prefix=True, memory_type="message")


async def test_agent_state_does_not_leak_into_the_memory(memory, scripted, say, user):
    agent = FunctionAgent(llm=scripted(say("ok")), initial_state={"secret": "state"})
    await agent.run(user_msg="hello", memory=memory)
    assert "secret" in str(agent.llm.response_generator.prompts[0])
    assert (await memory.aget_all())[0] == user("hello")


@pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")  # by ReActAgent
async def test_react_agent(memory, scripted, say):
    llm = scripted(
        say('Thought: I need a tool.\nAction: add\nAction Input: {"a": 2, "b": 3}'),
        say("Thought: I can answer.\nAnswer: It is 5"),
    )
    result = await ReActAgent(name="calc", tools=[add], llm=llm).run(user_msg="what is 2+3?", memory=memory)
    assert str(result) == "It is 5"
    messages = await memory.aget_all()
    assert [message.role.value for message in messages] == ["user", "assistant"]
    assert "It is 5" in messages[1].content


async def test_workflow_of_two_agents_that_hand_off(memory, scripted, call, say):
    research = FunctionAgent(
        name="research",
        description="Finds out.",
        llm=scripted(call("handoff", to_agent="write", reason="found it")),
        can_handoff_to=["write"],
    )
    write = FunctionAgent(
        name="write",
        description="Writes.",
        tools=[add],
        llm=scripted(call("add", a=1, b=1), say("Two.")),
    )
    workflow = AgentWorkflow(agents=[research, write], root_agent="research")
    result = await workflow.run(user_msg="one and one?", memory=memory)
    assert str(result) == "Two."
    roles = [message.role.value for message in await memory.aget_all()]
    assert roles == ["user", "assistant", "tool", "assistant", "tool", "assistant"]


def test_simple_chat_engine(mem, memory, scripted, say):
    engine = SimpleChatEngine.from_defaults(llm=scripted(say("one"), say("two")), memory=memory)
    assert str(engine.chat("first")) == "one"
    assert str(engine.chat("second")) == "two"
    assert shape(engine.chat_history) == [
        ("user", "first"),
        ("assistant", "one"),
        ("user", "second"),
        ("assistant", "two"),
    ]
    engine.reset()
    assert engine.chat_history == []
    assert len(mem.list("chat/s", memory_type="message", include_superseded=True)) == 8


async def test_simple_chat_engine_awaited_and_streamed(memory, scripted, say):
    engine = SimpleChatEngine.from_defaults(llm=scripted(say("one"), say("two")), memory=memory)
    await engine.achat("first")
    stream = await engine.astream_chat("second")
    assert "".join([token async for token in stream.async_response_gen()]) == "two"
    assert [content for _, content in shape(await memory.aget_all())] == ["first", "one", "second", "two"]


def test_a_chat_engine_makes_the_memory_itself(tmp_path, monkeypatch, scripted, say):
    monkeypatch.setenv("AMFS_DATABASE", str(tmp_path / "default.db"))
    engine = SimpleChatEngine.from_defaults(llm=scripted(say("one")), memory_cls=AMFSMemory)
    engine.chat("first")
    assert shape(engine.chat_history) == [("user", "first"), ("assistant", "one")]
    with AgentMemory("reader", tmp_path / "default.db") as mem:
        authors = {entry.agent_id for entry in mem.list("chat", prefix=True, memory_type="message")}
    assert authors == {"llamaindex"}


async def test_a_run_that_fails_leaves_the_memory_usable(calculator, memory, say):
    def broken(*_, **__):
        raise ConnectionError("no model")

    agent = calculator()
    agent.llm.response_generator = broken
    with pytest.raises(ConnectionError, match="no model"):
        await agent.run(user_msg="hello?", memory=memory)
    await calculator(say("here")).run(user_msg="again?", memory=memory)
    assert [content for _, content in shape(await memory.aget_all())] == ["hello?", "again?", "here"]


async def test_a_context_keeps_the_memory_between_runs(calculator, memory, say):
    agent = calculator(say("hello Ada"), say("you are Ada"))
    ctx = Context(agent)
    await agent.run(user_msg="I am Ada", memory=memory, ctx=ctx)
    await agent.run(user_msg="who am I?", ctx=ctx)
    assert [content for _, content in shape(await memory.aget_all())] == [
        "I am Ada",
        "hello Ada",
        "who am I?",
        "you are Ada",
    ]


async def test_a_context_keeps_a_memory_that_nobody_else_holds(mem, calculator, say):
    agent = calculator(say("hello Ada"), say("you are Ada"))
    ctx = Context(agent)
    await agent.run(user_msg="I am Ada", memory=AMFSMemory.from_memory(mem, session_id="s"), ctx=ctx)
    await agent.run(user_msg="who am I?", ctx=ctx)
    assert len(AMFSMemory.from_memory(mem, session_id="s").agent_memory.list("chat/s", memory_type="message")) == 4


async def test_a_context_is_saved_and_restored(calculator, memory, say):
    agent = calculator(say("hello Ada"))
    ctx = Context(agent)
    await agent.run(user_msg="I am Ada", memory=memory, ctx=ctx)
    saved = json.dumps(ctx.to_dict(serializer=JsonSerializer()))
    state = json.loads(saved)["state"]["state_data"]["_data"]
    assert "hello Ada" not in state["memory"]
    assert '"session_id": "s"' in state["memory"]
    memory.agent_memory.close()

    again = calculator(say("you are Ada"))
    restored = Context.from_dict(again, json.loads(saved), serializer=JsonSerializer())
    await again.run(user_msg="who am I?", ctx=restored)
    kept = await restored.store.get("memory")
    assert [content for _, content in shape(await kept.aget_all())] == [
        "I am Ada",
        "hello Ada",
        "who am I?",
        "you are Ada",
    ]
    kept.agent_memory.close()
