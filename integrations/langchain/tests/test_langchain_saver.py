"""AMFSSaver as a checkpointer: LangGraph's conformance suite, any input, values only of allowed types, growth."""

import asyncio
import dataclasses
import enum
import logging
import pickle
import sqlite3
import tempfile
import uuid
from collections import namedtuple
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import ormsgpack
import pytest
from langchain_amfs import AllowListSerializer, AMFSSaver
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Interrupt, Send
from pydantic import BaseModel

from amfs import (
    AgentMemory,
    BranchNotFoundError,
    InvalidFilterError,
    InvalidInputError,
    InvalidNameError,
    InvalidValueError,
    NotSupportedError,
)

BASE = {"put": 17, "put_writes": 10, "get_tuple": 10, "list": 16, "delete_thread": 5}
EXTENDED = {"delete_for_runs": 7, "copy_thread": 8, "prune": 8}
HOSTILE = ["it's", '"quoted"', "a/b/../c", "日本 🧠", "%_*[", "x' OR '1'='1", "$.source", ". ", "a.b-c"]


def config(thread="t1", ns="", checkpoint_id=None, **more):
    ids = {} if checkpoint_id is None else {"checkpoint_id": checkpoint_id}
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, **ids, **more}}


def checkpoint(number=0, **values):
    versions = dict.fromkeys(values, number + 1)
    made = {"id": str(uuid6(clock_seq=number)), "channel_values": values, "channel_versions": versions}
    return {**empty_checkpoint(), **made}


def stored(saver, value, place=None):
    """Return a value after it was stored and read back."""
    return saver.get_tuple(saver.put(place or config(), checkpoint(v=value), {}, {})).checkpoint["channel_values"]["v"]


# --- the contract --------------------------------------------------------------------------------------------


@checkpointer_test(name="AMFSSaver")
async def registered():
    with tempfile.TemporaryDirectory() as folder:
        async with AMFSSaver.from_conn_string(Path(folder, "amfs.db"), durability="normal") as saver:
            await saver.setup()
            yield saver
            assert saver.memory.verify().problems == ()


async def test_all_of_the_conformance_suite_passes():
    report = await validate(registered)
    results = {name: (found.tests_passed, found.failures) for name, found in report.results.items()}
    assert results == {name: (number, []) for name, number in (BASE | EXTENDED).items()}
    assert (sum(BASE.values()), sum(EXTENDED.values())) == (58, 23)


def test_a_checkpoint_comes_back_as_it_was(saver):
    made = checkpoint(messages=[HumanMessage("hi", id="1")], n=1)
    metadata = {"source": "loop", "step": 1, "parents": {"": "x"}, "counters_since_delta_snapshot": {"c": (1, 2)}}
    place = saver.put(config(checkpoint_id="before", user="ann"), made, metadata, {"n": 1})
    found = saver.get_tuple(place)
    assert found.checkpoint == made
    assert found.config == place == config(checkpoint_id=made["id"])
    assert found.parent_config == config(checkpoint_id="before")
    assert found.metadata == {**metadata, "counters_since_delta_snapshot": {"c": [1, 2]}, "user": "ann"}
    assert found.pending_writes == []
    assert saver.get(config()) == made


def test_writes_come_in_the_order_in_which_they_are_applied(saver):
    place = saver.put(config(), checkpoint(), {}, {})
    for task, path in (("z", "~__pregel_pull, a"), ("a", "~__pregel_pull, b"), ("m", "")):
        saver.put_writes(place, [("x", task), ("y", [task])], task, path)
    saver.put_writes(place, [("__error__", "oh")], "a", "~__pregel_pull, b")
    saver.put_writes(place, [("__error__", "again")], "a", "~__pregel_pull, b")
    assert saver.get_tuple(config()).pending_writes == [
        ("m", "x", "m"),
        ("m", "y", ["m"]),
        ("z", "x", "z"),
        ("z", "y", ["z"]),
        ("a", "__error__", "again"),
        ("a", "x", "a"),
        ("a", "y", ["a"]),
    ]


async def test_sync_and_async_calls_are_of_one_kind(saver):
    first = saver.put(config(), checkpoint(1, n=1), {"step": 1}, {})
    second = await saver.aput(first, checkpoint(2, n=2), {"step": 2}, {})
    await saver.aput_writes(second, [("n", 3)], "task")
    assert saver.get_tuple(config()) == await saver.aget_tuple(config()) == await anext(saver.alist(None))
    assert [one async for one in saver.alist(config())] == list(saver.list(config()))
    assert (await saver.aget(config()))["channel_values"] == {"n": 2}
    await saver.acopy_thread("t1", "t2")
    await saver.aprune(["t2"])
    await saver.adelete_thread("t1")
    assert [one.config for one in saver.list(None)] == [
        config("t2", checkpoint_id=second["configurable"]["checkpoint_id"])
    ]
    saver.prune(["t2"], strategy="delete")
    assert list(saver.list(None)) == []


