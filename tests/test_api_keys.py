"""API keys and grants: what a key looks like, when it is valid, what it may do, and that its secret stays one."""

from __future__ import annotations

import logging
import random
import re
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amfs import (
    AccessDeniedError,
    AgentMemory,
    AMFSError,
    ApiKeyNotFoundError,
    AsyncAgentMemory,
    EventType,
    GrantNotFoundError,
    InvalidApiKeyError,
    InvalidInputError,
    InvalidNameError,
    Permission,
    Principal,
    Role,
)
from tests.helpers_api_keys import (
    ALPHABET,
    Secrets,
    forge,
    misuse,
    parts_of,
    told_by,
    write_until_denied,
    written_until_denied,
)
from tests.helpers_processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from amfs import Branch, CreatedApiKey
    from tests.conftest import ManualClock

    Enter = Callable[..., AgentMemory]

AGENT = "alice"


def minted(mem: AgentMemory, role: str = "writer", **options: Any) -> CreatedApiKey:
    """Make a key for any agent."""
    return mem.create_api_key("key", **{"agent_ids": ["*"], "role": role, **options})


@pytest.fixture
def enter(file_mem: AgentMemory, clock: ManualClock) -> Iterator[Enter]:
    """Return a function that opens a handle by a key or a principal; it needs not be allowed to verify the database."""
    opened: list[AgentMemory] = []

    def open_one(by: CreatedApiKey | Principal, agent: str = AGENT, **options: Any) -> AgentMemory:
        principal = by if isinstance(by, Principal) else Principal(api_key=by.key)
        options = {"durability": "normal", "clock": clock, **options}
        opened.append(AgentMemory(agent, file_mem.database, principal=principal, **options))
        return opened[-1]

    yield open_one
    for memory in opened:
        memory.close()


# --- form ------------------------------------------------------------------------------------------------------------


def test_every_typing_error_is_refused_without_a_database(tmp_path: Path) -> None:
    """A CRC tells any change within 32 bits; here every place of every key is mistyped, some in all possible ways."""
    with AgentMemory(AGENT, tmp_path / "gone.db", durability="normal") as mem:
        keys = [minted(mem).key for _ in range(200)]
    for file in tmp_path.iterdir():
        file.unlink()
    dice = random.Random(20_261_120)
    refused = 0
    for number, key in enumerate(keys):
        assert Principal(api_key=key).credential is not None
        for at, right in enumerate(key):
            others = ALPHABET + "_- é" if number % 40 == 0 else dice.sample(ALPHABET, 4)
            typos = [f"{key[:at]}{wrong}{key[at + 1 :]}" for wrong in others if wrong != right]
            typos += [f"{key[:at]}{key[at + 1 :]}", f"{key[:at]}{right}{key[at:]}"]
            if at and right != key[at - 1]:
                typos.append(f"{key[: at - 1]}{right}{key[at - 1]}{key[at + 1 :]}")
            for typo in typos:
                with pytest.raises(InvalidApiKeyError, match="mistyped"):
                    Principal(api_key=typo)
            refused += len(typos)
    assert refused >= 200 * 70 * 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["", " ", "amfs_sk_", "AMFS_SK_{}", "{}\n", " {}", "{} ", "{}{}", "Bearer {}", "{}é"])
def test_what_is_no_key_is_refused(wrong: str, file_mem: AgentMemory) -> None:
    key = minted(file_mem).key
    with pytest.raises(InvalidApiKeyError, match="mistyped"):
        Principal(api_key=wrong.replace("{}", key.removeprefix("amfs_sk_") if wrong.startswith("AMFS") else key))


@pytest.mark.parametrize("wrong", [1, b"amfs_sk_", ["amfs_sk_"], object()], ids=["int", "bytes", "list", "object"])
def test_a_key_is_a_text(wrong: Any) -> None:
    with pytest.raises(InvalidApiKeyError, match="mistyped"):
        Principal(api_key=wrong)


def test_a_key_has_an_id_a_secret_of_256_bits_and_a_checksum(file_mem: AgentMemory) -> None:
    keys = [minted(file_mem) for _ in range(50)]
    for key in keys:
        number, secret = parts_of(key.key)
        assert key.id == number
        assert (len(number), len(secret)) == (12, 43)
        assert 62 ** len(secret) > 2**256
        assert forge(number, secret) == key.key
    assert len({part for key in keys for part in parts_of(key.key)}) == 100


