"""Operations that take several statements, and the database they start from: what is killed, and made to fail.

Clock, sessions and names are fixed, so that an operation makes the same rows whenever it is carried out.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from amfs import AgentMemory, Cortex, Principal
from tests.helpers_crash import LARGE, OPERATIONS, START, build, die_of_large_files
from tests.helpers_statements import watching

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.helpers_processes import Outbox


def _nothing(_mem: AgentMemory) -> None:
    """Prepare nothing."""


class Step(NamedTuple):
    """An operation, what its agent did just before it, and on whose authority it acts."""

    call: Callable[[AgentMemory], object]
    prepare: Callable[[AgentMemory], object] = _nothing
    principal: Principal | None = None

    def open(self, database: Path) -> AgentMemory:
        """Open a handle for the operation and prepare it."""
        mem = AgentMemory("ada", database, clock=lambda: START, session_id="session of ada", principal=self.principal)
        self.prepare(mem)
        return mem


def build_for_review(database: Path) -> None:
    """Make a database with a tag, private entries, conflicts half resolved, an experiment and pull requests."""
    build(database)
    with AgentMemory("ada", database, clock=lambda: START, session_id="session of ada") as mem:
        for key in "ef":
            mem.write("svc", key, "base")
        mem.create_tag("begin", "before the rest")
        mem.create_branch("clash")
        for branch in ("clash", "main"):
            for key in "ef":
                mem.write("svc", key, [branch], branch=branch)
        mem.create_branch("rival", at="begin")
        mem.write("svc", "e", 1, branch="rival")
        mem.write("svc", "f", 2, branch="rival")
        mem.write("svc", "mine", {"n": 1}, shared=False)
        mem.write("svc", "mine", {"n": 2}, shared=False)
        mem.as_agent("ben").write("svc", "theirs", "by ben")
        with mem.experiment("try", params={"rate": 3}) as trial:
            mem.write("trial", "x", LARGE)
            mem.delete("svc", "d")
            trial.log(score=1)
        clash = mem.create_pull_request("Both at once", "clash")
        mem.merge_pull_request(clash.id, strategy="manual", close=True)
        mem.resolve_conflict(mem.conflicts()[0].id, take="source")
        proposal = trial.pull_request("A trial")
        mem.as_agent("ben").review_pull_request(proposal.id, "approved")
        mem.grant_branch_access("work", "user", "eve", "read")


def _read_entries(mem: AgentMemory) -> None:
    mem.read_many([("svc", "a"), ("svc", "theirs"), ("svc", "mine")])


def _merge_pull_request(mem: AgentMemory) -> object:
    return mem.merge_pull_request(2, close=True)


STEPS: dict[str, Step] = {
    **{name: Step(call) for name, call in OPERATIONS.items()},
    "outcome of what was read": Step(lambda mem: mem.commit_outcome("deploy-2", "success"), _read_entries),
    "rollback": Step(lambda mem: mem.rollback(tag_name="begin", include_others=True)),
    "rollback of one agent": Step(lambda mem: mem.rollback(agent_id="ben")),
    "cherry-pick": Step(lambda mem: mem.cherry_pick("work", ["svc/c", "svc/new"])),
    "fork": Step(lambda mem: mem.fork("heir")),
    "manual merge": Step(lambda mem: mem.merge_branch("rival", target="clash", strategy="manual")),
    "last resolution": Step(lambda mem: mem.resolve_conflict(2, value=["both"])),
    "merge of a pull request": Step(_merge_pull_request),
    "review": Step(lambda mem: mem.review_pull_request(2, "changes_requested", "not yet")),
    "start of an experiment": Step(lambda mem: mem.experiment("try", params={"rate": 4}).start()),
    "new branch of a user": Step(
        lambda mem: mem.create_branch("of eve", "with its grant"), principal=Principal(user_id="eve", role="writer")
    ),
    "new tag": Step(lambda mem: mem.create_tag("release/1", "a name", at="begin")),
    "grant": Step(lambda mem: mem.grant_branch_access("work", "team", "ops", "read_write")),
    "brief": Step(lambda mem: Cortex(mem, ["svc"], writer=str.upper).refresh()),
    "closing of a branch": Step(lambda mem: mem.close_branch("clash")),
}


# --- in a child process ----------------------------------------------------------------------------------------------


def perform(
    outbox: Outbox, database: Path, name: str, statement: int | None = None, size: int | None = None, live: bool = False
) -> None:
    """Carry out an operation and die: before a statement, in the commit at a size of the -wal file, or at the end.

    With ``live`` nobody dies: the statements are sent, and how large the -wal file was before and after.
    """
    count, seen, armed, wal = 0, list[str](), False, Path(f"{database}-wal")
    sizes: list[int] = []

    def on_statement(text: str) -> None:
        nonlocal count
        if armed:
            if count == statement:
                os.kill(os.getpid(), signal.SIGKILL)
            if text == "COMMIT":
                sizes.append(wal.stat().st_size)
                if size is not None:
                    die_of_large_files(size)
            count += 1
            seen.append(text)

    with watching(on_statement):
        mem = STEPS[name].open(database)
        armed = True
        STEPS[name].call(mem)
        armed = False
    if not live:
        os.kill(os.getpid(), signal.SIGKILL)
    sizes.append(wal.stat().st_size)
    outbox.send((seen, sizes))
    outbox.wait()
    mem.close()
