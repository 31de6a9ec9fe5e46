"""The retriever: what its nodes say, what a model is shown of them, and that LlamaIndex's parts take it."""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.chat_engine import CondensePlusContextChatEngine
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, QueryBundle
from llama_index.core.tools import RetrieverTool
from llama_index.memory.amfs import AMFSMemory, AMFSRetriever

from amfs import AgentMemory
from amfs.errors import BranchNotFoundError, InvalidFilterError, InvalidInputError

# LlamaIndex's workflows look at every attribute of an agent, the deprecated ones of pydantic models included.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:The `\w+` attribute is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:Accessing the '\w+' attribute on the instance:DeprecationWarning"),
]


@pytest.fixture
def drinks(mem):
    mem.write("drinks/hot", "tea", "Green tea, 80 degrees", confidence=0.8)
    mem.as_agent("bob").write("drinks/cold", "tea", {"text": "Iced tea", "sugar": False, "tags": ["x", "y"]})
    mem.write("drinks/cold", "list", ["tea", {"n": 1}])
    return AMFSRetriever(mem)


def texts(nodes):
    return {node.text for node in nodes}


def test_is_a_retriever():
    assert BaseRetriever.__name__ in [base.__name__ for base in AMFSRetriever.__mro__]
    assert {"_retrieve", "_aretrieve"} <= set(vars(AMFSRetriever))


@pytest.mark.usefixtures("drinks")
def test_a_node_says_what_it_is_and_where_it_is_from(mem):
    (found,) = AMFSRetriever(mem, similarity_top_k=1).retrieve("green tea 80 degrees")
    entry = mem.read("drinks/hot", "tea")
    assert found.text == "Green tea, 80 degrees"
    assert found.score > 0
    assert found.metadata == {
        "entity_path": "drinks/hot",
        "key": "tea",
        "version": 1,
        "seq": entry.seq,
        "branch": "main",
        "author": "chat-agent",
        "confidence": 0.8,
    }


def test_content_reads_well(drinks):
    assert texts(drinks.retrieve("tea")) == {
        "Green tea, 80 degrees",
        'text: Iced tea\nsugar: false\ntags: ["x", "y"]',
        '- tea\n- {"n": 1}',
    }


def test_a_model_is_shown_the_source_and_no_numbers_of_ours(drinks):
    (found,) = drinks.retrieve("green 80 degrees")
    shown = "entity_path: drinks/hot\nkey: tea\nauthor: chat-agent\nconfidence: 0.8\n\nGreen tea, 80 degrees"
    assert found.node.get_content(MetadataMode.LLM) == shown
    embedded = "entity_path: drinks/hot\nkey: tea\n\nGreen tea, 80 degrees"
    assert found.node.get_content(MetadataMode.EMBED) == embedded


def test_the_id_is_that_of_the_version(mem, drinks):
    def ids():
        return {(node.metadata["entity_path"], node.metadata["key"]): node.node_id for node in drinks.retrieve("tea")}

    first = ids()
    assert ids() == first
    assert len(set(first.values())) == 3
    mem.write("drinks/hot", "tea", "Green tea, 70 degrees")
    changed = {place for place, node_id in ids().items() if node_id != first[place]}
    assert changed == {("drinks/hot", "tea")}


@pytest.mark.usefixtures("drinks")
@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 3),
        ({"similarity_top_k": 2}, 2),
        ({"entity_path": "drinks/cold"}, 2),
        ({"agent_id": "bob"}, 1),
        ({"min_confidence": 0.9}, 2),
        ({"filter": {"sugar": False}}, 1),
        ({"memory_type": "belief"}, 0),
        ({"memory_type": iter(["fact", "belief"])}, 3),
        ({"weights": {"text": 2.0}}, 3),
        ({"pattern_refs": ["none"]}, 0),
        ({"since": 3}, 1),
        ({"until": 1}, 1),
    ],
)
def test_settings_are_those_of_a_search(mem, settings, count):
    retriever = AMFSRetriever(mem, **settings)
    assert len(retriever.retrieve("tea")) == count
    assert len(retriever.retrieve(QueryBundle("tea"))) == count
    assert len(asyncio.run(retriever.aretrieve("tea"))) == count


def test_branches_and_the_past(mem, drinks):
    before = mem.timeline(agent_id="*")[0].seq
    mem.create_branch("idea")
    mem.write("drinks/hot", "coffee", "not tea", branch="idea")
    assert len(drinks.retrieve("tea")) == 3
    found = AMFSRetriever(mem, branch="idea", similarity_top_k=10).retrieve("tea")
    assert {node.metadata["branch"] for node in found} == {"idea"}
    assert len(found) == 4
    assert len(AMFSRetriever(mem, branch=["main", "idea"], similarity_top_k=10).retrieve("tea")) == 4
    mem.write("drinks/hot", "tea", "gone")
    assert len(AMFSRetriever(mem, at=before).retrieve("tea")) == 3
    with mem.experiment("x"):
        mem.write("drinks/hot", "new", "tea again")
        assert "tea again" in texts(drinks.retrieve("tea again"))
    assert "tea again" not in texts(drinks.retrieve("tea again"))


