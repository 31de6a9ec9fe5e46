"""AMFSRetriever: the search of a memory as a LlamaIndex retriever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.memory.amfs.acting import acting

from amfs import AsyncAgentMemory
from amfs.errors import InvalidInputError
from amfs.frameworks.filters import Filters, checked
from amfs.frameworks.texts import provenance, readable

if TYPE_CHECKING:
    from llama_index.core.callbacks import CallbackManager

    from amfs import AgentMemory, Moment, SearchHit

__all__ = ["AMFSRetriever"]

_NOT_FOR_MODELS = ["version", "seq", "branch"]
_NOT_FOR_EMBEDDING = [*_NOT_FOR_MODELS, "author", "confidence"]


class AMFSRetriever(BaseRetriever):
    """Finds entries of a memory by words and, if the memory has an embedder, by meaning.

    The text of a node is the value as text; its metadata says where it is from: entity_path, key, version, seq, branch,
    author and confidence. A model is shown path, key, author and confidence. Its id is that of the version, so the same
    version found twice is one node. What is found is read in the name of the agent that asks, in its run and on its
    branch.

    Args:
        memory: The memory to search.
        similarity_top_k: How many nodes to return at most.
        at: Search the past: a seq, an aware datetime or the name of a tag.
        branch: One branch, or several. Default: the current one.
        callback_manager: LlamaIndex's.
        verbose: LlamaIndex's.
        filters: What narrows the search: entity_path, agent_id, memory_type, min_confidence, since, until,
            pattern_refs, filter and weights, as in ``AgentMemory.search``.

    Raises:
        InvalidInputError: No search knows a filter, or ``similarity_top_k`` is no number from 1.
    """

    def __init__(
        self,
        memory: AgentMemory,
        *,
        similarity_top_k: int = 4,
        at: Moment | None = None,
        branch: str | list[str] | None = None,
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
        **filters: Unpack[Filters],
    ) -> None:
        if isinstance(similarity_top_k, bool) or not isinstance(similarity_top_k, int) or similarity_top_k < 1:
            raise InvalidInputError(f"similarity_top_k must be a number of nodes, 1 or more, not {similarity_top_k!r}")
        super().__init__(callback_manager, verbose=verbose)
        self._verbs = AsyncAgentMemory(memory)
        self._settings: dict[str, Any] = {"limit": similarity_top_k, "at": at, "branch": branch, **checked(filters)}

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Return the best matches as nodes; none for a query without words."""
        query = query_bundle.query_str
        if not query.strip():
            return []
        with acting(self._verbs) as memory:
            return [_node(memory.namespace, hit) for hit in memory.memory.search(query, **self._settings)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Return the best matches as nodes, without a wait on the event loop."""
        query = query_bundle.query_str
        if not query.strip():
            return []
        with acting(self._verbs) as memory:
            return [_node(memory.namespace, hit) for hit in await memory.search(query, **self._settings)]


def _node(namespace: str, hit: SearchHit) -> NodeWithScore:
    entry = hit.entry
    node = TextNode(
        id_=f"amfs:{namespace}:{entry.entry_key}@{entry.seq}",
        text=readable(entry.value),
        metadata=provenance(hit),
        excluded_llm_metadata_keys=list(_NOT_FOR_MODELS),
        excluded_embed_metadata_keys=list(_NOT_FOR_EMBEDDING),
    )
    return NodeWithScore(node=node, score=hit.score)
