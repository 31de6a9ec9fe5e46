"""The story of the evaluation: replaying it, and the questions asked afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from amfs import AgentMemory

DATA = Path(__file__).parent / "data"


def lines(name: str) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines."""
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines() if line]


def replay(database: str | Path) -> None:
    """Write the whole story into a new database."""
    with AgentMemory("narrator", database, durability="normal") as mem:
        for line in lines("memories"):
            tell(mem.as_agent(line.pop("agent")), line.pop("do"), line)


def tell(agent: AgentMemory, what: str, line: dict[str, Any]) -> None:
    """Carry out one line of the story."""
    if what == "write":
        agent.write(line.pop("path"), line.pop("key"), line.pop("value"), **line)
    elif what == "delete":
        agent.delete(line["path"], line["key"])
    elif what == "branch":
        agent.create_branch(line["name"], source=line.get("source"))
    elif what == "merge":
        agent.merge_branch(line["name"])
    else:
        agent.commit_outcome(line["ref"], line["type"], [tuple(entry) for entry in line["entries"]])