def test_of_a_key_only_the_digest_is_kept(file_mem: AgentMemory) -> None:
    key = minted(file_mem)
    number, secret = parts_of(key.key)
    with closing(sqlite3.connect(file_mem.database)) as db:
        db.row_factory = sqlite3.Row
        (row,) = db.execute("SELECT * FROM api_key").fetchall()
    assert (row["id"], row["digest"]) == (number, sha256(secret.encode()).digest())
    assert not Secrets([key.key]).within(repr(tuple(row)))


# --- validity --------------------------------------------------------------------------------------------------------


def test_what_is_known_of_a_key(file_mem: AgentMemory, clock: ManualClock) -> None:
    deadline = clock.moment + timedelta(hours=1)
    made = file_mem.create_api_key("for bob", agent_ids=["bob", "carol"], role="reader", expires=deadline)
    (known,) = file_mem.api_keys()
    assert known.model_dump() == made.model_dump(exclude={"key"})
    assert (known.name, known.agent_ids, known.role) == ("for bob", ("bob", "carol"), Role.READER)
    assert (known.created_by, known.expires_at, known.revoked_at) == (AGENT, deadline, None)
    revoked = file_mem.revoke_api_key(made.id)
    assert revoked.revoked_at is not None
    assert file_mem.api_keys() == [revoked]


@pytest.mark.parametrize("as_datetime", [True, False], ids=["datetime", "timedelta"])
def test_a_key_ends_at_its_time(as_datetime: bool, file_mem: AgentMemory, clock: ManualClock, enter: Enter) -> None:
    file_mem.write("p", "k", 1)
    lifetime = timedelta(seconds=60)
    started = clock.moment
    key = minted(file_mem, expires=started + lifetime if as_datetime else lifetime)
    assert key.expires_at is not None
    clock.reach(key.expires_at - timedelta(microseconds=1))
    mem = enter(key)
    assert mem.read("p", "k") is not None
    clock.reach(key.expires_at)
    for call in (lambda: mem.read("p", "k"), lambda: mem.write("p", "k", 2), mem.tags, lambda: enter(key)):
        with pytest.raises(InvalidApiKeyError, match="expired"):
            call()
    assert key.expires_at - started <= lifetime + timedelta(milliseconds=1)


@pytest.mark.parametrize("wrong", [timedelta(0), timedelta(seconds=-1), datetime(2001, 1, 1, tzinfo=UTC), "tomorrow"])
def test_a_key_that_has_ended_cannot_be_made(wrong: Any, file_mem: AgentMemory) -> None:
    with pytest.raises(InvalidInputError, match="expires"):
        minted(file_mem, expires=wrong)
    with pytest.raises(InvalidInputError, match="expires"):
        minted(file_mem, expires=datetime(2999, 1, 1))  # noqa: DTZ001 - that is what is refused
    assert file_mem.api_keys() == []


@pytest.mark.parametrize("how", ["id", "key"])
def test_revoking_a_key_is_noticed_by_the_next_call_of_an_open_handle(
    how: str, file_mem: AgentMemory, enter: Enter
) -> None:
    file_mem.as_agent("bob").write("p", "k", 1)
    key = minted(file_mem)
    mem = enter(key, read_events="batched")
    assert mem.read("p", "k") is not None  # held back, to be saved when the handle is closed
    mem.write("p", "k", 2)
    last = file_mem.revoke_api_key(key.id if how == "id" else key.key)
    events = file_mem.timeline(branch="main")
    assert (events[0].event_type, events[0].details["grantee_id"]) == (EventType.ACCESS_REVOKED, key.id)
    for call in (
        lambda: mem.read("p", "k"), lambda: mem.write("p", "k", 3), mem.list, mem.branches, mem.tags, mem.conflicts,
        lambda: mem.create_tag("t"), mem.experiments, mem.stats, lambda: mem.as_agent("bob").list(),
        lambda: mem.on_branch("main"), lambda: enter(key),
    ):  # fmt: skip
        with pytest.raises(InvalidApiKeyError, match=f"{key.id} was revoked"):
            call()
    assert file_mem.timeline(branch="main") == events
    mem.close()
    assert file_mem.revoke_api_key(key.id) == last, "revoking again changes nothing"
    assert [event.event_type for event in file_mem.timeline(branch="main")].count(EventType.ACCESS_REVOKED) == 1


def test_a_run_may_end_after_its_key_was_revoked(file_mem: AgentMemory, enter: Enter) -> None:
    file_mem.as_agent("bob").write("p", "k", 1)
    key = minted(file_mem)
    mem = enter(key)
    with mem.run("r"):
        mem.read("p", "k")
        file_mem.revoke_api_key(key.id)
    mem.close()
    assert file_mem.commit_outcome("o", "success", run_id="r").causes[0].entry.key == "k"


