"""AMFSRetriever: the search of a memory as a LangChain retriever."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, PrivateAttr

from amfs import AgentMemory, Moment
from amfs.frameworks.texts import provenance, readable
from langchain_amfs.actors import Actors

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun

    from amfs import SearchHit

__all__ = ["AMFSRetriever"]


class AMFSRetriever(BaseRetriever):
    """Finds entries of a memory by words and, if the memory has an embedder, by meaning.

    The content of a document is the value as text; its metadata says where it is from: entity_path, key, version, seq,
    branch, author, confidence and score. Inside a graph, what is found is read in the name of the agent that asks, in
    the run and on the branch of its invocation, as with ``AMFSStore``.

    All fields but ``memory`` may also be given to ``invoke`` for one query; those beside ``k`` are those of
    ``AgentMemory.search``.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    memory: AgentMemory = Field(exclude=True, repr=False, description="The memory to search.")
    k: int = Field(4, ge=1, description="How many documents to return at most.")
    entity_path: str | None = Field(None, description="Only this path and those below it.")
    agent_id: str | None = Field(None, description="Only values that this agent wrote.")
    memory_type: str | list[str] | None = Field(None, description="Only this type, or these.")
    min_confidence: float = Field(0.0, ge=0, le=1, description="Only entries of at least this confidence.")
    pattern_refs: list[str] = Field(default_factory=list, description="Only entries that name all of these patterns.")
    filter: dict[str, Any] | None = Field(None, description="Only values that satisfy this filter.")
    at: Moment | None = Field(None, description="Search the past: a seq, an aware datetime or the name of a tag.")
    branch: str | list[str] | None = Field(None, description="One branch, or several. Default: the current one.")
    weights: Mapping[str, Any] | None = Field(None, description="How much each part of a score counts.")

    _actors: Actors = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Prepare to act for whoever asks."""
        super().model_post_init(context)
        self._actors = Actors(self.memory)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun | None = None,  # noqa: ARG002 - LangChain's signature
        **asked: Any,
    ) -> list[Document]:
        """Return the best matches as documents."""
        settings = {name: asked.get(name, getattr(self, name)) for name in _SETTINGS}
        unknown = sorted(set(asked) - set(settings))
        if unknown:
            raise TypeError(f"a search does not know {', '.join(unknown)}; it knows {', '.join(_SETTINGS)}")
        if not query.strip():
            return []
        with self._actors.memory() as memory:
            return [_document(hit) for hit in memory.search(query, limit=settings.pop("k"), **settings)]

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun | None = None,  # noqa: ARG002 - LangChain's signature
        **asked: Any,
    ) -> list[Document]:
        """Return the best matches as documents, without a wait on the event loop."""
        return await asyncio.to_thread(self._get_relevant_documents, query, **asked)


_SETTINGS = (
    "k", "entity_path", "agent_id", "memory_type", "min_confidence", "pattern_refs", "filter", "at", "branch",
    "weights",
)  # fmt: skip


def _document(hit: SearchHit) -> Document:
    return Document(page_content=readable(hit.entry.value), metadata={**provenance(hit), "score": hit.score})
