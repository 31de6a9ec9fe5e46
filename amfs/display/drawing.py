"""How the parts of a view are drawn: as aligned text, and as HTML with every word escaped."""

from __future__ import annotations

from html import escape
from itertools import zip_longest
from typing import TYPE_CHECKING
from unicodedata import category, east_asian_width

from amfs.display.parts import Block, Changed, Line, Part, Stack, Table, short

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_ROWS = 20
NOTHING = "nothing here"

# Translucent, so that they also work on a dark page.
CAME, LEFT = "background:rgba(0,160,0,.2)", "background:rgba(220,0,0,.2)"


def text(parts: Iterable[Part]) -> str:
    """Return the parts of a view as text."""
    return "\n".join(_text_part(part) for part in parts)


def html(parts: Iterable[Part]) -> str:
    """Return the parts of a view as HTML."""
    return _wrap("".join(_html_part(part) for part in parts))


def text_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table with aligned columns; of more than 20 rows it says how many were left out."""
    if not rows:
        return NOTHING
    grid = [[[_text_line(line) for line in _lines(cell)] for cell in row] for row in [headers, *rows[:MAX_ROWS]]]
    widths = [max(_width(line) for row in grid for line in row[column]) for column in range(len(headers))]
    drawn = [
        "  ".join(line + " " * (width - _width(line)) for line, width in zip(lines, widths, strict=True)).rstrip()
        for row in grid
        for lines in zip_longest(*row, fillvalue="")
    ]
    return "\n".join([*drawn, *_more(len(rows))])


def html_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return an HTML table, every cell escaped; of more than 20 rows it says how many were left out."""
    return _wrap(_html_part(Table(headers, rows)))


def _text_part(part: Part) -> str:
    match part:
        case Line():
            return part.text
        case Block():
            return "\n".join([*part.lines[:MAX_ROWS], *_more(len(part.lines))])
        case Table():
            return text_table(part.headers, part.rows)


def _html_part(part: Part) -> str:
    match part:
        case Line():
            return f"<p>{escape(part.text)}</p>"
        case Block():
            return f"<pre>{escape(_text_part(part))}</pre>"
        case Table(_, []):
            return f"<p>{NOTHING}</p>"
        case Table():
            head = "".join(_html_cell("th", header) for header in part.headers)
            rows = ["".join(_html_cell("td", cell) for cell in row) for row in part.rows[:MAX_ROWS]]
            body = "".join(f"<tr>{row}</tr>" for row in rows)
            more = "".join(f"<p>{line}</p>" for line in _more(len(part.rows)))
            return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _html_cell(tag: str, cell: object) -> str:
    content = "<br>".join(_html_line(line) for line in _lines(cell))
    return f'<{tag} style="text-align:left;white-space:pre-wrap">{content}</{tag}>'


def _html_line(line: str | Changed) -> str:
    if isinstance(line, str):
        return escape(line)
    old = None if line.old is None else f'<del style="{LEFT}">{escape(line.old)}</del>'
    new = None if line.new is None else f'<ins style="{CAME}">{escape(line.new)}</ins>'
    sides = " → ".join(side for side in (old, new) if side)
    return f"{escape(line.label)}: {sides}" if line.label else sides


def _text_line(line: str | Changed) -> str:
    match line:
        case str():
            return line
        case Changed("", old, new):
            return old or new or ""
        case Changed(label, None, new):
            return f"{label}: added {new}"
        case Changed(label, old, None):
            return f"{label}: removed {old}"
        case Changed(label, old, new):
            return f"{label}: {old} -> {new}"


def _wrap(body: str) -> str:
    # Notebooks would typeset what stands between two dollar signs as a formula, unless told to keep off.
    return f'<div class="tex2jax_ignore mathjax_ignore">{body}</div>'


def _more(count: int) -> list[str]:
    return [f"… {count - MAX_ROWS} more"] if count > MAX_ROWS else []


def _lines(cell: object) -> Sequence[str | Changed]:
    return cell.lines if isinstance(cell, Stack) else [short(cell)]


def _width(line: str) -> int:
    """Return how many columns of a terminal a line takes: wide letters and emoji take two."""
    return sum(
        0 if category(char) in {"Mn", "Me", "Cf"} else 2 if east_asian_width(char) in "WF" else 1 for char in line
    )
