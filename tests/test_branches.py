"""Branches: what they see, how versions are numbered along them, closing, depth, and the past of a branch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from amfs import (
    AgentMemory,
    BranchClosedError,
    BranchDepthError,
    BranchError,
    BranchExistsError,
    BranchNotFoundError,
    BranchStatus,
    Delete,
    Find,
    Get,
    InvalidInputError,
    ListPaths,
    Put,
)

P, K = "svc", "config"
OpenMemory = Callable[..., AgentMemory]


def seen(memory: AgentMemory, branch: str, key: str = K) -> Any:
    """Return the value a branch holds, after checking that every way of looking agrees on it."""
    entry = memory.read(P, key, branch=branch)
    got, found = memory.apply([Get(entity_path=P, key=key), Find(entity_path=P)], branch=branch)
    listed = {one.key: one for one in memory.list(P, branch=branch)}
    versions = [one for one in memory.history(P, key, branch=branch) if not one.superseded and not one.deleted]
    superseded = memory.list(P, include_superseded=True, branch=branch)
    assert entry == got == listed.get(key) == memory.read_many([(P, key)], branch=branch)[0]
    assert versions == ([] if entry is None else [entry])
    assert [one for one in superseded if one.key == key and not one.superseded and not one.deleted] == versions
    assert {one.key for one in found} == set(listed)
    return None if entry is None else entry.value


def test_a_branch_sees_its_own_versions_else_the_parent_as_of_the_fork(mem: AgentMemory) -> None:
    mem.write(P, K, "main 1")
    mem.write(P, "untouched", "main 1")
    mem.create_branch("x")
    mem.write(P, K, "main 2")
    mem.write(P, "new on main", 1)
    mem.create_branch("x/y", source="x")
    mem.write(P, K, "x 1", branch="x")
    mem.create_branch("x/z", source="x")
    mem.delete(P, "untouched", branch="x")
    mem.write(P, K, "z 1", branch="x/z")
    assert [seen(mem, branch) for branch in ("main", "x", "x/y", "x/z")] == ["main 2", "x 1", "main 1", "z 1"]
    assert [seen(mem, branch, "untouched") for branch in ("main", "x", "x/y", "x/z")] == [
        "main 1", None, "main 1", "main 1",
    ]  # fmt: skip
    assert [seen(mem, branch, "new on main") for branch in ("main", "x", "x/y", "x/z")] == [1, None, None, None]


def test_version_numbers_go_on_along_the_lineage(mem: AgentMemory) -> None:
    mem.write(P, K, 1)
    mem.write(P, K, 2)
    mem.create_branch("x")
    mem.write(P, K, "main 3")
    mem.create_branch("y", source="x")
    assert mem.write(P, K, "x 3", branch="x").version == 3
    mem.delete(P, K, branch="y")
    assert mem.write(P, K, "y 4", branch="y", expected_version=0).version == 4
    for branch, expected in {
        "main": [(1, 1, "main"), (2, 2, "main"), (3, "main 3", "main")],
        "x": [(1, 1, "main"), (2, 2, "main"), (3, "x 3", "x")],
        "y": [(1, 1, "main"), (2, 2, "main"), (3, None, "y"), (4, "y 4", "y")],
    }.items():
        assert [(one.version, one.value, one.branch) for one in mem.history(P, K, branch=branch)] == expected
        listed = mem.list(include_superseded=True, branch=branch)
        assert [(one.version, one.value, one.branch) for one in listed] == expected
    assert mem.compare_versions(P, K, 2, 4, branch="y").source.value == "y 4"


def test_a_branch_can_start_at_a_moment_of_the_past(mem: AgentMemory, clock) -> None:
    written = []
    for number in range(3):
        clock.advance(10)
        written.append(mem.write(P, K, number))
    for number, entry in enumerate(written):
        by_seq = mem.create_branch(f"seq {number}", at=entry.seq)
        mem.create_branch(f"time {number}", at=entry.written_at)
        assert by_seq.fork_seq == entry.seq
        assert (seen(mem, f"seq {number}"), seen(mem, f"time {number}")) == (number, number)
    mem.create_branch("empty", at=0)
    assert (seen(mem, "empty"), mem.write(P, K, "x", branch="empty").version) == (None, 1)
    mem.create_branch("x")
    mem.write(P, K, "x", branch="x")
    mem.create_branch("before x", source="x", at=written[1].seq)
    assert seen(mem, "before x") == 1


def test_the_past_of_a_branch_is_its_own(mem: AgentMemory) -> None:
    first = mem.write(P, K, 1)
    fork = mem.create_branch("x").fork_seq
    own = mem.write(P, K, "x", branch="x")
    later = mem.write(P, K, 2)
    for at, expected in ((first.seq, 1), (fork, 1), (own.seq, "x"), (later.seq, "x")):
        assert mem.read(P, K, at=at, branch="x").value == expected
        assert [entry.value for entry in mem.list(at=at, branch="x")] == [expected]
    assert mem.read(P, K, at=first.seq - 1, branch="x") is None


def test_a_branch_describes_itself(mem: AgentMemory, clock) -> None:
    mem.write(P, K, 1)
    clock.advance(60)
    made = mem.as_agent("bob").create_branch("experiment/retry-v3", "Testing aggressive retry")
    child = mem.create_branch("experiment/retry-v3/deep", source="experiment/retry-v3")
    assert made.model_dump(exclude={"fork_seq"}) == {
        "name": "experiment/retry-v3", "parent": "main", "status": BranchStatus.OPEN, "depth": 1,
        "description": "Testing aggressive retry", "created_by": "bob", "created_at": clock.moment,
    }  # fmt: skip
    main, *others = mem.branches()
    assert (main.name, main.parent, main.fork_seq, main.created_by, main.depth) == ("main", None, None, None, 0)
    assert others == [made, child]
    assert (child.parent, child.depth) == ("experiment/retry-v3", 2)


@pytest.mark.parametrize("name", ["", "/x", "x/", "a//b", "x\0", "\ud800", "x" * 256, None])
def test_a_name_that_cannot_be_stored_is_refused(mem: AgentMemory, name: Any) -> None:
    with pytest.raises(InvalidInputError):
        mem.create_branch(name)
    assert len(mem.branches()) == 1


@pytest.mark.parametrize("name", ["x y", "x/y/z", "é", "..", "'; --", "main/x", "MAIN", "x" * 255])
def test_a_branch_name_is_data(mem: AgentMemory, name: str) -> None:
    mem.create_branch(name)
    mem.write(P, K, name, branch=name)
    assert (mem.read(P, K, branch=name).value, mem.read(P, K)) == (name, None)
    with pytest.raises(BranchExistsError, match="already"):
        mem.create_branch(name)


def commit(mem: AgentMemory, branch: str) -> None:
    with mem.transaction(branch=branch) as tx:
        tx.write(P, K, 2)


VERBS: dict[str, Callable[[AgentMemory, str], Any]] = {
    "write": lambda mem, branch: mem.write(P, K, 2, branch=branch),
    "delete": lambda mem, branch: mem.delete(P, K, branch=branch),
    "put": lambda mem, branch: mem.apply([Put(entity_path=P, key=K, value=2)], branch=branch),
    "remove": lambda mem, branch: mem.apply([Delete(entity_path=P, key=K)], branch=branch),
    "transaction": commit,
    "outcome": lambda mem, branch: mem.commit_outcome("ref", "success", branch=branch),
    "context": lambda mem, branch: mem.record_context("a", "b", branch=branch),
    "close": lambda mem, branch: mem.close_branch(branch),
    "merge from": lambda mem, branch: mem.merge_branch(branch),
    "merge into": lambda mem, branch: mem.merge_branch("other", target=branch),
    "merge preview": lambda mem, branch: mem.merge_branch("other", target=branch, dry_run=True),
    "read": lambda mem, branch: mem.read(P, K, branch=branch),
    "read_many": lambda mem, branch: mem.read_many([(P, K)], branch=branch),
    "read_from": lambda mem, branch: mem.read_from("alice", P, K, branch=branch),
    "list": lambda mem, branch: mem.list(branch=branch),
    "get": lambda mem, branch: mem.apply([Get(entity_path=P, key=K), ListPaths()], branch=branch),
    "history": lambda mem, branch: mem.history(P, K, branch=branch),
    "compare": lambda mem, branch: mem.compare_versions(P, K, branch=branch),
    "timeline": lambda mem, branch: mem.timeline(branch=branch),
    "stats": lambda mem, branch: mem.stats(branch=branch),
    "diff from": lambda mem, branch: mem.diff_branch(branch),
    "diff to": lambda mem, branch: mem.diff_branch("other", branch),
    "branch": lambda mem, branch: mem.create_branch("child", source=branch),
    "switch": lambda mem, branch: mem.switch_branch(branch),
    "view": lambda mem, branch: mem.on_branch(branch),
    "handle": lambda mem, branch: AgentMemory("zoe", mem.database, branch=branch).close(),
}
WRITES = list(VERBS)[: list(VERBS).index("read")]


@pytest.fixture
def forked(file_mem: AgentMemory) -> AgentMemory:
    """Return a memory with an entry, an open branch "other" that changed something, and a branch "x"."""
    file_mem.write(P, K, 1)
    file_mem.create_branch("other")
    file_mem.write(P, "more", 1, branch="other")
    file_mem.create_branch("x")
    file_mem.write(P, K, "x", branch="x")
    return file_mem


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_knows_which_branches_there_are(forked: AgentMemory, verb: str) -> None:
    before = forked.timeline(agent_id="*")
    with pytest.raises(BranchNotFoundError, match="'none'"):
        VERBS[verb](forked, "none")
    assert forked.timeline(agent_id="*") == before


@pytest.mark.parametrize("verb", VERBS)
def test_a_closed_branch_is_read_only(forked: AgentMemory, verb: str) -> None:
    closed = forked.close_branch("x")
    assert (closed.status, forked.branches("closed")) == (BranchStatus.CLOSED, [closed])
    before = forked.timeline(agent_id="*")
    if verb in WRITES:
        with pytest.raises(BranchClosedError, match="'x'"):
            VERBS[verb](forked, "x")
        assert forked.timeline(agent_id="*") == before
    else:
        VERBS[verb](forked, "x")
    assert forked.read(P, K, branch="x").value == "x"
    assert [branch.name for branch in forked.branches("open")][:2] == ["main", "other"]


def test_main_cannot_be_closed_and_a_merged_branch_stays_open(forked: AgentMemory) -> None:
    with pytest.raises(BranchError, match="main"):
        forked.close_branch("main")
    forked.merge_branch("x")
    assert forked.write(P, K, "x 2", branch="x").branch == "x"
    forked.close_branch("other")
    assert forked.create_branch("revived", source="other").parent == "other"
    assert forked.write(P, "more", 2, branch="revived").version == 2


def test_a_handle_switches_and_a_view_is_pinned(forked: AgentMemory) -> None:
    view, explicit = forked.on_branch("other"), "main"
    forked.switch_branch("x")
    assert (forked.branch, view.branch, forked.as_agent("bob").branch) == ("x", "other", "x")
    assert forked.read(P, K).value == "x"
    assert forked.write(P, "w", 1).branch == "x"
    assert view.write(P, "w", 1).branch == "other"
    assert view.write(P, "w", 1, branch=explicit).branch == "main"
    assert forked.create_branch("from here").parent == "x"
    view.switch_branch("main")
    assert forked.branch == "x"


def test_a_lineage_of_sixty_four_is_the_deepest(file_mem: AgentMemory) -> None:
    file_mem.write(P, "root", "main")
    source = "main"
    for depth in range(1, 65):
        source = file_mem.create_branch(f"b{depth}", source=source).name
        file_mem.write(P, K, depth, branch=source)
    events = file_mem.timeline(agent_id="*", limit=1000)
    with pytest.raises(BranchDepthError, match="64"):
        file_mem.create_branch("b65", source=source)
    assert file_mem.timeline(agent_id="*", limit=1000) == events
    assert (seen(file_mem, "b64"), seen(file_mem, "b64", "root")) == (64, "main")
    assert len(file_mem.history(P, K, branch="b64")) == 64
    file_mem.merge_branch("b64", target="main")
    assert seen(file_mem, "main") == 64
