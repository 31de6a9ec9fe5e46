"""Chat messages as JSON values, and back: whatever one message holds, the others of a run are kept."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from amfs.errors import InvalidValueError
from amfs.frameworks.conversations import Message

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["from_value", "stand_in", "to_message"]

_KEPT = frozenset({MessageRole.SYSTEM, MessageRole.DEVELOPER})
_SHOWN = 200


def to_message(message: ChatMessage) -> Message:
    """Return a message as it is stored; instructions are kept when others are archived.

    Blocks come back equal. In ``additional_kwargs`` and in the arguments of tools, what is no JSON is stored as the
    JSON that pydantic makes of it, as LlamaIndex's own Memory does: a tuple as a list, an object as its fields.

    Raises:
        InvalidValueError: A block is of a kind that LlamaIndex does not know, or no JSON can be made of an object.
    """
    try:
        value = message.model_dump(mode="json", warnings="error")
        if not _is_plain(message):
            ChatMessage.model_validate(value)
    except (PydanticSerializationError, ValidationError, RecursionError, UnicodeError) as error:
        told = _first_line(error)
        raise InvalidValueError(f"a message of the {message.role.value} cannot be stored: {told}") from error
    return Message(value, message.role in _KEPT)


def stand_in(message: ChatMessage, refused: InvalidValueError) -> Message:
    """Return what stands where a message was refused, so that a tool call keeps an answer and a turn its order."""
    call = message.additional_kwargs.get("tool_call_id")
    blank = ChatMessage(
        role=message.role,
        content=f"[not stored: {refused}]",
        additional_kwargs={"tool_call_id": str(call)} if call else {},
    )
    return to_message(blank)


def from_value(value: Any) -> ChatMessage:
    """Return the message that a value stands for, a new one each time.

    A block that this version of LlamaIndex does not know is shown as a text that says so; the stored value stays.

    Raises:
        InvalidValueError: It stands for no message; something else was written under its path.
    """
    try:
        return ChatMessage.model_validate(value)
    except ValidationError as error:
        blocks = value.get("blocks") if isinstance(value, dict) else None
        with suppress(ValidationError):
            if isinstance(blocks, list):
                return ChatMessage.model_validate({**value, "blocks": list(_known(blocks))})
        raise InvalidValueError("this entry is no chat message; something else was written under its path") from error


def _known(blocks: Iterable[Any]) -> Iterable[Any]:
    for block in blocks:
        try:
            yield ChatMessage.model_validate({"role": MessageRole.USER, "blocks": [block]}).blocks[0]
        except ValidationError:
            kind = block.get("block_type") if isinstance(block, dict) else type(block).__name__
            yield TextBlock(text=f"[a block of kind {str(kind)[:_SHOWN]!r}, unknown to this version of llama-index]")


def _is_plain(message: ChatMessage) -> bool:
    return not message.additional_kwargs and all(type(block) is TextBlock for block in message.blocks)


def _first_line(error: Exception) -> str:
    """Return what is wrong without what the message holds."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}"[:_SHOWN] for one in error.errors()[:3])
    return str(error).partition("\n")[0][:_SHOWN]
