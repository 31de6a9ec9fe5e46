"""Transactions: writes that are buffered and committed at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self

from amfs.core import batches, validation
from amfs.errors import UsageError
from amfs.models import Entry, MemoryType

if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType

    from amfs.core.context import Access
    from amfs.core.validation import CheckedPut
    from amfs.memory import AgentMemory

__all__ = ["MemoryTransaction"]

Key = tuple[str, str, bool]


class MemoryTransaction:
    """Buffers writes and deletions; leaving the ``with`` block commits all of them at once, an exception none.

    No lock is held while the block runs. Two writes of a key make one version. An entry returned by ``write`` is
    pending: its ``seq`` and ``version`` are 0 until the commit sets them.
    """

    def __init__(self, memory: AgentMemory, access: Callable[[str | None], Access], message: str) -> None:
        self._memory = memory
        self._access = access
        self._message = "" if not message else validation.name("message", message, validation.MAX_VALUE_BYTES)
        self._buffer: dict[Key, tuple[CheckedPut | None, list[Entry]]] = {}
        self._open = False

    def write(
        self,
        entity_path: str,
        key: str,
        value: Any,
        *,
        confidence: float = 1.0,
        memory_type: MemoryType | str = MemoryType.FACT,
        pattern_refs: Iterable[str] = (),
        shared: bool = True,
        ttl: float | timedelta | None = None,
        expected_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> Entry:
        """Buffer a write and return the pending entry; the arguments are those of ``AgentMemory.write``."""
        self._require_open()
        put = validation.put(
            self._memory.max_value_bytes, entity_path, key, value, confidence, memory_type, pattern_refs, shared, ttl,
            expected_version, idempotency_key,
        )  # fmt: skip
        identity = (put.path, put.key, put.shared)
        before, pending = self._buffer.pop(identity, (None, []))
        if before is not None and put.expected_version is None:
            put = put._replace(expected_version=before.expected_version)
        pending.append(self._memory.pending(put))
        self._buffer[identity] = (put, pending)
        return pending[-1]

    def delete(self, entity_path: str, key: str) -> bool:
        """Buffer the deletion of the entry that ``read`` would return and say whether there is one."""
        self._require_open()
        present = self.read(entity_path, key)
        if present is None:
            return False
        self._buffer[entity_path, key, present.shared] = (None, [])
        return True

    def read(self, entity_path: str, key: str) -> Entry | None:
        """Return what the transaction would leave: a buffered entry, else the one in memory."""
        self._require_open()
        path, name = validation.entry_key(entity_path, key)
        for shared in (False, True):
            if (path, name, shared) in self._buffer:
                put, pending = self._buffer[path, name, shared]
                if put is not None:
                    return pending[-1]
                if shared:
                    return None
        found = self._memory.read(path, name)
        gone = found is not None and (path, name, found.shared) in self._buffer
        return None if gone else found

    def __enter__(self) -> Self:
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        if kind is None:
            self.commit()

    def commit(self) -> None:
        """Commit what is buffered; called on leaving the block."""
        if not self._buffer:
            return
        writes = {
            position: put if put is not None else (path, key)
            for position, ((path, key, _), (put, _)) in enumerate(self._buffer.items())
        }
        batch = batches.Batch({}, writes, len(writes))
        results = batches.apply_resolving(self._access(self._memory.branch), batch, self._message)
        for (_, pending), result in zip(self._buffer.values(), results, strict=True):
            for entry in pending:
                object.__setattr__(entry, "__dict__", dict(result.__dict__))
        self._buffer.clear()

    def _require_open(self) -> None:
        if not self._open:
            raise UsageError("a transaction is used inside its with block: with mem.transaction(...) as tx: ...")
