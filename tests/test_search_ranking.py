"""What makes one hit of a search better than another, and that hits are reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest

from amfs import AgentMemory, AsyncAgentMemory, EventType, SearchWeights, StaleWriteError
from tests.helpers_search import NOTHING, K, P, found, keys
from tests.helpers_statements import metering

OpenMemory = Callable[..., AgentMemory]
PARTS = [name for name in SearchWeights.model_fields if name != "half_life"]


def only(part: str, weight: float = 1.0) -> dict[str, float]:
    """Return weights of which only one counts, and words a little."""
    return {**NOTHING, "text": 1e-9, part: weight}


# --- parts of a score ------------------------------------------------------------------------------------------------


def test_the_parts_add_up_to_the_score(mem: AgentMemory, clock) -> None:
    for number in range(5):
        mem.write("svc/alice", f"key{number}", f"zebra {number}", confidence=number / 5)
        clock.advance(86_400)
    mem.commit_outcome("o", "success", [("svc/alice", "key2")])
    weights = SearchWeights(text=0.7, place=0.3, author=0.2, recency=0.4, confidence=0.6, outcomes=0.5)
    hits = mem.search("alice's zebra key2", explain=True, weights=weights)
    assert len(hits) == 5
    for hit in hits:
        assert hit.parts is not None
        assert hit.parts.keys() <= set(PARTS)
        assert hit.score == pytest.approx(sum(hit.parts.values()), abs=1e-8)
        assert all(0 < part <= getattr(weights, name) + 1e-9 for name, part in hit.parts.items())
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[0].entry.key == "key2"
    assert hits[0].parts is not None
    assert hits[0].parts["text"] == pytest.approx(0.7), "the best is 1, times its weight"
    assert {name for hit in hits for name in hit.parts or ()} == {
        "text", "place", "author", "recency", "confidence", "outcomes",
    }  # fmt: skip


def test_confidence_decides_between_equal_words(mem: AgentMemory) -> None:
    for key, confidence in (("a", 0.3), ("b", 0.9), ("c", 0.6)):
        mem.write(P, key, "zebra", confidence=confidence)
    assert keys(mem.search("zebra")) == ["b", "c", "a"]
    assert [hit.score for hit in mem.search("zebra", weights=only("confidence", 2))] == pytest.approx([1.8, 1.2, 0.6])
    assert keys(mem.search("zebra", weights={"confidence": 0, "recency": 0})) == ["c", "b", "a"]


def test_good_evidence_counts_and_bad_evidence_does_not(mem: AgentMemory) -> None:
    for key in "abcd":
        mem.write(P, key, "zebra")
    for number in range(4):
        mem.commit_outcome(f"good {number}", "success", [(P, "a"), (P, "b")])
        mem.commit_outcome(f"bad {number}", "failure", [(P, "b"), (P, "c")])
    hits = mem.search("zebra", weights=only("outcomes"))
    assert keys(hits)[:2] == ["a", "b"]
    assert [hit.score > 0.01 for hit in hits] == [True, True, False, False]


def test_recency_halves_with_every_half_life(mem: AgentMemory, clock) -> None:
    for key in "abc":
        mem.write(P, key, "zebra")
        clock.advance(86_400)
    weights = {**only("recency"), "half_life": timedelta(days=1)}
    hits = mem.search("zebra", weights=weights)
    assert keys(hits) == ["c", "b", "a"]
    assert [hit.score for hit in hits] == pytest.approx([1 / 2, 1 / 4, 1 / 8], abs=1e-6)


def test_an_author_named_in_the_query_counts(mem: AgentMemory) -> None:
    for agent in ("planner", "deploy-agent", "test-runner"):
        mem.as_agent(agent).write(P, agent[0], "zebra")
    assert keys(mem.search("zebra")) == ["t", "d", "p"]
    assert keys(mem.search("what did the planner say of zebras"))[0] == "p"
    assert keys(mem.search("zebra of deploy agent"))[0] == "d"
    assert [hit.parts for hit in mem.search("zebra agent", explain=True, weights=only("author"))] == [
        {"text": pytest.approx(1e-9)}
    ] * 3, "a name counts whole or not at all"


def test_a_place_named_in_the_query_counts(mem: AgentMemory) -> None:
    mem.write("svc/search", "a", "zebra zebra")
    mem.write("svc/checkout", "retry pattern", "zebra")
    mem.write("svc/checkout", "b", "zebra zebra")
    hits = mem.search("zebra retry pattern", weights=only("place"))
    assert [round(hit.score, 6) for hit in hits] == [1, 0, 0]
    assert keys(hits)[0] == "retry pattern"
    scores = {hit.entry.key: hit.score for hit in mem.search("zebra svc retry", weights=only("place"))}
    assert scores == pytest.approx({"a": 0.5, "b": 0.5, "retry pattern": 0.5}, abs=1e-6)


def test_messages_next_to_one_that_matches_take_part_in_it(mem: AgentMemory) -> None:
    said = ["hello there", "where is the zebra", "behind the house", "thanks", "good night", "bye"]
    for number, text in enumerate(said):
        mem.write("chat/one", str(number), text, memory_type="message")
    mem.write("chat/two", "other", "unrelated", memory_type="message")
    hits = mem.search("zebra", memory_type="message", explain=True)
    assert [hit.entry.key for hit in hits] == ["1", "2", "0"]
    assert [sorted(hit.parts or ()) for hit in hits][1:] == [["confidence", "neighbours", "recency"]] * 2
    assert keys(mem.search("zebra", memory_type="message", weights={"neighbours": 0})) == ["1"]
    mem.delete("chat/one", "2")
    assert keys(mem.search("zebra", memory_type="message")) == ["1", "3", "0"], "over a gap of one"
    assert keys(mem.search("zebra", memory_type="message", agent_id="bob")) == []
    assert found(mem, "zebra") == set()


def test_neighbours_are_messages_that_the_search_may_find(mem: AgentMemory) -> None:
    bob = mem.as_agent("bob")
    mem.write("chat", "0", "before", memory_type="message", confidence=0.2)
    mem.write("chat", "1", "zebra", memory_type="message", pattern_refs=["p"])
    bob.write("chat", "2", "after", memory_type="message")
    mem.write("notes", "1", "zebra")
    mem.write("notes", "2", "a note beside it")
    kinds = ["message", "fact"]
    assert found(mem, "zebra", memory_type=kinds) == {"0", "1", "2"}
    assert {hit.entry.entity_path for hit in mem.search("zebra", memory_type=kinds)} == {"chat", "notes"}
    assert "a note beside it" not in [hit.entry.value for hit in mem.search("zebra", memory_type=kinds)]
    assert found(mem, "zebra", memory_type="message", agent_id="alice") == {"0", "1"}
    assert found(mem, "zebra", memory_type="message", min_confidence=0.5) == {"1", "2"}
    assert found(mem, "zebra", memory_type="message", pattern_refs=["p"]) == {"1"}
    assert found(mem, "zebra", memory_type="message", filter={"no": "such"}) == set()


def test_weights_of_nothing_leave_the_newest_first(mem: AgentMemory) -> None:
    for key in "abc":
        mem.write(P, key, "zebra")
    assert keys(mem.search("zebra", weights=only("place", 0))) == ["c", "b", "a"]
    assert mem.search("zebra", weights=NOTHING) == [], "words are not looked for, and there are no vectors"


# --- hits are reads --------------------------------------------------------------------------------------------------


def read_events(mem: AgentMemory) -> list[tuple[str, str, int]]:
    """Return branch, reader and number of entries of each read of another agent's, oldest first."""
    events = mem.timeline(agent_id="*", event_type=EventType.CROSS_AGENT_READ, limit=1000)
    return [(one.branch, one.actor, len(one.details.get("entries", [0]))) for one in reversed(events)]


