"""What LangGraph expects of a store, and where AMFSStore goes beyond the built-in ones."""

import asyncio
import contextvars
from datetime import UTC, datetime, timedelta
from pathlib import Path

import langchain_amfs
import pytest
from langchain_amfs import AMFSStore
from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)

from amfs import AgentMemory, Principal
from amfs.errors import (
    BranchNotFoundError,
    ExperimentContextLostError,
    HandleClosedError,
    InvalidFilterError,
    InvalidInputError,
    InvalidNameError,
    InvalidValueError,
)

PEOPLE = {
    "ann": {"age": 31, "city": "Oslo", "tags": ["x", 1], "nest": {"a": {"b": 2}}},
    "bob": {"age": 44, "city": "Rome", "dotted.key": 3, "nest.a.b": 2},
    "cat": {"city": "Bern", "tags": ["x"], "nest": {"a": {"b": 3, "c": 2}}},
}


@pytest.fixture
def people(store):
    store.batch([PutOp(("people",), key, value) for key, value in PEOPLE.items()])
    return lambda **kwargs: {item.key for item in store.search(("people",), **kwargs)}


# --- put, get, delete --------------------------------------------------------------------------------------


def test_public_names_are_sorted():
    assert langchain_amfs.__all__ == sorted(langchain_amfs.__all__)


def test_put_get_delete(batch):
    assert batch(PutOp(("users", "u1"), "drink", {"text": "tea"})) == [None]
    (item,) = batch(GetOp(("users", "u1"), "drink"))
    assert (item.namespace, item.key, item.value) == (("users", "u1"), "drink", {"text": "tea"})
    assert batch(PutOp(("users", "u1"), "drink", None)) == [None]
    assert batch(GetOp(("users", "u1"), "drink"), GetOp(("users",), "drink"), GetOp((), "drink")) == [None] * 3


def test_methods_of_the_base_class(store):
    async def awaited():
        await store.aput(("users",), "b", {"n": 2})
        found = [item.key for item in await store.asearch(("users",))]
        assert (await store.aget(("users",), "b")).value == {"n": 2}
        await store.adelete(("users",), "b")
        return found, await store.alist_namespaces()

    store.put(("users",), "a", {"n": 1})
    assert asyncio.run(awaited()) == (["b", "a"], [("users",)])
    assert store.get(("users",), "b") is None
    store.delete(("users",), "nobody")


def test_keys_are_made_strings(store):
    store.put(("users",), 7, {"n": 1})
    assert store.batch([GetOp(("users",), 7)])[0].key == "7"


def test_timestamps_are_aware_and_creation_survives_an_overwrite(store):
    before = datetime.now(UTC) - timedelta(seconds=1)
    store.put(("users",), "u1", {"n": 1})
    first = store.get(("users",), "u1")
    store.put(("users",), "u1", {"n": 2})
    second = store.get(("users",), "u1")
    assert first.created_at == first.updated_at == second.created_at < second.updated_at
    assert before < second.updated_at < datetime.now(UTC) + timedelta(seconds=1)
    assert store.search(("users",))[0].dict() == {**second.dict(), "score": None}


def test_values_are_copies(store):
    value = {"tags": ["tea"]}
    store.put(("users",), "u1", value)
    value["tags"].append("changed by the writer")
    store.get(("users",), "u1").value["tags"].append("changed by a reader")
    store.search(("users",))[0].value["tags"].append("changed by another")
    assert store.get(("users",), "u1").value == {"tags": ["tea"]}


@pytest.mark.parametrize("value", [{"when": datetime.now(UTC)}, {1: 2}, {"n": float("nan")}, {"s": "\ud800"}])
def test_what_is_not_json_is_refused_and_nothing_of_the_batch_is_written(batch, value):
    with pytest.raises(InvalidValueError):
        batch(PutOp(("users",), "good", {"n": 1}), PutOp(("users",), "bad", value))
    assert batch(SearchOp(()), ListNamespacesOp()) == [[], []]


