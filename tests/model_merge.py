"""States of an entry in the reference model, and what a merge makes of two of them.

Plain values and nothing else: what is compared, what is merged field by field, and what is left as a conflict. It
shares no code with the engine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

Slot = tuple[str | None, str, str]
"""Owner (None: shared, else the agent whose private space it is), entity path, key."""

ABSENT = object()
NO_EVIDENCE = (0.0, 0.0, 0)  # the good and the bad that outcomes said of a value, and how many there were


@dataclass(frozen=True)
class Version:
    """One immutable state of an entry; ``text`` is its value as text, ``live`` is False for a tombstone.

    ``origin`` is the seq of the version on another branch that a merge or cherry-pick took it from.
    """

    slot: Slot
    value: Any
    text: str
    author: str
    prior: float
    live: bool = True
    evidence: tuple[float, ...] = NO_EVIDENCE
    memory_type: str = "fact"
    refs: tuple[str, ...] = ()
    expires: int | None = None
    born: int = 0
    seq: int = 0
    number: int = 0
    branch: str = ""
    committer: str = ""
    written: int = 0
    origin: int = 0

    @property
    def confidence(self) -> float:
        """The mean of the Beta posterior; the prior counts as two observations."""
        good, bad, _ = self.evidence
        return (2 * self.prior + good) / (2 + good + bad)

    @property
    def metadata(self) -> tuple[Any, ...]:
        """What a merge carries along besides the value."""
        return self.prior, self.evidence, self.memory_type, self.refs, self.expires


@dataclass
class Change:
    """What the source did to a slot since the base, and what a merge makes of it.

    A side is None where the entry is absent; ``source_newest`` is what the source has instead, such as a tombstone.
    ``clashes`` are the places where both sides cannot stand, ``merged`` is the value where they can. ``result`` is
    what the target is to hold (None: it stays as it is); ``fate`` is apply, keep, skip or conflict. ``taken`` is the
    version that the result was taken from, if it is not the source.
    """

    slot: Slot
    base: Version | None
    source: Version | None
    target: Version | None
    source_newest: Version | None = None
    clashes: list[str] = field(default_factory=list)
    merged: Any = ABSENT
    result: Version | None = None
    fate: str = "keep"
    taken: Version | None = None

    @property
    def origin(self) -> int:
        """The seq of the version that the result is taken from, 0 if there is none."""
        taken = self.taken or self.source
        return taken.seq if taken else 0

    @property
    def kind(self) -> str:
        """Whether the source added, modified or deleted the entry."""
        if (self.base is None) is (self.source is None):
            return "modified"
        return "added" if self.base is None else "deleted"

    @property
    def clash(self) -> str:
        """How both sides are in each other's way."""
        kinds = ((self.source, "delete_edit"), (self.target, "edit_delete"), (self.base, "add_add"))
        return next((kind for side, kind in kinds if side is None), "edit_edit")

    def find_clashes(self) -> None:
        """Merge the values where both sides changed them; a deletion against an edit clashes as a whole."""
        base, source, target = self.base, self.source, self.target
        if same_value(source, target) or same_value(base, source) or same_value(base, target):
            return
        if source is None or target is None:
            self.clashes = [""]
        else:
            start = ABSENT if base is None else base.value
            self.merged, self.clashes = merge_fields(start, source.value, target.value)

    def settle(self, strategy: str, agent: str) -> None:
        """Decide what a merge does: take the source's side, add to the target's, blend both, or neither."""
        base, source, target = self.base, self.source, self.target
        if same_value(base, source):
            self.result = carry_metadata(base, source, target) if same_value(base, target) else None
        elif same_value(base, target) or (self.clashes and strategy == "source_wins"):
            self.result = source and take(source, target)
            if source is None and target:
                self.result = tombstone(target, self.source_newest.author if self.source_newest else agent)
        elif same_value(source, target):
            self.result = add_evidence(None, source, target)
        elif self.clashes:
            self.fate = "skip" if strategy == "target_wins" else "conflict"
            return
        else:
            self.result = blend(self, agent)
        self.fate = "keep" if self.result is None else "apply"


