"""Who may do what, in the reference model: principals, grants and API keys. It shares no code with the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amfs.errors import AccessDeniedError, GrantNotFoundError, InvalidApiKeyError, InvalidInputError

if TYPE_CHECKING:
    from tests.model import Model

READ = "read"
WRITE = "read_write"

Grantee = tuple[str, str]
"""What kind of grantee it is, and its id."""


@dataclass
class Key:
    """An API key: who may act by it, when it ends, and whether it was taken back."""

    agents: tuple[str, ...]
    expires: int | None = None
    revoked: bool = False


@dataclass
class Principal:
    """On whose authority a call is made: what it may do on main, and as whom it is granted other branches."""

    role: str | None
    grantees: tuple[Grantee, ...]
    key: Key | None = None


@dataclass
class Access:
    """The principals by name, the grants, and who calls now (None: the owner, who may do everything)."""

    principals: dict[str, Principal] = field(default_factory=dict)
    grants: dict[tuple[str, Grantee], str] = field(default_factory=dict)
    principal: str | None = None

    def allows(self, branch: str, wanted: str = READ) -> bool:
        """Return whether the caller may use a branch."""
        if self.principal is None:
            return True
        who = self.principals[self.principal]
        if who.role == "admin":
            return True
        if branch == "main":
            return who.role == "writer" or (who.role == "reader" and wanted == READ)
        held = {self.grants.get((branch, grantee)) for grantee in who.grantees}
        return WRITE in held or (wanted == READ and READ in held)

    def is_valid(self, agent: str, now: int) -> bool:
        """Return whether the caller is let in at all: an API key must be valid for the agent."""
        key = self.principals[self.principal].key if self.principal else None
        return not key or not (
            key.revoked or agent not in key.agents or (key.expires is not None and key.expires <= now)
        )

    def check(self, agent: str, now: int, wanted: tuple[tuple[str, str], ...]) -> None:
        """Refuse a call that the caller may not make."""
        if not self.is_valid(agent, now):
            raise InvalidApiKeyError(self.principal)
        if not all(self.allows(*one) for one in wanted):
            raise AccessDeniedError(self.principal)

    def check_admin(self, agent: str, now: int) -> None:
        """Refuse what only the owner and admins may do."""
        self.check(agent, now, ())
        if self.principal and self.principals[self.principal].role != "admin":
            raise AccessDeniedError(self.principal)

    def created(self, branch: str) -> None:
        """Let the user or key, but no team, that made a branch write it."""
        who = self.principals[self.principal] if self.principal else None
        if who and who.role != "admin":
            for grantee in who.grantees:
                if grantee[0] != "team":
                    self.grants[branch, grantee] = WRITE


def grant(model: Model, agent: str, branch: str, grantee: Grantee, permission: str) -> None:
    """Let a grantee use a branch; main follows the role."""
    model.need(agent, (branch, WRITE))
    if branch == "main":
        raise InvalidInputError(branch)
    model.access.grants[branch, grantee] = permission
    model.event("access_granted", agent, branch)


def revoke(model: Model, agent: str, branch: str, grantee: Grantee) -> str:
    """Take a grant back and return what it was."""
    model.need(agent, (branch, WRITE))
    if (branch, grantee) not in model.access.grants:
        raise GrantNotFoundError(branch)
    model.event("access_revoked", agent, branch)
    return model.access.grants.pop((branch, grantee))


def grants_on(model: Model, agent: str, branch: str) -> dict[Grantee, str]:
    """Return the grants on a branch."""
    model.need(agent, (branch, READ))
    return {grantee: what for (name, grantee), what in model.access.grants.items() if name == branch}


def create_key(model: Model, agent: str, agents: tuple[str, ...], expires: int | None) -> Key:
    """Make an API key; only the owner and admins may."""
    model.access.check_admin(agent, model.clock)
    model.event("access_granted", agent, "main")
    return Key(agents, None if expires is None else model.now + expires)


def revoke_key(model: Model, agent: str, key: Key) -> None:
    """Make an API key invalid; doing it again changes nothing."""
    model.access.check_admin(agent, model.clock)
    if not key.revoked:
        key.revoked = True
        model.event("access_revoked", agent, "main")
