"""Blame says which version brought what an entry holds, as a whole and field by field."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from amfs import AgentMemory, EntryNotFoundError, Principal
from amfs.models import Blame, EventType, Origin
from tests.helpers_statements import metering

P, K = "svc", "config"


def origins(found: Blame) -> dict[str, Origin]:
    """Return every origin of an entry by its pointer, the whole first."""
    return {one.path: one for one in (found.origin, *found.fields)}


def brought(found: Blame) -> dict[str, tuple[str, int]]:
    """Return who wrote what stands at each pointer, and the seq of the version that brought it."""
    return {path: (one.version.agent_id, one.version.seq) for path, one in origins(found).items()}


def test_every_field_has_the_version_that_brought_what_stands_there(mem: AgentMemory) -> None:
    bob = mem.as_agent("bob")
    first = mem.write(P, K, {"a": 1, "b": {"c": [1, 2], "d": None}})
    second = bob.write(P, K, {"a": 1, "b": {"c": [1, 2], "d": 5}})
    third = mem.write(P, K, {"a": 1.0, "b": {"c": [1, 2], "d": 5}, "e": {}})
    found = mem.blame(P, K)
    assert found.entry == mem.read(P, K)
    assert brought(found) == {
        "": ("alice", third.seq),
        "/a": ("alice", third.seq),  # 1.0 is another value than 1
        "/b": ("bob", second.seq),
        "/b/c": ("alice", first.seq),
        "/b/d": ("bob", second.seq),
        "/e": ("alice", third.seq),
    }
    assert [one.path for one in found.fields] == ["/a", "/b", "/b/c", "/b/d", "/e"]
    assert {one.path: one.value for one in found.fields}["/b"] == {"c": [1, 2], "d": 5}
    assert (found.origin.value, found.origin.version) == (found.entry.value, found.entry)
    assert origins(found)["/b/c"].version.superseded
    for one in origins(found).values():
        assert (one.event_type, one.event) == (EventType.WRITE, one.version.seq)
        assert (one.merges, one.outcomes) == ((), ())


def test_a_value_that_left_and_came_back_was_brought_by_whoever_brought_it_back(mem: AgentMemory) -> None:
    mem.write(P, K, {"a": 1, "b": 1})
    mem.write(P, K, {"b": 1})
    again = mem.as_agent("bob").write(P, K, {"a": 1, "b": 1})
    assert brought(mem.blame(P, K))["/a"] == ("bob", again.seq)
    mem.delete(P, K)
    anew = mem.write(P, K, {"a": 1, "b": 1})
    assert set(brought(mem.blame(P, K)).values()) == {("alice", anew.seq)}


def test_what_expired_before_the_next_version_came_does_not_count(mem: AgentMemory, clock) -> None:
    mem.write(P, K, 1, ttl=5)
    renewed = mem.write(P, K, 1, ttl=5)
    assert mem.blame(P, K).origin.version.seq < renewed.seq
    clock.advance(10)
    with pytest.raises(EntryNotFoundError, match="svc/config on branch 'main'"):
        mem.blame(P, K)
    anew = mem.as_agent("bob").write(P, K, 1)
    assert brought(mem.blame(P, K)) == {"": ("bob", anew.seq)}


def test_pointers_are_escaped_and_arrays_and_scalars_are_whole(mem: AgentMemory) -> None:
    mem.write(P, K, {"a/b": {"m~n": 1}, "": 2, "~1": [{"x": 1}], "é": "é"})
    assert list(origins(mem.blame(P, K))) == ["", "/a~1b", "/a~1b/m~0n", "/", "/~01", "/é"]
    for value in (None, 1, "text", [{"a": 1}], {}):
        mem.write(P, K, value)
        found = mem.blame(P, K)
        assert (found.fields, found.origin.path, found.origin.value) == ((), "", value)


def test_a_merge_is_followed_to_the_version_on_the_source(mem: AgentMemory) -> None:
    bob = mem.as_agent("bob")
    base = mem.write(P, K, {"a": 1, "b": 1, "c": 1})
    mem.create_branch("x")
    source = bob.write(P, K, {"a": 2, "b": 1, "c": 1}, branch="x")
    target = mem.write(P, K, {"a": 1, "b": 2, "c": 1})
    before = mem.blame(P, K, branch="x")
    assert brought(before) == {
        "": ("bob", source.seq), "/a": ("bob", source.seq), "/b": ("alice", base.seq), "/c": ("alice", base.seq),
    }  # fmt: skip
    merge = mem.as_agent("carol").merge_branch("x").event
    found = origins(mem.blame(P, K))
    merged = mem.read(P, K)
    assert merged is not None
    assert brought(mem.blame(P, K)) == {
        "": ("carol", merged.seq),
        "/a": ("bob", source.seq),
        "/b": ("alice", target.seq),
        "/c": ("alice", base.seq),
    }
    assert (found[""].event_type, found[""].event, found[""].merges) == (EventType.BRANCH_MERGED, merge, ())
    assert (found["/a"].event_type, found["/a"].event, found["/a"].merges) == (EventType.WRITE, source.seq, (merge,))
    assert found["/a"].version.branch == "x"
    assert (found["/b"].merges, found["/c"].merges) == ((), ())


def test_a_merge_of_a_merge_is_followed_all_the_way(mem: AgentMemory) -> None:
    mem.write(P, K, {"a": 1})
    mem.create_branch("x")
    mem.create_branch("x/y", source="x")
    deep = mem.as_agent("bob").write(P, K, {"a": 2}, branch="x/y")
    first = mem.merge_branch("x/y", target="x").event
    second = mem.merge_branch("x").event
    found = mem.blame(P, K)
    assert brought(found) == {"": ("bob", deep.seq), "/a": ("bob", deep.seq)}
    assert (found.origin.version.branch, found.origin.merges) == ("x/y", (first, second))
    assert mem.blame(P, K, branch="x").origin.merges == (first,)
    mem.create_branch("later")
    assert mem.blame(P, K, branch="later").origin == found.origin


def test_a_grandchild_that_inherits_is_merged_from_where_the_version_was_made(mem: AgentMemory) -> None:
    mem.create_branch("x")
    made = mem.as_agent("bob").write(P, K, 1, branch="x")
    mem.create_branch("x/y", source="x")
    event = mem.merge_branch("x/y", target="main").event
    assert (mem.blame(P, K).origin.version.seq, mem.blame(P, K).origin.merges) == (made.seq, (event,))


def test_what_the_target_held_already_was_not_brought_by_the_merge(mem: AgentMemory) -> None:
    mem.create_branch("x")
    mem.as_agent("bob").write(P, K, {"a": 1, "b": 1}, branch="x")
    mine = mem.write(P, K, {"a": 1, "c": 1})
    mem.merge_branch("x")
    assert brought(mem.blame(P, K))["/a"] == ("alice", mine.seq)
    assert brought(mem.blame(P, K))["/b"][0] == "bob"


def test_a_value_that_a_resolver_made_came_with_the_merge(mem: AgentMemory) -> None:
    mem.write(P, K, {"a": 1, "b": 1})
    mem.create_branch("x")
    source = mem.as_agent("bob").write(P, K, {"a": 2, "b": 1}, branch="x")
    mem.write(P, K, {"a": 3, "b": 1})
    event = mem.merge_branch("x", resolver=lambda *_: {"a": 2, "b": 5}).event
    found = origins(mem.blame(P, K))
    assert found["/a"].version.seq == source.seq
    assert (found["/b"].event_type, found["/b"].event) == (EventType.BRANCH_MERGED, event)
    assert found["/b"].version.agent_id == "alice"


def test_outcomes_since_are_named_on_both_sides_of_a_merge(mem: AgentMemory) -> None:
    mem.write(P, K, {"a": 1, "b": 1})
    mem.commit_outcome("before", "success", [(P, K)])
    mem.create_branch("x")
    mem.write(P, K, {"a": 2, "b": 1}, branch="x")
    mem.commit_outcome("on x", "success", [(P, K)], branch="x")
    mem.merge_branch("x")
    mem.commit_outcome("after", "failure", [(P, K)])
    mem.commit_outcome("after", "success", [(P, K)])
    mem.write("other", K, 1)
    mem.commit_outcome("elsewhere", "success", [("other", K)])
    found = origins(mem.blame(P, K))
    assert found["/a"].outcomes == ("on x", "after")
    assert found["/b"].outcomes == ("before", "after")
    assert found["/a"].event_type is EventType.WRITE, "an outcome brings no value"
    mem.write(P, K, {"a": 2, "b": 3})
    assert origins(mem.blame(P, K))["/b"].outcomes == ()


def test_a_rollback_brings_back_what_it_restores_and_nothing_else(mem: AgentMemory) -> None:
    bob = mem.as_agent("bob")
    first = bob.write(P, K, {"a": 1, "b": 1})
    mem.write(P, K, {"a": 2, "b": 1})
    event = mem.rollback(seq=first.seq).event
    found = origins(mem.blame(P, K))
    assert (found["/a"].event_type, found["/a"].event) == (EventType.ROLLBACK, event)
    assert (found["/a"].version.agent_id, found["/a"].version.committed_by) == ("bob", "alice")
    assert found["/b"].version.seq == first.seq


def test_a_cherry_pick_is_followed_like_a_merge(mem: AgentMemory) -> None:
    mem.write(P, K, {"a": 1, "b": 1})
    mem.create_branch("x")
    picked = mem.as_agent("bob").write(P, K, {"a": 2, "b": 1}, branch="x")
    mem.write(P, K, {"a": 2, "b": 9}, branch="x")
    event = mem.cherry_pick("x", [picked]).event
    found = origins(mem.blame(P, K))
    assert (found["/a"].version.seq, found["/a"].merges) == (picked.seq, (event,))
    assert found["/b"].merges == ()


def test_a_conflict_settled_for_the_source_is_followed_and_one_with_a_value_is_not(mem: AgentMemory) -> None:
    for key in ("taken", "answered"):
        mem.write(P, key, 1)
    mem.create_branch("x")
    sources = {key: mem.as_agent("bob").write(P, key, 2, branch="x") for key in ("taken", "answered")}
    for key in ("taken", "answered"):
        mem.write(P, key, 3)
    ids = {one.key: one.id for one in mem.merge_branch("x", strategy="manual").conflicts}
    mem.resolve_conflict(ids["taken"], take="source")
    event = mem.resolve_conflict(ids["answered"], value=4).event
    taken, answered = mem.blame(P, "taken").origin, mem.blame(P, "answered").origin
    assert (taken.version.seq, taken.merges) == (sources["taken"].seq, (event,))
    assert (answered.event_type, answered.event, answered.merges) == (EventType.BRANCH_MERGED, event, ())


def test_a_private_entry_comes_before_a_shared_one_and_is_nobody_elses(mem: AgentMemory) -> None:
    bob = mem.as_agent("bob")
    shared = bob.write(P, K, {"a": 1})
    own = mem.write(P, K, {"a": 1}, shared=False)
    assert brought(mem.blame(P, K)) == {"": ("alice", own.seq), "/a": ("alice", own.seq)}
    assert brought(bob.blame(P, K))[""] == ("bob", shared.seq)
    mem.write(P, "hidden", 1, shared=False)
    with pytest.raises(EntryNotFoundError):
        bob.blame(P, "hidden")


def test_a_forked_private_entry_came_with_the_fork(file_mem: AgentMemory) -> None:
    file_mem.write(P, K, 1, shared=False)
    shared = file_mem.write(P, "shared", 1)
    file_mem.fork("carol")
    with AgentMemory("carol", file_mem.database) as carol:
        own = carol.blame(P, K).origin
        assert (own.event_type, own.version.agent_id, own.version.branch) == (EventType.FORK, "alice", "main")
        assert carol.blame(P, "shared").origin.version.seq == shared.seq


@pytest.mark.parametrize("key", ["unknown", "gone"])
def test_what_is_not_there_has_no_blame(mem: AgentMemory, key: str) -> None:
    mem.write(P, "gone", 1)
    mem.delete(P, "gone")
    with pytest.raises(EntryNotFoundError, match=f"no entry svc/{key} on branch 'main'"):
        mem.blame(P, key)


def test_a_branch_that_one_may_not_read_is_not_followed(file_mem: AgentMemory) -> None:
    mem = file_mem
    mem.create_branch("secret")
    source = mem.write(P, K, 1, branch="secret")
    mem.commit_outcome("quiet", "success", [(P, K)], branch="secret")
    event = mem.merge_branch("secret").event
    mem.commit_outcome("open", "success", [(P, K)])
    assert (mem.blame(P, K).origin.version.seq, mem.blame(P, K).origin.outcomes) == (source.seq, ("quiet", "open"))
    mem.grant_branch_access("secret", "user", "ursula", "read")
    with AgentMemory("bob", mem.database, principal=Principal("ursula", role="reader")) as ursula:
        assert ursula.blame(P, K).origin.version.seq == source.seq
    mem.create_branch("public", source="secret")
    mem.grant_branch_access("public", "user", "eve", "read")
    with AgentMemory("bob", mem.database, principal=Principal("eve", role="reader")) as eve:
        seen, inherited = eve.blame(P, K).origin, eve.blame(P, K, branch="public").origin
    assert (seen.event_type, seen.event, seen.version.branch, seen.merges) == (
        EventType.BRANCH_MERGED, event, "main", (),
    )  # fmt: skip
    assert seen.outcomes == ("open",)
    assert (inherited.version.seq, inherited.version.branch, inherited.outcomes) == (source.seq, "(hidden)", ())


def test_the_cost_follows_the_versions_of_the_one_entry(tmp_path: Path) -> None:
    costs: list[int] = []
    for others in (10, 2000):
        with metering() as meter, closing(AgentMemory("ada", tmp_path / f"{others}.db", durability="normal")) as mem:
            with mem.transaction() as tx:
                for number in range(others):
                    tx.write("others", f"k{number}", number)
            mem.create_branch("x")
            for number in range(20):
                mem.write(P, K, {"n": number, "same": 1}, branch="x")
            mem.merge_branch("x")
            mem.blame(P, K)
            costs.append(meter.cost(lambda mem=mem: mem.blame(P, K)).steps)
    assert costs[1] <= costs[0] * 1.2


def test_a_read_only_database_can_be_blamed(file_mem: AgentMemory) -> None:
    file_mem.write(P, K, {"a": 1})
    with AgentMemory("bob", f"file:{file_mem.database}?mode=ro") as reader:
        assert reader.blame(P, K) == file_mem.blame(P, K)
    with closing(sqlite3.connect(file_mem.database)) as connection:
        assert connection.execute("SELECT count(*) FROM log").fetchone() == (1,), "blame records nothing"