@dataclass
class Merge:
    """What a merge did, or would do."""

    status: str
    changes: list[Change]
    base: tuple[str, int]
    source_seq: int
    target_seq: int
    event: int | None = None

    @property
    def count(self) -> int:
        """How many entries are merged; none where anything stands in the way."""
        return 0 if self.status in ("conflicts", "refused") else len(self.fated("apply"))

    def fated(self, fate: str) -> list[Change]:
        """Return the changes that met one fate."""
        return [change for change in self.changes if change.fate == fate]


def canonical(value: Any) -> str:
    """Return a text that two values share if and only if they are equal as typed JSON."""
    return "absent" if value is ABSENT else json.dumps(value, sort_keys=True)


def same_value(one: Version | None, other: Version | None) -> bool:
    """Return whether two states hold the same value, or are both absent."""
    if one is None or other is None:
        return one is other
    return one.text == other.text


def merge_fields(base: Any, source: Any, target: Any, at: str = "") -> tuple[Any, list[str]]:
    """Merge two values field by field; return the result and the JSON Pointers at which they clash."""
    if canonical(base) == canonical(source):
        return target, []
    if canonical(target) in (canonical(base), canonical(source)):
        return source, []
    base = {} if base is ABSENT else base
    if not all(isinstance(side, dict) for side in (base, source, target)):
        return ABSENT, [at]
    result: dict[str, Any] = {}
    clashes: list[str] = []
    for name in {**base, **source, **target}:
        sides = (side.get(name, ABSENT) for side in (base, source, target))
        value, found = merge_fields(*sides, f"{at}/{name.replace('~', '~0').replace('/', '~1')}")
        clashes += found
        if value is not ABSENT:
            result[name] = value
    return result, clashes


def tombstone(old: Version, agent: str) -> Version:
    """Return the version that says that an entry is gone."""
    return replace(old, live=False, value=None, text="", author=agent)


def take(source: Version, target: Version | None) -> Version:
    """Return the source's side as it is, for the key that the target may hold already."""
    return replace(source, born=target.born if target else source.born)


def add_evidence(base: Version | None, source: Version | None, target: Version | None) -> Version | None:
    """Return the target's side with the evidence that the source gathered on the same value since the base."""
    if source is None or target is None:
        return None
    known = base.evidence if base else NO_EVIDENCE
    sides = zip(target.evidence, source.evidence, known, strict=True)
    return changed(target, evidence=tuple(have + max(found - before, 0) for have, found, before in sides))


def carry_metadata(base: Version | None, source: Version | None, target: Version | None) -> Version | None:
    """Return the source's side if the target is as it was, else the target's with what the source changed in it."""
    assert base is not None
    assert source is not None
    assert target is not None
    if base.metadata == target.metadata:
        return take(source, target)
    told = add_evidence(base, source, target)
    return changed(told or target, **particulars(base, source)) or told


def blend(change: Change, agent: str) -> Version | None:
    """Return a version with the fields of both sides: a new value, of which nothing is known yet."""
    source, target = change.source, change.target
    assert source is not None
    assert target is not None
    if canonical(change.merged) == target.text:
        return None
    return replace(renewed(target, source, change.merged, agent), **described(change.base, source))


def renewed(old: Version, other: Version | None, value: Any, agent: str) -> Version:
    """Return a version with a value of the merging agent's own, as sure as the less sure of two sides."""
    prior = min(side.confidence for side in (old, other) if side)
    return replace(old, value=value, text=canonical(value), author=agent, prior=prior, evidence=NO_EVIDENCE)


def described(base: Version | None, source: Version) -> dict[str, Any]:
    """Return what the source changed in type, refs and deadline."""
    changed_there = particulars(base, source)
    changed_there.pop("prior", None)
    return changed_there


def particulars(base: Version | None, source: Version) -> dict[str, Any]:
    """Return what the source changed besides the value and its evidence; without a base, all of it."""
    names = ("prior", "memory_type", "refs", "expires")
    return {one: getattr(source, one) for one in names if not base or getattr(base, one) != getattr(source, one)}


def changed(target: Version, **what: Any) -> Version | None:
    """Return the target's side with something else in it, None if it has that already."""
    new = replace(target, **what)
    return None if new == target else new
