"""AMFSCallbackHandler: runs on the timeline for whatever LangChain and LangGraph run, with a middleware or without."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from langgraph.errors import GraphBubbleUp

from amfs.frameworks.notes import tool_failed, waiting
from amfs.frameworks.verdicts import FAILURE
from langchain_amfs.invocations import INVOCATIONS
from langchain_amfs.notes import tool_finished
from langchain_amfs.recorder import Part, Recorder
from langchain_amfs.recordings import Recording, RecordingHandler, ToolStart
from langchain_amfs.runtime import Caller, current_caller

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from langgraph.callbacks import GraphInterruptEvent, GraphResumeEvent

    from amfs import AgentMemory

__all__ = ["AMFSCallbackHandler"]

_PAUSED = 10_000
"""Of how many interrupted runs it is remembered which they were."""


class AMFSCallbackHandler(RecordingHandler):
    """Records runs as callbacks tell of them: pass it as ``config={"callbacks": [handler]}``, or to ``with_config``.

    A run is what happens below one ``invoke``, of a graph, a chain of runnables or a classic chain; its id is that of
    the root. Calls of tools are noted in it, interrupts too, and it ends with an outcome named like the run: success,
    or failure if an error leaves the root. An interrupt or a cancellation leaves it open; a graph that is resumed from
    there goes on in it. Inside ``with memory.run()`` it joins that run, and leaves the outcome to whoever opened it.

    Together with an ``AMFSMiddleware`` on the same memory a run is recorded once: this handler sees to the outcome,
    with the middleware's verdict. What a run does through an ``AMFSStore`` belongs to it.

    What fails in it is logged to the logger ``amfs`` and kept in ``failures``; what it records goes on. It may be
    used in several runs at a time.

    Args:
        memory: The memory to record in. It is not closed with the handler.
    """

    run_inline = True
    """It is told of things in the order in which they happen, in asynchronous runs too."""

    def __init__(self, memory: AgentMemory) -> None:
        self._recorder = Recorder(memory)
        self._paused: OrderedDict[str, str] = OrderedDict()
        super().__init__(self._recorder.place)

    @property
    def memory(self) -> AgentMemory:
        """The memory this works on."""
        return self._recorder.memory

    @property
    def failures(self) -> tuple[Exception, ...]:
        """What failed in recording, oldest first; of very many, the last 100."""
        return self._recorder.failures

    @property
    def failed(self) -> int:
        """How often recording failed."""
        return self._recorder.failed

    @property
    def ignore_llm(self) -> bool:
        """Whether calls of models, token by token, are of no interest here."""
        return True

    @property
    def ignore_chat_model(self) -> bool:
        """Whether calls of chat models are of no interest here."""
        return True

    def close(self) -> None:
        """Save what the runs have read, as closing the memory does."""
        self._recorder.close()

    # --- chains ----------------------------------------------------------------------------------------------------

    def on_chain_start(
        self,
        serialized: Mapping[str, Any] | None,  # noqa: ARG002 - LangChain's signature
        inputs: object,  # noqa: ARG002
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Begin a run with its root, and follow what is below it."""
        with self._recorder.guard("begin a run"):
            self._enter(run_id, parent_run_id, metadata)

    def on_chain_end(self, outputs: object, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002
        """End the run with its root."""
        self._leave(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End the run with its root, which failed."""
        self._leave(run_id, error)

    # --- tools -----------------------------------------------------------------------------------------------------

    def on_tool_start(
        self,
        serialized: Mapping[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        tool_call_id: str | None = None,
        **named: Any,
    ) -> None:
        """Keep what the tool was asked for until it answers."""
        with self._recorder.guard("follow a tool"):
            recording = self._enter(run_id, parent_run_id, metadata)
            name = named.get("name") or (serialized or {}).get("name") or "?"
            told = recording.claimed(parent_run_id, tool_call_id)
            agent = (metadata or {}).get("lc_agent_name")
            asked = input_str if inputs is None else inputs
            recording.tools[run_id] = ToolStart(agent and str(agent), str(name), asked, told)

    def on_tool_end(self, output: object, *, run_id: UUID, **_: Any) -> None:
        """Note what the tool answered."""
        with self._recorder.guard("note a tool"):
            recording, call = self._call(run_id)
            if recording is not None and call is not None:
                self._recorder.note(self._part(recording, call.agent), tool_finished, call.name, call.arguments, output)
        self._leave(run_id)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Note how the tool failed."""
        with self._recorder.guard("note a tool"):
            recording, call = self._call(run_id)
            if recording is not None and call is not None and _is_failure(error):
                self._recorder.note(self._part(recording, call.agent), tool_failed, call.name, call.arguments, error)
        self._leave(run_id, error)

    # --- graphs ----------------------------------------------------------------------------------------------------

    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        """Note that the run waits for an answer, and leave it open."""
        recording = self.recording(event.run_id)
        if recording is None:
            return
        recording.interrupted = True
        self._paused[event.checkpoint_id] = recording.run_id
        while len(self._paused) > _PAUSED:
            self._paused.popitem(last=False)
        if event.run_id == recording.root:
            self._recorder.note(self._part(recording), waiting, [one.value for one in event.interrupts])

    def on_resume(self, event: GraphResumeEvent) -> None:
        """Go on in the run that waited here."""
        recording, run_id = self.recording(event.run_id), self._paused.pop(event.checkpoint_id, None)
        if recording is not None and run_id is not None and not recording.joined:
            recording.go_on_as(run_id)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _enter(self, callback: UUID, parent: UUID | None, metadata: Mapping[str, Any] | None) -> Recording:
        recording = self.recording(parent)
        if recording is None:
            recording = self._begin(callback, parent, metadata or {})
            self._recorder.tidy()
        self._follow(callback, recording)
        return recording

    def _begin(self, callback: UUID, parent: UUID | None, metadata: Mapping[str, Any]) -> Recording:
        current, agent = self.memory.current_run, metadata.get("lc_agent_name")
        # Below something that is not recorded, the graph around it may have a run already.
        around = None if parent is None else INVOCATIONS.run_id(current_caller())
        return Recording(
            callback,
            current.run_id if current else around or str(metadata.get("run_id") or callback),
            agent=agent and str(agent),
            nested=parent is not None,
            thread_id=str(metadata["thread_id"]) if metadata.get("thread_id") else None,
            joined=current is not None,
        )

    def _leave(self, callback: UUID, error: BaseException | None = None) -> None:
        recording = self.recording(callback)
        if recording is None:
            return
        if callback != recording.root:
            self._unfollow(callback, recording)
            return
        self._forget(recording)
        if recording.joined or recording.interrupted or (error is not None and not _is_failure(error)):
            return
        verdict = recording.verdict if error is None else FAILURE
        self._recorder.close_run(self._part(recording), verdict, error)
        if recording.experiment is not None:
            self._recorder.finish(recording.experiment, verdict, error)

    def _call(self, callback: UUID) -> tuple[Recording | None, ToolStart | None]:
        """Return a call of a tool, and the run it was in, if it is to be told of here."""
        recording = self.recording(callback)
        call = None if recording is None else recording.tools.pop(callback, None)
        return recording, None if call is None or call.told else call

    def _part(self, recording: Recording, agent: str | None = None) -> Part:
        caller = Caller(
            agent=agent or recording.agent,
            run_id=recording.run_id,
            thread_id=recording.thread_id,
            metadata={"framework": "langchain"},
        )
        branch = recording.branch or self.memory.branch
        return Part(caller, recording.ref, branch, whole=not recording.nested)


def _is_failure(error: BaseException) -> bool:
    """Return whether something failed, and was not interrupted, cancelled, or left by a jump to another graph."""
    return isinstance(error, Exception) and not isinstance(error, GraphBubbleUp)
