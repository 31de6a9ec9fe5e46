"""A busy namespace, all that can be seen of one, and what the child processes of the backup and export tests do."""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn

from amfs import AgentMemory
from amfs.errors import AMFSError, MergeConflictError
from tests.helpers_statements import watching

if TYPE_CHECKING:
    from pathlib import Path

    from amfs.models import Page
    from tests.helpers_processes import Outbox

START = 1_700_000_000_000_000
AGENTS = ("ada", "ben", "cleo")
LARGE = "a long text with an é and a 😀 " * 60
ODD_BRANCH = "ideas/ü/☃"

CHANGES_FILES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "sqlite3.connect"}
"""Audit events of what a restore does to files."""


def fill(mem: AgentMemory, clock: Any) -> None:
    """Let three agents do all that can be stored in a namespace."""
    ada, ben, cleo = (mem.as_agent(agent) for agent in AGENTS)
    for number in range(6):
        ada.write("svc", f"k{number}", {"n": number, "text": "short"}, confidence=0.5 + number / 100)
    ada.write("svc/a/b", "long 😀/slash", {"text": LARGE, "more": [1, 1.0, True, None, "\u2028\n"]}, pattern_refs=["p"])
    ada.write("svc", "k0", {"n": 0}, shared=False)
    ben.write("svc", "k0", {"mine": "ben's"}, shared=False, idempotency_key="once")
    ben.write("own path", "secret", None, shared=False)
    cleo.write("chat", "m1", {"role": "user"}, memory_type="message")
    cleo.write("svc", "brief", "soon gone", ttl=5)
    cleo.write("svc", "lasting", 1, ttl=10_000_000)
    ada.delete("svc", "k5")
    ada.create_tag("start", "where it began")
    clock.advance(60)
    with ben.run("run-1", thread_id="t", metadata={"a": [1]}):
        ben.read("svc", "k1")
        ben.read("svc/a/b", "long 😀/slash")
        ben.record_context("ticket", "it is slow", "tracker")
        ben.commit_outcome("deploy-1", "failure", summary="went wrong")
    ada.commit_outcome("deploy-2", "success", [("svc", "k2")])
    branches(mem, clock)
    review(mem)
    with ben.transaction("two at once") as tx:
        tx.write("svc", "lasting", "new")
        tx.write("other", "x", LARGE)
    ada.create_tag("end")
    ben.create_tag("passing")
    ben.delete_tag("passing")


def branches(mem: AgentMemory, clock: Any) -> None:
    """Branch, merge in both directions, roll back, cherry-pick and experiment."""
    ada, ben, cleo = (mem.as_agent(agent) for agent in AGENTS)
    ada.create_branch(ODD_BRANCH, "an idea")
    ben.write("svc", "k1", {"n": 1, "text": LARGE}, branch=ODD_BRANCH)
    ben.write("svc", "new", [1, {"deep": {"er": 2}}], branch=ODD_BRANCH)
    ben.write("own path", "secret", "on a branch", shared=False, branch=ODD_BRANCH)
    ada.create_branch("child", source=ODD_BRANCH, at="start" if ODD_BRANCH == "main" else None)
    ada.write("svc", "k3", {"n": 30, "text": "short"}, branch="child")
    ada.delete("svc", "k4", branch="child")
    ben.merge_branch(ODD_BRANCH)
    ada.merge_branch("child", target=ODD_BRANCH)
    ada.merge_branch("main", target="child")
    ada.create_branch("past", at="start")
    cleo.write("svc", "k2", "from the past", branch="past")
    clock.advance(60)
    cleo.cherry_pick("past", [("svc", "k2")], strategy="source_wins")
    ada.create_branch("undone")
    ada.write("svc", "k1", "a mistake", branch="undone")
    ada.write("svc", "k2", "another", branch="undone")
    ada.on_branch("undone").rollback(tag_name="start", include_others=True)
    with cleo.experiment("try", params={"rate": 0.5}) as tried:
        cleo.write("svc", "k3", {"n": 31})
        tried.log(score=0.25, note="é")
    with cleo.experiment("thrown away") as thrown:
        cleo.write("svc", "k3", {"n": 32})
    thrown.discard()


def review(mem: AgentMemory) -> None:
    """Open pull requests, review, merge and close them, and leave conflicts: open, resolved and obsolete."""
    ada, ben, cleo = (mem.as_agent(agent) for agent in AGENTS)
    for name in ("clash", "calm", "closed"):
        ada.create_branch(name)
        ada.write("svc", "k1", {"n": 100, "branch": name}, branch=name)
        ada.write("svc", "k2", {"n": 200, "branch": name}, branch=name)
    ben.write("svc", "k1", {"n": 101})
    ben.write("svc", "k2", {"n": 201})
    ada.write("calm", "k", 1, branch="calm")
    proposed = ada.create_pull_request("Add calm", "calm", description="it is calm")
    ben.review_pull_request(proposed.id, "changes_requested", "why?")
    ben.review_pull_request(proposed.id, "approved", "fine")
    cleo.review_pull_request(proposed.id, "commented", "nice")
    ada.merge_pull_request(proposed.id, strategy="source_wins")
    ada.close_pull_request(ada.create_pull_request("No", "closed").id)
    ada.close_branch("closed")
    waiting = ada.create_pull_request("Clash", "clash")
    found = ada.merge_pull_request(waiting.id, strategy="manual")
    cleo.resolve_conflict(found.conflicts[0].id, value={"n": 150})
    try:
        ada.merge_branch("clash")
    except MergeConflictError:
        return
    raise AssertionError("the other conflict is open still")


