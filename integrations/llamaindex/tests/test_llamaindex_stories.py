"""What agents with scripted models do, and the story that the timeline tells of it afterwards."""

import asyncio
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.workflow import Context, HumanResponseEvent, InputRequiredEvent
from llama_index.memory.amfs import AMFSMemory, AMFSToolSpec
from workflows.errors import WorkflowCancelledByUser, WorkflowRuntimeError, WorkflowTimeoutError

from amfs.errors import OutcomeNotFoundError
from integrations.llamaindex.tests.helpers_recorder import add, broken, events, last, story

# LlamaIndex's workflows look at every attribute of an agent, the deprecated ones of pydantic models included.
pytestmark = [
    pytest.mark.usefixtures("recorder"),
    pytest.mark.filterwarnings(r"ignore:The `\w+` attribute is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:Accessing the '\w+' attribute on the instance:DeprecationWarning"),
]


@pytest.fixture
def memory(desk):
    return AMFSMemory.from_memory(desk, session_id="s")


# --- one agent ---------------------------------------------------------------------------------------------------


async def test_an_agent_with_a_tool(desk, memory, recorder, agent, call, say, run_id):
    result = await agent(call("add", a=2, b=3), say("It is 5")).run(
        user_msg="what is 2+3?", memory=memory, run_id=run_id
    )
    assert str(result) == "It is 5"
    assert story(desk) == [
        'desk: Noted run: asked calc "what is 2+3?"',
        "desk: Wrote message 1",
        "calc: calc read desk's message 1",
        'calc: Noted tool add: ok {"a":2,"b":3} -> 5',
        "calc: Wrote message 2",
        "calc: Wrote message 3",
        "calc: Wrote message 4",
        "desk: Outcome RUN: success (0 entries updated)",
    ]
    assert {event.run_id for event in events(desk)} == {run_id}
    assert recorder.failures == ()
    assert recorder.runs == ()


async def test_a_tool_that_fails(desk, memory, agent, call, say):
    await agent(call("fail", reason="no luck"), say("Sorry")).run(user_msg="try", memory=memory)
    assert story(desk)[3] == 'calc: Noted tool fail: error {"reason":"no luck"} -> ValueError: no luck'
    assert story(desk)[-1] == "desk: Outcome RUN: success (0 entries updated)"


async def test_a_tool_that_does_not_exist(desk, memory, agent, call, say):
    await agent(call("fly"), say("Sorry")).run(user_msg="try", memory=memory)
    assert story(desk)[3] == (
        "calc: Noted tool fly: error {} -> Tool fly not found. Please select a tool that is available."
    )


async def test_tools_that_are_called_at_the_same_time(desk, memory, agent, call, say):
    both = threading.Barrier(2)

    def meet(who: str) -> str:
        """Wait for the other."""
        both.wait(30)
        desk.write("met", who, True)
        return who

    calls = call("meet", who="a")
    calls.blocks[0].tool_call_id = "first"
    calls.blocks += call("meet", who="b").blocks
    await agent(calls, say("done"), tools=[meet]).run(user_msg="meet", memory=memory)
    lines = story(desk)
    assert sorted(lines[3:7]) == [
        'calc: Noted tool meet: ok {"who":"a"} -> a',
        'calc: Noted tool meet: ok {"who":"b"} -> b',
        "desk: Wrote met/a v1",
        "desk: Wrote met/b v1",
    ]
    assert lines[-1] == "desk: Outcome RUN: success (0 entries updated)"
    assert len({event.run_id for event in events(desk)}) == 1


async def test_a_model_that_fails(desk, memory, agent, say, run_id):
    calculator = agent(say("never"))
    calculator.llm.response_generator = broken
    with pytest.raises(ConnectionError, match="no model"):
        await calculator.run(user_msg="hello?", memory=memory, run_id=run_id)
    assert story(desk) == [
        'desk: Noted run: asked calc "hello?"',
        "desk: Wrote message 1",
        "calc: calc read desk's message 1",
        "calc: Noted run: failed with ConnectionError: no model",
        "desk: Outcome RUN: failure (0 entries updated)",
    ]
    (outcome,) = desk.explain(run_id).outcomes
    assert outcome.details["summary"] == "ConnectionError: no model"


