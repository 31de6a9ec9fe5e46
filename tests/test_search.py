"""Search: what is found, by which words and filters, on which branches and as of when, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from amfs import (
    AccessDeniedError,
    AgentMemory,
    BeforeHistoryError,
    Principal,
    SearchHit,
)
from tests.helpers_search import BY_WORDS, NOTHING, K, P, found, keys

OpenMemory = Callable[..., AgentMemory]


# --- words -----------------------------------------------------------------------------------------------------------

VALUES: dict[str, tuple[Any, str]] = {
    "a text": ("the quick zebra", "zebra"),
    "a field": ({"animal": "horse"}, "animal"),
    "a value of a field": ({"animal": "zebra"}, "zebra"),
    "deep": ([[{"a": [{"b": ["one", "zebra"]}]}]], "zebra"),
    "whole number": ({"port": 8443}, "8443"),
    "negative number": ([-271828], "271828"),
    "fraction": (3.14159, "14159"),
    "true": ({"on": True}, "true"),
    "false": ([False], "false"),
    "null": (None, "null"),
    "quotes": ('he said "zebra" twice', "zebra"),
    "line break": ("first line\nzebra", "zebra"),
    "escapes before letters": ("col\tname\nnext", "name"),
    "escape that is no letter": ("x\nnumber", "number"),
    "control character": ("a\x01zebra\x1f", "zebra"),
    "backslash": ("C:\\new\\zebra", "zebra"),
    "escape in a field's name": ({"a\nzebra": 1}, "zebra"),
    "accents": ("Un café crème", "cafe"),
    "accents asked for": ("Un cafe creme", "café"),
    "capitals": ("ZEBRA", "zebra"),
    "greek": ("Ελληνικά", "ΕΛΛΗΝΙΚΆ"),
    "cyrillic": ("Москва", "москва"),
    "forms of a word": ("services were restarted", "restarting service"),
    "words joined by signs": ("snake_case-and.dots", "dots"),
    "long": ("word " * 30_000 + "zebra", "zebra"),
}


@pytest.mark.parametrize("what", VALUES)
def test_the_text_in_a_value_is_found_whatever_its_form(mem: AgentMemory, what: str) -> None:
    value, query = VALUES[what]
    mem.write("other", "else", "nothing of the kind")
    mem.write(P, K, value)
    (hit,) = mem.search(query)
    assert (hit.entry, hit.branch) == (mem.read(P, K), "main")
    assert hit.score > 0
    assert hit.parts is None


@pytest.mark.parametrize("composed", [True, False])
@pytest.mark.parametrize("query", ["résumé", "re\u0301sume\u0301", "resume", "RE\u0301SUME\u0301"])
def test_an_accent_is_found_whether_it_is_one_character_or_two(mem: AgentMemory, query: str, composed: bool) -> None:
    mem.write("other", "else", "sum re")
    mem.write(P, K, "my résumé" if composed else "my re\u0301sume\u0301")
    assert keys(mem.search(query)) == [K]


def test_a_capital_whose_small_letter_is_two_characters_is_found(mem: AgentMemory) -> None:
    mem.write(P, K, "İstanbul")
    assert found(mem, "İstanbul") == found(mem, "istanbul") == {K}


def test_paths_and_keys_are_found_and_count_more_than_values(mem: AgentMemory) -> None:
    mem.write("team/zebra", "a", "nothing")
    mem.write("team/other", "zebra", "nothing")
    mem.write("team/other", "b", "zebra something else altogether, and some more words")
    mem.write("team/other", "c", "nothing")
    assert keys(mem.search("zebra", weights=BY_WORDS))[-1] == "b"
    assert found(mem, "zebra") == {"a", "zebra", "b"}
    assert found(mem, "team") == {"a", "zebra", "b", "c"}


def test_whatever_holds_any_of_the_words_is_found_and_more_of_them_are_better(mem: AgentMemory) -> None:
    mem.write(P, "one", "alpha")
    mem.write(P, "two", "alpha beta")
    mem.write(P, "three", "alpha beta gamma")
    mem.write(P, "none", "delta")
    assert keys(mem.search("alpha beta gamma", weights=BY_WORDS)) == ["three", "two", "one"]


def test_an_empty_memory_has_no_hits(mem: AgentMemory) -> None:
    for query in ("zebra", None, "", "  "):
        page = mem.search(query)
        assert (page, page.next_cursor) == ([], None)


def test_without_a_query_the_newest_come_first(mem: AgentMemory) -> None:
    for key in "abc":
        mem.write(P, key, key)
    mem.write(P, "a", "again")
    mem.write("chat", "1", "hello", memory_type="message")
    for query in (None, "", " \n\t"):
        hits = mem.search(query, explain=True)
        assert [(hit.entry.key, hit.score, hit.parts) for hit in hits] == [("a", 0, {}), ("c", 0, {}), ("b", 0, {})]
    assert keys(mem.search(memory_type=["fact", "message"])) == ["1", "a", "c", "b"]


# --- what is there ---------------------------------------------------------------------------------------------------


def test_superseded_and_deleted_values_are_not_found(mem: AgentMemory) -> None:
    mem.write(P, K, "zebra")
    assert found(mem, "zebra") == {K}
    mem.write(P, K, "lion")
    assert (found(mem, "zebra"), found(mem, "lion")) == (set(), {K})
    mem.delete(P, K)
    assert found(mem, "lion") == found(mem) == set()
    mem.write(P, K, "zebra")
    assert (found(mem, "zebra"), found(mem, "lion")) == ({K}, set())


def test_what_expires_is_found_until_then_and_in_the_past_ever_after(mem: AgentMemory, clock) -> None:
    entry = mem.write(P, K, "zebra", ttl=60)
    assert found(mem, "zebra") == found(mem) == {K}
    clock.advance(61)
    assert found(mem, "zebra") == found(mem) == set()
    assert found(mem, "zebra", at=entry.seq) == found(mem, at=entry.seq) == {K}
    mem.write(P, K, "zebra", ttl=60)
    assert found(mem, "zebra") == {K}


def test_private_entries_are_found_by_their_owner_only(mem: AgentMemory) -> None:
    bob = mem.as_agent("bob")
    mem.write(P, "mine", "zebra", shared=False)
    seq = bob.write(P, "his", "zebra", shared=False).seq
    mem.write(P, "ours", "zebra")
    for how in ({}, {"at": seq + 1}, {"entity_path": P}, {"agent_id": "bob"}, {"agent_id": "alice"}):
        for query in ("zebra", None):
            theirs = {"mine": "alice", "his": "bob", "ours": "alice"}
            wanted = {key for key, agent in theirs.items() if how.get("agent_id", agent) == agent}
            assert found(mem, query, **how) == wanted - {"his"}
            assert found(bob, query, **how) == wanted - {"mine"}
            assert found(mem.as_agent("carol"), query, **how) == wanted & {"ours"}


def test_a_private_and_a_shared_entry_of_one_name_are_two_hits(mem: AgentMemory) -> None:
    mem.write(P, K, "zebra for all")
    mem.write(P, K, "zebra for me", shared=False)
    assert [hit.entry.shared for hit in mem.search("zebra")] == [False, True]
    assert [hit.entry.shared for hit in mem.as_agent("bob").search("zebra")] == [True]


def test_namespaces_are_apart(open_memory: OpenMemory) -> None:
    here, there = open_memory(namespace="here"), open_memory(namespace="there")
    here.write(P, "a", "zebra")
    there.write(P, "b", "zebra")
    assert (found(here, "zebra"), found(there, "zebra")) == ({"a"}, {"b"})
    assert (found(here), found(there)) == ({"a"}, {"b"})


# --- filters ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def zoo(mem: AgentMemory, clock) -> AgentMemory:
    """Return a memory of entries that all hold the same word and differ in everything else."""
    bob = mem.as_agent("bob")
    mem.write("a", "1", {"text": "zebra", "n": 1}, confidence=0.2, pattern_refs=["p"])
    clock.advance(60)
    bob.write("a/b", "2", {"text": "zebra", "n": 2}, confidence=0.5, memory_type="belief", pattern_refs=["p", "q"])
    clock.advance(60)
    mem.write("ab", "3", {"text": "zebra", "n": 3.5}, confidence=0.8, memory_type="experience")
    clock.advance(60)
    bob.write("a/b/c", "4", {"text": "zebra", "n": "4"}, memory_type="procedure", pattern_refs=["q"])
    mem.write("chat", "5", {"text": "zebra", "n": 5}, memory_type="message")
    mem.create_tag("before six")
    mem.write("a-b", "6", "zebra")
    return mem


FILTERS: list[tuple[dict[str, Any], str]] = [
    ({}, "12346"),
    ({"entity_path": "a"}, "124"),
    ({"entity_path": "a/b"}, "24"),
    ({"entity_path": "a/b/c"}, "4"),
    ({"entity_path": "ab"}, "3"),
    ({"entity_path": "nowhere"}, ""),
    ({"agent_id": "bob"}, "24"),
    ({"agent_id": "alice"}, "136"),
    ({"agent_id": "nobody"}, ""),
    ({"memory_type": "message"}, "5"),
    ({"memory_type": "belief"}, "2"),
    ({"memory_type": ["belief", "message"]}, "25"),
    ({"memory_type": ("fact", "experience")}, "136"),
    ({"memory_type": []}, ""),
    ({"min_confidence": 0.5}, "2346"),
    ({"min_confidence": 1}, "46"),
    ({"min_confidence": 1, "memory_type": "message"}, "5"),
    ({"pattern_refs": ["p"]}, "12"),
    ({"pattern_refs": ["q", "p"]}, "2"),
    ({"pattern_refs": ["p", "none"]}, ""),
    ({"filter": {"n": {"$gte": 2}}}, "23"),
    ({"filter": {"$or": [{"n": 1}, {"n": "4"}]}}, "14"),
    ({"filter": {"n": 5}, "memory_type": "message"}, "5"),
    ({"filter": {"n": {"$ne": 2}}, "agent_id": "bob"}, "4"),
    ({"until": 2}, "12"),  # the seq of that entry
    ({"since": 2, "until": 3}, "23"),
    ({"since": "before six"}, "6"),
    ({"until": "before six"}, "1234"),
    ({"entity_path": "a", "agent_id": "bob", "memory_type": "procedure", "pattern_refs": ["q"]}, "4"),
]


@pytest.mark.parametrize(("how", "expected"), FILTERS, ids=[str(how) for how, _ in FILTERS])
@pytest.mark.parametrize("query", ["zebra", None])
def test_filters_narrow_what_is_found(zoo: AgentMemory, query: str | None, how: dict[str, Any], expected: str) -> None:
    seqs = {int(entry.key): entry.seq for entry in zoo.list()}
    how = {name: seqs[one] if name in ("since", "until") and isinstance(one, int) else one for name, one in how.items()}
    assert found(zoo, query, **how) == set(expected)
    assert found(zoo, query, at=zoo.timeline(agent_id="*", limit=1)[0].seq, **how) == set(expected)
    zoo.create_branch("x")
    assert found(zoo, query, branch="x", **how) == set(expected)


@pytest.mark.parametrize("query", ["zebra", None])
def test_since_and_until_take_times_as_well(zoo: AgentMemory, query: str | None) -> None:
    times = {entry.key: entry.written_at for entry in zoo.list()}
    assert found(zoo, query, since=times["2"], until=times["3"]) == {"2", "3"}
    assert found(zoo, query, since=times["2"] + timedelta(microseconds=1)) == {"3", "4", "6"}
    assert found(zoo, query, until=times["1"] - timedelta(days=1)) == set()


def test_filters_look_at_what_the_view_holds_now(mem: AgentMemory) -> None:
    mem.write(P, K, "zebra", confidence=0.4)
    assert found(mem, "zebra", min_confidence=0.5) == set()
    mem.write(P, K, "zebra", confidence=0.9, pattern_refs=["p"])
    assert found(mem, "zebra", min_confidence=0.5, pattern_refs=["p"]) == {K}
    mem.as_agent("bob").write(P, K, "zebra", memory_type="message")
    assert found(mem, "zebra") == found(mem, "zebra", agent_id="alice", memory_type="message") == set()
    assert found(mem, "zebra", agent_id="bob", memory_type="message") == {K}


# --- pages and order -------------------------------------------------------------------------------------------------


def pages(mem: AgentMemory, query: str | None, size: int, **how: Any) -> list[tuple[str, float]]:
    """Return all hits, page by page."""
    hits, cursor = list[SearchHit](), None
    while True:
        page = mem.search(query, limit=size, cursor=cursor, **how)
        assert len(page) == size or page.next_cursor is None
        hits.extend(page)
        cursor = page.next_cursor
        if cursor is None:
            return [(hit.entry.key, hit.score) for hit in hits]


@pytest.mark.parametrize("size", [7, 64, 65, 230])
@pytest.mark.parametrize("query", ["zebra", "zebra word7 word3", None])
def test_pages_fit_each_other_and_end(file_mem: AgentMemory, clock, query: str | None, size: int) -> None:
    for number in range(230):
        clock.advance(3600)
        words = " ".join(f"word{number % modulus}" for modulus in (2, 3, 5, 7, 11))
        file_mem.write(f"path{number % 3}", f"k{number}", f"zebra {words}", confidence=number % 10 / 10)
    file_mem.write("other", "lion", "nothing" if query else "the newest")
    whole = pages(file_mem, query, 1000)
    assert pages(file_mem, query, size) == whole
    assert len({key for key, _ in whole}) == len(whole) == (230 if query else 231)


def test_a_cursor_beyond_the_end_is_an_empty_page(mem: AgentMemory) -> None:
    mem.write(P, K, "zebra")
    for cursor in ("1", "2", "1000", "9" * 18):
        page = mem.search("zebra", cursor=cursor)
        assert (page, page.next_cursor) == ([], None)


@pytest.mark.parametrize("how", [{}, {"entity_path": P}, {"at": 300}])
def test_of_equally_good_ones_the_newest_come_first_however_many_there_are(
    file_mem: AgentMemory, how: dict[str, Any]
) -> None:
    with file_mem.transaction() as tx:
        for number in range(300):
            tx.write(P, f"k{number}", "the same")
    expected = [f"k{number}" for number in reversed(range(300))]
    weights = {**NOTHING, "text": 1}
    hits = file_mem.search("same", limit=300, weights=weights, **how)
    assert keys(hits) == expected
    assert len({hit.score for hit in hits}) == 1
    assert keys(file_mem.search("same", limit=3, weights=weights, **how)) == expected[:3]
    assert [key for key, _ in pages(file_mem, "same", 70, weights=weights, **how)] == expected


def test_a_search_says_the_same_each_time(zoo: AgentMemory) -> None:
    zoo.search("zebra a b")  # it records what it read of bob's, which moves the time by a microsecond
    first = zoo.search("zebra a b", explain=True)
    assert len(first) == 5
    for _ in range(3):
        assert zoo.search("zebra a b", explain=True) == first


# --- branches and the past -------------------------------------------------------------------------------------------


def test_a_branch_is_searched_as_it_is(mem: AgentMemory) -> None:
    mem.write(P, "a", "zebra")
    mem.write(P, "b", "zebra")
    assert found(mem, "zebra") == {"a", "b"}
    mem.create_branch("x")
    mem.write(P, "a", "lion", branch="x")
    mem.delete(P, "b", branch="x")
    mem.write(P, "c", "zebra", branch="x")
    mem.write(P, "d", "zebra")
    assert (found(mem, "zebra"), found(mem, "lion")) == ({"a", "b", "d"}, set())
    assert (found(mem, "zebra", branch="x"), found(mem, "lion", branch="x")) == ({"c"}, {"a"})
    mem.create_branch("y", source="x")
    assert (found(mem, "zebra", branch="y"), found(mem, "lion", branch="y")) == ({"c"}, {"a"})
    mem.switch_branch("x")
    (hit,) = mem.search("lion")
    assert (hit.branch, hit.entry) == ("x", mem.read(P, "a"))


@pytest.mark.parametrize("query", ["zebra", None])
def test_what_stands_on_several_branches_is_found_once(mem: AgentMemory, query: str | None) -> None:
    mem.write(P, "old", "zebra")
    mem.create_branch("x")
    mem.create_branch("y")
    mem.write(P, "of x", "zebra", branch="x")
    mem.write(P, "of y", "zebra", branch="y")
    mem.write("merged/path", "merged", "zebra", branch="x")
    mem.merge_branch("x", paths=["merged/path"])
    mem.commit_outcome("o", "success", [(P, "old")], branch="y")  # a version that refers to the value

    def where(*branches: str) -> dict[str, str]:
        hits = mem.search(query, branch=branches, limit=100)
        assert len({hit.entry.key for hit in hits}) == len(hits)
        return {hit.entry.key: hit.branch for hit in hits}

    assert where("main", "x", "y").keys() == {"old", "of x", "of y", "merged"}
    assert where("main").keys() == {"old", "merged"}
    assert where("main", "main") == where("main")
    assert where("y", "x") == {"old": "y", "of y": "y", "of x": "x", "merged": "x"}


def test_different_values_of_a_key_on_several_branches_are_several_hits(mem: AgentMemory) -> None:
    mem.write(P, K, "zebra one")
    mem.create_branch("x")
    mem.write(P, K, "zebra two", branch="x")
    assert {(hit.branch, hit.entry.value) for hit in mem.search("zebra", branch=["x", "main"])} == {
        ("main", "zebra one"), ("x", "zebra two"),
    }  # fmt: skip


@pytest.mark.parametrize("query", ["zebra", None])
def test_the_past_is_searched_at_a_seq_a_time_or_a_tag(mem: AgentMemory, clock, query: str | None) -> None:
    before = clock.moment
    first = mem.write(P, "a", "zebra")
    mem.create_tag("then")
    then = clock.moment
    clock.advance(60)
    mem.write(P, "a", "lion")
    second = mem.write(P, "b", "zebra")
    mem.delete(P, "b")
    mem.create_branch("x")
    for at in (first.seq, then, "then"):
        (hit,) = mem.search(query, at=at)
        assert (hit.entry.value, hit.entry) == ("zebra", mem.read(P, "a", at=at))
        assert keys(mem.search(query, at=at, branch="x")) == ["a"]
        assert found(mem, "lion", at=at) == set()
    assert found(mem, "zebra", at=second.seq) == found(mem, "zebra", at=second.seq, branch="x") == {"b"}
    assert found(mem, "lion", at=second.seq) == {"a"}
    with pytest.raises(BeforeHistoryError):
        mem.search(query, at=before - timedelta(days=1))


@pytest.mark.parametrize("searched", [True, False])
def test_a_branch_made_at_the_past_finds_what_was_there(mem: AgentMemory, searched: bool) -> None:
    seqs = [mem.write(P, K, word).seq for word in ("zebra", "lion", "tiger")]
    gone = mem.write(P, "gone", "zebra")
    mem.delete(P, "gone")
    if searched:  # then nothing superseded is in the index
        assert found(mem, "tiger") == {K}
    mem.create_branch("first", at=seqs[0])
    mem.create_branch("second", at=seqs[1])
    mem.create_branch("below", source="second")
    mem.create_branch("undeleted", at=gone.seq)
    words = {"first": "zebra", "second": "lion", "below": "lion", "main": "tiger"}
    for branch, word in words.items():
        for other in ("zebra", "lion", "tiger"):
            assert found(mem, other, branch=branch) == ({K} if other == word else set()), (branch, other)
    assert found(mem, "zebra", branch="undeleted") == {"gone"}


def test_merges_picks_and_rollbacks_are_found(mem: AgentMemory) -> None:
    start = mem.write(P, K, "zebra").seq
    mem.create_branch("x")
    mem.write(P, K, "lion", branch="x")
    mem.write(P, "picked", "tiger", branch="x")
    mem.write(P, "fields", {"a": "panther"}, branch="x")
    assert found(mem, "lion tiger panther") == set()
    mem.cherry_pick("x", [(P, "picked")])
    assert found(mem, "lion tiger panther") == {"picked"}
    mem.merge_branch("x")
    assert found(mem, "lion tiger panther") == {K, "picked", "fields"}
    assert found(mem, "zebra") == set()
    mem.rollback(seq=start)
    assert (found(mem, "zebra"), found(mem, "lion tiger panther")) == ({K}, set())
    (hit,) = mem.search("zebra")
    assert hit.entry == mem.read(P, K)
    assert found(mem, "lion tiger panther", branch="x") == {K, "picked", "fields"}


def test_a_closed_branch_can_be_searched(mem: AgentMemory) -> None:
    mem.as_agent("bob").write(P, "his", "zebra")
    mem.create_branch("x")
    mem.write(P, K, "zebra", branch="x")
    mem.close_branch("x")
    assert found(mem, "zebra", branch="x") == {K, "his"}
    assert found(mem, "zebra", branch=["main", "x"]) == {K, "his"}


def test_a_forked_agent_finds_what_it_inherited_private_entries_too(open_memory: OpenMemory) -> None:
    alice = open_memory("alice")
    alice.write(P, "shared", "zebra")
    alice.write(P, "mine", "zebra", shared=False)
    alice.write(P, "changed", "lion", shared=False)
    alice.as_agent("bob").write(P, "bob's", "zebra", shared=False)
    assert found(alice, "zebra") == {"shared", "mine"}
    alice.fork("heir")
    alice.write(P, "later", "zebra")
    heir = open_memory("heir")
    heir.write(P, "changed", "zebra", shared=False)
    heir.write(P, "own", "zebra")
    for _ in range(2):
        assert found(heir, "zebra") == {"shared", "mine", "changed", "own"}
        assert (found(alice, "zebra"), found(alice, "lion")) == ({"shared", "mine", "later"}, {"changed"})
        assert found(heir.as_agent("other"), "zebra") == {"shared", "own"}
        heir.rebuild_search_index()
    assert found(heir, "lion", at=heir.timeline(agent_id="*", limit=100)[-1].seq) == {"changed"}


def test_an_import_and_a_restored_backup_are_found(open_memory: OpenMemory, tmp_path: Path) -> None:
    mem = open_memory()
    mem.write(P, K, "lion")
    mem.write(P, K, "zebra")
    mem.create_branch("x")
    mem.write(P, "of x", "zebra", branch="x")
    mem.export_namespace(tmp_path / "lines")
    elsewhere = open_memory("alice", tmp_path / "other.db")
    elsewhere.write(P, "already", "zebra")
    assert found(elsewhere, "zebra") == {"already"}
    copy = open_memory("alice", tmp_path / "other.db", namespace="copy")
    copy.import_namespace(tmp_path / "lines")
    assert (found(copy, "zebra"), found(copy, "zebra", branch="x"), found(copy, "lion")) == ({K}, {K, "of x"}, set())
    assert found(elsewhere, "zebra") == {"already"}
    mem.backup(tmp_path / "backup.db")
    mem.write(P, "too late", "zebra")
    assert found(mem, "zebra") == {K, "too late"}
    mem.close()
    AgentMemory.restore(mem.database, tmp_path / "backup.db")
    again = open_memory()
    assert found(again, "zebra") == {K}
    again.write(P, "after", "zebra")
    assert found(again, "zebra") == {K, "after"}


def test_a_hidden_branch_is_not_searched(file_mem: AgentMemory) -> None:
    file_mem.write(P, K, "zebra")
    file_mem.create_branch("x")
    file_mem.create_branch("y")
    file_mem.write(P, "secret", "zebra", branch="x")
    file_mem.grant_branch_access("y", "user", "ann", "read")
    with AgentMemory("ann", file_mem.database, principal=Principal(user_id="ann", role="reader")) as ann:
        assert found(ann, "zebra") == found(ann, "zebra", branch=["main", "y"]) == {K}
        for branch in ("x", ["main", "x"], ["x", "main"]):
            with pytest.raises(AccessDeniedError):
                ann.search("zebra", branch=branch)
