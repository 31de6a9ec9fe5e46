"""AMFSToolSpec: the tools of ``amfs.frameworks.tools`` as LlamaIndex tools."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from llama_index.core.tools import ToolMetadata
from llama_index.core.tools.tool_spec.base import BaseToolSpec
from llama_index.memory.amfs.acting import acting

from amfs import AsyncAgentMemory
from amfs.errors import InvalidInputError
from amfs.frameworks.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from llama_index.core.tools import FunctionTool
    from llama_index.core.tools.tool_spec.base import SPEC_FUNCTION_TYPE

    from amfs import AgentMemory
    from amfs.frameworks.tools import Tool

__all__ = ["AMFSToolSpec"]


def _functions(tools: Iterable[Tool]) -> list[SPEC_FUNCTION_TYPE]:
    return [(tool.name, f"a{tool.name}") for tool in tools]


class AMFSToolSpec(BaseToolSpec):
    """Tools with which an agent uses a memory by itself: remember, recall, search, branch, propose, judge.

    They act in the name of the agent that calls them, in its run and on its branch. What goes wrong is told to the
    model as the result of the tool. No tool merges. Each is a method as well, ``remember`` and, awaited, ``aremember``,
    which takes the arguments by name and raises the errors of the memory.

    Args:
        memory: The memory to work on.
        read_only: Offer only those tools that change nothing: recall, search, history, list_branches, diff, timeline.
    """

    spec_functions = _functions(TOOLS)

    def __init__(self, memory: AgentMemory, *, read_only: bool = False) -> None:
        self._verbs = AsyncAgentMemory(memory)
        offered = [tool for tool in TOOLS if not (read_only and tool.writes)]
        self.spec_functions = _functions(offered)
        self._metadata: dict[str, ToolMetadata] = {}
        for tool in offered:
            metadata = ToolMetadata(tool.description, tool.name, tool.arguments)
            for function in (self._called(tool), self._awaited(tool)):
                setattr(self, function.__name__, function)
                self._metadata[function.__name__] = metadata

    def to_tool_list(
        self,
        spec_functions: list[SPEC_FUNCTION_TYPE] | None = None,
        func_to_metadata_mapping: dict[str, ToolMetadata] | None = None,
    ) -> list[FunctionTool]:
        """Return the tools, or those named, for ``FunctionAgent(tools=...)``.

        Raises:
            InvalidInputError: One that is named is not offered.
        """
        asked = [name for one in spec_functions or () for name in ([one] if isinstance(one, str) else one)]
        unknown = [name for name in asked if name not in self._metadata]
        if unknown:
            raise InvalidInputError(
                f"these tools are not offered: {', '.join(unknown)}; those offered are {', '.join(self._metadata)}"
            )
        return super().to_tool_list(spec_functions, func_to_metadata_mapping)

    def get_metadata_from_fn_name(
        self,
        fn_name: str,
        spec_functions: list[SPEC_FUNCTION_TYPE] | None = None,  # noqa: ARG002 - LlamaIndex's signature
    ) -> ToolMetadata:
        """Return name, description and arguments of a tool, which is what a model is shown."""
        return self._metadata[fn_name]

    def _called(self, tool: Tool) -> Callable[..., str]:
        def run(**arguments: Any) -> str:
            asked = tool.checked(arguments)
            with acting(self._verbs) as memory:
                return tool.call(memory.memory, asked)

        return _named(run, tool.name, tool)

    def _awaited(self, tool: Tool) -> Callable[..., Awaitable[str]]:
        async def run(**arguments: Any) -> str:
            asked = tool.checked(arguments)
            with acting(self._verbs) as memory:
                return await asyncio.to_thread(tool.call, memory.memory, asked)

        return _named(run, f"a{tool.name}", tool)


def _named(function: Any, name: str, tool: Tool) -> Any:
    function.__name__, function.__qualname__, function.__doc__ = name, f"AMFSToolSpec.{name}", tool.description
    return function
