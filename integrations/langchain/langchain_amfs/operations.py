"""The operations of a LangGraph store in the words of AMFS, and the answers in those of LangGraph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    validate_op_namespace,
)

from amfs import AgentMemory
from amfs.errors import InvalidInputError
from amfs.models import Delete, Entry, Find, Get, ListPaths, Operation, PathInfo, Put, Renew, SearchHit
from langchain_amfs import namespaces
from langchain_amfs.index import Index

__all__ = ["Query", "Step", "answered", "entries_to_renew", "only", "operations", "results", "steps"]

_SECONDS_PER_MINUTE = 60


@dataclass(frozen=True, slots=True)
class Query:
    """A search with a query: what to look for, below which path, and which of the hits to return."""

    text: str
    path: str | None
    filter: dict[str, Any] | None
    offset: int
    limit: int
    index: Index | None

    def hits(self, memory: AgentMemory, branch: str) -> list[SearchHit]:
        """Return the hits, the best first."""
        wanted, cursor, found = self.offset + self.limit, None, list[SearchHit]()
        while len(found) < wanted:
            page = memory.search(
                self.text, entity_path=self.path, filter=self.filter, branch=branch, limit=wanted, cursor=cursor,
                embed=None if self.index is None else self.index.embedder,
            )  # fmt: skip
            found += [hit for hit in page if self.index is None or self.index.holds(hit.entry)]
            cursor = page.next_cursor
            if cursor is None:
                break
        return found[self.offset : wanted]


class Step(NamedTuple):
    """One operation of a batch: what to ask the memory (None: nothing can match), how to word its answer.

    ``renews`` says whether the items found get their whole time to live again.
    """

    operation: Operation | Query | None
    word: Callable[[Any], Result]
    renews: bool = False


def steps(ops: Iterable[Op], index: Index | None = None) -> list[Step]:
    """Return a step for each operation, in order; all of them are checked before the first is carried out."""
    return [_step(op, index) for op in ops]


def operations(plan: list[Step]) -> list[Operation]:
    """Return what to ask the memory as one batch."""
    return [step.operation for step in plan if step.operation is not None and not isinstance(step.operation, Query)]


def only(plan: list[Step], wanted: list[bool]) -> list[Step]:
    """Return a plan with those of its operations that are wanted."""
    if all(wanted):
        return plan
    remaining = iter(wanted)
    asked = [step.operation is not None and not isinstance(step.operation, Query) for step in plan]
    return [
        Step(None, _nothing) if is_asked and not next(remaining) else step
        for step, is_asked in zip(plan, asked, strict=True)
    ]


def answered(plan: list[Step], hits: Iterable[list[SearchHit]], answers: Iterable[Any]) -> list[Any]:
    """Return the answer to each step, given the hits of its queries and the memory's answers to the rest."""
    of_queries, of_rest = iter(hits), iter(answers)
    return [
        None if step.operation is None else next(of_queries if isinstance(step.operation, Query) else of_rest)
        for step in plan
    ]


def results(plan: list[Step], answers: list[Any]) -> list[Result]:
    """Return the result of each step, given its answer."""
    return [step.word(answer) for step, answer in zip(plan, answers, strict=True)]


def entries_to_renew(plan: list[Step], answers: list[Any]) -> list[Renew]:
    """Return what gives the entries found their time to live again, the first found last: it stays the newest."""
    found: dict[tuple[str, str], None] = {}
    for step, answer in zip(plan, answers, strict=True):
        if step.renews and answer:
            for one in answer if isinstance(answer, list) else (answer,):
                entry = one.entry if isinstance(one, SearchHit) else one
                if entry.expires_at is not None:
                    found[entry.entity_path, entry.key] = None
    return [Renew(entity_path=path, key=key) for path, key in reversed(found)]


def _step(op: Op, index: Index | None) -> Step:
    if isinstance(op, GetOp):
        return _get(op)
    if isinstance(op, SearchOp):
        return _search(op, index)
    if isinstance(op, PutOp):
        return _put(op, index)
    if isinstance(op, ListNamespacesOp):
        return _list_namespaces(op)
    raise TypeError(f"a store takes GetOp, SearchOp, PutOp and ListNamespacesOp, not {type(op).__name__}")