def test_a_key_is_bound_to_its_agents(file_mem: AgentMemory, enter: Enter) -> None:
    key = minted(file_mem, agent_ids=["bob", "carol"])
    for agent in ("bob", "carol"):
        assert enter(key, agent).write("p", agent, 1).agent_id == agent
    for agent in ("alice", "Bob", "bob ", "*"):
        with pytest.raises(InvalidApiKeyError, match=re.escape(f"may not act as agent {agent!r}, only as bob, carol")):
            enter(key, agent).list()
    other = enter(key, "bob").as_agent("alice")
    with pytest.raises(InvalidApiKeyError, match="may not act"):
        other.write("p", "k", 1)
    anyone = enter(minted(file_mem), "bob").as_agent("dave")
    assert anyone.write("p", "k", 1).agent_id == "dave"


def test_a_key_is_bound_to_its_namespace(file_mem: AgentMemory, open_memory: Enter, enter: Enter) -> None:
    key = minted(file_mem, "admin")
    open_memory(namespace="other").create_branch("b")
    with pytest.raises(InvalidApiKeyError, match="not known in this namespace"):
        enter(key, namespace="other")
    assert open_memory(namespace="other").api_keys() == []
    with pytest.raises(ApiKeyNotFoundError):
        open_memory(namespace="other").revoke_api_key(key.id)
    with pytest.raises(AccessDeniedError):
        enter(key, namespace="not there yet")


@pytest.mark.parametrize("role", ["reader", "writer", "admin"])
def test_a_key_has_its_role_on_main(role: str, file_mem: AgentMemory, enter: Enter) -> None:
    file_mem.create_branch("b")
    mem = enter(minted(file_mem, role))
    calls: list[tuple[str, Any]] = [
        ("reader", mem.list),
        ("writer", lambda: mem.write("p", "k", 1)),
        ("admin", lambda: mem.list(branch="b")),
        ("admin", mem.api_keys),
    ]
    roles = ["reader", "writer", "admin"]
    for needed, call in calls:
        if roles.index(role) >= roles.index(needed):
            call()
        else:
            with pytest.raises(AccessDeniedError):
                call()


def test_an_unknown_key_and_a_wrong_secret_are_refused_in_the_same_words(
    file_mem: AgentMemory, open_memory: Enter, enter: Enter, tmp_path: Path
) -> None:
    key = minted(file_mem)
    number, secret = parts_of(key.key)
    wrong = forge(number, secret[::-1])
    unknown = forge("".join(reversed(number)), secret)
    elsewhere = minted(open_memory(where=tmp_path / "elsewhere.db")).key
    of_namespace = minted(open_memory(namespace="other")).key
    told: set[str] = set()
    for raw in (wrong, unknown, elsewhere, of_namespace):
        with pytest.raises(InvalidApiKeyError) as caught:
            enter(Principal(api_key=raw))
        told.add(str(caught.value))
    assert len(told) == 1
    file_mem.revoke_api_key(key.id)
    with pytest.raises(InvalidApiKeyError) as caught:
        enter(Principal(api_key=wrong))
    assert {str(caught.value)} == told, "who does not know the secret does not learn that the key was revoked"


# --- principals ------------------------------------------------------------------------------------------------------


def test_a_key_comes_without_a_user(file_mem: AgentMemory) -> None:
    key = minted(file_mem).key
    for more in ({"user_id": "u"}, {"team_ids": ["t"]}, {"role": "reader"}, {"role": Role.ADMIN}):
        with pytest.raises(InvalidInputError, match="brings its own role") as caught:
            Principal(api_key=key, **more)
        assert not Secrets([key]).within(told_by(caught.value))


def test_a_key_is_no_principal(file_mem: AgentMemory) -> None:
    key = minted(file_mem).key
    with pytest.raises(InvalidInputError, match="must be a Principal") as caught:
        AgentMemory(AGENT, file_mem.database, principal=key)  # type: ignore[arg-type]
    assert not Secrets([key]).within(str(caught.value))


