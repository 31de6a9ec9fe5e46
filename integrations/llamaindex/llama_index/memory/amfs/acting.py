"""In whose name calls go to a memory: that of the agent which acts in this context, in its run."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amfs import AsyncAgentMemory

__all__ = ["acting"]


@contextmanager
def acting(memory: AsyncAgentMemory) -> Iterator[AsyncAgentMemory]:
    """Return a context with the memory as whoever calls here has it: their agent, and calls belong to their run."""
    yield memory
