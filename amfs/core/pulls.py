"""Pull requests: proposals to merge a branch, reviewed before they are merged.

A review holds for what was reviewed: an approval is dismissed by later versions on the source branch. A request for
changes blocks the merge until the same reviewer approves; without any review a pull request may be merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from amfs.core import branches, timeline, validation
from amfs.core import merge as merging
from amfs.core.context import Access, Context, WriteContext, closed, instant
from amfs.core.merge import Decisions
from amfs.errors import (
    PullRequestBlockedError,
    PullRequestEndedError,
    PullRequestExistsError,
    PullRequestNotFoundError,
)
from amfs.models import (
    EventType,
    MergeResult,
    MergeStatus,
    Page,
    PullRequest,
    PullRequestStatus,
    Review,
    ReviewVerdict,
)
from amfs.storage.rows import NOW, PullRequestRow, ReviewRow


def create(access: Access, target: str | None, title: object, description: object) -> PullRequest:
    """Propose to merge the branch of ``access`` into a target."""
    what = (validation.name("title", title), validation.description(description))
    source, into = access.read(merging.sides, target)
    return access.elsewhere(into).record(_create, source, *what)


def review(access: Access, number: object, verdict: object, comment: object) -> PullRequest:
    """Record what a reviewer says."""
    chosen = validation.choice("verdict", verdict, ReviewVerdict)
    said = validation.description(comment, "comment")
    row, target = access.read(_found, number)
    return access.elsewhere(target).record(_review, row.id, chosen, said)


def merge(access: Access, number: object, wanted: merging.Request) -> MergeResult:
    """Merge a pull request, or preview that."""
    row, target = access.read(_found_open, number)
    source = access.read(_name, row.source)
    return merging.asking_resolver(access.elsewhere(target), source, wanted, partial(_merge, number=row.id))


def close(access: Access, number: object) -> PullRequest:
    """Close a pull request without merging it."""
    row, target = access.read(_found, number)
    return access.elsewhere(target).record(_close, row.id)


def list_pull_requests(context: Context, status: object) -> Page[PullRequest]:
    """Return the pull requests between branches that the principal may read, oldest first."""
    wanted = None if status is None else validation.choice("status", status, PullRequestStatus)
    rows = [row for row in context.tx.records.pull_requests(context.namespace) if _may_see(context, row)]
    return Page(_models(context, [row for row in rows if wanted in (None, row.status)]))


def merged(context: WriteContext, number: int, result: MergeResult) -> None:
    """Say that a pull request into the context's branch was merged; one that was closed meanwhile stays closed."""
    row, _ = _found(context, number)
    if row.status == PullRequestStatus.OPEN:
        _require_unblocked(context, row)
        _end(context, row, PullRequestStatus.MERGED, EventType.PULL_REQUEST_MERGED, result.event)


# --- inside transactions ---------------------------------------------------------------------------------------------


def _create(context: WriteContext, source: str, title: str, description: str) -> PullRequest:
    row = branches.named(context, source)
    for branch in (row, context.branch):
        if not context.tx.is_open(branch.id):
            raise closed(branch)
    for other in context.tx.records.pull_requests(context.namespace):
        if (other.source, other.target, other.status) == (row.id, context.branch.id, PullRequestStatus.OPEN):
            raise PullRequestExistsError(
                f"pull request {other.id} from {source!r} into {context.branch.name!r} is open already; review, merge "
                "or close it"
            )
    made = PullRequestRow(
        id=0,
        namespace=context.namespace,
        title=title,
        description=description,
        source=row.id,
        target=context.branch.id,
        agent=context.agent_id,
        created_at=context.now,
        status=PullRequestStatus.OPEN,
        ended_by=None,
        ended_at=None,
        merge_event=None,
    )
    made = made._replace(id=context.tx.records.add_pull_request(made))
    _tell(context, EventType.PULL_REQUEST_OPENED, made)
    return _models(context, [made])[0]


def _review(context: WriteContext, number: int, verdict: ReviewVerdict, comment: str) -> PullRequest:
    row, _ = _found_open(context, number)
    seen = context.tx.last_shared_version(row.source, NOW)
    seq = _tell(context, EventType.PULL_REQUEST_REVIEWED, row, verdict=verdict.value, comment=comment, source_seq=seen)
    context.tx.records.add_review(ReviewRow(seq, row.id, context.agent_id, verdict, comment, seen, context.now))
    return _models(context, [row])[0]


def _merge(
    context: WriteContext, source: str, wanted: merging.Request, decisions: Decisions, *, number: int
) -> MergeResult:
    row, _ = _found_open(context, number)
    _require_unblocked(context, row)
    result = merging.carry_out(context, source, wanted, decisions, number)
    if result.status is not MergeStatus.CONFLICTS:
        merged(context, number, result)
    return result