async def test_a_put_that_waits_for_a_lock_lets_the_event_loop_go_on(saver):
    with closing(sqlite3.connect(saver.memory.database)) as other:
        other.execute("BEGIN IMMEDIATE")
        values = [1]
        put = asyncio.create_task(saver.aput(config(), checkpoint(v=values), {}, {}))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not put.done()
        values.append(2)  # what was put does not change with it
        other.rollback()
    await put
    assert saver.get(config())["channel_values"] == {"v": [1]}


def test_opening_a_database_directly(tmp_path):
    with AMFSSaver.from_conn_string(tmp_path / "amfs.db", agent_id="desk", durability="normal") as saver:
        saver.setup()
        place = saver.put(config(), checkpoint(n=1), {}, {})
        assert saver.memory.agent_id == "desk"
    with AgentMemory("other", tmp_path / "amfs.db") as memory:
        with AMFSSaver(memory) as saver:
            assert saver.get_tuple(place).checkpoint["channel_values"] == {"n": 1}
        assert memory.list() == []
    with pytest.raises(InvalidInputError):
        AMFSSaver.from_conn_string(tmp_path / "amfs.db", serde=pickle)


def test_versions_count_on_as_the_saver_before_wrote_them(saver):
    assert saver.get_next_version(None, None) == 1
    assert saver.get_next_version(3, None) == 4
    text = saver.get_next_version(f"{7:032}.123", None)
    assert text.split(".")[0] == f"{8:032}"
    assert saver.get_next_version(text, None) > text


# --- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_any_text_names_a_thread_and_a_field_of_the_metadata(saver, name):
    place = saver.put(config(name, ns=name), checkpoint(v=name), {name: name, "run_id": name}, {})
    saver.put_writes(place, [(name, name)], name, name)
    saver.put(config("other"), checkpoint(), {"source": "loop"}, {})
    found = saver.get_tuple(config(name, ns=name))
    assert (found.checkpoint["channel_values"], found.pending_writes) == ({"v": name}, [(name, name, name)])
    assert [one.config for one in saver.list(None, filter={name: name})] == [place]
    assert [one.config for one in saver.list(config(name, ns=name), filter={name: name}, limit=5)] == [place]
    for filters in ({name: "other"}, {f"{name}') --": name}, {"source": f"loop' OR '{name}"}, {"source": {name: name}}):
        assert list(saver.list(None, filter=filters)) == []
    saver.copy_thread(name, f"{name}2")
    saver.delete_for_runs([name])
    assert [one.config["configurable"]["thread_id"] for one in saver.list(None)] == ["other"]


def test_bad_input_is_refused_with_typed_errors(saver):
    place = saver.put(config(), checkpoint(n=1), {"step": 1}, {})
    for bad in (config(""), config("a\0"), config("\ud800"), config("x" * 2000), config(None), {}, config(ns="\0")):
        for call in (
            lambda bad=bad: saver.put(bad, checkpoint(), {}, {}),
            lambda bad=bad: saver.put_writes(bad, [("n", 1)], "task"),
            lambda bad=bad: saver.get_tuple(bad),
            lambda bad=bad: list(saver.list(bad)) if bad else saver.get_tuple(bad),
        ):
            with pytest.raises(InvalidNameError):
                call()
    for call in (
        lambda: saver.get_tuple(config(checkpoint_id="")),
        lambda: saver.put_writes(config(), [("n", 1)], "task"),
        lambda: saver.put_writes(place, [("n", 1)], ""),
        lambda: saver.put(config(), {**checkpoint(), "id": ""}, {}, {}),
        lambda: saver.delete_thread(""),
        lambda: saver.copy_thread("t1", ""),
        lambda: saver.prune([""]),
        lambda: saver.delete_for_runs([""]),
        lambda: saver.fork_thread("", None, "e"),
        lambda: saver.fork_thread("t1", None, ""),
        lambda: saver.fork_thread("t1", "", "e"),
    ):
        with pytest.raises(InvalidNameError):
            call()
    for filters in ("x", [1], {1: 2}):
        with pytest.raises(InvalidFilterError):
            saver.list(config(), filter=filters)
    for metadata in ({"x": float("nan")}, {"x": object()}):
        with pytest.raises(InvalidValueError):
            saver.put(config(), checkpoint(), metadata, {})
    with pytest.raises(InvalidInputError, match="keep_latest"):
        saver.prune(["t1"], strategy="keep_all")
    with pytest.raises(BranchNotFoundError):
        saver.put(config(amfs_branch="nowhere"), checkpoint(), {}, {})
    assert [one.config for one in saver.list(None)] == [place]


