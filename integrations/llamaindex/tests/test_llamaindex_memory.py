"""AMFSMemory keeps LlamaIndex's contract and whole turns, and serialises where it is, not what it holds."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.memory import BaseMemory, Memory, StaticMemoryBlock
from llama_index.core.memory.memory import BaseMemoryBlock
from llama_index.core.storage.chat_store.base_db import MessageStatus
from llama_index.memory.amfs import AMFSMemory
from pydantic import PrivateAttr, ValidationError
from workflows.context.serializers import JsonSerializer, PickleSerializer

from amfs import AgentMemory
from amfs.errors import (
    CannotOpenDatabaseError,
    HandleClosedError,
    InvalidInputError,
    NotSupportedError,
    ReadOnlyDatabaseError,
)

ARCHIVED = MessageStatus.ARCHIVED


def words(text: str) -> list[str]:
    """Count words: easier to foresee than tokens."""
    return text.split()


@pytest.fixture
def memory(mem):
    return AMFSMemory.from_memory(mem, session_id="s")


@pytest.fixture
def small(mem):
    """A memory that archives when the conversation has more than 20 words."""
    return AMFSMemory.from_memory(
        mem,
        session_id="s",
        tokenizer_fn=words,
        token_limit=20,
        chat_history_token_ratio=1.0,
        token_flush_size=1,
    )


class Ejected(BaseMemoryBlock[str]):
    """A block that keeps what it is given."""

    name: str = "ejected"
    _texts: list[str | None] = PrivateAttr(default_factory=list)

    async def _aget(self, messages: list[ChatMessage] | None = None, **block_kwargs: object) -> str:  # noqa: ARG002
        return " ".join(text or "" for text in self._texts)

    async def _aput(self, messages: list[ChatMessage]) -> None:
        self._texts += [message.content for message in messages]


def texts(messages: list[ChatMessage]) -> list[str | None]:
    return [message.content for message in messages]


# --- the contract ---------------------------------------------------------------------------------


def test_is_a_memory():
    names = [base.__name__ for base in AMFSMemory.__mro__]
    assert Memory.__name__ in names
    assert BaseMemory.__name__ in names


async def test_put_get_set_reset(memory, user, say):
    await memory.aput(user("hello"))
    await memory.aput_messages([say("hi"), user("how are you?")])
    assert texts(await memory.aget()) == ["hello", "hi", "how are you?"]
    assert await memory.aget(input="ignored") == await memory.aget_all()
    await memory.aset([user("anew")])
    assert texts(await memory.aget()) == ["anew"]
    await memory.areset()
    assert await memory.aget_all() == []


def test_the_same_without_async(memory, user, say):
    memory.put(user("hello"))
    memory.put_messages([say("hi"), user("how are you?")])
    assert texts(memory.get(input="ignored", initial_token_count=3)) == ["hello", "hi", "how are you?"]
    memory.set([user("anew")])
    assert memory.get() == [user("anew")]
    assert texts(memory.get_all()) == ["hello", "hi", "how are you?", "anew"]
    memory.reset()
    assert memory.get_all() == []


async def test_sync_calls_work_inside_a_running_loop(memory, user):
    memory.put(user("hello"))
    await memory.aput(user("again"))
    assert texts(memory.get()) == ["hello", "again"]


def test_sync_calls_leave_the_event_loop_alone(memory, user):
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        memory.put(user("hello"))
        assert asyncio.get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def test_an_empty_batch_is_fine(memory):
    await memory.aput_messages([])
    assert await memory.aget() == []


async def test_messages_are_fresh_copies(memory, user):
    await memory.aput(user("hello"))
    (first,) = await memory.aget()
    first.blocks.clear()
    assert await memory.aget() == [user("hello")]


async def test_concurrent_first_use(database):
    with AMFSMemory.from_defaults(session_id="s", database=database) as memory:
        assert await asyncio.gather(*(memory.aget() for _ in range(5))) == [[]] * 5


def test_says_what_it_is(memory):
    assert str(memory) == repr(memory)
    assert repr(memory).startswith("AMFSMemory(session_id='s', memory=AgentMemory('chat-agent', ")


async def test_a_new_session_by_default(mem, user):
    first, second = AMFSMemory.from_memory(mem), AMFSMemory.from_memory(mem)
    await first.aput(user("hello"))
    assert await second.aget() == []


def test_from_defaults_opens_and_closes_a_database(database, user):
    with AMFSMemory.from_defaults("s", [user("hello")], database=database, agent_id="helper") as memory:
        assert memory.agent_memory.agent_id == "helper"
    with pytest.raises(HandleClosedError):
        memory.get()
    with AMFSMemory.from_defaults(session_id="s", chat_history=[], database=database) as memory:
        assert texts(memory.get()) == ["hello"]


def test_from_defaults_leaves_a_given_handle_open(mem, user):
    memory = AMFSMemory.from_defaults(session_id="s", memory=mem)
    memory.close()
    memory.put(user("hello"))
    assert texts(memory.get()) == ["hello"]


def test_arguments_that_would_be_ignored_are_refused(mem, database):
    with pytest.raises(InvalidInputError, match="not both"):
        AMFSMemory.from_defaults(memory=mem, database=database)
    with pytest.raises(ValidationError, match="async_database_uri"):
        AMFSMemory.from_defaults(memory=mem, async_database_uri="sqlite+aiosqlite:///other.db")


# --- the window -----------------------------------------------------------------------------------


async def test_the_oldest_whole_turns_are_archived(small, user, say):
    for number in range(5):
        await small.aput_messages([user(f"question {number} of five"), say(f"answer {number} of five")])
    assert texts(await small.aget()) == [
        "question 3 of five",
        "answer 3 of five",
        "question 4 of five",
        "answer 4 of five",
    ]
    assert len(await small.aget_all()) == 10
    assert len(await small.aget_all(status=ARCHIVED)) == 6


async def test_a_tool_call_is_never_torn_from_its_result(small, user, say, call, answer):
    for number in range(6):
        await small.aput(user(f"look up number {number}"))
        await small.aput_messages([call("look"), answer("look", "one two three four"), say("four")])
        active = await small.aget()
        assert active[0].role == MessageRole.USER
        roles = [message.role.value for message in active]
        assert roles == ["user", "assistant", "tool", "assistant"] * (len(roles) // 4)


async def test_tool_calls_count(small, user, call):
    await small.aput(user("first"))
    await small.aput(call("write", text="word " * 30))
    await small.aput(user("second"))
    assert texts(await small.aget()) == ["second"]


async def test_the_last_turn_stays_however_long(small, user, say):
    await small.aput(user("word " * 30))
    assert len(await small.aget()) == 1
    await small.aput(say("word " * 30))
    assert [message.role.value for message in await small.aget()] == ["user", "assistant"]
    await small.aput(user("short"))
    assert texts(await small.aget()) == ["short"]


async def test_a_system_message_is_never_archived(small, user, say):
    await small.aput(ChatMessage(role=MessageRole.SYSTEM, content="Be kind."))
    for number in range(6):
        await small.aput_messages([user(f"question {number} of six"), say(f"answer {number} of six")])
    active = await small.aget()
    assert active[0].content == "Be kind."
    assert active[1].role == MessageRole.USER
    assert len(active) == 5


async def test_flushing_takes_at_least_the_flush_size(mem, user, say):
    memory = AMFSMemory.from_memory(
        mem, tokenizer_fn=words, token_limit=20, chat_history_token_ratio=1.0, token_flush_size=15
    )
    for number in range(3):
        await memory.aput_messages([user(f"question {number} of three"), say(f"answer {number} of three")])
    assert len(await memory.aget()) == 2


async def test_memory_blocks_get_what_is_archived_and_are_inserted(mem, user, say):
    block = Ejected()
    memory = AMFSMemory.from_memory(
        mem,
        session_id="s",
        tokenizer_fn=words,
        token_limit=20,
        chat_history_token_ratio=1.0,
        token_flush_size=1,
        memory_blocks=[block, StaticMemoryBlock(name="fixed", static_content="Paris is in France.")],
    )
    for number in range(3):
        await memory.aput_messages([user(f"question {number} of three"), say(f"answer {number} of three")])
    assert block._texts == ["question 0 of three", "answer 0 of three"]
    system, *rest = await memory.aget()
    assert system.role == MessageRole.SYSTEM
    assert "Paris is in France." in (system.content or "")
    assert "question 0 of three" in (system.content or "")
    assert [message.additional_kwargs for message in rest] == [{}, {}, {}, {}]


async def test_concurrent_puts_lose_nothing_and_do_not_archive_twice(small, user):
    await asyncio.gather(*(small.aput(user(f"this is message {number}")) for number in range(40)))
    assert len(await small.aget_all()) == 40
    assert len(await small.aget()) == 5


async def test_two_memories_of_one_session_archive_the_same_messages(mem, user):
    one, two = (
        AMFSMemory.from_memory(
            handle,
            session_id="s",
            tokenizer_fn=words,
            token_limit=20,
            chat_history_token_ratio=1.0,
            token_flush_size=1,
        )
        for handle in (mem, mem.as_agent("other-agent"))
    )
    for number in range(15):
        await one.aput(user(f"this is message {number}"))
        mem.write("notes", "n", number)
        await two.aput(user(f"that is message {number}"))
        assert await one.aget() == await two.aget()
        assert len(await one.aget()) == min(5, 2 * number + 2)


async def test_the_window_follows_what_happens_beside_it(mem, small, user):
    for number in range(5):
        await small.aput(user(f"this is message {number}"))
    await small.sql_store.delete_oldest_messages("s", 4)
    for number in range(5, 9):
        await small.aput(user(f"this is message {number}"))
    assert len(await small.aget()) == 5
    await small.aset([user("word " * 19)])
    await small.aput(user("one"))
    assert len(await small.aget()) == 2
    mem.delete("chat/s", mem.list("chat/s", memory_type="message")[0].key)
    await small.aput(user("word " * 18))
    assert texts(await small.aget())[0] == "one"


async def test_a_put_does_not_read_the_history_again(mem, small, user, monkeypatch):
    await small.aput(user("one"))
    listed = []
    listing = AgentMemory.list
    monkeypatch.setattr(AgentMemory, "list", lambda *args, **kw: listed.append(args) or listing(*args, **kw))
    for number in range(10):
        await small.aput(user("two"))
        mem.write("notes", "n", number)
    assert listed == []


# --- by reference ---------------------------------------------------------------------------------


SERIALISED = [
    pytest.param(copy.copy, id="copy"),
    pytest.param(copy.deepcopy, id="deepcopy"),
    pytest.param(lambda memory: memory.model_copy(deep=True), id="model_copy"),
    pytest.param(lambda memory: pickle.loads(pickle.dumps(memory)), id="pickle"),  # noqa: S301 - our own bytes
    pytest.param(lambda memory: AMFSMemory.from_dict(memory.to_dict()), id="dict"),
    pytest.param(lambda memory: AMFSMemory.from_json(memory.to_json()), id="json"),
    pytest.param(lambda memory: AMFSMemory.model_validate(memory.model_dump()), id="model_dump"),
    pytest.param(lambda memory: JsonSerializer().deserialize(JsonSerializer().serialize(memory)), id="context"),
    pytest.param(
        lambda memory: PickleSerializer().deserialize(PickleSerializer().serialize(memory)),
        id="context-pickle",
    ),
]


@pytest.mark.parametrize("again", SERIALISED)
async def test_a_copy_is_the_same_conversation(mem, user, again):
    block = Ejected()
    memory = AMFSMemory.from_memory(mem, session_id="s", token_limit=500, tokenizer_fn=words, memory_blocks=[block])
    await memory.aput(user("hello"))
    twin = again(memory)
    assert isinstance(twin, AMFSMemory)
    assert twin.agent_memory is mem
    assert (twin.session_id, twin.token_limit, twin.token_flush_size) == ("s", 500, memory.token_flush_size)
    assert twin.tokenizer_fn is words
    assert twin.memory_blocks == [block]
    await twin.aput(user("from the twin"))
    await memory.aput(user("from the original"))
    assert await twin.aget_all() == await memory.aget_all()
    assert texts(await memory.aget_all()) == ["hello", "from the twin", "from the original"]


async def test_what_is_serialised_holds_no_messages_and_is_plain_json(memory, user):
    await memory.aput(user("precious"))
    assert "precious" not in json.dumps(memory.to_dict())
    assert b"precious" not in pickle.dumps(memory)


async def test_serialising_leaves_the_memory_as_it_was(memory, user):
    pickle.dumps(memory)
    memory.to_json()
    await memory.aput(user("still here"))
    assert texts(await memory.aget()) == ["still here"]


async def test_restores_after_the_handle_was_closed(database, user):
    with AgentMemory("chat-agent", database) as mem:
        memory = AMFSMemory.from_memory(mem, session_id="s", token_limit=777)
        await memory.aput(user("hello"))
        data = memory.to_dict()
    again = AMFSMemory.from_dict(data)
    assert texts(await again.aget()) == ["hello"]
    assert again.token_limit == 777
    assert again.agent_memory.agent_id == "chat-agent"
    assert AMFSMemory.from_dict(data).agent_memory is again.agent_memory
    again.agent_memory.close()


async def test_restores_on_the_branch_it_was_on(database, user):
    with AgentMemory("chat-agent", database) as mem:
        mem.create_branch("idea")
        mem.switch_branch("idea")
        memory = AMFSMemory.from_memory(mem, session_id="s")
        await memory.aput(user("on idea"))
        data = memory.to_dict()
    with AMFSMemory.from_dict(data).agent_memory as mem:
        assert mem.branch == "idea"
        assert texts(await AMFSMemory.from_memory(mem, session_id="s").aget()) == ["on idea"]


async def test_a_relative_path_is_found_from_another_folder(tmp_path, monkeypatch, user):
    monkeypatch.chdir(tmp_path)
    with AMFSMemory.from_defaults(session_id="s", database="memory.db") as memory:
        await memory.aput(user("hello"))
        data = memory.to_dict()
    monkeypatch.chdir("/")
    again = AMFSMemory.from_dict(data)
    assert texts(await again.aget()) == ["hello"]
    again.agent_memory.close()


def test_amnesia_is_never_silent(tmp_path):
    with AMFSMemory.from_defaults(database=tmp_path / "gone.db") as memory:
        data = memory.to_dict()
    (tmp_path / "gone.db").unlink()
    with pytest.raises(CannotOpenDatabaseError, match=r"gone\.db"):
        AMFSMemory.from_dict(data)
    assert not (tmp_path / "gone.db").exists()
    with AMFSMemory.from_defaults(database=":memory:") as memory:
        data = memory.to_dict()
        assert AMFSMemory.from_dict(data).agent_memory is memory.agent_memory
    with pytest.raises(NotSupportedError, match="in-memory"):
        AMFSMemory.from_dict(data)


async def test_memory_blocks_are_not_lost_silently(mem, user):
    memory = AMFSMemory.from_memory(mem, session_id="s", memory_blocks=[Ejected()])
    await memory.aput(user("hello"))
    data = memory.to_dict()
    del memory
    with pytest.raises(NotSupportedError, match="ejected"):
        AMFSMemory.from_dict(data)
    block = Ejected()
    again = AMFSMemory.from_dict(data, memory_blocks=[block])
    assert again.memory_blocks == [block]
    assert texts(await again.aget()) == ["hello"]


def test_another_process_continues_the_conversation(database, user):
    with AMFSMemory.from_defaults(session_id="s", database=database) as memory:
        memory.put(user("before the restart"))
        pickled = pickle.dumps(memory)
    program = """
        import pickle, sys
        from llama_index.core.llms import ChatMessage
        from llama_index.memory.amfs import AMFSMemory

        with AMFSMemory.from_defaults(session_id="s", database=sys.argv[1]) as memory:
            memory.put(ChatMessage(role="assistant", content="after the restart"))
        again = pickle.loads(bytes.fromhex(sys.argv[2]))
        print([message.content for message in again.get()])
    """
    done = subprocess.run(  # noqa: S603 - this very interpreter
        [sys.executable, "-c", textwrap.dedent(program), str(database), pickled.hex()],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path("/"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['before the restart', 'after the restart']"
    with AMFSMemory.from_defaults(session_id="s", database=database) as memory:
        assert len(memory.get()) == 2


def test_processes_share_a_conversation_and_lose_nothing(database):
    program = """
        import sys
        from llama_index.core.llms import ChatMessage
        from llama_index.memory.amfs import AMFSMemory

        with AMFSMemory.from_defaults(session_id="s", database=sys.argv[1], agent_id=sys.argv[2]) as memory:
            for number in range(25):
                memory.put_messages([ChatMessage(content=f"{sys.argv[2]} {number} {part}") for part in "ab"])
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(database)]
    started = [subprocess.Popen([*command, f"writer-{number}"]) for number in range(3)]  # noqa: S603 - as above
    assert [process.wait(timeout=120) for process in started] == [0, 0, 0]
    with AMFSMemory.from_defaults(session_id="s", database=database) as memory:
        found = texts(memory.get_all())
    assert len(found) == 150
    assert [second for first, second in zip(found[::2], found[1::2], strict=True)] == [
        f"{(first or '')[:-1]}b" for first in found[::2]
    ]
    for number in range(3):
        own = [text for text in found[::2] if (text or "").startswith(f"writer-{number}")]
        assert own == [f"writer-{number} {position} a" for position in range(25)]


async def test_a_read_only_database_can_be_read(database, user):
    with AMFSMemory.from_defaults(session_id="s", database=database, agent_id="writer") as memory:
        await memory.aput(user("hello"))
    with AgentMemory("reader", f"file:{database}?mode=ro") as mem:
        reading = AMFSMemory.from_memory(mem, session_id="s")
        assert texts(await reading.aget()) == ["hello"]
        with pytest.raises(ReadOnlyDatabaseError):
            await reading.aput(user("no"))


def test_errors_of_amfs_reach_the_caller_of_sync_methods(database):
    memory = AMFSMemory.from_defaults(database=database)
    memory.close()
    with pytest.raises(HandleClosedError, match="closed"):
        memory.get()
