"""What must hold in every database: statements that return a line for each violation.

A row of the log is held against its hash, so whatever is edited there shows. What stands beside the log is held
against the event that announced it and, as far as no event tells it, against a hash of its own.
"""
# ruff: noqa: S608 - statements are composed of constants, nothing comes from outside

from __future__ import annotations

from amfs.models import EventType
from amfs.storage.checkpoints import CHECKPOINT_PROBLEMS
from amfs.storage.queries import DOCUMENT, HASHED, IS_SEEN, ROW_HASH, inherits
from amfs.storage.rows import EVENT_CODE

_MERGE = EVENT_CODE[EventType.BRANCH_MERGED]
_OUTCOME = EVENT_CODE[EventType.OUTCOME]
_ROLLBACK = EVENT_CODE[EventType.ROLLBACK]
_REVIEWED = EVENT_CODE[EventType.PULL_REQUEST_REVIEWED]
_CLOSED = EVENT_CODE[EventType.BRANCH_CLOSED]
_FORK = EVENT_CODE[EventType.FORK]
_TAGGED = EVENT_CODE[EventType.TAG_CREATED]
_GRANTED = EVENT_CODE[EventType.ACCESS_GRANTED]


def _events(*kinds: EventType, told: tuple[str, ...] = ()) -> str:
    """Return a subquery of the events of some types, with the details at the paths in ``told``."""
    codes = ", ".join(str(EVENT_CODE[kind]) for kind in kinds)
    details = "".join(f", json_extract(v.details, '$.{at}') AS told_{at.replace('.', '_')}" for at in told)
    return f"""(SELECT v.seq, v.ts, v.branch, v.type, v.agent, b.namespace, b.name AS branch_name{details}
 FROM log v CROSS JOIN branch b ON b.id = v.branch
 WHERE v.type IN ({codes}) AND v.type <> 1 AND v.cause IS NULL AND v.slot IS NULL)"""


_TAGS_TOLD = f"""(SELECT e.*, max(e.seq) FROM
 {_events(EventType.TAG_CREATED, EventType.TAG_DELETED, told=("tag", "seq", "description"))} e
 GROUP BY e.namespace, e.told_tag)"""
_GRANTS_TOLD = f"""(SELECT e.*, max(e.seq) FROM
 {_events(EventType.ACCESS_GRANTED, EventType.ACCESS_REVOKED, told=("grantee_type", "grantee_id", "permission"))} e
 GROUP BY e.branch, e.told_grantee_type, e.told_grantee_id)"""
_ENDED = _events(EventType.PULL_REQUEST_MERGED, EventType.PULL_REQUEST_CLOSED, told=("pull_request", "merge_event"))
_RESOLVED = _events(EventType.CONFLICT_RESOLVED, told=("conflict", "take", "private.take"))

