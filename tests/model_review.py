"""Manual merges and pull requests in the reference model. They share no code with the engine but the error classes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from amfs.errors import (
    AccessDeniedError,
    ConflictNotFoundError,
    ConflictResolvedError,
    InvalidInputError,
    PullRequestBlockedError,
    PullRequestEndedError,
    PullRequestExistsError,
    PullRequestNotFoundError,
)
from tests.model_access import READ, WRITE
from tests.model_merge import ABSENT, Change, Merge, Slot, described, renewed, take, tombstone

if TYPE_CHECKING:
    from tests.model import Model

Versions = tuple[Slot, int, int, int]
"""A slot and the seqs of source, target and base, 0 where it is absent there."""


@dataclass
class Conflict:
    """A stored conflict and how it was resolved."""

    number: int
    merge: Pending
    change: Change
    status: str = "open"
    take: str | None = None
    value: Any = ABSENT
    resolver: str | None = None

    @property
    def versions(self) -> Versions:
        """What the conflict is between."""
        return versions_of(self.change)


@dataclass
class Pending:
    """A merge that waits until its conflicts are resolved."""

    source: str
    target: str
    paths: tuple[str, ...] | None = None
    close: bool = False
    pull: int | None = None
    is_open: bool = True
    conflicts: list[Conflict] = field(default_factory=list)

    def end(self) -> None:
        """End the merge: what is open is obsolete."""
        self.is_open = False
        for one in self.conflicts:
            if one.status == "open":
                one.status = "obsolete"


@dataclass(frozen=True)
class Review:
    """What a reviewer said of a pull request whose source had a version as its newest."""

    agent: str
    verdict: str
    newest: int
    seq: int


@dataclass
class Pull:
    """A pull request."""

    number: int
    source: str
    target: str
    agent: str
    status: str = "open"
    reviews: list[Review] = field(default_factory=list)
    ended_by: str | None = None
    merge: int | None = None
    newest: int | None = None

    def last(self, agent: str) -> Review | None:
        """Return the last verdict of a reviewer; a comment is none."""
        said = [one for one in self.reviews if one.agent == agent and one.verdict != "commented"]
        return said[-1] if said else None

    @property
    def blocked_by(self) -> list[str]:
        """The reviewers whose last verdict asks for changes."""
        return [one.agent for one in self.reviews if one.verdict == "changes_requested" and one is self.last(one.agent)]

    def dismissed(self, review: Review, newest: int) -> bool:
        """Return whether a review no longer counts."""
        old = review.verdict == "approved" and review.newest < newest
        return old or (review.verdict != "commented" and self.last(review.agent) is not review)


# --- manual merges -----------------------------------------------------------------------------------------------


def merge_manually(
    model: Model, agent: str, source: str, target: str, *,
    paths: tuple[str, ...] | None = None, close: bool = False, pull: int | None = None,
) -> tuple[Merge, list[Conflict]]:  # fmt: skip
    """Merge as resolved so far, or store what is left to be resolved."""
    model.may_merge(agent, source, target, close=close)
    waiting = _waiting(model, source, target, paths)
    merge = _plan(model, agent, waiting or Pending(source, target, paths))
    clashing = merge.fated("conflict")
    if clashing:
        if waiting is None:
            waiting = Pending(source, target, paths, close, pull)
            model.pending.append(waiting)
        else:
            waiting.close, waiting.pull = close, pull or waiting.pull
        return merge, _store(model, waiting, clashing, agent)
    merge.status = "merged" if merge.changes else "up_to_date"
    model.carry_out(merge, agent, source, target, partial=paths is not None)
    if waiting:
        waiting.end()
    if close:
        model.close_branch(agent, source)
    return merge, []


def preview_manually(model: Model, agent: str, source: str, target: str) -> Merge:
    """Return what a manual merge would do, as resolved so far."""
    model.may_merge(agent, source, target, close=False, dry_run=True)
    merge = _plan(model, agent, _waiting(model, source, target, None) or Pending(source, target))
    if merge.changes:
        merge.status = "conflicts" if merge.fated("conflict") else "merged"
    return merge


def _waiting(model: Model, source: str, target: str, paths: tuple[str, ...] | None) -> Pending | None:
    merges = [one for one in model.pending if (one.source, one.target, one.paths) == (source, target, paths)]
    return next((one for one in merges if one.is_open), None)


def _plan(model: Model, agent: str, waiting: Pending) -> Merge:
    """Return what a merge would do with what is resolved so far."""
    merge = model.plan_merge(agent, waiting.source, waiting.target, "three_way", waiting.paths)
    known = {sides_of(one.change): one for one in waiting.conflicts if one.status == "resolved"}
    for change in merge.fated("conflict"):
        if sides_of(change) in known:
            _settle(change, known[sides_of(change)], agent)
    return merge


def _store(model: Model, waiting: Pending, clashing: list[Change], agent: str) -> list[Conflict]:
    wanted = {versions_of(change): change for change in clashing}
    stored = []
    for one in waiting.conflicts:
        if one.status == "open" and one.change.slot[0] in (None, agent):
            if one.versions in wanted:
                del wanted[one.versions]
                stored.append(one)
            else:
                one.status = "obsolete"
    for change in wanted.values():
        model.log.conflicts += 1
        stored.append(Conflict(model.log.conflicts, waiting, change))
        waiting.conflicts.append(stored[-1])
    return stored


def list_conflicts(model: Model, agent: str, branch: str | None, status: str | None) -> list[Conflict]:
    """Return the stored conflicts that an agent may see."""
    model.need(agent, *([(branch, READ)] if branch else ()))
    found = [
        one
        for merge in model.pending
        if branch in (None, merge.source, merge.target) and model.may(merge.source) and model.may(merge.target)
        for one in merge.conflicts
        if one.change.slot[0] in (None, agent) and status in (None, one.status)
    ]
    return sorted(found, key=lambda one: one.number)


def resolve(
    model: Model, agent: str, number: int, side: str | None = None, value: Any = ABSENT
) -> tuple[Merge, list[Conflict]]:
    """Resolve a conflict and merge, or find what is left to be resolved."""
    model.need(agent)
    found = [one for merge in model.pending for one in merge.conflicts if one.number == number]
    if not found or found[0] not in list_conflicts(model, agent, None, None):
        raise ConflictNotFoundError(number)
    one, merge = found[0], found[0].merge
    model.need(agent, (merge.source, READ), (merge.target, WRITE))
    model.must_be_open(merge.target)
    if one.status != "open":
        raise ConflictResolvedError(number)
    if side == "base" and one.change.base and not model.shown(one.change.base):
        raise AccessDeniedError(number)
    model.need(agent, (merge.source, WRITE if merge.close else READ))
    one.status, one.take, one.value, one.resolver = "resolved", side, value, agent
    pull = next((pull for pull in model.pulls if pull.number == merge.pull), None)
    if pull and pull.status == "open" and pull.blocked_by and not _plan(model, agent, merge).fated("conflict"):
        one.status, one.take, one.value, one.resolver = "open", None, ABSENT, None
        raise PullRequestBlockedError(number)
    model.event("conflict_resolved", agent, merge.target, about=merge.source)
    done, left = merge_manually(
        model, agent, merge.source, merge.target, paths=merge.paths, close=merge.close, pull=merge.pull
    )
    if not left and pull and pull.status == "open":
        _end(model, agent, pull, "merged", done.event)
    return done, left


def versions_of(change: Change) -> Versions:
    """Return what a conflict is between."""
    source, target, base = (side.seq if side else 0 for side in (change.source, change.target, change.base))
    return change.slot, source, target, base


def sides_of(change: Change) -> tuple[Slot, int, int]:
    """Return what the resolution of a conflict is for: the base may move."""
    return versions_of(change)[:3]


def _settle(change: Change, resolved: Conflict, agent: str) -> None:
    """Decide a conflict as it was resolved."""
    base, source, target = change.base, change.source, change.target
    if resolved.take == "target":
        change.fate = "skip"
        return
    if resolved.take == "source":
        change.settle("source_wins", agent)
        return
    if resolved.take == "base":
        change.taken = base
        change.result = take(base, target) if base else tombstone(target, agent) if target else None
    else:
        old = target or source
        assert old is not None
        new = renewed(old, source if target else None, resolved.value, agent)
        change.result = replace(new, **described(base, source)) if source and target else new
    change.fate = "apply" if change.result else "keep"


# --- pull requests -----------------------------------------------------------------------------------------------


def create_pull(model: Model, agent: str, source: str, target: str) -> Pull:
    """Propose a merge."""
    model.need(agent, (source, READ), (target, READ))
    if source == target:
        raise InvalidInputError(source)
    model.must_be_open(source)
    model.must_be_open(target)
    for other in model.pulls:
        if (other.source, other.target, other.status) == (source, target, "open"):
            raise PullRequestExistsError(other.number)
    model.log.pulls += 1
    model.pulls.append(Pull(model.log.pulls, source, target, agent))
    model.event("pull_request_opened", agent, target, about=source)
    return model.pulls[-1]


def review_pull(model: Model, agent: str, number: int, verdict: str) -> Pull:
    """Say something about a pull request."""
    pull = _found(model, agent, number)
    _must_be_open(pull)
    event = model.event("pull_request_reviewed", agent, pull.target, about=pull.source)
    pull.reviews.append(Review(agent, verdict, newest_of(model, pull), event.seq))
    return pull


def merge_pull(
    model: Model, agent: str, number: int, strategy: str, *, dry_run: bool = False
) -> tuple[Merge, list[Conflict]]:
    """Merge a pull request, or preview it; a manual merge may leave it open."""
    pull = _found(model, agent, number)
    _must_be_open(pull)
    model.need(agent, (pull.source, READ), (pull.target, READ if dry_run else WRITE))
    if dry_run:
        if strategy == "manual":
            return preview_manually(model, agent, pull.source, pull.target), []
        return model.merge(agent, pull.source, pull.target, strategy, dry_run=True), []
    model.must_be_open(pull.target)
    if pull.blocked_by:
        raise PullRequestBlockedError(number)
    if strategy == "manual":
        merge, left = merge_manually(model, agent, pull.source, pull.target, pull=pull.number)
    else:
        merge, left = model.merge(agent, pull.source, pull.target, strategy), []
    if merge.status not in ("conflicts", "refused"):
        _end(model, agent, pull, "merged", merge.event)
    return merge, left


def close_pull(model: Model, agent: str, number: int) -> Pull:
    """Close a pull request."""
    pull = _found(model, agent, number)
    _must_be_open(pull)
    return _end(model, agent, pull, "closed", None)


def list_pulls(model: Model, agent: str) -> list[Pull]:
    """Return the pull requests between branches that the caller may read."""
    model.need(agent)
    return [pull for pull in model.pulls if model.may(pull.source) and model.may(pull.target)]


def newest_of(model: Model, pull: Pull) -> int:
    """Return the newest shared version of the source branch's own, as of the end of a pull request that ended."""
    if pull.newest is not None:
        return pull.newest
    line = model.branches[pull.source]
    newest = [versions[-1].seq for slot, versions in line.versions.items() if slot[0] is None]
    return max((seq for seq in newest if seq > line.fork), default=0)


def _found(model: Model, agent: str, number: int) -> Pull:
    model.need(agent)
    found = [pull for pull in list_pulls(model, agent) if pull.number == number]
    if not found:
        raise PullRequestNotFoundError(number)
    return found[0]


def _must_be_open(pull: Pull) -> None:
    if pull.status != "open":
        raise PullRequestEndedError(pull.number)


def _end(model: Model, agent: str, pull: Pull, status: str, merge: int | None) -> Pull:
    pull.newest = newest_of(model, pull)
    pull.status, pull.ended_by, pull.merge = status, agent, merge
    model.event(f"pull_request_{status}", agent, pull.target, about=pull.source)
    return pull
