"""Every SQL statement that the SQLite storage runs, named.

Views: a branch sees its own rows and those of its ancestors up to the fork (``lineage``), nearest first. A bound of
2^63-1 means "now". Owners: 0 is shared, anything else the agent whose private space it is; a viewer sees both.
Parameters are bound, never formatted in; where one stands in several places they are numbered.
"""

from __future__ import annotations

from amfs.models import Tokenizer
from amfs.storage.rows import SearchIndex

# --- pieces (constants, never input) ---------------------------------------------------------------------------------

HEAD_COLUMNS = """h.seq, h.ts, h.branch, h.slot, h.version, h.live,
 coalesce(h.value, (SELECT o.value FROM log o WHERE o.seq = h.value_seq AND h.live)), h.value_seq,
 h.agent, h.author, h.run, h.confidence, h.memory_type, h.prior, h.good, h.bad, h.outcomes, h.born, h.expires, h.refs"""

_LOG = """v.seq, v.ts, v.branch, v.slot, v.version, v.live,
 coalesce(v.value, (SELECT o.value FROM log o WHERE o.seq = v.value_seq AND v.live)), coalesce(v.value_seq, v.seq),
 v.agent, v.author, v.run, v.confidence, v.memory_type, v.prior, v.good, v.bad, v.outcomes, v.born, v.expires, v.refs"""

VIEW_COLUMNS = _LOG.replace("v.", "h.")

_EVENT = """v.seq, v.ts, v.branch, v.type, v.agent, v.actor, v.grp, v.run, v.details, v.slot, v.version,
 v.confidence, v.memory_type, p.path, s.key, p.owner"""

LOG_COLUMNS = {
    "event": "seq, ts, branch, type, agent, actor, grp, run, details",
    "version": """seq, ts, branch, type, slot, cause, grp, origin, details, version, live, value,
 value_seq, agent, author, run, confidence, memory_type, prior, good, bad, outcomes, born, expires, refs""",
}
"""The columns that events and versions are written with, and that their hash is made of."""


def _of(columns: str) -> str:
    return "v." + columns.replace(", ", ", v.").replace(",\n ", ", v.")


ROW_HASH = f"""CASE WHEN v.slot IS NULL THEN amfs_row_hash({_of(LOG_COLUMNS["event"])})
 ELSE amfs_row_hash({_of(LOG_COLUMNS["version"])}) END"""
HASH_ALL = f"UPDATE log AS v SET hash = {ROW_HASH}"


def inherits(slot: str) -> str:
    """Return the condition under which a slot is inherited: what was private before a fork stays in its namespace."""
    return f"""(NOT a.shared_only OR EXISTS(SELECT 1 FROM path o WHERE o.id = {slot} >> 24 AND o.owner = 0))"""


_EVENT_NAMES = """LEFT JOIN slot s ON s.id = v.slot LEFT JOIN path p ON p.id = s.path"""

HASHED = {
    "namespace": "name",
    "agent": "name, home",
    "run": "namespace, name, session, thread, metadata",
    "path": "owner, path",
    "slot": "id, path, key",
    "idempotency": "namespace, agent, token, seq, request",
    "judged": "outcome, seq, made, skipped",
    "experiment": "branch, name, source, params, metrics, status, error, agent, started, ended",
    "pull_request": "namespace, title, description, source, target, agent, created_at",
    "pending_merge": "namespace, source, target, paths, close, pull_request",
    "conflict": "merge, slot, base, source, target, status, take, value, agent",
    "access": "branch, grantee_type, grantee, permission, agent, created_at",
    "api_key": "id, namespace, name, digest, agents, role, agent, created_at, expires_at",
    "embedder": "name, probes",
    "embedding": "embedder, digest, vector",
    "embedded": "embedder, doc, embedding",
    "brief": "branch, path, about, cited, writer, scope, fingerprint, checked, expires, seq, body",
    "thread": "namespace, name, scope",
    "pending_write": "thread, checkpoint, task, number, path, channel, blob",
}
"""The columns beside the log that a row's hash is made of: what no event tells, and no statement updates alone.

Migration 2 filled the hashes by these; whoever changes them freezes there what it used, and fills them anew in another.
"""


def _add(table: str, *more: str, verb: str = "INSERT") -> str:
    """Return a statement that adds a row: the hashed columns, others, and the hash."""
    columns = [*HASHED[table].split(", "), *more, "hash"]
    return f"{verb} INTO {table}({', '.join(columns)}) VALUES({', '.join('?' * len(columns))})"


FILL_HASHES = {
    table: f"UPDATE {table} SET hash = amfs_row_hash({columns}) WHERE hash IS NULL" for table, columns in HASHED.items()
}
"""Statements that give the rows of each table the hash they lack."""

# --- names -----------------------------------------------------------------------------------------------------------

NAMESPACE = "SELECT id FROM namespace WHERE name = ?"
NAMESPACE_NAME = "SELECT name FROM namespace WHERE id = ?"
ADD_NAMESPACE = _add("namespace", "created_at")
AGENT = "SELECT id FROM agent WHERE name = ?"
AGENT_NAME = "SELECT name FROM agent WHERE id = ?"
AGENT_HOME = "SELECT n.name FROM agent a JOIN namespace n ON n.id = a.home WHERE a.name = ?"
ADD_AGENT = _add("agent")
_BRANCH = "id, namespace, name, parent, fork_seq, depth, created_by, created_at, description"
BRANCH = f"SELECT {_BRANCH} FROM branch WHERE namespace = ? AND name = ?"
BRANCH_BY_ID = f"SELECT {_BRANCH} FROM branch WHERE id = ?"
BRANCHES = f"SELECT {_BRANCH}, closed_at IS NULL FROM branch WHERE namespace = ? ORDER BY id"
ADD_BRANCH = """INSERT INTO branch(namespace, name, parent, fork_seq, depth, created_by, created_at, description)
 VALUES(?, ?, ?, ?, ?, ?, ?, ?)"""
IS_OPEN = "SELECT closed_at IS NULL FROM branch WHERE id = ?"
ADOPT_BRANCH = "UPDATE branch SET created_by = ?, created_at = ?, description = ? WHERE id = ?"
ADOPT_NAMESPACE = "UPDATE namespace SET created_at = ? WHERE id = ?"
CLOSE_BRANCH = "UPDATE branch SET closed_at = ?2 WHERE id = ?1"
ADD_LINEAGE = """INSERT INTO lineage(branch, depth, ancestor, upto, shared_only)
 SELECT ?1, 0, ?1, 9223372036854775807, 0
 UNION ALL SELECT ?1, depth + 1, ancestor, min(upto, ?3), shared_only OR ?4 FROM lineage WHERE branch = ?2"""
