"""What the child processes of the damage tests do: they meet limits, and rights they do not have."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from amfs import AgentMemory
from amfs.errors import AMFSError, DatabaseFullError
from tests.helpers_crash import LARGE, OPERATIONS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers_processes import Outbox


def write_until_full(outbox: Outbox, database: Path, limits: tuple[int, ...]) -> list[tuple[int, int]]:
    """Write until a limit on the size of files stops it, twice, then lift the limit and write on."""
    import resource  # not on Windows, where these tests do not run

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    acknowledged: list[tuple[int, int]] = []
    codes: list[str] = []
    with AgentMemory("writer", database) as mem:
        for limit in limits:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            try:
                while True:
                    number = len(acknowledged)
                    acknowledged.append((mem.write("full", f"k{number}", [number, LARGE]).seq, number))
            except DatabaseFullError as error:
                codes.append(error.code)
            entry = mem.read("full", "k0")
            assert entry is not None
            assert entry.value == [0, LARGE]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        acknowledged.append((mem.write("full", "after", [len(acknowledged), LARGE]).seq, len(acknowledged)))
        assert mem.verify().ok
    outbox.send(codes)
    return acknowledged


DEVICE_SCRIPT = """
import json, os, sys
from pathlib import Path
from amfs import AgentMemory
from amfs.errors import DatabaseFullError

ballast, seqs = Path(sys.argv[1]) / "ballast", []
ballast.write_bytes(bytes(300_000))
with AgentMemory("writer", Path(sys.argv[1]) / "memory.db") as mem:
    try:
        while True:
            seqs.append(mem.write("full", f"k{len(seqs)}", "x" * 4000).seq)
    except DatabaseFullError as error:
        code = error.code
    acknowledged = [entry.seq for entry in mem.list("full")] == seqs
    ballast.unlink()
    resumed = mem.write("full", "after", 1).version == 1
    print(json.dumps({"code": code, "acknowledged": acknowledged, "ok": mem.verify().ok, "resumed": resumed}))
"""


def on_a_small_device(folder: Path) -> dict[str, Any] | None:
    """Fill a file system of one megabyte that only a process of its own sees; None where that is not allowed."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    folder.mkdir()
    mount = 'mount -t tmpfs -o size=1m tmpfs "$1" || exit 77; exec "$2" -c "$3" "$1"'
    rights = ["--mount"] if os.getuid() == 0 else ["--mount", "--map-root-user"]
    command = [unshare, *rights, "sh", "-c", mount, "sh", str(folder), sys.executable, DEVICE_SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode == 77 or "unshare" in done.stderr:
        return None
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def as_nobody(_outbox: Outbox, database: Path, function: str) -> Any:
    """Give up root's rights for good and run one of the functions of this module on a database."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    return globals()[function](database)


def use_read_only(database: Path) -> dict[str, Any]:
    """Read what there is to read and try every kind of write; return what came of it."""
    with AgentMemory("reader", database) as mem:
        entry = mem.read("svc", "a")
        stats = mem.stats()
        refused: list[str] = []
        for attempt in OPERATIONS.values():
            try:
                attempt(mem)
            except AMFSError as error:
                refused.append(error.code)
        return {
            "value": None if entry is None else entry.value,
            "keys": [entry.key for entry in mem.list("svc")],
            "events": len(mem.timeline(agent_id="*")),
            "changes": len(mem.diff_branch("work")),
            "read_only": stats.read_only,
            "read_events": stats.read_events,
            "refused": refused,
            "ok": mem.verify().ok,
        }
