"""What users of the replaced product were shown, step by step: the same calls must do the same things here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from amfs import (
    AccessDeniedError,
    AgentMemory,
    ConflictPolicy,
    EventType,
    MergeStrategy,
    Principal,
    StaleWriteError,
    extend_with_branching,
)

RETRY = ("checkout-service", "retry-pattern")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty folder, as somebody who tries the first example does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AMFS_DATABASE", raising=False)
    return tmp_path


@pytest.fixture
def agent() -> Iterator[AgentMemory]:
    """Return the agent of most examples, opened with nothing but its name."""
    with AgentMemory(agent_id="deploy-agent") as memory:
        yield memory


# --- where memory is -------------------------------------------------------------------------------------------------


def test_an_agent_needs_a_name_and_nothing_else(
    agent: AgentMemory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [branch.name for branch in agent.branches()] == ["main"]
    assert (folder / ".amfs" / "amfs.db").exists()
    agent.write(*RETRY, 1)
    with AgentMemory("another-agent") as other:
        assert other.read(*RETRY).value == 1
    monkeypatch.setenv("AMFS_DATABASE", str(folder / "elsewhere" / "memory.db"))
    with AgentMemory("deploy-agent") as elsewhere:
        assert elsewhere.read(*RETRY) is None
        assert Path(elsewhere.database) == folder / "elsewhere" / "memory.db"


# --- every write is a version ----------------------------------------------------------------------------------------


def test_a_write_supersedes_and_keeps_what_was_there(agent: AgentMemory) -> None:
    for size in (5, 10, 20):
        agent.write("svc", "config", {"pool_size": size})
    current = agent.read("svc", "config")
    assert (current.version, current.value) == (3, {"pool_size": 20})
    lines = [f"v{entry.version}: {entry.value}" for entry in agent.list("svc", include_superseded=True)]
    assert lines == ["v1: {'pool_size': 5}", "v2: {'pool_size': 10}", "v3: {'pool_size': 20}"]
    assert [entry.superseded for entry in agent.list("svc", include_superseded=True)] == [True, True, False]
    change = agent.compare_versions("svc", "config")
    assert [(one.path, one.old, one.new) for one in change.field_changes] == [("/pool_size", 10, 20)]


@pytest.mark.parametrize("policy", [ConflictPolicy.LAST_WRITE_WINS, ConflictPolicy.RAISE, "last_write_wins", "raise"])
def test_a_policy_decides_about_concurrent_writes(agent: AgentMemory, policy: Any) -> None:
    with AgentMemory(agent_id="my-agent", conflict_policy=policy) as mem:
        agent.write("svc", "config", {"pool_size": 5})
        mem.read("svc", "config")
        agent.write("svc", "config", {"pool_size": 10})
        if policy == "raise":
            with pytest.raises(StaleWriteError):
                mem.write("svc", "config", {"pool_size": 7})
            assert agent.read("svc", "config").value == {"pool_size": 10}
        else:
            assert mem.write("svc", "config", {"pool_size": 7}).version == 3
            assert [entry.value["pool_size"] for entry in mem.history("svc", "config")] == [5, 10, 7]


def test_a_resolver_combines_what_two_agents_wrote(agent: AgentMemory) -> None:
    def resolve(existing: Any, _incoming: Any, value: Any) -> Any:
        return {**existing.value, **value}

    with AgentMemory(agent_id="my-agent", on_conflict=resolve) as mem:
        mem.write("svc", "config", {"pool_size": 5})
        agent.write("svc", "config", {"pool_size": 5, "timeout": 30})
        assert mem.write("svc", "config", {"pool_size": 9}).value == {"pool_size": 9, "timeout": 30}


def test_an_outcome_makes_a_version_and_keeps_the_scores_before(agent: AgentMemory) -> None:
    agent.write("svc", "config", {"pool_size": 5}, confidence=0.5)
    agent.read("svc", "config")
    agent.commit_outcome("DEPLOY-1", "success")
    agent.read("svc", "config")
    agent.commit_outcome("INC-1", "failure")
    scores = [entry.confidence for entry in agent.history("svc", "config")]
    assert (len(scores), scores[0]) == (3, 0.5)
    assert scores[2] < scores[0] < scores[1]
    assert {entry.value["pool_size"] for entry in agent.history("svc", "config")} == {5}


# --- everything is an event ------------------------------------------------------------------------------------------


def test_the_timeline_tells_what_happened(agent: AgentMemory) -> None:
    agent.write(*RETRY, {"max_retries": 3})
    agent.write(*RETRY, {"max_retries": 4}, confidence=0.85)
    with AgentMemory(agent_id="review-agent") as other:
        other.read(*RETRY)
    agent.commit_outcome("INC-7", "minor_failure", [RETRY], causal_confidence=0.5)
    events = agent.timeline(limit=50)
    assert [f"{event.event_type}: {event.summary}" for event in events] == [
        "outcome: Outcome INC-7: minor_failure (1 entry updated)",
        "cross_agent_read: review-agent read deploy-agent's checkout-service/retry-pattern v2",
        "write: Wrote checkout-service/retry-pattern v2",
        "write: Wrote checkout-service/retry-pattern v1",
    ]
    assert f"[{events[0].created_at}]".startswith("[20")
    outcome, read, write, _ = events
    assert {"entity_path": RETRY[0], "key": RETRY[1], "version": 2, "confidence": 0.85}.items() <= write.details.items()
    assert (read.details["reader_agent"], read.details["entity"], read.details["key"]) == (
        "review-agent", "/".join(RETRY), RETRY[1],
    )  # fmt: skip
    assert outcome.details.items() >= {
        "outcome_ref": "INC-7", "outcome_type": "minor_failure", "causal_confidence": 0.5,
    }.items()  # fmt: skip


def test_an_event_as_json_has_the_fields_that_were_promised(agent: AgentMemory) -> None:
    agent.write(*RETRY, 1, confidence=0.85)
    event = agent.timeline()[0].model_dump(mode="json")
    assert (event["event_type"], event["branch"], event["agent_id"]) == ("write", "main", "deploy-agent")
    assert event["summary"] == "Wrote checkout-service/retry-pattern v1"
    assert event["created_at"].endswith("Z")
    assert event["details"].items() >= {"version": 1, "confidence": 0.85}.items()


# --- branches --------------------------------------------------------------------------------------------------------


@pytest.fixture
def experiment(agent: AgentMemory) -> str:
    """Return the branch of the example, with one change on it."""
    extend_with_branching(agent)
    agent.write(*RETRY, {"max_retries": 3, "backoff": "exponential"})
    agent.create_branch("experiment/retry-v3", description="Testing aggressive retry")
    agent.write(*RETRY, {"max_retries": 5, "backoff": "linear"}, confidence=0.7, branch="experiment/retry-v3")
    return "experiment/retry-v3"


def test_a_branch_is_written_and_read_without_touching_main(agent: AgentMemory, experiment: str) -> None:
    (branch,) = [branch for branch in agent.branches() if branch.name == experiment]
    assert branch.description == "Testing aggressive retry"
    on_branch = agent.read(*RETRY, branch=experiment)
    assert (on_branch.value["max_retries"], on_branch.confidence, on_branch.version) == (5, 0.7, 2)
    assert agent.read(*RETRY).value == {"max_retries": 3, "backoff": "exponential"}


def test_a_branch_is_reviewed_before_it_is_merged(agent: AgentMemory, experiment: str) -> None:
    agent.write("checkout-service", "timeout", 30, branch=experiment)
    lines = [f"{change.diff_type}: {change.entity_path}/{change.key}" for change in agent.diff_branch(experiment)]
    assert lines == ["modified: checkout-service/retry-pattern", "added: checkout-service/timeout"]
    result = agent.merge_branch(experiment, strategy=MergeStrategy.FAST_FORWARD)
    assert f"Merged {result.merged_entries} entries" == "Merged 2 entries"
    assert agent.read(*RETRY).value == {"max_retries": 5, "backoff": "linear"}
    types = [event.event_type.value for event in agent.timeline()]
    assert types == ["branch_merged", "write", "write", "branch_created", "write"]


def test_a_branch_that_came_to_nothing_is_closed(agent: AgentMemory, experiment: str) -> None:
    agent.close_branch(experiment)
    event = agent.timeline(limit=1)[0]
    assert (event.event_type, event.branch) == ("branch_closed", experiment)
    assert agent.read(*RETRY).value["max_retries"] == 3
    assert agent.read(*RETRY, branch=experiment).value["max_retries"] == 5


# --- who may use a branch --------------------------------------------------------------------------------------------


def test_a_branch_is_shared_with_an_api_key(agent: AgentMemory, experiment: str) -> None:
    grant = agent.grant_branch_access(
        "experiment/retry-v3",
        grantee_type="api_key",
        grantee_id="amfs_sk_agent_b_key",
        permission="read_write",
    )
    assert (grant.grantee_type, grant.permission) == ("api_key", "read_write")
    assert "agent_b_key" not in repr(agent.branch_access(experiment)), "what may be a key is not kept"
    assert agent.timeline(limit=1)[0].event_type == "access_granted"


@pytest.mark.parametrize("permission", ["read", "read_write"])
def test_a_permission_says_who_may_read_and_who_may_write(agent: AgentMemory, experiment: str, permission: str) -> None:
    agent.grant_branch_access(experiment, grantee_type="user", grantee_id="eve", permission=permission)
    value = {"max_retries": 7, "backoff": "linear"}
    with AgentMemory("agent-b", principal=Principal(user_id="eve", role="reader")) as other:
        assert other.read(*RETRY, branch=experiment).value["max_retries"] == 5
        if permission == "read_write":
            assert other.write(*RETRY, value, branch=experiment).version == 3
        else:
            with pytest.raises(AccessDeniedError):
                other.write(*RETRY, value, branch=experiment)
    stranger = AgentMemory("agent-c", principal=Principal(user_id="mallory", role="writer"))
    with stranger, pytest.raises(AccessDeniedError):
        stranger.read(*RETRY, branch=experiment)
    agent.revoke_branch_access(experiment, "user", "eve")
    assert agent.timeline(limit=1)[0].event_type == "access_revoked"


# --- pull requests ---------------------------------------------------------------------------------------------------


def test_a_pull_request_is_opened_approved_and_merged(agent: AgentMemory, experiment: str) -> None:
    pr = agent.create_pull_request(
        "Aggressive retry strategy",
        source_branch="experiment/retry-v3",
        description="Testing 5x retries with linear backoff",
    )
    agent.review_pull_request(pr.id, "approved", comment="Looks good")
    agent.merge_pull_request(pr.id)
    (ended,) = agent.pull_requests()
    assert (ended.status, ended.approved, ended.source_branch) == ("merged", True, experiment)
    assert agent.read(*RETRY).value == {"max_retries": 5, "backoff": "linear"}


# --- going back ------------------------------------------------------------------------------------------------------


def test_memory_goes_back_to_a_tag(agent: AgentMemory) -> None:
    agent.write(*RETRY, {"max_retries": 3})
    agent.create_tag("v1.0-stable", description="Pre-migration baseline")
    agent.write(*RETRY, {"max_retries": 50})
    agent.write("checkout-service", "timeout", 1)
    agent.rollback(tag_name="v1.0-stable")
    assert [(entry.key, entry.value) for entry in agent.list()] == [("retry-pattern", {"max_retries": 3})]
    assert [tag.name for tag in agent.tags()] == ["v1.0-stable"]
    assert [event.event_type for event in agent.timeline()] == ["rollback", "write", "write", "tag_created", "write"]


def test_memory_goes_back_to_a_time() -> None:
    now = [datetime(2026, 3, 31, 12, tzinfo=timezone.utc)]  # noqa: UP017 - as the example has it
    with AgentMemory("deploy-agent", clock=lambda: round(now[0].timestamp() * 1_000_000)) as mem:
        mem.write(*RETRY, {"max_retries": 3})
        now[0] = datetime(2026, 4, 3, 14, 30, tzinfo=timezone.utc)  # noqa: UP017
        mem.write(*RETRY, {"max_retries": 50})
        mem.write("checkout-service", "timeout", 1)
        mem.rollback(timestamp=datetime(2026, 4, 1, tzinfo=timezone.utc))  # noqa: UP017
        assert [(entry.key, entry.value, entry.version) for entry in mem.list()] == [
            ("retry-pattern", {"max_retries": 3}, 3)
        ]
        assert mem.timeline(limit=1)[0].event_type is EventType.ROLLBACK


# --- fork ------------------------------------------------------------------------------------------------------------


def test_an_agents_memory_is_cloned_into_a_new_agent(agent: AgentMemory, experiment: str) -> None:
    agent.write("checkout-service", "note", "to myself", shared=False)
    count = agent.fork("deploy-agent-v2")
    assert f"Forked {count} entries to deploy-agent-v2" == "Forked 2 entries to deploy-agent-v2"
    with AgentMemory("deploy-agent-v2") as clone:
        assert {entry.key: entry.value for entry in clone.list()} == {entry.key: entry.value for entry in agent.list()}
        clone.write(*RETRY, "of the clone")
        assert [branch.name for branch in clone.branches()] == ["main"]
    assert agent.read(*RETRY).value == {"max_retries": 3, "backoff": "exponential"}
    assert agent.read(*RETRY, branch=experiment).value["max_retries"] == 5


def test_entries_are_picked_from_a_branch_to_main(agent: AgentMemory, experiment: str) -> None:
    agent.write("checkout-service", "timeout", 30, branch=experiment)
    assert agent.cherry_pick(experiment, ["checkout-service/timeout"]).merged_entries == 1
    assert (agent.read("checkout-service", "timeout").value, agent.read(*RETRY).value["max_retries"]) == (30, 3)
    assert agent.timeline(limit=1)[0].event_type == "cherry_pick"


def test_every_promised_type_of_event_is_known() -> None:
    promised = """write outcome cross_agent_read brief_compiled webhook_ingested branch_created branch_merged
    branch_closed access_granted access_revoked tag_created rollback cherry_pick fork"""
    assert set(promised.split()) <= {kind.value for kind in EventType}


def test_the_whole_story_in_one_go() -> None:
    now = [datetime(2026, 3, 30, tzinfo=timezone.utc)]  # noqa: UP017 - as the example has it
    with AgentMemory(agent_id="deploy-agent", clock=lambda: round(now[0].timestamp() * 1_000_000)) as mem:
        extend_with_branching(mem)
        mem.write("checkout-service", "retry-pattern", {"max_retries": 3})
        now[0] = datetime(2026, 4, 3, tzinfo=timezone.utc)  # noqa: UP017
        mem.create_branch("experiment/retry-v3", description="Testing aggressive retry")
        mem.write(
            "checkout-service",
            "retry-pattern",
            {"max_retries": 5, "backoff": "linear"},
            confidence=0.7,
            branch="experiment/retry-v3",
        )
        diffs = mem.diff_branch("experiment/retry-v3")
        assert [f"{d.diff_type}: {d.entity_path}/{d.key}" for d in diffs] == [
            "modified: checkout-service/retry-pattern"
        ]
        result = mem.merge_branch("experiment/retry-v3", strategy=MergeStrategy.FAST_FORWARD)
        assert result.merged_entries == 1
        pr = mem.create_pull_request("Aggressive retry strategy", source_branch="experiment/retry-v3")
        mem.review_pull_request(pr.id, "approved", comment="Looks good")
        assert mem.merge_pull_request(pr.id).status == "up_to_date", "it was merged a moment ago"
        mem.create_tag("v1.0-stable", description="Pre-migration baseline")
        assert mem.rollback(tag_name="v1.0-stable").restored_entries == 0, "nothing happened since"
        mem.rollback(timestamp=datetime(2026, 4, 1, tzinfo=timezone.utc))  # noqa: UP017
        assert mem.read("checkout-service", "retry-pattern").value == {"max_retries": 3}
        assert mem.fork("deploy-agent-v2") == 1
        assert mem.verify().ok
