"""Figures about a database, and that verify finds every kind of damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from amfs import AccessDeniedError, AgentMemory, CorruptDatabaseError, Principal
from amfs.storage.invariants import PROBLEMS
from amfs.storage.queries import HASHED
from tests import helpers_busy

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
    assert (figures.sqlite_version, figures.schema_version) == (sqlite3.sqlite_version, 4)
    assert figures.file_bytes == pytest.approx(Path(mem.database).stat().st_size, abs=4_000_000)
    clock.reach(brief.expires_at)
    assert mem.stats().entries == 2
    old = sqlite3.sqlite_version_info < (3, 51, 3)
    assert any("WAL-reset" in note for note in figures.notes) == old


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the content of a closed database in which everything that can be stored has been stored."""
    database = tmp_path_factory.mktemp("whole") / "memory.db"
    helpers_busy.build(database)
    return database.read_bytes()


@pytest.fixture
def rich(whole: bytes, database: Path) -> Path:
    """Return a copy of that database."""
    database.write_bytes(whole)
    return database


def test_nothing_is_found_after_a_busy_day(rich: Path) -> None:
    with closing(sqlite3.connect(rich)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        empty = [name for name in names if connection.execute(f"SELECT * FROM {name}").fetchone() is None]  # noqa: S608
        versions = connection.execute("SELECT count(*) FROM log WHERE slot IS NOT NULL").fetchone()[0]
    assert empty == [], "the day was not busy enough"
    with AgentMemory("inspector", rich) as mem:
        report = mem.verify()
    assert (report.ok, report.problems, report.versions) == (True, (), versions)
    with AgentMemory("inspector", f"file:{rich}?mode=ro") as mem:
        assert mem.verify() == report


def test_only_the_owner_and_admins_may_verify(file_mem: AgentMemory) -> None:
    for role in ("reader", "writer"):
        with (
            AgentMemory("bob", file_mem.database, principal=Principal("ursula", role=role)) as mem,
            pytest.raises(AccessDeniedError, match="verify the database"),
        ):
            mem.verify()
    with AgentMemory("bob", file_mem.database, principal=Principal("ursula", role="admin")) as mem:
        assert mem.verify().ok


DAMAGE = {
    "log_matches_its_hash": "UPDATE log SET hash = hash + 1 WHERE seq = 3",
    "row_is_event_or_version": "UPDATE log SET actor = 1 WHERE seq = 1",
    "time_never_goes_back": "UPDATE log SET ts = 5 WHERE seq = 40",
    "transactions_are_whole": "DELETE FROM log WHERE seq = 4",
    "import_is_of_one_namespace": "UPDATE imported SET namespace = 1",
    "cause_is_an_event": "UPDATE log SET cause = 999999 WHERE cause IS NOT NULL",
    "origin_is_a_version": "UPDATE log SET origin = 1 WHERE origin IS NOT NULL",
    "names_exist": "UPDATE log SET author = 99 WHERE seq = 1",
    "run_is_in_its_namespace": "UPDATE run SET namespace = 2 WHERE id = 1",
    "head_is_newest": "UPDATE head SET seq = 1 WHERE seq = (SELECT max(seq) FROM head)",
    "version_has_head": "DELETE FROM head WHERE seq = (SELECT max(seq) FROM head)",
    "head_equals_log": "UPDATE head SET confidence = 0.123 WHERE live",
    "value_has_an_owner": "UPDATE log SET value = NULL WHERE seq = 1",
    "value_is_json": "UPDATE log SET value = '[' WHERE seq = 1",
    "tombstone_is_empty": "UPDATE log SET value = '1' WHERE type = 2",
    "versions_are_counted": "UPDATE log SET version = version + 1 WHERE branch = 2 AND type = 1",
    "confidence_is_within_0_and_1": "UPDATE log SET confidence = 1.5 WHERE seq = 1",
    "private_entries_are_their_owners": "UPDATE path SET owner = 1 WHERE path = 'svc/0'",
    "slot_is_in_its_path": "UPDATE slot SET path = 99 WHERE id = (SELECT min(id) FROM slot)",
    "path_counts_its_slots": "UPDATE path SET next = next + 1 WHERE id = 1",
    "slot_has_versions": "INSERT INTO slot(id, path, key) VALUES((1 << 24) + 999, 1, 'nobody wrote it')",
    "version_has_a_slot": "DELETE FROM slot WHERE id = (SELECT min(id) FROM slot)",
    "namespace_has_main": "UPDATE branch SET name = 'trunk' WHERE name = 'main' AND namespace = 2",
    "branch_was_announced": "UPDATE branch SET description = 'something else' WHERE name = 'x'",
    "announced_branch_exists": "DELETE FROM branch WHERE name = 'third'",
    "closed_branch_is_left_alone": "UPDATE branch SET closed_at = NULL WHERE name = 'x/y'",
    "lineage_is_closed": "UPDATE lineage SET upto = upto + 1 WHERE depth = 2",
    "child_is_after_its_fork": "UPDATE branch SET fork_seq = 999999 WHERE id = 2",
    "merge_edge_is_a_merge": "DELETE FROM merge_edge WHERE seq = (SELECT min(seq) FROM merge_edge)",
    "rollback_is_an_event": "UPDATE rollback SET to_seq = to_seq - 1",
    "census_is_right": "UPDATE census SET entries = entries + 1",
    "tag_was_announced": "UPDATE tag SET seq = seq - 1 WHERE name = 'before'",
    "pull_request_was_announced": "UPDATE pull_request SET status = 'merged' WHERE status = 'closed'",
    "review_was_announced": "UPDATE review SET verdict = 'approved' WHERE verdict = 'changes_requested'",
    "pending_merge_is_between_branches": "UPDATE pending_merge SET is_open = 1 WHERE id = 1",
    "conflict_is_over_versions": "UPDATE conflict SET source = target WHERE id = 1",
    "conflict_resolution_was_announced": "UPDATE conflict SET take = 'target' WHERE take = 'source'",
    "grant_was_announced": "UPDATE access SET permission = 'read_write' WHERE permission = 'read'",
    "api_key_was_announced": "UPDATE api_key SET revoked_at = NULL",
    "idempotency_key_is_a_write": "UPDATE idempotency SET seq = seq + 2",
    "outcome_is_an_event": "UPDATE outcome SET seq = 1",
    "judged_is_what_the_outcome_made": "DELETE FROM judged WHERE seq = (SELECT min(seq) FROM judged)",
    "read_set_is_of_versions": "UPDATE read_set SET outcome = 1 WHERE outcome <> 0",
    "brief_was_announced": "UPDATE brief SET seq = seq - 1",
    "experiment_is_a_branch": "UPDATE experiment SET status = 'finished' WHERE status = 'merged'",
    "search_state_is_of_this_log": "UPDATE search_state SET seq = seq + 1000",
    "search_index_is_of_versions": "UPDATE search_current SET doc = doc + 1",
    "search_index_is_complete": "DELETE FROM search_current WHERE seq = (SELECT min(seq) FROM search_current)",
    "search_index_holds_its_words": "DELETE FROM search_ever_text_docsize WHERE id % 2",
    "vector_is_of_a_text": "UPDATE embedding SET vector = x'0000000000'",
    "thread_is_of_something": "UPDATE thread SET namespace = 99",
    "checkpoint_matches_its_hash": "UPDATE channel SET blob = blob + 1",
    "checkpoint_is_of_a_thread_and_a_view": "UPDATE checkpoint SET seq = 999999",
    "pending_write_is_of_a_thread": "UPDATE pending_write SET blob = 999999",
    "blob_matches_its_hash": "UPDATE blob_part SET part = part - 1 WHERE place = 1",
    "blob_is_whole_and_used": "UPDATE blob_part SET place = place + 100 WHERE place = 0",
    **{f"{table}_matches_its_hash": f"UPDATE {table} SET hash = hash + 1" for table in HASHED},  # noqa: S608
}


def test_there_is_a_damage_for_every_check(mem: AgentMemory) -> None:
    checks = mem.verify().checks
    assert checks == ("file_is_intact", *PROBLEMS, "search_index_holds_its_words")
    assert set(checks[1:]) == DAMAGE.keys()


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


def test_a_check_that_cannot_run_is_a_problem_and_the_others_still_run(rich: Path) -> None:
    with closing(sqlite3.connect(rich, isolation_level=None)) as connection:
        connection.execute("UPDATE log SET details = '{' WHERE type = 12")
        connection.execute("UPDATE outcome SET seq = 1")
    with AgentMemory("inspector", rich) as mem:
        found = {problem.check: problem.detail for problem in mem.verify().problems}
    assert "cannot be checked" in found["tag_was_announced"]
    assert {"log_matches_its_hash", "outcome_is_an_event"} <= found.keys()


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
