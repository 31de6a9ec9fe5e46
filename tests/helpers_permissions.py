"""Who may do what, as a table: principals, branches, and for every operation what it needs on which of them.

The table is written from what the product promises; nothing here asks the engine what a principal may do.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from amfs import (
    AccessDeniedError,
    AgentMemory,
    BranchClosedError,
    BranchError,
    BranchNotFoundError,
    ConflictNotFoundError,
    Get,
    GrantNotFoundError,
    InvalidInputError,
    MergeStatus,
    NamespaceNotEmptyError,
    Principal,
    PullRequestNotFoundError,
    Put,
    TagNotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from amfs import AMFSError, CreatedApiKey

AGENT = "alice"
PATH = "notes"

# --- who, and what they hold -----------------------------------------------------------------------------------------

READ, WRITE, ADMIN = "read", "read_write", "admin"

PLACES = ("main", "open", "hidden", "closed", "absent")
"""The states a branch can be in; each is the name of a branch too, but for ``absent`` there is none."""

_EVERYTHING = dict.fromkeys((*PLACES, "clash", "clash-hidden"), WRITE)
_NOTHING: dict[str, str] = {}

HELD: dict[str, dict[str, str]] = {
    "owner": _EVERYTHING,
    "key_reader": {"main": READ, "open": READ, "closed": READ, "clash": READ},
    "key_writer": {"main": WRITE, "open": WRITE, "closed": WRITE, "clash": WRITE},
    "key_admin": _EVERYTHING,
    "user_read": {"open": READ, "closed": READ, "clash": READ},
    "user_write": {"main": WRITE, "open": WRITE, "closed": WRITE, "clash": WRITE},
    "team": {"main": READ, "open": WRITE, "closed": WRITE, "clash": WRITE},
    "stranger": _NOTHING,
}
"""What every principal may do on every branch; ``key_writer`` holds ``open`` because it made that branch."""

PRINCIPALS = tuple(HELD)
ADMINS = ("owner", "key_admin")
_ENTRANCE = {"user_read": "open", "stranger": "door"}
"""The branch that a principal without a role can open a handle on; the stranger's grant there is then taken back."""


@dataclass
class World:
    """A small database in which every place exists, and what is in it by name."""

    database: Path
    first: int = 0
    keys: dict[str, CreatedApiKey] = field(default_factory=dict)
    pulls: dict[tuple[str, ...], int] = field(default_factory=dict)
    conflicts: dict[tuple[str, ...], int] = field(default_factory=dict)

    def principal(self, name: str) -> Principal | None:
        """Return a principal by the name it has in the table."""
        match name:
            case "owner":
                return None
            case "user_read":
                return Principal(user_id="reader")
            case "user_write":
                return Principal(user_id="writer", role="writer")
            case "team":
                return Principal(user_id="member", team_ids=["others", "crew"], role="reader")
            case "stranger":
                return Principal(user_id="stranger", team_ids=["strangers"])
            case _:
                return Principal(api_key=self.keys[name].key)

    @contextmanager
    def opened(self, name: str, database: Path) -> Iterator[AgentMemory]:
        """Open a handle of a principal on a copy of the database."""
        options: dict[str, Any] = {"durability": "normal", "principal": self.principal(name)}
        with AgentMemory(AGENT, database, branch=_ENTRANCE.get(name, "main"), **options) as mem:
            if name == "stranger":
                with AgentMemory(AGENT, database, durability="normal") as owner:
                    owner.revoke_branch_access("door", "user", "stranger")
            yield mem

    def copy(self, to: Path) -> Path:
        """Copy the database, which nobody has open."""
        return shutil.copyfile(self.database, to)


def build(database: Path) -> World:
    """Make the database that every case starts from."""
    world = World(database)
    with AgentMemory(AGENT, database, durability="normal") as owner:
        world.first = owner.write(PATH, "k", 1).seq
        owner.write(PATH, "fight", "base")
        owner.write(PATH, "k", 2)
        for role in ("reader", "writer", "admin"):
            world.keys[f"key_{role}"] = owner.create_api_key(role, agent_ids=[AGENT], role=role)
        world.keys["spare"] = owner.create_api_key("spare", agent_ids=["*"], role="reader")
        with AgentMemory(AGENT, database, durability="normal", principal=world.principal("key_writer")) as writer:
            writer.create_branch("open")
        for name in ("hidden", "closed", "clash", "clash-hidden", "door"):
            owner.create_branch(name)
        _fill(owner, world)
        _grant(owner, world)
        owner.close_branch("closed")
        assert owner.verify().ok
    return world


