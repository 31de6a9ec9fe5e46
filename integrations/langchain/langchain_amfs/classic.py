"""AMFSMemory: the memory of a classic chain, with its messages in AMFS; the extra ``classic``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from langchain_classic.base_memory import BaseMemory
from langchain_classic.memory.utils import get_prompt_input_key
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, get_buffer_string
from langchain_core.messages.utils import count_tokens_approximately
from pydantic import ConfigDict, Field, PrivateAttr

from amfs import AgentMemory
from langchain_amfs.history import AMFSChatMessageHistory

__all__ = ["AMFSChatMessageHistory", "AMFSMemory"]


class AMFSMemory(BaseMemory):
    """The memory of a classic chain or AgentExecutor, used like ``ConversationBufferMemory``: ``memory=``.

    It keeps the input and the output of each call as two messages of a conversation, and puts what was said before
    into the prompt: all of it, the last ``k`` turns, or as many whole turns as ``max_token_limit`` allows. What is left
    out stays in the conversation. ``clear`` archives it.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    memory: AgentMemory = Field(exclude=True, repr=False, description="The memory to work on. It stays the caller's.")
    session_id: str = Field("default", min_length=1, description="Which conversation.")
    memory_key: str = Field("history", description="The variable of the prompt that takes the conversation.")
    input_key: str | None = Field(None, description="Which input to keep, if there are several.")
    output_key: str | None = Field(None, description="Which output to keep, if there are several.")
    return_messages: bool = Field(False, description="Give the prompt messages instead of text.")
    human_prefix: str = Field("Human", description="Who speaks in the text of an input.")
    ai_prefix: str = Field("AI", description="Who speaks in the text of an output.")
    k: int | None = Field(None, ge=0, description="How many turns to show at most.")
    max_token_limit: int | None = Field(None, ge=0, description="How many tokens to show at most, in whole turns.")
    token_counter: Callable[[list[BaseMessage]], int] = Field(
        count_tokens_approximately, exclude=True, repr=False,
        description="Counts tokens, such as a model's get_num_tokens_from_messages.",
    )  # fmt: skip

    _history: AMFSChatMessageHistory = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Find the conversation."""
        super().model_post_init(context)
        self._history = AMFSChatMessageHistory(self.memory, self.session_id)

    @property
    def chat_memory(self) -> AMFSChatMessageHistory:
        """The whole conversation since the last ``clear``."""
        return self._history

    @property
    def buffer(self) -> str | list[BaseMessage]:
        """What goes into the prompt."""
        return self._shown(self._history.messages)

    @property
    def memory_variables(self) -> list[str]:
        """The variables of the prompt that this memory fills."""
        return [self.memory_key]

    def load_memory_variables(self, inputs: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - LangChain's signature
        """Return what goes into the prompt, under ``memory_key``."""
        return {self.memory_key: self.buffer}

    async def aload_memory_variables(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return what goes into the prompt, without a wait on the event loop."""
        return await asyncio.to_thread(self.load_memory_variables, inputs)

    def save_context(self, inputs: dict[str, Any], outputs: dict[str, str]) -> None:
        """Keep an input and the output to it, in one transaction.

        Raises:
            ValueError: It cannot be told which input or output is meant; say ``input_key`` or ``output_key``.
        """
        said = inputs[self.input_key or get_prompt_input_key(inputs, self.memory_variables)]
        answered = outputs[self.output_key or _output_key(outputs)]
        self._history.add_messages([_message(HumanMessage, said), _message(AIMessage, answered)])

    async def asave_context(self, inputs: dict[str, Any], outputs: dict[str, str]) -> None:
        """Keep an input and the output to it, without a wait on the event loop."""
        await asyncio.to_thread(self.save_context, inputs, outputs)

    def clear(self) -> None:
        """Archive the conversation; its messages stay in the memory."""
        self._history.clear()

    async def aclear(self) -> None:
        """Archive the conversation, without a wait on the event loop."""
        await asyncio.to_thread(self.clear)

    def _shown(self, messages: list[BaseMessage]) -> str | list[BaseMessage]:
        shown = self._within_limits(messages)
        if self.return_messages:
            return shown
        return get_buffer_string(shown, human_prefix=self.human_prefix, ai_prefix=self.ai_prefix)

    def _within_limits(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        """Return the last whole turns that both limits allow."""
        starts = [place for place, message in enumerate(messages) if isinstance(message, HumanMessage)]
        if self.k is not None and self.k < len(starts):
            starts = starts[len(starts) - self.k :]
            messages, starts = (messages[starts[0] :], [place - starts[0] for place in starts]) if starts else ([], [])
        if self.max_token_limit is None or self.token_counter(messages) <= self.max_token_limit:
            return messages
        for start in starts[1:]:
            if self.token_counter(messages[start:]) <= self.max_token_limit:
                return messages[start:]
        return []


def _output_key(outputs: dict[str, Any]) -> str:
    if len(outputs) == 1:
        return next(iter(outputs))
    if "output" in outputs:
        return "output"
    raise ValueError(f"there are several outputs, {', '.join(outputs)}; say which to keep with output_key=")


def _message(kind: type[HumanMessage | AIMessage], said: Any) -> BaseMessage:
    return said if isinstance(said, BaseMessage) else kind(content=said)
