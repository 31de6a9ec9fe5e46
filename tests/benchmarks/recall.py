"""Search beside bare FTS5 and bare numpy over the same texts and vectors, in rounds that take turns."""

from __future__ import annotations

import json
import random
import sqlite3
import sys
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from timing import Timings
from tqdm import tqdm

from amfs import AgentMemory, Put, SearchWeights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

DEPTH = 20
NEW = 1000
_WORDS, _LENGTH, _KEYS_OF_A_PATH, _BATCH, _LIMIT, _DIMENSIONS, _QUERIES = 20_000, 18, 100, 2000, 10, 384, 15
_SUPERSEDED = 0.9
_FREQUENCIES = list(accumulate(1 / (rank + 20) for rank in range(_WORDS)))
_BY_MEANING = SearchWeights(text=0.0)
_BARE_COLUMNS = "CREATE VIRTUAL TABLE f USING fts5(path, key, text, tokenize = 'porter unicode61 remove_diacritics 2')"


class Comparison(NamedTuple):
    """A figure of the report: what is measured, beside what, and the ratio that is promised."""

    title: str
    name: str
    base: str
    most: float | None = None


COMPARISONS = (
    Comparison("search of three words / bare FTS5, same words and limit", "search", "bare", 3),
    Comparison("search of one rare word / bare FTS5", "search rare", "bare rare"),
    Comparison("search below a path / bare FTS5 over everything", "search below", "bare"),
    Comparison("search as of a seq / now", "search past", "search"),
    Comparison(f"search at depth {DEPTH} / on main", "search deep", "search", 2),
    Comparison(f"catching up {NEW:,} new entries / bare FTS5 insert of the same text", "catch up", "bare insert", 3),
    Comparison(f"catching up {NEW:,} rewritten entries / the same", "catch up again", "bare insert"),
    Comparison(f"by meaning, {_DIMENSIONS} dimensions / bare numpy over the same matrix", "meaning", "bare numpy", 1.5),
    Comparison("hybrid / bare FTS5 and bare numpy", "hybrid", "bare both"),
    Comparison("search after 90 % of the entries were superseded / before", "search after", "search before", 1.5),
    Comparison("the same where a branch still sees what was superseded", "search after, held", "search"),
)


class Texts:
    """Texts and queries of words as frequent as words are."""

    def __init__(self) -> None:
        self._chance = random.Random(7)

    def text(self) -> str:
        """Return a text of about 150 bytes."""
        return " ".join(
            f"word{number}" for number in self._chance.choices(range(_WORDS), cum_weights=_FREQUENCIES, k=_LENGTH)
        )

    def queries(self) -> list[str]:
        """Return queries of three words: what is asked for is rarer than the words in between."""
        ranks = [
            (self._chance.randrange(30, 300), self._chance.randrange(300, 3000), self._chance.randrange(_WORDS))
            for _ in range(_QUERIES)
        ]
        return [" ".join(f"word{rank}" for rank in those) for those in ranks]

    def rare(self) -> list[str]:
        """Return queries of one word that few texts hold."""
        return [f"word{self._chance.randrange(_WORDS // 2, _WORDS)}" for _ in range(_QUERIES)]


