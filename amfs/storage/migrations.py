"""The schema of the database file, as ordered migrations.

The log is the truth: one append-only table whose rows are events and, if they have a slot, versions too. ``head`` is
the newest version of a slot on a branch itself, kept so that a read touches one tree; it can be rebuilt from the log.
``lineage`` is the closure of branch ancestry, written once when a branch is created.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from amfs.storage import queries as q
from amfs.storage.hashing import HASH_FUNCTION

if TYPE_CHECKING:
    from sqlite_utils.db import Database

APPLICATION_ID = 0x414D4653
"""Marks a file as ours ("AMFS") in the header of the SQLite file."""

SCHEMA_VERSION = 4
"""The number of migrations this code knows; stored as ``user_version``."""

_VERSION_COLUMNS = """
    version     INTEGER NOT NULL,
    live        INTEGER NOT NULL,            -- 0: a tombstone
    value       TEXT,
    value_seq   INTEGER{value_seq},          -- the version that owns the value
    agent       INTEGER NOT NULL,            -- whose timeline; of a version: who committed it
    author      INTEGER NOT NULL,            -- who wrote the value
    run         INTEGER NOT NULL,
    confidence  REAL NOT NULL,
    memory_type INTEGER NOT NULL,
    prior       REAL NOT NULL,               -- the confidence the value was written with
    good        REAL NOT NULL,               -- evidence for it, from outcomes
    bad         REAL NOT NULL,               -- evidence against it
    outcomes    INTEGER NOT NULL,
    born        INTEGER NOT NULL,            -- when the entry came to be
    expires     INTEGER,
    refs        TEXT
