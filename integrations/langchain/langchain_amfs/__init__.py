"""LangGraph and LangChain on AMFS: agent memory with versions, timeline and branches, and checkpoints, in one file."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from langchain_amfs.callbacks import AMFSCallbackHandler
from langchain_amfs.history import AMFSChatMessageHistory
from langchain_amfs.retriever import AMFSRetriever
from langchain_amfs.saver import AMFSSaver, ForkedThread
from langchain_amfs.serde import AllowListSerializer
from langchain_amfs.store import AMFSStore
from langchain_amfs.toolkit import AMFSToolkit

if TYPE_CHECKING:
    from langchain_amfs.classic import AMFSMemory as AMFSMemory
    from langchain_amfs.middleware import AMFSMiddleware as AMFSMiddleware

__all__ = [
    "AMFSCallbackHandler",
    "AMFSChatMessageHistory",
    "AMFSRetriever",
    "AMFSSaver",
    "AMFSStore",
    "AMFSToolkit",
    "AllowListSerializer",
    "ForkedThread",
]

_OF_EXTRAS = {"AMFSMemory": ("classic", "classic"), "AMFSMiddleware": ("middleware", "agents")}
"""What needs an extra: the module it is in, and the extra."""


def __getattr__(name: str) -> Any:
    """Return what needs an extra when somebody asks for it."""
    if name not in _OF_EXTRAS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, extra = _OF_EXTRAS[name]
    try:
        return getattr(import_module(f"{__name__}.{module}"), name)
    except ImportError as error:
        raise ImportError(f"{name} needs {error.name}: pip install 'langchain-amfs[{extra}]'") from error
