"""Backup and restore: under load, of damaged databases, onto what must not be touched, and killed at every step."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amfs import AgentMemory, Principal
from amfs.errors import (
    AccessDeniedError,
    AMFSError,
    CannotOpenDatabaseError,
    CorruptDatabaseError,
    DatabaseBusyError,
    DatabaseFullError,
    InvalidInputError,
    NewerSchemaError,
    NotADatabaseError,
)
from tests import helpers_safety as safety
from tests.helpers_processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator

OpenMemory = Any
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="signals, limits and forked children")


def files(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder but lock files, which hold nothing, and the index of a log, which is rebuilt."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix[-4:] not in ("lock", "-shm")}


def made(path: Path, value: object, more: int = 0) -> Path:
    """Make a closed database that holds a value, and some more."""
    with AgentMemory("ada", path, durability="normal") as mem:
        mem.write("svc", "k", value)
        for number in range(more):
            mem.write("more", f"k{number}", [number, "x" * 300])
    return path


def value_in(path: Path) -> object:
    """Return the value that a database holds, after checking everything else."""
    with AgentMemory("reader", path, read_events="off") as mem:
        assert mem.verify().problems == ()
        entry = mem.read("svc", "k")
        return None if entry is None else entry.value


# --- backup ----------------------------------------------------------------------------------------------------------


def test_a_backup_is_a_database_like_any_other(file_mem: AgentMemory, tmp_path: Path, clock: Any) -> None:
    safety.fill(file_mem, clock)
    report = file_mem.backup(tmp_path / "backup.db")
    assert report == file_mem.verify()
    assert report.ok
    assert {path.name for path in tmp_path.iterdir() if "backup" in path.name or path.name[0] == "."} == {"backup.db"}
    with closing(sqlite3.connect(tmp_path / "backup.db")) as plain:
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with AgentMemory("ada", tmp_path / "backup.db", clock=clock, read_events="off") as copy:
        for agent in safety.AGENTS:
            assert safety.everything(copy, agent) == safety.everything(file_mem, agent)
        copy.write("svc", "k0", "in the copy")
    assert file_mem.as_agent("ben").read("svc", "k0").value == {"mine": "ben's"}


def test_memory_that_is_in_no_file_can_be_backed_up(open_memory: OpenMemory, tmp_path: Path) -> None:
    mem = open_memory(where=":memory:")
    mem.write("svc", "k", "kept")
    assert mem.backup(tmp_path / "backup.db").versions == 1
    mem.write("svc", "k", "later")
    assert value_in(tmp_path / "backup.db") == "kept"
    with closing(sqlite3.connect(tmp_path / "backup.db")) as plain:
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_later_backup_takes_the_place_of_an_earlier_one(open_memory: OpenMemory, tmp_path: Path) -> None:
    mem, backup = open_memory(), tmp_path / "backup.db"
    for value in range(3):
        mem.write("svc", "k", value)
        mem.backup(backup)
        assert value_in(backup) == value
    with AgentMemory("reader", backup) as reader:
        mem.write("svc", "k", "later")
        with pytest.raises(DatabaseBusyError, match="close every handle"):
            mem.backup(backup)
        assert reader.write("svc", "k", "in the backup").version == value + 2
    assert value_in(backup) == "in the backup"
    mem.backup(backup)
    assert value_in(backup) == "later"


def test_a_backup_touches_nothing_that_is_not_its_own(open_memory: OpenMemory, tmp_path: Path) -> None:
    mem, folder = open_memory(), tmp_path / "folder"
    mem.write("svc", "k", 1)
    folder.mkdir()
    (folder / "notes.txt").write_text("not a database" * 100)
    with closing(sqlite3.connect(folder / "theirs.db")) as theirs:
        theirs.execute("CREATE TABLE t(x)")
    (folder / "hard.db").hardlink_to(mem.database)
    (folder / "soft.db").symlink_to(mem.database)
    before = files(folder)
    for path in (mem.database, *(f"{mem.database}-{what}" for what in ("wal", "shm", "lock", "journal"))):
        with pytest.raises(InvalidInputError, match="in use"):
            mem.backup(path)
    for name in ("hard.db", "soft.db"):
        with pytest.raises(InvalidInputError, match="in use"):
            mem.backup(folder / name)
    for name in ("notes.txt", "theirs.db"):
        with pytest.raises(NotADatabaseError, match=name):
            mem.backup(folder / name)
    for path in (folder, "", ":memory:", "file:/x.db", "a\0b", 5, b"bytes", None):
        with pytest.raises(InvalidInputError):
            mem.backup(path)
    for path in (tmp_path / "no folder" / "x.db", folder / "notes.txt" / "x.db", folder / ("long" * 100)):
        with pytest.raises(CannotOpenDatabaseError, match="nothing was changed"):
            mem.backup(path)
    assert files(folder) == before
    assert mem.verify().ok


def test_a_backup_through_a_link_goes_where_it_leads(file_mem: AgentMemory, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "backup.db").symlink_to(tmp_path / "elsewhere" / "real.db")
    file_mem.backup(tmp_path / "backup.db")
    assert (tmp_path / "backup.db").is_symlink()
    assert (tmp_path / "elsewhere" / "real.db").is_file()


def test_a_log_left_by_a_database_that_is_gone_is_not_taken_for_the_copy_s(tmp_path: Path) -> None:
    made(tmp_path / "memory.db", "kept")
    other = tmp_path / "backup.db"
    with AgentMemory("ada", other) as mem:
        mem.write("svc", "k", "gone")
        shutil.copy(f"{other}-wal", tmp_path / "stray")
    other.unlink()
    (tmp_path / "stray").rename(f"{other}-wal")
    with AgentMemory("ada", tmp_path / "memory.db") as mem:
        mem.backup(other)
    assert value_in(other) == "kept"


@needs_posix
def test_a_backup_has_the_permissions_of_the_database(file_mem: AgentMemory, tmp_path: Path) -> None:
    for mode in (0o600, 0o640):
        Path(file_mem.database).chmod(mode)
        file_mem.backup(tmp_path / "backup.db")
        file_mem.export_namespace(tmp_path / "export.jsonl")
        for name in ("backup.db", "export.jsonl"):
            assert (tmp_path / name).stat().st_mode & 0o777 == mode


def test_owner_and_admins_only(open_memory: OpenMemory, database: Path, tmp_path: Path) -> None:
    open_memory()
    for role in ("reader", "writer"):
        with (
            AgentMemory("zoe", database, principal=Principal(user_id="u", role=role)) as mem,
            pytest.raises(AccessDeniedError),
        ):
            mem.backup(tmp_path / "backup.db")
    assert not (tmp_path / "backup.db").exists()
    with AgentMemory("zoe", database, principal=Principal(user_id="u", role="admin")) as mem:
        assert mem.backup(tmp_path / "backup.db").ok


def damage(path: Path, page: int) -> None:
    """Overwrite a page of a closed database."""
    with path.open("r+b") as file:
        file.seek(page * 4096)
        file.write(os.urandom(4096))


@pytest.mark.parametrize("earlier", [False, True])
def test_a_damaged_database_leaves_the_earlier_backup(earlier: bool, tmp_path: Path) -> None:
    database, backup = made(tmp_path / "memory.db", 1, more=200), tmp_path / "backup.db"
    if earlier:
        made(backup, "sound")
    before = files(tmp_path).keys()
    found = 0
    whole = database.read_bytes()
    for page in range(1, len(whole) // 4096, 4):
        database.write_bytes(whole)
        damage(database, page)
        try:
            mem = AgentMemory("ada", database)
        except CorruptDatabaseError:
            continue
        with mem:
            with pytest.raises(CorruptDatabaseError, match="damaged"):
                mem.backup(backup)
            found += 1
        assert files(tmp_path).keys() == before
    assert found > 5
    if earlier:
        assert value_in(backup) == "sound"


@needs_posix
def test_a_full_disk_leaves_the_earlier_backup(tmp_path: Path) -> None:
    database, backup = made(tmp_path / "memory.db", 1, more=200), made(tmp_path / "backup.db", "sound")
    with Child(safety.fail_on_a_full_disk, database, backup) as child:
        assert child.result() == [DatabaseFullError.__name__] * 2
    assert value_in(backup) == "sound"
    assert files(tmp_path).keys() == {"memory.db", "backup.db"}


@needs_posix
def test_backups_under_load_hold_what_was_acknowledged_before(database: Path, tmp_path: Path) -> None:
    backup, ahead = tmp_path / "backup.db", 0
    with AgentMemory("keeper", database) as mem, Child(safety.write_on, database) as child:
        for number in range(50):
            newest = max([child.receive(), *child.rest()])
            report = mem.backup(backup)
            assert report.problems == ()
            assert report.versions % 2 == 0, "never half of a transaction"
            assert report.versions >= 2 * newest
            ahead += report.versions > 2 * newest
            if number % 10 == 0:
                with AgentMemory("reader", backup) as copy:
                    values = sorted(one.value for one in copy.list(include_superseded=True) if one.key[0] == "a")
                    assert values == list(range(1, report.versions // 2 + 1))
    assert ahead > 0, "others wrote on meanwhile"


# --- restore ---------------------------------------------------------------------------------------------------------


def test_a_restored_database_holds_what_the_backup_held(tmp_path: Path) -> None:
    path, source = made(tmp_path / "memory.db", "now"), tmp_path / "backup.db"
    with AgentMemory("ada", path) as mem:
        mem.backup(source)
        mem.write("svc", "k", "a mistake")
    before = source.read_bytes()
    assert AgentMemory.restore(path, source).ok
    assert value_in(path) == "now"
    assert value_in(path) == "now"
    assert source.read_bytes() == before
    AgentMemory.restore(tmp_path / "new" / "folder" / "memory.db", str(source))
    assert value_in(tmp_path / "new" / "folder" / "memory.db") == "now"


def test_a_database_that_is_open_is_not_replaced(tmp_path: Path) -> None:
    path, source = made(tmp_path / "memory.db", "now"), made(tmp_path / "backup.db", "then")
    with AgentMemory("idle", path), pytest.raises(DatabaseBusyError, match="close every handle"):
        AgentMemory.restore(path, source)
    with AgentMemory("idle", f"file:{path}?mode=ro"), pytest.raises(DatabaseBusyError):
        AgentMemory.restore(path, source)
    with AgentMemory("ada", path) as mem:
        mem.write("svc", "k", "later")
        with pytest.raises(DatabaseBusyError):
            mem.restore(path, source)
        mem.write("svc", "k", "latest")
    assert value_in(path) == "latest"
    AgentMemory.restore(path, source)
    assert value_in(path) == "then"


@needs_posix
def test_a_database_that_another_process_has_open_is_not_replaced(tmp_path: Path) -> None:
    path, source = made(tmp_path / "memory.db", "now"), made(tmp_path / "backup.db", "then")
    with Child(safety.hold_open, path) as child:
        child.receive()
        with pytest.raises(DatabaseBusyError, match="close every handle"):
            AgentMemory.restore(path, source)
        assert value_in(path) == "now"
        child.send()
        child.result()
        AgentMemory.restore(path, source)
    assert value_in(path) == "then"
    with Child(safety.hold_open, path) as child:
        child.receive()
        child.kill()
    AgentMemory.restore(path, source)


def test_what_was_never_copied_into_the_file_is_restored_too(tmp_path: Path) -> None:
    """A database taken with the log beside it, as it was left by a crash."""
    path, folder = made(tmp_path / "memory.db", "now"), tmp_path / "crashed"
    folder.mkdir()
    with AgentMemory("ada", path) as mem:
        mem.write("svc", "k", "in the log")
        for name in ("memory.db", "memory.db-wal"):
            shutil.copy(tmp_path / name, folder)
    before = files(folder)
    AgentMemory.restore(tmp_path / "restored.db", folder / "memory.db")
    assert value_in(tmp_path / "restored.db") == "in the log"
    assert files(folder) == before
    AgentMemory.restore(folder / "memory.db", tmp_path / "restored.db")
    AgentMemory.restore(path, tmp_path / "restored.db")
    assert files(folder).keys() == {"memory.db"}
    assert value_in(folder / "memory.db") == value_in(path) == "in the log"


def test_a_database_in_use_may_be_the_source(open_memory: OpenMemory, tmp_path: Path) -> None:
    mem = open_memory()
    mem.write("svc", "k", "live")
    AgentMemory.restore(tmp_path / "copy.db", mem.database)
    mem.write("svc", "k", "goes on")
    assert value_in(tmp_path / "copy.db") == "live"
    with pytest.raises(InvalidInputError, match="same file"):
        AgentMemory.restore(mem.database, mem.database)


def test_a_damaged_database_can_be_restored(tmp_path: Path) -> None:
    source, path = made(tmp_path / "backup.db", "then"), made(tmp_path / "memory.db", "now", more=100)
    whole = path.read_bytes()
    for page in range(1, len(whole) // 4096, 3):
        path.write_bytes(whole)
        damage(path, page)
        AgentMemory.restore(path, source)
        assert value_in(path) == "then"
    path.write_bytes(whole[:5000])
    AgentMemory.restore(path, source)
    path.write_bytes(b"\xff" * 4096 + whole[4096:])
    with pytest.raises(NotADatabaseError, match="move it away"):
        AgentMemory.restore(path, source)
    path.write_bytes(b"")
    AgentMemory.restore(path, source)
    assert value_in(path) == "then"


def test_a_source_that_is_no_sound_backup_changes_nothing(tmp_path: Path) -> None:
    path, folder = made(tmp_path / "memory.db", "now"), tmp_path / "sources"
    folder.mkdir()
    (folder / "empty.db").touch()
    (folder / "notes.txt").write_text("no database " * 500)
    with closing(sqlite3.connect(folder / "theirs.db")) as theirs:
        theirs.execute("CREATE TABLE t(x)")
    with closing(sqlite3.connect(made(folder / "newer.db", 1), isolation_level=None)) as newer:
        newer.execute("PRAGMA user_version = 99")
    with closing(sqlite3.connect(made(folder / "edited.db", 1), isolation_level=None)) as edited:
        edited.execute("UPDATE log SET confidence = 0.4")
    damage(made(folder / "damaged.db", 1, more=100), 12)
    before = files(folder)
    for source, error in (
        ("empty.db", NotADatabaseError),
        ("notes.txt", NotADatabaseError),
        ("theirs.db", NotADatabaseError),
        ("newer.db", NewerSchemaError),
        ("edited.db", CorruptDatabaseError),
        ("damaged.db", CorruptDatabaseError),
        ("missing.db", CannotOpenDatabaseError),
        (".", InvalidInputError),
    ):
        for target in (path, tmp_path / "new.db"):
            with pytest.raises(error):
                AgentMemory.restore(target, folder / source)
    assert files(folder) == before
    assert {one.name for one in tmp_path.iterdir()} - {"memory.db-lock"} == {"memory.db", "sources"}
    assert value_in(path) == "now"


def test_what_another_program_made_is_not_replaced(tmp_path: Path) -> None:
    source, folder = made(tmp_path / "backup.db", "then"), tmp_path / "theirs"
    folder.mkdir()
    (folder / "notes.txt").write_text("no database " * 500)
    theirs = sqlite3.connect(folder / "theirs.db", isolation_level=None)
    theirs.execute("PRAGMA journal_mode = WAL")
    theirs.execute("CREATE TABLE t(x)")
    with closing(theirs):
        before = files(folder)
        for name in ("notes.txt", "theirs.db"):
            with pytest.raises(NotADatabaseError, match=r"touched|nothing was written"):
                AgentMemory.restore(folder / name, source)
        with pytest.raises(InvalidInputError, match="directory"):
            AgentMemory.restore(folder, source)
        assert files(folder) == before


def test_every_error_is_one_of_ours(tmp_path: Path) -> None:
    source = made(tmp_path / "backup.db", "then")
    for bad in (None, 5, b"bytes", "", "\0", ":memory:", object(), source / "below", "x" * 5000):
        with pytest.raises(AMFSError):
            AgentMemory.restore(bad, source)
        with pytest.raises(AMFSError):
            AgentMemory.restore(tmp_path / "new.db", bad)
    assert value_in(source) == "then"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return an empty folder, in memory where there is such a place: a killed process loses no file anywhere."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder inside has a name of its own
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


@needs_posix
def test_a_restore_killed_at_any_step_leaves_the_old_or_the_new_database(folder: Path) -> None:
    source, path, old = made(folder / "backup.db", "new"), folder / "memory.db", folder / "old"
    old.mkdir()
    with AgentMemory("ada", path) as mem:  # as a crash leaves it, with the newest version in the log
        mem.write("svc", "k", "older")
        mem.write("svc", "k", "old")
        for name in ("memory.db", "memory.db-wal"):
            shutil.copy(folder / name, old)
    seen: list[object] = []
    for kill_at in range(1000):
        shutil.copytree(old, folder, dirs_exist_ok=True)
        with Child(safety.restore_and_die, path, source, kill_at) as child:
            if child.exit_code == 0:
                break
            assert child.exit_code == -signal.SIGKILL
        seen.append(value_in(path))
        if seen[-1] == "old":
            assert AgentMemory.restore(path, source).ok
            assert value_in(path) == "new"
    assert value_in(path) == "new"
    first_new = seen.index("new")
    assert set(seen[:first_new]) == {"old"}
    assert set(seen[first_new:]) == {"new"}
    assert first_new > 15
