"""The recorder: where it records, what came of runs, what is kept out, and that it never breaks what it records."""

import asyncio
import gc
import threading

import pytest
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.dispatcher import instrument_tags
from llama_index.core.memory import ChatMemoryBuffer, Memory
from llama_index.core.workflow import Context, StartEvent, StopEvent, Workflow, step
from llama_index.memory.amfs import AMFSChatStore, AMFSMemory, install
from llama_index.memory.amfs.acting import acting
from workflows.errors import WorkflowCancelledByUser, WorkflowTimeoutError

from amfs import AgentMemory, AsyncAgentMemory, Principal
from amfs.errors import HandleClosedError
from integrations.llamaindex.tests.helpers_recorder import add, broken, ended, events, last, story

MEGABYTE = 1 << 20

# LlamaIndex's workflows look at every attribute of an agent, the deprecated ones of pydantic models included.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:The `\w+` attribute is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:Accessing the '\w+' attribute on the instance:DeprecationWarning"),
]


@pytest.fixture
def memory(desk):
    return AMFSMemory.from_memory(desk, session_id="s")


# --- where runs are recorded -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("recorder")
async def test_a_context_that_is_used_again(desk, memory, agent, say):
    calculator = agent(say("hello Ada"), say("you are Ada"))
    context = Context(calculator)
    await calculator.run(user_msg="I am Ada", memory=memory, ctx=context)
    middle = last(desk)
    await calculator.run(user_msg="who am I?", ctx=context)
    assert story(desk, middle) == [
        'desk: Noted run: asked calc "who am I?"',
        "desk: Wrote message 1",
        "calc: calc read desk's message 2 and 1 other",
        "calc: Wrote message 3",
        "desk: Outcome RUN: success (0 entries updated)",
    ]


async def test_runs_without_a_memory_are_recorded_where_install_says(desk, recorder, agent, call, say, run_id):
    assert install(desk) is recorder

    def keep(text: str) -> str:
        """Keep a text, through the plain memory."""
        desk.write("notes", "k", text)
        return "kept"

    await agent(call("keep", text="tea"), say("Done"), tools=[keep]).run(user_msg="keep this", run_id=run_id)
    assert story(desk) == [
        'desk: Noted run: asked calc "keep this"',
        "desk: Wrote notes/k v1",
        'calc: Noted tool keep: ok {"text":"tea"} -> kept',
        "desk: Outcome RUN: success (0 entries updated)",
    ]
    assert {event.run_id for event in events(desk)} == {run_id}


async def test_runs_without_a_memory_are_else_neither_recorded_nor_judged(desk, recorder, agent, call, say):
    install(outcome=pytest.fail)
    await agent(call("add", a=1, b=1), say("Two")).run(user_msg="1+1?")
    await agent(call("add", a=1, b=1), say("Two")).run(user_msg="1+1?", memory=ChatMemoryBuffer.from_defaults())
    assert story(desk) == []
    assert recorder.failures == ()


@pytest.mark.usefixtures("recorder")
async def test_a_run_is_recorded_where_a_tool_first_uses_memory(desk, agent, call, say):
    verbs = AsyncAgentMemory(desk)

    async def remember(text: str) -> str:
        """Remember a text."""
        with acting(verbs) as memory:
            await memory.write("notes", "tea", text)
        return "done"

    calculator = agent(call("add", a=1, b=1), call("remember", text="green"), say("ok"), tools=[add, remember])
    await calculator.run(user_msg="tea is green")
    verbs.stop()
    assert story(desk) == [
        'desk: Noted run: asked calc "tea is green"',
        'calc: Noted tool add: ok {"a":1,"b":1} -> 2',
        "calc: Wrote notes/tea v1",
        'calc: Noted tool remember: ok {"text":"green"} -> done',
        "desk: Outcome RUN: success (0 entries updated)",
    ]


@pytest.mark.usefixtures("recorder")
async def test_the_memory_of_the_run_comes_before_that_of_install(tmp_path, desk, memory, agent, say):
    with AgentMemory("other", tmp_path / "other.db") as other:
        install(other)
        calculator = agent(say("one"), say("two"))
        context = Context(calculator)
        await calculator.run(user_msg="1", memory=memory, ctx=context)
        await calculator.run(user_msg="2", ctx=context)
        assert story(other) == []
        assert ended(desk) == ["desk: Outcome RUN: success (0 entries updated)"] * 2


