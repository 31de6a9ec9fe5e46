"""How values become bytes and come back: only types on an explicit list, and never pickle."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ormsgpack
from langgraph.checkpoint.serde import _msgpack, jsonplus
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from amfs import Blob, InvalidInputError, InvalidValueError, NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from amfs import Content

__all__ = ["AllowListSerializer", "dump", "load", "require_safe"]

_KINDS = frozenset({"null", "bytes", "bytearray", "msgpack"})
"""What the serializer writes; "json" and "pickle", which LangGraph's own would read too, revive objects."""

_NAMED = frozenset(
    {
        jsonplus.EXT_CONSTRUCTOR_SINGLE_ARG,
        jsonplus.EXT_CONSTRUCTOR_POS_ARGS,
        jsonplus.EXT_CONSTRUCTOR_KW_ARGS,
        jsonplus.EXT_PYDANTIC_V1,
        jsonplus.EXT_PYDANTIC_V2,
    }
)
"""The extensions of msgpack that begin with the module and the name of the type they revive."""


class AllowListSerializer(JsonPlusSerializer):
    """LangGraph's serializer, limited to its own list of safe types and to those that are named.

    LangGraph's default revives any type that stored bytes name, and a limited one gives back what it may not revive as
    plain data. This one refuses to *write* what it could not give back, so what was stored comes back as it was.

    Args:
        allowed_types: Types besides LangGraph's safe ones (plain data, messages, documents, dates, ids ...), as
            classes or as pairs of module and name.
    """

    def __init__(self, allowed_types: Iterable[type | tuple[str, ...]] = ()) -> None:
        allowed = tuple(allowed_types)
        for kind in allowed:
            if isinstance(kind, type) and getattr(sys.modules.get(kind.__module__), kind.__name__, None) is not kind:
                raise InvalidInputError(f"{kind!r} could not be found again: define it at the top of its module")
        super().__init__(allowed_msgpack_modules=allowed or None)

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Return the kind and the bytes of a value, or raise InvalidValueError naming a type that is not allowed."""
        try:
            kind, data = super().dumps_typed(obj)
        except TypeError as error:
            raise InvalidValueError(f"a {type(obj).__name__} cannot be serialized: {error}") from error
        refused = sorted(name for name in _types_in(data) if not self._allows(name)) if kind == "msgpack" else []
        if refused:
            told, listed = ", ".join(".".join(name) for name in refused), ", ".join(name[1] for name in refused)
            way_out = f"to allow it, say AMFSSaver(memory, allowed_types=[{listed}])"
            raise InvalidValueError(f"{told}: on no list of types that may be stored; {way_out}")
        return kind, data

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return the value of bytes; NotSupportedError if something else than this class wrote them."""
        if data[0] not in _KINDS:
            raise NotSupportedError(f"a value of kind {data[0]!r} is not read: this saver writes no such values")
        return super().loads_typed(data)

    def _allows(self, name: tuple[str, ...]) -> bool:
        allowed = self._allowed_msgpack_modules
        return (
            name in _msgpack.SAFE_MSGPACK_TYPES
            or name in _msgpack.SAFE_MSGPACK_METHODS
            or (isinstance(allowed, set) and name in allowed)
        )


def _types_in(data: bytes) -> set[tuple[str, ...]]:
    """Return the types that bytes name, as module and name; of those revived by a method, with its name."""
    found: set[tuple[str, ...]] = set()

    def look(code: int, inner: bytes) -> None:
        if code != jsonplus.EXT_NUMPY_ARRAY:
            told = ormsgpack.unpackb(inner, ext_hook=look, option=ormsgpack.OPT_NON_STR_KEYS)
            if code in _NAMED:
                found.add((told[0], told[1]))
            elif code == jsonplus.EXT_METHOD_SINGLE_ARG:
                found.add((told[0], told[1], told[3]))

    ormsgpack.unpackb(data, ext_hook=look, option=ormsgpack.OPT_NON_STR_KEYS)
    return found


def require_safe(serde: SerializerProtocol) -> SerializerProtocol:
    """Return a serializer that does not pickle and revives no type that nobody allowed, or raise InvalidInputError."""
    if isinstance(serde, AllowListSerializer):
        return serde
    if any(_revives(serde, probe) for probe in (_Data(1), _Object())):
        raise InvalidInputError(
            f"{type(serde).__name__} revives types that nobody allowed, or pickles. Leave serde= out and name your "
            "types in allowed_types=, or pass an AllowListSerializer, encrypted if you like"
        )
    return serde


def _revives(serde: SerializerProtocol, probe: object) -> bool:
    try:
        return isinstance(serde.loads_typed(serde.dumps_typed(probe)), type(probe))
    except Exception:  # noqa: BLE001 - it refuses, in whatever way
        return False


def dump(serde: SerializerProtocol, value: Any) -> Content:
    """Return a value as a blob; a list as a blob of each element, so that lists share what they have in common."""
    return [_dump(serde, element) for element in value] if type(value) is list else _dump(serde, value)


def load(serde: SerializerProtocol, content: Content) -> Any:
    """Return the value that was dumped."""
    return _load(serde, content) if isinstance(content, Blob) else [_load(serde, one) for one in content]


def _dump(serde: SerializerProtocol, value: Any) -> Blob:
    kind, data = serde.dumps_typed(value)
    _refuse_pickle(kind)
    return Blob(kind, data)


def _load(serde: SerializerProtocol, blob: Blob) -> Any:
    _refuse_pickle(blob.kind)
    return serde.loads_typed(blob)


def _refuse_pickle(kind: str) -> None:
    if "pickle" in kind.lower():
        raise NotSupportedError(f"a value of kind {kind!r}: pickle is neither written nor read")


@dataclass
class _Data:
    """A type that no list names, and that msgpack can hold."""

    number: int


class _Object:
    """A type that no list names, and that only pickle can hold."""
