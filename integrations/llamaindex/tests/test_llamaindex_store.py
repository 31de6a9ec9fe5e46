"""AMFSChatStore does what LlamaIndex asks of a chat store, and loses nothing by it."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle

import pytest
from llama_index.core.base.llms.types import (
    BaseContentBlock,
    ChatMessage,
    CitableBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.memory import Memory
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
from llama_index.memory.amfs import AMFSChatStore

from amfs import AgentMemory
from amfs.errors import InvalidValueError

ACTIVE, ARCHIVED = MessageStatus.ACTIVE, MessageStatus.ARCHIVED


class Hologram(BaseContentBlock):
    """A block of a kind that LlamaIndex does not know."""

    block_type: str = "hologram"


UNKNOWN = ChatMessage(role="user", content="and a hologram")
UNKNOWN.blocks.append(Hologram())


def system(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.SYSTEM, content=text)


@pytest.fixture
def store(mem):
    return AMFSChatStore(memory=mem)


def texts(messages: list[ChatMessage]) -> list[str | None]:
    return [message.content for message in messages]


async def test_is_a_chat_store_and_implements_all_of_it(store):
    assert isinstance(store, AsyncDBChatStore)
    contract = {name for name, member in vars(AsyncDBChatStore).items() if asyncio.iscoroutinefunction(member)}
    assert len(contract) == 10
    assert contract <= set(vars(AMFSChatStore))


async def test_an_unknown_session_is_empty(store):
    assert await store.get_messages("s") == []
    assert await store.count_messages("s", status=None) == 0
    assert await store.delete_message("s", 0) is None
    assert await store.archive_oldest_messages("s", 3) == []
    assert await store.get_keys() == []


async def test_every_kind_of_block_comes_back_equal(store):
    messages = [
        ChatMessage(role=MessageRole.SYSTEM, content="Be kind."),
        ChatMessage(
            role=MessageRole.USER,
            blocks=[TextBlock(text="look: ä 漢 🙂"), ImageBlock(url="https://example.org/cat.png")],
        ),
        ChatMessage(
            role=MessageRole.ASSISTANT,
            blocks=[
                ThinkingBlock(content="hm", num_tokens=3),
                ToolCallBlock(tool_call_id="1", tool_name="zoom", tool_kwargs={"factor": 2.5, "deep": [1, None]}),
            ],
        ),
        ChatMessage(role=MessageRole.TOOL, content="", additional_kwargs={"tool_call_id": "1"}),
        ChatMessage(role=MessageRole.ASSISTANT, blocks=[CitableBlock(title="t", source="s", content="c")]),
    ]
    await store.add_messages("s", messages)
    assert await store.get_messages("s") == messages


async def test_messages_are_fresh_copies(store, user):
    await store.add_message("s", user("hello"))
    (first,) = await store.get_messages("s")
    first.blocks.append(TextBlock(text="leak"))
    first.additional_kwargs["leak"] = True
    assert await store.get_messages("s") == [user("hello")]


async def test_limit_and_offset(store, user):
    await store.add_messages("s", [user(str(number)) for number in range(6)])
    assert texts(await store.get_messages("s", limit=2)) == ["0", "1"]
    assert texts(await store.get_messages("s", limit=2, offset=3)) == ["3", "4"]
    assert texts(await store.get_messages("s", offset=4)) == ["4", "5"]
    assert await store.get_messages("s", limit=0) == []


@pytest.mark.parametrize("session", ["plain", "user/7", "50%", "a%2Fb", "/", "ünï", "x" * 300])
async def test_session_ids_may_hold_anything_and_never_mix(store, user, session):
    await store.add_message(session, user("mine"))
    await store.add_message("other", user("theirs"))
    assert texts(await store.get_messages(session)) == ["mine"]
    assert await store.get_keys() == sorted([session, "other"])


async def test_a_batch_is_one_transaction(mem, store, user):
    with pytest.raises(InvalidValueError):
        await store.set_messages("s", [user("good"), UNKNOWN])
    assert await store.get_messages("s") == []
    await store.add_messages("s", [user("one"), user("two")])
    events = mem.timeline(include_messages=True)
    assert {event.event_type for event in events} == {"write"}
    assert len({event.group for event in events}) == 1


async def test_an_empty_batch_is_fine(mem, store):
    await store.add_messages("s", [])
    await store.set_messages("s", [])
    await store.set_messages("s", [], status=ARCHIVED)
    assert await store.get_messages("s", status=None) == []
    assert mem.timeline(include_messages=True) == []


async def test_messages_stay_out_of_lists_and_timelines_unless_asked_for(mem, store, user):
    await store.add_message("s", user("hello"))
    mem.write("notes", "a", 1)
    assert [entry.entry_key for entry in mem.list()] == ["notes/a"]
    assert [event.summary for event in mem.timeline()] == ["Wrote notes/a v1"]
    assert len(mem.list("chat/s", memory_type="message")) == 1


async def test_archiving_moves_a_boundary_and_rewrites_nothing(mem, store, user):
    await store.add_messages("s", [user(str(number)) for number in range(5)])
    before = mem.list("chat/s", memory_type="message")
    assert texts(await store.archive_oldest_messages("s", 2)) == ["0", "1"]
    assert texts(await store.archive_oldest_messages("s", 1)) == ["2"]
    assert texts(await store.get_messages("s")) == ["3", "4"]
    assert texts(await store.get_messages("s", status=ARCHIVED)) == ["0", "1", "2"]
    assert texts(await store.get_messages("s", status=None)) == ["0", "1", "2", "3", "4"]
    assert [await store.count_messages("s", status) for status in (ACTIVE, ARCHIVED, None)] == [2, 3, 5]
    assert mem.list("chat/s", memory_type="message") == before
    assert len(mem.list("chat-state", prefix=True, memory_type="message")) == 1


async def test_archived_messages_go_before_the_active_ones(store, user):
    await store.add_messages("s", [user("now 1"), user("now 2")])
    await store.add_messages("s", [user("old 1"), user("old 2")], status=ARCHIVED)
    await store.add_message("s", user("old 3"), status=ARCHIVED)
    await store.add_message("s", user("now 3"))
    assert texts(await store.get_messages("s", status=ARCHIVED)) == ["old 1", "old 2", "old 3"]
    assert texts(await store.get_messages("s")) == ["now 1", "now 2", "now 3"]
    await store.archive_oldest_messages("s", 1)
    await store.add_message("s", user("old 4"), status=ARCHIVED)
    assert texts(await store.get_messages("s", status=ARCHIVED)) == [
        "old 1",
        "old 2",
        "old 3",
        "now 1",
        "old 4",
    ]


async def test_archived_messages_of_an_otherwise_empty_session(store, user):
    await store.add_message("s", user("old"), status=ARCHIVED)
    await store.add_message("s", user("now"))
    assert texts(await store.get_messages("s", status=ARCHIVED)) == ["old"]
    await store.set_messages("s", [user("older"), user("oldest")], status=ARCHIVED)
    await store.add_message("s", user("new"))
    assert texts(await store.get_messages("s", status=ARCHIVED)) == ["old", "now", "older", "oldest"]
    assert texts(await store.get_messages("s")) == ["new"]


async def test_a_system_message_is_never_archived(store, user):
    system = ChatMessage(role=MessageRole.SYSTEM, content="Be kind.")
    await store.add_messages("s", [system, user("1"), user("2")])
    assert texts(await store.archive_oldest_messages("s", 2)) == ["1"]
    assert texts(await store.get_messages("s")) == ["Be kind.", "2"]


async def test_deleting(store, user):
    await store.add_messages("s", [user(str(number)) for number in range(6)])
    await store.archive_oldest_messages("s", 2)
    assert await store.delete_message("s", 1) == user("1")
    assert await store.delete_message("s", 99) is None
    assert await store.delete_message("s", -1) is None
    assert texts(await store.delete_oldest_messages("s", 2)) == ["2", "3"]
    assert texts(await store.get_messages("s", status=None)) == ["0", "4", "5"]
    await store.delete_messages("s", status=ARCHIVED)
    assert texts(await store.get_messages("s", status=None)) == ["4", "5"]
    await store.delete_messages("s")
    assert await store.get_messages("s", status=None) == []
    await store.add_message("s", user("again"))
    assert texts(await store.get_messages("s")) == ["again"]


async def test_what_is_replaced_is_archived_instructions_too(mem, store, user):
    await store.add_messages("s", [system("Be kind."), user("precious"), user("words")])
    await store.archive_oldest_messages("s", 2)
    await store.set_messages("s", [system("Be brief."), user("new")])
    assert texts(await store.get_messages("s")) == ["Be brief.", "new"]
    assert texts(await store.get_messages("s", status=ARCHIVED)) == ["Be kind.", "precious", "words"]
    await store.archive_oldest_messages("s", 2)
    assert texts(await store.get_messages("s")) == ["Be brief."]
    await store.set_messages("s", [])
    assert await store.get_messages("s") == []
    assert await store.count_messages("s", status=None) == 5
    assert mem.timeline(event_type="delete", include_messages=True)[-1].details["entity_path"] == "chat-state/s"


async def test_what_stands_already_is_not_stored_again(mem, store, user):
    await store.add_messages("s", [system("Be kind."), user("one")])
    written = mem.stats().versions
    await store.set_messages("s", [system("Be kind."), user("one")])
    assert mem.stats().versions == written
    await store.set_messages("s", [system("Be kind."), user("one"), user("two")])
    assert mem.stats().versions == written + 1
    assert texts(await store.get_messages("s", status=None)) == ["Be kind.", "one", "two"]


async def test_a_whole_history_that_the_window_has_cut_is_not_stored_again(mem, store, user):
    await store.add_messages("s", [system("Be kind."), user("one"), user("two")])
    await store.archive_oldest_messages("s", 2)
    written = mem.stats().versions
    await store.set_messages("s", [system("Be kind."), user("one"), user("two"), user("three")])
    assert mem.stats().versions == written + 1
    assert texts(await store.get_messages("s")) == ["Be kind.", "two", "three"]
    await store.set_messages("s", [user("two")])
    await store.set_messages("s", [user("two"), user("four")])
    assert texts(await store.get_messages("s")) == ["two", "four"]
    assert await store.count_messages("s", status=None) == 6


async def test_replacing_is_one_transaction(store, user):
    await store.add_message("s", user("precious"))
    with pytest.raises(InvalidValueError):
        await store.set_messages("s", [UNKNOWN])
    assert texts(await store.get_messages("s")) == ["precious"]


async def test_boundaries_moved_on_two_branches_do_not_conflict(mem, store, user):
    await store.add_messages("s", [system("Be kind."), user("1"), user("2"), user("3")])
    with mem.experiment("other") as experiment:
        await store.set_messages("s", [user("theirs")])
    await store.archive_oldest_messages("s", 3)
    await store.add_message("s", user("mine"))
    assert experiment.merge().conflicts == ()
    assert texts(await store.get_messages("s")) == ["theirs", "mine"]
    assert await store.count_messages("s", status=None) == 6


# --- what no entry holds ---------------------------------------------------------------------------------------------

ODD = {
    "an image of 5 MB": ChatMessage(role="user", blocks=[ImageBlock(image=b"\x89PNG" + bytes(5_000_000))]),
    "a tool that said 1 MB": ChatMessage(
        role="tool", content="\u6f22" * 400_000, additional_kwargs={"tool_call_id": "call-a"}
    ),
    "NUL": ChatMessage(role="tool", content="ELF\0\0", additional_kwargs={"tool_call_id": "call-a"}),
    "a lone surrogate": ChatMessage(role="user", content="\ud83d"),
    "a number of 40 digits": ChatMessage(role="user", content="x", additional_kwargs={"n": 10**40}),
    "deep": ChatMessage(role="user", content="x", additional_kwargs={"a": json.loads("[" * 100 + "]" * 100)}),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_what_no_entry_holds_comes_back_equal(mem, store, user, odd):
    await store.add_messages("s", [user("before"), odd, user("after")])
    assert await store.get_messages("s") == [user("before"), odd, user("after")]
    await store.archive_oldest_messages("s", 1)
    assert await store.get_messages("s") == [odd, user("after")]
    assert await store.get_messages("s", status=None) == [user("before"), odd, user("after")]
    assert await store.delete_message("s", 1) == odd
    assert mem.list("chat-parts", prefix=True, memory_type="message") == []
    assert texts(await store.get_messages("s", status=None)) == ["before", "after"]


async def test_large_messages_of_two_branches_come_together(mem, store):
    one, other = ODD["an image of 5 MB"], ODD["a tool that said 1 MB"]
    with mem.experiment("other") as experiment:
        await store.add_message("s", one)
    await store.add_message("s", other)
    experiment.merge()
    assert await store.get_messages("s") == [one, other]


async def test_a_message_without_all_its_pieces_is_an_error(mem, store, user):
    await store.add_messages("s", [user("before"), ODD["a tool that said 1 MB"]])
    piece = mem.list("chat-parts/s", memory_type="message")[1]
    mem.delete(piece.entity_path, piece.key)
    with pytest.raises(InvalidValueError, match=r"1 of its .* pieces are missing"):
        await store.get_messages("s")


@pytest.mark.parametrize("value", [5, "text", ["a"], {"role": "nobody", "blocks": []}, {"blocks": 5}])
async def test_what_is_no_message_is_an_error(mem, store, value):
    mem.write("chat/s", "1", value, memory_type="message")
    with pytest.raises(InvalidValueError, match="no chat message"):
        await store.get_messages("s")


async def test_a_message_that_is_refused_takes_no_other_along(store, call, answer, user):
    refused = answer("look", "nothing")
    refused.additional_kwargs["object"] = object()
    with pytest.raises(InvalidValueError, match=r"a message of the tool cannot be stored: .*type"):
        await store.add_messages("s", [call("look"), refused, user("go on"), UNKNOWN])
    first, second, third, last = await store.get_messages("s")
    assert (first, third) == (call("look"), user("go on"))
    assert second.role == MessageRole.TOOL
    assert second.additional_kwargs == {"tool_call_id": "call-look"}
    assert "not stored" in second.content
    assert "not stored" in last.content


async def test_a_block_of_another_version_is_shown_as_such(mem, store, user):
    await store.add_message("s", user("before"))
    (entry,) = mem.list("chat/s", memory_type="message")
    blocks = [{"block_type": "hologram", "rays": 7}, {"block_type": "text", "text": "and words"}]
    value = {"role": "user", "additional_kwargs": {}, "blocks": blocks}
    mem.write("chat/s", f"{entry.key}-later", value, memory_type="message")
    before, later = await store.get_messages("s")
    assert before == user("before")
    assert "'hologram'" in later.blocks[0].text
    assert later.blocks[1].text == "and words"


async def test_order_survives_a_clock_that_was_set_back(database, user):
    with AgentMemory("chat-agent", database) as mem:
        far = 4_000_000_000_000_000
        await AMFSChatStore(memory=mem).add_message("s", user("first"))
        (entry,) = mem.list("chat/s", memory_type="message")
        mem.write("chat/s", f"{far}-0badcafe-00000", {**entry.value}, memory_type="message")
        await AMFSChatStore(memory=mem).add_messages("s", [user("last")])
        assert texts(await AMFSChatStore(memory=mem).get_messages("s"))[-1] == "last"


async def test_concurrent_first_use(mem, user):
    async def use(number: int) -> list[ChatMessage]:
        store = AMFSChatStore(memory=mem)
        await store.add_message("s", user(str(number)))
        return await store.get_messages("s")

    await asyncio.gather(*(use(number) for number in range(20)))
    assert sorted(texts(await AMFSChatStore(memory=mem).get_messages("s")), key=int) == [str(n) for n in range(20)]


async def test_pickle_and_deepcopy_keep_the_handle(store, user):
    await store.add_message("s", user("hello"))
    for twin in (copy.deepcopy(store), pickle.loads(pickle.dumps(store))):  # noqa: S301 - our own bytes
        assert twin.memory is store.memory
        assert await twin.get_messages("s") == [user("hello")]
    assert b"hello" not in pickle.dumps(store)


async def test_serves_the_stock_memory(store, user, say):
    memory = Memory.from_defaults(session_id="s", token_limit=60, token_flush_size=10, chat_store=store)
    for number in range(8):
        await memory.aput(user(f"question number {number}, please"))
        await memory.aput(say(f"answer number {number}, gladly"))
    active = await memory.aget()
    assert active[0].role == MessageRole.USER
    assert 0 < len(active) < 16
    assert len(await memory.aget_all()) == 16
