"""Search: what matches a query by its words and its meaning, of exactly what views hold.

The index says which documents match, never which are visible: of each that it names, the view is asked what it holds
(``SearchReader.documents``), in the order in which they match and until there are enough.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import ValidationError

from amfs.core import conflicts, filters, moments, runs, terms, validation, versions
from amfs.core.ranking import PARTS, Candidate, Ranking
from amfs.errors import InvalidInputError
from amfs.models import Entry, MemoryType, Page, SearchHit, SearchWeights, Tokenizer
from amfs.storage.rows import MEMORY_CODE, NOW, SLOT_BITS, ListFilter, SearchFilter, SearchIndex

if TYPE_CHECKING:
    from amfs.core.context import Context
    from amfs.core.meaning import Meaning, Question
    from amfs.storage.base import Reader, Storage
    from amfs.storage.rows import VersionRow

DEPTH = 48
"""How many candidates of each ranking are weighed by their whole score; what comes after keeps its place there."""

_MESSAGE = MEMORY_CODE[MemoryType.MESSAGE]
_MOST = 6144
_AROUND = (1, 2)


class Request(NamedTuple):
    """A search that passed the gate."""

    query: str
    path: str | None
    agent: str | None
    memory_types: tuple[int, ...] | None
    least_confidence: float
    since: object
    until: object
    refs: frozenset[str]
    filter: dict[str, Any] | None
    at: object
    branches: tuple[str, ...]
    weights: SearchWeights
    explain: bool
    offset: int
    limit: int


class View(NamedTuple):
    """A branch to search, as of a seq, and which of its versions pass."""

    context: Context
    upto: int
    which: SearchFilter


class Found(NamedTuple):
    """A page of hits, and what of it must be recorded as read from other agents, branch by branch."""

    hits: Page[SearchHit]
    foreign: list[tuple[Context, list[Entry]]]


def request(
    query: object,
    entity_path: object,
    agent_id: object,
    memory_type: object,
    min_confidence: object,
    since: object,
    until: object,
    pattern_refs: object,
    conditions: object,
    at: object,
    branch: object,
    weights: object,
    explain: object,
    limit: object,
    cursor: object,
) -> Request:
    """Return a search that passed the gate."""
    return Request(
        "" if query is None or query == "" else validation.name("query", query, validation.MAX_VALUE_BYTES).strip(),
        None if entity_path is None else validation.entity_path(entity_path),
        validation.optional_name("agent_id", agent_id),
        _kinds(memory_type),
        validation.fraction("min_confidence", min_confidence),
        None if since is None else validation.moment("since", since),
        None if until is None else validation.moment("until", until),
        frozenset(validation.name("pattern_refs", ref) for ref in validation.several("pattern_refs", pattern_refs)),
        None if conditions is None else filters.check(conditions),
        None if at is None else validation.moment("at", at),
        _branches(branch),
        _weights(weights),
        bool(explain),
        validation.cursor(cursor) or 0,
        validation.count("limit", limit, 1),
    )


def search(
    storage: Storage, access: Callable[[Reader, str | None], Context], asked: Request, meaning: Meaning | None
) -> Found:
    """Return a page of hits, the best first; without a query the newest first."""
    index = SearchIndex.CURRENT if asked.at is None else SearchIndex.EVER

    def views(tx: Reader) -> list[View]:
        return [_view(access(tx, name), asked) for name in asked.branches or (None,)]

    if not asked.query:
        with storage.snapshot() as tx:
            seen = views(tx)
            return _found(asked, seen, _newest(asked, seen))
    question = None
    if meaning is not None and asked.weights.meaning:
        question = meaning.ask(storage, index, views, asked.query)
    with storage.searching(index) as tx:
        seen = views(tx)
        return _found(asked, seen, _ranked(asked, index, seen, question))


def make_anew(storage: Storage, tokenizer: object) -> Tokenizer:
    """Make the search index of the file anew and say how it takes texts apart from now on."""
    wanted = None if tokenizer is None else validation.choice("tokenizer", tokenizer, Tokenizer)
    with storage.writing() as tx:
        chosen = tx.search.tokenizer() if wanted is None else wanted
        tx.search.make_anew(chosen)
    with storage.searching(SearchIndex.CURRENT):
        return chosen


# --- the gate --------------------------------------------------------------------------------------------------------


def _kinds(memory_type: object) -> tuple[int, ...] | None:
    if memory_type is None:
        return None
    several = [memory_type] if isinstance(memory_type, str) else validation.several("memory_type", memory_type)
    return tuple(MEMORY_CODE[validation.choice("memory_type", one, MemoryType)] for one in several)


def _branches(branch: object) -> tuple[str, ...]:
    if branch is None:
        return ()
    several = [branch] if isinstance(branch, str) else validation.several("branch", branch)
    if not several:
        raise InvalidInputError("branch is an empty list; name the branches to search, or leave it out")
    return tuple(dict.fromkeys(validation.branch_name(one) for one in several))


def _weights(weights: object) -> SearchWeights:
    if weights is None:
        return _DEFAULT
    try:
        made = weights if isinstance(weights, SearchWeights) else SearchWeights(**cast("dict[str, Any]", weights))
    except (TypeError, ValidationError) as error:
        raise InvalidInputError(f"weights must be a SearchWeights or a mapping of its fields: {error}") from None
    numbers = made.model_dump(exclude={"half_life"})
    wrong = [name for name, weight in numbers.items() if not (math.isfinite(weight) and 0 <= weight <= 1e6)]
    if wrong or made.half_life <= timedelta(0):
        raise InvalidInputError(
            f"the weight {(wrong or ['half_life'])[0]!r} must be a number from 0 to a million, "
            "half_life a positive timedelta"
        )
    return made


_DEFAULT = SearchWeights()


# --- views -----------------------------------------------------------------------------------------------------------


def _view(context: Context, asked: Request) -> View:
    upto = NOW if asked.at is None else moments.view_at(context, asked.at)
    author = None if asked.agent is None else context.tx.agent(asked.agent)
    return View(
        context,
        upto,
        SearchFilter(
            viewer=context.agent_id,
            upto=upto,
            now=context.time() if upto == NOW else None,
            path=asked.path,
            author=-1 if author is None and asked.agent is not None else author,
            memory_types=asked.memory_types,
            least_confidence=asked.least_confidence,
            first=moments.first_seq(context, asked.since),
            last=moments.last_seq(context, asked.until),
        ),
    )


def _passes(asked: Request, row: VersionRow) -> bool:
    """Return whether a version has the patterns and fields asked for, which the storage does not look at."""
    if asked.refs and not asked.refs <= set(json.loads(row.refs or "[]")):
        return False
    return asked.filter is None or filters.matches(json.loads(row.value or "null"), asked.filter)


# --- without a query -------------------------------------------------------------------------------------------------


def _newest(asked: Request, views: Sequence[View]) -> list[Candidate]:
    """Return the newest entries that pass, one more than the page takes."""
    wanted = asked.offset + asked.limit + 1
    found = heapq.merge(*(_newest_of(asked, view) for view in views), key=lambda pair: -pair[1].seq)
    unique: dict[tuple[int, int], tuple[View, VersionRow]] = {}
    for view, row in found:
        unique.setdefault((row.slot, row.value_seq), (view, row))
        if len(unique) == wanted:
            break
    slots = views[0].context.tx.slots({row.slot for _, row in unique.values()})
    return [Candidate(row.value_seq, row, slots[row.slot], view.context) for view, row in unique.values()]


def _newest_of(asked: Request, view: View) -> Iterator[tuple[View, VersionRow]]:
    which, context = view.which, view.context
    kinds: Sequence[int | None] = (None,) if which.memory_types is None else which.memory_types
    first = min(asked.offset + asked.limit + 1, NOW) if view.upto == NOW else -1
    listed = [ListFilter(which.viewer, which.path, True, kind, which.now, -1, first) for kind in kinds]
    if view.upto == NOW:
        hints = filters.hints(asked.filter)
        rows = heapq.merge(*(context.tx.newest(context.branch, one, hints) for one in listed), key=lambda row: -row.seq)
    else:
        past = (row for one in listed for row in context.tx.list(context.branch, view.upto, one))
        rows = iter(sorted(past, key=lambda row: -row.seq))
    for row in rows:
        if (
            which.first <= row.seq <= which.last
            and which.author in (None, row.author)
            and row.confidence >= which.least_confidence
            and _passes(asked, row)
        ):
            yield view, row


# --- with a query ----------------------------------------------------------------------------------------------------


def _ranked(asked: Request, index: SearchIndex, views: Sequence[View], question: Question | None) -> list[Candidate]:
    """Return the candidates in order, one more than the page takes if there are as many."""
    tx, which = views[0].context.tx, views[0].which
    words = terms.of_query(asked.query, tx.search.tokenizer()) if asked.weights.text else []
    wanted = max(DEPTH, asked.offset + asked.limit + 1)
    by_words = tx.search.ranked(index, words, which.viewer, which.path) if words else ()
    by_meaning = () if question is None else question.nearest()
    rankings = [list(islice(_visible(asked, views, ranked, wanted), wanted)) for ranked in (by_words, by_meaning)]
    candidates: dict[int, Candidate] = {}
    for ranking in rankings:
        for place, (candidate, _) in enumerate(ranking):
            known = candidates.setdefault(candidate.doc, candidate)
            known.place = min(known.place, place)
    measure = _Measure(tx, index, words, question, *rankings)
    measure(list(candidates.values()))
    order = Ranking(asked.query, asked.weights, max(view.context.time() for view in views))
    if asked.weights.neighbours and _MESSAGE in (which.memory_types or ()):
        measure(_add_neighbours(asked, views, order, candidates))
    # Nearness has no end: what is near to nothing in the query is no hit.
    related = (one for one in candidates.values() if one.text or one.meaning or one.neighbours)
    return order.in_order(related, DEPTH)


class _Measure:
    """Says how well candidates match by words and by meaning: 1 is as well as the best of each ranking."""

    def __init__(
        self,
        tx: Reader,
        index: SearchIndex,
        words: Sequence[str],
        question: Question | None,
        by_words: Sequence[tuple[Candidate, float]],
        by_meaning: Sequence[tuple[Candidate, float]],
    ) -> None:
        self._search, self._index, self._words, self._question = tx.search, index, words, question
        self._known = {candidate.doc: score for candidate, score in by_words}
        self._best_cosine = max(by_meaning[0][1] if by_meaning else 0.0, 0.0)
        self._best_score = by_words[0][1] if by_words else 0.0
        self._trust = 1.0
        if question is not None and by_words:
            # Where even the best match lacks most words, as when a question is put in other ones, words say little.
            held = sum(self._search.holds(index, word, by_words[0][0].doc) for word in words)
            self._trust = (held / len(words)) ** 2

    def __call__(self, candidates: Sequence[Candidate]) -> None:
        """Set the parts of candidates, also of the ranking that did not bring them."""
        docs = [candidate.doc for candidate in candidates]
        others = [doc for doc in docs if doc not in self._known]
        if self._known and others:
            self._known.update(self._search.scores(self._index, self._words, others))
        cosines = {} if self._question is None else self._question.cosines(docs)
        for candidate in candidates:
            score, cosine = self._known.get(candidate.doc, 0.0), cosines.get(candidate.doc, 0.0)
            candidate.text = self._trust * score / self._best_score if self._best_score else 0.0
            candidate.meaning = max(cosine, 0.0) / self._best_cosine if self._best_cosine else 0.0


def _visible(
    asked: Request, views: Sequence[View], documents: Iterable[tuple[int, float]], wanted: int
) -> Iterator[tuple[Candidate, float]]:
    """Yield what views hold of documents, in their order, each once, for the first view that holds it."""
    tx, size = views[0].context.tx, wanted
    ordered = iter(documents)
    while chunk := dict(islice(ordered, size)):
        size = max(size, min(size * 4, _MOST))
        held: dict[int, tuple[View, VersionRow]] = {}
        for view in views:
            left = [doc for doc in chunk if doc not in held]
            for doc, row in tx.search.documents(view.context.branch, left, view.which):
                if _passes(asked, row):
                    held[doc] = (view, row)
        names = tx.slots({row.slot for _, row in held.values()})
        for doc, score in chunk.items():
            if doc in held:
                view, row = held[doc]
                yield Candidate(doc, row, names[row.slot], view.context), score


def _add_neighbours(
    asked: Request, views: Sequence[View], ranking: Ranking, candidates: dict[int, Candidate]
) -> list[Candidate]:
    """Let the messages next to one that matches take part in it, and return those that came in so."""
    came_in: list[Candidate] = []
    by_slot = {candidate.row.slot: candidate for candidate in candidates.values()}
    for view in views:
        tx = view.context.tx
        hits = [one for one in by_slot.values() if one.context is view.context and one.place < DEPTH]
        said = {one.row.slot: ranking.relevance(one) for one in hits if one.row.memory_type == _MESSAGE}
        # The keys of a path are numbered as they were first written: the next message has the next number, unless that
        # was written on another branch.
        around = {slot + step * side for slot in said for step in _AROUND for side in (1, -1)}
        held = {row.slot: (doc, row) for doc, row in tx.search.slots(view.context.branch, sorted(around), view.which)}
        for slot, relevance in said.items():
            for side in (1, -1):
                beside = next((near for step in _AROUND if (near := slot + step * side) in held), None)
                if beside is None or beside >> SLOT_BITS != slot >> SLOT_BITS:
                    continue
                doc, row = held[beside]
                neighbour = by_slot.get(beside)
                if neighbour is None:
                    if row.memory_type != _MESSAGE or not _passes(asked, row):
                        continue
                    neighbour = by_slot[beside] = Candidate(doc, row, tx.slots([beside])[beside], view.context)
                    candidates.setdefault(doc, neighbour)
                    came_in.append(neighbour)
                neighbour.neighbours = max(neighbour.neighbours, relevance)
    return came_in


# --- hits ------------------------------------------------------------------------------------------------------------


def _found(asked: Request, views: Sequence[View], ordered: Sequence[Candidate]) -> Found:
    """Return a page of hits, noted as read."""
    page = ordered[asked.offset : asked.offset + asked.limit]
    more = len(ordered) > asked.offset + asked.limit
    ranking = Ranking(asked.query, asked.weights, max(view.context.time() for view in views))
    hits: list[SearchHit] = []
    by_branch: dict[int, tuple[Context, list[Entry]]] = {}
    for candidate in page:
        context = candidate.context
        entry = versions.entry(context, candidate.row, candidate.slot)
        parts = ranking.parts(candidate) if asked.query else ()
        shown = {name: part for name, part in zip(PARTS, parts, strict=False) if part} if asked.explain else None
        hits.append(SearchHit(entry=entry, score=round(sum(parts), 9), branch=context.branch.name, parts=shown))
        by_branch.setdefault(context.branch.id, (context, []))[1].append(entry)
        if asked.at is None:
            conflicts.sight(context, candidate.slot, candidate.row)
    foreign = [(context, runs.observe(context, entries)) for context, entries in by_branch.values()]
    return Found(Page(hits, str(asked.offset + asked.limit) if more else None), foreign)
