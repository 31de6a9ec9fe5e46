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
_SHOWN = 80

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_LARGEST = 2**62
"""The largest count, limit, seq or ttl in microseconds that is taken; sums of it still fit into 64 bits."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

E = TypeVar("E", bound=StrEnum)
K = TypeVar("K")


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


class Named(NamedTuple):
    """An entry as a caller names it; ``shared`` None means the one that a read finds."""

    path: str
    key: str
    shared: bool | None


# --- names -----------------------------------------------------------------------------------------------------------


def name(what: str, text: object, limit: int = MAX_NAME_BYTES) -> str:
    """Return a name, or raise InvalidNameError saying what is wrong with it."""
    if type(text) is str and 0 < len(text) <= limit and text.isascii() and "\0" not in text:
        return text
    if not isinstance(text, str):
        raise InvalidNameError(f"{what} must be a str, not {type(text).__name__}")
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
    return str.__str__(text)  # a plain str, whatever a subclass makes of itself


def optional_name(what: str, text: object) -> str | None:
    """Return a name, or None for None."""
    return None if text is None else name(what, text)


def entity_path(path: object) -> str:
    """Return an entity path: segments joined by ``/``, none of them empty."""
    return _segments("entity_path", path, MAX_PATH_BYTES) if isinstance(path, str) else name("entity_path", path)


def branch_name(branch: object) -> str:
    """Return the name of a branch: segments joined by ``/``, none of them empty."""
    return _segments("branch", branch, MAX_NAME_BYTES) if isinstance(branch, str) else name("branch", branch)


def tag_name(tag: object) -> str:
    """Return the name of a tag: segments joined by ``/``, none of them empty."""
    return _segments("tag", tag, MAX_NAME_BYTES) if isinstance(tag, str) else name("tag", tag)


def description(text: object, what: str = "description") -> str:
    """Return a description or comment, which may be empty."""
    return "" if text == "" else name(what, text, MAX_VALUE_BYTES)


@lru_cache(maxsize=65_536)
def _segments(what: str, text: str, limit: int) -> str:
    checked = name(what, text, limit)
    if checked[0] == "/" or checked[-1] == "/" or "//" in checked:
        raise InvalidNameError(f"{what} {text[:60]!r} has an empty segment; separate segments with single slashes")
    return checked


def key(text: object) -> str:
    """Return a key: any text."""
    return name("key", text, MAX_KEY_BYTES)


def entry_key(path: object, text: object) -> Named:
    """Return the name of an entry: a path and a key."""
    return Named(entity_path(path), name("key", text, MAX_KEY_BYTES), None)


def run_id(text: object) -> str:
    """Return the id of a run, a fresh one for None."""
    return f"run-{secrets.token_hex(8)}" if text is None else name("run_id", text)


def named(what: object) -> Named | str:
    """Return an entry named as one value, or the joined text that has to be looked up."""
    if isinstance(what, Named):
        return what
    if isinstance(what, Entry):
        return Named(what.entity_path, what.key, what.shared)
    if isinstance(what, str):
        return name("entry key", what, MAX_PATH_BYTES + MAX_KEY_BYTES + 1)
    pair: tuple[object, ...] = cast("tuple[object, ...]", what) if isinstance(what, tuple) else ()
    if len(pair) == 2:
        return entry_key(*pair)
    raise InvalidInputError(
        f"an entry is named by an Entry, a (path, key) pair or 'path/key', not {shown(cast('object', what))}"
    )


def several(what: str, values: object) -> list[object]:
    """Return several things as a list; one str or entry is not taken apart."""
    if isinstance(values, str | bytes | Entry) or not isinstance(values, Iterable):
        raise InvalidInputError(f"{what} must be several, such as a list, not {shown(values)}")
    return list(cast("Iterable[object]", values))


def optional(what: str, value: object, kind: type[K]) -> K | None:
    """Return a thing of a kind, None for None."""
    if value is None or isinstance(value, kind):
        return value
    raise InvalidInputError(f"{what} must be a {kind.__name__} or None, not {type(value).__name__}")


def shown(value: object) -> str:
    """Return what is shown of a value that was refused."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return f"a huge {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


# --- numbers, choices, moments ---------------------------------------------------------------------------------------


def choice(what: str, value: object, kind: type[E]) -> E:
    """Return an enum member, given itself or its string."""
    try:
        return kind(value)
    except (ValueError, TypeError):
        allowed = ", ".join(repr(member.value) for member in kind)
        raise InvalidInputError(f"{what} must be one of {allowed}, not {shown(value)}") from None


def fraction(what: str, value: object) -> float:
    """Return a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidInputError(f"{what} must be a number from 0 to 1, not {shown(value)}")
    return float(value)


def whole(what: str, value: object, least: int = 0) -> int:
    """Return a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _LARGEST:
        raise InvalidInputError(f"{what} must be a whole number from {least} to {_LARGEST}, not {shown(value)}")
    return int(value)


def limit(value: object) -> int:
    """Return a limit as SQL takes it: -1 for none."""
    return -1 if value is None else count("limit", value, 1)


def count(what: str, value: object, least: int = 0) -> int:
    """Return a whole number of at least ``least``; a huge one, such as sys.maxsize, counts as "all"."""
    if isinstance(value, int) and _LARGEST < value <= _INT_MAX:
        return _LARGEST
    return whole(what, value, least)


def cursor(text: object) -> int | None:
    """Return the position a cursor stands for, None for None."""
    if text is None:
        return None
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    raise InvalidInputError(f"cursor must be the next_cursor of an earlier page, not {shown(text)}")


def moment(what: str, value: object) -> int | datetime | str:
    """Return a seq, an aware datetime or the name of a tag."""
    if isinstance(value, str):
        return tag_name(value)
    if isinstance(value, datetime):
        return aware(what, value)
    if isinstance(value, int) and not isinstance(value, bool):
        return whole(what, value)
    raise InvalidInputError(f"{what} must be a seq, an aware datetime or the name of a tag, not {shown(value)}")


def aware(what: str, value: object) -> datetime:
    """Return a datetime that has a time zone."""
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidInputError(f"{what} is a naive datetime ({value}); give it a time zone, such as tzinfo=UTC")
        return value
    raise InvalidInputError(f"{what} must be an aware datetime, not {shown(value)}")


def seconds(what: str, ttl: object) -> int | None:
    """Return a time to live in microseconds, None for None."""
    if ttl is None:
        return None
    if isinstance(ttl, timedelta):
        ttl = ttl.total_seconds()
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl < _LARGEST / 1_000_000:
        raise InvalidInputError(f"{what} must be a positive number of seconds or a timedelta, not {shown(ttl)}")
    return max(1, round(ttl * 1_000_000))


# --- values ----------------------------------------------------------------------------------------------------------


def json_text(value: object, max_bytes: int = MAX_VALUE_BYTES, what: str = "value") -> str:
    """Return a value as JSON text, or raise InvalidValueError saying where it is not plain JSON."""
    try:
        _check(value, 0, [max_bytes])
        text = _encode(value)
        size = len(text) if text.isascii() else len(text.encode())
    except _Refused as refused:
        where = "".join(f"[{shown(step)}]" for step in reversed(refused.steps[-8:]))
        raise InvalidValueError(f"{what}{where} {refused.reason}") from None
    except UnicodeEncodeError:
        raise InvalidValueError(f"{what} contains a lone surrogate, which is not a character") from None
    if size > max_bytes:
        raise InvalidValueError(f"{what} is {size} bytes as JSON; the limit is {max_bytes} (max_value_bytes)")
    return text


class _Refused(Exception):  # noqa: N818 - it is caught here, and never an error to anyone else
    """Carries why a part of a value was refused, and the steps that lead to it, innermost first."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str | int] = []


def _check(value: object, depth: int, budget: list[int]) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise _Refused("contains a NUL character")
    elif isinstance(value, dict | list):
        _check_container(cast("dict[object, object] | list[object]", value), depth, budget)
    elif value is None or isinstance(value, bool):
        pass
    elif isinstance(value, int):
        if not _INT_MIN <= value <= _INT_MAX:
            raise _Refused("is an integer beyond 64 bits; store it as a string")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _Refused(f"is {value}, which JSON cannot hold; use None or a string")
    else:
        raise _Refused(f"is a {type(value).__name__}; JSON has dict, list, str, int, float, bool and None only")


def _check_container(value: dict[object, object] | list[object], depth: int, budget: list[int]) -> None:
    """Check the parts; every one takes a byte of JSON at least, so the budget ends what would never end."""
    budget[0] -= len(value)
    if depth >= MAX_DEPTH:
        raise _Refused(f"is nested more than {MAX_DEPTH} levels deep, or contains itself")
    if budget[0] < 0:
        raise _Refused("takes the value over its size limit (max_value_bytes)")
    step: object = None
    try:
        for step, item in enumerate(value) if isinstance(value, list) else value.items():
            if not isinstance(value, list):
                _check_field(step)
            _check(item, depth + 1, budget)
    except _Refused as refused:
        refused.steps.append(step if isinstance(step, str | int) else shown(step))
        raise


def _check_field(name: object) -> None:
    if not isinstance(name, str):
        raise _Refused("is under a key that is no str; JSON objects have str keys only")
    if "\0" in name:
        raise _Refused("is under a key with a NUL character")


def put(
    max_bytes: int,
    path: object,
    text: object,
    value: object,
    confidence: object,
    memory_type: object,
    pattern_refs: object,
    shared: object,
    ttl: object,
    expected_version: object,
    idempotency_key: object,
) -> CheckedPut:
    """Return a write that passed the gate."""
    if not isinstance(shared, bool):
        raise InvalidInputError(f"shared must be True or False, not {shown(shared)}")
    return CheckedPut(
        entity_path(path),
        key(text),
        cast("JsonValue", value),
        json_text(value, max_bytes),
        confidence if confidence == 1.0 and type(confidence) is float else fraction("confidence", confidence),
        memory_type if isinstance(memory_type, MemoryType) else choice("memory_type", memory_type, MemoryType),
        () if pattern_refs == () else tuple(name("pattern_refs", ref) for ref in several("pattern_refs", pattern_refs)),
        shared,
        seconds("ttl", ttl),
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
    policy = choice("conflict_policy", conflict_policy, ConflictPolicy)
    return Settings(
        policy,
        on_conflict,
        outcome_policy,
        choice("read_events", read_events, ReadEvents),
        whole("max_value_bytes", max_value_bytes, 1),
        tracks=policy is ConflictPolicy.RAISE or on_conflict is not None,
    )
