"""Finding entries by their fields: SQLite lets through all that match, and what it lets through is looked at again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from amfs import AgentMemory, Delete, Find, Put
from amfs.core import filters
from amfs.core.validation import json_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

NAMES = ["a", "b", "a.b", "b.a", "a.b.a", ".", "a.", ".b", "", 'q"', "back\\", "$.a", "[0]", "größe", "line\n", "😀"]
TEXTS = ["", "a", "ab", 'say "a"', "back\\slash", "größer", "😀", "line\nbreak", "1", "true", "null", '"a":1', "\x01"]
NUMBERS = [0, -0.0, 1, 1.0, -1, -1.0, 0.1, 12, 12.0, 1.5, 10**16, 1e16, 1e22, 2**53 + 1, 2**63 - 1, -(2**63), 5e-324]
NUMBERS += [0.1 + 0.2, 1 / 3, -1 / 3, 2.2250738585072014e-308, 1.7976931348623157e308, 123456789.123456789, 9.95e-7]
SCALARS = [*TEXTS, *NUMBERS, True, False, None]
STRANGE = ["\ud800", "a\udfff", "nul\0", float("nan"), float("inf"), 2**63, 2**70, -(2**64), 10**5000, (1,), {1}, b"a"]
"""What a filter may ask for though no value holds it."""

PATHS = ["a", "a/b", "a/b/c", "ab", "a0", "z"]


def value(dice: random.Random, depth: int = 0) -> Any:
    """Return any JSON value, as a rule an object."""
    kind = dice.random()
    if kind < 0.7 - 0.2 * depth:
        return {dice.choice(NAMES): value(dice, depth + 1) for _ in range(dice.randrange(5))}
    if kind < 0.8 - 0.2 * depth:
        return [value(dice, depth + 1) for _ in range(dice.randrange(3))]
    return dice.choice(SCALARS)


def near(dice: random.Random, found: Any) -> Any:
    """Return a value that may equal one that was found: itself, the same by another type, or any other."""
    if isinstance(found, bool | int | float) and dice.random() < 0.5:
        return dice.choice([float(found), int(found), bool(found)])
    return found if dice.random() < 0.8 else dice.choice([*SCALARS, *STRANGE])


def condition(dice: random.Random, found: Any) -> Any:
    """Return a condition that a value which was found may satisfy."""
    kind = dice.random()
    if isinstance(found, dict) and kind < 0.5:
        return {name: condition(dice, one) for name, one in found.items() if dice.random() < 0.6}
    if kind < 0.6:
        return near(dice, found)
    operators = {
        "$eq": near(dice, found),
        "$ne": near(dice, dice.choice(SCALARS)),
        "$in": [near(dice, one) for one in (found, *dice.choices(SCALARS, k=dice.randrange(3)))],
        "$gte": near(dice, found),
        "$gt": dice.choice([found, *SCALARS, *STRANGE]),
        "$lte": near(dice, found),
        "$lt": dice.choice([found, *SCALARS, *STRANGE]),
    }
    return {name: operators[name] for name in dice.sample(sorted(operators), dice.choice([1, 1, 1, 2]))}


def a_filter(dice: random.Random, found: Any, depth: int = 0) -> dict[str, Any]:
    """Return a filter that a value which was found may satisfy."""
    wanted: dict[str, Any] = {}
    for name, one in found.items() if isinstance(found, dict) else ():
        if isinstance(one, dict) and one and dice.random() < 0.4:
            part = dice.choice(sorted(one))
            wanted[f"{name}.{part}"] = condition(dice, one[part])
        elif not name.startswith("$") and dice.random() < 0.6:
            wanted[name] = condition(dice, one)
    if dice.random() < 0.1:
        wanted[dice.choice([*NAMES[:8], "\ud800", "nul\0"])] = condition(dice, dice.choice(SCALARS))
    if depth < 2 and dice.random() < 0.2:
        wanted["$and"] = [a_filter(dice, found, depth + 1), {}]
    if depth < 2 and dice.random() < 0.2:
        wanted["$or"] = [a_filter(dice, one, depth + 1) for one in (found, value(dice))]
    return wanted


def checked(conditions: dict[str, Any]) -> bool:
    """Return whether a filter passes the gate."""
    try:
        filters.check(conditions)
    except filters.InvalidFilterError:
        return False
    return True


@pytest.mark.parametrize("seed", range(5))
def test_what_matches_a_filter_contains_its_texts(seed: int) -> None:
    dice, matching, telling = random.Random(seed), 0, 0
    for _ in range(4000):
        found = value(dice)
        wanted = a_filter(dice, found if dice.random() < 0.8 else value(dice))
        if not checked(wanted):
            continue
        texts, stored = filters.texts(wanted), json_text(found)
        contained = all(text in stored for text in texts)
        if filters.matches(found, wanted):
            matching += 1
            assert contained, (found, wanted, texts)
        telling += not contained
    assert min(matching, telling) > 500


@pytest.mark.parametrize(
    ("conditions", "texts"),
    [
        ({"kind": "note"}, {'"kind":"note"'}),
        ({"kind": {"$in": ["note", "nothing"]}}, {'"kind":"not'}),
        ({"kind": {"$in": ["note", None]}}, set()),
        ({"kind": {"$ne": "note"}}, set()),
        ({"n": 1}, {'"n":1'}),
        ({"n": 0.5}, {'"n":0.5'}),
        ({"n": 0}, {'"n":'}),
        ({"n": {"$gt": 3}}, {'"n":'}),
        ({"ok": True}, {'"ok":true'}),
        ({"a.b": "x"}, {'b":"x"'}),
        ({"a": {"b": "x"}}, {'"a":', '"b":"x"'}),
        ({"a": None}, set()),
        ({"$or": [{"a": "x", "b": "y"}, {"a": "x", "b": "z"}]}, {'"a":"x"'}),
        ({}, set()),
    ],
)
def test_a_filter_tells_what_texts_its_values_contain(conditions: dict[str, Any], texts: set[str]) -> None:
    assert filters.texts(conditions) == texts


# --- through the storage ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mem(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentMemory]:
    """A memory of many entries: rewritten, deleted, private, long, on branches, and of another agent."""
    dice = random.Random(1)
    with AgentMemory("ada", tmp_path_factory.mktemp("finding") / "m.db", durability="normal", read_events="off") as mem:
        for _ in range(4):
            mem.apply([any_put(dice, number) for number in range(400)])
        mem.apply([Put(entity_path="large", key=str(number), value=value(dice)) for number in range(1500)])
        mem.as_agent("ben").apply([any_put(dice, number) for number in range(60)])
        mem.create_branch("draft")
        for branch in ("draft", "main"):
            mem.apply([any_put(dice, dice.randrange(420)) for _ in range(90)], branch=branch)
            mem.apply([Delete(entity_path=dice.choice(PATHS), key=str(dice.randrange(400))) for _ in range(90)])
        yield mem


def any_put(dice: random.Random, number: int) -> Put:
    """Return a write of any value to one of several paths."""
    made = value(dice)
    if isinstance(made, dict) and dice.random() < 0.1:
        made["long"] = "x" * 1000
    return Put(
        entity_path=dice.choice(PATHS), key=str(number), value=made, shared=dice.random() < 0.8,
        memory_type=dice.choice(["fact", "fact", "belief", "message"]),
    )  # fmt: skip


def newest_first(mem: AgentMemory, path: str | None, branch: str) -> list[Any]:
    """Return all entries below a path, as a list shows them, newest first."""
    return sorted(mem.list(path, prefix=True, branch=branch), key=lambda entry: -entry.seq)


@pytest.mark.parametrize("branch", ["main", "draft"])
@pytest.mark.parametrize("path", [None, "a", "a/b", "large", "nothing"])
def test_what_is_found_is_what_matches(mem: AgentMemory, path: str | None, branch: str) -> None:
    dice, entries, some = random.Random(f"{path} {branch}"), newest_first(mem, path, branch), 0
    for _ in range(60):
        like = dice.choice(entries).value if entries and dice.random() < 0.9 else value(dice)
        wanted = a_filter(dice, like)
        if not checked(wanted):
            continue
        limit, offset = dice.choice([None, 0, 1, 3, 30, 200, 2**63 - 1]), dice.choice([0, 0, 1, 7])
        expected = [entry for entry in entries if filters.matches(entry.value, wanted)]
        (found,) = mem.apply([Find(entity_path=path, filter=wanted, limit=limit, offset=offset)], branch=branch)
        assert found == window(expected, limit, offset), wanted
        some += bool(found)
    assert some > 10 or path == "nothing"


@pytest.mark.parametrize("branch", ["main", "draft"])
@pytest.mark.parametrize("path", [None, "a", "a/b", "large", "nothing"])
@pytest.mark.parametrize("limit", [None, 0, 1, 100, 499, 500, 501, 1000, 2000])
def test_without_a_filter_all_are_found(mem: AgentMemory, path: str | None, branch: str, limit: int | None) -> None:
    entries = newest_first(mem, path, branch)
    for offset in (0, 3, 600):
        (found,) = mem.apply([Find(entity_path=path, limit=limit, offset=offset)], branch=branch)
        assert found == window(entries, limit, offset)


@pytest.mark.parametrize("name", ["n", "größe", 'q"', "a.b", "line\n", ""])
def test_a_range_ends_where_it_says(tmp_path: Path, name: str) -> None:
    fields = [*SCALARS, [], {}, "zzzz", "\U0010ffff"]
    with AgentMemory("ada", tmp_path / "m.db", durability="normal") as mem:
        mem.apply([Put(entity_path="a", key=str(at), value={name: one}) for at, one in enumerate(fields)])
        for end in (*fields, *STRANGE):
            for wanted in ({"$gt": end}, {"$gte": end}, {"$lt": end}, {"$lte": end}, {"$gte": end, "$lt": 12}):
                (found,) = mem.apply([Find(filter={name: wanted})])
                expected = [at for at, one in enumerate(fields) if filters.matches({name: one}, {name: wanted})]
                assert [int(entry.key) for entry in reversed(found)] == expected, wanted


@pytest.mark.parametrize("name", ["\ud800", "nul\0"])
def test_a_range_of_a_field_that_no_value_can_have_is_empty(mem: AgentMemory, name: str) -> None:
    assert mem.apply([Find(filter={name: {"$gte": end}}) for end in (0, "", "\ud800")]) == [[], [], []]


@pytest.mark.parametrize("branch", ["main", "draft"])
def test_a_search_without_a_query_finds_what_matches(mem: AgentMemory, branch: str) -> None:
    dice, entries = random.Random(branch), newest_first(mem, None, branch)
    for _ in range(40):
        wanted = a_filter(dice, dice.choice(entries).value)
        if checked(wanted):
            values = {entry.seq: entry for entry in entries if filters.matches(entry.value, wanted)}
            page = mem.search(filter=wanted, branch=branch, limit=20)
            assert [hit.entry.seq for hit in page] == list(values)[:20]


def window(entries: Sequence[Any], limit: int | None, offset: int) -> list[Any]:
    """Return a window of a list."""
    return list(entries[offset : None if limit is None else offset + limit])
