"""The gate: lets clients in when the service is ready, and not before."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from random import Random
from typing import ClassVar
from weakref import WeakSet

import anyio
from anyio.abc import TaskGroup

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.face import GateFace
from orchestrator._gate.health_answers import Workers
from orchestrator._gate.health_endpoints import MountHint, asks_for_health, health_option
from orchestrator._gate.hold_queue import Outcome
from orchestrator._gate.metrics import GateMetrics
from orchestrator._gate.open_sockets import OpenSockets
from orchestrator._hardening.arguments import wrong_type
from orchestrator._http.asgi_types import (
    AnyASGIApp,
    ASGIApp,
    Receive,
    Scope,
    Send,
    route_path,
)
from orchestrator._http.health_paths import BYPASS
from orchestrator._ports import Clock
from orchestrator.asgi._bypass import passing
from orchestrator.asgi._close_watch import CloseWatch
from orchestrator.asgi._connection import Inbox, may_have_body
from orchestrator.asgi._last_response import ResponsesUnderWay, last_on_its_connection
from orchestrator.asgi._lifespan import LateStart, WithStartup, run_lifespan
from orchestrator.asgi._passage import Passage
from orchestrator.asgi._refusal import Refusal
from orchestrator.asgi._shutdown import Shutdown


class ReadinessGate(GateFace):
    """ASGI middleware that holds, admits or refuses by the stage of the start-up.

    Example::

        app = ReadinessGate(app, startup)                       # around any ASGI application
        app.add_middleware(ReadinessGate, startup=startup)      # in Starlette and FastAPI

    In `ready` requests pass. Before it they are held until the service is ready, the client
    leaves, their time is up, or the service stops. In `degraded` they are refused at once. Held
    requests are let in in order of arrival, and while `ready` is young only so many handlers work
    at the same time: the next message is handed over when there is a slot for it. A refusal is a
    503 with a jittered `Retry-After`; for a WebSocket on a server without the extension
    `websocket.http.response` it is a plain close before accept, which clients see as 403.

    One gate belongs to one process and one event loop. It may be made before either exists.

    Args:
        app: The application behind the gate.
        startup: The orchestrator.
        hold_seconds: How long a request may wait for ready; 0 refuses at once. Once the service
            is ready and the queue is moving, a request may stay in it for as long again, and for
            2 s at least.
        max_held: How many may wait at once; the next is refused at once.
        limits: How many of them may wait for a path or anything below it, such as
            `{"/chat": 100}`, so that one crowded route leaves places to the others.
        admit_degraded: Admit in `degraded` too. The application then finds the orchestrator in
            `scope["state"]["startup"]` and can ask it for the stage.
        close_on_degrade_seconds: Close the open WebSockets with 1013 when the service becomes
            degraded, each at a random moment within so many seconds. `None` leaves them open.
        websocket_only: Let HTTP requests pass in every stage.
        bypass: Paths that pass in every stage, or a function of the scope that tells. The default
            are `/livez`, `/readyz` and `/startupz`, also below `/health`; see `health_paths` for
            health endpoints mounted elsewhere. No WebSocket passes as a health check. A request for
            which the function raises does not pass.
        accept_then_close: Refuse a WebSocket by accepting it and closing it with 1013. Clients
            whose back-off ends with the first open connection then come back at once.
        manage_lifespan: Enter and leave the orchestrator with the server's lifespan, for
            applications that do not do it themselves. On a server that has no lifespan (daphne)
            it is entered with the first request.
        health: True answers `/livez`, `/readyz` and `/startupz` here; or the ASGI application
            that does, such as `health_app(startup, details=True)`.
        pod: With `health=True`: the workers of this service, which then answer `/readyz` and
            `/startupz` as one: `orchestrator.pod.Pod()`.
        release_batch: How many handlers may work at the same time while `ready` is young. Keep it
            at or below what the application can take at once, such as the size of a pool.
        retry_after_seconds: The least and the most of `Retry-After`, in whole seconds, while few
            are refused; a crowd is asked back one after the other, within 300 s.
        count_closes: Count the close codes that the application causes. Where nothing is to be
            closed either, False saves a small cost for each message of a WebSocket.
        stop_on_sigterm: Drain when SIGTERM or SIGINT arrives, as `Orchestrator.drain` says, and run
            the server's own handler then. Most servers tell an application of their shutdown only
            after every open request has ended. Repeated signals belong to the same drain; a second
            SIGINT 1 s later, or SIGQUIT, cuts it short. With a `drain_limit_seconds` of 0, and at
            SIGQUIT, only those held are refused: the server's handler runs once all responses are
            out, or 0.3 s pass without another one (longer where the event loop gets no turn), and
            after 8 s at most.
        on_admission: Called with the outcome of each request: `admitted`, `refused`, `left`,
            `overflow` or `timed_out`.
        on_close: Called with each close code that the application causes, or with
            `application_error` when it raised while the WebSocket was open.
        metrics: Measures the gate, such as `orchestrator.otel.OpenTelemetryGateMetrics`.
        clock: Where time comes from; the event loop's if not given.
        random: The source of jitter; seeded by the system if not given.

    Raises:
        TypeError: When an argument is of the wrong type, as when the first two are swapped.
        ValueError: When a number is out of range.
    """

    _made: ClassVar["WeakSet[ReadinessGate]"] = WeakSet()
    """All of this process."""

    # Every argument after the second has a name and a default; a settings object would only be
    # one more thing to import for what is one line in an application.
    def __init__(  # noqa: PLR0913  as said above
        self,
        app: AnyASGIApp,
        startup: Orchestrator,
        *,
        hold_seconds: float = 5.0,
        max_held: int = 256,
        limits: Mapping[str, int] | None = None,
        admit_degraded: bool = False,
        close_on_degrade_seconds: float | None = None,
        websocket_only: bool = False,
        bypass: Collection[str] | Callable[[Scope], bool] = BYPASS,
        accept_then_close: bool = False,
        manage_lifespan: bool = False,
        health: bool | ASGIApp = False,
        pod: Workers | None = None,
        release_batch: int = 32,
        retry_after_seconds: tuple[int, int] = (1, 3),
        count_closes: bool = True,
        stop_on_sigterm: bool = True,
        on_admission: Callable[[str], object] | None = None,
        on_close: Callable[[int | str], object] | None = None,
        metrics: GateMetrics | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        write = "write ReadinessGate(app, startup)"
        super().__init__(
            startup,
            write,
            hold_seconds=hold_seconds,
            max_held=max_held,
            limits=limits or {},
            admit_degraded=admit_degraded,
            release_batch=release_batch,
            on_admission=on_admission,
            on_close=on_close,
            metrics=metrics,
            clock=clock,
            retry_after_seconds=retry_after_seconds,
            close_on_degrade_seconds=close_on_degrade_seconds,
            random=random,
        )
        given: object = app
        if isinstance(given, Orchestrator) or not callable(given):
            raise wrong_type(given, "app", "an ASGI application", write)
        self._websocket_only = websocket_only
        self._bypass = passing(bypass)
        self._mount_hint = MountHint()
        self._late_start = LateStart(startup) if manage_lifespan else None
        self._health = health_option(startup, health, pod, admit_degraded=admit_degraded)
        self._refusal = Refusal(startup, accept_then_close=accept_then_close)
        self._wrap(app, admit_degraded=admit_degraded, count_closes=count_closes)
        # Looked up for every request.
        admission = self._admission
        self._turnstile, self._counts = admission.turnstile, admission.counts
        self._stats = admission.stats
        self._shutdown = Shutdown(startup, admission, on_signals=stop_on_sigterm)
        self._responses = ResponsesUnderWay(startup, self._in_flight.requests)
        self._made.add(self)

    def _wrap(self, app: ASGIApp, *, admit_degraded: bool, count_closes: bool) -> None:
        """The application as it is for the lifespan, for HTTP, for WebSockets, and for a bypass.

        The closes of WebSockets that bypass the gate are counted, but none is closed when degraded.
        """
        startup, admission, open_sockets = self._startup, self._admission, self._open_sockets
        self._lifespan: ASGIApp = app
        self._http: ASGIApp = WithStartup(app, startup) if admit_degraded else app
        self._websocket = self._bypassing_websocket = self._http
        report = admission.closed if count_closes else lambda _: None  # which counts nothing
        if count_closes or open_sockets.close_on_degrade or startup.policy.drain_limit_seconds:
            self._websocket = CloseWatch(self._http, report, open_sockets)
            self._bypassing_websocket = CloseWatch(self._http, report, OpenSockets(None))

    # -- requests ----------------------------------------------------------------------------------

    async def __call__(  # noqa: C901  a method for a part of it would cost every request
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Handle one connection."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._run_lifespan(scope, receive, send)
            return
        app = self._http if kind == "http" else self._websocket
        if not self._startup.ready_without_drain or self._turnstile.young:
            if kind == "http":
                send = last_on_its_connection(self._startup, scope, send)
                if may_have_body(scope):
                    await self._let_upload(scope, receive, send)
                    return
            passage = await self._when_not_ready(scope, receive, send)
            if passage is not None:
                # Here and not in a method: its frame would be kept for as long as the connection.
                with self._in_flight, passage:
                    await app(scope, passage.receive, passage.send)
            return
        if self._health and kind == "http" and asks_for_health(scope):
            await self._health(scope, receive, send)
            return
        self._counts.admitted += 1
        if self._stats.has_hook:
            self._stats.call_hook(Outcome.ADMITTED)
        in_flight = self._in_flight
        if kind == "http":
            requests, last = in_flight.requests, partial(send)  # which a drain turns into the last
            requests[last] = scope
            try:
                await app(scope, receive, last)
            finally:
                del requests[last]
                if in_flight.awaited:
                    in_flight.one_left()
            return
        # What `with in_flight` does, without its two calls.
        in_flight.entered += 1
        try:
            await app(scope, receive, send)
        finally:
            in_flight.entered -= 1
            if in_flight.awaited:
                in_flight.one_left()

    async def _run_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._late_start is None:
            await self._lifespan(scope, receive, send)
            return
        self._late_start.not_needed()
        await run_lifespan(self._lifespan, self._startup, scope, receive, send)

    async def _let_upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request with a body, of which a part may be under way when it is let in."""
        raised: Exception | None = None
        async with anyio.create_task_group() as reading:
            try:
                passage = await self._when_not_ready(scope, receive, send, reading)
                if passage is not None:
                    with self._in_flight, passage:
                        await self._http(scope, passage.receive, passage.send)
            except Exception as error:  # raised again outside, where no group is put around it
                raised = error
            reading.cancel_scope.cancel()
        if raised is not None:
            raise raised

    async def _when_not_ready(
        self, scope: Scope, receive: Receive, send: Send, reading: TaskGroup | None = None
    ) -> Passage | None:
        """Decide for one connection; handle it, or return the passage of one that is let in."""
        kind = scope["type"]
        if self._late_start is not None:
            await self._late_start.begin()
        if self._health and kind == "http" and asks_for_health(scope):
            await self._health(scope, receive, send)
        elif (self._websocket_only and kind != "websocket") or self._bypass(scope):
            app = self._bypassing_websocket if kind == "websocket" else self._http
            await app(scope, receive, send)
        else:
            self._mount_hint.warn_once(scope)
            return await self._ask(scope, receive, send, reading)
        return None

    async def _ask(
        self, scope: Scope, receive: Receive, send: Send, reading: TaskGroup | None
    ) -> Passage | None:
        self._shutdown.put_in_front()
        inbox = Inbox(receive, reading)
        with self._shutdown:
            in_line = self._refusal.shows_headers(scope)
            ticket = await self._admission.ask(
                route_path(scope), inbox.watch, inbox.at_rest, in_line=in_line
            )
            if ticket.outcome is Outcome.ADMITTED:
                visit = self._admission.visit(ticket)
                receive = receive if reading is None else inbox.receive
                return Passage(visit, inbox.kept, receive, send, uploads=reading is not None)
            if ticket.outcome is not None:
                why = self._admission.why(ticket.outcome)
                await self._refusal.answer(scope, inbox, send, why, ticket)
        return None
