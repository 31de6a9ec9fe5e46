"""What is known, put together: a brief and what it cites."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from amfs.models.base import Model
from amfs.models.entries import Entry
from amfs.models.words import OutcomeType


class BriefOutcome(Model):
    """An outcome that judged a value which a brief covers; ``explain(outcome_ref)`` tells more of it."""

    outcome_ref: str
    outcome_type: OutcomeType
    seq: int


class Brief(Model):
    """What the agents of a namespace know of an entity path and those below it, or of everything.

    ``text`` is for people and prompts; ``[1]`` in it is the first of ``citations``, and so on. ``digest_type`` is
    ``written`` if a writer wrote it. All entries covered, cited or not, are counted by ``entry_count``, by ``entities``
    (their paths) and ``agents`` (who wrote how many), by ``conflicts`` (how many are open) and ``outcomes`` (the last
    ones, newest first). ``seq`` is that of its brief_compiled event, 0 if none was recorded: nothing is known, or the
    database is read-only.
    """

    entity_path: str | None
    agent_id: str | None
    branch: str
    digest_type: Literal["digest", "written"]
    text: str
    citations: tuple[Entry, ...]
    entry_count: int
    entities: tuple[str, ...]
    agents: dict[str, int]
    conflicts: int
    outcomes: tuple[BriefOutcome, ...]
    seq: int
    compiled_at: datetime
