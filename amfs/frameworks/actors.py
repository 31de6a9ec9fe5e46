"""On whose behalf an integration acts: a handle and a run for each agent in each run of a framework."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from amfs.core.runs import Run
from amfs.memory import AgentMemory

if TYPE_CHECKING:
    from amfs.aio import AsyncAgentMemory

__all__ = ["Actor", "Actors", "Caller"]

_LIMIT = 256
"""How many actors are kept for their next call; those in use are kept in any case."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as far as the framework tells: an agent, the run it is in, and the task of the run.

    Without an agent it is the memory's own, without a run id no run is made; ``thread_id`` and ``metadata`` are those
    of the run.
    """

    agent: str | None = None
    run_id: str | None = None
    thread_id: str | None = None
    task: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True, eq=False)
class Actor:
    """An agent in a run: the handle its calls go through and, if there is one, the run they belong to.

    The run is made when a call belongs to it, and not to one that the caller has opened.
    """

    amemory: AsyncAgentMemory
    make_run: Callable[[], Run] | None = None
    users: int = 0
    run: Run | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def memory(self) -> AgentMemory:
        """The handle, for calls that are not awaited."""
        return self.amemory.memory

    def in_run(self, task: str | None = None) -> AbstractContextManager[object]:
        """Return a context in which calls belong to a task of the run, or of one that the caller has opened."""
        run = self.memory.current_run or self._own_run()
        return nullcontext() if run is None else run.attached(task)

    def _own_run(self) -> Run | None:
        if self.make_run is None:
            return None
        with self._lock:
            self.run = self.run or self.make_run()
        return self.run

    def close(self) -> None:
        """Save what the run has read, and close the handle."""
        if self.run is not None:
            self.run.end()
        self.memory.close()


class Actors:
    """The actors on a memory, a bounded number; safe to use from several threads.

    Args:
        amemory: What their handles are made of. It stays its maker's to close, and so does the one thread that writes
            for all of them where calls are awaited.
        limit: How many actors are kept for their next call.
    """

    def __init__(self, amemory: AsyncAgentMemory, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._own = Actor(amemory)
        self._actors: OrderedDict[tuple[str, str | None], Actor] = OrderedDict()
        self._runs: WeakValueDictionary[str, Run] = WeakValueDictionary()
        self._closed = False
        self._lock = threading.Lock()

    def acting(self, caller: Caller) -> AbstractContextManager[Actor]:
        """Return a context in which the actor for a caller is kept, and calls belong to its run."""
        if caller.agent is None and caller.run_id is None and caller.task is None:
            return nullcontext(self._own)  # what a call belongs to needs no change, and this actor is never retired
        return self._acting(caller)

    @contextmanager
    def _acting(self, caller: Caller) -> Generator[Actor]:
        with self._lock:
            actor = self._actor(caller)
            actor.users += 1
        try:
            with actor.in_run(caller.task):
                yield actor
        finally:
            with self._lock:
                actor.users -= 1
            if self._closed:
                self.close()

    @contextmanager
    def memory(self, caller: Caller, branch: str | None = None) -> Generator[AsyncAgentMemory]:
        """Return a context with the memory as a caller has it: their agent, run and branch.

        The branch is that of the memory unless it is named. It is asked for each time, since it may be switched, or
        be that of an experiment in this context.
        """
        if self.crowded:
            self.retire()
        wanted = branch or self._own.amemory.branch
        with self.acting(caller) as actor:
            yield actor.amemory if actor.amemory.branch == wanted else actor.amemory.on_branch(wanted)

    @property
    def crowded(self) -> bool:
        """Whether ``retire`` has something to do."""
        return len(self._actors) > self._limit

    def retire(self) -> None:
        """Close the actors beyond the limit that were idle for longest; this writes to the database."""
        self._close_idle(self._limit)

    def close(self) -> None:
        """Close all actors: those in use when they are not any more, and what is made afterwards with its call."""
        self._closed = True
        self._close_idle(0)

    async def aclose(self) -> None:
        """Close all actors without a wait on the event loop."""
        await asyncio.to_thread(self.close)

    def _close_idle(self, kept: int) -> None:
        with self._lock:
            surplus = max(len(self._actors) - kept, 0)
            idle = [key for key, actor in self._actors.items() if actor.users == 0][:surplus]
            closing = [self._actors.pop(key) for key in idle]
        with ExitStack() as stack:
            for actor in closing:
                stack.callback(actor.close)

    def _actor(self, caller: Caller) -> Actor:
        if caller.agent is None and caller.run_id is None:
            return self._own
        key = (caller.agent or self._own.amemory.agent_id, caller.run_id)
        if key not in self._actors:
            amemory = self._own.amemory.as_agent(key[0])
            self._actors[key] = Actor(amemory, partial(self._run, amemory, caller) if caller.run_id else None)
        self._actors.move_to_end(key)
        return self._actors[key]

    def _run(self, amemory: AsyncAgentMemory, caller: Caller) -> Run:
        """Return the run of a caller, one for all its agents, so that each read is announced once."""
        run = amemory.run(caller.run_id, thread_id=caller.thread_id, metadata=caller.metadata)
        return self._runs.setdefault(run.run_id, run)