async def test_a_timeout(desk, memory, agent, call, say):
    async def wait(seconds: int) -> str:  # noqa: ARG001 - as long as it takes
        """Wait."""
        await asyncio.Event().wait()

    waiter = agent(call("wait", seconds=9), say("never"), tools=[wait], timeout=0.5)
    with pytest.raises(WorkflowTimeoutError) as stopped:
        await waiter.run(user_msg="wait", memory=memory)
    assert story(desk)[3:] == [
        'calc: Noted tool wait: unanswered {"seconds":9}',
        f"calc: Noted run: failed with WorkflowTimeoutError: {stopped.value}",
        "desk: Outcome RUN: failure (0 entries updated)",
    ]


@pytest.mark.parametrize("by_task", [False, True], ids=["run", "task"])
async def test_a_run_that_is_cancelled_has_no_outcome(desk, memory, recorder, agent, call, say, by_task, run_id):
    called = asyncio.Event()

    async def wait() -> str:
        """Wait."""
        called.set()
        await asyncio.Event().wait()

    handler = agent(call("wait"), say("never"), tools=[wait]).run(user_msg="wait", memory=memory, run_id=run_id)

    async def finish():
        await handler

    task = asyncio.create_task(finish())
    await called.wait()
    if by_task:
        task.cancel()
    else:
        await handler.cancel_run()
    with pytest.raises((WorkflowCancelledByUser, asyncio.CancelledError)):
        await task
    while recorder.runs:  # noqa: ASYNC110 - the run ends by itself, and tells nobody else
        await asyncio.sleep(0)
    assert story(desk)[3:] == ["calc: Noted tool wait: unanswered {}", "calc: Noted run: cancelled"]
    with pytest.raises(OutcomeNotFoundError):
        desk.explain(run_id)


async def test_too_many_iterations(desk, memory, agent, call):
    with pytest.raises(WorkflowRuntimeError, match="Max iterations"):
        await agent(call("add", a=1, b=1)).run(user_msg="go on", memory=memory, max_iterations=2)
    lines = story(desk)
    assert lines[3] == 'calc: Noted tool add: ok {"a":1,"b":1} -> 2'
    assert lines[4].startswith("calc: Noted run: failed with WorkflowRuntimeError: Max iterations of 2 reached!")
    assert lines[5:] == ["desk: Outcome RUN: failure (0 entries updated)"]


@pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")  # by ReActAgent
async def test_a_react_agent(desk, memory, scripted, say):
    llm = scripted(
        say('Thought: I need a tool.\nAction: add\nAction Input: {"a": 2, "b": 3}'),
        say("Thought: I can answer.\nAnswer: It is 5"),
    )
    await ReActAgent(name="calc", tools=[add], llm=llm).run(user_msg="what is 2+3?", memory=memory)
    assert story(desk) == [
        'desk: Noted run: asked calc "what is 2+3?"',
        "desk: Wrote message 1",
        "calc: calc read desk's message 1",
        'calc: Noted tool add: ok {"a":2,"b":3} -> 5',
        "calc: Wrote message 2",
        "desk: Outcome RUN: success (0 entries updated)",
    ]


async def test_an_agent_without_a_name_acts_in_the_name_of_the_memory(desk, memory, scripted, call, say):
    await FunctionAgent(tools=[add], llm=scripted(call("add", a=1, b=1), say("Two"))).run(
        user_msg="1+1?", memory=memory
    )
    assert story(desk) == [
        'desk: Noted run: asked "1+1?"',
        "desk: Wrote message 1",
        'desk: Noted tool add: ok {"a":1,"b":1} -> 2',
        "desk: Wrote message 2",
        "desk: Wrote message 3",
        "desk: Wrote message 4",
        "desk: Outcome RUN: success (0 entries updated)",
    ]


