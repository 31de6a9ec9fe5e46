"""Fork: giving a new agent a namespace of its own that starts with all that another agent sees."""

from __future__ import annotations

from dataclasses import replace

from amfs.core import branches, timeline, validation, versions
from amfs.core.context import MAIN, WriteContext
from amfs.errors import AgentExistsError
from amfs.models import EventType, MemoryType
from amfs.storage.rows import MEMORY_CODE, SHARED, BranchRow, Segment, VersionRow


def fork(context: WriteContext, new_agent_id: object) -> int:
    """Make the namespace of a new agent from the context's branch and return how many entries it holds.

    Its main is a branch of the source, so nothing is copied. Only the agent's private entries get a version each, by
    reference, in the private space of the new agent.
    """
    tx, wanted = context.tx, validation.name("new_agent_id", new_agent_id)
    if tx.agent(wanted) is not None or tx.namespace(wanted) is not None:
        raise AgentExistsError(
            f"{wanted!r} is an agent that has acted already, or a namespace; fork onto a name that is new"
        )
    branches.require_depth(context.branch)
    entries = _count(context)
    about = {"new_agent": wanted, "namespace": wanted, "entries": entries}
    event = timeline.append(context, EventType.FORK, about)
    namespace = tx.add_namespace(wanted, context.now)
    agent = tx.add_agent(wanted, namespace)
    main = BranchRow(
        id=0,
        namespace=namespace,
        name=MAIN,
        parent=context.branch.id,
        fork_seq=event,
        depth=context.branch.depth + 1,
        created_by=agent,
        created_at=context.now,
        description="",
    )
    main = main._replace(id=tx.add_branch(main))
    source = {"source_agent": context.agent, "namespace": tx.namespace_name(context.namespace), "entries": entries}
    begun = timeline.append(context, EventType.FORK, source, agent=agent, branch=main.id)
    _hand_over(context, main, agent, begun)
    return entries


def _count(context: WriteContext) -> int:
    """Return how many entries the agent sees. What was counted before is counted on from there, not anew."""
    tx = context.tx
    owners = [SHARED, context.agent_id] if tx.owns_private(context.agent_id) else [SHARED]
    lasting = sum(_count_lasting(context, owner) for owner in owners)
    return lasting + tx.count_expiring(context.branch, context.agent_id, context.now)


def _count_lasting(context: WriteContext, owner: int) -> int:
    tx, branch, seq = context.tx, context.branch, context.seq
    known = tx.records.census(branch.id, owner)
    if known is None:
        entries = tx.count_lasting(branch, owner)
    else:
        since, entries = known
        changed = tx.changed_slots([Segment(branch.id, since, seq)], owner)
        slots = [slot for slot, name in tx.slots(changed).items() if name.owner == owner]
        before, after = (tx.visible_many(branch.id, slots, upto) for upto in (since, seq))
        entries += sum(map(_lasts, after.values())) - sum(map(_lasts, before.values()))
    tx.records.save_census(branch.id, owner, seq, entries)
    return entries


def _lasts(row: VersionRow) -> bool:
    return bool(row.live) and row.expires is None and row.memory_type != MEMORY_CODE[MemoryType.MESSAGE]


def _hand_over(context: WriteContext, main: BranchRow, agent: int, event: int) -> None:
    """Give the new agent what is private to the old one, live now."""
    tx = context.tx
    if not tx.owns_private(context.agent_id):
        return
    made: list[tuple[VersionRow, int | None]] = []
    for row in tx.private(context.branch, context.agent_id, context.now):
        slot = tx.slots([row.slot])[row.slot]
        made.append((row._replace(slot=tx.add_slot(agent, slot.path, slot.key), version=1), row.seq))
    versions.append_under(replace(context, branch=main), event, EventType.FORK, made)
