"""How a memory names the handle it works on, so that it can be serialised without its data."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from weakref import WeakKeyDictionary, WeakValueDictionary

from pydantic import BaseModel, ConfigDict

from amfs import AgentMemory
from amfs.errors import CannotOpenDatabaseError, HandleClosedError, NotSupportedError

__all__ = ["Reference", "refer"]

_MEMORY = ":memory:"

_lock = threading.Lock()
_handles: WeakValueDictionary[str, AgentMemory] = WeakValueDictionary()
_names: WeakKeyDictionary[AgentMemory, str] = WeakKeyDictionary()


class Reference(BaseModel):
    """Where a memory is: its handle's name in this process, and how to open it again in another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    handle: str
    database: str
    namespace: str
    agent_id: str
    branch: str

    def find(self) -> AgentMemory | None:
        """Return the very handle that was referred to, if it is still open in this process."""
        memory = _handles.get(self.handle)
        return memory if memory is not None and _is_open(memory) else None

    def open(self) -> AgentMemory:
        """Open the database again, on the branch that was current when the reference was made.

        Raises:
            NotSupportedError: The database was in memory and is gone.
            CannotOpenDatabaseError: The file is not there; a new, empty one would be silent amnesia.
        """
        if self.database == _MEMORY:
            raise NotSupportedError(
                "this chat history was kept in an in-memory database that is closed or belongs to another "
                "process; keep it in a file to restore it later"
            )
        if "://" not in self.database and not Path(self.database).exists():
            raise CannotOpenDatabaseError(f"the database {self.database!r} that held this chat history does not exist")
        memory = AgentMemory(self.agent_id, self.database, namespace=self.namespace, branch=self.branch)
        with _lock:
            _handles[self.handle] = memory
            _names[memory] = self.handle
        return memory


def refer(memory: AgentMemory) -> Reference:
    """Return a reference to a handle."""
    with _lock:
        name = _names.setdefault(memory, uuid.uuid4().hex)
        _handles[name] = memory
    database = memory.database
    if database != _MEMORY and "://" not in database:
        database = str(Path(database).resolve())
    return Reference(
        handle=name,
        database=database,
        namespace=memory.namespace,
        agent_id=memory.agent_id,
        branch=memory.branch,
    )


def _is_open(memory: AgentMemory) -> bool:
    try:
        memory.read_many((), branch="main")
    except HandleClosedError:
        return False
    return True
