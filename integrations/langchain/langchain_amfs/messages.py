"""Chat messages as plain JSON, in a form that LlamaIndex's AMFSMemory reads as well.

A message is stored as LlamaIndex stores its own: a role and blocks, of which a text is one. What LangChain knows beyond
that stands beside them under ``langchain``: the type, of a list of types that are allowed, and the fields that differ
from their defaults. Nothing is revived by name, so a dict inside a message stays a dict, whatever it looks like.
"""

from __future__ import annotations

import json
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)
from pydantic import ValidationError

from amfs.errors import InvalidValueError

__all__ = ["from_value", "to_value"]

_TYPES: dict[str, type[BaseMessage]] = {
    kind.__name__: kind
    for kind in (
        AIMessage, AIMessageChunk, ChatMessage, ChatMessageChunk, FunctionMessage, FunctionMessageChunk, HumanMessage,
        HumanMessageChunk, RemoveMessage, SystemMessage, SystemMessageChunk, ToolMessage, ToolMessageChunk,
    )
}  # fmt: skip
_ROLES = {"ai": "assistant", "human": "user", "system": "system", "tool": "tool", "function": "function"}
_OWN = "langchain"


def to_value(message: BaseMessage) -> dict[str, Any]:
    """Return a message as JSON, or raise InvalidValueError if it would not come back equal."""
    kind = type(message)
    if _TYPES.get(kind.__name__) is not kind:
        raise InvalidValueError(f"a message of type {kind.__name__} is not among those kept: {', '.join(_TYPES)}")
    fields = message.model_dump(exclude_defaults=True, exclude={"type"})
    blocks = _blocks(message)
    if isinstance(message.content, str):
        fields.pop("content", None)  # it is the first block
    role = _ROLES.get(_plain_type(message), "user")
    more = {"tool_call_id": message.tool_call_id} if isinstance(message, ToolMessage) else {}
    value = {"role": role, "additional_kwargs": more, "blocks": blocks, _OWN: {"type": kind.__name__, "fields": fields}}
    if not _comes_back(value, message):
        raise InvalidValueError(
            f"this {kind.__name__} holds what plain JSON cannot; keep texts, numbers and dicts in it"
        )
    return value


def from_value(value: Any) -> BaseMessage:
    """Return the message that a value holds, whichever framework wrote it; of LlamaIndex's the text and the tools."""
    if not isinstance(value, dict) or "role" not in value:
        raise InvalidValueError("this entry is no chat message; something else was written under its path")
    own = value.get(_OWN)
    if own is None:
        return _foreign(value)
    kind = _TYPES.get(own["type"])
    if kind is None:
        raise InvalidValueError(f"a message of type {own['type']!r} is not among those kept: {', '.join(_TYPES)}")
    content = {} if "content" in own["fields"] else {"content": _text(value["blocks"])}
    return kind(**content, **own["fields"])


def _comes_back(value: dict[str, Any], message: BaseMessage) -> bool:
    try:
        return _same(from_value(json.loads(json.dumps(value))), message)
    except (TypeError, ValueError, RecursionError, ValidationError):
        return False


def _same(one: BaseMessage, other: BaseMessage) -> bool:
    # Told apart by type as well: 1, 1.0 and True are equal.
    return one == other and repr(one) == repr(other)


def _plain_type(message: BaseMessage) -> str:
    return "ai" if isinstance(message, AIMessage) else message.type.removesuffix("MessageChunk").lower()


def _blocks(message: BaseMessage) -> list[dict[str, Any]]:
    """Return the blocks that LlamaIndex sees: the text, and the tools that are called."""
    text = message.content if isinstance(message.content, str) else str(message.text)
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return [
        {"block_type": "text", "text": text},
        *(
            {
                "block_type": "tool_call",
                "tool_call_id": call["id"],
                "tool_name": call["name"],
                "tool_kwargs": call["args"],
            }
            for call in calls
        ),
    ]


def _foreign(value: dict[str, Any]) -> BaseMessage:
    role, blocks, more = str(value["role"]), value.get("blocks") or [], value.get("additional_kwargs") or {}
    text = _text(blocks)
    match role:
        case "user":
            return HumanMessage(text)
        case "assistant" | "model" | "chatbot":
            return AIMessage(text, tool_calls=[_call(block) for block in blocks if block["block_type"] == "tool_call"])
        case "system" | "developer":
            return SystemMessage(text)
        case "tool":
            return ToolMessage(text, tool_call_id=str(more.get("tool_call_id", "")))
        case _:
            return ChatMessage(content=text, role=role)


def _text(blocks: list[dict[str, Any]]) -> str:
    return "".join(block["text"] for block in blocks if block["block_type"] == "text")


def _call(block: dict[str, Any]) -> dict[str, Any]:
    arguments = block.get("tool_kwargs")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = {"input": arguments}
    return {"name": block["tool_name"], "args": arguments or {}, "id": block.get("tool_call_id")}
