"""Embedders that are small and always the same: bags of words, each at a place of its own."""

from __future__ import annotations

import re
import threading
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROBE = "Agents remember"
"""How the first of the texts begins by which a model is known."""


def bag(text: str, size: int = 64, salt: str = "") -> list[float]:
    """Return a vector in which every word of a text counts at its place."""
    vector = [0.0] * size
    for word in re.findall(r"\w+", text.lower()):
        vector[int.from_bytes(blake2b((salt + word).encode(), digest_size=4).digest()) % size] += 1.0
    return vector


def bags(texts: list[str]) -> list[list[float]]:
    """Return the bag of each text."""
    return [bag(text) for text in texts]


class Counting:
    """An embedder that remembers what it was asked."""

    def __init__(self, make: Callable[[str], Sequence[float]] = bag) -> None:
        self.batches: list[list[str]] = []
        self._make = make
        self._lock = threading.Lock()

    @property
    def texts(self) -> list[str]:
        """What it was given, without what only makes the model known, and forgotten by asking."""
        with self._lock:
            given = [text for batch in self.batches if not batch[0].startswith(PROBE) for text in batch]
            self.batches.clear()
        return given

    def __call__(self, texts: list[str]) -> list[Any]:
        """Return a vector for each text."""
        with self._lock:
            self.batches.append(list(texts))
        return [self._make(text) for text in texts]
