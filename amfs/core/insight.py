"""What can be said about the database as a whole: figures, and whether every invariant holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amfs.models import Problem, ReadEvents, Stats, VerifyReport

if TYPE_CHECKING:
    from amfs.core.context import Context
    from amfs.storage.base import Storage

_WAL_RESET_FIXED = (3, 51, 3)


def stats(context: Context, storage: Storage, namespace: str) -> Stats:
    """Return figures about the database and what this agent can see on the context's branch."""
    counts = context.tx.counts(context.namespace, context.branch, context.agent_id, context.time(), context.readable())
    about = storage.describe()
    engine = str(about["engine_version"])
    return Stats(
        database=storage.database,
        namespace=namespace,
        branch=context.branch.name,
        agent_id=context.agent,
        **counts,
        file_bytes=int(about["file_bytes"]),
        durability=str(about["durability"]),
        read_events="off" if storage.read_only else context.settings.read_events.value,
        read_only=storage.read_only,
        schema_version=int(about["schema_version"]),
        sqlite_version=engine,
        notes=tuple(_notes(context, storage, engine)),
    )


def verify(context: Context) -> VerifyReport:
    """Return what is wrong with the database."""
    context.require_admin("verify the database")
    return to_report(context.tx.problems())


def to_report(problems: tuple[list[str], int, list[tuple[str, str]]]) -> VerifyReport:
    """Return what a check of a database found as a report."""
    checks, versions, found = problems
    return VerifyReport(
        checks=tuple(checks),
        versions=versions,
        problems=tuple(Problem(check=check, detail=detail) for check, detail in found),
    )


def backup(storage: Storage, path: object) -> VerifyReport:
    """Copy the database into a file and return the report of the copy."""
    return to_report(storage.backup(path))


def _notes(context: Context, storage: Storage, engine: str) -> list[str]:
    notes: list[str] = []
    if storage.read_only and context.settings.read_events is not ReadEvents.OFF:
        notes.append("the database is read-only: reads are not recorded")
    if tuple(int(part) for part in engine.split(".")) < _WAL_RESET_FIXED:
        notes.append(
            f"SQLite {engine} has the WAL-reset bug (fixed in 3.51.3); AMFS keeps its own connections clear of it, "
            "but do not write this file with other programs at the same time"
        )
    return notes
