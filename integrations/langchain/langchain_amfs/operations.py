"""The operations of a LangGraph store in the words of AMFS, and the answers in those of LangGraph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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

from amfs.models import Delete, Entry, Find, Get, ListPaths, Operation, PathInfo, Put
from langchain_amfs import namespaces

__all__ = ["Step", "operations", "results", "steps"]

_SECONDS_PER_MINUTE = 60


class Step(NamedTuple):
    """One operation of a batch: what to ask the memory (None: nothing can match), how to word its answer."""

    operation: Operation | None
    word: Callable[[Any], Result]


def steps(ops: Iterable[Op]) -> list[Step]:
    """Return a step for each operation, in order; all of them are checked before the first is carried out."""
    return [_step(op) for op in ops]


def operations(plan: list[Step]) -> list[Operation]:
    """Return what to ask the memory."""
    return [step.operation for step in plan if step.operation is not None]


def results(plan: list[Step], answers: Iterable[Any]) -> list[Result]:
    """Return the result of each step, given the memory's answers."""
    remaining = iter(answers)
    return [step.word(None if step.operation is None else next(remaining)) for step in plan]


def _step(op: Op) -> Step:
    if isinstance(op, GetOp):
        return _get(op)
    if isinstance(op, SearchOp):
        return _search(op)
    if isinstance(op, PutOp):
        return _put(op)
    if isinstance(op, ListNamespacesOp):
        return _list_namespaces(op)
    raise TypeError(f"a store takes GetOp, SearchOp, PutOp and ListNamespacesOp, not {type(op).__name__}")


def _get(op: GetOp) -> Step:
    if not op.namespace:
        return Step(None, _nothing)
    return Step(Get(entity_path=namespaces.entity_path(op.namespace), key=str(op.key)), _item)


def _search(op: SearchOp) -> Step:
    path = namespaces.entity_path(op.namespace_prefix) if op.namespace_prefix else None
    find = Find(entity_path=path, filter=op.filter or None, limit=op.limit, offset=op.offset)
    return Step(find, _search_items)


def _put(op: PutOp) -> Step:
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
    return Step(Put(entity_path=path, key=key, value=dict(op.value), ttl=ttl), _nothing)


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
    return None if entry is None else Item(**_fields(entry))


def _search_items(entries: list[Entry]) -> list[SearchItem]:
    return [SearchItem(**_fields(entry)) for entry in entries]


def _namespaces(paths: list[PathInfo]) -> list[tuple[str, ...]]:
    return [namespaces.namespace(path.entity_path) for path in paths]


def _fields(entry: Entry) -> dict[str, Any]:
    # Entries written by other means may hold any JSON; what reads a store counts on a dict.
    value = entry.value if isinstance(entry.value, dict) else {"value": entry.value}
    return {
        "namespace": namespaces.namespace(entry.entity_path),
        "key": entry.key,
        "value": value,
        "created_at": entry.created_at,
        "updated_at": entry.written_at,
    }
