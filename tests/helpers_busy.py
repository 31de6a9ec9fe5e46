"""A database in which everything that can be stored has been stored, and all that can be read of one."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from amfs import AgentMemory, Blob, Checkpoints, Cortex, PendingWrite, Principal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

P, K = "svc", "config"


def build(database: Path, entries: int = 30, clock: Callable[[], int] | None = None) -> None:
    """Use every verb that writes: agents, private entries, branches of branches, a fork and an older import."""
    older = database.with_name("older.jsonl")
    with AgentMemory("dora", ":memory:", clock=lambda: 1_700_000_000_000_000) as mem:
        mem.write(P, K, "dora's")
        mem.create_branch("idea")
        mem.export_namespace(older)
    with AgentMemory("alice", database, durability="normal", clock=clock) as mem:
        bob = mem.as_agent("bob")
        _write(mem, bob, entries)
        _branch(mem, bob)
        _judge(mem, bob)
        _review(mem, bob)
        _share(mem)
        _brief(mem, bob)
        _check(mem)
        mem.fork("carol")
        bob.read(P, "own")
    with closing(AgentMemory("carol", database, durability="normal", clock=clock)) as carol:
        carol.write(P, K, "carol's")
        carol.create_branch("own work", "of a fork")
    with AgentMemory("dora", database, namespace="theirs", durability="normal", clock=clock) as dora:
        dora.import_namespace(older)
        dora.write(P, K, "dora's again")
    older.unlink()
    with AgentMemory("alice", database, namespace="carol", durability="normal", clock=clock) as guest:
        guest.write(P, "own", "a guest's", shared=False)
        guest.fork("erin")
    with AgentMemory("alice", database, durability="normal", clock=clock, embed=embed) as finder:
        finder.search("config", branch=["main", "x"])
        finder.search("hello", memory_type="message", at=finder.tags()[0].seq)


def embed(texts: list[str]) -> list[list[float]]:
    """Return a vector of letter counts for each text."""
    return [[1.0, *(float(text.count(letter)) for letter in "aeinost")] for text in texts]


def _write(mem: AgentMemory, bob: AgentMemory, entries: int) -> None:
    with mem.transaction("many") as tx:
        for number in range(entries):
            tx.write(f"{P}/{number % 3}", f"{K}{number}", {"n": number, "text": "x" * (number % 100)})
    for number in range(entries // 3):
        bob.write(f"{P}/0", f"{K}{number * 3}", {"n": number, "by": "bob"})
    mem.write(P, K, {"a": 1, "b": 1})
    mem.write(P, "long", "x" * 5000)
    mem.write(P, "long", "x" * 5000, confidence=0.5)
    mem.write(P, "brief", 1, ttl=timedelta(days=9000), pattern_refs=["a", "b"], idempotency_key="token")
    mem.write(P, "own", 1, shared=False)
    bob.write(P, "own", 2, shared=False)
    bob.write("chat", "1", "hello", memory_type="message")
    mem.write(P, "gone", 1)
    mem.delete(P, "gone")


def _branch(mem: AgentMemory, bob: AgentMemory) -> None:
    mem.create_tag("before", "all was well")
    mem.create_branch("x", "tries this")
    mem.create_branch("x/y", source="x")
    bob.write(P, K, {"a": 2, "b": 1}, branch="x")
    bob.write(P, "deep", "x" * 2000, branch="x/y")
    mem.merge_branch("x/y", target="x", close=True)
    mem.write(P, K, {"a": 1, "b": 3})
    mem.merge_branch("x")
    mem.create_tag("between", branch="x")
    mem.create_tag("passing")
    mem.delete_tag("passing")
    mem.write(P, "mistake", 1)
    mem.rollback(seq=mem.create_tag("after").seq - 2)
    bob.write(P, "bob's", 1)
    mem.rollback(agent_id="bob", seq=mem.create_tag("late").seq - 2)
    picked = bob.write(P, "picked", [1, 2], branch="x")
    mem.cherry_pick("x", [picked])


def _judge(mem: AgentMemory, bob: AgentMemory) -> None:
    with bob.run("late"):
        bob.read(P, "picked")
        mem.write(P, "picked", "anew")
        bob.commit_outcome("late", "success")
    with bob.run("r", thread_id="thread", metadata={"model": "m"}), bob.experiment("e", params={"a": 1}) as exp:
        bob.read(P, K)
        bob.record_context("ticket", "it burns", "pager")
        bob.commit_outcome("ref", "failure", run_id="r")
        bob.read(P, "long")
        bob.write(P, "own", 3, shared=False)
        bob.commit_outcome("ref", "success", [(P, "long"), (P, "own")], summary="as told")
        exp.log(score=1)
    exp.merge()
    with pytest.raises(ZeroDivisionError), mem.experiment("f", params={"b": [1]}):
        raise ZeroDivisionError
    with mem.experiment("e") as other:
        other.log(score=0)
    other.discard()
    with mem.run("read only"):
        mem.read(P, "picked")
        mem.read(f"{P}/0", f"{K}0")


def _review(mem: AgentMemory, bob: AgentMemory) -> None:
    for name in ("fix", "other", "third", "fourth"):
        mem.create_branch(name)
        mem.write(P, K, {"a": name, "b": 5}, branch=name)
        mem.write(P, f"{K} of {name}", 1, branch=name)
    request = mem.create_pull_request("A fix", "fix", description="it burnt")
    bob.review_pull_request(request.id, "changes_requested", "please")
    bob.review_pull_request(request.id, "approved")
    mem.merge_pull_request(request.id)
    mem.close_pull_request(mem.create_pull_request("Another", "other").id)
    open_request = mem.create_pull_request("A third", "third")
    for name in ("other", "third", "fourth"):
        mem.write(P, f"{K} of {name}", 2)
    first, second = mem.merge_branch("other", strategy="manual").conflicts
    mem.resolve_conflict(first.id, take="source")
    bob.resolve_conflict(second.id, value={"a": "settled"})
    third = mem.merge_branch("third", strategy="manual", paths=[P]).conflicts
    mem.resolve_conflict(third[0].id, take="target")
    mem.merge_pull_request(open_request.id, strategy="manual")
    mem.merge_branch("fourth", strategy="manual")
    mem.merge_branch("fourth", strategy="source_wins")


def _share(mem: AgentMemory) -> None:
    mem.grant_branch_access("x", "user", "ursula", "read")
    mem.grant_branch_access("x", "user", "ursula", "read_write")
    mem.grant_branch_access("x", "team", "core", "read")
    mem.revoke_branch_access("x", "team", "core")
    used = mem.create_api_key("of bob", agent_ids=["bob"], role="writer", expires=timedelta(days=9000))
    mem.revoke_api_key(mem.create_api_key("lost", agent_ids=["*"], role="reader").id)
    mem.grant_branch_access("x", "api_key", used.id, "read")
    keyed = AgentMemory("bob", mem.database, principal=Principal(api_key=used.key), clock=mem._clock)
    with closing(keyed):
        keyed.create_branch("of the key")
        keyed.write(P, K, 1, branch="of the key")


def _brief(mem: AgentMemory, bob: AgentMemory) -> None:
    Cortex(mem, [P], writer=str.title).refresh()
    Cortex(mem, branch="x/y").refresh()
    bob.brief(P, "alice", limit=1)


def _check(mem: AgentMemory) -> None:
    threads, text = Checkpoints(mem), [Blob("text", f"message {number}".encode()) for number in range(20)]
    for number in range(1, 9):
        channels = {"messages": text[: number * 2], "count": Blob("number", str(number).encode())}
        threads.put("t", f"{number:03}", text[0], channels, parent=f"{number - 1:03}", run="r", metadata={"n": number})
        writes = [PendingWrite(f"task {number}", place, "messages", [text[place]], "path") for place in range(2)]
        threads.put_writes("t", f"{number:03}", [*writes, PendingWrite("last", -1, "error", Blob("text", b"oh"))])
    threads.put("t", "001", text[1], {"messages": text[:1]}, scope="inner", branch="x")
    threads.fork("t", "004", "experiment/back", "t/back")
    threads.copy("t", "another")
    threads.prune(["another"])


def everything(mem: AgentMemory) -> list[Any]:
    """Return all that can be read of a namespace."""
    seen: list[Any] = [*mem.branches(), *mem.list(), *mem.list(include_superseded=True)]
    for branch in mem.branches():
        seen += mem.list(P, branch=branch.name)
        seen += mem.timeline(branch=branch.name, limit=100_000)
        seen += mem.branch_access(branch.name)
    seen += [mem.explain(ref) for ref in ("ref", "late") if mem.timeline(agent_id="bob")]
    for page in (mem.tags(), mem.pull_requests(), mem.conflicts(status=None), mem.api_keys(), mem.experiments()):
        seen += page
    return seen