async def test_a_person_who_is_asked(desk, memory, agent, call, say):
    async def ask(ctx: Context, question: str) -> str:
        """Ask a person."""
        answer = await ctx.wait_for_event(
            HumanResponseEvent, waiter_event=InputRequiredEvent(prefix=question), waiter_id=question
        )
        return f"they said {answer.response}"

    handler = agent(call("ask", question="Milk?"), say("Milk it is"), tools=[ask]).run(user_msg="tea", memory=memory)
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            handler.ctx.send_event(HumanResponseEvent(response="yes"))
    await handler
    assert story(desk)[3:] == [
        'calc: Noted tool ask: ok {"question":"Milk?"} -> they said yes',
        "calc: Wrote message 2",
        "calc: Wrote message 3",
        "calc: Wrote message 4",
        "desk: Outcome RUN: success (0 entries updated)",
    ]


async def test_a_saved_context_goes_on_with_its_agent(desk, memory, agent, call, say):
    async def ask(ctx: Context, question: str) -> str:
        """Ask a person."""
        answer = await ctx.wait_for_event(
            HumanResponseEvent, waiter_event=InputRequiredEvent(prefix=question), waiter_id=question
        )
        return f"they said {answer.response}"

    first = agent(call("ask", question="Milk?"), say("never"), tools=[ask])
    handler = first.run(user_msg="tea", memory=memory)
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            saved = json.dumps(handler.ctx.to_dict())
            await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert story(desk)[-2:] == ['calc: Noted tool ask: unanswered {"question":"Milk?"}', "calc: Noted run: cancelled"]

    middle, second = last(desk), agent(say("Milk it is"), tools=[ask])
    handler = second.run(ctx=Context.from_dict(second, json.loads(saved)))
    handler.ctx.send_event(HumanResponseEvent(response="yes"))
    await handler
    assert [line for line in story(desk, middle) if "Noted" in line or "Outcome" in line] == [
        "desk: Noted run: began calc",
        'calc: Noted tool ask: ok {"question":"Milk?"} -> they said yes',
        "desk: Outcome RUN: success (0 entries updated)",
    ]


# --- several agents ----------------------------------------------------------------------------------------------


@pytest.fixture
def pair(agent, call, say):
    """Make a workflow of two agents, the first of which hands over to the second."""

    def make(*, to="write", finds=(), **settings):
        research = agent(
            *finds,
            call("handoff", to_agent=to, reason="found it"),
            say("I stay."),
            name="research",
            can_handoff_to=["write"],
        )
        write = agent(call("add", a=1, b=1), say("Two."), name="write", can_handoff_to=[])
        return AgentWorkflow(agents=[research, write], root_agent="research", **settings)

    return make


async def test_two_agents_that_hand_over(desk, memory, recorder, pair, call):
    workflow = pair(finds=[call("add", a=0, b=1)])
    assert str(await workflow.run(user_msg="one and one?", memory=memory)) == "Two."
    assert story(desk) == [
        'desk: Noted run: asked "one and one?"',
        "desk: Wrote message 1",
        "research: research read desk's message 1",
        'research: Noted tool add: ok {"a":0,"b":1} -> 1',
        "research: Wrote message 2",
        "research: Wrote message 3",
        "research: Wrote message 4",
        "research: Wrote message 5",
        "research: Noted handoff: to write: found it",
        "write: write read desk's message 1",
        "write: write read research's message 2 and 3 others",
        'write: Noted tool add: ok {"a":1,"b":1} -> 2',
        "write: Wrote message 6",
        "write: Wrote message 7",
        "write: Wrote message 8",
        "desk: Outcome RUN: success (0 entries updated)",
    ]
    assert recorder.failures == ()
    authors = [entry.agent_id for entry in desk.list("chat/s", memory_type="message")]
    assert authors == ["desk", *["research"] * 4, *["write"] * 3]
    (read,) = desk.timeline(agent_id="research", event_type="cross_agent_read", limit=1)
    assert (read.agent_id, read.actor, read.details["reader_agent"]) == ("research", "write", "write")


