"""For aiohttp servers: `ReadinessGate`, a middleware.

Example::

    app = web.Application()
    ReadinessGate(startup).setup(app)

`setup` also enters the orchestrator with the application. Without it, the gate is an ordinary
middleware: `web.Application(middlewares=[ReadinessGate(startup)])`.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from http import HTTPStatus
from random import Random
from typing import Any, Unpack

import anyio
import anyio.lowlevel

from orchestrator._hardening.extras import needs

with needs("orchestrator.aiohttp", "aiohttp", "aiohttp", "aiohttp"):
    from aiohttp import WSCloseCode, WSMessage, web

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.admission import Admission
from orchestrator._gate.face import GateFace, asks_for_websocket, sees_headers
from orchestrator._gate.hold_queue import Outcome, Ticket
from orchestrator._gate.holding import HoldingOptions
from orchestrator._gate.messages import Messages
from orchestrator._gate.open_sockets import Closing
from orchestrator._gate.refusals import APPLICATION_ERROR
from orchestrator._gate.visit import Visit
from orchestrator._hardening.arguments import paths_of
from orchestrator._http.health_paths import passes

__all__ = ["ReadinessGate"]

_LOOK_SECONDS = 0.1
"""How often a held request looks whether its client has left: aiohttp tells of it by no event."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _PacedRequest:
    """One request inside of the application: its visit, and its WebSocket.

    Args:
        request: The request.
        admission: Counts closes.
        visit: Where slots are asked for; `None` where none are needed.
    """

    # What a handler may send with, besides what these call themselves.
    _SENDS = ("send_str", "send_bytes", "send_frame")

    def __init__(self, request: web.Request, admission: Admission, visit: Visit | None) -> None:
        self._request = request
        self._admission = admission
        self._visit = visit
        self._socket: web.WebSocketResponse | None = None

    def opened(self, socket: web.WebSocketResponse) -> None:
        """The handler has a WebSocket; report what it does with it."""
        self._socket = socket
        if self._visit is not None:
            self._messages: Messages[WSMessage] = Messages(self._visit)
            self._receive, self._close = socket.receive, socket.close
            vars(socket).update(receive=self._receive_in_turn, close=self._close_and_report)
            for name in self._SENDS:
                vars(socket)[name] = self._reported(getattr(socket, name))

    def answered(self) -> None:
        """The handler has begun to answer."""
        if self._visit is not None:
            self._visit.sent()

    def failed(self, error: Exception) -> None:
        """The handler has raised; an error that only says that its client has left is none."""
        transport = self._request.transport
        gone = transport is None or transport.is_closing()
        if self._is_open() and not gone:
            self._admission.closed(APPLICATION_ERROR)
        elif not isinstance(error, web.HTTPException) and not (
            gone and isinstance(error, ConnectionError)
        ):
            self._admission.turnstile.failed()

    def leave(self) -> None:
        """The handler has ended."""
        if self._visit is not None:
            if self._socket is not None:
                self._visit.client_left()  # or the handler has closed, which aiohttp does not tell
                self._messages.end()
            self._visit.leave()
            self._give_back()

    async def close_by_gate(self, closing: Closing) -> None:
        if self._socket is None or self._socket.closed:
            return
        transport = self._request.transport
        try:
            await self._socket.close(code=closing.code, message=closing.reason.encode())
        finally:
            if transport is None or not transport.get_write_buffer_size():
                self._admission.closed(closing.code)
            else:
                transport.abort()  # its client takes nothing: neither the close nor what was before

    # The arguments are those of aiohttp, whatever its version.
    async def _receive_in_turn(self, *args: Any, **kwargs: Any) -> WSMessage:  # as aiohttp's
        if self._messages.over:
            self._give_back()
        return await self._messages.next(lambda: self._receive(*args, **kwargs))

    async def _close_and_report(self, **kwargs: Any) -> bool:  # as aiohttp's
        if kwargs.get("code") == WSCloseCode.INTERNAL_ERROR and self._is_open():
            self._admission.turnstile.failed()
        return await self._close(**kwargs)

    def _reported(self, send: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def send_and_report(*args: Any, **kwargs: Any) -> None:  # as aiohttp's
            await send(*args, **kwargs)
            self.answered()

        return send_and_report

    def _is_open(self) -> bool:
        return self._socket is not None and not self._socket.closed

    def _give_back(self) -> None:
        """Let the WebSocket have its own methods again."""
        self._visit = None
        if self._socket is not None:
            for name in ("receive", "close", *self._SENDS):
                vars(self._socket).pop(name, None)


class ReadinessGate(GateFace):
    """Middleware of aiohttp that holds, admits or refuses by the stage of the start-up.

    Args:
        startup: The orchestrator.
        bypass: Paths that pass in every stage, such as `HEALTH_PATHS` of `orchestrator.asgi`. No
            WebSocket passes as a health check.
        websocket_only: Let HTTP requests pass in every stage.
        retry_after_seconds: The least and the most of `Retry-After`, in whole seconds, while few
            are refused; a crowd is asked back one after the other, within 300 s.
        close_on_degrade_seconds: Close the open WebSockets with 1013 when the service becomes
            degraded, each at a random moment within so many seconds. `None` leaves them open.
            It needs `setup`.
        random: The source of jitter; seeded by the system if not given.
        **holding: How long and how many are held; see `HoldingOptions`.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When a number is out of range.
    """

    __middleware_version__ = 1  # by which aiohttp knows a middleware

    def __init__(
        self,
        startup: Orchestrator,
        *,
        bypass: Collection[str] = (),
        websocket_only: bool = False,
        retry_after_seconds: tuple[int, int] = (1, 3),
        close_on_degrade_seconds: float | None = None,
        random: Random | None = None,
        **holding: Unpack[HoldingOptions],
    ) -> None:
        super().__init__(
            startup,
            "write ReadinessGate(startup)",
            retry_after_seconds=retry_after_seconds,
            close_on_degrade_seconds=close_on_degrade_seconds,
            random=random,
            **holding,
        )
        self._bypass = paths_of(bypass)
        self._websocket_only = websocket_only
        # By the identity of the request, since what a request can keep differs between versions.
        self._calls: dict[int, _PacedRequest] = {}

    def setup(self, app: web.Application) -> None:
        """Put the gate in front of `app`, and enter and leave the orchestrator with it."""
        app.middlewares.insert(0, self)
        app.cleanup_ctx.insert(0, self._run)
        app.on_shutdown.append(self._on_shutdown)
        app.on_response_prepare.append(self._on_prepare)

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handle one request."""
        admission = self._admission
        if self._startup.ready and not admission.turnstile.young:
            admission.counts.admitted += 1
            admission.stats.call_hook(Outcome.ADMITTED)
            return await self._handle(request, handler, None)
        websocket = asks_for_websocket(request.headers)
        raw = request.rel_url.raw_path
        if (self._websocket_only and not websocket) or passes(
            request.path, self._bypass, raw=raw, websocket=websocket
        ):
            return await handler(request)
        in_line = sees_headers(request.headers)
        ticket = await admission.ask(
            request.path, lambda ticket: _watch(request, ticket), in_line=in_line
        )
        if ticket.outcome is not Outcome.ADMITTED:
            body, headers = self._refuse(ticket)
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, body=body, headers=headers)
        return await self._handle(request, handler, admission.visit(ticket))

    async def _handle(
        self, request: web.Request, handler: Handler, visit: Visit | None
    ) -> web.StreamResponse:
        call = self._calls[id(request)] = _PacedRequest(request, self._admission, visit)
        try:
            with self._in_flight:
                return await handler(request)
        except Exception as error:
            call.failed(error)
            raise
        finally:
            del self._calls[id(request)]
            call.leave()
            self._open_sockets.discard(call)

    async def _on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        if self._startup.draining and not isinstance(response, web.WebSocketResponse):
            response.force_close()
            response.headers["Connection"] = "close"  # they are prepared already
        call = self._calls.get(id(request))
        if call is None:
            return  # it was let pass, or is refused
        if isinstance(response, web.WebSocketResponse):
            call.opened(response)
            self._open_sockets.add(call)
        else:
            call.answered()

    async def _run(self, _: web.Application) -> AsyncGenerator[None]:
        async with self._startup:
            yield

    async def _on_shutdown(self, _: web.Application) -> None:
        # The port is closed already, so that there is nothing to announce any more.
        await self._startup.drain("the server's shutdown", announce=False)
        self.stop()
        await anyio.lowlevel.checkpoint()  # so that those held are answered at once


async def _watch(request: web.Request, ticket: Ticket) -> None:
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110  no event
        await anyio.sleep(_LOOK_SECONDS)  # see `_LOOK_SECONDS`: there is no event to wait for
    ticket.decide(Outcome.LEFT)
