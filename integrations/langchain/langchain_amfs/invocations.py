"""Which run each invocation of a graph is: store, middleware and handlers of a process agree on it here."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from langchain_amfs.runtime import Caller

__all__ = ["INVOCATIONS", "Bound", "Invocations"]

T = TypeVar("T")

_LIMIT = 10_000
"""Of how many invocations of graphs the run is remembered; more than can be under way at a time."""


class Bound(NamedTuple):
    """The run that an invocation was told to be, and the branch of its own, if it has one."""

    run_id: str
    branch: str | None = None


class Invocations:
    """The runs of a bounded number of invocations; safe to use from several threads."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._run_ids: OrderedDict[int, tuple[object, str]] = OrderedDict()
        self._bound: OrderedDict[int, tuple[object, Bound]] = OrderedDict()
        self._lock = threading.Lock()

    def run_id(self, caller: Caller) -> str | None:
        """Return the id that all calls of one invocation share: the one given to it, or one made up."""
        if caller.invocation is None:
            return caller.run_id
        place = id(caller.invocation)
        with self._lock:
            known = self._run_ids.get(place)
            if known is None or (caller.run_id is not None and known[1] != caller.run_id):
                # Keeping the invocation keeps its id() from being used again.
                known = (caller.invocation, caller.run_id or f"run-{secrets.token_hex(8)}")
            self._keep(self._run_ids, place, known)
        return known[1]

    def bind(self, invocation: object | None, run: Bound) -> None:
        """Make an invocation a certain run, whatever id was given to it."""
        if invocation is not None:
            with self._lock:
                self._keep(self._bound, id(invocation), (invocation, run))

    def bound(self, invocation: object | None) -> Bound | None:
        """Return the run that an invocation was bound to."""
        known = self._bound.get(id(invocation))
        return known[1] if known else None

    def _keep(self, kept: OrderedDict[int, T], place: int, value: T) -> None:
        kept[place] = value
        kept.move_to_end(place)
        while len(kept) > self._limit:
            kept.popitem(last=False)


INVOCATIONS = Invocations()
"""Those of this process: what works in one invocation may belong to several stores, middlewares and handlers."""
