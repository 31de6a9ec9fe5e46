"""Briefs: what they say and cite, when they are compiled anew, and who sees what."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from amfs import (
    AccessDeniedError,
    AgentMemory,
    BranchNotFoundError,
    Brief,
    InvalidInputError,
    Principal,
)
from tests.conftest import ManualClock
from tests.helpers_briefs import P, events, fill
from tests.helpers_display import HOSTILE, assert_safe
from tests.helpers_statements import metering
from tests.helpers_tables import changed, contents

OpenMemory = Callable[..., AgentMemory]


# --- what a brief says -----------------------------------------------------------------------------------------------

TEXT = """\
# Brief of checkout-service

3 entries by 2 agents on branch main

## Entries
- [1] checkout-service/eu/owner: "payments" (confidence 0.90, v1 by alice)
- [2] checkout-service/timeout: 30 (confidence 0.87 after 1 outcome, v2 by bob)
- 1 more, not cited

## Open conflicts
- checkout-service/retry: side -> main
- checkout-service/timeout [2]: side -> main

## Recent outcomes
- deploy-41: success

## Who knows
- alice: 2 entries
- bob: 1 entry"""


def test_the_text_says_what_is_known_by_whom_and_how_well(mem: AgentMemory) -> None:
    bob = mem.as_agent("bob")
    mem.write(P, "retry", {"retries": 1}, confidence=0.8)
    bob.write(P, "timeout", 20, confidence=0.8)
    mem.create_branch("side")
    mem.write(P, "retry", {"retries": 9}, branch="side")
    mem.write(P, "timeout", 99, branch="side")
    mem.write(P, "retry", {"retries": 3}, confidence=0.8)
    mem.write(f"{P}/eu", "owner", "payments", confidence=0.9)
    bob.write(P, "timeout", 30, confidence=0.8)
    bob.write("checkout-services", "owner", "somebody else")
    mem.commit_outcome("deploy-41", "success", [(P, "timeout")])
    mem.merge_branch("side", strategy="manual")
    brief = mem.brief(P, limit=2)
    assert brief.text == TEXT.replace("v2 by bob", "v3 by bob")
    assert (brief.entity_path, brief.agent_id, brief.branch, brief.digest_type) == (P, None, "main", "digest")
    assert (brief.entry_count, brief.entities, brief.agents) == (3, (P, f"{P}/eu"), {"alice": 2, "bob": 1})
    assert brief.conflicts == 2
    assert [(one.outcome_ref, one.outcome_type) for one in brief.outcomes] == [("deploy-41", "success")]
    assert brief.citations == (mem.read(f"{P}/eu", "owner"), mem.read(P, "timeout"))


def test_the_same_memory_gives_the_same_text(open_memory: OpenMemory, tmp_path: Path, clock: ManualClock) -> None:
    texts: set[str] = set()
    for number in range(2):
        mem = open_memory("alice", tmp_path / f"{number}.db")
        if number:
            mem.write("unrelated", "first", 1)  # other seqs
            clock.advance(86_400)
        fill(mem)
        texts.add(mem.brief(P).text)
        assert mem.as_agent("bob").brief(P).text == mem.brief(P).text
    assert len(texts) == 1


def test_entries_come_by_confidence_then_evidence_then_the_newest_first(mem: AgentMemory) -> None:
    for key, confidence in (("low", 0.2), ("older", 0.6), ("newer", 0.6), ("high", 0.9), ("tried", 1.0), ("new", 1.0)):
        mem.write(P, key, 1, confidence=confidence)
    mem.commit_outcome("o", "success", [(P, "tried")])
    assert [entry.key for entry in mem.brief().citations] == ["tried", "new", "high", "newer", "older", "low"]
    assert [entry.key for entry in mem.brief(limit=1).citations] == ["tried"]
    assert mem.brief(limit=2**62).citations == mem.brief().citations


def test_a_brief_is_of_a_path_by_whole_segments_of_an_agent_or_of_everything(mem: AgentMemory) -> None:
    bob = fill(mem)
    assert mem.brief().entities == (P, f"{P}/eu", "checkout-services")
    assert mem.brief(f"{P}/eu").entities == (f"{P}/eu",)
    theirs = mem.brief(P, "bob")
    assert ([one.key for one in theirs.citations], theirs.agents, theirs.agent_id) == (["timeout"], {"bob": 1}, "bob")
    assert "1 entry by 1 agent on branch main, only what bob wrote" in theirs.text
    mem.write(P, "timeout", 40)
    assert (mem.brief(P, "bob").entry_count, bob.brief(None, "bob").entities) == (0, ("checkout-services",))


def test_only_shared_live_entries_that_are_no_messages_are_covered(mem: AgentMemory, clock: ManualClock) -> None:
    mem.write(P, "known", 1)
    mem.write(P, "mine", 1, shared=False)
    mem.write(P, "known", "a private one of the same name", shared=False)
    mem.write(P, "said", "hello", memory_type="message")
    mem.write(P, "gone", 1)
    mem.delete(P, "gone")
    clock.reach(mem.write(P, "over", 1, ttl=5).expires_at)
    brief = mem.brief()
    assert ([(one.key, one.value, one.shared) for one in brief.citations], brief.entry_count) == (
        [("known", 1, True)],
        1,
    )


def test_only_outcomes_that_judged_what_stands_are_told_the_last_five(mem: AgentMemory) -> None:
    mem.write(P, "retry", 1)
    mem.commit_outcome("of an earlier value", "failure", [(P, "retry")])
    mem.write(P, "retry", 2)
    for number in range(7):
        mem.commit_outcome(f"o{number}", "failure", [(P, "retry")])
    mem.write("elsewhere", "k", 1)
    mem.commit_outcome("elsewhere", "success", [("elsewhere", "k")])
    assert [one.outcome_ref for one in mem.brief(P).outcomes] == ["o6", "o5", "o4", "o3", "o2"]
    assert mem.brief(P).outcomes[0].seq == mem.explain("o6").outcomes[0].seq
    mem.rollback(seq=mem.explain("of an earlier value").outcomes[0].seq)
    assert [one.outcome_ref for one in mem.brief(P).outcomes] == ["of an earlier value"]


@pytest.mark.parametrize("words", HOSTILE)
def test_names_and_values_cannot_leave_their_place(mem: AgentMemory, words: str) -> None:
    path = words.replace("/", "|")
    mem.as_agent(words).write(path, words, {words: words * 1000})
    mem.commit_outcome(words, "success", [(path, words)])
    brief = mem.brief(path, words)
    plain = mem.as_agent("x").brief("nothing").text.count("\n")
    assert brief.text.count("\n") == plain + 3, "an entry, an outcome and an agent"
    assert max(map(len, brief.text.splitlines())) < 1000
    assert_safe([brief, mem.brief(path, words, writer=lambda text: text + words)])


def test_a_brief_shows_its_text_and_a_written_one_what_it_cites(mem: AgentMemory) -> None:
    fill(mem)
    shown = str(mem.brief(P))
    assert shown.startswith(f"digest brief of {P}, on main, 3 entries, 3 cited, seq ")
    assert mem.brief(P).text in shown
    written = str(mem.brief(P, writer=lambda _: "Payments own it [1].")).splitlines()
    assert written[1] == "Payments own it [1]."
    assert written[3].split()[:3] == ["[1]", f"{P}/eu", "owner"]
    assert "<pre>" in mem.brief(P)._repr_html_()


# --- stored, and compiled anew only when something changed -----------------------------------------------------------


def test_a_brief_is_compiled_once_and_announced_by_an_event(mem: AgentMemory) -> None:
    bob = fill(mem)
    first = mem.brief(P)
    assert bob.brief(P) == mem.brief(P) == first
    (event,) = events(mem)
    assert event.details == {
        "digest_type": "digest", "entry_count": 3, "entities": [P, f"{P}/eu"], "entity_path": P,
    }  # fmt: skip
    assert (event.seq, event.created_at, event.actor, event.branch) == (first.seq, first.compiled_at, "alice", "main")
    assert event.summary == f"Compiled brief of {P}: 3 entries"
    bob.brief(agent_id="bob", writer=str.upper)
    last = events(mem)[-1]
    assert last.details == {
        "digest_type": "written", "entry_count": 2, "entities": [P, "checkout-services"], "agent_id": "bob",
    }  # fmt: skip
    assert (last.agent_id, last.summary) == ("bob", "Compiled brief of bob's memory: 2 entries")
    mem.brief(limit=1)
    assert events(mem)[-1].details == {
        "digest_type": "digest", "entry_count": 4, "entities": [P, f"{P}/eu", "checkout-services"],
    }  # fmt: skip


CHANGES: dict[str, Callable[[AgentMemory], Any]] = {
    "write": lambda mem: mem.write(P, "new", 1),
    "write below": lambda mem: mem.write(f"{P}/us/east", "new", 1),
    "the same value with another confidence": lambda mem: mem.write(P, "retry", {"retries": 3}, confidence=0.1),
    "delete": lambda mem: mem.delete(P, "retry"),
    "outcome": lambda mem: mem.commit_outcome("deploy-42", "failure", [(P, "retry")]),
    "merge": lambda mem: mem.merge_branch("side"),
    "cherry-pick": lambda mem: mem.cherry_pick("side", [(P, "new")]),
    "rollback": lambda mem: mem.rollback(seq=1, include_others=True),
    "conflict": lambda mem: (mem.write(P, "new", 2), mem.brief(P), mem.merge_branch("side", strategy="manual")),
    "resolution": lambda mem: (
        mem.write(P, "new", 2),
        mem.merge_branch("side", strategy="manual"),
        mem.brief(P),
        mem.resolve_conflict(1, take="target"),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_brief_is_compiled_anew_when_what_it_covers_changed(mem: AgentMemory, change: str) -> None:
    fill(mem)
    mem.create_branch("side")
    mem.write(P, "new", "there", branch="side")
    before = mem.brief(P)
    CHANGES[change](mem)
    compiled = len(events(mem))
    after = mem.brief(P)
    assert after.seq == events(mem)[-1].seq > before.seq
    assert after.text != before.text
    assert len(events(mem)) == compiled + 1
    assert mem.brief(P) == after


ELSEWHERE: dict[str, Callable[[AgentMemory], Any]] = {
    "write elsewhere": lambda mem: mem.write("elsewhere", "k", 1),
    "write on another branch": lambda mem: mem.write(P, "retry", 1, branch="side"),
    "private write": lambda mem: mem.write(P, "retry", 1, shared=False),
    "message": lambda mem: mem.write(P, "said", "hello", memory_type="message"),
    "outcome elsewhere": lambda mem: mem.commit_outcome("o", "failure", [("checkout-services", "owner")]),
    "conflict elsewhere": lambda mem: (
        mem.write("elsewhere", "k", 1, branch="side"),
        mem.write("elsewhere", "k", 2),
        mem.merge_branch("side", strategy="manual"),
    ),
    "tag": lambda mem: mem.create_tag("v1"),
    "branch": lambda mem: mem.create_branch("another"),
    "read": lambda mem: mem.as_agent("cleo").read(P, "retry"),
    "delete of nothing": lambda mem: mem.delete(P, "nothing"),
    "a deadline far away": lambda mem: mem.write("elsewhere", "k", 1, ttl=9000),
}


@pytest.mark.parametrize("change", ELSEWHERE)
def test_nothing_is_written_when_something_else_changed(file_mem: AgentMemory, change: str) -> None:
    fill(file_mem)
    file_mem.create_branch("side")
    first = file_mem.brief(P)
    ELSEWHERE[change](file_mem)
    before = contents(file_mem.database)
    for _ in range(2):
        assert file_mem.brief(P) == first
    assert changed(before, contents(file_mem.database)) == {}


def test_a_brief_is_compiled_anew_when_a_deadline_passed(mem: AgentMemory, clock: ManualClock) -> None:
    mem.write(P, "stays", 1)
    goes = mem.write(P, "goes", 1, ttl=60)
    first = mem.brief(P)
    clock.advance(59)
    assert mem.brief(P) == first
    clock.reach(goes.expires_at)
    assert (mem.brief(P).entry_count, len(events(mem))) == (1, 2)
    clock.advance(600)
    assert (mem.brief(P).entry_count, len(events(mem))) == (1, 2)


def test_what_is_not_known_is_not_stored_until_it_replaces_what_was(mem: AgentMemory) -> None:
    asked: list[str] = []
    empty = mem.brief(P, writer=lambda text: asked.append(text) or "prose")
    assert (empty.seq, empty.entry_count, empty.digest_type, events(mem), asked) == (0, 0, "digest", [], [])
    assert "0 entries on branch main" in empty.text
    mem.write(P, "k", 1)
    mem.brief(P)
    mem.delete(P, "k")
    assert (mem.brief(P).entry_count, mem.brief(P).seq) == (0, events(mem)[-1].seq)
    assert len(events(mem)) == 2


def test_an_import_brings_the_events_of_briefs_and_they_are_compiled_anew(
    open_memory: OpenMemory, tmp_path: Path
) -> None:
    mem = open_memory()
    fill(mem)
    before = mem.brief(P)
    mem.export_namespace(tmp_path / "export.jsonl")
    other = open_memory(where=tmp_path / "other.db")
    assert other.brief(P).seq == 0
    other.import_namespace(tmp_path / "export.jsonl")
    assert [event.details for event in events(other)] == [event.details for event in events(mem)]
    after = other.brief(P)
    assert (after.text, len(events(other))) == (before.text, 2)


def test_asking_again_lists_nothing(database: Path) -> None:
    costs: dict[int, list[Any]] = {}
    for entries in (10, 500):
        with metering() as meter, AgentMemory("ada", database.with_name(f"{entries}.db"), durability="normal") as mem:
            with mem.transaction() as tx:
                for number in range(entries):
                    tx.write(f"{P}/{number % 7}", f"k{number}", number)
            call = lambda mem=mem: mem.brief(P, limit=5)  # noqa: E731
            call()
            costs[entries] = [meter.cost(call)]
            mem.write("elsewhere", "k", 1)
            compared = meter.cost(call)  # has to look, and remembers what it found
            costs[entries].append(meter.cost(call))
            assert len(compared.statements) > len(costs[entries][1].statements)
            assert not any("INSERT" in text for text in compared.statements)
    for few, many in zip(costs[10], costs[500], strict=True):
        assert len(few.statements) == len(many.statements) <= 7, many.statements
        assert many.steps <= few.steps + 20


def test_several_that_compile_at_once_make_one_event(open_memory: OpenMemory) -> None:
    mem = open_memory()
    fill(mem)
    ready = threading.Barrier(8)

    def compile_one(number: int) -> Brief:
        with AgentMemory(f"agent {number}", mem.database, durability="normal") as other:
            ready.wait()
            return other.brief(P)

    with ThreadPoolExecutor(8) as pool:
        assert len({brief.seq for brief in pool.map(compile_one, range(8))}) == 1
    assert len(events(mem)) == 1


# --- branches and rights ---------------------------------------------------------------------------------------------


def test_a_brief_of_a_branch_tells_of_that_branch(mem: AgentMemory) -> None:
    fill(mem)
    mem.create_branch("side")
    on_main = mem.brief(P)
    mem.write(P, "retry", "there", branch="side")
    there = mem.brief(P, branch="side")
    assert (there.branch, there.text != on_main.text, mem.brief(P) == on_main) == ("side", True, True)
    assert [event.branch for event in events(mem)] == ["main", "side"]
    mem.close_branch("side")
    assert mem.brief(P, branch="side") == there
    assert mem.brief(P, limit=1, branch="side").seq == events(mem)[-1].seq, "a closed branch may be briefed anew"
    with pytest.raises(BranchNotFoundError):
        mem.brief(branch="sied")


def test_a_brief_of_a_branch_holds_whatever_happens_on_its_parent(mem: AgentMemory) -> None:
    fill(mem)
    mem.create_branch("side")
    first = mem.brief(P, branch="side")
    mem.write(P, "retry", "later, on main")
    assert mem.brief(P, branch="side") == first
    assert {"deploy-41"} == {one.outcome_ref for one in first.outcomes}, "what was inherited was judged there"


def test_a_fork_is_briefed_for_itself(open_memory: OpenMemory) -> None:
    mem = open_memory()
    fill(mem)
    mem.write(P, "mine", 1, shared=False)
    mem.fork("carol")
    carol = open_memory("carol")
    assert carol.brief(P).entry_count == 3
    carol.write(P, "new", 1)
    assert (carol.brief(P).entry_count, mem.brief(P).entry_count) == (4, 3)


@pytest.fixture
def reader(file_mem: AgentMemory) -> Any:
    """Return a handle that may read main, in a database where main clashes with a hidden branch."""
    fill(file_mem)
    file_mem.create_branch("canary")
    for branch in ("canary", "main"):
        file_mem.write(P, "clash", branch, branch=branch)
    file_mem.merge_branch("canary", strategy="manual")
    with AgentMemory("rita", file_mem.database, principal=Principal("rita", role="reader"), durability="normal") as mem:
        yield mem


def test_a_reader_is_told_nothing_of_hidden_branches(file_mem: AgentMemory, reader: AgentMemory) -> None:
    owners = file_mem.brief(P)
    assert (owners.conflicts, "canary" in owners.text) == (1, True)
    theirs = reader.brief(P)
    assert (theirs.conflicts, "canary" in theirs.text, theirs.seq != owners.seq) == (0, False, True)
    assert [event.agent_id for event in events(file_mem)] == ["alice", "rita"]
    assert (file_mem.brief(P), reader.brief(P)) == (owners, theirs), "each finds its own again"
    assert "canary" not in f"{reader.timeline(agent_id='*')!r} {theirs!r} {theirs} {theirs._repr_html_()}"
    file_mem.grant_branch_access("canary", "user", "rita", "read")
    assert reader.brief(P).conflicts == 1
    file_mem.revoke_branch_access("canary", "user", "rita")
    assert reader.brief(P) == theirs


def test_what_the_owners_writer_wrote_is_not_handed_to_a_reader(file_mem: AgentMemory, reader: AgentMemory) -> None:
    def writer(_text: str) -> str:
        return file_mem.read(P, "clash", branch="canary").value

    assert file_mem.brief("checkout-services", writer=writer).text == "canary"
    reader.brief("checkout-services", writer=writer)
    assert len(events(file_mem)) == 2, "the reader's program asked its own writer"


def test_an_outcome_on_a_hidden_parent_is_not_told(file_mem: AgentMemory) -> None:
    fill(file_mem)
    file_mem.create_branch("child")
    file_mem.grant_branch_access("child", "user", "rita", "read")
    assert file_mem.brief(P, branch="child").outcomes
    with AgentMemory("rita", file_mem.database, principal=Principal("rita"), branch="child") as mem:
        assert (mem.brief(P).outcomes, "deploy-41" in mem.brief(P).text) == ((), False)
        with pytest.raises(AccessDeniedError):
            mem.brief(P, branch="main")


# --- reading a brief is reading what it cites ------------------------------------------------------------------------


def test_what_is_cited_is_read(mem: AgentMemory) -> None:
    bob = fill(mem)
    with bob.run("r"):
        for _ in range(2):
            bob.brief(P, limit=2)
        outcome = bob.commit_outcome("deploy-42", "failure")
    assert {cause.entry.entry_key for cause in outcome.causes} == {f"{P}/eu/owner", f"{P}/timeout"}
    (event,) = mem.timeline(event_type="cross_agent_read")
    assert (event.actor, event.run_id, event.details["entity"]) == ("bob", "r", f"{P}/eu/owner")
    cleo = mem.as_agent("cleo")
    cleo.brief(P)
    reads = cleo.timeline(event_type="cross_agent_read")
    assert {(event.agent_id, len(event.details.get("entries", "1"))) for event in reads} == {("alice", 2), ("bob", 1)}


@pytest.mark.parametrize("read_events", ["batched", "off"])
def test_reads_are_recorded_as_the_handle_was_told_to(open_memory: OpenMemory, read_events: str) -> None:
    fill(open_memory())
    with AgentMemory("cleo", open_memory().database, read_events=read_events, durability="normal") as cleo:
        cleo.brief(P)
        assert cleo.timeline(event_type="cross_agent_read") == []
        cleo.write("own", "k", 1)
        assert len(cleo.timeline(event_type="cross_agent_read")) == (2 if read_events == "batched" else 0)


# --- the gate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [{"entity_path": ""}, {"entity_path": "a//b"}, {"entity_path": 1}, {"agent_id": ""}, {"limit": 0}, {"limit": 1.5},
     {"limit": True}, {"writer": "gpt"}, {"writer": 1}, {"branch": ""}],
)  # fmt: skip
def test_bad_arguments_are_refused(file_mem: AgentMemory, arguments: dict[str, Any]) -> None:
    fill(file_mem)
    before = contents(file_mem.database)
    with pytest.raises(InvalidInputError):
        file_mem.brief(**arguments)
    assert changed(before, contents(file_mem.database)) == {}


# --- where nothing can be stored ------------------------------------------------------------------------------------


def test_a_read_only_database_is_briefed_and_stays_as_it_was(open_memory: OpenMemory) -> None:
    mem = open_memory()
    fill(mem)
    stored = mem.brief(P)
    mem.close()
    before = Path(mem.database).read_bytes()
    with AgentMemory("auditor", f"file:{mem.database}?mode=ro") as auditor:
        assert auditor.brief(P) == stored, "what was stored is found"
        other = auditor.brief(P, limit=1)
        assert (other.seq, len(other.citations), other.entry_count) == (0, 1, 3)
        assert auditor.brief(writer=str.upper).text == auditor.brief().text.upper()
        assert "not stored" in str(other)
    assert Path(mem.database).read_bytes() == before
