"""The words of a query, and the text that stands for an entry's meaning."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from amfs.models import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_WORDS = 64
"""How many different words of a query are looked for."""

_MAX_MEANING = 8_000
_WORD = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f])*")
"""Letters and digits, and the accents that stand behind them as characters of their own."""

_STOP_WORDS = frozenset(
    """a about an and any are as at be been but by can could did do does for from had has have how i if in into is it
    its me my no not of on or our s shall should so t than that the their them then there these they this those to us
    was we were what when where which who whom why will with would you your""".split()  # noqa: SIM905 - it reads better
)


def all_words(text: str) -> list[str]:
    """Return the words of a text in lower case, each once, in the order in which they first stand there."""
    return list(dict.fromkeys(found[0] for found in _WORD.finditer(text.lower())))


@lru_cache(maxsize=65_536)
def of_name(name: str) -> tuple[str, ...]:
    """Return the words of a name, which is asked for again and again."""
    return tuple(all_words(name))


def of_query(text: str, tokenizer: Tokenizer) -> list[str]:
    """Return the words of a query to look for, at most ``MAX_WORDS``; none where there is nothing to look for.

    In English, words that stand in every text are left out unless there are no others.
    """
    words = all_words(text)
    if tokenizer is Tokenizer.TRIGRAM:
        words = list(dict.fromkeys(part for word in words for part in _trigrams(word)))
    elif tokenizer is Tokenizer.ENGLISH:
        words = [word for word in words if word not in _STOP_WORDS] or words
    return words[:MAX_WORDS]


def _trigrams(word: str) -> list[str]:
    """Return what to look for where every three characters are a token: a word, or all of its threes.

    Scripts that do not separate words make one long word of a sentence, of which parts are to be found, too.
    """
    if len(word) < 3:
        return []
    return [word] if word.isascii() else [word[at : at + 3] for at in range(len(word) - 2)]


def for_meaning(path: str, key: str, value: Any, *, is_message: bool) -> str:
    """Return the text whose vector stands for an entry: the words of its path and key, and those of its value."""
    said = "; ".join(_said(value))[:_MAX_MEANING]
    return said if is_message else f"{' '.join(_WORD.findall(path))} {' '.join(_WORD.findall(key))}: {said}"


def _said(value: Any, name: str = "") -> Iterator[str]:
    label = f"{' '.join(_WORD.findall(name))}: " if name and name not in ("text", "content") else ""
    if isinstance(value, dict):
        for field, part in cast("dict[str, Any]", value).items():
            yield from _said(part, field)
    elif isinstance(value, list):
        for part in cast("list[Any]", value):
            yield from _said(part, name)
    elif value is not None:
        yield f"{label}{str(value).lower() if isinstance(value, bool) else value}"
