"""The search index: which texts it holds, and how it catches up with the log.

A document is a text that one slot holds or held: the row of the log that first brought the value to the slot. Versions
that refer to a value (merges, outcomes, rollbacks) are found through the document they refer to. Two FTS5 tables, each
with the seq up to which it has caught up, are filled when somebody searches, in the transaction that moves that seq;
writes pay nothing, and an index is never half a transaction behind.

- ``current`` holds what some branch sees now, so a search does not slow down as history grows. A version leaves it
  when a newer one follows on its branch and no other branch was created from between the two. ``search_current`` says
  which versions keep which documents.
- ``ever`` holds every document, for searches of the past. It stays empty until somebody asks for the past.

Neither decides what is visible: of what matches, a search asks the log. So a document too many costs time, no more.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

from amfs.errors import NotSupportedError
from amfs.models import EventType, Tokenizer
from amfs.storage import queries as q
from amfs.storage.records import plain
from amfs.storage.rows import EVENT_CODE, SearchIndex

FORMAT = 1
"""How texts are made and stored; an index made in another way is made anew."""

_ROWS = 10_000
"""How many rows of the log one transaction takes in, so that writers wait no longer than for that."""

_COLUMNS = ("path", "key", "text")
_FORK = EVENT_CODE[EventType.FORK]


class Document(NamedTuple):
    """A text to index under the id of its document."""

    doc: int
    path: str
    key: str
    text: str


class _Candidate(NamedTuple):
    """A version that may have to keep a document, or no longer."""

    seq: int
    slot: int
    doc: int
    held: int
    keeps: int
    path: str
    key: str
    value: str | None


class State(NamedTuple):
    """How far an index is: up to which seq, what the last seq and branch were then, and how many documents left it."""

    tokenizer: str
    format: int
    seq: int
    last: int
    branch: int
    removed: int


def state(connection: sqlite3.Connection, index: SearchIndex) -> State | None:
    """Return how far an index is, None if it was never made."""
    row = connection.execute(q.SEARCH_STATE, (index.value,)).fetchone()
    return None if row is None else State._make(row)


def is_current(connection: sqlite3.Connection, index: SearchIndex) -> bool:
    """Return whether an index holds all that it should."""
    found = state(connection, index)
    last = connection.execute(q.LAST).fetchone()
    return found is not None and found.format == FORMAT and found.seq == (0 if last is None else last[0])


def make_anew(connection: sqlite3.Connection, tokenizer: Tokenizer, *, temporary: bool = False) -> None:
    """Empty both indexes; what they are to hold is taken in when they next catch up."""
    for statement in q.TEMPORARY_SEARCH_TABLES if temporary else ():
        connection.execute(statement)
    for index in SearchIndex:
        connection.execute(q.DROP_SEARCH_TEXT[index, temporary])
        try:
            connection.execute(q.MAKE_SEARCH_TEXT[index, temporary, tokenizer])
        except sqlite3.OperationalError as error:
            if "no such module" not in str(error):
                raise
            raise NotSupportedError("this SQLite was built without FTS5, which search needs") from error
        connection.execute(q.SAVE_SEARCH_STATE, (index.value, *State(tokenizer.value, FORMAT, 0, 0, 0, 0)))
    connection.execute(q.EMPTY_SEARCH_CURRENT)


def catch_up(connection: sqlite3.Connection, index: SearchIndex, *, temporary: bool = False) -> bool:
    """Take in what was written since, inside a transaction, and return whether that was all of it."""
    found = state(connection, index)
    missing = temporary and not connection.execute(q.HAS_TEMPORARY_SEARCH).fetchone()[0]
    if found is None or found.format != FORMAT or missing:
        make_anew(connection, Tokenizer.ENGLISH if found is None else Tokenizer(found.tokenizer), temporary=temporary)
        found = cast("State", state(connection, index))
    last = connection.execute(q.LAST).fetchone()
    last_seq = 0 if last is None else int(last[0])
    upto = min(last_seq, found.seq + _ROWS)
    take_in = _take_in_current if index is SearchIndex.CURRENT else _take_in_ever
    branch, removed = take_in(connection, found, upto)
    moved = found._replace(seq=upto, last=last_seq, branch=branch, removed=found.removed + removed)
    connection.execute(q.SAVE_SEARCH_STATE, (index.value, *moved))
    return upto == last_seq


def problems(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield what is wrong with the texts of the indexes: documents and words that are not those they should hold."""
    temporary = bool(connection.execute(q.HAS_TEMPORARY_SEARCH).fetchone()[0])
    for index in SearchIndex if state(connection, SearchIndex.CURRENT) is not None else ():
        connection.execute(q.FORGET_SEARCH_WORDS)
        connection.execute(q.SEARCH_WORDS[index, temporary])
        counted = dict(connection.execute(q.COUNT_SEARCH_WORDS).fetchall())
        connection.execute(q.FORGET_SEARCH_WORDS)
        told = [0] * len(_COLUMNS)
        for doc, sizes in connection.execute(q.SEARCH_SIZES[index]):
            numbers = list(_numbers(sizes or b""))
            if len(numbers) == len(told):
                told = [total + size for total, size in zip(told, numbers, strict=True)]
            else:
                yield f"{index.value}: nothing is told of the words of document {doc}"
        if told != [counted.get(column, 0) for column in _COLUMNS]:
            yield f"{index.value}: its documents have {told} words, and it holds {counted}"
    if state(connection, SearchIndex.CURRENT) is not None:
        yield from (row[0] for row in connection.execute(q.WRONG_DOCUMENTS))


