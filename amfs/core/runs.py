"""Runs and their read sets: what was read, by whom, and which of it another agent had written.

A session is a run without a name. Which run a read belongs to follows the context (a ContextVar), so two runs that
live at the same time never mix; outside any run it is the session of the handle.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast
from weakref import WeakSet

from amfs.core import timeline
from amfs.core.validation import json_text
from amfs.errors import AMFSError, RunNotFoundError, UsageError
from amfs.models import Entry, ReadEvents

if TYPE_CHECKING:
    from types import TracebackType

    from amfs.core.context import Access, Context, WriteContext
    from amfs.storage.base import Transaction
    from amfs.storage.rows import BranchRow

Scope = tuple[str, str]
"""The database and namespace a run belongs to."""

_current: ContextVar[Mapping[Scope, Run]] = ContextVar("amfs_runs", default={})  # noqa: B039 - never changed in place


class Pending(NamedTuple):
    """A read of another agent's entry that is yet to be recorded: who read it, on which branch, in which task."""

    agent: str
    branch: BranchRow
    task: str | None
    entry: Entry


def current(scope: Scope) -> Run | None:
    """Return the run this context is in, for a database and namespace."""
    runs = _current.get()
    return runs.get(scope) if runs else None


class Run:
    """One agent invocation: use it in a ``with`` (or ``async with``) statement; what is read inside is its read set.

    The read set is saved when the run ends or commits an outcome, so ``commit_outcome(run_id=...)`` works later and
    from another process. ``attached()`` enters the run without ending it, for callbacks that come and go.
    """

    def __init__(
        self,
        session_id: str,
        run_id: str,
        *,
        save: Callable[[Run], None],
        live: LiveRuns,
        thread_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        scope: Scope = ("", ""),
    ) -> None:
        self.session_id = session_id
        self.run_id = run_id
        self.thread_id = thread_id
        self.metadata: Mapping[str, Any] = dict(metadata or {})
        self.unsaved: dict[int, int] = {}
        self.pending: list[Pending] = []
        self._announced: dict[tuple[str, int], object] = {}
        self._recorded = False
        self._scope = scope
        self._save = save
        self._live = live
        live.add(self)
        self._outer: list[Mapping[Scope, Run]] = []

    def __repr__(self) -> str:
        return f"Run({self.run_id or self.session_id!r}, {len(self.unsaved)} reads not saved yet)"

    def note(self, entry: Entry, agent: str) -> bool:
        """Add a version to the read set and say whether it is the first sight of another agent's."""
        if not self.unsaved:
            self._live.hold(self)
        self.unsaved[entry.seq] = self.unsaved.get(entry.seq, 0) + 1
        if entry.agent_id == agent:
            return False
        mine = object()  # of two threads that read it at once, one announces it
        return self._announced.setdefault((agent, entry.seq), mine) is mine

    def forget(self, entries: list[Entry], agent: str) -> None:
        """Take back the announcement of reads that could not be recorded."""
        for entry in entries:
            self._announced.pop((agent, entry.seq), None)

    def saved(self, reads: Mapping[int, int]) -> None:
        """Drop from what is to be saved what has been saved; more may have been read meanwhile."""
        for seq, count in reads.items():
            left = self.unsaved.get(seq, 0) - count
            if left > 0:
                self.unsaved[seq] = left
            else:
                self.unsaved.pop(seq, None)

    def recorded(self, reads: Mapping[int, int]) -> None:
        """Note that the run is stored, with these reads."""
        self._recorded = True
        self.saved(reads)
        self._live.let_go(self)
        if self.unsaved or self.pending:  # more was read meanwhile
            self._live.hold(self)

    def row(self, tx: Transaction, namespace: int) -> int:
        """Return the id under which the run is stored."""
        metadata = json_text(self.metadata, what="metadata") if self.metadata else None
        return tx.add_run(namespace, self.session_id, self.run_id, self.thread_id, metadata)

    def end(self) -> None:
        """Save the read set. A run that ended may be attached and ended again."""
        if self.unsaved or self.pending or (self.run_id and not self._recorded):
            self._save(self)

    def flush(self, context: WriteContext) -> None:
        """Record the reads that were held back, as what they were: by their reader, on their branch."""
        if not self.pending:
            return
        flushed, self.pending = self.pending, []
        by_reader: dict[tuple[str, BranchRow, str | None], list[Entry]] = {}
        for agent, branch, task, entry in flushed:
            by_reader.setdefault((agent, branch, task), []).append(entry)
        row = self.row(context.tx, context.namespace)
        for (agent, branch, task), entries in by_reader.items():
            agent_id = context.tx.agent(agent) or context.tx.add_agent(agent, context.namespace)
            reader = replace(context, agent=agent, agent_id=agent_id, branch=branch, run_row=row, endings=None)
            timeline.cross_agent_reads(reader, entries, task)
            context.seq = reader.seq

        def restore(committed: bool) -> None:
            if not committed:
                self.pending[:0] = flushed

        context.at_end(restore)

    @contextmanager
    def attached(self, task: str | None = None) -> Generator[Self]:
        """Make this the current run of the context without ending it on leaving.

        ``task`` names the step of the run that acts, and stands in the details of what is written, deleted and read
        inside.
        """
        outer, outer_task = _current.get(), timeline.acting_task.get()
        _current.set({**outer, self._scope: self})
        timeline.acting_task.set(task or outer_task)
        try:
            yield self
        finally:
            _current.set(outer)
            timeline.acting_task.set(outer_task)

    def __enter__(self) -> Self:
        if not self.run_id:
            raise UsageError("a session is not entered; use mem.run()")
        self._outer.append(_current.get())
        _current.set({**_current.get(), self._scope: self})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.set(self._outer.pop())
        try:
            self.end()
        except AMFSError as failed:
            if error is None:
                raise
            error.add_note(f"and what the run read could not be saved: {failed}")

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class LiveRuns:
    """The runs made through a handle that are still in use somewhere, or have reads to save."""

    def __init__(self) -> None:
        self._runs: WeakSet[Run] = WeakSet()
        self._held: set[Run] = set()
        self._lock = threading.Lock()

    def add(self, run: Run) -> None:
        """Remember a run for as long as somebody holds it."""
        with self._lock:
            self._runs.add(run)

    def hold(self, run: Run) -> None:
        """Keep a run that has something to save, even if nobody else does."""
        self._held.add(run)

    def let_go(self, run: Run) -> None:
        """Keep a run no longer than others do."""
        self._held.discard(run)

    def all(self) -> list[Run]:
        """Return the runs."""
        with self._lock:
            return list(self._runs)


