"""The gate: everything a caller passes is checked here, before anything is written.

Names are text without NUL or lone surrogates, within a length in UTF-8 bytes. Values are plain JSON. Whatever passes
comes back out equal, type by type; whatever would not is refused with an error that says where.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar, cast

from amfs.core.context import OutcomePolicy, Resolver, Settings
from amfs.errors import InvalidInputError, InvalidNameError, InvalidValueError
from amfs.models import ConflictPolicy, Entry, JsonValue, MemoryType, ReadEvents

MAX_VALUE_BYTES = 1 << 20
MAX_KEY_BYTES = 512
MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255
MAX_DEPTH = 64

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

E = TypeVar("E", bound=StrEnum)


class CheckedPut(NamedTuple):
    """A write that passed the gate; ``text`` is the value as JSON."""

    path: str
    key: str
    value: JsonValue
    text: str
    confidence: float
    memory_type: MemoryType
    refs: tuple[str, ...]
    shared: bool
    ttl: int | None
    expected_version: int | None
    idempotency_key: str | None


# --- names -----------------------------------------------------------------------------------------------------------


def name(what: str, text: object, limit: int = MAX_NAME_BYTES) -> str:
    """Return a name, or raise InvalidNameError saying what is wrong with it."""
    if not isinstance(text, str):
        raise InvalidNameError(f"{what} must be a str, not {type(text).__name__}")
    return _name(what, text, limit)


@lru_cache(maxsize=65_536)
def _name(what: str, text: str, limit: int) -> str:
    if not text:
        raise InvalidNameError(f"{what} is empty")
    if "\0" in text:
        raise InvalidNameError(f"{what} {text[:60]!r} contains a NUL character")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidNameError(f"{what} {text[:60]!r} contains a lone surrogate, which is not a character") from None
    if size > limit:
        raise InvalidNameError(f"{what} is {size} bytes long; the limit is {limit}: {text[:60]!r}…")
    return str(text)


def optional_name(what: str, text: object) -> str | None:
    """Return a name, or None for None."""
    return None if text is None else name(what, text)


def entity_path(path: object) -> str:
    """Return an entity path: segments joined by ``/``, none of them empty."""
    return _segments("entity_path", name("entity_path", path, MAX_PATH_BYTES))


def branch_name(branch: object) -> str:
    """Return the name of a branch: segments joined by ``/``, none of them empty."""
    return _segments("branch", name("branch", branch))


@lru_cache(maxsize=65_536)
def _segments(what: str, text: str) -> str:
    if text[0] == "/" or text[-1] == "/" or "//" in text:
        raise InvalidNameError(f"{what} {text[:60]!r} has an empty segment; separate segments with single slashes")
    return text


def key(text: object) -> str:
    """Return a key: any text."""
    return name("key", text, MAX_KEY_BYTES)


def entry_key(path: object, text: object) -> tuple[str, str]:
    """Return a path and a key."""
    return entity_path(path), key(text)


def run_id(text: object) -> str:
    """Return the id of a run, a fresh one for None."""
    return f"run-{secrets.token_hex(8)}" if text is None else name("run_id", text)


def as_pair(what: object) -> tuple[str, str] | str:
    """Return an entry named as one value as a pair, or as the joined text that has to be looked up."""
    if isinstance(what, Entry):
        return what.entity_path, what.key
    if isinstance(what, str):
        return name("entry key", what, MAX_PATH_BYTES + MAX_KEY_BYTES + 1)
    if isinstance(what, tuple):
        pair = cast("tuple[object, ...]", what)
        if len(pair) == 2:
            return entry_key(*pair)
    raise InvalidInputError(f"an entry is named by an Entry, a (path, key) pair or 'path/key', not {what!r}")


# --- numbers, choices, moments ---------------------------------------------------------------------------------------


def choice(what: str, value: object, kind: type[E]) -> E:
    """Return an enum member, given itself or its string."""
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(repr(member.value) for member in kind)
        raise InvalidInputError(f"{what} must be one of {allowed}, not {value!r}") from None


def fraction(what: str, value: object) -> float:
    """Return a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidInputError(f"{what} must be a number from 0 to 1, not {value!r}")
    return float(value)