async def test_a_handoff_that_is_refused_is_the_call_of_a_tool(desk, memory, pair):
    assert str(await pair(to="nobody").run(user_msg="one and one?", memory=memory)) == "I stay."
    asked, noted = [line for line in story(desk) if "Noted" in line]
    assert asked == 'desk: Noted run: asked "one and one?"'
    assert noted == (
        'research: Noted tool handoff: ok {"to_agent":"nobody","reason":"found it"} -> Agent nobody not found. '
        "Please select a valid agent to hand off to. Valid agents: write"
    )


async def test_who_goes_on_with_a_workflow_that_was_handed_over(desk, memory, pair):
    """The agent that had the last word goes on in the next run; it, and not the first one, reads the question."""
    workflow = pair()
    context = Context(workflow)
    await workflow.run(user_msg="one and one?", memory=memory, ctx=context)
    middle = last(desk)
    await workflow.run(user_msg="sure?", ctx=context)
    assert story(desk, middle) == [
        'desk: Noted run: asked "sure?"',
        "desk: Wrote message 1",
        "write: write read desk's message 2 and 1 other",
        "write: write read research's message 3 and 1 other",
        "write: Wrote message 4",
        "desk: Outcome RUN: success (0 entries updated)",
    ]


async def test_an_agent_that_fails_after_a_handoff(desk, memory, pair):
    workflow = pair()
    workflow.agents["write"].llm.response_generator = broken
    with pytest.raises(ConnectionError):
        await workflow.run(user_msg="one and one?", memory=memory)
    assert story(desk)[-4:] == [
        "write: write read desk's message 1",
        "write: write read research's message 2 and 1 other",
        "write: Noted run: failed with ConnectionError: no model",
        "desk: Outcome RUN: failure (0 entries updated)",
    ]


async def test_a_sub_agent_as_a_tool(desk, memory, agent, call, say, run_id):
    """It joins the run: what it is asked is the words of the agent that asks, and the outcome is the whole run's."""
    scout = agent(call("add", a=1, b=2), say("3 EUR"), name="scout")

    async def find(what: str) -> str:
        """Let the scout find it."""
        return str(await scout.run(user_msg=what, memory=AMFSMemory.from_memory(desk, session_id="scouting")))

    boss = agent(call("find", what="a price"), say("bought"), name="boss", tools=[find])
    await boss.run(user_msg="tea, please", memory=memory, run_id=run_id)
    assert story(desk) == [
        'desk: Noted run: asked boss "tea, please"',
        "desk: Wrote message 1",
        "boss: boss read desk's message 1",
        'boss: Noted run: asked scout "a price"',
        "boss: Wrote message 2",
        "scout: scout read boss's message 2",
        'scout: Noted tool add: ok {"a":1,"b":2} -> 3',
        "scout: Wrote message 3",
        "scout: Wrote message 4",
        "scout: Wrote message 5",
        'boss: Noted tool find: ok {"what":"a price"} -> 3 EUR',
        "boss: Wrote message 6",
        "boss: Wrote message 7",
        "boss: Wrote message 8",
        "desk: Outcome RUN: success (0 entries updated)",
    ]
    assert {event.run_id for event in events(desk)} == {run_id}


