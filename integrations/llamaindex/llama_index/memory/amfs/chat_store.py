"""AMFSChatStore: chat messages as entries of an AMFS database, one entry per message.

The messages of a session stand under the entity path ``chat/<session>``, where ``%`` and ``/`` of the session
id are percent-encoded. Their keys sort by time, and the keys of one batch sort together, so that the messages
of two merged branches neither collide nor come between a tool call and its result.

What is archived is one boundary: every message up to it, system messages excepted. It stands under
``chat-state/<session>`` as the key of the last archived message, an entry that is added and removed but never
edited, so that a boundary moved on two branches is no merge conflict: the furthest one counts.
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
from llama_index.memory.amfs.reference import Reference, refer
from pydantic import ConfigDict, Field, PrivateAttr

from amfs import AgentMemory, AsyncAgentMemory
from amfs.models import Delete, Entry, MemoryType, Operation, Put

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["AMFSChatStore", "Conversation", "chat_path", "is_pinned", "state_path"]

_CHATS = "chat"
_STATES = "chat-state"
_BEFORE_ALL = "0" * 16
_PINNED = frozenset({MessageRole.SYSTEM.value, MessageRole.DEVELOPER.value})


class Conversation(NamedTuple):
    """The messages of a session on one branch in order, and the boundary up to which they are archived."""

    branch: str
    entries: list[Entry]
    boundary: str

    def select(self, status: MessageStatus | None) -> list[Entry]:
        """Return the messages of one status, or all of them."""
        if status is None:
            return self.entries
        return [entry for entry in self.entries if self._is_archived(entry) == (status is MessageStatus.ARCHIVED)]

    def _is_archived(self, entry: Entry) -> bool:
        return entry.key <= self.boundary and not is_pinned(entry)


class AMFSChatStore(AsyncDBChatStore):
    """Keeps LlamaIndex chat messages in AMFS: every message a version, on any branch.

    Args:
        memory: The handle to work through. Its agent is the author of the messages; its current branch, or
            that of the experiment it is in, is where they go.

    System and developer messages are always active. Messages of other agents that ``get_messages`` returns
    are recorded as cross-agent reads; counting, listing sessions and archiving record none. Whatever replaces
    or deletes messages leaves their versions in the history.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    memory: AgentMemory = Field(exclude=True, repr=False, description="The AMFS handle that messages go through.")

    _verbs: AsyncAgentMemory = PrivateAttr()
    _met: set[tuple[str, str]] = PrivateAttr(default_factory=set)

    def model_post_init(self, context: Any, /) -> None:  # noqa: ARG002 - pydantic's signature
        """Prepare the awaited verbs."""
        self._verbs = AsyncAgentMemory(self.memory)

    @classmethod
    def class_name(cls) -> str:
        """Return the name used in serialisation."""
        return "AMFSChatStore"

    # --- LlamaIndex's contract ------------------------------------------------------------------------------

    async def get_messages(
        self,
        key: str,
        status: MessageStatus | None = MessageStatus.ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[ChatMessage]:
        """Return the messages of a session, oldest first, as fresh copies; ``status=None`` means all."""
        conversation = self.conversation(key)
        start = offset or 0
        entries = conversation.select(status)[start : None if limit is None else start + limit]
        foreign = [(entry.entity_path, entry.key) for entry in entries if entry.agent_id != self.memory.agent_id]
        if foreign:
            await self._verbs.read_many(foreign, branch=conversation.branch)
        return _messages(entries)

    async def count_messages(self, key: str, status: MessageStatus | None = MessageStatus.ACTIVE) -> int:
        """Return how many messages a session has; ``status=None`` means all."""
        return len(self.conversation(key).select(status))

    async def add_message(self, key: str, message: ChatMessage, status: MessageStatus = MessageStatus.ACTIVE) -> None:
        """Append a message to a session."""
        await self.add_messages(key, [message], status)

    async def add_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Append messages to a session in one transaction; archived ones go before the active ones."""
        if status is MessageStatus.ACTIVE:
            await self.append(key, messages)
        else:
            await self._add_archived(self.conversation(key), key, messages, removed=())

    async def set_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Replace all messages of a session in one transaction. The replaced ones stay in the history."""
        conversation = self.conversation(key)
        if status is MessageStatus.ACTIVE:
            operations = [*_deletes(conversation.entries), *_puts(key, _ids.batch(len(messages)), messages)]
            await self._verbs.apply(operations, branch=conversation.branch)
        else:
            await self._add_archived(conversation, key, messages, removed=conversation.entries)

    async def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Delete the message at a position counted from the oldest, archived ones included, and return it."""
        conversation = self.conversation(key)
        chosen = conversation.entries[idx : idx + 1] if idx >= 0 else []
        await self._verbs.apply(_deletes(chosen), branch=conversation.branch)
        return next(iter(_messages(chosen)), None)

    async def delete_messages(self, key: str, status: MessageStatus | None = None) -> None:
        """Delete the messages of a session; ``status=None`` means all. They stay in the history."""
        conversation = self.conversation(key)
        await self._verbs.apply(_deletes(conversation.select(status)), branch=conversation.branch)

    async def delete_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Delete the oldest ``n`` active messages and return them."""
        conversation = self.conversation(key)
        oldest = conversation.select(MessageStatus.ACTIVE)[: max(n, 0)]
        await self._verbs.apply(_deletes(oldest), branch=conversation.branch)
        return _messages(oldest)

    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Archive what can be archived of the oldest ``n`` active messages and return it."""
        conversation = self.conversation(key)
        oldest = conversation.select(MessageStatus.ACTIVE)[: max(n, 0)]
        archived = [entry for entry in oldest if not is_pinned(entry)]
        if archived:
            await self.archive_through(key, archived[-1].key, conversation.branch)
        return _messages(archived)

    async def get_keys(self) -> list[str]:
        """Return the ids of all sessions that have messages."""
        entries = self.memory.list(_CHATS, prefix=True, memory_type=MemoryType.MESSAGE)
        return [_session(path) for path in sorted({entry.entity_path for entry in entries})]

    # --- what AMFSMemory needs besides ----------------------------------------------------------------------

    def conversation(self, key: str, branch: str | None = None) -> Conversation:
        """Return a session as it stands on a branch (default: the current one), without recording a read."""
        branch = branch or self.memory.branch
        entries = self.memory.list(chat_path(key), memory_type=MemoryType.MESSAGE, branch=branch)
        boundary = max((state.key for state in self._boundaries(key, branch)), default="")
        ordered = sorted(entries, key=lambda entry: entry.key)
        _ids.start_after(boundary, *(entry.key for entry in ordered[-1:]))
        self._met.add((key, branch))
        return Conversation(branch, ordered, boundary)

    async def append(self, key: str, messages: Sequence[ChatMessage]) -> list[Entry]:
        """Append messages to a session in one transaction and return the versions made."""
        if not messages:
            return []
        branch = self.memory.branch
        if (key, branch) not in self._met:
            # A clock that was set back since the last process must not put new messages before old ones.
            self.conversation(key, branch)
        return await self._verbs.apply(_puts(key, _ids.batch(len(messages)), messages), branch=branch)

    async def archive_through(self, key: str, last: str, branch: str) -> None:
        """Move the boundary to a message, unless it is further already."""
        await self._verbs.apply(self._move_boundary(key, last, branch), branch=branch)

    # --- inside ---------------------------------------------------------------------------------------------

    async def _add_archived(
        self, conversation: Conversation, key: str, messages: Sequence[ChatMessage], removed: Sequence[Entry]
    ) -> None:
        if not messages:
            await self._verbs.apply(_deletes(removed), branch=conversation.branch)
            return
        keys = _ids.batch(len(messages))
        if len(removed) < len(conversation.select(MessageStatus.ACTIVE)):
            # "~" sorts after every character of a key: behind the boundary, before the first active message.
            after = conversation.boundary.partition("~")[0] or _BEFORE_ALL
            keys = [f"{after}~{new}" for new in keys]
        operations = [
            *_deletes(removed),
            *_puts(key, keys, messages),
            *self._move_boundary(key, keys[-1], conversation.branch),
        ]
        await self._verbs.apply(operations, branch=conversation.branch)

    def _move_boundary(self, key: str, last: str, branch: str) -> list[Operation]:
        standing = self._boundaries(key, branch)
        if any(state.key >= last for state in standing):
            return []
        value = {"archived_through": last}
        put = Put(entity_path=state_path(key), key=last, value=value, memory_type=MemoryType.MESSAGE)
        return [put, *_deletes(standing)]

    def _boundaries(self, key: str, branch: str) -> list[Entry]:
        return self.memory.list(state_path(key), memory_type=MemoryType.MESSAGE, branch=branch)

    # --- by reference ---------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return another store on the same handle."""
        return type(self)(memory=self.memory)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle where the messages are, never the messages."""
        return _restore, (type(self), refer(self.memory).model_dump())


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


def chat_path(session: str) -> str:
    """Return the entity path of the messages of a session."""
    return f"{_CHATS}/{_segment(session)}"


def state_path(session: str) -> str:
    """Return the entity path of the archive boundary of a session."""
    return f"{_STATES}/{_segment(session)}"


def is_pinned(entry: Entry) -> bool:
    """Whether a message is never archived."""
    return entry.value["role"] in _PINNED


def _segment(session: str) -> str:
    return session.replace("%", "%25").replace("/", "%2F")


def _session(path: str) -> str:
    return path.removeprefix(f"{_CHATS}/").replace("%2F", "/").replace("%25", "%")


def _puts(session: str, keys: Iterable[str], messages: Iterable[ChatMessage]) -> list[Operation]:
    path = chat_path(session)
    return [
        Put(entity_path=path, key=key, value=message.model_dump(mode="json"), memory_type=MemoryType.MESSAGE)
        for key, message in zip(keys, messages, strict=True)
    ]


def _deletes(entries: Iterable[Entry]) -> list[Operation]:
    return [Delete(entity_path=entry.entity_path, key=entry.key) for entry in entries]


def _messages(entries: Iterable[Entry]) -> list[ChatMessage]:
    return [ChatMessage.model_validate(entry.value) for entry in entries]


def _restore(kind: type[AMFSChatStore], reference: dict[str, str]) -> AMFSChatStore:
    found = Reference.model_validate(reference)
    return kind(memory=found.find() or found.open())