def whole(what: str, value: object, least: int = 0) -> int:
    """Return a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _INT_MAX:
        raise InvalidInputError(f"{what} must be a whole number of at least {least}, not {value!r}")
    return int(value)


def limit(value: object) -> int:
    """Return a limit as SQL takes it: -1 for none."""
    return -1 if value is None else whole("limit", value, 1)


def cursor(text: object) -> int | None:
    """Return the position a cursor stands for, None for None."""
    if text is None:
        return None
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    raise InvalidInputError(f"cursor must be the next_cursor of an earlier page, not {text!r}")


def moment(what: str, value: object) -> int | datetime:
    """Return a seq or an aware datetime."""
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidInputError(f"{what} is a naive datetime ({value}); give it a time zone, such as tzinfo=UTC")
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return whole(what, value)
    raise InvalidInputError(f"{what} must be a seq or an aware datetime, not {value!r}")


def seconds(ttl: object) -> int | None:
    """Return a time to live in microseconds, None for None."""
    if ttl is None:
        return None
    if isinstance(ttl, timedelta):
        ttl = ttl.total_seconds()
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not math.isfinite(ttl) or not 0 < ttl < 1e11:
        raise InvalidInputError(f"ttl must be a positive number of seconds or a timedelta, not {ttl!r}")
    return max(1, round(ttl * 1_000_000))


# --- values ----------------------------------------------------------------------------------------------------------


def json_text(value: object, max_bytes: int = MAX_VALUE_BYTES, what: str = "value") -> str:
    """Return a value as JSON text, or raise InvalidValueError saying where it is not plain JSON."""
    _walk(value, what, 0)
    text = _encode(value)
    try:
        # Most text is far below the limit even if every character took four bytes.
        size = len(text) if len(text) * 4 <= max_bytes and text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise InvalidValueError(f"{what} contains a lone surrogate, which is not a character") from None
    if size > max_bytes:
        raise InvalidValueError(f"{what} is {size} bytes as JSON; the limit is {max_bytes} (max_value_bytes)")
    return text


def _walk(value: object, where: str, depth: int) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidValueError(f"{where} contains a NUL character")
    elif value is None or isinstance(value, bool):
        pass
    elif isinstance(value, int):
        if not _INT_MIN <= value <= _INT_MAX:
            raise InvalidValueError(f"{where} is an integer beyond 64 bits; store it as a string")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidValueError(f"{where} is {value}, which JSON cannot hold; use None or a string")
    elif depth >= MAX_DEPTH:
        raise InvalidValueError(f"{where[:200]} is nested more than {MAX_DEPTH} levels deep, or contains itself")
    elif isinstance(value, dict):
        for field, item in cast("dict[object, object]", value).items():
            if not isinstance(field, str):
                raise InvalidValueError(f"{where} has the key {field!r}; JSON objects have str keys only")
            if "\0" in field:
                raise InvalidValueError(f"{where} has a key with a NUL character")
            _walk(item, f"{where}[{field!r}]" if depth < 3 else where, depth + 1)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            _walk(item, where, depth + 1)
    else:
        raise InvalidValueError(
            f"{where} is a {type(value).__name__}, which is not JSON; use dict, list, str, int, float, bool or None"
        )


def put(
    max_bytes: int,
    path: object,
    text: object,
    value: object,
    confidence: object,
    memory_type: object,
    pattern_refs: Iterable[str],
    shared: object,
    ttl: object,
    expected_version: object,
    idempotency_key: object,
) -> CheckedPut:
    """Return a write that passed the gate."""
    if isinstance(pattern_refs, str):
        raise InvalidInputError(f"pattern_refs must be several names, such as [{pattern_refs!r}], not one str")
    if not isinstance(shared, bool):
        raise InvalidInputError(f"shared must be True or False, not {shared!r}")
    return CheckedPut(
        entity_path(path),
        key(text),
        cast("JsonValue", value),
        json_text(value, max_bytes),
        fraction("confidence", confidence),
        memory_type if isinstance(memory_type, MemoryType) else choice("memory_type", memory_type, MemoryType),
        tuple(name("pattern_refs", ref) for ref in pattern_refs) if pattern_refs else (),
        shared,
        seconds(ttl),
        None if expected_version is None else whole("expected_version", expected_version),
        optional_name("idempotency_key", idempotency_key),
    )


def metadata(value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a mapping of plain JSON as the caller's own copy."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
        raise InvalidValueError(f"expected a mapping of names to JSON values, not {type(value).__name__}")
    return json.loads(json_text(dict(value), what="mapping"))


def settings(
    conflict_policy: object,
    on_conflict: Resolver | None,
    outcome_policy: OutcomePolicy,
    read_events: object,
    max_value_bytes: object,
) -> Settings:
    """Return what a handle is opened with."""
    if on_conflict is not None and not callable(on_conflict):
        raise InvalidInputError("on_conflict must be a function (existing, incoming, value[, base]) -> value")
    if not callable(outcome_policy):
        raise InvalidInputError("outcome_policy must be a function (evidence, outcome_type, weight) -> evidence")
    return Settings(
        choice("conflict_policy", conflict_policy, ConflictPolicy),
        on_conflict,
        outcome_policy,
        choice("read_events", read_events, ReadEvents),
        whole("max_value_bytes", max_value_bytes, 1),
    )
