"""What failed beside the work: kept, counted and logged, so that recording never breaks what it records."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["Failures"]

_KEPT = 100
_log = logging.getLogger("amfs")


class Failures:
    """Errors that ended a guarded block and nothing else: logged to ``amfs``, counted, and the last 100 kept."""

    def __init__(self) -> None:
        self.count = 0
        self._newest: deque[Exception] = deque(maxlen=_KEPT)

    @property
    def newest(self) -> tuple[Exception, ...]:
        """What failed, oldest first; of very many, the last 100."""
        return tuple(self._newest)

    @contextmanager
    def guard(self, doing: str) -> Generator[None]:
        """Return a context in which an error ends the block and nothing else."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - recording must not break what it records; it is kept and logged
            self.count += 1
            self._newest.append(error)
            _log.error("amfs could not %s: %s", doing, error, exc_info=error)
