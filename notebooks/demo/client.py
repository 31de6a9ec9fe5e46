"""A client that retries by the policy it reads from memory, and measures how that works out."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Literal, NamedTuple

import httpx
from pydantic import BaseModel, ConfigDict
from tqdm import tqdm

if TYPE_CHECKING:
    from amfs import AgentMemory

__all__ = ["KEY", "PATH", "Measurement", "Policy", "RetryingClient"]

PATH, KEY = "checkout-service", "retry-pattern"
WORKERS = 12
GOOD_RATE, TOLERABLE_RATE, GOOD_P95_MS = 99, 95, 1000


class Policy(BaseModel):
    """When to try again, and how long to wait for an answer."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    max_retries: int
    backoff: Literal["none", "linear", "exponential"]
    base_delay_ms: int
    timeout_ms: int

    def delay_ms(self, retry: int) -> int:
        """Return the pause before a retry, the first being number 0."""
        factor = {"none": 0, "linear": retry + 1, "exponential": 2**retry}[self.backoff]
        return self.base_delay_ms * factor

    def __str__(self) -> str:
        pause = "at once" if self.backoff == "none" else f"after {self.base_delay_ms} ms ({self.backoff})"
        retries = "1 retry" if self.max_retries == 1 else f"{self.max_retries} retries"
        return f"{retries} {pause}, timeout {self.timeout_ms} ms"


class _Call(NamedTuple):
    answered: bool
    waited_ms: float


@dataclass(frozen=True)
class Measurement:
    """What callers of the service went through under one policy."""

    success_rate: float
    p95_ms: float

    @classmethod
    def of(cls, calls: list[_Call]) -> Measurement:
        """Sum up calls: how many in a hundred were answered, and how long all but the slowest 5 % took."""
        waits = sorted(call.waited_ms for call in calls)
        return cls(
            success_rate=round(100 * sum(call.answered for call in calls) / len(calls), 2),
            p95_ms=round(waits[ceil(0.95 * len(waits)) - 1], 1),
        )

    @property
    def outcome(self) -> Literal["success", "minor_failure", "failure"]:
        """What this measurement means for the policy that led to it."""
        if self.success_rate < TOLERABLE_RATE:
            return "failure"
        return "success" if self.success_rate >= GOOD_RATE and self.p95_ms <= GOOD_P95_MS else "minor_failure"


class RetryingClient:
    """Calls the service by the retry policy in memory, and by nothing else."""

    def __init__(self, memory: AgentMemory, url: str) -> None:
        self._memory = memory
        self._url = url

    def measure(self, requests: int, title: str) -> Measurement:
        """Read the policy from where memory currently points, make the requests, and sum them up."""
        entry = self._memory.read(PATH, KEY)
        if entry is None:
            raise LookupError(f"memory holds no {PATH}/{KEY}: there is no policy to call by")
        policy = Policy.model_validate(entry.value)
        timeout = policy.timeout_ms / 1000
        with (
            # A proxy named in the environment must not be asked for 127.0.0.1.
            httpx.Client(base_url=self._url, timeout=timeout, trust_env=False) as http,
            ThreadPoolExecutor(WORKERS) as pool,
        ):
            calls = pool.map(lambda request: _call(http, policy, request), range(requests))
            shown = tqdm(calls, title, requests, leave=False, disable=None, unit=" requests")
            return Measurement.of(list(shown))


def _call(http: httpx.Client, policy: Policy, request: int) -> _Call:
    start = time.perf_counter()
    answered = False
    for attempt in range(policy.max_retries + 1):
        if attempt:
            time.sleep(policy.delay_ms(attempt - 1) / 1000)
        answered = _answered(http, request, attempt)
        if answered:
            break
    return _Call(answered, 1000 * (time.perf_counter() - start))


def _answered(http: httpx.Client, request: int, attempt: int) -> bool:
    try:
        return http.get(f"/checkout/{request}/{attempt}").is_success
    except httpx.TimeoutException:
        return False
