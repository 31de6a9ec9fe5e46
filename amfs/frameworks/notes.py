"""What happened in a run as notes: one line each, short, and without what looks like a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple, cast

__all__ = [
    "Note",
    "error_text",
    "handed_over",
    "masked",
    "run_began",
    "run_cancelled",
    "run_failed",
    "shortened",
    "tool_answered",
    "tool_failed",
    "tool_unanswered",
    "waiting",
]

_LIMIT = 200
"""How many characters of arguments, of a result, or of an error are kept."""

_LOOKED_AT = 4_000
_PARTS = 50
_DEPTH = 4
"""How much of a value is looked at; it may be megabytes long, and only its beginning is kept."""

_MASK = "***"
_PRIVATE_NAME = re.compile(
    r"pass(word|wd|phrase|code)|^pass$|^pwd$|^pin$|secret|token(?!s|_count)|(access|api|auth|refresh|session).?tokens"
    r"|(api|access|private|signing|encryption).?key|credential|auth(?!or)|cookie|bearer",
    re.IGNORECASE,
)
_PRIVATE_TEXT = re.compile(
    r"""
    (?<=://) [^/\s:@]* : [^/\s@]+ (?=@)                        # a user and password in an address
    | \b (?:bearer|basic) \s+ [\w.~+/=-]{8,}                  # a header
    | \b (?:sk|pk|rk|gh[opsu]|xox[abprs]|amfs_sk|glpat|github_pat) [-_] [\w-]{8,}
    | \b AKIA [0-9A-Z]{12,}
    | \b eyJ [\w-]+ \. [\w-]+ \. [\w-]*                      # a JSON web token
    | -{5}BEGIN[ ][^-]* PRIVATE [ ] KEY-----  .*
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_ASSIGNED = re.compile(
    r"""\b (passw(?:or)?d|pwd|secret|token|api[_-]?key) (["']? \s* [=:] \s* ["']?) [^\s,;&"']+""",
    re.IGNORECASE | re.VERBOSE,
)


class Note(NamedTuple):
    """What is noted of something that happened in a run: under which label, and in which words."""

    label: str
    summary: str


def tool_answered(name: str, arguments: object, answer: object, *, is_error: bool = False) -> Note:
    """Return the note of a call that returned something, which may be the message of an error."""
    told = answer if isinstance(answer, str) else "" if answer is None else _json(answer)
    status = "error" if is_error else "ok"
    return Note(f"tool {name}", f"{status} {_arguments(arguments)}" + (f" -> {shortened(told)}" if told else ""))


def tool_failed(name: str, arguments: object, error: BaseException) -> Note:
    """Return the note of a call that raised an error."""
    return Note(f"tool {name}", f"error {_arguments(arguments)} -> {error_text(error)}")


def tool_unanswered(name: str, arguments: object) -> Note:
    """Return the note of a call that was under way when its run ended."""
    return Note(f"tool {name}", f"unanswered {_arguments(arguments)}")


def run_began(asked: str, agent: str | None = None) -> Note:
    """Return the note of a run that begins: what was asked, and which agent if it is known."""
    words = ["asked" if asked else "began", *([agent] if agent else []), *([_json(shortened(asked))] if asked else [])]
    return Note("run", " ".join(words))


def run_failed(error: BaseException) -> Note:
    """Return the note of a run that an error ended."""
    return Note("run", f"failed with {error_text(error)}")


def run_cancelled() -> Note:
    """Return the note of a run that was cancelled."""
    return Note("run", "cancelled")


def handed_over(to: str, reason: str) -> Note:
    """Return the note of an agent that lets another one go on."""
    return Note("handoff", shortened(f"to {to}: {reason}" if reason else f"to {to}"))


def error_text(error: BaseException) -> str:
    """Return what an error is and says, short and without secrets."""
    return shortened(f"{type(error).__name__}: {error}")


def waiting(questions: Sequence[object]) -> Note:
    """Return the note of a run that waits for answers."""
    asked = [shortened(one if isinstance(one, str) else _json(one)) for one in questions]
    return Note("interrupt", "; ".join(asked) or "waits to go on")


def masked(value: object, depth: int = _DEPTH) -> object:
    """Return a value without what looks like a secret: by the name it goes under, or by itself."""
    if isinstance(value, str):
        return _ASSIGNED.sub(rf"\1\2{_MASK}", _PRIVATE_TEXT.sub(_MASK, value[:_LOOKED_AT]))
    if depth == 0 and isinstance(value, Mapping | list | tuple):
        return "…"
    if isinstance(value, Mapping):
        fields = cast("Mapping[object, object]", value)
        return {str(name): _field(str(name), part, depth) for name, part in islice(fields.items(), _PARTS)}
    if isinstance(value, list | tuple):
        return [masked(part, depth - 1) for part in cast("Sequence[object]", value)[:_PARTS]]
    return value if value is None or isinstance(value, bool | int | float) else f"<{type(value).__name__}>"


def shortened(text: str, limit: int = _LIMIT) -> str:
    """Return a text in one line, without secrets, and cut where it gets long."""
    line = " ".join(str(masked(text)).split()).encode(errors="replace").decode().replace("\0", "")
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _field(name: str, value: object, depth: int) -> object:
    return _MASK if value is not None and _PRIVATE_NAME.search(name) else masked(value, depth - 1)


def _arguments(arguments: object) -> str:
    return shortened(_json(arguments))


def _json(value: object) -> str:
    return json.dumps(masked(value), ensure_ascii=False, separators=(",", ":"))
