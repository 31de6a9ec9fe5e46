"""The retriever: LangChain's own tests of one, what its documents say, and in whose name it reads."""

import asyncio
from typing import Any

import pytest
from langchain_amfs import AMFSRetriever
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnablePassthrough
from langchain_tests.integration_tests import RetrieversIntegrationTests
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from amfs import AgentMemory
from amfs.errors import BranchNotFoundError, InvalidFilterError, InvalidInputError


class TestStandard(RetrieversIntegrationTests):
    """LangChain's tests of a retriever."""

    @pytest.fixture(autouse=True)
    def filled(self, memory: AgentMemory) -> None:
        for number in range(6):
            memory.write("drinks", f"k{number}", {"text": f"tea number {number}"})
        self._memory = memory

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return AMFSRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"memory": self._memory}

    @property
    def retriever_query_example(self) -> str:
        return "a cup of tea"


@pytest.fixture
def drinks(memory):
    memory.write("drinks/hot", "tea", "Green tea, 80 degrees", confidence=0.8)
    memory.as_agent("bob").write("drinks/cold", "tea", {"text": "Iced tea", "sugar": False, "tags": ["x", "y"]})
    memory.write("drinks/cold", "list", ["tea", {"n": 1}])
    return AMFSRetriever(memory=memory)


def contents(documents):
    return {document.page_content for document in documents}


def test_a_document_says_what_it_is_and_where_it_is_from(memory, drinks):
    (document,) = drinks.invoke("green tea 80 degrees", k=1)
    entry = memory.read("drinks/hot", "tea")
    assert document.page_content == "Green tea, 80 degrees"
    assert document.metadata.pop("score") > 0
    assert document.metadata == {
        "entity_path": "drinks/hot", "key": "tea", "version": 1, "seq": entry.seq, "branch": "main", "author": "desk",
        "confidence": 0.8,
    }  # fmt: skip


def test_content_reads_well(drinks):
    assert contents(drinks.invoke("tea")) == {
        "Green tea, 80 degrees", 'text: Iced tea\nsugar: false\ntags: ["x", "y"]', '- tea\n- {"n": 1}',
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 3),
        ({"k": 2}, 2),
        ({"entity_path": "drinks/cold"}, 2),
        ({"agent_id": "bob"}, 1),
        ({"min_confidence": 0.9}, 2),
        ({"filter": {"sugar": False}}, 1),
        ({"memory_type": "belief"}, 0),
        ({"weights": {"text": 2.0}}, 3),
        ({"pattern_refs": ["none"]}, 0),
    ],
)
def test_settings_are_those_of_a_search_of_the_retriever_or_of_a_query(memory, drinks, settings, count):
    assert len(AMFSRetriever(memory=memory, **settings).invoke("tea")) == count
    assert len(drinks.invoke("tea", **settings)) == count
    assert len(asyncio.run(drinks.ainvoke("tea", **settings))) == count


def test_branches_and_the_past(memory, drinks):
    before = memory.timeline(agent_id="*")[0].seq
    memory.create_branch("idea")
    memory.write("drinks/hot", "coffee", "not tea", branch="idea")
    assert len(drinks.invoke("tea")) == 3
    found = AMFSRetriever(memory=memory, branch="idea", k=10).invoke("tea")
    assert {document.metadata["branch"] for document in found} == {"idea"}
    assert len(found) == 4
    memory.write("drinks/hot", "tea", "gone")
    assert len(drinks.invoke("tea", at=before)) == 3
    with memory.experiment("x"):
        memory.write("drinks/hot", "new", "tea again")
        assert len(drinks.invoke("tea again", k=10)) == 4


@pytest.mark.parametrize("query", ["", " ", "'); DROP TABLE log; --", "$.", '"', "🍵", "*", "a/../b"])
def test_no_query_is_dangerous(memory, drinks, query):
    assert len(drinks.invoke(query)) <= 4
    assert memory.verify().ok


def test_errors_are_told(drinks):
    with pytest.raises(TypeError, match="kk"):
        drinks.invoke("tea", kk=3)
    with pytest.raises(InvalidInputError):
        drinks.invoke("tea", k=0)
    with pytest.raises(InvalidInputError):
        drinks.invoke("\ud800")
    with pytest.raises(BranchNotFoundError):
        drinks.invoke("tea", branch="nowhere")
    with pytest.raises(InvalidFilterError):
        drinks.invoke("tea", filter={"a": {"$near": 1}})
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        AMFSRetriever(memory=drinks.memory, k=0)


def test_it_is_a_runnable(drinks):
    chain = {"found": drinks, "question": RunnablePassthrough()} | RunnablePassthrough()
    assert len(chain.invoke("tea")["found"]) == 3


class State(TypedDict):
    found: int


def test_in_a_graph_it_reads_in_the_name_of_the_agent(memory, drinks):
    def node(_: State) -> State:
        return {"found": len(drinks.invoke("iced tea"))}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
    assert graph.invoke({"found": 0}, {"configurable": {"agent": "planner", "run_id": "r1"}})["found"]
    (event,) = memory.timeline(agent_id="bob", event_type="cross_agent_read")
    assert (event.actor, event.run_id, event.details["key"]) == ("planner", "r1", "tea")
    assert event.details["task"]