@pytest.mark.parametrize("wrong", [{"user_id": ""}, {"team_ids": "crew"}, {"team_ids": [1]}, {"role": "boss"}])
def test_a_principal_passes_the_gate(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        Principal(**wrong)


def test_the_owner_as_a_principal(file_mem: AgentMemory, enter: Enter) -> None:
    file_mem.create_branch("b")
    mem = enter(Principal.owner())
    mem.write("p", "k", 1, branch="b")
    assert mem.verify().ok
    mem.create_branch("c")
    assert mem.branch_access("c") == [], "an admin needs no grant"
    assert enter(Principal(role="admin"), namespace="new").namespace == "new"


def test_a_principal_shows_no_secret(file_mem: AgentMemory) -> None:
    key = minted(file_mem)
    assert repr(Principal(api_key=key.key)) == f"Principal(api_key={key.id!r})"
    for wrong in ({"user_id": key.key}, {"team_ids": [key.key]}):
        with pytest.raises(InvalidInputError, match="api_key=") as caught:
            Principal(**wrong)
        assert not Secrets([key.key]).within(told_by(caught.value))
    assert str(Principal("ann", ["crew"], role="reader")) == (
        "Principal(user_id='ann', team_ids=('crew',), role='reader')"
    )


def test_only_an_admin_can_make_a_namespace(enter: Enter) -> None:
    for principal in (Principal("ann"), Principal("ann", role="writer"), Principal()):
        with pytest.raises(AccessDeniedError, match="namespace 'new'"):
            enter(principal, namespace="new")


# --- grants ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("granted_by", ["id", "key"])
@pytest.mark.parametrize("revoked_by", ["id", "key"])
def test_a_key_is_granted_by_itself_or_its_id(
    granted_by: str, revoked_by: str, file_mem: AgentMemory, enter: Enter
) -> None:
    file_mem.create_branch("b")
    key = minted(file_mem, "reader")
    names = {"id": key.id, "key": key.key}
    grant = file_mem.grant_branch_access("b", "api_key", names[granted_by], "read")
    assert (grant.branch, grant.grantee_id, grant.permission) == ("b", key.id, Permission.READ)
    assert file_mem.branch_access("b") == [grant]
    mem = enter(key)
    assert mem.list(branch="b") == []
    with pytest.raises(AccessDeniedError):
        mem.write("p", "k", 1, branch="b")
    raised = file_mem.grant_branch_access("b", "api_key", names[revoked_by], "read_write")
    assert file_mem.branch_access("b") == [raised]
    assert mem.write("p", "k", 1, branch="b").branch == "b"
    assert file_mem.revoke_branch_access("b", "api_key", names[revoked_by]) == raised
    for call in (lambda: mem.write("p", "k", 2, branch="b"), lambda: mem.read("p", "k", branch="b")):
        with pytest.raises(AccessDeniedError):
            call()
    with pytest.raises(GrantNotFoundError):
        file_mem.revoke_branch_access("b", "api_key", names[granted_by])
    kinds = [event.event_type for event in reversed(file_mem.timeline(branch="b"))]
    assert kinds == [EventType.ACCESS_GRANTED, EventType.ACCESS_GRANTED, EventType.WRITE, EventType.ACCESS_REVOKED]


def test_any_text_can_be_granted_as_a_key_and_opens_nothing(file_mem: AgentMemory) -> None:
    file_mem.create_branch("b")
    opaque = "sk-of-another-system-0123456789"
    grant = file_mem.grant_branch_access("b", "api_key", opaque, "read_write")
    assert grant.grantee_id == f"sha256:{sha256(opaque.encode()).hexdigest()}"
    with pytest.raises(InvalidApiKeyError):
        Principal(api_key=opaque)
    with pytest.raises(InvalidApiKeyError):
        Principal(api_key=grant.grantee_id)
    assert file_mem.revoke_branch_access("b", "api_key", opaque) == grant
    assert opaque not in "".join(map(repr, file_mem.timeline(branch="b")))
    file_mem.grant_branch_access("b", "api_key", opaque, "read")
    (known,) = file_mem.branch_access("b")
    assert file_mem.revoke_branch_access("b", "api_key", known.grantee_id) == known, "as the list shows it"


@pytest.mark.parametrize("kind", ["user", "team", "admin"])
@pytest.mark.parametrize("around", ["{}", " {}", "Bearer {}"])
def test_a_key_is_refused_where_a_name_is_meant(kind: str, around: str, file_mem: AgentMemory) -> None:
    file_mem.create_branch("b")
    key = minted(file_mem).key
    for call in (
        lambda: file_mem.grant_branch_access("b", kind, around.format(key), "read"),
        lambda: file_mem.revoke_branch_access("b", kind, around.format(key)),
    ):
        with pytest.raises(InvalidInputError) as caught:
            call()
        assert not Secrets([key]).within(told_by(caught.value))
    assert file_mem.branch_access("b") == []


def test_a_grant_needs_a_grantee(file_mem: AgentMemory) -> None:
    file_mem.create_branch("b")
    for kind in ("user", "team", "api_key"):
        for wrong in ("", None, 1):
            with pytest.raises((InvalidInputError, InvalidNameError)):
                file_mem.grant_branch_access("b", kind, wrong, "read")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError):
        file_mem.grant_branch_access("b", "user", "ann", "admin")


