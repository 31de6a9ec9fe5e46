"""Which run an agent is in: opened by it, gone on with after an interrupt, or that of whoever called the agent."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from langgraph.config import get_config
from typing_extensions import TypedDict

from amfs.errors import UsageError
from langchain_amfs.invocations import INVOCATIONS, Bound
from langchain_amfs.recorder import Part
from langchain_amfs.recordings import recordings_in
from langchain_amfs.runtime import current_caller
from langchain_amfs.store import AMFSStore

if TYPE_CHECKING:
    from uuid import UUID

    from langgraph.store.base import BaseStore

    from amfs import Experiment
    from langchain_amfs.recorder import Recorder
    from langchain_amfs.recordings import Recording
    from langchain_amfs.runtime import Caller

__all__ = ["AgentRun", "RunState", "Runs"]

P = ParamSpec("P")
T = TypeVar("T")

_EXPERIMENTS = 1_000
"""How many runs with a branch of their own may be under way, or wait for an answer."""


class RunState(TypedDict):
    """What the state of an agent keeps of its run, so that it goes on with it when it is resumed."""

    run_id: str
    branch: str | None


@dataclass(frozen=True, slots=True)
class AgentRun:
    """The run that an agent is in, and who else sees to it.

    ``joined`` is whether whoever called the agent opened it, and says what came of it. ``recording`` is what a
    handler knows of it, ``callback`` the id under which that knows this place.
    """

    part: Part
    joined: bool = False
    recording: Recording | None = None
    callback: UUID | None = None
    experiment: Experiment | None = None

    @property
    def is_recorded(self) -> bool:
        """Whether a handler sees to the outcome."""
        return self.recording is not None and self.recording.ref == self.part.ref

    def claim(self, call_id: str | None) -> None:
        """Say that what comes of a call of a tool is told here, and need not be by a handler."""
        if self.recording is not None:
            self.recording.claim(self.callback, call_id)

    def following(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return a function in which every handle on the memory works on the branch of the run."""
        return function if self.experiment is None else self.experiment.bind(function)


class Runs:
    """The runs that a middleware opens, finds again, and gives branches."""

    def __init__(self, recorder: Recorder, *, branch_per_run: bool) -> None:
        self._recorder = recorder
        self.branch_per_run = branch_per_run
        self._experiments: OrderedDict[str, Experiment] = OrderedDict()

    def open(self, store: BaseStore | None) -> RunState:
        """Begin a run, or join the one the caller is in."""
        caller, current = current_caller(), self._recorder.memory.current_run
        known = INVOCATIONS.bound(caller.invocation)
        run_id = current.run_id if current else INVOCATIONS.run_id(caller) or f"run-{secrets.token_hex(8)}"
        branch = known.branch if known is not None and known.run_id == run_id else None
        if self.branch_per_run and current is None and branch is None:
            branch = self._own_branch(caller, run_id, store)
        return self._bind(caller, Bound(run_id, branch))

    def find(self, stored: RunState | None, store: BaseStore | None) -> AgentRun:
        """Return the run that this context is in, which begins here if the agent was resumed or replayed."""
        caller, current = current_caller(), self._recorder.memory.current_run
        recording, callback = self._recording()
        if current is not None:
            part = self._part(replace(caller, run_id=current.run_id), store)
            return AgentRun(part, joined=True, recording=recording, callback=callback)
        bound = INVOCATIONS.bound(caller.invocation) or self._resumed(caller, stored, store, recording)
        part = self._part(replace(caller, run_id=bound.run_id, branch=bound.branch or caller.branch), store)
        experiment = self._experiments.get(bound.run_id)
        if recording is not None:
            recording.branch, recording.experiment = part.branch, experiment or recording.experiment
        return AgentRun(part, recording=recording, callback=callback, experiment=experiment)

    def _resumed(
        self, caller: Caller, stored: RunState | None, store: BaseStore | None, recording: Recording | None
    ) -> Bound:
        """Return the run that was interrupted; what ended is not gone on with but run again."""
        if stored is None or self._recorder.is_closed(_ref(replace(caller, run_id=stored["run_id"]))):
            opened = self.open(store)
            return Bound(opened["run_id"], opened["branch"])
        if recording is not None:
            recording.go_on_as(stored["run_id"])
        bound = Bound(stored["run_id"], stored["branch"])
        self._bind(caller, bound)
        return bound

    def _recording(self) -> tuple[Recording | None, UUID | None]:
        """Return what a handler on the same memory knows of the run, and its id of this place."""
        for handler, recording, callback in recordings_in(get_config()):
            if handler.place == self._recorder.place:
                return recording, callback
        return None, None

    def _bind(self, caller: Caller, bound: Bound) -> RunState:
        INVOCATIONS.bind(caller.invocation, bound)
        return RunState(run_id=bound.run_id, branch=bound.branch)

    def _own_branch(self, caller: Caller, run_id: str, store: BaseStore | None) -> str:
        if isinstance(store, AMFSStore) and not self._is_ours(store):
            raise UsageError(
                f"branch_per_run gives runs a branch of {self._recorder.place}, which the store, on "
                f"{(store.memory.database, store.memory.namespace)}, cannot follow; give both the same memory"
            )
        params = {"agent": caller.agent, "thread": caller.thread_id}
        known = {name: value for name, value in params.items() if value is not None}
        memory, part = self._recorder.memory, self._part(replace(caller, run_id=run_id), store)
        experiment = memory.as_agent(caller.agent or memory.agent_id).experiment(
            run_id, params=known, source=part.branch
        )
        with self._recorder.within(part):
            experiment.start()
        self._experiments[run_id] = experiment
        while len(self._experiments) > _EXPERIMENTS:
            self._experiments.popitem(last=False)
        return experiment.branch

    def _part(self, caller: Caller, store: BaseStore | None) -> Part:
        branch = caller.branch or self._recorder.memory.branch
        if isinstance(store, AMFSStore) and self._is_ours(store):
            branch = store.branch
        return Part(replace(caller, invocation=None), _ref(caller), branch, whole=not _is_nested(caller))

    def _is_ours(self, store: AMFSStore) -> bool:
        return (store.memory.database, store.memory.namespace) == self._recorder.place


def _is_nested(caller: Caller) -> bool:
    return "|" in caller.metadata.get("checkpoint_ns", "")


def _ref(caller: Caller) -> str:
    """Return the name of the outcome: the run, and the agent where that is only a part of a graph."""
    return f"{caller.run_id}/{caller.agent or 'agent'}" if _is_nested(caller) else str(caller.run_id)
