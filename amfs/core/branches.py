"""Branches and namespaces: creating, closing and listing them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amfs.core import timeline, validation
from amfs.core.context import Context, WriteContext, instant
from amfs.errors import BranchDepthError, BranchError, BranchExistsError, BranchNotFoundError, ReadOnlyDatabaseError
from amfs.models import Branch, BranchStatus, EventType, Page
from amfs.storage.base import BranchRow, Storage

if TYPE_CHECKING:
    from amfs.storage.base import Reader

MAIN = "main"
DEFAULT_NAMESPACE = "default"
MAX_DEPTH = 64


def open_namespace(storage: Storage, wanted: str | None, agent: str, now: int) -> tuple[str, int]:
    """Return the namespace a handle works in and its id, making it and its main branch if it does not exist."""
    with storage.reading() as tx:
        name = wanted or tx.agent_home(agent) or DEFAULT_NAMESPACE
        found = tx.namespace(name)
    if found is not None:
        return name, found
    if storage.read_only:
        raise ReadOnlyDatabaseError(f"namespace {name!r} does not exist and the database is read-only")
    with storage.writing() as tx:
        found = tx.namespace(name)
        if found is None:
            found = tx.add_namespace(name, now)
            tx.add_branch(BranchRow(0, found, MAIN, None, 0, 0, None, now, ""))
    return name, found


def find_branch(tx: Reader, namespace: int, name: object) -> BranchRow:
    """Return a branch by name, or raise BranchNotFoundError."""
    checked = validation.branch_name(name)
    row = tx.branch(namespace, checked)
    if row is None:
        known = ", ".join(sorted(branch.name for branch, _ in tx.branches(namespace))[:10])
        raise BranchNotFoundError(
            f"no branch {checked!r}; there are: {known}. Create it with create_branch({checked!r})"
        )
    return row


def create(context: WriteContext, name: object, description: object, at: object) -> Branch:
    """Create a branch from the context's branch."""
    source, tx = context.branch, context.tx
    wanted = validation.branch_name(name)
    about = validation.name("description", description, validation.MAX_VALUE_BYTES) if description else ""
    fork = timeline.resolve(context, "at", at)
    if tx.branch(context.namespace, wanted) is not None:
        raise BranchExistsError(f"branch {wanted!r} exists already; choose another name")
    if source.depth >= MAX_DEPTH:
        raise BranchDepthError(
            f"branch {source.name!r} has {source.depth} ancestors, the most there can be; "
            "create the new branch from one nearer to main"
        )
    details = {"branch": wanted, "source": source.name, "description": about, "fork_seq": fork}
    if fork is None:
        details["fork_seq"] = context.seq + 1
    seq = timeline.append(context, EventType.BRANCH_CREATED, details)
    row = BranchRow(
        id=0,
        namespace=context.namespace,
        name=wanted,
        parent=source.id,
        fork_seq=seq if fork is None else fork,
        depth=source.depth + 1,
        created_by=context.agent_id,
        created_at=context.now,
        description=about,
    )
    return _model(tx, row._replace(id=tx.add_branch(row)), is_open=True)


def close(context: WriteContext) -> Branch:
    """Close the context's branch."""
    return close_row(context, context.branch)


def close_row(context: WriteContext, branch: BranchRow) -> Branch:
    """Close a branch that is known to be open."""
    require_closable(branch)
    timeline.append(context, EventType.BRANCH_CLOSED, {"branch": branch.name}, branch=branch.id)
    context.tx.close_branch(branch.id, context.now)
    return _model(context.tx, branch, is_open=False)


def require_closable(branch: BranchRow) -> None:
    """Refuse to close main."""
    if branch.name == MAIN:
        raise BranchError("main cannot be closed; it is the branch that every other goes back to")


def describe(context: Context) -> Branch:
    """Return the context's branch."""
    return _model(context.tx, context.branch, is_open=context.tx.is_open(context.branch.id))


def list_branches(context: Context, status: object) -> Page[Branch]:
    """Return the branches of the namespace, oldest first."""
    wanted = None if status is None else validation.choice("status", status, BranchStatus)
    found = [_model(context.tx, row, is_open=is_open) for row, is_open in context.tx.branches(context.namespace)]
    return Page([branch for branch in found if wanted in (None, branch.status)])


def _model(tx: Reader, row: BranchRow, *, is_open: bool) -> Branch:
    return Branch(
        name=row.name,
        parent=None if row.parent is None else tx.branch_by_id(row.parent).name,
        fork_seq=None if row.parent is None else row.fork_seq,
        status=BranchStatus.OPEN if is_open else BranchStatus.CLOSED,
        description=row.description,
        created_by=None if row.created_by is None else tx.agent_name(row.created_by),
        created_at=instant(row.created_at),
        depth=row.depth,
    )
