"""The two agents: one built with LangGraph, one with LlamaIndex, both on models that follow a script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from client import KEY, PATH
from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_amfs import AMFSStore
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.memory.amfs import AMFSMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.messages import BaseMessage

    from amfs import AgentMemory

__all__ = ["FIRST_POLICY", "VARIANTS", "run_deploy_agent", "run_tuning_agent"]

FIRST_POLICY: dict[str, Any] = {"max_retries": 1, "backoff": "none", "base_delay_ms": 0, "timeout_ms": 2000}

VARIANTS: dict[str, dict[str, Any]] = {
    "more-retries": {"max_retries": 6, "backoff": "linear", "base_delay_ms": 30, "timeout_ms": 2000},
    "shorter-timeout": {"max_retries": 4, "backoff": "exponential", "base_delay_ms": 40, "timeout_ms": 150},
    "no-backoff": {"max_retries": 3, "backoff": "none", "base_delay_ms": 0, "timeout_ms": 2000},
}


class ScriptedChat(FakeMessagesListChatModel):
    """A LangChain chat model that says what its script says, whatever tools it is given."""

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Self:  # noqa: ARG002 - the base class's signature
        """Return the model itself: the script already names the tools."""
        return self


@tool
def save_policy(policy: dict[str, Any], runtime: ToolRuntime) -> str:
    """Save the retry policy of the checkout service."""
    assert runtime.store is not None, "the agent was created with a store"  # noqa: S101
    runtime.store.put((PATH,), KEY, policy)
    return f"saved {PATH}/{KEY}"


def run_deploy_agent(memory: AgentMemory) -> str:
    """Let the LangGraph agent write the first policy, by ``store=`` alone, and return what it says."""
    call = {"name": "save_policy", "args": {"policy": FIRST_POLICY}, "id": "call-1"}
    script: list[BaseMessage] = [AIMessage("", tool_calls=[call]), AIMessage("Checkout calls get one retry, at once.")]
    with AMFSStore(memory) as store:
        agent = create_agent(ScriptedChat(responses=script), [save_policy], name=memory.agent_id, store=store)
        result = agent.invoke({"messages": [HumanMessage("How shall we call checkout-service?")]})
    return result["messages"][-1].text


async def run_tuning_agent(memory: AgentMemory, read_policy: Callable[[], str], try_variant: Callable[..., str]) -> str:
    """Let the LlamaIndex agent read the policy and try three variants, and return what it says."""
    trials = [_call(name, "try_variant", name=name, policy=policy) for name, policy in VARIANTS.items()]
    script = iter([_call("first", "read_policy"), *trials, _say("Three variants tried. Let the numbers decide.")])
    agent = FunctionAgent(
        name=memory.agent_id,
        tools=[read_policy, try_variant],
        llm=MockFunctionCallingLLM(response_generator=lambda messages, **kwargs: next(script)),  # noqa: ARG005
        system_prompt="You tune the retry policies of services.",
    )
    chat = AMFSMemory.from_memory(memory, "tuning")
    reply = await agent.run(user_msg="Can checkout-service be called in a better way?", memory=chat)
    return str(reply)


def _call(call_id: str, tool_name: str, **arguments: Any) -> ChatMessage:
    block = ToolCallBlock(tool_call_id=call_id, tool_name=tool_name, tool_kwargs=arguments)
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=[block])


def _say(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.ASSISTANT, content=text)
