"""What cannot be done: a typed error that names the thing and the way out, and not one row of any table changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from amfs import (
    AgentExistsError,
    AgentMemory,
    AMFSError,
    BeforeHistoryError,
    BranchClosedError,
    BranchExistsError,
    BranchNotFoundError,
    ConflictNotFoundError,
    ConflictResolvedError,
    EntryNotFoundError,
    FastForwardRefusedError,
    InvalidInputError,
    InvalidNameError,
    MergeConflictError,
    PullRequestBlockedError,
    PullRequestEndedError,
    PullRequestExistsError,
    PullRequestNotFoundError,
    RollbackTouchesOthersError,
    TagExistsError,
    TagNotFoundError,
    TagOffLineageError,
)
from tests.helpers_tables import contents

P, K = "svc", "config"
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - naive on purpose
EARLY = datetime(1999, 1, 1, tzinfo=UTC)
LATE = 10**6


class World(NamedTuple):
    """A database in which everything can go wrong, and what is needed to name its parts."""

    mem: AgentMemory
    forked: AgentMemory
    database: Path
    resolved: int
    obsolete: int
    opened: int
    blocked: int
    closed: int


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Return the database; no test changes it."""
    database = tmp_path_factory.mktemp("refusals") / "memory.db"
    with AgentMemory("alice", database, durability="normal") as mem:
        bob = mem.as_agent("bob")
        for key in (K, "two"):
            mem.write(P, key, "base")
        for name in ("x", "y", "manual", "over", "done"):
            mem.create_branch(name)
        for key in (K, "two"):
            for name in ("x", "y", "manual", "over", "done"):
                mem.write(P, key, name, branch=name)
        mem.create_tag("on y", branch="y")
        mem.create_tag("v1")
        for key in (K, "two"):
            bob.write(P, key, "main")
        mem.create_tag("late")
        resolved = mem.merge_branch("manual", strategy="manual").conflicts[0].id
        mem.resolve_conflict(resolved, take="source")
        obsolete = mem.merge_branch("over", strategy="manual").conflicts[0].id
        opened, blocked, closed = (mem.create_pull_request("t", name).id for name in ("x", "y", "done"))
        bob.review_pull_request(blocked, "changes_requested")
        mem.close_pull_request(closed)
        for name in ("over", "done"):
            mem.close_branch(name)
        mem.fork("alice-2")
        with AgentMemory("alice-2", database, durability="normal") as forked:
            yield World(mem, forked, database, resolved, obsolete, opened, blocked, closed)
        assert mem.verify().ok


class Refused(NamedTuple):
    """A call, the error it must raise, and what the error must say: the thing, and the way out."""

    call: Callable[[World], Any]
    error: type[AMFSError]
    says: tuple[str, ...]


