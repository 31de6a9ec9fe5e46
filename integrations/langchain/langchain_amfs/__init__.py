"""LangGraph on AMFS: agent memory with versions, a timeline and branches, in one SQLite file."""

from typing import TYPE_CHECKING, Any

from langchain_amfs.callbacks import AMFSCallbackHandler
from langchain_amfs.store import AMFSStore

if TYPE_CHECKING:
    from langchain_amfs.middleware import AMFSMiddleware as AMFSMiddleware

__all__ = ["AMFSCallbackHandler", "AMFSStore"]


def __getattr__(name: str) -> Any:
    """Return AMFSMiddleware, which needs the extra ``agents``, when somebody asks for it."""
    if name != "AMFSMiddleware":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from langchain_amfs.middleware import AMFSMiddleware
    except ImportError as error:
        raise ImportError(f"AMFSMiddleware needs {error.name}: pip install 'langchain-amfs[agents]'") from error
    return AMFSMiddleware
