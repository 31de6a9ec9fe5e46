"""Search and input that is strange or wrong: a sensible answer or an error of ours, and nothing broken afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from amfs import (
    AgentMemory,
    AMFSError,
    BranchNotFoundError,
    InvalidFilterError,
    InvalidInputError,
    InvalidNameError,
    TagNotFoundError,
    Tokenizer,
)
from tests.helpers_search import K, P, found, keys

MIB = 1 << 20
INJECTIONS = ["x'; DROP TABLE log; --", '"; DELETE FROM log; --', "a' OR '1'='1", "%", "_", "a%", "*", "?1", ":a", "$a"]


@pytest.fixture(params=list(Tokenizer))
def strict(request: pytest.FixtureRequest, file_mem: AgentMemory) -> Iterator[AgentMemory]:
    """Return a memory in which a search finds one of two entries, by each tokenizer, before the test and after it."""
    file_mem.rebuild_search_index(request.param)
    file_mem.write(P, K, "the zebra and near")
    file_mem.write(P, "second", {"column": "lion"})
    assert found(file_mem, "zebra") == {K}
    yield file_mem
    assert found(file_mem, "zebra") == {K}
    assert found(file_mem, "column") == {"second"}
    assert found(file_mem) == {K, "second"}
    assert file_mem.verify().ok


@pytest.fixture
def normal(file_mem: AgentMemory) -> Iterator[AgentMemory]:
    """Return a memory in which a search finds one of two entries, before the test and after it."""
    file_mem.write(P, K, "the zebra")
    file_mem.write("a/b", "second", {"n": 1})
    assert found(file_mem, "zebra") == {K}
    yield file_mem
    assert found(file_mem, "zebra") == {K}
    assert found(file_mem) == {K, "second"}
    assert file_mem.verify().ok


# --- queries ---------------------------------------------------------------------------------------------------------

SYNTAX = [
    "AND", "OR", "NOT", "NEAR", "zebra AND", "AND zebra", "zebra OR", "NOT zebra", "zebra NOT zebra", "zebra AND lion",
    "NEAR(zebra lion, 5)", "NEAR(", "NEAR(zebra", "^zebra", "zebra*", "*", "zebra^", "-zebra", "+zebra", "zebra + near",
    "text:zebra", "{path key}:zebra", "{path key} : zebra", "- {path} : zebra", "col:zebra", "rowid:1", "rank:1",
    'search_current_text:"zebra"', "zebra:", ":zebra", "(zebra)", "(zebra", "zebra)", "((((zebra", '"zebra', 'zebra"',
    '"zebra"', '""zebra""', "'zebra'", "''", "zebra'--", "zebra;", "zebra\\", "\\zebra", "zebra/**/", "zebra, near",
    "{zebra}", "[zebra]", "<zebra>", "zebra=1", "zebra|near", "zebra&near", "!zebra", "@zebra", "#zebra", "$zebra",
    "%zebra%", "`zebra`", "~zebra", "zebra?", "?1 zebra", "zebra\nnear", "zebra\tnear\r\n", "ZEBRA", "zebra\u0301",
    *(f"zebra {text}" for text in INJECTIONS),
]  # fmt: skip


def test_no_character_of_a_query_is_an_operator(strict: AgentMemory) -> None:
    seq = strict.list()[-1].seq
    for query in SYNTAX:
        hits = found(strict, query)
        assert hits <= {K, "second"}, query
        assert K in hits or "zebra" not in query.lower(), query
        assert (K in found(strict, query, at=seq, entity_path=P)) == (K in hits), query


def test_words_that_stand_everywhere_are_looked_for_if_there_are_no_others(strict: AgentMemory) -> None:
    for query in ("the and of", "the", "AND THE", "is it the"):
        assert found(strict, query) == {K}, query


NOTHING_TO_FIND = [
    ".", "!?", "---", '"', '""', "''", "()", "*", "^", "\\", "\u2026\u2014", "\U0001f600", "\U0001f600 \u2764",
    "_", "__", "\u0301", "\u200b", "\ufeff", "\u202e", "\x01\x02", "\x7f", "\ue000", "\U0010ffff", "unheard-of",
    "\u0301" * 1000, "." * 100_000, "-" * MIB,
]  # fmt: skip


def test_what_is_no_word_finds_nothing(strict: AgentMemory) -> None:
    for query in NOTHING_TO_FIND:
        page = strict.search(query)
        assert (page, page.next_cursor) == ([], None), query[:100]


LARGE = {
    "100 kB of words": " ".join(f"word{number}" for number in range(11_000)) + " zebra",
    "a megabyte of words": ("zebra " + "filler " * (MIB // 7))[:MIB],
    "a megabyte in one word": "z" * MIB,
    "a megabyte of accents": "e" + "\u0301" * (MIB // 2 - 1),
    "a megabyte of one ideograph": "\u4e2d" * (MIB // 3),
    "many short words": "ab " * 60_000,
    "many quotes": '"' * MIB,
}


def test_a_large_query_is_answered(strict: AgentMemory) -> None:
    for which, query in LARGE.items():
        assert found(strict, query) == ({K} if which == "a megabyte of words" else set()), which
        assert found(strict, f"zebra {query}".encode()[:MIB].decode(errors="ignore")) == {K}, which


def test_beyond_a_megabyte_a_query_is_refused(strict: AgentMemory) -> None:
    for query in ("zebra " * MIB, "z" * (MIB + 1), "\u4e2d" * MIB):
        with pytest.raises(InvalidInputError, match=r"query is \d+ bytes long"):
            strict.search(query)


def test_what_is_no_text_is_refused(strict: AgentMemory) -> None:
    wrong: list[Any] = ["\0", "zebra\0", "\0zebra", "\ud800", "zebra \udfff", b"zebra", 1, 1.5, True, ["zebra"], object]
    for query in wrong:
        with pytest.raises(InvalidNameError, match="query"):
            strict.search(query)


def test_a_text_that_makes_something_else_of_itself_is_a_text(strict: AgentMemory) -> None:
    class Odd(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "lion"

        def strip(self, *_: Any) -> str:
            return "lion"

    assert found(strict, Odd("zebra")) == {K}


# --- filters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize("query", ["zebra", None])
def test_names_in_filters_are_data(normal: AgentMemory, query: str | None, text: str) -> None:
    normal.create_branch("x")
    for how in (
        {"entity_path": text}, {"agent_id": text}, {"pattern_refs": [text]}, {"filter": {text.replace("$", "d"): 1}},
        {"filter": {"n": text}},
    ):  # fmt: skip
        assert found(normal, query, **how) == found(normal, query, branch="x", **how) == set()
    for how in ({"at": text}, {"since": text}, {"until": text}):
        with pytest.raises(TagNotFoundError):
            normal.search(query, **how)
    with pytest.raises(BranchNotFoundError):
        normal.search(query, branch=text)
    normal.write(text, text, "a zebra of that name", branch="x", pattern_refs=[text])
    assert found(normal, query, branch="x", entity_path=text, pattern_refs=[text]) == {text}
    normal.close_branch("x")


@pytest.mark.parametrize(
    ("path", "holds"), [("a", 1), ("a/b", 1), ("A", 0), ("b", 0), ("a/b/c", 0), ("a-", 0), ("a0", 0)]
)
def test_a_path_is_compared_by_segments(normal: AgentMemory, path: str, holds: int) -> None:
    assert len(found(normal, entity_path=path)) == len(found(normal, "second", entity_path=path)) == holds


WRONG: dict[str, list[Any]] = {
    "entity_path": ["", "/", "a//b", "/a", "a/", "a\0", "\ud800", 1, b"a", ["a"], "a" * 1025],
    "agent_id": ["", "\0", 1, ["alice"], "\ud800", "a" * 256],
    "memory_type": ["", "facts", 1, True, ["fact", "no"], [None], [["fact"]], b"fact", object()],
    "min_confidence": [-0.1, 1.1, float("nan"), float("inf"), "1", True, None, [0.5], 10**400],
    "since": [-1, True, 1.5, b"x", [], datetime(2025, 1, 1), "no tag", "", 10**400],  # noqa: DTZ001 - naive on purpose
    "until": [-1, True, 1.5, b"x", [], datetime(2025, 1, 1), "no tag", "", 10**9, 10**400],  # noqa: DTZ001 - as above
    "at": [
        -1, True, 1.5, b"x", [], {}, datetime(2025, 1, 1), "no tag", "", 10**9, 2**63, 2**64, 10**400,  # noqa: DTZ001
        datetime(1, 1, 1, tzinfo=UTC), float("nan"),
    ],
    "pattern_refs": ["p", b"p", 1, None, [1], [None], [""], ["\0"], ["\ud800"], [["p"]]],
    "filter": [
        "n", 1, [], [("n", 1)], {"$no": 1}, {"n": {"$no": 1}}, {"n": {"$in": 1}}, {"$and": []}, {"$or": {}},
        {"$and": [1]}, {1: 1}, {"n": {"$gt": 1, "b": 2}},
    ],
    "branch": ["", "/", "a//b", "no such branch", 1, b"main", [], (), ["main", "no such branch"], [1], [None], [[]]],
    "weights": [
        {"text": -1}, {"text": float("nan")}, {"text": float("inf")}, {"text": "much"}, {"text": None}, {"texts": 1},
        {"half_life": 0}, {"half_life": timedelta(0)}, {"half_life": timedelta(-1)}, {"half_life": "soon"},
        {"half_life": float("nan")}, {"text": 1e7}, {"text": 10**400}, {1: 1}, 1, "text", [1], [("text", 1)], b"x",
        object(),
    ],
    "limit": [0, -1, 1.5, "1", True, None, float("nan"), 2**64, [1]],
    "cursor": ["", "x", "-1", "1.0", " 1", "1" * 19, "\u0661", 1, 1.5, b"1", True, "0x1", "1\0"],
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused(normal: AgentMemory, name: str) -> None:
    for value, query in product(WRONG[name], ("zebra", None)):
        with pytest.raises(AMFSError) as caught:
            normal.search(query, **{name: value})
        assert str(caught.value)
        assert isinstance(caught.value, (ValueError, LookupError)), "what a caller did wrong, not a failure of ours"


def test_errors_name_what_was_wrong(normal: AgentMemory) -> None:
    for how, kind, match in (
        ({"weights": {"texts": 1}}, InvalidInputError, "texts"),
        ({"weights": {"meaning": -1}}, InvalidInputError, "meaning"),
        ({"weights": {"half_life": timedelta(0)}}, InvalidInputError, "half_life"),
        ({"memory_type": "facts"}, InvalidInputError, "'facts'"),
        ({"branch": []}, InvalidInputError, "empty list"),
        ({"filter": {"n": {"$no": 1}}}, InvalidFilterError, "\\$no"),
        ({"cursor": "x"}, InvalidInputError, "next_cursor"),
        ({"at": 10**9}, InvalidInputError, "yet to come"),
    ):
        with pytest.raises(kind, match=match):
            normal.search("zebra", **how)


def test_what_is_odd_and_right_is_answered(normal: AgentMemory) -> None:
    for how in (
        {"limit": 2**62}, {"limit": 2**63 - 1}, {"cursor": "0"}, {"cursor": "000"}, {"min_confidence": 1},
        {"memory_type": ["fact", "fact"]}, {"branch": ["main"] * 1000}, {"branch": (name for name in ("main",))},
        {"pattern_refs": ()}, {"pattern_refs": iter([])}, {"weights": {}}, {"weights": {"text": 1e6}}, {"explain": 1},
        {"weights": {"half_life": timedelta(microseconds=1)}}, {"weights": {"half_life": timedelta.max}},
        {"filter": {}}, {"since": 0}, {"since": 10**9 - 10**9}, {"until": datetime.max.replace(tzinfo=UTC)},
        {"since": datetime.min.replace(tzinfo=UTC)}, {"at": datetime(9999, 1, 1, tzinfo=UTC)},
    ):  # fmt: skip
        assert keys(normal.search("zebra", **how)) == [K], how
    assert found(normal, "zebra", at=0) == found(normal, at=0) == found(normal, memory_type=[]) == set()
    assert found(normal, "zebra", since=10**9) == found(normal, since=10**9) == set()


def test_many_filters_at_once_are_answered(normal: AgentMemory) -> None:
    refs = [f"p{number}" for number in range(5000)]
    assert found(normal, "zebra", pattern_refs=refs) == set()
    normal.write(P, K, "the zebra", pattern_refs=refs)
    assert found(normal, "zebra", pattern_refs=refs) == {K}
    assert found(normal, filter={"$or": [{"n": number} for number in range(5000)]}) == {"second"}


@pytest.mark.parametrize("tokenizer", ["", "porter", "german", 1, True, b"plain", ["plain"], "plain'); --", object()])
def test_an_unknown_tokenizer_is_refused(normal: AgentMemory, tokenizer: Any) -> None:
    with pytest.raises(InvalidInputError, match="tokenizer must be one of 'english', 'plain', 'trigram'"):
        normal.rebuild_search_index(tokenizer)


# --- values ----------------------------------------------------------------------------------------------------------

STRANGE: list[Any] = [
    "", [], {}, None, '"' * 1000, "\\" * 1000, "\n" * 1000, "NEAR(a b)", "'; DROP TABLE log; --", "\U0001f600",
    "\u202e", "\x01", "x" * 500_000, "word " * 100_000, "\u4e2d" * 300_000, "e" + "\u0301" * 400_000,
    {"": ""}, {'"': '"'}, {"\\u0000": "\\u0000"}, [[[[]]]], 1e300, -1e-300, 2**63 - 1, {"a" * 1000: 1},
    "\x7f\x80\x9f\xad", "\ufffe\uffff", "\U0010ffff", "</script>", "a\\nb", "a\\", list(range(10_000)),
]  # fmt: skip


def test_any_value_can_be_indexed_superseded_and_made_anew(normal: AgentMemory) -> None:
    branch = normal.create_branch("strange").name
    for tokenizer in Tokenizer:
        normal.rebuild_search_index(tokenizer)
        for number, value in enumerate(STRANGE):
            normal.write("strange", f"k{number}", {"marker": f"unusual{number}", "value": value}, branch=branch)
        for number in range(len(STRANGE)):
            assert f"k{number}" in found(normal, f"unusual{number}", branch=branch)
        for number, value in enumerate(STRANGE):
            normal.write("strange", f"k{number}", value, branch=branch)
        assert found(normal, "unusual", branch=branch) == set()
        assert normal.verify().ok


def test_names_of_any_kind_are_indexed(normal: AgentMemory) -> None:
    normal.create_branch("x")
    names = [*INJECTIONS, "\U0001f600", "e\u0301", "\u202eabc", "NUL", "..", "a" * 512, "\n", "\\", '"', "{}", "NEAR("]
    for name in names:
        normal.write(P, name, "named strangely", branch="x")
    assert found(normal, "strangely", branch="x") == set(names)
    for name in names:
        normal.write(P, name, 0, branch="x")
    assert found(normal, "strangely", branch="x") == set()


def test_a_search_that_was_refused_read_nothing(file_mem: AgentMemory) -> None:
    file_mem.as_agent("bob").write(P, K, "zebra")
    before = file_mem.timeline(agent_id="*")
    with file_mem.run():
        for how in ({"limit": 0}, {"branch": ["main", "no"]}, {"at": 10**9}, {"weights": 1}, {"cursor": "x"}):
            with suppress(AMFSError):
                file_mem.search("zebra", **how)
        assert file_mem.timeline(agent_id="*") == before
        assert file_mem.commit_outcome("o", "success").causes == ()