class Bench:
    """The same texts in a memory and in a bare FTS5 table, the same vectors in a memory and in a bare matrix."""

    def __init__(self, folder: Path, size: int, *, with_branches: bool = True) -> None:
        self.size, self.texts, self.times = size, Texts(), dict[str, Timings]()
        self.vectors: dict[str, list[float]] = {}
        self._chance = np.random.default_rng(7)
        self.memory = AgentMemory("agent", folder / f"search-{size}.db", durability="normal", embed=self.embed)
        self.bare = sqlite3.connect(folder / f"bare-{size}.db", isolation_level=None)
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", _BARE_COLUMNS):
            self.bare.execute(statement)
        self.entries = [(*_place(number), {"text": self.texts.text()}) for number in range(size)]
        self.write(self.entries)
        self.insert(self.entries)
        self.by_words = SearchWeights(meaning=0.0)
        self.memory.search("word1", weights=self.by_words)
        for depth in range(1, DEPTH + 1) if with_branches else ():
            self.memory.create_branch(f"deep/{depth}", source=f"deep/{depth - 1}" if depth > 1 else "main")

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return random vectors: what is measured is not what they mean."""
        return self._chance.standard_normal((len(texts), _DIMENSIONS), dtype=np.float32)

    def write(self, entries: Iterable[tuple[str, str, Any]]) -> None:
        """Write entries in batches."""
        waiting = [Put(entity_path=path, key=key, value=value) for path, key, value in entries]
        for start in range(0, len(waiting), _BATCH):
            self.memory.apply(waiting[start : start + _BATCH])

    def insert(self, entries: Iterable[tuple[str, str, Any]]) -> None:
        """Insert the texts of entries into the bare table, in one transaction."""
        self.bare.execute("BEGIN IMMEDIATE")
        rows = ((path, key, json.dumps(value)) for path, key, value in entries)
        self.bare.executemany("INSERT INTO f(path, key, text) VALUES(?, ?, ?)", rows)
        self.bare.execute("COMMIT")

    def ask_bare(self, query: str) -> list[Any]:
        """Return what the bare table ranks highest."""
        words = " OR ".join(f'"{word}"' for word in query.split())
        return self.bare.execute(
            "SELECT rowid, rank FROM f WHERE f MATCH ? ORDER BY rank LIMIT ?", (words, _LIMIT)
        ).fetchall()

    def ask(self, query: str, **how: Any) -> list[Any]:
        """Return what the memory finds by words."""
        return self.memory.search(query, limit=_LIMIT, weights=self.by_words, **how)

    def take(self, name: str, operation: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> None:
        """Time an operation once for each set of arguments."""
        self.times.setdefault(name, Timings()).take(operation, arguments)

    def round(self, number: int) -> None:
        """Measure everything once, in turns."""
        queries, rare = [(query,) for query in self.texts.queries()], [(query,) for query in self.texts.rare()]
        past = self.size // 2
        self.take("bare", self.ask_bare, queries)
        self.take("search", self.ask, queries)
        self.take("bare rare", self.ask_bare, rare)
        self.take("search rare", self.ask, rare)
        self.take("search deep", lambda query: self.ask(query, branch=f"deep/{DEPTH}"), queries)
        self.take("search below", lambda query: self.ask(query, entity_path="service-1"), queries)
        self.take("search past", lambda query: self.ask(query, at=past), queries)
        fresh = [(f"round-{number}", f"key-{index}", {"text": self.texts.text()}) for index in range(NEW)]
        for name in ("catch up", "catch up again"):
            self.write(fresh)
            self.take(name, lambda: self.ask("nothing"), [()])
            fresh = [(path, key, {"text": self.texts.text()}) for path, key, _ in fresh]
        self.take("bare insert", self.insert, [(fresh,)])

    def round_of_vectors(self, matrix: NDArray[np.float32]) -> None:
        """Measure search by meaning, against a bare matrix of as many vectors."""
        queries = [(query,) for query in self.texts.queries()]

        def ask_numpy(_query: str) -> NDArray[np.int64]:
            scores = matrix @ (vector := self.embed([""])[0]) / np.linalg.norm(vector)
            best = np.argpartition(-scores, _LIMIT)[:_LIMIT]
            return best[np.argsort(-scores[best])]

        self.take("bare numpy", ask_numpy, queries)
        self.take("meaning", lambda query: self.memory.search(query, limit=_LIMIT, weights=_BY_MEANING), queries)
        self.take("bare both", lambda query: (ask_numpy(query), self.ask_bare(query)), queries)
        self.take("hybrid", lambda query: self.memory.search(query, limit=_LIMIT), queries)

    def supersede(self) -> None:
        """Write another text over most of the entries."""
        self.write(
            (path, key, {"text": self.texts.text()}) for path, key, _ in self.entries[: int(self.size * _SUPERSEDED)]
        )
        self.ask("nothing")

    def close(self) -> None:
        """Close both."""
        self.memory.close()
        self.bare.close()


def measure_search(folder: Path, size: int, rounds: int) -> dict[str, Timings]:
    """Measure search at a size; the first round of each kind only warms up."""
    bench = Bench(folder, size)
    for number in tqdm(range(rounds + 1), desc=f"search in {size:,}", file=sys.stderr):
        if number == 1:
            bench.times.clear()
        bench.round(number)
    bench.memory.search("word1")  # embeds everything
    matrix = bench.embed(["" for _ in range(size + NEW * (rounds + 1))])
    bench.round_of_vectors(matrix)
    for name in ("bare numpy", "meaning", "bare both", "hybrid"):
        bench.times.pop(name)
    for _ in range(rounds):
        bench.round_of_vectors(matrix)
    bench.supersede()
    for _ in range(rounds):
        bench.take("search after, held", bench.ask, [(query,) for query in bench.texts.queries()])
    bench.close()
    (folder / "plain").mkdir(exist_ok=True)
    plain = Bench(folder / "plain", size, with_branches=False)
    for name in ("search before", "search after"):
        for _ in range(rounds + 1):
            plain.take(name, plain.ask, [(query,) for query in plain.texts.queries()])
        plain.times[name].rounds.pop(0)  # it only warms up
        plain.supersede()
    plain.close()
    return {**bench.times, **plain.times}


def _place(number: int) -> tuple[str, str]:
    return f"service-{number // _KEYS_OF_A_PATH}", f"key-{number}"
