"""Search by meaning: every text becomes a vector once, and the nearest to that of a query are found exactly.

The embedder is the user's code: it is called outside any transaction, and only with texts that the handle may read. A
vector is stored once for every text and model. A model is known by the vectors it makes of some texts that are always
the same, and by the name that a user gave it: what was embedded by another one is embedded anew.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from json import loads
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from amfs.core import terms, validation, versions
from amfs.errors import EmbeddingError, UsageError
from amfs.models import MemoryType
from amfs.storage.rows import MEMORY_CODE, SHARED, SearchFilter, SearchIndex

if TYPE_CHECKING:
    from amfs.core.embedder import Embedder
    from amfs.core.search import View
    from amfs.models import Entry
    from amfs.storage.base import Reader, Storage

T = TypeVar("T")
Vectors = NDArray[np.float32]

_PROBES = (
    "Agents remember what they wrote, on which branch, and what came of it.",
    "The payment failed twice; we retry with a longer timeout and refund the customer by card.",
    "Deploy the service on Monday at 09:30, version 2.4.1, error code 503.",
    "My daughter likes green tea, music, the sea and her red bicycle.",
    "def search(query: str) -> list[Entry]",
    "Training on 8 GPUs reached an accuracy of 0.91 after 3 epochs; the loss fell slowly.",
    "Who owns the house, the money, the key? Nobody knows why, but everyone asks.",
    "Reise, Zug, Hotel und Wetter: il pleut à Paris, mañana hace sol.",
)
_SAME_MODEL = 0.9999
"""The cosine of two vectors of a probe from which on they are of one model; some are not the same each time."""

_MESSAGE = MEMORY_CODE[MemoryType.MESSAGE]
_SLICE = 4096
_FIRST = 256


Views = Callable[["Reader"], Sequence["View"]]
"""Returns the views to search, in a transaction."""


class Question:
    """The vector of a query, beside those of the documents."""

    def __init__(self, vector: Vectors, shelf: Shelf) -> None:
        self._docs, self._cosines = shelf.hold_against(vector)

    def nearest(self) -> Iterator[tuple[int, float]]:
        """Yield all documents, the nearest first, with their cosines; of equally near ones the newer first."""
        yielded, wanted = 0, _FIRST
        total = len(self._docs)
        while yielded < total:
            wanted = min(wanted, total)
            least = np.partition(self._cosines, total - wanted)[total - wanted]
            found = np.flatnonzero(self._cosines >= least)
            order = found[np.lexsort((-self._docs[found], -self._cosines[found]))]
            for place in order[yielded:]:
                yield int(self._docs[place]), float(self._cosines[place])
            yielded, wanted = len(order), wanted * 8

    def cosines(self, docs: Sequence[int]) -> dict[int, float]:
        """Return how near some documents are; those without a vector are left out."""
        wanted = np.flatnonzero(np.isin(self._docs, np.asarray(docs, dtype=np.int64)))
        return {int(self._docs[place]): float(self._cosines[place]) for place in wanted}


class Shelf:
    """The vectors of an index in memory, and the documents that have none yet."""

    def __init__(self, index: SearchIndex) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._vectors: Vectors = np.empty((0, 0), dtype=np.float32)
        self._filled = 0
        self._row_of: dict[int, int] = {}
        self._docs: dict[int, int] = {}
        self._places: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        self._backlog: list[tuple[int, int]] = []
        self._looked_at: dict[tuple[int, int, int], int] = {}
        self._seq = self._removed = 0

    def refresh(self, tx: Reader, model: int, namespaces: Sequence[int]) -> None:
        """Take in what the index took in since."""
        seq, removed = tx.search.extent(self._index)
        with self._lock:
            if not 0 <= removed - self._removed <= max(len(self._docs) // 4, _FIRST):
                self._clear()  # many of the vectors are of documents that nobody sees any more
                self._removed = removed
            if seq == self._seq:
                return
            for found in tx.search.vectors(self._index, model, namespaces, self._seq):
                if found.embedding is not None and found.vector is not None:
                    self._put(found.doc, found.embedding, found.vector)
                elif found.doc not in self._docs:
                    self._backlog.append((found.doc, found.owner))
            self._seq = seq

    def put(self, docs: Mapping[int, tuple[int, bytes]]) -> None:
        """Add the vectors of documents, by the ids of the vectors."""
        with self._lock:
            for doc, (embedding, vector) in docs.items():
                self._put(doc, embedding, vector)

    def _put(self, doc: int, embedding: int, blob: bytes) -> None:
        row = self._row_of.get(embedding)
        if row is None:
            vector = np.frombuffer(blob, dtype="<f4")
            row, room = self._filled, len(self._vectors)
            if row == room:
                grown = np.empty((max(2 * room, 1024), len(vector)), dtype=np.float32)
                grown[:room] = self._vectors if room else 0
                self._vectors = grown
            self._vectors[row] = vector
            self._row_of[embedding] = row
            self._filled += 1
        self._docs[doc] = row
        self._places = None

    def missing(self, view: View, *, entries: bool) -> Iterator[tuple[int, str, Entry | None]]:
        """Yield documents without a vector that a view holds, their texts and, if wanted, their entries."""
        context, viewer = view.context, view.context.agent_id
        looked_at = (context.branch.id, viewer, view.upto)
        with self._lock:
            start = self._looked_at.get(looked_at, 0)
            waiting = [
                doc for doc, owner in self._backlog[start:] if owner in (SHARED, viewer) and doc not in self._docs
            ]
            self._looked_at[looked_at] = len(self._backlog)
        which = SearchFilter(viewer, view.upto, None, None, None, tuple(MEMORY_CODE.values()), 0.0, 0, view.upto)
        for docs in _slices(waiting, _SLICE):
            found = context.tx.search.documents(context.branch, docs, which)
            names = context.tx.slots({row.slot for _, row in found})
            for doc, row in found:
                slot, value = names[row.slot], loads(row.value or "null")
                text = terms.for_meaning(slot.path, slot.key, value, is_message=row.memory_type == _MESSAGE)
                yield doc, text, versions.entry(context, row, slot) if entries else None

    def look_again(self) -> None:
        """Forget what was found missing: it was not embedded."""
        with self._lock:
            self._looked_at.clear()

    def hold_against(self, vector: Vectors) -> tuple[NDArray[np.int64], Vectors]:
        """Return the documents and their cosines with a vector of length 1."""
        with self._lock:
            if self._places is None:
                docs = np.fromiter(self._docs.keys(), dtype=np.int64, count=len(self._docs))
                rows = np.fromiter(self._docs.values(), dtype=np.int64, count=len(self._docs))
                self._places = (docs, rows)
            docs, rows = self._places
            vectors = self._vectors[: self._filled]
        if not len(docs):
            return docs, np.empty(0, dtype=np.float32)
        cosines = vectors @ vector
        # Each row stands for one document as a rule, and in the order of documents.
        same = len(rows) == len(vectors) and bool((rows == np.arange(len(rows))).all())
        return docs, cosines if same else cosines[rows]


class Meaning:
    """An embedder at work for a handle."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._model: int | None = None
        self._dimensions = 0
        self._shelves = {index: Shelf(index) for index in SearchIndex}
        self._unkept: dict[str, tuple[int, bytes]] = {}
        self._lock = threading.Lock()
        self._here = threading.local()

    def ask(self, storage: Storage, index: SearchIndex, views: Views, query: str) -> Question:
        """Embed a query, and before that every text it can meet that has no vector yet.

        Raises:
            EmbeddingError: The embedder failed, or what it returned are no vectors. What it made before is kept.
        """
        if getattr(self._here, "asks", False):
            raise UsageError(
                "the embedder searched by meaning with the handle that asks it for vectors; inside it, search with "
                "weights={'meaning': 0} or with a handle that has no embedder"
            )
        self._here.asks = True
        try:
            shelf = self._shelves[index]
            with self._lock:
                self._complete(storage, index, shelf, views)
            return Question(self._units(self._embedder.of_query(query), 1)[0], shelf)
        finally:
            self._here.asks = False

    def _complete(self, storage: Storage, index: SearchIndex, shelf: Shelf, views: Views) -> None:
        """Give every document that views hold a vector."""
        model = self._identify(storage)
        try:
            with storage.searching(index) as tx:
                seen = views(tx)
                homes = {
                    tx.branch_by_id(part.branch).namespace
                    for view in seen
                    for part in tx.lineage(view.context.branch.id)
                }
                shelf.refresh(tx, model, sorted(homes))
                chooses = self._embedder.text is not None
                found = [one for view in seen for one in shelf.missing(view, entries=chooses)]
            missing = {doc: self._embedder.of_entry(usual, entry) for doc, usual, entry in found}
            self._embed(storage, model, shelf, {doc: text for doc, text in missing.items() if text or not chooses})
        except BaseException:
            shelf.look_again()
            raise

    def _identify(self, storage: Storage) -> int:
        """Return the id of the model, which is stored if it is new; 0 where nothing can be stored."""
        if self._model is not None:
            return self._model
        probes, name = self._units(self._embedder.of_texts(list(_PROBES)), len(_PROBES)), self._embedder.name
        with storage.reading() as tx:
            model = _known(tx.search.embedders(), name, probes)
        if model is None and storage.read_only:
            model = 0
        elif model is None:
            with storage.writing() as tx:
                model = _known(tx.search.embedders(), name, probes)
                if model is None:
                    model = tx.search.add_embedder(name, probes.tobytes())
        self._model = model
        return model

    def _embed(self, storage: Storage, model: int, shelf: Shelf, missing: Mapping[int, str]) -> None:
        """Give documents their vectors, batch by batch; each is kept as soon as it is made."""
        if not missing:
            return
        texts: dict[str, str] = {}
        docs: dict[str, list[int]] = {}
        for doc, text in missing.items():
            digest = blake2b(text.encode(), digest_size=16).hexdigest()
            texts[digest] = text
            docs.setdefault(digest, []).append(doc)
        with storage.reading() as tx:
            known = {**tx.search.embeddings(model, list(texts)), **self._unkept}
        new = [digest for digest in texts if digest not in known]
        others = {doc: digest for digest in texts if digest in known for doc in docs[digest]}
        for batch in tqdm(
            _slices(new, self._embedder.batch_size),
            desc=f"embedding {len(new):,} texts with {self._embedder.label}",
            disable=len(new) <= self._embedder.batch_size or not _is_watched(),
        ):
            made = self._units(self._embedder.of_texts([texts[digest] for digest in batch]), len(batch))
            vectors = {digest: vector.tobytes() for digest, vector in zip(batch, made, strict=True)}
            of_batch = {doc: digest for digest in batch for doc in docs[digest]}
            known.update(self._keep(storage, model, vectors, of_batch))
            shelf.put({doc: known[digest] for doc, digest in of_batch.items()})
        if others:
            self._keep(storage, model, {}, others)
            shelf.put({doc: known[digest] for doc, digest in others.items()})

    def _keep(
        self, storage: Storage, model: int, vectors: Mapping[str, bytes], docs: Mapping[int, str]
    ) -> dict[str, tuple[int, bytes]]:
        if storage.read_only:
            made = {
                digest: (-len(self._unkept) - place, blob) for place, (digest, blob) in enumerate(vectors.items(), 1)
            }
            self._unkept.update(made)
            return made
        with storage.writing() as tx:
            tx.search.add_embeddings(model, vectors, docs)
            return tx.search.embeddings(model, list(vectors))

    def _units(self, made: object, count: int) -> Vectors:
        """Return what an embedder made as vectors of length 1, one a row, if that is what they are."""
        who = f"the embedder {self._embedder.label!r}"
        try:
            vectors = np.asarray(made, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise EmbeddingError(
                f"{who} must return a list of vectors of numbers, all of one length, not {validation.shown(made)}"
            ) from None
        if vectors.ndim != 2 or len(vectors) != count or not vectors.size:
            raise EmbeddingError(
                f"{who} returned an array of shape {vectors.shape} for {count} texts; each needs a vector"
            )
        if not np.isfinite(vectors).all():
            raise EmbeddingError(f"{who} returned numbers that are not finite")
        self._dimensions = self._dimensions or vectors.shape[1]
        if vectors.shape[1] != self._dimensions:
            raise EmbeddingError(
                f"{who} returned a vector of {vectors.shape[1]} numbers where it made {self._dimensions} before"
            )
        # Divided by the largest first, so that no square is beyond what a float can hold.
        vectors = vectors / _positive(np.abs(vectors).max(axis=1, keepdims=True))
        return (vectors / _positive(np.linalg.norm(vectors, axis=1, keepdims=True))).astype("<f4")


def _positive(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return lengths to divide by: what is nothing stays nothing."""
    return np.where(lengths == 0, 1.0, lengths)


def _slices(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _known(embedders: Sequence[tuple[int, str, bytes]], name: str, probes: Vectors) -> int | None:
    """Return the stored model of that name that makes the same of the probes."""
    for number, stored_name, blob in embedders:
        stored = np.frombuffer(blob, dtype="<f4")
        if stored_name == name and stored.size == probes.size:
            # A probe of which a model makes nothing is like another such one.
            cosines = (stored.reshape(probes.shape) * probes).sum(axis=1)
            nothing = ~(stored.reshape(probes.shape).any(axis=1) | probes.any(axis=1))
            if bool(((cosines >= _SAME_MODEL) | nothing).all()):
                return number
    return None


def _is_watched() -> bool:
    """Return whether somebody may be looking: in a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules
