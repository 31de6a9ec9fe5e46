"""An embedder that a search names, and what an embedder says of an entry to embed."""

from __future__ import annotations

import asyncio

import pytest

from amfs import AgentMemory, AsyncAgentMemory, Embedder, EmbeddingError, InvalidInputError

TOPICS = ("tea coffee mate", "car bicycle")


def embed(texts):
    return [[0.01 + sum(word in text for word in topic.split()) for topic in TOPICS] for text in texts]


@pytest.fixture
def mem(tmp_path):
    with AgentMemory("ann", tmp_path / "amfs.db", durability="normal") as mem:
        mem.write("p", "a", {"title": "mate", "body": "bicycle"})
        mem.write("p", "b", {"title": "bicycle", "body": "mate"})
        yield mem
        assert mem.verify().ok


def of_field(name, field):
    return Embedder(embed, name=name, text=lambda entry: entry.value[field])


def best(mem, embedder):
    return mem.search("coffee", embed=embedder, limit=1)[0].entry.key


def test_a_search_may_name_its_embedder(mem):
    assert mem.search("coffee") == []
    assert {hit.entry.key for hit in mem.search("coffee", embed=embed)} == {"a", "b"}
    assert mem.search("coffee") == []
    assert len(asyncio.run(AsyncAgentMemory(mem).search("coffee", embed=embed))) == 2
    assert len(mem.as_agent("bob").search("coffee", embed=embed)) == 2


def test_an_embedder_says_what_of_an_entry_is_embedded(mem):
    titles, bodies = of_field("titles", "title"), of_field("bodies", "body")
    for _ in range(2):
        assert best(mem, titles) == "a"
        assert best(mem, bodies) == "b"
    mem.write("p", "c", {"title": "mate", "body": "x"})
    assert best(mem, titles) == "c"
    assert best(mem, bodies) == "b"


def test_none_is_the_whole_and_no_text_is_not_embedded(mem):
    chosen = Embedder(embed, name="chosen", text=lambda entry: None if entry.key == "a" else "")
    assert [hit.entry.key for hit in mem.search("coffee", embed=chosen)] == ["a"]


def test_the_texts_are_chosen_outside_of_transactions(mem):
    def reading(entry):
        mem.write("seen", entry.key, 1)
        return "mate"

    assert len(mem.search("coffee", entity_path="p", embed=Embedder(embed, name="reading", text=reading))) == 2


def test_what_cannot_be_embedded_is_an_error_and_may_be_tried_again(mem):
    answers = iter([ValueError("not now"), 7, "mate", "mate"])

    def text(_):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    embedder = Embedder(embed, name="picky", text=text)
    with pytest.raises(EmbeddingError, match="not now"):
        mem.search("coffee", embed=embedder)
    with pytest.raises(EmbeddingError, match="must be a str or None"):
        mem.search("coffee", embed=embedder)
    assert len(mem.search("coffee", embed=embedder)) == 2


@pytest.mark.parametrize("wrong", [[1], "model", 7])
def test_what_is_no_embedder_is_refused(mem, wrong):
    with pytest.raises(InvalidInputError, match="embed must be a function"):
        mem.search("coffee", embed=wrong)


def test_more_embedders_than_are_kept_all_answer(mem):
    named = [of_field(f"titles {number}", "title") for number in range(20)]
    assert {best(mem, embedder) for embedder in [*named, *named]} == {"a"}


@pytest.mark.parametrize("settings", [{"text": len}, {"text": "title", "name": "n"}])
def test_what_is_no_text_function_is_refused(settings):
    with pytest.raises(InvalidInputError, match="text must be a function"):
        Embedder(embed, **settings)