"""

_FIRST = (
    "CREATE TABLE namespace(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL)",
    "CREATE TABLE agent(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, home INTEGER)",
    """CREATE TABLE branch(
    id          INTEGER PRIMARY KEY,
    namespace   INTEGER NOT NULL,
    name        TEXT NOT NULL,
    parent      INTEGER,
    fork_seq    INTEGER NOT NULL,            -- the child sees the parent's rows up to and with this one
    depth       INTEGER NOT NULL,
    created_by  INTEGER,
    created_at  INTEGER NOT NULL,
    description TEXT NOT NULL,
    closed_at   INTEGER,
    UNIQUE(namespace, name)
)""",
    "CREATE INDEX branch_parent ON branch(parent, fork_seq)",
    """CREATE TABLE lineage(
    branch      INTEGER NOT NULL,
    depth       INTEGER NOT NULL,
    ancestor    INTEGER NOT NULL,
    upto        INTEGER NOT NULL,
    PRIMARY KEY(branch, depth)
) WITHOUT ROWID""",
    # One session is a row with an empty name; the runs inside it carry theirs.
    """CREATE TABLE run(
    id          INTEGER PRIMARY KEY,
    namespace   INTEGER NOT NULL,
    name        TEXT NOT NULL,
    session     TEXT NOT NULL,
    thread      TEXT,
    metadata    TEXT,
    UNIQUE(namespace, name, session)
)""",
    # The owner is part of a path's identity: 0 is shared, else the agent whose private space it is.
    """CREATE TABLE path(
    id          INTEGER PRIMARY KEY,
    owner       INTEGER NOT NULL,
    path        TEXT NOT NULL,
    next        INTEGER NOT NULL,            -- the number of slots under it
    UNIQUE(owner, path)
)""",
    # A slot's id is path << 24 | n: the slots of a path are a contiguous range.
    "CREATE TABLE slot(id INTEGER PRIMARY KEY, path INTEGER NOT NULL, key TEXT NOT NULL, UNIQUE(path, key))",
    f"""CREATE TABLE log(
    seq         INTEGER PRIMARY KEY,
    ts          INTEGER NOT NULL,
    branch      INTEGER NOT NULL,
    type        INTEGER NOT NULL,
    slot        INTEGER,
    cause       INTEGER,                     -- the larger event (merge, outcome ...) that made this version
    actor       INTEGER,                     -- who did it, where that is not the agent whose timeline it is on
    grp         INTEGER,                     -- the first seq of those committed together
    origin      INTEGER,                     -- the version on another branch that this one was taken from
    details     TEXT,
    {_VERSION_COLUMNS.format(value_seq="").replace(" NOT NULL", "")}
)""",
    "CREATE INDEX log_slot ON log(slot, branch) WHERE slot IS NOT NULL",
    "CREATE INDEX log_branch ON log(branch)",
    "CREATE INDEX log_agent ON log(agent) WHERE cause IS NULL AND memory_type IS NOT 5",
    "CREATE INDEX log_actor ON log(actor) WHERE actor IS NOT NULL",
    "CREATE INDEX log_rare ON log(type, agent) WHERE type <> 1 AND cause IS NULL",
    "CREATE INDEX log_cause ON log(cause) WHERE cause IS NOT NULL",
    f"""CREATE TABLE head(
    branch      INTEGER NOT NULL,
    slot        INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    ts          INTEGER NOT NULL,
    {_VERSION_COLUMNS.format(value_seq=" NOT NULL")},
    PRIMARY KEY(branch, slot)
) WITHOUT ROWID""",
    """CREATE TABLE merge_edge(
    target      INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    source      INTEGER NOT NULL,
    source_seq  INTEGER NOT NULL,
    agent       INTEGER NOT NULL,
    PRIMARY KEY(target, seq)
) WITHOUT ROWID""",
    """CREATE TABLE idempotency(
    namespace   INTEGER NOT NULL,
    agent       INTEGER NOT NULL,
    token       TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    request     TEXT NOT NULL,               -- a digest of what was asked for
    PRIMARY KEY(namespace, agent, token)
) WITHOUT ROWID""",
    """CREATE TABLE outcome(
    namespace   INTEGER NOT NULL,
    ref         TEXT NOT NULL,
    type        TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    PRIMARY KEY(namespace, ref, type)
) WITHOUT ROWID""",
    # outcome 0: read, and not judged yet.
    """CREATE TABLE read_set(
    run         INTEGER NOT NULL,
    outcome     INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    count       INTEGER NOT NULL,
    PRIMARY KEY(run, outcome, seq)
) WITHOUT ROWID""",
    """CREATE TABLE judged(
    outcome     INTEGER NOT NULL,
    seq         INTEGER NOT NULL,            -- the version that was read
    made        INTEGER,                     -- the version that the outcome made of it
    skipped     TEXT,
    PRIMARY KEY(outcome, seq)
) WITHOUT ROWID""",
    """CREATE TABLE experiment(
    branch      INTEGER PRIMARY KEY,
    name        TEXT NOT NULL,
    source      INTEGER NOT NULL,
    params      TEXT NOT NULL,
    metrics     TEXT NOT NULL,
    status      TEXT NOT NULL,
    error       TEXT,
    agent       INTEGER NOT NULL,
    started     INTEGER NOT NULL,
    ended       INTEGER
)""",
)

_SECOND = (
    "ALTER TABLE log ADD COLUMN hash INTEGER",  # of all other columns: what is edited by hand no longer fits it
    q.HASH_ALL,
    *(
        statement
        for table in ("namespace", "agent", "run", "path", "slot", "idempotency", "judged", "experiment")
        for statement in (f"ALTER TABLE {table} ADD COLUMN hash INTEGER", q.FILL_HASHES[table])
    ),
    # 1: the ancestor is in another namespace, before a fork; only its shared entries are inherited.
    "ALTER TABLE lineage ADD COLUMN shared_only INTEGER NOT NULL DEFAULT 0",
    """CREATE TABLE tag(
    namespace   INTEGER NOT NULL,
    name        TEXT NOT NULL,
    branch      INTEGER NOT NULL,
    seq         INTEGER NOT NULL,            -- the view: the branch as of this seq
    description TEXT NOT NULL,
    agent       INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY(namespace, name)
) WITHOUT ROWID""",
    # Rollbacks of whole branches: merges between to_seq and seq count no longer.
    """CREATE TABLE rollback(
    branch      INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    to_seq      INTEGER NOT NULL,
    agent       INTEGER NOT NULL,            -- whose private entries were rolled back besides the shared ones
    PRIMARY KEY(branch, seq)
) WITHOUT ROWID""",
    # Seqs of imported rows that are older than others before them; ``ts`` is the newest instant before the import.
    """CREATE TABLE imported(
    first       INTEGER PRIMARY KEY,
    last        INTEGER NOT NULL,
    namespace   INTEGER NOT NULL,
    ts          INTEGER NOT NULL
)""",
    """CREATE TABLE pull_request(
    id          INTEGER PRIMARY KEY,
    namespace   INTEGER NOT NULL,
    title       TEXT NOT NULL,
    description TEXT NOT NULL,
    source      INTEGER NOT NULL,
    target      INTEGER NOT NULL,
    agent       INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    status      TEXT NOT NULL,
    ended_by    INTEGER,
    ended_at    INTEGER,
    merge_event INTEGER,
    hash        INTEGER
)""",
    "CREATE INDEX pull_request_namespace ON pull_request(namespace)",
    """CREATE TABLE review(
    seq         INTEGER PRIMARY KEY,         -- its event
    pull_request INTEGER NOT NULL,
    agent       INTEGER NOT NULL,
    verdict     TEXT NOT NULL,
    comment     TEXT NOT NULL,
    source_seq  INTEGER NOT NULL,            -- the newest shared version on the source that was reviewed
    created_at  INTEGER NOT NULL
)""",
    "CREATE INDEX review_pull_request ON review(pull_request)",
    """CREATE TABLE pending_merge(
    id          INTEGER PRIMARY KEY,
    namespace   INTEGER NOT NULL,
    source      INTEGER NOT NULL,
    target      INTEGER NOT NULL,
    paths       TEXT,
    close       INTEGER NOT NULL,
    pull_request INTEGER,
    is_open     INTEGER NOT NULL,
    hash        INTEGER
)""",
    "CREATE INDEX pending_merge_namespace ON pending_merge(namespace)",
    "CREATE INDEX pending_merge_open ON pending_merge(namespace) WHERE is_open = 1",
    """CREATE TABLE conflict(
    id          INTEGER PRIMARY KEY,
    merge       INTEGER NOT NULL,
    slot        INTEGER NOT NULL,
    base        INTEGER NOT NULL,            -- versions, 0 where absent
    source      INTEGER NOT NULL,
    target      INTEGER NOT NULL,
    status      TEXT NOT NULL,
    take        TEXT,
    value       TEXT,
    agent       INTEGER,
    hash        INTEGER
)""",
    "CREATE INDEX conflict_merge ON conflict(merge)",
    """CREATE TABLE access(
    branch      INTEGER NOT NULL,
    grantee_type TEXT NOT NULL,
    grantee     TEXT NOT NULL,               -- of an API key its id, or a digest; never the key
    permission  TEXT NOT NULL,
    agent       INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    hash        INTEGER,
    PRIMARY KEY(branch, grantee_type, grantee)
) WITHOUT ROWID""",
    "CREATE INDEX access_grantee ON access(grantee_type, grantee)",
    "CREATE INDEX log_expires ON log(branch) WHERE expires IS NOT NULL",
    # How many entries without a deadline an owner had in a view; counted on from there, not anew.
    """CREATE TABLE census(
    branch      INTEGER NOT NULL,
    owner       INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    entries     INTEGER NOT NULL,
    PRIMARY KEY(branch, owner)
) WITHOUT ROWID""",
    """CREATE TABLE api_key(
    id          TEXT PRIMARY KEY,
    namespace   INTEGER NOT NULL,
    name        TEXT NOT NULL,
    digest      BLOB NOT NULL,               -- SHA-256 of the secret
    agents      TEXT NOT NULL,
    role        TEXT NOT NULL,
    agent       INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    revoked_at  INTEGER,
    hash        INTEGER
) WITHOUT ROWID""",
)

_THIRD = (
    # Which views an ancestor's rows end in; asks whether a branch was created from between two versions.
    "CREATE INDEX lineage_ancestor ON lineage(ancestor, upto)",
    *q.SEARCH_TABLES,
    *q.VECTOR_TABLES,
    # Briefs are derived: a row is compiled anew when what it covers has changed, and an export leaves them out.
    """CREATE TABLE brief(
    branch      INTEGER NOT NULL,
    path        TEXT NOT NULL,               -- and those below it; empty: all
    about       TEXT NOT NULL,               -- only what this agent wrote; empty: everyone
    cited       INTEGER NOT NULL,            -- how many entries at most
    writer      TEXT NOT NULL,               -- empty: a plain digest
    scope       TEXT NOT NULL,               -- which branches its readers may read; empty: all
    fingerprint TEXT NOT NULL,               -- of what it covers
    checked     INTEGER NOT NULL,            -- the newest shared version on the branch when it was compiled
    expires     INTEGER,                     -- the first deadline among what it covers
    seq         INTEGER NOT NULL,            -- its event
    body        TEXT NOT NULL,
    hash        INTEGER,
    PRIMARY KEY(branch, path, about, cited, writer, scope)
) WITHOUT ROWID""",
)

_FOURTH = (
    # What frameworks store to go on where they were is no part of memory: it stands beside the log, without events.
    """CREATE TABLE thread(
    id          INTEGER PRIMARY KEY,
    namespace   INTEGER NOT NULL,
    name        TEXT NOT NULL,
    scope       TEXT NOT NULL,               -- a part of the thread, such as a graph inside the graph; empty: itself
    hash        INTEGER,
    UNIQUE(namespace, name, scope)
)""",
    # The hashes of a checkpoint and of a blob cover the rows that belong to them, its channels and its parts.
    """CREATE TABLE checkpoint(
    id          INTEGER PRIMARY KEY,
    thread      INTEGER NOT NULL,
    name        TEXT NOT NULL,               -- a later one sorts after an earlier one
    parent      TEXT,
    branch      INTEGER NOT NULL,            -- what memory was at that moment: this branch ...
    seq         INTEGER NOT NULL,            -- ... as of this seq
    run         TEXT,
    metadata    TEXT NOT NULL,
    kind        TEXT NOT NULL,
    body        BLOB NOT NULL,
    hash        INTEGER,
    UNIQUE(thread, name)
)""",
    "CREATE INDEX checkpoint_run ON checkpoint(run) WHERE run IS NOT NULL",
    """CREATE TABLE channel(
    checkpoint  INTEGER NOT NULL,
    name        TEXT NOT NULL,
    blob        INTEGER NOT NULL,
    PRIMARY KEY(checkpoint, name)
) WITHOUT ROWID""",
    "CREATE INDEX channel_blob ON channel(blob)",
    # Written by tasks after a checkpoint, maybe before it is stored: so it is named, not referred to.
    """CREATE TABLE pending_write(
    thread      INTEGER NOT NULL,
    checkpoint  TEXT NOT NULL,
    task        TEXT NOT NULL,
    number      INTEGER NOT NULL,
    path        TEXT NOT NULL,
    channel     TEXT NOT NULL,
    blob        INTEGER NOT NULL,
    hash        INTEGER,
    PRIMARY KEY(thread, checkpoint, task, number)
) WITHOUT ROWID""",
    "CREATE INDEX pending_write_blob ON pending_write(blob)",
    # A value is stored once, whoever refers to it; a list is a tree of its elements, so what grows shares what it was.
    """CREATE TABLE blob(
    id          INTEGER PRIMARY KEY,
    digest      BLOB NOT NULL UNIQUE,        -- of the kind and the data, or of the digests of the parts
    kind        TEXT NOT NULL,
    data        BLOB,                        -- NULL: a list, or a part of one, made of parts
    hash        INTEGER
)""",
    """CREATE TABLE blob_part(
    blob        INTEGER NOT NULL,
    place       INTEGER NOT NULL,
    part        INTEGER NOT NULL,
    PRIMARY KEY(blob, place)
) WITHOUT ROWID""",
    "CREATE INDEX blob_part_part ON blob_part(part)",
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring an empty or older database to the schema of this code; each migration is one transaction."""
    # Imported here because it takes longer than all of `import amfs`, and is needed only when a schema changes.
    from sqlite_utils import Database, Migrations

    migrations = Migrations("amfs")

    @migrations(name="0001_log")
    def first(db: Database) -> None:  # pyright: ignore[reportUnusedFunction] - registered by the decorator
        for statement in (*_FIRST, "PRAGMA user_version = 1"):
            db.conn.execute(statement)

    @migrations(name="0002_review")
    def second(db: Database) -> None:  # pyright: ignore[reportUnusedFunction] - registered by the decorator
        db.conn.create_function(*HASH_FUNCTION)
        for statement in (*_SECOND, "PRAGMA user_version = 2"):
            db.conn.execute(statement)

    @migrations(name="0003_search")
    def third(db: Database) -> None:  # pyright: ignore[reportUnusedFunction] - registered by the decorator
        for statement in (*_THIRD, "PRAGMA user_version = 3"):
            db.conn.execute(statement)

    @migrations(name="0004_checkpoints")
    def fourth(db: Database) -> None:  # pyright: ignore[reportUnusedFunction] - registered by the decorator
        for statement in (*_FOURTH, "PRAGMA user_version = 4"):
            db.conn.execute(statement)

    migrations.apply(Database(connection, recursive_triggers=False))
