"""The story the demo tells, step by step."""

from __future__ import annotations

import asyncio
import shlex
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents import run_deploy_agent, run_tuning_agent
from client import KEY, PATH, Policy, RetryingClient
from graph import draw
from service import Service, Weather
from trial import RULE, best, measure_policy, run_trial

from amfs import AgentMemory
from amfs.display import text_table

if TYPE_CHECKING:
    from amfs import Entry, ExperimentRecord

__all__ = ["tell"]

WIDTH = 98


def tell(seed: int, database: Path, requests: int) -> None:
    """Two agents tune the calls to a flaky service: each idea on its own branch, the best one merged."""
    weather = Weather.of(seed)
    with Service(weather) as service, AgentMemory("deploy-agent", database) as memory:
        story = _Story(memory, service.url, requests)
        story.introduce(weather)
        story.write_first_policy()
        story.tune()
        story.show_timeline()
        winner = story.compare()
        story.merge(winner)
        story.show_what_is_left()
        story.suggest(winner, database, seed)


class _Story:
    """The steps, in the order in which they are told."""

    def __init__(self, memory: AgentMemory, url: str, requests: int) -> None:
        self._memory = memory
        self._tuning = memory.as_agent("tuning-agent")
        self._url = url
        self._requests = requests
        self._numbers = count(1)

    def introduce(self, weather: Weather) -> None:
        self._step("A flaky service")
        print(f"checkout-service listens on {self._url}. Its faults follow from seed {weather.seed}:")
        print(f"{weather}.")
        print(f"A client calls it. Its retry policy comes from memory alone: {PATH}/{KEY}.")

    def write_first_policy(self) -> None:
        self._step("deploy-agent, built with LangGraph, writes the first policy on main")
        answer = run_deploy_agent(self._memory)
        print(f"   it wrote   {_policies(self._memory.list(PATH))[0]}")
        print(f"   it says    {answer}")
        client = RetryingClient(self._memory, self._url)
        figures = measure_policy(self._memory, client, self._requests, "first-policy")
        print(f"   measured   {_words(figures)}, over {self._requests} real requests")

    def tune(self) -> None:
        self._step("tuning-agent, built with LlamaIndex, reads it and tries three variants")
        client = RetryingClient(self._tuning, self._url)

        def read_policy() -> str:
            """Read the current retry policy of the checkout service."""
            entry = self._tuning.read(PATH, KEY)
            found = "no policy yet" if entry is None else f"{Policy.model_validate(entry.value)}"
            print(f"   it read    {found}")
            return found

        def try_variant(name: str, policy: dict[str, Any]) -> str:
            """Measure a retry policy on a branch of its own."""
            figures = run_trial(self._tuning, client, self._requests, name, policy)
            print(f"   it tried   {Policy.model_validate(policy)}")
            print(f"              {_words(figures)}, on branch experiment/{name}")
            return _words(figures)

        answer = asyncio.run(run_tuning_agent(self._tuning, read_policy, try_variant))
        print(f"   it says    {answer}")

    def show_timeline(self) -> None:
        self._step("The timeline: what everyone did")
        print("\n".join(draw(self._memory.timeline(agent_id="*"))))
        read = self._memory.timeline(event_type="cross_agent_read")[0]
        print(f"\nEvent {read.seq} stands on deploy-agent's own timeline: it sees who relied on its policy.")

    def compare(self) -> ExperimentRecord:
        self._step("The comparison")
        print(self._memory.compare())
        winner = best(self._memory.experiments())
        print(f"\nRule:   {RULE}.")
        print(f"Winner: {winner.name}.")
        return winner

    def merge(self, winner: ExperimentRecord) -> None:
        self._step(f"The diff: what {winner.branch} would change on main")
        print(self._memory.diff_branch(winner.branch))
        self._step("The merge")
        result = self._memory.merge_branch(winner.branch)
        print(
            f"{result.status}: {result.source} -> {result.target}, {result.merged_entries} entry, in one transaction."
        )

    def show_what_is_left(self) -> None:
        self._step("Nothing is lost: the history of the key, and every branch")
        headers = ["v", "author", "committed by", "confidence", "policy"]
        print(text_table(headers, [_version(entry) for entry in self._memory.history(PATH, KEY)]))
        print()
        names = [branch.name for branch in self._memory.branches()]
        held = [[name, *_policies(self._memory.list(PATH, branch=name))] for name in names]
        print(text_table(["branch", "policy it holds"], held))

    def suggest(self, winner: ExperimentRecord, database: Path, seed: int) -> None:
        loser = next(record for record in self._memory.experiments() if record.branch != winner.branch)
        print(f"\nAll of it is in one file: {database}")
        self._step("What to try next: lines to paste into a shell")
        print(f"export AMFS_DATABASE={shlex.quote(str(database))}\n")
        _suggestion("Who read what deploy-agent wrote?", "mem.timeline(event_type='cross_agent_read')")
        change = f"mem.merge_branch('{loser.branch}', strategy='source_wins')"
        _suggestion(f"Change your mind: take {loser.name} after all.", change)
        print("# Call another service. It may have another winner.")
        print(f"{_python()} notebooks/demo --seed {17 if seed != 17 else 12}")

    def _step(self, title: str) -> None:
        print(f"\n{next(self._numbers)}. {title}\n{'-' * WIDTH}", flush=True)


def _policies(entries: list[Entry]) -> list[str]:
    return [str(Policy.model_validate(entry.value)) for entry in entries if entry.key == KEY]


def _version(entry: Entry) -> list[object]:
    confidence = f"{entry.confidence:.2f}"
    return [entry.version, entry.agent_id, entry.committed_by, confidence, *_policies([entry])]


def _words(figures: dict[str, float]) -> str:
    return f"{figures['success_rate']:.1f} % answered, p95 {figures['p95_ms']:.0f} ms"


def _suggestion(purpose: str, expression: str) -> None:
    opened = "from amfs import AgentMemory\nmem = AgentMemory('deploy-agent')"
    print(f'# {purpose}\n{_python()} -c "\n{opened}\nprint({expression})"\n')


def _python() -> str:
    """Return how to call this Python from here: a virtual environment in this folder need not be active."""
    executable, here = Path(sys.executable), Path.cwd()
    return str(executable.relative_to(here)) if executable.is_relative_to(here) else "python"
