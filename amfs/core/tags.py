"""Tags: names for views. A tag pins a seq on a branch; whoever reads at a tag reads that branch as of that seq."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amfs.core import moments, timeline, validation
from amfs.core.context import instant
from amfs.errors import TagExistsError, TagNotFoundError
from amfs.models import EventType, Page, Tag
from amfs.storage.rows import TagRow

if TYPE_CHECKING:
    from amfs.core.context import Access, Context, WriteContext


def create(context: WriteContext, name: object, description: object, at: object) -> Tag:
    """Name the view of the context's branch at a moment, or as it is now."""
    wanted = validation.tag_name(name)
    about = validation.description(description)
    pinned = None if at is None else moments.view_at(context, at)
    if context.tx.records.tag(context.namespace, wanted) is not None:
        raise TagExistsError(f"tag {wanted!r} exists already; choose another name, or delete_tag({wanted!r}) first")
    seq = context.seq + 1 if pinned is None else pinned
    timeline.append(context, EventType.TAG_CREATED, {"tag": wanted, "seq": seq, "description": about})
    row = TagRow(context.namespace, wanted, context.branch.id, seq, about, context.agent_id, context.now)
    context.tx.records.add_tag(row)
    return _model(context, row)


def delete(access: Access, name: object) -> Tag:
    """Delete a tag, by whoever may write its branch."""
    branch = access.read(_branch_of, name)
    return access.elsewhere(branch).amend(_delete, name)


def list_tags(context: Context) -> Page[Tag]:
    """Return the tags on branches that the principal may read, by the seq they pin."""
    rows = context.tx.records.tags(context.namespace)
    return Page([_model(context, row) for row in rows if context.may_read(context.tx.branch_by_id(row.branch))])


def _branch_of(context: Context, name: object) -> str:
    return context.tx.branch_by_id(moments.find_tag(context, name).branch).name


def _delete(context: WriteContext, name: object) -> Tag:
    row = moments.find_tag(context, name)
    if row.branch != context.branch.id:  # deleted meanwhile, and made anew elsewhere
        raise TagNotFoundError(f"no tag {row.name!r} on branch {context.branch.name!r} any more")
    timeline.append(context, EventType.TAG_DELETED, {"tag": row.name, "seq": row.seq})
    context.tx.records.delete_tag(row.namespace, row.name)
    return _model(context, row)


def _model(context: Context, row: TagRow) -> Tag:
    return Tag(
        name=row.name,
        branch=context.tx.branch_by_id(row.branch).name,
        seq=row.seq,
        description=row.description,
        created_by=context.tx.agent_name(row.agent),
        created_at=instant(row.created_at),
    )
