"""How LangGraph namespaces stand for entity paths: reversibly, and compared by whole segment.

The labels of a namespace are the segments of the path. A ``/`` or ``%`` inside a label is percent-encoded, so
``("docs", "a/b")`` is ``docs/a%2Fb`` and cannot be taken for ``("docs", "a", "b")``. A path that was not
written through a store may hold a bare ``%``; its label is then shown as it stands.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from langgraph.store.base import InvalidNamespaceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["common_pattern", "entity_path", "namespace", "segments"]

_LABELS = {"%25": "%", "%2F": "/"}
_ESCAPED = re.compile("%25|%2F")

WILDCARD = "*"
"""Stands for any one label in the conditions of ``list_namespaces``."""


def segments(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the path segments that stand for labels, or raise InvalidNamespaceError."""
    if isinstance(labels, str):
        raise InvalidNamespaceError(f"a namespace is a tuple of labels, not a string: use ({labels!r},)")
    return tuple(_segment(label, labels) for label in labels)


def entity_path(labels: Sequence[str]) -> str:
    """Return the entity path that stands for a namespace."""
    return "/".join(segments(labels))


def namespace(path: str) -> tuple[str, ...]:
    """Return the namespace that an entity path stands for."""
    labels = path.split("/")
    if "%" in path:
        labels = [_ESCAPED.sub(lambda found: _LABELS[found[0]], label) for label in labels]
    return tuple(labels)


def _segment(label: str, labels: Sequence[str]) -> str:
    if not isinstance(label, str) or not label:
        raise InvalidNamespaceError(f"a label is a string that is not empty; got {label!r} in {labels!r}")
    if "\0" in label:
        raise InvalidNamespaceError(f"a label has no NUL character; got {label!r} in {labels!r}")
    return label.replace("%", "%25").replace("/", "%2F")


def common_pattern(patterns: Iterable[Sequence[str]]) -> tuple[str, ...] | None:
    """Return the one prefix that matches what all the given prefixes match, or None if nothing does.

    ``*`` stands for any one label. The prefix of no patterns is empty and matches everything.
    """
    common: list[str] = []
    for pattern in patterns:
        for place, label in enumerate(pattern):
            if place == len(common):
                common.append(label)
            elif common[place] == WILDCARD:
                common[place] = label
            elif label not in (WILDCARD, common[place]):
                return None
    return tuple(common)
