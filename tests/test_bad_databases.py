"""Databases that are none, foreign, newer, read-only, full, damaged or closed: a typed error, and nothing lost.

A file that is refused is not touched; a write that is refused leaves what was acknowledged before it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amfs import AgentMemory
from amfs.errors import (
    CannotOpenDatabaseError,
    CorruptDatabaseError,
    DatabaseError,
    HandleClosedError,
    NewerSchemaError,
    NotADatabaseError,
    NotSupportedError,
    ReadOnlyDatabaseError,
)
from amfs.storage.migrations import SCHEMA_VERSION
from tests import helpers_crash, helpers_limits
from tests.helpers_processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="users, signals and limits of POSIX")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A closed database with branches, outcomes and large values."""
    path = tmp_path / "memory.db"
    helpers_crash.build(path)
    return path


def files(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder but lock files, which hold nothing."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-lock")}


# --- what is no database of ours -------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"hello, I am a text\n" * 50, b"\0" * 5000, b"SQLite format 3\0" + b"\xff" * 4080])
def test_a_file_that_is_no_database_is_refused_and_not_touched(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(NotADatabaseError, match=r"notes\.txt"):
        AgentMemory("ada", path)
    assert files(tmp_path) == {"notes.txt": content}


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    path.touch()
    with AgentMemory("ada", path) as mem:
        assert mem.write("svc", "a", 1).version == 1


@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("running", [False, True])
def test_a_database_of_another_program_is_refused_and_not_touched(journal: str, running: bool, tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(f"PRAGMA journal_mode = {journal}")
    other.execute("CREATE TABLE notes(text)")
    other.execute("INSERT INTO notes VALUES('theirs')")
    if not running:
        other.close()
    before = files(tmp_path)
    with pytest.raises(NotADatabaseError, match="another program"):
        AgentMemory("ada", path)
    assert files(tmp_path).keys() == before.keys()
    assert path.read_bytes() == before["theirs.db"]
    other.close()


def test_a_database_of_another_program_that_crashed_is_not_touched(tmp_path: Path) -> None:
    path, copy = tmp_path / "theirs.db", tmp_path / "copy" / "theirs.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA journal_mode = wal")
    other.execute("CREATE TABLE notes(text)")
    copy.parent.mkdir()
    shutil.copy(path, copy)
    shutil.copy(f"{path}-wal", f"{copy}-wal")
    other.close()
    before = files(copy.parent)
    with pytest.raises(NotADatabaseError, match="another program"):
        AgentMemory("ada", copy)
    after = files(copy.parent)
    assert {name: after.get(name) for name in before} == before


@pytest.mark.parametrize("schema", [SCHEMA_VERSION + 1, 99])
@pytest.mark.parametrize("leftover", [False, True])
def test_a_database_of_a_newer_version_is_refused_and_not_touched(leftover: bool, schema: int, database: Path) -> None:
    newer = sqlite3.connect(database, isolation_level=None)
    newer.execute(f"PRAGMA user_version = {schema}")
    folder = database.parent / "copy"
    folder.mkdir()
    shutil.copy(database, folder)
    if leftover:
        shutil.copy(f"{database}-wal", folder)
    newer.close()
    if not leftover:
        shutil.copy(database, folder)
    before = files(folder)
    with pytest.raises(NewerSchemaError, match=f"schema {schema}"):
        AgentMemory("ada", folder / database.name)
    after = files(folder)
    assert {name: after.get(name) for name in before} == before


def test_what_cannot_be_a_path_of_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "folder", tmp_path / "file" / "memory.db", str(tmp_path / "nul\0.db"), ""):
        with pytest.raises(CannotOpenDatabaseError):
            AgentMemory("ada", path)
    with pytest.raises(NotSupportedError, match="PostgreSQL"):
        AgentMemory("ada", "postgresql://localhost/memory")
    assert files(tmp_path / "folder") == {}


def test_missing_folders_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AgentMemory("ada", tmp_path / "a" / "b" / "memory.db") as mem:
        mem.write("svc", "a", 1)
    monkeypatch.setenv("AMFS_DATABASE", str(tmp_path / "c" / "d.db"))
    with AgentMemory("ada") as mem:
        mem.write("svc", "a", 1)
    monkeypatch.delenv("AMFS_DATABASE")
    monkeypatch.chdir(tmp_path)
    with AgentMemory("ada") as mem:
        mem.write("svc", "a", 1)
    for path in ("a/b/memory.db", "c/d.db", ".amfs/amfs.db"):
        assert (tmp_path / path).is_file()


