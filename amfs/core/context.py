"""What every core function receives first: the transaction, who acts, on which branch, in which run, and the clock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from amfs.errors import BranchClosedError, BranchNotFoundError
from amfs.models import ConflictPolicy, Evidence, OutcomeType, ReadEvents
from amfs.storage.base import NOBODY, SHARED, BranchRow, Reader, Slot, Storage, Transaction

if TYPE_CHECKING:
    from amfs.core.conflicts import Settlement
    from amfs.core.runs import Run

P = ParamSpec("P")
T = TypeVar("T")

Clock = Callable[[], int]
"""Returns the time as microseconds since 1970 UTC."""

OutcomePolicy = Callable[[Evidence, OutcomeType, float], Evidence]
"""Takes the evidence of a value, an outcome type and the causal confidence; returns the evidence afterwards."""

Resolver = Callable[..., Any]
"""``(existing, incoming, value) -> value``, or with the base last seen as a fourth argument."""

Seen = dict[tuple[int, Slot], "Sighting"]
"""What a handle last saw of a slot on a branch."""

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
    live_runs: Collection[Run]

    @property
    def owners(self) -> tuple[int, ...]:
        """Whose slots are visible, in the order in which they are looked at."""
        return (SHARED,) if self.agent_id == NOBODY else (self.agent_id, SHARED)

    @property
    def tracks(self) -> bool:
        """Whether what this handle sees must be remembered to notice later that it moved."""
        return self.settings.conflict_policy is ConflictPolicy.RAISE or self.settings.on_conflict is not None


@dataclass(slots=True)
class WriteContext(Context):
    """A transaction: enough to write. ``now`` and the seqs handed out never go back."""

    tx: Transaction  # pyright: ignore[reportIncompatibleVariableOverride] - narrower on purpose
    now: int
    seq: int
    run_row: int
    group: int | None = None
    settled: Mapping[Slot, Settlement] = field(default_factory=dict[Slot, "Settlement"])
    committed: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """What is done once the transaction is committed: what a handle remembers must not run ahead of the database."""

    def next_seq(self) -> int:
        """Return the position of the next row of the log."""
        self.seq += 1
        return self.seq


@dataclass(frozen=True, slots=True)
class Access:
    """How an operation reaches the database: it opens the transaction, makes the context, and calls the core."""

    storage: Storage
    context: Callable[[Reader, str | None], Context]
    branch: str | None

    def look(self, operation: Callable[Concatenate[Context, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation that reads with one statement."""
        with self.storage.reading() as tx:
            return operation(self.context(tx, self.branch), *args, **kwargs)

    def read(self, operation: Callable[Concatenate[Context, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation that reads one state with several statements."""
        with self.storage.snapshot() as tx:
            return operation(self.context(tx, self.branch), *args, **kwargs)

    def write(self, operation: Callable[Concatenate[WriteContext, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation that writes; all of it is committed, or nothing."""
        return self._commit(False, operation, *args, **kwargs)

    def record(self, operation: Callable[Concatenate[WriteContext, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation that adds events which a closed branch takes too."""
        return self._commit(True, operation, *args, **kwargs)

    def _commit(
        self, closed_ok: bool, operation: Callable[Concatenate[WriteContext, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with self.storage.writing() as tx:
            context = begin(self.context(tx, self.branch), tx, closed_ok=closed_ok)
            result = operation(context, *args, **kwargs)
        for action in context.committed:
            action()
        return result


def find_branch(tx: Reader, namespace: int, name: str) -> BranchRow:
    """Return a branch by name, or raise BranchNotFoundError."""
    row = tx.branch(namespace, name)
    if row is None:
        known = ", ".join(sorted(branch.name for branch, _ in tx.branches(namespace))[:10])
        raise BranchNotFoundError(f"no branch {name!r}; there are: {known}. Create it with create_branch({name!r})")
    return row


def begin(context: Context, tx: Transaction, *, closed_ok: bool = False) -> WriteContext:
    """Turn a view into a transaction: take a place in the log, check that the branch is open, register agent and run.

    ``closed_ok`` is for events that may stand on a closed branch (reads of it, closing it).
    """
    position = tx.position(context.branch.id)
    if not position.is_open and not closed_ok:
        raise closed(context.branch)
    agent_id = context.agent_id
    if agent_id == NOBODY:
        agent_id = tx.add_agent(context.agent, context.namespace)
    return WriteContext(
        tx=tx,
        namespace=context.namespace,
        agent=context.agent,
        agent_id=agent_id,
        branch=context.branch,
        run=context.run,
        clock=context.clock,
        settings=context.settings,
        seen=context.seen,
        live_runs=context.live_runs,
        now=max(context.clock(), position.ts + 1),
        seq=position.seq,
        run_row=context.run.row(tx, context.namespace),
    )


def closed(branch: BranchRow) -> BranchClosedError:
    """Return the error of writing a closed branch."""
    return BranchClosedError(f"branch {branch.name!r} is closed: it can be read, not written")


def instant(microseconds: int) -> datetime:
    """Return a stored instant as an aware datetime."""
    return _EPOCH + timedelta(microseconds=microseconds)


def microseconds(when: datetime) -> int:
    """Return an aware datetime as a stored instant."""
    return (when - _EPOCH) // timedelta(microseconds=1)
