"""AMFSMemory in classic chains and agents, sync and async."""

import asyncio

import langchain_amfs
import pytest
from langchain_amfs import AMFSMemory
from langchain_amfs.classic import AMFSMemory as FromClassic
from langchain_classic.agents import AgentExecutor, create_tool_calling_agent
from langchain_classic.base_memory import BaseMemory
from langchain_classic.chains import ConversationChain, LLMChain
from langchain_classic.memory import CombinedMemory, ReadOnlySharedMemory
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.tools import tool
from pydantic import Field

from amfs import AgentMemory
from amfs.errors import InvalidValueError

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.deprecation.LangChainDeprecationWarning")


class Listening(FakeMessagesListChatModel):
    """A model that answers from a script, takes any tools, and keeps what it was told."""

    heard: list = Field(default_factory=list)

    def bind_tools(self, *_, **__):
        return self

    def _generate(self, messages, *args, **kwargs):
        self.heard.append([message.text for message in messages])
        return super()._generate(messages, *args, **kwargs)


def model(*replies):
    return Listening(
        responses=[reply if isinstance(reply, AIMessage) else AIMessage(reply) for reply in replies], heard=[]
    )


def turns(memory, *pairs):
    for said, answered in pairs:
        memory.save_context({"input": said}, {"output": answered})
    return memory


THREE = (("one", "1"), ("two", "2"), ("three", "3"))


def test_it_is_a_base_memory_of_the_extra(memory):
    assert langchain_amfs.AMFSMemory is AMFSMemory is FromClassic
    assert isinstance(AMFSMemory(memory=memory), BaseMemory)
    with pytest.raises(AttributeError):
        _ = langchain_amfs.AMFSNothing


# --- the contract ------------------------------------------------------------------------------------------


def test_it_keeps_and_loads(memory):
    mine = turns(AMFSMemory(memory=memory), ("hi", "hello"))
    assert mine.memory_variables == ["history"]
    assert mine.load_memory_variables({}) == {"history": "Human: hi\nAI: hello"}
    spoken = AMFSMemory(memory=memory, memory_key="past", human_prefix="Ann", ai_prefix="Bot")
    assert spoken.load_memory_variables({}) == {"past": "Ann: hi\nBot: hello"}
    messages = AMFSMemory(memory=memory, return_messages=True)
    assert messages.load_memory_variables({}) == {"history": [HumanMessage("hi"), AIMessage("hello")]}
    assert AMFSMemory(memory=memory, session_id="other").load_memory_variables({}) == {"history": ""}
    assert messages.buffer == messages.chat_memory.messages


def test_awaited(memory):
    async def main():
        mine = AMFSMemory(memory=memory)
        await mine.asave_context({"input": "hi", "history": ""}, {"output": "hello"})
        with memory.experiment("x"):
            await mine.asave_context({"input": "again"}, {"output": "yes"})
            assert (await mine.aload_memory_variables({}))["history"].endswith("AI: yes")
        loaded = await mine.aload_memory_variables({})
        await mine.aclear()
        return loaded, await mine.aload_memory_variables({})

    assert asyncio.run(main()) == ({"history": "Human: hi\nAI: hello"}, {"history": ""})
    assert len(memory.list("chat/default", memory_type="message")) == 2


def test_which_input_and_output_is_kept(memory):
    mine = AMFSMemory(memory=memory)
    mine.save_context({"question": "q", "history": "h", "stop": "s"}, {"output": "a", "steps": []})
    mine.save_context({"question": "q2"}, {"text": "a2"})
    assert mine.buffer == "Human: q\nAI: a\nHuman: q2\nAI: a2"
    with pytest.raises(ValueError, match="One input key"):
        mine.save_context({"a": "1", "b": "2"}, {"output": "x"})
    with pytest.raises(ValueError, match="several outputs, a, b"):
        mine.save_context({"a": "1"}, {"a": "x", "b": "y"})
    named = AMFSMemory(memory=memory, session_id="named", input_key="b", output_key="y")
    named.save_context({"a": "1", "b": "2"}, {"x": "3", "y": "4"})
    assert named.buffer == "Human: 2\nAI: 4"


def test_a_save_that_fails_keeps_neither(memory):
    mine = AMFSMemory(memory=memory)
    with pytest.raises(InvalidValueError):
        mine.save_context({"input": "fine"}, {"output": AIMessage("no JSON", additional_kwargs={"n": object()})})
    assert mine.buffer == ""


@pytest.mark.parametrize(("k", "shown"), [(None, 6), (0, 0), (1, 2), (2, 4), (3, 6), (99, 6)])
def test_the_last_turns(memory, k, shown):
    mine = turns(AMFSMemory(memory=memory, k=k, return_messages=True), *THREE)
    assert len(mine.buffer) == shown
    assert len(mine.chat_memory.messages) == 6


