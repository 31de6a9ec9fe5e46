"""The state machine can fail: each of these bugs, planted in the engine one at a time, it finds in a small budget."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from amfs.core import (
    blame,
    branches,
    cherry_pick,
    diff,
    fields,
    fork,
    merge,
    moments,
    pending,
    pulls,
    rollback,
    runs,
    versions,
)
from amfs.core.context import OWNER, Context, Rights, WriteContext
from amfs.core.evidence import posterior
from amfs.models import EventType, Permission
from amfs.storage import queries
from amfs.storage.records import Records
from amfs.storage.rows import EVENT_CODE, NOW, SHARED, GrantRow, MergeEdge
from amfs.storage.tables import Tables
from tests.helpers_machine import run_machine, run_random

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from amfs.models import Branch, Entry, Page, PullRequest, Review, Side
    from amfs.storage.rows import ApiKeyRow, BranchRow, NewVersion, PullRequestRow, RollbackRow, VersionRow

    Plant = Callable[[pytest.MonkeyPatch], None]

STEPS = 20_000
SEED = 20_261_120
FIRST_BRANCH = 1
ROLLBACK = EVENT_CODE[EventType.ROLLBACK]
DRAWN = settings(
    max_examples=60,
    stateful_step_count=30,
    phases=[Phase.generate],
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

PLANTS: dict[str, Plant] = {}


def plant(bug: Plant) -> Plant:
    """Add a bug to those that have to be found."""
    PLANTS[bug.__name__] = bug
    return bug


def spoil_versions(patch: pytest.MonkeyPatch, spoil: Callable[[VersionRow, VersionRow], VersionRow]) -> None:
    """Change every version on its way into the log, given the one it follows."""
    append = Tables.append_version

    def append_spoilt(self: Tables, new: NewVersion) -> None:
        before = self.visible(self.branch_by_id(new.row.branch), new.row.slot)
        append(self, new if before is None else new._replace(row=spoil(new.row, before)))

    patch.setattr(Tables, "append_version", append_spoilt)


def spoil_lists(patch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Change the statements that list what is there."""
    for name in ("LIST_ROOT_ALL", "LIST_VIEW_ALL"):
        statement = getattr(queries, name)
        assert old in statement
        patch.setattr(queries, name, statement.replace(old, new))


@plant
def a_branch_sees_one_event_after_its_fork(patch: pytest.MonkeyPatch) -> None:
    add = Tables.add_branch

    def add_late(self: Tables, row: BranchRow) -> int:
        return add(self, row if row.parent is None else row._replace(fork_seq=row.fork_seq + 1))

    patch.setattr(Tables, "add_branch", add_late)


