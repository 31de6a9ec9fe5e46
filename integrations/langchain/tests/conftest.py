"""What the tests of the LangGraph store share: a memory in a real file, a store on it, scripted models."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_amfs import AMFSSaver, AMFSStore
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage

from amfs import AgentMemory


class ScriptedModel(FakeMessagesListChatModel):
    """A chat model that answers from a script and takes any tools."""

    def bind_tools(self, *_: Any, **__: Any) -> "ScriptedModel":
        return self


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[AgentMemory]:
    with AgentMemory("desk", tmp_path / "amfs.db", durability="normal") as memory:
        yield memory


@pytest.fixture
def store(memory: AgentMemory) -> Iterator[AMFSStore]:
    with AMFSStore(memory) as store:
        yield store


@pytest.fixture(params=["batch", "abatch"])
def batch(request: pytest.FixtureRequest, store: AMFSStore) -> Callable[..., list[Any]]:
    """Carry out operations on the store, once through ``batch`` and once through ``abatch``."""
    if request.param == "batch":
        return lambda *ops: store.batch(ops)
    return lambda *ops: asyncio.run(store.abatch(ops))


@pytest.fixture
def script() -> Callable[..., ScriptedModel]:
    """Return a model that plays turns: a str is a reply, a list of (tool, arguments) are tool calls."""

    def play(*turns: str | list[tuple[str, dict[str, Any]]]) -> ScriptedModel:
        return ScriptedModel(responses=[message(place, turn) for place, turn in enumerate(turns)])

    def message(place: int, turn: str | list[tuple[str, dict[str, Any]]]) -> AIMessage:
        if isinstance(turn, str):
            return AIMessage(turn)
        calls = [{"name": name, "args": args, "id": f"{place}-{n}"} for n, (name, args) in enumerate(turn)]
        return AIMessage("", tool_calls=calls)

    return play


@pytest.fixture
def saver(memory: AgentMemory) -> Iterator[AMFSSaver]:
    """Return a saver in the file of the memory, which is sound when the test is over."""
    with AMFSSaver(memory) as saver:
        yield saver
        assert memory.verify().problems == ()
