"""In whose name calls go to a memory: that of the agent which acts in this context, in its run."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from llama_index.memory.amfs.runs import followed_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from amfs import AsyncAgentMemory

__all__ = ["acting", "going_on"]


@contextmanager
def acting(memory: AsyncAgentMemory, thread_id: str | None = None) -> Iterator[AsyncAgentMemory]:
    """Return a context with the memory as whoever calls here has it: their agent, and calls belong to their run.

    Without a recorder, and outside of its runs, that is the memory itself. A run that is recorded nowhere yet is
    recorded in this memory from now on, in the thread that is named.
    """
    run = followed_run()
    if run is None:
        yield memory
        return
    run.claim(memory, thread_id)
    with run.acting_as(run.acting_agent, memory) as actor:
        yield actor


@asynccontextmanager
async def going_on(memory: AsyncAgentMemory, thread_id: str | None = None) -> AsyncIterator[AsyncAgentMemory]:
    """Return a context with the memory as whoever goes on with what is got of it here has it.

    That is the agent that acts, or the one that acts next: a workflow gets the messages of an agent before that begins.
    """
    run = followed_run()
    if run is None:
        yield memory
        return
    run.claim(memory, thread_id)
    with run.acting_as(await run.reading_agent(), memory) as actor:
        yield actor
