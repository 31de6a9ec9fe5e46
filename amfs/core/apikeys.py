"""API keys: how they are made, recognised and kept.

A key is ``amfs_sk_<id>_<secret>``: the id is no secret and finds the row, the secret has 256 bits and a checksum that
tells a typing error without asking the database. Of the secret only its SHA-256 is kept: it has too many bits to
be guessed, so a slow hash would protect nothing and cost every call.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from amfs.core import timeline, validation
from amfs.core.context import MAIN, Context, WriteContext, instant, microseconds
from amfs.errors import ApiKeyNotFoundError, InvalidApiKeyError, InvalidInputError
from amfs.models import ApiKey, CreatedApiKey, EventType, GranteeType, Page, Role
from amfs.storage.rows import ApiKeyRow

if TYPE_CHECKING:
    from amfs.storage.base import Reader

PREFIX = "amfs_sk_"
ANY_AGENT = "*"
KEY_AS_NAME = "(an API key)"
"""Stands for an API key that was passed as the name of a user or team, and is refused."""

_ALPHABET = string.digits + string.ascii_letters
_ID, _SECRET, _CHECKSUM = 12, 43, 6
_FORM = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{_ID}}})_([0-9A-Za-z]{{{_SECRET}}})([0-9A-Za-z]{{{_CHECKSUM}}})")
_CONCEALED = re.compile(rf"[0-9A-Za-z]{{{_ID}}}|sha256:[0-9a-f]{{64}}")
_NO_DIGEST = bytes(32)


class Credential(NamedTuple):
    """What is kept of a well-formed key."""

    id: str
    digest: bytes


def credential(key: object) -> Credential | None:
    """Return what is kept of a key, None if it is not well-formed."""
    found = _FORM.fullmatch(key) if isinstance(key, str) else None
    if found is None or _checksum(found[1] + found[2]) != found[3]:
        return None
    return Credential(found[1], sha256(found[2].encode()).digest())


def conceal(grantee_type: object, grantee: str) -> str:
    """Return who is meant by a grantee; of an API key its id, or a digest of whatever else was passed.

    This raises nothing, whatever is passed: a traceback may show the arguments of every call on the way. What was
    concealed already stays as it is.
    """
    if not isinstance(grantee, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
        return grantee
    if grantee_type != GranteeType.API_KEY:
        return KEY_AS_NAME if PREFIX in grantee else grantee
    known = credential(grantee)
    if known is not None:
        return known.id
    if not grantee or _CONCEALED.fullmatch(grantee):
        return grantee
    return f"sha256:{sha256(grantee.encode(errors='surrogatepass')).hexdigest()}"


def authenticate(tx: Reader, namespace: int, known: Credential, agent: str, now: int) -> ApiKeyRow:
    """Return the row of a key that is valid now, in this namespace and for this agent, or raise InvalidApiKeyError."""
    row = tx.records.api_key(known.id)
    matches = compare_digest(known.digest, _NO_DIGEST if row is None else row.digest)
    if row is None or not matches or row.namespace != namespace:
        raise InvalidApiKeyError("the API key is not known in this namespace; ask an admin for another")
    if row.revoked_at is not None:
        raise InvalidApiKeyError(f"API key {row.id} was revoked; ask an admin for another")
    if row.expires_at is not None and row.expires_at <= now:
        raise InvalidApiKeyError(f"API key {row.id} expired at {instant(row.expires_at)}; ask an admin for another")
    agents = json.loads(row.agents)
    if agent not in agents and ANY_AGENT not in agents:
        raise InvalidApiKeyError(f"API key {row.id} may not act as agent {agent!r}, only as {', '.join(agents)}")
    return row


def create(
    context: WriteContext, name: object, agent_ids: object, role: object, expires: datetime | timedelta | None
) -> CreatedApiKey:
    """Make a key and return it, for the only time."""
    context.require_admin("create API keys")
    agents = [validation.name("agent_ids", agent) for agent in validation.several("agent_ids", agent_ids)]
    if not agents:
        raise InvalidInputError(f"agent_ids is empty; name the agents the key may act as, or {ANY_AGENT!r} for any")
    secret, number = _random(_SECRET), _random(_ID)
    row = ApiKeyRow(
        id=number,
        namespace=context.namespace,
        name=validation.name("name", name),
        digest=sha256(secret.encode()).digest(),
        agents=json.dumps(agents, ensure_ascii=False),
        role=validation.choice("role", role, Role),
        agent=context.agent_id,
        created_at=context.now,
        expires_at=_deadline(context, expires),
        revoked_at=None,
    )
    context.tx.records.add_api_key(row)
    timeline.append(context, EventType.ACCESS_GRANTED, _details(row))
    known = _model(context, row)
    return CreatedApiKey(**known.model_dump(), key=f"{PREFIX}{number}_{secret}{_checksum(number + secret)}")


def list_keys(context: Context) -> Page[ApiKey]:
    """Return the keys of the namespace, oldest first."""
    context.require_admin("list API keys")
    return Page([_model(context, row) for row in context.tx.records.api_keys(context.namespace)])


def revoke(context: WriteContext, key_id: object) -> ApiKey:
    """Make a key invalid from the next transaction on, given its concealed id; revoking it again changes nothing."""
    context.require_admin("revoke API keys")
    wanted = validation.name("key_id", key_id)
    row = context.tx.records.api_key(wanted)
    if row is None or row.namespace != context.namespace:
        raise ApiKeyNotFoundError(f"no API key {wanted!r} in this namespace; api_keys() lists them")
    if row.revoked_at is None:
        context.tx.records.revoke_api_key(row.id, context.now)
        timeline.append(context, EventType.ACCESS_REVOKED, _details(row))
        row = row._replace(revoked_at=context.now)
    return _model(context, row)


def _details(row: ApiKeyRow) -> dict[str, str]:
    return {"branch": MAIN, "grantee_type": GranteeType.API_KEY, "grantee_id": row.id, "permission": row.role}


def _deadline(context: WriteContext, expires: object) -> int | None:
    if isinstance(expires, datetime):
        deadline = microseconds(validation.aware("expires", expires))
    else:
        ttl = validation.seconds("expires", expires)
        deadline = None if ttl is None else context.now + ttl
    if deadline is not None and deadline <= context.now:
        raise InvalidInputError(f"expires={expires} is in the past")
    return deadline


def _model(context: Context, row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        agent_ids=tuple(json.loads(row.agents)),
        role=Role(row.role),
        created_by=context.tx.agent_name(row.agent),
        created_at=instant(row.created_at),
        expires_at=None if row.expires_at is None else instant(row.expires_at),
        revoked_at=None if row.revoked_at is None else instant(row.revoked_at),
    )


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    number, digits = crc32(text.encode()), ""
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
