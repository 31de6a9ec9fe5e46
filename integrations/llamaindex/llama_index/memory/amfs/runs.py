"""The runs of workflows that a recorder follows: where each is recorded, who acts in it, and who reads.

The run that is under way follows the context (a ContextVar, set where the workflow begins), so parallel runs stay
apart, and a run within a tool of another one knows where it is.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING

from llama_index.core.agent.workflow.base_agent import DEFAULT_AGENT_NAME

from amfs.frameworks.actors import Actors, Caller
from amfs.frameworks.notes import error_text, handed_over, run_began, tool_answered, tool_failed, tool_unanswered
from amfs.frameworks.verdicts import FAILURE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llama_index.core.agent.workflow import ToolCall, ToolCallResult
    from llama_index.core.workflow import Context

    from amfs import AgentMemory, AsyncAgentMemory
    from amfs.frameworks.failures import Failures
    from amfs.frameworks.notes import Note
    from amfs.frameworks.verdicts import Verdict

__all__ = ["FollowedRun", "followed_run", "named"]

_METADATA = {"framework": "llamaindex"}
_UNSAID = 100
"""How much of what happened before a run has a home is kept for it."""

_HANDOFF = "handoff"
"""The tool by which LlamaIndex lets agents hand over; no other tool may have its name."""

_followed: ContextVar[FollowedRun | None] = ContextVar("amfs_followed_run", default=None)
_choosing: ContextVar[Context | None] = ContextVar("amfs_choosing_step", default=None)


def followed_run() -> FollowedRun | None:
    """Return the run that this context is in, if a recorder follows it."""
    run = _followed.get()
    return run if run is not None and run.is_followed else None


def named(agent: str) -> str | None:
    """Return the name of an agent, None for one that was given none."""
    return None if agent == DEFAULT_AGENT_NAME else agent


class FollowedRun:
    """A run of a workflow, from its beginning to its end.

    It is recorded in one memory, its ``home``, known from the start or from the first use of a memory in it. Who asked
    for it is the agent of the run around it, else the home's own agent: theirs are the user's message and the outcome.

    Args:
        span_id: The name of the span that is the whole run; its steps are those below it.
        run_id: LlamaIndex's id of the run.
        failures: Where errors of recording go.
        asked: What the user said.
        reader: The agent that reads what is read in the run, if there is only one.
        hands_over: Whether agents hand over in it, and the workflow says which one goes on.
    """

    def __init__(
        self, span_id: str, run_id: str, failures: Failures, *, asked: str, reader: str | None, hands_over: bool
    ) -> None:
        self.span_id = span_id
        self.run_id = run_id
        self.agent: str | None = None
        self.home: AsyncAgentMemory | None = None
        self.hands_over = hands_over
        self.is_followed = True
        self._asked = asked
        self._reader = reader
        self._outer = followed_run()
        self._asker = self._outer and self._outer.acting_agent
        self._joined = False
        self._thread_id: str | None = None
        self._unsaid: deque[tuple[Note, str | None]] = deque(maxlen=_UNSAID)
        self._calls: dict[str, ToolCall] = {}
        self._handoff: ToolCallResult | None = None
        self._books: dict[AgentMemory, Actors] = {}
        self._permits: dict[str, bool] = {}
        self._lock = threading.Lock()
        self._failures = failures

    def follow(self) -> None:
        """Make this the run that the context, and all that comes of it, is in."""
        _followed.set(self)

    @property
    def acting_agent(self) -> str | None:
        """Who acts; None for the own agent of whichever memory is used."""
        return self.agent or self._asker

    # --- where it is recorded ---------------------------------------------------------------------------------

    def claim(self, memory: AsyncAgentMemory, thread_id: str | None = None) -> None:
        """Record the run in a memory, if it has no home yet; as a part of the run around it, if that is there too."""
        with self._lock:
            if self.home is not None:
                return
            outer = self._outer
            if outer is not None and outer.home is not None and _place(outer.home) == _place(memory):
                self.run_id, self._thread_id, self._joined = outer.run_id, outer._thread_id, True
            else:
                self._thread_id, self._joined = thread_id, memory.current_run is not None
            self.home = memory
        self.note(run_began(self._asked, self._reader), self._asker)
        while self._unsaid:
            self.note(*self._unsaid.popleft())

    def claim_as_part(self) -> None:
        """Record the run where the one around it is recorded, if that is so."""
        if self._outer is not None and self._outer.home is not None:
            self.claim(self._outer.home)

    @contextmanager
    def acting_as(self, agent: str | None, memory: AsyncAgentMemory) -> Iterator[AsyncAgentMemory]:
        """Return a context with the memory as an agent of the run has it; as it is, if there is no way to that."""
        handle = memory
        with ExitStack() as stack:
            with self._failures.guard("find out who acts"):
                permitted = self._permitted(agent, memory)
                handle = stack.enter_context(self._book(memory).memory(self._caller(permitted)))
            try:
                yield handle
            finally:
                with self._failures.guard("leave a run"):
                    stack.close()

    @contextmanager
    def in_step(self, choosing: Context | None) -> Iterator[None]:
        """Return a context in which whatever is called of the home, through any handle, belongs to the run.

        Args:
            choosing: The context of the workflow, if the step may choose the agent that goes on.
        """
        outer, home = _choosing.get(), self.home
        _choosing.set(choosing)
        try:
            with nullcontext() if home is None else self._book(home).acting(self._caller(self._asker)):
                yield
        finally:
            _choosing.set(outer)

    # --- who reads --------------------------------------------------------------------------------------------

    async def reading_agent(self) -> str | None:
        """Return who goes on with what is read now; None for the memory's own agent.

        Where agents hand over, a workflow names the next one in its state, and then reads what that one is asked with.
        """
        context = _choosing.get()
        if context is not None:
            with self._failures.guard("find out who goes on"):
                self.go_on(named(await context.store.get("current_agent_name")))
        return self._reader or self.acting_agent

    # --- what happens in it -----------------------------------------------------------------------------------

    def call(self, call: ToolCall) -> None:
        """Keep a call of a tool until it is answered."""
        self._calls[call.tool_id] = call

    def answer(self, result: ToolCallResult) -> None:
        """Note what a tool answered; if it hands over, when it is known whether another agent goes on."""
        self._calls.pop(result.tool_id, None)
        if result.tool_name == _HANDOFF:
            self._handoff = result
        else:
            self.note(_answered(result), self.acting_agent)

    def go_on(self, agent: str | None) -> None:
        """Let an agent go on, and note it if it was handed over to."""
        asked = {} if self._handoff is None else self._handoff.tool_kwargs
        if agent is not None and (self.agent not in (None, agent) or asked.get("to_agent") == agent):
            self._handoff = None
            self.note(handed_over(agent, str(asked.get("reason", ""))), self.acting_agent)
        self._settle_handoff()
        self.agent = agent

    def note(self, note: Note, agent: str | None) -> None:
        """Note that something happened, by an agent; as long as the run has no home, it is kept in mind."""
        if self.home is None:
            self._unsaid.append((note, agent))
            return
        with self._failures.guard("note what happened in a run"), self.acting_as(agent, self.home) as actor:
            actor.memory.record_context(note.label, note.summary)

    # --- how it ends ------------------------------------------------------------------------------------------

    def stop(self, note: Note) -> None:
        """End the run where it stands, with a note of why and of what was under way."""
        self._settle_handoff()
        for call in self._calls.values():
            self.note(tool_unanswered(call.tool_name, call.tool_kwargs), self.acting_agent)
        self.note(note, self.acting_agent)

    @property
    def has_outcome(self) -> bool:
        """Whether what came of the run is recorded here, and not for whoever opened it to say."""
        return self.home is not None and not self._joined

    def commit(self, verdict: Verdict, error: BaseException | None = None) -> None:
        """Record what came of the run, if that is recorded here."""
        self._settle_handoff()
        if self.home is None or not self.has_outcome:
            return
        with self._failures.guard("record an outcome"), self.acting_as(self._asker, self.home) as actor:
            actor.memory.commit_outcome(
                self.run_id,
                verdict.outcome,
                causal_confidence=verdict.weight,
                run_id=self.run_id,
                summary=None if error is None else error_text(error),
            )

    def fail(self, note: Note, error: BaseException) -> None:
        """End the run with an error."""
        self.stop(note)
        self.commit(FAILURE, error)

    def close(self) -> None:
        """Save what the run has read, and follow it no longer."""
        self.is_followed = False
        with self._lock:
            books = list(self._books.values())
            self._books.clear()
        with ExitStack() as stack:
            for book in books:
                stack.enter_context(self._failures.guard("save a run"))
                stack.callback(book.close)

    # --- inside -----------------------------------------------------------------------------------------------

    def _settle_handoff(self) -> None:
        """Note a handoff that came to nothing as the call of a tool that it was."""
        handoff, self._handoff = self._handoff, None
        if handoff is not None:
            self.note(_answered(handoff), self.acting_agent)

    def _book(self, memory: AsyncAgentMemory) -> Actors:
        with self._lock:
            return self._books.setdefault(memory.memory, Actors(memory))

    def _permitted(self, agent: str | None, memory: AsyncAgentMemory) -> str | None:
        """Return an agent that may act here, else None for the memory's own; an API key may be for some agents only."""
        if agent is not None and agent not in self._permits:
            permitted = False
            with self._failures.guard(f"act as {agent!r}"):
                memory.as_agent(agent).memory.read_many(())
                permitted = True
            self._permits[agent] = permitted
        return agent if agent is not None and self._permits[agent] else None

    def _caller(self, agent: str | None) -> Caller:
        return Caller(agent, self.run_id, self._thread_id, metadata=_METADATA)


def _answered(result: ToolCallResult) -> Note:
    output = result.tool_output
    if output.is_error and output.exception is not None:
        return tool_failed(result.tool_name, result.tool_kwargs, output.exception)
    return tool_answered(result.tool_name, result.tool_kwargs, output.content, is_error=output.is_error)


def _place(memory: AsyncAgentMemory) -> tuple[str, str]:
    return memory.database, memory.namespace
