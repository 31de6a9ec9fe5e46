"""What the tests of displays share: names nobody should trust, and a reader of HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

SVC = "checkout-service"
OURS = {"br", "del", "div", "ins", "p", "pre", "table", "tbody", "td", "th", "thead", "tr"}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "it's \"quoted\" & 'more'",
    "line\nbreak\ttab\r\x1b[2J\x1b]0;title\x07",
    "\u202edetrevni\u2066\u2028\x85\x9b31m",
    "👩‍👩‍👧 名前 é ﷽",
    "$\\href{javascript:alert(1)}{x}$",
    "</td></tr></table><h1>out</h1>",
]


class Reader(HTMLParser):
    """Collects the tags, attributes and text of a piece of HTML."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def rows(source: str) -> int:
    """Return how many rows a table in HTML has, not counting its headers."""
    return source.count("<tr>") - 1


def cells(line: str) -> list[str]:
    """Return the cells of a line of a table as text."""
    return re.split(r"  +", line)


def assert_safe(shown: Iterable[Any]) -> None:
    """Assert that nothing in a display leaves its place, neither in HTML nor in a terminal."""
    for thing in shown:
        source = thing._repr_html_()
        assert Reader(source).tags <= OURS
        assert Reader(source).attributes <= {"class", "style"}
        for drawn in (str(thing), "".join(Reader(source).words)):
            assert all(char == "\n" or char.isprintable() or char == "\u200d" for char in drawn)
