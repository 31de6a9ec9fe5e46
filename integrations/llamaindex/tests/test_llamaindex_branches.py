"""A conversation follows branches and experiments, merges whole, and says who read whose messages."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.memory.amfs import AMFSMemory

from amfs import AgentMemory
from amfs.errors import BranchNotFoundError, ExperimentContextLostError

# LlamaIndex's workflows look at every attribute of an agent, the deprecated ones of pydantic models included.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:The `\w+` attribute is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:Accessing the '\w+' attribute on the instance:DeprecationWarning"),
]


def texts(messages):
    return [message.content for message in messages]


@pytest.fixture
def memory(mem):
    return AMFSMemory.from_memory(mem, session_id="s")


async def test_an_agent_inside_an_experiment_talks_on_its_branch(mem, memory, scripted, user, say):
    await memory.aput_messages([user("hello"), say("hi")])
    agent = FunctionAgent(llm=scripted(say("on a branch")))
    with mem.experiment("polite"):
        await agent.run(user_msg="try this", memory=memory)
        memory.put(user("sync as well"))
        assert texts(await memory.aget()) == ["hello", "hi", "try this", "on a branch", "sync as well"]
    assert texts(await memory.aget()) == ["hello", "hi"]
    mem.merge_branch("experiment/polite")
    assert texts(await memory.aget()) == ["hello", "hi", "try this", "on a branch", "sync as well"]


def test_a_stream_that_is_written_by_a_thread_stays_in_the_experiment(mem, memory, scripted, say):
    engine = SimpleChatEngine.from_defaults(llm=scripted(say("streamed")), memory=memory)
    with mem.experiment("stream"):
        stream = engine.stream_chat("hello")
        assert "".join(stream.response_gen) == "streamed"
        assert texts(memory.get()) == ["hello", "streamed"]
    assert memory.get() == []


def test_a_thread_that_lost_the_experiment_is_told_so(mem, memory):
    with mem.experiment("threads"), ThreadPoolExecutor(1) as executor:
        with pytest.raises(ExperimentContextLostError, match=r"exp\.bind"):
            executor.submit(memory.get).result()
        with pytest.raises(ExperimentContextLostError):
            executor.submit(memory.put, ChatMessage(content="lost")).result()
    assert memory.get_all() == []


async def test_a_pinned_view_stays_on_its_branch(mem, user):
    mem.create_branch("idea")
    pinned = AMFSMemory.from_memory(mem.on_branch("idea"), session_id="s")
    with mem.experiment("elsewhere"):
        await pinned.aput(user("on idea"))
    assert texts(await pinned.aget()) == ["on idea"]
    assert await AMFSMemory.from_memory(mem, session_id="s").aget() == []


async def test_a_memory_is_pinned_to_a_branch(mem, memory, user):
    await memory.aput(user("hello"))
    mem.create_branch("idea")
    pinned = memory.on_branch("idea")
    assert (pinned.session_id, pinned.agent_memory.branch) == ("s", "idea")
    with mem.experiment("elsewhere"):
        await pinned.aput(user("on idea"))
        await memory.aput(user("in the experiment"))
    assert texts(await pinned.aget()) == ["hello", "on idea"]
    assert texts(await pickle.loads(pickle.dumps(pinned)).aget()) == ["hello", "on idea"]  # noqa: S301 - our own bytes
    assert texts(await copy.deepcopy(pinned).aget()) == ["hello", "on idea"]
    assert texts(await memory.aget()) == ["hello"]
    with pytest.raises(BranchNotFoundError):
        memory.on_branch("nowhere")


async def test_two_branches_never_collide_and_archive_for_themselves(mem, user, say):
    memory = AMFSMemory.from_memory(
        mem,
        session_id="s",
        tokenizer_fn=str.split,
        token_limit=12,
        chat_history_token_ratio=1.0,
        token_flush_size=1,
    )
    await memory.aput_messages([user("one two three"), say("four five six")])
    mem.create_branch("left")
    mem.create_branch("right")
    for branch in ("left", "right"):
        mem.switch_branch(branch)
        for number in range(4):
            await memory.aput_messages([user(f"{branch} question {number}"), say(f"{branch} answer {number}")])
        assert texts(await memory.aget()) == [
            f"{branch} question 2",
            f"{branch} answer 2",
            f"{branch} question 3",
            f"{branch} answer 3",
        ]
    mem.switch_branch("main")
    assert texts(await memory.aget()) == ["one two three", "four five six"]
    assert mem.merge_branch("left").conflicts == ()
    assert mem.merge_branch("right").conflicts == ()
    assert len(await memory.aget_all()) == 18
    assert texts(await memory.aget()) == [
        "right question 2",
        "right answer 2",
        "right question 3",
        "right answer 3",
    ]
    await memory.aput(user("back on main"))
    assert texts(await memory.aget()) == ["right question 3", "right answer 3", "back on main"]


async def test_reading_the_messages_of_another_agent_is_recorded(database, user):
    with AgentMemory("ann", database) as ann, AgentMemory("bob", database) as bob:
        of_ann, of_bob = (AMFSMemory.from_memory(handle, session_id="s") for handle in (ann, bob))
        await of_ann.aput_messages([user("one"), user("two")])
        assert ann.timeline(event_type="cross_agent_read") == []
        await of_ann.aget()
        assert await of_bob.sql_store.count_messages("s") == 2
        assert ann.timeline(event_type="cross_agent_read") == []
        for _ in range(3):
            assert texts(await of_bob.aget()) == ["one", "two"]
        (event,) = ann.timeline(event_type="cross_agent_read")
        assert (event.agent_id, event.actor) == ("ann", "bob")
        assert len(event.details["entries"]) == 2


async def test_agents_are_the_authors_of_their_messages(mem, memory, user):
    other = AMFSMemory.from_memory(mem.as_agent("second"), session_id="s")
    await memory.aput(user("from the first"))
    await other.aput(user("from the second"))
    authors = [entry.agent_id for entry in mem.list("chat/s", memory_type="message")]
    assert authors == ["chat-agent", "second"]
