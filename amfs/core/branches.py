"""Branches and namespaces: creating, closing and listing them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amfs.core import moments, pending, timeline, validation
from amfs.core.context import MAIN, OWNER, Context, Rights, WriteContext, instant
from amfs.errors import (
    AccessDeniedError,
    BranchDepthError,
    BranchError,
    BranchExistsError,
    BranchNotFoundError,
    ReadOnlyDatabaseError,
)
from amfs.models import Branch, BranchStatus, EventType, GranteeType, Page, Permission, Role
from amfs.storage.base import Storage
from amfs.storage.rows import BranchRow, GrantRow

if TYPE_CHECKING:
    from amfs.storage.base import Reader

DEFAULT_NAMESPACE = "default"
MAX_DEPTH = 64
_CAN_GRANT = "an admin, or whoever may write it, can grant it"
_VERBS = {Permission.READ: "read", Permission.READ_WRITE: "write"}


def open_namespace(storage: Storage, wanted: str | None, agent: str, now: int, *, may_create: bool) -> tuple[str, int]:
    """Return the namespace a handle works in and its id, making it and its main branch if it does not exist."""
    with storage.reading() as tx:
        name = wanted or tx.agent_home(agent) or DEFAULT_NAMESPACE
        found = tx.namespace(name)
    if found is not None:
        return name, found
    if not may_create:
        raise AccessDeniedError(f"no permission to use namespace {name!r}; the owner of the database can create it")
    if storage.read_only:
        raise ReadOnlyDatabaseError(f"namespace {name!r} does not exist and the database is read-only")
    with storage.writing() as tx:
        found = tx.namespace(name)
        if found is None:
            found = tx.add_namespace(name, now)
            tx.add_branch(BranchRow(0, found, MAIN, None, 0, 0, None, now, ""))
    return name, found


def find_branch(
    tx: Reader, namespace: int, name: object, rights: Rights = OWNER, wanted: Permission | None = None
) -> BranchRow:
    """Return a branch by name, or raise.

    Raises:
        AccessDeniedError: The principal may not use it, in the same words whether or not it exists.
        BranchNotFoundError: There is no such branch.
    """
    checked = validation.branch_name(name)
    row = tx.branch(namespace, checked)
    if rights is not OWNER and wanted is not None and not rights.allow(checked, row, wanted):
        way_out = "it follows the role of the principal" if checked == MAIN else _CAN_GRANT
        raise AccessDeniedError(f"no permission to {_VERBS[wanted]} branch {checked!r}; {way_out}")
    if row is None:
        known = ", ".join(sorted(branch.name for branch, _ in tx.branches(namespace))[:10])
        raise BranchNotFoundError(
            f"no branch {checked!r}; there are: {known}. Create it with create_branch({checked!r})"
        )
    return row


def named(context: Context, name: object, wanted: Permission = Permission.READ) -> BranchRow:
    """Return another branch of the context's namespace, if the principal may use it."""
    return find_branch(context.tx, context.namespace, name, context.rights, wanted)


def create(context: WriteContext, name: object, description: object, at: object) -> Branch:
    """Create a branch from the context's branch."""
    source, tx = context.branch, context.tx
    wanted = validation.branch_name(name)
    about = validation.description(description)
    fork = None if at is None else moments.view_at(context, at)
    if tx.branch(context.namespace, wanted) is not None:
        raise BranchExistsError(f"branch {wanted!r} exists already; choose another name")
    require_depth(source)
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
    made = row._replace(id=tx.add_branch(row))
    if context.rights.role is not Role.ADMIN:
        _let_creator_write(context, made)
    return _model(context, made, is_open=True)


def _let_creator_write(context: WriteContext, branch: BranchRow) -> None:
    """Grant the branch to the principal itself, not to its teams; an event says so only of grants that people made."""
    for kind, grantee in context.rights.grantees:
        if kind != GranteeType.TEAM:
            permission = Permission.READ_WRITE
            row = GrantRow(branch.id, kind, grantee, permission, context.agent_id, context.now)
            context.tx.records.save_grant(row)


def require_depth(source: BranchRow) -> None:
    """Refuse to create a branch from one that has as many ancestors as there can be."""
    if source.depth >= MAX_DEPTH:
        raise BranchDepthError(
            f"branch {source.name!r} has {source.depth} ancestors, the most there can be; "
            "create the new branch from one nearer to main"
        )


def parent_of(context: Context, row: BranchRow) -> BranchRow | None:
    """Return the branch of the same namespace that a branch was created from; a forked main has none."""
    parent = None if row.parent is None else context.tx.branch_by_id(row.parent)
    return None if parent is None or parent.namespace != row.namespace else parent


def close(context: WriteContext) -> Branch:
    """Close the context's branch."""
    return close_row(context, context.branch)


def close_row(context: WriteContext, branch: BranchRow) -> Branch:
    """Close a branch that is known to be open."""
    require_closable(branch)
    pending.end_all_of(context, branch)
    timeline.append(context, EventType.BRANCH_CLOSED, {"branch": branch.name}, branch=branch.id)
    context.tx.close_branch(branch.id, context.now)
    return _model(context, branch, is_open=False)


def require_closable(branch: BranchRow) -> None:
    """Refuse to close main."""
    if branch.name == MAIN:
        raise BranchError("main cannot be closed; it is the branch that every other goes back to")


def describe(context: Context) -> Branch:
    """Return the context's branch."""
    return _model(context, context.branch, is_open=context.tx.is_open(context.branch.id))


def list_branches(context: Context, status: object) -> Page[Branch]:
    """Return the branches of the namespace, oldest first."""
    wanted = None if status is None else validation.choice("status", status, BranchStatus)
    rows = [one for one in context.tx.branches(context.namespace) if context.may_read(one[0])]
    found = [_model(context, row, is_open=is_open) for row, is_open in rows]
    return Page([branch for branch in found if wanted in (None, branch.status)])


def _model(context: Context, row: BranchRow, *, is_open: bool) -> Branch:
    tx, parent = context.tx, parent_of(context, row)
    return Branch(
        name=row.name,
        parent=None if parent is None else context.name_of(parent.id),
        fork_seq=None if parent is None else row.fork_seq,
        status=BranchStatus.OPEN if is_open else BranchStatus.CLOSED,
        description=row.description,
        created_by=None if row.created_by is None else tx.agent_name(row.created_by),
        created_at=instant(row.created_at),
        depth=row.depth,
    )
