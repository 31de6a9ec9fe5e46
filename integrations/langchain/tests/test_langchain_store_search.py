"""Searches of the store with a query: by words, and with an index by meaning, of what the index holds."""

import asyncio

import pytest
from langchain_amfs import AMFSStore
from langchain_core.embeddings import Embeddings
from langgraph.store.base import GetOp, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore

from amfs import AgentMemory
from amfs.errors import EmbeddingError, InvalidFilterError, InvalidInputError

SENSES = (("tea", "coffee", "drink", "mate"), ("car", "bicycle", "drive"), ("rome", "oslo", "city"))


def embed(texts):
    """A model that knows three topics, and next to nothing of the rest."""
    embed.calls.extend(texts)
    return [[0.01 + sum(text.lower().count(word) for word in sense) for sense in SENSES] for text in texts]


embed.calls = []


async def aembed(texts):
    return embed(texts)


class Model(Embeddings):
    def embed_documents(self, texts):
        return embed(texts)

    def embed_query(self, text):
        return embed([text])[0]


def indexed(memory, **config):
    return AMFSStore(memory, index={"dims": 3, "embed": embed, **config})


def keys(items):
    return [item.key for item in items]


# --- words -------------------------------------------------------------------------------------------------


def test_words_find_and_order_items_below_the_prefix(store):
    store.put(("notes", "ann"), "a", {"text": "Ann drinks green tea in the morning"})
    store.put(("notes", "ann"), "b", {"text": "tea"})
    store.put(("notes", "bob"), "c", {"text": "Bob drinks green tea"})
    store.put(("notes2",), "d", {"text": "green tea"})
    found = store.search(("notes",), query="who drinks green tea?")
    assert set(keys(found)) == {"a", "b", "c"}
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
    assert keys(store.search(("notes", "ann"), query="green tea"))[0] == "a"
    assert len(store.search((), query="green tea", limit=100)) == 4
    assert store.search(("notes",), query="engine") == []
    assert {item.score for item in store.search(("notes",))} == {None}


def test_awaited_batches_and_pages_say_the_same(store):
    for n in range(25):
        store.put(("docs",), f"k{n}", {"text": "tea " * (n % 7 + 1), "n": n})
    whole = store.search(("docs",), query="tea", limit=100)
    assert len(whole) == 25
    pages = [store.search(("docs",), query="tea", limit=7, offset=offset) for offset in range(0, 28, 7)]
    assert keys(item for page in pages for item in page) == keys(whole)
    ops = [SearchOp(("docs",), query="tea", limit=3), GetOp(("docs",), "k3"), SearchOp(("docs",), limit=2)]
    for answers in (store.batch(ops), asyncio.run(store.abatch(ops))):
        assert [keys(answers[0]), answers[1].key, keys(answers[2])] == [keys(whole[:3]), "k3", ["k24", "k23"]]
    assert store.search(("docs",), query="tea", limit=0) == []


def test_a_query_of_a_batch_sees_the_state_before_it(batch):
    batch(PutOp(("docs",), "old", {"text": "tea"}))
    found, _ = batch(SearchOp(("docs",), query="tea"), PutOp(("docs",), "new", {"text": "tea"}))
    assert keys(found) == ["old"]
    assert set(keys(batch(SearchOp(("docs",), query="tea"))[0])) == {"old", "new"}


def test_filters_hold_for_queries(store):
    for n in range(30):
        store.put(("docs",), f"k{n}", {"text": "tea", "n": n})
    assert set(keys(store.search(("docs",), query="tea", filter={"n": {"$gte": 28}}))) == {"k28", "k29"}
    with pytest.raises(InvalidFilterError):
        store.search(("docs",), query="tea", filter={"n": {"$near": 1}})


@pytest.mark.parametrize("query", ["", "  ", "\t\n"])
def test_an_empty_query_is_none(store, query):
    store.put(("docs",), "a", {"text": "tea"})
    (item,) = store.search(("docs",), query=query)
    assert item.score is None


