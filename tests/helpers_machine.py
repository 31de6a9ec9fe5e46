"""A Hypothesis state machine that makes every call on the engine, in a real file, and on the reference model.

A step is one public call. After every change the branch it touched is compared in full, every twenty steps all is.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from functools import partial
from itertools import permutations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from amfs import AgentMemory
from amfs.errors import AMFSError, FastForwardRefusedError, MergeConflictError
from tests.helpers_seen import (
    agree,
    foretold,
    foretold_all,
    foretold_change,
    foretold_merge,
    instant,
    seen,
    seen_change,
    seen_event,
    seen_merge,
)
from tests.model import Model
from tests.model_merge import Version

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from amfs.models import MergeResult

T = TypeVar("T")
U = TypeVar("U")

AGENTS = ("ada", "ben", "cleo")
PATHS = ("svc", "svc/db", "notes")
KEYS = ("k", "a/b", "z")
STRATEGIES = ("three_way", "three_way", "source_wins", "target_wins", "fast_forward")
OUTCOMES = ("success", "minor_failure", "failure", "critical_failure")
START = 1_700_000_000_000_000
SECOND = 1_000_000
JUMPS = (0, 0, 0, -86_400 * SECOND, 315_360_000 * SECOND)
MAX_BRANCHES = 7

GONE = ...
FIELDS: dict[str, tuple[Any, ...]] = {
    "a": (GONE, 1, 1.0, True),
    "b": (GONE, {}, {"c": 1}, {"c": 2, "d~/": [1]}),
    "x/y": (GONE, None),
}
OBJECTS = [
    {name: value for name, value in zip(FIELDS, values, strict=True) if value is not GONE}
    for values in product(*FIELDS.values())
]

agents = st.sampled_from(AGENTS)
slots = st.sampled_from([(PATHS[0], KEYS[0])] * 5 + list(product(PATHS, KEYS)))
picks = st.integers(0, 999)
values = st.sampled_from([1, 1.0, True, "x", None, [1], [True], *OBJECTS])
fields = st.sampled_from([(name, value) for name, those in FIELDS.items() for value in those])
confidences = st.sampled_from([1.0, 0.5, 0.25, 0.0])
strategies = st.sampled_from(STRATEGIES)
particulars = st.sampled_from(
    [{}, {}, {}, {"ttl": 3.5}, {"ttl": 15}, {"memory_type": "belief"}, {"pattern_refs": ("p", "q")}]
)
rarely = st.sampled_from([True, False, False, False])
scopes = st.sampled_from([None, None, None, None, ("svc",), ("svc/db", "notes")])

# Rules that only look are left out while too few steps of a run have changed something.
looking = precondition(lambda self: self.changes * 5 >= self.steps * 3)


class MemoryMachine(RuleBasedStateMachine):
    """Several agents at work in one database, each call made on the engine and on the model."""

    def __init__(self, folder: Path, tally: Counter[str]) -> None:
        super().__init__()
        self.file = Path(tempfile.mkdtemp(dir=folder)) / "amfs.db"
        self.tally = tally
        self.steps = self.changes = 0
        self.broken = False
        self.now = START
        self.model = Model()
        self.open(AGENTS[0])

    def open(self, agent: str) -> None:
        """Open the file; what a session had noticed is forgotten with it."""
        self.memory = AgentMemory(agent, self.file, durability="normal", clock=lambda: self.now)
        self.handles = {name: self.memory if name == agent else self.memory.as_agent(name) for name in AGENTS}
        self.model.noticed.clear()

    def teardown(self) -> None:
        """Compare everything a last time and remove the file."""
        try:
            if not self.broken:
                self.compare_all()
        finally:
            self.memory.close()
            for file in self.file.parent.iterdir():
                file.unlink()
            self.file.parent.rmdir()

    def step(
        self, operation: str, engine: Callable[[], T], model: Callable[[], U], *touched: str
    ) -> tuple[T, U] | None:
        """Take a step on both sides and return both results, None where both refused it alike."""
        self.broken = True
        self.now += SECOND
        self.model.tick(self.now)
        before = self.model.seq
        foreseen, refusal = attempt(model)
        result, error = attempt(engine)
        assert type(error) is type(refusal), f"{operation}: {error!r}, not {refusal!r}"
        self.steps += 1
        self.tally[operation] += 1
        if self.model.seq > before:
            self.changes += 1
            self.tally["*changed"] += 1
            for branch in touched:
                self.compare_branch(branch)
        if self.steps % 20 == 0:
            self.compare_all()
        self.broken = False
        if refusal is not None:
            self.tally[f"*refused {type(refusal).__name__}"] += 1
            return None
        return result, foreseen  # type: ignore[return-value]

    def compare_branch(self, branch: str) -> None:
        """Compare what every agent sees on a branch."""
        for agent, memory in self.handles.items():
            listed = list(map(seen, memory.list(branch=branch)))
            agree(listed, list(map(foretold, self.model.list(agent, branch))))

    def compare_all(self) -> None:
        """Compare all branches, histories and timelines, now and at one moment of the past."""
        shown = [(one.name, one.parent, one.fork_seq, one.status.value) for one in self.memory.branches()]
        expected = [
            (one.name, one.parent, one.fork if one.parent else None, "open" if one.is_open else "closed")
            for one in self.model.branches.values()
        ]
        agree(shown, expected)
        for branch in self.model.branches:
            self.compare_branch(branch)
            for agent, memory in self.handles.items():
                self.compare_past(agent, memory, branch)
        for agent, memory in self.handles.items():
            for whose in AGENTS:
                events = memory.timeline(agent_id=None if whose == agent else whose, limit=10_000)
                agree(list(map(seen_event, events)), self.events(agent, agent=whose))
        report = self.memory.verify()
        assert report.ok, report

    def compare_past(self, agent: str, memory: AgentMemory, branch: str) -> None:
        """Compare what an agent sees of a branch's past."""
        at = self.model.seq // 2
        listed = list(map(seen, memory.list(branch=branch, at=at)))
        agree(listed, list(map(foretold, self.model.list(agent, branch, at))))
        slots = [slot for slot in self.model.order if slot[0] in (None, agent)]
        versions = sorted((one for slot in slots for one in self.model.history(slot, branch)), key=by_seq)
        agree(list(map(seen, memory.list(branch=branch, include_superseded=True))), foretold_all(versions))
        for path, key in product(PATHS, KEYS):
            history = list(map(seen, memory.history(path, key, branch=branch)))
            agree(history, foretold_all(self.history(agent, branch, path, key)))
        events = list(map(seen_event, memory.timeline(branch=branch, limit=10_000)))
        agree(events, self.events(agent, branch=branch))

    def history(self, agent: str, branch: str, path: str, key: str) -> list[Version]:
        """Return the history of the slot a read sees; where none is live, of one that ever was."""
        kept = [self.model.history((owner, path, key), branch) for owner in (agent, None)]
        live = [versions for versions in kept if versions and self.model.alive(versions[-1])]
        return next((versions for versions in (*live, *kept) if versions), [])

    def events(self, viewer: str, **which: str) -> list[tuple[Any, ...]]:
        """Return a timeline of the model as ``seen_event`` shows it."""
        return [
            (event.seq, event.kind, event.agent, event.actor, event.branch, instant(event.at))
            for event in self.model.timeline(viewer, **which)
        ]

    # --- choosing among what is there --------------------------------------------------------------------------

    def branch(self, pick: int, *, is_open: bool = True) -> str:
        """Pick a branch by number, the newest ones first."""
        names = [name for name, one in self.model.branches.items() if one.is_open or not is_open]
        return names[-1 - pick % len(names)]

    def visible(self, agent: str, branch: str, pick: int) -> Version | None:
        """Pick one of the entries that an agent reads on a branch, None where there are none."""
        entries = self.model.list(agent, branch)
        if not entries:
            return None
        _, path, key = entries[pick % len(entries)].slot
        return self.model.find(agent, branch, path, key)

    def pair(self, agent: str, source: int, other: int) -> tuple[str, str]:
        """Pick two open branches of which the first has changes for the second, or now and then any two."""
        names = [name for name, one in self.model.branches.items() if one.is_open]
        pairs = list(permutations(names, 2)) if source % 8 else []
        start = other % len(pairs) if pairs else 0
        any_two = self.branch(source, is_open=False), self.branch(other, is_open=False)
        return next((one for one in pairs[start:] + pairs[:start] if self.model.diff(agent, *one)), any_two)

    # --- entries -----------------------------------------------------------------------------------------------

    def write_both(self, agent: str, branch: str, slot: tuple[str, str], value: Any, **how: Any) -> None:
        """Write on both sides and compare the entries."""
        names = {"pattern_refs": "refs", "expected_version": "expected"}
        both = self.step(
            "write",
            partial(self.handles[agent].write, *slot, value, branch=branch, **how),
            partial(
                self.model.write, agent, branch, *slot, value, **{names.get(name, name): how[name] for name in how}
            ),
            branch,
        )
        if both:
            agree(seen(both[0]), foretold(both[1]))

    @rule(
        agent=agents, pick=picks, slot=slots, value=values, shared=st.sampled_from([True, True, False]),
        confidence=confidences, how=particulars,
    )  # fmt: skip
    def write(
        self, agent: str, pick: int, slot: tuple[str, str], value: Any, shared: bool, confidence: float, how: Any
    ) -> None:
        """Write any value anywhere."""
        self.write_both(agent, self.branch(pick), slot, value, shared=shared, confidence=confidence, **how)

    @rule(agent=agents, source=picks, other=picks, slot=slots, changes=st.tuples(fields, fields | st.none()))
    def diverge(self, agent: str, source: int, other: int, slot: tuple[str, str], changes: Any) -> None:
        """Change fields of one object on two branches, or delete it on one, so that merges have something to settle."""
        for pick, change in zip((source, other), changes, strict=True):
            branch = self.branch(pick)
            found = self.model.find(agent, branch, *slot)
            if change is None and found:
                self.delete_both(agent, branch, slot)
            elif change is not None:
                old = found.value if found and isinstance(found.value, dict) else {}
                value = {name: value for name, value in {**old, change[0]: change[1]}.items() if value is not GONE}
                self.write_both(agent, branch, slot, value, shared=not found or found.slot[0] is None)

    @rule(agent=agents, pick=picks, entry=picks, confidence=confidences, off=st.sampled_from([0, 0, 0, 1, -1]))
    def write_again(self, agent: str, pick: int, entry: int, confidence: float, off: int) -> None:
        """Write the value that is there once more, expecting the right version number or a wrong one."""
        branch = self.branch(pick)
        found = self.visible(agent, branch, entry)
        slot, value = (found.slot[1:], found.value) if found else (("svc", "k"), 1)
        how = {"shared": not found or found.slot[0] is None, "expected_version": (found.number if found else 0) + off}
        if how["expected_version"] >= 0:
            self.write_both(agent, branch, slot, value, confidence=confidence, **how)

    def delete_both(self, agent: str, branch: str, slot: tuple[str, str]) -> None:
        """Delete on both sides."""
        both = self.step(
            "delete",
            lambda: self.handles[agent].delete(*slot, branch=branch),
            lambda: self.model.delete(agent, branch, *slot),
            branch,
        )
        assert both
        agree(both[0], both[1])

    @rule(agent=agents, pick=picks, entry=picks, slot=slots)
    def delete(self, agent: str, pick: int, entry: int, slot: tuple[str, str]) -> None:
        """Delete an entry that is there, or now and then one that is not."""
        branch = self.branch(pick)
        found = self.visible(agent, branch, entry)
        if found or entry % 8 == 0:
            self.delete_both(agent, branch, found.slot[1:] if found and entry % 8 else slot)

    @looking
    @rule(agent=agents, pick=picks, slot=slots)
    def read(self, agent: str, pick: int, slot: tuple[str, str]) -> None:
        """Read an entry; the first sight of another agent's version is an event."""
        branch = self.branch(pick, is_open=False)
        both = self.step(
            "read",
            lambda: self.handles[agent].read(*slot, branch=branch),
            lambda: self.model.read(agent, branch, *slot),
            branch,
        )
        assert both
        agree(seen(both[0]), foretold(both[1]))

    @looking
    @rule(agent=agents, pick=picks, slot=slots, back=picks, by_time=st.booleans())
    def read_past(self, agent: str, pick: int, slot: tuple[str, str], back: int, by_time: bool) -> None:
        """Read an entry as it was at a seq, or when an event happened."""
        branch, at = self.branch(pick, is_open=False), back % (self.model.seq + 1)
        moment: int | datetime = at
        if by_time:
            event = self.model.events[back % len(self.model.events)]
            at, moment = self.model.seq_at(event.at), instant(event.at)
        both = self.step(
            "read as of",
            lambda: self.handles[agent].read(*slot, at=moment, branch=branch),
            lambda: self.model.read(agent, branch, *slot, at),
            branch,
        )
        assert both
        agree(seen(both[0]), foretold(both[1]))

    @rule(
        agent=agents, pick=picks, entries=st.lists(picks, max_size=3), ref=st.integers(0, 30),
        kind=st.sampled_from(OUTCOMES), weight=st.sampled_from([1.0, 1.0, 0.5, 0.0]),
    )  # fmt: skip
    def commit_outcome(self, agent: str, pick: int, entries: list[int], ref: int, kind: str, weight: float) -> None:
        """Judge entries that are there, and now and then one that is not."""
        branch = self.branch(pick)
        found = [self.visible(agent, branch, entry) for entry in entries]
        slots = [one.slot[1:] if one else ("svc", "k") for one in found]
        both = self.step(
            "outcome",
            lambda: self.handles[agent].commit_outcome(f"r{ref}", kind, slots, causal_confidence=weight, branch=branch),
            lambda: self.model.commit_outcome(agent, branch, f"r{ref}", kind, slots, weight),
            branch,
        )
        if both:
            result, (event, versions) = both
            assert result.recorded == (event is not None)
            assert event is None or result.seq == event.seq
            agree(list(map(seen, result.entries)), list(map(foretold, versions)))

    # --- branches ----------------------------------------------------------------------------------------------

    def create_both(self, agent: str, source: str, at: int | None = None) -> None:
        """Create a branch on both sides and compare what it starts with."""
        name = f"line/{len(self.model.branches)}"
        both = self.step(
            "create_branch",
            lambda: self.handles[agent].create_branch(name, source=source, at=at),
            lambda: self.model.create_branch(agent, name, source, at),
            source,
        )
        assert both
        agree((both[0].parent, both[0].fork_seq), (both[1].parent, both[1].fork))
        self.compare_branch(name)

    @initialize(value=st.sampled_from(OBJECTS), agent=agents)
    def plant(self, value: Any, agent: str) -> None:
        """Start with something that a child, its sibling and a grandchild have in common."""
        self.write_both(agent, "main", (PATHS[0], KEYS[0]), value)
        for source in ("main", "main", "line/1"):
            self.create_both(agent, source)

    @precondition(lambda self: len(self.model.branches) < MAX_BRANCHES)
    @rule(agent=agents, pick=picks, back=st.none() | picks)
    def create_branch(self, agent: str, pick: int, back: int | None) -> None:
        """Create a branch from any other, as it is or was."""
        source = self.branch(pick, is_open=False)
        self.create_both(agent, source, None if back is None else back % (self.model.seq + 1))

    @precondition(lambda self: sum(one.is_open for one in self.model.branches.values()) > 3)
    @rule(agent=agents, pick=picks, now=rarely)
    def close_branch(self, agent: str, pick: int, now: bool) -> None:
        """Close a branch, or try to: main and closed ones cannot be."""
        name = self.branch(pick, is_open=bool(pick % 4))
        if now:
            self.step(
                "close_branch",
                lambda: self.handles[agent].close_branch(name),
                lambda: self.model.close_branch(agent, name),
                name,
            )

    @looking
    @precondition(lambda self: not all(one.is_open for one in self.model.branches.values()))
    @rule(agent=agents, pick=picks, slot=slots, now=rarely)
    def write_closed(self, agent: str, pick: int, slot: tuple[str, str], now: bool) -> None:
        """Try to write a closed branch."""
        closed = [name for name, one in self.model.branches.items() if not one.is_open]
        if now:
            self.write_both(agent, closed[pick % len(closed)], slot, 1)

    @looking
    @rule(agent=agents, source=picks, other=picks)
    def diff(self, agent: str, source: int, other: int) -> None:
        """Compare two branches, related in any way."""
        names = self.branch(source, is_open=False), self.branch(other, is_open=False)
        both = self.step(
            "diff",
            lambda: self.handles[agent].diff_branch(names[0], names[1]),
            lambda: self.model.diff(agent, *names),
        )
        assert both
        agree(list(map(seen_change, both[0])), list(map(foretold_change, both[1])))

    def merge_both(self, agent: str, source: str, target: str | None, strategy: str, **how: Any) -> None:
        """Merge on both sides and compare what was done."""
        into = target or self.model.branches[source].parent or source
        relation = self.relation(source, into)
        both = self.step(
            "merge preview" if how.get("dry_run") else "merge",
            lambda: merged(self.handles[agent], source, target=target, strategy=strategy, **how),
            lambda: self.model.merge(agent, source, into, strategy, **how),
            into,
        )
        if both:
            agree(seen_merge(both[0]), foretold_merge(both[1]))
            self.tally[f"*merge {both[1].status}"] += 1
            self.tally[f"*merge {relation}"] += both[1].event is not None
            self.tally.update(f"*{change.fate} {change.kind}" for change in both[1].changes)

    def relation(self, source: str, target: str) -> str:
        """Return how two branches are related, for the tally."""
        edges = {(edge.source, edge.target) for edge in self.model.edges}
        if {(source, target), (target, source)} <= edges:
            return "criss-cross"
        parents = {name: branch.parent for name, branch in self.model.branches.items()}
        if parents[source] == target or parents[target] == source:
            return "parent and child"
        if parents[source] == parents[target]:
            return "siblings"
        lines = ((source, target), (target, source))
        return "grandchild" if any(parents.get(parents[one]) == other for one, other in lines) else "others"

    @rule(agent=agents, pick=picks, strategy=strategies, within=scopes, down=st.booleans(), close=rarely)
    def merge_family(
        self, agent: str, pick: int, strategy: str, within: tuple[str, ...] | None, down: bool, close: bool
    ) -> None:
        """Merge a branch into its parent, or bring it up to date with its parent."""
        child = self.branch(pick)
        parent = self.model.branches[child].parent
        sides = (parent, child) if down else (child, parent)
        if parent is None or (pick % 4 and not self.model.diff(agent, *sides)):
            return
        if down:
            self.merge_both(agent, *sides, strategy, paths=within)
        else:
            self.merge_both(agent, child, None, strategy, paths=within, close=close)

    @rule(agent=agents, source=picks, other=picks, strategy=strategies, within=scopes)
    def merge(self, agent: str, source: int, other: int, strategy: str, within: tuple[str, ...] | None) -> None:
        """Merge two branches of which one has something to bring, or now and then any, closed ones included."""
        self.merge_both(agent, *self.pair(agent, source, other), strategy, paths=within)

    @looking
    @rule(agent=agents, source=picks, other=picks, strategy=strategies, within=scopes)
    def preview(self, agent: str, source: int, other: int, strategy: str, within: tuple[str, ...] | None) -> None:
        """Ask what a merge would do."""
        self.merge_both(agent, *self.pair(agent, source, other), strategy, paths=within, dry_run=True)

    @looking
    @rule(agent=agents, jump=st.sampled_from(JUMPS), now=rarely)  # it costs as much as ten other steps
    def reopen(self, agent: str, jump: int, now: bool) -> None:
        """Close the file and open it again, as any agent, perhaps after the clock was set back, or years later."""

        def close_and_open() -> None:
            self.memory.close()
            self.open(agent)

        if now:
            self.now += jump
            self.step("reopen", close_and_open, lambda: None, *self.model.branches)


def attempt(call: Callable[[], T]) -> tuple[T | None, AMFSError | None]:
    """Make a call and return its result, or the error with which it was refused."""
    try:
        return call(), None
    except AMFSError as error:
        return None, error


def merged(memory: AgentMemory, source: str, **how: Any) -> MergeResult:
    """Merge, and return the result also where the merge is refused for what it says."""
    raised: type[AMFSError] | None = None
    try:
        result = memory.merge_branch(source, **how)
    except (MergeConflictError, FastForwardRefusedError) as error:
        result, raised = error.result, type(error)
    refusals = {} if how.get("dry_run") else {"conflicts": MergeConflictError, "refused": FastForwardRefusedError}
    assert raised is refusals.get(result.status.value)
    return result


def by_seq(version: Version) -> int:
    """Sort versions by age."""
    return version.seq


def run_machine(folder: Path, how: settings, start: int) -> Counter[str]:
    """Run the machine within a budget, from a seed, and return how often each thing was done."""
    tally: Counter[str] = Counter()
    run_state_machine_as_test(seed(start)(lambda: MemoryMachine(folder, tally)), settings=how)
    return tally