def test_ids_that_nobody_knows_find_nothing(saver):
    place = saver.put(config(), checkpoint(n=1), {}, {})
    assert saver.get_tuple(config(checkpoint_id="unknown")) is None
    assert saver.get_tuple(config("unknown")) is None
    assert saver.get_tuple(config(ns="unknown")) is None
    assert list(saver.list(config(), before=config(checkpoint_id="0"))) == []
    assert [one.config for one in saver.list(config(), before=config(checkpoint_id="z"))] == [place]
    saver.delete_thread("unknown")
    saver.delete_for_runs(["unknown"])
    saver.prune(["unknown"])
    number = saver.put({"configurable": {"thread_id": 7}}, checkpoint(n=7), {}, {})
    assert saver.get_tuple(config(7)).config == number == saver.get_tuple(config("7")).config


# --- values --------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1


class Order(BaseModel):
    number: int
    colour: Colour


@dataclasses.dataclass
class Line:
    text: str


Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - any may come

ALLOWED = [
    None, True, 1, 1.5, "x", "", b"bytes", b"", [], [[]], [1, "a", None], {}, {"a": {"b": [1]}}, {1: "one"}, "\0",
    [HumanMessage("hi", id="1"), AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}])],
    ToolMessage("ok", tool_call_id="1"), Document("text", metadata={"a": 1}), datetime(2026, 1, 2, tzinfo=UTC),
    timedelta(1), Decimal("1.5"), uuid.UUID(int=7), {1, 2}, Path("/a/b"), Send("node", {"a": 1}), Interrupt("why"),
]  # fmt: skip


@pytest.mark.parametrize("value", ALLOWED, ids=repr)
def test_safe_values_come_back_equal_and_of_their_type(saver, value):
    found = stored(saver, value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("value", [Order(number=1, colour=Colour.RED), Colour.RED, Line("a"), Pair(1, 2)], ids=repr)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"deep": [HumanMessage("x"), {"v": v}]}])
def test_other_types_are_refused_until_they_are_allowed(memory, value, wrap):
    with AMFSSaver(memory) as saver:
        with pytest.raises(InvalidValueError, match=f"channel 'v'.*{type(value).__name__}.*allowed_types"):
            saver.put(config(), checkpoint(v=wrap(value)), {}, {})
        with pytest.raises(InvalidValueError):
            saver.put_writes(config(checkpoint_id="1"), [("v", wrap(value))], "task")
        assert list(saver.list(None)) == []
    for allowed in (
        [Order, Colour, Line, Pair],
        [(kind.__module__, kind.__name__) for kind in (Order, Colour, Line, Pair)],
    ):
        with AMFSSaver(memory, allowed_types=allowed) as saver:
            found = stored(saver, wrap(value), config("allowed"))
            assert type(found) is type(wrap(value))
            assert repr(value) in repr(found)


def test_what_cannot_be_serialized_is_refused(saver):
    class Local:
        pass

    for value in (object(), Local(), lambda: 1, [object()], {"x": {object(): 1}}, 2**70):
        with pytest.raises(InvalidValueError):
            saver.put(config(), checkpoint(v=value), {}, {})
    with pytest.raises(InvalidInputError, match="top of its module"):
        AllowListSerializer([Local])


class Untyped:
    """A serializer as the pickle module is one."""

    dumps, loads = staticmethod(pickle.dumps), staticmethod(pickle.loads)


class Typed:
    """A serializer that pickles, whatever it says."""

    def dumps_typed(self, value):
        return "plain", pickle.dumps(value)

    def loads_typed(self, data):
        return pickle.loads(data[1])  # noqa: S301 - that it is refused is the test


class Reversing:
    """A cipher for tests."""

    def encrypt(self, text):
        return "reversed", text[::-1]

    def decrypt(self, _, text):
        return text[::-1]


UNSAFE = {
    "pickle": pickle,
    "untyped": Untyped(),
    "typed": Typed(),
    "fallback": JsonPlusSerializer(pickle_fallback=True),
    "limited with fallback": JsonPlusSerializer(pickle_fallback=True, allowed_msgpack_modules=None),
    "permissive": JsonPlusSerializer(allowed_msgpack_modules=True),
    "encrypted permissive": EncryptedSerializer(Reversing(), JsonPlusSerializer(allowed_msgpack_modules=True)),
    "encrypted pickle": EncryptedSerializer(Reversing(), Typed()),
}


