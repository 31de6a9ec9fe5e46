"""Conversations: where the messages of a session stand, under which keys, and which of them are archived.

A message is an entry of ``memory_type="message"`` under ``chat/<session>``, where ``%`` and ``/`` of the session id are
percent-encoded. Its key sorts by time, and the keys of one batch sort together, so that the messages of two merged
branches neither collide nor come between a tool call and its result.

What is archived is one boundary: every message up to it. It stands under ``chat-state/<session>`` as the key of the
last archived message, an entry that is added and removed but never edited, so that a boundary moved on two branches is
no merge conflict: the furthest one counts.

A ``Conversation`` reads, and says what to write: the operations are for ``apply``, awaited or not.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from amfs.errors import InvalidInputError
from amfs.memory import AgentMemory
from amfs.models import Delete, Entry, MemoryType, Operation, Put

__all__ = ["CHATS", "Conversation", "Standing", "deletions", "session_of"]

CHATS = "chat"
"""The path below which the messages of all conversations stand."""

_STATES = "chat-state"
_BEFORE_ALL = "0" * 16


class Standing(NamedTuple):
    """The messages of a conversation on one branch, oldest first, and the key up to which they are archived."""

    branch: str
    entries: list[Entry]
    boundary: str

    def is_archived(self, entry: Entry) -> bool:
        """Return whether a message is at or before the boundary."""
        return entry.key <= self.boundary


class Conversation:
    """The messages of one session in a memory; making one costs nothing and reads nothing.

    Args:
        memory: The memory the messages are in.
        session_id: Which conversation: any text that is not empty. The same one elsewhere is the same conversation.

    Raises:
        InvalidInputError: The session id is empty.
    """

    def __init__(self, memory: AgentMemory, session_id: str) -> None:
        if not session_id:
            raise InvalidInputError("a conversation is named by a text that is not empty")
        self.memory = memory
        self.session_id = session_id
        segment = session_id.replace("%", "%25").replace("/", "%2F")
        self.path, self.state_path = f"{CHATS}/{segment}", f"{_STATES}/{segment}"
        self._met: set[str] = set()

    def standing(self, branch: str) -> Standing:
        """Return the conversation as it stands on a branch, without recording a read."""
        entries = self.memory.list(self.path, memory_type=MemoryType.MESSAGE, branch=branch)
        boundary = max((state.key for state in self._boundaries(branch)), default="")
        ordered = sorted(entries, key=lambda entry: entry.key)
        _keys.start_after(boundary, *(entry.key for entry in ordered[-1:]))
        self._met.add(branch)
        return Standing(branch, ordered, boundary)

    def additions(self, branch: str, values: Sequence[Any]) -> list[Put]:
        """Return what adds messages, given as JSON values, after all others."""
        if branch not in self._met:
            # A clock that was set back since the last process must not put new messages before old ones.
            self.standing(branch)
        return self._puts(_keys.batch(len(values)), values)

    def archived_additions(self, standing: Standing, values: Sequence[Any], *, before_active: bool) -> list[Operation]:
        """Return what adds messages that are archived at once; after those archived, and before all others if asked."""
        keys = _keys.batch(len(values))
        if before_active:
            # "~" sorts after every character of a key: behind the boundary, before the first active message.
            after = standing.boundary.partition("~")[0] or _BEFORE_ALL
            keys = [f"{after}~{new}" for new in keys]
        return [*self._puts(keys, values), *self.archival(standing.branch, keys[-1])] if keys else []

    def archival(self, branch: str, last: str) -> list[Operation]:
        """Return what archives all messages up to a key; nothing if the boundary is as far already."""
        boundaries = self._boundaries(branch)
        if any(state.key >= last for state in boundaries):
            return []
        value = {"archived_through": last}
        put = Put(entity_path=self.state_path, key=last, value=value, memory_type=MemoryType.MESSAGE)
        return [put, *deletions(boundaries)]

    def _boundaries(self, branch: str) -> list[Entry]:
        return self.memory.list(self.state_path, memory_type=MemoryType.MESSAGE, branch=branch)

    def _puts(self, keys: Iterable[str], values: Iterable[Any]) -> list[Put]:
        return [
            Put(entity_path=self.path, key=key, value=value, memory_type=MemoryType.MESSAGE)
            for key, value in zip(keys, values, strict=True)
        ]


def deletions(entries: Iterable[Entry]) -> list[Operation]:
    """Return what deletes entries."""
    return [Delete(entity_path=entry.entity_path, key=entry.key) for entry in entries]


def session_of(path: str) -> str:
    """Return the session whose messages stand under a path."""
    return path.removeprefix(f"{CHATS}/").replace("%2F", "/").replace("%25", "%")


class _Keys:
    """Hands out keys that sort by time and repeat neither in this process nor between two."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def batch(self, count: int) -> list[str]:
        with self._lock:
            self._last = stamp = max(time.time_ns() // 1000, self._last + 1)
        batch = secrets.token_hex(4)
        return [f"{stamp:016d}-{batch}-{position:05d}" for position in range(count)]

    def start_after(self, *keys: str) -> None:
        """Let the next key sort after these."""
        stamps = [int(key[:16]) for key in keys if key[:16].isdecimal()]
        with self._lock:
            self._last = max(self._last, *stamps, 0)


_keys = _Keys()
