"""Checkpoints in SQLite: threads, their checkpoints, what tasks wrote after these, and the values of both.

Values are content-addressed: equal ones are one row. A list is a tree of its elements, so that a list that grew shares
all but its last branch with what it was. A value that nothing refers to any more is deleted with what referred to it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence

from amfs.errors import CorruptDatabaseError
from amfs.storage.hashing import row_hash
from amfs.storage.records import hashed, plain, row_id
from amfs.storage.rows import Blob, CheckpointKey, CheckpointRow, Content, PendingWriteRow, Piece

# --- statements ------------------------------------------------------------------------------------------------------

THREAD = "SELECT id, name, scope FROM thread WHERE namespace = ? AND name = ? AND scope = ?"
THREADS_OF_NAME = "SELECT id, name, scope FROM thread WHERE namespace = ? AND name = ? ORDER BY scope"
THREADS = "SELECT id, name, scope FROM thread WHERE namespace = ? ORDER BY name, scope"
ADD_THREAD = "INSERT INTO thread(namespace, name, scope, hash) VALUES(?, ?, ?, ?)"
DELETE_EMPTY_THREADS = """DELETE FROM thread WHERE id IN (SELECT value FROM json_each(?))
 AND NOT EXISTS (SELECT 1 FROM checkpoint c WHERE c.thread = thread.id)
 AND NOT EXISTS (SELECT 1 FROM pending_write w WHERE w.thread = thread.id)"""

CHECKPOINT_ID = "SELECT id FROM checkpoint WHERE thread = ? AND name = ?"
# Newest first. A bound that is no text but a blob is above every name.
KEYS = """SELECT id, name, thread, metadata FROM checkpoint WHERE thread = ?1 AND name < ?2 AND name < ?3
 ORDER BY name DESC LIMIT ?4"""
KEYS_OF_SEVERAL = """SELECT c.id, c.name, c.thread, c.metadata FROM json_each(?1) j
 CROSS JOIN checkpoint c ON c.thread = j.value AND c.name < ?2 AND (c.name, c.thread) < (?3, ?5)
 ORDER BY c.name DESC, c.thread DESC LIMIT ?4"""
OF_RUN = """SELECT c.id FROM checkpoint c CROSS JOIN thread t ON t.id = c.thread AND t.namespace = ?2
 WHERE c.run = ?1"""
OF_THREADS = "SELECT c.id FROM json_each(?) j CROSS JOIN checkpoint c ON c.thread = j.value"
ROWS = """SELECT c.id, c.thread, c.name, c.parent, c.branch, c.seq, c.run, c.metadata, c.kind, c.body
 FROM json_each(?) j CROSS JOIN checkpoint c ON c.id = j.value"""
ADD_CHECKPOINT = """INSERT INTO checkpoint(thread, name, parent, branch, seq, run, metadata, kind, body, hash)
 VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
DELETE_CHECKPOINTS = "DELETE FROM checkpoint WHERE id IN (SELECT value FROM json_each(?))"
CHANNELS = """SELECT n.checkpoint, n.name, n.blob FROM json_each(?) j CROSS JOIN channel n ON n.checkpoint = j.value"""
ADD_CHANNEL = "INSERT INTO channel(checkpoint, name, blob) VALUES(?, ?, ?)"
DELETE_CHANNELS = "DELETE FROM channel WHERE checkpoint IN (SELECT value FROM json_each(?))"

_WRITE = "w.thread, w.checkpoint, w.task, w.number, w.path, w.channel, w.blob"
_OF_CHECKPOINTS = """json_each(?) j CROSS JOIN pending_write w
 ON w.thread = json_extract(j.value, '$[0]') AND w.checkpoint = json_extract(j.value, '$[1]')"""
WRITES = f"""SELECT {_WRITE} FROM {_OF_CHECKPOINTS}
 ORDER BY w.thread, w.checkpoint, w.path, w.task, w.number"""
WRITES_OF_THREADS = f"SELECT {_WRITE} FROM json_each(?) j CROSS JOIN pending_write w ON w.thread = j.value"
WRITE = "SELECT blob FROM pending_write WHERE thread = ? AND checkpoint = ? AND task = ? AND number = ?"
SAVE_WRITE = """INSERT OR REPLACE INTO pending_write(thread, checkpoint, task, number, path, channel, blob, hash)
 VALUES(?, ?, ?, ?, ?, ?, ?, ?)"""
DELETE_WRITES = "DELETE FROM pending_write WHERE thread = ? AND checkpoint = ?"

