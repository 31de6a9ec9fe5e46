"""The toolkit in the hands of agents, and each of its tools by LangChain's own tests."""

import asyncio
import uuid
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.tools import ToolRuntime
from langchain.tools import tool as langchain_tool
from langchain_amfs import AMFSStore, AMFSToolkit
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from langgraph.checkpoint.memory import InMemorySaver

from amfs import AgentMemory
from amfs.frameworks.tools import TOOLS

READING = {"recall", "search", "history", "list_branches", "diff", "timeline"}
EXAMPLES = {
    "remember": {"entity_path": "svc", "key": "owner", "value": {"team": "payments"}, "confidence": 0.8},
    "recall": {"entity_path": "svc", "key": "owner"},
    "search": {"query": "payments", "limit": 3},
    "history": {"entity_path": "svc", "key": "owner"},
    "list_branches": {},
    "create_branch": {"name": "try", "description": "an idea"},
    "diff": {"branch": "idea"},
    "propose_merge": {"branch": "idea", "title": "An idea"},
    "commit_outcome": {"reference": "DEP-1", "outcome": "success", "summary": "It works."},
    "timeline": {"everyone": True},
}


@pytest.fixture
def tools(memory):
    return {tool.name: tool for tool in AMFSToolkit(memory).get_tools()}


@langchain_tool
def look(runtime: ToolRuntime) -> str:
    """Look by the store."""
    return str(runtime.store.get(("svc",), "limit").value)


def call(name, **args):
    return {"type": "tool_call", "id": "1", "name": name, "args": args}


def replies(result):
    return [message for message in result["messages"] if message.type == "tool"]


# --- LangChain's own tests ---------------------------------------------------------------------------------


class Example:
    """What LangChain's tests of a tool are to call: a tool, on a memory that has what its example needs."""

    name: str

    @pytest.fixture
    def tool(self, memory: AgentMemory) -> BaseTool:
        memory.write("svc", "owner", {"team": "payments"})
        memory.create_branch("idea")
        memory.write("svc", "owner", {"team": "search"}, branch="idea")
        return next(tool for tool in AMFSToolkit(memory).get_tools() if tool.name == self.name)

    @property
    def tool_constructor(self) -> BaseTool:
        with AgentMemory("desk", ":memory:") as memory:
            return next(tool for tool in AMFSToolkit(memory).get_tools() if tool.name == self.name)

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return EXAMPLES[self.name]


for _name in EXAMPLES:
    for _suite in (ToolsUnitTests, ToolsIntegrationTests):
        _title = f"Test{_name.title().replace('_', '')}{_suite.__name__}"
        globals()[_title] = type(_title, (Example, _suite), {"name": _name})


# --- by hand -----------------------------------------------------------------------------------------------


def test_the_tools_are_those_of_the_core(tools):
    assert list(tools) == [tool.name for tool in TOOLS] == list(EXAMPLES)
    for tool in TOOLS:
        described = convert_to_openai_tool(tools[tool.name])["function"]
        assert described["description"] == tool.description
        assert set(described["parameters"]["properties"]) == set(tool.arguments.model_fields)


def test_a_read_only_toolkit_offers_what_changes_nothing(memory):
    assert {tool.name for tool in AMFSToolkit(memory, read_only=True).get_tools()} == READING


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_sync_and_async_say_the_same(tmp_path, name):
    said = []
    for way in ("sync", "async"):
        with AgentMemory("desk", tmp_path / f"{way}.db", clock=iter(range(10**15, 10**16)).__next__) as memory:
            memory.write("svc", "owner", {"team": "payments"})
            memory.create_branch("idea")
            tool = next(tool for tool in AMFSToolkit(memory).get_tools() if tool.name == name)
            asked = EXAMPLES[name]
            said.append(tool.invoke(asked) if way == "sync" else asyncio.run(tool.ainvoke(asked)))
    assert said[0] == said[1]


def test_errors_are_told_as_the_result_of_the_tool(tools):
    for message in (tools["diff"].invoke(call("diff", branch="nowhere")),
                    asyncio.run(tools["diff"].ainvoke(call("diff", branch="nowhere")))):  # fmt: skip
        assert message.status == "error"
        assert message.content.startswith("branch_not_found: no branch 'nowhere'")
    message = tools["search"].invoke(call("search", limit=0, sudo=True))
    assert message.status == "error"
    assert all(word in message.content for word in ("query", "limit", "sudo"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"key": ""},
        {"key": "k\0"},
        {"key": "\ud800"},
        {"entity_path": ""},
        {"entity_path": "a//b"},
        {"value": "\ud800"},
        {"value": float("nan")},
        {"value": {"a": "x" * 2_000_000}},
        {"branch": "x'); DROP TABLE log; --"},
    ],
)
def test_what_memory_refuses_is_an_error_for_the_model(memory, tools, arguments):
    message = tools["remember"].invoke(call("remember", **{**EXAMPLES["remember"], **arguments}))
    assert message.status == "error"
    assert len(message.content) < 1_000
    assert memory.list() == []