@pytest.mark.parametrize("serde", UNSAFE.values(), ids=UNSAFE)
def test_a_serializer_that_pickles_or_revives_anything_is_refused(memory, saver, serde, caplog):
    caplog.set_level(logging.CRITICAL)
    with pytest.raises(InvalidInputError, match="revives types that nobody allowed"):
        AMFSSaver(memory, serde=serde)
    with pytest.raises(InvalidInputError):
        saver.serde = serde
    assert stored(saver, 1) == 1


def test_an_encrypting_serializer_is_used(memory):
    serde = EncryptedSerializer(Reversing(), AllowListSerializer([Line]))
    with AMFSSaver(memory, serde=serde) as saver:
        assert stored(saver, [Line("secret"), "x"]) == [Line("secret"), "x"]
        with pytest.raises(InvalidValueError):
            stored(saver, Colour.RED)
    with AMFSSaver(memory) as plain, pytest.raises(NotSupportedError, match=r"msgpack\+reversed"):
        plain.get_tuple(config())
    with pytest.raises(InvalidInputError):
        AMFSSaver(memory, serde=serde, allowed_types=[Line])


def test_an_allow_list_that_a_graph_derives_is_added(saver):
    wider = saver.with_allowlist([(Line.__module__, Line.__name__)])
    assert stored(wider, Line("a")) == Line("a")
    with pytest.raises(InvalidValueError):
        stored(saver, Line("a"))
    assert saver.with_allowlist([]) is saver


CALLED = []


def call(*_):
    CALLED.append(1)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("pickle", pickle.dumps(1)),
        ("json", b'{"lc": 2, "type": "constructor", "id": ["os", "getcwd"]}'),
        ("Pickle+aes", b""),
        ("unheard of", b""),
    ],
)
def test_values_that_the_saver_does_not_write_are_not_read(saver, kind, data):
    stored(saver, "x")
    with closing(sqlite3.connect(saver.memory.database, isolation_level=None)) as connection:
        before = connection.execute("SELECT kind, data FROM blob").fetchone()
        connection.execute("UPDATE blob SET kind = ?, data = ?", (kind, data))
        with pytest.raises(NotSupportedError):
            saver.get_tuple(config())
        assert not saver.memory.verify().ok
        connection.execute("UPDATE blob SET kind = ?, data = ?", before)


def test_a_planted_call_is_not_made(saver):
    stored(saver, "x")
    planted = ormsgpack.packb(ormsgpack.Ext(0, ormsgpack.packb((__name__, "call", 1))))
    with closing(sqlite3.connect(saver.memory.database, isolation_level=None)) as connection:
        before = connection.execute("SELECT data FROM blob").fetchone()
        connection.execute("UPDATE blob SET data = ?", (planted,))
        assert saver.get(config())["channel_values"] == {"v": 1}  # the plain data, as LangGraph gives it back
        connection.execute("UPDATE blob SET data = ?", before)
    assert CALLED == []


# --- growth --------------------------------------------------------------------------------------------------


def rows(saver):
    with closing(sqlite3.connect(saver.memory.database)) as connection:
        tables = ("checkpoint", "pending_write", "blob", "blob_part")
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}  # noqa: S608


def conversation(saver, thread, steps):
    place, messages = config(thread), []
    for number in range(steps):
        messages = [*messages, HumanMessage(f"{thread} says {number}", id=f"{thread}-{number}")]
        if number:
            saver.put_writes(place, [("messages", messages[-1:])], f"task {number}")
        place = saver.put(place, checkpoint(number, messages=messages), {"step": number}, {})
    return messages


def test_a_thread_does_not_grow_with_its_length_squared(saver):
    conversation(saver, "a", 50)
    short = rows(saver)
    messages = conversation(saver, "b", 200)
    long = {table: count - short[table] for table, count in rows(saver).items()}
    assert long["checkpoint"] == 200
    assert long["blob"] < 5 * 200, "each message once, and the new branch of the tree of each step"
    assert long["blob_part"] < 8 * short["blob_part"], "4 times as long; squared it were 16"
    assert saver.get(config("b"))["channel_values"]["messages"] == messages
    before = rows(saver)
    saver.copy_thread("b", "c")
    assert {table: count - before[table] for table, count in rows(saver).items()} == {
        "checkpoint": 200,
        "pending_write": 199,
        "blob": 0,
        "blob_part": 0,
    }
    for thread in "abc":
        saver.delete_thread(thread)
    assert set(rows(saver).values()) == {0}
