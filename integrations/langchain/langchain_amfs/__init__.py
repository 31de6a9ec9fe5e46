"""LangGraph and LangChain on AMFS: agent memory with versions, timeline and branches, and checkpoints, in one file."""

from typing import TYPE_CHECKING, Any

from langchain_amfs.history import AMFSChatMessageHistory
from langchain_amfs.retriever import AMFSRetriever
from langchain_amfs.saver import AMFSSaver, ForkedThread
from langchain_amfs.serde import AllowListSerializer
from langchain_amfs.store import AMFSStore
from langchain_amfs.toolkit import AMFSToolkit

if TYPE_CHECKING:
    from langchain_amfs.classic import AMFSMemory as AMFSMemory

__all__ = [
    "AMFSChatMessageHistory",
    "AMFSRetriever",
    "AMFSSaver",
    "AMFSStore",
    "AMFSToolkit",
    "AllowListSerializer",
    "ForkedThread",
]


def __getattr__(name: str) -> Any:
    """Return AMFSMemory, which needs the extra ``classic``, when somebody asks for it."""
    if name != "AMFSMemory":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from langchain_amfs.classic import AMFSMemory
    except ImportError as error:
        raise ImportError(f"AMFSMemory needs {error.name}: pip install 'langchain-amfs[classic]'") from error
    return AMFSMemory
