"""The running token count of a session on one branch, so that a put does not read the history again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Counted", "Window"]


class Counted(NamedTuple):
    """An active message: its key and tokens, whether a turn starts with it, whether it is never archived."""

    key: str
    tokens: int
    starts_turn: bool
    pinned: bool


@dataclass(slots=True)
class Window:
    """The active messages as of ``seq``, their tokens, and the key up to which messages are archived."""

    seq: int
    boundary: str = ""
    tokens: int = 0
    movable: deque[Counted] = field(default_factory=deque)

    def add(self, message: Counted) -> None:
        """Count one more message."""
        self.tokens += message.tokens
        if not message.pinned:
            self.movable.append(message)

    def overflow(self, limit: float, flush: int) -> bool:
        """If there are too many tokens, drop the oldest whole turns, and say whether the boundary moved.

        Too many is more than ``limit``; at least ``flush`` go at a time. What stays starts with a user
        message, and the last turn always stays.
        """
        count = self._messages_to_drop(max(self.tokens - limit, flush)) if self.tokens > limit else 0
        for _ in range(count):
            message = self.movable.popleft()
            self.tokens -= message.tokens
            self.boundary = message.key
        return count > 0

    def _messages_to_drop(self, wanted: float) -> int:
        """Return how many messages to drop for ``wanted`` tokens: up to a turn, at most up to the last."""
        before, cut = 0, 0
        for position, message in enumerate(self.movable):
            if message.starts_turn:
                cut = position
                if before >= wanted:
                    break
            before += message.tokens
        return cut