@pytest.mark.usefixtures("recorder")
async def test_llamaindexs_own_memory_on_our_store(desk, agent, say):
    memory = Memory.from_defaults(session_id="s", chat_store=AMFSChatStore(memory=desk))
    await agent(say("hi")).run(user_msg="hello", memory=memory)
    assert story(desk) == [
        'desk: Noted run: asked calc "hello"',
        "desk: Wrote message 1",
        "calc: calc read desk's message 1",
        "calc: Wrote message 2",
        "desk: Outcome RUN: success (0 entries updated)",
    ]


@pytest.mark.usefixtures("recorder")
async def test_a_workflow_of_ones_own(desk, memory, user):
    class Keeper(Workflow):
        @step
        async def keep(self, event: StartEvent) -> StopEvent:
            await memory.aput(user(event.text))
            return StopEvent(result=len(await memory.aget()))

    assert await Keeper().run(text="keep this") == 1
    assert story(desk) == [
        "desk: Noted run: began",
        "desk: Wrote message 1",
        "desk: Outcome RUN: success (0 entries updated)",
    ]


@pytest.mark.usefixtures("recorder")
def test_chat_engines_have_no_runs(desk, memory, scripted, say):
    """LlamaIndex tells of no agent there: the messages are the memory's own agent's, and nothing else is recorded."""
    engine = SimpleChatEngine.from_defaults(llm=scripted(say("one")), memory=memory)
    engine.chat("first")
    assert story(desk) == ["desk: Wrote message 1", "desk: Wrote message 2"]
    assert {event.run_id for event in events(desk)} == {None}


@pytest.mark.usefixtures("recorder")
async def test_an_experiment_is_followed(desk, memory, agent, call, say):
    with desk.experiment("polite") as experiment:
        await agent(call("add", a=1, b=1), say("Two, please")).run(user_msg="1+1?", memory=memory)
    await agent(say("Hm")).run(user_msg="again", memory=memory)
    events = [
        event for event in desk.timeline(agent_id="*", include_messages=True) if event.event_type != "branch_created"
    ]
    tried = {event.run_id for event in events if event.branch == experiment.branch}
    assert len(tried) == 1
    assert [event.branch for event in reversed(events)] == [experiment.branch] * 8 + ["main"] * 5
    assert [message.content for message in await memory.aget()] == ["again", "Hm"]


async def test_a_run_that_the_caller_opened_is_joined(desk, memory, recorder, agent, say, run_id):
    desk.as_agent("colleague").write("tea", "colour", "green")
    start = last(desk)
    install(outcome=pytest.fail)
    with desk.run("mine"):
        desk.read("tea", "colour")
        await agent(say("hi")).run(user_msg="hello", memory=memory, run_id=run_id)
        desk.commit_outcome("judged", "success")
    assert story(desk, start) == [
        "desk: desk read colleague's tea/colour v1",
        'desk: Noted run: asked calc "hello"',
        "desk: Wrote message 1",
        "calc: calc read desk's message 1",
        "calc: Wrote message 2",
        "desk: Outcome judged: success (1 entry updated)",
    ]
    assert {event.run_id for event in events(desk, start)} == {"mine"}
    assert recorder.failures == ()


# --- what came of it ---------------------------------------------------------------------------------------------


@pytest.fixture
def reader(desk, agent, call, say):
    """Make an agent that reads what a colleague wrote, through the plain memory."""
    desk.as_agent("colleague").write("tea", "colour", "green", confidence=0.5)

    def look() -> str:
        """Look up the colour of tea."""
        return desk.read("tea", "colour").value

    return lambda: agent(call("look"), say("It is green."), tools=[look])


@pytest.mark.usefixtures("recorder")
async def test_an_outcome_by_itself_moves_no_confidence(desk, memory, reader, run_id):
    await reader().run(user_msg="which colour?", memory=memory, run_id=run_id)
    assert desk.read("tea", "colour").confidence == 0.5
    assert "desk: desk read colleague's tea/colour v1" in story(desk)
    (cause,) = desk.explain(run_id).causes
    assert (cause.entry.entry_key, cause.skipped) == ("tea/colour", "the outcome weighs nothing")


@pytest.mark.parametrize(
    ("answer", "told", "confidence"),
    [
        ("success", "success (1 entry updated)", 2 / 3),
        (("critical_failure", 0.5), "critical_failure (1 entry updated)", 0.25),
        (None, "success (0 entries updated)", 0.5),
    ],
)
@pytest.mark.usefixtures("recorder")
async def test_a_judge_says_what_came_of_it(desk, memory, reader, answer, told, confidence, run_id):
    seen = []
    install(outcome=lambda result: seen.append(str(result)) or answer)
    await reader().run(user_msg="which colour?", memory=memory, run_id=run_id)
    assert seen == ["It is green."]
    assert story(desk)[-1] == f"desk: Outcome RUN: {told}"
    assert desk.read("tea", "colour").confidence == pytest.approx(confidence)


