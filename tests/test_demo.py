"""The demo: two services of different moods have different best policies, and the database can prove it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from amfs import AgentMemory
from amfs.models import EventType, ExperimentStatus, OutcomeType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amfs.models import ExperimentRecord

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "notebooks" / "demo"
PATH, KEY = "checkout-service", "retry-pattern"

BURSTS, TAIL = 11, 17
"""Two seeds: with the first, faults come in long bursts; with the second they are few, and slowness counts."""

LOOPBACK_ONLY = """
import os, runpy, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        host = arguments[1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyaddr", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if host != "127.0.0.1":
        os.write(2, f"the demo left the machine: {event} {arguments}".encode())
        os._exit(1)

sys.addaudithook(refuse)
sys.argv[0] = "notebooks/demo"
runpy.run_path("notebooks/demo", run_name="__main__")
"""


class Show(NamedTuple):
    """One run of the demo: what it printed, and the database it left behind."""

    database: Path
    output: str


def run(command: list[str], folder: Path, script: str = "") -> str:
    """Run a command without any key in the environment; return what it printed. Nothing may go to stderr."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith(("_KEY", "_TOKEN"))}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env=environment, input=script, capture_output=True, text=True, timeout=200
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def python(*arguments: str, cwd: Path = ROOT) -> str:
    """Run this Python and return what it printed."""
    return run([sys.executable, *arguments], cwd)


@pytest.fixture(scope="module")
def shows(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Show]:
    """The demo, run with either seed."""
    folder = tmp_path_factory.mktemp("demo")
    made = {}
    for seed in (BURSTS, TAIL):
        database = folder / f"seed-{seed}.db"
        output = python("-c", LOOPBACK_ONLY, "--seed", str(seed), "--database", str(database))
        made[seed] = Show(database, output)
    return made


@pytest.fixture(params=[BURSTS, TAIL])
def show(request: pytest.FixtureRequest, shows: dict[int, Show]) -> Show:
    """Each of the two runs."""
    return shows[request.param]


@pytest.fixture
def memory(show: Show) -> Iterator[AgentMemory]:
    """The database of the run, opened by somebody else."""
    with AgentMemory("visitor", show.database, read_events="off") as opened:
        yield opened


def winner(records: list[ExperimentRecord]) -> ExperimentRecord:
    """The printed rule in other words: drop what is more than half a point behind, then take the quickest."""
    ranked = sorted(records, key=lambda record: (record.metrics["p95_ms"], record.name))
    top = max(record.metrics["success_rate"] for record in records)
    return next(record for record in ranked if record.metrics["success_rate"] >= top - 0.5)


def policy(memory: AgentMemory, branch: str) -> dict[str, Any]:
    entry = memory.read(PATH, KEY, branch=branch)
    assert entry is not None
    return entry.value


def test_the_measurement_decides_who_wins(shows: dict[int, Show]):
    names = {}
    for seed, show in shows.items():
        with AgentMemory("visitor", show.database) as memory:
            names[seed] = winner(memory.experiments()).name
    assert names == {BURSTS: "more-retries", TAIL: "shorter-timeout"}


def test_main_holds_the_winners_policy_and_the_others_keep_theirs(memory: AgentMemory):
    records = memory.experiments()
    best = winner(records)
    assert {record.name: record.status for record in records} == {
        record.name: ExperimentStatus.MERGED if record == best else ExperimentStatus.FINISHED for record in records
    }
    assert len({str(record.params) for record in records}) == 3
    assert policy(memory, "main") == best.params
    for record in records:
        assert policy(memory, record.branch) == record.params
    (merge,) = memory.timeline(agent_id="*", event_type=EventType.BRANCH_MERGED)
    assert (merge.branch, merge.details["source"]) == ("main", best.branch)
    history = memory.history(PATH, KEY)
    assert history[0].value["max_retries"] == 1
    assert (history[-1].value, history[-1].agent_id) == (best.params, "tuning-agent")


def test_every_measurement_left_an_outcome_on_its_branch(memory: AgentMemory):
    for record in memory.experiments():
        (outcome,) = memory.timeline(branch=record.branch, event_type=EventType.OUTCOME)
        good = record.metrics["success_rate"] >= 99 and record.metrics["p95_ms"] <= 1000
        kind = OutcomeType(outcome.details["outcome_type"])
        assert (kind == OutcomeType.SUCCESS) == good


def test_the_read_across_agents_is_on_the_owners_timeline(memory: AgentMemory):
    reads = memory.timeline(agent_id="deploy-agent", event_type=EventType.CROSS_AGENT_READ)
    assert {(read.details["reader_agent"], read.details["key"]) for read in reads} == {("tuning-agent", KEY)}


def test_the_database_is_sound(memory: AgentMemory):
    assert memory.verify().problems == ()


def test_what_is_printed_says_who_won_and_fits_a_terminal(memory: AgentMemory, show: Show):
    assert f"Winner: {winner(memory.experiments()).name}." in show.output
    assert max(len(line) for line in show.output.splitlines() if str(show.database) not in line) <= 100
    assert re.findall(r"(?<![\w:/])/[\w.]+/\S*", show.output.replace(str(show.database), "")) == []


def test_what_to_try_next_works_and_leaves_databases_alone(tmp_path: Path):
    """The suggestions are a shell script; its last line runs the demo again, beside the first database."""
    (tmp_path / "notebooks").symlink_to(DEMO.parent)
    script = python("notebooks/demo", "--requests", "4", cwd=tmp_path).rpartition("---\n")[2]
    printed = run(["sh", "-e"], tmp_path, script)
    assert "tuning-agent read deploy-agent's checkout-service/retry-pattern" in printed
    assert f"merged: {re.findall('experiment/[a-z-]+', script)[0]} -> main" in printed
    for name in ("demo.db", "demo-2.db"):
        assert script.count(f".amfs/{name}") + printed.count(f".amfs/{name}") > 0
        with AgentMemory("visitor", tmp_path / ".amfs" / name) as memory:
            assert len(memory.experiments()) == 3


def test_the_client_obeys_the_policy_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(DEMO)
    service, client = import_module("service"), import_module("client")
    weather = service.Weather(seed=1, fault_share=0.5, longest_burst=3, slow_share=0.0)
    with AgentMemory("tester", tmp_path / "demo.db") as memory, service.Service(weather) as running:
        for retries in (0, 2, 3):
            value = {"max_retries": retries, "backoff": "none", "base_delay_ms": 0, "timeout_ms": 5000}
            memory.write(PATH, KEY, value)
            faults = [weather.answer(number, retries).status != 200 for number in range(40)]
            measured = client.RetryingClient(memory, running.url).measure(40, "test")
            assert measured.success_rate == 100 - 2.5 * sum(faults)
        memory.delete(PATH, KEY)
        with pytest.raises(LookupError, match=KEY):
            client.RetryingClient(memory, running.url).measure(1, "test")
