"""AMFSMemory: LlamaIndex's Memory with its messages in AMFS."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar
from weakref import WeakValueDictionary

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.memory import Memory
from llama_index.core.memory.memory import DEFAULT_TOKEN_LIMIT, generate_chat_store_key
from llama_index.core.storage.chat_store.base_db import MessageStatus
from llama_index.memory.amfs.block import AMFSMemoryBlock
from llama_index.memory.amfs.chat_store import AMFSChatStore
from llama_index.memory.amfs.messages import from_value
from llama_index.memory.amfs.recall import Recall, Recollection, fitting, question_of, with_quotes
from llama_index.memory.amfs.reference import Reference, refer
from llama_index.memory.amfs.tokens import count_tokens
from llama_index.memory.amfs.window import Counted, Window
from pydantic import ConfigDict, Field, InstanceOf, PrivateAttr, model_serializer, model_validator

from amfs import AgentMemory
from amfs.errors import InvalidInputError, NotSupportedError
from amfs.models import Event, EventType

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Coroutine, Sequence
    from types import TracebackType

    from llama_index.core.base.llms.types import ContentBlock
    from llama_index.core.memory import BaseMemoryBlock

    from amfs.models import Entry

__all__ = ["AMFSMemory"]

T = TypeVar("T")

_EVENTS_LOOKED_AT = 100
_WITHOUT_MESSAGES = frozenset(
    {
        EventType.READ,
        EventType.CROSS_AGENT_READ,
        EventType.CONTEXT,
        EventType.OUTCOME,
        EventType.BRANCH_CREATED,
        EventType.TAG_CREATED,
        EventType.TAG_DELETED,
    }
)
"""Events that neither add, remove nor archive a message."""


class AMFSMemory(Memory):
    """LlamaIndex's Memory on an AMFS database: it survives restarts and has a timeline and branches.

    Make one with ``AMFSMemory.from_memory(mem, session_id=...)``, or with ``from_defaults`` if there is no
    AgentMemory yet. Pass it to ``agent.run(memory=...)`` or to a chat engine. Two of them with the same
    database and session id hold the same conversation, in one process or in two.

    It works on the current branch of its AgentMemory, and inside ``mem.experiment(...)`` on the experiment's.

    When the conversation holds more tokens than ``token_limit * chat_history_token_ratio``, the oldest whole
    turns are archived: left out of ``get``, kept in ``get_all``. The last turn stays, however long, and so do
    system messages. Tool calls and their results are counted and kept together.

    With ``recall=``, ``get`` brings what memory knows of the newest question, as one message of quotes that is never
    stored and takes only what the messages leave of ``token_limit``. What of that fails is logged and kept in
    ``failures``; the messages come all the same.

    Pickling, ``to_dict`` and Context serialisation carry where the messages are, never the messages. Memory
    blocks come back only while the memory they belong to is alive; otherwise pass them to ``from_dict`` as
    ``memory_blocks=``.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    sql_store: AMFSChatStore = Field(exclude=True, description="The chat store that the messages go through.")

    recall: InstanceOf[Recall] | None = Field(None, frozen=True, description="How much memory brings, if anything.")

    _live: ClassVar[WeakValueDictionary[str, AMFSMemory]] = WeakValueDictionary()

    _name: str = PrivateAttr(default_factory=lambda: uuid.uuid4().hex)
    _opened: AgentMemory | None = PrivateAttr(default=None)
    _windows: dict[str, Window] = PrivateAttr(default_factory=dict)
    _counting: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _recollection: Recollection = PrivateAttr()

    # --- making one -----------------------------------------------------------------------------------------

    @classmethod
    def from_memory(
        cls,
        memory: AgentMemory,
        session_id: str | None = None,
        *,
        recall: Recall | int | bool | None = None,
        **settings: Any,
    ) -> Self:
        """Return a conversation in an AgentMemory, whose agent is the author of its messages.

        Args:
            memory: The handle to work through. It stays the caller's to close.
            session_id: Which conversation. Default: a new one.
            recall: How much memory brings of what it knows: a ``Recall``, a limit, or True for the usual. Default:
                nothing.
            settings: The other fields of LlamaIndex's Memory: token_limit, memory_blocks, tokenizer_fn …

        Raises:
            InvalidInputError: The recall is not one.
            NotSupportedError: A memory block would keep in the same database what this memory keeps already.
        """
        settings = {"token_limit": DEFAULT_TOKEN_LIMIT, **settings}
        session_id = session_id or generate_chat_store_key()
        store = AMFSChatStore(memory=memory)
        return cls(sql_store=store, session_id=session_id, recall=Recall.of(recall), **settings)

    @classmethod
    def from_defaults(  # type: ignore[override]
        cls,
        session_id: str | None = None,
        chat_history: list[ChatMessage] | None = None,
        token_limit: int = DEFAULT_TOKEN_LIMIT,
        memory_blocks: list[BaseMemoryBlock[Any]] | None = None,
        tokenizer_fn: Callable[[str], list[Any]] | None = None,
        *,
        memory: AgentMemory | None = None,
        database: str | os.PathLike[str] | None = None,
        agent_id: str = "llamaindex",
        namespace: str | None = None,
        **settings: Any,
    ) -> Self:
        """Return a conversation, as LlamaIndex's own ``from_defaults`` does, in an AgentMemory or a database.

        Args:
            session_id: Which conversation. Default: a new one.
            chat_history: If there are any, these messages replace those of the conversation.
            token_limit: How many tokens the conversation and the memory blocks may take.
            memory_blocks: LlamaIndex memory blocks; they get what is archived.
            tokenizer_fn: Counts tokens. Default: LlamaIndex's.
            memory: The handle to work through. Without it one is opened from the next three arguments, and
                ``close()`` closes it.
            database: A path; as in AgentMemory.
            agent_id: The author of the messages.
            namespace: As in AgentMemory.
            settings: ``recall``, and the other fields of LlamaIndex's Memory.

        Raises:
            InvalidInputError: ``memory`` and ``database`` or ``namespace`` were both given.
        """
        if memory is not None and (database is not None or namespace is not None):
            raise InvalidInputError("pass either memory= or database= and namespace=, not both")
        handle = memory or AgentMemory(agent_id, database, namespace=namespace)
        made = cls.from_memory(
            handle,
            session_id,
            token_limit=token_limit,
            memory_blocks=memory_blocks or [],
            tokenizer_fn=tokenizer_fn,
            **settings,
        )
        made._opened = None if memory else handle
        if chat_history:
            made.set(chat_history)
        return made

    @classmethod
    def class_name(cls) -> str:
        """Return the name used in serialisation."""
        return "AMFSMemory"

    @property
    def agent_memory(self) -> AgentMemory:
        """The AMFS handle this memory works through: its timeline, branches and experiments."""
        return self.sql_store.memory

    @property
    def failures(self) -> tuple[Exception, ...]:
        """What failed in recalling, oldest first; of very many, the last 100."""
        return self._recollection.failures.newest

    @property
    def failed(self) -> int:
        """How often recalling failed."""
        return self._recollection.failures.count

    def on_branch(self, name: str) -> Self:
        """Return this conversation pinned to a branch, whichever is the current one, in an experiment or not.

        Raises:
            BranchNotFoundError: There is no such branch.
        """
        twin = self._twin(AMFSChatStore(memory=self.agent_memory.on_branch(name)))
        twin._name = uuid.uuid4().hex
        twin.model_post_init(None)
        return twin

    def __repr__(self) -> str:
        """Return which conversation this is, and where."""
        return f"{type(self).__name__}(session_id={self.session_id!r}, memory={self.agent_memory!r})"

    def __str__(self) -> str:
        """Return the same; pydantic's would print every setting."""
        return repr(self)

    def close(self) -> None:
        """Close the database if this memory opened it. Safe to call twice."""
        if self._opened is not None:
            self._opened.close()

    def __enter__(self) -> Self:
        """Return the memory."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    # --- LlamaIndex's contract ------------------------------------------------------------------------------

    async def aget(self, input: str | ChatMessage | None = None, **block_kwargs: Any) -> list[ChatMessage]:  # noqa: A002
        """Return the active messages, with the content of memory blocks and what is recalled, if there is any."""
        stored = await self.sql_store.get_messages(self.session_id) if self.recall or not self.memory_blocks else []
        messages = await super().aget(input, **block_kwargs) if self.memory_blocks else stored
        return await self._informed(messages, question_of(input, stored)) if self.recall else messages

    async def aput(self, message: ChatMessage) -> None:
        """Add a message, and archive the oldest turns if that is too much."""
        await self.aput_messages([message])

    async def aput_messages(self, messages: list[ChatMessage]) -> None:
        """Add messages in one transaction, and archive the oldest turns if that is too much."""
        entries = await self.sql_store.append(self.session_id, messages)
        if entries:
            branch = entries[0].branch
            boundary = self._account(branch, entries, messages)
            if boundary is not None:
                await self._archive(branch, boundary)

    def get(self, input: str | ChatMessage | None = None, **block_kwargs: Any) -> list[ChatMessage]:  # noqa: A002
        """Return the active messages, with the content of memory blocks and what is recalled, if there is any."""
        return _run(self.aget(input, **block_kwargs))

    def get_all(self, status: MessageStatus | None = None) -> list[ChatMessage]:
        """Return all messages, or those of one status."""
        return _run(self.aget_all(status))

    def put(self, message: ChatMessage) -> None:
        """Add a message, and archive the oldest turns if that is too much."""
        _run(self.aput(message))

    def put_messages(self, messages: list[ChatMessage]) -> None:
        """Add messages in one transaction, and archive the oldest turns if that is too much."""
        _run(self.aput_messages(messages))

    def set(self, messages: list[ChatMessage]) -> None:
        """Make these the active messages. Nothing is erased: those that stood before are archived."""
        _run(self.aset(messages))

    def reset(self) -> None:
        """Delete all messages. They stay in the history of the database."""
        _run(self.areset())

    async def _informed(self, messages: list[ChatMessage], question: str) -> list[ChatMessage]:
        """Return messages with what memory knows of a question, as far as they leave room for it."""
        known = await self._recollection.quotes(question)
        room = self.token_limit - self._estimate_token_count(messages) if known else 0
        quotes = fitting(known, room, self._estimate_token_count)
        return with_quotes(messages, quotes, question, self.insert_method) if quotes else messages

    # --- the window -----------------------------------------------------------------------------------------

    def _estimate_token_count(
        self, message_or_blocks: str | ChatMessage | list[ChatMessage] | list[ContentBlock]
    ) -> int:
        return count_tokens(self, message_or_blocks)

    def _account(self, branch: str, entries: Sequence[Entry], messages: Sequence[ChatMessage]) -> str | None:
        """Count what was just written; return the key up to which to archive if it is too much.

        Nothing is awaited under the lock, and the boundary is a key, not a number of messages: writers that
        find the limit passed at the same time, here or in another process, archive the same messages and not
        twice as many.
        """
        with self._counting:
            window = self._windows.get(branch)
            if window is None or self._has_moved(window, branch, entries[0].seq):
                window = self._windows[branch] = self._count_again(branch, entries[-1].seq)
            elif window.seq < entries[-1].seq:
                for entry, message in zip(entries, messages, strict=True):
                    window.add(self._counted(entry, message))
                window.seq = entries[-1].seq
            moved = window.overflow(self.token_limit * self.chat_history_token_ratio, self.token_flush_size)
            return window.boundary if moved else None

    def _has_moved(self, window: Window, branch: str, seq: int) -> bool:
        """Whether the conversation was touched between the window and our own message at ``seq``."""
        if seq <= window.seq + 1:
            return False
        events = self.agent_memory.timeline(
            agent_id="*",
            branch=branch,
            since=window.seq + 1,
            until=seq - 1,
            limit=_EVENTS_LOOKED_AT,
            include_messages=True,
        )
        return events.next_cursor is not None or any(self._touches(event, window) for event in events)

    def _touches(self, event: Event, window: Window) -> bool:
        if event.event_type not in (EventType.WRITE, EventType.DELETE):
            return event.event_type not in _WITHOUT_MESSAGES
        path, key = event.details["entity_path"], event.details["key"]
        conversation = self.sql_store.conversation(self.session_id)
        if path != conversation.state_path:
            return path in (conversation.path, conversation.kept_path)
        known = key == window.boundary and event.event_type is EventType.WRITE
        return not known and key >= window.boundary

    def _count_again(self, branch: str, seq: int) -> Window:
        standing = self.sql_store.standing(self.session_id, branch=branch)
        newest = max((entry.seq for entry in standing.entries), default=0)
        window = Window(max(seq, newest), standing.boundary)
        for entry in standing.entries:
            window.add(self._counted(entry, from_value(entry.value)))
        return window

    def _counted(self, entry: Entry, message: ChatMessage) -> Counted:
        tokens = self._estimate_token_count(message)
        is_kept = entry.entity_path == self.sql_store.conversation(self.session_id).kept_path
        return Counted(entry.key, tokens, message.role == MessageRole.USER, is_kept)

    async def _archive(self, branch: str, boundary: str) -> None:
        ejected = self._ejected(branch, boundary) if self.memory_blocks else []
        try:
            await self.sql_store.archive_through(self.session_id, boundary, branch)
        except BaseException:
            self._windows.pop(branch, None)
            raise
        blocks = [
            block.aput(
                [message.model_copy(deep=True) for message in ejected],
                from_short_term_memory=True,
                session_id=self.session_id,
            )
            for block in self.memory_blocks
        ]
        await asyncio.gather(*blocks)

    def _ejected(self, branch: str, boundary: str) -> list[ChatMessage]:
        active = self.sql_store.standing(self.session_id, branch=branch)
        return [
            from_value(entry.value) for entry in active.entries if entry.key <= boundary and not active.is_kept(entry)
        ]

    # --- by reference ---------------------------------------------------------------------------------------

    def model_post_init(self, context: Any, /) -> None:
        """Make the memory known, so that what is restored in this process shares its handle and blocks."""
        super().model_post_init(context)
        for block in self.memory_blocks:
            if isinstance(block, AMFSMemoryBlock) and block.would_repeat(self.agent_memory):
                raise NotSupportedError(
                    f"the memory block {block.name!r} would keep what AMFSMemory keeps already; use recall= of "
                    "AMFSMemory instead, or make the block with accept_short_term_memory=False"
                )
        self._recollection = Recollection(self.agent_memory, self.recall or Recall(limit=0))
        AMFSMemory._live[self._name] = self

    @model_serializer(mode="plain")
    def custom_model_dump(self) -> dict[str, Any]:
        """Return the settings and where the messages are."""
        return {
            "token_limit": self.token_limit,
            "token_flush_size": self.token_flush_size,
            "chat_history_token_ratio": self.chat_history_token_ratio,
            "insert_method": self.insert_method.value,
            "image_token_size_estimate": self.image_token_size_estimate,
            "audio_token_size_estimate": self.audio_token_size_estimate,
            "video_token_size_estimate": self.video_token_size_estimate,
            "document_token_size_estimate": self.document_token_size_estimate,
            "session_id": self.session_id,
            "recall": None if self.recall is None else self.recall.dump(),
            "memory_blocks": [block.name for block in self.memory_blocks],
            "original": self._name,
            "reference": refer(self.agent_memory).model_dump(),
            "class_name": self.class_name(),
        }

    @model_validator(mode="before")
    @classmethod
    def _restore(cls, values: Any) -> Any:
        """Turn a reference back into the handle it stands for, and into what its original had besides."""
        if not isinstance(values, dict) or "reference" not in values:
            return values
        values = {name: value for name, value in values.items() if name != "class_name"}
        reference, original = Reference.model_validate(values.pop("reference")), values.pop("original", None)
        source = cls._live.get(original)
        blocks = _blocks(values.get("memory_blocks", []), source)
        handle = reference.find() or reference.open()
        if source is not None:
            values = {
                "tokenizer_fn": source.tokenizer_fn,
                "memory_blocks_template": source.memory_blocks_template,
            } | values
        shared = source is not None and source.agent_memory is handle
        store = source.sql_store if shared else AMFSChatStore(memory=handle)
        recall = Recall.of(values.get("recall"))
        return {**values, "memory_blocks": blocks, "recall": recall, "sql_store": store}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return another memory on the same conversation, with settings of its own."""
        return self._twin(self.sql_store)

    def _twin(self, store: AMFSChatStore) -> Self:
        twin = self.model_copy(update={"sql_store": store, "memory_blocks": list(self.memory_blocks)})
        twin._opened = None
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle where the messages are, never the messages."""
        return type(self).from_dict, (self.to_dict(),)


def _blocks(named: list[Any], source: AMFSMemory | None) -> list[Any]:
    """Return the blocks of a restored memory, given themselves or the names its original had."""
    missing = [name for name in named if isinstance(name, str)]
    if not missing:
        return named
    if source is None:
        raise NotSupportedError(
            f"memory blocks cannot be restored by reference: {', '.join(missing)}. "
            "Make the memory with its blocks and pass it to run(), or use from_dict(..., memory_blocks=[...])"
        )
    return list(source.memory_blocks)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on a thread of its own where an event loop is running already.

    LlamaIndex's own runner reports every RuntimeError as nested event loops, which hides what AMFS has to
    say.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        in_loop = False
    else:
        in_loop = True
    if in_loop:
        with ThreadPoolExecutor(max_workers=1) as executor:
            return executor.submit(contextvars.copy_context().run, _run, coroutine).result()
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(coroutine)
