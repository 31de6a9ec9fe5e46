"""On whose behalf a store, toolkit or retriever acts: as the runtime of the graph says."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from amfs import AsyncAgentMemory
from amfs.frameworks import actors
from langchain_amfs.invocations import INVOCATIONS
from langchain_amfs.runtime import current_caller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from amfs import AgentMemory
    from langchain_amfs.runtime import Caller

__all__ = ["Actors"]


class Actors:
    """The actors on a memory, one for each agent in each invocation of a graph; safe to use from several threads."""

    def __init__(self, memory: AgentMemory) -> None:
        self._amemory = AsyncAgentMemory(memory)
        self._actors = actors.Actors(self._amemory)

    def acting(self, caller: Caller) -> AbstractContextManager[actors.Actor]:
        """Return a context in which the actor for a caller is kept, and calls belong to its run."""
        return self._actors.acting(_as_actor(caller))

    @contextmanager
    def memory(self) -> Iterator[AgentMemory]:
        """Return a context with the memory as whoever calls in this context has it: their agent, run and branch."""
        caller = current_caller()
        with self._actors.memory(_as_actor(caller), caller.branch) as amemory:
            yield amemory.memory

    @property
    def crowded(self) -> bool:
        """Whether ``retire`` has something to do."""
        return self._actors.crowded

    def retire(self) -> None:
        """Close the actors beyond the limit that were idle for longest; this writes to the database."""
        self._actors.retire()

    def close(self) -> None:
        """Close all actors, and end their writer thread; the memory belongs to whoever made it."""
        self._actors.close()
        self._amemory.stop()

    async def aclose(self) -> None:
        """Close all actors without a wait on the event loop."""
        await asyncio.to_thread(self.close)


def _as_actor(caller: Caller) -> actors.Caller:
    run_id = INVOCATIONS.run_id(caller)
    return actors.Caller(caller.agent, run_id, caller.thread_id, caller.task_id, caller.metadata)
