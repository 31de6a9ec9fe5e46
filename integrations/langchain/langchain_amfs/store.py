"""AMFSStore: a LangGraph store whose items are entries with a history, on branches, by named agents."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Self

from langgraph.store.base import BaseStore

from amfs import AgentMemory
from langchain_amfs.actors import Actors
from langchain_amfs.operations import operations, results, steps
from langchain_amfs.runtime import current_caller

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from langgraph.store.base import Op, Result

    from langchain_amfs.actors import Actor

__all__ = ["AMFSStore"]


class AMFSStore(BaseStore):
    """A LangGraph store on an AgentMemory: pass it as ``store=`` and every write is a version and an event.

    Inside a graph, calls are made in the name of the agent that acts (``create_agent(name=...)``, else
    ``configurable["agent"]``, else the memory's agent) and belong to a run: the one the caller is in (``with
    memory.run()``), else one for each invocation of the graph. The branch is ``configurable["amfs_branch"]``, else the
    one given to ``on_branch``, else that of the memory: inside ``with memory.experiment(...)`` the experiment's.

    Items are found as in LangGraph's ``InMemoryStore``, newest first. Beyond it: ``created_at`` survives an
    overwrite, values are copies, ``$in``, ``$and`` and ``$or`` work, an unknown operator is an error, and
    items are absent when their ``ttl`` (in minutes) has passed. ``refresh_ttl``, ``query`` and ``index`` have
    no effect yet.

    Args:
        memory: The memory to work on. It is not closed with the store.

    Threads may share a store. Closing it, or the memory, saves what the runs have read.
    """

    supports_ttl = True

    def __init__(self, memory: AgentMemory) -> None:
        self._memory = memory
        self._actors = Actors(memory)
        self._branch: str | None = None
        self._owned: AgentMemory | None = None

    @classmethod
    def from_conn_string(
        cls, conn_string: str | os.PathLike[str], *, agent_id: str = "langgraph", **kwargs: Any
    ) -> Self:
        """Open a database and return a store on it, for a ``with`` or ``async with`` statement.

        ``agent_id`` acts outside of graphs and for agents without a name; ``kwargs`` go to ``AgentMemory``.
        """
        store = cls(AgentMemory(agent_id, conn_string, **kwargs))
        store._owned = store._memory
        return store

    @property
    def memory(self) -> AgentMemory:
        """The memory this store works on."""
        return self._memory

    @property
    def branch(self) -> str:
        """The name of the branch that the store works on, here and now."""
        return current_caller().branch or self._branch or self._memory.branch

    def setup(self) -> None:
        """Do nothing: the database is set up when it is opened. LangGraph's own stores need this call."""

    def on_branch(self, name: str) -> Self:
        """Return a view of this store pinned to a branch, for ``agent.copy(update={"store": view})``.

        It shares this store's runs and is closed with it.
        """
        view = copy(self)
        view._owned = None
        view._branch = self._memory.on_branch(name).branch
        return view

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Carry out operations as one: reads see the state before it, all writes commit together."""
        plan = steps(ops)
        self._actors.retire()
        with self._acting() as (actor, branch):
            answers = actor.memory.apply(operations(plan), branch=branch)
        return results(plan, answers)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Carry out operations as ``batch`` does, without a wait for a lock or the disk on the event loop."""
        plan = steps(ops)
        if self._actors.crowded:
            await asyncio.to_thread(self._actors.retire)
        with self._acting() as (actor, branch):
            answers = await actor.amemory.apply(operations(plan), branch=branch)
        return results(plan, answers)

    def close(self) -> None:
        """Save what the runs have read; release the database if the store opened it. Safe to call twice."""
        self._actors.close()
        if self._owned is not None:
            self._owned.close()

    async def aclose(self) -> None:
        """Close as ``close`` does, without a wait on the event loop."""
        await self._actors.aclose()
        if self._owned is not None:
            await asyncio.to_thread(self._owned.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @contextmanager
    def _acting(self) -> Iterator[tuple[Actor, str]]:
        caller = current_caller()
        # Asked each time: the memory's branch may be switched, or be that of an experiment in this context.
        branch = caller.branch or self._branch or self._memory.branch
        with self._actors.acting(caller) as actor:
            yield actor, branch
