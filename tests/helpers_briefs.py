"""What the tests of briefs share: a little memory of two agents, and the events of briefs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amfs import AgentMemory

P = "checkout-service"


def events(mem: AgentMemory, **query: Any) -> list[Any]:
    """Return the brief_compiled events of all agents, oldest first."""
    return mem.timeline(agent_id="*", event_type="brief_compiled", limit=1000, **query)[::-1]


def fill(mem: AgentMemory) -> AgentMemory:
    """Write what most tests brief, and return the handle of the second agent."""
    bob = mem.as_agent("bob")
    mem.write(P, "retry", {"retries": 3}, confidence=0.8)
    mem.write(f"{P}/eu", "owner", "payments", confidence=0.9)
    bob.write(P, "timeout", 30, confidence=0.8)
    bob.write("checkout-services", "owner", "somebody else")
    mem.commit_outcome("deploy-41", "success", [(P, "timeout")])
    return bob
