"""A database that the first release wrote: it opens, holds what it held, and all that is new works on it.

``data/schema-1.db.gz`` is a file that the code of schema 1 wrote (and sqlite-utils with it, so its own table of
migrations is there): two agents, shared and private entries, deletions, a message, branches merged, closed and open,
a transaction, an outcome with what was read for it, an experiment. ``data/schema-1.json.gz`` is what that same code
showed of the file, as the models' JSON.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amfs import AgentMemory, Blob, Checkpoints, MergeStatus, ReadOnlyDatabaseError

if TYPE_CHECKING:
    from amfs.models.base import Model

DATA = Path(__file__).parent / "data"
LATER = 1_700_000_100_000_000


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a copy of the old database."""
    database = tmp_path / "memory.db"
    database.write_bytes(gzip.decompress((DATA / "schema-1.db.gz").read_bytes()))
    return database


def schema_of(database: Path) -> int:
    """Return the schema version a file has."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


def plain(models: list[Model]) -> list[Any]:
    """Return models as JSON."""
    return [one.model_dump(mode="json") for one in models]


def shown(database: Path) -> dict[str, Any]:
    """Return all that two agents see of a database."""
    found: dict[str, Any] = {}
    with AgentMemory("ada", database, clock=lambda: LATER) as ada:
        for mem in (ada, ada.as_agent("ben")):
            for name in (branch.name for branch in ada.branches()):
                found[f"{mem.agent_id} on {name}"] = {
                    "entries": plain(mem.list(branch=name)),
                    "messages": plain(mem.list(branch=name, memory_type="message")),
                    "versions": plain(mem.list(include_superseded=True, branch=name)),
                    "past": plain(mem.list(at=20, branch=name)),
                    "history": plain(mem.history("svc", "a", branch=name)),
                    "events": plain(mem.timeline(branch=name, limit=1000, include_messages=True)),
                }
        found["branches"] = plain(ada.branches())
        found["experiments"] = plain(ada.experiments())
        found["explanation"] = ada.explain("deploy-1").model_dump(mode="json")
        found["differences"] = plain(ada.diff_branch("work/next", "main"))
    return found


def within(part: Any, whole: Any) -> Any:
    """Return of ``whole`` what ``part`` has too: models may have gained fields."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return {name: within(value, whole[name]) for name, value in part.items() if name in whole}
    if isinstance(part, list) and isinstance(whole, list):
        return [within(*pair) for pair in zip(part, whole, strict=True)]
    return whole


# --- what was there --------------------------------------------------------------------------------------------------


def test_everything_is_shown_as_it_was(old: Path) -> None:
    assert schema_of(old) == 1
    expected = json.loads(gzip.decompress((DATA / "schema-1.json.gz").read_bytes()))
    for found in (shown(old), shown(old)):
        assert found.keys() == expected.keys()
        for name, part in expected.items():
            assert within(part, found[name]) == part, name
    assert sum(len(part["events"]) for name, part in expected.items() if name.startswith("ada on")) > 20
    assert schema_of(old) == 4


def test_the_file_is_as_sound_as_a_new_one(old: Path) -> None:
    with AgentMemory("ada", old) as mem:
        report = mem.verify()
        assert (report.problems, report.versions) == ((), 33)
        assert mem.stats().schema_version == 4
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT count(*), count(hash) FROM log").fetchone() == (42, 42)
        names = connection.execute("SELECT name FROM _sqlite_migrations ORDER BY id").fetchall()
        assert names == [("0001_log",), ("0002_review",), ("0003_search",), ("0004_checkpoints",)]
        connection.execute("UPDATE log SET confidence = 0.123 WHERE seq = 1")
        connection.commit()
    with AgentMemory("ada", old) as mem:
        assert not mem.verify().ok, "old rows are guarded as well as new ones"


def test_several_may_open_it_at_once(old: Path) -> None:
    def use(number: int) -> int:
        with AgentMemory(f"agent {number}", old, durability="normal") as mem:
            return mem.write("together", f"k{number}", number).version

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(use, range(6))) == [1] * 6
    with AgentMemory("ada", old) as mem:
        assert (mem.verify().ok, len(mem.list("together"))) == (True, 6)


