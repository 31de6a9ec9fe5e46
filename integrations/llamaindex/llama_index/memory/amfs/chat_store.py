"""AMFSChatStore: chat messages as entries of an AMFS database, one entry per message.

Where they stand, and how they are archived, ``amfs.frameworks.conversations`` says. System and developer messages are
never archived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
from llama_index.memory.amfs.acting import acting, going_on
from llama_index.memory.amfs.messages import from_value, stand_in, to_message
from llama_index.memory.amfs.reference import Reference, refer
from pydantic import ConfigDict, Field, PrivateAttr

from amfs import AgentMemory, AsyncAgentMemory
from amfs.errors import InvalidValueError
from amfs.frameworks.conversations import CHATS, Conversation, Message, Standing, session_of
from amfs.models import Entry, MemoryType, Operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from llama_index.core.base.llms.types import ChatMessage

__all__ = ["AMFSChatStore"]


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
        standing = self.standing(key, status)
        start = offset or 0
        entries = standing.entries[start : None if limit is None else start + limit]
        async with going_on(self._verbs, key) as memory:
            foreign = [(entry.entity_path, entry.key) for entry in entries if entry.agent_id != memory.agent_id]
            if foreign:
                await memory.read_many(foreign, branch=standing.branch)
        return _messages(entries)

    async def count_messages(self, key: str, status: MessageStatus | None = MessageStatus.ACTIVE) -> int:
        """Return how many messages a session has; ``status=None`` means all."""
        return len(self.standing(key, status).entries)

    async def add_message(self, key: str, message: ChatMessage, status: MessageStatus = MessageStatus.ACTIVE) -> None:
        """Append a message to a session."""
        await self.add_messages(key, [message], status)

    async def add_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Append messages to a session in one transaction; archived ones go before the active ones."""
        if status is MessageStatus.ACTIVE:
            await self.append(key, messages)
        elif messages:
            active, new = self.standing(key), list(map(to_message, messages))
            added = self.conversation(key).archived_additions(active, new, before_active=bool(active.entries))
            await self._apply(key, added, active.branch)

    async def set_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Make these the active messages (or the archived ones) of a session, in one transaction.

        Nothing is erased: those that stood before are archived, system messages too. If the new ones begin with all
        that are active, or with all since the last that were set, only the others are added.
        """
        conversation, standing = self.conversation(key), self.standing(key)
        new = list(map(to_message, messages))
        if status is MessageStatus.ARCHIVED:
            clearing = self._clearing(standing, key)
            added = conversation.archived_additions(standing, new, before_active=False)
            await self._apply(key, added or clearing, standing.branch)
            return
        known = self._known(standing, key, new)
        clearing = [] if known is not None else self._clearing(standing, key)
        added = conversation.additions(standing.branch, new[known or 0 :])
        await self._apply(key, [*clearing, *added], standing.branch)

    async def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Delete the message at a position counted from the oldest, archived ones included, and return it."""
        standing = self.standing(key, None)
        return next(iter(await self._delete(key, standing, standing.entries[idx : idx + 1] if idx >= 0 else [])), None)

    async def delete_messages(self, key: str, status: MessageStatus | None = None) -> None:
        """Delete the messages of a session; ``status=None`` means all. They stay in the history."""
        standing = self.standing(key, status)
        await self._delete(key, standing, standing.entries)

    async def delete_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Delete the oldest ``n`` active messages and return them."""
        standing = self.standing(key)
        return await self._delete(key, standing, standing.entries[: max(n, 0)])

    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Archive what can be archived of the oldest ``n`` active messages and return it."""
        standing = self.standing(key)
        archived = [entry for entry in standing.entries[: max(n, 0)] if not standing.is_kept(entry)]
        if archived:
            await self.archive_through(key, archived[-1].key, standing.branch)
        return _messages(archived)

    async def get_keys(self) -> list[str]:
        """Return the ids of all sessions that have messages."""
        message = MemoryType.MESSAGE
        entries = [entry for path in CHATS for entry in self.memory.list(path, prefix=True, memory_type=message)]
        return sorted({session_of(entry.entity_path) for entry in entries})

    # --- what AMFSMemory needs besides ----------------------------------------------------------------------

    def conversation(self, key: str) -> Conversation:
        """Return the messages of a session, wherever they stand."""
        if key not in self._conversations:
            self._conversations[key] = Conversation(self.memory, key)
        return self._conversations[key]

    def standing(
        self, key: str, status: MessageStatus | None = MessageStatus.ACTIVE, branch: str | None = None
    ) -> Standing:
        """Return messages of a session as they stand on a branch (default: the current one); it records no read."""
        conversation, branch = self.conversation(key), branch or self.memory.branch
        if status is MessageStatus.ACTIVE:
            return conversation.active(branch)
        standing = conversation.standing(branch)
        return standing if status is None else standing.archived()

    async def append(self, key: str, messages: Sequence[ChatMessage]) -> list[Entry]:
        """Append messages to a session in one transaction and return the versions made.

        Raises:
            InvalidValueError: A message was refused. All others are stored, and in its place a text that says so.
        """
        if not messages:
            return []
        branch, refused = self.memory.branch, list[InvalidValueError]()
        new = [_stored(message, refused) for message in messages]
        added = await self._apply(key, self.conversation(key).additions(branch, new), branch)
        if refused:
            raise refused[0]
        return added[: len(messages)]

    async def archive_through(self, key: str, last: str, branch: str) -> None:
        """Move the boundary to a message, unless it is further already."""
        await self._apply(key, self.conversation(key).archival(branch, last), branch)

    @property
    def verbs(self) -> AsyncAgentMemory:
        """The handle, for calls that are awaited."""
        return self._verbs

    # --- inside ---------------------------------------------------------------------------------------------

    async def _apply(self, key: str, operations: Sequence[Operation], branch: str) -> list[Any]:
        """Carry out a batch in the name of whoever acts here."""
        with acting(self._verbs, key) as memory:
            return await memory.apply(operations, branch=branch)

    def _known(self, active: Standing, key: str, new: Sequence[Message]) -> int | None:
        """Return how many messages stand already as the beginning of the conversation, None if others begin it."""
        everything = self.conversation(key).standing(active.branch).since_cleared() if active.boundary else active
        for standing in (active, everything):
            known = [entry.value for entry in standing.entries]
            if [message.value for message in new[: len(known)]] == known:
                return len(known)
        return None

    def _clearing(self, active: Standing, key: str) -> list[Operation]:
        if not active.entries:
            return []
        return self.conversation(key).clearing(active.branch, active.entries[-1].key)

    async def _delete(self, key: str, standing: Standing, entries: Sequence[Entry]) -> list[ChatMessage]:
        await self._apply(key, self.conversation(key).deletions(standing, entries), standing.branch)
        return _messages(entries)

    # --- by reference ---------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return another store on the same handle."""
        return type(self)(memory=self.memory)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle where the messages are, never the messages."""
        return _restore, (type(self), refer(self.memory).model_dump())


def _stored(message: ChatMessage, refused: list[InvalidValueError]) -> Message:
    try:
        return to_message(message)
    except InvalidValueError as error:
        refused.append(error)
        return stand_in(message, error)


def _messages(entries: Iterable[Entry]) -> list[ChatMessage]:
    return [from_value(entry.value) for entry in entries]


def _restore(kind: type[AMFSChatStore], reference: dict[str, str]) -> AMFSChatStore:
    found = Reference.model_validate(reference)
    return kind(memory=found.find() or found.open())
