"""Filters over the fields of values: equality, operators, and their combinations.

``{"status": "open"}`` compares a field; ``{"score": {"$gte": 3}}`` uses operators; ``{"a": {"b": 1}}`` matches an
object that has at least these fields; ``$and`` and ``$or`` take lists of filters. A field whose name contains dots is
looked for under that name first, then along the path.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any, cast

from amfs.core import fields
from amfs.errors import InvalidFilterError
from amfs.storage.rows import FieldRange, Hints

_ORDERED: Mapping[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_OPERATORS = frozenset({"$eq", "$ne", "$in", *_ORDERED})
_COMBINERS = frozenset({"$and", "$or"})
_ANY: Sequence[object] = ({},)
"""Stands for values of which nothing is known but that they are there."""

_LARGEST = 2**63
"""No integer that is stored is larger."""


def check(conditions: object) -> dict[str, Any]:
    """Return a filter, or raise InvalidFilterError saying which part is wrong."""
    if not isinstance(conditions, dict):
        raise InvalidFilterError(f"a filter is a dict of fields and conditions, not {conditions!r}")
    checked = cast("dict[object, object]", conditions)
    for name, condition in checked.items():
        if not isinstance(name, str):
            raise InvalidFilterError(f"a filter names fields by str, not {name!r}")
        if name in _COMBINERS:
            if not isinstance(condition, list) or not condition:
                raise InvalidFilterError(f"{name} takes a list of filters, not {condition!r}")
            for part in cast("list[object]", condition):
                check(part)
        elif name.startswith("$"):
            raise InvalidFilterError(
                f"unknown operator {name!r}; there are {', '.join(sorted(_OPERATORS | _COMBINERS))}"
            )
        else:
            _check_condition(name, condition)
    return cast("dict[str, Any]", conditions)


def hints(conditions: Mapping[str, Any] | None) -> Hints:
    """Return what tells most of the values that do not satisfy a checked filter from those that do."""
    return Hints() if conditions is None else Hints(texts(conditions), ranges(conditions))


def ranges(conditions: Mapping[str, Any]) -> list[FieldRange]:
    """Return between what fields lie of every value that satisfies a checked filter."""
    found: list[FieldRange] = []
    for name, condition in conditions.items():
        if name == "$and":
            found.extend(one for part in condition for one in ranges(part))
        elif isinstance(condition, dict):
            wanted = cast("dict[str, Any]", condition)
            least, most = wanted.get("$gt", wanted.get("$gte")), wanted.get("$lt", wanted.get("$lte"))
            if least is not None or most is not None:
                found.append(FieldRange(name, least, most))
    return found


def texts(conditions: Mapping[str, Any]) -> set[str]:
    """Return texts that the JSON of every value which satisfies a checked filter contains, as values are stored.

    They say what cannot match without a look at the fields; what contains them all may still not match.
    """
    found: set[str] = set()
    for name, condition in conditions.items():
        if name == "$and":
            found.update(*(texts(part) for part in condition))
        elif name == "$or":
            found |= set[str].intersection(*(texts(part) for part in condition))
        else:
            found |= _texts_of_field(name, condition)
    return found


def matches(value: Any, conditions: Mapping[str, Any]) -> bool:
    """Return whether a value satisfies a checked filter."""
    for name, condition in conditions.items():
        if name == "$and":
            matched = all(matches(value, part) for part in condition)
        elif name == "$or":
            matched = any(matches(value, part) for part in condition)
        else:
            matched = _satisfies(_field(value, name), condition)
        if not matched:
            return False
    return True


def _texts_of_field(name: str, condition: Any) -> set[str]:
    if not isinstance(condition, dict):
        return _beginning(name, [condition])
    wanted = cast("dict[str, Any]", condition)
    if not any(part.startswith("$") for part in wanted):
        return _beginning(name, _ANY).union(*(_texts_of_field(part, one) for part, one in wanted.items()))
    found: set[str] = set()
    for operation, operand in wanted.items():
        if operation in ("$eq", "$in"):
            found |= _beginning(name, operand if operation == "$in" else [operand])
        elif operation in _ORDERED:
            found |= _beginning(name, _ANY)
    return found


def _beginning(name: str, wanted: Sequence[object]) -> set[str]:
    """Return how the JSON of a field begins that equals one of several values; where None is one, it may be absent.

    Of a name with dots only the last part is sure to stand before the value.
    """
    if any(value is None for value in wanted):
        return set()
    last = name.rpartition(".")[2]
    label = _json(last) if last == name else _json(last)[1:]
    return {f"{label}:{_shared([spelling for value in wanted for spelling in _spellings(value)])}"}


def _shared(texts: Sequence[str]) -> str:
    """Return the beginning that all of several texts share: what the first and the last in order do."""
    first, last = min(texts, default=""), max(texts, default="")
    if first == last:
        return first
    return "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))


def _spellings(wanted: object) -> list[str]:
    """Return how the JSON of what equals a value may begin."""
    if isinstance(wanted, str | bool):
        return [_json(wanted)]
    if isinstance(wanted, int | float) and wanted and abs(wanted) < _LARGEST:
        return [repr(float(wanted)), *([repr(int(wanted))] if wanted == int(wanted) else [])]
    return [""]


def _json(value: str | bool) -> str:
    # What stands for a lone surrogate does not matter: no stored text has one.
    return json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()


def _check_condition(name: str, condition: object) -> None:
    if not isinstance(condition, dict):
        return
    keys = list(cast("dict[str, object]", condition))
    if not any(key.startswith("$") for key in keys):
        for part, wanted in cast("dict[str, object]", condition).items():
            _check_condition(f"{name}.{part}", wanted)
        return
    unknown = [key for key in keys if key not in _OPERATORS]
    if unknown:
        raise InvalidFilterError(
            f"unknown operator {unknown[0]!r} for field {name!r}; there are {', '.join(sorted(_OPERATORS))}"
        )
    operand = cast("dict[str, object]", condition).get("$in", [])
    if not isinstance(operand, list | tuple):
        raise InvalidFilterError(f"$in takes a list, not {operand!r}")


def _field(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        return fields.ABSENT
    found = cast("dict[str, Any]", value)
    if name in found:
        return found[name]
    first, dot, rest = name.partition(".")
    return _field(found[first], rest) if dot and first in found else fields.ABSENT


def _satisfies(found: Any, condition: Any) -> bool:
    if not isinstance(condition, dict):
        return _same(found, condition)
    wanted = cast("dict[str, Any]", condition)
    if any(name.startswith("$") for name in wanted):
        return all(_operate(found, name, operand) for name, operand in wanted.items())
    if not isinstance(found, dict):
        return False
    return all(_satisfies(_field(found, name), part) for name, part in wanted.items())


def _operate(found: Any, name: str, operand: Any) -> bool:
    if name == "$eq":
        return _same(found, operand)
    if name == "$ne":
        return not _same(found, operand)
    if name == "$in":
        return any(_same(found, one) for one in operand)
    if name in _ORDERED and _comparable(found, operand):
        return _ORDERED[name](found, operand)
    return False


def _same(found: Any, wanted: Any) -> bool:
    """Compare as a user of filters expects: 1 equals 1.0, but neither equals True; an absent field equals None."""
    if found is fields.ABSENT:
        return wanted is None
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return bool(found == wanted)


def _comparable(one: Any, other: Any) -> bool:
    numbers = (int, float)
    if isinstance(one, bool) or isinstance(other, bool):
        return False
    return (isinstance(one, numbers) and isinstance(other, numbers)) or (
        isinstance(one, str) and isinstance(other, str)
    )
