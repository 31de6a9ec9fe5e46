"""The model that turns texts into vectors, as a user names it, and what it must return."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from amfs.core import validation
from amfs.errors import EmbeddingError, InvalidInputError, NotSupportedError

if TYPE_CHECKING:
    from amfs.core.meaning import Meaning
    from amfs.models import Entry

_NAMED = 16
"""Of how many embedders that searches name the vectors are held in memory."""

Embed = Callable[[list[str]], Sequence[Sequence[float]]]
"""Takes texts and returns a vector for each, all of the same length."""


@dataclass(frozen=True, slots=True)
class Embedder:
    """A model that turns texts into vectors.

    Args:
        documents: Takes a list of texts and returns a vector for each, all of one length:
            ``embeddings.embed_documents`` of LangChain, ``model.get_text_embedding_batch`` of LlamaIndex, or yours.
        query: Turns a query into a vector, for models that tell queries from documents. Default: ``documents``.
        name: The name of the model; vectors made under another name are not used.
        batch_size: How many texts are passed at once.
        text: Says what of an entry is embedded: a text, "" for nothing, or None for its path, key and value, the
            default. An embedder that has one needs a name of its own: a vector is stored once for every name.
    """

    documents: Embed
    query: Callable[[str], Sequence[float]] | None = None
    name: str = ""
    batch_size: int = 64
    text: Callable[[Entry], str | None] | None = None

    def __post_init__(self) -> None:
        for what, function in (("embed", self.documents), ("query", self.query or self.documents)):
            if not callable(function):
                raise InvalidInputError(
                    f"{what} must be a function from texts to vectors, not {validation.shown(function)}; of a model of "
                    "LangChain's pass .embed_documents, of LlamaIndex's .get_text_embedding_batch"
                )
        validation.whole("batch_size", self.batch_size, 1)
        if self.text is not None and not (callable(self.text) and self.name):
            raise InvalidInputError("text must be a function from an Entry to a text, of an embedder that has a name")

    @property
    def label(self) -> str:
        """The name, or that of the function."""
        return self.name or str(getattr(self.documents, "__qualname__", type(self.documents).__name__))

    def of_texts(self, texts: list[str]) -> Any:
        """Return what the model makes of texts; ``meaning`` checks what that is."""
        return self._made(self.documents, texts, f"{len(texts)} texts")

    def of_entry(self, usual: str, entry: Entry | None) -> str:
        """Return the text of an entry to embed; "" if it is not to be found by meaning."""
        if self.text is None or entry is None:
            return usual
        try:
            chosen: Any = self.text(entry)
        except Exception as error:
            raise EmbeddingError(f"the text function of the embedder {self.label!r} failed: {error!r}") from error
        if chosen is not None and not isinstance(chosen, str):
            raise EmbeddingError(f"the text of an entry must be a str or None, not {validation.shown(chosen)}")
        return usual if chosen is None else chosen

    def of_query(self, text: str) -> Any:
        """Return what the model makes of a query, in a list of one."""
        return self.of_texts([text]) if self.query is None else [self._made(self.query, text, "a query")]

    def _made(self, embed: Callable[[Any], Any], of: list[str] | str, what: str) -> Any:
        """Return what the model makes, all of it: what makes its results one by one may fail at each."""
        try:
            made = embed(of)
            if isinstance(made, Iterator):
                return list(cast("Iterator[Any]", made))
        except Exception as error:
            raise EmbeddingError(f"the embedder {self.label!r} failed on {what}: {error!r}") from error
        if isinstance(made, Coroutine):
            cast("Coroutine[Any, Any, Any]", made).close()  # or Python warns that nobody awaited it
            raise EmbeddingError(
                f"the embedder {self.label!r} is a coroutine function; pass one that need not be awaited"
            )
        return made


class Meanings:
    """What a handle searches by meaning with: its own embedder, and those that a search names."""

    def __init__(self, embed: object) -> None:
        self._own = _meaning(embed)
        self._named: OrderedDict[Embedder, Meaning | None] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, embed: object) -> Meaning | None:
        """Return what works with an embedder that a search names; by default with the handle's own."""
        if embed is None:
            return self._own
        embedder = _embedder(embed)
        with self._lock:
            if embedder not in self._named:
                self._named[embedder] = _meaning(embedder)
            self._named.move_to_end(embedder)
            while len(self._named) > _NAMED:
                self._named.popitem(last=False)
            return self._named[embedder]


def _embedder(embed: object) -> Embedder:
    return embed if isinstance(embed, Embedder) else Embedder(cast("Embed", embed))


def _meaning(embed: object) -> Meaning | None:
    """Return what searches by meaning, given a function or an Embedder; None for None."""
    if embed is None:
        return None
    embedder = _embedder(embed)
    try:
        # Imported here: numpy takes longer than all of `import amfs`, and is an extra.
        from amfs.core.meaning import Meaning
    except ImportError as error:
        raise NotSupportedError(f"search by meaning needs {error.name}: pip install 'amfs-memory[vector]'") from error
    return Meaning(embedder)
