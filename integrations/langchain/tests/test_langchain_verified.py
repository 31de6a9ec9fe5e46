"""langmem's memory tools and deepagents' files and memory on AMFSStore, unchanged, and what the timeline tells."""

import asyncio
import warnings
from types import ModuleType

import pytest
from langchain.agents import create_agent
from langchain_amfs import AMFSCallbackHandler, AMFSMiddleware
from langgraph.checkpoint.memory import InMemorySaver

from integrations.langchain.tests.helpers_runs import events, last, play, recall, remember, runs_of, save, story

both = pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
_MISSING = "{} is not installed: it comes with the extra verified of langchain-amfs"


@pytest.fixture(scope="module")
def langmem() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports from places that LangGraph deprecates
        return pytest.importorskip("langmem", reason=_MISSING.format("langmem"))


@pytest.fixture(scope="module")
def deepagents() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("deepagents.backends", reason=_MISSING.format("deepagents"))
        return pytest.importorskip("deepagents", reason=_MISSING.format("deepagents"))


def run(graph, said, awaited, config=None):
    given = {"messages": said}
    return asyncio.run(graph.ainvoke(given, config)) if awaited else graph.invoke(given, config)


# --- langmem -----------------------------------------------------------------------------------------------------


def memory_tools(langmem):
    namespace = ("memories", "{langgraph_user_id}")
    return [langmem.create_manage_memory_tool(namespace), langmem.create_search_memory_tool(namespace)]


@both
def test_langmem_remembers_searches_updates_and_forgets(memory, store, langmem, awaited):
    middleware, user = AMFSMiddleware(memory), {"configurable": {"langgraph_user_id": "ann"}}

    def agent(name, *turns):
        tools = memory_tools(langmem)
        return create_agent(play(*turns), tools, middleware=[middleware], store=store, name=name)

    run(
        agent("scribe", [("manage_memory", {"action": "create", "content": "Ann drinks tea"})], "ok"),
        "hi",
        awaited,
        user,
    )
    (entry,) = memory.list("memories/ann")
    assert (entry.value, entry.agent_id, entry.version) == ({"content": "Ann drinks tea"}, "scribe", 1)

    start = last(memory)
    result = run(agent("waiter", [("search_memory", {"query": "tea"})], "Tea!"), "hi", awaited, user)
    assert "Ann drinks tea" in result["messages"][2].content
    told = story(memory, start)
    assert told[0] == f"waiter: waiter read scribe's memories/ann/{entry.key} v1"
    assert told[1].startswith('waiter: Noted tool search_memory: ok {"query":"tea"} -> ')
    assert told[2:] == ["waiter: Outcome RUN: success (0 entries updated)"]

    update = {"action": "update", "content": "Ann drinks coffee", "id": entry.key}
    run(agent("waiter", [("manage_memory", update)], "ok"), "hi", awaited, user)
    run(agent("scribe", [("manage_memory", {"action": "delete", "id": entry.key})], "ok"), "hi", awaited, user)
    assert memory.list("memories/ann") == []
    assert [(version.agent_id, version.value) for version in memory.history("memories/ann", entry.key)] == [
        ("scribe", {"content": "Ann drinks tea"}),
        ("waiter", {"content": "Ann drinks coffee"}),
        ("scribe", None),
    ]
    assert len(runs_of(memory)) == 4
    assert middleware.failures == ()


def test_langmem_on_a_branch(memory, store, langmem):
    with memory.experiment("tea") as experiment:
        create = [("manage_memory", {"action": "create", "content": "Ann drinks tea"})]
        agent = create_agent(play(create, "ok"), memory_tools(langmem), store=store, name="scribe")
        agent.invoke({"messages": "hi"}, {"configurable": {"langgraph_user_id": "ann"}})
    assert memory.list() == []
    (change,) = experiment.diff()
    assert (change.source.agent_id, change.source.value) == ("scribe", {"content": "Ann drinks tea"})


def test_langmem_keeps_users_apart(memory, store, langmem):
    create = [("manage_memory", {"action": "create", "content": "I drink tea"})]
    for user in ("ann", "ann2", "bob"):
        agent = create_agent(play(create, "ok"), memory_tools(langmem), store=store, name="scribe")
        agent.invoke({"messages": "hi"}, {"configurable": {"langgraph_user_id": user}})
    assert [len(memory.list(f"memories/{user}")) for user in ("ann", "ann2", "bob")] == [1, 1, 1]


# --- deepagents --------------------------------------------------------------------------------------------------


def files(deepagents):
    """Return a backend that keeps /memories/ in the store, and the rest in the state."""
    backends = deepagents.backends
    kept = backends.StoreBackend(namespace=lambda _: ("files", "ann"))
    return backends.CompositeBackend(default=backends.StateBackend(), routes={"/memories/": kept})


