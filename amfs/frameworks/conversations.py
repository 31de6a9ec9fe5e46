"""Conversations: where the messages of a session stand, under which keys, and which of them are archived.

A message is an entry of ``memory_type="message"`` under ``chat/<session>``, or under ``chat-kept/<session>`` if it is
kept when others are archived, as instructions are; ``%`` and ``/`` of the session id are percent-encoded. Its key sorts
by time, and the keys of one batch sort together, so that the messages of two merged branches neither collide nor come
between a tool call and its result. What no entry holds (more than 128 Ki characters, a NUL, a number of 100 digits)
stands as JSON text, in pieces, under ``chat-parts/<session>``.

What is archived is told by boundaries under ``chat-state/<session>``: entries that are added and removed but seldom
edited, so that boundaries moved on two branches are no merge conflict: the furthest one counts. The key of a boundary
is that of the last message archived; its value says up to where even those are archived that are kept otherwise.

A ``Conversation`` reads, and says what to write: the operations are for ``apply``, awaited or not.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, cast

from amfs.core import validation
from amfs.errors import InvalidInputError, InvalidValueError
from amfs.memory import AgentMemory
from amfs.models import Delete, Entry, MemoryType, Operation, Put

__all__ = ["CHATS", "Conversation", "Message", "Standing", "session_of"]

CHATS = ("chat", "chat-kept")
"""The paths below which the messages of all conversations stand."""

_PARTS = "chat-parts"
_STATES = "chat-state"
_CLEARED = "cleared_through"
_BEFORE_ALL = "0" * 16
_PIECE = 128 * 1024


class Message(NamedTuple):
    """A message to be added, as a JSON value, and whether it is kept when others are archived."""

    value: Any
    is_kept: bool = False


class Standing(NamedTuple):
    """Messages of a conversation on one branch, oldest first, and the keys up to which they are archived."""

    branch: str
    entries: list[Entry]
    boundary: str
    cleared: str
    kept_path: str

    def is_kept(self, entry: Entry) -> bool:
        """Return whether a message is kept when others are archived."""
        return entry.entity_path == self.kept_path

    def is_archived(self, entry: Entry) -> bool:
        """Return whether a message is archived."""
        return entry.key <= (self.cleared if self.is_kept(entry) else self.boundary)

    def archived(self) -> Standing:
        """Return those of the messages that are archived."""
        return self._replace(entries=[entry for entry in self.entries if self.is_archived(entry)])

    def since_cleared(self) -> Standing:
        """Return the messages added since all were archived, those archived meanwhile included."""
        return self._replace(entries=[entry for entry in self.entries if entry.key > self.cleared])


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
        self.path, self.kept_path = (f"{chats}/{segment}" for chats in CHATS)
        self.parts_path, self.state_path = f"{_PARTS}/{segment}", f"{_STATES}/{segment}"
        self._met: set[str] = set()

    # --- reading ----------------------------------------------------------------------------------------------------

    def standing(self, branch: str) -> Standing:
        """Return all messages as they stand on a branch, without recording a read.

        Raises:
            InvalidValueError: A piece of a message is missing.
        """
        boundary, cleared = self._boundaries(branch)
        return self._standing(branch, boundary, cleared, after=("", ""))

    def active(self, branch: str) -> Standing:
        """Return the messages that are not archived, without recording a read; it costs no more for those that are."""
        boundary, cleared = self._boundaries(branch)
        return self._standing(branch, boundary, cleared, after=(boundary, cleared))

    def _standing(self, branch: str, boundary: str, cleared: str, after: tuple[str, str]) -> Standing:
        found = [
            entry
            for path, key in zip((self.path, self.kept_path), after, strict=True)
            for entry in self._list(path, branch, key)
        ]
        entries = self._whole(sorted(found, key=lambda entry: entry.key), branch)
        _keys.start_after(boundary, *(entry.key for entry in entries[-1:]))
        self._met.add(branch)
        return Standing(branch, entries, boundary, cleared, self.kept_path)

    def _whole(self, entries: list[Entry], branch: str) -> list[Entry]:
        """Return entries with the values of those that stand in pieces put together."""
        first = next((entry.key for entry in entries if _pieces(entry)), None)
        if first is None:
            return entries
        pieces = {piece.key: piece.value for piece in self._list(self.parts_path, branch, first)}
        return [entry if not _pieces(entry) else _joined(entry, pieces) for entry in entries]

    def _boundaries(self, branch: str) -> tuple[str, str]:
        states = self._list(self.state_path, branch)
        boundary = max((state.key for state in states), default="")
        return boundary, max((state.value.get(_CLEARED, "") for state in states), default="")

    def _list(self, path: str, branch: str, after: str = "") -> list[Entry]:
        return self.memory.list(path, memory_type=MemoryType.MESSAGE, after_key=after or None, branch=branch)

    # --- what to write ----------------------------------------------------------------------------------------------

    def additions(self, branch: str, messages: Sequence[Message]) -> list[Operation]:
        """Return what adds messages after all others; the first operations are the messages, in order."""
        if branch not in self._met:
            # A clock that was set back since the last process must not put new messages before old ones.
            self.active(branch)
        return self._puts(_keys.batch(len(messages)), messages)

    def archived_additions(
        self, standing: Standing, messages: Sequence[Message], *, before_active: bool
    ) -> list[Operation]:
        """Return what adds messages that are archived at once; after those archived, and before all others if asked."""
        keys = _keys.batch(len(messages))
        if before_active:
            # "~" sorts after every character of a key: behind the boundary, before the first active message.
            after = standing.boundary.partition("~")[0] or _BEFORE_ALL
            keys = [f"{after}~{new}" for new in keys]
        return [*self._puts(keys, messages), *self.archival(standing.branch, keys[-1])] if keys else []

    def archival(self, branch: str, last: str) -> list[Operation]:
        """Return what archives all messages up to a key, but those that are kept; nothing if that is done."""
        boundary, cleared = self._boundaries(branch)
        return [] if boundary >= last else self._move(branch, last, cleared)

    def clearing(self, branch: str, last: str) -> list[Operation]:
        """Return what archives all messages up to a key, those that are kept as well; nothing if that is done."""
        boundary, cleared = self._boundaries(branch)
        return [] if cleared >= last else self._move(branch, max(boundary, last), last)

    def deletions(self, standing: Standing, entries: Collection[Entry]) -> list[Operation]:
        """Return what deletes messages, with what stands in pieces."""
        keys = {entry.key for entry in entries}
        first = min(keys, default="")
        pieces = self._list(self.parts_path, standing.branch, first) if keys else []
        gone = [*entries, *(piece for piece in pieces if piece.key.partition("#")[0] in keys)]
        return [Delete(entity_path=entry.entity_path, key=entry.key) for entry in gone]

    def _move(self, branch: str, boundary: str, cleared: str) -> list[Operation]:
        value = {"archived_through": boundary} | ({_CLEARED: cleared} if cleared else {})
        standing = [state for state in self._list(self.state_path, branch) if state.key != boundary]
        return [
            Put(entity_path=self.state_path, key=boundary, value=value, memory_type=MemoryType.MESSAGE),
            *(Delete(entity_path=state.entity_path, key=state.key) for state in standing),
        ]

    def _puts(self, keys: Sequence[str], messages: Iterable[Message]) -> list[Operation]:
        puts: list[Operation] = []
        pieces: list[Operation] = []
        for key, message in zip(keys, messages, strict=True):
            path, value = self.kept_path if message.is_kept else self.path, message.value
            texts = _in_pieces(value)
            if texts:
                value = {"pieces": len(texts)}
                pieces += [self._put(self.parts_path, _piece(key, number), text) for number, text in enumerate(texts)]
            puts.append(self._put(path, key, value))
        return puts + pieces

    def _put(self, path: str, key: str, value: object) -> Put:
        return Put(entity_path=path, key=key, value=value, memory_type=MemoryType.MESSAGE)


def session_of(path: str) -> str:
    """Return the session whose messages stand under a path."""
    return path.partition("/")[2].replace("%2F", "/").replace("%25", "%")


def _in_pieces(value: Any) -> list[str]:
    """Return a value that no entry holds as ASCII text in pieces, and nothing for any other."""
    try:
        if len(validation.json_text(value)) <= _PIECE:
            return []
        text = json.dumps(value)
    except InvalidValueError as error:
        text = _text(value, error)
    return [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]


def _text(value: Any, refused: InvalidValueError) -> str:
    """Return a value that was refused as JSON text, if it comes back from that as it was."""
    try:
        text = json.dumps(value)
        if repr(json.loads(text)) == repr(value):  # of a NaN as well, which equals nothing
            return text
    except (TypeError, ValueError, RecursionError):
        pass
    raise refused


def _pieces(entry: Entry) -> int:
    """Return in how many pieces the value of a message stands, 0 if it is whole, or something else was written here."""
    value: object = entry.value
    if not isinstance(value, dict) or set(cast("dict[str, object]", value)) != {"pieces"}:
        return 0
    number = cast("dict[str, object]", value)["pieces"]
    return number if isinstance(number, int) else 0


def _joined(entry: Entry, pieces: dict[str, str]) -> Entry:
    names = [_piece(entry.key, number) for number in range(_pieces(entry))]
    missing = [name for name in names if name not in pieces]
    if missing:
        raise InvalidValueError(
            f"the message {entry.entry_key} is not whole: {len(missing)} of its {len(names)} pieces are missing below "
            f"{_PARTS!r}, {missing[0]} first. They were deleted, or left out of a merge; the history has them"
        )
    return entry.model_copy(update={"value": json.loads("".join(pieces[name] for name in names))})


def _piece(key: str, number: int) -> str:
    return f"{key}#{number:05d}"


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
