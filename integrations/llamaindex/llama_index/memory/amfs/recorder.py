"""The recorder: runs of LlamaIndex's agents and workflows on the timeline, as its instrumentation tells of them."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from llama_index.core.agent.workflow import (
    AgentInput,
    AgentOutput,
    AgentSetup,
    AgentWorkflow,
    ToolCall,
    ToolCallResult,
)
from llama_index.core.agent.workflow.base_agent import BaseWorkflowAgent
from llama_index.core.agent.workflow.workflow_events import AgentWorkflowStartEvent
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.dispatcher import active_instrument_tags
from llama_index.core.instrumentation.span import BaseSpan
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index.core.memory import Memory
from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow
from llama_index.memory.amfs.chat_store import AMFSChatStore
from llama_index.memory.amfs.runs import FollowedRun, followed_run, named
from pydantic import PrivateAttr

from amfs import AgentMemory, AsyncAgentMemory
from amfs.frameworks.failures import Failures
from amfs.frameworks.notes import run_cancelled, run_failed, tool_failed
from amfs.frameworks.verdicts import SUCCESS, Judgement, Verdict, verdict_of

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable

__all__ = ["Recorder", "install"]

_RUN_ID = "llamaindex.run_id"

_installing = threading.Lock()


class RunSpan(BaseSpan):
    """A run that is under way."""

    run: FollowedRun


class StepSpan(BaseSpan):
    """A step of a run that is under way, what it was given, and what is to be left with it."""

    run: FollowedRun
    event: Event
    entered: ExitStack


class Recorder(BaseSpanHandler[BaseSpan]):
    """Records runs of agents and workflows: who began them, which tools were called, who handed over, what came of it.

    ``install()`` makes one and puts it to work. A run is recorded in the memory of the ``AMFSMemory`` that it was
    given; in the first memory that is used in it through this package; or else in the recorder's own, if it has one.
    Other runs are not recorded. It has LlamaIndex's run id, and the session of the AMFSMemory as its thread.

    While a recorder is installed, each agent is the author of its messages, and whoever goes on with a conversation
    is the reader of what others wrote there. What the user said, the beginning and the outcome of the run are the
    memory's own agent's; within a tool of another run that is recorded there, those of the agent that acts there.
    An agent without a name acts in the name of whoever asked.

    A run ends with an outcome named like the run: success, or failure if an error or the timeout ended it. If it is
    cancelled, it ends without. Inside ``with memory.run()``, and as a part of another run, a run joins the one it
    finds and leaves the outcome to whoever opened that; inside an experiment it is recorded on the experiment's branch.

    What fails in it is logged to the logger ``amfs`` and kept in ``failures``; the run goes on.
    """

    _memory: AsyncAgentMemory | None = PrivateAttr(default=None)
    _judge: Callable[[Any], Judgement] | None = PrivateAttr(default=None)
    _failures: Failures = PrivateAttr(default_factory=Failures)

    def __init__(self) -> None:
        super().__init__()

    @classmethod
    def class_name(cls) -> str:
        """Return the name used in serialisation."""
        return "AMFSRecorder"

    @property
    def memory(self) -> AgentMemory | None:
        """Where runs are recorded that use no memory of their own."""
        return self._memory and self._memory.memory

    @property
    def failures(self) -> tuple[Exception, ...]:
        """What failed in recording, oldest first; of very many, the last 100."""
        return self._failures.newest

    @property
    def failed(self) -> int:
        """How often recording failed."""
        return self._failures.count

    @property
    def runs(self) -> tuple[str, ...]:
        """The ids of the runs that are under way and recorded."""
        return tuple(run.run_id for run in self._runs() if run.home is not None)

    def __repr__(self) -> str:
        """Return where it records, and how that goes."""
        state = "installed" if _installed() is self else "removed"
        return f"Recorder({state}, memory={self.memory!r}, {len(self.runs)} runs under way, {self.failed} failures)"

    def __str__(self) -> str:
        """Return the same; pydantic's would print every span."""
        return repr(self)

    def __eq__(self, other: object) -> bool:
        """Return whether this is the same recorder."""
        return self is other

    __hash__ = object.__hash__

    def remove(self) -> None:
        """Take the recorder off again. Runs under way go on and are not recorded further. Safe to call twice."""
        root = get_dispatcher()
        with _installing:
            root.span_handlers = [handler for handler in root.span_handlers if handler is not self]
        self.close()

    def close(self) -> None:
        """Follow the runs under way no further."""
        for run in self._runs():
            run.close()
        self.open_spans.clear()
        if self._memory is not None:
            self._memory.stop()

    # --- LlamaIndex's contract --------------------------------------------------------------------------------

    def new_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        parent_span_id: str | None = None,
        tags: dict[str, Any] | None = None,  # noqa: ARG002 - LlamaIndex's signature
        **_: Any,
    ) -> BaseSpan | None:
        """Follow a run or a step of one; other spans are of no interest here."""
        with self._failures.guard("follow a run"):
            if isinstance(instance, Workflow) and id_.startswith(f"{type(instance).__name__}.run-"):
                return self._begin(id_, bound_args.arguments.get("start_event"), instance)
            run = followed_run()
            if run is not None and run.span_id == parent_span_id:
                return self._step(id_, run, list(bound_args.arguments.values()))
        return None

    def prepare_to_exit_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,  # noqa: ARG002 - LlamaIndex's signature
        instance: Any | None = None,  # noqa: ARG002
        result: Any | None = None,
        **_: Any,
    ) -> BaseSpan | None:
        """Record what a step brought, or how a run ended."""
        span = self.open_spans.get(id_)
        with self._failures.guard("record what happened in a run"):
            match span:
                case StepSpan():
                    self._step_ended(span, result)
                case RunSpan():
                    self._run_ended(span.run, result)
        return span

    def prepare_to_drop_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,  # noqa: ARG002 - LlamaIndex's signature
        instance: Any | None = None,  # noqa: ARG002
        err: BaseException | None = None,
        **_: Any,
    ) -> BaseSpan | None:
        """Record the error that ended a step or a run."""
        span = self.open_spans.get(id_)
        with self._failures.guard("record what happened in a run"):
            match span:
                case StepSpan():
                    self._step_failed(span, err)
                case RunSpan():
                    self._run_stopped(span.run, err)
        return span

    # --- runs -------------------------------------------------------------------------------------------------

    def _begin(self, id_: str, start: object, instance: Workflow) -> BaseSpan | None:
        run_id = active_instrument_tags.get().get(_RUN_ID)
        if not run_id:
            return None
        agent = named(instance.name) if isinstance(instance, BaseWorkflowAgent) else None
        hands_over = isinstance(instance, AgentWorkflow)
        run = FollowedRun(id_, run_id, self._failures, asked=_asked(start), reader=agent, hands_over=hands_over)
        if start is None:  # it goes on where another one was saved, with its agent
            run.agent = agent
        run.follow()
        given = getattr(start, "memory", None)
        if isinstance(given, Memory) and isinstance(given.sql_store, AMFSChatStore):
            run.claim(given.sql_store.verbs, given.session_id)
        else:
            run.claim_as_part()
        return RunSpan(id_=id_, run=run)

    def _run_ended(self, run: FollowedRun, result: object) -> None:
        """Record what came of a run; a run without a result was cancelled."""
        if result is None:
            self._run_stopped(run, None)
            return
        with self._failures.guard("end a run"):
            self._claim(run)
            run.commit(self._verdict(result) if run.has_outcome else SUCCESS)
        run.close()

    def _run_stopped(self, run: FollowedRun, error: BaseException | None) -> None:
        with self._failures.guard("end a run"):
            self._claim(run)
            if isinstance(error, Exception):
                run.fail(run_failed(error), error)
            else:
                run.stop(run_cancelled())
        run.close()

    def _verdict(self, result: object) -> Verdict:
        if self._judge is not None:
            with self._failures.guard("judge a run"):
                return verdict_of(self._judge(result.result if isinstance(result, StopEvent) else result))
        return SUCCESS

    def _claim(self, run: FollowedRun) -> None:
        if self._memory is not None:
            run.claim(self._memory)

    def _runs(self) -> list[FollowedRun]:
        return [span.run for span in list(self.open_spans.values()) if isinstance(span, RunSpan)]

    # --- steps ------------------------------------------------------------------------------------------------

    def _step(self, id_: str, run: FollowedRun, arguments: list[object]) -> BaseSpan | None:
        event = next((value for value in arguments if isinstance(value, Event)), None)
        match event:
            case None:
                return None
            case AgentSetup(current_agent_name=agent):
                run.agent = named(agent)
            case ToolCall():
                run.call(event)
        entered = ExitStack()
        with self._failures.guard("enter a run"):
            chooses = run.hands_over and isinstance(event, StartEvent | ToolCallResult)
            context = next((value for value in arguments if isinstance(value, Context)), None)
            entered.enter_context(run.in_step(context if chooses else None))
        return StepSpan(id_=id_, run=run, event=event, entered=entered)

    def _step_ended(self, span: StepSpan, result: object) -> None:
        run = span.run
        with span.entered:
            self._claim(run)
            match result:
                case AgentOutput(current_agent_name=agent):
                    run.agent = named(agent)
                case ToolCallResult():
                    run.answer(result)
                case AgentInput(current_agent_name=agent):
                    run.go_on(named(agent))

    def _step_failed(self, span: StepSpan, error: BaseException | None) -> None:
        run, event = span.run, span.event
        with span.entered:
            if isinstance(event, ToolCall) and isinstance(error, Exception):
                run.note(tool_failed(event.tool_name, event.tool_kwargs, error), run.acting_agent)