_LOG = {
    "log_matches_its_hash": f"""SELECT 'event ' || v.seq FROM log v
 WHERE v.hash IS NULL OR v.hash IS NOT {ROW_HASH}""",
    # The hash of an event is that of its own columns, so those of a version must be empty, and the other way round.
    "row_is_event_or_version": """SELECT 'event ' || v.seq FROM log v WHERE CASE WHEN v.slot IS NULL
 THEN coalesce(v.cause, v.origin, v.version, v.live, v.value, v.value_seq, v.author, v.confidence, v.memory_type,
 v.prior, v.good, v.bad, v.outcomes, v.born, v.expires, v.refs) IS NOT NULL
 ELSE v.actor IS NOT NULL OR v.version + v.live + v.author + v.confidence + v.memory_type + v.prior + v.good + v.bad
 + v.outcomes + v.born IS NULL OR v.live NOT IN (0, 1) END""",
    "time_never_goes_back": """SELECT 'event ' || n.seq FROM (
 SELECT seq, ts, lag(ts) OVER (ORDER BY seq) AS before, lag(seq) OVER (ORDER BY seq) AS last FROM log) n
 WHERE n.ts < n.before AND NOT EXISTS (SELECT 1 FROM imported i WHERE i.first > n.last AND i.first <= n.seq)""",
    # An imported log may lack what belonged to others, but never a part of one transaction.
    "transactions_are_whole": """SELECT 'event ' || n.seq FROM (SELECT seq, ts, lag(ts) OVER (ORDER BY seq) AS before,
 lag(seq) OVER (ORDER BY seq) AS last FROM log) n WHERE n.ts = n.before AND n.seq <> n.last + 1
 AND NOT EXISTS (SELECT 1 FROM imported i WHERE i.first > n.last AND i.first <= n.seq)""",
    # An import of rows older than those before them begins right behind these, and what comes after it is newer again.
    "import_is_of_one_namespace": """SELECT 'import at ' || i.first FROM imported i
 WHERE NOT EXISTS (SELECT 1 FROM log v WHERE v.seq = i.first - 1) OR i.ts IS NOT (
 SELECT max(v.ts) FROM log v WHERE v.seq < i.first)
 OR NOT EXISTS (SELECT 1 FROM log v WHERE v.seq = i.last AND v.seq >= i.first)
 OR EXISTS (SELECT 1 FROM log v LEFT JOIN branch b ON b.id = v.branch
 WHERE v.seq BETWEEN i.first AND i.last AND b.namespace IS NOT i.namespace)
 OR (SELECT v.ts <= i.ts AND NOT EXISTS (SELECT 1 FROM imported o WHERE o.first > i.last AND o.first <= v.seq)
 FROM log v WHERE v.seq > i.last ORDER BY v.seq LIMIT 1)""",
    "cause_is_an_event": """SELECT 'version ' || v.seq FROM log v LEFT JOIN log c ON c.seq = v.cause
 WHERE v.cause IS NOT NULL
 AND (c.seq IS NULL OR c.cause IS NOT NULL OR c.branch <> v.branch OR c.type <> v.type OR c.seq >= v.seq)""",
    "origin_is_a_version": f"""SELECT 'version ' || v.seq FROM log v LEFT JOIN log o ON o.seq = v.origin
 WHERE v.origin IS NOT NULL
 AND (o.slot IS NULL OR o.seq >= v.seq OR (o.slot <> v.slot AND v.type <> {_FORK}))""",
    "names_exist": """SELECT 'rows of branch ' || v.branch || ', agent ' || v.agent || ', run ' || v.run FROM (
 SELECT DISTINCT branch, agent, run, actor, author FROM log) v
 WHERE NOT EXISTS (SELECT 1 FROM agent a WHERE a.id = v.agent)
 OR NOT EXISTS (SELECT 1 FROM branch b WHERE b.id = v.branch) OR NOT EXISTS (SELECT 1 FROM run r WHERE r.id = v.run)
 OR (v.actor IS NOT NULL AND NOT EXISTS (SELECT 1 FROM agent a WHERE a.id = v.actor))
 OR (v.author IS NOT NULL AND NOT EXISTS (SELECT 1 FROM agent a WHERE a.id = v.author))""",
    "run_is_in_its_namespace": f"""SELECT 'run ' || v.run FROM (
 SELECT DISTINCT branch, run FROM log WHERE type <> {_FORK}) v
 CROSS JOIN branch b ON b.id = v.branch CROSS JOIN run r ON r.id = v.run WHERE r.namespace <> b.namespace""",
}
_VERSIONS = {
    "head_is_newest": """SELECT 'slot ' || h.slot || ' on branch ' || h.branch FROM head h WHERE h.seq IS NOT
 (SELECT max(v.seq) FROM log v WHERE v.slot = h.slot AND v.branch = h.branch)""",
    "version_has_head": """SELECT 'slot ' || v.slot || ' on branch ' || v.branch FROM (
 SELECT DISTINCT slot, branch FROM log INDEXED BY log_slot WHERE slot IS NOT NULL) v WHERE NOT EXISTS
 (SELECT 1 FROM head h WHERE h.branch = v.branch AND h.slot = v.slot)""",
    # A value too long for head is read from the log, where the hash of its row stands for it.
    "head_equals_log": """SELECT 'version ' || h.seq FROM head h JOIN log v ON v.seq = h.seq
 LEFT JOIN log o ON o.seq = h.value_seq
 WHERE (h.version, h.live, h.ts, h.agent, h.author, h.run, h.confidence, h.memory_type, h.prior, h.good, h.bad,
 h.outcomes, h.born, h.expires, h.refs, h.value_seq) IS NOT
 (v.version, v.live, v.ts, v.agent, v.author, v.run, v.confidence, v.memory_type, v.prior, v.good, v.bad,
 v.outcomes, v.born, v.expires, v.refs, coalesce(v.value_seq, v.seq))
 OR h.value IS NOT CASE WHEN h.live AND length(o.value) <= 1000 THEN o.value END""",
    "value_has_an_owner": """SELECT 'version ' || v.seq FROM log v LEFT JOIN log o ON o.seq = v.value_seq
 WHERE v.slot IS NOT NULL AND v.live
 AND CASE WHEN v.value_seq IS NULL THEN v.value IS NULL
 ELSE v.value IS NOT NULL OR o.value IS NULL OR o.value_seq IS NOT NULL END""",
    "value_is_json": "SELECT 'version ' || v.seq FROM log v WHERE v.value IS NOT NULL AND NOT json_valid(v.value)",
    "tombstone_is_empty": """SELECT 'version ' || v.seq FROM log v
 WHERE v.slot IS NOT NULL AND NOT v.live AND v.value IS NOT NULL""",
    "versions_are_counted": f"""SELECT 'version ' || n.seq FROM (
 SELECT seq, version, slot, branch, lag(version) OVER (PARTITION BY slot, branch ORDER BY seq) AS before
 FROM log WHERE slot IS NOT NULL) n WHERE CASE WHEN before IS NOT NULL THEN n.version <> before + 1 ELSE n.version <>
 1 + coalesce((SELECT w.version FROM lineage a CROSS JOIN log w INDEXED BY log_slot
 ON w.slot = n.slot AND w.branch = a.ancestor AND w.seq <= a.upto
 WHERE a.branch = n.branch AND a.depth > 0 AND {inherits("n.slot")}
 ORDER BY a.depth, w.seq DESC LIMIT 1), 0) END""",
    "confidence_is_within_0_and_1": """SELECT 'version ' || v.seq FROM log v
 WHERE v.slot IS NOT NULL AND NOT (v.confidence BETWEEN 0 AND 1)""",
    # A fork hands private entries over; they are committed by whoever forked.
    "private_entries_are_their_owners": f"""SELECT 'version ' || v.seq FROM path p CROSS JOIN log v INDEXED BY log_slot
 ON v.slot BETWEEN p.id << 24 AND (p.id << 24) + 16777215
 WHERE p.owner <> 0 AND v.slot IS NOT NULL AND v.agent <> p.owner AND v.type <> {_FORK}""",
    "slot_is_in_its_path": """SELECT 'slot ' || s.id FROM slot s LEFT JOIN path p ON p.id = s.path
 WHERE p.id IS NULL OR s.id >> 24 <> s.path OR (s.id & 16777215) >= p.next""",
    "path_counts_its_slots": """SELECT 'path ' || p.path FROM path p
 WHERE p.next <> (SELECT count(*) FROM slot s WHERE s.path = p.id)
 OR (p.owner <> 0 AND NOT EXISTS (SELECT 1 FROM agent a WHERE a.id = p.owner))""",
    "slot_has_versions": """SELECT 'slot ' || s.id FROM slot s
 WHERE NOT EXISTS (SELECT 1 FROM log v WHERE v.slot = s.id)""",
    "version_has_a_slot": """SELECT 'slot ' || v.slot FROM (
 SELECT DISTINCT slot FROM log INDEXED BY log_slot WHERE slot IS NOT NULL) v
 WHERE NOT EXISTS (SELECT 1 FROM slot s WHERE s.id = v.slot)""",
}
_BRANCHES = {
    "namespace_has_main": """SELECT 'namespace ' || n.name FROM namespace n WHERE NOT EXISTS (
 SELECT 1 FROM branch b WHERE b.namespace = n.id AND b.name = 'main' AND b.created_at = n.created_at)
 UNION ALL SELECT 'agent ' || a.name FROM agent a
 WHERE a.home IS NOT NULL AND NOT EXISTS (SELECT 1 FROM namespace n WHERE n.id = a.home)
 UNION ALL SELECT 'run ' || r.id FROM run r WHERE NOT EXISTS (SELECT 1 FROM namespace n WHERE n.id = r.namespace)
 OR (r.metadata IS NOT NULL AND NOT json_valid(r.metadata))""",
    "branch_was_announced": f"""SELECT 'branch ' || b.name FROM branch b
 LEFT JOIN {_events(EventType.BRANCH_CREATED, told=("branch", "description", "fork_seq"))} e
 ON e.namespace = b.namespace AND e.told_branch = b.name AND e.branch = b.parent AND e.ts = b.created_at
 AND e.agent = b.created_by AND e.told_fork_seq = b.fork_seq AND e.told_description = b.description
 LEFT JOIN {_events(EventType.FORK)} f
 ON f.branch = b.id AND f.ts = b.created_at AND f.agent = b.created_by AND b.name = 'main' AND b.description = ''
 WHERE e.seq IS NULL AND f.seq IS NULL AND (b.name, b.parent, b.fork_seq, b.depth, b.created_by, b.description) IS NOT
 ('main', NULL, 0, 0, NULL, '')""",
    "announced_branch_exists": f"""SELECT 'branch ' || e.told_branch
 FROM {_events(EventType.BRANCH_CREATED, told=("branch",))} e
 WHERE NOT EXISTS (SELECT 1 FROM branch b WHERE b.namespace = e.namespace AND b.name = e.told_branch)""",
    "closed_branch_is_left_alone": f"""SELECT 'branch ' || b.name FROM branch b
 WHERE b.closed_at IS NOT (SELECT v.ts FROM log v INDEXED BY log_branch WHERE b.closed_at IS NOT NULL
 AND v.branch = b.id AND v.type = {_CLOSED} AND v.slot IS NULL ORDER BY v.seq DESC LIMIT 1)
 UNION ALL SELECT 'branch ' || b.name FROM {_events(EventType.BRANCH_CLOSED)} e JOIN branch b ON b.id = e.branch
 WHERE b.closed_at IS NULL
 UNION ALL SELECT 'version ' || v.seq FROM branch b CROSS JOIN log v INDEXED BY log_branch ON v.branch = b.id
 WHERE b.closed_at IS NOT NULL AND v.slot IS NOT NULL AND v.ts > b.closed_at""",
    "lineage_is_closed": """SELECT 'branch ' || b.id FROM branch b WHERE
 (SELECT count(*) FROM lineage a WHERE a.branch = b.id) <> b.depth + 1
 OR NOT EXISTS (SELECT 1 FROM lineage a
 WHERE a.branch = b.id AND a.depth = 0 AND a.ancestor = b.id AND a.upto = 9223372036854775807
 AND a.shared_only = 0)
 OR EXISTS (SELECT 1 FROM branch p CROSS JOIN lineage a ON a.branch = p.id WHERE p.id = b.parent AND NOT EXISTS (
 SELECT 1 FROM lineage c WHERE c.branch = b.id AND c.depth = a.depth + 1 AND c.ancestor = a.ancestor
 AND c.upto = min(a.upto, b.fork_seq) AND c.shared_only = (a.shared_only OR p.namespace <> b.namespace)))
 UNION ALL SELECT 'branch ' || b.id FROM branch b LEFT JOIN branch p ON p.id = b.parent
 WHERE b.depth IS NOT coalesce(p.depth + 1, 0) OR (p.id IS NULL AND b.parent IS NOT NULL)
 UNION ALL SELECT 'lineage of ' || a.branch FROM lineage a
 WHERE NOT EXISTS (SELECT 1 FROM branch b WHERE b.id = a.branch)""",
    "child_is_after_its_fork": """SELECT 'version ' || v.seq FROM branch b CROSS JOIN log v ON v.branch = b.id
 WHERE b.parent IS NOT NULL AND v.seq <= b.fork_seq
 UNION ALL SELECT 'branch ' || b.name FROM branch b WHERE b.fork_seq > coalesce((SELECT max(seq) FROM log), 0)""",
    "merge_edge_is_a_merge": f"""SELECT 'merge ' || m.seq FROM merge_edge m LEFT JOIN log v ON v.seq = m.seq
 LEFT JOIN branch s ON s.id = m.source LEFT JOIN branch t ON t.id = m.target
 WHERE v.seq IS NULL OR v.type <> {_MERGE} OR v.slot IS NOT NULL OR m.source_seq >= m.seq
 OR (v.branch, v.agent, t.namespace, json_extract(v.details, '$.source'), json_extract(v.details, '$.source_seq'))
 IS NOT (m.target, m.agent, s.namespace, s.name, m.source_seq)
 UNION ALL SELECT 'merge ' || e.seq FROM {_events(EventType.BRANCH_MERGED, told=("paths",))} e
 WHERE e.told_paths IS NULL AND NOT EXISTS (SELECT 1 FROM merge_edge m WHERE m.target = e.branch AND m.seq = e.seq)""",
    "rollback_is_an_event": f"""SELECT 'rollback ' || r.seq FROM rollback r LEFT JOIN log v ON v.seq = r.seq
 WHERE v.type IS NOT {_ROLLBACK} OR v.slot IS NOT NULL OR r.to_seq >= r.seq OR (v.branch, v.agent, json_extract(
 v.details, '$.seq'), json_extract(v.details, '$.agent_id')) IS NOT (r.branch, r.agent, r.to_seq, NULL)
 UNION ALL SELECT 'rollback ' || e.seq FROM {_events(EventType.ROLLBACK, told=("agent_id",))} e
 WHERE e.told_agent_id IS NULL AND NOT EXISTS (SELECT 1 FROM rollback r WHERE r.branch = e.branch AND r.seq = e.seq)""",
    # As fork counts: what has no deadline and is no message, in the view as of the census.
    "census_is_right": f"""SELECT 'census of branch ' || c.branch FROM census c LEFT JOIN log e ON e.seq = c.seq + 1
 WHERE (e.type, e.slot, e.branch) IS NOT ({_FORK}, NULL, c.branch) OR c.entries <> (SELECT count(*) FROM (
 SELECT h.slot AS slot, max(CASE WHEN h.seq <= min(a.upto, c.seq) THEN h.seq ELSE (SELECT max(w.seq) FROM log w
 WHERE w.slot = h.slot AND w.branch = a.ancestor AND w.seq <= min(a.upto, c.seq)) END) AS seq
 FROM path p CROSS JOIN lineage a ON a.branch = c.branch AND (c.owner = 0 OR NOT a.shared_only)
 CROSS JOIN head h ON h.branch = a.ancestor AND h.slot BETWEEN p.id << 24 AND (p.id << 24) + 16777215
 WHERE p.owner = c.owner GROUP BY h.slot HAVING seq IS NOT NULL) q CROSS JOIN log v ON v.seq = q.seq
 WHERE v.live AND v.expires IS NULL AND v.memory_type <> 5)""",
    "tag_was_announced": f"""SELECT 'tag ' || t.name FROM tag t LEFT JOIN {_TAGS_TOLD} e
 ON e.namespace = t.namespace AND e.told_tag = t.name
 WHERE (e.type, e.branch, e.agent, e.ts, e.told_seq, e.told_description) IS NOT
 ({_TAGGED}, t.branch, t.agent, t.created_at, t.seq, t.description) OR t.seq > (SELECT max(seq) FROM log)
 UNION ALL SELECT 'tag ' || e.told_tag FROM {_TAGS_TOLD} e WHERE e.type = {_TAGGED}
 AND NOT EXISTS (SELECT 1 FROM tag t WHERE t.namespace = e.namespace AND t.name = e.told_tag)""",
}
_REVIEW = {
    "pull_request_was_announced": f"""SELECT 'pull request ' || p.id FROM pull_request p
 LEFT JOIN branch s ON s.id = p.source LEFT JOIN branch t ON t.id = p.target
 LEFT JOIN {_events(EventType.PULL_REQUEST_OPENED, told=("pull_request", "title", "source"))} e
 ON e.told_pull_request = p.id
 LEFT JOIN {_ENDED} c ON c.told_pull_request = p.id
 WHERE (e.branch, e.agent, e.ts, e.told_title, e.told_source, e.namespace, s.namespace, t.namespace) IS NOT
 (p.target, p.agent, p.created_at, p.title, s.name, p.namespace, p.namespace, p.namespace)
 OR (p.status, p.ended_by, p.ended_at, p.merge_event) IS NOT (CASE c.type
 WHEN {EVENT_CODE[EventType.PULL_REQUEST_MERGED]} THEN 'merged' WHEN {EVENT_CODE[EventType.PULL_REQUEST_CLOSED]}
 THEN 'closed' ELSE 'open' END, c.agent, c.ts, c.told_merge_event)
 UNION ALL SELECT 'pull request ' || e.told_pull_request
 FROM {_events(EventType.PULL_REQUEST_OPENED, told=("pull_request",))} e
 WHERE NOT EXISTS (SELECT 1 FROM pull_request p WHERE p.id = e.told_pull_request)""",
    "review_was_announced": f"""SELECT 'review ' || r.seq FROM review r LEFT JOIN log v ON v.seq = r.seq
 LEFT JOIN pull_request p ON p.id = r.pull_request
 WHERE v.type IS NOT {_REVIEWED} OR (v.branch, v.agent, v.ts, json_extract(v.details, '$.pull_request'),
 json_extract(v.details, '$.verdict'), json_extract(v.details, '$.comment'), json_extract(v.details, '$.source_seq'))
 IS NOT (p.target, r.agent, r.created_at, r.pull_request, r.verdict, r.comment, r.source_seq)
 UNION ALL SELECT 'review ' || e.seq FROM {_events(EventType.PULL_REQUEST_REVIEWED)} e
 WHERE NOT EXISTS (SELECT 1 FROM review r WHERE r.seq = e.seq)""",
    "pending_merge_is_between_branches": """SELECT 'pending merge ' || m.id FROM pending_merge m
 LEFT JOIN branch s ON s.id = m.source LEFT JOIN branch t ON t.id = m.target
 LEFT JOIN pull_request p ON p.id = m.pull_request
 WHERE (s.namespace, t.namespace) IS NOT (m.namespace, m.namespace) OR m.source = m.target
 OR m.close NOT IN (0, 1) OR m.is_open NOT IN (0, 1)
 OR CASE WHEN m.paths IS NULL THEN 0 WHEN json_valid(m.paths) THEN json_type(m.paths) <> 'array' ELSE 1 END
 OR (m.pull_request IS NOT NULL AND (p.source, p.target) IS NOT (m.source, m.target))
 OR m.is_open AND (s.closed_at IS NOT NULL OR t.closed_at IS NOT NULL)
 OR NOT EXISTS (SELECT 1 FROM conflict c WHERE c.merge = m.id)
 OR m.is_open <> EXISTS (SELECT 1 FROM conflict c WHERE c.merge = m.id AND c.status = 'open')""",
    "conflict_is_over_versions": """SELECT 'conflict ' || c.id FROM conflict c
 LEFT JOIN pending_merge m ON m.id = c.merge LEFT JOIN log b ON b.seq = c.base
 LEFT JOIN log s ON s.seq = c.source LEFT JOIN log t ON t.seq = c.target
 WHERE m.id IS NULL OR (c.base <> 0 AND b.slot IS NOT c.slot) OR (c.source <> 0 AND s.slot IS NOT c.slot)
 OR (c.target <> 0 AND t.slot IS NOT c.slot) OR c.source = c.target OR c.base IN (c.source, c.target)
 OR (c.source <> 0 AND NOT EXISTS (SELECT 1 FROM lineage a
 WHERE a.branch = m.source AND a.ancestor = s.branch AND s.seq <= a.upto))
 OR (c.target <> 0 AND NOT EXISTS (SELECT 1 FROM lineage a
 WHERE a.branch = m.target AND a.ancestor = t.branch AND t.seq <= a.upto))""",
    "conflict_resolution_was_announced": f"""SELECT 'conflict ' || c.id FROM conflict c
 LEFT JOIN pending_merge m ON m.id = c.merge
 LEFT JOIN {_RESOLVED} e ON e.told_conflict = c.id
 WHERE CASE c.status WHEN 'resolved' THEN (e.branch, e.agent, coalesce(e.told_take, e.told_private_take)) IS NOT
 (m.target, c.agent, coalesce(c.take, 'value')) OR (c.take IS NULL) = (c.value IS NULL)
 WHEN 'open' THEN e.seq IS NOT NULL OR coalesce(c.take, c.value, c.agent) IS NOT NULL
 WHEN 'obsolete' THEN e.seq IS NOT NULL OR coalesce(c.take, c.value, c.agent) IS NOT NULL ELSE 1 END
 OR (c.value IS NOT NULL AND NOT json_valid(c.value))
 UNION ALL SELECT 'conflict ' || e.told_conflict
 FROM {_events(EventType.CONFLICT_RESOLVED, told=("conflict",))} e
 WHERE NOT EXISTS (SELECT 1 FROM conflict c WHERE c.id = e.told_conflict)""",
}
# Not the other way round: an import brings the events of a namespace, but neither its grants nor its keys.
_ACCESS = {
    # The creator of a branch may write it without an event that says so.
    "grant_was_announced": f"""SELECT 'grant on branch ' || b.name FROM access a LEFT JOIN branch b ON b.id = a.branch
 LEFT JOIN {_GRANTS_TOLD} e ON e.branch = a.branch AND e.told_grantee_type = a.grantee_type
 AND e.told_grantee_id = a.grantee
 WHERE b.id IS NULL OR b.name = 'main' OR CASE WHEN e.seq IS NULL THEN (a.agent, a.created_at, a.permission) IS NOT
 (b.created_by, b.created_at, 'read_write') OR a.grantee_type NOT IN ('user', 'api_key')
 ELSE (e.type, e.agent, e.ts, e.told_permission) IS NOT ({_GRANTED}, a.agent, a.created_at, a.permission) END""",
    "api_key_was_announced": f"""SELECT 'API key ' || k.id FROM api_key k
 LEFT JOIN {_events(EventType.ACCESS_GRANTED, told=("grantee_id", "permission"))} e
 ON e.branch_name = 'main' AND e.told_grantee_id = k.id
 LEFT JOIN {_events(EventType.ACCESS_REVOKED, told=("grantee_id",))} r
 ON r.branch_name = 'main' AND r.told_grantee_id = k.id
 WHERE (e.namespace, e.agent, e.ts, e.told_permission) IS NOT (k.namespace, k.agent, k.created_at, k.role)
 OR r.ts IS NOT k.revoked_at OR k.expires_at <= k.created_at OR k.role NOT IN ('reader', 'writer', 'admin')
 OR typeof(k.digest) <> 'blob' OR length(k.digest) <> 32 OR NOT json_valid(k.agents)""",
}
_RUNS = {
    "idempotency_key_is_a_write": """SELECT 'write ' || i.seq FROM idempotency i LEFT JOIN log v ON v.seq = i.seq
 LEFT JOIN branch b ON b.id = v.branch
 WHERE (v.type, v.agent, b.namespace) IS NOT (1, i.agent, i.namespace) OR length(i.request) <> 64""",
    "outcome_is_an_event": f"""SELECT 'outcome ' || o.ref FROM outcome o LEFT JOIN log v ON v.seq = o.seq
 LEFT JOIN branch b ON b.id = v.branch WHERE v.slot IS NOT NULL OR (v.type, b.namespace, json_extract(v.details,
 '$.outcome_ref'), json_extract(v.details, '$.outcome_type')) IS NOT ({_OUTCOME}, o.namespace, o.ref, o.type)
 UNION ALL SELECT 'outcome ' || e.seq FROM {_events(EventType.OUTCOME, told=("outcome_ref", "outcome_type"))} e
 WHERE NOT EXISTS (SELECT 1 FROM outcome o
 WHERE o.namespace = e.namespace AND o.ref = e.told_outcome_ref AND o.type = e.told_outcome_type AND o.seq = e.seq)""",
    # The made version holds the value of the one that was read, or that value anew.
    "judged_is_what_the_outcome_made": f"""SELECT 'outcome ' || j.outcome || ', version ' || j.seq FROM judged j
 LEFT JOIN log e ON e.seq = j.outcome LEFT JOIN log r ON r.seq = j.seq LEFT JOIN log m ON m.seq = j.made
 WHERE (e.type, e.slot) IS NOT ({_OUTCOME}, NULL) OR r.slot IS NULL OR r.seq >= j.outcome
 OR (j.made IS NULL) = (j.skipped IS NULL)
 OR (j.made IS NOT NULL AND (m.type, m.cause, m.slot) IS NOT ({_OUTCOME}, j.outcome, r.slot))
 OR (j.made IS NOT NULL AND coalesce(r.value_seq, r.seq) <> m.value_seq
 AND length((SELECT o.value FROM log o WHERE o.seq = coalesce(r.value_seq, r.seq)))
 IS NOT length((SELECT o.value FROM log o WHERE o.seq = m.value_seq)))
 UNION ALL SELECT 'version ' || v.seq FROM log v WHERE v.type = {_OUTCOME} AND v.slot IS NOT NULL
 AND NOT EXISTS (SELECT 1 FROM judged j WHERE j.outcome = v.cause AND j.made = v.seq)
 UNION ALL SELECT 'outcome ' || v.seq FROM log v
 WHERE v.type = {_OUTCOME} AND v.type <> 1 AND v.cause IS NULL AND v.slot IS NULL
 AND (SELECT count(*) FROM judged j WHERE j.outcome = v.seq) <> json_extract(v.details, '$.causal_entries')
 + (SELECT coalesce(sum(json_extract(e.value, '$.causal_entries')), 0) FROM json_each(v.details, '$.elsewhere') e)
 + coalesce(json_extract(v.details, '$.private.causal_entries'), 0)""",
    "read_set_is_of_versions": f"""SELECT 'run ' || s.run || ', version ' || s.seq FROM read_set s
 LEFT JOIN run r ON r.id = s.run LEFT JOIN log v ON v.seq = s.seq
 LEFT JOIN log o ON o.seq = s.outcome LEFT JOIN run k ON k.id = o.run
 WHERE r.id IS NULL OR v.slot IS NULL OR s.count < 1
 OR (s.outcome <> 0 AND ((o.type, o.slot) IS NOT ({_OUTCOME}, NULL) OR s.seq >= s.outcome
 OR (s.run <> o.run AND (r.name = '' OR (r.namespace, r.name) IS NOT (k.namespace, k.name)))))""",
    "experiment_is_a_branch": """SELECT 'experiment ' || x.name FROM experiment x LEFT JOIN branch b ON b.id = x.branch
 WHERE (b.name, b.parent, b.created_by, b.created_at) IS NOT
 ('experiment/' || x.name, x.source, x.agent, x.started)
 OR CASE WHEN json_valid(x.params) AND json_valid(x.metrics)
 THEN json_type(x.params) <> 'object' OR json_type(x.metrics) <> 'object' ELSE 1 END
 OR (x.status = 'running') <> (x.ended IS NULL) OR x.ended < x.started
 OR (x.status = 'merged') <> EXISTS (SELECT 1 FROM merge_edge m WHERE m.source = x.branch)
 OR (x.status = 'discarded') <> (x.status <> 'merged' AND b.closed_at IS NOT NULL)
 OR CASE x.status WHEN 'running' THEN x.error IS NOT NULL WHEN 'finished' THEN x.error IS NOT NULL
 WHEN 'failed' THEN x.error IS NULL WHEN 'merged' THEN 0 WHEN 'discarded' THEN 0 ELSE 1 END""",
}
_BRIEFS = {
    # Not the other way round: a later brief takes the place of an earlier one, and an export brings the events alone.
    "brief_was_announced": f"""SELECT 'brief at event ' || f.seq FROM brief f
 LEFT JOIN {_events(EventType.BRIEF_COMPILED, told=("digest_type", "entity_path", "agent_id"))} e ON e.seq = f.seq
 WHERE (e.branch, e.told_entity_path, e.told_agent_id) IS NOT (f.branch, nullif(f.path, ''), nullif(f.about, ''))
 OR e.told_digest_type NOT IN ('digest', 'written') OR (f.writer = '' AND e.told_digest_type <> 'digest')
 OR f.cited < 1 OR f.checked >= f.seq OR CASE WHEN json_valid(f.body) THEN EXISTS (
 SELECT 1 FROM json_each(f.body, '$.citations') c LEFT JOIN log v ON v.seq = c.value
 WHERE v.slot IS NULL OR v.seq >= f.seq) ELSE 1 END""",
}

