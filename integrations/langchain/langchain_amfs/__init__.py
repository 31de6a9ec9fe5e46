"""LangGraph on AMFS: agent memory with versions, a timeline and branches, in one SQLite file."""

from langchain_amfs.store import AMFSStore

__all__ = ["AMFSStore"]