def _get(op: GetOp) -> Step:
    if not op.namespace:
        return Step(None, _nothing)
    return Step(Get(entity_path=namespaces.entity_path(op.namespace), key=str(op.key)), _item, op.refresh_ttl)


def _search(op: SearchOp, index: Index | None) -> Step:
    path = namespaces.entity_path(op.namespace_prefix) if op.namespace_prefix else None
    if not (op.query and op.query.strip()):
        find = Find(entity_path=path, filter=op.filter or None, limit=op.limit, offset=op.offset)
        return Step(find, _search_items, op.refresh_ttl)
    if op.limit < 0 or op.offset < 0:
        raise InvalidInputError(f"limit and offset must be 0 or more, not {op.limit} and {op.offset}")
    return Step(Query(op.query, path, op.filter or None, op.offset, op.limit, index), _scored_items, op.refresh_ttl)


def _put(op: PutOp, index: Index | None) -> Step:
    if not op.namespace:
        raise InvalidNamespaceError("a namespace to write to needs at least one label; got ()")
    path, key = namespaces.entity_path(op.namespace), str(op.key)
    if op.value is None:
        return Step(Delete(entity_path=path, key=key), _nothing)
    # Only what is written must keep to LangGraph's rules for labels: entries that agents made by other means
    # may be read and deleted wherever they are.
    validate_op_namespace(op)
    if not isinstance(op.value, Mapping):
        raise TypeError(f"the value of {op.namespace}/{key} must be a dict, not {type(op.value).__name__}")
    ttl = None if op.ttl is None else op.ttl * _SECONDS_PER_MINUTE
    refs = () if index is None else index.refs(op.index)
    return Step(Put(entity_path=path, key=key, value=dict(op.value), ttl=ttl, pattern_refs=refs), _nothing)


def _list_namespaces(op: ListNamespacesOp) -> Step:
    conditions = op.match_conditions or ()
    for condition in conditions:
        if condition.match_type not in ("prefix", "suffix"):
            raise ValueError(f"a match condition is of type prefix or suffix, not {condition.match_type!r}")
    prefix = namespaces.common_pattern(_paths(conditions, "prefix"))
    reversed_suffix = namespaces.common_pattern(path[::-1] for path in _paths(conditions, "suffix"))
    if prefix is None or reversed_suffix is None:
        return Step(None, _no_namespaces)
    listing = ListPaths(
        prefix=prefix, suffix=reversed_suffix[::-1], max_depth=op.max_depth, limit=op.limit, offset=op.offset
    )
    return Step(listing, _namespaces)


def _paths(conditions: Iterable[MatchCondition], kind: str) -> list[tuple[str, ...]]:
    return [namespaces.segments(condition.path) for condition in conditions if condition.match_type == kind]


def _nothing(_answer: object) -> None:
    return None


def _no_namespaces(_answer: object) -> list[tuple[str, ...]]:
    return []


def _item(entry: Entry | None) -> Item | None:
    if entry is None:
        return None
    return Item(
        value=_value(entry), key=entry.key, namespace=namespaces.namespace(entry.entity_path),
        created_at=entry.created_at, updated_at=entry.written_at,
    )  # fmt: skip


def _search_items(entries: list[Entry]) -> list[SearchItem]:
    return [_search_item(entry) for entry in entries]


def _scored_items(hits: list[SearchHit]) -> list[SearchItem]:
    return [_search_item(hit.entry, hit.score) for hit in hits]


def _search_item(entry: Entry, score: float | None = None) -> SearchItem:
    path = namespaces.namespace(entry.entity_path)
    return SearchItem(path, entry.key, _value(entry), entry.created_at, entry.written_at, score)


def _namespaces(paths: list[PathInfo]) -> list[tuple[str, ...]]:
    return [namespaces.namespace(path.entity_path) for path in paths]


def _value(entry: Entry) -> dict[str, Any]:
    # Entries written by other means may hold any JSON; what reads a store counts on a dict.
    return entry.value if isinstance(entry.value, dict) else {"value": entry.value}
