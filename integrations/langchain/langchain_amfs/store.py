"""AMFSStore: a LangGraph store whose items are entries with a history, on branches, by named agents."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any, Self

from langgraph.store.base import BaseStore

from amfs import AgentMemory
from amfs.errors import AccessDeniedError, BranchClosedError, ReadOnlyDatabaseError
from langchain_amfs.actors import Actors
from langchain_amfs.attempts import Attempts
from langchain_amfs.index import Index
from langchain_amfs.operations import Query, answered, entries_to_renew, only, operations, results, steps
from langchain_amfs.runtime import current_caller

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from types import TracebackType

    from langgraph.store.base import IndexConfig, Op, Result, TTLConfig

    from amfs import SearchHit
    from langchain_amfs.operations import Step
    from langchain_amfs.runtime import Caller

__all__ = ["AMFSStore"]

_MAY_NOT_WRITE = (AccessDeniedError, BranchClosedError, ReadOnlyDatabaseError)
"""Why reading an item may not move its deadline; it is read nevertheless."""


class AMFSStore(BaseStore):
    """A LangGraph store on an AgentMemory: pass it as ``store=`` and every write is a version and an event.

    Inside a graph, calls are made in the name of the agent that acts (``create_agent(name=...)``, else
    ``configurable["agent"]``, else the memory's agent) and belong to a run: the one the caller is in (``with
    memory.run()``), else one for each invocation of the graph. The branch is ``configurable["amfs_branch"]``, else the
    one given to ``on_branch``, else that of the memory: inside ``with memory.experiment(...)`` the experiment's.

    Items are found as in LangGraph's ``InMemoryStore``, newest first. Beyond it: ``created_at`` survives an
    overwrite, values are copies, ``$in``, ``$and`` and ``$or`` work, an unknown operator is an error, and
    items are absent when their ``ttl`` (in minutes) has passed. A ``query`` is answered by the search of the memory,
    by words, and with ``index`` by meaning as well. What a node that LangGraph retries has written already is not
    written again.

    Args:
        memory: The memory to work on. It is not closed with the store.
        index: LangGraph's IndexConfig: ``embed``, ``dims``, ``fields``. Default: the memory's own embedder, if any.
        ttl: LangGraph's TTLConfig: ``default_ttl`` in minutes, ``refresh_on_read``. Expired items are always absent.

    Threads may share a store. Closing it, or the memory, saves what the runs have read.
    """

    supports_ttl = True

    def __init__(self, memory: AgentMemory, *, index: IndexConfig | None = None, ttl: TTLConfig | None = None) -> None:
        self._memory = memory
        self.ttl_config = ttl
        self._index = None if index is None else Index(index)
        self._actors = Actors(memory)
        self._attempts = Attempts()
        self._branch: str | None = None
        self._owned: AgentMemory | None = None

    @classmethod
    def from_conn_string(
        cls,
        conn_string: str | os.PathLike[str],
        *,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        agent_id: str = "langgraph",
        **kwargs: Any,
    ) -> Self:
        """Open a database and return a store on it, for a ``with`` or ``async with`` statement.

        ``agent_id`` acts outside of graphs and for agents without a name; ``kwargs`` go to ``AgentMemory``.
        """
        store = cls(AgentMemory(agent_id, conn_string, **kwargs), index=index, ttl=ttl)
        store._owned = store._memory
        return store

    @property
    def memory(self) -> AgentMemory:
        """The memory this store works on."""
        return self._memory

    @property
    def branch(self) -> str:
        """The name of the branch that the store works on, here and now."""
        return self._branch_of(current_caller())

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
        planned = steps(ops, self._index)
        if self._actors.crowded:
            self._actors.retire()
        caller = current_caller()
        branch = self._branch_of(caller)
        with self._actors.acting(caller) as actor:
            with self._attempts.once(caller, branch, operations(planned)) as wanted:
                plan = only(planned, wanted)
                hits = _hits(actor.memory, branch, plan)
                answers = answered(plan, hits, actor.memory.apply(operations(plan), branch=branch))
            renewals = entries_to_renew(plan, answers)
            if renewals:
                with suppress(*_MAY_NOT_WRITE):
                    actor.memory.apply(renewals, branch=branch)
        return results(plan, answers)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Carry out operations as ``batch`` does, without a wait for a lock or the disk on the event loop."""
        planned = steps(ops, self._index)
        if self._actors.crowded:
            await asyncio.to_thread(self._actors.retire)
        caller = current_caller()
        branch = self._branch_of(caller)
        with self._actors.acting(caller) as actor:
            with self._attempts.once(caller, branch, operations(planned)) as wanted:
                plan = only(planned, wanted)
                asks = any(isinstance(step.operation, Query) for step in plan)
                hits = await asyncio.to_thread(_hits, actor.memory, branch, plan) if asks else []
                answers = answered(plan, hits, await actor.amemory.apply(operations(plan), branch=branch))
            renewals = entries_to_renew(plan, answers)
            if renewals:
                with suppress(*_MAY_NOT_WRITE):
                    await actor.amemory.apply(renewals, branch=branch)
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

    def _branch_of(self, caller: Caller) -> str:
        # Asked each time: the memory's branch may be switched, or be that of an experiment in this context.
        return caller.branch or self._branch or self._memory.branch


def _hits(memory: AgentMemory, branch: str, plan: list[Step]) -> list[list[SearchHit]]:
    return [step.operation.hits(memory, branch) for step in plan if isinstance(step.operation, Query)]