@pytest.mark.parametrize("value", [["a", "list"], "text", 7])
def test_a_value_that_is_no_dict_is_refused(batch, value):
    with pytest.raises(TypeError, match="must be a dict"):
        batch(PutOp(("users",), "u1", value))


def test_an_unknown_operation_is_refused(batch):
    with pytest.raises(TypeError, match="GetOp"):
        batch("get")


# --- batches -----------------------------------------------------------------------------------------------


def test_reads_of_a_batch_see_the_state_before_it(batch):
    put, get = PutOp(("n",), "k", {"v": 2}), GetOp(("n",), "k")
    batch(PutOp(("n",), "k", {"v": 1}))
    first, _, second, found, names = batch(get, put, get, SearchOp(("n",)), ListNamespacesOp())
    assert (first.value, second.value, [i.value for i in found], names) == (
        {"v": 1}, {"v": 1}, [{"v": 1}], [("n",)],
    )  # fmt: skip
    assert batch(get)[0].value == {"v": 2}


def test_the_last_put_of_a_key_wins_and_makes_one_version(batch, memory):
    batch(
        *(PutOp(("n",), "k", {"v": v}) for v in (1, 2)),
        PutOp(("n",), "gone", {}),
        PutOp(("n",), "gone", None),
    )
    batch(PutOp(("n",), "k", None), PutOp(("n",), "k", {"v": 3}))
    assert [entry.value for entry in memory.history("n", "k")] == [{"v": 2}, {"v": 3}]
    assert batch(GetOp(("n",), "gone")) == [None]


def test_a_batch_is_one_group_on_the_timeline(batch, memory):
    batch(PutOp(("n",), "a", {}), PutOp(("m",), "b", {}))
    events = memory.timeline(event_type="write")
    assert [event.summary for event in events] == ["Wrote m/b v1", "Wrote n/a v1"]
    assert len({event.group for event in events}) == 1


def test_an_empty_batch_does_nothing(batch):
    assert batch() == []


# --- search ------------------------------------------------------------------------------------------------


def test_search_is_newest_first_and_pages_are_stable(store):
    for n in range(25):
        store.put(("docs", str(n % 3)), f"k{n}", {"n": n})
    store.put(("docs", "0"), "k3", {"n": 3})
    pages = [store.search(("docs",), limit=7, offset=offset) for offset in range(0, 28, 7)]
    assert [item.value["n"] for page in pages for item in page] == [3, *range(24, 3, -1), 2, 1, 0]
    assert [len(page) for page in pages] == [7, 7, 7, 4]
    assert len(store.search(("docs",))) == 10
    assert store.search(("docs",), limit=0) == []


def test_a_prefix_is_whole_labels(store):
    for namespace in [
        ("foo",),
        ("foobar",),
        ("foo", "bar"),
        ("Foo",),
        ("fo", "o"),
        ("f_o",),
        ("f%",),
        ("foo*",),
    ]:
        store.put(namespace, "k", {})
    assert {item.namespace for item in store.search(("foo",))} == {("foo",), ("foo", "bar")}
    for namespace in [("f_o",), ("f%",), ("foo*",), ("Foo",)]:
        assert [item.namespace for item in store.search(namespace)] == [namespace]
    assert [item.namespace for item in store.search(("fo",))] == [("fo", "o")]
    for nothing in [("*",), ("f",), ("foo", "ba"), ("foob",), ("foo", "*")]:
        assert store.search(nothing) == []
    assert store.get(("fo",), "o/k") is None