def test_who_makes_a_branch_may_write_it(file_mem: AgentMemory, enter: Enter) -> None:
    key = minted(file_mem, "reader")
    makers = {
        "by-key": (enter(key), [("api_key", key.id)]),
        "by-user": (enter(Principal("ann", ["crew"], role="reader")), [("user", "ann")]),
        "by-team": (enter(Principal(team_ids=["crew"], role="reader")), []),
        "by-admin": (enter(minted(file_mem, "admin")), []),
        "by-owner": (file_mem, []),
    }
    for name, (mem, expected) in makers.items():
        made: Branch = mem.create_branch(name)
        assert made.name == name
        grants = file_mem.branch_access(name)
        assert [(grant.grantee_type, grant.grantee_id) for grant in grants] == expected
        assert {grant.permission for grant in grants} <= {Permission.READ_WRITE}
        if expected or name in ("by-admin", "by-owner"):
            assert mem.write("p", "k", 1, branch=name).branch == name
        else:
            with pytest.raises(AccessDeniedError):
                mem.write("p", "k", 1, branch=name)


def test_the_widest_of_several_grants_counts(file_mem: AgentMemory, enter: Enter) -> None:
    file_mem.create_branch("b")
    file_mem.grant_branch_access("b", "user", "ann", "read")
    mem = enter(Principal("ann", ["crew", "guests"]), branch="b")
    file_mem.grant_branch_access("b", "team", "guests", "read_write")
    mem.write("p", "k", 1)
    file_mem.grant_branch_access("b", "team", "crew", "read")
    file_mem.revoke_branch_access("b", "team", "guests")
    assert mem.read("p", "k") is not None
    with pytest.raises(AccessDeniedError):
        mem.write("p", "k", 2)
    for kind, grantee in (("user", "ann"), ("team", "crew")):
        assert mem.read("p", "k") is not None
        file_mem.revoke_branch_access("b", kind, grantee)
    with pytest.raises(AccessDeniedError):
        mem.read("p", "k")


def test_a_grant_to_a_user_is_none_to_a_team_or_key_of_that_name(file_mem: AgentMemory, enter: Enter) -> None:
    file_mem.create_branch("b")
    key = minted(file_mem)
    for kind, grantee in (("user", "crew"), ("team", "ann"), ("user", key.id)):
        file_mem.grant_branch_access("b", kind, grantee, "read_write")
    for mem in (enter(Principal("ann", ["crew"], role="writer")), enter(key)):
        with pytest.raises(AccessDeniedError):
            mem.read("p", "k", branch="b")


# --- rights and writes are of one transaction ------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["user", "key"])
def test_nothing_is_written_after_access_was_revoked(by: str, file_mem: AgentMemory) -> None:
    file_mem.create_branch("shared")
    key = minted(file_mem, "reader")
    grantee = ("user", "ann") if by == "user" else ("api_key", key.id)
    who = {"user_id": "ann"} if by == "user" else {"api_key": key.key}
    acknowledged: list[int] = []
    for round_number in range(3):
        file_mem.grant_branch_access("shared", *grantee, "read_write")
        with Child(write_until_denied, file_mem.database, f"writer-{round_number}", who) as child:
            told = [child.receive() for _ in range(10)]
            if by == "user" or round_number < 2:
                file_mem.revoke_branch_access("shared", *grantee)
            else:
                file_mem.revoke_api_key(key.id)
            while isinstance(seq := child.receive(), int):
                told.append(seq)
        assert told == seq
        acknowledged += told
        revoked = file_mem.timeline(event_type="access_revoked", agent_id="*")[0].seq
        assert max(told) < revoked
    written = file_mem.timeline(branch="shared", event_type="write", limit=100_000)
    assert sorted(event.seq for event in written) == acknowledged