@pytest.mark.parametrize("query", ["", " ", "\n", "'); DROP TABLE log; --", "$.", '"', "🍵", "*", "tea " * 25_000])
async def test_no_query_is_dangerous(drinks, query):
    found = drinks.retrieve(query)
    assert [node.node_id for node in found] == [node.node_id for node in await drinks.aretrieve(query)]
    assert len(found) == (3 if "tea" in query else 0)


@pytest.mark.parametrize("query", ["\ud800", "tea\0"])
async def test_what_is_no_text_is_refused(drinks, query):
    with pytest.raises(InvalidInputError):
        drinks.retrieve(query)
    with pytest.raises(InvalidInputError):
        await drinks.aretrieve(query)


def test_settings_that_no_search_knows_are_refused(mem):
    with pytest.raises(InvalidInputError, match="not narrowed by k, path; filters are entity_path, agent_id"):
        AMFSRetriever(mem, k=3, path="drinks")
    for wrong in (0, -1, True, "3", 1.5):
        with pytest.raises(InvalidInputError, match="similarity_top_k must be a number of nodes"):
            AMFSRetriever(mem, similarity_top_k=wrong)


@pytest.mark.usefixtures("drinks")
def test_errors_of_a_search_are_raised(mem):
    with pytest.raises(BranchNotFoundError):
        AMFSRetriever(mem, branch="nowhere").retrieve("tea")
    with pytest.raises(InvalidFilterError):
        AMFSRetriever(mem, filter={"a": {"$near": 1}}).retrieve("tea")
    with pytest.raises(InvalidInputError, match="min_confidence"):
        AMFSRetriever(mem, min_confidence=5).retrieve("tea")


def test_by_meaning_if_the_memory_has_an_embedder(database):
    def embed(texts):
        return [[1.0, 0.0] if "beverage" in text or "tea" in text else [0.0, 1.0] for text in texts]

    with AgentMemory("desk", database, embed=embed) as memory:
        memory.write("a", "b", "tea")
        memory.write("a", "c", "bread")
        assert AMFSRetriever(memory, similarity_top_k=1).retrieve("beverage")[0].text == "tea"


# --- in LlamaIndex's parts ---------------------------------------------------------------------------------


async def test_in_a_retriever_tool_of_an_agent(drinks, scripted, call, say):
    tool = RetrieverTool.from_defaults(drinks, name="look_up", description="Looks in memory.")
    llm = scripted(call("look_up", input="green tea"), say("80 degrees"))
    agent = FunctionAgent(tools=[tool], llm=llm)
    assert str(await agent.run(user_msg="how hot?")) == "80 degrees"
    shown = llm.response_generator.prompts[1][-1].content
    assert "entity_path: drinks/hot\nkey: tea\nauthor: chat-agent\nconfidence: 0.8\n\nGreen tea, 80 degrees" in shown
    assert "seq:" not in shown
    assert tool.call("nothing like it").content == ""


async def test_in_a_query_engine(drinks, scripted, say):
    cutoff = SimilarityPostprocessor(similarity_cutoff=0.5)
    # Without a chat template the scripted model completes a prompt with that prompt.
    engine = RetrieverQueryEngine.from_args(drinks, llm=scripted(say("?")), node_postprocessors=[cutoff])
    for answer in (engine.query("green tea?"), await engine.aquery("green tea?")):
        assert "key: tea\nauthor: chat-agent\nconfidence: 0.8\n\nGreen tea, 80 degrees" in str(answer)
        assert answer.source_nodes[0].metadata["key"] == "tea"
    assert str(engine.query("zebra")) == "Empty Response"


async def test_in_a_chat_engine(mem, drinks, scripted, say):
    memory = AMFSMemory.from_memory(mem, session_id="s")
    engine = CondensePlusContextChatEngine.from_defaults(drinks, llm=scripted(say("?")), memory=memory)
    first = engine.chat("how hot is green tea?")
    assert "Green tea, 80 degrees" in str(first)
    second = await engine.achat("and iced tea?")
    assert "text: Iced tea" in str(second)
    assert {node.metadata["key"] for node in second.source_nodes} == {"tea", "list"}
    assert [message.role.value for message in memory.get()] == ["user", "assistant", "user", "assistant"]


def test_what_is_found_is_read(mem, drinks):
    with mem.run("r1"):
        drinks.retrieve("iced tea")
    (event,) = mem.timeline(agent_id="bob", event_type="cross_agent_read")
    assert (event.actor, event.run_id, event.details["key"]) == ("chat-agent", "r1", "tea")


async def test_awaited_it_reads_in_the_run_of_the_caller(mem, drinks):
    with mem.run("r2"):
        await drinks.aretrieve("iced tea")
    (event,) = mem.timeline(agent_id="bob", event_type="cross_agent_read")
    assert event.run_id == "r2"
