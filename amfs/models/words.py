"""The words with a fixed choice of values: plain strings are accepted wherever one is expected."""

from __future__ import annotations

from enum import StrEnum


class MemoryType(StrEnum):
    """What kind of thing an entry is. ``message`` is chat history: left out of lists and timelines unless asked for."""

    FACT = "fact"
    BELIEF = "belief"
    EXPERIENCE = "experience"
    PROCEDURE = "procedure"
    MESSAGE = "message"


class EventType(StrEnum):
    """What can happen on a timeline."""

    WRITE = "write"
    DELETE = "delete"
    OUTCOME = "outcome"
    CROSS_AGENT_READ = "cross_agent_read"
    BRIEF_COMPILED = "brief_compiled"
    WEBHOOK_INGESTED = "webhook_ingested"
    BRANCH_CREATED = "branch_created"
    BRANCH_MERGED = "branch_merged"
    BRANCH_CLOSED = "branch_closed"
    ACCESS_GRANTED = "access_granted"
    ACCESS_REVOKED = "access_revoked"
    TAG_CREATED = "tag_created"
    TAG_DELETED = "tag_deleted"
    ROLLBACK = "rollback"
    CHERRY_PICK = "cherry_pick"
    FORK = "fork"
    READ = "read"
    PULL_REQUEST_OPENED = "pull_request_opened"
    PULL_REQUEST_REVIEWED = "pull_request_reviewed"
    PULL_REQUEST_MERGED = "pull_request_merged"
    PULL_REQUEST_CLOSED = "pull_request_closed"
    CONFLICT_RESOLVED = "conflict_resolved"
    CONTEXT = "context"


class OutcomeType(StrEnum):
    """How using memory ended."""

    SUCCESS = "success"
    MINOR_FAILURE = "minor_failure"
    FAILURE = "failure"
    CRITICAL_FAILURE = "critical_failure"


class ConflictPolicy(StrEnum):
    """What happens when two agents write one key at once."""

    LAST_WRITE_WINS = "last_write_wins"
    RAISE = "raise"


class MergeStrategy(StrEnum):
    """How a merge treats what both sides changed."""

    FAST_FORWARD = "fast_forward"
    THREE_WAY = "three_way"
    SOURCE_WINS = "source_wins"
    TARGET_WINS = "target_wins"
    MANUAL = "manual"
    THEIRS = "source_wins"
    OURS = "target_wins"
    BRANCH_WINS = "source_wins"
    MAIN_WINS = "target_wins"

    @classmethod
    def _missing_(cls, value: object) -> MergeStrategy | None:
        aliases = {"theirs": "source_wins", "ours": "target_wins"}
        aliases |= {"branch_wins": "source_wins", "main_wins": "target_wins"}
        return cls(aliases[value]) if isinstance(value, str) and value in aliases else None


class MergeStatus(StrEnum):
    """What a merge did, or would do."""

    FAST_FORWARD = "fast_forward"
    MERGED = "merged"
    UP_TO_DATE = "up_to_date"
    CONFLICTS = "conflicts"
    REFUSED = "refused"


class BranchStatus(StrEnum):
    """Whether a branch can be written. A merged branch stays open."""

    OPEN = "open"
    CLOSED = "closed"


class DiffType(StrEnum):
    """What the source did to an entry since the base."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"


class ExperimentStatus(StrEnum):
    """Where an experiment stands."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    MERGED = "merged"
    DISCARDED = "discarded"


class Durability(StrEnum):
    """What an acknowledged write survives: ``full`` also survives power loss, ``normal`` the death of the process."""

    FULL = "full"
    NORMAL = "normal"


class ReadEvents(StrEnum):
    """When cross-agent reads are recorded: before the value is returned, together with the next write, or never."""

    SYNC = "sync"
    BATCHED = "batched"
    OFF = "off"


class Side(StrEnum):
    """Whose state settles a conflict."""

    BASE = "base"
    SOURCE = "source"
    TARGET = "target"


class ConflictStatus(StrEnum):
    """Where a stored conflict stands: ``obsolete`` when its merge was done in another way, or a branch closed."""

    OPEN = "open"
    RESOLVED = "resolved"
    OBSOLETE = "obsolete"


class PullRequestStatus(StrEnum):
    """Where a pull request stands."""

    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


class ReviewVerdict(StrEnum):
    """What a reviewer says. A comment leaves what the same reviewer said before standing."""

    APPROVED = "approved"
    CHANGES_REQUESTED = "changes_requested"
    COMMENTED = "commented"


class GranteeType(StrEnum):
    """Who is granted access to a branch."""

    USER = "user"
    TEAM = "team"
    API_KEY = "api_key"


class Permission(StrEnum):
    """What a grant allows on a branch."""

    READ = "read"
    READ_WRITE = "read_write"


class Role(StrEnum):
    """What a principal may do on main; an admin needs no grants anywhere."""

    READER = "reader"
    WRITER = "writer"
    ADMIN = "admin"


class Tokenizer(StrEnum):
    """How search takes texts apart.

    ``english`` finds a word in its other forms, too (retry, retries, retrying); ``plain`` finds words as they are, in
    any language that separates them; ``trigram`` finds parts of words, for languages that do not.
    """

    ENGLISH = "english"
    PLAIN = "plain"
    TRIGRAM = "trigram"
