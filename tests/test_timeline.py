"""The timeline: what makes an event, how events read, filters and pages, and that time never goes back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from amfs import (
    AgentMemory,
    AMFSError,
    BranchNotFoundError,
    Delete,
    Event,
    EventType,
    InvalidInputError,
    Put,
    StaleWriteError,
)

P, K = "checkout-service", "retry-pattern"

PROMISED = [
    "write", "outcome", "cross_agent_read", "brief_compiled", "webhook_ingested", "branch_created", "branch_merged",
    "branch_closed", "access_granted", "access_revoked", "tag_created", "rollback", "cherry_pick", "fork", "delete",
    "read", "tag_deleted", "pull_request_opened", "pull_request_reviewed", "pull_request_merged",
    "pull_request_closed", "conflict_resolved", "context",
]  # fmt: skip


def test_the_event_types_are_exactly_those_promised() -> None:
    assert {member.value for member in EventType} == set(PROMISED)


# --- what makes an event ---------------------------------------------------------------------------------------------

Act = Callable[[AgentMemory], Any]

EVENTS: dict[str, tuple[Act, str, str, str, dict[str, Any]]] = {
    "write": (
        lambda mem: mem.write(P, "new", 1, confidence=0.85, memory_type="belief"),
        "write", "main", f"Wrote {P}/new v1",
        {"entity_path": P, "key": "new", "version": 1, "confidence": 0.85, "memory_type": "belief", "shared": True},
    ),
    "write on a branch": (
        lambda mem: mem.write(P, K, 3, branch="x"),
        "write", "x", f"Wrote {P}/{K} v3",
        {"entity_path": P, "key": K, "version": 3, "confidence": 1.0, "memory_type": "fact", "shared": True},
    ),
    "transaction": (
        lambda mem: _transaction(mem, "why"),
        "write", "main", f"Wrote {P}/{K} v3",
        {"entity_path": P, "key": K, "version": 3, "confidence": 1.0, "memory_type": "fact", "shared": True,
         "message": "why"},
    ),
    "delete": (
        lambda mem: mem.delete(P, K),
        "delete", "main", f"Deleted {P}/{K} v3", {"entity_path": P, "key": K, "version": 3},
    ),
    "outcome": (
        lambda mem: mem.commit_outcome("INC-1", "minor_failure", [(P, K)], causal_confidence=0.5, summary="slow"),
        "outcome", "main", "Outcome INC-1: minor_failure (1 entry updated)",
        {"outcome_ref": "INC-1", "outcome_type": "minor_failure", "causal_confidence": 0.5, "causal_entries": 1,
         "entries_updated": 1, "summary": "slow"},
    ),
    "branch created": (
        lambda mem: mem.create_branch("experiment/retry-v3", "Testing", source="x"),
        "branch_created", "x", "Created branch experiment/retry-v3",
        {"branch": "experiment/retry-v3", "source": "x", "description": "Testing"},
    ),
    "branch merged": (
        lambda mem: mem.merge_branch("changed"),
        "branch_merged", "main", "Merged changed: 3 entries",
        {"source": "changed", "strategy": "three_way", "merged_entries": 3, "base_branch": "main"},
    ),
    "branch closed": (
        lambda mem: mem.close_branch("x"),
        "branch_closed", "x", "Closed branch x", {"branch": "x"},
    ),
    "context": (
        lambda mem: mem.record_context("ticket", "Customers cannot pay", "jira"),
        "context", "main", "Noted ticket: Customers cannot pay",
        {"label": "ticket", "summary": "Customers cannot pay", "source": "jira"},
    ),
}  # fmt: skip


def _transaction(mem: AgentMemory, message: str) -> None:
    with mem.transaction(message) as tx:
        tx.write(P, K, 3)


@pytest.fixture
def prepared(mem: AgentMemory) -> AgentMemory:
    """Return a memory with two versions of an entry, an empty branch x and a branch that changed three entries."""
    mem.write(P, K, 1)
    mem.write(P, K, 2)
    mem.create_branch("x")
    mem.create_branch("changed")
    for key in (K, "one", "two"):
        mem.write(P, key, 3, branch="changed")
    return mem


@pytest.mark.parametrize("name", EVENTS)
def test_an_operation_is_one_typed_event(prepared: AgentMemory, clock, name: str) -> None:
    act, event_type, branch, summary, details = EVENTS[name]
    before = prepared.timeline(agent_id="*")
    clock.advance(60)
    with prepared.run("run-7"):
        act(prepared)
    event, *rest = prepared.timeline(agent_id="*")
    assert rest == before
    assert (event.event_type, event.branch, event.summary) == (event_type, branch, summary)
    assert details.items() <= event.details.items()
    assert (event.agent_id, event.actor, event.created_at) == ("alice", "alice", clock.moment)
    assert (event.session_id, event.run_id, event.group) == (prepared.session_id, "run-7", None)
    assert prepared.timeline(branch=branch, limit=1) == [event]
    assert str(event) != ""


def test_a_cross_agent_read_stands_on_the_owners_timeline_and_shows_on_the_readers(mem: AgentMemory) -> None:
    bob = mem.as_agent("bob")
    entry = mem.write(P, K, 1)
    bob.read(P, K)
    (event,) = bob.timeline()
    assert event.summary == f"bob read alice's {P}/{K} v1"
    assert (event.event_type, event.agent_id, event.actor) == ("cross_agent_read", "alice", "bob")
    assert event.details == {
        "reader_agent": "bob", "entity": f"{P}/{K}", "entity_path": P, "key": K, "version": 1, "seq": entry.seq,
    }  # fmt: skip
    assert mem.timeline(event_type="cross_agent_read") == mem.as_agent("carol").timeline(agent_id="bob") == [event]
    assert mem.as_agent("carol").timeline() == []


def test_a_large_operation_is_one_event_with_its_versions_beneath(mem: AgentMemory) -> None:
    mem.create_branch("x")
    mem.apply([Put(entity_path=P, key=f"k{number}", value=number) for number in range(300)], branch="x")
    assert mem.merge_branch("x").merged_entries == 300
    mem.commit_outcome("ref", "success", [(P, f"k{number}") for number in range(50)])
    events = mem.timeline(branch="main", limit=1000)
    assert [event.event_type for event in events] == ["outcome", "branch_merged", "branch_created"]
    assert len(mem.list(include_superseded=True)) == 350


def _fails(error: type[Exception], act: Act) -> Act:
    def attempt(mem: AgentMemory) -> None:
        with pytest.raises(error):
            act(mem)

    return attempt


SILENT: dict[str, Act] = {
    "reading": lambda mem: (mem.read(P, K), mem.read_many([(P, K)]), mem.read_from("alice", P, K)),
    "inspecting": lambda mem: (mem.list(), mem.history(P, K), mem.compare_versions(P, K), mem.stats(), mem.verify()),
    "comparing": lambda mem: (mem.diff_branch("changed"), mem.merge_branch("changed", dry_run=True), mem.branches()),
    "switching": lambda mem: (mem.switch_branch("x"), mem.switch_branch("main"), mem.on_branch("x")),
    "merging nothing": lambda mem: mem.merge_branch("x"),
    "deleting nothing": lambda mem: mem.delete(P, "none"),
    "an empty transaction": lambda mem: mem.transaction().__enter__().__class__,
    "an empty batch": lambda mem: mem.apply([Delete(entity_path=P, key="none")]),
    "a run": lambda mem: mem.run().__enter__().__exit__(None, None, None),
    "a stale write": _fails(StaleWriteError, lambda mem: mem.write(P, K, 1, expected_version=9)),
    "a write nowhere": _fails(BranchNotFoundError, lambda mem: mem.write(P, K, 1, branch="none")),
    "a branch of the same name": _fails(AMFSError, lambda mem: mem.create_branch("x")),
    "an outcome of nothing": _fails(AMFSError, lambda mem: mem.commit_outcome("r", "success", [(P, "none")])),
}


@pytest.mark.parametrize("name", SILENT)
def test_what_changes_nothing_makes_no_event(prepared: AgentMemory, name: str) -> None:
    before = prepared.timeline(agent_id="*", include_messages=True)
    SILENT[name](prepared)
    assert prepared.timeline(agent_id="*", include_messages=True) == before


# --- filters and pages -----------------------------------------------------------------------------------------------


@pytest.fixture
def busy(mem: AgentMemory, clock) -> AgentMemory:
    """Return a memory in which three agents did all kinds of things on two branches over some minutes."""
    bob, carol = mem.as_agent("bob"), mem.as_agent("carol")
    mem.write(P, K, 1)
    mem.create_branch("x")
    for number, (agent, branch) in enumerate(itertools.product((mem, bob, carol), ("main", "x"))):
        clock.advance(30)
        agent.write(P, f"{agent.agent_id}-{number}", number, branch=branch)
        agent.write("chat", f"{agent.agent_id}-{number}", "hi", memory_type="message", branch=branch)
        agent.read(P, K, branch=branch)
        agent.commit_outcome(f"ref-{number}", "success", branch=branch)
        agent.delete(P, f"{agent.agent_id}-{number}", branch=branch)
    clock.advance(30)
    mem.merge_branch("x")
    mem.delete("chat", "alice-0")
    carol.read(P, K)
    return mem


def expected(
    everything: list[Event], agent: str | None, branch: str | None, event_type: str | None, messages: bool
) -> list[Event]:
    whose = "alice" if agent is None and branch is None else None if agent in (None, "*") else agent
    return [
        event
        for event in everything
        if (whose is None or whose in (event.agent_id, event.actor))
        and branch in (None, event.branch)
        and event_type in (None, event.event_type)
        and (messages or event.details.get("memory_type") != "message")
    ]


@pytest.mark.parametrize("agent", [None, "*", "alice", "bob", "carol", "nobody"])
@pytest.mark.parametrize("branch", [None, "main", "x"])
@pytest.mark.parametrize("event_type", [None, "write", "delete", "cross_agent_read", "outcome", "fork"])
def test_every_filter_picks_what_it_says(
    busy: AgentMemory, agent: str | None, branch: str | None, event_type: str | None
) -> None:
    everything = busy.timeline(agent_id="*", limit=1000, include_messages=True)
    assert [event.seq for event in everything] == sorted({event.seq for event in everything}, reverse=True)
    filters = {"agent_id": agent, "branch": branch, "event_type": event_type}
    for messages in (False, True):
        wanted = expected(everything, agent, branch, event_type, messages)
        assert busy.timeline(limit=1000, include_messages=messages, **filters) == wanted
        pages, cursor = [], None
        while True:
            page = busy.timeline(limit=4, cursor=cursor, include_messages=messages, **filters)
            pages += page
            cursor = page.next_cursor
            if cursor is None:
                break
            assert len(page) == 4
        assert pages == wanted


def test_since_and_until_include_both_ends_by_seq_and_by_time(busy: AgentMemory) -> None:
    everything = busy.timeline(limit=1000)
    assert len(everything) > 10
    for first, last in itertools.product(everything[::3], everything[::4]):
        wanted = [event for event in everything if first.seq <= event.seq <= last.seq]
        assert busy.timeline(since=first.seq, until=last.seq, limit=1000) == wanted
        same_time = [event for event in everything if first.created_at <= event.created_at <= last.created_at]
        assert busy.timeline(since=first.created_at, until=last.created_at, limit=1000) == same_time
    assert busy.timeline(since=10**9) == []


def test_the_newest_fifty_come_first(mem: AgentMemory) -> None:
    for number in range(60):
        mem.write(P, K, number)
    events = mem.timeline()
    assert [event.details["version"] for event in events] == list(range(60, 10, -1))
    assert [event.details["version"] for event in mem.timeline(cursor=events.next_cursor)] == list(range(10, 0, -1))


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"event_type": "wrote"}, InvalidInputError), ({"branch": "none"}, BranchNotFoundError),
        ({"agent_id": ""}, InvalidInputError), ({"limit": 0}, InvalidInputError), ({"since": "//"}, InvalidInputError),
        ({"limit": None}, InvalidInputError),
    ],
)  # fmt: skip
def test_a_query_that_makes_no_sense_is_refused(
    mem: AgentMemory, query: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        mem.timeline(**query)


# --- time ------------------------------------------------------------------------------------------------------------


def test_created_at_is_the_clock_unless_that_went_back(mem: AgentMemory, clock) -> None:
    moments = []
    for step in (0, 5, -86_400, 0, 0, 86_399, 10, 3650 * 86_400, -1, 2):
        clock.advance(step)
        moments.append(clock.now)
        mem.write(P, K, len(moments))
    dated, last = [], 0
    for now in moments:
        last = max(now, last + 1)
        dated.append(last)
    events = mem.timeline()[::-1]
    assert [round(event.created_at.timestamp() * 1_000_000) for event in events] == dated
    for event in events:
        assert mem.read(P, K, at=event.created_at).version == event.details["version"]
        assert mem.read(P, K, at=event.seq).written_at == event.created_at


def test_events_of_one_commit_have_one_time_and_a_group(mem: AgentMemory, clock) -> None:
    mem.apply([Put(entity_path=P, key=key, value=1) for key in "abc"])
    mem.write(P, "d", 1)
    *batch, single = mem.timeline()[::-1]
    assert {event.created_at for event in batch} == {clock.moment}
    assert {event.group for event in batch} == {batch[0].seq}
    assert single.group is None
    assert single.created_at > clock.moment