def everything(mem: AgentMemory, agent: str) -> dict[str, Any]:
    """Return all that one agent can see of its namespace, by what it asked for."""
    eyes = mem.as_agent(agent)
    seen: dict[str, Any] = {}

    def look(what: str, found: Page[Any] | list[Any] | Any) -> None:
        seen[what] = [one.model_dump() for one in found] if isinstance(found, list) else found.model_dump()

    found = eyes.branches()
    newest = max(event.seq for event in eyes.timeline(agent_id="*", limit=10_000))
    look("branches", found)
    look("experiments", eyes.experiments())
    look("tags", eyes.tags())
    look("pull requests", eyes.pull_requests())
    look("timeline", eyes.timeline(agent_id="*", limit=10_000))
    for status in ("open", "resolved", "obsolete"):
        look(f"{status} conflicts", eyes.conflicts(status=status))
    for ref in ("deploy-1", "deploy-2"):
        look(f"explain {ref}", eyes.explain(ref))
    for branch in (branch.name for branch in eyes.branches("open") if branch.name != "main"):
        look(f"merge {branch}", eyes.merge_branch(branch, dry_run=True))
        look(f"merge into {branch}", eyes.merge_branch("main", target=branch, dry_run=True))
    for branch in (branch.name for branch in found):
        at = eyes.on_branch(branch)
        look(f"list {branch}", at.list())
        look(f"messages {branch}", at.list(memory_type="message"))
        look(f"versions {branch}", at.list(include_superseded=True))
        look(f"timeline {branch}", eyes.timeline(branch=branch, limit=10_000))
        if branch != "main":
            look(f"diff {branch}", eyes.diff_branch(branch))
            look(f"diff main {branch}", eyes.diff_branch("main", branch))
        for entry in at.list():
            look(f"history {branch} {entry.entry_key}", at.history(entry.entity_path, entry.key))
            look(f"blame {branch} {entry.entry_key}", at.blame(entry.entity_path, entry.key))
        for seq in range(0, newest + 1, 7):
            look(f"at {seq} {branch}", at.list(at=seq))
    for event in eyes.timeline(agent_id="*", limit=10_000)[::5]:
        look(f"at {event.created_at}", eyes.list(at=event.created_at))
    return seen


# --- child processes -------------------------------------------------------------------------------------------------


def hold_open(outbox: Outbox, database: Path) -> None:
    """Open a database and do nothing with it until told to close it."""
    with AgentMemory("idle", database):
        outbox.send("open")
        outbox.wait()


def write_on(outbox: Outbox, database: Path) -> NoReturn:
    """Write pairs in one transaction each, on and on, and acknowledge each by its number."""
    mem = AgentMemory("writer", database)
    for number in count(1):
        with mem.transaction() as tx:
            tx.write("svc", f"a{number % 50}", number)
            tx.write("svc", f"b{number % 50}", [number, "x" * (number % 7) * 100])
        outbox.send(number)
    raise AssertionError


def restore_and_die(outbox: Outbox, path: Path, source: Path, kill_at: int) -> None:
    """Restore a backup and die by SIGKILL before the step number ``kill_at``; send their number if there are fewer.

    A step is a statement that is no SELECT, or a change to files.
    """
    steps, armed = 0, False

    def step() -> None:
        nonlocal steps
        if steps == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1

    def on_statement(statement: str) -> None:
        if armed and not statement.startswith(("SELECT", "WITH")):
            step()

    def on_audit(event: str, _arguments: Any) -> None:
        if armed and event in CHANGES_FILES:
            step()

    sys.addaudithook(on_audit)
    with watching(on_statement):
        armed = True
        AgentMemory.restore(path, source)
        armed = False
    outbox.send(steps)


def fail_on_a_full_disk(_outbox: Outbox, database: Path, backup: Path) -> list[str]:
    """Back up and export where no file can grow beyond a few pages, and return the names of the errors."""
    import resource  # there is none on Windows

    errors: list[str] = []
    with AgentMemory("ada", database, read_events="off") as mem:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
        for call in (mem.backup, mem.export_namespace):
            try:
                call(backup)
            except AMFSError as error:
                errors.append(type(error).__name__)
    return errors
