"""LlamaIndex memory on AMFS: chat history with versions, a timeline and branches, in one SQLite file."""

from llama_index.memory.amfs.base import AMFSMemory
from llama_index.memory.amfs.chat_store import AMFSChatStore

__all__ = ["AMFSChatStore", "AMFSMemory"]
