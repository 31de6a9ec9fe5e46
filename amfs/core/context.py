"""What every core function receives first: the transaction, who acts, on which branch, in which run, and the clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from amfs.errors import AccessDeniedError, BranchClosedError
from amfs.models import ConflictPolicy, Evidence, OutcomeType, Permission, ReadEvents, Role
from amfs.storage.base import Reader, Storage, Transaction
from amfs.storage.rows import NOBODY, SHARED, BranchRow, Slot, VersionRow

if TYPE_CHECKING:
    from amfs.core.conflicts import Settlement
    from amfs.core.runs import LiveRuns, Run

P = ParamSpec("P")
T = TypeVar("T")

Clock = Callable[[], int]
"""Returns the time as microseconds since 1970 UTC."""

OutcomePolicy = Callable[[Evidence, OutcomeType, float], Evidence]
"""Takes the evidence of a value, an outcome type and the causal confidence; returns the evidence afterwards."""

Resolver = Callable[..., Any]
"""Takes ``(existing, incoming, value)``, or also the base last seen, and returns the value to write."""

Seen = dict[tuple[int, Slot], "Sighting"]
"""What a handle last saw of a slot on a branch."""

MAIN = "main"
"""The branch that always exists; what a principal may do there follows its role."""

HIDDEN = "(hidden)"
"""Stands for the name of a branch that the principal may not read."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Sighting(NamedTuple):
    """The version last seen and the version that owns its value; zeros where the entry was absent."""

    seq: int
    value_seq: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What a handle was opened with."""

    conflict_policy: ConflictPolicy
    on_conflict: Resolver | None
    outcome_policy: OutcomePolicy
    read_events: ReadEvents
    max_value_bytes: int
    tracks: bool
    """Whether what the handle sees must be remembered to notice later that it moved."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What a principal may do in a namespace: by its role on main, by grants on other branches."""

    role: Role | None
    granted: Mapping[int, Permission]
    grantees: tuple[tuple[str, str], ...]

    def allow(self, name: str, row: BranchRow | None, wanted: Permission) -> bool:
        """Return whether a branch may be used; what does not exist may be used by admins only."""
        if self.role is Role.ADMIN:
            return True
        if name == MAIN:
            return self.role is Role.WRITER or (self.role is Role.READER and wanted is Permission.READ)
        held = None if row is None else self.granted.get(row.id)
        return held is Permission.READ_WRITE or (held is Permission.READ and wanted is Permission.READ)


OWNER = Rights(Role.ADMIN, {}, ())
"""The rights of whoever holds the database and names no principal."""


@dataclass(slots=True)
class Context:
    """A view of memory: enough to read."""

    tx: Reader
    namespace: int
    agent: str
    agent_id: int
    branch: BranchRow
    run: Run
    clock: Clock
    settings: Settings
    seen: Seen
    live_runs: LiveRuns
    rights: Rights

    def may_read(self, branch: BranchRow) -> bool:
        """Return whether the principal may read a branch."""
        return self.rights.allow(branch.name, branch, Permission.READ)

    @property
    def reads_everything(self) -> bool:
        """Whether no branch is hidden from the principal."""
        return self.rights.role is Role.ADMIN

    def readable(self) -> list[int] | None:
        """Return the ids of the branches that the principal may read, None for all."""
        if self.reads_everything:
            return None
        return [row.id for row, _ in self.tx.branches(self.namespace) if self.may_read(row)]

    def shows(self, version: VersionRow) -> bool:
        """Return whether a version may be shown: on a branch that the principal may read, or inherited by one."""
        if self.reads_everything or self.may_read(self.tx.branch_by_id(version.branch)):
            return True
        lineages = (self.tx.lineage(branch) for branch in self.readable() or ())
        return any(
            part.branch == version.branch and version.seq <= part.upper for lineage in lineages for part in lineage
        )

    def name_of(self, branch: int) -> str:
        """Return the name of a branch by its id, as the principal may know it: that main exists is no secret."""
        row = self.tx.branch_by_id(branch)
        return row.name if row.name == MAIN or self.may_read(row) else HIDDEN

    def require_admin(self, what: str) -> None:
        """Refuse what only the owner and admins may do."""
        if self.rights.role is not Role.ADMIN:
            raise AccessDeniedError(f"only the owner of the database and admins may {what}")

    @property
    def owners(self) -> tuple[int, ...]:
        """Whose slots are visible, in the order in which they are looked at."""
        return (SHARED,) if self.agent_id == NOBODY else (self.agent_id, SHARED)

    def time(self) -> int:
        """Return the instant that decides what has expired: the clock's, unless that went back."""
        return max(self.clock(), self.tx.last_ts())