def test_hits_are_what_the_run_read(mem: AgentMemory) -> None:
    mem.write(P, "a", "zebra")
    mem.write(P, "b", "lion")
    mem.as_agent("bob").write(P, "c", "zebra")
    with mem.run("r"):
        hits = mem.search("zebra")
        outcome = mem.commit_outcome("o", "success")
    assert {cause.entry.seq for cause in outcome.causes} == {hit.entry.seq for hit in hits}
    assert {entry.key for entry in outcome.entries} == {"a", "c"}
    with mem.run("r2"):
        mem.search("zebra", limit=1)
        assert len(mem.commit_outcome("o2", "success").causes) == 1, "what was not on the page was not read"


def test_a_search_records_one_read_of_each_other_agent(mem: AgentMemory) -> None:
    for number in range(6):
        mem.as_agent("ann" if number % 2 else "bob").write(P, str(number), "zebra")
    mem.write(P, "mine", "zebra")
    before = len(mem.timeline(agent_id="*", limit=1000))
    with mem.run():
        assert len(mem.search("zebra")) == 7
        events = mem.timeline(agent_id="*", limit=1000)
        assert len(events) - before == 2
        assert {one.event_type for one in events[:2]} == {EventType.CROSS_AGENT_READ}
        assert {one.agent_id for one in events[:2]} == {"ann", "bob"}
        for again in ("zebra", None):
            mem.search(again)
        assert len(mem.timeline(agent_id="*", limit=1000)) - before == 2, "again they are only counted"
        mem.as_agent("ann").write(P, "1", "zebra again")
        mem.search("zebra")
        assert len(mem.timeline(agent_id="*", limit=1000)) - before == 4, "the write, and the read of it"