BLOB_ID = "SELECT id FROM blob WHERE digest = ?"
BLOBS = "SELECT b.id, b.kind, b.data FROM json_each(?) j CROSS JOIN blob b ON b.id = j.value"
PARTS = """SELECT p.blob, p.place, p.part, b.kind, b.data FROM json_each(?) j
 CROSS JOIN blob_part p ON p.blob = j.value LEFT JOIN blob b ON b.id = p.part"""
ADD_BLOB = "INSERT INTO blob(digest, kind, data, hash) VALUES(?, ?, ?, ?)"
ADD_PART = "INSERT INTO blob_part(blob, place, part) VALUES(?, ?, ?)"
UNUSED = """SELECT j.value FROM json_each(?) j WHERE NOT EXISTS (SELECT 1 FROM channel n WHERE n.blob = j.value)
 AND NOT EXISTS (SELECT 1 FROM pending_write w WHERE w.blob = j.value)
 AND NOT EXISTS (SELECT 1 FROM blob_part p WHERE p.part = j.value)"""
PARTS_OF = "SELECT DISTINCT p.part FROM json_each(?) j CROSS JOIN blob_part p ON p.blob = j.value"
DELETE_PARTS = "DELETE FROM blob_part WHERE blob IN (SELECT value FROM json_each(?))"
DELETE_BLOBS = "DELETE FROM blob WHERE id IN (SELECT value FROM json_each(?))"

# --- what must hold --------------------------------------------------------------------------------------------------

CHECKPOINT_PROBLEMS = {
    "thread_is_of_something": """SELECT 'thread ' || t.name FROM thread t
 WHERE NOT EXISTS (SELECT 1 FROM namespace n WHERE n.id = t.namespace)
 OR (NOT EXISTS (SELECT 1 FROM checkpoint c WHERE c.thread = t.id)
 AND NOT EXISTS (SELECT 1 FROM pending_write w WHERE w.thread = t.id))""",
    "checkpoint_matches_its_hash": """SELECT 'checkpoint ' || c.name FROM checkpoint c WHERE c.hash IS NOT
 amfs_row_hash(c.thread, c.name, c.parent, c.branch, c.seq, c.run, c.metadata, c.kind, c.body, (
 SELECT group_concat(q.name || ' ' || q.blob, char(10)) FROM (
 SELECT n.name, n.blob FROM channel n WHERE n.checkpoint = c.id ORDER BY n.name) q))""",
    "checkpoint_is_of_a_thread_and_a_view": """SELECT 'checkpoint ' || c.name FROM checkpoint c
 LEFT JOIN thread t ON t.id = c.thread LEFT JOIN branch b ON b.id = c.branch
 WHERE b.namespace IS NOT t.namespace OR t.id IS NULL OR NOT json_valid(c.metadata)
 OR c.seq NOT BETWEEN 0 AND coalesce((SELECT max(seq) FROM log), 0)
 UNION ALL SELECT 'channel ' || n.name FROM channel n
 WHERE NOT EXISTS (SELECT 1 FROM checkpoint c WHERE c.id = n.checkpoint)
 OR NOT EXISTS (SELECT 1 FROM blob b WHERE b.id = n.blob)""",
    "pending_write_is_of_a_thread": """SELECT 'write to ' || w.channel FROM pending_write w
 WHERE NOT EXISTS (SELECT 1 FROM thread t WHERE t.id = w.thread)
 OR NOT EXISTS (SELECT 1 FROM blob b WHERE b.id = w.blob)""",
    "blob_matches_its_hash": """SELECT 'blob ' || b.id FROM blob b WHERE b.hash IS NOT amfs_row_hash(
 b.digest, b.kind, b.data, (SELECT group_concat(q.part, ' ') FROM (
 SELECT p.part FROM blob_part p WHERE p.blob = b.id ORDER BY p.place) q))""",
    "blob_is_whole_and_used": """SELECT 'blob ' || b.id FROM blob b
 WHERE (NOT EXISTS (SELECT 1 FROM channel n WHERE n.blob = b.id)
 AND NOT EXISTS (SELECT 1 FROM pending_write w WHERE w.blob = b.id)
 AND NOT EXISTS (SELECT 1 FROM blob_part p WHERE p.part = b.id))
 OR (b.data IS NOT NULL AND EXISTS (SELECT 1 FROM blob_part p WHERE p.blob = b.id))
 OR (SELECT count(*) <> coalesce(max(p.place) + 1, 0) FROM blob_part p WHERE p.blob = b.id)
 UNION ALL SELECT 'part ' || p.place || ' of blob ' || p.blob FROM blob_part p
 WHERE NOT EXISTS (SELECT 1 FROM blob b WHERE b.id = p.blob) OR NOT EXISTS (SELECT 1 FROM blob b WHERE b.id = p.part)
 OR p.part >= p.blob OR p.place < 0""",
}
"""Invariants of checkpoints, in the form of ``PROBLEMS``; that of the rows of ``HASHED`` stands there."""

