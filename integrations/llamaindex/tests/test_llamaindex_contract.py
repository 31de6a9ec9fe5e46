"""What LlamaIndex promises of a Memory: the same cases hold for its own and for AMFSMemory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.memory import BaseMemory, BaseMemoryBlock, InsertMethod, Memory, StaticMemoryBlock
from llama_index.core.storage.chat_store.base_db import MessageStatus
from llama_index.memory.amfs import AMFSMemory
from pydantic import PrivateAttr

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from amfs import AgentMemory

ACTIVE, ARCHIVED = MessageStatus.ACTIVE, MessageStatus.ARCHIVED
SMALL: dict[str, Any] = {"token_limit": 20, "chat_history_token_ratio": 1.0, "token_flush_size": 1}


def words(text: str) -> list[str]:
    return text.split()


def texts(messages: list[ChatMessage]) -> list[str | None]:
    return [message.content for message in messages]


class Dropped(BaseMemoryBlock[str]):
    """Keeps what the window drops."""

    name: str = "dropped"
    _texts: list[str] = PrivateAttr(default_factory=list)

    async def _aget(self, messages: list[ChatMessage] | None = None, **_: Any) -> str:  # noqa: ARG002
        return "; ".join(self._texts)

    async def _aput(self, messages: list[ChatMessage]) -> None:
        self._texts += [message.content or "" for message in messages]


@pytest.fixture(params=["stock", "amfs"])
def make(request: pytest.FixtureRequest, mem: AgentMemory, tmp_path: Path) -> Callable[..., Memory]:
    """Make a memory of a session, of either kind."""

    def stock(session: str = "s", **settings: Any) -> Memory:
        uri = f"sqlite+aiosqlite:///{tmp_path / 'stock.db'}"
        return Memory.from_defaults(session, async_database_uri=uri, tokenizer_fn=words, **settings)

    def amfs(session: str = "s", **settings: Any) -> Memory:
        return AMFSMemory.from_defaults(session, memory=mem, tokenizer_fn=words, **settings)

    return stock if request.param == "stock" else amfs


async def dispose(*memories: Memory) -> None:
    """Close the connections of LlamaIndex's own store, which belong to the event loop."""
    for memory in memories:
        engine = getattr(memory.sql_store, "_async_engine", None)
        if engine is not None:
            await engine.dispose()


async def test_it_is_a_memory(make):
    memory = make()
    assert isinstance(memory, Memory)
    assert isinstance(memory, BaseMemory)
    assert (await memory.aget(), await memory.aget_all()) == ([], [])
    await dispose(memory)


async def test_messages_come_in_the_order_they_went(make, user, say):
    memory = make()
    await memory.aput(user("one"))
    await memory.aput_messages([say("two"), user("three")])
    await memory.aput(say("four"))
    for found in (await memory.aget(), await memory.aget(input="anything"), await memory.aget_all()):
        assert texts(found) == ["one", "two", "three", "four"]
    await dispose(memory)


async def test_every_kind_of_message_comes_back_equal(make):
    memory = make(token_limit=100_000)
    messages = [
        ChatMessage(role=MessageRole.USER, content=""),
        ChatMessage(role=MessageRole.USER, content="ä 漢 🙂 \n\t'\"\\"),
        ChatMessage(
            role=MessageRole.USER, blocks=[TextBlock(text="see"), ImageBlock(image=b"\x89PNG\0", detail="low")]
        ),
        ChatMessage(role=MessageRole.USER, blocks=[DocumentBlock(data=b"%PDF", title="a.pdf")]),
        ChatMessage(
            role=MessageRole.ASSISTANT,
            blocks=[
                ThinkingBlock(content="hm", num_tokens=2),
                ToolCallBlock(tool_call_id="1", tool_name="look", tool_kwargs={"at": [1, 2.5, None, {"deep": True}]}),
                ToolCallBlock(tool_call_id="2", tool_name="look", tool_kwargs="{not json"),
            ],
        ),
        ChatMessage(role=MessageRole.TOOL, content="seen", additional_kwargs={"tool_call_id": "1"}),
        ChatMessage(
            role=MessageRole.ASSISTANT,
            blocks=[
                CitableBlock(title="t", source="s", content=[TextBlock(text="c")]),
                CitationBlock(
                    cited_content=TextBlock(text="c"), title="t", source="s", additional_location_info={"page": 3}
                ),
            ],
        ),
        *(ChatMessage(role=role, content=role.value) for role in MessageRole),
    ]
    await memory.aput_messages(messages)
    assert await memory.aget_all() == messages
    await dispose(memory)