@plant
def the_merge_base_is_always_the_fork(patch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> list[MergeEdge]:
        return []

    patch.setattr(Records, "merge_edges", none)


@plant
def merges_into_main_leave_no_trace(patch: pytest.MonkeyPatch) -> None:
    add = Records.add_merge_edge

    def add_some(self: Records, edge: MergeEdge) -> None:
        if edge.target != FIRST_BRANCH:
            add(self, edge)

    patch.setattr(Records, "add_merge_edge", add_some)


@plant
def deleted_entries_are_listed(patch: pytest.MonkeyPatch) -> None:
    spoil_lists(patch, "h.live AND", "")


@plant
def expired_entries_are_listed(patch: pytest.MonkeyPatch) -> None:
    spoil_lists(patch, "h.expires > ?4", "h.expires IS NOT ?4")


@plant
def private_entries_are_listed_to_everyone(patch: pytest.MonkeyPatch) -> None:
    spoil_lists(patch, "p.owner IN (0, ?2)", "p.owner IS NOT -?2")


@plant
def version_numbers_start_again_on_a_branch(patch: pytest.MonkeyPatch) -> None:
    def restart(new: VersionRow, before: VersionRow) -> VersionRow:
        return new if before.branch == new.branch else new._replace(version=1)

    spoil_versions(patch, restart)


@plant
def version_numbers_start_again_after_a_deletion(patch: pytest.MonkeyPatch) -> None:
    def restart(new: VersionRow, before: VersionRow) -> VersionRow:
        return new if before.live else new._replace(version=1)

    spoil_versions(patch, restart)


@plant
def a_new_value_keeps_the_old_evidence(patch: pytest.MonkeyPatch) -> None:
    def keep(new: VersionRow, before: VersionRow) -> VersionRow:
        known = new._replace(good=before.good, bad=before.bad, outcomes=before.outcomes)
        return known._replace(confidence=posterior(new.prior, before.good, before.bad))

    spoil_versions(patch, keep)


@plant
def merges_leave_deletions_out(patch: pytest.MonkeyPatch) -> None:
    find = diff.deltas

    def find_some(*args: Any) -> list[diff.Delta]:
        return [delta for delta in find(*args) if delta.source is not None]

    patch.setattr(diff, "deltas", find_some)


@plant
def the_target_wins_every_field(patch: pytest.MonkeyPatch) -> None:
    def keep_target(*sides: Any) -> fields.Merged:
        return fields.Merged(sides[2], ())

    patch.setattr(fields, "merge", keep_target)


@plant
def one_is_true(patch: pytest.MonkeyPatch) -> None:
    def equal(one: Any, other: Any) -> bool:
        return one == other

    patch.setattr(fields, "equal", equal)


@plant
def the_past_ends_one_event_early(patch: pytest.MonkeyPatch) -> None:
    find = Tables.visible

    def find_earlier(self: Tables, branch: BranchRow, slot: int, upto: int = NOW) -> VersionRow | None:
        return find(self, branch, slot, upto if upto == NOW else upto - 1)

    patch.setattr(Tables, "visible", find_earlier)


@plant
def every_read_of_another_agent_is_an_event(patch: pytest.MonkeyPatch) -> None:
    note = runs.Run.note

    def note_again(self: runs.Run, entry: Entry, agent: str) -> bool:
        return note(self, entry, agent) or entry.agent_id != agent

    patch.setattr(runs.Run, "note", note_again)


@plant
def merges_that_were_rolled_back_still_count(patch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> list[RollbackRow]:
        return []

    patch.setattr(Records, "rollbacks", none)


@plant
def a_rollback_takes_back_what_others_merged_in_private(patch: pytest.MonkeyPatch) -> None:
    find = Records.rollbacks

    class Everyone:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    def find_for_everyone(self: Records, branches: Any) -> list[RollbackRow]:
        return [row._replace(agent=Everyone()) for row in find(self, branches)]  # type: ignore[arg-type]

    patch.setattr(Records, "rollbacks", find_for_everyone)


@plant
def a_rollback_forgets_what_outcomes_said(patch: pytest.MonkeyPatch) -> None:
    append = Tables.append_versions

    def append_forgetful(self: Tables, versions: list[NewVersion]) -> None:
        append(self, [forgotten(one) if one.event_type == ROLLBACK else one for one in versions])

    def forgotten(new: NewVersion) -> NewVersion:
        return new._replace(row=new.row._replace(good=0.0, bad=0.0, outcomes=0, confidence=new.row.prior))

    patch.setattr(Tables, "append_versions", append_forgetful)


@plant
def a_rollback_reaches_private_entries_of_others(patch: pytest.MonkeyPatch) -> None:
    assert "owner IN (0, ?2)" in queries.COMMITTERS
    patch.setattr(queries, "COMMITTERS", queries.COMMITTERS.replace("owner IN (0, ?2)", "owner IS NOT -?2"))


@plant
def a_rollback_does_not_mind_others(patch: pytest.MonkeyPatch) -> None:
    plan = rollback._plan

    def plan_alone(*args: Any) -> rollback.Plan:
        return plan(*args)._replace(others={})

    patch.setattr(rollback, "_plan", plan_alone)


@plant
def an_author_is_undone_below_what_others_built(patch: pytest.MonkeyPatch) -> None:
    plan = rollback._plan_author

    def plan_all(*args: Any) -> rollback.Plan:
        found = plan(*args)
        return found._replace(restored=[*found.restored, *found.skipped], skipped=[])

    patch.setattr(rollback, "_plan_author", plan_all)


@plant
def a_cherry_pick_starts_from_the_merge_base(patch: pytest.MonkeyPatch) -> None:
    find = cherry_pick._delta

    def find_since_the_base(context: Context, on_source: Context, wanted: cherry_pick.Pick) -> diff.Delta:
        delta = find(context, on_source, wanted)
        base = diff.compare(context, on_source.branch, context.branch).base
        row = context.tx.visible(context.tx.branch_by_id(base.branch), delta.slot_id, base.seq)
        return delta._replace(base=versions.present(row, None))

    patch.setattr(cherry_pick, "_delta", find_since_the_base)


@plant
def a_cherry_pick_counts_as_a_merge(patch: pytest.MonkeyPatch) -> None:
    write = merge.write_plan

    def write_with_an_edge(context: WriteContext, plan: merge.Plan, event_type: EventType, about: Any) -> int:
        event = write(context, plan, event_type, about)
        if event_type is EventType.CHERRY_PICK:
            source, seq = plan.comparison.source
            context.tx.records.add_merge_edge(MergeEdge(context.branch.id, event, source, seq, context.agent_id))
        return event

    patch.setattr(merge, "write_plan", write_with_an_edge)


@plant
def tags_off_the_lineage_are_taken(patch: pytest.MonkeyPatch) -> None:
    def pinned(context: Context, name: str) -> int:
        return moments.find_tag(context, name).seq

    patch.setattr(moments, "_pinned", pinned)


@plant
def approvals_stand_for_ever(patch: pytest.MonkeyPatch) -> None:
    show = pulls._review_model

    def show_standing(*args: Any) -> Review:
        shown = show(*args)
        return shown.model_copy(update={"dismissed": shown.dismissed and shown.verdict != "approved"})

    patch.setattr(pulls, "_review_model", show_standing)


@plant
def requested_changes_do_not_block(patch: pytest.MonkeyPatch) -> None:
    show = pulls._model

    def show_unblocked(context: Context, row: PullRequestRow, said: Any) -> PullRequest:
        shown = show(context, row, said)
        return shown.model_copy(update={"changes_requested_by": ()}) if isinstance(context, WriteContext) else shown

    patch.setattr(pulls, "_model", show_unblocked)


@plant
def resolutions_hold_for_what_moved_since(patch: pytest.MonkeyPatch) -> None:
    decide = pending.decisions

    def decide_by_slot(*args: Any) -> dict[tuple[int, int, int], Side | str | None]:
        return {(slot, 0, 0): decision for (slot, *_), decision in decide(*args).items()}

    def slot_alone(delta: diff.Delta) -> tuple[int, int, int]:
        return delta.slot_id, 0, 0

    patch.setattr(pending, "decisions", decide_by_slot)
    patch.setattr(merge, "identity", slot_alone)


@plant
def conflicts_of_private_entries_are_everyones(patch: pytest.MonkeyPatch) -> None:
    def everything(_: Context, rows: Any) -> list[Any]:
        return list(rows)

    patch.setattr(pending, "_visible", everything)


@plant
def a_fork_shares_what_was_private(patch: pytest.MonkeyPatch) -> None:
    give, add = fork._hand_over, Tables.add_slot

    def add_shared(self: Tables, _: int, path: str, key: str) -> int:
        return add(self, SHARED, path, key)

    def give_to_all(*args: Any) -> None:
        with pytest.MonkeyPatch.context() as meanwhile:
            meanwhile.setattr(Tables, "add_slot", add_shared)
            give(*args)

    patch.setattr(fork, "_hand_over", give_to_all)


@plant
def a_reader_may_write(patch: pytest.MonkeyPatch) -> None:
    allow = Rights.allow

    def allow_more(self: Rights, name: str, row: BranchRow | None, wanted: Permission) -> bool:
        return allow(self, name, row, Permission.READ if name == "main" else wanted)

    patch.setattr(Rights, "allow", allow_more)


@plant
def whoever_may_read_a_branch_may_write_it(patch: pytest.MonkeyPatch) -> None:
    find = Records.grants_of

    def find_more(self: Records, *args: Any) -> list[tuple[int, str]]:
        return [(branch, "read_write") for branch, _ in find(self, *args)]

    patch.setattr(Records, "grants_of", find_more)


@plant
def a_team_of_the_creator_may_write(patch: pytest.MonkeyPatch) -> None:
    def let_all_write(context: WriteContext, branch: BranchRow) -> None:
        for grantee in context.rights.grantees:
            row = GrantRow(branch.id, *grantee, "read_write", context.agent_id, context.now)
            context.tx.records.save_grant(row)

    patch.setattr(branches, "_let_creator_write", let_all_write)


@plant
def hidden_branches_are_listed(patch: pytest.MonkeyPatch) -> None:
    show = branches.list_branches

    def show_all(context: Context, status: object) -> Page[Branch]:
        return show(replace(context, rights=OWNER), status)

    patch.setattr(branches, "list_branches", show_all)


@plant
def a_revoked_key_opens_still(patch: pytest.MonkeyPatch) -> None:
    find = Records.api_key

    def find_valid(self: Records, key: str) -> ApiKeyRow | None:
        row = find(self, key)
        return row and row._replace(revoked_at=None)

    patch.setattr(Records, "api_key", find_valid)


@plant
def blame_ends_at_the_merge(patch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object) -> None:
        return None

    patch.setattr(blame._Past, "_source", nowhere)


@plant
def a_larger_event_is_seen_in_part(patch: pytest.MonkeyPatch) -> None:
    def same(_: Tables, seq: int) -> int:
        return seq

    patch.setattr(Tables, "end_of_event", same)


@pytest.mark.parametrize("bug", PLANTS)
def test_planted_bug_is_found(bug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    PLANTS[bug](monkeypatch)
    with pytest.raises(AssertionError) as found:
        run_random(tmp_path, SEED, STEPS)
    print(f"{bug}: {found.value.__notes__[-1].splitlines()[-1]}")


def test_no_alarm_without_a_bug(tmp_path: Path):
    assert run_random(tmp_path, SEED, 3_000)["*changed"] > 1_500


def test_hypothesis_finds_a_bug_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    deleted_entries_are_listed(monkeypatch)
    with pytest.raises(AssertionError):
        run_machine(tmp_path, DRAWN, SEED)