# --- the protocol ----------------------------------------------------------------------------------------------------

_NO_BOUND = b""


class Checkpoints:
    """A CheckpointReader, and inside a transaction that writes a CheckpointWriter."""

    __slots__ = ("_connection", "_execute")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute

    # --- reading ---------------------------------------------------------------------------------------------------

    def threads(self, namespace: int, name: str | None, scope: str | None) -> list[tuple[int, str, str]]:
        """Return ids, names and scopes of the threads of a name and scope; None stands for all."""
        if name is not None and scope is not None:
            return self._execute(THREAD, (namespace, name, scope)).fetchall()
        rows = (
            self._execute(THREADS, (namespace,)) if name is None else self._execute(THREADS_OF_NAME, (namespace, name))
        )
        return [row for row in rows if scope is None or row[2] == scope]

    def checkpoint_id(self, thread: int, name: str) -> int | None:
        row = self._execute(CHECKPOINT_ID, (thread, name)).fetchone()
        return None if row is None else row[0]

    def keys(
        self, threads: Sequence[int], before: str | None, after: CheckpointKey | None, limit: int
    ) -> list[CheckpointKey]:
        """Return the checkpoints of threads, newest first: those below a name, of these those after a key."""
        bound = _NO_BOUND if before is None else before
        last = _NO_BOUND if after is None else after.name
        if len(threads) == 1:
            rows = self._execute(*plain(KEYS, (threads[0], bound, last, limit)))
        else:
            place = 0 if after is None else after.thread
            rows = self._execute(*plain(KEYS_OF_SEVERAL, (json.dumps(list(threads)), bound, last, limit, place)))
        return list(map(CheckpointKey._make, rows))

    def of_run(self, namespace: int, run: str) -> list[int]:
        return [row[0] for row in self._execute(*plain(OF_RUN, (run, namespace)))]

    def rows(self, checkpoints: Sequence[int]) -> list[CheckpointRow]:
        return list(map(CheckpointRow._make, self._execute(ROWS, (json.dumps(list(checkpoints)),))))

    def channels(self, checkpoints: Sequence[int]) -> list[tuple[int, str, int]]:
        """Return the channels of checkpoints: the checkpoint, the name, and the blob that is its value."""
        return self._execute(CHANNELS, (json.dumps(list(checkpoints)),)).fetchall()

    def writes(self, checkpoints: Sequence[tuple[int, str]]) -> list[PendingWriteRow]:
        """Return what tasks wrote after checkpoints, named by thread and name: by path, task and number."""
        return list(map(PendingWriteRow._make, self._execute(WRITES, (json.dumps(list(checkpoints)),))))

    def writes_of(self, threads: Sequence[int]) -> list[PendingWriteRow]:
        return list(map(PendingWriteRow._make, self._execute(WRITES_OF_THREADS, (json.dumps(list(threads)),))))

    def contents(self, blobs: Iterable[int]) -> dict[int, Content]:
        """Return what blobs hold, those that are lists as their elements."""
        wanted = list(set(blobs))
        known: dict[int, tuple[str | None, bytes | None]] = {}
        parts: dict[int, list[int]] = {}
        lists: list[int] = []
        for blob, kind, data in self._execute(BLOBS, (json.dumps(wanted),)):
            known[blob] = (kind, data)
            if data is None:
                lists.append(blob)
        while lists:
            rows = self._execute(PARTS, (json.dumps(lists),)).fetchall()
            lists = []
            for blob, _, part, kind, data in sorted(rows, key=lambda row: row[:2]):
                parts.setdefault(blob, []).append(part)
                if part not in known:
                    known[part] = (kind, data)
                    if data is None:
                        lists.append(part)
        return {blob: _content(blob, known, parts) for blob in wanted}

    # --- writing ---------------------------------------------------------------------------------------------------

    def add_thread(self, namespace: int, name: str, scope: str) -> int:
        """Return the id of a thread, adding it if it is not there."""
        row = self._execute(THREAD, (namespace, name, scope)).fetchone()
        return row_id(self._execute(ADD_THREAD, hashed((namespace, name, scope)))) if row is None else row[0]

    def add_content(self, piece: Piece) -> int:
        """Return the id of a value, adding what is not there of it; what is there has all of its parts there."""
        row = self._execute(BLOB_ID, (piece.digest,)).fetchone()
        if row is not None:
            return row[0]
        parts = [self.add_content(part) for part in piece.parts]
        kind, data = ("", None) if piece.blob is None else piece.blob
        columns = (piece.digest, kind, data)
        told = " ".join(map(str, parts)) or None
        blob = row_id(self._execute(ADD_BLOB, (*columns, row_hash((*columns, told)))))
        self._connection.executemany(ADD_PART, [(blob, place, part) for place, part in enumerate(parts)])
        return blob

    def add_checkpoint(self, row: CheckpointRow, channels: Mapping[str, int]) -> None:
        """Add a checkpoint that is not there; its ``id`` does not count."""
        told = "\n".join(f"{name} {blob}" for name, blob in sorted(channels.items())) or None
        number = row_id(self._execute(ADD_CHECKPOINT, (*row[1:], row_hash((*row[1:], told)))))
        self._connection.executemany(ADD_CHANNEL, [(number, *channel) for channel in channels.items()])

    def save_write(self, row: PendingWriteRow, *, replace: bool) -> set[int]:
        """Store what a task wrote, or leave what it wrote before; return the blobs that may be unused now."""
        before = self._execute(WRITE, row[:4]).fetchone()
        if before is not None and not replace:
            return {row.blob}
        self._execute(SAVE_WRITE, hashed(row))
        return set() if before is None else {before[0]}

    def delete_checkpoints(self, checkpoints: Sequence[int]) -> set[int]:
        """Delete checkpoints, but not what was written after them; return the blobs that may be unused now."""
        text = json.dumps(list(checkpoints))
        blobs = {row[2] for row in self._execute(CHANNELS, (text,))}
        self._execute(DELETE_CHANNELS, (text,))
        self._execute(DELETE_CHECKPOINTS, (text,))
        return blobs

    def delete_writes(self, checkpoints: Sequence[tuple[int, str]]) -> set[int]:
        """Delete what was written after checkpoints; return the blobs that may be unused now."""
        blobs = {row.blob for row in self.writes(checkpoints)}
        self._connection.executemany(DELETE_WRITES, checkpoints)
        return blobs

    def delete_threads(self, threads: Sequence[int]) -> set[int]:
        """Delete threads with all that is in them; return the blobs that may be unused now."""
        text = json.dumps(list(threads))
        blobs = self.delete_checkpoints([row[0] for row in self._execute(OF_THREADS, (text,))])
        blobs |= self.delete_writes(list({(row.thread, row.checkpoint) for row in self.writes_of(threads)}))
        self.drop_empty(threads)
        return blobs

    def drop_empty(self, threads: Sequence[int]) -> None:
        """Delete those of some threads that have neither checkpoints nor writes."""
        self._execute(DELETE_EMPTY_THREADS, (json.dumps(list(threads)),))

    def sweep(self, blobs: set[int]) -> None:
        """Delete those of some blobs that nothing refers to, and then what only they referred to."""
        while blobs:
            unused = json.dumps([row[0] for row in self._execute(UNUSED, (json.dumps(list(blobs)),))])
            blobs = {row[0] for row in self._execute(PARTS_OF, (unused,))}
            self._execute(DELETE_PARTS, (unused,))
            self._execute(DELETE_BLOBS, (unused,))


_Known = Mapping[int, tuple[str | None, bytes | None]]


def _content(blob: int, known: _Known, parts: Mapping[int, list[int]]) -> Content:
    kind, data = known.get(blob, (None, None))
    if kind is None:
        raise CorruptDatabaseError(f"the value {blob} of a checkpoint is missing; verify() tells more")
    return list(_elements(blob, known, parts)) if data is None else Blob(kind, data)


def _elements(blob: int, known: _Known, parts: Mapping[int, list[int]]) -> Iterator[Blob]:
    for part in parts.get(blob, ()):
        kind, data = known[part]
        if kind is None or part >= blob:
            raise CorruptDatabaseError(f"the part {part} of the value {blob} is missing; verify() tells more")
        if data is None:
            yield from _elements(part, known, parts)
        else:
            yield Blob(kind, data)
