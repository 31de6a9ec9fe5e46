"""What all models have in common: frozen, readable, shown by ``amfs.display``."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from amfs import display

T = TypeVar("T")


class Shown:
    """What prints readably and shows well in a notebook."""

    __slots__ = ()

    def __str__(self) -> str:
        return display.text(self)

    def _repr_html_(self) -> str:
        return display.html(self)

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(display.text(self))


class Model(Shown, BaseModel):
    """Base of all models: frozen, strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Page(Shown, list[T]):
    """A list that knows where the next page starts: pass ``next_cursor`` as ``cursor=``; None at the end."""

    __slots__ = ("next_cursor",)

    def __init__(self, items: list[T] | None = None, next_cursor: str | None = None) -> None:
        super().__init__(items or ())
        self.next_cursor = next_cursor