def deep(deepagents, store, *turns, name="deep", **options):
    return deepagents.create_deep_agent(
        play(*turns),
        middleware=[AMFSMiddleware(store.memory)],
        backend=files(deepagents),
        store=store,
        name=name,
        **options,
    )


@both
def test_files_of_a_deep_agent_have_a_history(memory, store, deepagents, awaited):
    write = [("write_file", {"file_path": "/memories/pref.md", "content": "Ann drinks tea"})]
    edit = [("edit_file", {"file_path": "/memories/pref.md", "old_string": "tea", "new_string": "coffee"})]
    run(deep(deepagents, store, write, edit, "ok", name="scribe"), "hi", awaited)
    assert [version.value["content"] for version in memory.history("files/ann", "/pref.md")] == [
        "Ann drinks tea", "Ann drinks coffee",
    ]  # fmt: skip
    assert [event.actor for event in memory.timeline(agent_id="scribe", event_type="write")] == ["scribe"] * 2

    start = last(memory)
    look = [("read_file", {"file_path": "/memories/pref.md"}), ("ls", {"path": "/memories/"})]
    result = run(deep(deepagents, store, look, "coffee", name="waiter"), "hi", awaited)
    replies = [message.content for message in result["messages"] if message.type == "tool"]
    assert "Ann drinks coffee" in replies[0]
    assert "/memories/pref.md" in replies[1]
    told = story(memory, start)
    assert "waiter: waiter read scribe's files/ann//pref.md v2" in told  # beside the other call of a tool
    assert told[-1] == "waiter: Outcome RUN: success (0 entries updated)"
    assert len(runs_of(memory, start)) == 1


@both
def test_the_memory_option_of_a_deep_agent_reads_what_others_wrote(memory, store, deepagents, awaited):
    write = [("write_file", {"file_path": "/memories/AGENTS.md", "content": "Always offer milk."})]
    run(deep(deepagents, store, write, "ok", name="scribe"), "hi", awaited)
    start = last(memory)
    graph = deep(deepagents, store, "Milk?", name="waiter", memory=["/memories/AGENTS.md"])
    assert "Always offer milk." in graph_system(graph, awaited)
    assert story(memory, start) == [
        "waiter: waiter read scribe's files/ann//AGENTS.md v1",
        "waiter: Outcome RUN: success (0 entries updated)",
    ]
    assert len(runs_of(memory, start)) == 1


def graph_system(graph, awaited):
    """Run an agent and return the system message that its model saw."""
    seen = []

    class Watch(AMFSCallbackHandler):
        ignore_chat_model = False

        def on_chat_model_start(self, serialized, messages, **kwargs):  # noqa: ARG002
            seen.extend(str(message.text) for message in messages[0] if message.type == "system")

    run(graph, "hi", awaited, {"callbacks": [Watch(graph.store.memory)]})
    return "\n".join(seen)


@both
def test_many_files_are_listed_page_by_page(store, deepagents, awaited):
    for number in range(230):
        store.put(("files", "ann"), f"/note-{number:03}.md", {"content": str(number), "encoding": "utf-8"})
    result = run(deep(deepagents, store, [("glob", {"pattern": "/memories/*.md"})], "ok"), "hi", awaited)
    listed = next(message.content for message in result["messages"] if message.type == "tool")
    assert listed.count("note-") == 230


@both
def test_sub_agents_of_a_deep_agent_write_in_their_own_name(memory, store, deepagents, awaited):
    scout = {
        "name": "scout", "description": "Finds out.", "system_prompt": "Find out.", "tools": [remember],
        "model": play([save("price", "3 EUR")], "3 EUR"), "middleware": [AMFSMiddleware(memory)],
    }  # fmt: skip
    task = [("task", {"description": "find the price", "subagent_type": "scout"})]
    turns = [task, [("recall", {"key": "price"})], "ok"]
    graph = deep(deepagents, store, *turns, subagents=[scout], tools=[recall])
    run(graph, "hi", awaited)
    assert story(memory)[0] == "scout: Wrote notes/u1/price v1"
    assert "deep: deep read scout's notes/u1/price v1" in story(memory)
    assert story(memory)[-1] == "deep: Outcome RUN: success (0 entries updated)"
    assert len(runs_of(memory)) == 1


@both
def test_a_deep_agent_with_a_branch_per_run(memory, store, deepagents, awaited):
    write = [("write_file", {"file_path": "/memories/pref.md", "content": "Ann drinks tea"})]
    graph = deepagents.create_deep_agent(
        play(write, "ok"), middleware=[AMFSMiddleware(memory, branch_per_run=True)], backend=files(deepagents),
        store=store, name="deep", checkpointer=InMemorySaver(),
    )  # fmt: skip
    run(graph, "hi", awaited, {"configurable": {"thread_id": "t1"}})
    assert memory.list() == []
    (record,) = memory.experiments()
    assert [change.entry_key for change in memory.diff_branch(record.branch)] == ["files/ann//pref.md"]
    assert {event.branch for event in events(memory)[1:]} == {record.branch}
