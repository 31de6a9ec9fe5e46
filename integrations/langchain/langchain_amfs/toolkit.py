"""AMFSToolkit: the tools of ``amfs.frameworks.tools`` as LangChain tools."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from langchain_core.tools import BaseTool, BaseToolkit, StructuredTool, ToolException
from pydantic import PrivateAttr

from amfs.errors import AMFSError
from amfs.frameworks.tools import TOOLS, explained
from langchain_amfs.actors import Actors

if TYPE_CHECKING:
    from amfs import AgentMemory
    from amfs.frameworks.tools import Tool

__all__ = ["AMFSToolkit"]


class AMFSToolkit(BaseToolkit):
    """Tools with which an agent uses a memory by itself: remember, recall, search, branch, propose, judge.

    Inside a graph they act in the name of the agent that calls them, in the run and on the branch of its invocation,
    as ``AMFSStore`` does. What goes wrong is told to the model as the result of the tool. No tool merges.

    Args:
        memory: The memory to work on.
        read_only: Offer only those tools that change nothing: recall, search, history, list_branches, diff, timeline.
    """

    read_only: bool = False

    _actors: Actors = PrivateAttr()

    def __init__(self, memory: AgentMemory, *, read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        self._actors = Actors(memory)

    def get_tools(self) -> list[BaseTool]:
        """Return the tools, for ``create_agent(tools=...)`` or ``model.bind_tools``."""
        return [self._wrap(tool) for tool in TOOLS if not (self.read_only and tool.writes)]

    def _wrap(self, tool: Tool) -> BaseTool:
        def run(**arguments: Any) -> str:
            asked = tool.arguments(**arguments)
            try:
                with self._actors.memory() as memory:
                    return tool.call(memory, asked)
            except AMFSError as error:
                raise ToolException(f"{error.code}: {error}") from error

        async def arun(**arguments: Any) -> str:
            return await asyncio.to_thread(run, **arguments)

        return StructuredTool(
            name=tool.name,
            description=tool.description,
            args_schema=tool.arguments,
            func=run,
            coroutine=arun,
            handle_tool_error=True,
            handle_validation_error=explained,
        )
