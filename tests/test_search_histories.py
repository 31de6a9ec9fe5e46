"""Random histories: on every branch, and as of any seq, a search finds exactly what the list holds with its words.

Searches come at random moments, so the index catches up at arbitrary points, now and then with a part of the log only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from amfs import AgentMemory, AMFSError, DatabaseError, Entry
from amfs.storage import indexing
from tests.helpers_search import P
from tests.helpers_tables import contents

OpenMemory = Callable[..., AgentMemory]
WORDS = ("zebra", "lion", "tiger", "puma")
KEYS = ("one", "two", "three")
AGENTS = ("alice", "bob")


@contextmanager
def refused() -> Iterator[None]:
    """Let what makes no sense be refused; the database must not fail."""
    try:
        yield
    except DatabaseError:
        raise
    except AMFSError:
        pass


class History:
    """A memory that random things happen to."""

    def __init__(self, mem: AgentMemory, clock: Any, rng: random.Random) -> None:
        self.agents = [mem, *(mem.as_agent(name) for name in AGENTS[1:])]
        self.mem, self.rng, self.clock = mem, rng, clock
        self.branches = ["main"]
        self.seqs: list[int] = []
        self.number = 0

    def happen(self) -> None:
        """Do something, which may be refused."""
        self.number += 1
        self.clock.advance(self.rng.choice((0, 0, 1, 3)))
        act = self.rng.choices(ACTS, [weight for _, weight in CHOICES])[0]
        with refused():
            act(self, self.rng.choice(self.agents), self.rng.choice(self.branches))

    def write(self, agent: AgentMemory, branch: str) -> None:
        """Write some words."""
        words = self.rng.sample(WORDS, self.rng.randint(0, 2))
        how: dict[str, Any] = {"ttl": 5} if self.rng.random() < 0.1 else {}
        how |= {"memory_type": "message"} if self.rng.random() < 0.1 else {}
        value = self.rng.choice([words, {"text": " ".join(words)}, "\n".join(words)])
        entry = agent.write(P, self.rng.choice(KEYS), value, branch=branch, shared=self.rng.random() < 0.8, **how)
        self.seqs.append(entry.seq)

    def delete(self, agent: AgentMemory, branch: str) -> None:
        """Delete an entry."""
        agent.delete(P, self.rng.choice(KEYS), branch=branch)

    def branch(self, agent: AgentMemory, source: str) -> None:
        """Make a branch, now or at the past."""
        name = f"b{self.number}"
        agent.create_branch(name, source=source, at=self.rng.choice([None, self.rng.choice(self.seqs)]))
        self.branches.append(name)

    def merge(self, agent: AgentMemory, target: str) -> None:
        """Merge a branch."""
        strategy = self.rng.choice(["source_wins", "target_wins"])
        agent.merge_branch(self.rng.choice(self.branches), target=target, strategy=strategy)

    def pick(self, agent: AgentMemory, target: str) -> None:
        """Bring one entry over."""
        agent.cherry_pick(
            self.rng.choice(self.branches), [(P, self.rng.choice(KEYS))], target=target, strategy="source_wins"
        )

    def roll_back(self, agent: AgentMemory, branch: str) -> None:
        """Restore what was."""
        agent.rollback(seq=self.rng.choice(self.seqs), branch=branch, include_others=True)

    def judge(self, agent: AgentMemory, branch: str) -> None:
        """Judge an entry."""
        outcome = self.rng.choice(["success", "failure"])
        agent.commit_outcome(f"o{self.number}", outcome, [(P, self.rng.choice(KEYS))], branch=branch)

    def close(self, agent: AgentMemory, branch: str) -> None:
        """Close a branch."""
        agent.close_branch(branch)

    def search(self, agent: AgentMemory, branch: str) -> None:
        """Search somewhere, so that the index catches up."""
        at = self.rng.choice([None, None, self.rng.choice(self.seqs)])
        compare(agent, self.rng.choice(WORDS), branch=branch, at=at)


CHOICES: list[tuple[Callable[[History, AgentMemory, str], None], float]] = [
    (History.write, 10), (History.delete, 2), (History.branch, 2), (History.merge, 2), (History.pick, 1),
    (History.roll_back, 1), (History.judge, 1), (History.close, 0.2), (History.search, 3),
]  # fmt: skip
ACTS = [act for act, _ in CHOICES]


def words_of(entry: Entry) -> set[str]:
    """Return the words in an entry's value."""
    value = entry.value["text"] if isinstance(entry.value, dict) else entry.value
    return set(value if isinstance(value, list) else value.split())


def compare(mem: AgentMemory, word: str, **how: Any) -> None:
    """Compare what a search finds with what the list holds."""
    kinds = ["fact", "message"]
    listed = [*mem.list(P, **how), *mem.list(P, memory_type="message", **how)]
    expected = sorted(entry.seq for entry in listed if word in words_of(entry))
    hits = mem.search(word, limit=1000, memory_type=kinds, weights={"neighbours": 0}, **how)
    by_seq = {entry.seq: entry for entry in listed}
    assert sorted(hit.entry.seq for hit in hits) == expected, (mem.agent_id, word, how)
    assert all(hit.entry == by_seq[hit.entry.seq] for hit in hits)
    newest = [hit.entry.seq for hit in mem.search(limit=1000, memory_type=kinds, **how)]
    assert newest == sorted(by_seq, reverse=True)


@pytest.mark.parametrize("rows", [1, 7, 10_000])
@pytest.mark.parametrize("seed", range(6))
def test_a_search_finds_exactly_what_is_there(
    open_memory: OpenMemory, clock, monkeypatch: pytest.MonkeyPatch, seed: int, rows: int
) -> None:
    monkeypatch.setattr(indexing, "_ROWS", rows)
    history = History(open_memory(read_events="off"), clock, random.Random(f"{seed} {rows}"))
    for _ in range(250):
        history.happen() if history.seqs else history.write(history.mem, "main")
    assert len(history.branches) > 5
    for agent in history.agents:
        for branch in history.branches:
            for word in WORDS:
                compare(agent, word, branch=branch)
        for at in history.rng.sample(history.seqs, 5):
            with refused():
                compare(agent, history.rng.choice(WORDS), branch=history.rng.choice(history.branches), at=at)
    assert_holds_what_a_new_one_holds(history.mem)


def assert_holds_what_a_new_one_holds(mem: AgentMemory) -> None:
    """Compare the index with one that is made anew: the same versions keep the same documents."""

    def held() -> tuple[set[Any], set[Any]]:
        mem.search("zebra")
        rows = contents(mem.database)
        return {row[:3] for row in rows["search_current"]}, {row[0] for row in rows["search_current_text_docsize"]}

    before = held()
    mem.rebuild_search_index()
    assert held() == before
