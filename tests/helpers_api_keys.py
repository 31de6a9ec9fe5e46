"""API keys in tests: forging them, misusing them, and looking for their secrets in whatever is written or said."""

from __future__ import annotations

import re
import string
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import amfs
from amfs import AccessDeniedError, AgentMemory, InvalidApiKeyError, Principal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from amfs import CreatedApiKey
    from tests.conftest import ManualClock
    from tests.helpers_processes import Outbox

ALPHABET = string.digits + string.ascii_letters


def forge(number: str, secret: str) -> str:
    """Return the well-formed key of an id and a secret, whether or not there is one."""
    rest, checksum = crc32((number + secret).encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        checksum = ALPHABET[digit] + checksum
    return f"amfs_sk_{number}_{secret}{checksum}"


def parts_of(key: str) -> tuple[str, str]:
    """Return the id and the secret of a key."""
    number, rest = key.removeprefix("amfs_sk_").split("_")
    return number, rest[:-6]


class Secrets:
    """All pieces of 20 characters of the secrets of keys, to be looked for in whatever is written or said."""

    def __init__(self, keys: Sequence[str]) -> None:
        secrets = [key.rpartition("_")[2] for key in keys]
        self._pieces = {secret[at : at + 20] for secret in secrets for at in range(len(secret) - 19)}

    def within(self, text: str | bytes) -> list[str]:
        """Return the pieces that stand in a text, or in the bytes of a file."""
        if isinstance(text, bytes):
            text = text.decode("latin-1")
        runs = re.findall("[0-9A-Za-z]{20,}", text)
        return [piece for run in runs for at in range(len(run) - 19) if (piece := run[at : at + 20]) in self._pieces]


def told_by(error: BaseException) -> str:
    """Return all that an error tells: its text, and what stands in the frames of AMFS with their local variables."""
    told = [repr(error), str(error), *getattr(error, "__notes__", ())]
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        left += [one.__cause__, one.__context__]
        told += traceback.format_exception_only(one)
        frames = traceback.StackSummary.extract(traceback.walk_tb(one.__traceback__), capture_locals=True)
        ours = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
        told += traceback.StackSummary.from_list(ours).format()
    return "".join(told)


PACKAGE = Path(amfs.__file__).parent


MANY = 5_000
"""More writes than can be made before access is revoked: who gets so far was not stopped."""


def write_until_denied(outbox: Outbox, database: Path, agent: str, who: dict[str, str]) -> list[int]:
    """Write on a branch until that is denied, telling of every write, and return the seqs of all."""
    options: dict[str, Any] = {"durability": "normal", "principal": Principal(**who)}
    with AgentMemory(agent, database, branch="shared", **options) as mem:
        return written_until_denied(mem, outbox.send)


def written_until_denied(mem: AgentMemory, tell: Callable[[int], None]) -> list[int]:
    """Write on the current branch until that is denied and return the seqs of what was written."""
    done: list[int] = []
    for number in range(MANY):
        try:
            done.append(mem.write("race", mem.agent_id, number).seq)
        except (AccessDeniedError, InvalidApiKeyError):
            break
        tell(done[-1])
    return done


def misuse(
    mem: AgentMemory, enter: Callable[..., AgentMemory], keys: list[CreatedApiKey], clock: ManualClock
) -> Iterator[Any]:
    """Yield calls that fail with a key in hand."""
    for key in keys[:20]:
        raw = key.key
        number, secret = parts_of(raw)
        yield lambda raw=raw: Principal(api_key=f"{raw}x")
        yield lambda raw=raw: Principal(api_key=raw, user_id="ann")
        yield lambda raw=raw: mem.grant_branch_access("b", "user", raw, "read")
        yield lambda raw=raw: mem.grant_branch_access("b", "nobody", raw, "read")
        yield lambda raw=raw: mem.grant_branch_access("b", "api_key", raw, "everything")
        yield lambda raw=raw: mem.grant_branch_access("absent", "api_key", raw, "read")
        yield lambda raw=raw: mem.grant_branch_access("main", "api_key", raw, "read")
        yield lambda raw=raw: mem.revoke_branch_access("main", "api_key", raw)
        yield lambda raw=raw: mem.revoke_branch_access("main", "team", raw)
        yield lambda raw=raw: mem.revoke_api_key(f"{raw}x")
        yield lambda n=number, s=secret: mem.revoke_api_key(forge(n[::-1], s))
        yield lambda n=number, s=secret: enter(Principal(api_key=forge(n[::-1], s)))
        yield lambda key=key: enter(key).verify()
        yield lambda key=key: enter(key).write("p", "k", 1)
        yield lambda key=key: enter(key, "mallory").list()
    for key in keys[20:40]:
        handle = enter(key)
        mem.revoke_api_key(key.key)
        yield handle.list
        yield lambda handle=handle: handle.write("p", "k", 1, branch="b")
        yield lambda key=key: enter(key)
    clock.advance(1_000)
    for key in keys[40:60]:
        yield lambda key=key: enter(key)
