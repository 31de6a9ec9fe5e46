"""AMFSChatMessageHistory: the messages of a conversation, one entry each, on any branch.

They lie where LlamaIndex's AMFSMemory keeps them (``amfs.frameworks.conversations``). ``clear`` archives them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import SystemMessage

from amfs.frameworks.conversations import Conversation, Message
from langchain_amfs.messages import from_value, to_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import BaseMessage

    from amfs import AgentMemory
    from amfs.models import Entry

__all__ = ["AMFSChatMessageHistory"]


class AMFSChatMessageHistory(BaseChatMessageHistory):
    """The messages of a conversation in an AgentMemory, for ``RunnableWithMessageHistory`` and classic chains.

    Messages come back equal, field by field; one that plain JSON cannot hold is refused. The agent of the memory is
    their author, and its current branch, or that of the experiment it is in, is where they go. Reading what another
    agent said records a cross-agent read. ``clear`` archives: no message is deleted.

    Args:
        memory: The memory to work on. It stays the caller's to close.
        session_id: Which conversation. The same one elsewhere holds the same messages.
    """

    def __init__(self, memory: AgentMemory, session_id: str) -> None:
        super().__init__()
        self.memory = memory
        self.session_id = session_id
        self._conversation = Conversation(memory, session_id)

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """The messages since the last ``clear``, oldest first, as fresh copies."""
        branch = self.memory.branch
        entries = self._active(branch)
        foreign = [entry for entry in entries if entry.agent_id != self.memory.agent_id]
        if foreign:
            self.memory.read_many([(entry.entity_path, entry.key) for entry in foreign], branch=branch)
        return [from_value(entry.value) for entry in entries]

    @messages.setter
    def messages(self, messages: Sequence[BaseMessage]) -> None:
        self.clear()
        self.add_messages(messages)

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages in one transaction."""
        added = [Message(to_value(message), isinstance(message, SystemMessage)) for message in messages]
        if not added:
            return
        branch = self.memory.branch
        self.memory.apply(self._conversation.additions(branch, added), branch=branch)

    def clear(self) -> None:
        """Archive all messages: the conversation is empty, and they are still in the memory and its history."""
        branch = self.memory.branch
        entries = self._active(branch)
        if entries:
            self.memory.apply(self._conversation.clearing(branch, entries[-1].key), branch=branch)

    async def aget_messages(self) -> list[BaseMessage]:
        """Return the messages, without a wait on the event loop."""
        return await asyncio.to_thread(lambda: self.messages)

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages in one transaction, without a wait on the event loop."""
        await asyncio.to_thread(self.add_messages, messages)

    async def aclear(self) -> None:
        """Archive all messages, without a wait on the event loop."""
        await asyncio.to_thread(self.clear)

    def _active(self, branch: str) -> list[Entry]:
        return self._conversation.active(branch).entries