async def test_a_sub_agent_without_a_memory_that_fails(desk, memory, agent, call, say):
    scout = agent(say("never"), name="scout")
    scout.llm.response_generator = broken

    async def find(what: str) -> str:
        """Let the scout find it."""
        return str(await scout.run(user_msg=what))

    boss = agent(call("find", what="a price"), say("never mind"), name="boss", tools=[find])
    await boss.run(user_msg="tea", memory=memory)
    assert [line for line in story(desk) if "Noted" in line or "Outcome" in line] == [
        'desk: Noted run: asked boss "tea"',
        'boss: Noted run: asked scout "a price"',
        "scout: Noted run: failed with ConnectionError: no model",
        'boss: Noted tool find: error {"what":"a price"} -> ConnectionError: no model',
        "desk: Outcome RUN: success (0 entries updated)",
    ]


async def test_parallel_runs_stay_apart(desk, recorder, agent, call, say, run_id):
    count = 8
    everybody = asyncio.Barrier(count)

    async def meet(a: int) -> int:
        """Wait until all are here."""
        await everybody.wait()
        desk.write("met", f"k{a}", a)
        return a

    runs = [
        agent(call("meet", a=n), say(f"done {n}"), name=f"agent-{n}", tools=[meet]).run(
            user_msg=f"go {n}", memory=AMFSMemory.from_memory(desk, session_id=f"s{n}"), run_id=f"{run_id}-{n}"
        )
        for n in range(count)
    ]
    await asyncio.gather(*runs)
    for n in range(count):
        mine = [f"{event.actor}: {event.summary}" for event in events(desk) if event.run_id == f"{run_id}-{n}"]
        assert [re.sub(r"chat/\S+ v1", "message", line) for line in mine] == [
            f'desk: Noted run: asked agent-{n} "go {n}"',
            "desk: Wrote message",
            f"agent-{n}: agent-{n} read desk's message",
            f"desk: Wrote met/k{n} v1",
            f'agent-{n}: Noted tool meet: ok {{"a":{n}}} -> {n}',
            *[f"agent-{n}: Wrote message"] * 3,
            f"desk: Outcome {run_id}-{n}: success (0 entries updated)",
        ]
    assert recorder.failures == ()


def test_parallel_runs_in_threads_on_one_conversation(desk, memory, recorder, agent, say):
    def talk(n):
        async def run():
            await agent(say(f"I am {n}"), name=f"agent-{n}").run(user_msg=f"who is {n}?", memory=memory)

        asyncio.run(run())

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(talk, range(8)))
    assert recorder.failures == ()
    for entry in desk.list("chat/s", memory_type="message"):
        text = entry.value["blocks"][0]["text"]
        assert entry.agent_id == ("desk" if text.startswith("who") else f"agent-{text[-1]}")
    outcomes = desk.timeline(event_type="outcome")
    assert len({event.run_id for event in outcomes}) == 8


async def test_what_is_recalled_is_read_by_whoever_goes_on(desk, pair):
    desk.as_agent("cook").write("sums", "one and one", "two")
    memory = AMFSMemory.from_memory(desk, session_id="s", recall=1)
    await pair().run(user_msg="one and one?", memory=memory)
    reads = [line for line in story(desk) if "cook's" in line]
    assert reads == [
        "research: research read cook's sums/one and one v1",
        "write: write read cook's sums/one and one v1",
    ]


async def test_the_tools_of_this_package_act_in_the_name_of_the_agent(desk, memory, agent, call, say):
    desk.as_agent("cook").write("tea", "colour", "green")
    saved = call("remember", entity_path="tea", key="heat", value="80 degrees")
    calculator = agent(
        call("recall", entity_path="tea", key="colour"), saved, say("ok"), tools=AMFSToolSpec(desk).to_tool_list()
    )
    await calculator.run(user_msg="tea?", memory=memory)
    assert [line for line in story(desk) if "tea/" in line and "Noted" not in line] == [
        "cook: Wrote tea/colour v1",
        "calc: calc read cook's tea/colour v1",
        "calc: Wrote tea/heat v1",
    ]
    assert len({event.run_id for event in events(desk)} - {None}) == 1
