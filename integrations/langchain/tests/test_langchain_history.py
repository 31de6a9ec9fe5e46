"""Chat history: messages come back equal, on any branch, and LlamaIndex reads the same conversation."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_amfs import AMFSChatMessageHistory
from langchain_amfs.messages import from_value, to_value
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables.history import RunnableWithMessageHistory
from langgraph.store.base import InvalidNamespaceError
from llama_index.core.base.llms.types import ChatMessage as LlamaMessage
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.memory.amfs import AMFSMemory as LlamaMemory

from amfs import AgentMemory
from amfs.errors import InvalidInputError, InvalidValueError

CONSTRUCTOR = {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "AIMessage"], "kwargs": {"content": "x"}}
SECRET = {"lc": 1, "type": "secret", "id": ["PATH"]}

MESSAGES = [
    HumanMessage("hi", name="ann", id="h1"),
    HumanMessage([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]),
    HumanMessage(["plain", {"type": "text", "text": "b"}]),
    HumanMessage(""),
    AIMessage("", tool_calls=[{"name": "t", "args": CONSTRUCTOR, "id": "1"}]),
    AIMessage("x", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
    AIMessage("x", response_metadata={"score": 1.0, "n": 1, "ok": True, "none": None}, additional_kwargs=SECRET),
    AIMessage(
        "x", invalid_tool_calls=[{"name": "t", "args": "{", "id": "1", "error": "e", "type": "invalid_tool_call"}]
    ),
    AIMessage([{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "so"}]),
    AIMessage("x", additional_kwargs={"function_call": {"name": "f", "arguments": "{}"}}, custom="extra"),
    AIMessageChunk("c", tool_call_chunks=[{"name": "t", "args": '{"a": 1}', "id": "1", "index": 0}]),
    HumanMessageChunk("c"),
    ToolMessage("r", tool_call_id="1", artifact=CONSTRUCTOR, status="error"),
    ToolMessage([{"type": "text", "text": "r"}], tool_call_id="1", name="t"),
    SystemMessage("s", additional_kwargs={"__openai_role__": "developer"}),
    ChatMessage("c", role="critic"),
    FunctionMessage("f", name="f"),
    RemoveMessage(id="h1"),
]


@pytest.fixture
def history(memory):
    return AMFSChatMessageHistory(memory, "ann")


def said(history):
    return [message.text for message in history.messages]


# --- round trips -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_equal(history, message):
    history.add_message(message)
    (found,) = history.messages
    assert type(found) is type(message)
    assert found == message
    assert repr(found) == repr(message)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=5,
)
some_messages = st.one_of(
    st.builds(HumanMessage, texts, additional_kwargs=st.dictionaries(texts, plain, max_size=2)),
    st.builds(AIMessage, texts | st.lists(texts, max_size=2), response_metadata=st.dictionaries(texts, plain)),
    st.builds(ToolMessage, texts, tool_call_id=texts, artifact=plain),
)


@settings(deadline=None, max_examples=100)
@given(message=some_messages)
def test_any_message_of_plain_json_comes_back_equal(message):
    with AgentMemory("desk", ":memory:") as memory:
        history = AMFSChatMessageHistory(memory, "s")
        history.add_message(message)
        assert history.messages == [message]
        assert repr(history.messages) == repr([message])


def test_what_looks_like_a_constructor_stays_a_dict(history):
    history.add_message(HumanMessage("x", additional_kwargs={"a": CONSTRUCTOR, "b": SECRET}))
    (found,) = history.messages
    assert found.additional_kwargs == {"a": CONSTRUCTOR, "b": SECRET}


class Mine(HumanMessage):
    """A type that nobody allowed."""


@pytest.mark.parametrize(
    "message",
    [
        Mine("x"),
        BaseMessage("x", type="base"),
        HumanMessage("x", additional_kwargs={"when": datetime.now(UTC)}),
        HumanMessage("x", additional_kwargs={"pair": (1, 2)}),
        ToolMessage("x", tool_call_id="1", artifact=Mine("inner")),
        ToolMessage("x", tool_call_id="1", artifact=object()),
    ],
)
def test_what_would_not_come_back_equal_is_refused(history, message):
    with pytest.raises(InvalidValueError):
        history.add_messages([HumanMessage("first"), message])
    assert history.messages == []


@pytest.mark.parametrize(
    "message",
    [
        HumanMessage("\ud800"),
        HumanMessage("\0"),
        HumanMessage("x" * 3_000_000),
        HumanMessage("x", additional_kwargs={"n": 1 << 70}),
        HumanMessage("x", additional_kwargs={"deep": json.loads("[" * 100 + "]" * 100)}),
    ],
    ids=["surrogate", "NUL", "large", "number", "deep"],
)
def test_what_no_entry_holds_comes_back_equal(history, message):
    history.add_messages([HumanMessage("first"), message, HumanMessage("last")])
    assert history.messages == [HumanMessage("first"), message, HumanMessage("last")]


def test_a_type_that_is_not_allowed_is_not_made(memory, history):
    value = to_value(HumanMessage("x"))
    for kind in ("Mine", "os.system", "BaseMessage"):
        memory.write("chat/ann", kind, {**value, "langchain": {"type": kind, "fields": {}}}, memory_type="message")
        with pytest.raises(InvalidValueError, match="not among those kept"):
            _ = history.messages
        memory.delete("chat/ann", kind)
    with pytest.raises(InvalidValueError, match="no chat message"):
        from_value("text")


# --- a conversation ----------------------------------------------------------------------------------------


def test_messages_are_in_order_and_apart_by_session(memory, history):
    other = AMFSChatMessageHistory(memory, "bob")
    history.add_user_message("1")
    other.add_user_message("x")
    history.add_ai_message("2")
    history.add_messages([HumanMessage(str(n)) for n in range(3, 40)])
    assert said(history) == [str(n) for n in range(1, 40)]
    assert said(AMFSChatMessageHistory(memory, "ann")) == said(history)
    assert said(other) == ["x"]
    history.add_messages([])
    assert str(history).splitlines()[0] == "Human: 1"


def test_messages_are_entries_with_events(memory, history):
    history.add_messages([HumanMessage("hi"), AIMessage("hello")])
    entries = memory.list("chat/ann", memory_type="message")
    assert [entry.value["role"] for entry in entries] == ["user", "assistant"]
    assert {entry.agent_id for entry in entries} == {"desk"}
    events = memory.timeline(event_type="write", include_messages=True)
    assert len({event.group for event in events}) == 1
    assert memory.list() == []


def test_clear_archives_and_deletes_nothing(memory, history):
    history.clear()
    history.add_messages([HumanMessage("1"), SystemMessage("2")])
    history.clear()
    assert history.messages == []
    history.add_user_message("3")
    assert said(history) == ["3"]
    history.clear()
    assert len(memory.list("chat/ann", memory_type="message")) == 2
    assert len(memory.list("chat-kept/ann", memory_type="message")) == 1
    (event,) = memory.timeline(event_type="delete", include_messages=True)
    assert event.details["entity_path"] == "chat-state/ann"
    history.messages = [HumanMessage("4")]
    assert said(history) == ["4"]


def test_awaited(memory, history):
    async def main():
        await history.aadd_messages([HumanMessage("1")])
        with memory.experiment("x"):
            await history.aadd_messages([AIMessage("2")])
            assert len(await history.aget_messages()) == 2
        before = await history.aget_messages()
        await history.aclear()
        return before, await history.aget_messages()

    assert asyncio.run(main()) == ([HumanMessage("1")], [])


def test_branches_never_collide(memory, history):
    history.add_user_message("0")
    for name in ("a", "b"):
        memory.create_branch(name)
    for n in range(3):
        for name in ("a", "b"):
            AMFSChatMessageHistory(memory.on_branch(name), "ann").add_messages([HumanMessage(f"{name}{n}")] * 2)
    assert said(history) == ["0"]
    memory.merge_branch("a")
    memory.merge_branch("b")
    assert said(history) == ["0", *(f"{name}{n}" for n in range(3) for name in "ab" for _ in range(2))]


def test_clear_on_a_branch_is_of_that_branch(memory, history):
    history.add_user_message("1")
    memory.create_branch("a")
    AMFSChatMessageHistory(memory.on_branch("a"), "ann").clear()
    assert said(history) == ["1"]
    memory.merge_branch("a")
    assert said(history) == []


def test_messages_of_another_agent_are_read(memory, history):
    AMFSChatMessageHistory(memory.as_agent("bob"), "ann").add_user_message("hi")
    assert said(history) == ["hi"]
    (event,) = memory.timeline(agent_id="bob", event_type="cross_agent_read")
    assert event.actor == "desk"


@pytest.mark.parametrize("session", ["a/b", "..", "🍵", "'; DROP TABLE log; --", "$.a", "100%", "%2F", " "])
def test_any_name_is_a_session(memory, session):
    history = AMFSChatMessageHistory(memory, session)
    history.add_user_message("hi")
    assert said(AMFSChatMessageHistory(memory, session)) == ["hi"]
    assert said(AMFSChatMessageHistory(memory, session + "x")) == []
    assert memory.verify().ok


@pytest.mark.parametrize("session", ["", "a\0", "x" * 2000, "\ud800"])
def test_what_is_no_name_is_refused(memory, session):
    with pytest.raises((InvalidNamespaceError, InvalidInputError)):
        _ = AMFSChatMessageHistory(memory, session).messages


# --- with LlamaIndex ---------------------------------------------------------------------------------------


def test_llamaindex_reads_the_same_conversation(memory, history):
    call = {"name": "add", "args": {"a": 1}, "id": "c1"}
    history.add_messages(
        [HumanMessage("1+1?"), AIMessage("", tool_calls=[call]), ToolMessage("2", tool_call_id="c1"), AIMessage("2.")]
    )
    found = LlamaMemory.from_memory(memory, session_id="ann").get()
    assert [(message.role.value, message.content) for message in found] == [
        ("user", "1+1?"), ("assistant", ""), ("tool", "2"), ("assistant", "2."),
    ]  # fmt: skip
    (block,) = [block for block in found[1].blocks if isinstance(block, ToolCallBlock)]
    assert (block.tool_call_id, block.tool_name, block.tool_kwargs) == ("c1", "add", {"a": 1})
    assert found[2].additional_kwargs == {"tool_call_id": "c1"}


def test_what_llamaindex_wrote_is_read(memory, history):
    llama = LlamaMemory.from_memory(memory, session_id="ann")
    call = ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs='{"a": 1}')
    llama.put_messages(
        [
            LlamaMessage(role="system", content="s"),
            LlamaMessage(role="user", content="u"),
            LlamaMessage(role="assistant", blocks=[call]),
            LlamaMessage(role="tool", content="t", additional_kwargs={"tool_call_id": "c1"}),
            LlamaMessage(role="chatbot", content="c"),
        ]
    )
    history.add_user_message("and I")
    asking = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "c1"}])
    assert history.messages == [
        SystemMessage("s"), HumanMessage("u"), asking, ToolMessage("t", tool_call_id="c1"), AIMessage("c"),
        HumanMessage("and I"),
    ]  # fmt: skip
    assert len(llama.get()) == 6
    history.clear()
    assert history.messages == []
    assert llama.get() == []
    assert len(llama.get_all()) == 6


# --- RunnableWithMessageHistory ----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::langchain_core._api.deprecation.LangChainDeprecationWarning")
def test_in_a_runnable_with_history(memory):
    model = FakeMessagesListChatModel(responses=[AIMessage("one"), AIMessage("two"), AIMessage("three")])
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("past"), ("human", "{input}")])
    chain = RunnableWithMessageHistory(
        prompt | model, lambda session_id: AMFSChatMessageHistory(memory, session_id),
        input_messages_key="input", history_messages_key="past",
    )  # fmt: skip
    config = {"configurable": {"session_id": "ann"}}
    assert chain.invoke({"input": "1"}, config).text == "one"
    assert asyncio.run(chain.ainvoke({"input": "2"}, config)).text == "two"
    with memory.experiment("x"):
        assert chain.invoke({"input": "3"}, config).text == "three"
    assert said(AMFSChatMessageHistory(memory, "ann")) == ["1", "one", "2", "two"]
