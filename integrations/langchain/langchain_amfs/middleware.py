"""AMFSMiddleware: an agent's run on the timeline, and what memory knows of the question in its system message."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

from langchain.agents.middleware import AgentMiddleware, AgentState
from langchain.agents.middleware.types import PrivateStateAttr
from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.errors import GraphBubbleUp

from amfs.frameworks.filters import Filters, checked
from amfs.frameworks.notes import tool_failed
from amfs.frameworks.quotes import quoted
from amfs.frameworks.verdicts import FAILURE, SUCCESS, Judgement, Verdict, verdict_of
from langchain_amfs.notes import tool_finished
from langchain_amfs.recorder import Recorder
from langchain_amfs.runs import AgentRun, Runs, RunState

if TYPE_CHECKING:
    from langchain.agents.middleware import ModelRequest, ModelResponse
    from langchain.tools.tool_node import ToolCallRequest
    from langchain_core.messages import ToolMessage
    from langgraph.runtime import Runtime
    from langgraph.store.base import BaseStore
    from langgraph.types import Command

    from amfs import AgentMemory
    from amfs.models import Entry

__all__ = ["AMFSMiddleware", "RecordedState"]

_QUERY = 2_000
"""How much of a question is searched for."""

_LOADED = 256
"""Of how many questions the answer of memory is kept, for the next call of the model."""


class RecordedState(AgentState[Any]):
    """The state of an agent, and the run it is in."""

    amfs_run: NotRequired[Annotated[RunState, PrivateStateAttr]]


Judge = Callable[[AgentState[Any]], Judgement]
"""Says what came of a run, given the state at its end."""


class AMFSMiddleware(AgentMiddleware[RecordedState, Any, Any]):
    """Records the runs of an agent, and quotes what memory knows of a question in the system message.

    A run has the id that LangGraph was given, its thread, and the agent named by ``create_agent(name=...)``. Calls of
    tools are noted in it. It ends with an outcome named like the run: success, or failure if an error leaves a tool
    or the model; an ``AMFSCallbackHandler`` on the same memory sees all other errors too. An interrupt or a
    cancellation leaves it open, and the agent goes on in it when it is resumed. Inside ``with memory.run()`` and as
    a tool of another recorded agent, an agent joins the run it finds, and leaves the outcome to whoever opened it.

    Put it first in ``middleware=``, so that what another one retries counts once. What fails in it is logged to the
    logger ``amfs`` and kept in ``failures``; the agent goes on. Only a run that cannot have its own branch, where
    that was asked for, does not begin.

    Args:
        memory: The memory to record in and to search. It is not closed with the middleware.
        limit: How many memories are brought, at most; 0 brings none.
        filters: What narrows the search, or a function of the runtime that says so, such as for each user.
        brief: The entity path whose brief is brought as well (True: that of everything), or such a function.
        outcome: Says what came of a run, given the state: an outcome type, or one and a weight, moves the confidence
            of what the run read; None is a success that moves nothing, as without this argument.
        branch_per_run: Give every run a branch of its own, that of an experiment named like the run.
    """

    state_schema = RecordedState

    def __init__(
        self,
        memory: AgentMemory,
        *,
        limit: int = 5,
        filters: Filters | Callable[[Runtime[Any]], Filters] | None = None,
        brief: str | bool | Callable[[Runtime[Any]], str | bool] = False,
        outcome: Judge | None = None,
        branch_per_run: bool = False,
    ) -> None:
        super().__init__()
        self._recorder = Recorder(memory)
        self._runs = Runs(self._recorder, branch_per_run=branch_per_run)
        self._limit = limit
        self._filters = filters if callable(filters) else checked(filters or {})
        self._brief = brief
        self._judge = outcome
        self._loaded: OrderedDict[tuple[str | None, str | None, str], str] = OrderedDict()

    @property
    def memory(self) -> AgentMemory:
        """The memory this works on."""
        return self._recorder.memory

    @property
    def failures(self) -> tuple[Exception, ...]:
        """What failed in recording and searching, oldest first; of very many, the last 100."""
        return self._recorder.failures

    @property
    def failed(self) -> int:
        """How often recording or searching failed."""
        return self._recorder.failed

    def close(self) -> None:
        """Save what the runs have read, as closing the memory does."""
        self._recorder.close()

    # --- the run ---------------------------------------------------------------------------------------------------

    def before_agent(self, state: RecordedState, runtime: Runtime[Any]) -> dict[str, Any] | None:  # noqa: ARG002
        """Begin a run."""
        self._recorder.tidy()
        if self._runs.branch_per_run:
            return {"amfs_run": self._runs.open(runtime.store)}
        with self._recorder.guard("begin a run"):
            return {"amfs_run": self._runs.open(runtime.store)}
        return None

    async def abefore_agent(self, state: RecordedState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Begin a run, without a wait on the event loop."""
        return await asyncio.to_thread(self.before_agent, state, runtime)

    def after_agent(self, state: RecordedState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """End the run with what came of it."""
        run = self._run(state, runtime.store)
        if run is None or run.joined:
            return
        verdict = self._verdict(state)
        if run.is_recorded and run.recording is not None:
            run.recording.verdict = verdict
        elif run.recording is None or verdict is not SUCCESS:
            self._end(run, verdict)

    async def aafter_agent(self, state: RecordedState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """End the run, without a wait on the event loop."""
        return await asyncio.to_thread(self.after_agent, state, runtime)

    # --- the model -------------------------------------------------------------------------------------------------

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Call the model with what memory knows of the question."""
        run = self._run(request.state, request.runtime.store)
        if run is None:
            return handler(request)
        with self._recorder.within(run.part):
            informed = self._informed(run, request)
            try:
                return run.following(handler)(informed)
            except Exception as error:
                self._stopped(run, error)
                raise

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Call the model with what memory knows of the question, without a wait on the event loop."""
        run = await asyncio.to_thread(self._run, request.state, request.runtime.store)
        if run is None:
            return await handler(request)

        async def call() -> ModelResponse[Any]:
            return await handler(informed)

        with self._recorder.within(run.part):
            informed = await asyncio.to_thread(self._informed, run, request)
            try:
                return await run.following(call)()
            except Exception as error:
                await asyncio.to_thread(self._stopped, run, error)
                raise

    # --- tools -----------------------------------------------------------------------------------------------------

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Call a tool and note what came of it."""
        run = self._run(request.state, request.runtime.store)
        if run is None:
            return handler(request)
        run.claim(request.tool_call["id"])
        with self._recorder.within(run.part):
            try:
                result = run.following(handler)(request)
            except Exception as error:
                self._stopped(run, error, request)
                raise
            self._recorder.note(run.part, tool_finished, *_call(request), result)
            return result

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        """Call a tool and note what came of it, without a wait on the event loop."""
        run = await asyncio.to_thread(self._run, request.state, request.runtime.store)
        if run is None:
            return await handler(request)

        async def call() -> ToolMessage | Command[Any]:
            return await handler(request)

        run.claim(request.tool_call["id"])
        with self._recorder.within(run.part):
            try:
                result = await run.following(call)()
            except Exception as error:
                await asyncio.to_thread(self._stopped, run, error, request)
                raise
            await asyncio.to_thread(self._recorder.note, run.part, tool_finished, *_call(request), result)
            return result

    # --- inside ----------------------------------------------------------------------------------------------------

    def _run(self, state: Mapping[str, Any], store: BaseStore | None) -> AgentRun | None:
        with self._recorder.guard("find the run"):
            return self._runs.find(state.get("amfs_run"), store)
        return None

    def _stopped(self, run: AgentRun, error: Exception, request: ToolCallRequest | None = None) -> None:
        """Note the error that left a tool or the model; an interrupt, or a jump to another graph, is none."""
        if isinstance(error, GraphBubbleUp):
            self._recorder.save(run.part)
            return
        if request is not None:
            self._recorder.note(run.part, tool_failed, *_call(request), error)
        if not run.joined and run.recording is None:
            self._end(run, FAILURE, error)

    def _end(self, run: AgentRun, verdict: Verdict, error: Exception | None = None) -> None:
        self._recorder.close_run(run.part, verdict, error)
        if run.experiment is not None:
            self._recorder.finish(run.experiment, verdict, error)

    def _verdict(self, state: RecordedState) -> Verdict:
        if self._judge is not None:
            with self._recorder.guard("judge a run"):
                return verdict_of(self._judge(state))
        return SUCCESS

    def _informed(self, run: AgentRun, request: ModelRequest[Any]) -> ModelRequest[Any]:
        with self._recorder.guard("bring memories"):
            text = self._memories(run, request)
            if text:
                return request.override(system_message=_with_reference(request.system_message, text))
        return request

    def _memories(self, run: AgentRun, request: ModelRequest[Any]) -> str:
        """Return what memory knows, asked once for each question in a run."""
        question = _newest_question(request)
        asked = (run.part.caller.run_id, run.part.caller.agent, question)
        if asked not in self._loaded:
            self._loaded[asked] = self._ask(run, question, request.runtime)
            while len(self._loaded) > _LOADED:
                self._loaded.popitem(last=False)
        return self._loaded.get(asked, "")

    def _ask(self, run: AgentRun, question: str, runtime: Runtime[Any]) -> str:
        entries: list[Entry] = []
        branch = run.part.branch
        brief = self._brief(runtime) if callable(self._brief) else self._brief
        with self._recorder.within(run.part) as actor:
            if actor is None:
                return ""
            if self._limit and question:
                filters = checked(self._filters(runtime)) if callable(self._filters) else self._filters
                hits = actor.memory.search(question, limit=self._limit, branch=branch, **filters)
                entries = [hit.entry for hit in hits]
            digest = actor.memory.brief(None if brief is True else brief, branch=branch) if brief else None
        return quoted(entries, digest)


def _newest_question(request: ModelRequest[Any]) -> str:
    asked = next((message for message in reversed(request.messages) if isinstance(message, HumanMessage)), None)
    return "" if asked is None else str(asked.text)[:_QUERY].replace("\0", " ").strip()


def _with_reference(message: SystemMessage | None, text: str) -> SystemMessage:
    """Return a system message that ends with a text; what came before stays as it is, so prompt caches hold."""
    if message is None:
        return SystemMessage(text)
    if isinstance(message.content, str):
        return message.model_copy(update={"content": f"{message.content}\n\n{text}" if message.content else text})
    return message.model_copy(update={"content": [*message.content, {"type": "text", "text": text}]})


def _call(request: ToolCallRequest) -> tuple[str, object]:
    return request.tool_call["name"], request.tool_call["args"]
