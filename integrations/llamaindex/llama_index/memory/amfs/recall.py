"""Recall: what memory knows of a question, brought to a conversation as one message of quotes."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.memory.memory import InsertMethod
from llama_index.memory.amfs.acting import going_on
from pydantic_core import to_jsonable_python

from amfs import AsyncAgentMemory
from amfs.errors import InvalidInputError
from amfs.frameworks.failures import Failures
from amfs.frameworks.filters import checked
from amfs.frameworks.quotes import quoted, without_last
from amfs.models import Entry, EventType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from amfs import AgentMemory
    from amfs.models import Event

__all__ = ["Recall", "Recollection", "fitting", "question_of", "with_quotes"]

_QUERY = 2_000
"""How much of a question is searched for."""

_KEPT = 256
"""Of how many questions the answer of memory is kept."""

_EVENTS_LOOKED_AT = 100
_WITHOUT_ENTRIES = frozenset(
    {
        EventType.READ,
        EventType.CROSS_AGENT_READ,
        EventType.CONTEXT,
        EventType.BRIEF_COMPILED,
        EventType.BRANCH_CREATED,
        EventType.TAG_CREATED,
        EventType.TAG_DELETED,
    }
)
"""Events after which a branch holds the same entries as before."""


@dataclass(frozen=True)
class Recall:
    """How much of what memory knows of a question is brought.

    Args:
        limit: How many entries, at most; 0 brings none.
        filters: What narrows the search for them; the names are those of ``amfs.frameworks.filters.Filters``.
        brief: The entity path whose brief is brought as well; True: that of everything.

    Raises:
        InvalidInputError: The limit is no number from 0, the brief no path, or no search knows a filter.
    """

    limit: int = 5
    filters: Mapping[str, Any] = field(default_factory=dict)
    brief: str | bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        if isinstance(self.limit, bool) or not isinstance(self.limit, int) or self.limit < 0:
            raise InvalidInputError(f"limit must be a number of entries, 0 or more, not {self.limit!r}")
        if not isinstance(self.brief, str | bool):
            raise InvalidInputError(f"brief must be an entity path, True or False, not {self.brief!r:.100}")
        object.__setattr__(self, "filters", checked(self.filters))

    @classmethod
    def of(cls, settings: Recall | dict[str, Any] | int | bool | None) -> Recall | None:
        """Return settings given as such, as a limit, or as what ``dump`` returned; True means the usual ones."""
        match settings:
            case None | False:
                return None
            case True:
                return cls()
            case int():
                return cls(settings)
            case dict():
                return cls._loaded(**settings)
            case Recall():
                return settings
        raise InvalidInputError(f"recall is set by a Recall, a limit, True or False, not by {settings!r:.100}")

    def dump(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        filters = {
            name: {"datetime": value.isoformat()} if isinstance(value, datetime) else value
            for name, value in self.filters.items()
        }
        return to_jsonable_python({"limit": self.limit, "filters": filters, "brief": self.brief})

    @classmethod
    def _loaded(cls, *, filters: dict[str, Any], **settings: Any) -> Self:
        for name in {"since", "until"} & set(filters):
            if isinstance(filters[name], dict):
                filters = {**filters, name: datetime.fromisoformat(filters[name]["datetime"])}
        return cls(filters=filters, **settings)


@dataclass(slots=True)
class _Answer:
    """Quotes that answer a question, and up to where in the log nothing has changed them."""

    quotes: str
    head: int


class Recollection:
    """What memory knows of questions, as quotes, and the searches that failed.

    A question is asked once in a run, as long as the branch holds the same entries. To know that costs one or two
    indexed statements. Messages, reads and notes change no entries; a write, a merge, a rollback and an outcome may.
    """

    def __init__(self, memory: AgentMemory, settings: Recall) -> None:
        self.failures = Failures()
        self._verbs = AsyncAgentMemory(memory)
        self._settings = settings
        self._answers: OrderedDict[tuple[str, str | None, str, str], _Answer] = OrderedDict()
        self._keeping = threading.Lock()

    async def quotes(self, question: str) -> str:
        """Return what memory knows of a question; empty if that is nothing, or if it failed and was noted."""
        with self.failures.guard("bring memories"):
            async with going_on(self._verbs) as memory:
                return await self._known(memory, question)
        return ""

    async def _known(self, memory: AsyncAgentMemory, question: str) -> str:
        run, branch = memory.current_run, memory.branch
        asked = memory.agent_id, None if run is None else run.run_id, branch, question
        head = await _head(memory, branch)
        answer = self._answers.get(asked)
        if answer is not None and not await _has_moved(memory, branch, answer.head, head):
            answer.head = head
            return answer.quotes
        quotes, lasts = await self._ask(memory, branch, question)
        if lasts:
            self._keep(asked, _Answer(quotes, head))
        return quotes

    async def _ask(self, memory: AsyncAgentMemory, branch: str, question: str) -> tuple[str, bool]:
        """Return quotes, and whether they stay what memory knows until something is written."""
        limit, brief = self._settings.limit, self._settings.brief
        entries: list[Entry] = []
        if limit and question:
            hits = await memory.search(question, limit=limit, branch=branch, **self._settings.filters)
            entries = [hit.entry for hit in hits]
        digest = None
        if brief:
            digest = await asyncio.to_thread(memory.memory.brief, None if brief is True else brief, branch=branch)
        quotes = quoted(entries, digest)
        cited = () if digest is None else digest.citations
        return quotes, all(entry.expires_at is None for entry in (*entries, *cited))

    def _keep(self, asked: tuple[str, str | None, str, str], answer: _Answer) -> None:
        with self._keeping:
            self._answers[asked] = answer
            while len(self._answers) > _KEPT:
                self._answers.popitem(last=False)


def question_of(asked: str | ChatMessage | None, messages: Sequence[ChatMessage]) -> str:
    """Return what is asked: the text given, else that of the newest user message, as a search can take it."""
    texts = [asked.content if isinstance(asked, ChatMessage) else asked]
    texts += [message.content for message in reversed(messages) if message.role == MessageRole.USER][:1]
    return next((text for text in map(_searchable, texts) if text), "")


def fitting(quotes: str, room: int, count: Callable[[str], int]) -> str:
    """Return quotes without the last ones, as many as it takes for them to have room."""
    while quotes and count(quotes) > room:
        quotes = without_last(quotes)
    return quotes


def with_quotes(messages: list[ChatMessage], quotes: str, question: str, method: InsertMethod) -> list[ChatMessage]:
    """Return messages with a message of quotes among them.

    A system message comes after those that a conversation begins with, which stay as they are for prompt caches. A
    user message comes before the question, or last where the question has yet to be put.
    """
    if method is InsertMethod.SYSTEM:
        leading = (place for place, message in enumerate(messages) if message.role != MessageRole.SYSTEM)
        place, role = next(leading, len(messages)), MessageRole.SYSTEM
    else:
        asked = [place for place, message in enumerate(messages) if message.role == MessageRole.USER][-1:]
        is_put = bool(asked) and question in _clean(messages[asked[0]].content)
        place, role = asked[0] if is_put else len(messages), MessageRole.USER
    return [*messages[:place], ChatMessage(role=role, content=quotes), *messages[place:]]


def _searchable(text: str | None) -> str:
    return _clean(text)[:_QUERY].strip()


def _clean(text: str | None) -> str:
    return (text or "").encode(errors="replace").decode().replace("\0", " ").strip()


async def _head(memory: AsyncAgentMemory, branch: str) -> int:
    """Return where the log of a branch ends."""
    newest = await memory.timeline(agent_id="*", branch=branch, limit=1, include_messages=True)
    return newest[0].seq if newest else 0


async def _has_moved(memory: AsyncAgentMemory, branch: str, before: int, head: int) -> bool:
    """Whether a branch may hold other entries than it did when its log ended before."""
    if head == before:
        return False
    events = await memory.timeline(agent_id="*", branch=branch, since=before + 1, until=head, limit=_EVENTS_LOOKED_AT)
    return events.next_cursor is not None or any(map(_changes_entries, events))


def _changes_entries(event: Event) -> bool:
    return event.event_type not in _WITHOUT_ENTRIES
