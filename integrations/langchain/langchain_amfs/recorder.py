"""The recorder: what middleware and handlers write down of runs. What fails in it never reaches the run."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec

from amfs.errors import OutcomeNotFoundError
from amfs.frameworks.failures import Failures
from amfs.frameworks.notes import shortened
from langchain_amfs.actors import Actors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from amfs import AgentMemory, Experiment
    from amfs.frameworks.actors import Actor
    from amfs.frameworks.notes import Note
    from amfs.frameworks.verdicts import Verdict
    from langchain_amfs.runtime import Caller

__all__ = ["Part", "Recorder"]

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Part:
    """What one agent does in a run: who it is, on which branch, and under which name the outcome goes.

    ``whole`` is whether that outcome is of the whole run, or only of what this agent did in it.
    """

    caller: Caller
    ref: str
    branch: str | None = None
    whole: bool = True


class Recorder:
    """Writes down what happens in runs, on a memory; safe to use from several threads.

    What fails is logged to the logger ``amfs``, kept in ``failures``, and counted in ``failed``.
    """

    def __init__(self, memory: AgentMemory) -> None:
        self.memory = memory
        self._actors = Actors(memory)
        self._failures = Failures()

    @property
    def place(self) -> tuple[str, str]:
        """Which memory this is about: the database and the namespace."""
        return self.memory.database, self.memory.namespace

    @property
    def failures(self) -> tuple[Exception, ...]:
        """What failed, oldest first; of very many, the last 100."""
        return self._failures.newest

    @property
    def failed(self) -> int:
        """How often something failed."""
        return self._failures.count

    def guard(self, doing: str) -> AbstractContextManager[None]:
        """Return a context in which an error ends the block and nothing else."""
        return self._failures.guard(doing)

    @contextmanager
    def within(self, part: Part) -> Iterator[Actor | None]:
        """Return a context in which calls belong to the run; None if there is no way into it."""
        with ExitStack() as stack:
            actor = None
            with self.guard("enter a run"):
                actor = stack.enter_context(self._actors.acting(part.caller))
            yield actor

    def note(self, part: Part, words: Callable[P, Note], *args: P.args, **kwargs: P.kwargs) -> None:
        """Note something that happened in the run, in the words that a function has for it."""
        with self.guard("note what happened in a run"), self._actors.acting(part.caller) as actor:
            note = words(*args, **kwargs)
            actor.memory.record_context(_name(note.label), note.summary, branch=part.branch)

    def save(self, part: Part) -> None:
        """Save what the run has read so far, so that it can be gone on with elsewhere."""
        with self.guard("save a run"), self._actors.acting(part.caller) as actor:
            run = actor.memory.current_run
            if run is not None:
                run.end()

    def close_run(self, part: Part, verdict: Verdict, error: BaseException | None = None) -> None:
        """Record what came of a run."""
        with self.guard("record an outcome"), self._actors.acting(part.caller) as actor:
            run_id = part.caller.run_id if part.whole else None
            summary = None if error is None else shortened(f"{type(error).__name__}: {error}")
            actor.memory.commit_outcome(
                part.ref, verdict.outcome, causal_confidence=verdict.weight, run_id=run_id, summary=summary,
                branch=part.branch,
            )  # fmt: skip

    def finish(self, experiment: Experiment, verdict: Verdict, error: BaseException | None = None) -> None:
        """Record how the experiment ended that a run was."""
        with self.guard("finish the experiment of a run"):
            experiment.log(outcome=str(verdict.outcome))
            experiment.finish(error)

    def is_closed(self, ref: str) -> bool:
        """Return whether an outcome was recorded under a name."""
        try:
            self.memory.explain(ref)
        except OutcomeNotFoundError:
            return False
        return True

    def tidy(self) -> None:
        """Close what was idle for longest."""
        if self._actors.crowded:
            with self.guard("save runs that ended"):
                self._actors.retire()

    def close(self) -> None:
        """Save what the runs have read. The memory stays open."""
        self._actors.close()


def _name(label: str) -> str:
    return label.encode()[:255].decode(errors="ignore")
