"""AsyncAgentMemory: the verbs of AgentMemory, awaited.

Reading happens on the event loop, since a read takes microseconds and waits for nobody. What writes, a read that must
record an event included, runs on a writer thread with the caller's context, so the loop never waits for a lock; a
search, which may catch up and embed, and a brief with a writer run on a thread of their own.
"""

# The other half of AgentMemory: it finds as that does, and records on another thread.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from amfs.core import apikeys, batches, resolutions, validation
from amfs.core.embedder import Embed, Embedder
from amfs.core.merge import MergeResolver
from amfs.core.runs import Run
from amfs.experiment import Comparison, Experiment
from amfs.memory import AgentMemory, EntryKey, Found, Moment
from amfs.models import (
    ApiKey,
    Blame,
    Branch,
    BranchStatus,
    Brief,
    Change,
    Conflict,
    ConflictStatus,
    CreatedApiKey,
    Entry,
    Event,
    EventType,
    ExperimentRecord,
    ExperimentStatus,
    Explanation,
    Grant,
    GranteeType,
    MemoryType,
    MergeResult,
    MergeStrategy,
    Operation,
    Outcome,
    OutcomeType,
    Page,
    Permission,
    PullRequest,
    PullRequestStatus,
    ReviewVerdict,
    Role,
    RollbackResult,
    SearchHit,
    SearchWeights,
    Side,
    Stats,
    Tag,
    Tokenizer,
    VerifyReport,
)
from amfs.transaction import MemoryTransaction

__all__ = ["AsyncAgentMemory", "AsyncExperiment", "AsyncMemoryTransaction"]

P = ParamSpec("P")
T = TypeVar("T")


class Writer:
    """The thread that writes; it is started on first use, and anew in a forked process."""

    def __init__(self) -> None:
        self._pid = 0
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function on the thread, in the caller's context, and await its result."""
        if self._pool is None or self._pid != os.getpid():
            self._pid, self._pool = os.getpid(), ThreadPoolExecutor(1, thread_name_prefix="amfs-writer")
        context = copy_context()
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: context.run(function, *args, **kwargs)
        )

    def stop(self) -> None:
        """End the thread once it has written what it was given."""
        if self._pool is not None and self._pid == os.getpid():
            self._pool.shutdown(wait=False)
            self._pool = None