LINEAGE = "SELECT ancestor, upto FROM lineage WHERE branch = ? ORDER BY depth"
RUN = "SELECT id, session, name FROM run WHERE id = ?"
RUN_ID = "SELECT id FROM run WHERE namespace = ? AND name = ? AND session = ?"
RUNS = "SELECT id FROM run WHERE namespace = ? AND name = ? ORDER BY id"
ADD_RUN = _add("run")
PATH_ID = "SELECT id FROM path WHERE owner = ? AND path = ?"
PATH = "SELECT path, next FROM path WHERE id = ?"
ADD_PATH = _add("path", "next")
TAKE_SLOT = "UPDATE path SET next = next + 1 WHERE id = ?"
SLOT = "SELECT id FROM slot WHERE path = ? AND key = ?"
SLOTS = """SELECT s.id, p.owner, p.path, s.key FROM json_each(?1) j
 CROSS JOIN slot s ON s.id = j.value CROSS JOIN path p ON p.id = s.path"""
ADD_SLOT = _add("slot")
OWNS_PRIVATE = "SELECT EXISTS(SELECT 1 FROM path WHERE owner = ?)"
FIND_JOINED = """SELECT s.id FROM json_each(?1) j
 CROSS JOIN path p ON p.owner IN (0, ?2) AND p.path = json_extract(j.value, '$[0]')
 CROSS JOIN slot s ON s.path = p.id AND s.key = json_extract(j.value, '$[1]')"""

# --- versions --------------------------------------------------------------------------------------------------------

_NEWEST_TS = "max(l.ts, coalesce((SELECT i.ts FROM imported i WHERE i.first = (SELECT max(first) FROM imported)), 0))"
POSITION = f"""SELECT b.closed_at IS NULL, l.seq, {_NEWEST_TS} FROM branch b
 LEFT JOIN log l ON l.seq = (SELECT max(seq) FROM log) WHERE b.id = ?"""
HEAD = f"SELECT {HEAD_COLUMNS} FROM head h WHERE h.branch = ? AND h.slot = ?"
CURRENT = f"""SELECT {HEAD_COLUMNS}, EXISTS(SELECT 1 FROM path WHERE owner = ?)
 FROM head h WHERE h.branch = ? AND h.slot = ?"""
CURRENT_NAMED = f"""SELECT {HEAD_COLUMNS}, EXISTS(SELECT 1 FROM path WHERE owner = ?)
 FROM slot s CROSS JOIN head h ON h.slot = s.id WHERE s.path = ? AND s.key = ? AND h.branch = ?"""
VISIBLE = f"""SELECT {_LOG} FROM log v WHERE v.seq = (
 SELECT w.seq FROM lineage a CROSS JOIN log w INDEXED BY log_slot
 ON w.slot = ?2 AND w.branch = a.ancestor AND w.seq <= min(a.upto, ?3)
 WHERE a.branch = ?1 AND {inherits("?2")} ORDER BY a.depth, w.seq DESC LIMIT 1)"""
VISIBLE_MANY = f"""SELECT {_LOG} FROM json_each(?2) j CROSS JOIN log v ON v.seq = (
 SELECT w.seq FROM lineage a CROSS JOIN log w INDEXED BY log_slot
 ON w.slot = j.value AND w.branch = a.ancestor AND w.seq <= min(a.upto, ?3)
 WHERE a.branch = ?1 AND {inherits("j.value")} ORDER BY a.depth, w.seq DESC LIMIT 1)"""
VERSION = f"SELECT {_LOG} FROM log v WHERE v.seq = ? AND v.slot IS NOT NULL"
MAKINGS = """SELECT v.seq, v.type, v.cause, v.origin FROM json_each(?1) j CROSS JOIN log v ON v.seq = j.value
 WHERE v.slot IS NOT NULL"""
VERSIONS = f"SELECT {_LOG} FROM json_each(?1) j CROSS JOIN log v ON v.seq = j.value WHERE v.slot IS NOT NULL"
NEWEST_BY = f"""SELECT {_LOG} FROM log v WHERE v.seq = (
 SELECT w.seq FROM lineage a CROSS JOIN log w INDEXED BY log_slot
 ON w.slot = ?2 AND w.branch = a.ancestor AND w.seq <= a.upto AND w.author = ?3
 WHERE a.branch = ?1 AND {inherits("?2")} ORDER BY a.depth, w.seq DESC LIMIT 1)"""
HISTORY = f"""SELECT {_LOG} FROM lineage a CROSS JOIN log v INDEXED BY log_slot
 ON v.slot = ?2 AND v.branch = a.ancestor AND v.seq <= min(a.upto, ?3)
 WHERE a.branch = ?1 AND {inherits("?2")} ORDER BY a.depth DESC, v.seq"""

# The ranges of slot ids a listing covers: all that is visible, one path, or a path and those below it.
_RANGES_ALL = "SELECT p.id << 24 AS low, (p.id << 24) + 16777215 AS high FROM path p WHERE p.owner IN (0, ?2)"
_RANGES_OF_OWNER = _RANGES_ALL.replace("IN (0, ?2)", "= ?2")
_RANGES_ONE = f"{_RANGES_ALL} AND p.path = ?3"
_RANGES_BELOW = f"""{_RANGES_ONE} UNION ALL {_RANGES_ALL} AND p.path >= ?3 || '/' AND p.path < ?3 || '0'"""
_RANGES_AFTER = """SELECT s.id AS low, s.id AS high FROM path p CROSS JOIN slot s ON s.path = p.id AND s.key > ?9
 WHERE p.owner IN (0, ?2) AND p.path = ?3"""
LIVE = """h.live AND (?4 IS NULL OR h.expires IS NULL OR h.expires > ?4)
 AND CASE WHEN ?5 IS NULL THEN h.memory_type <> 5 ELSE h.memory_type = ?5 END"""

# A branch without ancestors lists straight from head ...
_LIST_ROOT = f"""SELECT {HEAD_COLUMNS} FROM ({{ranges}}) r CROSS JOIN head h
 ON h.branch = ?1 AND h.slot BETWEEN max(r.low, ?6 + 1) AND r.high WHERE {LIVE} ORDER BY h.slot LIMIT ?7"""
