"""Experiments: what follows them and what does not, how they end, and how they compare."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amfs import (
    AgentMemory,
    AsyncAgentMemory,
    BranchClosedError,
    ExperimentContextLostError,
    ExperimentStatus,
    InvalidInputError,
    MergeConflictError,
    NotFoundError,
    Put,
    UsageError,
)

P, K = "svc", "config"
OpenMemory = Callable[..., AgentMemory]


def in_plain_thread(function: Callable[[], Any]) -> Any:
    """Return what a function returns, or raises, in a thread that inherits no context."""
    results: list[Any] = []

    def work() -> None:
        try:
            results.append(function())
        except Exception as error:  # noqa: BLE001 - handed to the test
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return results[0]


# --- the block -------------------------------------------------------------------------------------------------------


def test_inside_the_block_everything_happens_on_the_experiments_branch(mem: AgentMemory, clock) -> None:
    mem.write(P, K, "main")
    clock.advance(60)
    with mem.experiment("retry-v3", params={"retries": 5}) as exp:
        assert (exp.name, exp.branch, mem.branch) == ("retry-v3", "experiment/retry-v3", "experiment/retry-v3")
        assert (mem.read(P, K).value, exp.status) == ("main", ExperimentStatus.RUNNING)
        assert mem.write(P, K, "exp").branch == exp.branch
        assert mem.apply([Put(entity_path=P, key="put", value=1)])[0].branch == exp.branch
        with mem.transaction() as tx:
            tx.write(P, "tx", 1)
        mem.commit_outcome("ref", "success", [(P, K)])
        exp.log(score=0.5, loss=2)
        exp.log(score=0.9)
        started = clock.moment
        clock.advance(60)
    assert (mem.branch, mem.read(P, K).value) == ("main", "main")
    assert [(entry.key, entry.branch) for entry in exp.memory.list()] == [
        (key, exp.branch) for key in (K, "put", "tx")
    ]  # fmt: skip
    assert exp.record.model_dump() == {
        "name": "retry-v3", "branch": "experiment/retry-v3", "source": "main", "params": {"retries": 5},
        "metrics": {"score": 0.9, "loss": 2}, "status": ExperimentStatus.FINISHED, "error": None,
        "agent_id": "alice", "started_at": started, "ended_at": clock.moment,
    }  # fmt: skip
    assert mem.branches("open")[-1].name == exp.branch, "nothing is merged or closed by itself"
    assert [event.branch for event in mem.timeline() if event.event_type != "branch_created"] == [
        *[exp.branch] * 4, "main",
    ]  # fmt: skip


def test_a_name_that_is_taken_gets_a_number(mem: AgentMemory) -> None:
    mem.create_branch("experiment/b-2")
    names = []
    for name in ("a", "a", "a", "b", "b", "deep/er", None, None):
        with mem.experiment(name) as exp:
            mem.write(P, K, name)
        names.append(exp.name)
        assert exp.branch == f"experiment/{exp.name}"
    assert names[:6] == ["a", "a-2", "a-3", "b", "b-3", "deep/er"]
    assert len(set(names)) == 8
    assert [record.name for record in mem.experiments()] == names


@pytest.mark.parametrize(
    "arguments",
    [{"name": ""}, {"name": "/x"}, {"name": "a//b"}, {"name": "x" * 250}, {"name": 1}, {"params": {"a": object()}},
     {"params": {"a": float("nan")}}, {"params": [1]}],
    ids=range(8),
)  # fmt: skip
def test_an_experiment_that_cannot_be_stored_is_refused(mem: AgentMemory, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        mem.experiment(**arguments)
    assert len(mem.branches()) == 1


def test_an_experiment_runs_once_and_has_a_branch_when_it_runs(mem: AgentMemory) -> None:
    exp = mem.experiment("a")
    for early in (lambda: exp.branch, lambda: exp.memory, exp.diff, exp.discard, lambda: exp.log(a=1)):
        with pytest.raises(UsageError):
            early()
    with exp:
        pass
    with pytest.raises(UsageError), exp:
        pass
    assert len(mem.branches()) == 2
    with pytest.raises(InvalidInputError):
        exp.log(score=float("inf"))
    assert exp.metrics == {}


@pytest.mark.parametrize("text", ["boom", "", "\ud800", "a\0b", "é" * 100_000])
def test_an_exception_marks_it_failed_keeps_the_branch_and_is_raised_again(mem: AgentMemory, text: str) -> None:
    mine = ValueError(text)

    def fail() -> None:
        with mem.experiment("a"):
            mem.write(P, K, 1)
            raise mine

    with pytest.raises(ValueError) as caught:
        fail()
    assert caught.value is mine
    (record,) = mem.experiments()
    assert record.status is ExperimentStatus.FAILED
    assert str(record.error).startswith("ValueError")
    assert mem.branch == "main"
    assert mem.read(P, K) is None
    assert mem.write(P, K, 2, branch=record.branch).version == 2


# --- precedence ------------------------------------------------------------------------------------------------------


def test_explicit_before_pinned_before_experiment_before_switched(mem: AgentMemory) -> None:
    for name in ("explicit", "pinned", "switched"):
        mem.create_branch(name)
    pinned = mem.on_branch("pinned")
    mem.switch_branch("switched")

    def where() -> list[str]:
        return [
            pinned.write(P, K, 1, branch="explicit").branch,
            mem.write(P, K, 1, branch="explicit").branch,
            pinned.write(P, K, 1).branch,
            mem.write(P, K, 1).branch,
        ]

    assert where() == ["explicit", "explicit", "pinned", "switched"]
    with mem.experiment("e") as exp:
        assert where() == ["explicit", "explicit", "pinned", exp.branch]
        assert exp.memory.write(P, K, 1, branch="explicit").branch == "explicit"
        mem.switch_branch("main")
        assert mem.branch == exp.branch
        with exp.memory.transaction(branch="pinned") as tx:
            tx.write(P, "tx", 1)
    assert exp.record.source == "switched"
    assert mem.read(P, "tx", branch="pinned").value == 1
    assert where() == ["explicit", "explicit", "pinned", "main"]


def test_an_experiment_inside_another_starts_from_it(mem: AgentMemory) -> None:
    with mem.experiment("outer") as outer:
        mem.write(P, K, "outer")
        with mem.experiment("inner") as inner:
            assert mem.read(P, K).value == "outer"
            mem.write(P, K, "inner")
        with mem.experiment("beside", source="main") as beside:
            assert mem.read(P, K) is None
        assert mem.branch == outer.branch
        assert inner.merge().target == outer.branch
        assert mem.read(P, K).value == "inner"
    assert (outer.record.source, inner.record.source, beside.record.source) == ("main", outer.branch, "main")
    assert mem.branch == "main"


def test_every_handle_on_the_database_and_namespace_follows(open_memory: OpenMemory, tmp_path: Path) -> None:
    mem, same, team = open_memory(), open_memory("bob"), open_memory("carol", namespace="team")
    link = tmp_path / "link.db"
    link.symlink_to(mem.database)
    linked, other = open_memory("dan", where=link), open_memory("eve", where=tmp_path / "other.db")
    with same.experiment("e") as exp:
        followers = [mem, same, linked, mem.as_agent("zoe"), open_memory("late")]
        assert {handle.branch for handle in followers} == {exp.branch}
        assert {handle.write(P, handle.agent_id, 1).branch for handle in followers} == {exp.branch}
        assert {handle.branch for handle in (team, other)} == {"main"}
        assert {handle.write(P, K, 1).branch for handle in (team, other)} == {"main"}
    assert {handle.branch for handle in followers} == {"main"}
    assert mem.list() == []
    assert len(exp.memory.list()) == 5


def test_databases_in_memory_are_each_their_own(open_memory: OpenMemory) -> None:
    one, two = open_memory(where=":memory:"), open_memory(where=":memory:")
    with one.experiment("e") as exp:
        assert (one.branch, two.branch) == (exp.branch, "main")
        with two.experiment("f") as other:
            assert (one.branch, two.branch) == (exp.branch, other.branch)


# --- contexts --------------------------------------------------------------------------------------------------------

LOST: dict[str, Callable[[AgentMemory], Any]] = {
    "read": lambda mem: mem.read(P, K),
    "read_many": lambda mem: mem.read_many([(P, K)]),
    "list": lambda mem: mem.list(),
    "history": lambda mem: mem.history(P, K),
    "timeline": lambda mem: mem.timeline(),
    "stats": lambda mem: mem.stats(),
    "write": lambda mem: mem.write(P, K, 1),
    "delete": lambda mem: mem.delete(P, K),
    "apply": lambda mem: mem.apply([Put(entity_path=P, key=K, value=1)]),
    "transaction": lambda mem: mem.transaction(),
    "outcome": lambda mem: mem.commit_outcome("ref", "success"),
    "create_branch": lambda mem: mem.create_branch(f"x{len(mem.branches())}"),
    "experiment": lambda mem: mem.experiment("e").start(),
    "branch": lambda mem: mem.branch,
    "another agent": lambda mem: mem.as_agent("bob").write(P, K, 1),
}


@pytest.mark.parametrize("verb", LOST)
def test_a_context_that_did_not_inherit_the_experiment_is_told(mem: AgentMemory, verb: str) -> None:
    with mem.experiment("e") as exp:
        before = mem.timeline(agent_id="*")
        lost = in_plain_thread(lambda: LOST[verb](mem))
        assert isinstance(lost, ExperimentContextLostError)
        assert all(word in str(lost) for word in ("'e'", "exp.memory", "exp.bind", "branch="))
        assert mem.timeline(agent_id="*") == before
        bound = in_plain_thread(exp.bind(lambda: LOST[verb](mem)))
        assert not isinstance(bound, Exception)
        assert not isinstance(in_plain_thread(lambda: LOST[verb](exp.memory)), Exception)
    assert not isinstance(in_plain_thread(lambda: LOST[verb](mem)), Exception), "afterwards all is as before"


def test_ways_out_of_a_lost_context_lead_to_the_branch_they_name(mem: AgentMemory) -> None:
    with mem.experiment("e") as exp:
        view = mem.on_branch("main")
        assert in_plain_thread(lambda: mem.write(P, "explicit", 1, branch="main").branch) == "main"
        assert in_plain_thread(lambda: view.write(P, "pinned", 1).branch) == "main"
        assert in_plain_thread(lambda: exp.memory.write(P, "memory", 1).branch) == exp.branch
        assert in_plain_thread(exp.bind(lambda: mem.write(P, "bound", 1).branch)) == exp.branch
        context = contextvars.copy_context()
        assert in_plain_thread(lambda: context.run(lambda: mem.write(P, "copied", 1).branch)) == exp.branch
    assert in_plain_thread(exp.bind(lambda: mem.branch)) == exp.branch
    assert in_plain_thread(lambda: mem.branch) == "main"


async def test_a_coroutine_function_can_be_bound_too(mem: AgentMemory) -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return mem.write(P, K, 1).branch

    with mem.experiment("e") as exp:
        pass
    assert await exp.bind(work)() == exp.branch
    assert await asyncio.create_task(exp.bind(work)()) == exp.branch
    assert mem.branch == "main"


async def test_tasks_and_their_threads_follow(mem: AgentMemory) -> None:
    async def work(number: int) -> list[str]:
        await asyncio.sleep(0)
        here = mem.write(P, f"task {number}", number).branch
        return [here, (await asyncio.to_thread(mem.write, P, f"thread {number}", number)).branch]

    async with mem.experiment("e") as exp:
        found = await asyncio.gather(*(work(number) for number in range(3)))
    assert found == [[exp.branch] * 2] * 3
    assert mem.branch == "main"


async def test_experiments_of_one_handle_in_several_tasks_do_not_mix(mem: AgentMemory) -> None:
    together = asyncio.Barrier(3)

    async def work(number: int) -> tuple[str, list[Any]]:
        async with AsyncAgentMemory(mem).experiment(f"e{number}", source="main") as exp:
            await together.wait()
            for step in range(5):
                await asyncio.sleep(0)
                mem.write(P, f"k{step}", number)
            await together.wait()
            return exp.branch, [entry.value for entry in mem.list()]

    found = await asyncio.gather(*(work(number) for number in range(3)))
    assert found == [(f"experiment/e{number}", [number] * 5) for number in range(3)]
    assert (mem.branch, mem.list()) == ("main", [])


async def test_the_async_experiment_does_what_the_sync_one_does(open_memory: OpenMemory) -> None:
    awaited = AsyncAgentMemory(open_memory())
    async with awaited.experiment("e", params={"n": 1}) as exp:
        assert (awaited.branch, (await awaited.write(P, K, 1)).branch) == (exp.branch, exp.branch)
        assert (await exp.memory.read(P, K)).value == 1
        await exp.log(score=1)
    assert [change.key for change in await exp.diff()] == [K]
    assert (await exp.merge(dry_run=True)).merged_entries == 1
    assert (await exp.merge()).merged_entries == 1
    assert (exp.record.status, exp.record.metrics) == (ExperimentStatus.MERGED, {"score": 1})

    async def fail() -> None:
        async with awaited.experiment("f"):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()
    async with awaited.experiment("g") as third:
        pass
    await third.discard()
    assert [record.status.value for record in await awaited.experiments()] == ["merged", "failed", "discarded"]
    assert len(await awaited.compare(exp, third, "f")) == 3
    assert awaited.branch == "main"
    await awaited.close()


async def test_a_cancelled_task_leaves_its_experiment_failed(mem: AgentMemory) -> None:
    inside = asyncio.Event()

    async def work() -> None:
        async with AsyncAgentMemory(mem).experiment("e"):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [record.status for record in mem.experiments()] == [ExperimentStatus.FAILED]
    assert mem.branch == "main"


# --- afterwards ------------------------------------------------------------------------------------------------------


def test_an_experiment_is_compared_with_where_it_came_from_and_merged_there(mem: AgentMemory) -> None:
    mem.create_branch("dev")
    with mem.experiment("e", source="dev") as exp:
        mem.write(P, K, 1)
    assert [change.key for change in exp.diff()] == [change.key for change in exp.diff("main")] == [K]
    preview = exp.merge(dry_run=True)
    assert (preview.target, exp.status) == ("dev", ExperimentStatus.FINISHED)
    result = exp.merge(close=True)
    assert (result.merged_entries, exp.status) == (1, ExperimentStatus.MERGED)
    assert mem.read(P, K, branch="dev").value == 1
    assert mem.branches("closed")[0].name == exp.branch
    assert mem.experiments()[0].status is ExperimentStatus.MERGED


def test_a_merge_that_fails_leaves_the_experiment_as_it_was(mem: AgentMemory) -> None:
    with mem.experiment("e") as exp:
        mem.write(P, K, 1)
    mem.write(P, K, 2)
    with pytest.raises(MergeConflictError):
        exp.merge()
    assert exp.status is ExperimentStatus.FINISHED
    assert exp.merge(strategy="source_wins").merged_entries == 1


def test_a_discarded_experiment_can_be_read_and_not_written(mem: AgentMemory) -> None:
    with mem.experiment("e") as exp:
        mem.write(P, K, 1)
        exp.discard()
        with pytest.raises(BranchClosedError):
            mem.write(P, K, 2)
    exp.log(score=1)
    assert (exp.status, exp.metrics, exp.memory.read(P, K).value) == (ExperimentStatus.DISCARDED, {"score": 1}, 1)


def test_experiments_compare_in_a_table_parameters_before_metrics(mem: AgentMemory) -> None:
    made = []
    for name, params, metrics in (
        ("a", {"k": 1, "m": 2}, {"s": 0.5}),
        ("b", {"k": 2}, {"t": 1, "k": 3}),
        ("c", {}, {}),
    ):
        with mem.experiment(name, params=params) as exp:
            exp.log(**metrics)
        made.append(exp)
    table = mem.compare()
    assert table.columns == ["experiment", "k", "m", "s", "t", "k (metric)", "status"]
    assert table.rows == [
        ["a", 1, 2, 0.5, None, None, "finished"],
        ["b", 2, None, None, 1, 3, "finished"],
        ["c", None, None, None, None, None, "finished"],
    ]
    assert mem.compare("c", made[0], mem.experiments()[1]).to_dicts()[1] == dict(
        zip(table.columns, table.rows[0], strict=True)
    )
    assert [row[0] for row in mem.compare("c", made[0], mem.experiments()[1]).rows] == ["c", "a", "b"]
    assert (len(table), "0.5" in str(table)) == (3, True)
    with pytest.raises(NotFoundError, match="'nope'"):
        mem.compare("nope")
    with pytest.raises(InvalidInputError):
        mem.compare(1)  # type: ignore[arg-type]