@pytest.mark.parametrize("key", ["x'); DROP TABLE log; --", "$.a", "a/b", "..", "🍵", "a\"b'c", "%_*[", "k\nk"])
def test_hostile_keys_are_only_keys(memory, tools, key):
    said = tools["remember"].invoke({"entity_path": "svc", "key": key, "value": key})
    assert said.startswith("Remembered svc/")
    assert memory.read("svc", key).value == key
    for name in ("recall", "history"):
        assert len(tools[name].invoke({"entity_path": "svc", "key": key}).splitlines()) == 3
    assert memory.verify().ok


# --- in agents ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["sync", "async"])
def test_an_agent_remembers_in_its_own_name_and_run(memory, script, way):
    model = script(
        [("remember", EXAMPLES["remember"])],
        [("recall", EXAMPLES["recall"])],
        [("diff", {"branch": "nowhere"})],
        "done",
    )
    agent = create_agent(model, AMFSToolkit(memory).get_tools(), name="waiter", checkpointer=InMemorySaver())
    run_id = uuid.uuid4()
    config = {"configurable": {"thread_id": "t"}, "run_id": run_id}
    asked = {"messages": "hi"}
    result = agent.invoke(asked, config) if way == "sync" else asyncio.run(agent.ainvoke(asked, config))
    kept, read, failed = replies(result)
    assert kept.content == "Remembered svc/owner as version 1 on branch main."
    assert '> {"team": "payments"}' in read.content
    assert (failed.status, failed.content[:16]) == ("error", "branch_not_found")
    (event,) = memory.timeline(agent_id="waiter")
    assert (event.summary, event.run_id) == ("Wrote svc/owner v1", str(run_id))


@pytest.mark.parametrize("way", ["sync", "async"])
def test_an_agent_works_on_the_branch_of_its_invocation(memory, script, way):
    memory.create_branch("idea")
    agent = create_agent(script([("remember", EXAMPLES["remember"])], "done"), AMFSToolkit(memory).get_tools())
    config = {"configurable": {"amfs_branch": "idea"}}
    if way == "sync":
        agent.invoke({"messages": "hi"}, config)
    else:
        asyncio.run(agent.ainvoke({"messages": "hi"}, config))
    assert memory.read("svc", "owner") is None
    assert memory.read("svc", "owner", branch="idea").value == {"team": "payments"}


def test_an_agent_follows_an_experiment(memory, script):
    agent = create_agent(
        script([("remember", EXAMPLES["remember"])], "done"), AMFSToolkit(memory).get_tools(), name="waiter"
    )
    with memory.experiment("x") as experiment:
        agent.invoke({"messages": "hi"})
    assert memory.read("svc", "owner") is None
    assert [change.key for change in experiment.diff()] == ["owner"]


def test_an_outcome_judges_what_the_tools_and_the_store_read_in_this_run(memory, script):
    for key in ("owner", "limit", "unread"):
        memory.write("svc", key, {"n": 1})
    reads = [("recall", EXAMPLES["recall"])]
    outcome = [("commit_outcome", {"reference": "DEP-2", "outcome": "failure"})]
    with AMFSStore(memory) as store:
        model = script(reads, [("look", {})], outcome, "done")
        tools = [*AMFSToolkit(memory).get_tools(), look]
        result = create_agent(model, tools, store=store, name="waiter").invoke({"messages": "hi"})
    assert "Recorded failure of DEP-2." in replies(result)[-1].content
    assert {entry.key: entry.confidence for entry in memory.list("svc")} == {"owner": 0.5, "limit": 0.5, "unread": 1.0}


def test_nothing_is_merged_without_somebody_who_decides(memory, script):
    memory.write("svc", "owner", "old")
    turns = [
        [("create_branch", {"name": "try"})],
        [("remember", {"entity_path": "svc", "key": "owner", "value": "new", "branch": "try"})],
        [("propose_merge", {"branch": "try", "title": "Newer"})],
    ]
    create_agent(script(*turns, "done"), AMFSToolkit(memory).get_tools(), name="waiter").invoke({"messages": "hi"})
    (request,) = memory.pull_requests("open")
    assert (request.agent_id, request.source_branch, request.target_branch) == ("waiter", "try", "main")
    assert memory.read("svc", "owner").value == "old"
    memory.merge_pull_request(request.id)
    assert memory.read("svc", "owner").value == "new"


def test_reads_of_the_tools_are_those_of_the_agent(memory, script):
    memory.as_agent("author").write("svc", "owner", {"team": "payments"})
    agent = create_agent(
        script([("search", {"query": "payments"})], "done"), AMFSToolkit(memory).get_tools(), name="waiter"
    )
    agent.invoke({"messages": "hi"})
    (event,) = memory.timeline(agent_id="author", event_type="cross_agent_read")
    assert (event.actor, bool(event.run_id), bool(event.details["task"])) == ("waiter", True, True)
