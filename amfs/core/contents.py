"""Values under the digest of their content: a list as a tree of its elements, cut where its elements say.

Where a list is cut follows from the elements around the cut alone. So two lists that have a long run of elements in
common, at the end, at the beginning or between, have most parts of their trees in common, and these are stored once.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import cast

from amfs.core import validation
from amfs.errors import InvalidValueError
from amfs.storage.rows import Blob, Content, Piece

_BYTES = 20
_LEAST, _MOST, _CUTS = 4, 32, 8
"""How many pieces a part has: at least and at most (but the last); in between, one in so many ends it."""


def piece(what: str, value: object) -> Piece:
    """Return a blob, or a list of blobs, as a piece with all it is made of."""
    if isinstance(value, Blob):
        return _leaf(what, value)
    if not isinstance(value, list):
        raise InvalidValueError(f"{what} must be a Blob or a list of them, not {validation.shown(value)}")
    return _tree([_leaf(what, element) for element in cast("list[object]", value)])


def checked(what: str, value: object) -> Blob:
    """Return a blob that can be stored."""
    if not isinstance(value, Blob) or not isinstance(cast("object", value.data), bytes):
        raise InvalidValueError(f"{what} must be a Blob of bytes, not {validation.shown(value)}")
    validation.name("the kind of a blob", value.kind)
    return value


def _leaf(what: str, value: object) -> Piece:
    blob = checked(what, value)
    digest = blake2b(blob.kind.encode() + b"\0" + blob.data, digest_size=_BYTES, person=b"value").digest()
    return Piece(digest, blob, ())


def _tree(pieces: Sequence[Piece]) -> Piece:
    parts = [_part(group) for group in _groups(pieces)] or [_part(())]
    return parts[0] if len(parts) == 1 else _tree(parts)


def _part(pieces: Sequence[Piece]) -> Piece:
    joined = b"".join(one.digest for one in pieces)
    return Piece(blake2b(joined, digest_size=_BYTES, person=b"list").digest(), None, tuple(pieces))


def _groups(pieces: Sequence[Piece]) -> list[Sequence[Piece]]:
    groups: list[Sequence[Piece]] = []
    begin = 0
    for end, one in enumerate(pieces, 1):
        size = end - begin
        if size == _MOST or (size >= _LEAST and one.digest[0] % _CUTS == 0):
            groups.append(pieces[begin:end])
            begin = end
    return groups if begin == len(pieces) else [*groups, pieces[begin:]]


__all__ = ["Blob", "Content", "checked", "piece"]