@pytest.mark.parametrize(
    ("filters", "keys"),
    [
        (None, "ann bob cat"),
        ({}, "ann bob cat"),
        ({"age": 44}, "bob"),
        ({"age": {"$gt": 31}}, "bob"),
        ({"age": {"$gte": 31, "$lt": 44}}, "ann"),
        ({"age": {"$lte": 31.0}}, "ann"),
        ({"age": {"$ne": 31}}, "bob cat"),
        ({"nobody": {"$ne": 1}}, "ann bob cat"),
        ({"nobody": {"$gt": 1}}, ""),
        ({"city": {"$gt": "Mumbai"}}, "ann bob"),
        ({"city": "Oslo", "age": 44}, ""),
        ({"nest": {"a": {"b": 2}}}, "ann"),
        ({"nest": {"a": {"b": {"$gte": 3}}}}, "cat"),
        ({"nest.a.b": 2}, "ann bob"),
        ({"dotted.key": 3}, "bob"),
        ({"tags": ["x", 1]}, "ann"),
        ({"tags": {"$eq": ["x", 1]}}, "ann"),
        ({"age": {"$in": [44, 45]}}, "bob"),
        ({"$or": [{"age": 44}, {"city": "Bern"}]}, "bob cat"),
        ({"$and": [{"age": {"$gt": 30}}, {"city": {"$ne": "Rome"}}]}, "ann"),
    ],
)
def test_filters(people, filters, keys):
    assert people(filter=filters) == set(keys.split())


@pytest.mark.parametrize(
    "filters",
    [{"age": {"$regex": "."}}, {"$nor": [{"age": 1}]}, {"age": {"$gt": 1, "typo": 2}}, {"$or": {"age": 1}}],
)
def test_a_filter_that_is_not_understood_is_an_error(people, filters):
    with pytest.raises(InvalidFilterError):
        people(filter=filters)


def test_filters_come_before_limits(people):
    assert people(filter={"nobody": {"$ne": 1}}, limit=2, offset=2) == {"ann"}


def test_filters_cannot_inject(people):
    hostile = "x'); DROP TABLE log; --"
    assert people(filter={hostile: 1}) == people(filter={"city": hostile}) == set()
    assert len(people()) == 3


HOSTILE = ["x'); DROP TABLE log; --", "$.a", "$", "a/b", "..", ".", "🍵", "a\"b'c", "%_*[", "a\nb", " "]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_only_texts(store, text):
    store.put(("docs",), text, {text if text[0] != "$" else "f": text, "n": 1})
    store.put(("docs",), "other", {"n": 2})
    assert store.get(("docs",), text).key == text
    assert [item.key for item in store.search(("docs",), filter={"n": 1})] == [text]
    if text[0] != "$":
        assert [item.key for item in store.search(("docs",), filter={text: {"$eq": text}})] == [text]
    store.delete(("docs",), text)
    assert [item.key for item in store.search(("docs",))] == ["other"]
    assert store.memory.verify().ok


@pytest.mark.parametrize("key", ["", "\ud800", "a\0b", "x" * 600])
def test_what_is_no_key_is_refused(batch, key):
    with pytest.raises(InvalidNameError):
        batch(PutOp(("docs",), key, {"n": 1}))
    assert batch(SearchOp(())) == [[]]


# --- namespaces --------------------------------------------------------------------------------------------


@pytest.fixture
def listing(store):
    for namespace in [
        ("a", "b", "c"),
        ("a", "b", "d"),
        ("a", "x", "c"),
        ("b", "c"),
        ("ab",),
        ("a/b",),
        ("a",),
    ]:
        store.put(namespace, "k", {})
    store.put(("gone",), "k", {})
    store.delete(("gone",), "k")
    return store.list_namespaces


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"prefix": ("a",)}, [("a",), ("a", "b", "c"), ("a", "b", "d"), ("a", "x", "c")]),
        ({"prefix": ("a", "*", "c")}, [("a", "b", "c"), ("a", "x", "c")]),
        ({"prefix": ("*", "c")}, [("b", "c")]),
        ({"prefix": ("a/b",)}, [("a/b",)]),
        ({"suffix": ("c",)}, [("a", "b", "c"), ("a", "x", "c"), ("b", "c")]),
        ({"suffix": ("b", "*")}, [("a", "b", "c"), ("a", "b", "d"), ("b", "c")]),
        ({"prefix": ("a",), "suffix": ("c",)}, [("a", "b", "c"), ("a", "x", "c")]),
        ({"prefix": ("a",), "max_depth": 2}, [("a",), ("a", "b"), ("a", "x")]),
        ({"max_depth": 1}, [("a",), ("a/b",), ("ab",), ("b",)]),
        ({"prefix": ("a",), "limit": 2, "offset": 1}, [("a", "b", "c"), ("a", "b", "d")]),
        ({"prefix": ("nowhere",)}, []),
        ({"limit": 0}, []),
    ],
)
def test_list_namespaces(listing, arguments, expected):
    assert listing(**arguments) == expected


