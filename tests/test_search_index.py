"""The search index: filled when asked and at no other time, in step whatever happened, made of the log at any time."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from amfs import AgentMemory
from amfs.storage import indexing
from tests import helpers_search_index as children
from tests.helpers_processes import Child, run_all
from tests.helpers_search import K, P, found, keys
from tests.helpers_statements import Meter, metering

OpenMemory = Callable[..., AgentMemory]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and forked children")
WRITING = ("INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER", "BEGIN IMMEDIATE", "COMMIT")


def count(database: str | Path, what: str) -> int:
    """Return a figure about a database, read beside the engine."""
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute(f"SELECT {what}").fetchone()[0])


CURRENT = "count(*) FROM search_current"
DOCUMENTS = "count(*) FROM search_current_text_docsize"


# --- when it is filled -----------------------------------------------------------------------------------------------


@pytest.fixture
def watched(database: Path, clock) -> Iterator[tuple[AgentMemory, Meter]]:
    """Return a memory and a meter of its statements."""
    with metering() as meter, AgentMemory("alice", database, clock=clock, durability="normal") as mem:
        yield mem, meter
        assert mem.verify().ok


def test_a_write_makes_no_statement_on_the_index(watched: tuple[AgentMemory, Meter]) -> None:
    mem, meter = watched
    mem.write(P, K, "zebra")
    assert found(mem, "zebra") == {K}
    mem.create_branch("x")
    writes: list[Callable[[], object]] = [
        lambda: mem.write(P, K, "lion"),
        lambda: mem.write(P, "new", "zebra", branch="x"),
        lambda: mem.delete(P, K),
        lambda: mem.merge_branch("x"),
        lambda: mem.rollback(seq=1),
        lambda: mem.commit_outcome("o", "success", [(P, K)]),
        lambda: mem.create_branch("past", at=1),
        lambda: mem.fork("heir"),
        lambda: mem.read(P, K),
    ]
    for write in writes:
        cost = meter.cost(write)
        assert cost.statements
        assert not [text for text in cost.statements if "search_" in text or "embed" in text]
    assert found(mem, "zebra") == {K}


def test_a_search_that_has_nothing_to_take_in_writes_nothing_and_takes_no_lock(
    watched: tuple[AgentMemory, Meter], database: Path
) -> None:
    mem, meter = watched
    for number in range(20):
        mem.write(P, f"k{number}", "zebra")
    first = meter.cost(lambda: mem.search("zebra"))
    assert "BEGIN IMMEDIATE" in first.statements
    for how in ({}, {"limit": 3}, {"entity_path": P}, {"filter": {"a": 1}}):
        again = meter.cost(lambda how=how: mem.search("zebra", **how))
        assert not [text for text in again.statements if text.startswith(WRITING)], again.statements
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # somebody writes all the while
        assert len(mem.search("zebra", limit=50)) == 20
        other.execute("ROLLBACK")
    mem.write(P, "more", "zebra")
    assert meter.cost(lambda: mem.search("zebra")).statements.count("BEGIN IMMEDIATE") == 1


def test_the_index_of_the_past_is_made_when_the_past_is_searched(file_mem: AgentMemory) -> None:
    seq = file_mem.write(P, K, "zebra").seq
    file_mem.write(P, K, "lion")
    file_mem.search("zebra")
    assert count(file_mem.database, "count(*) FROM search_ever_text_docsize") == 0
    assert found(file_mem, "zebra", at=seq) == {K}
    assert count(file_mem.database, "count(*) FROM search_ever_text_docsize") == 2
    assert count(file_mem.database, DOCUMENTS) == 1


# --- what it holds ---------------------------------------------------------------------------------------------------


def test_what_was_superseded_before_anybody_searched_is_never_taken_in(file_mem: AgentMemory) -> None:
    for number in range(50):
        file_mem.write(P, K, f"zebra {number}")
    file_mem.write(P, "gone", "zebra")
    file_mem.delete(P, "gone")
    assert found(file_mem, "zebra") == {K}
    assert (count(file_mem.database, CURRENT), count(file_mem.database, DOCUMENTS)) == (1, 1)


def test_what_no_branch_sees_leaves_the_index(file_mem: AgentMemory) -> None:
    def held() -> int:
        file_mem.search("zebra")
        assert count(file_mem.database, CURRENT) >= count(file_mem.database, DOCUMENTS)
        return count(file_mem.database, DOCUMENTS)

    for number in range(10):
        file_mem.write(P, f"k{number}", f"zebra {number}")
    assert held() == 10
    for number in range(10):
        file_mem.write(P, f"k{number}", f"lion {number}")
    assert held() == 10
    file_mem.create_branch("x")
    for number in range(10):
        file_mem.delete(P, f"k{number}")
    assert held() == 10, "the branch sees them"
    for number in range(10):
        file_mem.delete(P, f"k{number}", branch="x")
    assert held() == 10, "they stand between the branch and its parent; the child of a past may see them"
    file_mem.create_branch("y", at=file_mem.history(P, "k0")[0].seq)
    assert held() == 11
    assert found(file_mem, "zebra", branch="y") == {"k0"}


def test_versions_that_refer_to_one_value_are_one_document(file_mem: AgentMemory) -> None:
    start = file_mem.write(P, K, "zebra").seq
    file_mem.create_branch("x", at=start)
    file_mem.commit_outcome("o", "success", [(P, K)])
    file_mem.write(P, K, "lion")
    file_mem.rollback(seq=start)
    file_mem.search("zebra")
    assert count(file_mem.database, DOCUMENTS) == 1
    assert found(file_mem, "zebra", branch=["main", "x"]) == {K}


def test_made_anew_it_says_the_same(file_mem: AgentMemory) -> None:
    rng = random.Random(5)
    file_mem.create_branch("x")
    for number in range(200):
        file_mem.write(
            f"p{number % 4}", f"k{rng.randrange(60)}", f"zebra w{number % 7}", branch=rng.choice(["main", "x"])
        )
        if number % 30 == 0:
            file_mem.search("zebra")
    seq = file_mem.timeline(limit=100)[-1].seq

    def answers() -> list[Any]:
        return [
            [(hit.entry.seq, hit.score) for hit in file_mem.search(query, limit=500, **how)]
            for query in ("zebra", "w3 w5", "p2 k7")
            for how in ({}, {"branch": "x"}, {"branch": ["x", "main"]}, {"at": seq}, {"entity_path": "p1"})
        ]

    before = answers()
    assert all(before[:2])
    assert file_mem.rebuild_search_index() == "english"
    assert answers() == before


def test_an_index_of_another_format_is_made_anew(file_mem: AgentMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    seq = file_mem.write(P, "a", "zebras").seq
    file_mem.rebuild_search_index("plain")
    assert found(file_mem, "zebras", at=seq) == found(file_mem, "zebras") == {"a"}
    monkeypatch.setattr(indexing, "FORMAT", indexing.FORMAT + 1)
    file_mem.write(P, "a", "zebras again")
    assert found(file_mem, "zebras") == found(file_mem, "zebras", at=seq) == {"a"}
    assert found(file_mem, "zebra") == set(), "by the tokenizer it had"
    assert count(file_mem.database, f"min(format) = {indexing.FORMAT} FROM search_state") == 1
    assert count(file_mem.database, DOCUMENTS) == 1


# --- tokenizers ------------------------------------------------------------------------------------------------------

TOKENIZERS: list[tuple[str, str, str, bool]] = [
    ("english", "the services were restarted", "restart service", True),
    ("english", "running", "runs", True),
    ("english", "Donaudampfschifffahrt", "schiff", False),
    ("english", "naïve façade", "naive facade", True),
    ("plain", "services", "service", False),
    ("plain", "services", "SERVICES", True),
    ("plain", "naïve", "naive", True),
    ("trigram", "Donaudampfschifffahrtsgesellschaft", "schiff", True),
    ("trigram", "Donaudampfschifffahrtsgesellschaft", "DAMPF", True),
    ("trigram", "Donaudampfschifffahrtsgesellschaft", "zug", False),
    ("trigram", "数据库版本控制系统", "版本控制", True),
    ("trigram", "数据库版本控制系统", "我们的版本控制方法", True),
    ("trigram", "数据库版本控制系统", "天气预报", False),
    ("trigram", "retries", "trie", True),
    ("trigram", "retries", "re", False),
]


@pytest.mark.parametrize(("tokenizer", "text", "query", "is_found"), TOKENIZERS)
def test_a_tokenizer_takes_texts_apart_in_its_way(
    mem: AgentMemory, tokenizer: str, text: str, query: str, is_found: bool
) -> None:
    assert mem.rebuild_search_index(tokenizer) == tokenizer
    mem.write("x", "y", {"text": text})
    assert found(mem, query) == ({"y"} if is_found else set())
    assert mem.rebuild_search_index() == tokenizer, "it stays"
    assert found(mem, query) == ({"y"} if is_found else set())
    assert mem.rebuild_search_index("english") == "english"


# --- interrupted -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed database whose index lags behind by additions, removals, and a branch at the past."""
    database = tmp_path_factory.mktemp("base") / "memory.db"
    with AgentMemory("ada", database) as mem:
        first = mem.write("svc", "a", "zebra")
        mem.write("svc", "b", "zebra")
        mem.write("svc", "c", "zebra of ada's", shared=False)
        assert len(mem.search("zebra")) == 3
        mem.write("svc", "a", "lion")
        mem.delete("svc", "b")
        for number in range(10):
            mem.write("svc", f"k{number}", f"zebra {number}")
        mem.create_branch("past", at=first.seq)
        for number in range(5):
            mem.write("svc", f"k{number}", f"lion {number}")
    return database


