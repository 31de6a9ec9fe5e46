"""AMFSStore held against LangGraph's InMemoryStore: the same operations, the same answers.

Left out is where the two differ on purpose: timestamps, the order of search results, comparisons that make
InMemoryStore raise (a string, or nothing, compared with a number), filters on a path of fields joined by dots, and
namespaces without items, which it still lists.
"""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_amfs import AMFSStore
from langgraph.store.base import GetOp, ListNamespacesOp, MatchCondition, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore

ALL = 10_000

labels = st.sampled_from(["a", "b", "ab", "a/b", "%", "%2F", "é"])
namespaces = st.lists(labels, min_size=1, max_size=3).map(tuple)
prefixes = st.lists(labels, max_size=2).map(tuple)
patterns = st.lists(labels | st.just("*"), max_size=3).map(tuple)
keys = st.sampled_from(["k", "k/1", "a"])
scalars = st.sampled_from([None, "", "x", "y", 0, 2, 3, -1, 2.5])


def containers(inner):
    return st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("fg"), inner, max_size=2)


nested = st.recursive(scalars, containers)
values = st.dictionaries(st.sampled_from(["f", "g", "f.g"]), nested, max_size=3)
operators = st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"])
conditions = nested | st.dictionaries(operators, st.sampled_from([0, 2, 2.5, 3]), min_size=1, max_size=2)
filters = st.none() | st.dictionaries(st.sampled_from("fg"), conditions, max_size=2)
matches = st.lists(st.builds(MatchCondition, st.sampled_from(["prefix", "suffix"]), patterns), max_size=3).map(tuple)
operations = st.one_of(
    st.builds(PutOp, namespaces, keys, st.none() | values, index=st.none(), ttl=st.none()),
    st.builds(GetOp, namespaces, keys, refresh_ttl=st.booleans()),
    st.builds(SearchOp, prefixes, filters, st.just(ALL), offset=st.just(0), query=st.none(), refresh_ttl=st.booleans()),
    st.builds(ListNamespacesOp, matches, st.none() | st.integers(1, 3), st.just(ALL), offset=st.just(0)),
)
histories = st.lists(st.lists(operations, min_size=1, max_size=6), max_size=6)


def told(op, answer):
    """Return an answer without what may differ."""
    if isinstance(op, GetOp):
        return answer and (answer.namespace, answer.key, answer.value)
    if isinstance(op, SearchOp):
        return sorted(repr((item.namespace, item.key, sorted(item.value.items()), item.score)) for item in answer)
    if isinstance(op, ListNamespacesOp):
        return sorted(answer)
    return answer


def expected(reference, op):
    """Return the reference's answer to a read, or None where it fails or lists what is gone."""
    if isinstance(op, ListNamespacesOp):
        live = InMemoryStore()
        for item in reference.search((), limit=ALL):
            live.put(item.namespace, item.key, item.value)
        return told(op, live.batch([op])[0])
    try:
        return told(op, reference.batch([op])[0])
    except (TypeError, ValueError):
        return None


def same(history, batch):
    reference = InMemoryStore()
    for ops in history:
        before = [None if isinstance(op, PutOp) else expected(reference, op) for op in ops]
        for op, wanted, answer in zip(ops, before, batch(ops), strict=True):
            if wanted is None and isinstance(op, SearchOp):
                continue
            assert told(op, answer) == wanted
        reference.batch([op for op in ops if isinstance(op, PutOp)])
    return reference


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories, way=st.sampled_from(["batch", "abatch"]))
def test_the_same_operations_give_the_same_answers(history, way):
    with (
        tempfile.TemporaryDirectory() as folder,
        AMFSStore.from_conn_string(Path(folder, "amfs.db"), durability="normal") as store,
    ):
        run = store.batch if way == "batch" else lambda ops: asyncio.run(store.abatch(ops))
        reference = same(history, run)
        everything = store.search((), limit=ALL)
        assert told(SearchOp(()), everything) == told(SearchOp(()), reference.search((), limit=ALL))
        pages = [item for offset in range(0, len(everything), 2) for item in store.search((), limit=2, offset=offset)]
        assert pages == everything
        assert store.memory.verify().ok


@pytest.mark.parametrize("namespace", [("a/b", "c"), ("%",), ("é", "%2F")])
def test_a_namespace_given_as_a_list_is_the_same(tmp_path, namespace):
    with AMFSStore.from_conn_string(tmp_path / "amfs.db") as store:
        store.batch([PutOp(list(namespace), "k", {"n": 1})])
        assert store.get(namespace, "k").namespace == namespace
