"""Rules about access: grants and API keys. That they are kept is seen whenever a guest makes a call."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.helpers_machine_world import RARELY, Pick, World, rule
from tests.helpers_seen import agree
from tests.model_access import Grantee, Principal, create_key, grant, grants_on, revoke, revoke_key

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_KEYS = 2


def grantees(world: World) -> list[Grantee]:
    """Return all who may be granted something."""
    return list(dict.fromkeys(one for who in world.model.access.principals.values() for one in who.grantees))


@rule(3)
def give(world: World, pick: Pick) -> None:
    """Grant a branch to somebody."""
    if world.namespace != "default":
        return
    caller, branch = world.caller(pick), world.branch(pick, is_open=False)
    grantee, permission = pick(grantees(world)), pick(("read", "read_write"))
    call: Callable[..., Any] = caller.memory.grant_branch_access
    both = world.step(
        "grant_branch_access",
        caller,
        partial(call, branch, *grantee, permission),
        partial(grant, world.model, caller.agent, branch, grantee, permission),
    )
    if both:
        listed = world.owner(caller.agent).memory.branch_access(branch)
        world.model.access.principal = None
        known = grants_on(world.model, caller.agent, branch)
        agree({(one.grantee_type.value, one.grantee_id): one.permission.value for one in listed}, known)


@rule(1)
def take_back(world: World, pick: Pick) -> None:
    """Take a grant back, or try to."""
    grants = list(world.model.access.grants)
    if not grants or not pick(RARELY):
        return
    caller, (branch, grantee) = world.caller(pick), pick(grants)
    if pick(RARELY):
        branch = world.branch(pick, is_open=False)
    call: Callable[..., Any] = caller.memory.revoke_branch_access
    both = world.step(
        "revoke_branch_access",
        caller,
        partial(call, branch, *grantee),
        partial(revoke, world.model, caller.agent, branch, grantee),
    )
    if both:
        agree(both[0].permission.value, both[1])


@rule(1)
def make_key(world: World, pick: Pick) -> None:
    """Make an API key, which is then one more guest; guests themselves may not."""
    if world.namespace != "default" or len(world.session.secrets) >= MAX_KEYS or not pick((True, False)):
        return
    caller, agents = world.caller(pick), pick((world.agents, world.agents[:2], world.agents[1:]))
    role, seconds = pick(("reader", "writer", "admin")), pick((None, None, 40))
    call: Callable[..., Any] = caller.memory.create_api_key
    both = world.step(
        "create_api_key",
        caller,
        partial(call, "door", agent_ids=agents, role=role, expires=seconds and timedelta(seconds=seconds)),
        partial(create_key, world.model, caller.agent, agents, seconds and seconds * 1_000_000),
        "main",
    )
    if both:
        name = f"key/{both[0].id}"
        world.session.secrets[name] = both[0].key
        world.model.access.principals[name] = Principal(role, (("api_key", both[0].id),), both[1])


@rule(1)
def end_key(world: World, pick: Pick) -> None:
    """Make an API key invalid, seldom; guests may not."""
    keys = list(world.session.secrets)
    if keys and world.namespace == "default" and pick(RARELY):
        caller, name = world.caller(pick), pick(keys)
        known = world.model.access.principals[name].key
        assert known
        world.step(
            "revoke_api_key",
            caller,
            partial(caller.memory.revoke_api_key, name.removeprefix("key/")),
            partial(revoke_key, world.model, caller.agent, known),
            "main",
        )
