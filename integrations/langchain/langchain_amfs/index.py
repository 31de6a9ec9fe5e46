"""What of items a store embeds, to find them by meaning: LangGraph's IndexConfig as an Embedder of AMFS.

An item has one vector, of the texts of all its fields together. What a ``put`` says about its index is kept with the
version, as names among its pattern refs, so that it holds on every branch and for whoever searches later.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

from langgraph.store.base import ensure_embeddings, get_text_at_path, tokenize_path

from amfs import Embedder

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence

    from langgraph.store.base import IndexConfig

    from amfs import Entry

__all__ = ["Index"]

_WHOLE = "$"
_FIELD = "langgraph:index:"
_UNINDEXED = "langgraph:unindexed"


class Index:
    """What of items is embedded, and by which model.

    Args:
        config: ``embed`` is an Embeddings, a function or coroutine function, or a name as ``init_embeddings`` takes;
            ``dims`` how long its vectors are; ``fields`` which fields of an item count, ``["$"]`` being all of it.
    """

    def __init__(self, config: IndexConfig) -> None:
        self._embeddings = ensure_embeddings(config.get("embed"))
        self._dims = config.get("dims")
        self._fields = list(config.get("fields") or [_WHOLE])
        self.embedder = Embedder(
            self._documents, self._query, name=f"langgraph {', '.join(self._fields)}", text=self._text
        )

    def refs(self, index: Literal[False] | list[str] | None) -> tuple[str, ...]:
        """Return the names that say with a version what of it is embedded; none says the fields of the store."""
        if index is None:
            return ()
        if index is False or index == []:
            return (_UNINDEXED,)
        if not isinstance(index, list) or not all(isinstance(path, str) for path in index):
            raise TypeError(f"index must be None, False or a list of paths of fields, not {index!r}")
        return tuple(f"{_FIELD}{path}" for path in index)

    def holds(self, entry: Entry) -> bool:
        """Return whether a search with a query may find an entry."""
        return _UNINDEXED not in entry.pattern_refs

    def _text(self, entry: Entry) -> str | None:
        if not self.holds(entry):
            return ""
        named = [ref.removeprefix(_FIELD) for ref in entry.pattern_refs if ref.startswith(_FIELD)]
        fields = named or self._fields
        if fields == [_WHOLE]:
            return None
        return "\n".join(_texts(entry.value if isinstance(entry.value, dict) else {"value": entry.value}, fields))

    def _documents(self, texts: list[str]) -> list[list[float]]:
        if _only_awaited(self._embeddings):
            return self._checked(_run(self._embeddings.aembed_documents(texts)))
        return self._checked(self._embeddings.embed_documents(texts))

    def _query(self, text: str) -> list[float]:
        if _only_awaited(self._embeddings):
            return self._checked([_run(self._embeddings.aembed_query(text))])[0]
        return self._checked([self._embeddings.embed_query(text)])[0]

    def _checked(self, vectors: list[list[float]]) -> list[list[float]]:
        wrong = next((len(vector) for vector in vectors if self._dims is not None and len(vector) != self._dims), None)
        if wrong is not None:
            raise ValueError(f"the index says dims={self._dims}, and the model makes vectors of {wrong} numbers")
        return vectors


def _texts(value: dict[str, Any], fields: Sequence[str]) -> Iterable[str]:
    for field in fields:
        yield from get_text_at_path(value, field if field == _WHOLE else tokenize_path(field))


def _only_awaited(embeddings: Any) -> bool:
    """Return whether a model is a coroutine function, which LangGraph wraps without one to be called."""
    return hasattr(embeddings, "afunc") and not hasattr(embeddings, "func")


def _run(awaited: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns, on an event loop of its own, wherever this is called."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, awaited).result()
