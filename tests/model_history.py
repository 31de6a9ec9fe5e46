"""Tags, rollback, cherry-pick and fork in the reference model. They share no code with the engine but error classes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from amfs.errors import AgentExistsError, EntryNotFoundError, InvalidInputError, TagExistsError
from tests.model import Branch, Model, Moment, Tag, by_name
from tests.model_access import READ, WRITE
from tests.model_merge import Change, Merge, Slot, Version, same_value, tombstone

if TYPE_CHECKING:
    from tests.model import View


@dataclass
class Rollback:
    """What a rollback did, or would do: slots with the state before and the one that comes back (None: absent)."""

    to: int
    restored: list[tuple[Slot, Version, Version | None]] = field(default_factory=list)
    skipped: list[tuple[Slot, Version, Version | None]] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)
    event: int | None = None


# --- tags --------------------------------------------------------------------------------------------------------


def create_tag(model: Model, agent: str, name: str, branch: str, at: Moment | None = None) -> Tag:
    """Pin a view of a branch, open or closed."""
    model.need(agent, (branch, WRITE))
    seq = model.seq_of(branch, at)
    if name in model.tags:
        raise TagExistsError(name)
    event = model.event("tag_created", agent, branch)
    model.tags[name] = Tag(name, branch, event.seq if seq is None else seq, agent)
    return model.tags[name]


def delete_tag(model: Model, agent: str, name: str) -> Tag:
    """Delete a tag, by whoever may write its branch."""
    model.need(agent)
    tag = model.tag(name)
    model.need(agent, (tag.branch, WRITE))
    model.event("tag_deleted", agent, tag.branch)
    return model.tags.pop(name)


def list_tags(model: Model, agent: str) -> list[Tag]:
    """Return the tags by the seq they pin."""
    model.need(agent)
    return sorted((tag for tag in model.tags.values() if model.may(tag.branch)), key=lambda tag: (tag.seq, tag.name))


# --- rollback ----------------------------------------------------------------------------------------------------


def roll_back(
    model: Model, agent: str, branch: str, to: Moment | None = None, *,
    author: str | None = None, include_others: bool = False, dry_run: bool = False,
) -> Rollback:  # fmt: skip
    """Restore an earlier view of a branch, or what stood under one author's values; refused if ``others`` is not empty.

    Whether it was refused is told by ``others`` and what was asked for.
    """
    model.need(agent, (branch, READ if dry_run else WRITE))
    if not dry_run:
        model.must_be_open(branch)
    line = model.branches[branch]
    seq = model.seq_of(branch, to)
    rollback = Rollback(line.fork if seq is None else seq)
    visible = sorted((slot for slot in model.view(branch) if slot[0] in (None, agent)), key=by_name)
    for slot in visible:
        history = model.history(slot, branch)
        (_take_out if author else _go_back)(model, rollback, history, author or agent)
    if author is None:
        rollback.others = _others(model, rollback, agent, branch)
    if not dry_run and rollback.restored and (include_others or not rollback.others):
        rollback.event = model.event("rollback", agent, branch).seq
        for _, newest, wanted in rollback.restored:
            model.put(wanted or tombstone(newest, agent), branch, agent)
        if author is None:
            model.roll_views_back(branch, rollback.event, rollback.to, agent)
    return rollback


def _go_back(_: Model, rollback: Rollback, history: list[Version], __: str) -> None:
    """Restore the state of a slot as of the seq that is rolled back to, if it differs."""
    then = next((one for one in reversed(history) if one.seq <= rollback.to), None)
    _restore(rollback, history[-1], then)


def _take_out(_: Model, rollback: Rollback, history: list[Version], author: str) -> None:
    """Restore what stood under an author's values, or report that others built on them."""
    since = [one for one in history if one.seq > rollback.to]
    if not any(one.author == author for one in since):
        return
    then = next((one for one in reversed(history) if one.seq <= rollback.to), None)
    if history[-1].author == author:
        under = then
        for one in since:
            under = one if one.author != author else under
        _restore(rollback, history[-1], under)
    else:
        first = next(index for index, one in enumerate(since) if one.author == author)
        under = since[first - 1] if first else then
        rollback.skipped.append((history[-1].slot, history[-1], _live(under)))


