"""Writers of briefs: when they are asked, what they may return and do, and what a failing one leaves behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from amfs import AgentMemory, AsyncAgentMemory, ContentionError, InvalidNameError, WriterError
from amfs.core.briefs import MAX_WRITTEN
from tests.helpers_briefs import P, events, fill
from tests.helpers_tables import changed, contents

OpenMemory = Callable[..., AgentMemory]


def test_a_writer_is_given_the_digest_and_asked_again_only_when_something_changed(mem: AgentMemory) -> None:
    fill(mem)
    asked: list[str] = []

    def writer(text: str) -> str:
        asked.append(text)
        return f"Prose {len(asked)} [1]."

    plain = mem.brief(P)
    written = mem.brief(P, writer=writer)
    assert (written.digest_type, written.text, asked) == ("written", "Prose 1 [1].", [plain.text])
    assert written.model_copy(update={"digest_type": "digest", "text": plain.text}).model_dump(
        exclude={"seq", "compiled_at"}
    ) == plain.model_dump(exclude={"seq", "compiled_at"})
    assert (mem.brief(P, writer=writer), mem.brief(P), len(asked)) == (written, plain, 1)
    mem.write(P, "retry", 4)
    assert (mem.brief(P, writer=writer).text, mem.brief(P, writer=str.upper).text) == (
        "Prose 2 [1].",
        mem.brief(P).text.upper(),
    )


def prefixed(what: str, text: str) -> str:
    """Write something with a word in front."""
    return f"{what}: {text}"


class Model:
    """A writer that is an object."""

    def __call__(self, text: str) -> str:
        return f"by an object: {len(text)}"


def test_a_writer_is_known_by_its_name(mem: AgentMemory) -> None:
    fill(mem)
    first = mem.brief(P, writer=Model())
    assert mem.brief(P, writer=Model()) == first
    assert mem.brief(P, writer=partial(prefixed, "a")).text.startswith("a:")
    assert mem.brief(P, writer=partial(prefixed, "b")).text.startswith("a:"), "it is the same function"
    nameless = Model()
    nameless.__qualname__ = "x" * 2000
    with pytest.raises(InvalidNameError):
        mem.brief(P, writer=nameless)


def failing(_text: str) -> str:
    """Fail as a model does that cannot be reached."""
    raise ConnectionError("no route")


WRONG: dict[str, Callable[[str], Any]] = {
    "empty": lambda _: "",
    "blank": lambda _: " \n",
    "nothing": lambda _: None,
    "no text": lambda _: 7,
    "bytes": lambda _: b"prose",
    "too long": lambda _: "x" * (MAX_WRITTEN + 1),
    "no character": lambda _: "\ud800",
    "a NUL": lambda _: "a\0b",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_text_is_refused_and_nothing_stored(file_mem: AgentMemory, wrong: str) -> None:
    fill(file_mem)
    before = contents(file_mem.database)
    with pytest.raises(WriterError, match="must return text of 1 to 100,000 characters") as caught:
        file_mem.brief(P, writer=WRONG[wrong])
    assert caught.value.code == "writer"
    assert changed(before, contents(file_mem.database)) == {}


def test_the_longest_text_is_taken(mem: AgentMemory) -> None:
    fill(mem)
    longest = "\x01" + "\U0001f600" * (MAX_WRITTEN - 1)
    assert mem.brief(P, writer=lambda _: longest).text == mem.brief(P, writer=lambda _: longest).text == longest


def test_an_error_of_the_writer_is_the_cause(file_mem: AgentMemory) -> None:
    fill(file_mem)
    before = contents(file_mem.database)
    with pytest.raises(WriterError, match="failing failed: ConnectionError: no route") as caught:
        file_mem.brief(P, writer=failing)
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert changed(before, contents(file_mem.database)) == {}
    with pytest.raises(KeyboardInterrupt):
        file_mem.brief(P, writer=lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    file_mem.write(P, "still", "usable")


def test_a_writer_may_use_the_memory_and_is_asked_again_if_that_moved_what_it_wrote_of(mem: AgentMemory) -> None:
    fill(mem)
    asked: list[str] = []

    def writer(text: str) -> str:
        asked.append(text)
        mem.write("elsewhere", f"k{len(asked)}", 1)
        if len(asked) < 3:
            mem.write(P, "retry", len(asked), branch="main")
        mem.switch_branch(mem.create_branch(f"switched {len(asked)}").name)
        return f"prose {len(asked)}"

    brief = mem.brief(P, writer=writer)
    mem.switch_branch("main")
    assert (brief.text, brief.branch, len(asked)) == ("prose 3", "main", 3)
    assert f"{P}/retry: 2 " in asked[-1]
    assert (mem.brief(P, writer=writer), len(events(mem))) == (brief, 1)


def test_a_writer_that_never_keeps_up_loses_ten_races(mem: AgentMemory) -> None:
    fill(mem)
    asked: list[str] = []

    def writer(text: str) -> str:
        asked.append(text)
        mem.write(P, "retry", len(asked))
        return "late"

    with pytest.raises(ContentionError, match="the writer of a brief"):
        mem.brief(P, writer=writer)
    assert (len(asked), events(mem)) == (10, [])


def test_what_another_stored_while_the_writer_wrote_is_taken(open_memory: OpenMemory) -> None:
    mem = open_memory()
    fill(mem)
    asked: list[str] = []

    def writer(text: str) -> str:
        asked.append(text)
        number = len(asked)
        if number == 1:
            assert mem.as_agent("bob").brief(P, writer=writer).text == "prose 2"
        return f"prose {number}"

    assert mem.brief(P, writer=writer).text == "prose 2"
    assert [event.agent_id for event in events(mem)] == ["bob"]


async def test_a_write_does_not_wait_for_the_writer_of_an_awaited_brief(open_memory: OpenMemory) -> None:
    alice = open_memory()
    fill(alice)
    begun, ended = threading.Event(), threading.Event()

    def writer(_text: str) -> str:
        begun.set()
        assert ended.wait(60)
        return f"in the run {alice.current_run.run_id}"

    async with AsyncAgentMemory(alice) as mem, mem.run("r"):
        task = asyncio.create_task(mem.brief(P, writer=writer))
        await asyncio.to_thread(begun.wait, 60)
        assert (await mem.write("elsewhere", "k", 1)).version == 1
        ended.set()
        assert (await task).text == "in the run r"
        assert (await mem.brief(P)).entry_count == 3