@pytest.mark.parametrize("answer", ["wonderful", ("success", 2.0)])
async def test_a_judge_that_errs_is_counted(desk, memory, recorder, reader, answer):
    install(outcome=lambda _: answer)
    await reader().run(user_msg="which colour?", memory=memory)
    assert [type(error) for error in recorder.failures] == [ValueError]
    assert story(desk)[-1] == "desk: Outcome RUN: success (0 entries updated)"


async def test_a_failure_is_not_judged(memory, recorder, agent, say):
    install(outcome=pytest.fail)
    calculator = agent(say("never"))
    calculator.llm.response_generator = broken
    with pytest.raises(ConnectionError):
        await calculator.run(user_msg="hello?", memory=memory)
    assert recorder.failures == ()


@pytest.mark.usefixtures("recorder")
async def test_an_outcome_may_come_later_and_from_elsewhere(database, memory, reader, run_id):
    await reader().run(user_msg="which colour?", memory=memory, run_id=run_id)
    with AgentMemory("critic", database) as critic:
        outcome = critic.commit_outcome("ticket-7", "success", run_id=run_id)
        assert [cause.entry.entry_key for cause in outcome.causes] == ["tea/colour"]
        assert [note.details["label"] for note in critic.explain(run_id).contexts] == ["run", "tool look"]


@pytest.mark.usefixtures("recorder")
async def test_what_a_cancelled_run_has_read_can_be_judged_from_elsewhere(
    database, desk, memory, agent, call, say, run_id
):
    desk.as_agent("colleague").write("tea", "colour", "green")
    looked = asyncio.Event()

    async def look() -> str:
        """Look up the colour of tea, and wait."""
        desk.read("tea", "colour")
        looked.set()
        await asyncio.Event().wait()

    handler = agent(call("look"), say("-"), tools=[look]).run(user_msg="which?", memory=memory, run_id=run_id)
    await looked.wait()
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    with AgentMemory("critic", database) as critic:
        outcome = critic.commit_outcome("ticket-7", "failure", run_id=run_id)
        assert [cause.entry.entry_key for cause in outcome.causes] == ["tea/colour"]


# --- what is kept out --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("recorder")
async def test_secrets_are_masked(desk, memory, agent, call, say):
    def login(user: str, password: str) -> str:  # noqa: ARG001
        """Log in."""
        raise PermissionError(f"bad password: {password}")

    await agent(call("login", user="ann", password="hunter2"), say("no"), tools=[login]).run(  # noqa: S106
        user_msg="log in with token=abc123", memory=memory
    )
    lines = story(desk)
    assert lines[0] == 'desk: Noted run: asked calc "log in with token=***"'
    assert lines[3] == (
        'calc: Noted tool login: error {"user":"ann","password":"***"} -> PermissionError: bad password: ***'
    )