def assert_right(database: Path) -> None:
    """Check what searches of the base find, by one more process or handle."""
    with AgentMemory("ada", database) as mem:
        assert mem.verify().ok
        assert found(mem, "zebra") == {"c", *(f"k{number}" for number in range(5, 10))}
        assert found(mem, "lion") == {"a", *(f"k{number}" for number in range(5))}
        assert found(mem, "zebra", branch="past") == {"a"}
        assert count(database, DOCUMENTS) == 13
        assert mem.verify().ok


@POSIX
@pytest.mark.parametrize("rows", [6, 10_000])
def test_a_first_search_killed_at_any_statement_leaves_an_index_that_goes_on(
    base: Path, tmp_path: Path, rows: int
) -> None:
    whole = Path(shutil.copy(base, tmp_path / "whole.db"))
    with Child(children.search_and_die, whole, -1, rows) as child:
        statements = child.result()
    assert statements.count("COMMIT") == (3 if rows == 6 else 1)
    assert_right(whole)
    points = [at for at, text in enumerate(statements) if text.startswith(WRITING) or "search_" in text[:60]]
    for at in points[:: 1 if rows == 6 else 3]:
        database = Path(shutil.copy(base, tmp_path / f"{at}.db"))
        with Child(children.search_and_die, database, at, rows) as child:
            assert child.exit_code == -signal.SIGKILL
        assert_right(database)