class AsyncAgentMemory:
    """The memory of one agent, for asyncio; every verb is that of AgentMemory and takes the same arguments.

    Args:
        memory: The handle to use, or an agent id; then the remaining arguments are those of AgentMemory.
    """

    def __init__(
        self, memory: AgentMemory | str, database: str | os.PathLike[str] | None = None, **options: Any
    ) -> None:
        self._memory = memory if isinstance(memory, AgentMemory) else AgentMemory(memory, database, **options)
        self._owns = not isinstance(memory, AgentMemory)
        self._writer = Writer()

    @property
    def memory(self) -> AgentMemory:
        """The handle underneath."""
        return self._memory

    @property
    def agent_id(self) -> str:
        """Who acts."""
        return self._memory.agent_id

    @property
    def namespace(self) -> str:
        """The repository of memory."""
        return self._memory.namespace

    @property
    def branch(self) -> str:
        """The name of the branch that a call without ``branch=`` works on, here and now."""
        return self._memory.branch

    @property
    def session_id(self) -> str:
        """The name of this handle's session."""
        return self._memory.session_id

    @property
    def current_run(self) -> Run | None:
        """The run this context is in, None outside any."""
        return self._memory.current_run

    @property
    def database(self) -> str:
        """Where the database is."""
        return self._memory.database

    # --- entries ---------------------------------------------------------------------------------------------------

    async def write(
        self,
        entity_path: str,
        key: str,
        value: Any,
        *,
        confidence: float = 1.0,
        memory_type: MemoryType | str = MemoryType.FACT,
        pattern_refs: Iterable[str] = (),
        shared: bool = True,
        ttl: float | timedelta | None = None,
        expected_version: int | None = None,
        idempotency_key: str | None = None,
        branch: str | None = None,
    ) -> Entry:
        """Write a new version of an entry; see AgentMemory.write."""
        return await self._writer.run(
            self._memory.write, entity_path, key, value, confidence=confidence, memory_type=memory_type,
            pattern_refs=pattern_refs, shared=shared, ttl=ttl, expected_version=expected_version,
            idempotency_key=idempotency_key, branch=branch,
        )  # fmt: skip

    async def read(
        self,
        entity_path: str,
        key: str,
        *,
        at: Moment | None = None,
        min_confidence: float = 0.0,
        branch: str | None = None,
    ) -> Entry | None:
        """Return an entry; see AgentMemory.read."""
        return await self._record(
            self._memory._find(entity_path, key, at=at, min_confidence=min_confidence, branch=branch)
        )

    async def read_many(
        self, keys: Iterable[EntryKey], *, at: Moment | None = None, branch: str | None = None
    ) -> list[Entry | None]:
        """Return several entries of one moment; see AgentMemory.read_many."""
        return await self._record(self._memory._find_many(keys, at=at, branch=branch))

    async def read_from(self, agent_id: str, entity_path: str, key: str, *, branch: str | None = None) -> Entry | None:
        """Return the newest version of a key that one agent authored; see AgentMemory.read_from."""
        return await self._record(self._memory._find_from(agent_id, entity_path, key, branch=branch))

    async def list(
        self,
        entity_path: str | None = None,
        *,
        prefix: bool = False,
        include_superseded: bool = False,
        memory_type: MemoryType | str | None = None,
        after_key: str | None = None,
        at: Moment | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        branch: str | None = None,
    ) -> Page[Entry]:
        """Return the live entries of a path, or of everything; see AgentMemory.list."""
        return self._memory.list(
            entity_path, prefix=prefix, include_superseded=include_superseded, memory_type=memory_type,
            after_key=after_key, at=at, limit=limit, cursor=cursor, branch=branch,
        )  # fmt: skip

    async def history(
        self,
        entity_path: str,
        key: str,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        branch: str | None = None,
    ) -> Page[Entry]:
        """Return the versions of an entry; see AgentMemory.history."""
        return self._memory.history(
            entity_path, key, since=since, until=until, limit=limit, cursor=cursor, branch=branch
        )

    async def compare_versions(
        self,
        entity_path: str,
        key: str,
        old: int | None = None,
        new: int | None = None,
        *,
        branch: str | None = None,
    ) -> Change:
        """Return what changed between two versions; see AgentMemory.compare_versions."""
        return self._memory.compare_versions(entity_path, key, old, new, branch=branch)

    async def delete(self, entity_path: str, key: str, *, branch: str | None = None) -> bool:
        """Delete an entry; see AgentMemory.delete."""
        return await self._writer.run(self._memory.delete, entity_path, key, branch=branch)

    async def apply(self, operations: Sequence[Operation], *, branch: str | None = None) -> list[Any]:
        """Carry out a batch as one operation; see AgentMemory.apply."""
        batch = batches.prepare(validation.several("operations", operations), self._memory._settings.max_value_bytes)
        return await (self._apply_writes if batch.changes else self._apply_reads)(batch, branch)

    async def _apply_writes(self, batch: batches.Batch, branch: str | None) -> list[Any]:
        return await self._writer.run(self._memory._apply_writes, batch, branch)

    async def _apply_reads(self, batch: batches.Batch, branch: str | None) -> list[Any]:
        return await self._record(self._memory._find_batch(batch, branch=branch))

    async def search(
        self,
        query: str | None = None,
        *,
        entity_path: str | None = None,
        agent_id: str | None = None,
        memory_type: MemoryType | str | Iterable[MemoryType | str] | None = None,
        min_confidence: float = 0.0,
        since: Moment | None = None,
        until: Moment | None = None,
        pattern_refs: Iterable[str] = (),
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the word of LangGraph's stores
        at: Moment | None = None,
        branch: str | Iterable[str] | None = None,
        weights: SearchWeights | Mapping[str, Any] | None = None,
        embed: Embedder | Embed | None = None,
        explain: bool = False,
        limit: int = 10,
        cursor: str | None = None,
    ) -> Page[SearchHit]:
        """Return the entries that answer a query; see AgentMemory.search. It runs on a thread of its own."""
        return await asyncio.to_thread(
            self._memory.search, query, entity_path=entity_path, agent_id=agent_id, memory_type=memory_type,
            min_confidence=min_confidence, since=since, until=until, pattern_refs=pattern_refs, filter=filter, at=at,
            branch=branch, weights=weights, embed=embed, explain=explain, limit=limit, cursor=cursor,
        )  # fmt: skip

    async def rebuild_search_index(self, tokenizer: Tokenizer | str | None = None) -> Tokenizer:
        """Make the search index of the whole file anew; see AgentMemory.rebuild_search_index."""
        return await self._writer.run(self._memory.rebuild_search_index, tokenizer)

    def transaction(self, message: str = "", *, branch: str | None = None) -> AsyncMemoryTransaction:
        """Return a context that buffers writes and commits them at once; see AgentMemory.transaction."""
        return AsyncMemoryTransaction(self._memory.transaction(message, branch=branch), self._writer)

    # --- timeline --------------------------------------------------------------------------------------------------

    async def timeline(
        self,
        *,
        limit: int = 50,
        event_type: EventType | str | None = None,
        agent_id: str | None = None,
        branch: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        cursor: str | None = None,
        include_messages: bool = False,
    ) -> Page[Event]:
        """Return events, newest first; see AgentMemory.timeline."""
        return self._memory.timeline(
            limit=limit, event_type=event_type, agent_id=agent_id, branch=branch, since=since, until=until,
            cursor=cursor, include_messages=include_messages,
        )  # fmt: skip

    async def commit_outcome(
        self,
        outcome_ref: str,
        outcome_type: OutcomeType | str,
        causal_entry_keys: Iterable[EntryKey] | None = None,
        *,
        causal_confidence: float = 1.0,
        run_id: str | None = None,
        summary: str | None = None,
        branch: str | None = None,
    ) -> Outcome:
        """Record what came of using memory; see AgentMemory.commit_outcome."""
        return await self._writer.run(
            self._memory.commit_outcome, outcome_ref, outcome_type, causal_entry_keys,
            causal_confidence=causal_confidence, run_id=run_id, summary=summary, branch=branch,
        )  # fmt: skip

    async def explain(self, outcome_ref: str, *, branch: str | None = None) -> Explanation:
        """Return why an outcome came about; see AgentMemory.explain."""
        return self._memory.explain(outcome_ref, branch=branch)

    async def record_context(
        self, label: str, summary: str, source: str | None = None, *, branch: str | None = None
    ) -> Event:
        """Note something from outside memory; see AgentMemory.record_context."""
        return await self._writer.run(self._memory.record_context, label, summary, source, branch=branch)

    def run(
        self,
        run_id: str | None = None,
        *,
        thread_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Run:
        """Return a run, to be used in an ``async with`` statement; see AgentMemory.run."""
        return self._memory.run(run_id, thread_id=thread_id, metadata=metadata)

    # --- branches --------------------------------------------------------------------------------------------------

    async def create_branch(
        self, name: str, description: str = "", *, source: str | None = None, at: Moment | None = None
    ) -> Branch:
        """Create a branch; see AgentMemory.create_branch."""
        return await self._writer.run(self._memory.create_branch, name, description, source=source, at=at)

    async def switch_branch(self, name: str) -> Branch:
        """Make a branch the current one of this handle; see AgentMemory.switch_branch."""
        return self._memory.switch_branch(name)

    def on_branch(self, name: str) -> Self:
        """Return a view of this handle pinned to a branch; see AgentMemory.on_branch."""
        return self._over(self._memory.on_branch(name))

    async def branches(self, status: BranchStatus | str | None = None) -> Page[Branch]:
        """Return the branches of the namespace; see AgentMemory.branches."""
        return self._memory.branches(status)

    async def close_branch(self, name: str) -> Branch:
        """Close a branch; see AgentMemory.close_branch."""
        return await self._writer.run(self._memory.close_branch, name)

    async def diff_branch(self, name: str, target: str | None = None) -> Page[Change]:
        """Return what a branch changed; see AgentMemory.diff_branch."""
        return self._memory.diff_branch(name, target)

    async def merge_branch(
        self,
        name: str,
        *,
        target: str | None = None,
        strategy: MergeStrategy | str | MergeResolver = MergeStrategy.THREE_WAY,
        resolver: MergeResolver | None = None,
        paths: Iterable[str] | None = None,
        dry_run: bool = False,
        close: bool = False,
    ) -> MergeResult:
        """Bring what a branch changed into another; see AgentMemory.merge_branch."""
        return await self._writer.run(
            self._memory.merge_branch, name, target=target, strategy=strategy, resolver=resolver, paths=paths,
            dry_run=dry_run, close=close,
        )  # fmt: skip

    async def conflicts(
        self, branch: str | None = None, *, status: ConflictStatus | str | None = ConflictStatus.OPEN
    ) -> Page[Conflict]:
        """Return the conflicts that manual merges stored, oldest first; see AgentMemory.conflicts."""
        return self._memory.conflicts(branch, status=status)

    async def resolve_conflict(
        self, conflict_id: int, *, take: Side | str | None = None, value: Any = resolutions.UNSET
    ) -> MergeResult:
        """Settle a stored conflict; see AgentMemory.resolve_conflict."""
        return await self._writer.run(self._memory.resolve_conflict, conflict_id, take=take, value=value)

    async def cherry_pick(
        self,
        branch: str,
        keys: Iterable[EntryKey],
        *,
        target: str | None = None,
        strategy: MergeStrategy | str = MergeStrategy.THREE_WAY,
        dry_run: bool = False,
    ) -> MergeResult:
        """Bring single entries of a branch into ``target``; see AgentMemory.cherry_pick."""
        return await self._writer.run(
            self._memory.cherry_pick, branch, keys, target=target, strategy=strategy, dry_run=dry_run
        )

    # --- history ------------------------------------------------------------------------------------------------------

    async def create_tag(
        self, name: str, description: str = "", *, at: Moment | None = None, branch: str | None = None
    ) -> Tag:
        """Give a name to what a branch holds now; see AgentMemory.create_tag."""
        return await self._writer.run(self._memory.create_tag, name, description, at=at, branch=branch)

    async def tags(self) -> Page[Tag]:
        """Return the tags of the namespace, by the seq they pin; see AgentMemory.tags."""
        return self._memory.tags()

    async def delete_tag(self, name: str) -> Tag:
        """Delete a tag and return what it was; the view it named stays in the history; see AgentMemory.delete_tag."""
        return await self._writer.run(self._memory.delete_tag, name)

    async def rollback(
        self,
        *,
        tag_name: str | None = None,
        timestamp: datetime | None = None,
        seq: int | None = None,
        agent_id: str | None = None,
        include_others: bool = False,
        dry_run: bool = False,
        branch: str | None = None,
    ) -> RollbackResult:
        """Restore what the branch held at a tag; see AgentMemory.rollback."""
        return await self._writer.run(
            self._memory.rollback,
            tag_name=tag_name,
            timestamp=timestamp,
            seq=seq,
            agent_id=agent_id,
            include_others=include_others,
            dry_run=dry_run,
            branch=branch,
        )

    async def fork(self, new_agent_id: str, *, branch: str | None = None) -> int:
        """Give a new agent a namespace of its own that starts with all this agent sees; see AgentMemory.fork."""
        return await self._writer.run(self._memory.fork, new_agent_id, branch=branch)

    # --- review -------------------------------------------------------------------------------------------------------

    async def create_pull_request(
        self, title: str, source_branch: str, *, target_branch: str | None = None, description: str = ""
    ) -> PullRequest:
        """Propose to merge a branch into ``target_branch``; see AgentMemory.create_pull_request."""
        return await self._writer.run(
            self._memory.create_pull_request, title, source_branch, target_branch=target_branch, description=description
        )

    async def review_pull_request(
        self, pull_request_id: int, verdict: ReviewVerdict | str, comment: str = ""
    ) -> PullRequest:
        """Say what you think of a pull request; see AgentMemory.review_pull_request."""
        return await self._writer.run(self._memory.review_pull_request, pull_request_id, verdict, comment)

    async def merge_pull_request(
        self,
        pull_request_id: int,
        *,
        strategy: MergeStrategy | str | MergeResolver = MergeStrategy.THREE_WAY,
        resolver: MergeResolver | None = None,
        dry_run: bool = False,
        close: bool = False,
    ) -> MergeResult:
        """Merge a pull request as ``merge_branch`` does; see AgentMemory.merge_pull_request."""
        return await self._writer.run(
            self._memory.merge_pull_request,
            pull_request_id,
            strategy=strategy,
            resolver=resolver,
            dry_run=dry_run,
            close=close,
        )

    async def close_pull_request(self, pull_request_id: int) -> PullRequest:
        """Close a pull request without merging it; the branch stays; see AgentMemory.close_pull_request."""
        return await self._writer.run(self._memory.close_pull_request, pull_request_id)

    async def pull_requests(self, status: PullRequestStatus | str | None = None) -> Page[PullRequest]:
        """Return the pull requests of the namespace, oldest first; see AgentMemory.pull_requests."""
        return self._memory.pull_requests(status)

    # --- access -------------------------------------------------------------------------------------------------------

    async def grant_branch_access(
        self, branch: str, grantee_type: GranteeType | str, grantee_id: str, permission: Permission | str
    ) -> Grant:
        """Let a user; see AgentMemory.grant_branch_access."""
        grantee_id = apikeys.conceal(grantee_type, grantee_id)  # a traceback may show arguments
        return await self._writer.run(self._memory.grant_branch_access, branch, grantee_type, grantee_id, permission)

    async def revoke_branch_access(self, branch: str, grantee_type: GranteeType | str, grantee_id: str) -> Grant:
        """Take a grant back; see AgentMemory.revoke_branch_access."""
        grantee_id = apikeys.conceal(grantee_type, grantee_id)
        return await self._writer.run(self._memory.revoke_branch_access, branch, grantee_type, grantee_id)

    async def branch_access(self, branch: str) -> Page[Grant]:
        """Return the grants on a branch; see AgentMemory.branch_access."""
        return self._memory.branch_access(branch)

    async def create_api_key(
        self,
        name: str,
        *,
        agent_ids: Iterable[str],
        role: Role | str,
        expires: datetime | timedelta | None = None,
    ) -> CreatedApiKey:
        """Make an API key for this namespace; see AgentMemory.create_api_key."""
        return await self._writer.run(
            self._memory.create_api_key, name, agent_ids=agent_ids, role=role, expires=expires
        )

    async def api_keys(self) -> Page[ApiKey]:
        """Return what is known of the API keys of the namespace, oldest first; see AgentMemory.api_keys."""
        return self._memory.api_keys()

    async def revoke_api_key(self, key_id: str) -> ApiKey:
        """Make an API key invalid from the next transaction on; see AgentMemory.revoke_api_key."""
        key_id = apikeys.conceal(GranteeType.API_KEY, key_id)
        return await self._writer.run(self._memory.revoke_api_key, key_id)

    # --- experiments -----------------------------------------------------------------------------------------------

    def experiment(
        self, name: str | None = None, *, params: Mapping[str, Any] | None = None, source: str | None = None
    ) -> AsyncExperiment:
        """Return an experiment, to be used in an ``async with`` statement; see AgentMemory.experiment."""
        return AsyncExperiment(self._memory.experiment(name, params=params, source=source), self, self._writer)

    async def experiments(self) -> Page[ExperimentRecord]:
        """Return the experiments of the namespace; see AgentMemory.experiments."""
        return self._memory.experiments()

    async def compare(self, *experiments: AsyncExperiment | Experiment | ExperimentRecord | str) -> Comparison:
        """Return a table of experiments; see AgentMemory.compare."""
        return self._memory.compare(
            *(one.experiment if isinstance(one, AsyncExperiment) else one for one in experiments)
        )

    # --- the rest --------------------------------------------------------------------------------------------------

    def as_agent(self, agent_id: str) -> Self:
        """Return a handle of another agent; see AgentMemory.as_agent."""
        return self._over(self._memory.as_agent(agent_id))

    async def brief(
        self,
        entity_path: str | None = None,
        agent_id: str | None = None,
        *,
        limit: int = 20,
        writer: Callable[[str], str] | None = None,
        branch: str | None = None,
    ) -> Brief:
        """Return what is known of a path; see AgentMemory.brief. The writer runs on a thread of its own."""
        run = self._writer.run if writer is None else asyncio.to_thread
        return await run(self._memory.brief, entity_path, agent_id, limit=limit, writer=writer, branch=branch)

    async def stats(self, *, branch: str | None = None) -> Stats:
        """Return figures about the database; see AgentMemory.stats."""
        return self._memory.stats(branch=branch)

    async def verify(self) -> VerifyReport:
        """Check every invariant of the database; see AgentMemory.verify."""
        return await asyncio.to_thread(self._memory.verify)

    async def blame(self, entity_path: str, key: str, *, branch: str | None = None) -> Blame:
        """Return where an entry and each of its fields came from; see AgentMemory.blame."""
        return self._memory.blame(entity_path, key, branch=branch)

    async def backup(self, path: str | os.PathLike[str]) -> VerifyReport:
        """Copy the database, as it is now, into a file, while others go on using it; see AgentMemory.backup."""
        return await self._writer.run(self._memory.backup, path)

    @staticmethod
    async def restore(path: str | os.PathLike[str], source: str | os.PathLike[str]) -> VerifyReport:
        """Put a backup in the place of a database that nobody has open; see AgentMemory.restore."""
        return await asyncio.to_thread(AgentMemory.restore, path, source)

    async def export_namespace(self, path: str | os.PathLike[str]) -> int:
        """Write all of the namespace; see AgentMemory.export_namespace."""
        return await self._writer.run(self._memory.export_namespace, path)

    async def import_namespace(self, path: str | os.PathLike[str]) -> int:
        """Read what ``export_namespace`` wrote into this namespace; see AgentMemory.import_namespace."""
        return await self._writer.run(self._memory.import_namespace, path)

    async def close(self) -> None:
        """Save what the session read and, if this object opened the database, release it."""
        if self._owns:
            await self._writer.run(self._memory.close)
        self.stop()

    def stop(self) -> None:
        """End the writer thread once it has written what it was given; for a handle that is closed elsewhere."""
        self._writer.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Async{self._memory!r}"

    def _over(self, memory: AgentMemory) -> Self:
        other = type(self)(memory)
        other._writer = self._writer
        return other

    async def _record(self, found: Found[T]) -> T:
        return await self._writer.run(self._memory._record, found) if found.foreign else found.result


class AsyncMemoryTransaction:
    """Buffers writes and commits them at once; see MemoryTransaction."""

    def __init__(self, transaction: MemoryTransaction, writer: Writer) -> None:
        self._transaction = transaction
        self._writer = writer

    async def write(self, entity_path: str, key: str, value: Any, **options: Any) -> Entry:
        """Buffer a write and return the pending entry; the options are those of AgentMemory.write."""
        return self._transaction.write(entity_path, key, value, **options)

    async def delete(self, entity_path: str, key: str) -> bool:
        """Buffer a deletion and say whether there is anything to delete."""
        return await self._writer.run(self._transaction.delete, entity_path, key)

    async def read(self, entity_path: str, key: str) -> Entry | None:
        """Return what the transaction would leave."""
        return await self._writer.run(self._transaction.read, entity_path, key)

    async def __aenter__(self) -> Self:
        self._transaction.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._writer.run(self._transaction.__exit__, kind, error, trace)


class AsyncExperiment:
    """A run or several on a branch of their own, for asyncio; see Experiment."""

    def __init__(self, experiment: Experiment, memory: AsyncAgentMemory, writer: Writer) -> None:
        self.experiment = experiment
        self._memory = memory
        self._writer = writer

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return self.experiment.name

    @property
    def branch(self) -> str:
        """The branch of the experiment."""
        return self.experiment.branch

    @property
    def memory(self) -> AsyncAgentMemory:
        """The handle, pinned to the experiment's branch."""
        return self._memory.on_branch(self.branch)

    @property
    def record(self) -> ExperimentRecord:
        """What is stored of the experiment."""
        return self.experiment.record

    @property
    def params(self) -> dict[str, Any]:
        """What the experiment was started with."""
        return self.experiment.params

    @property
    def status(self) -> ExperimentStatus:
        """Where the experiment stands."""
        return self.experiment.status

    @property
    def metrics(self) -> dict[str, Any]:
        """What was logged."""
        return self.experiment.metrics

    def bind(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return a function that runs inside the experiment wherever it is called."""
        return self.experiment.bind(function)

    async def log(self, **metrics: Any) -> None:
        """Add metrics; one logged again is replaced."""
        await self._writer.run(self.experiment.log, **metrics)

    async def diff(self, target: str | None = None) -> Page[Change]:
        """Return what the experiment changed."""
        return self.experiment.diff(target)

    async def merge(
        self,
        *,
        target: str | None = None,
        strategy: MergeStrategy | str = MergeStrategy.THREE_WAY,
        dry_run: bool = False,
        close: bool = False,
    ) -> MergeResult:
        """Bring what the experiment changed into the branch it came from, or another."""
        return await self._writer.run(
            self.experiment.merge, target=target, strategy=strategy, dry_run=dry_run, close=close
        )

    async def pull_request(
        self, title: str | None = None, *, target: str | None = None, description: str = ""
    ) -> PullRequest:
        """Propose to merge the experiment."""
        return await self._writer.run(self.experiment.pull_request, title, target=target, description=description)

    async def discard(self) -> None:
        """Close the branch."""
        await self._writer.run(self.experiment.discard)

    async def __aenter__(self) -> Self:
        await self._writer.run(self.experiment.start)
        self.experiment.route()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.experiment.unroute()
        await self._writer.run(self.experiment.finish, error)
