"""For servers of the `websockets` library, without ASGI: `process_request`.

Example::

    check = process_request(startup)
    options = {"process_request": check, "create_connection": check.connection}
    async with startup, serve(chat, "", 8765, **options):
        ...

`process_request` alone holds, admits and refuses, and lets held clients in as fast as the handlers
can take them. With `create_connection` it also counts closes, and closes open connections in a
drain, and on degrade where wanted. At the end, await `startup.drain()` before the server closes.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Collection
from http import HTTPStatus
from random import Random
from typing import Any, Unpack
from urllib.parse import urlsplit

import anyio

from orchestrator._hardening.extras import needs

with needs("orchestrator.websockets", "websockets", "websockets", "websockets"):
    from websockets.asyncio.server import ServerConnection
    from websockets.datastructures import Headers
    from websockets.exceptions import ConnectionClosed, ConnectionClosedOK
    from websockets.http11 import Request, Response
    from websockets.protocol import State
    from websockets.typing import Data

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.admission import Admission
from orchestrator._gate.face import GateFace, asks_for_websocket, sees_headers
from orchestrator._gate.hold_queue import Outcome, Ticket
from orchestrator._gate.holding import HoldingOptions
from orchestrator._gate.in_flight import InFlight
from orchestrator._gate.messages import Messages
from orchestrator._gate.open_sockets import Closing, OpenSockets
from orchestrator._gate.refusals import APPLICATION_ERROR
from orchestrator._gate.visit import Visit
from orchestrator._hardening.arguments import paths_of
from orchestrator._http.health_paths import passes

__all__ = ["ProcessRequest", "process_request"]

_INTERNAL_ERROR = 1011

_LOOK_SECONDS = 0.1
"""How often a held handshake looks whether the server closes, for which there is no event."""


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
        retry_after_seconds: The least and the most of `Retry-After`, in whole seconds, while few
            are refused; a crowd is asked back one after the other, within 300 s.
        close_on_degrade_seconds: Close the open connections with 1013 when the service becomes
            degraded, each at a random moment within so many seconds. `None` leaves them open.
            It needs `create_connection`.
        random: The source of jitter; seeded by the system if not given.
        **holding: How long and how many are held; see `HoldingOptions`.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When a number is out of range.
    """
    return ProcessRequest(
        startup,
        paths_of(bypass),
        retry_after_seconds=retry_after_seconds,
        close_on_degrade_seconds=close_on_degrade_seconds,
        random=random,
        **holding,
    )


class ProcessRequest(GateFace):
    """Made by `process_request`.

    Attributes:
        connection: The class for `serve(create_connection=)`.
    """

    def __init__(
        self,
        startup: Orchestrator,
        bypass: frozenset[str],
        *,
        retry_after_seconds: tuple[int, int],
        close_on_degrade_seconds: float | None,
        random: Random | None,
        **holding: Unpack[HoldingOptions],
    ) -> None:
        super().__init__(
            startup,
            "write process_request(startup)",
            retry_after_seconds=retry_after_seconds,
            close_on_degrade_seconds=close_on_degrade_seconds,
            random=random,
            **holding,
        )
        self._bypass = bypass
        gate = {
            "gate_admission": self._admission,
            "gate_in_flight": self._in_flight,
            "gate_open_sockets": self._open_sockets,
        }
        self.connection: type[ServerConnection] = type("Connection", (_Connection,), gate)

    async def __call__(self, connection: ServerConnection, request: Request) -> Response | None:
        """Let a handshake go on, or answer it with a 503."""
        path = urlsplit(request.path).path
        websocket = asks_for_websocket(request.headers)
        if passes(path, self._bypass, raw=path, websocket=websocket):
            return None
        in_line = sees_headers(request.headers)
        ticket = await self._admission.ask(
            path, lambda ticket: _watch(connection, ticket), in_line=in_line
        )
        if ticket.outcome is not Outcome.ADMITTED:
            status = HTTPStatus.SERVICE_UNAVAILABLE
            body, headers = self._refuse(ticket)
            headers |= {"Connection": "close", "Content-Length": str(len(body))}
            return Response(int(status), status.phrase, Headers(headers), body)
        if isinstance(connection, _Connection):
            connection.admitted()
        visit = self._admission.visit(ticket)
        if visit is not None:
            _Paced(connection, visit)
        return None


async def _watch(connection: ServerConnection, ticket: Ticket) -> None:
    """Notice that the client leaves, or that the server closes, which waits for all handshakes."""
    while connection.server.is_serving():
        with anyio.move_on_after(_LOOK_SECONDS):
            await connection.wait_closed()
            ticket.decide(Outcome.LEFT)
            return
    ticket.decide(Outcome.REFUSED)