def test_a_refused_file_leaves_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no database " * 100)
    for _ in range(20):
        with pytest.raises(NotADatabaseError):
            AgentMemory("ada", path)
    open_files = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert not [name for name in open_files if name.is_relative_to(tmp_path)]


# --- read-only -------------------------------------------------------------------------------------------------------


def check_read_only(found: dict[str, Any]) -> None:
    """Assert that a read-only database was read in full and never written."""
    assert found["value"] == {"n": 0, "text": "short"}
    assert found["keys"] == ["a", "b", "c", "d", "theirs"]
    assert found["events"] == 11
    assert found["changes"] == 4
    assert found["read_only"]
    assert found["read_events"] == "off"
    assert found["ok"]
    assert found["refused"] == ["read_only_database"] * (len(helpers_crash.OPERATIONS) - 1), "all but the read"


@pytest.fixture
def readable() -> Iterator[Path]:
    """A closed database that everyone may read, in a folder of its own that everyone may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "memory.db"
        helpers_crash.build(path)
        path.chmod(0o644)
        yield path
        Path(folder).chmod(0o755)


@needs_posix
def test_a_file_in_a_folder_that_may_not_be_written(readable: Path) -> None:
    readable.chmod(0o444)
    readable.parent.chmod(0o555)
    before = files(readable.parent)
    with Child(helpers_limits.as_nobody, readable, "use_read_only") as child:
        check_read_only(child.result())
    assert files(readable.parent) == before


@needs_posix
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root, to write what others may not")
def test_a_file_that_may_not_be_written_while_its_owner_writes(readable: Path) -> None:
    with AgentMemory("ada", readable) as mem:
        mem.write("other", "key", "in the -wal file")
        mem.delete("other", "key")
        with Child(helpers_limits.as_nobody, readable, "use_read_only") as child:
            found = child.result()
            check_read_only(found | {"events": found["events"] - 2})
        assert mem.write("other", "key", "afterwards").version == 3


def test_a_uri_can_ask_for_reading_only(database: Path) -> None:
    before = files(database.parent)
    check_read_only(helpers_limits.use_read_only(Path(f"file:{database}?mode=ro")))
    assert files(database.parent)[database.name] == before[database.name]


def test_reading_only_needs_a_database_and_its_namespace(database: Path) -> None:
    with pytest.raises(CannotOpenDatabaseError):
        AgentMemory("ada", f"file:{database}.missing?mode=ro")
    with pytest.raises(ReadOnlyDatabaseError, match="namespace 'elsewhere'"):
        AgentMemory("ada", f"file:{database}?mode=ro", namespace="elsewhere")
    assert not Path(f"{database}.missing").exists()


# --- full ------------------------------------------------------------------------------------------------------------


@needs_posix
def test_a_full_disk_loses_nothing_that_was_acknowledged(database: Path) -> None:
    with Child(helpers_limits.write_until_full, database, (600_000, 1_200_000)) as child:
        assert child.receive() == ["database_full", "database_full"]
        acknowledged = child.result()
    assert len(acknowledged) > 20
    with AgentMemory("ada", database) as mem:
        versions = {entry.seq: entry.value[0] for entry in mem.list("full")}
        assert versions == dict(acknowledged)
        events = mem.timeline(agent_id="writer", event_type="write", limit=1000)
        assert {event.seq for event in events} == versions.keys()
        assert mem.verify().ok


@needs_posix
def test_a_device_without_space_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    found = helpers_limits.on_a_small_device(tmp_path / "device")
    if found is None:
        pytest.skip("no right to mount a file system of its own")
    assert found == {"code": "database_full", "acknowledged": True, "ok": True, "resumed": True}


# --- damaged ---------------------------------------------------------------------------------------------------------


def everything(mem: AgentMemory) -> list[Any]:
    """Return all that can be read of a database."""
    seen: list[Any] = [branch.name for branch in mem.branches()]
    for branch in list(seen):
        seen += [entry.model_dump() for entry in mem.list(branch=branch)]
        seen += [entry.model_dump() for entry in mem.list(include_superseded=True, branch=branch)]
        seen += [event.model_dump() for event in mem.timeline(branch=branch, limit=1000)]
    return seen


def verifies(mem: AgentMemory) -> bool:
    """Return whether nothing is found to be wrong; damage may be so bad that it cannot be described."""
    try:
        return mem.verify().ok
    except CorruptDatabaseError:
        return False


def is_noticed(database: Path, whole: list[Any]) -> bool:
    """Return whether damage is reported; what is read in spite of it must be right, or a typed error."""
    try:
        with AgentMemory("ada", database) as mem:
            noticed = not verifies(mem)
            try:
                return noticed or everything(mem) == whole
            except DatabaseError:
                return noticed
    except DatabaseError:
        return True


def test_a_page_of_garbage_or_of_zeros_never_gives_a_wrong_answer(database: Path) -> None:
    with AgentMemory("ada", database) as mem:
        whole = everything(mem)
    content = database.read_bytes()
    pages = len(content) // 4096
    assert pages > 25
    for page in range(pages):
        for garbage in (bytes(4096), os.urandom(4096)):
            database.write_bytes(content[: page * 4096] + garbage + content[(page + 1) * 4096 :])
            assert is_noticed(database, whole), f"page {page + 1}"


def test_a_file_that_lost_its_end_never_gives_a_wrong_answer(database: Path) -> None:
    with AgentMemory("ada", database) as mem:
        whole = everything(mem)
    content = database.read_bytes()
    for length in range(100, len(content), 5000):
        database.write_bytes(content[:length])
        assert is_noticed(database, whole), f"{length} bytes"


@pytest.mark.parametrize("garbage", [b"\xff" * 20, b"}" * 20], ids=["no UTF-8", "no JSON"])
def test_damage_inside_a_value_is_a_typed_error(garbage: bytes, database: Path) -> None:
    content = database.read_bytes()
    position = content.index(b'{"n":0,"text":"a value')
    database.write_bytes(content[:position] + garbage + content[position + len(garbage) :])
    with AgentMemory("ada", database) as mem:
        for damaged in (lambda: mem.read("svc", "d"), lambda: everything(mem)):
            with pytest.raises(CorruptDatabaseError, match="damaged"):
                damaged()
        assert not verifies(mem)
        assert mem.write("svc", "beside it", "anew").version == 1


EDITS = {
    "a value in head": "UPDATE head SET value = '1' WHERE value IS NOT NULL",
    "a value in the log": 'UPDATE log SET value = \'{"n":7,"text":"short"}\' WHERE seq = 1',
    "a value that is no JSON": "UPDATE log SET value = '{' WHERE seq = 4",
    "a value that is gone": "UPDATE log SET value = NULL WHERE seq = 4",
    "a version number": "UPDATE log SET version = 7 WHERE seq = 1",
    "a confidence": "UPDATE log SET confidence = 0.5 WHERE seq = 2",
    "a confidence beyond 1": "UPDATE log SET confidence = 1.5 WHERE seq = 2",
    "an author": "UPDATE log SET author = agent + 1 WHERE seq = 2",
    "an author that nobody is": "UPDATE log SET author = 77, agent = 77 WHERE seq = 2",
    "a time": "UPDATE log SET ts = ts - 1000000 WHERE seq = 9",
    "a branch": "UPDATE log SET branch = 1 WHERE branch = 2",
    "a slot": "UPDATE log SET slot = slot + 1 WHERE seq = 2",
    "a cause": "UPDATE log SET cause = 900 WHERE seq = 2",
    "a deleted version": "DELETE FROM log WHERE seq = 2",
    "a deleted superseded version": "DELETE FROM log WHERE seq = 3",
    "a deleted head": "DELETE FROM head WHERE seq = 2",
    "a head of the past": "UPDATE head SET seq = 3 WHERE seq = (SELECT max(seq) FROM head WHERE branch = 1)",
    "a version that came to life": "UPDATE log SET live = 1 WHERE live = 0",
    "a lineage": "DELETE FROM lineage WHERE depth = 1",
    "a fork": "UPDATE branch SET fork_seq = 99 WHERE parent IS NOT NULL",
    "a key of another path": "UPDATE slot SET path = 9 WHERE key = 'a'",
}


@pytest.mark.parametrize("edit", EDITS)
def test_verify_finds_what_was_edited_by_hand(edit: str, database: Path) -> None:
    connection = sqlite3.connect(database)
    assert connection.execute(EDITS[edit]).rowcount > 0
    connection.commit()
    connection.close()
    with AgentMemory("ada", database) as mem:
        report = mem.verify()
        assert not report.ok
        assert all(problem.check in report.checks and problem.detail for problem in report.problems)


# --- closed ----------------------------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[AgentMemory], object]] = {
    **helpers_crash.OPERATIONS,
    "read": lambda mem: mem.read("svc", "a"),
    "read_many": lambda mem: mem.read_many([("svc", "a")]),
    "read_from": lambda mem: mem.read_from("ben", "svc", "theirs"),
    "list": lambda mem: mem.list(),
    "history": lambda mem: mem.history("svc", "a"),
    "compare_versions": lambda mem: mem.compare_versions("svc", "a"),
    "timeline": lambda mem: mem.timeline(),
    "explain": lambda mem: mem.explain("deploy-1"),
    "record_context": lambda mem: mem.record_context("ticket", "it was on fire"),
    "switch_branch": lambda mem: mem.switch_branch("work"),
    "on_branch": lambda mem: mem.on_branch("work"),
    "branches": lambda mem: mem.branches(),
    "close_branch": lambda mem: mem.close_branch("work"),
    "diff_branch": lambda mem: mem.diff_branch("work"),
    "dry run": lambda mem: mem.merge_branch("work", dry_run=True),
    "create_tag": lambda mem: mem.create_tag("v1"),
    "tags": lambda mem: mem.tags(),
    "delete_tag": lambda mem: mem.delete_tag("v1"),
    "rollback": lambda mem: mem.rollback(seq=1),
    "rollback, looked at": lambda mem: mem.rollback(seq=1, dry_run=True),
    "cherry_pick": lambda mem: mem.cherry_pick("work", [("svc", "new")]),
    "fork": lambda mem: mem.fork("ada-2"),
    "conflicts": lambda mem: mem.conflicts(),
    "resolve_conflict": lambda mem: mem.resolve_conflict(1, take="source"),
    "create_pull_request": lambda mem: mem.create_pull_request("title", "work"),
    "review_pull_request": lambda mem: mem.review_pull_request(1, "approved"),
    "merge_pull_request": lambda mem: mem.merge_pull_request(1),
    "close_pull_request": lambda mem: mem.close_pull_request(1),
    "pull_requests": lambda mem: mem.pull_requests(),
    "grant_branch_access": lambda mem: mem.grant_branch_access("work", "team", "t", "read"),
    "revoke_branch_access": lambda mem: mem.revoke_branch_access("work", "team", "t"),
    "branch_access": lambda mem: mem.branch_access("work"),
    "create_api_key": lambda mem: mem.create_api_key("key", agent_ids=["ada"], role="reader"),
    "api_keys": lambda mem: mem.api_keys(),
    "revoke_api_key": lambda mem: mem.revoke_api_key("id"),
    "blame": lambda mem: mem.blame("svc", "a"),
    "backup": lambda mem: mem.backup(f"{mem.database}.copy"),
    "export_namespace": lambda mem: mem.export_namespace(f"{mem.database}.jsonl"),
    "import_namespace": lambda mem: mem.import_namespace(f"{mem.database}.jsonl"),
    "experiment": lambda mem: mem.experiment("x").__enter__(),
    "experiments": lambda mem: mem.experiments(),
    "compare": lambda mem: mem.compare(),
    "stats": lambda mem: mem.stats(),
    "verify": lambda mem: mem.verify(),
}


@pytest.fixture
def closed(database: Path) -> Iterator[AgentMemory]:
    """A handle that was closed, twice."""
    mem = AgentMemory("ada", database)
    mem.read("svc", "a")
    mem.close()
    mem.close()
    yield mem
    assert files(database.parent).keys() == {database.name}, "nothing was opened again"


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_handle_refuses(call: str, closed: AgentMemory) -> None:
    with pytest.raises(HandleClosedError):
        CALLS[call](closed)


def test_views_end_with_their_owner_and_not_before(database: Path) -> None:
    with AgentMemory("ada", database) as mem:
        view, other = mem.on_branch("work"), mem.as_agent("ben")
        with mem.on_branch("main") as brief:
            assert brief.read("svc", "a") is not None
        with pytest.raises(HandleClosedError):
            brief.read("svc", "a")
        assert view.read("svc", "new") is not None
        assert other.read("svc", "theirs") is not None
    for handle in (view, other):
        for call in CALLS.values():
            with pytest.raises(HandleClosedError):
                call(handle)
        handle.close()


def test_a_closed_memory_database_is_gone() -> None:
    mem = AgentMemory("ada", ":memory:")
    mem.write("svc", "a", 1)
    mem.close()
    with pytest.raises(HandleClosedError):
        mem.read("svc", "a")
    with AgentMemory("ada", ":memory:") as fresh:
        assert fresh.read("svc", "a") is None
