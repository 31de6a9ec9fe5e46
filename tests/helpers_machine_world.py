"""Where the state machine acts: a namespace on both sides, the handles on it, and one step taken on both.

A rule is a function of a world and of ``pick``, which chooses one of several things: at random, or as Hypothesis draws.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from amfs import AgentMemory, Principal
from amfs.errors import AMFSError
from tests.helpers_machine_compare import compare_branch, compare_guest, compare_some
from tests.helpers_seen import instant
from tests.model import Model, Time
from tests.model_access import Principal as Known

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from tests.model import Moment
    from tests.model_merge import Version

T = TypeVar("T")
U = TypeVar("U")

START = 1_700_000_000_000_000
SECOND = 1_000_000
AGENTS = ("ada", "ben", "cleo")
PATHS = ("svc", "svc/db", "notes")
KEYS = ("k", "a/b", "z")
SLOTS = [("svc", "k")] * 7 + [(path, key) for path in PATHS for key in KEYS]
GUESTS = {
    "reader": Known("reader", (("user", "rita"),)),
    "writer": Known("writer", (("user", "walt"), ("team", "red"))),
    "guest": Known(None, (("user", "gus"), ("team", "red"))),
}


class Pick(Protocol):
    """Chooses one of several things."""

    def __call__(self, options: Sequence[T], /) -> T: ...


class Caller(NamedTuple):
    """Who makes a call: an agent, on whose authority (None: the owner's), and the handle for it."""

    agent: str
    principal: str | None
    memory: AgentMemory


Rule = "Callable[[World, Pick], None]"
RULES: list[Any] = []
LOOKS: set[Any] = set()


def rule(weight: int, *, looks: bool = False) -> Callable[[T], T]:
    """Add a rule that is taken ``weight`` times as often as others; one that only ``looks`` waits for changes."""

    def add(function: T) -> T:
        RULES.extend([function] * weight)
        if looks:
            LOOKS.add(function)
        return function

    return add


@dataclass(repr=False)
class Session:
    """A database that worlds are in: its file, its clock, what was done to it and how often."""

    file: Path
    tally: Counter[str]
    now: int = START
    steps: int = 0
    changes: int = 0
    broken: bool = False
    trace: list[tuple[Any, ...]] = field(default_factory=list)
    namespaces: set[str] = field(default_factory=lambda: {"default"})
    secrets: dict[str, str] = field(default_factory=dict)

    def clock(self) -> int:
        """Return the time of the engine."""
        return self.now


class World:
    """A namespace in the engine and in the model, and the handles of those who work in it."""

    def __init__(self, session: Session, namespace: str, agents: Sequence[str], model: Model) -> None:
        self.session = session
        self.namespace = namespace
        self.agents = tuple(agents)
        self.model = model
        self.model.access.principals.update(GUESTS)
        self.handles: dict[tuple[str, str | None], AgentMemory] = {}
        self.roots: dict[str | None, AgentMemory] = {}
        self.open()

    def open(self) -> None:
        """Open the namespace as the owner; what sessions had noticed is forgotten with them."""
        root = AgentMemory(
            self.agents[0], self.session.file, namespace=self.namespace, durability="normal", clock=self.session.clock
        )
        self.roots, self.handles = {None: root}, {}
        self.model.noticed.clear()

    def close(self) -> None:
        """Close all handles."""
        for root in reversed(self.roots.values()):
            root.close()

    # --- who calls ---------------------------------------------------------------------------------------------

    def memory(self, agent: str) -> AgentMemory:
        """Return the owner's handle for an agent."""
        return self.owner(agent).memory

    def owner(self, agent: str) -> Caller:
        """Return the owner as a caller."""
        return Caller(agent, None, self._handle(agent, None))

    def caller(self, pick: Pick) -> Caller:
        """Pick who makes the next call: mostly an agent of the owner's."""
        agent = pick(self.agents)
        if self.namespace != "default" or pick(OFTEN):
            return self.owner(agent)
        return self.guest(pick, agent) or self.owner(agent)

    def guest(self, pick: Pick, agent: str) -> Caller | None:
        """Pick a guest, None if it has no handle and is not let in."""
        name = pick(list(self.model.access.principals))
        if name not in self.roots:
            self.model.tick(self.session.now, name)
            if not any(map(self.model.may, self.model.branches)) and not pick(RARELY):
                return None
            if not self._let_in(name, agent):
                return None
        return Caller(agent, name, self._handle(agent, name))

    def _handle(self, agent: str, principal: str | None) -> AgentMemory:
        if (agent, principal) not in self.handles:
            root = self.roots[principal]
            self.handles[agent, principal] = root if root.agent_id == agent else root.as_agent(agent)
        return self.handles[agent, principal]

    def _let_in(self, name: str, agent: str) -> bool:
        """Open a handle of a guest, on a branch that it may read if there is any."""
        known = self.model.access.principals[name]
        users = {kind: who for kind, who in known.grantees if kind == "user"}
        teams = [who for kind, who in known.grantees if kind == "team"]
        how: dict[str, Any] = {"user_id": users.get("user"), "team_ids": teams, "role": known.role}
        if known.key:
            how = {"api_key": self.session.secrets[name]}
        self.model.tick(self.session.now + SECOND, name)
        branch = next(filter(self.model.may, self.model.branches), "main")
        engine = partial(
            AgentMemory, agent, self.session.file, namespace=self.namespace, branch=branch, durability="normal",
            clock=self.session.clock, principal=Principal(**how),
        )  # fmt: skip
        caller = Caller(agent, name, self.roots[None])
        both = self.step("open", caller, engine, partial(self.model.need, agent, (branch, "read")))
        if both:
            self.roots[name] = both[0]
        return both is not None

    # --- taking steps ------------------------------------------------------------------------------------------

    def step(
        self, operation: str, caller: Caller, engine: Callable[[], T], model: Callable[[], U], *touched: str
    ) -> tuple[T, U] | None:
        """Take a step on both sides and return both results, None where both refused it alike."""
        session = self.session
        session.broken = True
        session.now += SECOND
        self.model.tick(session.now, caller.principal)
        session.trace.append((self.namespace, operation, caller[:2], engine))
        before = self.model.log.seq
        foreseen, refusal = attempt(model)
        result, error = attempt(engine)
        assert type(error) is type(refusal), f"{operation}: {error!r}, not {refusal!r}"
        session.steps += 1
        session.tally[operation] += 1
        if self.model.log.seq > before:
            session.changes += 1
            session.tally["*changed"] += 1
            agent = self.agents[session.steps % len(self.agents)]
            for branch in touched:
                compare_branch(self, agent, branch)
        if session.steps % 20 == 0:
            compare_some(self, session.steps // 20)
            for guest in [name for name in self.roots if name][: 1 + session.steps % 3]:
                compare_guest(self, Caller(self.agents[0], guest, self._handle(self.agents[0], guest)))
        self.model.access.principal = caller.principal
        session.broken = False
        if refusal is not None:
            session.tally[f"*refused {type(refusal).__name__}"] += 1
            return None
        session.tally["*as a guest"] += caller.principal is not None
        session.tally["*in a fork"] += self.namespace != "default"
        return result, foreseen  # type: ignore[return-value]

    # --- choosing among what is there --------------------------------------------------------------------------

    def branch(self, pick: Pick, *, is_open: bool = True) -> str:
        """Pick a branch, open ones only or any."""
        return pick([name for name, one in self.model.branches.items() if one.is_open or not is_open])

    def visible(self, agent: str, branch: str, pick: Pick) -> Version | None:
        """Pick one of the entries that an agent reads on a branch, None where there are none."""
        entries = self.model.list(agent, branch)
        if not entries:
            return None
        _, path, key = pick(entries).slot
        return self.model.find(agent, branch, path, key)

    def pair(self, agent: str, pick: Pick) -> tuple[str, str]:
        """Pick two branches, most often open ones of which the first has changes for the second."""
        for _ in range(4):
            source, target = self.branch(pick), self.branch(pick)
            if source != target and self.model.diff(agent, source, target):
                return source, target
        source = self.branch(pick, is_open=False)
        others = [name for name in self.model.branches if name != source]
        return source, pick(others) if others and pick(OFTEN) else self.branch(pick, is_open=False)

    def moment(self, pick: Pick) -> tuple[int | datetime | str, Moment]:
        """Pick a moment, as the engine and as the model takes it."""
        kind = pick(("seq", "seq", "time", "tag", "tag")) if self.model.tags else pick(("seq", "time"))
        if kind == "tag":
            name = pick(list(self.model.tags)) if self.model.tags and pick(OFTEN) else "unknown"
            return name, name
        if kind == "time":
            at = pick(self.model.events).at - pick((0, 0, 0, 1))
            return instant(at), Time(at)
        newest = self.model.log.seq
        seq = pick((pick(range(newest + 1)), max(newest - pick(range(20)), 0), newest + pick((0, 0, 0, 1))))
        return seq, seq


OFTEN = (True,) * 5 + (False,)
RARELY = (True, False, False, False)


def attempt(call: Callable[[], T]) -> tuple[T | None, AMFSError | None]:
    """Make a call and return its result, or the error with which it was refused."""
    try:
        return call(), None
    except AMFSError as error:
        return None, error