@dataclass(slots=True)
class WriteContext(Context):
    """A transaction: enough to write. ``now`` and the seqs handed out never go back."""

    tx: Transaction  # pyright: ignore[reportIncompatibleVariableOverride] - narrower on purpose
    now: int
    seq: int
    run_row: int
    group: int | None = None
    settled: Mapping[Slot, Settlement] | None = None
    endings: list[Callable[[bool], None]] | None = None

    def next_seq(self) -> int:
        """Return the position of the next row of the log."""
        self.seq += 1
        return self.seq

    def settling(self, settled: Mapping[Slot, Settlement]) -> WriteContext:
        """Return this context with what resolvers chose."""
        self.settled = settled
        return self

    def at_end(self, action: Callable[[bool], None]) -> None:
        """Call something with whether the transaction was committed: a handle must not remember what was undone."""
        if self.endings is None:
            self.endings = []
        self.endings.append(action)

    def time(self) -> int:
        """Return the instant that decides what has expired."""
        return self.now


class Access(NamedTuple):
    """How an operation reaches the database: it opens the transaction, makes the context, and calls the core."""

    storage: Storage
    context: Callable[[Reader, str | None, Permission | None], Context]
    branch: str | None
    is_free: bool = False
    """Whether no permission on the branch is needed: the operation is about the namespace, and looks for itself."""

    def read(self, operation: Callable[Concatenate[Context, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation that reads one state with several statements."""
        with self.storage.snapshot() as tx:
            return operation(self._begin(tx, Permission.READ), *args, **kwargs)

    def write(self, operation: Callable[Concatenate[WriteContext, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation that writes; all of it is committed, or nothing."""
        return self._commit(Permission.READ_WRITE, False, operation, *args, **kwargs)

    def amend(self, operation: Callable[Concatenate[WriteContext, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation that changes what is known about a branch, open or closed: a tag, a grant, a verdict."""
        return self._commit(Permission.READ_WRITE, True, operation, *args, **kwargs)

    def record(self, operation: Callable[Concatenate[WriteContext, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation that adds events which a closed branch takes too, from whoever may read it."""
        return self._commit(Permission.READ, True, operation, *args, **kwargs)

    def elsewhere(self, branch: str) -> Access:
        """Return access to another branch, as the principal has it."""
        return self._replace(branch=branch, is_free=False)

    def free(self) -> Access:
        """Return this access for what is about the whole namespace: the operation looks at the rights by itself."""
        return self._replace(is_free=True)

    def _begin(self, tx: Reader, wanted: Permission) -> Context:
        return self.context(tx, self.branch, None if self.is_free else wanted)

    def _commit(
        self,
        wanted: Permission,
        closed_ok: bool,
        operation: Callable[Concatenate[WriteContext, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        context: WriteContext | None = None
        committed = False
        try:
            with self.storage.writing() as tx:
                context = begin(self._begin(tx, wanted), tx, closed_ok=closed_ok)
                context.run.flush(context)
                result = operation(context, *args, **kwargs)
            committed = True
        finally:
            for action in context.endings if context is not None and context.endings else ():
                action(committed)
        return result


def begin(context: Context, tx: Transaction, *, closed_ok: bool = False) -> WriteContext:
    """Turn a view into a transaction: take a place in the log, check that the branch is open, register agent and run.

    ``closed_ok`` is for what a closed branch takes too: that it was read, branched from, or how its experiment ended.
    """
    position = tx.position(context.branch.id)
    if not position.is_open and not closed_ok:
        raise closed(context.branch)
    agent_id = context.agent_id
    if agent_id == NOBODY:
        agent_id = tx.add_agent(context.agent, context.namespace)
    return WriteContext(
        tx,
        context.namespace,
        context.agent,
        agent_id,
        context.branch,
        context.run,
        context.clock,
        context.settings,
        context.seen,
        context.live_runs,
        context.rights,
        now=max(context.clock(), position.ts + 1),
        seq=position.seq,
        run_row=context.run.row(tx, context.namespace),
    )


def closed(branch: BranchRow) -> BranchClosedError:
    """Return the error of writing a closed branch."""
    return BranchClosedError(f"branch {branch.name!r} is closed: it can be read, not written")


def instant(microseconds: int) -> datetime:
    """Return a stored instant as an aware datetime."""
    return _EPOCH + timedelta(0, 0, microseconds)


def microseconds(when: datetime) -> int:
    """Return an aware datetime as a stored instant."""
    return (when - _EPOCH) // timedelta(microseconds=1)
