"""Which writes a task has made, so that a node that LangGraph retries does not make them again."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter, OrderedDict
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from amfs.models import Delete, Put

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from amfs.models import Operation
    from langchain_amfs.runtime import Caller

__all__ = ["Attempts"]

_TASKS = 1_000
"""Of how many tasks the writes are remembered; more than can be under way at a time."""


@dataclass(slots=True)
class _Task:
    """What a task has written in all its attempts, and what it was asked to write in this one."""

    attempt: int = 1
    done: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)


class Attempts:
    """The writes of tasks, counted by what they write and where; safe to use from several threads.

    A write is a repetition if an attempt before made it: the n-th of the same in an attempt stands for the n-th that
    was ever made. What an attempt writes differently is written.
    """

    def __init__(self) -> None:
        self._tasks: OrderedDict[str, _Task] = OrderedDict()
        self._lock = threading.Lock()

    def once(self, caller: Caller, branch: str, operations: Sequence[Operation]) -> AbstractContextManager[list[bool]]:
        """Return a context in which operations are made, and which of them are to be made: those not repeated."""
        if caller.task_id is None:
            return nullcontext([True] * len(operations))
        return self._once(caller.task_id, caller.attempt, [_mark(branch, operation) for operation in operations])

    @contextmanager
    def _once(self, task_id: str, attempt: int, marks: Sequence[str]) -> Iterator[list[bool]]:
        fresh = self._begin(task_id, attempt, marks)
        try:
            yield fresh
        except BaseException:
            self._update(task_id, made=(), taken_back=marks)
            raise
        self._update(task_id, made=itertools.compress(marks, fresh), taken_back=())

    def _begin(self, task_id: str, attempt: int, marks: Sequence[str]) -> list[bool]:
        with self._lock:
            task = self._tasks.setdefault(task_id, _Task(attempt))
            self._tasks.move_to_end(task_id)
            while len(self._tasks) > _TASKS:
                self._tasks.popitem(last=False)
            if task.attempt != attempt:
                task.attempt, task.asked = attempt, Counter()
            fresh: list[bool] = []
            for mark in marks:
                task.asked[mark] += 1
                fresh.append(not mark or task.asked[mark] > task.done[mark])
            return fresh

    def _update(self, task_id: str, *, made: Iterable[str], taken_back: Iterable[str]) -> None:
        with self._lock:
            task = self._tasks.get(task_id)
            if task is not None:
                task.done.update(made)
                task.asked.subtract(taken_back)


def _mark(branch: str, operation: Operation) -> str:
    """Return what tells a write from others; "" for what is none, or cannot be written anyway."""
    if isinstance(operation, Delete):
        what = [branch, operation.entity_path, operation.key]
    elif isinstance(operation, Put):
        refs = list(operation.pattern_refs)
        what = [branch, operation.entity_path, operation.key, operation.value, operation.ttl, refs]
    else:
        return ""
    try:
        return blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=16).hexdigest()
    except (TypeError, ValueError, RecursionError):
        return ""  # the gate refuses it, and says why
