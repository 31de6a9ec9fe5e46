"""The search index as the core asks it: what matches, what of that a view holds, and the vectors of texts."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from amfs.models import EventType, Tokenizer
from amfs.storage import indexing
from amfs.storage import queries as q
from amfs.storage.records import hashed, plain, row_id
from amfs.storage.rows import EVENT_CODE, NOW, BranchRow, SearchFilter, SearchIndex, Vector, VersionRow


class Search:
    """A SearchReader, and inside a transaction that writes a SearchWriter."""

    __slots__ = ("_connection", "_execute")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute

    def _numbered(self, statement: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
        return self._execute(*plain(statement, parameters))

    # --- words -----------------------------------------------------------------------------------------------------

    def tokenizer(self) -> Tokenizer:
        found = indexing.state(self._connection, SearchIndex.CURRENT)
        return Tokenizer.ENGLISH if found is None else Tokenizer(found.tokenizer)

    def extent(self, index: SearchIndex) -> tuple[int, int]:
        """Return up to which seq an index holds everything, and how many documents ever left it."""
        found = indexing.state(self._connection, index)
        return (0, 0) if found is None else (found.seq, found.removed)

    def ranked(
        self, index: SearchIndex, words: Sequence[str], viewer: int, path: str | None
    ) -> Iterator[tuple[int, float]]:
        """Yield the documents that hold any of some words, the best first, with their scores (BM25)."""
        if path is None:
            return self._numbered(q.SEARCH_RANKED[index], (_any_of(words),))
        return self._numbered(q.SEARCH_RANKED_BELOW[index], (_any_of(words), viewer, path))

    def scores(self, index: SearchIndex, words: Sequence[str], docs: Sequence[int]) -> dict[int, float]:
        """Return the scores of those of some documents that hold any of some words."""
        return dict(self._numbered(q.SEARCH_SCORES[index], (_any_of(words), json.dumps(list(docs)))).fetchall())

    def holds(self, index: SearchIndex, word: str, doc: int) -> bool:
        """Return whether a document holds a word."""
        return bool(self._execute(q.SEARCH_HOLDS[index], (_any_of([word]), doc)).fetchone()[0])

    def documents(self, branch: BranchRow, docs: Sequence[int], which: SearchFilter) -> list[tuple[int, VersionRow]]:
        """Return the versions that a branch holds of documents, in their order, those that pass."""
        return self._passing(q.SEARCH_DOCUMENTS_ROOT, q.SEARCH_DOCUMENTS_VIEW, branch, docs, which)

    def slots(self, branch: BranchRow, slots: Sequence[int], which: SearchFilter) -> list[tuple[int, VersionRow]]:
        """Return the documents and versions that a branch holds in slots, in their order, those that pass."""
        return self._passing(q.SEARCH_SLOTS_ROOT, q.SEARCH_SLOTS_VIEW, branch, slots, which)

    def _passing(
        self, root: str, view: str, branch: BranchRow, ids: Sequence[int], which: SearchFilter
    ) -> list[tuple[int, VersionRow]]:
        kinds = None if which.memory_types is None else json.dumps(list(which.memory_types))
        parameters = (
            json.dumps(list(ids)), branch.id, which.viewer, which.now, kinds, which.author, which.least_confidence,
            which.first, which.last, which.path, which.upto,
        )  # fmt: skip
        statement = root if which.upto == NOW and branch.parent is None else view
        return [(row[0], VersionRow._make(row[1:])) for row in self._numbered(statement, parameters)]

    def make_anew(self, tokenizer: Tokenizer) -> None:
        indexing.make_anew(self._connection, tokenizer)

    # --- vectors ---------------------------------------------------------------------------------------------------

    def embedders(self) -> list[tuple[int, str, bytes]]:
        return self._execute(q.EMBEDDERS).fetchall()

    def add_embedder(self, name: str, probes: bytes) -> int:
        return row_id(self._execute(q.ADD_EMBEDDER, hashed((name, probes))))

    def vectors(self, index: SearchIndex, embedder: int, namespaces: Sequence[int], after: int) -> Iterator[Vector]:
        """Yield the documents that an index took in after a seq, in some namespaces, with the vectors they have."""
        parameters = (embedder, json.dumps(list(namespaces)), after, EVENT_CODE[EventType.FORK])
        return map(Vector._make, self._numbered(q.SEARCH_VECTORS[index], parameters))

    def embeddings(self, embedder: int, digests: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        """Return the ids and vectors of those texts that have one, by digest."""
        rows = self._numbered(q.EMBEDDINGS, (embedder, json.dumps(list(digests))))
        return {digest: (number, vector) for digest, number, vector in rows}

    def add_embeddings(self, embedder: int, vectors: Mapping[str, bytes], docs: Mapping[int, str]) -> None:
        """Add vectors of texts, by digest, and say which documents hold these texts."""
        self._connection.executemany(
            q.ADD_EMBEDDING, (hashed((embedder, digest, vector)) for digest, vector in vectors.items())
        )
        known = self.embeddings(embedder, list(set(docs.values())))
        self._connection.executemany(
            q.ADD_EMBEDDED, (hashed((embedder, doc, known[digest][0])) for doc, digest in docs.items())
        )


def _any_of(words: Sequence[str]) -> str:
    """Return an FTS5 expression; in quotes no word is an operator."""
    return " OR ".join('"' + word.replace('"', '""') + '"' for word in words)
