"""AMFSChatMessageHistory: the messages of a conversation, one entry each, on any branch.

They lie where LlamaIndex's AMFSMemory keeps them, so that both frameworks read one conversation: under
``chat/<session>`` (``%`` and ``/`` percent-encoded), with keys that sort by time and repeat on no two branches. What
``clear`` archived is told by a boundary under ``chat-state/<session>``: the key of the last message archived.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from typing import TYPE_CHECKING

from langchain_core.chat_history import BaseChatMessageHistory

from amfs.models import Delete, MemoryType, Put
from langchain_amfs import namespaces
from langchain_amfs.messages import from_value, to_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langchain_core.messages import BaseMessage

    from amfs import AgentMemory
    from amfs.models import Entry, Operation

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
        (segment,) = namespaces.segments([session_id])
        self._path, self._state_path = f"chat/{segment}", f"chat-state/{segment}"
        self._met: set[str] = set()

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
        values = [to_value(message) for message in messages]
        if not values:
            return
        branch = self.memory.branch
        if branch not in self._met:
            # A clock that was set back since the last process must not put new messages before old ones.
            self._active(branch)
        puts = [
            Put(entity_path=self._path, key=key, value=value, memory_type=MemoryType.MESSAGE)
            for key, value in zip(_ids.batch(len(values)), values, strict=True)
        ]
        self.memory.apply(puts, branch=branch)

    def clear(self) -> None:
        """Archive all messages: the conversation is empty, and they are still in the memory and its history."""
        branch = self.memory.branch
        entries = self._active(branch)
        if not entries:
            return
        last, standing = entries[-1].key, self._boundaries(branch)
        value = {"archived_through": last}
        operations: list[Operation] = [
            Put(entity_path=self._state_path, key=last, value=value, memory_type=MemoryType.MESSAGE),
            *(Delete(entity_path=state.entity_path, key=state.key) for state in standing),
        ]
        self.memory.apply(operations, branch=branch)

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
        entries = self.memory.list(self._path, memory_type=MemoryType.MESSAGE, branch=branch)
        boundary = max((state.key for state in self._boundaries(branch)), default="")
        ordered = sorted(entries, key=lambda entry: entry.key)
        _ids.start_after(boundary, *(entry.key for entry in ordered[-1:]))
        self._met.add(branch)
        return [entry for entry in ordered if entry.key > boundary]

    def _boundaries(self, branch: str) -> Iterable[Entry]:
        return self.memory.list(self._state_path, memory_type=MemoryType.MESSAGE, branch=branch)


class _Ids:
    """Hands out keys that sort by time and repeat neither in this process nor between two."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def batch(self, count: int) -> list[str]:
        with self._lock:
            self._last = stamp = max(time.time_ns() // 1000, self._last + 1)
        process = secrets.token_hex(4)
        return [f"{stamp:016d}-{process}-{position:05d}" for position in range(count)]

    def start_after(self, *keys: str) -> None:
        """Let the next key sort after these."""
        stamps = [int(key[:16]) for key in keys if key[:16].isdecimal()]
        with self._lock:
            self._last = max(self._last, *stamps, 0)


_ids = _Ids()
