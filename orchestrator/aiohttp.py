"""For aiohttp servers: `ReadinessGate`, a middleware.

Example::

    app = web.Application()
    ReadinessGate(startup).setup(app)

`setup` also enters the orchestrator with the application. Without it, the gate is an ordinary
middleware: `web.Application(middlewares=[ReadinessGate(startup)])`.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from http import HTTPStatus
from random import Random
from typing import Unpack

import anyio
import anyio.lowlevel

try:
    from aiohttp import web
except ModuleNotFoundError as _missing:
    if _missing.name != "aiohttp":  # it is there, and lacks something itself
        raise
    raise ModuleNotFoundError(
        "orchestrator.aiohttp needs aiohttp: install startup-orchestrator[aiohttp]", name="aiohttp"
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
from orchestrator._orchestrator import Orchestrator
from orchestrator._release import Outcome, Place
from orchestrator._tally import AdmissionCounts, Tally

__all__ = ["ReadinessGate"]

_LOOK_SECONDS = 0.1
"""How often a held request looks whether its client has left: aiohttp tells of it by no event."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Visit:
    """One request inside of the application: its place in the line, and its WebSocket."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.place: Place | None = None
        self.socket: web.WebSocketResponse | None = None

    async def close_when_degraded(self) -> None:
        if self.socket is not None and not self.socket.closed:
            self._tally.close(TRY_AGAIN_LATER)
            reason = b"The service is degraded."
            await self.socket.close(code=TRY_AGAIN_LATER, message=reason)


class ReadinessGate:
    """Middleware of aiohttp that holds, admits or refuses by the stage of the start-up.

    Args:
        startup: The orchestrator.
        bypass: Paths that pass in every stage, such as `HEALTH_PATHS` of `orchestrator.asgi`. No
            WebSocket passes as a health check.
        websocket_only: Let HTTP requests pass in every stage.
        retry_after_seconds: The least and the most of `Retry-After`, in whole seconds.
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
        require(startup, Orchestrator, "startup", "write ReadinessGate(startup)")
        self._live = live_sockets(close_on_degrade_seconds, random)
        self._startup = startup
        self._admission = Admission(startup, live=self._live, **holding)
        self._bypass = paths_of(bypass)
        self._websocket_only = websocket_only
        self._retry_after = RetryAfter(retry_after_seconds, random)
        # By the identity of the request, since what a request can keep differs between versions.
        self._visits: dict[int, _Visit] = {}

    def setup(self, app: web.Application) -> None:
        """Put the gate in front of `app`, and enter and leave the orchestrator with it."""
        app.middlewares.insert(0, self)
        app.cleanup_ctx.insert(0, self._run)
        app.on_shutdown.append(self._on_shutdown)
        app.on_response_prepare.append(self._on_prepare)

    @property
    def held(self) -> int:
        """How many requests are held now."""
        return self._admission.held

    @property
    def counts(self) -> AdmissionCounts:
        """How many requests had which outcome so far."""
        return self._admission.counts

    @property
    def closes(self) -> Counter[int | str]:
        """`application_error`: handlers that raised while a WebSocket was open. It needs `setup`.

        And 1013, what `close_on_degrade_seconds` closed. Which side chose another code, aiohttp
        does not tell.
        """
        return self._admission.closes

    def stop(self) -> None:
        """Refuse what is held, and from now on hold nothing more."""
        self._admission.stop()

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handle one request."""
        admission = self._admission
        if self._startup.ready and not admission.line.waiting:
            admission.counts.admitted += 1
            admission.tally.tell(Outcome.ADMITTED)
            return await self._handle(request, handler)
        websocket = _is_websocket(request)
        raw = request.rel_url.raw_path
        if (self._websocket_only and not websocket) or passes(
            request.path, self._bypass, raw=raw, websocket=websocket
        ):
            return await handler(request)
        place = await admission.ask(request.path, lambda place: _watch(request, place))
        if place.outcome is not Outcome.ADMITTED:
            return self._refusal(place.outcome or Outcome.REFUSED)
        try:
            return await self._handle(request, handler, place)
        finally:
            admission.line.leave(place)

    async def _handle(
        self, request: web.Request, handler: Handler, place: Place | None = None
    ) -> web.StreamResponse:
        visit = self._visits[id(request)] = _Visit(self._admission.tally)
        visit.place = place
        try:
            return await handler(request)
        except Exception:
            if visit.socket is not None and not visit.socket.closed:
                self._admission.tally.close(APPLICATION_ERROR)
            raise
        finally:
            del self._visits[id(request)]
            if self._live is not None:
                self._live.discard(visit.close_when_degraded)

    def _refusal(self, outcome: Outcome) -> web.Response:
        status = HTTPStatus.SERVICE_UNAVAILABLE
        return web.Response(
            status=status,
            body=problem(status, self._admission.why(outcome)),
            content_type=PROBLEM_JSON,
            headers={"Cache-Control": "no-store", "Retry-After": self._retry_after.draw()},
        )

    async def _on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """The handler answers: it has settled in, or will in a moment if it is a WebSocket's."""
        visit = self._visits.get(id(request))
        if visit is None:
            return  # it was let pass, or is refused
        line = self._admission.line
        if isinstance(response, web.WebSocketResponse):
            visit.socket = response
            if self._live is not None:
                self._live.add(visit.close_when_degraded)
            if visit.place is not None:
                line.accepted(visit.place)
        elif visit.place is not None:
            line.leave(visit.place)

    async def _run(self, _: web.Application) -> AsyncGenerator[None]:
        async with self._startup:
            yield

    async def _on_shutdown(self, _: web.Application) -> None:
        self.stop()
        await anyio.lowlevel.checkpoint()  # so that those held are answered at once


async def _watch(request: web.Request, place: Place) -> None:
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110  no event
        await anyio.sleep(_LOOK_SECONDS)  # see `_LOOK_SECONDS`: there is no event to wait for
    place.decide(Outcome.LEFT)


def _is_websocket(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"
