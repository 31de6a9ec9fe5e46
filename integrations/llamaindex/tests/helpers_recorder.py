"""What the tests of recorded runs share: tools, and the timeline read as a story."""

import re


def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


def fail(reason: str) -> str:
    """Fail."""
    raise ValueError(reason)


def broken(*_, **__):
    """Be a model that fails."""
    raise ConnectionError("no model")


def events(mem, since=0):
    """Return what happened after a seq, oldest first."""
    everything = mem.timeline(agent_id="*", include_messages=True, limit=1000)
    return [event for event in reversed(everything) if event.seq > since]


def story(mem, since=0):
    """Return what happened after a seq as lines of who and what; messages are numbered, "RUN" is the run."""
    numbers = {}

    def number(found):
        return f"message {numbers.setdefault(found[0], len(numbers) + 1)}"

    return [re.sub(r"chat/[^/ ]+/[\w-]+ v\d+", number, f"{event.actor}: {told(event)}") for event in events(mem, since)]


def told(event):
    """Return what an event says, notes in full."""
    if event.event_type == "context":
        return f"Noted {event.details['label']}: {event.details['summary']}"
    return event.summary.replace(event.run_id or "?", "RUN")


def last(mem):
    """Return the seq of the last event."""
    return max((event.seq for event in events(mem)), default=0)


def ended(mem):
    """Return what came of the runs."""
    return [line for line in story(mem) if "Outcome" in line]
