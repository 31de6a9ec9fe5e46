"""Permissions: every operation by every kind of principal on branches of every state, and what is hidden stays so."""

from __future__ import annotations

import traceback
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from amfs import (
    AccessDeniedError,
    AgentMemory,
    AMFSError,
    BranchStatus,
    EventType,
    Find,
    ListPaths,
    MemoryType,
    MergeConflictError,
    Principal,
    PullRequestStatus,
)
from tests.helpers_permissions import (
    AGENT,
    DOUBLE,
    EACH,
    PRINCIPALS,
    ROWS,
    SINGLE,
    Row,
    World,
    build,
    opens_on,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    Reader = Callable[..., AgentMemory]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return the database that every case copies."""
    return build(tmp_path_factory.mktemp("world") / "memory.db")


# --- the matrix ------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A principal that carries out an operation on branches."""

    row: Row
    principal: str
    places: tuple[str, ...]

    def __str__(self) -> str:
        note = f" ({self.row.note})" if self.row.note else ""
        return f"{self.principal}: {self.row.name}{note} {' -> '.join(self.places)}"


MATRIX = [Case(row, who, places) for row in ROWS for who in PRINCIPALS for places in row.places]


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_what_a_principal_may_do(case: Case, world: World, tmp_path: Path) -> None:
    database = world.copy(tmp_path / "memory.db")
    with world.opened(case.principal, database) as mem:
        before = state_of(database)
        expected = case.row.verdict(case.principal, case.places)
        assert raised_by(lambda: case.row.call(mem, world, tmp_path, *case.places)) == expected
        assert (state_of(database) != before) == (expected is None and case.row.writes)


def raised_by(call: Any) -> type[AMFSError] | None:
    """Return what a call raises."""
    try:
        call()
    except AMFSError as error:
        return type(error)
    return None


@pytest.mark.parametrize(("principal", "place"), [(who, place) for who in PRINCIPALS for (place,) in EACH])
def test_who_may_open_a_handle_on_a_branch(principal: str, place: str, world: World, tmp_path: Path) -> None:
    database = world.copy(tmp_path / "memory.db")
    before = state_of(database)
    options: dict[str, Any] = {"durability": "normal", "principal": world.principal(principal)}
    error = raised_by(lambda: AgentMemory(AGENT, database, branch=place, **options).close())
    assert error == opens_on(principal, place)
    assert state_of(database) == before


def test_every_public_attribute_has_a_row() -> None:
    assert {row.name for row in ROWS} == {name for name in dir(AgentMemory) if not name.startswith("_")}


def test_the_matrix_is_large_and_mixed() -> None:
    assert len(MATRIX) >= 1_000
    verdicts = [case.row.verdict(case.principal, case.places) for case in MATRIX]
    assert verdicts.count(AccessDeniedError) >= 300
    assert verdicts.count(None) >= 300


# --- hidden and absent -----------------------------------------------------------------------------------------------

NAMES = {
    "hidden": "hiddem",
    "secret/plan-a": "secret/plan-b",
    "q": "z",
    "Grüße/日本": "Grüße/日木",
    "experiment/try": "experiment/tri",
    "n" * 120: "m" * 120,
}
"""The names of hidden branches, each with one of the same shape that does not exist."""

SPOTS = [(row, spot) for row in (*SINGLE, *DOUBLE) for spot in range(len(row.places[0]))]
RESTRICTED = ("key_reader", "key_writer", "user_write", "team", "stranger")


class Failure(NamedTuple):
    """All that can be told of an error but the name that was asked for."""

    kind: type[BaseException]
    code: str
    text: str
    notes: tuple[str, ...]
    frames: tuple[tuple[str, str, int | None], ...]
    cause: str
    context: str


def failure(call: Any, name: str) -> Failure:
    """Return what can be told of the error that a call raises."""
    with pytest.raises(AMFSError) as caught:
        call()
    error = caught.value
    frames = traceback.extract_tb(error.__traceback__)
    return Failure(
        type(error),
        error.code,
        f"{error} {error.args}".replace(name, "?").replace(ascii(name)[1:-1], "?"),
        tuple(getattr(error, "__notes__", ())),
        tuple((frame.filename, frame.name, frame.lineno) for frame in frames),
        repr(error.__cause__),
        repr(error.__context__),
    )


@pytest.fixture(scope="module")
def veiled(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return a database with hidden branches of many names."""
    world = build(tmp_path_factory.mktemp("veiled") / "memory.db")
    with AgentMemory(AGENT, world.database, durability="normal") as owner:
        for name in [name for name in NAMES if name != "hidden"]:
            owner.create_branch(name)
            owner.write("notes", f"on-{name}", "secret", branch=name)
    return world


def test_there_are_many_pairs_of_hidden_and_absent() -> None:
    assert len(SPOTS) * len(NAMES) * len(RESTRICTED) >= 200


@pytest.mark.parametrize(("row", "spot"), SPOTS, ids=[f"{row.name} {row.note} {spot}" for row, spot in SPOTS])
def test_a_hidden_branch_is_refused_like_an_absent_one(row: Row, spot: int, veiled: World, tmp_path: Path) -> None:
    for principal in RESTRICTED:
        database = veiled.copy(tmp_path / f"{principal}.db")
        with veiled.opened(principal, database) as mem:
            before = state_of(database)
            for hidden, absent in NAMES.items():
                failures = [
                    failure(lambda names=names: row.call(mem, veiled, tmp_path, *names), names[spot])
                    for names in (_named(row, spot, hidden), _named(row, spot, absent))
                ]
                assert failures[0] == failures[1]
                assert failures[0].kind is AccessDeniedError
            assert state_of(database) == before


def _named(row: Row, spot: int, name: str) -> tuple[str, ...]:
    """Return the names of a call with one of them replaced; the others are of branches that many may read."""
    return tuple(name if number == spot else "open" for number in range(len(row.places[0])))


@pytest.mark.parametrize("verb", ["review", "merge", "preview", "close", "resolve", "read at", "tag", "history"])
def test_what_belongs_to_a_hidden_branch_is_refused_like_what_is_absent(
    verb: str, world: World, tmp_path: Path
) -> None:
    database = world.copy(tmp_path / "memory.db")
    pulls = world.pulls["hidden", "main"], world.pulls["absent", "absent"]
    conflicts = world.conflicts["clash-hidden", "main"], world.conflicts["absent", "absent"]
    tags = "tag/hidden", "tag/hiddem"
    calls: dict[str, tuple[tuple[Any, Any], Any]] = {
        "review": (pulls, lambda mem, one: mem.review_pull_request(one, "approved")),
        "merge": (pulls, lambda mem, one: mem.merge_pull_request(one)),
        "preview": (pulls, lambda mem, one: mem.merge_pull_request(one, dry_run=True)),
        "close": (pulls, lambda mem, one: mem.close_pull_request(one)),
        "resolve": (conflicts, lambda mem, one: mem.resolve_conflict(one, take="source")),
        "read at": (tags, lambda mem, one: mem.read("notes", "k", at=one, branch="open")),
        "tag": (tags, lambda mem, one: mem.delete_tag(one)),
        "history": (tags, lambda mem, one: mem.history("notes", "k", since=one, branch="open")),
    }
    names, call = calls[verb]
    for principal in ("key_reader", "key_writer", "user_read", "user_write", "team"):
        with world.opened(principal, database) as mem:
            hidden, absent = (failure(lambda one=one: call(mem, one), str(one)) for one in names)
            assert hidden == absent


def test_a_hidden_default_target_is_not_named(world: World, tmp_path: Path) -> None:
    database = world.copy(tmp_path / "memory.db")
    with AgentMemory(AGENT, database, durability="normal") as owner:
        owner.create_branch("child", source="hidden")
        owner.grant_branch_access("child", "user", "writer", "read_write")
    with world.opened("user_write", database) as mem:
        for call in (
            lambda: mem.diff_branch("child"),
            lambda: mem.merge_branch("child"),
            lambda: mem.cherry_pick("child", [("notes", "k")]),
            lambda: mem.create_pull_request("please", "child"),
        ):
            assert "hidden" not in failure(call, "child").text.replace("(hidden)", "")


# --- nothing leaks ---------------------------------------------------------------------------------------------------

CANARY = "canary"
"""Stands in every name and value that belongs to hidden branches."""


def build_canaries(database: Path, veiled: str, target: str) -> None:
    """Make a database with hidden branches, all that can hang on one, and branches and entries that are not hidden.

    What is not secret is carried over from the veiled branch to the target.
    """
    with AgentMemory(AGENT, database, durability="normal") as owner:
        owner.write("plain", "picked", 1)
        owner.write("plain", "clash", {"a": 1})
        owner.write("plain", "child", 1)
        for name in ("canary-branch", "canary/merged", "sibling"):
            owner.create_branch(name, "" if name == "sibling" else "canary-description")
        hidden = owner.as_agent("canary-agent").on_branch(veiled)
        _hang_on(hidden, owner.on_branch(veiled))
        _carry_over(owner, veiled, target)
        hidden.delete_tag("canary/tag")
        hidden.create_tag("canary/last", "canary-description")
        owner.create_branch("child", "of a hidden one", source=veiled, at="before")
        for branch in ("child", "sibling"):
            owner.write("plain", "child", branch, branch=branch)
            owner.grant_branch_access(branch, "user", "guest", "read_write")
        owner.create_pull_request("visible", "sibling", target_branch="child")
        owner.as_agent("bob").write("canary-path", "canary-private", "canary-value", shared=False)
        owner.create_api_key("canary-key", agent_ids=["canary-agent"], role="reader")


def _hang_on(hidden: AgentMemory, known: AgentMemory) -> None:
    """Do on a hidden branch whatever can be done there; its first tag comes before all that is secret."""
    hidden.create_tag("before", "nothing secret yet")
    hidden.create_tag("canary/tag", "canary-description")
    hidden.write("canary-path", "canary-key", {"canary-field": "canary-value"}, pattern_refs=["canary-ref"])
    known.write("plain", "clash", {"a": "canary-value"})
    known.write("plain", "picked", 2)
    known.write("plain", "merged", 1)
    hidden.write("canary-path", "gone", 1)
    hidden.delete("canary-path", "gone")
    with hidden.run("canary-run", thread_id="canary-thread", metadata={"canary": 1}):
        hidden.read("canary-path", "canary-key")
        hidden.read("plain", "child")  # an event on alice's timeline
        hidden.record_context("canary-label", "canary-summary", "canary-source")
        hidden.commit_outcome("canary-outcome", "success", summary="canary-summary")
    hidden.commit_outcome("shared-outcome", "failure", [("plain", "picked")], summary="canary-summary")
    with hidden.experiment("canary-experiment", params={"canary": 1}, source=hidden.branch) as experiment:
        experiment.log(canary=1)
    if hidden.branch != "main":
        hidden.grant_branch_access(hidden.branch, "user", "canary-user", "read")
        hidden.grant_branch_access(hidden.branch, "team", "canary-team", "read_write")
        hidden.revoke_branch_access(hidden.branch, "team", "canary-team")
    hidden.rollback(seq=hidden.tags()[-1].seq, agent_id="nobody")
    hidden.fork("canary-newcomer")


def _carry_over(owner: AgentMemory, veiled: str, target: str) -> None:
    """Bring to a branch that is seen, from hidden ones, what is not secret, and propose the rest."""
    owner.write("plain", "full", 1, branch="canary/merged")
    owner.write("plain", "clash", {"a": 2}, branch=target)
    what = {"target_branch": target, "description": "canary-description"}
    number = owner.create_pull_request("canary-title", "canary/merged", **what).id
    owner.review_pull_request(number, "approved", "canary-comment")
    owner.merge_pull_request(number, close=True)
    owner.merge_branch(veiled, target=target, paths=["plain"], strategy="target_wins")
    owner.cherry_pick(veiled, [("plain", "picked")], target=target, strategy="source_wins")
    owner.merge_branch(veiled, target=target, strategy="manual")
    for title in ("canary-closed", "canary-open"):
        number = owner.create_pull_request(title, veiled, **what).id
        owner.review_pull_request(number, "changes_requested", "canary-comment")
        if title == "canary-closed":
            owner.close_pull_request(number)
    owner.create_branch("canary-twin", source=veiled)
    owner.merge_branch("canary-twin", target=veiled, strategy="manual")
    owner.close_branch("canary-twin")


def shown(result: Any) -> Iterator[str]:
    """Yield all the ways in which a result can be looked at."""
    yield repr(result)
    yield str(result)
    if hasattr(result, "_repr_html_"):
        yield result._repr_html_()
    if hasattr(result, "model_dump_json"):
        yield result.model_dump_json()
    for one in result if isinstance(result, list | tuple) else ():
        yield from shown(one)


def looks(mem: AgentMemory, branches: Sequence[str]) -> Iterator[Callable[[], Any]]:
    """Yield every call that looks at something, on the branches a principal may read and as a whole."""
    for branch in branches:
        yield lambda b=branch: [mem.list(branch=b, include_superseded=old) for old in (False, True)]
        yield lambda b=branch: mem.list(branch=b, memory_type="message")
        yield lambda b=branch: [mem.history(path, key, branch=b) for path, key in KEYS]
        yield lambda b=branch: mem.read_many(KEYS, branch=b)
        yield lambda b=branch: [mem.read_from(AGENT, path, key, branch=b) for path, key in KEYS]
        yield lambda b=branch: mem.timeline(branch=b, limit=500, include_messages=True)
        yield lambda b=branch: mem.stats(branch=b).model_copy(update={"database": ""})
        yield lambda b=branch: mem.branch_access(b)
        yield lambda b=branch: mem.conflicts(b, status=None)
        yield lambda b=branch: [mem.brief(path, branch=b) for path in (None, "plain")]
        for query in ("canary plain picked clash child merged full", None):
            yield lambda b=branch, q=query: mem.search(q, branch=b, explain=True, limit=100)
            yield lambda b=branch, q=query: mem.search(
                q, branch=b, memory_type=list(MemoryType), at="before", limit=100
            )
        yield lambda b=branch: mem.explain("shared-outcome", branch=b)
        yield lambda b=branch: mem.apply([Find(), Find(filter={"a": 2}), ListPaths(), ListPaths(max_depth=1)], branch=b)
        yield lambda b=branch: mem.rollback(seq=1, branch=b, dry_run=True)
        for path, key in KEYS:
            yield lambda b=branch, p=path, k=key: mem.blame(p, k, branch=b)
            yield lambda b=branch, p=path, k=key: mem.compare_versions(p, k, branch=b)
        for other in branches:
            yield lambda b=branch, o=other: mem.diff_branch(b, o)
            yield lambda b=branch, o=other: mem.merge_branch(b, target=o, dry_run=True)
            yield lambda b=branch, o=other: mem.cherry_pick(b, [("plain", "child")], target=o, dry_run=True)
        yield lambda b=branch: mem.diff_branch(b)
        yield lambda b=branch: mem.merge_branch(b, dry_run=True)
        yield lambda b=branch: mem.cherry_pick(b, [("plain", "child")])
        yield lambda b=branch: mem.create_pull_request("mine", b)
    for agent in (None, "*", AGENT):
        yield lambda a=agent: mem.timeline(agent_id=a, limit=500, include_messages=True)
        for kind in EventType:
            yield lambda a=agent, k=kind: mem.timeline(agent_id=a, event_type=k)
    for number in range(1, 8):
        yield lambda n=number: mem.merge_pull_request(n, dry_run=True)
        yield lambda n=number: mem.resolve_conflict(n, take="base")
    yield from (mem.branches, mem.tags, mem.pull_requests, mem.experiments, mem.compare, mem.api_keys)
    for status in (None, "open", "resolved", "obsolete"):
        yield lambda s=status: mem.conflicts(status=s)
    yield lambda: [mem.pull_requests(status) for status in PullRequestStatus]
    yield lambda: [mem.branches(status) for status in BranchStatus]
    yield lambda: mem.timeline(since="before")
    yield lambda: mem


KEYS = [("plain", key) for key in ("picked", "clash", "child", "merged", "full")]


@pytest.mark.parametrize(
    ("role", "branches", "veiled", "target"),
    [
        ("reader", ["main"], "canary-branch", "main"),
        ("writer", ["main"], "canary-branch", "main"),
        (None, ["child", "sibling"], "canary-branch", "main"),
        ("reader", ["main", "child", "sibling"], "canary-branch", "main"),
        ("writer", ["main", "child", "sibling"], "canary-branch", "main"),
        ("writer", ["main", "child", "sibling"], "canary-branch", "sibling"),
        (None, ["child", "sibling"], "canary-branch", "sibling"),
        (None, ["child", "sibling"], "main", "sibling"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else str(value),
)
def test_nothing_of_a_hidden_branch_is_shown(
    role: str | None,
    branches: list[str],
    veiled: str,
    target: str,
    database: Path,
    open_memory: Callable[..., AgentMemory],
) -> None:
    build_canaries(database, veiled, target)
    principal = Principal(user_id=None if branches == ["main"] else "guest", role=role)
    assert open_memory(AGENT).verify().ok
    leaks: set[str] = set()
    done = 0
    with AgentMemory(AGENT, database, durability="normal", principal=principal, branch=branches[0]) as mem:
        for call in looks(mem, branches):
            try:
                seen = list(shown(call()))
                done += 1
            except AMFSError as error:
                seen = [*shown(error), str(error.args), *getattr(error, "__notes__", ())]
                seen += shown(getattr(error, "result", None))
            leaks |= {text[max(at - 100, 0) : at + 100] for text in seen if (at := text.lower().find(CANARY)) >= 0}
    assert leaks == set()
    assert done >= 70


def test_the_owner_sees_the_canaries(database: Path, open_memory: Callable[..., AgentMemory]) -> None:
    build_canaries(database, "canary-branch", "main")
    mem = open_memory(AGENT, clock=None)
    seen = "".join(
        text for call in (mem.branches, mem.tags, mem.pull_requests, mem.experiments) for text in shown(call())
    )
    everyone = mem.timeline(agent_id="*", limit=500)
    seen += "".join((*shown(everyone), *shown(mem.conflicts(status=None)), *shown(mem.api_keys())))
    for word in ("branch", "title", "last", "experiment", "key", "description", "comment", "agent", "value", "outcome"):
        assert f"{CANARY}-{word}" in seen.replace(f"{CANARY}/", f"{CANARY}-"), word


@pytest.fixture
def reader(file_mem: AgentMemory) -> Iterator[Reader]:
    """Return a function that opens a handle for a user with a role and, maybe, a grant to read one branch."""
    with ExitStack() as opened:

        def open_one(role: str | None, branch: str | None = None, agent: str = AGENT) -> AgentMemory:
            if branch is not None:
                file_mem.grant_branch_access(branch, "user", "guest", "read")
            options: dict[str, Any] = {"branch": "main" if role or branch is None else branch, "durability": "normal"}
            principal = Principal(user_id="guest", role=role)
            return opened.enter_context(AgentMemory(agent, file_mem.database, principal=principal, **options))

        yield open_one


HIDDEN = pytest.mark.parametrize("hidden", ["hidden", "main"])
"""For principals without a role, main is hidden too, though its name is no secret."""


@HIDDEN
def test_a_rollback_to_a_tag_of_a_hidden_branch_does_not_name_it(
    hidden: str, file_mem: AgentMemory, reader: Reader
) -> None:
    file_mem.create_branch("hidden")
    file_mem.create_tag("canary", branch=hidden)
    file_mem.create_branch("child", source=hidden)
    file_mem.write("p", "k", 1, branch="child")
    file_mem.rollback(tag_name="canary", branch="child")
    file_mem.delete_tag("canary")
    events = reader(None, "child").timeline(branch="child")
    assert EventType.ROLLBACK in [event.event_type for event in events]
    assert CANARY not in "".join(shown(events))


def test_an_outcome_does_not_name_what_was_read_on_a_hidden_branch(file_mem: AgentMemory, reader: Reader) -> None:
    file_mem.create_branch("hidden")
    file_mem.write("canary", "canary-key", 1, branch="hidden")
    for run in ("first", "second"):
        with file_mem.run(run):
            file_mem.read("canary", "canary-key", branch="hidden")
    outcomes = [file_mem.commit_outcome("owner", "success", run_id="first")]
    mem = reader("writer")
    outcomes.append(mem.commit_outcome("writer", "success", run_id="second"))
    assert CANARY not in "".join((*shown(outcomes[1]), *shown(mem.timeline(agent_id="*", branch="main"))))
    assert CANARY not in "".join(text for ref in ("owner", "writer") for text in shown(mem.explain(ref)))


@HIDDEN
def test_an_outcome_does_not_name_what_came_to_a_hidden_parent_later(
    hidden: str, file_mem: AgentMemory, reader: Reader
) -> None:
    file_mem.create_branch("hidden")
    file_mem.create_branch("child", source=hidden)
    file_mem.write("canary", "canary-key", 1, branch=hidden)
    with file_mem.run("r"):
        file_mem.read("canary", "canary-key", branch=hidden)
    file_mem.commit_outcome("o", "success", run_id="r", branch="child")
    mem = reader(None, "child")
    outcome = mem.timeline(branch="child", event_type="outcome")
    assert len(outcome) == 1
    assert CANARY not in "".join((*shown(outcome), *shown(mem.explain("o"))))


@HIDDEN
def test_what_happens_to_a_pull_request_from_a_hidden_branch_is_not_told(
    hidden: str, file_mem: AgentMemory, reader: Reader
) -> None:
    for name in ("hidden", "target"):
        file_mem.create_branch(name)
    file_mem.write("p", "k", 1, branch=hidden)
    for end in (file_mem.merge_pull_request, file_mem.close_pull_request):
        number = file_mem.create_pull_request("canary-title", hidden, target_branch="target").id
        file_mem.review_pull_request(number, "approved", "canary-comment")
        end(number)
    mem = reader(None, "target")
    events = mem.timeline(branch="target")
    assert EventType.BRANCH_MERGED in [event.event_type for event in events]
    assert CANARY not in "".join((*shown(events), *shown(mem.pull_requests())))


@pytest.fixture
def side(file_mem: AgentMemory, reader: Reader) -> AgentMemory:
    """Return a writer's handle where main and side clash, and what both last had in common is on a hidden branch."""
    file_mem.write("p", "k", "first")
    for name in ("side", "hidden"):
        file_mem.create_branch(name)
    file_mem.write("p", "k", "canary", branch="hidden")
    for name in ("main", "side"):
        file_mem.write("p", "k", f"on {name}", branch=name)
        file_mem.merge_branch("hidden", target=name, strategy="target_wins")
    return reader("writer", "side")


@pytest.mark.parametrize("strategy", ["three_way", "manual"])
def test_a_change_does_not_show_the_value_of_a_base_that_is_hidden(strategy: str, side: AgentMemory) -> None:
    seen = [*shown(side.diff_branch("side")), *shown(side.diff_branch("main", "side"))]
    for dry_run in (True, False):
        try:
            result = side.merge_branch("side", strategy=strategy, dry_run=dry_run)
        except MergeConflictError as error:
            result = error.result
        assert result.conflicts
        seen += shown(result)
    seen += [text for status in (None, "open") for text in shown(side.conflicts(status=status))]
    assert CANARY not in "".join(seen)


def test_a_resolver_is_not_shown_a_base_that_is_hidden(side: AgentMemory) -> None:
    asked: list[tuple[Any, Any, Any]] = []

    def resolve(base: Any, source: Any, target: Any) -> str:
        asked.append((base, source, target))
        return "settled"

    side.merge_branch("side", resolver=resolve)
    assert asked == [(None, "on side", "on main")]


def test_a_base_that_is_hidden_cannot_be_taken(side: AgentMemory) -> None:
    number = side.merge_branch("side", strategy="manual").conflicts[0].id or 0
    with pytest.raises(AMFSError) as caught:
        side.resolve_conflict(number, take="base")
    assert CANARY not in "".join((*shown(caught.value), *shown(side.read("p", "k")), *shown(side.history("p", "k"))))
    assert [one.id for one in side.conflicts()] == [number]
    side.resolve_conflict(number, take="source")
    assert CANARY not in "".join(shown(side.list(include_superseded=True)))


def test_a_fork_does_not_name_the_hidden_branch_it_came_from(file_mem: AgentMemory, reader: Reader) -> None:
    file_mem.create_branch("canary")
    file_mem.write("p", "k", 1, branch="canary")
    file_mem.fork("bob", branch="canary")
    mem = reader("reader", agent="bob")
    assert mem.namespace == "bob"
    assert mem.read("p", "k") is not None
    seen = [mem.timeline(branch="main"), mem.timeline(agent_id="*"), mem.list(), mem.branches(), mem.blame("p", "k")]
    assert CANARY not in "".join(text for one in seen for text in shown(one))


@pytest.mark.parametrize("verb", ["merge", "pull request", "conflict"])
def test_who_may_only_read_a_branch_cannot_close_it_by_merging(
    verb: str, file_mem: AgentMemory, reader: Reader
) -> None:
    file_mem.write("p", "k", 0)
    file_mem.create_branch("side")
    file_mem.write("p", "k", 1, branch="side")
    number = file_mem.create_pull_request("please", "side").id
    mem = reader("writer", "side")
    stored = 0
    if verb == "conflict":
        file_mem.write("p", "k", 2)
        stored = file_mem.merge_branch("side", strategy="manual", close=True).conflicts[0].id or 0
    calls = {
        "merge": lambda: mem.merge_branch("side", close=True),
        "pull request": lambda: mem.merge_pull_request(number, close=True),
        "conflict": lambda: mem.resolve_conflict(stored, take="source"),
    }
    with pytest.raises(AccessDeniedError):
        calls[verb]()
    assert {branch.status for branch in file_mem.branches()} == {BranchStatus.OPEN}
    assert EventType.BRANCH_MERGED not in [event.event_type for event in file_mem.timeline()]


def test_an_experiment_is_logged_and_ended_by_who_may_write_its_branch(file_mem: AgentMemory, reader: Reader) -> None:
    mem = reader("writer")
    experiment = mem.experiment("e")
    experiment.start()
    experiment.log(loss=1)
    file_mem.grant_branch_access(experiment.branch, "user", "guest", "read")
    for call in (lambda: experiment.log(loss=2), lambda: experiment.finish(None), experiment.discard):
        with pytest.raises(AccessDeniedError):
            call()
    assert (experiment.metrics, experiment.status) == ({"loss": 1}, "running")
    file_mem.revoke_branch_access(experiment.branch, "user", "guest")
    with pytest.raises(AccessDeniedError):
        experiment.status  # noqa: B018 - it is looked up
    assert mem.experiments() == []
