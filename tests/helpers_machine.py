"""A state machine that makes every call on the engine, in a real file, and on the reference model.

A step is one public call. Two drivers take the same rules: one chooses at random and is fast, the other draws with
Hypothesis, which shrinks what it finds. Either way a failure is told with all calls that led to it.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from amfs import AgentMemory, Entry
from tests import helpers_machine_access, helpers_machine_entries, helpers_machine_history, helpers_machine_review
from tests.helpers_machine_branches import create_both
from tests.helpers_machine_compare import compare_all
from tests.helpers_machine_entries import OBJECTS, write_both
from tests.helpers_machine_world import AGENTS, LOOKS, RARELY, RULES, SECOND, SLOTS, START, Session, World
from tests.helpers_machine_world import rule as world_rule
from tests.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.helpers_machine_world import Pick

__all__ = ["run_machine", "run_random"]

JUMPS = (0, 0, 0, -86_400 * SECOND, 315_360_000 * SECOND)
MAX_WORLDS = 3
RULE_MODULES = (helpers_machine_access, helpers_machine_entries, helpers_machine_history, helpers_machine_review)


class Machine:
    """Several agents at work in one database, each call made on the engine and on the model."""

    def __init__(self, folder: Path, template: Path, tally: Counter[str]) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.session = Session(self.folder / "amfs.db", tally)
        shutil.copyfile(template, self.session.file)
        self.worlds = [World(self.session, "default", AGENTS, Model())]

    def begin(self, pick: Pick) -> None:
        """Start with something that a child, its sibling and a grandchild have in common."""
        world = self.worlds[0]
        caller = world.owner(pick(AGENTS))
        write_both(world, caller, "main", SLOTS[0], pick(OBJECTS))
        for source in ("main", "main", "line/1"):
            create_both(world, caller, source)

    def act(self, pick: Pick) -> None:
        """Take a rule; while too few steps have changed something, none that only looks."""
        session = self.session
        world = self.worlds[0] if len(self.worlds) == 1 else pick(self.worlds)
        world.model.tick(session.now)
        chosen = pick(RULES)
        if chosen in LOOKS and session.changes * 5 < session.steps * 3:
            return
        if chosen is reopen:
            if pick(RARELY):
                self.reopen(pick)
        elif chosen is fork:
            if len(self.worlds) < MAX_WORLDS and pick((True, False)):
                self.fork(world, pick)
        else:
            chosen(world, pick)

    def fork(self, world: World, pick: Pick) -> None:
        """Fork a namespace, which is then worked in as well."""
        forked = helpers_machine_history.fork_both(world, pick)
        if forked:
            namespace, agents, model = forked
            self.worlds.append(World(self.session, namespace, agents, model))
            compare_all(self.worlds[-1])
            create_both(self.worlds[-1], self.worlds[-1].owner(namespace), "main")

    def reopen(self, pick: Pick) -> None:
        """Close the file and open it again, perhaps after the clock was set back, or years later."""
        self.session.now += pick(JUMPS)

        def close_and_open() -> None:
            for world in reversed(self.worlds):
                world.close()
            for world in self.worlds:
                world.open()

        world = self.worlds[0]
        world.step("reopen", world.owner(AGENTS[0]), close_and_open, partial(int))

    def end(self) -> None:
        """Compare everything a last time and remove the file."""
        try:
            if not self.session.broken:
                for world in self.worlds:
                    compare_all(world)
        finally:
            for world in reversed(self.worlds):
                world.close()
            shutil.rmtree(self.folder)

    def told(self) -> str:
        """Return all calls that were made."""
        return "\n".join(told(*call) for call in self.session.trace)


def reopen(world: World, pick: Pick) -> None:
    """Stand for ``Machine.reopen`` among the rules."""


def fork(world: World, pick: Pick) -> None:
    """Stand for ``Machine.fork`` among the rules."""


world_rule(1, looks=True)(reopen)
world_rule(1)(fork)


def told(namespace: str, operation: str, caller: Sequence[Any], call: Any) -> str:
    """Return a call as a line of text."""
    who = " for ".join(filter(None, caller))
    if not isinstance(call, partial):
        return f"[{namespace}] {who}: {operation}"
    args = [brief(one) for one in call.args if not callable(one) and not isinstance(one, AgentMemory)]
    named = [f"{name}={what!r}" for name, what in call.keywords.items() if name != "clock"]
    return f"[{namespace}] {who}: {operation}({', '.join(args + named)})"


def brief(argument: Any) -> str:
    """Return an argument as text, an entry by its seq."""
    if isinstance(argument, list):
        return f"[{', '.join(map(brief, argument))}]"
    return f"<seq {argument.seq}>" if isinstance(argument, Entry) else repr(argument)


def make_template(folder: Path) -> Path:
    """Make an empty database, to be copied: that is faster than creating each."""
    template = folder / "empty.db"
    if not template.exists():
        AgentMemory(AGENTS[0], template, namespace="default", durability="normal", clock=lambda: START).close()
    return template


def run_random(folder: Path, start: int, steps: int, steps_of_run: int = 120) -> Counter[str]:
    """Take a number of steps or more, each run from a seed of its own, and return how often each thing was done."""
    tally: Counter[str] = Counter()
    template, taken, number = make_template(folder), 0, 0
    while taken < steps:
        number, taken = number + 1, taken + run_once(folder, template, start, number, steps_of_run, tally)
    return tally


def run_once(folder: Path, template: Path, start: int, number: int, steps: int, tally: Counter[str]) -> int:
    """Take the steps of one run and return how many there were."""
    machine = Machine(folder, template, tally)
    pick = random.Random(f"{start}/{number}").choice
    try:
        try:
            machine.begin(pick)
            while machine.session.steps < steps:
                machine.act(pick)
        finally:
            machine.end()
    except BaseException as error:
        error.add_note(f"{machine.told()}\nseed {start}, run {number}, step {machine.session.steps}")
        raise
    return machine.session.steps


class DrawnMachine(RuleBasedStateMachine):
    """The same machine with every choice drawn by Hypothesis."""

    def __init__(self, folder: Path, template: Path, tally: Counter[str]) -> None:
        super().__init__()
        self.machine = Machine(folder, template, tally)

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """Start."""
        self.tell(self.machine.begin, data)

    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        """Take a rule."""
        self.tell(self.machine.act, data)

    def tell(self, action: Callable[[Pick], None], data: st.DataObject) -> None:
        """Do something, and if it fails say what was done: the numbers that were drawn tell nobody."""
        try:
            action(drawn(data))
        except Exception as error:
            error.add_note(self.machine.told())
            raise

    def teardown(self) -> None:
        """End."""
        self.machine.end()


def drawn(data: st.DataObject) -> Pick:
    """Return what chooses as Hypothesis draws."""

    def pick(options: Sequence[Any]) -> Any:
        return options[data.draw(st.integers(0, len(options) - 1))]

    return pick


def run_machine(folder: Path, how: settings, start: int) -> Counter[str]:
    """Run the machine within a budget as Hypothesis draws, from a seed, and return how often each thing was done."""
    tally: Counter[str] = Counter()
    template = make_template(folder)
    run_state_machine_as_test(seed(start)(lambda: DrawnMachine(folder, template, tally)), settings=how)
    return tally
