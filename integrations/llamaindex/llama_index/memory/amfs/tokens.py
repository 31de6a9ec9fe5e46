"""Counting tokens of chat messages: every kind of block counts, tool calls included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    VideoBlock,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from llama_index.core.base.llms.types import BaseContentBlock

__all__ = ["Estimates", "count_tokens"]


class Estimates(Protocol):
    """What a LlamaIndex Memory knows about sizes."""

    tokenizer_fn: Callable[[str], list[Any]]
    image_token_size_estimate: int
    audio_token_size_estimate: int
    video_token_size_estimate: int
    document_token_size_estimate: int


def count_tokens(estimates: Estimates, content: str | BaseContentBlock | Sequence[BaseContentBlock]) -> int:
    """Return about how many tokens a text, a message, a block, or several of them take."""
    match content:
        case str() as text:
            return len(estimates.tokenizer_fn(text))
        case ChatMessage(blocks=blocks, additional_kwargs=more):
            return count_tokens(estimates, blocks) + (count_tokens(estimates, str(more)) if more else 0)
        case TextBlock(text=text):
            return count_tokens(estimates, text)
        case ImageBlock():
            return estimates.image_token_size_estimate
        case AudioBlock():
            return estimates.audio_token_size_estimate
        case VideoBlock():
            return estimates.video_token_size_estimate
        case DocumentBlock():
            return estimates.document_token_size_estimate
        case CachePoint():
            return 0
        case ThinkingBlock(content=thought, num_tokens=number):
            return number or count_tokens(estimates, thought or "")
        case CitableBlock(content=blocks, title=title, source=source):
            return count_tokens(estimates, blocks) + count_tokens(estimates, f"{title} {source}")
        case CitationBlock(cited_content=block, title=title, source=source):
            return count_tokens(estimates, block) + count_tokens(estimates, f"{title} {source}")
        case list() | tuple():
            return sum(count_tokens(estimates, item) for item in content)
        case block:
            return count_tokens(estimates, block.model_dump_json(exclude={"block_type"}))
