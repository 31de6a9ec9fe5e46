"""What the tests of recorded runs share: models that fail or wait, tools, and the timeline read as a story."""

from typing import Any

from langchain.tools import ToolRuntime, tool
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langgraph.types import interrupt

NOTES = ("notes", "u1")


class WatchedModel(FakeMessagesListChatModel):
    """A scripted chat model that keeps what it was asked, and fails where its script says so."""

    asked: list[list[BaseMessage]] = []  # noqa: RUF012 - pydantic copies it for each model

    def bind_tools(self, *_: Any, **__: Any) -> "WatchedModel":
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        self.asked.append(messages)
        result = super()._generate(messages, *args, **kwargs)
        if result.generations[0].message.content == "FAIL":
            raise ConnectionError("the model is away")
        return result

    def system(self, place: int = 0) -> str:
        """Return the system message of a call, empty if there was none."""
        first = self.asked[place][0]
        return str(first.text) if first.type == "system" else ""


def play(*turns):
    """Return a model that plays turns: a str is a reply, a list of (tool, arguments) are tool calls."""
    return WatchedModel(responses=[_message(place, turn) for place, turn in enumerate(turns)])


def _message(place, turn):
    if isinstance(turn, str):
        return AIMessage(turn)
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": f"{place}-{n}"}
                                     for n, (name, args) in enumerate(turn)])  # fmt: skip


@tool
def remember(key: str, text: str, runtime: ToolRuntime) -> str:
    """Save a note."""
    runtime.store.put(NOTES, key, {"text": text})
    return f"saved {key}"


@tool
def recall(key: str, runtime: ToolRuntime) -> str:
    """Read a note."""
    item = runtime.store.get(NOTES, key)
    return item.value["text"] if item else "nothing"


@tool
def fail(why: str, api_key: str = "") -> str:  # noqa: ARG001 - a secret to be masked
    """Fail."""
    raise ValueError(why)


@tool
def ask(question: str) -> str:
    """Ask a person."""
    return f"they said {interrupt(question)}"


def save(key, text="tea"):
    return ("remember", {"key": key, "text": text})


def read(key):
    return ("recall", {"key": key})


def delegating(agent):
    """Return a tool that hands a task to an agent."""

    @tool
    def delegate(task: str) -> str:
        """Let another agent do it."""
        return str(agent.invoke({"messages": task})["messages"][-1].content)

    @tool
    async def adelegate(task: str) -> str:
        """Let another agent do it, awaited."""
        return str((await agent.ainvoke({"messages": task}))["messages"][-1].content)

    return [delegate, adelegate]


def events(memory, since=0):
    """Return what happened after a seq, oldest first."""
    return [event for event in reversed(memory.timeline(agent_id="*", limit=1000)) if event.seq > since]


def story(memory, since=0):
    """Return what happened after a seq as lines of who and what, run ids left out."""
    return [f"{event.actor}: {event.summary.replace(event.run_id or '?', 'RUN')}" for event in events(memory, since)]


def last(memory):
    """Return the seq of the last event."""
    return max((event.seq for event in memory.timeline(agent_id="*", limit=1)), default=0)


def runs_of(memory, since=0):
    """Return the runs that the events after a seq were in."""
    return {event.run_id for event in events(memory, since)}