def test_nothing_is_written_after_access_was_revoked_from_another_thread(file_mem: AgentMemory, enter: Enter) -> None:
    file_mem.create_branch("shared")
    file_mem.grant_branch_access("shared", "team", "crew", "read_write")
    done: dict[str, list[int]] = {"ann": [], "bob": []}
    mems = [enter(Principal(agent, ["crew"]), agent, branch="shared") for agent in done]
    threads = [threading.Thread(target=written_until_denied, args=(mem, done[mem.agent_id].append)) for mem in mems]
    for thread in threads:
        thread.start()
    while min(map(len, done.values())) < 10:
        file_mem.write("elsewhere", "k", 1)
    file_mem.revoke_branch_access("shared", "team", "crew")
    for thread in threads:
        thread.join()
    revoked = file_mem.timeline(event_type="access_revoked", branch="shared")[0].seq
    assert max(seq for seqs in done.values() for seq in seqs) < revoked


def test_a_key_is_looked_up_in_the_transaction_that_writes(
    file_mem: AgentMemory, clock: ManualClock, enter: Enter
) -> None:
    """When a write asks for the time, to see whether its key has ended, it holds the lock that revoking waits for."""
    key = minted(file_mem)
    threads: list[threading.Thread] = []

    def revoking_clock() -> int:
        if armed and not threads:
            threads.append(threading.Thread(target=file_mem.revoke_api_key, args=(key.id,)))
            threads[0].start()
            threads[0].join(0.3)  # were the key looked up outside, it would be revoked by now
        return clock.now

    armed: list[bool] = []
    mem = enter(key, clock=revoking_clock)
    armed.append(True)
    written = mem.write("p", "k", 1)
    threads[0].join()
    assert written.seq < file_mem.timeline(event_type="access_revoked", branch="main")[0].seq
    with pytest.raises(InvalidApiKeyError):
        mem.write("p", "k", 2)


# --- hygiene ---------------------------------------------------------------------------------------------------------


def test_a_secret_is_nowhere(
    file_mem: AgentMemory, enter: Enter, clock: ManualClock, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    file_mem.create_branch("b")
    keys = [
        minted(file_mem, "reader", agent_ids=[AGENT], expires=timedelta(seconds=900) if 40 <= number < 60 else None)
        for number in range(100)
    ]
    secrets = Secrets([key.key for key in keys])
    assert secrets.within(keys[0].key), "the search finds what there is"
    said: list[str] = []
    for key in keys:
        said += [repr(file_mem.grant_branch_access("b", "api_key", key.key, "read_write"))]
        mem = enter(key)
        said += [repr(mem.write("p", key.id, {"by": key.name}, branch="b")), repr(mem), repr(mem.branches())]
        said += [repr(key), str(key), f"{key}", key._repr_html_(), repr([key]), repr({"key": key})]
    refused = 0
    for call in misuse(file_mem, enter, keys, clock):
        with pytest.raises(AMFSError) as caught:
            call()
        said.append(told_by(caught.value))
        refused += 1
    assert refused >= 380
    for key in keys[60:80]:
        file_mem.revoke_branch_access("b", "api_key", key.key)
        file_mem.revoke_api_key(key.key)
    said += [repr(file_mem.timeline(branch=branch, limit=10_000)) for branch in ("main", "b")]
    said += [repr(file_mem.api_keys()), str(file_mem.api_keys()), repr(file_mem.branch_access("b")), caplog.text]
    assert len(file_mem.api_keys()) == 100
    file_mem.backup(tmp_path / "backup.db")
    file_mem.export_namespace(tmp_path / "export.jsonl")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {
        "memory.db", "memory.db-wal", "memory.db-shm", "memory.db-lock", "backup.db", "export.jsonl",
    }  # fmt: skip
    assert [file.name for file in files if secrets.within(file.read_bytes())] == []
    assert [text for text in said if secrets.within(text)] == []


async def test_a_secret_is_nowhere_in_what_an_awaited_call_raises(file_mem: AgentMemory) -> None:
    key = minted(file_mem).key
    mem = AsyncAgentMemory(file_mem)
    for call in (
        lambda: mem.grant_branch_access("absent", "api_key", key, "read"),
        lambda: mem.grant_branch_access("main", "user", key, "read"),
        lambda: mem.grant_branch_access("main", "api_key", key, "read"),
        lambda: mem.revoke_branch_access("main", "api_key", key),
        lambda: mem.revoke_branch_access("main", "team", key),
        lambda: mem.revoke_api_key(f"{key}x"),
        lambda: mem.revoke_api_key(forge("000000000000", parts_of(key)[1])),
    ):
        with pytest.raises(AMFSError) as caught:
            await call()
        assert not Secrets([key]).within(told_by(caught.value))