def install(memory: AgentMemory | None = None, *, outcome: Callable[[Any], Judgement] | None = None) -> Recorder:
    """Record runs of agents and workflows from now on, in this process, until ``remove()`` is called.

    Installed again, it is the same recorder, with what is given then in place of what it had.

    Args:
        memory: Where runs are recorded that use no AMFS memory of their own; without it they are not recorded. It stays
            the caller's to close.
        outcome: Says what came of a run, given its result (the AgentOutput of an agent): an outcome type, or one and a
            weight, moves the confidence of what the run read; None is a success that moves nothing, as without this.
    """
    with _installing:
        installed = _installed()
        recorder = installed or Recorder()
        if memory is not None and memory is not recorder.memory:
            recorder._memory = AsyncAgentMemory(memory)
        if outcome is not None:
            recorder._judge = outcome
        if installed is None:
            get_dispatcher().add_span_handler(recorder)
    return recorder


def _installed() -> Recorder | None:
    return next((handler for handler in get_dispatcher().span_handlers if isinstance(handler, Recorder)), None)


def _asked(start: object) -> str:
    """Return what the user said: the message of the run, or the last one of its history."""
    if not isinstance(start, AgentWorkflowStartEvent):
        return ""
    message = start.get("user_msg", default=None)
    if message is None:
        history: list[ChatMessage] = start.get("chat_history", default=None) or []
        message = next((one for one in reversed(history) if one.role is MessageRole.USER), None)
    return (message.content or "") if isinstance(message, ChatMessage) else str(message or "")