@pytest.mark.usefixtures("listing")
def test_conditions_of_one_kind_must_all_hold(store):
    def matching(*conditions):
        return store.batch([ListNamespacesOp(tuple(MatchCondition(*each) for each in conditions))])[0]

    assert matching(("prefix", ("*", "b")), ("prefix", ("a",))) == [("a", "b", "c"), ("a", "b", "d")]
    assert matching(("suffix", ("*", "c")), ("suffix", ("x", "*"))) == [("a", "x", "c")]
    assert matching(("prefix", ("a",)), ("prefix", ("b",))) == []
    assert matching(("suffix", ("c",)), ("suffix", ("d",))) == []
    with pytest.raises(ValueError, match="'infix'"):
        matching(("infix", ("a",)))


ODD = [
    ("a/b", "c"), ("a", "b/c"), ("a", "b", "c"), ("100%",), ("%2F",), ("%",), ("%25",), ("a%2Fb", "c"),
    ("🍵", "ñandú"), (" ", "\t"), ("*",), ("'; --",), ("_",), ("café",), ("cafe\u0301",),
]  # fmt: skip


def test_odd_labels_stay_apart_and_come_back(batch):
    batch(*(PutOp(namespace, "k/1", {"n": n}) for n, namespace in enumerate(ODD)))
    items = batch(*(GetOp(namespace, "k/1") for namespace in ODD))
    assert [(item.namespace, item.value["n"]) for item in items] == [(each, n) for n, each in enumerate(ODD)]
    found, listed = batch(SearchOp((), limit=100), ListNamespacesOp())
    assert {item.namespace for item in found} == set(listed) == set(ODD)


@pytest.mark.parametrize("namespace", [(), ("",), ("a", ""), ("a.b",), ("a\0",), ("a", 1), "users"])
def test_a_namespace_that_cannot_be_written_is_refused(batch, namespace):
    with pytest.raises(InvalidNamespaceError):
        batch(PutOp(namespace, "k", {}))


@pytest.mark.parametrize("namespace", [("",), ("a", ""), (1,), "users"])
def test_a_namespace_that_cannot_be_is_never_read_as_everything(batch, namespace):
    batch(PutOp(("secret",), "k", {}))
    for op in [GetOp(namespace, "k"), SearchOp(namespace), PutOp(namespace, "k", None)]:
        with pytest.raises(InvalidNamespaceError):
            batch(op)


def test_limits_of_names_are_typed_errors(batch):
    with pytest.raises(InvalidNameError):
        batch(PutOp(("a" * 2000,), "k", {}))
    with pytest.raises(InvalidNameError):
        batch(PutOp(("a",), "", {}))
    with pytest.raises(InvalidInputError):
        batch(SearchOp(("a",), limit=-1))


# --- ttl ---------------------------------------------------------------------------------------------------


def test_an_expired_item_is_absent(tmp_path: Path):
    now = [1_750_000_000_000_000]
    with AgentMemory("desk", tmp_path / "ttl.db", clock=lambda: now[0]) as memory, AMFSStore(memory) as store:
        assert store.supports_ttl
        store.put(("codes",), "short", {"n": 1}, ttl=1.5)
        store.put(("codes",), "long", {"n": 2}, ttl=10)
        store.put(("codes",), "ever", {"n": 3}, ttl=None)
        now[0] += 89_000_000
        assert store.get(("codes",), "short", refresh_ttl=False).value == {"n": 1}
        now[0] += 2_000_000
        assert store.get(("codes",), "short") is None
        assert {item.key for item in store.search(("codes",), refresh_ttl=False)} == {"long", "ever"}
        now[0] += 600_000_000
        assert [item.key for item in store.search(("codes",), refresh_ttl=False)] == ["ever"]
        store.delete(("codes",), "ever")
        assert store.list_namespaces() == []
        with pytest.raises(InvalidInputError):
            store.put(("codes",), "never", {}, ttl=-1)