def _fill(owner: AgentMemory, world: World) -> None:
    for name in ("main", "open", "hidden", "closed"):
        owner.write(PATH, f"on-{name}", name, branch=name)
        owner.create_tag(f"tag/{name}", branch=name)
        owner.commit_outcome(f"done-{name}", "success", [(PATH, "k")], branch=name)
    for name in ("main", "clash", "clash-hidden"):
        owner.write(PATH, "fight", name, branch=name)
    for source, target in (("clash", "main"), ("clash-hidden", "main"), ("main", "clash")):
        result = owner.merge_branch(source, target=target, strategy="manual")
        assert result.status is MergeStatus.CONFLICTS
        world.conflicts[source, target] = result.conflicts[0].id or 0
    world.conflicts["absent", "absent"] = max(world.conflicts.values()) + 1
    for pair in _PULLED:
        world.pulls[pair] = owner.create_pull_request("please", pair[0], target_branch=pair[1]).id
    world.pulls["absent", "absent"] = max(world.pulls.values()) + 1


def _grant(owner: AgentMemory, world: World) -> None:
    grantees = {
        "key_reader": ("api_key", world.keys["key_reader"].id),
        "key_writer": ("api_key", world.keys["key_writer"].key),
        "user_read": ("user", "reader"),
        "user_write": ("user", "writer"),
        "team": ("team", "crew"),
    }
    for name, grantee in grantees.items():
        for branch, permission in HELD[name].items():
            if branch != "main" and (name, branch) != ("key_writer", "open"):
                owner.grant_branch_access(branch, *grantee, permission)
    owner.grant_branch_access("door", "user", "stranger", "read")
    for branch in ("open", "hidden", "closed"):
        owner.grant_branch_access(branch, "user", "guest", "read")