def test_reads_are_recorded_on_the_branch_they_were_found_on(mem: AgentMemory) -> None:
    bob = mem.as_agent("bob")
    mem.create_branch("x")
    bob.write(P, "a", "zebra")
    bob.write(P, "b", "zebra", branch="x")
    bob.write(P, "c", "zebra", branch="x")
    with mem.run():
        assert len(mem.search("zebra", branch=["main", "x"])) == 3
    assert Counter(branch for branch, _, _ in read_events(mem)) == {"main": 1, "x": 1}


@pytest.mark.parametrize(("mode", "at_once", "after"), [("sync", 1, 1), ("batched", 0, 1), ("off", 0, 0)])
def test_reads_are_recorded_as_the_handle_says(open_memory: OpenMemory, mode: str, at_once: int, after: int) -> None:
    mem = open_memory(read_events=mode)
    mem.as_agent("bob").write(P, K, "zebra")
    mem.search("zebra")
    assert len(read_events(mem)) == at_once
    mem.write(P, "other", 1)
    assert len(read_events(mem)) == after


def test_a_hit_is_seen_so_that_a_later_write_by_others_is_noticed(open_memory: OpenMemory) -> None:
    mem = open_memory(conflict_policy="raise")
    mem.write(P, K, "zebra")
    mem.search("zebra")
    mem.as_agent("bob").write(P, K, "zebra two")
    with pytest.raises(StaleWriteError):
        mem.write(P, K, "mine")
    mem.search("zebra")
    assert mem.write(P, K, "mine").version == 3


def test_a_search_of_the_past_is_a_read_of_it(mem: AgentMemory) -> None:
    first = mem.as_agent("bob").write(P, K, "zebra")
    mem.as_agent("bob").write(P, K, "lion")
    with mem.run():
        mem.search("zebra", at=first.seq)
    (event,) = mem.timeline(agent_id="*", event_type=EventType.CROSS_AGENT_READ)
    assert event.agent_id == "bob"


# --- where it runs ---------------------------------------------------------------------------------------------------


async def test_the_awaited_twin_finds_the_same(file_mem: AgentMemory) -> None:
    amem = AsyncAgentMemory(file_mem)
    for number in range(20):
        await amem.write(P, f"k{number}", f"zebra {number}")
    page = await amem.search("zebra", limit=7, explain=True)
    assert page == file_mem.search("zebra", limit=7, explain=True)
    rest = await amem.search("zebra", limit=20, cursor=page.next_cursor, entity_path=P, agent_id="alice")
    assert len(page) + len(rest) == 20
    assert await amem.rebuild_search_index("plain") == "plain"
    assert len(await amem.search("zebra", limit=50, min_confidence=0.5, branch=["main"], weights={"text": 2})) == 20


def test_a_read_only_database_is_searched_and_unchanged(open_memory: OpenMemory, database) -> None:
    mem = open_memory()
    mem.write(P, "a", "zebra")
    mem.search("zebra")
    mem.as_agent("bob").write(P, "b", "zebra")
    mem.rebuild_search_index("plain")
    mem.write(P, "c", "zebras")
    reader = open_memory("carol", f"file:{database}?mode=ro")
    events = mem.timeline(agent_id="*")
    for _ in range(2):
        assert found(reader, "zebra") == {"a", "b"}, "with the tokenizer of the file"
        assert found(reader) == {"a", "b", "c"}
        assert found(reader, "zebra", at=events[0].seq) == {"a", "b"}
    mem.write(P, "d", "zebra")
    assert found(reader, "zebra") == {"a", "b", "d"}
    assert mem.timeline(agent_id="*")[1:] == events


def test_a_read_only_connection_makes_its_index_once(file_mem: AgentMemory) -> None:
    for number in range(10):
        file_mem.write(P, f"k{number}", "zebra")
    with metering() as meter, AgentMemory("bob", f"file:{file_mem.database}?mode=ro", read_events="off") as reader:
        for expected in (True, False, False):
            cost = meter.cost(lambda: reader.search("zebra"))
            assert any("INSERT INTO search_current_text" in text for text in cost.statements) is expected
        file_mem.write(P, "more", "zebra")
        assert len(reader.search("zebra", limit=20)) == 11