def observe(context: Context, found: object) -> list[Entry]:
    """Add what a read found to the read set and return what must be recorded as read from another agent now."""
    run = context.run
    if isinstance(found, Entry):
        foreign = [found] if run.note(found, context.agent) else []
    else:
        foreign = [entry for entry in _entries(found) if run.note(entry, context.agent)]
    if not foreign or context.settings.read_events is ReadEvents.SYNC:
        return foreign
    if context.settings.read_events is ReadEvents.BATCHED:
        run.pending.extend(
            Pending(context.agent, context.branch, timeline.acting_task.get(), entry) for entry in foreign
        )
    return []


def observe_writing(context: WriteContext, found: object) -> None:
    """Add what was read inside a transaction to the read set, and record it there; if it fails, nothing was read."""
    read = list(_entries(found))
    foreign = observe(context, read)

    def forget(committed: bool) -> None:
        if not committed:
            context.run.saved(Counter(entry.seq for entry in read))
            context.run.forget(foreign, context.agent)

    context.at_end(forget)
    if foreign:
        timeline.cross_agent_reads(context, foreign)


def record_foreign(access: Access, foreign: list[Entry], context: Context) -> None:
    """Record reads of other agents' entries, before their values are returned."""
    try:
        if not access.storage.read_only:
            access.record(timeline.cross_agent_reads, foreign)
    except BaseException:
        context.run.forget(foreign, context.agent)
        raise


def save(access: Access, run: Run) -> None:
    """Save the read set of a run, and the read events it still holds back."""
    if access.storage.read_only:
        run.recorded(dict(run.unsaved))
        run.pending.clear()
    else:
        access.record(save_within, run)


def save_within(context: WriteContext, run: Run) -> None:
    """Save the read set of a run in a transaction that is open already."""
    reads = dict(run.unsaved)
    context.tx.records.add_reads(run.row(context.tx, context.namespace), reads)
    run.flush(context)
    context.at_end(lambda committed: run.recorded(reads) if committed else None)


def rows_of(context: WriteContext, run_id: str) -> list[int]:
    """Return the stored ids of a run, one per session it took part in, with what it read so far saved."""
    for run in context.live_runs.all():
        if run.run_id == run_id:
            save_within(context, run)
    rows = context.tx.runs(context.namespace, run_id)
    if not rows:
        raise RunNotFoundError(f"no run {run_id!r} was recorded in this namespace; a run is recorded when it ends")
    return rows


def _entries(found: object) -> Iterator[Entry]:
    """Yield the entries in what was found, at any depth of lists: results of a batch are of many kinds."""
    for item in cast("list[object]", found) if isinstance(found, list) else (found,):
        if isinstance(item, Entry):
            yield item
        elif isinstance(item, list):
            yield from _entries(cast("object", item))