@pytest.mark.parametrize("read", ["get", "aget", "search", "query"])
def test_reading_an_item_gives_it_its_time_again(tmp_path: Path, read):
    now = [1_750_000_000_000_000]
    with AgentMemory("desk", tmp_path / "ttl.db", clock=lambda: now[0]) as memory, AMFSStore(memory) as store:
        reads = {
            "get": lambda **how: store.get(("codes",), "door", **how),
            "aget": lambda **how: asyncio.run(store.aget(("codes",), "door", **how)),
            "search": lambda **how: store.search(("codes",), **how),
            "query": lambda **how: store.search(("codes",), query="door", **how),
        }
        memory.as_agent("author").write("codes", "door", {"n": 1}, ttl=60)
        for _ in range(4):
            now[0] += 50_000_000
            assert reads[read]()
        assert reads[read](refresh_ttl=False)
        entry = memory.read("codes", "door")
        assert (entry.agent_id, entry.committed_by) == ("author", "desk")
        now[0] += 60_000_100  # what is recorded at one time is a microsecond apart
        assert not reads[read]()


def test_the_ttl_config_says_what_is_not_said(tmp_path: Path):
    now = [1_750_000_000_000_000]
    ttl = {"default_ttl": 1, "refresh_on_read": False, "omit_expired": True}
    with AgentMemory("desk", tmp_path / "ttl.db", clock=lambda: now[0]) as memory, AMFSStore(memory, ttl=ttl) as store:
        store.put(("codes",), "usual", {})
        store.put(("codes",), "ever", {}, ttl=None)
        now[0] += 59_000_000
        assert len(store.search(("codes",))) == 2
        now[0] += 1_000_000
        assert [item.key for item in store.search(("codes",))] == ["ever"]


def test_reading_many_items_keeps_their_order(tmp_path: Path):
    now = [1_750_000_000_000_000]
    with AgentMemory("desk", tmp_path / "ttl.db", clock=lambda: now[0]) as memory, AMFSStore(memory) as store:
        for n in range(9):
            store.put(("codes",), f"k{n}", {}, ttl=10)
        now[0] += 60_000_000
        pages = [store.search(("codes",), limit=2, offset=offset) for offset in range(0, 10, 2)]
        assert [item.key for page in pages for item in page] == [f"k{n}" for n in reversed(range(9))]


def test_who_may_not_write_reads_what_expires_nevertheless(tmp_path: Path):
    now = [1_750_000_000_000_000]
    with AgentMemory("desk", tmp_path / "ttl.db", clock=lambda: now[0]) as memory, AMFSStore(memory) as store:
        store.put(("codes",), "door", {"n": 1}, ttl=10)
        memory.create_branch("old")
        memory.close_branch("old")
        now[0] += 60_000_000
        assert store.on_branch("old").get(("codes",), "door").value == {"n": 1}
        reader = Principal(user_id="ann", role="reader")
        with AgentMemory("ann", memory.database, principal=reader, clock=lambda: now[0]) as hers:
            assert AMFSStore(hers).search(("codes",))[0].value == {"n": 1}
        assert len(memory.history("codes", "door")) == 1


def test_a_put_without_ttl_takes_the_deadline_away(tmp_path: Path):
    now = [1_750_000_000_000_000]
    with AgentMemory("desk", tmp_path / "ttl.db", clock=lambda: now[0]) as memory, AMFSStore(memory) as store:
        store.put(("codes",), "door", {"n": 1}, ttl=1)
        store.put(("codes",), "door", {"n": 2})
        now[0] += 3_600_000_000
        assert store.get(("codes",), "door").value == {"n": 2}


def test_an_item_made_anew_after_it_was_deleted_is_new(store):
    store.put(("codes",), "door", {"n": 1})
    store.delete(("codes",), "door")
    store.put(("codes",), "door", {"n": 1})
    item = store.get(("codes",), "door")
    assert item.created_at == item.updated_at


# --- one memory with the other agents ----------------------------------------------------------------------


