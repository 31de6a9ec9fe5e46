"""Every error AMFS raises, in one tree.

::

    AMFSError                                code
    ├── InvalidInputError (ValueError)       invalid_input
    │   ├── InvalidNameError                 invalid_name
    │   ├── InvalidValueError                invalid_value
    │   └── InvalidFilterError               invalid_filter
    ├── NotFoundError (LookupError)          not_found
    │   ├── BranchNotFoundError              branch_not_found
    │   ├── EntryNotFoundError               entry_not_found
    │   ├── OutcomeNotFoundError             outcome_not_found
    │   └── RunNotFoundError                 run_not_found
    ├── AmbiguousKeyError                    ambiguous_key
    ├── ConflictError                        conflict
    │   ├── StaleWriteError                  stale_write
    │   ├── ContentionError                  contention
    │   ├── IdempotencyError                 idempotency
    │   ├── MergeConflictError               merge_conflict
    │   └── FastForwardRefusedError          fast_forward_refused
    ├── BranchError                          branch
    │   ├── BranchExistsError                branch_exists
    │   ├── BranchClosedError                branch_closed
    │   └── BranchDepthError                 branch_depth
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
    from amfs.models import MergeResult

__all__ = [
    "AMFSError",
    "AmbiguousKeyError",
    "BranchClosedError",
    "BranchDepthError",
    "BranchError",
    "BranchExistsError",
    "BranchNotFoundError",
    "CannotOpenDatabaseError",
    "ConflictError",
    "ContentionError",
    "CorruptDatabaseError",
    "DatabaseBusyError",
    "DatabaseError",
    "DatabaseFullError",
    "EntryNotFoundError",
    "ExperimentContextLostError",
    "FastForwardRefusedError",
    "HandleClosedError",
    "IdempotencyError",
    "InvalidFilterError",
    "InvalidInputError",
    "InvalidNameError",
    "InvalidValueError",
    "MergeConflictError",
    "NewerSchemaError",
    "NotADatabaseError",
    "NotFoundError",
    "NotSupportedError",
    "OutcomeNotFoundError",
    "ReadOnlyDatabaseError",
    "RunNotFoundError",
    "StaleWriteError",
    "UsageError",
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


class AmbiguousKeyError(AMFSError):
    """A key given as one "path/key" string matches two entries; pass a ``(path, key)`` pair instead."""

    code = "ambiguous_key"


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
