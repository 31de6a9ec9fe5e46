"""Every error AMFS raises, in one tree.

::

    AMFSError                                code
    ├── InvalidInputError (ValueError)       invalid_input
    │   ├── InvalidNameError                 invalid_name
    │   ├── InvalidValueError                invalid_value
    │   ├── InvalidFilterError               invalid_filter
    │   ├── InvalidExportError               invalid_export
    │   ├── BeforeHistoryError               before_history
    │   └── TagOffLineageError               tag_off_lineage
    ├── NotFoundError (LookupError)          not_found
    │   ├── BranchNotFoundError              branch_not_found
    │   ├── EntryNotFoundError               entry_not_found
    │   ├── OutcomeNotFoundError             outcome_not_found
    │   ├── RunNotFoundError                 run_not_found
    │   ├── TagNotFoundError                 tag_not_found
    │   ├── PullRequestNotFoundError         pull_request_not_found
    │   ├── ConflictNotFoundError            conflict_not_found
    │   ├── GrantNotFoundError               grant_not_found
    │   ├── CheckpointNotFoundError          checkpoint_not_found
    │   └── ApiKeyNotFoundError              api_key_not_found
    ├── AmbiguousKeyError                    ambiguous_key
    ├── AccessError                          access
    │   ├── AccessDeniedError                access_denied
    │   └── InvalidApiKeyError               invalid_api_key
    ├── ConflictError                        conflict
    │   ├── StaleWriteError                  stale_write
    │   ├── ContentionError                  contention
    │   ├── IdempotencyError                 idempotency
    │   ├── MergeConflictError               merge_conflict
    │   ├── FastForwardRefusedError          fast_forward_refused
    │   ├── RollbackTouchesOthersError       rollback_touches_others
    │   ├── ConflictResolvedError            conflict_resolved
    │   ├── TagExistsError                   tag_exists
    │   ├── AgentExistsError                 agent_exists
    │   ├── ThreadExistsError                thread_exists
    │   └── NamespaceNotEmptyError           namespace_not_empty
    ├── PullRequestError                     pull_request
    │   ├── PullRequestExistsError           pull_request_exists
    │   ├── PullRequestEndedError            pull_request_ended
    │   └── PullRequestBlockedError          pull_request_blocked
    ├── BranchError                          branch
    │   ├── BranchExistsError                branch_exists
    │   ├── BranchClosedError                branch_closed
    │   └── BranchDepthError                 branch_depth
    ├── EmbeddingError                       embedding
    ├── WriterError                          writer
    ├── UsageError (RuntimeError)            usage
    │   ├── HandleClosedError                handle_closed
    │   ├── ExperimentContextLostError       experiment_context_lost
    │   └── NotSupportedError                not_supported
    └── DatabaseError                        database
        ├── CannotOpenDatabaseError          cannot_open_database
        ├── NotADatabaseError                not_a_database
        ├── NewerSchemaError                 newer_schema
        ├── ReadOnlyDatabaseError            read_only_database
        ├── DatabaseFullError                database_full
        ├── DatabaseBusyError                database_busy
        └── CorruptDatabaseError             corrupt_database

Whatever is raised, nothing of the failed call was written and the database stays usable. ``code`` never changes
between releases; match on it (or on the class), not on the message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from amfs.models import MergeResult, RollbackResult

__all__ = [
    "AMFSError",
    "AccessDeniedError",
    "AccessError",
    "AgentExistsError",
    "AmbiguousKeyError",
    "ApiKeyNotFoundError",
    "BeforeHistoryError",
    "BranchClosedError",
    "BranchDepthError",
    "BranchError",
    "BranchExistsError",
    "BranchNotFoundError",
    "CannotOpenDatabaseError",
    "CheckpointNotFoundError",
    "ConflictError",
    "ConflictNotFoundError",
    "ConflictResolvedError",
    "ContentionError",
    "CorruptDatabaseError",
    "DatabaseBusyError",
    "DatabaseError",
    "DatabaseFullError",
    "EmbeddingError",
    "EntryNotFoundError",
    "ExperimentContextLostError",
    "FastForwardRefusedError",
    "GrantNotFoundError",
    "HandleClosedError",
    "IdempotencyError",
    "InvalidApiKeyError",
    "InvalidExportError",
    "InvalidFilterError",
    "InvalidInputError",
    "InvalidNameError",
    "InvalidValueError",
    "MergeConflictError",
    "NamespaceNotEmptyError",
    "NewerSchemaError",
    "NotADatabaseError",
    "NotFoundError",
    "NotSupportedError",
    "OutcomeNotFoundError",
    "PullRequestBlockedError",
    "PullRequestEndedError",
    "PullRequestError",
    "PullRequestExistsError",
    "PullRequestNotFoundError",
    "ReadOnlyDatabaseError",
    "RollbackTouchesOthersError",
    "RunNotFoundError",
    "StaleWriteError",
    "TagExistsError",
    "TagNotFoundError",
    "TagOffLineageError",
    "ThreadExistsError",
    "UsageError",
    "WriterError",
]


class AMFSError(Exception):
    """Base of every error AMFS raises on purpose."""

    code: ClassVar[str] = "amfs"


class InvalidInputError(AMFSError, ValueError):
    """An argument was refused before anything was written."""

    code = "invalid_input"


class InvalidNameError(InvalidInputError):
    """An agent id, entity path, key, branch or other name is empty, too long or not storable."""

    code = "invalid_name"


class InvalidValueError(InvalidInputError):
    """A value is not plain JSON within the limits (types, NaN, depth, size, integer range)."""

    code = "invalid_value"


class InvalidFilterError(InvalidInputError):
    """A filter uses an unknown operator or an operand of the wrong shape."""

    code = "invalid_filter"


class InvalidExportError(InvalidInputError):
    """A file is no export of a namespace, or is damaged; nothing was imported."""

    code = "invalid_export"


class BeforeHistoryError(InvalidInputError):
    """A time before the first event of the branch; nothing was there to go back to."""

    code = "before_history"


class TagOffLineageError(InvalidInputError):
    """The tag pins a view that the branch does not descend from; name the branch it was made on."""

    code = "tag_off_lineage"


class NotFoundError(AMFSError, LookupError):
    """Something named in the call does not exist."""

    code = "not_found"


class BranchNotFoundError(NotFoundError):
    """No branch of that name exists in the namespace."""

    code = "branch_not_found"


class EntryNotFoundError(NotFoundError):
    """No entry of that path and key is visible where one is required."""

    code = "entry_not_found"


class OutcomeNotFoundError(NotFoundError):
    """No outcome of that reference was committed in the namespace."""

    code = "outcome_not_found"


class RunNotFoundError(NotFoundError):
    """No run of that id was recorded in the namespace."""

    code = "run_not_found"


class TagNotFoundError(NotFoundError):
    """No tag of that name exists in the namespace."""

    code = "tag_not_found"


class PullRequestNotFoundError(NotFoundError):
    """No pull request of that id exists in the namespace."""

    code = "pull_request_not_found"


class ConflictNotFoundError(NotFoundError):
    """No stored conflict of that id exists in the namespace."""

    code = "conflict_not_found"


class GrantNotFoundError(NotFoundError):
    """There is no such grant on the branch."""

    code = "grant_not_found"


class CheckpointNotFoundError(NotFoundError):
    """There is no such checkpoint, or the thread has none."""

    code = "checkpoint_not_found"


class ApiKeyNotFoundError(NotFoundError):
    """No API key of that id exists in the namespace."""

    code = "api_key_not_found"


class AmbiguousKeyError(AMFSError):
    """A key given as one "path/key" string matches two entries; pass a ``(path, key)`` pair instead."""

    code = "ambiguous_key"


class AccessError(AMFSError):
    """The principal may not do that."""

    code = "access"


class AccessDeniedError(AccessError):
    """The principal has no access, whether or not what it asked for exists."""

    code = "access_denied"


class InvalidApiKeyError(AccessError):
    """An API key is mistyped, unknown, revoked or expired, or may not act as this agent or in this namespace."""

    code = "invalid_api_key"


class ConflictError(AMFSError):
    """The call met a change made by someone else."""

    code = "conflict"


class StaleWriteError(ConflictError):
    """The entry moved since it was last seen, or is not at the expected version.

    ``expected`` and ``actual`` are version numbers; 0 means that the entry is absent.
    """

    code = "stale_write"

    def __init__(self, message: str, *, expected: int, actual: int) -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual


class ContentionError(ConflictError):
    """A compare-and-set lost ten races in a row; try again when fewer writers are busy with the key."""

    code = "contention"


class IdempotencyError(ConflictError):
    """An idempotency key was used before for a different write."""

    code = "idempotency"


class MergeConflictError(ConflictError):
    """Both sides changed the same thing; nothing was applied. ``result`` holds the conflicts."""

    code = "merge_conflict"

    def __init__(self, message: str, result: MergeResult) -> None:
        super().__init__(message)
        self.result = result


class FastForwardRefusedError(ConflictError):
    """The target has changes of its own since the base; nothing was applied. ``result`` says which base."""

    code = "fast_forward_refused"

    def __init__(self, message: str, result: MergeResult) -> None:
        super().__init__(message)
        self.result = result


class RollbackTouchesOthersError(ConflictError):
    """Other agents wrote since; nothing was rolled back. ``others`` says who, and how many entries each."""

    code = "rollback_touches_others"

    def __init__(self, message: str, result: RollbackResult) -> None:
        super().__init__(message)
        self.result = result

    @property
    def others(self) -> dict[str, int]:
        """The agents that wrote since, and how many entries each."""
        return self.result.others


class ConflictResolvedError(ConflictError):
    """The stored conflict was resolved already, or its merge was done in another way."""

    code = "conflict_resolved"


class TagExistsError(ConflictError):
    """A tag of that name exists already."""

    code = "tag_exists"


class AgentExistsError(ConflictError):
    """An agent of that name has acted already, so nothing can be forked onto it."""

    code = "agent_exists"


class ThreadExistsError(ConflictError):
    """A thread was to be copied or forked into one that has checkpoints already."""

    code = "thread_exists"


class NamespaceNotEmptyError(ConflictError):
    """A namespace can be imported only where there is nothing yet."""

    code = "namespace_not_empty"


class PullRequestError(AMFSError):
    """The pull request cannot be used in this way."""

    code = "pull_request"


class PullRequestExistsError(PullRequestError):
    """A pull request for these branches is open already."""

    code = "pull_request_exists"


class PullRequestEndedError(PullRequestError):
    """The pull request was merged or closed."""

    code = "pull_request_ended"


class PullRequestBlockedError(PullRequestError):
    """A reviewer requested changes and has not approved since; nothing was merged."""

    code = "pull_request_blocked"


class BranchError(AMFSError):
    """The branch cannot be used in this way."""

    code = "branch"


class BranchExistsError(BranchError):
    """A branch of that name exists already."""

    code = "branch_exists"


class BranchClosedError(BranchError):
    """The branch is closed: it can be read, not written."""

    code = "branch_closed"


class BranchDepthError(BranchError):
    """A branch would have more than 64 ancestors; create it from a branch nearer to main."""

    code = "branch_depth"


class EmbeddingError(AMFSError):
    """The embedder failed, or returned what are no vectors; what it made before is kept, and memory is untouched."""

    code = "embedding"


class WriterError(AMFSError):
    """The writer of a brief failed, or returned no text that can be stored; nothing was. ``__cause__`` is its error."""

    code = "writer"


class UsageError(AMFSError, RuntimeError):
    """The call is not possible in this state of the handle."""

    code = "usage"


class HandleClosedError(UsageError):
    """The handle was closed; open a new AgentMemory."""

    code = "handle_closed"


class ExperimentContextLostError(UsageError):
    """A handle with an open experiment was used from a context that did not inherit it.

    Use ``exp.memory`` (pinned to the experiment's branch), wrap the function in ``exp.bind(fn)``, or say ``branch=``.
    """

    code = "experiment_context_lost"


class NotSupportedError(UsageError):
    """This version does not offer that; nothing was done."""

    code = "not_supported"


class DatabaseError(AMFSError):
    """The database file could not be used; the message says why, ``__cause__`` is the driver's error."""

    code = "database"


class CannotOpenDatabaseError(DatabaseError):
    """The file cannot be opened: a directory, a missing file or folder, or no permission."""

    code = "cannot_open_database"


class NotADatabaseError(DatabaseError):
    """The file is no SQLite database, or one that another program made. It was not touched."""

    code = "not_a_database"


class NewerSchemaError(DatabaseError):
    """A newer version of AMFS wrote the file; upgrade AMFS. It was not touched."""

    code = "newer_schema"


class ReadOnlyDatabaseError(DatabaseError):
    """The database can be read, not written."""

    code = "read_only_database"


class DatabaseFullError(DatabaseError):
    """The disk is full or a size limit was reached; the write was rolled back, earlier ones are safe."""

    code = "database_full"


class DatabaseBusyError(DatabaseError):
    """Another program held the database locked for longer than the time limit."""

    code = "database_busy"


class CorruptDatabaseError(DatabaseError):
    """The file is damaged; restore a backup, and run ``verify()`` to see what is hit."""

    code = "corrupt_database"
