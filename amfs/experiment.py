"""Experiments: runs on a branch of their own, with parameters, metrics and a verdict, and how they compare."""

from __future__ import annotations

import functools
import inspect
import secrets
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Self, TypeVar, cast

from amfs import display
from amfs.core import experiments, validation
from amfs.core.runs import Scope
from amfs.errors import AMFSError, InvalidInputError, NotFoundError, UsageError
from amfs.models import Change, ExperimentRecord, ExperimentStatus, MergeResult, MergeStrategy, Page, PullRequest

if TYPE_CHECKING:
    from types import TracebackType

    from amfs.core.context import Access
    from amfs.memory import AgentMemory

__all__ = ["Comparison", "Experiment", "routed_branch"]

P = ParamSpec("P")
T = TypeVar("T")

_routes: ContextVar[Mapping[Scope, str]] = ContextVar("amfs_experiments", default={})  # noqa: B039 - never changed


def routed_branch(scope: Scope) -> str | None:
    """Return the branch of the experiment this context is in, for a database and namespace."""
    routes = _routes.get()
    return routes.get(scope) if routes else None


class Hooks(NamedTuple):
    """What an experiment needs of the handle it runs on."""

    access: Callable[[str | None], Access]
    scope: Scope
    open_experiments: list[Experiment]