class Stopped(BaseException):
    """What stops a search between two transactions, as Ctrl-C would."""


def stop_after(monkeypatch: pytest.MonkeyPatch, mem: AgentMemory, transactions: int) -> None:
    """Search, and stop after so many transactions that took in a part of the log."""
    done = 0
    catch_up = indexing.catch_up

    def stopping(*args: Any, **kwargs: Any) -> bool:
        nonlocal done
        if done == transactions:
            raise Stopped
        done += 1
        return catch_up(*args, **kwargs)

    with monkeypatch.context() as patch, suppress(Stopped):
        patch.setattr("amfs.storage.transactions.catch_up", stopping)
        mem.search("zebra")


@pytest.mark.parametrize("transactions", range(1, 6))
def test_a_branch_made_at_the_past_while_a_part_was_taken_in_finds_what_was_there(
    file_mem: AgentMemory, monkeypatch: pytest.MonkeyPatch, transactions: int
) -> None:
    monkeypatch.setattr(indexing, "_ROWS", 5)
    seqs = list[int]()
    for number in range(30):
        seqs.append(file_mem.write(P, f"k{number % 7}", f"zebra word{number}").seq)
    stop_after(monkeypatch, file_mem, transactions)
    assert count(file_mem.database, "seq FROM search_state WHERE name = 'current'") == 5 * transactions
    for number, seq in enumerate(seqs):
        file_mem.create_branch(f"b{number}", at=seq)
    for number in range(30):
        expected = {entry.key for entry in file_mem.list(branch=f"b{number}")}
        assert found(file_mem, "zebra", branch=f"b{number}") == expected
        assert found(file_mem, f"word{number}", branch=f"b{number}") == {f"k{number % 7}"}
    assert file_mem.verify().ok


# --- several at once -------------------------------------------------------------------------------------------------


@POSIX
def test_processes_find_what_others_were_told_is_written(database: Path) -> None:
    AgentMemory("ada", database).close()
    calls = [(children.write_and_say_so, number) for number in range(2)]
    searchers = [(children.search_for_the_newest, 2)] * 2
    results = run_all(children.call, [(function, database, number, 60) for function, number in [*calls, *searchers]])
    assert results[:2] == [60, 60]
    assert min(results[2:]) >= 1
    with AgentMemory("ada", database) as mem:
        assert mem.verify().ok
        assert len(mem.search("common")) == 2


@pytest.mark.parametrize("where", ["file", "memory"])
def test_threads_find_what_they_wrote(open_memory: OpenMemory, database: Path, where: str) -> None:
    mem = open_memory("alice", database if where == "file" else ":memory:")

    def work(number: int) -> None:
        for step in range(25):
            mem.write(P, f"{number}", f"common word{number}x{step}")
            assert keys(mem.search(f"word{number}x{step}")) == [f"{number}"]
            assert found(mem, f"word{number}x{step - 1}" if step else "nothing") == set()
            if step == 10 and number == 0:
                mem.rebuild_search_index("plain")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert found(mem, "common") == {"0", "1", "2", "3"}
