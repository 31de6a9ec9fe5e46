"""In whose name calls go to a memory: that of the agent which acts in this context, in its run."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from llama_index.memory.amfs.runs import followed_run, foreign

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from amfs import AsyncAgentMemory
    from amfs.models import Entry

__all__ = ["acting", "read_by_whoever_goes_on"]


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


async def read_by_whoever_goes_on(
    memory: AsyncAgentMemory, entries: Sequence[Entry], branch: str, thread_id: str | None = None
) -> None:
    """Record that entries of others were read, by the agent that goes on with them.

    Where agents hand over to each other, that is known, and so recorded, only when the step of the workflow has ended.
    """
    run = followed_run()
    if run is None:
        await _read(memory, entries, branch)
        return
    run.claim(memory, thread_id)
    if not run.postpones(memory, entries, branch):
        with run.acting_as(run.reading_agent, memory) as actor:
            await _read(actor, entries, branch)


async def _read(memory: AsyncAgentMemory, entries: Sequence[Entry], branch: str) -> None:
    others = foreign(memory, entries)
    if others:
        await memory.read_many(others, branch=branch)