def state_of(database: Path) -> dict[str, int]:
    """Return how many rows every table has, and the last seq; the search index is no part of memory."""
    with closing(sqlite3.connect(database)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = [name for name in tables if not name.startswith("search_")]
        counts = [f"SELECT '{name}', count(*) FROM {name}" for name in tables]  # noqa: S608
        return dict(db.execute(" UNION ALL ".join([*counts, "SELECT 'seq', max(seq) FROM log"])).fetchall())


# --- what operations need --------------------------------------------------------------------------------------------

Needs = tuple[tuple[int, str], ...]
"""For places of a call, by position, the permission that it needs there."""

OneOf = dict[tuple[str, ...], "type[AMFSError]"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """An operation: the attribute of AgentMemory that it calls, what it needs, and what else may stop it.

    Args:
        call: Takes a handle, the world, a folder for files, and a branch name per position.
        needs: Where something is missing, the call is denied.
        sees: Where something is missing, what the call names is ``unseen``, as if it were not there.
        opens: The positions at which a closed branch stops the call.
        stops: What stops even the owner, by places.
        writes: Whether the call, where it is allowed, changes the database.
    """

    name: str
    call: Callable[..., Any]
    places: Sequence[tuple[str, ...]]
    needs: Needs = ()
    admin: bool = False
    sees: Needs = ()
    unseen: type[AMFSError] | None = None
    opens: tuple[int, ...] = ()
    stops: OneOf = field(default_factory=dict)
    writes: bool = False
    note: str = ""

    def verdict(self, principal: str, places: tuple[str, ...]) -> type[AMFSError] | None:
        """Return what a call raises, None if it is carried out."""
        if self.admin and principal not in ADMINS:
            return AccessDeniedError
        if not all(_holds(principal, places[number], wanted) for number, wanted in self.sees):
            return self.unseen
        if not all(_holds(principal, places[number], wanted) for number, wanted in self.needs):
            return AccessDeniedError
        if places in self.stops:
            return self.stops[places]
        if "absent" in places:
            return BranchNotFoundError
        return BranchClosedError if any(places[number] == "closed" for number in self.opens) else None


def _holds(principal: str, place: str, wanted: str) -> bool:
    held = HELD[principal].get(place)
    return held == WRITE or (held == READ and wanted == READ)


EACH = tuple((place,) for place in PLACES)
PAIRS = (
    ("open", "main"), ("hidden", "main"), ("main", "open"), ("main", "hidden"), ("open", "hidden"), ("hidden", "open"),
    ("closed", "main"), ("open", "closed"), ("absent", "main"), ("open", "absent"),
)  # fmt: skip
PROPOSED = (
    ("clash", "main"), ("clash-hidden", "main"), ("main", "clash"), ("clash", "open"), ("clash", "hidden"),
    ("closed", "open"), ("clash", "closed"), ("absent", "main"), ("open", "absent"),
)  # fmt: skip
_PULLED = (("open", "main"), ("hidden", "main"), ("main", "open"), ("open", "hidden"), ("closed", "main"))
PULLS = (*_PULLED, ("absent", "absent"))
CONFLICTS = (("clash", "main"), ("clash-hidden", "main"), ("main", "clash"), ("absent", "absent"))


def _reads(name: str, call: Callable[..., Any], **more: Any) -> Row:
    return Row(name=name, call=call, places=EACH, needs=((0, READ),), **more)


def _records(name: str, call: Callable[..., Any], **more: Any) -> Row:
    return Row(name=name, call=call, places=EACH, needs=((0, READ),), writes=True, **more)


def _writes(name: str, call: Callable[..., Any], **more: Any) -> Row:
    return Row(name=name, call=call, places=EACH, needs=((0, WRITE),), opens=(0,), writes=True, **more)


def _amends(name: str, call: Callable[..., Any], **more: Any) -> Row:
    return Row(name=name, call=call, places=EACH, needs=((0, WRITE),), writes=True, **more)


def _for_all(name: str, call: Callable[..., Any], **more: Any) -> Row:
    return Row(name=name, call=call, places=((),), **more)


def _for_admins(name: str, call: Callable[..., Any], **more: Any) -> Row:
    return Row(name=name, call=call, places=((),), admin=True, **more)


def _commit(mem: AgentMemory, branch: str) -> None:
    with mem.transaction("both", branch=branch) as tx:
        tx.write(PATH, "k", "buffered")


def _experiment(mem: AgentMemory, branch: str) -> None:
    with mem.experiment("try", source=branch) as experiment:
        experiment.log(loss=1)


def _restore(mem: AgentMemory, files: Path) -> None:
    with AgentMemory(AGENT, files / "other.db", durability="normal") as other:
        other.backup(files / "copy.db")
    mem.restore(files / "restored.db", files / "copy.db")


def _import(mem: AgentMemory, files: Path) -> None:
    with AgentMemory(AGENT, files / "other.db", durability="normal") as other:
        other.export_namespace(files / "other.jsonl")
    mem.import_namespace(files / "other.jsonl")


SINGLE = [
    _reads("read", lambda m, _w, _f, b: m.read(PATH, "k", branch=b)),
    _reads("read", lambda m, w, _f, b: m.read(PATH, "k", at=w.first, branch=b), note="at"),
    _reads("read_many", lambda m, _w, _f, b: m.read_many([(PATH, "k")], branch=b)),
    _reads("read_from", lambda m, _w, _f, b: m.read_from(AGENT, PATH, "k", branch=b)),
    _reads("list", lambda m, _w, _f, b: m.list(branch=b)),
    _reads("search", lambda m, _w, _f, b: m.search("k", branch=b)),
    _reads("search", lambda m, w, _f, b: m.search("k", at=w.first, branch=b), note="at"),
    _reads("search", lambda m, _w, _f, b: m.search(branch=b), note="without a query"),
    _reads("history", lambda m, _w, _f, b: m.history(PATH, "k", branch=b)),
    _reads("compare_versions", lambda m, _w, _f, b: m.compare_versions(PATH, "k", branch=b)),
    _reads("apply", lambda m, _w, _f, b: m.apply([Get(entity_path=PATH, key="k")], branch=b), note="reads"),
    _reads("timeline", lambda m, _w, _f, b: m.timeline(branch=b)),
    _reads("switch_branch", lambda m, _w, _f, b: m.switch_branch(b)),
    _reads("on_branch", lambda m, _w, _f, b: m.on_branch(b)),
    _reads("conflicts", lambda m, _w, _f, b: m.conflicts(b), note="of a branch"),
    _reads("rollback", lambda m, _w, _f, b: m.rollback(agent_id=AGENT, dry_run=True, branch=b), note="dry run"),
    _reads("branch_access", lambda m, _w, _f, b: m.branch_access(b)),
    _reads("blame", lambda m, _w, _f, b: m.blame(PATH, "k", branch=b)),
    _reads("stats", lambda m, _w, _f, b: m.stats(branch=b)),
    _reads("explain", lambda m, _w, _f, b: m.explain(f"done-{b}", branch=b)),
    _records("create_branch", lambda m, _w, _f, b: m.create_branch("made", source=b)),
    _records("fork", lambda m, _w, _f, b: m.fork("newcomer", branch=b)),
    _records("experiment", lambda m, _w, _f, b: _experiment(m, b)),
    _records("brief", lambda m, _w, _f, b: m.brief(PATH, branch=b)),
    _writes("write", lambda m, _w, _f, b: m.write(PATH, "k", 3, branch=b)),
    _writes("delete", lambda m, _w, _f, b: m.delete(PATH, "k", branch=b)),
    _writes("apply", lambda m, _w, _f, b: m.apply([Put(entity_path=PATH, key="k", value=3)], branch=b), note="writes"),
    _writes("transaction", lambda m, _w, _f, b: _commit(m, b)),
    _writes("commit_outcome", lambda m, _w, _f, b: m.commit_outcome("new", "failure", [(PATH, "k")], branch=b)),
    _writes("record_context", lambda m, _w, _f, b: m.record_context("seen", "outside", branch=b)),
    _writes("rollback", lambda m, _w, _f, b: m.rollback(agent_id=AGENT, branch=b), note="of an agent"),
    _writes("rollback", lambda m, w, _f, b: m.rollback(seq=w.first, branch=b), note="of all"),
    _writes("close_branch", lambda m, _w, _f, b: m.close_branch(b), stops={("main",): BranchError}),
    _amends("create_tag", lambda m, _w, _f, b: m.create_tag("new", branch=b)),
    _amends(
        "grant_branch_access",
        lambda m, _w, _f, b: m.grant_branch_access(b, "team", "guests", "read_write"),
        stops={("main",): InvalidInputError},
    ),
    _amends(
        "revoke_branch_access",
        lambda m, _w, _f, b: m.revoke_branch_access(b, "user", "guest"),
        stops={("main",): GrantNotFoundError},
    ),
]
"""Operations on one branch, which they name."""

DOUBLE = [
    Row(
        name="search",
        note="several branches",
        call=lambda m, _w, _f, *both: m.search("k", branch=both),
        places=PAIRS,
        needs=((0, READ), (1, READ)),
    ),
    Row(
        name="diff_branch",
        call=lambda m, _w, _f, s, t: m.diff_branch(s, t),
        places=PAIRS,
        needs=((0, READ), (1, READ)),
    ),
    Row(
        name="merge_branch",
        call=lambda m, _w, _f, s, t: m.merge_branch(s, target=t),
        places=PAIRS,
        needs=((0, READ), (1, WRITE)),
        opens=(0, 1),
        writes=True,
    ),
    Row(
        name="merge_branch",
        note="closing",
        call=lambda m, _w, _f, s, t: m.merge_branch(s, target=t, close=True),
        places=PAIRS,
        needs=((0, WRITE), (1, WRITE)),
        opens=(0, 1),
        stops={("main", "open"): BranchError, ("main", "hidden"): BranchError},
        writes=True,
    ),
    Row(
        name="merge_branch",
        note="dry run",
        call=lambda m, _w, _f, s, t: m.merge_branch(s, target=t, dry_run=True),
        places=PAIRS,
        needs=((0, READ), (1, READ)),
        opens=(0, 1),
    ),
    Row(
        name="cherry_pick",
        call=lambda m, _w, _f, s, t: m.cherry_pick(s, [(PATH, f"on-{s}")], target=t),
        places=PAIRS,
        needs=((0, READ), (1, WRITE)),
        opens=(1,),
        writes=True,
    ),
    Row(
        name="cherry_pick",
        note="dry run",
        call=lambda m, _w, _f, s, t: m.cherry_pick(s, [(PATH, f"on-{s}")], target=t, dry_run=True),
        places=PAIRS,
        needs=((0, READ), (1, READ)),
        opens=(1,),
    ),
    Row(
        name="create_pull_request",
        call=lambda m, _w, _f, s, t: m.create_pull_request("please", s, target_branch=t),
        places=PROPOSED,
        needs=((0, READ), (1, READ)),
        opens=(0, 1),
        writes=True,
    ),
]
"""Operations from one branch to another, which they name."""


_SEEN: Needs = ((0, READ), (1, READ))

NUMBERED = [
    Row(
        name="delete_tag",
        call=lambda m, _w, _f, b: m.delete_tag(f"tag/{b}"),
        places=EACH,
        sees=((0, READ),),
        unseen=TagNotFoundError,
        needs=((0, WRITE),),
        stops={("absent",): TagNotFoundError},
        writes=True,
    ),
    Row(
        name="review_pull_request",
        call=lambda m, w, _f, *pair: m.review_pull_request(w.pulls[pair], "approved", "fine"),
        places=PULLS,
        sees=_SEEN,
        unseen=PullRequestNotFoundError,
        stops={("absent", "absent"): PullRequestNotFoundError},
        writes=True,
    ),
    Row(
        name="close_pull_request",
        call=lambda m, w, _f, *pair: m.close_pull_request(w.pulls[pair]),
        places=PULLS,
        sees=_SEEN,
        unseen=PullRequestNotFoundError,
        stops={("absent", "absent"): PullRequestNotFoundError},
        writes=True,
    ),
    Row(
        name="merge_pull_request",
        call=lambda m, w, _f, *pair: m.merge_pull_request(w.pulls[pair]),
        places=PULLS,
        sees=_SEEN,
        unseen=PullRequestNotFoundError,
        needs=((1, WRITE),),
        opens=(0,),
        stops={("absent", "absent"): PullRequestNotFoundError},
        writes=True,
    ),
    Row(
        name="merge_pull_request",
        note="closing",
        call=lambda m, w, _f, *pair: m.merge_pull_request(w.pulls[pair], close=True),
        places=PULLS,
        sees=_SEEN,
        unseen=PullRequestNotFoundError,
        needs=((0, WRITE), (1, WRITE)),
        opens=(0,),
        stops={("absent", "absent"): PullRequestNotFoundError, ("main", "open"): BranchError},
        writes=True,
    ),
    Row(
        name="merge_pull_request",
        note="dry run",
        call=lambda m, w, _f, *pair: m.merge_pull_request(w.pulls[pair], dry_run=True),
        places=PULLS,
        sees=_SEEN,
        unseen=PullRequestNotFoundError,
        opens=(0,),
        stops={("absent", "absent"): PullRequestNotFoundError},
    ),
    Row(
        name="resolve_conflict",
        call=lambda m, w, _f, *pair: m.resolve_conflict(w.conflicts[pair], take="source"),
        places=CONFLICTS,
        sees=_SEEN,
        unseen=ConflictNotFoundError,
        needs=((1, WRITE),),
        stops={("absent", "absent"): ConflictNotFoundError},
        writes=True,
    ),
]
"""Operations on what is known by a name or number of its own, and belongs to one branch or two."""

WHOLE = [
    _for_all("branches", lambda m, _w, _f: m.branches()),
    _for_all("tags", lambda m, _w, _f: m.tags()),
    _for_all("pull_requests", lambda m, _w, _f: m.pull_requests()),
    _for_all("conflicts", lambda m, _w, _f: m.conflicts(status=None), note="of all"),
    _for_all("experiments", lambda m, _w, _f: m.experiments()),
    _for_all("compare", lambda m, _w, _f: m.compare()),
    _for_all("run", lambda m, _w, _f: m.run("r")),
    _for_all("current_run", lambda m, _w, _f: m.current_run),
    _for_all("as_agent", lambda m, _w, _f: m.as_agent("bob")),
    _for_all("agent_id", lambda m, _w, _f: m.agent_id),
    _for_all("namespace", lambda m, _w, _f: m.namespace),
    _for_all("branch", lambda m, _w, _f: m.branch),
    _for_all("session_id", lambda m, _w, _f: m.session_id),
    _for_all("database", lambda m, _w, _f: m.database),
    _for_all("close", lambda m, _w, _f: m.close()),
    _for_all("restore", lambda m, _w, f: _restore(m, f), note="needs no handle"),
    _for_admins("rebuild_search_index", lambda m, _w, _f: m.rebuild_search_index("plain")),
    _for_admins("verify", lambda m, _w, _f: m.verify()),
    _for_admins("backup", lambda m, _w, f: m.backup(f / "backup.db")),
    _for_admins("export_namespace", lambda m, _w, f: m.export_namespace(f / "export.jsonl")),
    _for_admins(
        "import_namespace",
        lambda m, _w, f: _import(m, f),
        stops={(): NamespaceNotEmptyError},
    ),
    _for_admins("api_keys", lambda m, _w, _f: m.api_keys()),
    _for_admins(
        "create_api_key", lambda m, _w, _f: m.create_api_key("more", agent_ids=["*"], role="reader"), writes=True
    ),
    _for_admins("revoke_api_key", lambda m, w, _f: m.revoke_api_key(w.keys["spare"].id), writes=True),
]
"""Operations on no branch in particular."""

ROWS = [*SINGLE, *DOUBLE, *NUMBERED, *WHOLE]


def opens_on(principal: str, place: str) -> type[AMFSError] | None:
    """Return what opening a handle on a branch raises."""
    if not _holds(principal, place, READ):
        return AccessDeniedError
    return BranchNotFoundError if place == "absent" else None
