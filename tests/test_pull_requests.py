"""Pull requests: proposed, reviewed, previewed, merged or closed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amfs import (
    AgentMemory,
    BranchClosedError,
    BranchNotFoundError,
    FastForwardRefusedError,
    InvalidInputError,
    MergeConflictError,
    MergeStatus,
    PullRequest,
    PullRequestBlockedError,
    PullRequestEndedError,
    PullRequestExistsError,
    PullRequestNotFoundError,
)
from tests.helpers_tables import changed, contents

P, K = "svc", "config"
OpenMemory = Callable[..., AgentMemory]


def newest(memory: AgentMemory) -> Any:
    """Return the newest event of all agents."""
    return memory.timeline(agent_id="*", limit=1)[0]


def only(memory: AgentMemory) -> PullRequest:
    """Return the one pull request there is."""
    (found,) = memory.pull_requests()
    return found


@pytest.fixture
def work(mem: AgentMemory) -> AgentMemory:
    """Return a memory with a branch x that has something to merge."""
    mem.write(P, K, {"a": 0, "b": 0})
    mem.create_branch("x")
    mem.write(P, K, {"a": 1, "b": 0}, branch="x")
    mem.write(P, "new", 1, branch="x")
    return mem


@pytest.fixture
def bob(work: AgentMemory) -> AgentMemory:
    """Return the handle of a reviewer."""
    return work.as_agent("bob")


# --- the life of a pull request --------------------------------------------------------------------------------------


def test_a_pull_request_is_proposed(work: AgentMemory, clock: Any) -> None:
    clock.advance(60)
    pr = work.create_pull_request("Retry harder", "x", description="five times")
    assert pr.model_dump() == {
        "id": pr.id, "title": "Retry harder", "description": "five times", "source_branch": "x",
        "target_branch": "main", "status": "open", "approved": False, "changes_requested_by": (), "reviews": (),
        "agent_id": "alice", "created_at": clock.moment, "ended_by": None, "ended_at": None, "merge_event": None,
    }  # fmt: skip
    assert work.pull_requests() == [pr]
    event = newest(work)
    assert (event.event_type, event.agent_id, event.branch) == ("pull_request_opened", "alice", "main")
    assert event.summary == f"Opened pull request {pr.id}: Retry harder"
    assert event.details == {"pull_request": pr.id, "title": "Retry harder", "source": "x"}


def test_a_pull_request_is_reviewed_and_merged(work: AgentMemory, bob: AgentMemory, clock: Any) -> None:
    pr = work.create_pull_request("Retry harder", "x")
    reviewed = bob.review_pull_request(pr.id, "approved", "looks good")
    assert reviewed == only(work)
    event = newest(work)
    (review,) = reviewed.reviews
    assert review.model_dump() == {
        "agent_id": "bob", "verdict": "approved", "comment": "looks good",
        "source_seq": work.read(P, "new", branch="x").seq, "dismissed": False, "seq": event.seq,
        "created_at": event.created_at,
    }  # fmt: skip
    assert (reviewed.approved, reviewed.status) == (True, "open")
    assert (event.event_type, event.agent_id, event.branch) == ("pull_request_reviewed", "bob", "main")
    assert event.summary == f"Reviewed pull request {pr.id}: approved"
    assert event.details.items() >= {"pull_request": pr.id, "verdict": "approved", "comment": "looks good"}.items()
    clock.advance(60)
    result = bob.merge_pull_request(pr.id)
    assert (result.status, result.merged_entries, work.read(P, K).value) == ("merged", 2, {"a": 1, "b": 0})
    ended = only(work)
    assert (ended.status, ended.ended_by, ended.ended_at, ended.merge_event) == (
        "merged",
        "bob",
        clock.moment,
        result.event,
    )
    assert (ended.reviews, ended.approved) == (reviewed.reviews, True)
    event = newest(work)
    assert (event.event_type, event.agent_id, event.branch) == ("pull_request_merged", "bob", "main")
    assert event.summary == f"Merged pull request {pr.id}: Retry harder"
    assert event.details["merge_event"] == result.event
    versions = [entry for entry in work.list(include_superseded=True) if entry.seq > result.event]
    assert {(entry.agent_id, entry.committed_by) for entry in versions} == {("alice", "bob")}


def test_merging_is_one_transaction(open_memory: OpenMemory, database: Path) -> None:
    mem = open_memory()
    mem.create_branch("x")
    mem.write(P, K, 1, branch="x")
    pr = mem.create_pull_request("t", "x")
    before = contents(database)
    mem.merge_pull_request(pr.id, close=True)
    events = mem.timeline(limit=3)
    assert [event.event_type for event in events] == ["pull_request_merged", "branch_closed", "branch_merged"]
    assert len({event.created_at for event in events}) == 1
    assert changed(before, contents(database)) == {"log": 4, "head": 1, "merge_edge": 1, "branch": 2, "pull_request": 2}


def test_a_pull_request_is_closed(work: AgentMemory, bob: AgentMemory) -> None:
    pr = work.create_pull_request("Retry harder", "x")
    closed = bob.close_pull_request(pr.id)
    assert (closed.status, closed.ended_by, closed.merge_event, closed.ended_at) == (
        "closed",
        "bob",
        None,
        newest(work).created_at,
    )
    assert (newest(work).event_type, newest(work).summary) == (
        "pull_request_closed",
        f"Closed pull request {pr.id}: Retry harder",
    )
    assert work.read(P, K, branch="x").value == {"a": 1, "b": 0}, "the branch stays"
    assert work.branches("closed") == []
    again = work.create_pull_request("Once more", "x")
    assert [one.id for one in work.pull_requests()] == [pr.id, again.id]
    assert [one.id for one in work.pull_requests("open")] == [again.id]
    assert [one.id for one in work.pull_requests("closed")] == [pr.id]
    assert work.pull_requests("merged") == []


def test_without_a_review_it_may_be_merged(work: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    assert work.merge_pull_request(pr.id).status is MergeStatus.MERGED


def test_what_has_nothing_to_bring_is_merged_all_the_same(work: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    work.merge_branch("x")
    assert only(work).status == "open", "a merge by other means leaves it open"
    result = work.merge_pull_request(pr.id)
    assert (result.status, result.event) == (MergeStatus.UP_TO_DATE, None)
    assert (only(work).status, only(work).merge_event) == ("merged", None)


def test_pull_requests_outlive_their_handle(open_memory: OpenMemory, database: Path) -> None:
    with AgentMemory("alice", database, durability="normal") as mem:
        mem.create_branch("x")
        pr = mem.create_pull_request("t", "x")
        mem.review_pull_request(pr.id, "commented", "hm")
        expected = mem.pull_requests()
    assert open_memory("bob").pull_requests() == expected
    assert open_memory("carol", namespace="elsewhere").pull_requests() == []


# --- reviews ---------------------------------------------------------------------------------------------------------


def test_a_later_version_on_the_source_dismisses_approvals(work: AgentMemory, bob: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    bob.review_pull_request(pr.id, "approved")
    for unrelated in (
        lambda: work.write(P, "elsewhere", 1),
        lambda: work.write(P, "private", 1, shared=False, branch="x"),
        lambda: work.create_branch("y", source="x"),
    ):
        unrelated()
        assert only(work).approved
    work.write(P, "more", 1, branch="x")
    assert (only(work).approved, [one.dismissed for one in only(work).reviews]) == (False, [True])
    bob.review_pull_request(pr.id, "approved")
    assert (only(work).approved, [one.dismissed for one in only(work).reviews]) == (True, [True, False])
    work.delete(P, "more", branch="x")
    assert not only(work).approved
    assert work.merge_pull_request(pr.id).status is MergeStatus.MERGED, "no approval is needed"


def test_what_was_approved_stays_approved_after_the_merge(work: AgentMemory, bob: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    bob.review_pull_request(pr.id, "approved")
    work.merge_pull_request(pr.id)
    work.write(P, "later", 1, branch="x")
    assert only(work).approved


def test_requested_changes_block_until_the_same_reviewer_approves(work: AgentMemory, bob: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    bob.review_pull_request(pr.id, "changes_requested", "too often")
    work.as_agent("carol").review_pull_request(pr.id, "approved")
    work.write(P, "more", 1, branch="x")
    bob.review_pull_request(pr.id, "commented", "still looking")
    assert only(work).changes_requested_by == ("bob",)
    event = newest(work)
    with pytest.raises(PullRequestBlockedError, match=r"bob.*Nothing was merged"):
        work.merge_pull_request(pr.id)
    with pytest.raises(PullRequestBlockedError):
        work.merge_pull_request(pr.id, strategy="source_wins", close=True)
    assert (newest(work), only(work).status) == (event, "open")
    bob.review_pull_request(pr.id, "approved")
    assert only(work).changes_requested_by == ()
    assert [one.dismissed for one in only(work).reviews] == [True, True, False, False]
    assert work.merge_pull_request(pr.id).status is MergeStatus.MERGED


def test_several_reviewers_block_each_for_themselves(work: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    for name in ("bob", "carol"):
        work.as_agent(name).review_pull_request(pr.id, "changes_requested")
    work.as_agent("bob").review_pull_request(pr.id, "approved")
    assert (only(work).approved, only(work).changes_requested_by) == (True, ("carol",))
    with pytest.raises(PullRequestBlockedError, match="carol"):
        work.merge_pull_request(pr.id)


def test_a_reviewer_may_change_their_mind(work: AgentMemory, bob: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    bob.review_pull_request(pr.id, "approved")
    bob.review_pull_request(pr.id, "changes_requested")
    assert (only(work).approved, only(work).changes_requested_by) == (False, ("bob",))


def test_approving_ones_own_is_allowed_and_recorded(work: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    work.review_pull_request(pr.id, "approved", "I am sure")
    (review,) = only(work).reviews
    assert (review.agent_id, only(work).agent_id, only(work).approved) == ("alice", "alice", True)


# --- what is merged --------------------------------------------------------------------------------------------------


def test_the_preview_is_the_merge_that_follows(work: AgentMemory, bob: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    work.write(P, K, {"a": 0, "b": 1})
    event = newest(work)
    preview = bob.merge_pull_request(pr.id, dry_run=True)
    assert preview == bob.merge_branch("x", dry_run=True)
    assert (newest(work), only(work).status, preview.event) == (event, "open", None)
    result = bob.merge_pull_request(pr.id)
    assert result.model_dump(exclude={"event", "dry_run"}) == preview.model_dump(exclude={"event", "dry_run"})
    assert work.read(P, K).value == {"a": 1, "b": 1}


def test_a_blocked_pull_request_can_be_previewed(work: AgentMemory, bob: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    bob.review_pull_request(pr.id, "changes_requested")
    assert work.merge_pull_request(pr.id, dry_run=True).status is MergeStatus.MERGED


def test_conflicts_leave_it_open(work: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    work.write(P, K, {"a": 2, "b": 0})
    event = newest(work)
    with pytest.raises(MergeConflictError) as caught:
        work.merge_pull_request(pr.id)
    assert [one.key for one in caught.value.result.conflicts] == [K]
    with pytest.raises(FastForwardRefusedError):
        work.merge_pull_request(pr.id, strategy="fast_forward")
    assert (newest(work), only(work).status) == (event, "open")
    result = work.merge_pull_request(pr.id, resolver=lambda _base, source, target: [source, target])
    assert (only(work).status, only(work).merge_event) == ("merged", result.event)
    assert work.read(P, K).value == [{"a": 1, "b": 0}, {"a": 2, "b": 0}]


@pytest.mark.parametrize("strategy", ["source_wins", "ours", lambda _base, _source, target: target])
def test_any_strategy_merges_it(work: AgentMemory, strategy: Any) -> None:
    pr = work.create_pull_request("t", "x")
    work.write(P, K, {"a": 2, "b": 0})
    assert work.merge_pull_request(pr.id, strategy=strategy).status is MergeStatus.MERGED
    assert only(work).status == "merged"


def test_into_another_branch_than_the_parent(work: AgentMemory) -> None:
    work.create_branch("y")
    pr = work.create_pull_request("t", "x", target_branch="y")
    assert (pr.target_branch, newest(work).branch) == ("y", "y")
    work.merge_pull_request(pr.id)
    assert (work.read(P, "new", branch="y").value, work.read(P, "new")) == (1, None)
    work.create_branch("x/child", source="x")
    assert work.create_pull_request("u", "x/child").target_branch == "x"


# --- manual merges ---------------------------------------------------------------------------------------------------


def test_a_manual_merge_ends_it_with_the_last_conflict(work: AgentMemory, bob: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    work.write(P, K, {"a": 2, "b": 0})
    work.write(P, "new", 2)
    result = work.merge_pull_request(pr.id, strategy="manual", close=True)
    assert (result.status, only(work).status) == ("conflicts", "open")
    first, last = (one.id for one in result.conflicts)
    assert bob.resolve_conflict(first, take="source").status == "conflicts"
    assert only(work).status == "open"
    done = bob.resolve_conflict(last, take="source")
    assert (only(work).status, only(work).ended_by, only(work).merge_event) == ("merged", "bob", done.event)
    assert [event.event_type for event in bob.timeline(limit=5)] == [
        "pull_request_merged", "branch_closed", "branch_merged", "conflict_resolved", "conflict_resolved",
    ]  # fmt: skip


def test_a_pull_request_closed_meanwhile_stays_closed(work: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    work.write(P, K, {"a": 2, "b": 0})
    (conflict,) = work.merge_pull_request(pr.id, strategy="manual").conflicts
    work.close_pull_request(pr.id)
    assert work.resolve_conflict(conflict.id, take="source").status == "merged"
    assert (only(work).status, only(work).merge_event) == ("closed", None)


@pytest.mark.parametrize("begun_by", ["a plain merge", "a pull request that was closed"])
def test_a_manual_merge_that_waits_already_is_taken_over(work: AgentMemory, begun_by: str) -> None:
    work.write(P, K, {"a": 2, "b": 0})
    if begun_by == "a plain merge":
        begun = work.merge_branch("x", strategy="manual")
    else:
        first = work.create_pull_request("first", "x")
        begun = work.merge_pull_request(first.id, strategy="manual")
        work.close_pull_request(first.id)
    pr = work.create_pull_request("t", "x")
    result = work.merge_pull_request(pr.id, strategy="manual", close=True)
    assert result.conflicts == begun.conflicts
    work.resolve_conflict(result.conflicts[0].id, take="source")
    assert work.pull_requests()[-1].status == "merged"
    assert [branch.name for branch in work.branches("closed")] == ["x"]


def test_requested_changes_block_the_last_resolution_too(work: AgentMemory, bob: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    work.write(P, K, {"a": 2, "b": 0})
    (conflict,) = work.merge_pull_request(pr.id, strategy="manual").conflicts
    bob.review_pull_request(pr.id, "changes_requested")
    event = newest(work)
    with pytest.raises(PullRequestBlockedError, match="bob"):
        work.resolve_conflict(conflict.id, take="source")
    assert (newest(work), only(work).status, work.conflicts()) == (event, "open", [conflict])
    bob.review_pull_request(pr.id, "approved")
    assert work.resolve_conflict(conflict.id, take="source").status is MergeStatus.MERGED
    assert only(work).status == "merged"


def test_merging_it_in_another_way_makes_its_conflicts_obsolete(work: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    work.write(P, K, {"a": 2, "b": 0})
    work.merge_pull_request(pr.id, strategy="manual")
    work.merge_pull_request(pr.id, strategy="theirs")
    assert (work.conflicts(), only(work).status) == ([], "merged")


@pytest.mark.parametrize("how", ["three_way", "manual"])
def test_the_experiment_behind_it_counts_as_merged(mem: AgentMemory, how: str) -> None:
    mem.write(P, K, 0)
    with mem.experiment("e") as experiment:
        mem.write(P, K, 1)
        mem.create_tag("inside")
        mem.write(P, K, 2)
        assert mem.rollback(tag_name="inside").branch == experiment.branch
    if how == "manual":
        mem.write(P, K, 3)
    pr = mem.create_pull_request("t", experiment.branch)
    result = mem.merge_pull_request(pr.id, strategy=how)
    for conflict in result.conflicts:
        mem.resolve_conflict(conflict.id, take="source")
    assert (mem.read(P, K).value, mem.experiments()[0].status) == (1, "merged")


# --- refusals --------------------------------------------------------------------------------------------------------


def test_one_is_open_for_two_branches(work: AgentMemory, bob: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    event = newest(work)
    with pytest.raises(PullRequestExistsError, match=f"{pr.id}.*'x'.*'main'"):
        bob.create_pull_request("the same", "x")
    assert newest(work) == event
    work.create_branch("y")
    assert work.create_pull_request("another target", "x", target_branch="y").id != pr.id
    assert work.create_pull_request("the other way", "main", target_branch="x").status == "open"
    work.merge_pull_request(pr.id)
    assert work.create_pull_request("again", "x").status == "open"


@pytest.mark.parametrize("end", ["merge_pull_request", "close_pull_request"])
def test_what_has_ended_is_over(work: AgentMemory, end: str) -> None:
    pr = work.create_pull_request("t", "x")
    getattr(work, end)(pr.id)
    event, ended = newest(work), only(work)
    for call in (
        lambda: work.review_pull_request(pr.id, "approved"),
        lambda: work.merge_pull_request(pr.id),
        lambda: work.merge_pull_request(pr.id, dry_run=True),
        lambda: work.close_pull_request(pr.id),
    ):
        with pytest.raises(PullRequestEndedError, match=f"{pr.id} is {ended.status}"):
            call()
    assert (newest(work), only(work)) == (event, ended)


def test_a_closed_branch_takes_reviews_and_an_end_but_no_merge(work: AgentMemory) -> None:
    pr = work.create_pull_request("t", "x")
    work.close_branch("x")
    for dry_run in (False, True):
        with pytest.raises(BranchClosedError, match="'x' is closed"):
            work.merge_pull_request(pr.id, dry_run=dry_run)
    assert work.review_pull_request(pr.id, "commented", "too late").status == "open"
    assert work.close_pull_request(pr.id).status == "closed"
    work.create_branch("y")
    for source, target in (("x", "main"), ("y", "x")):
        with pytest.raises(BranchClosedError, match="'x' is closed"):
            work.create_pull_request("t", source, target_branch=target)


def test_an_unknown_pull_request_is_not_found(work: AgentMemory) -> None:
    work.create_pull_request("t", "x")
    for call in (
        lambda: work.review_pull_request(99, "approved"),
        lambda: work.merge_pull_request(99),
        lambda: work.close_pull_request(99),
    ):
        with pytest.raises(PullRequestNotFoundError, match=r"99.*pull_requests\(\)"):
            call()


def test_those_of_another_namespace_are_not_there(open_memory: OpenMemory) -> None:
    here, there = open_memory("alice"), open_memory("bob", namespace="elsewhere")
    here.create_branch("x")
    pr = here.create_pull_request("t", "x")
    with pytest.raises(PullRequestNotFoundError):
        there.merge_pull_request(pr.id)


REFUSED: dict[str, tuple[Callable[[AgentMemory], Any], type[Exception], str]] = {
    "unknown source": (lambda mem: mem.create_pull_request("t", "none"), BranchNotFoundError, "'none'"),
    "unknown target": (
        lambda mem: mem.create_pull_request("t", "x", target_branch="none"),
        BranchNotFoundError,
        "'none'",
    ),
    "into itself": (lambda mem: mem.create_pull_request("t", "x", target_branch="x"), InvalidInputError, "itself"),
    "main into its parent": (lambda mem: mem.create_pull_request("t", "main"), InvalidInputError, "no parent"),
    "no title": (lambda mem: mem.create_pull_request("", "x"), InvalidInputError, "title"),
    "title of no text": (lambda mem: mem.create_pull_request(5, "x"), InvalidInputError, "title"),
    "description of no text": (
        lambda mem: mem.create_pull_request("t", "x", description=5),
        InvalidInputError,
        "description",
    ),
    "unknown verdict": (lambda mem: mem.review_pull_request(1, "fine"), InvalidInputError, "'approved'"),
    "comment of no text": (lambda mem: mem.review_pull_request(1, "approved", 5), InvalidInputError, "str"),
    "id of no number": (lambda mem: mem.review_pull_request("1", "approved"), InvalidInputError, "pull_request_id"),
    "unknown strategy": (lambda mem: mem.merge_pull_request(1, strategy="octopus"), InvalidInputError, "octopus"),
    "unknown status": (lambda mem: mem.pull_requests("done"), InvalidInputError, "'merged'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused(work: AgentMemory, case: str) -> None:
    call, error, says = REFUSED[case]
    work.create_branch("y")
    assert work.create_pull_request("t", "y").id == 1
    event, before = newest(work), only(work)
    with pytest.raises(error, match=says):
        call(work)
    assert (newest(work), only(work)) == (event, before)
