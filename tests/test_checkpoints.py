"""Checkpoints of threads: stored beside memory, tied to what memory was, shared where equal, and gone when deleted."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from amfs import (
    AccessDeniedError,
    AgentMemory,
    Blob,
    BranchExistsError,
    BranchNotFoundError,
    CheckpointNotFoundError,
    Checkpoints,
    CorruptDatabaseError,
    InvalidFilterError,
    InvalidInputError,
    InvalidNameError,
    InvalidValueError,
    PendingWrite,
    Principal,
    ReadOnlyDatabaseError,
    ThreadExistsError,
)
from tests.helpers_tables import contents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = Blob("text", b"body")
TABLES = ("thread", "checkpoint", "channel", "pending_write", "blob", "blob_part")
HOSTILE = ["it's", '"quoted"', "a/b/../c", "日本 🧠", "%_*[", "x' OR '1'='1", "; DROP TABLE checkpoint --", " "]


@pytest.fixture
def mem(tmp_path: Path) -> Iterator[AgentMemory]:
    """Return a handle on a new file, which is sound when the test is over."""
    with AgentMemory("ada", tmp_path / "memory.db", durability="normal") as mem:
        yield mem
        assert mem.verify().problems == ()


@pytest.fixture
def threads(mem: AgentMemory) -> Checkpoints:
    return Checkpoints(mem)


def blob(text: object) -> Blob:
    return Blob("text", str(text).encode())


def blobs(texts: Any) -> list[Blob]:
    return [blob(text) for text in texts]


def chain(threads: Checkpoints, thread: str, length: int, **options: Any) -> None:
    """Store a chain of checkpoints named 001, 002 ..., each with a message more and a write for the next."""
    for number in range(1, length + 1):
        parent = f"{number - 1:03}" if number > 1 else None
        channels = {"messages": blobs(range(number)), "n": blob(number)}
        threads.put(thread, f"{number:03}", BODY, channels, parent=parent, metadata={"n": number}, **options)
        writes = [PendingWrite("task", 0, "messages", blobs([number]))]
        threads.put_writes(thread, f"{number:03}", writes, scope=options.get("scope", ""))


def counts(mem: AgentMemory) -> dict[str, int]:
    """Return how many rows each of the tables has."""
    return {table: len(rows) for table, rows in contents(mem.database).items() if table in TABLES}


# --- storing and finding ---------------------------------------------------------------------------------------------


def test_what_was_stored_comes_back(threads: Checkpoints) -> None:
    channels = {"one": blob(1), "none": [], "some": blobs("abc"), "empty": Blob("null", b"")}
    metadata = {"step": 3, "deep": {"a": [1, None, 1.5]}, "it's": "🧠"}
    threads.put("t", "2", BODY, channels, parent="1", run="r", metadata=metadata)
    found = threads.get("t")
    assert found is not None
    assert found == threads.get("t", "2")
    assert (found.thread, found.scope, found.id, found.parent, found.run) == ("t", "", "2", "1", "r")
    assert (found.body, found.channels, found.metadata, found.writes) == (BODY, channels, metadata, [])
    assert threads.get("t", "1") is None
    assert threads.get("t", scope="inner") is None
    assert threads.get("other") is None


def test_a_checkpoint_takes_the_place_of_one_of_its_id(threads: Checkpoints, mem: AgentMemory) -> None:
    threads.put("t", "1", BODY, {"a": blobs(range(100)), "b": blob("gone")})
    threads.put_writes("t", "1", [PendingWrite("task", 0, "a", blob("stays"))])
    threads.put("t", "1", blob("new"), {"a": blobs(range(3))})
    (found,) = threads.list("t")
    assert (found.body, found.channels) == (blob("new"), {"a": blobs(range(3))})
    assert [write.value for write in found.writes] == [blob("stays")]
    assert counts(mem)["blob"] == 3 + 1 + 1


def test_writes_are_kept_once_and_come_in_the_order_of_their_paths(threads: Checkpoints) -> None:
    threads.put_writes("t", "1", [PendingWrite("b", 0, "x", blob("first"), "path 2")])  # before the checkpoint is there
    threads.put("t", "1", BODY, {})
    threads.put_writes("t", "1", [PendingWrite("b", 0, "x", blob("second"), "path 2")])
    threads.put_writes("t", "1", [PendingWrite("z", n, "y", blob(n), "path 1") for n in (1, 0)])
    for text in ("an error", "another"):
        threads.put_writes("t", "1", [PendingWrite("b", -1, "error", blob(text))])
    threads.put_writes("t", "2", [PendingWrite("b", 0, "x", blob("of another"))])
    threads.put_writes("t", "1", [])
    found = threads.get("t", "1")
    assert found is not None
    assert [(one.task, one.number, one.value) for one in found.writes] == [
        ("b", -1, blob("another")),
        ("z", 0, blob(0)),
        ("z", 1, blob(1)),
        ("b", 0, blob("first")),
    ]


def test_listing_is_newest_first_and_bounded(threads: Checkpoints) -> None:
    for thread, scope in (("t", ""), ("t", "inner"), ("u", "")):
        for number in range(5):
            metadata = {"step": number, "even": number % 2 == 0}
            threads.put(thread, f"{number}{thread}{scope}", BODY, {}, scope=scope, metadata=metadata)
    assert [one.id for one in threads.list("t", scope="")] == ["4t", "3t", "2t", "1t", "0t"]
    assert [one.id for one in threads.list("t", limit=3)] == ["4tinner", "4t", "3tinner"]
    assert [one.id for one in threads.list(limit=4, before="3")] == ["2u", "2tinner", "2t", "1u"]
    assert [one.id for one in threads.list("t", filter={"even": True, "step": 2})] == ["2tinner", "2t"]
    assert [one.id for one in threads.list("t", filter={"even": True}, limit=1)] == ["4tinner"]
    assert [one.id for one in threads.list("u", filter={"nowhere": None}, limit=2)] == ["4u", "3u"]
    assert [one.id for one in threads.list(checkpoint_id="1u")] == ["1u"]
    assert [*threads.list("t", checkpoint_id="3t", before="3")] == []
    assert [*threads.list("nobody")] == [*threads.list("t", limit=0)] == [*threads.list("t", filter={"step": 9})] == []
    assert len([*threads.list()]) == 15


def test_a_long_listing_is_loaded_as_it_goes(threads: Checkpoints) -> None:
    names = [f"{number:05}" for number in range(1100)]
    for number, name in enumerate(names):
        threads.put(f"t{number % 3}", name, BODY, {"n": blob(number % 7)})
    found = threads.list()
    assert next(found).id == names[-1]
    threads.put("t0", "99999", BODY, {})
    threads.delete(["t1"])
    rest = [one.id for one in found]
    assert rest[-1] == names[0]
    assert {name for place, name in enumerate(names[:1000]) if place % 3 != 1} <= set(rest)
    assert "99999" not in rest


# --- values ----------------------------------------------------------------------------------------------------------


def test_a_list_that_grows_costs_what_is_added(threads: Checkpoints, mem: AgentMemory) -> None:
    sizes = {}
    for length in (100, 200, 400):
        chain(threads, f"t{length}", length)
        sizes[length] = counts(mem)
        threads.delete([f"t{length}"])
    for table in ("blob", "blob_part", "channel"):
        assert sizes[400][table] < 9 * sizes[100][table], table  # 16 times as many, were it quadratic
    assert sizes[400]["blob"] < 6 * 400


def test_lists_share_what_they_have_in_common(threads: Checkpoints, mem: AgentMemory) -> None:
    everything = blobs(range(2000))
    threads.put("t", "1", BODY, {"messages": everything})
    before = counts(mem)
    changed = {
        "without the first": everything[1:],
        "with one in the middle": [*everything[:900], blob("new"), *everything[900:]],
        "without the last": everything[:-1],
    }
    for name, value in changed.items():
        threads.put(name, "1", BODY, {"messages": value})
    after = counts(mem)
    assert after["blob"] - before["blob"] < 3 * 25
    assert after["blob_part"] - before["blob_part"] < 3 * 250
    for name, value in changed.items():
        assert threads.get(name).channels["messages"] == value


def test_any_list_comes_back_whatever_is_in_it(threads: Checkpoints) -> None:
    chance = random.Random(7)
    for length in (0, 1, 2, 3, 4, 5, 31, 32, 33, 500):
        for kinds in (1, 2, 300):
            value = blobs(chance.randrange(kinds) for _ in range(length))
            threads.put("t", "1", BODY, {"v": value, "w": value[:1]})
            assert threads.get("t").channels == {"v": value, "w": value[:1]}


def test_what_is_deleted_leaves_nothing_behind(threads: Checkpoints, mem: AgentMemory) -> None:
    chain(threads, "keep", 12)
    before = contents(mem.database)
    chain(threads, "t", 30)
    chain(threads, "r", 20, run="r", scope="inner")
    threads.copy("t", "copied")
    threads.delete(["t", "nobody"])
    assert len([*threads.list("copied")]) == 30
    threads.delete(["copied"])
    threads.delete_runs(["r", "nobody"])
    threads.delete([])
    after = contents(mem.database)
    assert {table: after[table] for table in TABLES} == {table: before[table] for table in TABLES}


def test_equal_values_are_one_in_all_namespaces_and_threads_are_not(mem: AgentMemory, threads: Checkpoints) -> None:
    chain(threads, "t", 3)
    with AgentMemory("ben", mem.database, namespace="theirs", durability="normal") as other:
        theirs = Checkpoints(other)
        assert theirs.get("t") is None
        assert [*theirs.list()] == []
        before = counts(mem)["blob"]
        chain(theirs, "t", 3)
        assert counts(mem)["blob"] == before
        theirs.delete_runs(["r"])
        theirs.delete(["t"])
    assert threads.get("t").channels["messages"] == blobs(range(3))


# --- pruning ---------------------------------------------------------------------------------------------------------


def test_pruning_keeps_the_newest_of_each_scope(threads: Checkpoints) -> None:
    chain(threads, "t", 5)
    chain(threads, "t", 4, scope="inner")
    chain(threads, "u", 3)
    threads.prune(["t", "nobody"])
    assert [(one.scope, one.id) for one in threads.list("t")] == [("", "005"), ("inner", "004")]
    assert len(threads.get("t").writes) == 1
    assert len([*threads.list("u")]) == 3


def test_pruning_keeps_what_a_spread_channel_needs(threads: Checkpoints) -> None:
    for number in range(1, 8):
        channels = {"sum": blob("whole")} if number in (1, 3) else {}
        metadata = {} if number in (1, 3) else {"since": {"sum": [1, 1]}}
        parent = f"{number - 1:03}" if number > 1 else None
        threads.put("t", f"{number:03}", BODY, channels, parent=parent, metadata=metadata)
        threads.put_writes("t", f"{number:03}", [PendingWrite("task", 0, "sum", blob(number))])
    threads.prune(["t"], spread="since")
    assert [one.id for one in threads.list("t")] == ["007", "006", "005", "004", "003"]
    assert all(len(one.writes) == 1 for one in threads.list("t"))


def test_a_ring_of_parents_ends(threads: Checkpoints) -> None:
    threads.put("t", "1", BODY, {}, parent="2", metadata={"since": {"x": 1}})
    threads.put("t", "2", BODY, {}, parent="1", metadata={"since": {"x": 1}})
    threads.prune(["t"], spread="since")
    assert len([*threads.list("t")]) == 2
    threads.fork("t", "2", "b", "u")
    assert len([*threads.list("u")]) == 2


# --- memory ----------------------------------------------------------------------------------------------------------


def test_a_checkpoint_remembers_the_branch_and_the_seq(threads: Checkpoints, mem: AgentMemory) -> None:
    threads.put("t", "1", BODY, {})
    first = mem.write("p", "k", 1)
    threads.put("t", "2", BODY, {})
    mem.create_branch("side")
    threads.put("t", "3", BODY, {}, branch="side")
    with mem.experiment("try") as experiment:
        threads.put("t", "4", BODY, {})
    found = {one.id: (one.branch, one.seq) for one in threads.list("t")}
    assert (found["1"], found["2"]) == (("main", 0), ("main", first.seq))
    assert (found["3"][0], found["4"][0]) == ("side", experiment.branch)


def test_what_was_written_after_a_checkpoint_was_made_does_not_count(threads: Checkpoints, mem: AgentMemory) -> None:
    before = mem.write("p", "k", 1)
    made_at = datetime.now(UTC)
    after = mem.write("p", "k", 2)
    threads.put("t", "1", BODY, {}, made_at=made_at)
    threads.put("t", "2", BODY, {}, made_at=datetime.now(UTC))
    threads.put("t", "3", BODY, {}, made_at=before.written_at - timedelta(days=1))
    threads.put("t", "4", BODY, {}, made_at=datetime.now(UTC) + timedelta(days=1))
    assert [one.seq for one in threads.list("t")] == [after.seq, 0, after.seq, before.seq]


def test_another_clock_than_that_of_the_framework_does_no_harm(tmp_path: Path) -> None:
    with AgentMemory("ada", tmp_path / "x.db", clock=lambda: 1_000_000) as mem:
        seq = mem.write("p", "k", 1).seq
        threads = Checkpoints(mem)
        threads.put("t", "1", BODY, {}, made_at=datetime.now(UTC))
        assert threads.get("t").seq == seq


def test_checkpoints_are_no_part_of_memory(threads: Checkpoints, mem: AgentMemory, tmp_path: Path) -> None:
    mem.write("p", "k", 1)
    mem.create_branch("side")

    def seen() -> list[Any]:
        return [
            mem.list(), mem.timeline(agent_id="*"), mem.search("body"), mem.diff_branch("side"), mem.stats().events,
            mem.export_namespace(tmp_path / "out.jsonl"), (tmp_path / "out.jsonl").read_text().splitlines()[1:],
        ]  # fmt: skip

    before = seen()
    chain(threads, "t", 5)
    assert seen() == before
    mem.backup(tmp_path / "copy.db")
    with AgentMemory("ada", tmp_path / "copy.db") as copy:
        assert len([*Checkpoints(copy).list("t")]) == 5


# --- forking ---------------------------------------------------------------------------------------------------------


def test_a_fork_has_the_history_and_the_memory_of_a_checkpoint(threads: Checkpoints, mem: AgentMemory) -> None:
    for number in range(1, 5):
        mem.write("p", "k", number)
        threads.put("t", f"{number}", BODY, {"n": blob(number)}, parent=str(number - 1) if number > 1 else None)
        threads.put_writes("t", f"{number}", [PendingWrite("task", n, f"c{n}", blob(n)) for n in range(2)])
        threads.put("t", f"{number}-inner", BODY, {}, scope="inner")
    threads.put("t", "2b", BODY, {}, parent="1")  # another future of 1, which is older than 3
    before = [*threads.list("t")]
    fork = threads.fork("t", "3", "experiment/back", "u", keep=["c1"])
    assert fork == ("u", "experiment/back", "3", threads.get("t", "3").seq)
    assert [(one.id, one.seq, one.branch) for one in threads.list("u", scope="")] == [
        (one.id, one.seq, one.branch) for one in before if one.id in ("3", "2", "1")
    ]
    assert [[write.channel for write in one.writes] for one in threads.list("u", scope="")] == [
        ["c1"],
        ["c0", "c1"],
        ["c0", "c1"],
    ]
    assert [one.id for one in threads.list("u", scope="inner")] == ["2-inner", "1-inner"]
    assert (mem.read("p", "k", branch=fork.branch).value, mem.read("p", "k").value) == (3, 4)
    mem.write("p", "k", "elsewhere", branch=fork.branch)
    threads.put("u", "9", BODY, {}, parent="3", branch=fork.branch)
    assert [*threads.list("t")] == before
    again = threads.fork("u", None, "experiment/again", "v")
    assert mem.read("p", "k", branch=again.branch).value == "elsewhere"
    assert threads.fork("u", "2", "experiment/older", "w").seq == threads.get("t", "2").seq


def test_a_fork_of_a_closed_branch_and_of_empty_memory(threads: Checkpoints, mem: AgentMemory) -> None:
    threads.put("t", "1", BODY, {})
    mem.create_branch("side")
    mem.write("p", "k", 1, branch="side")
    threads.put("t", "2", BODY, {}, branch="side")
    mem.close_branch("side")
    assert mem.list(branch=threads.fork("t", "1", "empty", "a").branch) == []
    assert mem.read("p", "k", branch=threads.fork("t", "2", "open", "b").branch).value == 1


def test_a_fork_is_made_whole_or_not_at_all(threads: Checkpoints, mem: AgentMemory) -> None:
    chain(threads, "t", 3)
    mem.create_branch("taken")
    before = contents(mem.database)
    for thread, name, branch, target, error in (
        ("t", "002", "taken", "u", BranchExistsError),
        ("t", "002", "free", "t", ThreadExistsError),
        ("t", "9", "free", "u", CheckpointNotFoundError),
        ("nobody", None, "free", "u", CheckpointNotFoundError),
        ("nobody", "002", "free", "u", CheckpointNotFoundError),
    ):
        with pytest.raises(error):
            threads.fork(thread, name, branch, target)
    for source, target, error in (("t", "t", ThreadExistsError), ("nobody", "u", CheckpointNotFoundError)):
        with pytest.raises(error):
            threads.copy(source, target)
    after = contents(mem.database)
    assert {table: after[table] for table in (*TABLES, "log", "branch")} == {
        table: before[table] for table in (*TABLES, "log", "branch")
    }


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_any_text_is_a_name(name: str, threads: Checkpoints, mem: AgentMemory) -> None:
    channels = {name: blob(name)}
    threads.put(name, name, Blob(name, b""), channels, scope=name, parent=name, run=name, metadata={name: name})
    threads.put_writes(name, name, [PendingWrite(name, 0, name, blob(1), name)], scope=name)
    (found,) = threads.list(name, scope=name, checkpoint_id=name, filter={name: name})
    assert (found.thread, found.scope, found.id, found.parent, found.run) == (name, name, name, name, name)
    assert (found.channels, found.metadata) == (channels, {name: name})
    assert [*threads.list(name, filter={name: "other"})] == []
    assert [*threads.list(filter={f"$.{name}": name})] == []
    threads.copy(name, f"{name}2")
    threads.prune([name])
    threads.delete_runs([name])
    assert counts(mem) == dict.fromkeys(TABLES, 0)


def test_bad_names_are_refused(threads: Checkpoints, mem: AgentMemory) -> None:
    chain(threads, "t", 1)
    before = contents(mem.database)
    for bad in ("", "a\0b", "\ud800", "x" * 20_000, None, 7, b"t"):
        calls: list[Any] = [
            lambda bad=bad: threads.put(bad, "1", BODY, {}),
            lambda bad=bad: threads.put("t", bad, BODY, {}),
            lambda bad=bad: threads.put("t", "1", BODY, {bad: blob(1)}),
            lambda bad=bad: threads.put("t", "1", Blob(bad, b""), {}),
            lambda bad=bad: threads.put_writes("t", bad, []),
            lambda bad=bad: threads.put_writes("t", "1", [PendingWrite(bad, 0, "c", blob(1))]),
            lambda bad=bad: threads.put_writes("t", "1", [PendingWrite("t", 0, bad, blob(1))]),
            lambda bad=bad: threads.get(bad),
            lambda bad=bad: threads.delete([bad]),
            lambda bad=bad: threads.delete_runs([bad]),
            lambda bad=bad: threads.prune([bad]),
            lambda bad=bad: threads.copy("t", bad),
            lambda bad=bad: threads.fork(bad, "1", "b", "u"),
            lambda bad=bad: threads.fork("t", "001", bad, "u"),
            lambda bad=bad: threads.fork("t", "001", "b", bad),
        ]
        if bad is not None:
            calls += [
                lambda bad=bad: threads.get("t", bad),
                lambda bad=bad: threads.put("t", "1", BODY, {}, parent=bad),
                lambda bad=bad: threads.put("t", "1", BODY, {}, run=bad),
                lambda bad=bad: threads.list("t", before=bad),
                lambda bad=bad: threads.list("t", checkpoint_id=bad),
                lambda bad=bad: threads.fork("t", bad, "b", "u"),
            ]
        for call in calls:
            with pytest.raises(InvalidNameError):
                call()
    assert contents(mem.database) == before


def test_bad_values_are_refused(threads: Checkpoints) -> None:
    for bad in ("text", 1, None, [1], [[blob(1)]], (blob(1),), ("text", b"x"), Blob("text", "no bytes")):
        with pytest.raises(InvalidValueError):
            threads.put("t", "1", BODY, {"c": bad})
    for metadata in ({"x": float("nan")}, {"x": object()}, {1: 2}, "text", {"x": 2**70}):
        with pytest.raises(InvalidValueError):
            threads.put("t", "1", BODY, {}, metadata=metadata)
    with pytest.raises(InvalidInputError):
        threads.put("t", "1", BODY, {}, made_at=datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is wrong
    with pytest.raises(InvalidInputError):
        threads.put_writes("t", "1", [PendingWrite("task", "0", "c", blob(1))])
    with pytest.raises(BranchNotFoundError):
        threads.put("t", "1", BODY, {}, branch="nowhere")
    for filters, error in (("x", InvalidFilterError), ({1: 2}, InvalidFilterError), ({"x": {1}}, InvalidValueError)):
        with pytest.raises(error):
            threads.list("t", filter=filters)
    with pytest.raises(InvalidInputError):
        threads.list("t", limit=-1)
    assert [*threads.list()] == []


# --- access and damage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "allowed"), [("reader", False), ("writer", True), ("admin", True), (None, False)])
def test_who_may_use_them(role: str | None, allowed: bool, threads: Checkpoints, mem: AgentMemory) -> None:
    chain(threads, "t", 2)
    mem.create_branch("door")
    mem.create_branch("hidden")
    mem.grant_branch_access("door", "user", "guest", "read_write")
    threads.put("t", "hidden", BODY, {}, branch="hidden")
    principal = Principal(user_id="guest", role=role)
    with AgentMemory("ada", mem.database, principal=principal, branch="door", durability="normal") as guest:
        theirs = Checkpoints(guest)
        calls: list[Any] = [
            lambda: theirs.put("u", "1", BODY, {}),
            lambda: theirs.put_writes("u", "1", [PendingWrite("task", 0, "c", blob(1))]),
            lambda: theirs.get("t"),
            lambda: [*theirs.list()],
            lambda: theirs.copy("t", "v"),
            lambda: theirs.fork("t", "001", "made", "w"),
            lambda: theirs.prune(["t"]),
            lambda: theirs.delete_runs(["r"]),
            lambda: theirs.delete(["u"]),
        ]
        if allowed:
            assert [call() for call in calls]
        before = contents(mem.database)
        for call in () if allowed else calls:
            with pytest.raises(AccessDeniedError):
                call()
        assert contents(mem.database) == before
        if role == "writer":
            assert theirs.get("t", "hidden").branch == "(hidden)"
            guest.write("p", "k", 1, branch="made")
            for call in (
                lambda: theirs.put("u", "1", BODY, {}, branch="hidden"),
                lambda: theirs.fork("t", "hidden", "made2", "x"),
            ):
                with pytest.raises(AccessDeniedError) as caught:
                    call()
                assert "hidden" not in str(caught.value).replace("checkpoint 'hidden'", "").replace("'hidden'; an", "")


def test_a_read_only_file_is_read(threads: Checkpoints, mem: AgentMemory) -> None:
    chain(threads, "t", 3)
    with AgentMemory("ada", f"file:{mem.database}?mode=ro") as reader:
        theirs = Checkpoints(reader)
        assert [one.id for one in theirs.list("t")] == ["003", "002", "001"]
        with pytest.raises(ReadOnlyDatabaseError):
            theirs.delete(["t"])


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM blob WHERE data = x'30'",
        "DELETE FROM blob WHERE data IS NULL AND id = (SELECT blob FROM channel WHERE name = 'messages' AND blob > 9)",
        "UPDATE blob_part SET part = blob",
    ],
)
def test_a_value_that_lost_a_part_is_no_shorter_value(damage: str, tmp_path: Path) -> None:
    with AgentMemory("ada", tmp_path / "x.db", durability="normal") as mem:
        threads = Checkpoints(mem)
        chain(threads, "t", 8)
        with closing(sqlite3.connect(mem.database, isolation_level=None)) as connection:
            assert connection.execute(damage).rowcount
        with pytest.raises(CorruptDatabaseError):
            list(threads.list("t"))
        assert not mem.verify().ok