class _Paced:
    """Reports what a handler does with a connection, in place of a few methods of that connection.

    The library lets a handler go on when its client leaves, and when another task closes the
    connection. So the visit ends with the task that the handler runs in, whatever becomes of the
    connection. The methods are the library's own again as soon as there is nothing to report.

    Args:
        connection: The connection, which was let in just now, in the task of its handler.
        visit: Where slots are asked for.
    """

    _METHODS = ("recv", "recv_streaming", "send", "close")

    def __init__(self, connection: ServerConnection, visit: Visit) -> None:
        self._connection = connection
        self._visit = visit
        self._messages: Messages[Data] = Messages(visit)
        self._own = {name: getattr(connection, name) for name in self._METHODS}
        vars(connection).update({name: getattr(self, name) for name in self._METHODS})
        self._task = asyncio.current_task()
        if self._task is not None:
            self._task.add_done_callback(self._end)

    # The arguments are those of the library, whatever its version.
    async def recv(self, *args: Any, **kwargs: Any) -> Data:  # as the library's
        """The next message, once there is a slot to work on it."""
        if self._messages.over:
            self._give_back()
        try:
            return await self._messages.next(lambda: self._own["recv"](*args, **kwargs))
        except ConnectionClosed:
            self._visit.client_left()
            await self._visit.turn()  # a handler has work to do when its client has left, too
            raise

    async def recv_streaming(
        self,
        *args: Any,  # as the library's
        **kwargs: Any,  # as the library's
    ) -> AsyncIterator[Data]:
        """The next message in fragments, from the first of which on there is a slot."""
        if self._messages.waiting:
            yield await self.recv()
            return
        self._visit.waits()
        async for fragment in self._own["recv_streaming"](*args, **kwargs):
            await self._visit.turn()
            self._visit.handed()
            yield fragment

    async def send(self, *args: Any, **kwargs: Any) -> None:  # as the library's
        """Send, and report it."""
        await self._own["send"](*args, **kwargs)
        self._visit.sent()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close. A handler that does so itself waits for its client, without a slot."""
        if asyncio.current_task() is not self._task:
            await self._own["close"](code, reason)
            return
        is_open = self._connection.state is State.OPEN
        if code == _INTERNAL_ERROR and is_open and not isinstance(self._connection, _Connection):
            self._visit.failed()
        self._visit.leave()
        await self._own["close"](code, reason)
        await self._visit.turn()  # it may work on

    def _end(self, _: object) -> None:
        self._messages.end()
        self._visit.leave()
        self._give_back()

    def _give_back(self) -> None:
        if self._task is not None:
            self._task.remove_done_callback(self._end)
        for name in self._METHODS:
            vars(self._connection).pop(name, None)


class _Connection(ServerConnection):
    """A connection that tells how it was closed."""

    # Set by the gate that the connection is made for.
    gate_admission: Admission
    gate_in_flight: InFlight
    gate_open_sockets: OpenSockets

    _gate_closes = False
    _gate_inside = False

    def admitted(self) -> None:
        """It was let in, in the task of its handler."""
        self.gate_open_sockets.add(self)
        if not self._gate_inside and (task := asyncio.current_task()) is not None:
            self._gate_inside = True
            self.gate_in_flight.__enter__()
            task.add_done_callback(lambda _: self.gate_in_flight.__exit__(None, None, None))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Count the code, if it is this side that closes."""
        if self.state is State.OPEN and not self._gate_closes:
            # The library closes with 1011 while it handles what a handler raised.
            raised = code == _INTERNAL_ERROR and sys.exc_info()[0] is not None
            self.gate_admission.closed(APPLICATION_ERROR if raised else int(code))
        await super().close(code, reason)

    async def close_by_gate(self, closing: Closing) -> None:
        """Close it. A client that takes nothing, not even that, is cut off."""
        if self.state is not State.OPEN:
            return
        self._gate_closes = True
        try:
            await self.close(closing.code, closing.reason)
        finally:
            if self.transport.get_write_buffer_size():
                self.transport.abort()
            else:
                self.gate_admission.closed(closing.code)

    @property
    def close_exc(self) -> ConnectionClosed:
        """What a handler gets: a close by the gate ends its loop, and is not logged as an error.

        The library (since 16) asks for it here, and takes only 1000 and 1001 for a normal end.
        """
        error = super().close_exc
        if self._gate_closes and error.rcvd is not None:
            return ConnectionClosedOK(error.rcvd, error.sent, error.rcvd_then_sent)
        return error

    def connection_lost(self, exc: Exception | None) -> None:
        """The end: there is nothing to close any more."""
        super().connection_lost(exc)
        self.gate_open_sockets.discard(self)
