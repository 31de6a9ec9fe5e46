"""Who calls the store: agent, thread, run and branch, as the LangGraph runtime of this context says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langgraph.config import get_config
from langgraph.runtime import get_runtime

from langchain_amfs.invocations import INVOCATIONS
from langchain_amfs.recordings import recording_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langgraph.runtime import ExecutionInfo

__all__ = ["OUTSIDE", "Caller", "current_caller"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as far as the runtime tells.

    ``invocation`` is an object that all nodes, tools and sub-agents of one invocation of a graph have in
    common; ``run_id`` is the id of the run it was bound to, or that was given to it, if any. ``attempt`` counts how
    often the node or tool was begun, from 1.
    """

    agent: str | None = None
    run_id: str | None = None
    thread_id: str | None = None
    branch: str | None = None
    task_id: str | None = None
    attempt: int = 1
    invocation: object | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


OUTSIDE = Caller()
"""The caller outside of any graph."""


def current_caller() -> Caller:
    """Return who calls in this context; ``OUTSIDE`` where no graph and no runnable is running."""
    try:
        config = get_config()
    except RuntimeError:
        return OUTSIDE
    configurable: dict[str, Any] = config.get("configurable") or {}
    metadata: dict[str, Any] = config.get("metadata") or {}
    runtime = get_runtime() if configurable else None
    execution = runtime.execution_info if runtime else None
    invocation = runtime.control if runtime else None
    bound = INVOCATIONS.bound(invocation)
    recording = recording_in(config)
    given = (execution and execution.run_id) or configurable.get("run_id") or (recording and recording.run_id)
    return Caller(
        agent=_text(metadata.get("lc_agent_name") or configurable.get("agent")),
        run_id=_text(bound.run_id if bound else recording.run_id if recording and recording.resumed else given),
        thread_id=_text((execution and execution.thread_id) or configurable.get("thread_id")),
        branch=_text((bound and bound.branch) or configurable.get("amfs_branch")),
        task_id=_text(execution and execution.task_id),
        attempt=execution.node_attempt if execution else 1,
        invocation=invocation,
        metadata=_metadata(execution),
    )


def _metadata(execution: ExecutionInfo | None) -> dict[str, str]:
    found = {"framework": "langgraph"}
    if execution is not None:
        places = {"checkpoint_id": execution.checkpoint_id, "checkpoint_ns": execution.checkpoint_ns}
        found |= {name: place for name, place in places.items() if place}
    return found


def _text(value: object) -> str | None:
    return str(value) if value else None
