"""The model that turns texts into vectors, as a user names it, and what it must return."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from amfs.core import validation
from amfs.errors import EmbeddingError, InvalidInputError, NotSupportedError

if TYPE_CHECKING:
    from amfs.core.meaning import Meaning
    from amfs.models import Entry

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

    def of_texts(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text, or raise EmbeddingError saying what the model made instead."""
        try:
            made: Any = self.documents(texts)
        except Exception as error:
            raise EmbeddingError(f"the embedder {self.label!r} failed on {len(texts)} texts: {error!r}") from error
        return self._checked(made, len(texts))

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

    def of_query(self, text: str) -> list[float]:
        """Return the vector of a query."""
        if self.query is None:
            return self.of_texts([text])[0]
        try:
            made: Any = self.query(text)
        except Exception as error:
            raise EmbeddingError(f"the embedder {self.label!r} failed on a query: {error!r}") from error
        return self._checked([made], 1)[0]

    def _checked(self, made: Any, count: int) -> list[list[float]]:
        """Return vectors as lists of numbers, if that is what they are."""
        try:
            vectors = [[float(number) for number in vector] for vector in made]
        except (TypeError, ValueError):
            raise EmbeddingError(
                f"the embedder {self.label!r} must return a list of vectors of numbers, not {validation.shown(made)}"
            ) from None
        lengths = {len(vector) for vector in vectors}
        if len(vectors) != count or len(lengths) > 1 or 0 in lengths:
            raise EmbeddingError(
                f"the embedder {self.label!r} returned {len(vectors)} vectors of {sorted(lengths)} numbers for {count} "
                "texts; one of the same length is needed for each"
            )
        if not all(math.isfinite(number) for vector in vectors for number in vector):
            raise EmbeddingError(f"the embedder {self.label!r} returned numbers that are not finite")
        return vectors


class Meanings:
    """What a handle searches by meaning with: its own embedder, and those that a search names."""

    def __init__(self, embed: object) -> None:
        self._own = _meaning(embed)
        self._named: dict[object, Meaning | None] = {}

    def of(self, embed: object) -> Meaning | None:
        """Return what works with an embedder that a search names; by default with the handle's own."""
        return self._own if embed is None else self._named.setdefault(embed, _meaning(embed))


def _meaning(embed: object) -> Meaning | None:
    """Return what searches by meaning, given a function or an Embedder; None for None."""
    if embed is None:
        return None
    embedder = embed if isinstance(embed, Embedder) else Embedder(cast("Embed", embed))
    try:
        # Imported here: numpy takes longer than all of `import amfs`, and is an extra.
        from amfs.core.meaning import Meaning
    except ImportError as error:
        raise NotSupportedError(f"search by meaning needs {error.name}: pip install 'amfs-memory[vector]'") from error
    return Meaning(embedder)
