"""Search by meaning: which texts an embedder is given and how often, exact neighbours, embedders that misbehave."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from amfs import (
    AgentMemory,
    AsyncAgentMemory,
    Embedder,
    EmbeddingError,
    InvalidInputError,
    MemoryType,
    SearchHit,
)
from amfs.core import terms
from tests.helpers_embedders import Counting, bag, bags
from tests.helpers_search import NOTHING, K, P, found, keys
from tests.helpers_tables import contents

OpenMemory = Callable[..., AgentMemory]
Make = Callable[[str], list[float]]
BY_MEANING = {**NOTHING, "meaning": 1.0}


def text_of(entry: Any) -> str:
    """Return the text that stands for an entry."""
    return terms.for_meaning(
        entry.entity_path, entry.key, entry.value, is_message=entry.memory_type is MemoryType.MESSAGE
    )


# --- what is embedded, and how often ---------------------------------------------------------------------------------


def test_a_text_is_embedded_once_whoever_searches_again(open_memory: OpenMemory) -> None:
    embed = Counting()
    mem = open_memory(embed=embed)
    mem.write(P, "a", "zebra")
    mem.write("notes", "b", {"animal": "lion", "on": True})
    assert embed.batches == [], "writes embed nothing"
    assert keys(mem.search("a zebra", weights=BY_MEANING))[0] == "a"
    assert embed.texts == ["svc checkout a: zebra", "notes b: animal: lion; on: true", "a zebra"]
    mem.search("a zebra")
    assert embed.texts == ["a zebra"]
    mem.write(P, "a", "tiger")
    mem.search("tiger")
    assert embed.texts == ["svc checkout a: tiger", "tiger"]
    mem.close()
    again = open_memory(embed=Counting())
    other = Counting()
    assert keys(open_memory("bob", embed=other).search("tiger", weights=BY_MEANING))[0] == "a"
    assert other.texts == ["tiger"], "the model is known by what it makes of the probe"
    again.search("tiger")


def test_versions_of_one_value_are_one_text(mem: AgentMemory) -> None:
    embed = Counting()
    with AgentMemory("alice", mem.database, embed=embed) as it:
        for _ in range(3):
            it.write(P, "a", "zebra")
        it.create_branch("x")
        it.write(P, "a", "lion", branch="x")
        it.write(P, "a", "zebra", branch="x")
        it.commit_outcome("o", "success", [(P, "a")])
        for branch in ("main", "x", ["main", "x"]):
            it.search("zebra", branch=branch)
        it.search("zebra", at=it.list()[0].seq)
        assert [text for text in embed.texts if text != "zebra"] == ["svc checkout a: zebra"]


def test_the_same_words_under_several_keys_are_one_text(open_memory: OpenMemory) -> None:
    embed = Counting()
    mem = open_memory(embed=embed)
    for number in range(50):
        mem.write("chat", str(number), "hello", memory_type="message")
    assert len(mem.search("hello", memory_type="message", limit=100, weights=BY_MEANING)) == 50
    assert embed.texts == ["hello", "hello"], "one for the entries, one for the query"


def test_an_empty_query_and_weights_without_meaning_embed_nothing(open_memory: OpenMemory) -> None:
    embed = Counting()
    mem = open_memory(embed=embed)
    mem.write(P, K, "zebra")
    mem.search()
    mem.search(" ")
    assert found(mem, "zebra", weights={"meaning": 0}) == {K}
    assert embed.batches == []


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_texts_are_passed_in_batches(open_memory: OpenMemory, size: int) -> None:
    embed = Counting()
    mem = open_memory(embed=Embedder(embed, batch_size=size))
    for number in range(150):
        mem.write(P, f"k{number}", number)
    mem.search("number")
    lengths = [len(batch) for batch in embed.batches[1:-1]]
    assert sum(lengths) == 150
    assert all(length == size for length in lengths[:-1])
    assert lengths[-1] <= size


def test_queries_may_have_a_model_of_their_own(open_memory: OpenMemory) -> None:
    embed, asked = Counting(), list[str]()

    def of_query(text: str) -> list[float]:
        asked.append(text)
        return bag("lion")

    mem = open_memory(embed=Embedder(embed, query=of_query, name="mine"))
    mem.write(P, "a", "zebra")
    mem.write(P, "b", "lion")
    assert keys(mem.search("zebra", weights=BY_MEANING)) == ["b"]
    assert asked == ["zebra"]
    assert "zebra" not in embed.texts


def test_only_texts_that_the_handle_sees_are_passed(open_memory: OpenMemory) -> None:
    embed = Counting()
    alice = open_memory(embed=embed)
    bob = alice.as_agent("bob")
    alice.write(P, "shared", "zebra one")
    alice.write(P, "hers", "zebra two", shared=False)
    bob.write(P, "his", "zebra three", shared=False)
    alice.create_branch("x")
    alice.write(P, "of x", "zebra four", branch="x")
    open_memory("eve", namespace="elsewhere").write(P, "eve's", "zebra five")
    alice.write(P, "gone", "zebra six")
    alice.delete(P, "gone")

    def passed(mem: AgentMemory, **how: Any) -> set[str]:
        mem.search("zebra", **how)
        return {text.split()[-1] for text in embed.texts if text != "zebra"}

    assert passed(alice) == {"one", "two"}
    assert passed(bob) == {"three"}
    assert passed(bob, branch="x") == {"four"}
    assert passed(alice, branch=["main", "x"]) == set()
    assert passed(alice, at=alice.timeline(agent_id="*", limit=1)[0].seq) == set()
    eve = Counting()
    open_memory("eve", namespace="elsewhere", embed=eve).search("zebra")
    assert [text for text in eve.texts if text != "zebra"] == ["svc checkout eve s: zebra five"]


def test_what_comes_into_view_later_is_embedded_then(open_memory: OpenMemory) -> None:
    embed = Counting()
    mem = open_memory(embed=embed)
    start = mem.write(P, "a", "zebra").seq
    mem.create_branch("x")
    mem.write(P, "b", "lion", branch="x")
    mem.write(P, "a", "tiger")
    steps: list[tuple[Callable[[], object], dict[str, Any], set[str]]] = [
        (lambda: None, {}, {"tiger"}),
        (lambda: mem.merge_branch("x"), {}, {"lion"}),
        (lambda: mem.rollback(seq=start), {}, {"zebra"}),
        (lambda: mem.create_branch("past", at=start), {"branch": "past"}, set()),
        (lambda: mem.write(P, "c", "panther", branch="x"), {}, set()),
        (lambda: mem.cherry_pick("x", [(P, "c")]), {}, {"panther"}),
        (lambda: mem.as_agent("bob").write(P, "c", "puma"), {}, {"puma"}),
    ]
    for act, how, expected in steps:
        act()
        hits = mem.search("svc animal", weights=BY_MEANING, limit=100, **how)
        assert {text.split()[-1] for text in embed.texts} - {"animal"} == expected
        assert {hit.entry.key for hit in hits} == {entry.key for entry in mem.list(branch=how.get("branch"))}


# --- models ----------------------------------------------------------------------------------------------------------


def test_two_models_stand_side_by_side(open_memory: OpenMemory) -> None:
    one, two = Counting(), Counting(lambda text: bag(text, 32, "other"))
    first = open_memory(embed=Embedder(one, name="m"))
    second = open_memory("bob", embed=Embedder(two, name="m"))
    for key in ("zebra", "lion"):
        first.write(P, key, key)
    for _ in range(2):
        assert keys(first.search("svc lion", weights=BY_MEANING)) == ["lion", "zebra"]
        assert keys(second.search("svc zebra", weights=BY_MEANING)) == ["zebra", "lion"]
    assert (len(one.texts), len(two.texts)) == (2 + 2, 2 + 2)


@pytest.mark.parametrize("size", [64, 48])
def test_a_model_that_changed_under_its_name_embeds_anew(open_memory: OpenMemory, size: int) -> None:
    mem = open_memory(embed=Embedder(bags, name="m"))
    mem.write(P, "zebra", "zebra")
    mem.write(P, "lion", "lion")
    mem.search("lion")
    mem.close()
    changed = Counting(lambda text: bag(text, size, "version 2"))
    again = open_memory(embed=Embedder(changed, name="m"))
    assert keys(again.search("svc lion", weights=BY_MEANING)) == ["lion", "zebra"]
    assert len(changed.texts) == 3
    renamed = Counting(lambda text: bag(text, size, "version 2"))
    last = open_memory(embed=Embedder(renamed, name="another name"))
    assert keys(last.search("svc lion", weights=BY_MEANING)) == ["lion", "zebra"]
    assert len(renamed.texts) == 3, "what was made under another name is not used"


def test_a_model_that_is_not_the_same_to_the_last_digit_is_the_same(open_memory: OpenMemory) -> None:
    rng = random.Random(1)

    def trembling(text: str) -> list[float]:
        return [number + rng.uniform(-1e-4, 1e-4) for number in bag(text)]

    mem = open_memory(embed=trembling_list(trembling))
    mem.write(P, K, "zebra")
    mem.search("zebra")
    embed = Counting(trembling)
    open_memory(embed=embed).search("zebra")
    assert embed.texts == ["zebra"]


def trembling_list(make: Callable[[str], list[float]]) -> Callable[[list[str]], list[list[float]]]:
    """Return an embedder of a function of one text."""
    return lambda texts: [make(text) for text in texts]


@pytest.mark.parametrize("as_numpy", [True, False])
def test_vectors_may_be_lists_arrays_tuples_or_made_one_by_one(open_memory: OpenMemory, as_numpy: bool) -> None:
    def lazily(texts: list[str]) -> Any:
        return (np.array(bag(text), dtype=np.float32) if as_numpy else tuple(map(int, bag(text))) for text in texts)

    for embed in (lazily, lambda texts: np.array([bag(text) for text in texts]), lambda texts: tuple(lazily(texts))):
        mem = open_memory(embed=embed)
        mem.write(P, "zebra", "zebra")
        mem.write(P, "lion", "lion")
        assert keys(mem.search("svc zebra", weights=BY_MEANING)) == ["zebra", "lion"]


# --- embedders that misbehave ----------------------------------------------------------------------------------------


async def awaited(texts: list[str]) -> list[list[float]]:
    """Return vectors to who awaits them."""
    return [bag(text) for text in texts]


def failing_late(texts: list[str]) -> Any:
    """Return vectors one by one, and fail."""
    for text in texts:
        yield bag(text)
        raise ValueError("no more")


WRONG: dict[str, Callable[[list[str]], Any]] = {
    "none": lambda _: None,
    "a number": lambda _: 1.0,
    "a text": lambda _: "vector",
    "one vector for all": lambda _: bag("x"),
    "one too few": lambda texts: [bag(text) for text in texts[1:]],
    "one too many": lambda texts: [bag(text) for text in [*texts, "more"]],
    "empty": lambda texts: [[] for _ in texts],
    "of different lengths": lambda texts: [[1.0] * number for number, _ in enumerate(texts)],
    "nan": lambda texts: [[1.0, float("nan")] for _ in texts],
    "infinite": lambda texts: [[1.0, float("-inf")] for _ in texts],
    "texts": lambda texts: [["a", "b"] for _ in texts],
    "nothing in them": lambda texts: [[None, None] for _ in texts],
    "complex": lambda texts: [[1j] for _ in texts],
    "beyond floats": lambda texts: [[10**400] for _ in texts],
    "nested": lambda texts: [[bag(text)] for text in texts],
    "a mapping": lambda texts: dict.fromkeys(texts, 1.0),
    "a coroutine": awaited,
    "an error": lambda texts: texts[len(texts)],
    "an error on the way": failing_late,
    "not for a list": lambda texts: texts.upper(),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("of", ["probe", "texts", "query"])
def test_what_is_no_vector_is_refused_and_nothing_is_broken(open_memory: OpenMemory, of: str, what: str) -> None:
    wrong, database = True, ""

    def embed(texts: list[str]) -> Any:
        first = texts[0]
        kind = "probe" if first.startswith("Agents") else "query" if first == "zebra" else "texts"
        return WRONG[what](texts) if wrong and kind == of else [bag(text) for text in texts]

    mem = open_memory(embed=Embedder(embed, name="of the test"))
    for number in range(3):
        mem.write(P, f"{number}", "zebra " + "x" * number)
    database = mem.database
    rows = contents(database)["log"]
    for _ in range(2):
        with pytest.raises(EmbeddingError, match="of the test") as caught:
            mem.search("zebra")
        assert caught.value.code == "embedding"
    assert found(mem, "zebra", weights={"meaning": 0}) == {"0", "1", "2"}
    assert contents(database)["log"] == rows
    assert mem.verify().ok
    wrong = False
    assert found(mem, "zebra", weights=BY_MEANING) == {"0", "1", "2"}


def test_an_error_of_the_embedder_is_the_cause(open_memory: OpenMemory) -> None:
    def embed(_: list[str]) -> Any:
        raise TimeoutError("the model is far away")

    mem = open_memory(embed=embed)
    mem.write(P, K, "zebra")
    with pytest.raises(EmbeddingError, match="far away") as caught:
        mem.search("zebra")
    assert isinstance(caught.value.__cause__, TimeoutError)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_was_made_before_a_failure_is_kept(open_memory: OpenMemory, error: type[BaseException]) -> None:
    calls, embed = 0, Counting()

    def sometimes(texts: list[str]) -> list[list[float]]:
        nonlocal calls
        calls += 1
        if calls == 4:  # the probe, two batches, and then
            raise error
        return embed(texts)

    mem = open_memory(embed=Embedder(sometimes, batch_size=10))
    for number in range(35):
        mem.write(P, f"k{number}", number)
    with pytest.raises(EmbeddingError if error is RuntimeError else error):
        mem.search("number")
    assert len(embed.texts) == 20
    assert len(mem.search("svc number", limit=100, weights=BY_MEANING)) == 35
    assert len(embed.texts) == 15 + 1
    mem.close()
    other = Counting()
    open_memory(embed=other).search("number")
    assert other.texts == ["number"]


def test_a_model_that_changes_its_length_is_refused(open_memory: OpenMemory) -> None:
    size = 64
    mem = open_memory(embed=lambda texts: [bag(text, size) for text in texts])
    mem.write(P, "a", "zebra")
    mem.search("zebra")
    size = 32
    for query in ("zebra", "lion"):
        mem.write(P, "b", query)
        with pytest.raises(EmbeddingError, match="32 numbers where it made 64"):
            mem.search(query)
    size = 64
    assert found(mem, "svc zebra", weights=BY_MEANING) == {"a", "b"}


EXTREME = {
    "huge": lambda text: [number * 1e300 for number in bag(text)],
    "tiny": lambda text: [number * 5e-324 for number in bag(text)],
    "negative": lambda text: [-number for number in bag(text)],
    "of one number": lambda text: [float(len(text))],
}


@pytest.mark.parametrize("what", EXTREME)
def test_vectors_of_any_length_count_by_their_direction(open_memory: OpenMemory, what: str) -> None:
    mem = open_memory(embed=Counting(EXTREME[what]))
    for key in ("zebra", "lion", "tiger"):
        mem.write(P, key, key)
    hits = mem.search("svc checkout lion: lion", weights=BY_MEANING)
    assert len(hits) == 3
    assert hits[0].score == pytest.approx(1)
    assert keys(hits)[0] == ("tiger" if what == "of one number" else "lion"), "all are equal: the newest"


def test_vectors_of_nothing_but_zeros_are_near_to_nothing(open_memory: OpenMemory) -> None:
    mem = open_memory(embed=lambda texts: [[0.0] * 8 if "zebra" in text else bag(text, 8) for text in texts])
    mem.write(P, "a", "zebra")
    mem.write(P, "b", "lion")
    assert keys(mem.search("lion", weights=BY_MEANING)) == ["b"]
    hits = mem.search("zebra")
    assert keys(hits)[0] == "a", "by its words"
    assert mem.search("zebra", weights=BY_MEANING) == []


@pytest.mark.parametrize("embed", [1, "model", [], object(), Embedder])
def test_what_cannot_be_called_is_no_embedder(tmp_path: Path, embed: Any) -> None:
    with pytest.raises((InvalidInputError, EmbeddingError)):  # noqa: SIM117
        with AgentMemory("alice", tmp_path / "x.db", embed=embed) as mem:
            mem.search("zebra")


@pytest.mark.parametrize("size", [0, -1, 1.5, "1", None, True])
def test_a_batch_has_a_size(size: Any) -> None:
    with pytest.raises(InvalidInputError, match="batch_size"):
        Embedder(bag, batch_size=size)  # type: ignore[arg-type]


# --- exactness -------------------------------------------------------------------------------------------------------


def nearest(mem: AgentMemory, query: str, make: Make, **how: Any) -> list[tuple[float, int]]:
    """Return the cosines with a query of all that is listed, and their seqs, the nearest and then the newest first."""

    def unit(text: str) -> Any:
        vector = np.array(make(text))
        return vector / np.linalg.norm(vector)

    wanted = unit(query)
    entries = [*mem.list(**how), *mem.list(memory_type="message", **how)]
    return sorted(
        ((float(unit(text_of(one)) @ wanted), one.seq) for one in entries), key=lambda pair: (-pair[0], -pair[1])
    )


def assert_exact(mem: AgentMemory, query: str, make: Make, **how: Any) -> None:
    """Compare all hits by meaning with brute force, by their cosines; those that are equally near may change places."""
    kinds = ["fact", "message"]
    hits, cursor = list[SearchHit](), "0"
    while cursor is not None:
        page = mem.search(query, weights=BY_MEANING, memory_type=kinds, limit=37, cursor=cursor, **how)
        hits.extend(page)
        cursor = page.next_cursor
    expected = [pair for pair in nearest(mem, query, make, **how) if pair[0] > 0]  # the others are near to nothing
    assert {hit.entry.seq for hit in hits} == {seq for _, seq in expected}
    cosine = {seq: cosine for cosine, seq in expected}
    ordered = [cosine[hit.entry.seq] for hit in hits]
    assert ordered == pytest.approx(sorted(cosine.values(), reverse=True), abs=1e-6)
    assert [hit.score for hit in hits] == pytest.approx([one / expected[0][0] for one in ordered], abs=1e-5)


def scattered(text: str) -> list[float]:
    """Return a random direction for each text."""
    return np.random.default_rng(list(text.encode())).normal(size=24).tolist()


@pytest.mark.parametrize("seed", range(3))
def test_the_nearest_are_exactly_the_nearest_on_any_branch_and_as_of_any_seq(
    open_memory: OpenMemory, seed: int
) -> None:
    rng = random.Random(seed)
    embed = Counting(scattered)
    mem = open_memory(embed=embed)
    branches, seqs = ["main"], list[int]()
    for number in range(400):
        branch, key = rng.choice(branches), f"k{rng.randrange(90)}"
        kind = "message" if key.endswith("7") else "fact"
        seqs.append(mem.write(P, key, number, branch=branch, memory_type=kind).seq)
        if number % 50 == 20:
            at = rng.choice([None, rng.choice(seqs)])
            branches.append(f"b{number}")
            mem.create_branch(branches[-1], source="main", at=at)
        if number % 97 == 96:
            mem.merge_branch(rng.choice(branches[1:]), target="main", strategy="source_wins")
        if number % 40 == 39:
            assert_exact(mem, f"query {number}", scattered, branch=rng.choice(branches))
    for branch in branches:
        assert_exact(mem, "query", scattered, branch=branch)
    for _ in range(4):
        seq = rng.choice(seqs)
        if mem.list(at=seq):
            assert_exact(mem, f"as of {seq}", scattered, at=seq)
    given = [text for text in embed.texts if not text.startswith(("query", "as of"))]
    assert len(given) == len(set(given)), "each text once"


def test_what_is_superseded_does_not_disturb_the_rest(open_memory: OpenMemory) -> None:
    mem = open_memory(embed=Counting(scattered))
    for round_ in range(10):
        with mem.transaction() as tx:
            for number in range(300):
                tx.write(P, f"k{number}", [round_, number])
        assert_exact(mem, f"round {round_}", scattered)
    with mem.transaction() as tx:
        for number in range(290):
            tx.delete(P, f"k{number}")
    assert_exact(mem, "the last ten", scattered)


# --- where it runs ---------------------------------------------------------------------------------------------------


def test_threads_search_and_write_and_each_text_is_embedded_once(open_memory: OpenMemory) -> None:
    embed = Counting(scattered)
    mem = open_memory(embed=embed)
    barrier = Barrier(6)

    def work(number: int) -> None:
        barrier.wait(60)
        for step in range(15):
            mem.write(P, f"{number}.{step}", [number, step])
            hits = mem.search(f"query {number} {step}", limit=1000, weights={**BY_MEANING, "text": 1e-9})
            assert {hit.entry.value[1] for hit in hits if hit.entry.value[0] == number} <= set(range(step + 1))
            nearest_own = mem.search(text_of(mem.read(P, f"{number}.{step}")), weights=BY_MEANING, limit=1)
            assert keys(nearest_own) == [f"{number}.{step}"], "what was just written is embedded"

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    given = {text for text in embed.texts if not text.startswith("query")}
    assert sorted(given) == sorted(map(text_of, mem.list()))
    assert_exact(mem, "after all", scattered)


@pytest.mark.parametrize("known", [True, False])
def test_a_read_only_database_stores_nothing(open_memory: OpenMemory, database: Path, known: bool) -> None:
    mem = open_memory(embed=bags if known else None)
    mem.write(P, "zebra", "zebra")
    mem.search("zebra")
    mem.write(P, "lion", "lion")
    mem.write(P, "lion again", "lion")
    before = contents(database)
    embed = Counting()
    with AgentMemory("bob", f"file:{database}?mode=ro", embed=Embedder(embed, batch_size=1)) as reader:
        for _ in range(2):
            assert keys(reader.search("lion", weights=BY_MEANING, limit=2)) == ["lion", "lion again"]
            assert len(reader.search("svc zebra", weights=BY_MEANING)) == 3
        assert len(embed.texts) == (2 if known else 3) + 4
        mem.write(P, "tiger", "tiger")
        assert keys(reader.search("tiger", weights=BY_MEANING))[0] == "tiger"
        assert embed.texts == ["svc checkout tiger: tiger", "tiger"]
    after = contents(database)
    assert all(after[name] == before[name] for name in before if "emb" in name or "search" in name)


def test_an_embedder_may_write_and_search_meanwhile(open_memory: OpenMemory) -> None:
    inside: list[set[str]] = []

    def embed(texts: list[str]) -> list[list[float]]:
        mem.write("log", f"of {len(inside)}", "embedded")
        inside.append(found(mem, "zebra", weights={"meaning": 0}) | found(mem.as_agent("bob"), entity_path=P))
        return bags(texts)

    mem = open_memory(embed=embed)
    mem.write(P, K, "zebra")
    assert keys(mem.search("zebra"))[0] == K
    assert inside == [{K}] * 3


def test_an_embedder_that_asks_for_vectors_itself_is_told_so(open_memory: OpenMemory) -> None:
    searching = True

    def embed(texts: list[str]) -> list[list[float]]:
        if searching:
            mem.search("lion")
        return bags(texts)

    mem = open_memory(embed=Embedder(embed, query=lambda text: embed([text])[0]))
    mem.write(P, K, "zebra")
    with pytest.raises(EmbeddingError, match="searched by meaning"):
        mem.search("zebra")
    searching = False
    assert found(mem, "zebra") == {K}
    searching = True
    with pytest.raises(EmbeddingError, match="searched by meaning"):
        mem.search("zebra")


async def test_the_awaited_twin_embeds_on_a_thread_of_its_own(open_memory: OpenMemory) -> None:
    amem = AsyncAgentMemory(open_memory(embed=bags))
    await amem.write(P, "zebra", "zebra")
    await amem.write(P, "lion", "lion")
    assert keys(await amem.search("svc lion", weights=BY_MEANING)) == ["lion", "zebra"]
