"""The gate: lets clients in when the service is ready, and not before."""

import contextlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Collection
from random import Random
from typing import Literal

import anyio

from orchestrator._clock import LoopClock
from orchestrator._errors import NotRunning
from orchestrator._orchestrator import Orchestrator
from orchestrator._ports import Clock
from orchestrator.asgi._connection import CloseWatch, Entry, Inbox
from orchestrator.asgi._health import HEALTH_PATHS, health_app, recovering
from orchestrator.asgi._lifespan import STATE_KEY, run_lifespan
from orchestrator.asgi._refusal import Refusal, reason
from orchestrator.asgi._release import Line, Outcome, Place
from orchestrator.asgi._tally import AdmissionCounts, Tally
from orchestrator.asgi._types import ASGIApp, Receive, RetryAfter, Scope, Send, route_path
from states import Stage, StageChanged

logger = logging.getLogger("orchestrator")

_READY = Stage.READY  # looked up for every request


class ReadinessGate:
    """ASGI middleware that holds, admits or refuses by the stage of the start-up.

        app = ReadinessGate(app, startup)                       # around any ASGI application
        app.add_middleware(ReadinessGate, startup=startup)      # in Starlette and FastAPI

    In `ready` requests pass. Before it they are held, until ready, the client's leaving, their
    limit or shutdown, whichever comes first. In `degraded` they are refused at once. Held requests
    are let in in order of arrival and a few at a time; later ones do not overtake them. A refusal
    is a 503 with a jittered `Retry-After`; for a WebSocket on a server without the extension
    `websocket.http.response` it is a plain close before accept, which clients see as 403.

    One gate belongs to one process and one event loop. It may be made before either exists.

    Args:
        app: The application behind the gate.
        startup: The orchestrator.
        hold_seconds: How long a request may wait for ready; 0 refuses at once. Once the service
            is ready and the line is moving, a request may stay in it for as long again.
        max_held: How many may wait at once; the next is refused at once.
        admit_degraded: Admit in `degraded` too. The application then finds the orchestrator in
            `scope["state"]["startup"]` and can ask it for the stage.
        websocket_only: Let HTTP requests pass in every stage.
        bypass: Paths that pass in every stage, or a function of the scope that tells.
        accept_then_close: Refuse a WebSocket by accepting it and closing it with 1013. Clients
            whose back-off ends with the first open connection then come back at once.
        manage_lifespan: Enter and leave the orchestrator with the server's lifespan, for
            applications that do not do it themselves.
        health: True answers `/livez`, `/readyz` and `/startupz` here; or the ASGI application
            that does, such as `health_app(startup, details=True)`.
        release_batch: How many held requests may be entering the application at the same time.
            Keep it below what the application can take at once, such as the size of a pool.
        retry_after_seconds: The least and the most of `Retry-After`, in whole seconds.
        count_closes: Count the close codes that the application causes. False saves a small cost
            for each message of a WebSocket.
        on_admission: Called with the outcome of each request: `admitted`, `refused`, `left`,
            `overflow` or `timed_out`.
        on_close: Called with each close code that the application causes, or with
            `application_error` when it raised while the WebSocket was open.
        clock: Where time comes from; the event loop's if not given.
        random: The source of jitter; seeded by the system if not given.

    Raises:
        ValueError: When a number is out of range.
    """

    # Every argument after the second has a name and a default; a settings object would only be
    # one more thing to import for what is one line in an application.
    def __init__(  # noqa: PLR0913
        self,
        app: ASGIApp,
        startup: Orchestrator,
        *,
        hold_seconds: float = 5.0,
        max_held: int = 256,
        admit_degraded: bool = False,
        websocket_only: bool = False,
        bypass: Collection[str] | Callable[[Scope], bool] = HEALTH_PATHS,
        accept_then_close: bool = False,
        manage_lifespan: bool = False,
        health: bool | ASGIApp = False,
        release_batch: int = 32,
        retry_after_seconds: tuple[int, int] = (1, 3),
        count_closes: bool = True,
        on_admission: Callable[[str], object] | None = None,
        on_close: Callable[[int | str], object] | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        _check("hold_seconds", hold_seconds, 0)
        _check("max_held", max_held, 0)
        _check("release_batch", release_batch, 1)
        self._app = app
        self._startup = startup
        self._hold_seconds = hold_seconds
        self._max_held = max_held
        self._admit_degraded = admit_degraded
        self._websocket_only = websocket_only
        self._bypass = bypass if callable(bypass) else _bypass_paths(bypass)
        self._manage_lifespan = manage_lifespan
        if health is True:
            health = health_app(startup, admit_degraded=admit_degraded)
        self._health: ASGIApp | Literal[False] = health
        self._clock: Clock = clock or LoopClock()
        self._refusal = Refusal(
            RetryAfter(retry_after_seconds, random), accept_then_close=accept_then_close
        )
        self._line = Line(release_batch, self._is_open, self._clock)
        self._tally = Tally(on_admission, on_close)
        inside: ASGIApp = _WithStartup(app, startup) if admit_degraded else app
        self._inside = CloseWatch(inside, self._tally.close) if count_closes else inside
        self._stopped = False
        self._warned = False
        startup.on(*Stage)(self._follow)

    # -- what is the case --------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """How many requests are held now."""
        return len(self._line.waiting)

    @property
    def counts(self) -> AdmissionCounts:
        """How many requests had which outcome so far."""
        return self._tally.counts

    @property
    def closes(self) -> Counter[int | str]:
        """The WebSocket close codes that the application caused so far.

        `application_error` counts exceptions while a WebSocket was open; servers turn them into
        1011, 1006 or 1000, each in its own way.
        """
        return self._tally.closes

    def stop(self) -> None:
        """Refuse what is held, and from now on hold nothing more.

        It happens by itself when the orchestrator is left. Some servers announce a shutdown to the
        application only after every open HTTP request has ended; call this from their shutdown
        hook to end held requests at once.
        """
        self._stopped = True
        self._line.turn_away()

    # -- requests ----------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        kind = scope["type"]
        if kind == "lifespan":
            if self._manage_lifespan:
                await run_lifespan(self._app, self._startup, scope, receive, send)
            else:
                await self._app(scope, receive, send)
        elif self._health and kind == "http" and route_path(scope) in HEALTH_PATHS:
            await self._health(scope, receive, send)
        elif self._startup.stage is _READY and not self._line.waiting:
            self._tally.admitted()
            await self._inside(scope, receive, send)
        elif (self._websocket_only and kind != "websocket") or self._bypass(scope):
            await self._inside(scope, receive, send)
        else:
            await self._decide(scope, Inbox(receive), send)

    async def _decide(self, scope: Scope, inbox: Inbox, send: Send) -> None:
        if self._is_open() and not self._line.waiting:
            self._tally.admitted()
            await self._inside(scope, inbox.receive, send)
        elif self._refuses_at_once():
            await self._turn_away(Outcome.REFUSED, scope, inbox, send)
        elif self.held >= self._max_held:
            await self._turn_away(Outcome.OVERFLOW, scope, inbox, send)
        else:
            place = self._line.join()
            try:
                outcome = await self._hold(place, inbox)
                if outcome is Outcome.ADMITTED:
                    self._tally.admitted()
                    entry = Entry(self._line, place, inbox.receive, send)
                    await self._inside(scope, entry.receive, entry.send)
                else:
                    await self._turn_away(outcome, scope, inbox, send)
            finally:
                self._line.leave(place)

    async def _hold(self, place: Place, inbox: Inbox) -> Outcome:
        """Wait for the first of: admitted or refused by the line, the client's leaving, time."""
        self._tally.counts.held += 1
        limit = self._clock.now() + self._hold_seconds
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(inbox.watch, place)
            with self._clock.cancel_at(limit):
                await place.decided.wait()
            if place.outcome is None and self._is_open():
                # Ready already, and only its turn has not come yet.
                with self._clock.cancel_at(limit + self._hold_seconds):
                    await place.decided.wait()
            tasks.cancel_scope.cancel()
        outcome = place.decide(Outcome.TIMED_OUT)
        if outcome is not Outcome.ADMITTED:
            self._line.leave(place)  # before the refusal is sent, which may take its time
        return outcome

    async def _turn_away(self, outcome: Outcome, scope: Scope, inbox: Inbox, send: Send) -> None:
        self._tally.admission(outcome)
        if outcome is Outcome.TIMED_OUT:
            self._warn_if_not_entered()
        if inbox.error is not None:
            raise inbox.error
        if outcome is Outcome.LEFT or not await inbox.may_answer(scope):
            if scope["type"] == "websocket":
                # Some servers log an error for an application that returns without an answer. The
                # client is gone, and whatever else they may raise now is of no consequence.
                with contextlib.suppress(Exception):
                    await send({"type": "websocket.close"})
            return
        why = reason(outcome, self._startup.stage, stopped=self._stopped)
        await self._refusal.send(scope, send, why)

    def _warn_if_not_entered(self) -> None:
        if self._startup.stage is Stage.BOOTING and not self._startup.running and not self._warned:
            self._warned = True
            logger.warning(
                "a request was held for %g s and then refused, and the orchestrator is not entered"
                " yet; does the application use lifespan=lifespan(startup), or the gate"
                " manage_lifespan=True?",
                self._hold_seconds,
            )

    # -- the stage ---------------------------------------------------------------------------------

    def _is_open(self) -> bool:
        """Whether requests are let in: by the stage as it is now, not by the last event seen."""
        stage = self._startup.stage
        if stage is Stage.READY or not self._startup.enabled:
            return True
        return self._admit_degraded and (stage is Stage.DEGRADED or recovering(self._startup))

    def _refuses_at_once(self) -> bool:
        degraded = self._startup.stage is Stage.DEGRADED
        return self._stopped or (degraded and not self._admit_degraded)

    async def _follow(self, _: StageChanged) -> None:
        """Called with the first event, and runs in the orchestrator's own task until it is left.

        So there is one subscriber for all that are held, and its end tells of the shutdown.
        """
        if self._stopped:
            return
        try:
            events = self._startup.subscribe()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._line.run)
                async for _ in events:
                    if self._refuses_at_once():
                        self._line.turn_away()
                    else:
                        self._line.advance()
                tasks.cancel_scope.cancel()
        except NotRunning:
            pass  # left before this task ran for the first time
        finally:
            self.stop()


class _WithStartup:
    """Puts the orchestrator into the state of each request, unless the lifespan has done so."""

    def __init__(self, app: ASGIApp, startup: Orchestrator) -> None:
        self._app = app
        self._startup = startup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.get("state") or {}
        if state.get(STATE_KEY) is not self._startup:
            scope = {**scope, "state": {**state, STATE_KEY: self._startup}}
        await self._app(scope, receive, send)


def _check(name: str, value: float, least: int) -> None:
    if not least <= value < math.inf:
        raise ValueError(f"{name} is {value!r}; it must be a number of {least} or more")


def _bypass_paths(paths: Collection[str]) -> Callable[[Scope], bool]:
    if isinstance(paths, str):
        raise ValueError(f"bypass must be a collection of paths: write [{paths!r}]")
    passing = frozenset(paths)
    return lambda scope: route_path(scope) in passing