def _numbers(sizes: bytes) -> Iterator[int]:
    """Yield the numbers of a record of FTS5: seven bits a byte, the highest bit says that more follow."""
    number = 0
    for byte in sizes:
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            yield number
            number = 0


def text_of(value: str) -> str:
    """Return the text in a value that is JSON: its names and values, as the tokenizer is to see them."""
    return value if "\\" not in value else " ".join(_words_in(json.loads(value)))


def _words_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in cast("dict[str, Any]", value).items():
            yield name
            yield from _words_in(part)
    elif isinstance(value, list):
        for part in cast("list[Any]", value):
            yield from _words_in(part)
    else:
        yield value if isinstance(value, str) else json.dumps(value)


def _take_in_ever(connection: sqlite3.Connection, found: State, upto: int) -> tuple[int, int]:
    rows = connection.execute(*plain(q.SEARCH_EVER, (found.seq, upto, _FORK)))
    _add(connection, SearchIndex.EVER, (Document(doc, path, key, text_of(value)) for doc, path, key, value in rows))
    return 0, 0


def _take_in_current(connection: sqlite3.Connection, found: State, upto: int) -> tuple[int, int]:
    newest_branch = int(connection.execute(q.NEWEST_BRANCH).fetchone()[0] or 0)
    # A branch may be created from the past, and see again what had left the index, or was not taken in for it was
    # superseded further on in the log.
    revived = connection.execute(*plain(q.SEARCH_REVIVED, (found.branch, found.last))).fetchall()
    again = json.dumps([seq for (seq,) in revived if seq <= found.seq])  # the turn of later ones is yet to come
    rows = connection.execute(*plain(q.SEARCH_CANDIDATES, (found.seq, upto, again)))
    by_slot: dict[int, dict[int, _Candidate]] = {}
    for row in map(_Candidate._make, rows):
        versions = by_slot.setdefault(row.slot, {})
        if row.held or row.seq not in versions:
            versions[row.seq] = row
    added: dict[int, _Candidate] = {}
    removed: dict[int, _Candidate] = {}
    kept: list[tuple[int, int, int, int]] = []
    let_go: list[tuple[int, int]] = []
    for slot, versions in by_slot.items():
        before = {row.doc: row for row in versions.values() if row.held}
        after = {row.doc: row for row in versions.values() if row.keeps}
        added.update((doc, row) for doc, row in after.items() if doc not in before)
        removed.update((doc, row) for doc, row in before.items() if doc not in after)
        kept.extend((slot, row.seq, row.doc, upto) for row in versions.values() if row.keeps and not row.held)
        let_go.extend((slot, row.seq) for row in versions.values() if row.held and not row.keeps)
    _remove(connection, map(_document, removed.values()))
    _add(connection, SearchIndex.CURRENT, map(_document, added.values()))
    connection.executemany(q.LET_GO_SEARCH_CURRENT, let_go)
    connection.executemany(q.KEEP_SEARCH_CURRENT, kept)
    return newest_branch, len(removed)


def _document(row: _Candidate) -> Document:
    return Document(row.doc, row.path, row.key, text_of(row.value or "null"))


def _add(connection: sqlite3.Connection, index: SearchIndex, documents: Iterable[Document]) -> None:
    # FTS5 gathers what comes in the order of ids, and writes it out whenever one comes out of order.
    connection.executemany(q.ADD_SEARCH_TEXT[index], sorted(documents))


def _remove(connection: sqlite3.Connection, documents: Iterable[Document]) -> None:
    connection.executemany(q.REMOVE_SEARCH_TEXT, sorted(documents))
