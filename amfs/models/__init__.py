"""What users hold: entries, events, branches, changes and results, as frozen pydantic models.

Every model prints readably (``str``), shows well in a notebook (``amfs.display``) and dumps to JSON
(``model_dump(mode="json")``). Enums are ``StrEnum``s: plain strings are accepted wherever one is expected.
"""

from pydantic import JsonValue

from amfs.models.access import (
    ApiKey,
    CreatedApiKey,
    Grant,
)
from amfs.models.base import (
    Page,
)
from amfs.models.briefs import (
    Brief,
    BriefOutcome,
)
from amfs.models.changes import (
    KEEP_CONFLICT,
    Change,
    Conflict,
    FieldChange,
    MergeResult,
    RollbackResult,
)
from amfs.models.entries import (
    Branch,
    Entry,
    Event,
    PathInfo,
)
from amfs.models.insight import (
    Blame,
    Origin,
    Problem,
    Stats,
    VerifyReport,
)
from amfs.models.operations import (
    Delete,
    Find,
    Get,
    ListPaths,
    Operation,
    Put,
    Renew,
)
from amfs.models.review import (
    PullRequest,
    Review,
    Tag,
)
from amfs.models.runs import (
    Cause,
    Evidence,
    ExperimentRecord,
    Explanation,
    Outcome,
)
from amfs.models.search import SearchHit, SearchWeights
from amfs.models.words import (
    BranchStatus,
    ConflictPolicy,
    ConflictStatus,
    DiffType,
    Durability,
    EventType,
    ExperimentStatus,
    GranteeType,
    MemoryType,
    MergeStatus,
    MergeStrategy,
    OutcomeType,
    Permission,
    PullRequestStatus,
    ReadEvents,
    ReviewVerdict,
    Role,
    Side,
    Tokenizer,
)

__all__ = [
    "KEEP_CONFLICT",
    "ApiKey",
    "Blame",
    "Branch",
    "BranchStatus",
    "Brief",
    "BriefOutcome",
    "Cause",
    "Change",
    "Conflict",
    "ConflictPolicy",
    "ConflictStatus",
    "CreatedApiKey",
    "Delete",
    "DiffType",
    "Durability",
    "Entry",
    "Event",
    "EventType",
    "Evidence",
    "ExperimentRecord",
    "ExperimentStatus",
    "Explanation",
    "FieldChange",
    "Find",
    "Get",
    "Grant",
    "GranteeType",
    "JsonValue",
    "ListPaths",
    "MemoryType",
    "MergeResult",
    "MergeStatus",
    "MergeStrategy",
    "Operation",
    "Origin",
    "Outcome",
    "OutcomeType",
    "Page",
    "PathInfo",
    "Permission",
    "Problem",
    "PullRequest",
    "PullRequestStatus",
    "Put",
    "ReadEvents",
    "Renew",
    "Review",
    "ReviewVerdict",
    "Role",
    "RollbackResult",
    "SearchHit",
    "SearchWeights",
    "Side",
    "Stats",
    "Tag",
    "Tokenizer",
    "VerifyReport",
]
