"""Many threads and tasks on one store: nothing is lost, nothing mixes."""

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from langgraph.store.base import GetOp, PutOp


def test_threads_share_a_store(memory, store):
    def work(worker):
        for n in range(25):
            store.put(("work", str(worker)), f"k{n}", {"n": n})
            store.batch([PutOp(("work", "shared"), "last", {"worker": worker}), GetOp(("work", "shared"), "last")])
        return len(store.search(("work", str(worker)), limit=100))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [25] * 8
    assert len(memory.history("work/shared", "last")) == 200
    assert memory.verify().ok


def test_tasks_share_a_store(store):
    async def work():
        await asyncio.gather(*(store.aput(("work",), f"k{n}", {"n": n}) for n in range(100)))
        items = await asyncio.gather(*(store.aget(("work",), f"k{n}") for n in range(100)))
        return [item.value["n"] for item in items]

    assert asyncio.run(work()) == list(range(100))
    assert len(store.search(("work",), limit=200)) == 100


def test_sync_calls_from_the_event_loop(store):
    async def work():
        store.put(("work",), "k", {"n": 1})
        await store.aput(("work",), "k", {"n": 2})
        return store.get(("work",), "k").value

    assert asyncio.run(work()) == {"n": 2}


def test_a_put_that_waits_for_a_lock_lets_the_event_loop_go_on(store):
    async def work():
        with closing(sqlite3.connect(store.memory.database)) as other:
            other.execute("BEGIN IMMEDIATE")
            put = asyncio.create_task(store.aput(("work",), "k", {"n": 1}))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not put.done()
            other.rollback()
        await put

    asyncio.run(work())
    assert store.get(("work",), "k").value == {"n": 1}
