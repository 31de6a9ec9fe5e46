"""What is agreed on over time: tags, and pull requests with their reviews."""

from __future__ import annotations

from datetime import datetime

from amfs.models.base import Model
from amfs.models.words import PullRequestStatus, ReviewVerdict


class Tag(Model):
    """A name for a view: a branch as of a seq."""

    name: str
    branch: str
    seq: int
    description: str
    created_by: str
    created_at: datetime


class Review(Model):
    """What one agent said about a pull request.

    ``source_seq`` is the newest version on the source branch that was reviewed. An approval is ``dismissed`` by later
    versions there, and by what the same reviewer says later.
    """

    agent_id: str
    verdict: ReviewVerdict
    comment: str
    source_seq: int
    dismissed: bool
    seq: int
    created_at: datetime


class PullRequest(Model):
    """A proposal to merge one branch into another.

    ``approved`` says whether any approval stands; ``changes_requested_by`` names the reviewers who block the merge.
    ``merge_event`` is the seq of the merge, None if it is not merged or there was nothing to merge.
    """

    id: int
    title: str
    description: str
    source_branch: str
    target_branch: str
    status: PullRequestStatus
    approved: bool
    changes_requested_by: tuple[str, ...]
    reviews: tuple[Review, ...]
    agent_id: str
    created_at: datetime
    ended_by: str | None
    ended_at: datetime | None
    merge_event: int | None
