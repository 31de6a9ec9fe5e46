"""What can be done once is done once, however many try at the same moment: the others get the error that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, NamedTuple

import pytest

from amfs import (
    AgentExistsError,
    AgentMemory,
    AMFSError,
    ConflictResolvedError,
    PullRequestEndedError,
    PullRequestExistsError,
    TagExistsError,
    TagNotFoundError,
)

P, K = "svc", "config"
TRYING = 6


class Race(NamedTuple):
    """What several try at once, the error of those who come late (None: there is none), and the event of the first."""

    attempt: Callable[[AgentMemory], Any]
    late: type[AMFSError] | None
    event: str


RACES: dict[str, Race] = {
    "tag": Race(lambda mem: mem.create_tag("same"), TagExistsError, "tag_created"),
    "untag": Race(lambda mem: mem.delete_tag("v1"), TagNotFoundError, "tag_deleted"),
    "fork": Race(lambda mem: mem.fork("clone"), AgentExistsError, "fork"),
    "propose": Race(
        lambda mem: mem.create_pull_request("t", "main", target_branch="x"),
        PullRequestExistsError,
        "pull_request_opened",
    ),
    "merge": Race(
        lambda mem: mem.merge_pull_request(1, strategy="theirs"), PullRequestEndedError, "pull_request_merged"
    ),
    "close": Race(lambda mem: mem.close_pull_request(1), PullRequestEndedError, "pull_request_closed"),
    "resolve": Race(lambda mem: mem.resolve_conflict(1, take="source"), ConflictResolvedError, "conflict_resolved"),
    "rollback": Race(lambda mem: mem.rollback(tag_name="v1", include_others=True), None, "rollback"),
    "pick": Race(lambda mem: mem.cherry_pick("x", [(P, "new")]), None, "cherry_pick"),
}


@pytest.mark.parametrize("what", RACES)
def test_one_of_many_is_first(what: str, database: Path) -> None:
    race = RACES[what]
    with AgentMemory("ada", database, durability="normal") as mem:
        mem.write(P, K, 0)
        mem.create_tag("v1")
        mem.create_branch("x")
        for branch in ("x", "main"):
            mem.write(P, K, branch, branch=branch)
        mem.write(P, "new", 1, branch="x")
        mem.create_pull_request("t", "x")
        mem.merge_branch("x", strategy="manual")
        seq = mem.timeline(limit=1)[0].seq
        barrier = Barrier(TRYING)

        def attempt(number: int) -> str:
            with AgentMemory(f"agent {number}", database, durability="normal") as other:
                barrier.wait(60)
                try:
                    race.attempt(other)
                except AMFSError as error:
                    return type(error).__name__
                return "done"

        with ThreadPoolExecutor(TRYING) as pool:
            ended = Counter(pool.map(attempt, range(TRYING)))
        late = "done" if race.late is None else race.late.__name__
        assert ended == Counter({"done": 1}) + Counter({late: TRYING - 1})
        events = [one for one in mem.timeline(agent_id="*", since=seq + 1) if one.event_type == race.event]
        assert len(events) == 1
        assert mem.verify().problems == ()