class Experiment:
    """A run or several on a branch of their own; use it in a ``with`` (or ``async with``) statement.

    On entering, the branch ``experiment/<name>`` is created. Inside, every handle and integration on the database and
    namespace works on it, threads and tasks that copy the context included; ``memory`` is pinned to it for anything
    else. On leaving, the branch stays: ``diff()``, ``merge()`` or ``discard()`` it. An exception marks the experiment
    failed, keeps the branch, and goes on.
    """

    def __init__(
        self,
        memory: AgentMemory,
        hooks: Hooks,
        name: str | None,
        params: Mapping[str, Any],
        source: str | None,
    ) -> None:
        wanted = f"exp-{secrets.token_hex(3)}" if name is None else name
        validation.branch_name(f"{experiments.PREFIX}{validation.name('experiment', wanted)}")
        self.name = wanted
        self.params = dict(params)
        self._handle = memory
        self._hooks = hooks
        self._source = source
        self._branch: str | None = None
        self._outer: list[Mapping[Scope, str]] = []

    # --- inside the block ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        self.route()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unroute()
        self.finish(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def start(self) -> None:
        """Create the branch and the record; called on entering."""
        if self._branch is not None:
            raise UsageError(f"experiment {self.name!r} was run already; call mem.experiment() for another")
        record = self._hooks.access(self._source).record(experiments.start, self.name, self.params)
        self.name, self._branch = record.name, record.branch

    def route(self) -> None:
        """Make this context follow the experiment; called on entering."""
        outer = _routes.get()
        self._outer.append(outer)
        _routes.set({**outer, self._hooks.scope: self.branch})
        self._hooks.open_experiments.append(self)

    def unroute(self) -> None:
        """Make this context follow what it followed before; called on leaving."""
        self._hooks.open_experiments.remove(self)
        _routes.set(self._outer.pop())

    def finish(self, error: BaseException | None) -> None:
        """Record how the block ended; called on leaving."""
        if error is None:
            self._record(experiments.finish, ExperimentStatus.FINISHED, None)
            return
        text = f"{type(error).__name__}: {error}".encode(errors="replace").decode()
        try:
            self._record(experiments.finish, ExperimentStatus.FAILED, text)
        except AMFSError as failed:  # the user's exception is the one that matters
            error.add_note(f"and the experiment could not be marked failed: {failed}")

    def log(self, **metrics: Any) -> None:
        """Add metrics; one logged again is replaced."""
        self._record(experiments.log, validation.metadata(metrics))

    def bind(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return a function that runs inside the experiment wherever it is called, such as in a plain thread.

        A coroutine function stays one: what it awaits runs inside the experiment too.
        """

        @functools.wraps(function)
        def bound(*args: P.args, **kwargs: P.kwargs) -> T:
            with self._routed():
                return function(*args, **kwargs)

        @functools.wraps(function)
        async def bound_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
            with self._routed():
                return await cast("Awaitable[Any]", function(*args, **kwargs))

        return cast("Callable[P, T]", bound_coroutine) if inspect.iscoroutinefunction(function) else bound

    @contextmanager
    def _routed(self) -> Generator[None]:
        outer = _routes.get()
        _routes.set({**outer, self._hooks.scope: self.branch})
        try:
            yield
        finally:
            _routes.set(outer)

    # --- afterwards ------------------------------------------------------------------------------------------------

    @property
    def branch(self) -> str:
        """The branch of the experiment."""
        if self._branch is None:
            raise UsageError("the experiment has no branch yet; it is created on entering the with block")
        return self._branch

    @property
    def memory(self) -> AgentMemory:
        """The handle, pinned to the experiment's branch: it works in any thread and any notebook cell."""
        return self._handle.on_branch(self.branch)

    @property
    def record(self) -> ExperimentRecord:
        """What is stored of the experiment."""
        return self._hooks.access(self.branch).read(experiments.record)

    @property
    def status(self) -> ExperimentStatus:
        """Where the experiment stands."""
        return self.record.status

    @property
    def metrics(self) -> dict[str, Any]:
        """What was logged."""
        return self.record.metrics

    def diff(self, target: str | None = None) -> Page[Change]:
        """Return what the experiment changed, compared with the branch it came from or another."""
        return self._handle.diff_branch(self.branch, target)

    def merge(
        self,
        *,
        target: str | None = None,
        strategy: MergeStrategy | str = MergeStrategy.THREE_WAY,
        dry_run: bool = False,
        close: bool = False,
    ) -> MergeResult:
        """Bring what the experiment changed into the branch it came from, or another."""
        return self._handle.merge_branch(self.branch, target=target, strategy=strategy, dry_run=dry_run, close=close)

    def pull_request(
        self, title: str | None = None, *, target: str | None = None, description: str = ""
    ) -> PullRequest:
        """Propose to merge the experiment into the branch it came from, or another; the title is its name."""
        what = self.name if title is None else title
        return self._handle.create_pull_request(what, self.branch, target_branch=target, description=description)

    def discard(self) -> None:
        """Close the branch: it stays readable, and is done with."""
        self._handle.close_branch(self.branch)

    def __repr__(self) -> str:
        return f"Experiment({self.name!r})" if self._branch is None else f"Experiment({self.name!r}, {self.branch!r})"

    def _record(self, operation: Callable[..., ExperimentRecord], *args: Any) -> None:
        self._hooks.access(self.branch).amend(operation, *args)


class Comparison:
    """A table of experiments: one row each, parameters before metrics."""

    def __init__(self, records: Sequence[ExperimentRecord]) -> None:
        self.records = list(records)

    @classmethod
    def of(
        cls, records: Iterable[ExperimentRecord], chosen: Sequence[Experiment | ExperimentRecord | str]
    ) -> Comparison:
        """Return a table of the experiments chosen, in that order; of all, if none is."""
        by_branch = {record.branch: record for record in records}
        if not chosen:
            return cls(list(by_branch.values()))
        return cls([_pick(by_branch, one) for one in chosen])

    @property
    def columns(self) -> list[str]:
        """The headings: name, the parameters, the metrics, status."""
        params, metrics = self._names("params"), self._names("metrics")
        return ["experiment", *params, *(f"{name} (metric)" if name in params else name for name in metrics), "status"]

    @property
    def rows(self) -> list[list[Any]]:
        """One list per experiment, in the order of ``columns``; None where an experiment lacks a value."""
        params, metrics = self._names("params"), self._names("metrics")
        return [
            [record.name, *map(record.params.get, params), *map(record.metrics.get, metrics), record.status.value]
            for record in self.records
        ]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one dict per experiment, as a DataFrame takes them."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def _names(self, field: str) -> list[str]:
        return list(dict.fromkeys(name for record in self.records for name in getattr(record, field)))

    def __len__(self) -> int:
        return len(self.records)

    def __str__(self) -> str:
        return display.text_table(self.columns, self.rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return display.html_table(self.columns, self.rows)


def _pick(by_branch: Mapping[str, ExperimentRecord], one: Experiment | ExperimentRecord | str) -> ExperimentRecord:
    if not isinstance(one, Experiment | ExperimentRecord | str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"compare takes experiments, their records or names, not {one!r}")
    branch = f"{experiments.PREFIX}{one}" if isinstance(one, str) else one.branch
    if branch not in by_branch:
        raise NotFoundError(f"no experiment {one!r}; there are {sorted(record.name for record in by_branch.values())}")
    return by_branch[branch]
