"""AMFSChatStore: chat messages as entries of an AMFS database, one entry per message.

Where they stand, and how they are archived, ``amfs.frameworks.conversations`` says. System and developer messages are
never archived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
from llama_index.memory.amfs.reference import Reference, refer
from pydantic import ConfigDict, Field, PrivateAttr

from amfs import AgentMemory, AsyncAgentMemory
from amfs.frameworks.conversations import CHATS, Conversation, Standing, deletions, session_of
from amfs.models import Entry, MemoryType, Operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["AMFSChatStore", "is_pinned", "select"]

_PINNED = frozenset({MessageRole.SYSTEM.value, MessageRole.DEVELOPER.value})


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
    _conversations: dict[str, Conversation] = PrivateAttr(default_factory=dict)

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
        standing = self.standing(key)
        start = offset or 0
        entries = select(standing, status)[start : None if limit is None else start + limit]
        foreign = [(entry.entity_path, entry.key) for entry in entries if entry.agent_id != self.memory.agent_id]
        if foreign:
            await self._verbs.read_many(foreign, branch=standing.branch)
        return _messages(entries)

    async def count_messages(self, key: str, status: MessageStatus | None = MessageStatus.ACTIVE) -> int:
        """Return how many messages a session has; ``status=None`` means all."""
        return len(select(self.standing(key), status))

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
            standing = self.standing(key)
            await self._add_archived(
                standing, key, messages, before_active=bool(select(standing, MessageStatus.ACTIVE))
            )

    async def set_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Replace all messages of a session in one transaction. The replaced ones stay in the history."""
        standing = self.standing(key)
        removed = deletions(standing.entries)
        if status is MessageStatus.ACTIVE:
            added = self.conversation(key).additions(standing.branch, _values(messages))
            await self._verbs.apply([*removed, *added], branch=standing.branch)
        else:
            await self._add_archived(standing, key, messages, removed=removed)

    async def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Delete the message at a position counted from the oldest, archived ones included, and return it."""
        standing = self.standing(key)
        chosen = standing.entries[idx : idx + 1] if idx >= 0 else []
        await self._verbs.apply(deletions(chosen), branch=standing.branch)
        return next(iter(_messages(chosen)), None)

    async def delete_messages(self, key: str, status: MessageStatus | None = None) -> None:
        """Delete the messages of a session; ``status=None`` means all. They stay in the history."""
        standing = self.standing(key)
        await self._verbs.apply(deletions(select(standing, status)), branch=standing.branch)

    async def delete_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Delete the oldest ``n`` active messages and return them."""
        standing = self.standing(key)
        oldest = select(standing, MessageStatus.ACTIVE)[: max(n, 0)]
        await self._verbs.apply(deletions(oldest), branch=standing.branch)
        return _messages(oldest)

    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Archive what can be archived of the oldest ``n`` active messages and return it."""
        standing = self.standing(key)
        oldest = select(standing, MessageStatus.ACTIVE)[: max(n, 0)]
        archived = [entry for entry in oldest if not is_pinned(entry)]
        if archived:
            await self.archive_through(key, archived[-1].key, standing.branch)
        return _messages(archived)

    async def get_keys(self) -> list[str]:
        """Return the ids of all sessions that have messages."""
        entries = self.memory.list(CHATS, prefix=True, memory_type=MemoryType.MESSAGE)
        return [session_of(path) for path in sorted({entry.entity_path for entry in entries})]

    # --- what AMFSMemory needs besides ----------------------------------------------------------------------

    def conversation(self, key: str) -> Conversation:
        """Return the messages of a session, wherever they stand."""
        return self._conversations.setdefault(key, Conversation(self.memory, key))

    def standing(self, key: str, branch: str | None = None) -> Standing:
        """Return a session as it stands on a branch (default: the current one), without recording a read."""
        return self.conversation(key).standing(branch or self.memory.branch)

    async def append(self, key: str, messages: Sequence[ChatMessage]) -> list[Entry]:
        """Append messages to a session in one transaction and return the versions made."""
        if not messages:
            return []
        branch = self.memory.branch
        return await self._verbs.apply(self.conversation(key).additions(branch, _values(messages)), branch=branch)

    async def archive_through(self, key: str, last: str, branch: str) -> None:
        """Move the boundary to a message, unless it is further already."""
        await self._verbs.apply(self.conversation(key).archival(branch, last), branch=branch)

    # --- inside ---------------------------------------------------------------------------------------------

    async def _add_archived(
        self,
        standing: Standing,
        key: str,
        messages: Sequence[ChatMessage],
        *,
        removed: Sequence[Operation] = (),
        before_active: bool = False,
    ) -> None:
        added = self.conversation(key).archived_additions(standing, _values(messages), before_active=before_active)
        await self._verbs.apply([*removed, *added], branch=standing.branch)

    # --- by reference ---------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return another store on the same handle."""
        return type(self)(memory=self.memory)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle where the messages are, never the messages."""
        return _restore, (type(self), refer(self.memory).model_dump())


def select(standing: Standing, status: MessageStatus | None) -> list[Entry]:
    """Return the messages of one status, or all of them."""
    if status is None:
        return standing.entries
    wanted = status is MessageStatus.ARCHIVED
    return [entry for entry in standing.entries if (standing.is_archived(entry) and not is_pinned(entry)) is wanted]


def is_pinned(entry: Entry) -> bool:
    """Whether a message is never archived."""
    return entry.value["role"] in _PINNED


def _values(messages: Iterable[ChatMessage]) -> list[dict[str, Any]]:
    return [message.model_dump(mode="json") for message in messages]


def _messages(entries: Iterable[Entry]) -> list[ChatMessage]:
    return [ChatMessage.model_validate(entry.value) for entry in entries]


def _restore(kind: type[AMFSChatStore], reference: dict[str, str]) -> AMFSChatStore:
    found = Reference.model_validate(reference)
    return kind(memory=found.find() or found.open())
