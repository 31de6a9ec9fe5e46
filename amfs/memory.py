"""AgentMemory: one short method per verb. Each opens a transaction, calls the core, and returns a model."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, Concatenate, Generic, Literal, NamedTuple, ParamSpec, Self, TypeVar

from amfs.core import (
    apikeys,
    batches,
    blame,
    branches,
    briefs,
    cherry_pick,
    conflicts,
    diff,
    experiments,
    fork,
    grants,
    insight,
    merge,
    outcomes,
    pending,
    pulls,
    resolutions,
    rollback,
    runs,
    search,
    tags,
    timeline,
    transfer,
    validation,
    versions,
)
from amfs.core.context import OWNER, Access, Clock, Context, OutcomePolicy, Resolver, Rights, Seen
from amfs.core.embedder import Embed, Embedder, Meanings
from amfs.core.grants import Principal
from amfs.core.runs import LiveRuns, Run
from amfs.errors import ExperimentContextLostError, HandleClosedError
from amfs.experiment import Comparison, Experiment, Hooks, routed_branch
from amfs.models import (
    ApiKey,
    Blame,
    Branch,
    BranchStatus,
    Brief,
    Change,
    Conflict,
    ConflictPolicy,
    ConflictStatus,
    CreatedApiKey,
    Durability,
    Entry,
    Event,
    EventType,
    ExperimentRecord,
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
    ReadEvents,
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
from amfs.storage import open_storage, restore_database
from amfs.storage.base import Reader, Reading
from amfs.storage.rows import NOBODY, BranchRow
from amfs.transaction import MemoryTransaction

__all__ = ["AgentMemory", "EntryKey", "Moment"]

P = ParamSpec("P")
T = TypeVar("T")

Moment = int | datetime | str
"""A point in history: the seq of an event, an aware datetime, or the name of a tag."""

EntryKey = Entry | tuple[str, str] | str
"""An entry named as one value: an Entry, a ``(path, key)`` pair, or "path/key" where that is unambiguous."""


class Found(NamedTuple, Generic[T]):
    """What a read found, and which of it must be recorded as read from another agent."""

    context: Context
    result: T
    foreign: list[Entry]


class AgentMemory:
    """The memory of one agent in one database.

    Args:
        agent_id: Who acts. Its name stands on every version and event it makes.
        database: A path, or ``":memory:"``. Default: ``$AMFS_DATABASE``, else ``.amfs/amfs.db``. Created if missing.
        namespace: The repository of memory, shared by the agents in it. Default: the agent's home, else "default".
        branch: The branch to work on until ``switch_branch``.
        session_id: The name of this handle's session. Default: a fresh one.
        durability: ``"full"`` (an acknowledged write survives power loss) or ``"normal"`` (survives process death).
        conflict_policy: What a write does when the entry moved since this handle last saw it.
        on_conflict: Called in that case instead: ``(existing, incoming, value[, base]) -> value`` to write. It runs
            outside any transaction and may use the memory.
        read_events: When reads of other agents' entries are recorded: ``"sync"``, ``"batched"`` or ``"off"``.
        outcome_policy: How an outcome moves confidence. Default: ``amfs.beta_posterior``.
        embed: What turns texts into vectors, to search by meaning, too: an ``Embedder``, or a function from a list of
            texts to a list of vectors.
        max_value_bytes: The size limit of one value as JSON text in UTF-8.
        principal: On whose authority the handle acts. Default: that of the owner, who may do everything.
        clock: Returns the time as microseconds since 1970 UTC. Default: the system's clock.

    A handle may be used by several threads. Close it, or use it in a ``with`` statement.
    """

    def __init__(
        self,
        agent_id: str,
        database: str | os.PathLike[str] | None = None,
        *,
        namespace: str | None = None,
        branch: str = "main",
        session_id: str | None = None,
        durability: Durability | Literal["full", "normal"] = Durability.FULL,
        conflict_policy: ConflictPolicy | Literal["last_write_wins", "raise"] = ConflictPolicy.LAST_WRITE_WINS,
        on_conflict: Resolver | None = None,
        read_events: ReadEvents | Literal["sync", "batched", "off"] = ReadEvents.SYNC,
        outcome_policy: OutcomePolicy = outcomes.beta_posterior,
        embed: Embedder | Embed | None = None,
        max_value_bytes: int = validation.MAX_VALUE_BYTES,
        principal: Principal | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._agent_id = validation.name("agent_id", agent_id)
        self._settings = validation.settings(conflict_policy, on_conflict, outcome_policy, read_events, max_value_bytes)
        self._meanings = Meanings(embed)
        self._live_runs = LiveRuns()
        self._session = self._new_session(session_id)
        self._clock: Clock = clock or _system_clock
        self._principal = validation.optional("principal", principal, Principal)
        self._branch = validation.branch_name(branch)
        self._pinned: str | None = None
        self._seen: Seen = {}
        self._experiments: list[Experiment] = []
        self._brief_checks: briefs.Checks = {}
        self._owner: Self | None = None
        self._storage = open_storage(database, validation.choice("durability", durability, Durability))
        self._closed = False
        try:
            self._namespace, self._namespace_id = self._open_namespace(namespace)
            self._scope = (self._storage.identity, self._namespace)
            self._on(None).read(_branch_of)
        except BaseException:
            self._storage.close()
            raise

    # --- entries ---------------------------------------------------------------------------------------------------

    def write(
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
        """Write a new version of an entry, with its event, and return it once it is durable.

        Args:
            entity_path: What the entry is about: segments joined by ``/``.
            key: The name of the entry under that path; any text.
            value: Plain JSON: dict with str keys, list, str, int, float, bool or None.
            confidence: How sure the author is, 0 to 1. Outcomes move it from there; writing an equal value again
                keeps the evidence gathered and only changes this starting point.
            memory_type: fact, belief, experience, procedure or message.
            pattern_refs: Names of patterns the entry is an instance of.
            shared: False puts it into this agent's private space, which no other agent can see.
            ttl: Seconds (or a timedelta) after which the entry is absent.
            expected_version: Write only if the current version has this number; 0 means that there is none.
            idempotency_key: A second write with this key by this agent returns the first one's entry.
            branch: Where to write instead of the current branch.

        Raises:
            InvalidInputError: The gate refused an argument; nothing was written.
            StaleWriteError: ``expected_version`` did not match, or the policy is RAISE and the value moved.
            BranchNotFoundError, BranchClosedError: The branch cannot be written.
        """
        put = validation.put(
            self._settings.max_value_bytes, entity_path, key, value, confidence, memory_type, pattern_refs, shared,
            ttl, expected_version, idempotency_key,
        )  # fmt: skip
        return conflicts.resolving(self._on(branch), versions.write, put)

    def read(
        self,
        entity_path: str,
        key: str,
        *,
        at: Moment | None = None,
        min_confidence: float = 0.0,
        branch: str | None = None,
    ) -> Entry | None:
        """Return an entry, or None if it is absent, deleted, expired or below ``min_confidence``.

        The agent's own private entry comes before a shared one of the same path and key. ``at`` reads the past (a
        seq, an aware datetime or a tag). Reading another agent's entry records one cross_agent_read per run and
        version.
        """
        return self._record(self._find(entity_path, key, at=at, min_confidence=min_confidence, branch=branch))

    def _find(
        self, entity_path: str, key: str, *, at: Moment | None, min_confidence: float, branch: str | None
    ) -> Found[Entry | None]:
        """Do what ``read`` does, but leave it to the caller to ``_record`` what was found."""
        # What _look_for does, spelt out for the call that is made most often.
        with self._reading(one=True) as tx:
            context = self._context(tx, branch, Permission.READ)
            entry = versions.read(context, entity_path, key, at, min_confidence)
        return Found(context, entry, runs.observe(context, entry))

    def read_many(
        self, keys: Iterable[EntryKey], *, at: Moment | None = None, branch: str | None = None
    ) -> list[Entry | None]:
        """Return several entries of one moment, in the order asked for, None where there is none."""
        return self._record(self._find_many(keys, at=at, branch=branch))

    def _find_many(
        self, keys: Iterable[EntryKey], *, at: Moment | None, branch: str | None
    ) -> Found[list[Entry | None]]:
        """Do what ``read_many`` does, but leave it to the caller to ``_record`` what was found."""
        return self._look_for(
            self._storage.snapshot(), branch, versions.read_many, validation.several("keys", keys), at
        )

    def read_from(self, agent_id: str, entity_path: str, key: str, *, branch: str | None = None) -> Entry | None:
        """Return the newest version of a key that one agent authored, even if another has written since."""
        return self._record(self._find_from(agent_id, entity_path, key, branch=branch))

    def _find_from(self, agent_id: str, entity_path: str, key: str, *, branch: str | None) -> Found[Entry | None]:
        """Do what ``read_from`` does, but leave it to the caller to ``_record`` what was found."""
        return self._look_for(self._storage.snapshot(), branch, versions.read_from, agent_id, entity_path, key)

    def list(
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
        """Return the live entries of a path, or of everything.

        The order is stable: by path, then by key, each in the order in which they were first written.

        ``prefix=True`` takes the paths below as well, by whole segments. ``include_superseded=True`` returns every
        version instead, oldest first, deletions included. Messages are left out unless ``memory_type="message"``.
        ``after_key=`` skips the keys of a path up to one, by code points, and costs only what it returns.
        Listing is inspection: it records no reads.
        """
        return self._on(branch).read(
            versions.list_entries, entity_path, prefix, include_superseded, memory_type, after_key, at, limit, cursor
        )

    def history(
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
        """Return the versions of an entry along the branch and what it inherited, oldest first, deletions included."""
        return self._on(branch).read(versions.history, entity_path, key, since, until, limit, cursor)

    def compare_versions(
        self,
        entity_path: str,
        key: str,
        old: int | None = None,
        new: int | None = None,
        *,
        branch: str | None = None,
    ) -> Change:
        """Return what changed between two version numbers of an entry; by default between the last two."""
        return self._on(branch).read(versions.compare, entity_path, key, old, new)

    def delete(self, entity_path: str, key: str, *, branch: str | None = None) -> bool:
        """Delete the entry that ``read`` would return and say whether there was one. Its history stays."""
        return self._on(branch).write(versions.delete, validation.entry_key(entity_path, key))

    def apply(self, operations: Sequence[Operation], *, branch: str | None = None) -> list[Any]:
        """Carry out a batch as one operation and return one result per operation, in order.

        Reads see the state before the batch. Of several puts or deletes of one entry the last wins. All writes commit
        in one transaction, as events of a common ``group``. Results: Put -> the Entry that the batch leaves, None if a
        later Delete removed it; Delete -> whether there was anything to delete; Renew -> whether the deadline moved;
        Get -> Entry or None; Find -> list of entries; ListPaths -> list of PathInfo.
        """
        batch = batches.prepare(validation.several("operations", operations), self._settings.max_value_bytes)
        return (self._apply_writes if batch.changes else self._apply_reads)(batch, branch)

    def _apply_reads(self, batch: batches.Batch, branch: str | None) -> list[Any]:
        return self._record(self._find_batch(batch, branch=branch))

    def _apply_writes(self, batch: batches.Batch, branch: str | None) -> list[Any]:
        return batches.apply_resolving(self._on(branch), batch)

    def _find_batch(self, prepared: batches.Batch, *, branch: str | None) -> Found[list[Any]]:
        """Do what ``apply`` does with reads only, but leave it to the caller to ``_record`` what was found."""
        return self._look_for(self._reading(one=prepared.is_one_read), branch, batches.read_only, prepared)

    def _reading(self, *, one: bool) -> Reading:
        """Return a context for reads; the owner's of one entry look at nothing that must be of the same moment."""
        return self._storage.reading() if one and self._principal is None else self._storage.snapshot()

    def search(
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
        """Return the entries that answer a query, the best first; without a query the newest first.

        Words are matched in paths, keys and values (BM25); with ``embed=`` the meaning counts as well. Only what this
        agent sees on the branch at this moment is found, and the first search after writes takes these in. Hits are
        read: they enter the run's read set, and those of another agent record one cross_agent_read per agent.

        Args:
            query: What to look for, in any words; nothing in it is an operator.
            entity_path: Only this path and those below it, by whole segments.
            agent_id: Only values that this agent wrote.
            memory_type: Only this type, or these. Messages are left out unless asked for.
            since, until: Only versions written at these moments or between them.
            pattern_refs: Only entries that name all of these patterns.
            filter: Only values that satisfy a filter (see ``Find``).
            at: Search the past: a seq, an aware datetime or the name of a tag.
            branch: One branch, or several: what stands on more of them is found once.
            weights: How much each part of a score counts.
            embed: Search by meaning with this embedder instead of the handle's own. Pass the same one each time.
            explain: Say in ``hit.parts`` what each score is made of.
            limit: How many hits a page holds.

        Raises:
            EmbeddingError: The embedder failed. Memory and index are as they were.
        """
        asked = search.request(
            query, entity_path, agent_id, memory_type, min_confidence, since, until, pattern_refs, filter, at, branch,
            weights, explain, limit, cursor,
        )  # fmt: skip
        found = search.search(self._storage, self._readable, asked, self._meanings.of(embed))
        return self._record_hits(found)

    def rebuild_search_index(self, tokenizer: Tokenizer | str | None = None) -> Tokenizer:
        """Make the search index of the whole file anew, with another tokenizer if one is named, and return which.

        The index is made of the log and can always be made again. ``english`` (the default) knows the forms of a word,
        ``plain`` takes words as they are, ``trigram`` finds parts of words, for languages that do not separate them.
        """
        self._on("main").free().read(Context.require_admin, "make the search index anew")
        return search.make_anew(self._storage, tokenizer)

    def _record_hits(self, found: search.Found) -> Page[SearchHit]:
        """Record what a search found of other agents, on the branch where it found it, and return its page."""
        for context, foreign in found.foreign:
            self._record(Found(context, None, foreign))
        return found.hits

    def _record(self, found: Found[T]) -> T:
        """Record what a ``_find`` read from other agents and return its result."""
        if found.foreign:
            runs.record_foreign(self._on(found.context.branch.name), found.foreign, found.context)
        return found.result

    def transaction(self, message: str = "", *, branch: str | None = None) -> MemoryTransaction:
        """Return a context that buffers writes and commits them at once on leaving; an exception discards all.

        ``tx.read`` sees the buffered values. No lock is held meanwhile. Two writes of a key make one version.
        """
        return MemoryTransaction(self.on_branch(self._branch_name(branch)), message)

    # --- timeline --------------------------------------------------------------------------------------------------

    def timeline(
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
        """Return events, newest first: this agent's on all branches, or a branch's own with ``branch=``.

        ``agent_id="*"`` returns everyone's. Writes of other agents' private entries never appear; writes of chat
        messages only with ``include_messages=True``.
        """
        return self._on(branch).read(
            timeline.query, branch is not None, limit, event_type, agent_id, since, until, cursor,
            include_messages,
        )  # fmt: skip

    def commit_outcome(
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
        """Record what came of using memory and move the confidence of the entries that led to it.

        Without ``causal_entry_keys`` these are what the run read since its last outcome, at the versions read; an
        entry rewritten with another value since is skipped and named. The same ref and type recorded again change
        nothing. ``run_id`` judges a run of this or another process. ``causal_confidence`` (0 to 1) weighs the
        outcome; 0 records the event alone.
        """
        return outcomes.commit_resolving(
            self._on(branch), outcome_ref, outcome_type, causal_entry_keys, causal_confidence, run_id, summary
        )

    def explain(self, outcome_ref: str, *, branch: str | None = None) -> Explanation:
        """Return why an outcome came about: its events, the versions that were read, and the context noted."""
        return self._on(branch).read(outcomes.explain, outcome_ref)

    def record_context(
        self, label: str, summary: str, source: str | None = None, *, branch: str | None = None
    ) -> Event:
        """Note something from outside memory that the run relied on; ``explain`` shows it beside the reads."""
        return self._on(branch).write(timeline.record_context, label, summary, source)

    def run(
        self,
        run_id: str | None = None,
        *,
        thread_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Run:
        """Return a run, one agent invocation, to be used in a ``with`` statement: reads inside it are its read set."""
        return Run(
            self._session.session_id,
            validation.run_id(run_id),
            thread_id=validation.optional_name("thread_id", thread_id),
            metadata=validation.metadata(metadata),
            scope=self._scope,
            save=self._save_run,
            live=self._live_runs,
        )

    @property
    def current_run(self) -> Run | None:
        """The run this context is in, None outside any."""
        return runs.current(self._scope)

    # --- branches --------------------------------------------------------------------------------------------------

    def create_branch(
        self, name: str, description: str = "", *, source: str | None = None, at: Moment | None = None
    ) -> Branch:
        """Create a branch from ``source`` (default: the current branch) as it is now, or was ``at`` a moment.

        It costs the same however much memory there is: nothing is copied.
        """
        return self._on(source).record(branches.create, name, description, at)

    def switch_branch(self, name: str) -> Branch:
        """Make a branch the current one of this handle and return it."""
        branch = self._on(name).read(branches.describe)
        self._branch = branch.name
        return branch

    def on_branch(self, name: str) -> Self:
        """Return a view of this handle pinned to a branch; experiments and ``switch_branch`` do not move it."""
        return self._view(_pinned=self._on(name).read(_branch_of).name)

    def branches(self, status: BranchStatus | str | None = None) -> Page[Branch]:
        """Return the branches of the namespace, oldest first."""
        return self._on("main").free().read(branches.list_branches, status)

    def close_branch(self, name: str) -> Branch:
        """Close a branch: it stays readable and cannot be written any more."""
        return self._on(name).write(experiments.close_branch)

    def diff_branch(self, name: str, target: str | None = None) -> Page[Change]:
        """Return what a branch changed since it and ``target`` (default: its parent) last had a view in common."""
        return self._on(name).read(diff.diff_branch, target)

    def merge_branch(
        self,
        name: str,
        *,
        target: str | None = None,
        strategy: MergeStrategy | str | merge.MergeResolver = MergeStrategy.THREE_WAY,
        resolver: merge.MergeResolver | None = None,
        paths: Iterable[str] | None = None,
        dry_run: bool = False,
        close: bool = False,
    ) -> MergeResult:
        """Bring what a branch changed into ``target`` (default: its parent), all of it or nothing.

        Args:
            strategy: ``three_way`` merges different keys, then different fields of one key; ``fast_forward`` refuses
                if the target changed; ``source_wins`` and ``target_wins`` settle what three_way cannot; ``manual``
                stores the conflicts for ``resolve_conflict`` and returns; or a resolver.
            resolver: ``(base, source, target) -> value``, called for each conflict, outside any transaction;
                ``KEEP_CONFLICT`` leaves it standing.
            paths: Take only the entries under these paths. Such a merge is partial: a later one starts from the same
                base.
            dry_run: Return the result without writing.
            close: Close the branch afterwards.

        Raises:
            MergeConflictError: Conflicts are left; ``error.result`` holds them. Nothing was applied.
            FastForwardRefusedError: The target changed since the base. Nothing was applied.
        """
        plan = merge.request(strategy, resolver, paths, dry_run, close)
        return merge.merge_resolving(self._on(name), target, plan)

    def conflicts(
        self, branch: str | None = None, *, status: ConflictStatus | str | None = ConflictStatus.OPEN
    ) -> Page[Conflict]:
        """Return the conflicts that manual merges stored, oldest first: all, or those from or into a branch."""
        access = self._on("main").free() if branch is None else self._on(branch)
        return access.read(pending.list_conflicts, branch, status)

    def resolve_conflict(
        self, conflict_id: int, *, take: Side | str | None = None, value: Any = resolutions.UNSET
    ) -> MergeResult:
        """Settle a stored conflict: take one side's state, or a value. With the last one, the merge is carried out.

        The merge is then planned anew and applied as one; what moved meanwhile and clashes again is stored as a new
        conflict, and nothing is applied. The result says which: status ``merged``, or ``conflicts`` with those left.

        Raises:
            ConflictResolvedError: It was resolved before, or its merge was done in another way.
        """
        answer = resolutions.answer(conflict_id, take, value, self._settings.max_value_bytes)
        return resolutions.resolve(self._on("main").free(), answer)

    def cherry_pick(
        self,
        branch: str,
        keys: Iterable[EntryKey],
        *,
        target: str | None = None,
        strategy: MergeStrategy | str = MergeStrategy.THREE_WAY,
        dry_run: bool = False,
    ) -> MergeResult:
        """Bring single entries of a branch into ``target`` (default: its parent): what their last write changed.

        An Entry picks that version of it. The version before it is the base of the three-way merge; evidence gathered
        since comes along. No merge is recorded, so a later merge meets equal values.

        Raises:
            MergeConflictError: The target changed the same; ``strategy="source_wins"`` takes the picked value.
        """
        picked = cherry_pick.request(keys, strategy, dry_run)
        return cherry_pick.pick(self._on(branch), target, picked)

    # --- history ---------------------------------------------------------------------------------------------------

    def create_tag(
        self, name: str, description: str = "", *, at: Moment | None = None, branch: str | None = None
    ) -> Tag:
        """Give a name to what a branch holds now, or held ``at`` a moment; use it wherever a moment is taken."""
        return self._on(branch).amend(tags.create, name, description, at)

    def tags(self) -> Page[Tag]:
        """Return the tags of the namespace, by the seq they pin."""
        return self._on("main").free().read(tags.list_tags)

    def delete_tag(self, name: str) -> Tag:
        """Delete a tag and return what it was; the view it named stays in the history."""
        return tags.delete(self._on("main").free(), name)

    def rollback(
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
        """Restore what the branch held at a tag, a time or a seq, by new versions; history stays as it is.

        A rollback is undone by rolling back to the seq before it. Other agents' private entries are not touched.

        Args:
            agent_id: Undo only the values that this agent wrote since (without a moment: on this branch), and restore
                what stood under them. Entries on which others built are skipped and reported.
            include_others: Undo what other agents wrote, too.
            dry_run: Return the result without writing.

        Raises:
            RollbackTouchesOthersError: Other agents wrote since, and ``include_others`` is not set.
            BeforeHistoryError, TagNotFoundError, TagOffLineageError: There is nothing to go back to.
        """
        wanted = rollback.request(tag_name, timestamp, seq, agent_id, include_others, dry_run)
        return rollback.roll_back(self._on(branch), wanted)

    def fork(self, new_agent_id: str, *, branch: str | None = None) -> int:
        """Give a new agent a namespace of its own that starts with all this agent sees, and return how many entries.

        Nothing is copied. ``AgentMemory(new_agent_id)`` finds the namespace, named like the agent, by itself.

        Raises:
            AgentExistsError: The agent has acted already.
        """
        return self._on(branch).record(fork.fork, new_agent_id)

    # --- review ----------------------------------------------------------------------------------------------------

    def create_pull_request(
        self, title: str, source_branch: str, *, target_branch: str | None = None, description: str = ""
    ) -> PullRequest:
        """Propose to merge a branch into ``target_branch`` (default: its parent)."""
        return pulls.create(self._on(source_branch), target_branch, title, description)

    def review_pull_request(self, pull_request_id: int, verdict: ReviewVerdict | str, comment: str = "") -> PullRequest:
        """Say what you think of a pull request: approved, changes_requested or commented.

        An approval holds for what the source branch is now: a later version there dismisses it. A request for changes
        blocks the merge until the same reviewer approves.
        """
        return pulls.review(self._on("main").free(), pull_request_id, verdict, comment)

    def merge_pull_request(
        self,
        pull_request_id: int,
        *,
        strategy: MergeStrategy | str | merge.MergeResolver = MergeStrategy.THREE_WAY,
        resolver: merge.MergeResolver | None = None,
        dry_run: bool = False,
        close: bool = False,
    ) -> MergeResult:
        """Merge a pull request as ``merge_branch`` does; ``dry_run=True`` is its preview.

        Raises:
            PullRequestBlockedError: A reviewer requested changes. Without any review it may be merged.
            MergeConflictError, FastForwardRefusedError: As with ``merge_branch``; the pull request stays open.
        """
        plan = merge.request(strategy, resolver, None, dry_run, close)
        return pulls.merge(self._on("main").free(), pull_request_id, plan)

    def close_pull_request(self, pull_request_id: int) -> PullRequest:
        """Close a pull request without merging it; the branch stays."""
        return pulls.close(self._on("main").free(), pull_request_id)

    def pull_requests(self, status: PullRequestStatus | str | None = None) -> Page[PullRequest]:
        """Return the pull requests of the namespace, oldest first."""
        return self._on("main").free().read(pulls.list_pull_requests, status)

    # --- access ----------------------------------------------------------------------------------------------------

    def grant_branch_access(
        self, branch: str, grantee_type: GranteeType | str, grantee_id: str, permission: Permission | str
    ) -> Grant:
        """Let a user, a team or an API key read, or read and write, a branch; granting again replaces the permission.

        An API key is named by its id or by the key itself, of which only the id, or a digest, is kept. Main takes no
        grants: what a principal may do there is its role.
        """
        grantee_id = apikeys.conceal(grantee_type, grantee_id)  # a traceback may show arguments
        return self._on(branch).amend(grants.grant, grantee_type, grantee_id, permission)

    def revoke_branch_access(self, branch: str, grantee_type: GranteeType | str, grantee_id: str) -> Grant:
        """Take a grant back, from the next transaction on, and return what it was."""
        grantee_id = apikeys.conceal(grantee_type, grantee_id)
        return self._on(branch).amend(grants.revoke, grantee_type, grantee_id)

    def branch_access(self, branch: str) -> Page[Grant]:
        """Return the grants on a branch."""
        return self._on(branch).read(grants.list_grants)

    def create_api_key(
        self,
        name: str,
        *,
        agent_ids: Iterable[str],
        role: Role | str,
        expires: datetime | timedelta | None = None,
    ) -> CreatedApiKey:
        """Make an API key for this namespace; its ``key`` is known at this moment only.

        Args:
            name: What people call it.
            agent_ids: The agents it may act as; ``"*"`` stands for any.
            role: What it may do on main: reader, writer or admin. Other branches are granted.
            expires: When it ends, as an aware datetime or a timedelta. Default: never.
        """
        return self._on("main").free().record(apikeys.create, name, agent_ids, role, expires)

    def api_keys(self) -> Page[ApiKey]:
        """Return what is known of the API keys of the namespace, oldest first."""
        return self._on("main").free().read(apikeys.list_keys)

    def revoke_api_key(self, key_id: str) -> ApiKey:
        """Make an API key invalid from the next transaction on, given its id or the key itself."""
        key_id = apikeys.conceal(GranteeType.API_KEY, key_id)
        return self._on("main").free().record(apikeys.revoke, key_id)

    # --- experiments -----------------------------------------------------------------------------------------------

    def experiment(
        self, name: str | None = None, *, params: Mapping[str, Any] | None = None, source: str | None = None
    ) -> Experiment:
        """Return an experiment, to be used in a ``with`` statement: it runs on a branch of its own.

        The branch ``experiment/<name>`` is created on entering (``-2``, ``-3`` … if taken) and stays afterwards.
        Every handle and integration on this database and namespace follows it inside the block.
        """
        return Experiment(self, self._hooks(), name, validation.metadata(params), source)

    def experiments(self) -> Page[ExperimentRecord]:
        """Return the experiments of the namespace, oldest first."""
        return self._on("main").free().read(experiments.list_experiments)

    def compare(self, *experiments: Experiment | ExperimentRecord | str) -> Comparison:
        """Return a table of experiments (default: all): parameters, metrics, status."""
        return Comparison.of(self.experiments(), experiments)

    # --- identity --------------------------------------------------------------------------------------------------

    def as_agent(self, agent_id: str) -> Self:
        """Return a handle of another agent on the same database, namespace and branch, with a session of its own."""
        other = self._view(_agent_id=validation.name("agent_id", agent_id), _seen={})
        other._session = other._new_session(None)
        return other

    # --- insight ---------------------------------------------------------------------------------------------------

    def blame(self, entity_path: str, key: str, *, branch: str | None = None) -> Blame:
        """Return where an entry and each of its fields came from: version, agent, branch, merge, run and outcomes."""
        return self._on(branch).read(blame.blame, entity_path, key)

    def brief(
        self,
        entity_path: str | None = None,
        agent_id: str | None = None,
        *,
        limit: int = 20,
        writer: Callable[[str], str] | None = None,
        branch: str | None = None,
    ) -> Brief:
        """Return what is known of a path and those below it, or of everything, with citations.

        It covers shared entries, messages excepted, and is stored: it is compiled anew, with a brief_compiled event,
        when what it covers changed. The entries it cites count as read, as those of ``read_many`` do.

        Args:
            entity_path: What it is about. Default: everything.
            agent_id: Cover only the values that this agent wrote.
            limit: How many entries are cited, of all that count: the surest first, then the best tried, the newest.
            writer: Makes prose of the digest, such as a call of a model. It runs outside any transaction, and only when
                something changed; it is known by its module and name, so two writers need two names.
            branch: Whose memory it is about instead of the current branch's.

        Raises:
            WriterError: The writer failed, or returned no text of 1 to 100,000 characters. Nothing was stored.
        """
        wanted = briefs.request(entity_path, agent_id, limit, writer)
        return self._record(self._find_brief(wanted, branch=branch))

    def _find_brief(self, wanted: briefs.Request, *, branch: str | None) -> Found[Brief]:
        """Do what ``brief`` does, but leave it to the caller to ``_record`` what was found."""
        context, brief, _ = self._compile_brief(wanted, branch=branch)
        return Found(context, brief, runs.observe(context, list(brief.citations)))

    def _compile_brief(self, wanted: briefs.Request, *, branch: str | None) -> briefs.Compiled:
        """Compile a brief that is not fresh; nobody has read it by that."""
        # Named here once: what the writer does may switch the branch.
        return briefs.compile_resolving(self._on(self._branch_name(branch)), wanted, self._brief_checks)

    def _brief_pulse(self) -> briefs.Pulse:
        """Return what changes whenever a brief of the current branch may."""
        return self._on(None).read(briefs.pulse)

    def stats(self, *, branch: str | None = None) -> Stats:
        """Return figures about the database and what this agent can see on the current branch."""
        return self._on(branch).read(insight.stats, self._storage, self._namespace)

    def verify(self) -> VerifyReport:
        """Check every invariant of the database, and the file itself, and return what is wrong with it."""
        return self._on("main").free().read(insight.verify)

    # --- safety ----------------------------------------------------------------------------------------------------

    def backup(self, path: str | os.PathLike[str]) -> VerifyReport:
        """Copy the database, as it is now, into a file, while others go on using it.

        The copy is made beside ``path``, verified, and only then takes its place; its report is returned.

        Raises:
            CorruptDatabaseError: The copy is damaged, as the database must be. What was at ``path`` is untouched.
        """
        self._on("main").free().read(Context.require_admin, "back it up")
        return insight.backup(self._storage, path)

    @staticmethod
    def restore(path: str | os.PathLike[str], source: str | os.PathLike[str]) -> VerifyReport:
        """Put a backup in the place of a database that nobody has open, after verifying it.

        Raises:
            DatabaseBusyError: Somebody has the database at ``path`` open.
            CorruptDatabaseError, NotADatabaseError: ``source`` is no sound backup. Nothing was changed.
        """
        return insight.to_report(restore_database(path, source))

    def export_namespace(self, path: str | os.PathLike[str]) -> int:
        """Write all of the namespace, every version, event and branch, as JSON lines, and return how many.

        Private entries of all agents are among them, API keys and grants are not.
        """
        return self._on("main").free().read(transfer.export_to, path, self._namespace)

    def import_namespace(self, path: str | os.PathLike[str]) -> int:
        """Read what ``export_namespace`` wrote into this namespace, which must be empty, and return how many lines.

        Raises:
            NamespaceNotEmptyError: Something was written here already.
            InvalidExportError: The file is no export, or not whole. Nothing was imported.
        """
        return self._on("main").free().record(transfer.import_from, path)

    # --- life ------------------------------------------------------------------------------------------------------

    @property
    def agent_id(self) -> str:
        """Who acts."""
        return self._agent_id

    @property
    def namespace(self) -> str:
        """The repository of memory."""
        return self._namespace

    @property
    def branch(self) -> str:
        """The name of the branch that a call without ``branch=`` works on, here and now."""
        return self._branch_name(None)

    @property
    def session_id(self) -> str:
        """The name of this handle's session."""
        return self._session.session_id

    @property
    def database(self) -> str:
        """Where the database is."""
        return self._storage.database

    def _pending(self, put: validation.CheckedPut) -> Entry:
        """Return the entry that a buffered write stands for until it is committed."""
        return self._on(None).read(versions.pending, put)

    def close(self) -> None:
        """Save what the session read and, for the handle that opened the database, release it. Safe to call twice."""
        if not self._is_closed():
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if not hasattr(self, "_scope"):  # its making failed, and an error report shows what there is
            return "AgentMemory(not open)"
        place = f"namespace={self._namespace!r}, branch={self._branch!r}"
        return f"AgentMemory({self._agent_id!r}, {self.database!r}, {place})"

    # --- inside ----------------------------------------------------------------------------------------------------

    def _branch_name(self, branch: str | None) -> str:
        """Return the branch a call works on: explicit, pinned, experiment, current, in this order."""
        if branch is not None:
            return branch
        if self._pinned is not None:
            return self._pinned
        routed = routed_branch(self._scope)
        if routed is None and self._experiments:
            raise ExperimentContextLostError(
                f"experiment {self._experiments[-1].name!r} is open on this handle, but this context did not inherit "
                "it (a new thread, or another notebook cell). Use exp.memory, exp.bind(fn), or say branch= (source=)"
            )
        return routed or self._branch

    def _context(
        self, tx: Reader, branch: str | None, wanted: Permission | None, rights: Rights | None = None
    ) -> Context:
        """Return the context of a call; what the principal may do is looked up by each that is not the handle's own."""
        if self._is_closed():
            raise HandleClosedError("this AgentMemory was closed; open a new one")
        namespace = self._namespace_id
        if rights is None:
            principal = self._principal
            rights = (
                OWNER if principal is None else grants.rights(tx, namespace, principal, self._agent_id, self._clock)
            )
        return Context(
            tx,
            namespace,
            self._agent_id,
            tx.agent(self._agent_id) or NOBODY,
            branches.find_branch(tx, namespace, self._branch_name(branch), rights, wanted),
            runs.current(self._scope) or self._session,
            self._clock,
            self._settings,
            self._seen,
            self._live_runs,
            rights,
        )

    def _readable(self, tx: Reader, branch: str | None) -> Context:
        """Return the context of a branch that is read."""
        return self._context(tx, branch, Permission.READ)

    def _view(self, **changed: Any) -> Self:
        """Return a handle on the same database that differs in some attributes; it is closed with this one."""
        view = copy(self)
        vars(view).update(changed, _owner=self._owner or self, _closed=False)
        return view

    def _release(self) -> None:
        try:
            for run in self._live_runs.all() if self._owner is None else (self._session,):
                run.end()
        finally:
            self._closed = True
            if self._owner is None:
                self._storage.close()

    def _is_closed(self) -> bool:
        return self._closed or (self._owner is not None and self._owner._closed)

    def _on(self, branch: str | None) -> Access:
        return Access(self._storage, self._context, branch)

    def _look_for(
        self,
        reading: Reading,
        branch: str | None,
        operation: Callable[Concatenate[Context, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Found[T]:
        with reading as tx:
            context = self._context(tx, branch, Permission.READ)
            result = operation(context, *args, **kwargs)
        return Found(context, result, runs.observe(context, result))

    def _hooks(self) -> Hooks:
        return Hooks(self._on, self._scope, self._experiments)

    def _new_session(self, session_id: str | None) -> Run:
        name = f"sess-{secrets.token_hex(4)}" if session_id is None else session_id
        return Run(validation.name("session_id", name), "", save=self._save_run, live=self._live_runs)

    def _save_run(self, run: Run) -> None:
        runs.save(Access(self._storage, partial(self._context, rights=OWNER), "main"), run)

    def _open_namespace(self, namespace: str | None) -> tuple[str, int]:
        wanted = None if namespace is None else validation.name("namespace", namespace)
        may_create = self._principal is None or self._principal.role is Role.ADMIN
        return branches.open_namespace(self._storage, wanted, self._agent_id, self._clock(), may_create=may_create)


def _branch_of(context: Context) -> BranchRow:
    return context.branch


def _system_clock() -> int:
    return time.time_ns() // 1000