LIST_ROOT_ALL = f"""SELECT {HEAD_COLUMNS} FROM head h CROSS JOIN path p ON p.id = h.slot >> 24 AND p.owner IN (0, ?2)
 WHERE h.branch = ?1 AND h.slot > ?6 AND {LIVE} ORDER BY h.slot LIMIT ?7"""
LIST_ROOT_ONE = _LIST_ROOT.format(ranges=_RANGES_ONE)
LIST_ROOT_BELOW = _LIST_ROOT.format(ranges=_RANGES_BELOW)
LIST_ROOT_AFTER = _LIST_ROOT.format(ranges=_RANGES_AFTER)
# ... any other view takes, per slot that any ancestor has, the newest version inside the view. A child's seq is above
# its fork's, so the highest seq is the nearest one.
_VIEW = f"""SELECT h.slot AS slot, max(CASE WHEN h.seq <= min(a.upto, ?8) THEN h.seq ELSE
 (SELECT max(w.seq) FROM log w WHERE w.slot = h.slot AND w.branch = a.ancestor AND w.seq <= min(a.upto, ?8)) END) AS seq
 FROM ({{ranges}}) r CROSS JOIN lineage a ON a.branch = ?1
 CROSS JOIN head h ON h.branch = a.ancestor AND h.slot BETWEEN max(r.low, ?6 + 1) AND r.high
 WHERE {inherits("h.slot")} GROUP BY h.slot HAVING seq IS NOT NULL"""
_LIST_VIEW = f"""SELECT {VIEW_COLUMNS} FROM ({_VIEW}) q CROSS JOIN log h ON h.seq = q.seq
 WHERE {LIVE} ORDER BY q.slot LIMIT ?7"""
LIST_VIEW_ALL = _LIST_VIEW.format(ranges=_RANGES_ALL)
LIST_VIEW_ONE = _LIST_VIEW.format(ranges=_RANGES_ONE)
LIST_VIEW_BELOW = _LIST_VIEW.format(ranges=_RANGES_BELOW)
LIST_VIEW_AFTER = _LIST_VIEW.format(ranges=_RANGES_AFTER)
PRIVATE = f"""SELECT {VIEW_COLUMNS} FROM (
 {_VIEW.format(ranges=_RANGES_OF_OWNER)}) q CROSS JOIN log h ON h.seq = q.seq
 WHERE h.live AND (h.expires IS NULL OR h.expires > ?4) ORDER BY q.slot"""
# What a brief covers, without the values.
_COVERED = """h.seq, h.slot, (SELECT o.path FROM path o WHERE o.id = h.slot >> 24), h.author, h.confidence, h.outcomes,
 h.expires, coalesce(h.value_seq, h.seq)"""
COVERED_ROOT_ALL = LIST_ROOT_ALL.replace(HEAD_COLUMNS, _COVERED)
COVERED_ROOT_BELOW = LIST_ROOT_BELOW.replace(HEAD_COLUMNS, _COVERED)
COVERED_VIEW_ALL = LIST_VIEW_ALL.replace(VIEW_COLUMNS, _COVERED)
COVERED_VIEW_BELOW = LIST_VIEW_BELOW.replace(VIEW_COLUMNS, _COVERED)
PATHS_ROOT = f"""SELECT p.path, count(*) FROM head h CROSS JOIN path p ON p.id = h.slot >> 24 AND p.owner IN (0, ?2)
 WHERE h.branch = ?1 AND ?3 IS NULL AND {LIVE} GROUP BY p.path"""
_ALL_VERSIONS = f"""SELECT {VIEW_COLUMNS} FROM ({{ranges}}) r CROSS JOIN lineage a ON a.branch = ?1
 CROSS JOIN head n ON n.branch = a.ancestor AND n.slot BETWEEN r.low AND r.high
 CROSS JOIN log h ON h.slot = n.slot AND h.branch = a.ancestor AND h.seq <= min(a.upto, ?8)
 WHERE {inherits("h.slot")} AND h.seq > ?6 AND CASE WHEN ?5 IS NULL THEN h.memory_type <> 5 ELSE h.memory_type = ?5 END
 ORDER BY h.seq LIMIT ?7"""
ALL_VERSIONS_ALL = _ALL_VERSIONS.format(ranges=_RANGES_ALL)
ALL_VERSIONS_ONE = _ALL_VERSIONS.format(ranges=_RANGES_ONE)
ALL_VERSIONS_BELOW = _ALL_VERSIONS.format(ranges=_RANGES_BELOW)
PATHS_VIEW = f"""SELECT p.path, count(*) FROM ({_VIEW.format(ranges=_RANGES_ALL)}) q CROSS JOIN log h ON h.seq = q.seq
 CROSS JOIN path p ON p.id = h.slot >> 24 WHERE {LIVE} GROUP BY p.path"""
_WITHIN = """FROM json_each(?1) j CROSS JOIN log v INDEXED BY log_branch
 ON v.branch = json_extract(j.value, '$[0]')
 AND v.seq > json_extract(j.value, '$[1]') AND v.seq <= json_extract(j.value, '$[2]')
 CROSS JOIN path p ON p.id = v.slot >> 24
 WHERE v.slot IS NOT NULL AND p.owner IN (0, ?2)"""
CHANGED = f"SELECT DISTINCT v.slot {_WITHIN}"
COMMITTERS = f"""SELECT DISTINCT v.slot, v.agent {_WITHIN}
 AND (p.owner = 0 OR EXISTS(SELECT 1 FROM branch b WHERE b.id = v.branch AND b.namespace = ?3))"""
SLOTS_AUTHORED = f"SELECT DISTINCT v.slot {_WITHIN} AND v.author = ?3 ORDER BY v.slot"
HISTORIES = f"""SELECT {_LOG} FROM json_each(?2) j CROSS JOIN lineage a ON a.branch = ?1
 CROSS JOIN log v INDEXED BY log_slot
 ON v.slot = j.value AND v.branch = a.ancestor AND v.seq > ?3 AND v.seq <= a.upto
 WHERE {inherits("j.value")} ORDER BY v.slot, v.seq"""

ADD_VERSION = f"""INSERT INTO log({LOG_COLUMNS["version"]}, hash)
 VALUES({", ".join("?" * 26)})"""
