"""Figures about a database, and that verify finds every kind of damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from amfs import AgentMemory, CorruptDatabaseError

P, K = "svc", "config"
OpenMemory = Callable[..., AgentMemory]


def test_stats_count_what_this_agent_can_see(open_memory: OpenMemory, clock) -> None:
    mem = open_memory(read_events="batched")
    bob = mem.as_agent("bob")
    for value in range(3):
        mem.write(P, K, value)
    mem.write(P, "gone", 1)
    mem.delete(P, "gone")
    brief = mem.write(P, "brief", 1, ttl=5)
    mem.write(P, "said", 1, memory_type="message")
    mem.write(P, "own", 1, shared=False)
    mem.create_branch("x")
    bob.write(P, "on x", 1, branch="x")
    bob.commit_outcome("ref", "success", [(P, K)], branch="x")
    figures = mem.stats()
    assert (figures.entries, figures.versions, figures.events) == (3, 10, 11)
    assert (bob.stats().entries, bob.stats().versions, bob.stats().events) == (2, 9, 10)
    assert (mem.stats(branch="x").entries, mem.stats(branch="x").branch) == (4, "x")
    assert (figures.branches, figures.agents, figures.namespace) == (2, 2, "default")
    assert (figures.agent_id, figures.database, figures.branch) == ("alice", mem.database, "main")
    assert (figures.durability, figures.read_events, figures.read_only) == ("normal", "batched", False)
    assert (figures.sqlite_version, figures.schema_version) == (sqlite3.sqlite_version, 1)
    assert figures.file_bytes == pytest.approx(Path(mem.database).stat().st_size, abs=4_000_000)
    clock.reach(brief.expires_at)
    assert mem.stats().entries == 2
    old = sqlite3.sqlite_version_info < (3, 51, 3)
    assert any("WAL-reset" in note for note in figures.notes) == old


@pytest.fixture
def rich(open_memory: OpenMemory, database: Path) -> Path:
    """Return a closed database in which everything that can be stored has been stored."""
    mem = open_memory()
    bob = mem.as_agent("bob")
    for number in range(30):
        mem.write(f"{P}/{number % 3}", f"{K}{number}", {"n": number, "text": "x" * 100})
    mem.write(P, K, 1)
    mem.create_branch("x")
    mem.create_branch("x/y", source="x")
    mem.write(P, K, 2, branch="x")
    mem.write(P, "long", "x" * 5000, branch="x")
    mem.write(P, "gone", 1, branch="x")
    mem.delete(P, "gone", branch="x")
    mem.write(P, "own", 1, shared=False, ttl=3600, pattern_refs=["a"], idempotency_key="t")
    with mem.run("r"), mem.experiment("e", params={"a": 1}) as exp:
        bob.read(P, K)
        mem.record_context("a", "b")
        bob.commit_outcome("ref", "failure", run_id="r")
        exp.log(score=1)
    mem.merge_branch("x", close=True)
    report = mem.verify()
    assert (report.ok, report.problems) == (True, ())
    assert report.versions == len(mem.list(include_superseded=True)) + sum(
        len([one for one in mem.list(include_superseded=True, branch=branch) if one.branch == branch])
        for branch in ("x", "x/y", exp.branch)
    )
    mem.close()
    return database


DAMAGE = {
    "head_is_newest": "UPDATE head SET seq = 1 WHERE seq = (SELECT max(seq) FROM head)",
    "version_has_head": "DELETE FROM head WHERE seq = (SELECT max(seq) FROM head)",
    "head_equals_log": "UPDATE head SET confidence = 0.123 WHERE live",
    "value_has_an_owner": "UPDATE log SET value = NULL WHERE seq = 1",
    "value_is_json": "UPDATE log SET value = '[' WHERE seq = 1",
    "tombstone_is_empty": "UPDATE log SET value = '1' WHERE type = 2",
    "versions_are_counted": "UPDATE log SET version = version + 1 WHERE branch = 2 AND type = 1",
    "confidence_is_within_0_and_1": "UPDATE log SET confidence = 1.5 WHERE seq = 1",
    "time_never_goes_back": "UPDATE log SET ts = 5 WHERE seq = 20",
    "cause_is_an_event": "UPDATE log SET cause = 999999 WHERE cause IS NOT NULL",
    "names_exist": "UPDATE log SET author = 99 WHERE seq = 1",
    "slot_is_in_its_path": "UPDATE path SET next = 0 WHERE id = 1",
    "lineage_is_closed": "UPDATE lineage SET upto = upto + 1 WHERE depth = 2",
    "child_is_after_its_fork": "UPDATE branch SET fork_seq = 999999 WHERE id = 2",
    "merge_edge_is_a_merge": "UPDATE merge_edge SET source_seq = 999999",
    "outcome_is_an_event": "UPDATE outcome SET seq = 1",
}


def test_there_is_a_damage_for_every_check(rich: Path, open_memory: OpenMemory) -> None:
    assert set(open_memory(where=rich).verify().checks) == {"file_is_intact", *DAMAGE}


@pytest.mark.parametrize("check", DAMAGE)
def test_verify_finds_every_kind_of_damage(rich: Path, check: str) -> None:
    connection = sqlite3.connect(rich)
    changed = connection.execute(DAMAGE[check]).rowcount
    connection.commit()
    connection.close()
    assert changed > 0, "the damage was done"
    with AgentMemory("inspector", rich) as mem:
        report = mem.verify()
    assert not report.ok
    assert check in {problem.check for problem in report.problems}
    assert all(problem.detail for problem in report.problems)


def test_verify_or_the_open_itself_finds_a_damaged_file(rich: Path) -> None:
    connection = sqlite3.connect(rich)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    content = bytearray(rich.read_bytes())
    found = 0
    pages = range(1, len(content) // size)
    for page in pages:
        damaged = content[: page * size] + bytes(size) + content[(page + 1) * size :]
        rich.write_bytes(damaged)
        try:
            with AgentMemory("inspector", rich) as mem:
                found += not mem.verify().ok
        except CorruptDatabaseError:
            found += 1
    assert found == len(pages)
