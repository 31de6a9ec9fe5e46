"""LangGraph on AMFS: agent memory with versions, a timeline and branches, and checkpoints, in one SQLite file."""

from langchain_amfs.saver import AMFSSaver, ForkedThread
from langchain_amfs.serde import AllowListSerializer
from langchain_amfs.store import AMFSStore

__all__ = ["AMFSSaver", "AMFSStore", "AllowListSerializer", "ForkedThread"]
