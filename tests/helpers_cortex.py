"""What the child processes of the Cortex tests do."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from amfs import AgentMemory, Cortex

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers_processes import Outbox


def work(outbox: Outbox, database: Path, path: str) -> list[str]:
    """Keep a brief fresh, send each that is written, and return what failed once the parent says stop."""
    stop = threading.Event()

    def write(text: str) -> str:
        outbox.send(text)
        return f"written: {text}"

    def wait() -> None:
        outbox.wait()
        stop.set()

    with AgentMemory("worker", database, durability="normal") as mem:
        cortex = Cortex(mem, [path], writer=write, interval=0.01)
        threading.Thread(target=wait, daemon=True).start()
        cortex.run_until(stop)
        return [repr(error) for error in cortex.failures]


def fork_at_work(_outbox: Outbox, database: Path, path: str) -> tuple[bool, int]:
    """Fork while a Cortex runs; return whether it still runs here, and how the forked process ended (0: well)."""
    written = threading.Event()

    def write(text: str) -> str:
        written.set()
        return text

    with (
        AgentMemory("worker", database, durability="normal") as mem,
        Cortex(mem, [path], writer=write, interval=0.01) as cortex,
    ):
        written.wait(60)
        child = os.fork()
        if child == 0:
            os._exit(_in_the_fork(mem, cortex, path, written))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return cortex.running, code


def _in_the_fork(mem: AgentMemory, cortex: Cortex, path: str, written: threading.Event) -> int:
    if cortex.running:
        return 1
    cortex.stop()
    written.clear()
    mem.write(path, "from the fork", 1)
    cortex.start()
    if not (cortex.running and written.wait(60)):
        return 2
    cortex.stop()
    return 3 if cortex.running or cortex.failures else 0