async def test_what_is_got_may_be_changed_without_harm(make, user):
    memory = make()
    await memory.aput(user("hello"))
    (found,) = await memory.aget()
    found.blocks.append(TextBlock(text="scribbled on"))
    found.additional_kwargs["x"] = 1
    assert await memory.aget() == [user("hello")]
    await dispose(memory)


async def test_setting_makes_these_the_history(make, user, say):
    memory = make()
    await memory.aput_messages([user("old"), say("older")])
    await memory.aset([user("new"), say("newer")])
    assert texts(await memory.aget()) == ["new", "newer"]
    await memory.aput(user("next"))
    assert texts(await memory.aget()) == ["new", "newer", "next"]
    await dispose(memory)


async def test_resetting_makes_it_empty_and_usable(make, user):
    memory = make()
    await memory.aput(user("hello"))
    await memory.areset()
    assert (await memory.aget(), await memory.aget_all()) == ([], [])
    await memory.aput(user("again"))
    assert texts(await memory.aget()) == ["again"]
    await dispose(memory)


async def test_sessions_never_mix_and_are_found_again(make, user):
    one, other, again = make("one"), make("other"), make("one")
    await one.aput(user("mine"))
    await other.aput(user("theirs"))
    assert texts(await again.aget()) == ["mine"]
    assert texts(await other.aget()) == ["theirs"]
    await other.areset()
    assert texts(await one.aget()) == ["mine"]
    await dispose(one, other, again)


async def test_the_window_drops_the_oldest_turns_and_keeps_them_archived(make, user, say):
    memory = make(**SMALL)
    for number in range(6):
        await memory.aput_messages([user(f"question {number} of six"), say(f"answer {number} of six")])
    active, archived, everything = (
        await memory.aget(), await memory.aget_all(status=ARCHIVED), await memory.aget_all()
    )  # fmt: skip
    assert active[0].role == MessageRole.USER
    assert active[-1].content == "answer 5 of six"
    assert sum(len(words(message.content or "")) for message in active) <= 20
    assert archived + active == everything
    assert len(everything) == 12
    assert await memory.aget_all(status=ACTIVE) == active
    await dispose(memory)


async def test_what_is_dropped_goes_to_the_blocks_which_say_it_in_the_prompt(make, user, say):
    for method, role in ((InsertMethod.SYSTEM, MessageRole.SYSTEM), (InsertMethod.USER, MessageRole.USER)):
        fixed = StaticMemoryBlock(name="fixed", static_content="Paris is in France.", priority=0)
        memory = make(f"by {role.value}", memory_blocks=[Dropped(), fixed], insert_method=method, **SMALL)
        for number in range(4):
            await memory.aput_messages([user(f"question {number} of four"), say(f"answer {number} of four")])
        said = [message for message in await memory.aget() if "Paris is in France." in (message.content or "")]
        assert [message.role for message in said] == [role]
        assert "question 0 of four" in (said[0].content or "")
        assert not any("Paris" in (message.content or "") for message in await memory.aget_all())
        await dispose(memory)


def test_without_async(make, user, say):
    memory = make()
    memory.put(user("one"))
    memory.put_messages([say("two"), user("three")])
    assert texts(memory.get(input="anything")) == texts(memory.get_all()) == ["one", "two", "three"]
    memory.set([user("anew")])
    assert texts(memory.get()) == ["anew"]
    memory.reset()
    assert memory.get_all() == []
    asyncio.run(dispose(memory))


async def test_sync_calls_in_a_running_loop(make, user):
    memory = make()
    memory.put(user("one"))
    assert texts(memory.get()) == ["one"]
    await dispose(memory)
