"""The model that turns texts into vectors, as a user names it, and what it must return."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from amfs.core import validation
from amfs.errors import EmbeddingError, InvalidInputError, NotSupportedError

if TYPE_CHECKING:
    from amfs.core.meaning import Meaning

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
    """

    documents: Embed
    query: Callable[[str], Sequence[float]] | None = None
    name: str = ""
    batch_size: int = 64

    def __post_init__(self) -> None:
        for what, function in (("embed", self.documents), ("query", self.query or self.documents)):
            if not callable(function):
                raise InvalidInputError(
                    f"{what} must be a function from texts to vectors, not {validation.shown(function)}; of a model of "
                    "LangChain's pass .embed_documents, of LlamaIndex's .get_text_embedding_batch"
                )
        validation.whole("batch_size", self.batch_size, 1)

    @property
    def label(self) -> str:
        """The name, or that of the function."""
        return self.name or str(getattr(self.documents, "__qualname__", type(self.documents).__name__))

    def of_texts(self, texts: list[str]) -> Any:
        """Return what the model makes of texts; ``meaning`` checks what that is."""
        return self._made(self.documents, texts, f"{len(texts)} texts")

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


def meaning_of(embed: object) -> Meaning | None:
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
