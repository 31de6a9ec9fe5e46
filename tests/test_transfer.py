"""Export and import of a namespace: what comes out goes in equal, and a file that is not whole goes nowhere."""

from __future__ import annotations

import json
import random
import sys
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from amfs import AgentMemory, Principal
from amfs.errors import (
    AccessDeniedError,
    AMFSError,
    BeforeHistoryError,
    CannotOpenDatabaseError,
    InvalidExportError,
    InvalidInputError,
    NamespaceNotEmptyError,
    NotSupportedError,
)
from tests import helpers_safety as safety
from tests.conftest import ManualClock
from tests.helpers_processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OpenMemory = Any


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the lines of an export."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def save(path: Path, lines: list[dict[str, Any]]) -> Path:
    """Write lines as an export whose last line fits them."""
    body = b"".join(f"{json.dumps(line, ensure_ascii=False, separators=(',', ':'))}\n".encode() for line in lines[:-1])
    last = {"kind": "end", "lines": len(lines), "sha256": sha256(body).hexdigest()}
    path.write_bytes(body + f"{json.dumps(last, separators=(',', ':'))}\n".encode())
    return path


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a closed database with a busy namespace, and its export."""
    folder, clock = tmp_path_factory.mktemp("busy"), ManualClock()
    database, export = folder / "memory.db", folder / "export.jsonl"
    with AgentMemory("ada", database, clock=clock, durability="normal") as mem:
        safety.fill(mem, clock)
        assert mem.verify().problems == ()
        assert mem.export_namespace(export) == len(export.read_bytes().splitlines())
    return database, export


@pytest.fixture
def export(busy: tuple[Path, Path]) -> Path:
    """Return the export of a busy namespace."""
    return busy[1]


# --- the round trip --------------------------------------------------------------------------------------------------


def test_every_kind_of_row_is_exported(export: Path) -> None:
    header, *rows, last = lines_of(export)
    assert (header["format"], header["version"], header["namespace"]) == ("amfs-namespace", 1, "default")
    counts = {kind: sum(row["kind"] == kind for row in rows) for kind in header["counts"]}
    assert counts == header["counts"]
    assert all(counts.values()), counts
    assert last["lines"] == len(rows) + 2


def later(clock: ManualClock) -> ManualClock:
    """Return a clock at the moment at which the busy namespace was left."""
    clock.advance(120)
    return clock


@pytest.mark.parametrize("where", ["memory.db", ":memory:"])
def test_an_imported_namespace_shows_the_same_to_everyone(
    where: str, busy: tuple[Path, Path], tmp_path: Path, open_memory: OpenMemory, clock: ManualClock
) -> None:
    database, export = busy
    later(clock)
    new = open_memory("importer", where if where == ":memory:" else tmp_path / where)
    assert new.import_namespace(export) == len(lines_of(export))
    assert new.verify().problems == ()
    with AgentMemory("ada", database, clock=clock, read_events="off") as old:
        for agent in (*safety.AGENTS, "stranger"):
            before, after = safety.everything(old, agent), safety.everything(new, agent)
            assert after.keys() == before.keys()
            for what, found in before.items():
                assert after[what] == found, what
    again = new.export_namespace(tmp_path / "again.jsonl")
    known = [row for row in lines_of(tmp_path / "again.jsonl") if row.get("kind") not in ("run", "end", None)]
    names = ("agent", "run", "branch", "path", "slot")
    assert again >= len(lines_of(export))
    logs = ([row["seq"] for row in rows if row.get("kind") == "log"] for rows in (known, lines_of(export)))
    assert next(logs) == next(logs)
    assert all(any(row["kind"] == name for row in known) for name in names if name != "run")


def test_work_goes_on_after_an_import(export: Path, open_memory: OpenMemory, clock: ManualClock) -> None:
    later(clock)
    mem = open_memory("ada")
    before = mem.branches()
    mem.import_namespace(export)
    assert before != mem.branches()
    assert mem.switch_branch("main") == mem.branches()[0]
    left = mem.conflicts()
    assert len(left) == 1
    assert mem.resolve_conflict(left[0].id, take="source").status == "merged"
    assert {pull.status.value for pull in mem.pull_requests()} == {"merged", "closed"}
    for branch, target in ((safety.ODD_BRANCH, None), ("child", safety.ODD_BRANCH), ("calm", None)):
        mem.merge_branch(branch, target=target)
        assert mem.merge_branch(branch, target=target).status == "up_to_date", branch
    newest = mem.timeline(agent_id="*")[0]
    entry = mem.write("svc", "k1", "later")
    assert entry.seq > newest.seq
    assert entry.written_at > newest.created_at
    assert entry.version == mem.history("svc", "k1")[-2].version + 1
    mem.write("svc", "k1", "on the branch", branch=safety.ODD_BRANCH)
    assert mem.merge_branch(safety.ODD_BRANCH, strategy="source_wins").merged_entries == 1
    ben = mem.as_agent("ben")
    again = ben.write("svc", "k0", {"mine": "ben's"}, shared=False, idempotency_key="once")
    assert again.seq < newest.seq
    assert ben.commit_outcome("deploy-1", "failure", run_id="run-1").recorded is False
    assert ben.namespace == mem.namespace


def test_another_name_and_a_second_namespace(export: Path, open_memory: OpenMemory, clock: ManualClock) -> None:
    """A database whose events are all older takes a namespace under new seqs, numbers and ids."""
    clock.advance(-1000)
    first = open_memory("zoe", namespace="older")
    for number in range(3):
        first.write("svc", f"k{5 - number}", number)
    first.write("svc", "k0", "zoe's", shared=False)
    first.create_branch("b")
    first.write("svc", "k5", "b", branch="b")
    first.create_pull_request("older", "b")
    last = first.timeline(agent_id="*")[0].seq
    clock.advance(1000)
    later(clock)
    second = open_memory("ada", namespace="renamed")
    second.import_namespace(export)
    assert second.verify().problems == ()
    assert first.pull_requests()[0].title == "older"
    assert {entry.key: entry.value for entry in first.list("svc")} == {"k0": "zoe's", "k3": 2, "k4": 1, "k5": 0}
    alone = open_memory("ada", where=":memory:")
    alone.import_namespace(export)
    old, new = (mem.timeline(agent_id="*", limit=10_000) for mem in (alone, second))
    assert [event.seq for event in new] == [event.seq + last for event in old]
    assert [event.details.keys() for event in new] == [event.details.keys() for event in old]
    tags = [(tag.name, tag.seq + last) for tag in alone.tags()]
    assert [(tag.name, tag.seq) for tag in second.tags()] == tags
    for one, other in zip(new, old, strict=True):
        for name in ("seq", "fork_seq", "base_seq", "source_seq", "target_seq", "merge_event"):
            if other.details.get(name):
                assert one.details[name] == other.details[name] + last, one.summary
        assert one.details.get("pull_request", 1) == other.details.get("pull_request", 0) + 1
    views = (
        {branch.name: [(one.entry_key, one.value, one.version) for one in sorted_list(mem, branch.name)]
         for branch in mem.branches()}
        for mem in (second, alone)
    )  # fmt: skip
    assert next(views) == next(views)
    shown = [[mem.read("svc", "k1", at="start").value, mem.merge_branch("calm").status] for mem in (second, alone)]
    assert shown[0] == shown[1]


def sorted_list(mem: AgentMemory, branch: str) -> list[Any]:
    """Return what a branch holds; which path came first differs where paths were there before."""
    return sorted(mem.list(branch=branch), key=lambda entry: (entry.entity_path, entry.key, entry.shared))


def test_an_older_namespace_keeps_its_time(
    export: Path, open_memory: OpenMemory, tmp_path: Path, clock: ManualClock
) -> None:
    """Imported events may be older than those the database holds; to each namespace, time goes on as it did."""
    clock.advance(-50)
    now = open_memory("zoe", namespace="now")
    moments = {0: now.write("svc", "k", 0).written_at}
    clock.advance(1000)
    moments |= {value: now.write("svc", "k", value).written_at for value in (1, 2)}
    last = now.timeline(agent_id="*")[0]
    alone, older, empty = open_memory("ada", ":memory:"), open_memory("ada", namespace="older"), tmp_path / "empty"
    open_memory("ada", ":memory:").export_namespace(empty)
    for mem in (alone, older):
        mem.import_namespace(export)
    open_memory("ada", namespace="empty").import_namespace(empty)
    twice = open_memory("ada", namespace="twice")
    twice.import_namespace(export)
    newest = twice.timeline(agent_id="*")[0].seq
    clock.advance(-2000)
    for mem in (older, now, twice):
        later_entry = mem.write("more", "k", "more")
        assert later_entry.written_at > last.created_at
        moments["more"] = later_entry.written_at
    older.fork("copy")
    copy = open_memory("copy")
    assert all(mem.verify().problems == () for mem in (now, older, copy))

    def shown(mem: AgentMemory, at: Any) -> list[Any]:
        return sorted((one.entry_key, one.shared, one.version, one.written_at) for one in mem.list(at=at))

    for event in alone.timeline(agent_id="*", limit=10_000):
        expected = shown(alone, event.created_at)
        assert shown(older, event.created_at) == expected == shown(twice, event.created_at)
        assert [one for one in shown(copy, event.created_at) if one[1]] == [one for one in expected if one[1]]
    for value, moment in moments.items():
        assert now.read("svc", "k", at=moment).value == (2 if value == "more" else value)
    for mem in (alone, older, twice):
        found = mem.timeline(agent_id="*", since=mem.tags()[0].created_at, until=mem.tags()[-1].created_at, limit=500)
        assert len(found) == len(alone.timeline(agent_id="*", since="start", until="end", limit=500))
        with pytest.raises(BeforeHistoryError):
            mem.list(at=alone.branches()[0].created_at - timedelta(seconds=1))
    assert len(now.timeline(agent_id="*", until=last.created_at)) == 3
    assert len(now.timeline(agent_id="*", since=last.created_at)) == 2
    assert older.export_namespace(tmp_path / "again") > 0
    again = open_memory("ada", ":memory:")
    again.import_namespace(tmp_path / "again")
    assert shown(again, None) == shown(older, None)
    assert newest > last.seq


def test_an_empty_namespace(open_memory: OpenMemory, tmp_path: Path) -> None:
    mem = open_memory()
    path = tmp_path / "export.jsonl"
    mem.export_namespace(path)
    other = open_memory(where=":memory:", namespace="fresh")
    other.import_namespace(path)
    other.import_namespace(path)
    assert other.list() == []
    assert other.branches() == mem.branches()


def test_agents_find_their_home(open_memory: OpenMemory, tmp_path: Path, clock: ManualClock) -> None:
    """Whose home another namespace is keeps it, if there is one of that name."""
    mem = open_memory("ada", namespace="one")
    open_memory("ben", namespace="two").write("svc", "k", 1)
    open_memory("cleo", namespace="elsewhere").write("svc", "k", 1)
    for agent in ("ada", "ben", "cleo"):
        clock.advance(1)
        mem.as_agent(agent).write("svc", agent, 1)
    mem.export_namespace(tmp_path / "one.jsonl")
    where = tmp_path / "new.db"
    open_memory("zoe", where, namespace="two")
    open_memory("zoe", where, namespace="single").import_namespace(tmp_path / "one.jsonl")
    homes = [open_memory(agent, where).namespace for agent in ("ada", "ben", "cleo")]
    assert homes == ["single", "two", "single"]


# --- what is refused -------------------------------------------------------------------------------------------------


def test_only_an_empty_namespace_takes_an_import(export: Path, open_memory: OpenMemory) -> None:
    mem = open_memory()
    mem.write("svc", "k", 1)
    with pytest.raises(NamespaceNotEmptyError, match="another namespace"):
        mem.import_namespace(export)
    branched = open_memory(namespace="branched")
    branched.create_branch("b")
    with pytest.raises(NamespaceNotEmptyError):
        branched.import_namespace(export)
    tagged = open_memory(namespace="tagged")
    tagged.create_tag("t")
    with pytest.raises(NamespaceNotEmptyError):
        tagged.import_namespace(export)
    assert len(mem.list()) == 1


def test_a_fork_is_exported_with_its_database_only(open_memory: OpenMemory, tmp_path: Path) -> None:
    mem = open_memory()
    mem.write("svc", "k", 1)
    mem.fork("copy")
    with pytest.raises(NotSupportedError, match=r"backup\(\)"):
        open_memory("copy").export_namespace(tmp_path / "export.jsonl")
    assert list(tmp_path.glob("*export*")) == []
    mem.export_namespace(tmp_path / "export.jsonl")
    other = open_memory(where=":memory:")
    other.import_namespace(tmp_path / "export.jsonl")
    assert other.list() == mem.list()


@pytest.mark.parametrize("role", ["reader", "writer"])
def test_admins_only(role: str, export: Path, open_memory: OpenMemory, tmp_path: Path) -> None:
    owner = open_memory()
    with AgentMemory("zoe", owner.database, principal=Principal(user_id="u", role=role)) as mem:
        for call in (mem.export_namespace, mem.import_namespace):
            with pytest.raises(AccessDeniedError, match="admins"):
                call(export)
    admin = open_memory("zoe", principal=Principal(user_id="u", role="admin"))
    admin.import_namespace(export)
    assert admin.export_namespace(tmp_path / "x") == owner.export_namespace(tmp_path / "y")


def test_no_key_and_no_grant_leaves_the_database(open_memory: OpenMemory, tmp_path: Path) -> None:
    mem = open_memory()
    mem.create_branch("b")
    mem.grant_branch_access("b", "user", "u", "read")
    key = mem.create_api_key("k", agent_ids=["ada"], role="admin").key
    mem.export_namespace(tmp_path / "export.jsonl")
    text = (tmp_path / "export.jsonl").read_text()
    assert key not in text
    assert key.rpartition("_")[2] not in text
    other = AgentMemory("ada", ":memory:")
    other.import_namespace(tmp_path / "export.jsonl")
    assert (other.api_keys(), other.branch_access("b")) == ([], [])
    assert other.timeline(agent_id="*") == mem.timeline(agent_id="*")
    other.close()


def test_what_is_no_export(open_memory: OpenMemory, export: Path, tmp_path: Path) -> None:
    mem = open_memory()
    header, *rest = lines_of(export)
    wrong = tmp_path / "wrong.jsonl"
    for lines, message in (
        ([{"some": "json"}], "not what"),
        ([{**header, "format": "else"}, *rest], "not what"),
        ([{**header, "version": 2}, *rest], "upgrade AMFS"),
        ([{**header, "version": "1"}, *rest], "not what"),
        ([header, {"kind": "end"}, *rest], "changed"),
        ([header, {"kind": "grant", "branch": 1}, *rest], "'grant' is no kind"),
        ([header, *rest[:-2], rest[-1]], "more or less"),
        ([{**header, "counts": {}}, *rest], "more or less"),
    ):
        with pytest.raises(InvalidExportError, match=message):
            mem.import_namespace(save(wrong, [*lines, {}] if len(lines) == 1 else lines))
    for content in (b"", b"\0\xff", b"[1]\n", b"nonsense\n", b'{"format":' + b"[" * 100_000):
        wrong.write_bytes(content)
        with pytest.raises(InvalidExportError):
            mem.import_namespace(wrong)
    with pytest.raises(InvalidExportError, match="no file"):
        mem.import_namespace(tmp_path / "missing")
    with pytest.raises(InvalidInputError, match="directory"):
        mem.import_namespace(tmp_path)
    assert mem.list() == []


FORGERIES: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
    "an unknown column": lambda row: {**row, "x": 1},
    "a text for a number": lambda row: {**row, "ts": "1"} if row["kind"] == "log" else None,
    "a number beyond 64 bits": lambda row: {**row, "ts": 2**64} if row["kind"] == "log" else None,
    "true for a number": lambda row: {**row, "live": True} if "live" in row else None,
    "a missing column": lambda row: {name: row[name] for name in row if name != "key"} if "key" in row else None,
    "an agent that is not there": lambda row: {**row, "agent": 99} if "agent" in row else None,
    "a run that is not there": lambda row: {**row, "run": 99} if row["kind"] == "log" else None,
    "an event type that is not there": lambda row: {**row, "type": 99} if row["kind"] == "log" else None,
    "a seq used twice": lambda row: {**row, "seq": 1} if row.get("seq", 1) > 1 and row["kind"] == "log" else None,
    "a branch named twice": lambda row: {**row, "name": "child"} if row.get("name") == "past" else None,
    "a second main": lambda row: {**row, "parent": None} if "parent" in row else None,
    "a lone surrogate": lambda row: {**row, "key": "\ud800"} if "key" in row else None,
    "a version too many": lambda row: {**row, "version": 7} if row.get("version") == 2 else None,
    "a lost cause": lambda row: {**row, "cause": 99_999} if "cause" in row else None,
    "another path": lambda row: {**row, "path": 99} if row["kind"] == "slot" else None,
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_line_is_refused_even_with_a_sum_that_fits(
    forgery: str, export: Path, open_memory: OpenMemory, tmp_path: Path
) -> None:
    header, *rows, last = lines_of(export)
    number = next(number for number, row in enumerate(rows) if FORGERIES[forgery](row) is not None)
    rows[number] = FORGERIES[forgery](rows[number])
    path = tmp_path / "forged.jsonl"
    if forgery == "a lone surrogate":
        body = b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in (header, *rows))
        path.write_bytes(body)
    else:
        save(path, [header, *rows, last])
    mem = open_memory()
    with pytest.raises(InvalidExportError, match=r"line \d+ of .*forged"):
        mem.import_namespace(path)
    assert (mem.list(), mem.timeline(agent_id="*"), len(mem.branches())) == ([], [], 1)
    mem.import_namespace(export)


def test_a_damaged_file_imports_nothing(export: Path, open_memory: OpenMemory, tmp_path: Path) -> None:
    rng, whole, path = random.Random(5), export.read_bytes(), tmp_path / "damaged.jsonl"
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    mem = open_memory()

    def refused(content: bytes) -> None:
        assert content != whole
        path.write_bytes(content)
        with pytest.raises(InvalidExportError):
            mem.import_namespace(path)

    for _ in range(20):
        refused(whole[: rng.randrange(len(whole))])
        at = rng.randrange(len(whole))
        refused(whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(7))]) + whole[at + 1 :])
        start, end = sorted(rng.sample(ends, 2))
        refused(whole[:start] + whole[end:])
    refused(whole[:-1])
    refused(whole + b"\n")
    refused(whole + whole)
    refused(whole[: ends[-2]])
    assert (mem.list(), mem.timeline(agent_id="*")) == ([], [])
    mem.import_namespace(export)


# --- files -----------------------------------------------------------------------------------------------------------


def test_an_export_takes_its_place_only_when_it_is_whole(open_memory: OpenMemory, tmp_path: Path) -> None:
    mem = open_memory()
    mem.write("svc", "k", 1)
    path = tmp_path / "export.jsonl"
    path.write_text("something else")
    mem.export_namespace(path)
    first = path.read_bytes()
    mem.write("svc", "k", 2)
    assert mem.export_namespace(path) > first.count(b"\n")
    for bad in (mem.database, f"{mem.database}-wal", f"{mem.database}-lock", tmp_path, "", ":memory:", "a\0b", 5):
        with pytest.raises(InvalidInputError):
            mem.export_namespace(bad)
    with pytest.raises(CannotOpenDatabaseError, match="No such"):
        mem.export_namespace(tmp_path / "no folder" / "x")
    link = tmp_path / "link.db"
    link.hardlink_to(mem.database)
    with pytest.raises(InvalidInputError, match="in use"):
        mem.export_namespace(link)
    link.unlink()
    assert [one.name for one in tmp_path.iterdir() if "export" in one.name or one.name.startswith(".")] == [path.name]


def test_an_export_may_read_a_database_that_cannot_be_written(busy: tuple[Path, Path], tmp_path: Path) -> None:
    with AgentMemory("ada", f"file:{busy[0]}?mode=ro") as mem:
        mem.export_namespace(tmp_path / "export.jsonl")
    assert (tmp_path / "export.jsonl").read_bytes() == busy[1].read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="forked children")
def test_an_export_under_load_is_one_moment(database: Path, tmp_path: Path) -> None:
    with AgentMemory("reader", database) as mem, Child(safety.write_on, database) as child:
        child.receive()
        for number in range(4):
            acknowledged = max(child.rest() or [0])
            mem.export_namespace(tmp_path / f"{number}.jsonl")
            child.receive()
            with AgentMemory("reader", ":memory:") as copy:
                copy.import_namespace(tmp_path / f"{number}.jsonl")
                entries = {entry.key: entry for entry in copy.list()}
                newest = max(entry.value for key, entry in entries.items() if key[0] == "a")
                assert newest >= acknowledged
                for key, entry in entries.items():
                    if key[0] == "a":
                        assert entries[f"b{key[1:]}"].value[0] == entry.value
                assert len(copy.list(include_superseded=True)) == 2 * newest


def test_every_error_is_one_of_ours(open_memory: OpenMemory) -> None:
    mem = open_memory()
    for bad in (None, 5, b"bytes", "", "\0", object()):
        with pytest.raises(AMFSError):
            mem.import_namespace(bad)
        with pytest.raises(AMFSError):
            mem.export_namespace(bad)
