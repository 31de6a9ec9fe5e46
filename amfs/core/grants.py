"""Who may read and write which branch: principals, their rights, and the grants behind these.

Rights are worked out in the transaction that uses them, before it is looked whether a branch exists: what one may not
read is refused in the same words as what is not there. On main a principal may do what its role says; on any other
branch what was granted to its user, a team or its API key; an admin, and the owner of the database, may do everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Self, cast

from amfs.core import apikeys, timeline, validation
from amfs.core.context import MAIN, Clock, Context, Rights, WriteContext, instant
from amfs.errors import GrantNotFoundError, InvalidApiKeyError, InvalidInputError
from amfs.models import EventType, Grant, GranteeType, Page, Permission, Role
from amfs.storage.rows import GrantRow

if TYPE_CHECKING:
    from amfs.storage.base import Reader


class Principal:
    """On whose authority a handle acts: an API key, or a user with teams; without one it is the owner of the database.

    Args:
        user_id: The user, as grants name them. AMFS does not authenticate users: whoever makes the principal vouches.
        team_ids: The teams of the user, as grants name them.
        api_key: A key made by ``create_api_key``; it brings its own role. Only its digest is kept here.
        role: What a user may do on main (``reader``, ``writer``) or everywhere (``admin``). Default: nothing on main.

    Raises:
        InvalidApiKeyError: The key is mistyped. Whether it is valid is looked up by every call.
    """

    __slots__ = ("credential", "role", "team_ids", "user_id")

    def __init__(
        self,
        user_id: str | None = None,
        team_ids: Iterable[str] = (),
        api_key: str | None = None,
        role: Role | str | None = None,
    ) -> None:
        # A traceback may show arguments, and half-made objects: no key must be in them.
        self.user_id, self.team_ids, self.role = None, (), None
        self.credential = apikeys.credential(api_key)
        is_mistyped, api_key = api_key is not None and self.credential is None, None
        if is_mistyped:
            raise InvalidApiKeyError("the API key is mistyped: it is not of the form amfs_sk_<id>_<secret>")
        user_id = None if user_id is None else apikeys.conceal(GranteeType.USER, user_id)
        self.user_id = None if user_id is None else _name("user_id", user_id)
        team_ids = tuple(apikeys.conceal(GranteeType.TEAM, team) for team in _teams(team_ids))
        self.team_ids = tuple(_name("team_ids", team) for team in team_ids)
        self.role = None if role is None else validation.choice("role", role, Role)
        if self.credential is not None and (self.user_id or self.team_ids or self.role):
            raise InvalidInputError("an API key brings its own role; pass it without user_id, team_ids and role")

    @classmethod
    def owner(cls) -> Self:
        """Return the principal that may do everything, as a handle without one."""
        return cls(role=Role.ADMIN)

    def __repr__(self) -> str:
        if self.credential is not None:
            return f"Principal(api_key={self.credential.id!r})"
        return (
            f"Principal(user_id={self.user_id!r}, team_ids={self.team_ids!r}, role={self.role and self.role.value!r})"
        )


def _teams(team_ids: Iterable[str]) -> list[str]:
    if isinstance(team_ids, str) and apikeys.PREFIX in team_ids:
        return [apikeys.KEY_AS_NAME]
    return cast("list[str]", validation.several("team_ids", team_ids))


def _name(what: str, name: str) -> str:
    if name is apikeys.KEY_AS_NAME:
        raise InvalidInputError(f"{what} is an API key; pass it as api_key=")
    return validation.name(what, name)


def rights(tx: Reader, namespace: int, principal: Principal, agent: str, clock: Clock) -> Rights:
    """Return what a principal may do in a namespace."""
    if principal.credential is not None:
        row = apikeys.authenticate(tx, namespace, principal.credential, agent, clock())
        role, grantees = Role(row.role), ((GranteeType.API_KEY.value, row.id),)
    else:
        users = [] if principal.user_id is None else [(GranteeType.USER.value, principal.user_id)]
        role, grantees = principal.role, (*users, *((GranteeType.TEAM.value, team) for team in principal.team_ids))
    return Rights(role, {} if role is Role.ADMIN else _granted(tx, namespace, grantees), grantees)


def _granted(tx: Reader, namespace: int, grantees: tuple[tuple[str, str], ...]) -> Mapping[int, Permission]:
    granted: dict[int, Permission] = {}
    for branch, permission in tx.records.grants_of(namespace, grantees) if grantees else ():
        if granted.get(branch) is not Permission.READ_WRITE:
            granted[branch] = Permission(permission)
    return granted


def grant(context: WriteContext, grantee_type: object, grantee_id: object, permission: object) -> Grant:
    """Grant access to the context's branch; granting again replaces what was granted before.

    The grantee was concealed already, should it have been a raw key.
    """
    kind, grantee = _checked(grantee_type, grantee_id)
    chosen = validation.choice("permission", permission, Permission)
    if context.branch.name == MAIN:
        raise InvalidInputError("main follows the role of a principal or API key and takes no grants; give it a role")
    row = GrantRow(context.branch.id, kind, grantee, chosen, context.agent_id, context.now)
    context.tx.records.save_grant(row)
    timeline.append(context, EventType.ACCESS_GRANTED, _details(context, row))
    return _model(context, row)


def revoke(context: WriteContext, grantee_type: object, grantee_id: object) -> Grant:
    """Take a grant on the context's branch back and return what it was."""
    kind, grantee = _checked(grantee_type, grantee_id)
    rows = context.tx.records.grants(context.branch.id)
    found = [row for row in rows if (row.grantee_type, row.grantee) == (kind, grantee)]
    if not found:
        raise GrantNotFoundError(f"{kind} {grantee!r} has no grant on branch {context.branch.name!r}")
    context.tx.records.delete_grant(context.branch.id, kind, grantee)
    timeline.append(context, EventType.ACCESS_REVOKED, _details(context, found[0]))
    return _model(context, found[0])


def list_grants(context: Context) -> Page[Grant]:
    """Return the grants on the context's branch."""
    return Page([_model(context, row) for row in context.tx.records.grants(context.branch.id)])


def _checked(grantee_type: object, grantee_id: object) -> tuple[GranteeType, str]:
    kind = validation.choice("grantee_type", grantee_type, GranteeType)
    if grantee_id is apikeys.KEY_AS_NAME:
        raise InvalidInputError(f"grantee_id of a {kind} is an API key; use grantee_type='api_key'")
    return kind, validation.name("grantee_id", grantee_id)


def _details(context: Context, row: GrantRow) -> dict[str, str]:
    return {
        "branch": context.branch.name,
        "grantee_type": row.grantee_type,
        "grantee_id": row.grantee,
        "permission": row.permission,
    }


def _model(context: Context, row: GrantRow) -> Grant:
    return Grant(
        branch=context.branch.name,
        grantee_type=GranteeType(row.grantee_type),
        grantee_id=row.grantee,
        permission=Permission(row.permission),
        granted_by=context.tx.agent_name(row.agent),
        granted_at=instant(row.created_at),
    )
