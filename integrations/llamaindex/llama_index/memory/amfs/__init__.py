"""LlamaIndex memory on AMFS: chat history with versions, a timeline and branches, in one SQLite file."""

from llama_index.memory.amfs.base import AMFSMemory
from llama_index.memory.amfs.block import AMFSMemoryBlock
from llama_index.memory.amfs.chat_store import AMFSChatStore
from llama_index.memory.amfs.recall import Recall
from llama_index.memory.amfs.recorder import Recorder, install
from llama_index.memory.amfs.retriever import AMFSRetriever
from llama_index.memory.amfs.tools import AMFSToolSpec

__all__ = [
    "AMFSChatStore",
    "AMFSMemory",
    "AMFSMemoryBlock",
    "AMFSRetriever",
    "AMFSToolSpec",
    "Recall",
    "Recorder",
    "install",
]
