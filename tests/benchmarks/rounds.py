"""What is timed in each round: every verb with a promise, on every database in turn."""

from __future__ import annotations

import itertools
import sys
import time
from typing import TYPE_CHECKING, Any

from timing import Timings
from tqdm import tqdm
from workload import CHANGES, DEPTHS, TAG, branch_at, place, value

from amfs import Durability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from workload import Subject

    from amfs import AgentMemory

_WRITES, _READS, _LISTS, _NAMES, _FEW = 400, 2000, 20, 9, 3


class Measured:
    """What was taken on one database: the times by operation."""

    def __init__(self, subject: Subject) -> None:
        self.size = subject.size
        self.is_crowded = subject.is_crowded
        self.times: dict[str, Timings] = {}

    def of(self, name: str) -> Timings:
        """Return the times of an operation, none to begin with."""
        return self.times.setdefault(name, Timings())


def measure(subjects: list[Subject], rounds: int) -> list[Measured]:
    """Measure every subject in rounds that take turns."""
    measured = [Measured(subject) for subject in subjects]
    turns = list(itertools.product(range(rounds + 1), zip(subjects, measured, strict=True)))
    for number, (subject, taken) in tqdm(turns, desc=subjects[0].durability, file=sys.stderr):
        if number == 1:  # the first round only warms up
            taken.times.clear()
        _Round(subject, taken, number).run()
    return measured


class _Round:
    """One round on one subject."""

    def __init__(self, subject: Subject, taken: Measured, number: int) -> None:
        self.subject, self.memory, self.taken = subject, subject.memory, taken
        self.names = [f"bench/{subject.durability}/{number}/{index}" for index in range(_FEW)]

    def take(self, name: str, operation: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> Any:
        return self.taken.of(name).take(operation, arguments)

    def take_changes(self, name: str, operation: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> None:
        """Time what must have found all CHANGES; something else would be measured otherwise."""
        found = self.take(name, operation, arguments)
        if found != CHANGES:
            raise RuntimeError(f"{name} came upon {found} changes, not {CHANGES}")

    def run(self) -> None:
        self.write()
        self.read()
        self.read_the_past()
        self.name_moments()
        self.bring_together()
        self.fork()

    def write(self) -> None:
        subject, salt = self.subject, self.subject.salt()
        count = _WRITES // 4 if subject.durability is Durability.FULL else _WRITES

        def writing(memory: AgentMemory) -> Callable[[int], object]:
            return lambda n: memory.write(*place(n), value(n + salt))

        for name, operation in (
            ("plain write", lambda n: subject.table.write(*place(n), value(n + salt))),
            ("history write", lambda n: subject.history.write(*place(n), value(n + salt))),
            ("write", writing(subject.memory)),
            ("write with a key", writing(subject.keyed)),
        ):
            self.take(name, operation, zip(subject.numbers(count)))

    def read(self) -> None:
        subject, memory = self.subject, self.memory
        operations: list[tuple[str, Callable[[int], object]]] = [
            ("plain read", lambda n: subject.table.read(*place(n))),
            ("read", lambda n: memory.read(*place(n))),
            ("read with a key", lambda n: subject.keyed.read(*place(n))),
        ]
        for depth in DEPTHS:
            name = branch_at(depth)
            operations.append((f"read at depth {depth}", lambda n, name=name: memory.read(*place(n), branch=name)))
        for name, operation in operations:  # each with entries of its own: what one read is not warm for the next
            self.take(name, operation, zip(subject.numbers(_READS)))

    def read_the_past(self) -> None:
        subject, memory = self.subject, self.memory
        for name, at in (("read by seq", subject.built), ("read by tag", TAG)):
            self.take(name, lambda n, at=at: memory.read(*place(n), at=at), zip(subject.numbers(_READS // 4)))
        paths = [place(number)[0] for number in subject.numbers(_LISTS)]
        self.take("list by seq", lambda path: memory.list(path, at=subject.built), zip(paths))

    def name_moments(self) -> None:
        memory, names = self.memory, [(f"{self.names[0]}/{index}",) for index in range(_NAMES)]
        self.take("create branch", lambda name: memory.create_branch(name, source="main"), names)
        self.take("create tag", memory.create_tag, names)
        self.take("delete tag", memory.delete_tag, names)
        if self.subject.is_crowded:
            start = time.perf_counter_ns()
            found = len(memory.branches())
            self.taken.of("branches, for each").rounds.append([(time.perf_counter_ns() - start) / 1000 / found])

    def bring_together(self) -> None:
        subject, memory = self.subject, self.memory
        subject.diverge(self.names)
        self.take_changes("diff", lambda name: len(memory.diff_branch(name, "main")), zip(self.names))
        self.take_changes(
            "merge", lambda name: memory.merge_branch(name, target="main").merged_entries, zip(self.names)
        )
        picked = subject.diverge([f"{name}/pick" for name in self.names])
        self.take_changes(
            "cherry-pick",
            lambda name, keys: memory.cherry_pick(name, keys, target="main").merged_entries,
            [(one.name, one.keys) for one in picked],
        )
        undone = subject.diverge([f"{name}/undo" for name in self.names])
        self.take_changes(
            "rollback",
            lambda name, seq: memory.rollback(seq=seq, branch=name).restored_entries,
            [(one.name, one.start) for one in undone],
        )

    def fork(self) -> None:
        """Fork when as much changed since the last fork each time: what was counted then is counted on from there."""
        memory, clock, taken = self.memory, time.perf_counter_ns, []
        for name in self.names:
            self.subject.change("main", self.subject.numbers(CHANGES))
            start = clock()
            memory.fork(f"forked/{name}")
            taken.append((clock() - start) / 1000)
        self.taken.of("fork after changes").rounds.append(taken)
        self.take("fork", memory.fork, [(f"forked/{name}/again",) for name in self.names])