def test_entries_made_by_other_means_are_items(memory, batch):
    memory.write("checkout.service/100%", "retry", "use backoff")
    memory.write("checkout.service", "limits", {"n": 3})
    (found,) = batch(SearchOp(("checkout.service",)))
    assert [(item.namespace, item.key, item.value) for item in found] == [
        (("checkout.service",), "limits", {"n": 3}),
        (("checkout.service", "100%"), "retry", {"value": "use backoff"}),
    ]
    batch(PutOp(("checkout.service",), "limits", None))
    assert batch(GetOp(("checkout.service",), "limits")) == [None]
    assert memory.read("checkout.service", "limits") is None


def test_items_are_entries_with_a_history(memory, store):
    store.put(("docs", "a/b"), "k", {"n": 1})
    store.put(("docs", "a/b"), "k", {"n": 2})
    assert [entry.value["n"] for entry in memory.history("docs/a%2Fb", "k")] == [1, 2]
    assert memory.read("docs/a%2Fb", "k").agent_id == "desk"


def test_chat_messages_are_left_out(memory, store):
    memory.write("chats/t1", "m1", {"text": "hello"}, memory_type="message")
    store.put(("docs",), "k", {})
    assert [item.namespace for item in store.search(())] == store.list_namespaces() == [("docs",)]


def test_private_entries_of_others_are_invisible(memory, store):
    memory.as_agent("spy").write("docs", "secret", {"n": 1}, shared=False)
    assert store.get(("docs",), "secret") is None
    assert store.search(()) == store.list_namespaces() == []


# --- branches ----------------------------------------------------------------------------------------------


def test_a_view_on_a_branch(memory, store):
    store.put(("docs",), "k", {"n": 1})
    memory.create_branch("try")
    view = store.on_branch("try")
    view.put(("docs",), "k", {"n": 2})
    assert (store.get(("docs",), "k").value, view.get(("docs",), "k").value) == ({"n": 1}, {"n": 2})
    assert [change.key for change in memory.diff_branch("try")] == ["k"]
    with pytest.raises(BranchNotFoundError):
        store.on_branch("nowhere")


def test_the_store_follows_the_memory(memory, store):
    memory.create_branch("next")
    memory.switch_branch("next")
    store.put(("docs",), "k", {})
    memory.switch_branch("main")
    assert store.get(("docs",), "k") is None


def test_inside_an_experiment_puts_land_on_its_branch(memory, batch, store):
    batch(PutOp(("docs",), "k", {"n": 1}))
    with memory.experiment("retry") as experiment:
        batch(PutOp(("docs",), "k", {"n": 2}), PutOp(("docs",), "new", {}))
        assert batch(GetOp(("docs",), "k"))[0].value == {"n": 2}
    assert store.get(("docs",), "k").value == {"n": 1}
    assert {change.key for change in experiment.diff()} == {"k", "new"}
    experiment.merge()
    assert store.get(("docs",), "k").value == {"n": 2}


def test_a_context_that_lost_the_experiment_is_told(memory, store):
    with memory.experiment("retry"), pytest.raises(ExperimentContextLostError):
        contextvars.Context().run(store.put, ("docs",), "k", {})
    assert store.get(("docs",), "k") is None


# --- life --------------------------------------------------------------------------------------------------


def test_from_conn_string_opens_and_closes(tmp_path: Path):
    path = tmp_path / "deep" / "amfs.db"
    with AMFSStore.from_conn_string(path, agent_id="helper", durability="normal") as store:
        store.setup()
        store.put(("docs",), "k", {"n": 1})
        assert store.memory.timeline()[0].agent_id == "helper"
    with pytest.raises(HandleClosedError):
        store.get(("docs",), "k")
    store.close()

    async def awaited():
        async with AMFSStore.from_conn_string(str(path)) as store:
            assert store.memory.agent_id == "langgraph"
            return await store.aget(("docs",), "k")

    assert asyncio.run(awaited()).value == {"n": 1}


def test_closing_a_store_leaves_a_memory_that_it_did_not_open(memory):
    AMFSStore(memory).close()
    memory.write("docs", "k", 1)