def _restore(rollback: Rollback, newest: Version, then: Version | None) -> None:
    if _state(newest) != _state(then):
        rollback.restored.append((newest.slot, newest, _live(then)))


def _others(model: Model, rollback: Rollback, agent: str, branch: str) -> dict[str, int]:
    touched: Counter[str] = Counter()
    for slot, *_ in rollback.restored:
        since = [one for one in model.history(slot, branch) if one.seq > rollback.to]
        touched.update({one.committer for one in since} - {agent})
    return dict(touched)


def _state(version: Version | None) -> object:
    return (version.text, *version.metadata) if version and version.live else None


def _live(version: Version | None) -> Version | None:
    return version if version and version.live else None


# --- cherry-pick -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pick:
    """An entry to pick by path and key, with the slot and seq of one version of it if that is meant."""

    path: str
    key: str
    slot: Slot | None = None
    seq: int | None = None


def cherry_pick(
    model: Model, agent: str, source: str, target: str, picks: list[Pick],
    strategy: str = "three_way", *, dry_run: bool = False,
) -> Merge:  # fmt: skip
    """Bring what the last write of single entries changed into a branch, all of it or nothing."""
    model.need(agent, (source, READ), (target, READ))
    if source == target:
        raise InvalidInputError(source)
    model.need(agent, (target, READ if dry_run else WRITE))
    model.must_be_open(target)
    changes = {}
    for pick in picks:
        change = _picked(model, agent, source, target, pick)
        changes[change.slot] = change
    kept = [changes[slot] for slot in sorted(changes, key=by_name) if not _unchanged(changes[slot])]
    for change in kept:
        change.find_clashes()
        change.settle(strategy, agent)
    positions = (model.branches[name].position for name in (source, target))
    merge = Merge("merged", kept, model.base(source, target), *positions)
    if merge.fated("conflict"):
        merge.status = "conflicts"
    elif all(change.fate == "keep" for change in kept):
        merge.status = "up_to_date"
    elif not dry_run and merge.fated("apply"):
        merge.event = model.event("cherry_pick", agent, target).seq
        for change in merge.fated("apply"):
            if change.result:
                model.put(change.result, target, agent, origin=change.origin)
    return merge


def _picked(model: Model, agent: str, source: str, target: str, pick: Pick) -> Change:
    if pick.slot is None:
        history = model.history_of(agent, source, pick.path, pick.key)
    else:
        history = model.history(pick.slot, source, pick.seq or 0)
        history = history if history and history[-1].seq == pick.seq else []
    if not history or (history[-1].live and not model.alive(history[-1])):
        raise EntryNotFoundError(pick)
    picked = history[-1]
    there = model.view(target).get(picked.slot)
    under = [one for one in history[:-1] if not same_value(_live(one), _live(picked))]
    base = under[-1] if under and there else None
    return Change(picked.slot, _live(base), _live(picked), there if model.alive(there) else None, picked)


def _unchanged(change: Change) -> bool:
    base, source = change.base, change.source
    return same_value(base, source) and (base is None or source is None or base.metadata == source.metadata)


# --- fork --------------------------------------------------------------------------------------------------------


def fork(model: Model, agent: str, branch: str, new: str, known: set[str]) -> tuple[int, Model]:
    """Return how many entries a new agent starts with, and the model of its namespace."""
    model.need(agent, (branch, READ))
    if new in known:
        raise AgentExistsError(new)
    held = model.list(agent, branch)
    event = model.event("fork", agent, branch)
    main = Branch("main", None, event.seq, [(0, {})])
    for since, view in _views(model, branch, event.seq):
        main.views.append((since, {slot: one for slot, one in view.items() if slot[0] is None}))
    for slot in main.views[-1][1]:
        main.versions[slot] = model.history(slot, branch)
    child = Model(model.log, main, model.began)
    child.now = model.now
    child.event("fork", new, "main", actor=agent)
    for private in held:
        owner, path, key = private.slot
        if owner == agent:
            child.put(replace(private, slot=(new, path, key)), "main", agent)
    return len(held), child


def _views(model: Model, branch: str, upto: int) -> list[tuple[int, View]]:
    """Return the views that a branch had, inherited ones included."""
    line = model.branches[branch]
    inherited = _views(model, line.parent, min(upto, line.fork)) if line.parent else []
    return inherited + [(since, view) for since, view in line.views if since <= upto]
