"""Checkpoints: where an agent framework keeps the state of its threads, in the file of the memory and tied to it."""

# It stands beside the handle and uses how the handle reaches the database.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from amfs.core import checkpoints, threads, validation
from amfs.core.checkpoints import Checkpoint, PendingWrite
from amfs.core.contents import Blob, Content
from amfs.core.threads import ThreadFork
from amfs.memory import AgentMemory

__all__ = ["Blob", "Checkpoint", "Checkpoints", "Content", "PendingWrite", "ThreadFork"]

_KEYS, _LOADED = 1000, 50
"""How many checkpoints are looked at, and how many of these are loaded, at a time."""


class Checkpoints:
    """The checkpoints of a memory's namespace, for those who connect a framework; no part of memory itself.

    A checkpoint of a thread has a body and channels, all serialized by the framework. Equal values are stored once,
    and a list given as its elements shares what it has in common with other lists. Each checkpoint remembers what
    memory was when it was made; ``fork`` goes back to both.

    They have no events, are left out of lists, searches, diffs, merges and exports, and may be deleted. A backup holds
    them and ``verify`` checks them. They are for the owner of the database, admins and writers of main.

    Args:
        memory: The handle they are reached through. It is not closed with them.
    """

    def __init__(self, memory: AgentMemory) -> None:
        self._memory = memory
        self._access = memory._on("main").free()

    @property
    def memory(self) -> AgentMemory:
        """The handle they are reached through."""
        return self._memory

    def put(
        self,
        thread: str,
        checkpoint_id: str,
        body: Blob,
        channels: Mapping[str, Content],
        *,
        scope: str = "",
        parent: str | None = None,
        run: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        made_at: datetime | None = None,
        branch: str | None = None,
    ) -> None:
        """Store a checkpoint durably, in the place of one of the same id.

        Args:
            thread: Whose checkpoint it is. ``scope`` names a part of the thread, such as a graph inside the graph.
            checkpoint_id: Its name; that of a later one must sort after that of an earlier one.
            body: What there is to it besides the channels.
            channels: The values of its channels: a blob, or a list of blobs, the elements of a list.
            parent: The checkpoint it came after, whether or not that is there.
            run: The run that made it, for ``delete_runs``.
            metadata: Plain JSON to filter by.
            made_at: When it was made, if that was earlier than now: memory is remembered as of then.
            branch: The branch of memory that goes with it. Default: the one the handle works on.
        """
        where, on = checkpoints.place(thread, scope), self._memory.branch if branch is None else branch
        self._access.record(
            checkpoints.put,
            checkpoints.prepared(where, checkpoint_id, parent, on, made_at, run, metadata, body, channels),
        )

    def put_writes(self, thread: str, checkpoint_id: str, writes: Sequence[PendingWrite], *, scope: str = "") -> None:
        """Store what tasks wrote after a checkpoint, which need not be there yet.

        A write that is there already (task and number) stays as it is; one with a number below 0 is replaced.
        """
        where, name = checkpoints.place(thread, scope), checkpoints.checkpoint_name(checkpoint_id)
        self._access.record(checkpoints.put_writes, where, name, checkpoints.prepared_writes(writes))

    def get(self, thread: str, checkpoint_id: str | None = None, *, scope: str = "") -> Checkpoint | None:
        """Return a checkpoint with what was written after it, by default the newest; None if it is not there."""
        name = None if checkpoint_id is None else checkpoints.checkpoint_name(checkpoint_id)
        return self._access.read(checkpoints.find, checkpoints.place(thread, scope), name)

    def list(
        self,
        thread: str | None = None,
        *,
        scope: str | None = None,
        checkpoint_id: str | None = None,
        before: str | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the word of the frameworks
        limit: int | None = None,
    ) -> Iterator[Checkpoint]:
        """Return checkpoints, newest first, as they are asked for: of a thread or all, of a scope or all.

        ``before`` leaves out that one and those after it. ``filter`` names fields of the metadata and the values that
        they must equal; a field that is not there equals None.
        """
        place = checkpoints.Place(thread, scope) if thread is None else checkpoints.place(thread, scope or "")
        which = checkpoints.listing(place._replace(scope=scope), checkpoint_id, before, filter, limit)
        return islice(self._found(which), which.limit)

    def _found(self, which: checkpoints.Listing) -> Iterator[Checkpoint]:
        size = _KEYS if which.limit is None or which.filter else min(_KEYS, which.limit)
        found = self._access.read(checkpoints.keys, which, None, size) if size else []
        while found:
            passing = [key for key in found if checkpoints.passes(which, key)]
            step = _LOADED if which.limit is None else max(1, min(_LOADED, which.limit))
            for begin in range(0, len(passing), step):
                yield from self._access.read(checkpoints.load, which, passing[begin : begin + step])
            found = self._access.read(checkpoints.keys, which, found[-1], _KEYS)

    def delete(self, names: Iterable[str]) -> None:
        """Delete threads with all of their scopes and all that is in them; those that are not there are no error."""
        self._access.record(checkpoints.delete, checkpoints.threads(names))

    def delete_runs(self, runs: Iterable[str]) -> None:
        """Delete the checkpoints that some runs made, and what was written after these."""
        names = [validation.name("run", run) for run in validation.several("runs", runs)]
        self._access.record(checkpoints.delete_runs, names)

    def prune(self, names: Iterable[str], *, spread: str | None = None) -> None:
        """Delete all but the newest checkpoint in each scope of threads, and those before it that it needs.

        ``spread`` is a field of the metadata that names channels whose value is spread over what was written after
        earlier checkpoints: these are kept back to the last one that holds the channel.
        """
        self._access.record(threads.prune, checkpoints.threads(names), spread)

    def copy(self, thread: str, target: str) -> None:
        """Give another thread all checkpoints of a thread, under the same ids; values are not copied.

        Raises:
            CheckpointNotFoundError: The thread has none.
            ThreadExistsError: The target has some.
        """
        source, to = checkpoints.threads([thread, target])
        self._access.record(threads.copy, source, to)

    def fork(
        self,
        thread: str,
        checkpoint_id: str | None,
        branch: str,
        target: str,
        *,
        keep: Collection[str] = (),
    ) -> ThreadFork:
        """Begin a new thread with a thread's history up to a checkpoint, and a branch of memory as of then.

        Both are made, or neither. What tasks wrote after that checkpoint stays behind, save to channels in ``keep``:
        they run anew, on what memory was.

        Args:
            thread: Whose history it is; it stays as it is.
            checkpoint_id: Where to go back to. None: the newest.
            branch: The name of the new branch. It is created from the branch that went with the checkpoint.
            target: The name of the new thread.

        Raises:
            CheckpointNotFoundError: There is no such checkpoint.
            ThreadExistsError, BranchExistsError: One of the names is taken.
        """
        source, to = checkpoints.threads([thread, target])
        name = None if checkpoint_id is None else checkpoints.checkpoint_name(checkpoint_id)
        return self._access.record(threads.fork, source, name, to, branch, frozenset(keep))