@pytest.mark.parametrize(
    "query",
    ["'); DROP TABLE log; --", "$.a", 'tea" OR "x', "tea*", "NEAR(tea x)", "-tea", "key:tea", "🍵", "?!", "%_"],
)
def test_nothing_in_a_query_is_an_operator(store, query):
    store.put(("docs",), "a", {"text": query})
    store.put(("docs",), "other", {"text": "nothing of that"})
    assert keys(store.search(("docs",), query=query)) in ([], ["a"])
    assert len(store.search(("docs",))) == 2


@pytest.mark.parametrize("query", ["\ud800", "tea\0"])
def test_a_query_that_is_no_text_is_a_typed_error(store, query):
    with pytest.raises(InvalidInputError):
        store.search(("docs",), query=query)


@pytest.mark.parametrize(("limit", "offset"), [(-1, 5), (5, -1)])
def test_limits_of_a_query_are_checked(batch, limit, offset):
    with pytest.raises(InvalidInputError):
        batch(SearchOp(("docs",), query="tea", limit=limit, offset=offset))


def test_a_query_finds_what_its_branch_holds(memory, store):
    store.put(("docs",), "a", {"text": "tea"})
    memory.create_branch("try")
    view = store.on_branch("try")
    view.put(("docs",), "b", {"text": "tea"})
    assert keys(store.search(("docs",), query="tea")) == ["a"]
    assert set(keys(view.search(("docs",), query="tea"))) == {"a", "b"}
    with memory.experiment("x"):
        store.put(("docs",), "c", {"text": "tea"})
        assert set(keys(store.search(("docs",), query="tea"))) == {"a", "c"}


def test_hits_of_another_agent_are_read(memory, store):
    memory.as_agent("author").write("docs", "a", {"text": "tea"})
    store.search(("docs",), query="tea")
    (event,) = memory.timeline(agent_id="author", event_type="cross_agent_read")
    assert (event.actor, event.details["key"]) == ("desk", "a")


# --- meaning -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [embed, aembed, Model()])
def test_with_an_index_meaning_counts(memory, model):
    store = indexed(memory, embed=model)
    store.put(("docs",), "a", {"text": "She likes mate"})
    store.put(("docs",), "b", {"text": "A red bicycle"})

    async def awaited():
        return await store.asearch(("docs",), query="coffee", limit=1)

    async def on_the_loop():
        return store.search(("docs",), query="coffee", limit=1)

    expected = InMemoryStore(index={"dims": 3, "embed": embed})
    expected.put(("docs",), "a", {"text": "She likes mate"})
    expected.put(("docs",), "b", {"text": "A red bicycle"})
    wanted = keys(expected.search(("docs",), query="coffee", limit=1))
    assert keys(store.search(("docs",), query="coffee", limit=1)) == wanted == ["a"]
    assert keys(asyncio.run(awaited())) == keys(asyncio.run(on_the_loop())) == wanted


def test_only_the_fields_of_the_index_are_embedded(memory):
    store = indexed(memory, fields=["title", "parts[*].name"])
    store.put(("docs",), "a", {"title": "mate", "note": "a bicycle in Rome", "parts": [{"name": "x"}, {"name": "y"}]})
    store.put(("docs",), "b", {"title": "bicycle", "note": "mate"})
    store.put(("docs",), "c", {"note": "mate"})
    embed.calls.clear()
    assert keys(store.search(("docs",), query="coffee"))[0] == "a"
    texts = [text for text in embed.calls if text in ("mate\nx\ny", "bicycle", "mate")]
    assert sorted(texts) == ["bicycle", "mate\nx\ny"]
    assert "c" not in keys(store.search(("docs",), query="coffee"))


def test_a_put_says_what_of_it_is_embedded(memory):
    store = indexed(memory, fields=["title"])
    store.put(("docs",), "usual", {"title": "mate", "body": "bicycle"})
    store.put(("docs",), "body", {"title": "mate", "body": "bicycle"}, index=["body"])
    store.put(("docs",), "never", {"title": "coffee", "body": "coffee"}, index=False)
    store.put(("docs",), "empty", {"title": "coffee"}, index=[])
    store.put(("docs",), "whole", {"title": "x", "body": "y", "more": "Rome"}, index=["$"])
    assert keys(store.search(("docs",), query="coffee", limit=1)) == ["usual"]
    assert keys(store.search(("docs",), query="drive", limit=1)) == ["body"]
    assert keys(store.search(("docs",), query="oslo", limit=1)) == ["whole"]
    found = keys(store.search(("docs",), query="coffee", limit=100))
    assert not {"never", "empty"} & set(found)
    assert set(keys(store.search(("docs",)))) == {"usual", "body", "never", "empty", "whole"}
    assert store.get(("docs",), "never").value == {"title": "coffee", "body": "coffee"}


