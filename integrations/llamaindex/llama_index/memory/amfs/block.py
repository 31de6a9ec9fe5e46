"""AMFSMemoryBlock: what memory knows, and what a window drops, for those who keep LlamaIndex's own Memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from llama_index.core.memory import BaseMemoryBlock
from llama_index.core.storage.chat_store.base_db import MessageStatus
from llama_index.core.utils import get_tokenizer
from llama_index.memory.amfs.chat_store import AMFSChatStore
from llama_index.memory.amfs.recall import Recall, Recollection, fitting, question_of
from pydantic import ConfigDict, Field, InstanceOf, PrivateAttr

from amfs import AgentMemory
from amfs.errors import InvalidInputError

if TYPE_CHECKING:
    from llama_index.core.base.llms.types import ChatMessage

__all__ = ["AMFSMemoryBlock"]

_STAMP = "session_id"
"""Where LlamaIndex writes on a message from which session it was dropped."""


class AMFSMemoryBlock(BaseMemoryBlock[str]):
    """A memory block that quotes what memory knows of the newest question, and keeps the messages a window drops.

    The quotes are those of ``AMFSMemory``'s recall. A search that fails brings nothing, and is logged and kept in
    ``failures``. Dropped messages become archived messages of the session in AMFS; a write that fails is raised.

    Args:
        memory: The memory to search and to write to. It stays the caller's to close.
        recall: How much is brought: a ``Recall``, a limit, or False for nothing.
        settings: The other fields: session_id, tokenizer_fn, and those of LlamaIndex's ``BaseMemoryBlock``.

    Raises:
        InvalidInputError: The recall is not one.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    name: str = Field("amfs", description="The name of the memory block.")
    description: str | None = Field("What agents stored earlier, quoted for reference.")
    priority: int = Field(1, description="When the block is truncated; 0: never. Quotes make way for messages.")
    memory: AgentMemory = Field(exclude=True, repr=False, description="The AMFS handle to work through.")
    recall: InstanceOf[Recall] | None = Field(frozen=True, description="How much is brought.")
    session_id: str | None = Field(None, description="The session of what is kept. Default: that of the Memory.")
    tokenizer_fn: Callable[[str], list[Any]] = Field(
        default_factory=get_tokenizer, exclude=True, repr=False, description="Counts tokens when quotes are cut."
    )

    _store: AMFSChatStore = PrivateAttr()
    _recollection: Recollection = PrivateAttr()

    def __init__(self, memory: AgentMemory, *, recall: Recall | int | bool | None = True, **settings: Any) -> None:
        super().__init__(memory=memory, recall=Recall.of(recall), **settings)

    def model_post_init(self, context: Any, /) -> None:
        """Prepare to search and to write."""
        super().model_post_init(context)
        self._store = AMFSChatStore(memory=self.memory)
        self._recollection = Recollection(self.memory, self.recall or Recall(limit=0))

    @property
    def failures(self) -> tuple[Exception, ...]:
        """What failed in searching, oldest first; of very many, the last 100."""
        return self._recollection.failures.newest

    @property
    def failed(self) -> int:
        """How often searching failed."""
        return self._recollection.failures.count

    def would_repeat(self, memory: AgentMemory) -> bool:
        """Whether the block would write dropped messages to where a memory has them already."""
        own = self.memory
        return self.accept_short_term_memory and (own.database, own.namespace) == (memory.database, memory.namespace)

    async def _aget(self, messages: list[ChatMessage] | None = None, **block_kwargs: Any) -> str:  # noqa: ARG002
        """Return what memory knows of the newest question, as quotes."""
        return await self._recollection.quotes(question_of(None, messages or []))

    async def _aput(self, messages: list[ChatMessage]) -> None:
        """Keep messages as archived ones of their session.

        Raises:
            InvalidInputError: Neither the block nor a message says which session that is. Nothing was kept.
        """
        sessions: dict[str, list[ChatMessage]] = {}
        for message in messages:
            kept = message.model_copy(update={"additional_kwargs": {**message.additional_kwargs}})
            stamped = kept.additional_kwargs.pop(_STAMP, None)
            session = self.session_id or stamped
            if session is None:
                raise InvalidInputError("in which session are these messages to be kept? Pass session_id=")
            sessions.setdefault(session, []).append(kept)
        for session, dropped in sessions.items():
            await self._store.add_messages(session, dropped, MessageStatus.ARCHIVED)

    async def atruncate(self, content: str, tokens_to_truncate: int) -> str | None:
        """Return quotes without the last ones, whole, so that they take so many tokens less; None if none is left."""
        if not content:
            return None
        room = self._count(content) - tokens_to_truncate
        return fitting(content, room, self._count) or None

    def _count(self, text: str) -> int:
        return len(self.tokenizer_fn(text))

    # --- by reference ---------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return another block on the same handle."""
        return self.model_copy()
