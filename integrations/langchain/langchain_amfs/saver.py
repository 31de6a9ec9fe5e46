"""AMFSSaver: a LangGraph checkpointer in the file of the memory; a thread can be forked together with the memory."""

from __future__ import annotations

import asyncio
import json
import secrets
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    Checkpoint,
    CheckpointTuple,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import maybe_add_typed_methods
from langgraph.checkpoint.serde.types import INTERRUPT

from amfs import AgentMemory, Blob, Checkpoints, InvalidInputError, InvalidNameError, InvalidValueError, PendingWrite
from langchain_amfs.serde import AllowListSerializer, dump, load, require_safe

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import ChannelVersions, CheckpointMetadata
    from langgraph.checkpoint.serde.base import SerializerProtocol

    import amfs

__all__ = ["AMFSSaver", "ForkedThread"]

_BRANCHES = "experiment/"
"""What the names of the branches of forked threads begin with, as those of experiments do."""

_SPREAD = "counters_since_delta_snapshot"
"""The field of the metadata that names the channels of which a checkpoint holds no value, only what was added since."""

_BATCH = 50


class ForkedThread(NamedTuple):
    """A thread forked at a checkpoint, and the branch with the memory of that moment."""

    thread_id: str
    branch: str
    checkpoint_id: str
    seq: int

    @property
    def config(self) -> RunnableConfig:
        """The config to go on with: the thread, and for ``AMFSStore`` the branch."""
        return {"configurable": {"thread_id": self.thread_id, "amfs_branch": self.branch}}