async def test_large_arguments_and_results_are_cut(desk, memory, recorder, agent, call, say):
    def echo(text: str) -> str:
        """Say it again."""
        return text

    question = "why? " * (MEGABYTE // 8)
    await agent(call("echo", text="x" * (MEGABYTE // 2)), say("ok"), tools=[echo]).run(user_msg=question, memory=memory)
    notes = [event.details["summary"] for event in desk.timeline(agent_id="*", event_type="context")]
    assert len(notes) == 2
    assert all(200 < len(note) < 450 for note in notes)
    assert recorder.failures == ()


# --- the recorder itself -----------------------------------------------------------------------------------------


async def test_errors_of_the_recorder_are_counted_and_break_nothing(tmp_path, recorder, agent, call, say, caplog):
    mem = AgentMemory("desk", tmp_path / "closed.db")
    install(mem)
    mem.close()
    result = await agent(call("add", a=1, b=1), say("Two")).run(user_msg="1+1?")
    assert str(result) == "Two"
    assert {type(error) for error in recorder.failures} == {HandleClosedError}
    assert recorder.failed == len(recorder.failures) > 0
    assert f"{recorder.failed} failures" in repr(recorder)
    assert "amfs could not" in caplog.text


async def test_an_agent_that_an_api_key_is_not_for_speaks_through_the_memorys_own(database, recorder, agent, say):
    with AgentMemory("owner", database) as owner:
        key = owner.create_api_key("desk only", agent_ids=["desk"], role="writer").key
    with AgentMemory("desk", database, principal=Principal(api_key=key)) as mem:
        memory = AMFSMemory.from_memory(mem, session_id="s")
        assert str(await agent(say("hi")).run(user_msg="hello", memory=memory)) == "hi"
        assert story(mem)[-4:] == [
            'desk: Noted run: asked calc "hello"',
            "desk: Wrote message 1",
            "desk: Wrote message 2",
            "desk: Outcome RUN: success (0 entries updated)",
        ]
    (error,) = recorder.failures
    assert "only as desk" in str(error)


@pytest.mark.usefixtures("recorder")
async def test_tags_of_the_users_own_do_not_hide_the_run(desk, agent, call, say):
    verbs = AsyncAgentMemory(desk)
    install(desk)

    async def remember() -> str:
        """Remember."""
        with instrument_tags({"mine": 1}), acting(verbs) as memory:
            await memory.write("notes", "k", 1)
        return "done"

    await agent(call("remember"), say("ok"), tools=[remember]).run(user_msg="go")
    verbs.stop()
    assert desk.read("notes", "k").agent_id == "calc"


async def test_without_a_recorder_nothing_is_recorded_and_the_author_is_the_memorys_agent(
    desk, memory, agent, call, say
):
    await agent(call("add", a=1, b=1), say("Two")).run(user_msg="1+1?", memory=memory)
    assert story(desk) == [f"desk: Wrote message {n}" for n in range(1, 5)]


def test_installed_twice_it_is_the_same_and_removed_it_leaves_nothing(desk):
    before = list(get_dispatcher().span_handlers)
    recorder = install(desk)
    assert install() is recorder
    assert install(desk) is recorder
    assert recorder.memory is desk
    assert [handler for handler in get_dispatcher().span_handlers if handler not in before] == [recorder]
    assert "installed" in repr(recorder)
    recorder.remove()
    recorder.remove()
    assert list(get_dispatcher().span_handlers) == before
    assert "removed" in repr(recorder)
    another = install()
    assert another is not recorder
    assert another.memory is None
    another.remove()


async def test_removed_while_a_run_is_under_way(desk, memory, agent, call, say):
    recorder = install()

    async def stop() -> str:
        """Stop recording."""
        assert len(recorder.runs) == 1
        recorder.remove()
        return "done"

    await agent(call("stop"), say("ok"), tools=[stop]).run(user_msg="stop", memory=memory)
    assert story(desk) == [
        'desk: Noted run: asked calc "stop"',
        "desk: Wrote message 1",
        "calc: calc read desk's message 1",
        "desk: Wrote message 2",
        "desk: Wrote message 3",
        "desk: Wrote message 4",
    ]
    assert recorder.open_spans == {}
    assert recorder.failures == ()


async def test_the_window_is_counted_whoever_writes(desk, recorder, agent, say):
    memory = AMFSMemory.from_memory(
        desk, session_id="s", tokenizer_fn=str.split, token_limit=8, chat_history_token_ratio=1.0, token_flush_size=1
    )
    for n in range(4):
        await agent(say(f"three words {n}"), name=f"agent-{n}").run(user_msg=f"question number {n}", memory=memory)
    assert [message.content for message in await memory.aget()] == ["question number 3", "three words 3"]
    assert len(await memory.aget_all()) == 8
    assert recorder.failures == ()


async def test_many_runs_leave_nothing_behind(memory, recorder, agent, call, say):
    async def wait() -> str:
        """Wait."""
        await asyncio.Event().wait()

    async def runs(count):
        for number in range(count):
            if number % 2:
                await agent(call("add", a=1, b=1), say("Two")).run(user_msg="1+1?", memory=memory)
            else:
                with pytest.raises(WorkflowTimeoutError):
                    await agent(call("wait"), say("-"), tools=[wait], timeout=0.02).run(user_msg="?", memory=memory)

    def left():
        gc.collect()
        kinds = [type(thing).__name__ for thing in gc.get_objects()]
        return {
            name: kinds.count(name) for name in ("FollowedRun", "Actors", "Actor", "AgentMemory", "StepSpan", "Run")
        }

    await runs(4)
    before, threads = left(), threading.active_count()
    await runs(20)
    assert left() == before
    assert before["FollowedRun"] <= 1
    assert threading.active_count() <= threads
    assert recorder.open_spans == {}