# The search index can be made anew, so it is held against the log; of what it took in last nothing more may be known.
_SEARCH = {
    "search_state_is_of_this_log": """SELECT 'search index ' || s.name FROM search_state s
 WHERE s.seq NOT BETWEEN 0 AND coalesce((SELECT max(seq) FROM log), 0)
 OR s.branch NOT BETWEEN 0 AND (SELECT max(id) FROM branch) OR s.removed < 0
 OR s.name NOT IN ('current', 'ever') OR s.tokenizer NOT IN ('english', 'plain', 'trigram')
 OR s.tokenizer <> (SELECT max(tokenizer) FROM search_state) OR (SELECT count(*) FROM search_state) <> 2""",
    "search_index_is_of_versions": f"""SELECT 'version ' || c.seq FROM search_current c LEFT JOIN log v ON v.seq = c.seq
 WHERE v.slot IS NOT c.slot OR v.live IS NOT 1 OR c.doc IS NOT {DOCUMENT}
 OR c.added NOT BETWEEN c.seq AND coalesce((SELECT seq FROM search_state WHERE name = 'current'), 0)""",
    "search_index_is_complete": f"""SELECT 'version ' || v.seq FROM log v
 WHERE v.slot IS NOT NULL AND v.seq <= (SELECT seq FROM search_state WHERE name = 'current')
 AND (SELECT max(id) FROM branch) <= (SELECT branch FROM search_state WHERE name = 'current')
 AND v.slot NOT IN (SELECT w.slot FROM log w WHERE w.slot IS NOT NULL
 AND w.seq > (SELECT seq FROM search_state WHERE name = 'current'))
 AND (v.live AND {IS_SEEN}) <> EXISTS(SELECT 1 FROM search_current c WHERE c.slot = v.slot AND c.seq = v.seq)""",
    "vector_is_of_a_text": """SELECT 'vector of ' || e.doc FROM embedded e
 LEFT JOIN embedding g ON g.id = e.embedding LEFT JOIN log v ON v.seq = e.doc
 WHERE g.embedder IS NOT e.embedder OR v.slot IS NULL OR NOT v.live
 UNION ALL SELECT 'vector ' || g.id FROM embedding g LEFT JOIN embedder m ON m.id = g.embedder
 WHERE m.id IS NULL OR length(m.probes) % length(g.vector) <> 0 OR typeof(g.vector) <> 'blob' OR length(g.digest) <> 32
 UNION ALL SELECT 'embedder ' || m.id FROM embedder m WHERE typeof(m.probes) <> 'blob' OR length(m.probes) % 4 <> 0""",
}
_BESIDE = {
    f"{table}_matches_its_hash": f"""SELECT '{table} ' || {columns.partition(", ")[0]} FROM {table}
 WHERE hash IS NULL OR hash IS NOT amfs_row_hash({columns})"""
    for table, columns in HASHED.items()
}

PROBLEMS = {
    **_LOG, **_BESIDE, **_VERSIONS, **_BRANCHES, **_REVIEW, **_ACCESS, **_RUNS, **_BRIEFS, **_SEARCH,
    **CHECKPOINT_PROBLEMS,
}  # fmt: skip
"""Invariants: each statement returns a line for every violation. Hashes need ``HASH_FUNCTION``."""