class AMFSSaver(BaseCheckpointSaver[Any]):
    """A LangGraph checkpointer on an AgentMemory: pass it as ``checkpointer=``.

    Checkpoints stand in the file of the memory, beside it: they appear in none of its lists, events, diffs or exports.
    Each remembers the branch of memory it was made on and the seq up to which memory had come. Equal values are stored
    once, and a list shares what it has in common with other lists, so the file grows with what a thread says, not with
    its length squared.

    Args:
        memory: The memory whose file holds the checkpoints. It is not closed with the saver.
        allowed_types: Types of values in the state besides LangGraph's safe ones (plain data, messages, documents,
            dates ...), as classes or as pairs of module and name. What is not allowed is refused when it is stored.
        serde: A serializer instead of the saver's own, such as ``EncryptedSerializer(cipher, AllowListSerializer())``.
            One that pickles, or revives types that nobody allowed, is refused.

    One object serves sync and async code, and threads may share it.
    """

    def __init__(
        self,
        memory: AgentMemory,
        *,
        allowed_types: Iterable[type | tuple[str, ...]] = (),
        serde: SerializerProtocol | None = None,
    ) -> None:
        allowed = tuple(allowed_types)
        if allowed and serde is not None:
            raise InvalidInputError("allowed_types is for the saver's own serializer; give yours a list of its own")
        super().__init__(serde=AllowListSerializer(allowed) if serde is None else serde)
        self._memory = memory
        self._checkpoints = Checkpoints(memory)
        self._owned: AgentMemory | None = None

    @classmethod
    def from_conn_string(
        cls,
        conn_string: str | os.PathLike[str],
        *,
        agent_id: str = "langgraph",
        allowed_types: Iterable[type | tuple[str, ...]] = (),
        serde: SerializerProtocol | None = None,
        **kwargs: Any,
    ) -> Self:
        """Open a database and return a saver on it, for a ``with`` or ``async with`` statement.

        ``kwargs`` go to ``AgentMemory``.
        """
        memory = AgentMemory(agent_id, conn_string, **kwargs)
        try:
            saver = cls(memory, allowed_types=allowed_types, serde=serde)
        except BaseException:
            memory.close()
            raise
        saver._owned = memory
        return saver

    @property
    def memory(self) -> AgentMemory:
        """The memory whose file holds the checkpoints."""
        return self._memory

    @property
    def serde(self) -> SerializerProtocol:
        """How values become bytes and come back."""
        return self._serde

    @serde.setter
    def serde(self, serde: Any) -> None:
        self._serde = require_safe(maybe_add_typed_methods(serde))

    def setup(self) -> _Done:
        """Do nothing: the database is set up when it is opened. It may be awaited, as LangGraph's own savers need."""
        return _Done()

    # --- storing ---------------------------------------------------------------------------------------------------

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,  # noqa: ARG002 - equal values are found by their content
    ) -> RunnableConfig:
        """Store a checkpoint durably and return the config that finds it."""
        self._putting(config, checkpoint, metadata)()
        return _config(*_place(config), checkpoint["id"])

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,  # noqa: ARG002 - equal values are found by their content
    ) -> RunnableConfig:
        """Store a checkpoint as ``put`` does, without a wait for a lock or the disk on the event loop."""
        # Serialized here, since the values may change while another thread is at work.
        await asyncio.to_thread(self._putting(config, checkpoint, metadata))
        return _config(*_place(config), checkpoint["id"])

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task wrote after a checkpoint; what it wrote before stays, errors and interrupts excepted."""
        self._writing(config, writes, task_id, task_path)()

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task wrote, without a wait on the event loop."""
        await asyncio.to_thread(self._writing(config, writes, task_id, task_path))

    def _putting(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata
    ) -> Callable[[], None]:
        thread, scope = _place(config)
        told = _json(get_serializable_checkpoint_metadata(config, metadata))
        run = told.get("run_id")
        return partial(
            self._checkpoints.put,
            thread,
            checkpoint["id"],
            self._whole({name: part for name, part in checkpoint.items() if name != "channel_values"}),
            {name: self._content(name, value) for name, value in checkpoint["channel_values"].items()},
            scope=scope,
            parent=_checkpoint_id(config),
            run=str(run) if run else None,
            metadata=told,
            made_at=_instant(checkpoint.get("ts")),
            branch=config["configurable"].get("amfs_branch"),
        )

    def _writing(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Callable[[], None]:
        thread, scope = _place(config)
        rows = [
            PendingWrite(task_id, WRITES_IDX_MAP.get(channel, n), channel, self._content(channel, value), task_path)
            for n, (channel, value) in enumerate(writes)
        ]
        name = _checkpoint_id(config)
        if name is None:
            raise InvalidNameError("configurable['checkpoint_id'] is missing: a write comes after a checkpoint")
        return partial(self._checkpoints.put_writes, thread, name, rows, scope=scope)

    def _content(self, channel: str, value: Any) -> amfs.Content:
        try:
            return dump(self._serde, value)
        except InvalidValueError as error:
            raise InvalidValueError(f"channel {channel!r} cannot be stored: {error}") from error

    def _whole(self, value: dict[str, Any]) -> Blob:
        content = dump(self._serde, value)
        assert isinstance(content, Blob), "only a list is more than one blob"  # noqa: S101
        return content

    # --- finding ---------------------------------------------------------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint with what was written after it, by default the newest; None if it is not there."""
        thread, scope = _place(config)
        found = self._checkpoints.get(thread, _checkpoint_id(config), scope=scope)
        return None if found is None else self._tuple(found)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint as ``get_tuple`` does; reading waits for nobody."""
        return self.get_tuple(config)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the word of LangGraph
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Return checkpoints, newest first, as they are asked for; of all threads if ``config`` is None.

        ``filter`` names fields of the metadata and the values that they must equal.
        """
        return map(self._tuple, self._listed(config, filter, before, limit))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the word of LangGraph
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield checkpoints as ``list`` does, loaded by another thread."""
        found = self.list(config, filter=filter, before=before, limit=limit)
        while batch := await asyncio.to_thread(lambda: [*islice(found, _BATCH)]):
            for one in batch:
                yield one

    def _listed(
        self,
        config: RunnableConfig | None,
        conditions: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Iterator[amfs.Checkpoint]:
        bound = None if before is None else _checkpoint_id(before)
        if config is None:
            return self._checkpoints.list(before=bound, filter=conditions, limit=limit)
        scope = config["configurable"].get("checkpoint_ns")
        return self._checkpoints.list(
            _place(config)[0],
            scope=scope,
            checkpoint_id=_checkpoint_id(config),
            before=bound,
            filter=conditions,
            limit=limit,
        )

    def _tuple(self, found: amfs.Checkpoint) -> CheckpointTuple:
        serde, place = self._serde, (found.thread, found.scope)
        checkpoint: Checkpoint = load(serde, found.body)
        checkpoint["channel_values"] = {name: load(serde, content) for name, content in found.channels.items()}
        return CheckpointTuple(
            _config(*place, found.id),
            checkpoint,
            found.metadata,
            None if found.parent is None else _config(*place, found.parent),
            [(one.task, one.channel, load(serde, one.value)) for one in found.writes],
        )

    def get_next_version(self, current: Any, channel: None) -> Any:
        """Return the version after one: a number, or a text where another saver, whose thread this was, used texts."""
        if not isinstance(current, str):
            return super().get_next_version(current, channel)
        return f"{int(current.split('.')[0]) + 1:032}.{secrets.randbelow(10**16):016}"

    # --- threads ---------------------------------------------------------------------------------------------------

    def fork_thread(
        self,
        thread_id: str,
        checkpoint_id: str | None,
        experiment: str,
        *,
        target_thread_id: str | None = None,
    ) -> ForkedThread:
        """Begin a thread with another's history up to a checkpoint, and a branch with the memory of that moment.

        The branch is ``experiment/<experiment>``, the thread ``<thread_id>/<experiment>`` unless named otherwise; both
        are made, or neither. The thread forked from stays as it is. Go on with ``config`` of the result: what agents
        then write to an ``AMFSStore`` lands on the branch, to be diffed, and merged or closed.

        What tasks wrote after the checkpoint stays behind, so they run anew; an interrupt that waited there waits.

        Args:
            thread_id: The thread to go back in.
            checkpoint_id: The checkpoint to go back to; None: the newest.
            experiment: What to call it.
            target_thread_id: What to call the thread instead.

        Raises:
            CheckpointNotFoundError: There is no such checkpoint.
            ThreadExistsError, BranchExistsError: The name is taken.
        """
        target = f"{thread_id}/{experiment}" if target_thread_id is None else str(target_thread_id)
        branch = f"{_BRANCHES}{experiment}"
        return ForkedThread(*self._checkpoints.fork(str(thread_id), checkpoint_id, branch, target, keep=[INTERRUPT]))

    async def afork_thread(
        self,
        thread_id: str,
        checkpoint_id: str | None,
        experiment: str,
        *,
        target_thread_id: str | None = None,
    ) -> ForkedThread:
        """Fork a thread as ``fork_thread`` does, without a wait on the event loop."""
        return await asyncio.to_thread(
            self.fork_thread, thread_id, checkpoint_id, experiment, target_thread_id=target_thread_id
        )

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Give a thread that has no checkpoints all those of another; values are not copied."""
        self._checkpoints.copy(str(source_thread_id), str(target_thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread, without a wait on the event loop."""
        await asyncio.to_thread(self.copy_thread, source_thread_id, target_thread_id)

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread with all of its checkpoints, writes and values that no other has."""
        self._checkpoints.delete([str(thread_id)])

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete a thread, without a wait on the event loop."""
        await asyncio.to_thread(self.delete_thread, thread_id)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints that runs made, in all threads.

        A ``DeltaChannel`` loses what these runs added to it; ``prune`` keeps what it needs.
        """
        self._checkpoints.delete_runs([str(run_id) for run_id in run_ids])

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of runs, without a wait on the event loop."""
        await asyncio.to_thread(self.delete_for_runs, run_ids)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete all but the newest checkpoint of each namespace of threads (``keep_latest``), or all (``delete``).

        Earlier checkpoints are kept as far as a ``DeltaChannel`` of the newest needs them.
        """
        names = [str(thread_id) for thread_id in thread_ids]
        if strategy == "keep_latest":
            self._checkpoints.prune(names, spread=_SPREAD)
        elif strategy == "delete":
            self._checkpoints.delete(names)
        else:
            raise InvalidInputError(f"strategy must be 'keep_latest' or 'delete', not {strategy!r}")

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Prune threads, without a wait on the event loop."""
        await asyncio.to_thread(self.prune, thread_ids, strategy=strategy)

    # --- life ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Release the database if the saver opened it. Safe to call twice."""
        if self._owned is not None:
            self._owned.close()

    async def aclose(self) -> None:
        """Close as ``close`` does, without a wait on the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class _Done:
    """What can be awaited, and is done."""

    def __await__(self) -> Iterator[None]:
        return iter(())


def _place(config: RunnableConfig) -> tuple[str, str]:
    """Return the thread and the namespace that a config names."""
    configurable: Mapping[str, Any] = config.get("configurable") or {}
    thread = configurable.get("thread_id")
    if thread is None:
        raise InvalidNameError("configurable['thread_id'] is missing: it says whose checkpoint it is")
    return str(thread), configurable.get("checkpoint_ns") or ""


def _checkpoint_id(config: RunnableConfig) -> str | None:
    name = get_checkpoint_id(config)
    return None if name is None else str(name)


def _config(thread: str, scope: str, name: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": scope, "checkpoint_id": name}}


def _json(metadata: CheckpointMetadata) -> dict[str, Any]:
    """Return metadata as it comes back: tuples become lists."""
    try:
        return json.loads(json.dumps(metadata))
    except (TypeError, ValueError) as error:
        raise InvalidValueError(f"the metadata of a checkpoint must be plain JSON: {error}") from error


def _instant(text: object) -> datetime | None:
    """Return when a checkpoint was made, None if it does not say so."""
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return None if when.tzinfo is None else when
