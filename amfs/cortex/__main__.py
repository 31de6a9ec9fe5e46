"""The worker as a process: ``python -m amfs.cortex memory.db --agent cortex --scope checkout-service``.

It ends, with what it is at done, on SIGINT and SIGTERM. What it compiles and what fails is logged to standard error.
"""

from __future__ import annotations

import argparse
import logging
import signal
from collections.abc import Sequence
from queue import SimpleQueue

from amfs.cortex import Cortex
from amfs.errors import AMFSError
from amfs.memory import AgentMemory


def main(arguments: Sequence[str] | None = None) -> None:
    """Keep briefs fresh until a signal comes."""
    asked = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    ended: SimpleQueue[int] = SimpleQueue()  # of all that threads wait at, what a signal handler may safely touch
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _frame: ended.put(got))
    options = {"namespace": asked.namespace, "branch": asked.branch}
    try:
        with (
            AgentMemory(asked.agent, asked.database, **options) as memory,
            Cortex(memory, asked.scope or (None,), interval=asked.interval),
        ):
            ended.get()
    except AMFSError as error:
        raise SystemExit(f"cortex: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m amfs.cortex", description="Keep briefs of a database fresh.")
    parser.add_argument("database", help="the path of the database")
    parser.add_argument("--agent", default="cortex", help="who compiles the briefs")
    parser.add_argument("--scope", action="append", metavar="PATH", help="an entity path; default: everything")
    parser.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between two looks")
    parser.add_argument("--namespace", help="default: the home of the agent, else 'default'")
    parser.add_argument("--branch", default="main", help="whose memory the briefs are about")
    return parser


if __name__ == "__main__":
    main()
