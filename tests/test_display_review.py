"""How tags, rollbacks, conflicts, pull requests, grants, keys and blame print and show."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from amfs import AgentMemory, Page, RollbackTouchesOthersError
from tests.helpers_display import HOSTILE, SVC, assert_safe, cells, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def mem(tmp_path: Path) -> Iterator[AgentMemory]:
    with AgentMemory("deploy-agent", tmp_path / "memory.db") as memory:
        yield memory


@pytest.fixture
def clashing(mem) -> AgentMemory:
    """A branch "side" that changed an entry which main changed, too."""
    mem.write(SVC, "limit", {"rps": 10})
    mem.create_branch("side")
    mem.write(SVC, "limit", {"rps": 20}, branch="side")
    mem.write(SVC, "limit", {"rps": 30})
    return mem


@pytest.mark.parametrize("words", HOSTILE)
def test_what_is_reviewed_and_granted_cannot_leave_its_place(mem, words):
    mem.write("path", words, {words: 1})
    mem.create_tag("tag", words)
    mem.create_branch("side")
    mem.as_agent(words).write("path", words, {words: 2})
    mem.write("path", words, {words: 3}, branch="side")
    request = mem.create_pull_request(words, "side", description=words)
    shown = [
        mem.as_agent(words).review_pull_request(request.id, "changes_requested", words), mem.pull_requests(),
        mem.pull_requests()[0].reviews[0], mem.tags(), mem.tags()[0], mem.rollback(tag_name="tag", dry_run=True),
        mem.merge_branch("side", strategy="manual"), mem.conflicts(), mem.blame("path", words),
        mem.grant_branch_access("side", "user", words, "read"), mem.branch_access("side"),
        mem.create_api_key(words, agent_ids=[words], role="reader"), mem.api_keys(),
    ]  # fmt: skip
    assert_safe(shown)


# --- tags and rollbacks -----------------------------------------------------------------------------------------------


def test_tags_are_a_table(mem):
    seq = mem.write(SVC, "retry-pattern", 1).seq
    tag = mem.create_tag("release/1", "known good", at=seq)

    head, row = str(mem.tags()).splitlines()

    assert cells(head) == ["tag", "branch", "seq", "description", "by", "created (UTC)"]
    assert cells(row)[:5] == ["release/1", "main", str(seq), "known good", "deploy-agent"]
    assert str(tag) == str(mem.tags())
    assert rows(mem.tags()._repr_html_()) == 1


@pytest.fixture
def moved(mem) -> AgentMemory:
    """A memory with a tag, and an entry modified and one added since, the second by another agent."""
    mem.write(SVC, "retry-pattern", {"max_retries": 3}, confidence=0.5)
    mem.create_tag("good")
    mem.write(SVC, "retry-pattern", {"max_retries": 9}, confidence=0.5)
    mem.as_agent("review-agent").write(SVC, "limit", {"rps": 3})
    return mem


def test_a_rollback_says_what_it_did(moved):
    seq = moved.tags()[0].seq
    rehearsal = str(moved.rollback(tag_name="good", dry_run=True)).splitlines()
    done = moved.rollback(tag_name="good", include_others=True)
    first, others, title, *table = str(done).splitlines()

    assert first == f"rolled back: main to seq {seq}, 2 entries, event {done.event}"
    assert others == "others wrote since: review-agent (1 entry)"
    assert title == "restored:"
    assert [cells(line)[0] for line in table[1:]] == ["-", "~"]
    assert table[-1].endswith("v2 -> v1  max_retries: 9 -> 3")
    assert rehearsal[:3] == [f"dry run, rolled back: main to seq {seq}, 2 entries", others, "would be restored:"]
    assert "max_retries: <del" in done._repr_html_()
    last = moved.history(SVC, "retry-pattern")[-1].seq
    assert str(moved.rollback(seq=last)) == f"rolled back: main to seq {last}, 0 entries"


def test_a_refused_rollback_says_so(moved):
    with pytest.raises(RollbackTouchesOthersError) as refused:
        moved.rollback(tag_name="good")
    first, others, title, *_ = str(refused.value.result).splitlines()
    assert first == f"refused: main to seq {moved.tags()[0].seq}, nothing restored"
    assert others == "others wrote since: review-agent (1 entry)"
    assert title == "would be restored:"


def test_a_rollback_of_one_author_says_what_it_skipped(moved):
    moved.write(SVC, "limit", {"rps": 5})
    undone = str(moved.rollback(agent_id="review-agent"))
    assert undone.startswith("rolled back: main to seq 0, only what review-agent wrote, 0 entries\nskipped, as others")
    assert undone.splitlines()[-1].startswith("-  ")


# --- stored conflicts and pull requests -------------------------------------------------------------------------------


def test_a_stored_conflict_has_an_id_and_a_status(clashing):
    stuck = clashing.merge_branch("side", strategy="manual")
    (conflict,) = clashing.conflicts()
    clash = [SVC, "limit", "edit/edit", "rps", '{"rps": 10}', '{"rps": 20}', '{"rps": 30}']

    head, row = str(clashing.conflicts()).splitlines()

    assert cells(head)[:3] == ["id", "branches", "status"]
    assert cells(row) == [str(conflict.id), "side -> main", "open", "!", *clash]
    assert str(conflict) == f"{head}\n{row}"
    assert str(stuck).startswith("conflicts: side -> main, nothing applied, strategy manual\n")
    assert str(stuck).splitlines()[-1] == row
    clashing.resolve_conflict(conflict.id, value={"rps": 25})
    settled = clashing.conflicts(status=None)
    assert cells(str(settled).splitlines()[1])[2:] == ["resolved: a value, by deploy-agent", *clash]
    assert rows(settled._repr_html_()) == 1


def test_a_conflict_says_whose_side_was_taken(clashing):
    (conflict,) = clashing.merge_branch("side", strategy="manual").conflicts
    clashing.as_agent("review-agent").resolve_conflict(conflict.id, take="target")
    assert "  resolved: target, by review-agent  " in str(clashing.conflicts(status="resolved"))


def test_pull_requests_and_their_reviews(clashing):
    request = clashing.create_pull_request("Fewer retries", "side", description="see the incident")
    review = clashing.as_agent("review-agent").review_pull_request
    assert (
        str(request)
        .splitlines()[0]
        .startswith(f"pull request {request.id}: Fewer retries, side -> main, open, not approved, by deploy-agent, ")
    )
    assert str(request).splitlines()[1:] == ["see the incident"]

    blocked = review(request.id, "changes_requested", "too many")
    assert ", open, changes requested by review-agent, by deploy-agent, " in str(blocked)
    assert str(blocked).splitlines()[-1].startswith("!  review-agent  changes requested  too many")

    approved = review(request.id, "approved")
    assert ", open, approved, by deploy-agent, " in str(approved)
    before, after = str(approved).splitlines()[-2:]
    assert cells(before.strip())[:2] == ["review-agent", "changes requested (dismissed)"]
    assert after.startswith("+  review-agent  approved")
    assert "changes requested (dismissed)" in str(approved.reviews[0])

    result = clashing.merge_pull_request(request.id, strategy="source_wins")
    head, row = str(clashing.pull_requests()).splitlines()
    assert cells(head) == ["id", "title", "branches", "status", "review", "by", "opened (UTC)"]
    assert f"side -> main  merged by deploy-agent (event {result.event})  approved  deploy-agent" in row
    assert rows(clashing.pull_requests()._repr_html_()) == 1
    assert rows(approved._repr_html_()) == 2


# --- access -----------------------------------------------------------------------------------------------------------


def test_grants_are_a_table(mem):
    mem.create_branch("side")
    grant = mem.grant_branch_access("side", "team", "sre", "read_write")
    head, row = str(mem.branch_access("side")).splitlines()
    assert cells(head) == ["branch", "for", "id", "permission", "by", "granted (UTC)"]
    assert cells(row)[:5] == ["side", "team", "sre", "read_write", "deploy-agent"]
    assert str(grant) == str(mem.branch_access("side"))


def test_a_key_is_shown_nowhere(mem):
    made = mem.create_api_key("ci", agent_ids=["deploy-agent", "review-agent"], role="reader", expires=timedelta(1))
    secret = made.key.rpartition("_")[2]

    class Printer:
        words = ""

        def text(self, words: str) -> None:
            self.words += words

    pretty = Printer()
    made._repr_pretty_(pretty, False)
    shown = [str(made), repr(made), f"{made}", made._repr_html_(), pretty.words, str(Page([made])), repr([made])]

    assert made.key.startswith("amfs_sk_")
    assert not any(secret in words for words in (*shown, Page([made])._repr_html_(), str(mem.timeline(agent_id="*"))))
    assert str(made).splitlines()[-1] == "the key itself is in .key of this object and nowhere else"
    assert ".key of this object" in made._repr_html_()


def test_keys_are_a_table(mem):
    made = mem.create_api_key("ci", agent_ids=["deploy-agent", "review-agent"], role="reader")
    head, row, more = str(mem.api_keys()).splitlines()
    assert cells(head) == ["id", "name", "agents", "role", "by", "created (UTC)", "expires (UTC)", "revoked (UTC)"]
    assert cells(row)[:5] == [made.id, "ci", "deploy-agent", "reader", "deploy-agent"]
    assert more.strip() == "review-agent"
    assert len(cells(row)) == 6
    assert len(cells(str(mem.revoke_api_key(made.id)).splitlines()[1])) == 7


# --- blame ------------------------------------------------------------------------------------------------------------


def test_blame_is_a_row_per_field(mem):
    mem.write(SVC, "retry-pattern", {"max_retries": 3, "backoff": "linear"})
    mem.create_branch("side")
    theirs = mem.as_agent("review-agent").on_branch("side")
    seq = theirs.write(SVC, "retry-pattern", {"max_retries": 5, "backoff": "linear"}).seq
    merged = mem.merge_branch("side")
    mem.commit_outcome("DEP-1", "success", [(SVC, "retry-pattern")])

    blame = mem.blame(SVC, "retry-pattern")
    line, head, whole, retries, backoff = str(blame).splitlines()

    assert line.startswith(f"{SVC}/retry-pattern v3, ")
    assert cells(head) == [
        "field", "value", "v", "author", "branch", "event", "merged at", "outcomes", "run", "when (UTC)",
    ]  # fmt: skip
    assert cells(retries)[:8] == [
        "max_retries", "5", "v2", "review-agent", "side", f"write {seq}", str(merged.event), "DEP-1",
    ]  # fmt: skip
    assert cells(whole)[:3] == ["value", '{"max_retries": 5, "backoff": "linear"}', "v2"]
    assert cells(backoff)[:5] == ["backoff", '"linear"', "v1", "deploy-agent", "main"]
    assert str(blame.fields[0]).splitlines()[1].startswith("max_retries  5 ")
    assert rows(blame._repr_html_()) == 3
