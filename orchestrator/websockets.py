"""For servers of the `websockets` library, without ASGI: `process_request`.

Example::

    check = process_request(startup)
    options = {"process_request": check, "create_connection": check.connection}
    async with startup, serve(chat, "", 8765, **options):
        ...

`process_request` alone holds, admits and refuses. With `create_connection` it also counts closes,
closes open connections on degrade where wanted, and lets held clients in as fast as the handlers
can take them.
"""

import sys
from collections import Counter
from collections.abc import Collection
from http import HTTPStatus
from random import Random
from typing import Any, Unpack
from urllib.parse import urlsplit

import anyio

try:
    from websockets.asyncio.server import ServerConnection
    from websockets.datastructures import Headers
    from websockets.http11 import Request, Response
    from websockets.protocol import State
except ModuleNotFoundError as _missing:
    if _missing.name != "websockets":  # it is there, and lacks something itself
        raise
    raise ModuleNotFoundError(
        "orchestrator.websockets needs websockets: install startup-orchestrator[websockets]",
        name="websockets",
    ) from None

from orchestrator._admission import Admission, HoldingOptions, live_sockets
from orchestrator._answers import (
    APPLICATION_ERROR,
    PROBLEM_JSON,
    TRY_AGAIN_LATER,
    RetryAfter,
    problem,
)
from orchestrator._arguments import paths_of, require
from orchestrator._health_paths import passes
from orchestrator._live import LiveSockets
from orchestrator._orchestrator import Orchestrator
from orchestrator._release import Outcome, Place
from orchestrator._tally import AdmissionCounts

__all__ = ["ProcessRequest", "process_request"]

_INTERNAL_ERROR = 1011

_LOOK_SECONDS = 0.1
"""How often a held handshake looks whether the server closes, of which it is told by no event."""


def process_request(
    startup: Orchestrator,
    *,
    bypass: Collection[str] = (),
    retry_after_seconds: tuple[int, int] = (1, 3),
    close_on_degrade_seconds: float | None = None,
    random: Random | None = None,
    **holding: Unpack[HoldingOptions],
) -> "ProcessRequest":
    """The gate for `websockets.asyncio.server.serve(process_request=)`.

    The server's `open_timeout` (10 s) must be longer than twice `hold_seconds` (5 s), which is the
    longest that a handshake can be held.

    Args:
        startup: The orchestrator. Enter it around the server.
        bypass: Paths that pass in every stage. No WebSocket passes as a health check.
        retry_after_seconds: The least and the most of `Retry-After`, in whole seconds.
        close_on_degrade_seconds: Close the open connections with 1013 when the service becomes
            degraded, each at a random moment within so many seconds. `None` leaves them open.
            It needs `create_connection`.
        random: The source of jitter; seeded by the system if not given.
        **holding: How long and how many are held; see `HoldingOptions`.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When a number is out of range.
    """
    require(startup, Orchestrator, "startup", "write process_request(startup)")
    live = live_sockets(close_on_degrade_seconds, random)
    admission = Admission(startup, live=live, **holding)
    return ProcessRequest(
        admission, paths_of(bypass), RetryAfter(retry_after_seconds, random), live
    )


class ProcessRequest:
    """Made by `process_request`.

    Attributes:
        connection: The class for `serve(create_connection=)`.
    """

    def __init__(
        self,
        admission: Admission,
        bypass: frozenset[str],
        retry_after: RetryAfter,
        live: LiveSockets | None,
    ) -> None:
        self._admission = admission
        self._bypass = bypass
        self._retry_after = retry_after
        self.connection: type[ServerConnection] = _connection_class(admission, live)

    @property
    def held(self) -> int:
        """How many handshakes are held now."""
        return self._admission.held

    @property
    def counts(self) -> AdmissionCounts:
        """How many handshakes had which outcome so far."""
        return self._admission.counts

    @property
    def closes(self) -> Counter[int | str]:
        """The close codes that the application caused so far; it needs `create_connection`.

        `application_error` counts handlers that raised, whose clients see 1011.
        """
        return self._admission.closes

    def stop(self) -> None:
        """Refuse what is held, and from now on hold nothing more."""
        self._admission.stop()

    async def __call__(self, connection: ServerConnection, request: Request) -> Response | None:
        """Let a handshake go on, or answer it with a 503."""
        path = urlsplit(request.path).path
        websocket = request.headers.get("Upgrade", "").lower() == "websocket"
        if passes(path, self._bypass, raw=path, websocket=websocket):
            return None
        place = await self._admission.ask(path, lambda place: _watch(connection, place))
        if place.outcome is not Outcome.ADMITTED:
            return self._refusal(place.outcome or Outcome.REFUSED)
        if isinstance(connection, _Connection):
            connection.admitted(place)
        # The handler begins at once. What it needs to settle in is known to `_Connection` only.
        self._admission.line.accepted(place)
        return None

    def _refusal(self, outcome: Outcome) -> Response:
        status = HTTPStatus.SERVICE_UNAVAILABLE
        body = problem(status, self._admission.why(outcome))
        headers = Headers(
            {
                "Connection": "close",
                "Content-Type": PROBLEM_JSON,
                "Content-Length": str(len(body)),
                "Cache-Control": "no-store",
                "Retry-After": self._retry_after.draw(),
            }
        )
        return Response(int(status), status.phrase, headers, body)


async def _watch(connection: ServerConnection, place: Place) -> None:
    """Notice that the client leaves, or that the server closes, which waits for all handshakes."""
    while connection.server.is_serving():
        with anyio.move_on_after(_LOOK_SECONDS):
            await connection.wait_closed()
            place.decide(Outcome.LEFT)
            return
    place.decide(Outcome.REFUSED)


class _Connection(ServerConnection):
    """A connection that tells when its handler has settled in, and how it was closed."""

    # Set by `_connection_class`.
    gate_admission: Admission
    gate_live: LiveSockets | None

    _gate_place: Place | None = None

    def admitted(self, place: Place) -> None:
        """It was let in."""
        self._gate_place = place
        if self.gate_live is not None:
            self.gate_live.add(self.close_when_degraded)

    # The arguments are those of the library, whatever its version.
    async def recv(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  as the library's
        """Receiving: what had to be set up is set up."""
        self._settled()
        return await super().recv(*args, **kwargs)

    async def send(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  as the library's
        """Anything that is sent is a sign of life."""
        await super().send(*args, **kwargs)
        self._settled()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Count the code, if it is this side that closes."""
        if self.state is State.OPEN:
            # The library closes with 1011 while it handles what a handler raised.
            raised = code == _INTERNAL_ERROR and sys.exc_info()[0] is not None
            self.gate_admission.tally.close(APPLICATION_ERROR if raised else int(code))
        await super().close(code, reason)

    async def close_when_degraded(self) -> None:
        """Close with 1013; the library counts on from there."""
        await self.close(TRY_AGAIN_LATER, "The service is degraded.")

    def connection_lost(self, exc: Exception | None) -> None:
        """The end: give back what is still taken."""
        super().connection_lost(exc)
        self._settled()
        if self.gate_live is not None:
            self.gate_live.discard(self.close_when_degraded)

    def _settled(self) -> None:
        if self._gate_place is not None:
            self.gate_admission.line.leave(self._gate_place)
            self._gate_place = None


def _connection_class(admission: Admission, live: LiveSockets | None) -> type[ServerConnection]:
    class Connection(_Connection):
        gate_admission = admission
        gate_live = live

    return Connection
