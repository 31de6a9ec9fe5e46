"""Transactions: writes that are buffered and committed at once."""

# Made by AgentMemory, of whose inside it is a part.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self, cast

from amfs.core import batches, validation
from amfs.errors import UsageError
from amfs.models import Entry, MemoryType

if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType

    from amfs.core.validation import CheckedPut
    from amfs.memory import AgentMemory, EntryKey

__all__ = ["MemoryTransaction"]


class MemoryTransaction:
    """Buffers writes and deletions; leaving the ``with`` block commits all of them at once, an exception none.

    No lock is held while the block runs. Two writes of a key make one version. An entry returned by ``write`` is
    pending: its ``seq`` and ``version`` are 0 until the commit sets them.
    """

    def __init__(self, memory: AgentMemory, message: str) -> None:
        self._memory = memory
        self._message = "" if not message else validation.name("message", message, validation.MAX_VALUE_BYTES)
        self._buffer: dict[validation.Named, tuple[CheckedPut | None, list[Entry]]] = {}
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
        max_bytes = self._memory._settings.max_value_bytes
        put = validation.put(
            max_bytes, entity_path, key, value, confidence, memory_type, pattern_refs, shared, ttl,
            expected_version, idempotency_key,
        )  # fmt: skip
        named = validation.Named(put.path, put.key, put.shared)
        before, pending = self._buffer.pop(named, (None, []))
        if before is not None and put.expected_version is None:
            put = put._replace(expected_version=before.expected_version)
        self._buffer[named] = (put, pending)
        return self._show(put, pending)

    def delete(self, entity_path: str, key: str) -> bool:
        """Buffer the deletion of the entry that ``read`` would return and say whether there is one."""
        self._require_open()
        present = self.read(entity_path, key)
        if present is None:
            return False
        self._buffer[validation.Named(entity_path, key, present.shared)] = (None, [])
        return True

    def read(self, entity_path: str, key: str) -> Entry | None:
        """Return what the transaction would leave: a buffered entry, else the one in memory."""
        self._require_open()
        for shared in (False, True):
            named = validation.entry_key(entity_path, key)._replace(shared=shared)
            if named not in self._buffer:
                found = self._memory.read_many([cast("EntryKey", named)])[0]
                if found is not None:
                    return found
                continue
            put, pending = self._buffer[named]
            if put is not None:
                return self._show(put, pending)
        return None

    def _show(self, put: CheckedPut, pending: list[Entry]) -> Entry:
        """Return a buffered write as an entry of the caller's own, to be completed on commit."""
        pending.append(self._memory._pending(put))
        return pending[-1]

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
        writes = dict(enumerate(named if put is None else put for named, (put, _) in self._buffer.items()))
        batch = batches.Batch({}, writes, {}, len(writes))
        results = batches.apply_resolving(self._memory._on(None), batch, self._message)
        for (_, pending), result in zip(self._buffer.values(), results, strict=True):
            for entry in pending if isinstance(result, Entry) else ():
                object.__setattr__(entry, "__dict__", dict(result.model_copy(deep=True).__dict__))
        self._buffer.clear()

    def _require_open(self) -> None:
        if not self._open:
            raise UsageError("a transaction is used inside its with block: with mem.transaction(...) as tx: ...")