@pytest.mark.parametrize(("limit", "shown"), [(None, 6), (6, 6), (5, 4), (4, 4), (3, 2), (1, 0), (0, 0)])
def test_as_many_tokens_as_allowed(memory, limit, shown):
    mine = turns(AMFSMemory(memory=memory, max_token_limit=limit, token_counter=len, return_messages=True), *THREE)
    assert len(mine.buffer) == shown


def test_both_limits_hold(memory):
    mine = turns(AMFSMemory(memory=memory, k=2, max_token_limit=3, token_counter=len, return_messages=True), *THREE)
    assert mine.buffer == [HumanMessage("three"), AIMessage("3")]
    by_default = AMFSMemory(memory=memory, max_token_limit=10_000)
    assert by_default.buffer.startswith("Human: one")


def test_two_hold_one_conversation_and_branches_part_it(memory):
    mine = turns(AMFSMemory(memory=memory, session_id="s"), ("hi", "hello"))
    with memory.experiment("x") as experiment:
        turns(AMFSMemory(memory=memory, session_id="s"), ("again", "yes"))
        assert mine.buffer.count("\n") == 3
    assert mine.buffer == "Human: hi\nAI: hello"
    experiment.merge()
    assert mine.buffer.count("\n") == 3


def test_what_it_does_not_know_is_refused(memory):
    with pytest.raises(ValueError, match="Extra inputs"):
        AMFSMemory(memory=memory, window=3)
    with pytest.raises(ValueError, match="greater than or equal"):
        AMFSMemory(memory=memory, k=-1)
    with pytest.raises(ValueError, match="at least 1 character"):
        AMFSMemory(memory=memory, session_id="")


# --- chains and agents -------------------------------------------------------------------------------------


def run(chain, way, **inputs):
    return chain.invoke(inputs) if way == "sync" else asyncio.run(chain.ainvoke(inputs))


@pytest.mark.parametrize("way", ["sync", "async"])
def test_in_a_conversation_chain(memory, way):
    llm = model("hello", "Ann")
    chain = ConversationChain(llm=llm, memory=AMFSMemory(memory=memory))
    assert run(chain, way, input="I am Ann")["response"] == "hello"
    assert run(chain, way, input="Who am I?")["history"] == "Human: I am Ann\nAI: hello"
    assert "Human: I am Ann\nAI: hello" in llm.heard[1][0]
    assert len(memory.list("chat/default", memory_type="message")) == 4


@pytest.mark.parametrize("way", ["sync", "async"])
def test_in_an_llm_chain(memory, way):
    prompt = PromptTemplate.from_template("{past}\n{style}\n{question}")
    kept = AMFSMemory(memory=memory, memory_key="past", input_key="question", session_id="llm")
    chain = LLMChain(llm=model("A.", "B."), prompt=prompt, memory=kept)
    run(chain, way, question="a?", style="short")
    assert run(chain, way, question="b?", style="short")["past"] == "Human: a?\nAI: A."


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@pytest.mark.parametrize("way", ["sync", "async"])
def test_in_an_agent_executor(memory, way):
    call = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 2, "b": 3}, "id": "1"}])
    llm = model(call, "It is 5.", "I said 5.")
    prompt = ChatPromptTemplate.from_messages(
        [MessagesPlaceholder("history"), ("human", "{input}"), MessagesPlaceholder("agent_scratchpad")]
    )
    executor = AgentExecutor(
        agent=create_tool_calling_agent(llm, [add], prompt), tools=[add], return_intermediate_steps=True,
        memory=AMFSMemory(memory=memory, return_messages=True, k=5),
    )  # fmt: skip
    assert run(executor, way, input="2+3?")["output"] == "It is 5."
    assert run(executor, way, input="What did you say?")["output"] == "I said 5."
    assert llm.heard[-1] == ["2+3?", "It is 5.", "What did you say?"]


def test_a_chain_that_fails_keeps_nothing(memory):
    class Broken(Listening):
        def _generate(self, *_, **__):
            raise OSError("down")

    chain = ConversationChain(llm=Broken(responses=[]), memory=AMFSMemory(memory=memory))
    with pytest.raises(OSError, match="down"):
        chain.invoke({"input": "hi"})
    assert memory.list("chat/default", memory_type="message") == []


def test_combined_and_read_only(memory):
    one = turns(AMFSMemory(memory=memory, memory_key="one", session_id="1", input_key="input"), ("a", "b"))
    two = AMFSMemory(memory=memory, memory_key="two", session_id="2", input_key="input")
    both = CombinedMemory(memories=[one, ReadOnlySharedMemory(memory=two)])
    both.save_context({"input": "c"}, {"output": "d"})
    assert both.load_memory_variables({}) == {"one": "Human: a\nAI: b\nHuman: c\nAI: d", "two": ""}


def test_after_a_restart(tmp_path):
    for expected in ("", "Human: hi\nAI: hello"):
        with AgentMemory("desk", tmp_path / "amfs.db") as memory:
            mine = AMFSMemory(memory=memory, session_id="s")
            assert mine.buffer == expected
            turns(mine, ("hi", "hello"))