def test_items_that_are_not_indexed_leave_their_place_to_others(memory):
    store = indexed(memory)
    for n in range(20):
        store.put(("docs",), f"no{n}", {"text": "tea tea tea"}, index=False)
    for n in range(5):
        store.put(("docs",), f"yes{n}", {"text": "tea"})
    assert set(keys(store.search(("docs",), query="tea", limit=5))) == {f"yes{n}" for n in range(5)}
    assert len(store.search(("docs",), query="tea", limit=3, offset=3)) == 2


def test_what_a_put_said_holds_on_a_branch_and_for_another_store(memory, tmp_path):
    store = indexed(memory, fields=["title"])
    store.put(("docs",), "a", {"title": "mate", "body": "bicycle"}, index=["body"])
    memory.create_branch("try")
    with AMFSStore.from_conn_string(tmp_path / "amfs.db", index={"dims": 3, "embed": embed}) as other:
        for view in (other, other.on_branch("try")):
            assert keys(view.search(("docs",), query="drive")) == ["a"]


def test_vectors_are_made_once(memory, tmp_path):
    store = indexed(memory, fields=["text"])
    store.put(("docs",), "a", {"text": "a cup of mate"})
    store.search(("docs",), query="coffee")
    embed.calls.clear()
    store.search(("docs",), query="coffee")
    with AMFSStore.from_conn_string(tmp_path / "amfs.db", index={"embed": embed, "fields": ["text"]}) as other:
        other.search(("docs",), query="coffee")
    assert "a cup of mate" not in embed.calls


def test_two_indexes_do_not_mix(memory):
    titles, bodies = indexed(memory, fields=["title"]), indexed(memory, fields=["body"])
    titles.put(("docs",), "a", {"title": "mate", "body": "bicycle"})
    titles.put(("docs",), "b", {"title": "bicycle", "body": "mate"})
    for _ in range(2):
        assert keys(titles.search(("docs",), query="coffee", limit=1)) == ["a"]
        assert keys(bodies.search(("docs",), query="coffee", limit=1)) == ["b"]


def test_a_failing_model_is_an_error_and_nothing_is_lost(memory):
    def broken(_):
        raise OSError("no network")

    store = indexed(memory, embed=broken)
    store.put(("docs",), "a", {"text": "tea"})
    with pytest.raises(EmbeddingError, match="no network"):
        store.search(("docs",), query="tea")
    with pytest.raises(EmbeddingError, match="dims=7"):
        indexed(memory, dims=7).search(("docs",), query="tea")
    assert store.get(("docs",), "a").value == {"text": "tea"}


@pytest.mark.parametrize("index", [True, "title", [1], {"a": 1}])
def test_an_index_that_is_none_is_refused(memory, index):
    with pytest.raises(TypeError, match="index must be"):
        indexed(memory).put(("docs",), "a", {}, index=index)


def test_an_index_needs_a_model(memory):
    with pytest.raises(ValueError, match="embed must be provided"):
        AMFSStore(memory, index={"dims": 3})


def test_without_an_index_what_a_put_says_of_it_is_ignored(store):
    store.put(("docs",), "a", {"text": "tea"}, index=False)
    store.put(("docs",), "b", {"text": "tea"}, index=["nowhere"])
    assert set(keys(store.search(("docs",), query="tea"))) == {"a", "b"}


def test_the_embedder_of_the_memory_serves_a_store_without_an_index(tmp_path):
    with AgentMemory("desk", tmp_path / "m.db", embed=embed) as memory, AMFSStore(memory) as store:
        store.put(("docs",), "a", {"text": "mate"})
        store.put(("docs",), "b", {"text": "bicycle"})
        assert keys(store.search(("docs",), query="coffee", limit=1)) == ["a"]
        assert memory.verify().ok
