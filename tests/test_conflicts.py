"""Concurrent writes of one key: the policies, compare-and-set, resolvers, and what counts as moved."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from amfs import (
    AgentMemory,
    ConflictPolicy,
    ContentionError,
    Entry,
    Get,
    InvalidValueError,
    Put,
    StaleWriteError,
)

P, K = "svc", "config"
OpenMemory = Callable[..., AgentMemory]


def merge_from_branch(memory: AgentMemory, value: Any) -> None:
    memory.create_branch("side")
    memory.write(P, K, value, branch="side")
    memory.merge_branch("side", strategy="source_wins")


def delete_and_write(memory: AgentMemory, value: Any) -> None:
    memory.delete(P, K)
    memory.write(P, K, value)


def away_and_back(memory: AgentMemory) -> None:
    memory.write(P, K, "away")
    memory.write(P, K, {"v": 1})


MOVES: dict[str, tuple[Callable[[AgentMemory], Any], bool]] = {
    "another value": (lambda bob: bob.write(P, K, {"v": 2}), True),
    "another type": (lambda bob: bob.write(P, K, {"v": 1.0}), True),
    "deleted": (lambda bob: bob.delete(P, K), True),
    "merged another value": (lambda bob: merge_from_branch(bob, {"v": 2}), True),
    "in a batch": (lambda bob: bob.apply([Put(entity_path=P, key=K, value=2)]), True),
    "the same value": (lambda bob: bob.write(P, K, {"v": 1}), False),
    "another confidence": (lambda bob: bob.write(P, K, {"v": 1}, confidence=0.1), False),
    "another type of memory": (lambda bob: bob.write(P, K, {"v": 1}, memory_type="belief"), False),
    "an outcome": (lambda bob: bob.commit_outcome("ref", "failure", [(P, K)]), False),
    "merged the same value": (lambda bob: merge_from_branch(bob, {"v": 1}), False),
    "away and back": (away_and_back, False),
    "deleted and the same again": (lambda bob: delete_and_write(bob, {"v": 1}), False),
    "on another branch": (lambda bob: bob.create_branch("b") and bob.write(P, K, 2, branch="b"), False),
    "another key": (lambda bob: bob.write(P, "other", 2), False),
    "a private entry": (lambda bob: bob.write(P, K, 2, shared=False), False),
    "nothing": (lambda _: None, False),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("contact", ["read", "read_many", "write", "batch", "transaction"])
def test_raise_refuses_exactly_when_the_value_moved_since_the_last_contact(
    open_memory: OpenMemory, move: str, contact: str
) -> None:
    mem = open_memory(conflict_policy="raise")
    bob = open_memory("bob")
    change, moved = MOVES[move]
    (mem if contact == "write" else bob).write(P, K, {"v": 1})
    if contact == "read":
        mem.read(P, K)
    elif contact == "read_many":
        mem.read_many([f"{P}/{K}"])
    elif contact == "batch":
        mem.apply([Get(entity_path=P, key=K)])
    elif contact == "transaction":
        with mem.transaction() as tx:
            tx.read(P, K)
    change(bob)
    if not moved:
        mem.write(P, K, "mine")
        assert mem.read(P, K).value == "mine"
        return
    before = bob.timeline(agent_id="*")
    for _ in range(2):
        with pytest.raises(StaleWriteError) as caught:
            mem.write(P, K, "mine")
    current = bob.read(P, K)
    assert (caught.value.expected, caught.value.actual) == (1, 0 if current is None else current.version)
    assert [event for event in bob.timeline(agent_id="*") if event.event_type != "cross_agent_read"] == [
        event for event in before if event.event_type != "cross_agent_read"
    ]
    mem.read(P, K)
    assert mem.write(P, K, "mine").value == "mine"


def test_raise_judges_deletions_as_well(open_memory: OpenMemory) -> None:
    mem, bob = open_memory(conflict_policy=ConflictPolicy.RAISE), open_memory("bob")
    mem.write(P, K, 1)
    bob.write(P, K, 2)
    with pytest.raises(StaleWriteError) as caught:
        mem.delete(P, K)
    assert (caught.value.expected, caught.value.actual) == (1, 2)
    mem.read(P, K)
    assert mem.delete(P, K) is True
    bob.write(P, K, 3)
    with pytest.raises(StaleWriteError) as caught:
        mem.write(P, K, 4)
    assert (caught.value.expected, caught.value.actual) == (0, 4)


def test_an_entry_seen_to_be_absent_moves_when_it_is_made(open_memory: OpenMemory) -> None:
    mem, bob = open_memory(conflict_policy="raise"), open_memory("bob")
    assert mem.read(P, K) is None
    bob.write(P, K, 1)
    with pytest.raises(StaleWriteError) as caught:
        mem.write(P, K, 2)
    assert (caught.value.expected, caught.value.actual) == (0, 1)


@pytest.mark.parametrize(
    "look",
    [
        lambda _: None,
        lambda mem: mem.list(P),
        lambda mem: mem.history(P, K),
        lambda mem: mem.read(P, K, at=mem.timeline(agent_id="*")[0].seq),
        lambda mem: mem.compare_versions(P, K),
        lambda mem: mem.read(P, K, branch="x"),
        lambda mem: mem.as_agent("bob").read(P, K),
        lambda mem: mem.read(P, "other"),
    ],
    ids=["nothing", "list", "history", "past", "compare", "branch", "handle", "key"],
)
def test_what_was_never_read_is_no_conflict(open_memory: OpenMemory, look: Callable[[AgentMemory], Any]) -> None:
    mem, bob = open_memory(conflict_policy="raise"), open_memory("bob")
    bob.write(P, K, 1)
    bob.create_branch("x")
    look(mem)
    bob.write(P, K, 2)
    assert mem.write(P, K, 3).version == 3


def test_a_view_of_a_handle_sees_for_it_and_another_agent_does_not(open_memory: OpenMemory) -> None:
    mem, bob = open_memory(conflict_policy="raise"), open_memory("bob")
    bob.write(P, K, 1)
    mem.on_branch("main").read(P, K)
    other = mem.as_agent("carol")
    bob.write(P, K, 2)
    assert other.write(P, K, 3).version == 3
    with pytest.raises(StaleWriteError):
        mem.write(P, K, 4)


def test_whoever_moved_it_even_the_handle_itself(open_memory: OpenMemory) -> None:
    mem = open_memory(conflict_policy="raise")
    mem.write(P, K, 1)
    merge_from_branch(mem, 2)
    with pytest.raises(StaleWriteError):
        mem.write(P, K, 3)


@pytest.mark.parametrize("move", MOVES)
def test_last_write_wins_never_fails(open_memory: OpenMemory, move: str) -> None:
    mem, bob = open_memory(), open_memory("bob")
    mem.write(P, K, {"v": 1})
    mem.read(P, K)
    MOVES[move][0](bob)
    assert mem.write(P, K, "mine").value == "mine"
    assert mem.history(P, K)[0].value == {"v": 1}, "and nothing is lost"


# --- batches ---------------------------------------------------------------------------------------------------------


def test_what_a_batch_reads_was_not_seen_when_the_batch_was_made(open_memory: OpenMemory) -> None:
    mem, bob = open_memory(conflict_policy="raise"), open_memory("bob")
    mem.write(P, K, 1)
    bob.write(P, K, 2)
    with pytest.raises(StaleWriteError):
        mem.apply([Get(entity_path=P, key=K), Put(entity_path=P, key=K, value=3)])
    assert bob.read(P, K).value == 2


def test_a_batch_that_failed_has_seen_nothing(open_memory: OpenMemory) -> None:
    mem, bob = open_memory(conflict_policy="raise"), open_memory("bob")
    for key in (K, "other"):
        mem.write(P, key, 1)
        bob.write(P, key, 2)
    with pytest.raises(StaleWriteError):
        mem.apply([Get(entity_path=P, key=K), Put(entity_path=P, key="other", value=3)])
    with pytest.raises(StaleWriteError):
        mem.write(P, K, 3)


def test_one_moved_key_stops_the_whole_transaction(open_memory: OpenMemory) -> None:
    mem, bob = open_memory(conflict_policy="raise"), open_memory("bob")
    mem.write(P, K, 1)

    def change_both() -> None:
        with mem.transaction() as tx:
            tx.write(P, "new", 1)
            bob.write(P, K, 2)
            tx.write(P, K, 3)

    with pytest.raises(StaleWriteError):
        change_both()
    assert mem.read(P, "new") is None


# --- resolvers -------------------------------------------------------------------------------------------------------


def three(calls: list[Any]) -> Callable[..., Any]:
    def resolve(existing: Entry, incoming: Entry, value: Any) -> Any:
        calls.append((existing, incoming, value))
        return {**existing.value, **value}

    return resolve


def four(calls: list[Any]) -> Callable[..., Any]:
    def resolve(existing: Entry, incoming: Entry, value: Any, base: Entry | None) -> Any:
        calls.append((existing, incoming, value, base))
        return {**existing.value, **value}

    return resolve


def varargs(calls: list[Any]) -> Callable[..., Any]:
    def resolve(*arguments: Any) -> Any:
        calls.append(arguments)
        return {**arguments[0].value, **arguments[2]}

    return resolve


class Method:
    """A resolver that is a method."""

    def __init__(self, calls: list[Any]) -> None:
        self.resolve = four(calls)

    def method(self, existing: Entry, incoming: Entry, value: Any, base: Entry | None) -> Any:
        return self.resolve(existing, incoming, value, base)


RESOLVERS: dict[str, Callable[[list[Any]], Callable[..., Any]]] = {
    "three": three,
    "four": four,
    "method": lambda calls: Method(calls).method,
    "partial": lambda calls: functools.partial(four(calls)),
    "varargs": varargs,
    "keywords": lambda calls: lambda existing, incoming, value, **_: three(calls)(existing, incoming, value),
}


@pytest.mark.parametrize("kind", RESOLVERS)
def test_a_resolver_gets_both_sides_and_if_it_takes_it_the_base(open_memory: OpenMemory, kind: str) -> None:
    calls: list[Any] = []
    mem, bob = open_memory(on_conflict=RESOLVERS[kind](calls), conflict_policy="raise"), open_memory("bob")
    base = mem.write(P, K, {"a": 1})
    theirs = bob.write(P, K, {"b": 1})
    result = mem.write(P, K, {"c": 1}, confidence=0.5, ttl=60)
    ((existing, incoming, value, *rest),) = calls
    assert (existing, value) == (theirs, {"c": 1})
    assert rest == ([] if kind in ("three", "keywords") else [base])
    assert (incoming.value, incoming.version, incoming.agent_id, incoming.confidence) == ({"c": 1}, 3, "alice", 0.5)
    assert (result.value, result.version, result.confidence) == ({"b": 1, "c": 1}, 3, 0.5)
    assert (result.agent_id, mem.read(P, K)) == ("alice", result)
    mem.write(P, K, {"d": 1})
    assert len(calls) == 1, "its own write is no conflict"


@pytest.mark.parametrize("move", MOVES)
def test_a_resolver_is_asked_exactly_when_the_value_moved(open_memory: OpenMemory, move: str) -> None:
    asked: list[Any] = []

    def resolve(existing: Entry | None, _: Entry, value: Any, base: Entry | None) -> Any:
        asked.append((existing, base and base.value))
        return [value]

    mem, bob = open_memory(on_conflict=resolve), open_memory("bob")
    mem.write(P, K, {"v": 1})
    MOVES[move][0](bob)
    current = bob.read(P, K) if MOVES[move][1] else None
    mem.write(P, K, "mine")
    assert asked == ([(current, {"v": 1})] if MOVES[move][1] else [])
    assert mem.read(P, K).value == (["mine"] if asked else "mine")


def test_a_resolver_runs_outside_any_transaction_and_may_use_the_memory(open_memory: OpenMemory) -> None:
    bob = open_memory("bob")

    def resolve(existing: Entry, _: Entry, value: int) -> int:
        bob.write(P, "by bob", 1)
        mem.write(P, "by alice", 1)
        assert mem.read(P, K) == existing
        return existing.value + value

    mem = open_memory(on_conflict=resolve)
    mem.write(P, K, 1)
    bob.write(P, K, 10)
    assert mem.write(P, K, 5).value == 15
    assert {entry.key for entry in mem.list()} == {K, "by bob", "by alice"}


@pytest.mark.parametrize("races", [1, 9, 10, 1000])
def test_a_resolver_that_loses_ten_races_gives_up(open_memory: OpenMemory, races: int) -> None:
    seen: list[int] = []
    bob = open_memory("bob")

    def resolve(existing: Entry, _: Entry, value: str) -> str:
        seen.append(existing.value)
        if len(seen) <= races:
            bob.write(P, K, existing.value + 1)
        return f"{value} over {existing.value}"

    mem = open_memory(on_conflict=resolve)
    mem.write(P, K, -1)
    bob.write(P, K, 0)
    if races < 10:
        assert mem.write(P, K, "mine").value == f"mine over {races}"
        assert seen == list(range(races + 1)), "it is asked anew about every value that came in between"
        return
    with pytest.raises(ContentionError):
        mem.write(P, K, "mine")
    assert {entry.agent_id for entry in mem.history(P, K)[1:]} == {"bob"}


def test_the_base_stays_what_the_value_was_made_from_however_often_the_resolver_is_asked(
    open_memory: OpenMemory,
) -> None:
    bases: list[int] = []
    bob = open_memory("bob")

    def resolve(existing: Entry, _: Entry, value: int, base: Entry) -> int:
        bases.append(base.value)
        if len(bases) < 4:
            bob.write(P, K, existing.value + 10)
        return existing.value + value - base.value

    mem = open_memory(on_conflict=resolve)
    mem.write(P, K, 0)
    bob.write(P, K, 10)
    assert mem.write(P, K, 1).value == 41
    assert bases == [0, 0, 0, 0]


def test_a_resolver_that_failed_is_asked_again_on_the_next_try(open_memory: OpenMemory) -> None:
    tries: list[int] = []

    def resolve(existing: Entry, _: Entry, value: int) -> list[int]:
        tries.append(value)
        if len(tries) == 1:
            raise ZeroDivisionError
        return [existing.value, value]

    mem, bob = open_memory(on_conflict=resolve), open_memory("bob")
    mem.write(P, K, 0)
    bob.write(P, K, 10)
    with pytest.raises(ZeroDivisionError):
        mem.write(P, K, 1)
    assert mem.write(P, K, 1).value == [10, 1]


@pytest.mark.parametrize("answer", [float("nan"), {1: 2}, object()], ids=["nan", "key", "object"])
def test_an_answer_that_is_no_value_is_refused(open_memory: OpenMemory, answer: Any) -> None:
    mem, bob = open_memory(on_conflict=lambda *_: answer), open_memory("bob")
    mem.write(P, K, 1)
    bob.write(P, K, 2)
    with pytest.raises(InvalidValueError, match="on_conflict"):
        mem.write(P, K, 3)
    assert bob.read(P, K).value == 2


def test_an_exception_in_a_resolver_is_the_callers_and_nothing_is_written(open_memory: OpenMemory) -> None:
    def resolve(*_: Any) -> Any:
        raise ZeroDivisionError("mine")

    mem, bob = open_memory(on_conflict=resolve), open_memory("bob")
    mem.write(P, K, 1)
    bob.write(P, K, 2)
    with pytest.raises(ZeroDivisionError, match="mine"):
        mem.apply([Put(entity_path=P, key="other", value=1), Put(entity_path=P, key=K, value=3)])
    assert [entry.value for entry in bob.list()] == [2]


def test_a_resolver_settles_every_key_of_a_transaction(open_memory: OpenMemory) -> None:
    mem, bob = open_memory(on_conflict=lambda existing, _, value: existing.value + value), open_memory("bob")
    for key in ("a", "b", "c"):
        mem.write(P, key, 0)
    with mem.transaction() as tx:
        for key in ("a", "b", "c"):
            tx.write(P, key, 1)
        bob.write(P, "a", 10)
        bob.write(P, "c", 30)
    assert [entry.value for entry in mem.list(P)] == [11, 1, 31]
    assert len({event.group for event in mem.timeline(limit=3, agent_id="alice")}) == 1


def test_a_retry_of_a_resolved_write_returns_it(open_memory: OpenMemory) -> None:
    mem = open_memory(on_conflict=lambda existing, _, value: {**existing.value, **value})
    mem.write(P, K, {"a": 1})
    open_memory("bob").write(P, K, {"b": 1})
    resolved = mem.write(P, K, {"c": 1}, idempotency_key="once")
    assert mem.write(P, K, {"c": 1}, idempotency_key="once") == resolved
    assert resolved.value == {"b": 1, "c": 1}


# --- threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["expected", "raise", "resolver"])
def test_two_writers_lose_no_update(open_memory: OpenMemory, how: str) -> None:
    rounds, options = 40, {"raise": {"conflict_policy": "raise"}, "expected": {}, "resolver": {}}[how]
    if how == "resolver":
        options = {"on_conflict": lambda existing, _, value, base: existing.value + value - base.value}
    open_memory("setup").write(P, K, 0)
    failures: list[BaseException] = []

    def count(mem: AgentMemory) -> None:
        done = 0
        while done < rounds:
            current = mem.read(P, K)
            try:
                expected = current.version if how == "expected" else None
                mem.write(P, K, current.value + 1, expected_version=expected)
                done += 1
            except (StaleWriteError, ContentionError):  # nothing was written; ten races may be lost to a busy writer
                continue
            except BaseException as error:  # noqa: BLE001 - shown by the test that waits for the thread
                failures.append(error)
                return

    handles = [open_memory(name, **options) for name in ("alice", "bob")]
    threads = [threading.Thread(target=count, args=[handle]) for handle in handles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    final = handles[0].read(P, K)
    assert (final.value, final.version) == (2 * rounds, 2 * rounds + 1)


def test_what_a_resolver_writes_itself_is_no_conflict_and_is_settled_too(file_mem: AgentMemory) -> None:
    asked: list[tuple[object, object]] = []

    def settle(existing: Entry, _incoming: Entry, value: object, base: Entry) -> str:
        asked.append((existing.value, base.value))
        if len(asked) < 3:
            careful.write("svc", "config", f"by the resolver {len(asked)}")
        return f"settled {value}"

    with AgentMemory("careful", file_mem.database, on_conflict=settle, durability="normal") as careful:
        careful.write("svc", "config", "first")
        file_mem.write("svc", "config", "theirs")
        assert careful.write("svc", "config", "ours").value == "settled ours"
        written = [entry.value for entry in careful.history("svc", "config")]
    assert asked == [("theirs", "first"), ("by the resolver 1", "first"), ("by the resolver 2", "first")]
    assert written == ["first", "theirs", "by the resolver 1", "by the resolver 2", "settled ours"]