REFUSALS: dict[str, Refused] = {
    # branches that cannot be merged
    "merge into itself": Refused(lambda w: w.mem.merge_branch("x", target="x"), InvalidInputError, ("'x'", "itself")),
    "merge of main": Refused(lambda w: w.mem.merge_branch("main"), InvalidInputError, ("'main'", "target=")),
    "diff of a forked main": Refused(lambda w: w.forked.diff_branch("main"), InvalidInputError, ("'main'", "target=")),
    "merge of a forked main": Refused(
        lambda w: w.forked.merge_branch("main"), InvalidInputError, ("'main'", "target=")
    ),
    "merge of another namespace's branch": Refused(
        lambda w: w.forked.merge_branch("x"), BranchNotFoundError, ("'x'", "create_branch")
    ),
    "merge into another namespace's branch": Refused(
        lambda w: w.forked.merge_branch("main", target="x"), BranchNotFoundError, ("'x'", "create_branch")
    ),
    "cherry-pick from another namespace's branch": Refused(
        lambda w: w.forked.cherry_pick("x", [(P, K)]), BranchNotFoundError, ("'x'",)
    ),
    "merge from a closed branch": Refused(
        lambda w: w.mem.merge_branch("done"), BranchClosedError, ("'done'", "create a branch from it")
    ),
    "manual merge from a closed branch": Refused(
        lambda w: w.mem.merge_branch("done", strategy="manual"), BranchClosedError, ("'done'",)
    ),
    "merge into a closed branch": Refused(
        lambda w: w.mem.merge_branch("x", target="done"), BranchClosedError, ("'done'", "read, not written")
    ),
    "merge with conflicts": Refused(
        lambda w: w.mem.merge_branch("x", close=True), MergeConflictError, ("'x'", "'main'", f"{P}/{K}", "resolver=")
    ),
    "fast forward over changes": Refused(
        lambda w: w.mem.merge_branch("x", strategy="fast_forward"), FastForwardRefusedError, ("'main'", "three_way")
    ),
    "merge with an unknown strategy": Refused(
        lambda w: w.mem.merge_branch("x", strategy="octopus"), InvalidInputError, ("octopus", "'three_way'")
    ),
    "branch from a closed name": Refused(
        lambda w: w.mem.create_branch("done"), BranchExistsError, ("'done'", "another name")
    ),
    # conflicts
    "conflict resolved before": Refused(
        lambda w: w.mem.resolve_conflict(w.resolved, take="base"), ConflictResolvedError, ("already", "conflicts()")
    ),
    "conflict that is obsolete": Refused(
        lambda w: w.mem.resolve_conflict(w.obsolete, take="base"), ConflictResolvedError, ("obsolete", "conflicts()")
    ),
    "conflict that is unknown": Refused(
        lambda w: w.mem.resolve_conflict(999, take="base"), ConflictNotFoundError, ("999", "conflicts()")
    ),
    "conflict of another namespace": Refused(
        lambda w: w.forked.resolve_conflict(w.resolved, take="base"), ConflictNotFoundError, ("conflicts()",)
    ),
    "conflict without an answer": Refused(
        lambda w: w.mem.resolve_conflict(w.resolved), InvalidInputError, ("take=", "value=")
    ),
    "conflicts of an unknown branch": Refused(lambda w: w.mem.conflicts("none"), BranchNotFoundError, ("'none'",)),
    "conflicts of an unknown status": Refused(lambda w: w.mem.conflicts(status="done"), InvalidInputError, ("'open'",)),
    # cherry-picks
    "pick of nothing known": Refused(
        lambda w: w.mem.cherry_pick("x", [(P, "none")]), EntryNotFoundError, (f"'{P}/none'", "'x'")
    ),
    "pick into itself": Refused(
        lambda w: w.mem.cherry_pick("x", [(P, K)], target="x"), InvalidInputError, ("'x'", "itself")
    ),
    "pick into a closed branch": Refused(
        lambda w: w.mem.cherry_pick("x", [(P, K)], target="done"), BranchClosedError, ("'done'",)
    ),
    "pick with conflicts": Refused(
        lambda w: w.mem.cherry_pick("x", [(P, K)]), MergeConflictError, (f"{P}/{K}", "source_wins")
    ),
    "manual pick": Refused(
        lambda w: w.mem.cherry_pick("x", [(P, K)], strategy="manual"), InvalidInputError, ("three_way", "manual")
    ),
    # tags and moments
    "second tag of a name": Refused(lambda w: w.mem.create_tag("v1"), TagExistsError, ("'v1'", "delete_tag('v1')")),
    "tag with an empty segment": Refused(
        lambda w: w.mem.create_tag("a//b"), InvalidNameError, ("'a//b'", "single slashes")
    ),
    "unknown tag, deleted": Refused(lambda w: w.mem.delete_tag("none"), TagNotFoundError, ("'none'", "tags()")),
    "unknown tag, read at": Refused(lambda w: w.mem.read(P, K, at="none"), TagNotFoundError, ("'none'", "tags()")),
    "tag of another namespace": Refused(lambda w: w.forked.read(P, K, at="v1"), TagNotFoundError, ("'v1'", "tags()")),
    "tag of a sibling": Refused(
        lambda w: w.mem.read(P, K, at="on y", branch="x"), TagOffLineageError, ("'on y'", "'x'", "branch='y'")
    ),
    "tag after the fork": Refused(
        lambda w: w.mem.rollback(tag_name="late", branch="x"), TagOffLineageError, ("'late'", "'x'", "branch='main'")
    ),
    "branch at a tag off the lineage": Refused(
        lambda w: w.mem.create_branch("new", at="on y"), TagOffLineageError, ("'on y'", "branch='y'")
    ),
    "time before history, read": Refused(
        lambda w: w.mem.read(P, K, at=EARLY), BeforeHistoryError, ("1999", "begins at")
    ),
    "time before history, rollback": Refused(
        lambda w: w.mem.rollback(timestamp=EARLY), BeforeHistoryError, ("1999", "begins at")
    ),
    "time before history, on a fork": Refused(
        lambda w: w.forked.rollback(timestamp=EARLY), BeforeHistoryError, ("1999", "begins at")
    ),
    "naive time, read": Refused(lambda w: w.mem.read(P, K, at=NAIVE), InvalidInputError, ("naive", "tzinfo=UTC")),
    "naive time, tag": Refused(lambda w: w.mem.create_tag("new", at=NAIVE), InvalidInputError, ("naive", "tzinfo=UTC")),
    "naive time, rollback": Refused(
        lambda w: w.mem.rollback(timestamp=NAIVE), InvalidInputError, ("naive", "tzinfo=UTC")
    ),
    "naive time, timeline": Refused(lambda w: w.mem.timeline(since=NAIVE), InvalidInputError, ("naive", "tzinfo=UTC")),
    "seq that is yet to come": Refused(
        lambda w: w.mem.create_tag("new", at=LATE), InvalidInputError, (str(LATE), "newest")
    ),
    # rollbacks
    "rollback to nowhere": Refused(lambda w: w.mem.rollback(), InvalidInputError, ("tag_name=", "timestamp=", "seq=")),
    "rollback to two places": Refused(
        lambda w: w.mem.rollback(tag_name="v1", seq=1), InvalidInputError, ("tag_name=", "timestamp=", "seq=")
    ),
    "rollback over others": Refused(
        lambda w: w.mem.rollback(tag_name="v1"),
        RollbackTouchesOthersError,
        ("bob (2)", "include_others=True", "agent_id="),
    ),
    "rollback of a closed branch": Refused(
        lambda w: w.mem.rollback(seq=1, branch="done"), BranchClosedError, ("'done'", "read, not written")
    ),
    "rollback of an unknown branch": Refused(
        lambda w: w.mem.rollback(seq=1, branch="none"), BranchNotFoundError, ("'none'", "create_branch")
    ),
    # forks
    "fork onto a known agent": Refused(lambda w: w.mem.fork("bob"), AgentExistsError, ("'bob'", "a name that is new")),
    "fork onto oneself": Refused(lambda w: w.mem.fork("alice"), AgentExistsError, ("'alice'",)),
    "fork onto a fork": Refused(lambda w: w.mem.fork("alice-2"), AgentExistsError, ("'alice-2'",)),
    "fork onto a namespace": Refused(lambda w: w.mem.fork("default"), AgentExistsError, ("'default'", "a namespace")),
    "fork onto no name": Refused(lambda w: w.mem.fork(""), InvalidNameError, ("new_agent_id",)),
    "fork of an unknown branch": Refused(lambda w: w.mem.fork("new", branch="none"), BranchNotFoundError, ("'none'",)),
    # pull requests
    "pull request from nowhere": Refused(
        lambda w: w.mem.create_pull_request("t", "none"), BranchNotFoundError, ("'none'", "create_branch")
    ),
    "pull request to nowhere": Refused(
        lambda w: w.mem.create_pull_request("t", "x", target_branch="none"), BranchNotFoundError, ("'none'",)
    ),
    "pull request from a closed branch": Refused(
        lambda w: w.mem.create_pull_request("t", "done"), BranchClosedError, ("'done'",)
    ),
    "pull request for itself": Refused(
        lambda w: w.mem.create_pull_request("t", "x", target_branch="x"), InvalidInputError, ("'x'", "itself")
    ),
    "second pull request": Refused(
        lambda w: w.mem.create_pull_request("t", "x"),
        PullRequestExistsError,
        ("'x'", "'main'", "review, merge or close"),
    ),
    "blocked pull request": Refused(
        lambda w: w.mem.merge_pull_request(w.blocked, strategy="theirs"), PullRequestBlockedError, ("bob", "approve")
    ),
    "pull request with conflicts": Refused(
        lambda w: w.mem.merge_pull_request(w.opened), MergeConflictError, (f"{P}/{K}", "resolver=")
    ),
    "closed pull request, merged": Refused(
        lambda w: w.mem.merge_pull_request(w.closed), PullRequestEndedError, ("closed already", "create another")
    ),
    "closed pull request, reviewed": Refused(
        lambda w: w.mem.review_pull_request(w.closed, "approved"), PullRequestEndedError, ("closed already",)
    ),
    "closed pull request, closed": Refused(
        lambda w: w.mem.close_pull_request(w.closed), PullRequestEndedError, ("closed already",)
    ),
    "unknown pull request": Refused(
        lambda w: w.mem.merge_pull_request(999), PullRequestNotFoundError, ("999", "pull_requests()")
    ),
    "pull request of another namespace": Refused(
        lambda w: w.forked.review_pull_request(w.opened, "approved"), PullRequestNotFoundError, ("pull_requests()",)
    ),
    "review that says nothing": Refused(
        lambda w: w.mem.review_pull_request(w.opened, "fine"), InvalidInputError, ("'fine'", "'changes_requested'")
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_done_is_a_typed_error_and_changes_nothing(case: str, world: World) -> None:
    before = contents(world.database)
    with pytest.raises(AMFSError) as caught:
        REFUSALS[case].call(world)
    assert type(caught.value) is REFUSALS[case].error, caught.value
    for part in REFUSALS[case].says:
        assert part in str(caught.value)
    assert contents(world.database) == before


def test_the_tables_are_looked_at(world: World) -> None:
    before = contents(world.database)
    assert {"log", "head", "tag", "conflict", "pending_merge", "pull_request", "review", "agent"} <= before.keys()
    assert all(before[name] for name in ("log", "head", "tag", "conflict", "pending_merge", "pull_request", "review"))
    world.mem.delete_tag(world.mem.create_tag("passing").name)
    assert len(contents(world.database)["log"]) == len(before["log"]) + 2
