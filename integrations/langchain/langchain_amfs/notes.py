"""What tools answered LangChain, as notes."""

from __future__ import annotations

from langchain_core.messages import BaseMessage, ToolMessage
from langgraph.types import Command

from amfs.frameworks.notes import Note, tool_answered

__all__ = ["tool_finished"]


def tool_finished(name: str, arguments: object, result: object) -> Note:
    """Return the note of a call that returned something, which may be the message of an error."""
    is_error = isinstance(result, ToolMessage) and result.status == "error"
    return tool_answered(name, arguments, _answer(result), is_error=is_error)


def _answer(result: object) -> object:
    """Return what a tool said; a command says something to the graph only."""
    if isinstance(result, BaseMessage):
        return str(result.text)
    return "" if isinstance(result, Command) else result
