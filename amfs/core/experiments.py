"""Experiments as they are stored: a branch, parameters, metrics, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from amfs.core import branches, validation
from amfs.core.context import Context, WriteContext, instant
from amfs.errors import NotFoundError
from amfs.models import Branch, ExperimentRecord, ExperimentStatus, Page
from amfs.storage.rows import BranchRow, ExperimentRow

PREFIX = "experiment/"


def start(context: WriteContext, name: str, params: Mapping[str, Any]) -> ExperimentRecord:
    """Create the branch of an experiment from the context's; ``-2``, ``-3`` … is added to a name that is taken."""
    tx, chosen, attempt = context.tx, name, 1
    while tx.branch(context.namespace, f"{PREFIX}{chosen}") is not None:
        attempt += 1
        chosen = f"{name}-{attempt}"
    made = branches.create(context, f"{PREFIX}{chosen}", "", None)
    branch = tx.branch(context.namespace, made.name)
    assert branch is not None, "the branch was made just now"  # noqa: S101
    row = ExperimentRow(
        branch=branch.id,
        name=chosen,
        source=context.branch.id,
        params=validation.json_text(dict(params), what="params"),
        metrics="{}",
        status=ExperimentStatus.RUNNING,
        error=None,
        agent=context.agent_id,
        started=context.now,
        ended=None,
    )
    tx.records.save_experiment(row)
    return _model(context, row)


def close_branch(context: WriteContext) -> Branch:
    """Close the context's branch; an experiment that was not merged is discarded by it."""
    conclude(context, context.branch, ExperimentStatus.DISCARDED)
    return branches.close(context)


def log(context: WriteContext, metrics: Mapping[str, Any]) -> ExperimentRecord:
    """Add metrics to the experiment of the context's branch; a metric logged again is replaced."""
    row = _row(context)
    merged = {**json.loads(row.metrics), **metrics}
    return _save(context, row._replace(metrics=validation.json_text(merged, what="metrics")))


def finish(context: WriteContext, status: ExperimentStatus, error: str | None = None) -> ExperimentRecord:
    """Say how an experiment's block ended; what was merged or discarded inside stays so."""
    row = _row(context)
    ended = context.now if row.ended is None else row.ended
    kept = row.status if row.status != ExperimentStatus.RUNNING else status
    return _save(context, row._replace(status=kept, error=error, ended=ended))


def conclude(context: WriteContext, branch: BranchRow, status: ExperimentStatus) -> None:
    """Say what became of a branch, if it is that of an experiment. What was merged stays merged when it is closed."""
    row = context.tx.records.experiment(branch.id)
    if row is not None and row.status != ExperimentStatus.MERGED:
        ended = context.now if row.ended is None else row.ended
        context.tx.records.save_experiment(row._replace(status=status, ended=ended))


def record(context: Context) -> ExperimentRecord:
    """Return the experiment of the context's branch."""
    return _model(context, _row(context))


def list_experiments(context: Context) -> Page[ExperimentRecord]:
    """Return the experiments of the namespace, oldest first."""
    rows = context.tx.records.experiments(context.namespace)
    return Page([_model(context, row) for row in rows if context.may_read(context.tx.branch_by_id(row.branch))])


def _row(context: Context) -> ExperimentRow:
    row = context.tx.records.experiment(context.branch.id)
    if row is None:
        raise NotFoundError(f"branch {context.branch.name!r} is not the branch of an experiment")
    return row


def _save(context: WriteContext, row: ExperimentRow) -> ExperimentRecord:
    context.tx.records.save_experiment(row)
    return _model(context, row)


def _model(context: Context, row: ExperimentRow) -> ExperimentRecord:
    tx = context.tx
    return ExperimentRecord(
        name=row.name,
        branch=tx.branch_by_id(row.branch).name,
        source=context.name_of(row.source),
        params=json.loads(row.params),
        metrics=json.loads(row.metrics),
        status=ExperimentStatus(row.status),
        error=row.error,
        agent_id=tx.agent_name(row.agent),
        started_at=instant(row.started),
        ended_at=None if row.ended is None else instant(row.ended),
    )
