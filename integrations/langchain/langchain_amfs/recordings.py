"""What callbacks tell of the runs under way: which callback belongs to which run, and what is known of each.

LangChain gives every chain and tool an id and the id of its parent. A handler follows them down from the root, so
that whatever works below it, the store included, can be told which run it is in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.callbacks import BaseCallbackManager
from langgraph.callbacks import GraphCallbackHandler

from amfs.frameworks.verdicts import SUCCESS, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from langchain_core.runnables import RunnableConfig

    from amfs import Experiment

__all__ = ["Recording", "RecordingHandler", "ToolStart", "recording_in", "recordings_in"]


class ToolStart(NamedTuple):
    """A call of a tool that is under way, and by whom; ``told`` is whether a middleware tells of it."""

    agent: str | None
    name: str
    arguments: object
    told: bool


@dataclass(slots=True, eq=False)
class Recording:
    """A run that a handler follows, from its root on.

    ``nested`` is whether it lies within something that is not recorded, ``joined`` whether it is part of a run that the
    caller opened, ``resumed`` whether it goes on with one that was interrupted before. A middleware may set verdict and
    branch, and the experiment to be finished with the run.
    """

    root: UUID
    run_id: str
    agent: str | None = None
    nested: bool = False
    thread_id: str | None = None
    joined: bool = False
    resumed: bool = False
    interrupted: bool = False
    branch: str | None = None
    verdict: Verdict = SUCCESS
    experiment: Experiment | None = None
    tools: dict[UUID, ToolStart] = field(default_factory=dict)
    below: set[UUID] = field(default_factory=set)
    _claims: set[tuple[UUID | None, str | None]] = field(default_factory=set)

    @property
    def ref(self) -> str:
        """The name of the outcome: the run, and the agent where this is only a part of it."""
        return f"{self.run_id}/{self.agent or 'agent'}" if self.nested else self.run_id

    def claim(self, parent: UUID | None, call_id: str | None) -> None:
        """Say that a middleware tells of a call of a tool, which a handler then need not."""
        self._claims.add((parent, call_id))

    def claimed(self, parent: UUID | None, call_id: str | None) -> bool:
        """Return whether a middleware tells of a call of a tool."""
        return (parent, call_id) in self._claims

    def go_on_as(self, run_id: str) -> None:
        """Make this the continuation of a run that was interrupted."""
        self.run_id, self.resumed = run_id, True


class RecordingHandler(GraphCallbackHandler):
    """A callback handler that knows of every callback below it in which run it is."""

    def __init__(self, place: tuple[str, str]) -> None:
        self.place = place
        self._recordings: dict[UUID, Recording] = {}

    def recording(self, callback: UUID | None) -> Recording | None:
        """Return the run that a callback belongs to."""
        return None if callback is None else self._recordings.get(callback)

    def _follow(self, callback: UUID, recording: Recording) -> None:
        recording.below.add(callback)
        self._recordings[callback] = recording

    def _unfollow(self, callback: UUID, recording: Recording) -> None:
        recording.below.discard(callback)
        self._recordings.pop(callback, None)

    def _forget(self, recording: Recording) -> None:
        for callback in recording.below:
            self._recordings.pop(callback, None)


def recordings_in(config: RunnableConfig) -> Iterator[tuple[RecordingHandler, Recording, UUID | None]]:
    """Return the handlers of a configuration that record, with the run each records here and the id of the parent."""
    manager: Any = config.get("callbacks")
    if not isinstance(manager, BaseCallbackManager):
        return
    for handler in manager.handlers:
        if isinstance(handler, RecordingHandler):
            recording = handler.recording(manager.parent_run_id)
            if recording is not None:
                yield handler, recording, manager.parent_run_id


def recording_in(config: RunnableConfig) -> Recording | None:
    """Return the run that a handler records here."""
    return next((recording for _, recording, _ in recordings_in(config)), None)
