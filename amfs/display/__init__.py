"""How models look in a terminal (``text``) and in a notebook (``html``).

Each kind of model has one view: a list of parts (a line, a block kept as it is, a table), drawn both ways.
Names and values are other people's data: control characters are shown as escapes, HTML is escaped, long
things are cut and say so. Signs (``+ ~ - !``) carry the meaning, colours only repeat it, so that a diff also
reads where styles are stripped. Nothing here reads the database, and a secret has no view.
"""

from __future__ import annotations

from amfs.display import drawing
from amfs.display.drawing import html_table, text_table
from amfs.display.views import view

__all__ = ["html", "html_table", "text", "text_table"]


def text(thing: object) -> str:
    """Return how a model or a page of models reads in a terminal."""
    return drawing.text(view(thing))


def html(thing: object) -> str:
    """Return how a model or a page of models looks in a notebook."""
    return drawing.html(view(thing))
