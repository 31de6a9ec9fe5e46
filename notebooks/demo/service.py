"""A flaky HTTP service on loopback whose faults and latencies follow from a seed."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Answer", "Service", "Weather"]

SLOW_MS = 400
FAST_MS = (4, 10)


class Answer(NamedTuple):
    """What the service says to one attempt, and how long it takes over it."""

    status: int
    latency_ms: int


@dataclass(frozen=True)
class Weather:
    """How the service misbehaves.

    ``fault_share`` of the requests meet a burst of faults that lasts one to ``longest_burst`` attempts;
    ``slow_share`` of the other answers take ``SLOW_MS``.
    """

    seed: int
    fault_share: float
    longest_burst: int
    slow_share: float

    @classmethod
    def of(cls, seed: int) -> Self:
        """Return the weather of a seed."""
        draw = random.Random(f"weather {seed}")
        return cls(
            seed=seed,
            fault_share=draw.randint(25, 40) / 100,
            longest_burst=draw.randint(2, 5),
            slow_share=draw.choice((0.0, 0.12)),
        )

    def answer(self, request: int, attempt: int) -> Answer:
        """Return what one attempt gets: a matter of the seed and the arguments, never of time."""
        request_draw = random.Random(f"{self.seed} {request}")
        burst = request_draw.randint(1, self.longest_burst) if request_draw.random() < self.fault_share else 0
        attempt_draw = random.Random(f"{self.seed} {request} {attempt}")
        fast = attempt_draw.randint(*FAST_MS)
        if attempt < burst:
            return Answer(503, fast)
        return Answer(200, SLOW_MS if attempt_draw.random() < self.slow_share else fast)

    def __str__(self) -> str:
        faults = f"{self.fault_share:.0%} of the requests meet 1 to {self.longest_burst} faults in a row"
        slow = f"{self.slow_share:.0%}" if self.slow_share else "none"
        return f"{faults}; {slow} of the answers take {SLOW_MS} ms"


class Service:
    """The service itself, on an ephemeral port of 127.0.0.1, for as long as the ``with`` block lasts.

    ``GET /checkout/<request>/<attempt>`` is answered as the weather has it.
    """

    def __init__(self, weather: Weather) -> None:
        self._server = _Server(weather)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """Where the service listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # The default backlog of 5 drops the connections a burst of timeouts reopens, which costs a second each.
    request_queue_size = 128

    def __init__(self, weather: Weather) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.weather = weather

    def server_bind(self) -> None:
        # HTTPServer's own method asks for the name of the address, which may leave the machine.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride] - no other server makes these

    def do_GET(self) -> None:
        request, attempt = self.path.rsplit("/", 2)[1:]
        status, latency_ms = self.server.weather.answer(int(request), int(attempt))
        time.sleep(latency_ms / 1000)
        try:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
        except (BrokenPipeError, ConnectionResetError):
            # The client's timeout struck first, as some policies intend.
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: standard error belongs to the progress bar."""