def _require_unblocked(context: Context, row: PullRequestRow) -> None:
    blocking = _models(context, [row])[0].changes_requested_by
    if blocking:
        raise PullRequestBlockedError(
            f"pull request {row.id}: changes were requested by {', '.join(blocking)}, who must approve it first. "
            "Nothing was merged"
        )


def _close(context: WriteContext, number: int) -> PullRequest:
    row, _ = _found_open(context, number)
    return _end(context, row, PullRequestStatus.CLOSED, EventType.PULL_REQUEST_CLOSED, None)


def _end(
    context: WriteContext,
    row: PullRequestRow,
    status: PullRequestStatus,
    event_type: EventType,
    merge_event: int | None,
) -> PullRequest:
    row = row._replace(status=status, ended_by=context.agent_id, ended_at=context.now, merge_event=merge_event)
    context.tx.records.end_pull_request(row)
    _tell(context, event_type, row, **({} if merge_event is None else {"merge_event": merge_event}))
    return _models(context, [row])[0]


def _tell(context: WriteContext, event_type: EventType, row: PullRequestRow, **more: object) -> int:
    about = {"pull_request": row.id, "title": row.title, "source": context.tx.branch_by_id(row.source).name}
    return timeline.append(context, event_type, {**about, **more})


def _found(context: Context, number: object) -> tuple[PullRequestRow, str]:
    """Return a pull request that the principal may see, and the name of its target."""
    wanted = validation.whole("pull_request_id", number, 1)
    row = context.tx.records.pull_request(context.namespace, wanted)
    if row is None or not _may_see(context, row):
        raise PullRequestNotFoundError(f"no pull request {wanted} in this namespace; pull_requests() lists them")
    return row, _name(context, row.target)


def _found_open(context: Context, number: object) -> tuple[PullRequestRow, str]:
    row, target = _found(context, number)
    if row.status != PullRequestStatus.OPEN:
        raise PullRequestEndedError(f"pull request {row.id} is {row.status} already; create another")
    return row, target


def _name(context: Context, branch: int) -> str:
    return context.tx.branch_by_id(branch).name


def _may_see(context: Context, row: PullRequestRow) -> bool:
    return all(context.may_read(context.tx.branch_by_id(branch)) for branch in (row.source, row.target))


# --- models ----------------------------------------------------------------------------------------------------------


def _models(context: Context, rows: Sequence[PullRequestRow]) -> list[PullRequest]:
    reviews: dict[int, list[ReviewRow]] = {row.id: [] for row in rows}
    for said in context.tx.records.reviews(list(reviews)):
        reviews[said.pull_request].append(said)
    return [_model(context, row, reviews[row.id]) for row in rows]


def _model(context: Context, row: PullRequestRow, said: Sequence[ReviewRow]) -> PullRequest:
    tx = context.tx
    upto = NOW if row.ended_at is None else tx.seq_at(row.ended_at, row.source)
    newest = tx.last_shared_version(row.source, upto)
    verdicts = {one.agent: one for one in said if one.verdict != ReviewVerdict.COMMENTED}  # the last of each reviewer
    reviews = tuple(_review_model(context, one, verdicts.get(one.agent), newest) for one in said)
    standing = [one for one in reviews if not one.dismissed]
    return PullRequest(
        id=row.id,
        title=row.title,
        description=row.description,
        source_branch=_name(context, row.source),
        target_branch=_name(context, row.target),
        status=PullRequestStatus(row.status),
        approved=any(one.verdict is ReviewVerdict.APPROVED for one in standing),
        changes_requested_by=tuple(one.agent_id for one in standing if one.verdict is ReviewVerdict.CHANGES_REQUESTED),
        reviews=reviews,
        agent_id=tx.agent_name(row.agent),
        created_at=instant(row.created_at),
        ended_by=None if row.ended_by is None else tx.agent_name(row.ended_by),
        ended_at=None if row.ended_at is None else instant(row.ended_at),
        merge_event=row.merge_event,
    )


def _review_model(context: Context, row: ReviewRow, last: ReviewRow | None, newest: int) -> Review:
    verdict = ReviewVerdict(row.verdict)
    is_outdated = verdict is ReviewVerdict.APPROVED and row.source_seq < newest
    is_replaced = verdict is not ReviewVerdict.COMMENTED and last is not None and last.seq != row.seq
    return Review(
        agent_id=context.tx.agent_name(row.agent),
        verdict=verdict,
        comment=row.comment,
        source_seq=row.source_seq,
        dismissed=is_outdated or is_replaced,
        seq=row.seq,
        created_at=instant(row.created_at),
    )