def test_it_is_not_upgraded_where_it_may_only_be_read(old: Path) -> None:
    before = old.read_bytes()
    with pytest.raises(ReadOnlyDatabaseError, match="must be upgraded first"):
        AgentMemory("ada", f"file:{old}?mode=ro")
    assert (old.read_bytes(), schema_of(old)) == (before, 1)


# --- what is new -----------------------------------------------------------------------------------------------------


@pytest.fixture
def ada(old: Path) -> Any:
    """Return ada's handle on the old database; it is sound when the test is over."""
    with AgentMemory("ada", old, durability="normal", clock=lambda: LATER) as mem:
        yield mem
        assert mem.verify().problems == ()


def test_old_views_are_tagged_and_rolled_back_to(ada: AgentMemory) -> None:
    first = ada.history("svc", "a")[0]
    ada.create_tag("first", at=first.seq)
    ada.create_tag("by time", at=first.written_at)
    before = {entry.entry_key: entry.value for entry in ada.list()}
    event = ada.rollback(tag_name="first", include_others=True).event
    assert {entry.entry_key: entry.value for entry in ada.list()} == {"svc/a": {"n": 1, "text": "first"}}
    ada.rollback(seq=event - 1, include_others=True)
    assert {entry.entry_key: entry.value for entry in ada.list()} == before
    assert [tag.seq for tag in ada.tags()] == [first.seq, first.seq]


def test_old_merges_count_as_bases_and_can_be_rolled_back(ada: AgentMemory) -> None:
    assert ada.merge_branch("work").status is MergeStatus.UP_TO_DATE
    merge = ada.timeline(event_type="branch_merged", branch="main")[-1]
    ada.rollback(seq=merge.seq - 1, include_others=True)
    assert ada.merge_branch("work", strategy="theirs").merged_entries == 4


def test_old_branches_are_reviewed_and_merged_by_hand(ada: AgentMemory) -> None:
    pr = ada.create_pull_request("Finish it", "work/next", target_branch="main")
    assert ada.as_agent("ben").review_pull_request(pr.id, "approved").approved
    result = ada.merge_pull_request(pr.id, strategy="manual")
    assert [(one.key, one.fields) for one in result.conflicts] == [("a", ("/text",))]
    ada.resolve_conflict(result.conflicts[0].id, take="source")
    assert (ada.pull_requests()[0].status, ada.read("svc", "a").value) == ("merged", {"n": 4, "text": "open side"})
    assert ada.merge_branch("work/next", target="main").status is MergeStatus.UP_TO_DATE


def test_old_entries_are_picked_and_forked(ada: AgentMemory, old: Path) -> None:
    assert ada.cherry_pick("closed", [("svc", "c")]).merged_entries == 1
    count = ada.fork("ada-2")
    with AgentMemory("ada-2", old, durability="normal") as new:
        assert count == len(new.list()) == len(ada.list())
        assert (new.read("svc/deep", "mine").value, new.read("svc", "c").value) == ("ada only", 1)
        assert new.history("svc", "a") == ada.history("svc", "a")


def test_old_branches_are_granted(ada: AgentMemory) -> None:
    assert ada.grant_branch_access("work", "team", "backend", "read").permission == "read"
    key = ada.create_api_key("for ben", agent_ids=["ben"], role="reader")
    assert [one.id for one in ada.api_keys()] == [key.id]


def test_threads_are_kept_beside_old_memory(ada: AgentMemory) -> None:
    threads, blob = Checkpoints(ada), Blob("text", b"state")
    seq = ada.history("svc", "a")[0].seq
    threads.put("t", "1", blob, {"messages": [blob]}, made_at=ada.history("svc", "a")[0].written_at)
    assert threads.get("t").seq == seq
    branch = threads.fork("t", "1", "back", "t2").branch
    assert {entry.entry_key: entry.value for entry in ada.list(branch=branch)} == {"svc/a": {"n": 1, "text": "first"}}


def test_old_entries_are_briefed(ada: AgentMemory) -> None:
    brief = ada.brief("svc", branch="closed")
    assert brief.entry_count == len([one for one in ada.list("svc", prefix=True, branch="closed") if one.shared]) > 0
    assert ada.brief("svc", branch="closed") == brief
