"""Scripted models and open databases for the tests of the LlamaIndex integration."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.memory.amfs import Recorder, install

from amfs import AgentMemory
from integrations.llamaindex.tests.helpers_recorder import add, fail

if TYPE_CHECKING:
    from pathlib import Path

Say = Callable[..., ChatMessage]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    """The path of a database that does not exist yet; what a test leaves there must be sound."""
    path = tmp_path / "memory.db"
    yield path
    if path.exists():
        with AgentMemory("auditor", path) as memory:
            assert memory.verify().problems == ()


@pytest.fixture
def mem(database: Path) -> Iterator[AgentMemory]:
    """An open handle of the agent "chat-agent"."""
    with AgentMemory("chat-agent", database) as memory:
        yield memory


@pytest.fixture
def user() -> Say:
    """Make a user message."""
    return lambda text: ChatMessage(role=MessageRole.USER, content=text)


@pytest.fixture
def say() -> Say:
    """Make an assistant message."""
    return lambda text: ChatMessage(role=MessageRole.ASSISTANT, content=text)


@pytest.fixture
def call() -> Say:
    """Make an assistant message that calls a tool."""

    def make(tool: str, **arguments: Any) -> ChatMessage:
        block = ToolCallBlock(tool_call_id=f"call-{tool}", tool_name=tool, tool_kwargs=arguments)
        return ChatMessage(role=MessageRole.ASSISTANT, blocks=[block])

    return make


@pytest.fixture
def answer() -> Say:
    """Make the message of a tool that answers."""

    def make(tool: str, text: str) -> ChatMessage:
        return ChatMessage(role=MessageRole.TOOL, content=text, additional_kwargs={"tool_call_id": f"call-{tool}"})

    return make


class Script:
    """Replies in order, then the last one again; keeps what the model was sent."""

    def __init__(self, replies: tuple[ChatMessage, ...]) -> None:
        self.replies = replies
        self.prompts: list[list[ChatMessage]] = []

    def __call__(self, messages: list[ChatMessage], **_: Any) -> ChatMessage:
        reply = self.replies[min(len(self.prompts), len(self.replies) - 1)]
        self.prompts.append([message.model_copy(deep=True) for message in messages])
        return reply.model_copy(deep=True)


@pytest.fixture
def scripted() -> Callable[..., MockFunctionCallingLLM]:
    """Make a model that replies as told; ``response_generator.prompts`` is what it was sent."""
    return lambda *replies: MockFunctionCallingLLM(response_generator=Script(replies))


# --- recorded runs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def desk(database: Path) -> Iterator[AgentMemory]:
    """An open handle of the agent "desk", which asks."""
    with AgentMemory("desk", database) as memory:
        yield memory


@pytest.fixture
def agent(scripted: Callable[..., MockFunctionCallingLLM]) -> Callable[..., FunctionAgent]:
    """Make an agent that replies as told."""

    def make(*replies: ChatMessage, name: str = "calc", tools: Any = (add, fail), **settings: Any) -> FunctionAgent:
        llm = scripted(*replies)
        return FunctionAgent(name=name, description=f"It is {name}.", tools=list(tools), llm=llm, **settings)

    return make


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """The recorder, installed; what it leaves behind must be nothing."""
    recorder = install()
    yield recorder
    assert recorder.open_spans == {}
    recorder.remove()


@pytest.fixture
def run_id() -> str:
    """An id that no other run of the process has: LlamaIndex refuses it while anybody holds the other."""
    return f"run-{uuid.uuid4().hex}"
