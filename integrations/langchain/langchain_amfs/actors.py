"""On whose behalf a store acts: a handle and a run for each agent in each invocation of a graph."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from amfs import AsyncAgentMemory
from langchain_amfs.invocations import INVOCATIONS
from langchain_amfs.runtime import OUTSIDE, current_caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from amfs import AgentMemory, Run
    from langchain_amfs.runtime import Caller

__all__ = ["Actor", "Actors"]

_LIMIT = 256
"""How many actors are kept for their next call; those in use are kept in any case."""


@dataclass(slots=True, eq=False)
class Actor:
    """An agent in a run: the handle its calls go through and, inside a graph, the run they belong to.

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

    def in_run(self, task: str | None) -> AbstractContextManager[object]:
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
    """The actors of a store, toolkit or retriever, a bounded number; safe to use from several threads."""

    def __init__(self, memory: AgentMemory, limit: int = _LIMIT) -> None:
        self._memory = memory
        self._limit = limit
        self._own = Actor(AsyncAgentMemory(memory))
        self._actors: OrderedDict[tuple[str, str | None], Actor] = OrderedDict()
        self._lock = threading.Lock()

    def acting(self, caller: Caller) -> AbstractContextManager[Actor]:
        """Return a context in which the actor for a caller is kept, and calls belong to its run."""
        if caller is OUTSIDE:  # what a call belongs to there needs no change, and its actor is never retired
            return nullcontext(self._own)
        return self._acting(caller)

    @contextmanager
    def _acting(self, caller: Caller) -> Iterator[Actor]:
        with self._lock:
            actor = self._actor(caller)
            actor.users += 1
        try:
            with actor.in_run(caller.task_id):
                yield actor
        finally:
            with self._lock:
                actor.users -= 1

    @property
    def crowded(self) -> bool:
        """Whether ``retire`` has something to do."""
        return len(self._actors) > self._limit

    @contextmanager
    def memory(self) -> Iterator[AgentMemory]:
        """Return a context with the memory as whoever calls in this context has it: their agent, run and branch."""
        caller = current_caller()
        if self.crowded:
            self.retire()
        with self.acting(caller) as actor:
            # Asked each time: the memory's branch may be switched, or be that of an experiment in this context.
            branch = caller.branch or self._memory.branch
            yield actor.memory if actor is self._own and caller.branch is None else actor.memory.on_branch(branch)

    def retire(self) -> None:
        """Close the actors beyond the limit that were idle for longest; this writes to the database."""
        with self._lock:
            surplus = max(len(self._actors) - self._limit, 0)
            idle = [key for key, actor in self._actors.items() if actor.users == 0][:surplus]
            retired = [self._actors.pop(key) for key in idle]
        with ExitStack() as stack:
            for actor in retired:
                stack.callback(actor.close)

    def close(self) -> None:
        """Close all actors but the store's own handle, which belongs to whoever made it; end their writer thread."""
        with self._lock:
            actors = list(self._actors.values())
            self._actors.clear()
        with ExitStack() as stack:
            for actor in actors:
                stack.callback(actor.close)
            stack.callback(self._own.amemory.stop)

    async def aclose(self) -> None:
        """Close all actors without a wait on the event loop."""
        await asyncio.to_thread(self.close)

    def _actor(self, caller: Caller) -> Actor:
        run_id = INVOCATIONS.run_id(caller)
        if caller.agent is None and run_id is None:
            return self._own
        key = (caller.agent or self._memory.agent_id, run_id)
        if key not in self._actors:
            # Made from the store's own, it shares the one thread that writes for callers who await.
            amemory = self._own.amemory.as_agent(key[0])
            made = partial(amemory.run, run_id, thread_id=caller.thread_id, metadata=caller.metadata)
            self._actors[key] = Actor(amemory, made if run_id else None)
        self._actors.move_to_end(key)
        return self._actors[key]
