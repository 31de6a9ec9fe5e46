"""Who may do what: grants on branches, and API keys."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from amfs.models.base import Model
from amfs.models.words import GranteeType, Permission, Role


class Grant(Model):
    """Access to one branch. An API key stands here by its id, or as a digest if it is no key of this database."""

    branch: str
    grantee_type: GranteeType
    grantee_id: str
    permission: Permission
    granted_by: str
    granted_at: datetime


class ApiKey(Model):
    """What is known of an API key: never the key itself.

    ``agent_ids`` are the agents it may act as (``*``: any), ``role`` what it may do on main.
    """

    id: str
    name: str
    agent_ids: tuple[str, ...]
    role: Role
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class CreatedApiKey(ApiKey):
    """An API key at the only moment it is known: ``key`` is stored nowhere and left out of ``repr`` and displays."""

    key: str = Field(repr=False)
