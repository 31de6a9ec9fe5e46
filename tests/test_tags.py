"""Tags: names for views, usable wherever a moment is taken, on the branch they pin and on its descendants."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from amfs import (
    AgentMemory,
    BeforeHistoryError,
    EventType,
    InvalidInputError,
    InvalidNameError,
    TagExistsError,
    TagNotFoundError,
    TagOffLineageError,
)

P, K = "svc", "config"
OpenMemory = Callable[..., AgentMemory]


def newest(memory: AgentMemory) -> Any:
    """Return the newest event of all agents."""
    return memory.timeline(agent_id="*", limit=1)[0]


@pytest.fixture
def tagged(mem: AgentMemory) -> AgentMemory:
    """Return a memory with the tag v1 on main, and two writes after it."""
    mem.write(P, K, 1)
    mem.create_tag("v1", "before the migration")
    mem.write(P, K, 2)
    mem.write(P, "later", 1)
    return mem


# --- what a tag is ---------------------------------------------------------------------------------------------------


def test_a_tag_names_what_the_branch_holds_now(mem: AgentMemory, clock: Any) -> None:
    mem.write(P, K, 1)
    clock.advance(60)
    tag = mem.as_agent("bob").create_tag("v1/stable", "before the migration")
    event = newest(mem)
    assert tag.model_dump() == {
        "name": "v1/stable", "branch": "main", "seq": event.seq, "description": "before the migration",
        "created_by": "bob", "created_at": clock.moment,
    }  # fmt: skip
    assert (event.event_type, event.agent_id, event.branch) == (EventType.TAG_CREATED, "bob", "main")
    assert event.summary == f"Tagged v1/stable at seq {tag.seq}"
    assert event.details == {"tag": "v1/stable", "seq": tag.seq, "description": "before the migration"}
    assert mem.tags() == [tag]


@pytest.mark.parametrize("form", ["seq", "datetime", "tag", "nothing"])
def test_a_tag_can_name_an_earlier_moment(tagged: AgentMemory, clock: Any, form: str) -> None:
    first = tagged.history(P, K)[0]
    at = {"seq": first.seq, "datetime": first.written_at, "tag": "v1", "nothing": 0}[form]
    clock.advance(60)
    tag = tagged.create_tag("again", at=at)
    assert tag.seq == {"tag": tagged.tags()[0].seq, "nothing": 0}.get(form, first.seq) or form == "tag"
    assert tagged.read(P, K, at="again") == (None if form == "nothing" else tagged.read(P, K, at=first.seq))
    assert (tag.created_at, newest(tagged).details["seq"]) == (clock.moment, tag.seq)


def test_tags_are_listed_by_what_they_pin_and_then_by_name(mem: AgentMemory) -> None:
    seq = mem.write(P, K, 1).seq
    mem.create_branch("x")
    mem.create_tag("z", branch="x")
    for name in ("b", "a", "c"):
        mem.create_tag(name, at=seq)
    assert [(tag.name, tag.branch) for tag in mem.tags()] == [("a", "main"), ("b", "main"), ("c", "main"), ("z", "x")]


def test_a_tag_outlives_its_handle_and_its_branch_may_be_closed(open_memory: OpenMemory, database: Any) -> None:
    with AgentMemory("alice", database, durability="normal") as first:
        first.create_branch("x")
        first.write(P, K, 1, branch="x")
        first.close_branch("x")
        made = first.create_tag("last words", branch="x")
    again = open_memory("bob")
    assert again.tags() == [made]
    assert again.read(P, K, at="last words", branch="x").value == 1
    assert again.delete_tag("last words") == made


# --- where a tag is taken --------------------------------------------------------------------------------------------


def test_a_tag_stands_for_its_seq_wherever_a_moment_is_taken(tagged: AgentMemory) -> None:
    seq = tagged.tags()[0].seq
    calls: dict[str, Callable[[Any], Any]] = {
        "read": lambda at: tagged.read(P, K, at=at),
        "read_many": lambda at: tagged.read_many([(P, K), (P, "later")], at=at),
        "list": lambda at: tagged.list(at=at),
        "versions": lambda at: tagged.list(include_superseded=True, at=at),
        "history until": lambda at: tagged.history(P, K, until=at),
        "history since": lambda at: tagged.history(P, K, since=at),
        "timeline until": lambda at: tagged.timeline(until=at),
        "timeline since": lambda at: tagged.timeline(since=at),
    }
    for name, call in calls.items():
        assert call("v1") == call(seq), name
        assert call("v1"), name
    assert (tagged.read(P, K, at="v1").value, tagged.read(P, "later", at="v1")) == (1, None)
    tagged.create_branch("old", at="v1")
    assert [(entry.key, entry.value) for entry in tagged.list(branch="old")] == [(K, 1)]
    assert tagged.branches()[-1].fork_seq == seq


@pytest.mark.parametrize("beyond", range(4))
def test_a_larger_event_is_pinned_whole(mem: AgentMemory, beyond: int) -> None:
    mem.create_branch("x")
    for number in range(3):
        mem.write(P, f"k{number}", 1, branch="x")
    event = mem.merge_branch("x").event
    mem.write(P, "k0", 2)
    tag = mem.create_tag("merged", at=event + beyond)
    assert tag.seq == event + 3
    assert [entry.value for entry in mem.list(at="merged")] == [1, 1, 1]
    assert mem.list(at=event + beyond) == mem.list(at="merged")
    assert mem.list(at=event - 1) == []


@pytest.fixture
def tree(mem: AgentMemory) -> AgentMemory:
    """Return a memory with a tag on every branch of main > x > x/child and y, and one on main after the forks."""
    mem.write(P, K, "main")
    mem.create_tag("on main")
    for name, source in (("x", "main"), ("y", "main"), ("x/child", "x")):
        mem.create_branch(name, source=source)
        mem.write(P, K, name, branch=name)
        mem.create_tag(f"on {name}", branch=name)
    mem.write(P, K, "later")
    mem.create_tag("late on main")
    return mem


USABLE = {
    "on main": {"main": "main", "x": "main", "y": "main", "x/child": "main"},
    "on x": {"x": "x", "x/child": "x"},
    "on y": {"y": "y"},
    "on x/child": {"x/child": "x/child"},
    "late on main": {"main": "later"},
}
"""The branches that each tag may be used on, and what it finds there. x/child was made after the tag on x."""


@pytest.mark.parametrize("tag", USABLE)
def test_a_tag_can_be_used_on_what_descends_from_it(tree: AgentMemory, tag: str) -> None:
    for branch in ("main", "x", "y", "x/child"):
        if branch in USABLE[tag]:
            assert tree.read(P, K, at=tag, branch=branch).value == USABLE[tag][branch]
            continue
        calls: list[Callable[[], Any]] = [
            lambda branch=branch: tree.read(P, K, at=tag, branch=branch),
            lambda branch=branch: tree.list(at=tag, branch=branch),
            lambda branch=branch: tree.create_branch("new", source=branch, at=tag),
            lambda branch=branch: tree.create_tag("new", at=tag, branch=branch),
            lambda branch=branch: tree.rollback(tag_name=tag, branch=branch),
        ]
        pinned = next(one.branch for one in tree.tags() if one.name == tag)
        for call in calls:
            with pytest.raises(TagOffLineageError, match=f"{tag}.*branch={pinned!r}"):
                call()


def test_tags_of_another_namespace_are_not_there(open_memory: OpenMemory) -> None:
    here, there = open_memory("alice"), open_memory("bob", namespace="elsewhere")
    here.create_tag("v1")
    assert there.tags() == []
    assert there.create_tag("v1").name == "v1"
    here.delete_tag("v1")
    assert [tag.created_by for tag in there.tags()] == ["bob"]
    with pytest.raises(TagNotFoundError):
        here.read(P, K, at="v1")


# --- times -----------------------------------------------------------------------------------------------------------


def test_a_time_before_all_history_is_refused_where_a_view_is_asked_for(tagged: AgentMemory) -> None:
    begun = tagged.timeline()[-1].created_at
    early = begun - timedelta(microseconds=1)
    for call in (
        lambda: tagged.read(P, K, at=early),
        lambda: tagged.read_many([(P, K)], at=early),
        lambda: tagged.list(at=early),
        lambda: tagged.create_branch("x", at=early),
        lambda: tagged.create_tag("x", at=early),
        lambda: tagged.rollback(timestamp=early),
    ):
        with pytest.raises(BeforeHistoryError, match="begins at"):
            call()
    assert tagged.read(P, K, at=begun).value == 1
    assert tagged.timeline(until=early) == []
    assert len(tagged.timeline(since=early)) == 4


def test_nothing_has_no_history_to_go_back_to(mem: AgentMemory, clock: Any) -> None:
    with pytest.raises(BeforeHistoryError, match="is empty"):
        mem.read(P, K, at=clock.moment)


def test_a_branch_goes_back_as_far_as_its_root(tagged: AgentMemory) -> None:
    tagged.create_branch("x")
    tagged.create_branch("x/child", source="x")
    begun = tagged.timeline()[-1].created_at
    assert tagged.read(P, K, at=begun, branch="x/child").value == 1
    with pytest.raises(BeforeHistoryError):
        tagged.read(P, K, at=begun - timedelta(days=1), branch="x/child")


# --- deletion and refusals -------------------------------------------------------------------------------------------


def test_a_deleted_tag_is_gone_and_its_name_free(tagged: AgentMemory) -> None:
    (tag,) = tagged.tags()
    assert tagged.delete_tag("v1") == tag
    event = newest(tagged)
    assert (event.event_type, event.summary, event.details["seq"]) == ("tag_deleted", "Deleted tag v1", tag.seq)
    assert tagged.tags() == []
    for call in (lambda: tagged.read(P, K, at="v1"), lambda: tagged.delete_tag("v1")):
        with pytest.raises(TagNotFoundError, match=r"'v1'.*tags\(\)"):
            call()
    assert tagged.read(P, K, at=tag.seq).value == 1, "the view is there still"
    assert tagged.create_tag("v1", branch="main").seq > tag.seq


def test_a_tag_is_deleted_on_its_own_branch(tree: AgentMemory) -> None:
    tree.delete_tag("on x")
    assert (newest(tree).branch, newest(tree).event_type) == ("x", "tag_deleted")


def test_a_name_is_given_once(tagged: AgentMemory) -> None:
    tagged.create_branch("x")
    events = tagged.timeline()
    for branch in (None, "x"):
        with pytest.raises(TagExistsError, match=r"'v1' exists.*delete_tag\('v1'\)"):
            tagged.create_tag("v1", branch=branch)
    assert (tagged.timeline(), len(tagged.tags())) == (events, 1)


@pytest.mark.parametrize("name", ["", "/v1", "v1/", "a//b", "nul\0", "x" * 1025, "\ud800", None, 1, b"v1"])
def test_a_tag_has_a_name_like_that_of_a_branch(mem: AgentMemory, name: Any) -> None:
    for call in (mem.create_tag, mem.delete_tag):
        with pytest.raises(InvalidNameError, match="tag"):
            call(name)
    if name is not None:
        with pytest.raises(InvalidInputError):
            mem.read(P, K, at=name)
    assert mem.timeline() == []
