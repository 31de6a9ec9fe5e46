"""Moments: what a seq, an aware datetime or the name of a tag means as a point in the history of a branch."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from amfs.core import validation
from amfs.core.context import instant, microseconds
from amfs.errors import BeforeHistoryError, InvalidInputError, TagNotFoundError, TagOffLineageError
from amfs.storage.rows import NOW

if TYPE_CHECKING:
    from amfs.core.context import Context
    from amfs.storage.rows import TagRow


def view_at(context: Context, at: object) -> int:
    """Return the seq as of which the context's branch is seen.

    Raises:
        BeforeHistoryError: A time at which there was no history yet.
        TagNotFoundError, TagOffLineageError: There is no such tag, or the branch does not descend from what it pins.
    """
    point = validation.moment("at", at)
    if isinstance(point, str):
        return _pinned(context, point)
    if isinstance(point, datetime):
        return _as_of(context, point)
    # A larger event is seen whole or not at all: its own seq, or that of a version under it, means all of it.
    return context.tx.end_of_event(_known(context, "at", point))


def last_seq(context: Context, until: object) -> int:
    """Return the last seq that is not after ``until``, NOW for None."""
    if until is None:
        return NOW
    point = validation.moment("until", until)
    if isinstance(point, datetime):
        return context.tx.seq_at(microseconds(point), context.branch.id)
    return find_tag(context, point).seq if isinstance(point, str) else _known(context, "until", point)


def first_seq(context: Context, since: object) -> int:
    """Return the first seq that is not before ``since``, 1 for None."""
    if since is None:
        return 1
    point = validation.moment("since", since)
    if isinstance(point, datetime):
        return context.tx.seq_at(microseconds(point) - 1, context.branch.id) + 1
    return max(find_tag(context, point).seq if isinstance(point, str) else point, 1)


def find_tag(context: Context, name: object) -> TagRow:
    """Return a tag by name; one on a branch that the principal may not read is not there."""
    wanted = validation.tag_name(name)
    row = context.tx.records.tag(context.namespace, wanted)
    if row is None or not context.may_read(context.tx.branch_by_id(row.branch)):
        raise TagNotFoundError(f"no tag {wanted!r} in this namespace; tags() lists them")
    return row


def _pinned(context: Context, name: str) -> int:
    row = find_tag(context, name)
    if not any(part.branch == row.branch and row.seq <= part.upper for part in context.tx.lineage(context.branch.id)):
        branch = context.tx.branch_by_id(row.branch).name
        raise TagOffLineageError(
            f"tag {name!r} pins branch {branch!r} as of seq {row.seq}, which is not in the history of branch "
            f"{context.branch.name!r}; pass branch={branch!r}"
        )
    return row.seq


def _as_of(context: Context, when: datetime) -> int:
    root = context.tx.lineage(context.branch.id)[-1].branch
    began = context.tx.first_ts(root)
    if began is None or microseconds(when) < began:
        since = "is empty" if began is None else f"begins at {instant(began)}"
        raise BeforeHistoryError(f"at={when} is before all history: branch {context.branch.name!r} {since}")
    return context.tx.seq_at(microseconds(when), context.branch.id)


def _known(context: Context, what: str, seq: int) -> int:
    newest = context.tx.last_seq()
    if seq > newest:
        raise InvalidInputError(f"{what}={seq} is yet to come: the newest seq is {newest}")
    return seq