SET_HEAD = """INSERT OR REPLACE INTO head(seq, ts, branch, slot, version, live, value, value_seq, agent, author, run,
 confidence, memory_type, prior, good, bad, outcomes, born, expires, refs)
 VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

# --- events ----------------------------------------------------------------------------------------------------------

ADD_EVENT = f"""INSERT INTO log({LOG_COLUMNS["event"]}, hash) VALUES({", ".join("?" * 10)})"""
EVENT = f"SELECT {_EVENT} FROM log v {_EVENT_NAMES} WHERE v.seq = ?"
_SHOWN = """v.cause IS NULL AND v.seq > ?3 AND v.seq < ?4 AND (p.owner IS NULL OR p.owner IN (0, ?2))
 AND EXISTS(SELECT 1 FROM branch b WHERE b.id = v.branch AND b.namespace = ?1)
 AND (?10 IS NULL OR v.branch IN (SELECT value FROM json_each(?10)))"""
_NEWEST = "ORDER BY v.seq DESC LIMIT ?5"
_OF_ACTOR = f"""SELECT * FROM (SELECT {_EVENT} FROM log v {_EVENT_NAMES}
 WHERE v.actor = ?6 AND v.actor IS NOT NULL AND v.actor <> v.agent AND (?7 IS NULL OR v.type = ?7) AND {_SHOWN}
 {_NEWEST})"""
TIMELINE_AGENT = f"""SELECT * FROM (SELECT {_EVENT} FROM log v INDEXED BY log_agent {_EVENT_NAMES}
 WHERE v.agent = ?6 AND v.memory_type IS NOT 5 AND (?7 IS NULL OR v.type = ?7) AND {_SHOWN} {_NEWEST})
 UNION ALL {_OF_ACTOR} ORDER BY 1 DESC LIMIT ?5"""
TIMELINE_AGENT_RARE = f"""SELECT * FROM (SELECT {_EVENT} FROM log v INDEXED BY log_rare {_EVENT_NAMES}
 WHERE v.agent = ?6 AND v.type = ?7 AND v.type <> 1 AND v.memory_type IS NOT 5 AND {_SHOWN} {_NEWEST})
 UNION ALL {_OF_ACTOR} ORDER BY 1 DESC LIMIT ?5"""
TIMELINE_BRANCH = f"""SELECT {_EVENT} FROM log v INDEXED BY log_branch {_EVENT_NAMES}
 WHERE v.branch = ?8 AND (?6 IS NULL OR v.agent = ?6 OR v.actor = ?6) AND (?7 IS NULL OR v.type = ?7)
 AND (?9 OR v.memory_type IS NOT 5) AND {_SHOWN} {_NEWEST}"""
TIMELINE_BRANCH_RARE = f"""SELECT {_EVENT} FROM log v INDEXED BY log_rare {_EVENT_NAMES}
 WHERE v.branch = ?8 AND v.type = ?7 AND v.type <> 1 AND (?6 IS NULL OR v.agent = ?6 OR v.actor = ?6)
 AND (?9 OR v.memory_type IS NOT 5) AND {_SHOWN} {_NEWEST}"""
TIMELINE_ALL = f"""SELECT {_EVENT} FROM log v {_EVENT_NAMES}
 WHERE (?6 IS NULL OR v.agent = ?6 OR v.actor = ?6) AND (?7 IS NULL OR v.type = ?7)
 AND (?9 OR v.memory_type IS NOT 5) AND {_SHOWN} {_NEWEST}"""
CONTEXTS = f"""SELECT {_EVENT} FROM log v INDEXED BY log_rare {_EVENT_NAMES}
 WHERE v.type = 23 AND v.type <> 1 AND v.cause IS NULL AND v.seq < ?2
 AND v.run = ?1 AND v.seq > coalesce((SELECT max(w.seq) FROM log w INDEXED BY log_rare
 WHERE w.type = 3 AND w.type <> 1 AND w.cause IS NULL AND w.run = ?1 AND w.seq < ?2), 0) ORDER BY v.seq"""
JUDGING = f"""SELECT DISTINCT v.cause FROM json_each(?2) j CROSS JOIN lineage a ON a.branch = ?1
 CROSS JOIN log v INDEXED BY log_slot ON v.slot = json_extract(j.value, '$[0]') AND v.branch = a.ancestor
 AND v.seq > json_extract(j.value, '$[1]') AND v.seq <= a.upto
 WHERE v.type = 3 AND v.value_seq = json_extract(j.value, '$[1]') AND {inherits("v.slot")}
 AND (?3 IS NULL OR v.branch IN (SELECT value FROM json_each(?3))) ORDER BY v.cause DESC LIMIT ?4"""
LAST_TS = f"SELECT {_NEWEST_TS} FROM log l WHERE l.seq = (SELECT max(seq) FROM log)"
END_OF_EVENT = """SELECT max(v.seq) FROM log v INDEXED BY log_cause
 WHERE v.cause = coalesce((SELECT w.cause FROM log w WHERE w.seq = ?1), ?1)"""
LAST = "SELECT seq, ts FROM log ORDER BY seq DESC LIMIT 1"
LAST_OF_BRANCH = "SELECT max(seq) FROM log INDEXED BY log_branch WHERE branch = ?"
LAST_SHARED_VERSION = """SELECT v.seq FROM log v INDEXED BY log_branch
 WHERE v.branch = ? AND v.seq <= ? AND v.slot IS NOT NULL
 AND EXISTS(SELECT 1 FROM path p WHERE p.id = v.slot >> 24 AND p.owner = 0)
 ORDER BY v.seq DESC LIMIT 1"""
FIRST_OF_BRANCH = "SELECT ts FROM log WHERE seq = (SELECT min(seq) FROM log INDEXED BY log_branch WHERE branch = ?)"
AT_OR_BEFORE = "SELECT seq, ts FROM log WHERE seq <= ? ORDER BY seq DESC LIMIT 1"
MERGE_EDGES = """SELECT m.target, m.seq, m.source, m.source_seq, m.agent FROM json_each(?1) j
 CROSS JOIN merge_edge m ON m.target = j.value ORDER BY m.target, m.seq"""
ADD_MERGE_EDGE = "INSERT INTO merge_edge(target, seq, source, source_seq, agent) VALUES(?, ?, ?, ?, ?)"

# --- beside the log --------------------------------------------------------------------------------------------------

IDEMPOTENT = "SELECT seq, request FROM idempotency WHERE namespace = ? AND agent = ? AND token = ?"
ADD_IDEMPOTENT = _add("idempotency")
OUTCOME = "SELECT seq FROM outcome WHERE namespace = ? AND ref = ? AND type = ?"
OUTCOMES = "SELECT seq FROM outcome WHERE namespace = ? AND ref = ? ORDER BY seq"
ADD_OUTCOME = "INSERT INTO outcome(namespace, ref, type, seq) VALUES(?, ?, ?, ?)"
READ_SET = """SELECT DISTINCT r.seq FROM json_each(?1) j CROSS JOIN read_set r ON r.run = j.value AND r.outcome = ?2
 ORDER BY r.seq"""
ADD_READ = """INSERT INTO read_set(run, outcome, seq, count) VALUES(?, 0, ?, ?)
 ON CONFLICT(run, outcome, seq) DO UPDATE SET count = count + excluded.count"""
JUDGE_READS = """UPDATE read_set SET outcome = ?3
 WHERE run IN (SELECT value FROM json_each(?1)) AND outcome = 0 AND seq IN (SELECT value FROM json_each(?2))"""
JUDGED = "SELECT seq, made, skipped FROM judged WHERE outcome = ? ORDER BY seq"
ADD_JUDGED = _add("judged")
_EXPERIMENT = "e.branch, e.name, e.source, e.params, e.metrics, e.status, e.error, e.agent, e.started, e.ended"
EXPERIMENTS = f"""SELECT {_EXPERIMENT} FROM experiment e JOIN branch b ON b.id = e.branch
 WHERE b.namespace = ? ORDER BY e.branch"""
EXPERIMENT = f"SELECT {_EXPERIMENT} FROM experiment e WHERE e.branch = ?"
SAVE_EXPERIMENT = _add("experiment", verb="INSERT OR REPLACE")
ROLLBACKS = """SELECT r.branch, r.seq, r.to_seq, r.agent FROM json_each(?1) j
 CROSS JOIN rollback r ON r.branch = j.value ORDER BY r.branch, r.seq"""
ADD_ROLLBACK = "INSERT INTO rollback(branch, seq, to_seq, agent) VALUES(?, ?, ?, ?)"
CENSUS = "SELECT seq, entries FROM census WHERE branch = ? AND owner = ?"
SAVE_CENSUS = "INSERT OR REPLACE INTO census(branch, owner, seq, entries) VALUES(?, ?, ?, ?)"
_TAG = "namespace, name, branch, seq, description, agent, created_at"
TAG = f"SELECT {_TAG} FROM tag WHERE namespace = ? AND name = ?"
TAGS = f"SELECT {_TAG} FROM tag WHERE namespace = ? ORDER BY seq, name"
ADD_TAG = f"INSERT INTO tag({_TAG}) VALUES(?, ?, ?, ?, ?, ?, ?)"
DELETE_TAG = "DELETE FROM tag WHERE namespace = ? AND name = ?"
_PULL_REQUEST = f"{HASHED['pull_request']}, status, ended_by, ended_at, merge_event"
PULL_REQUEST = f"SELECT id, {_PULL_REQUEST} FROM pull_request WHERE namespace = ? AND id = ?"
PULL_REQUESTS = f"SELECT id, {_PULL_REQUEST} FROM pull_request WHERE namespace = ? ORDER BY id"
ADD_PULL_REQUEST = _add("pull_request", "status", "ended_by", "ended_at", "merge_event")
END_PULL_REQUEST = "UPDATE pull_request SET status = ?, ended_by = ?, ended_at = ?, merge_event = ? WHERE id = ?"
_REVIEW = "seq, pull_request, agent, verdict, comment, source_seq, created_at"
REVIEWS = f"""SELECT {_of(_REVIEW)} FROM json_each(?1) j CROSS JOIN review v ON v.pull_request = j.value
 ORDER BY v.seq"""
ADD_REVIEW = f"INSERT INTO review({_REVIEW}) VALUES(?, ?, ?, ?, ?, ?, ?)"
_PENDING_MERGE = f"{HASHED['pending_merge']}, is_open"
PENDING_MERGES = f"SELECT id, {_PENDING_MERGE} FROM pending_merge WHERE namespace = ? ORDER BY id"
OPEN_MERGES = f"SELECT id, {_PENDING_MERGE} FROM pending_merge WHERE namespace = ? AND is_open = 1 ORDER BY id"
SAVE_PENDING_MERGE = "UPDATE pending_merge SET close = ?, pull_request = ?, hash = ? WHERE id = ?"
ADD_PENDING_MERGE = _add("pending_merge", "is_open")
END_PENDING_MERGE = "UPDATE pending_merge SET is_open = 0 WHERE id = ?"
_CONFLICT = HASHED["conflict"]
CONFLICT = f"""SELECT v.id, {_of(_CONFLICT)}, m.id, {_of(_PENDING_MERGE).replace("v.", "m.")}
 FROM conflict v JOIN pending_merge m ON m.id = v.merge WHERE m.namespace = ? AND v.id = ?"""
CONFLICTS = f"""SELECT v.id, {_of(_CONFLICT)} FROM json_each(?1) j CROSS JOIN conflict v ON v.merge = j.value
 ORDER BY v.id"""
ADD_CONFLICT = _add("conflict")
SAVE_CONFLICT = "UPDATE conflict SET status = ?, take = ?, value = ?, agent = ?, hash = ? WHERE id = ?"
_GRANT = HASHED["access"]
GRANTS = f"SELECT {_GRANT} FROM access WHERE branch = ? ORDER BY grantee_type, grantee"
GRANTS_OF = """SELECT a.branch, a.permission FROM json_each(?2) j CROSS JOIN access a INDEXED BY access_grantee
 ON a.grantee_type = json_extract(j.value, '$[0]') AND a.grantee = json_extract(j.value, '$[1]')
 CROSS JOIN branch b ON b.id = a.branch AND b.namespace = ?1"""
SAVE_GRANT = _add("access", verb="INSERT OR REPLACE")
DELETE_GRANT = "DELETE FROM access WHERE branch = ? AND grantee_type = ? AND grantee = ?"
_API_KEY = f"{HASHED['api_key']}, revoked_at"
API_KEY = f"SELECT {_API_KEY} FROM api_key WHERE id = ?"
API_KEYS = f"SELECT {_API_KEY} FROM api_key WHERE namespace = ? ORDER BY created_at, id"
ADD_API_KEY = _add("api_key", "revoked_at")
REVOKE_API_KEY = "UPDATE api_key SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"
BRIEF = f"""SELECT {HASHED["brief"]} FROM brief
 WHERE branch = ? AND path = ? AND about = ? AND cited = ? AND writer = ? AND scope = ?"""
SAVE_BRIEF = _add("brief", verb="INSERT OR REPLACE")

# --- search ----------------------------------------------------------------------------------------------------------

SEARCH_TABLES = (
    # How far each index is. ``removed`` counts the documents that ever left it.
    """CREATE TABLE search_state(
    name        TEXT PRIMARY KEY,
    tokenizer   TEXT NOT NULL,
    format      INTEGER NOT NULL,            -- how this code makes texts
    seq         INTEGER NOT NULL,            -- the last one taken in
    last        INTEGER NOT NULL,            -- the last one there was then
    branch      INTEGER NOT NULL,            -- the newest one then
    removed     INTEGER NOT NULL
) WITHOUT ROWID""",
    # The versions that some branch sees now, and the document each needs; ``added``: the seq at which it was taken in.
    """CREATE TABLE search_current(
    slot        INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    doc         INTEGER NOT NULL,
    added       INTEGER NOT NULL,
    PRIMARY KEY(slot, seq)
) WITHOUT ROWID""",
    "CREATE INDEX search_current_added ON search_current(added)",
)
"""The tables of the search index beside those of FTS5; all of it can be made anew from the log."""

VECTOR_TABLES = (
    # A model is known by the name it was given and by the vectors it makes of texts that are always the same.
    """CREATE TABLE embedder(
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL,
    probes      BLOB NOT NULL,               -- vectors of single precision, as all are
    hash        INTEGER
)""",
    """CREATE TABLE embedding(
    id          INTEGER PRIMARY KEY,
    embedder    INTEGER NOT NULL,
    digest      TEXT NOT NULL,               -- of the text
    vector      BLOB NOT NULL,
    hash        INTEGER,
    UNIQUE(embedder, digest)
)""",
    """CREATE TABLE embedded(
    embedder    INTEGER NOT NULL,
    doc         INTEGER NOT NULL,
    embedding   INTEGER NOT NULL,
    hash        INTEGER,
    PRIMARY KEY(embedder, doc)
) WITHOUT ROWID""",
)
"""The vectors of texts; they can be made anew, with the time and money that takes."""

TEMPORARY_SEARCH_TABLES = tuple(statement.replace(" search", " temp.search", 1) for statement in SEARCH_TABLES)
"""The same for a connection that cannot write the file; where they exist they hide those in it."""

TOKENIZERS = {
    Tokenizer.ENGLISH: "porter unicode61 remove_diacritics 2",
    Tokenizer.PLAIN: "unicode61 remove_diacritics 2",
    Tokenizer.TRIGRAM: "trigram",
}
_SCHEMAS = {False: "main", True: "temp"}
DROP_SEARCH_TEXT = {
    (index, temporary): f"DROP TABLE IF EXISTS {schema}.search_{index.value}_text"
    for index in SearchIndex
    for temporary, schema in _SCHEMAS.items()
}
MAKE_SEARCH_TEXT = {
    (index, temporary, tokenizer): f"""CREATE VIRTUAL TABLE {schema}.search_{index.value}_text
 USING fts5(path, key, text, content = '', tokenize = '{how}')"""
    for index in SearchIndex
    for temporary, schema in _SCHEMAS.items()
    for tokenizer, how in TOKENIZERS.items()
}
# The words that the index itself counts, to be held against what it says of each document.
SEARCH_WORDS = {
    (index, temporary): f"""CREATE VIRTUAL TABLE temp.search_words
 USING fts5vocab({schema}, search_{index.value}_text, 'col')"""
    for index in SearchIndex
    for temporary, schema in _SCHEMAS.items()
}
COUNT_SEARCH_WORDS = "SELECT col, sum(cnt) FROM temp.search_words GROUP BY col"
FORGET_SEARCH_WORDS = "DROP TABLE IF EXISTS temp.search_words"
SEARCH_SIZES = {index: f"SELECT id, sz FROM search_{index.value}_text_docsize" for index in SearchIndex}
WRONG_DOCUMENTS = """SELECT 'document ' || t.id FROM search_current_text_docsize t
 WHERE NOT EXISTS(SELECT 1 FROM log d CROSS JOIN search_current c ON c.slot = d.slot AND c.doc = d.seq
 WHERE d.seq = t.id)
 UNION ALL SELECT 'document ' || c.doc FROM search_current c
 WHERE NOT EXISTS(SELECT 1 FROM search_current_text_docsize t WHERE t.id = c.doc)
 UNION ALL SELECT 'page ' || i.pgno FROM search_current_text_idx i WHERE instr(i.term, x'00')
 UNION ALL SELECT 'page ' || i.pgno FROM search_ever_text_idx i WHERE instr(i.term, x'00')"""
HAS_TEMPORARY_SEARCH = "SELECT count(*) FROM temp.sqlite_master WHERE name = 'search_state'"
SEARCH_STATE = "SELECT tokenizer, format, seq, last, branch, removed FROM search_state WHERE name = ?"
SAVE_SEARCH_STATE = """INSERT OR REPLACE INTO search_state(name, tokenizer, format, seq, last, branch, removed)
 VALUES(?, ?, ?, ?, ?, ?, ?)"""
EMPTY_SEARCH_CURRENT = "DELETE FROM search_current"
NEWEST_BRANCH = "SELECT max(id) FROM branch"
# A document is the row that brought a value to its slot; where a fork handed over a private entry, the row that did.
DOCUMENT = """CASE WHEN v.value_seq IS NULL THEN v.seq
 WHEN (SELECT o.slot FROM log o WHERE o.seq = v.value_seq) = v.slot THEN v.value_seq
 ELSE (SELECT min(w.seq) FROM log w WHERE w.slot = v.slot AND w.value_seq = v.value_seq) END"""
# Some branch sees a version now if it is the newest on its own, or one was created from between it and the next.
_FOLLOWED = "FROM log w WHERE w.slot = v.slot AND w.branch = v.branch AND w.seq > v.seq"
IS_SEEN = f"""(NOT EXISTS(SELECT 1 {_FOLLOWED}) OR EXISTS(SELECT 1 FROM lineage a
 WHERE a.ancestor = v.branch AND a.upto >= v.seq AND a.upto < (SELECT min(w.seq) {_FOLLOWED})))"""
SEARCH_REVIVED = """SELECT max(w.seq) FROM (
 SELECT DISTINCT a.ancestor AS branch, a.upto AS upto, v.slot AS slot FROM branch b
 CROSS JOIN lineage a ON a.branch = b.id AND a.ancestor <> b.id AND a.upto < ?2
 CROSS JOIN log v INDEXED BY log_branch ON v.branch = a.ancestor AND v.seq > a.upto AND v.seq <= ?2
 WHERE b.id > ?1 AND v.slot IS NOT NULL) r
 CROSS JOIN log w INDEXED BY log_slot ON w.slot = r.slot AND w.branch = r.branch AND w.seq <= r.upto
 GROUP BY r.branch, r.upto, r.slot"""
SEARCH_CANDIDATES = f"""WITH fresh(seq, slot) AS (
 SELECT v.seq, v.slot FROM log v WHERE v.seq > ?1 AND v.seq <= ?2 AND v.slot IS NOT NULL
 UNION ALL SELECT v.seq, v.slot FROM json_each(?3) j CROSS JOIN log v ON v.seq = j.value)
 SELECT v.seq, v.slot, {DOCUMENT}, c.held, v.live AND {IS_SEEN}, p.path, s.key,
 CASE WHEN v.live THEN coalesce(v.value, (SELECT o.value FROM log o WHERE o.seq = v.value_seq)) END
 FROM (SELECT seq, 0 AS held FROM fresh UNION ALL
 SELECT c.seq, 1 FROM (SELECT DISTINCT slot FROM fresh) f CROSS JOIN search_current c ON c.slot = f.slot) c
 CROSS JOIN log v ON v.seq = c.seq CROSS JOIN slot s ON s.id = v.slot CROSS JOIN path p ON p.id = s.path"""
SEARCH_EVER = """SELECT v.seq, p.path, s.key, coalesce(v.value, (SELECT o.value FROM log o WHERE o.seq = v.value_seq))
 FROM log v CROSS JOIN slot s ON s.id = v.slot CROSS JOIN path p ON p.id = s.path
 WHERE v.seq > ?1 AND v.seq <= ?2 AND v.live AND (v.value_seq IS NULL OR v.type = ?3)"""
ADD_SEARCH_TEXT = {
    index: f"INSERT INTO search_{index.value}_text(rowid, path, key, text) VALUES(?, ?, ?, ?)" for index in SearchIndex
}
REMOVE_SEARCH_TEXT = """INSERT INTO search_current_text(search_current_text, rowid, path, key, text)
 VALUES('delete', ?, ?, ?, ?)"""
KEEP_SEARCH_CURRENT = "INSERT INTO search_current(slot, seq, doc, added) VALUES(?, ?, ?, ?)"
LET_GO_SEARCH_CURRENT = "DELETE FROM search_current WHERE slot = ? AND seq = ?"

# What matches, the best first, of equally good ones the newer. Path and key say in few words what an entry is about, so
# their words count twice.
_WEIGHTS = "2.0, 2.0, 1.0"
SEARCH_RANKED = {
    index: f"""SELECT rowid, -bm25(search_{index.value}_text, {_WEIGHTS}) AS score FROM search_{index.value}_text
 WHERE search_{index.value}_text MATCH ?1 ORDER BY score DESC, rowid DESC"""
    for index in SearchIndex
}
# Below a path stands as a rule a small part of what matches; only that is ranked.
_DOCS_BELOW = {
    SearchIndex.CURRENT: "SELECT c.doc FROM ({}) r CROSS JOIN search_current c ON c.slot BETWEEN r.low AND r.high",
    SearchIndex.EVER: """SELECT v.seq FROM ({}) r
 CROSS JOIN log v INDEXED BY log_slot ON v.slot BETWEEN r.low AND r.high""",
}
SEARCH_RANKED_BELOW = {
    index: f"""SELECT rowid, -bm25(search_{index.value}_text, {_WEIGHTS}) AS score FROM search_{index.value}_text
 WHERE search_{index.value}_text MATCH ?1 AND +rowid IN ({below.format(_RANGES_BELOW)})
 ORDER BY score DESC, rowid DESC"""
    for index, below in _DOCS_BELOW.items()
}
# Looking for each of several documents among what matches takes longer than walking over all of that once.
SEARCH_SCORES = {
    index: f"""SELECT rowid, -bm25(search_{index.value}_text, {_WEIGHTS}) FROM search_{index.value}_text
 WHERE search_{index.value}_text MATCH ?1 AND +rowid IN (SELECT value FROM json_each(?2))"""
    for index in SearchIndex
}
SEARCH_HOLDS = {
    index: f"SELECT count(*) FROM search_{index.value}_text WHERE search_{index.value}_text MATCH ? AND rowid = ?"
    for index in SearchIndex
}

# Of documents or slots, in the order given: the versions that a view holds of them, if they pass.
_PASSES = """h.live AND (?4 IS NULL OR h.expires IS NULL OR h.expires > ?4)
 AND CASE WHEN ?5 IS NULL THEN h.memory_type <> 5 ELSE h.memory_type IN (SELECT value FROM json_each(?5)) END
 AND (?6 IS NULL OR h.author = ?6) AND h.confidence >= ?7 AND h.seq BETWEEN ?8 AND ?9
 AND (?10 IS NULL OR p.path = ?10 OR (p.path >= ?10 || '/' AND p.path < ?10 || '0'))"""
_IN_VIEW = f"""CROSS JOIN log h ON h.seq = (SELECT w.seq FROM lineage a CROSS JOIN log w INDEXED BY log_slot
 ON w.slot = {{slot}} AND w.branch = a.ancestor AND w.seq <= min(a.upto, ?11)
 WHERE a.branch = ?2 AND {inherits("{slot}")} ORDER BY a.depth, w.seq DESC LIMIT 1)"""
_OWNED = "CROSS JOIN path p ON p.id = h.slot >> 24 AND p.owner IN (0, ?3)"
_SAME = "= coalesce(d.value_seq, d.seq)"
SEARCH_DOCUMENTS_ROOT = f"""SELECT d.seq, {HEAD_COLUMNS} FROM json_each(?1) j CROSS JOIN log d ON d.seq = j.value
 CROSS JOIN head h ON h.branch = ?2 AND h.slot = d.slot AND h.value_seq {_SAME} {_OWNED} WHERE {_PASSES}"""
SEARCH_DOCUMENTS_VIEW = f"""SELECT d.seq, {VIEW_COLUMNS} FROM json_each(?1) j
 CROSS JOIN log d ON d.seq = j.value {_IN_VIEW.format(slot="d.slot")} AND coalesce(h.value_seq, h.seq) {_SAME}
 {_OWNED} WHERE {_PASSES}"""
# Of a private entry that a fork handed over, the value lies in another slot.
_OF_SLOT = """CASE (SELECT o.slot FROM log o WHERE o.seq = {owner}) WHEN h.slot THEN {owner}
 ELSE (SELECT min(w.seq) FROM log w WHERE w.slot = h.slot AND w.value_seq = {owner}) END"""
SEARCH_SLOTS_ROOT = f"""SELECT {_OF_SLOT.format(owner="h.value_seq")}, {HEAD_COLUMNS} FROM json_each(?1) j
 CROSS JOIN head h ON h.branch = ?2 AND h.slot = j.value {_OWNED} WHERE {_PASSES}"""
SEARCH_SLOTS_VIEW = f"""SELECT {_OF_SLOT.format(owner="coalesce(h.value_seq, h.seq)")},
 {VIEW_COLUMNS} FROM json_each(?1) j {_IN_VIEW.format(slot="j.value")} {_OWNED} WHERE {_PASSES}"""

EMBEDDERS = "SELECT id, name, probes FROM embedder ORDER BY id"
ADD_EMBEDDER = _add("embedder")
# Of the documents of some namespaces that an index took in after a seq: whose they are, and their vectors.
_VECTORS = """SELECT DISTINCT v.seq, p.owner, e.embedding, g.vector FROM {documents}
 CROSS JOIN path p ON p.id = v.slot >> 24
 CROSS JOIN branch b ON b.id = v.branch AND b.namespace IN (SELECT value FROM json_each(?2))
 LEFT JOIN embedded e ON e.embedder = ?1 AND e.doc = v.seq LEFT JOIN embedding g ON g.id = e.embedding
 WHERE {taken_in} ORDER BY v.seq"""
SEARCH_VECTORS = {
    SearchIndex.CURRENT: _VECTORS.format(
        documents="search_current c CROSS JOIN log v ON v.seq = c.doc", taken_in="c.added > ?3"
    ),
    SearchIndex.EVER: _VECTORS.format(
        documents="log v",
        taken_in="v.seq > ?3 AND v.slot IS NOT NULL AND v.live AND (v.value_seq IS NULL OR v.type = ?4)",
    ),
}
EMBEDDINGS = """SELECT g.digest, g.id, g.vector FROM json_each(?2) j
 CROSS JOIN embedding g ON g.embedder = ?1 AND g.digest = j.value"""
ADD_EMBEDDING = _add("embedding", verb="INSERT OR IGNORE")
ADD_EMBEDDED = _add("embedded", verb="INSERT OR REPLACE")

# --- the whole -------------------------------------------------------------------------------------------------------

COUNT_LASTING = f"""SELECT count(*) FROM ({_VIEW.format(ranges=_RANGES_OF_OWNER)}) q
 CROSS JOIN log h ON h.seq = q.seq WHERE h.expires IS NULL AND {LIVE}"""
COUNT_LASTING_ROOT = """SELECT count(*) FROM head h CROSS JOIN path p ON p.id = h.slot >> 24 AND p.owner = ?2
 WHERE h.branch = ?1 AND h.live AND h.expires IS NULL AND h.memory_type <> 5"""
COUNT_EXPIRING = f"""SELECT count(*) FROM (
 SELECT DISTINCT v.slot AS slot FROM lineage a CROSS JOIN log v INDEXED BY log_expires
 ON v.branch = a.ancestor AND v.expires IS NOT NULL AND v.seq <= a.upto
 CROSS JOIN path p ON p.id = v.slot >> 24 AND p.owner IN (0, ?2) WHERE a.branch = ?1 AND {inherits("v.slot")}) q
 CROSS JOIN log h ON h.seq = (SELECT w.seq FROM lineage a CROSS JOIN log w INDEXED BY log_slot
 ON w.slot = q.slot AND w.branch = a.ancestor AND w.seq <= a.upto WHERE a.branch = ?1 AND {inherits("q.slot")}
 ORDER BY a.depth, w.seq DESC LIMIT 1)
 WHERE h.live AND h.expires > ?3 AND h.memory_type <> 5"""
COUNT_ENTRIES = f"""SELECT count(*) FROM ({_VIEW.format(ranges=_RANGES_ALL)}) q CROSS JOIN log h ON h.seq = q.seq
 WHERE {LIVE}"""
_READABLE = "(?3 IS NULL OR b.id IN (SELECT value FROM json_each(?3)))"
COUNT_VERSIONS = f"""SELECT count(*) FROM log v CROSS JOIN path p ON p.id = v.slot >> 24
 CROSS JOIN branch b ON b.id = v.branch
 WHERE v.slot IS NOT NULL AND p.owner IN (0, ?2) AND b.namespace = ?1 AND {_READABLE}"""
COUNT_EVENTS = f"""SELECT count(*) FROM log v CROSS JOIN branch b ON b.id = v.branch
 LEFT JOIN path p ON p.id = v.slot >> 24
 WHERE v.cause IS NULL AND b.namespace = ?1 AND (p.owner IS NULL OR p.owner IN (0, ?2))
 AND {_READABLE}"""
COUNT_BRANCHES = f"SELECT count(*) FROM branch b WHERE b.namespace = ?1 AND {_READABLE}"
COUNT_AGENTS = f"""SELECT count(DISTINCT v.agent) FROM log v CROSS JOIN branch b ON b.id = v.branch
 LEFT JOIN path p ON p.id = v.slot >> 24
 WHERE b.namespace = ?1 AND (p.owner IS NULL OR p.owner IN (0, ?2))
 AND {_READABLE}"""
DATABASE_FILE = "SELECT file FROM pragma_database_list WHERE name = 'main'"
PAGE_BYTES = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
ALL_VERSIONS_COUNT = "SELECT count(*) FROM log WHERE slot IS NOT NULL"
INTEGRITY = "PRAGMA integrity_check(20)"
