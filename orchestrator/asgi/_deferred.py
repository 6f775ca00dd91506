"""An application that is loaded behind its gate: the port opens first, and clients are held.

The gate tells the server at once that the lifespan is up, so that the port opens, and stands in for
the application until that can take requests. `Loading` (`_loading.py`) imports it meanwhile;
`ApplicationLifespan` runs its lifespan inside the server's. If either fails, the gate refuses
whoever is held, ends the lifespan, which leaves the orchestrator, and ends the process.
"""

import math
from collections.abc import Collection
from functools import partial
from typing import Literal, Unpack
from weakref import WeakSet

import anyio

from orchestrator._core.feed import Subscription
from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.health_answers import Workers
from orchestrator._gate.holding import HoldingOptions
from orchestrator._hardening.arguments import require
from orchestrator._hardening.log_thread import logger
from orchestrator._http.asgi_types import ASGIApp, Message, Receive, Scope, Send
from orchestrator.asgi._application_lifespan import ApplicationLifespan
from orchestrator.asgi._exit_status import end_process, tell_failed_import
from orchestrator.asgi._gate import ReadinessGate
from orchestrator.asgi._import_string import ImportString
from orchestrator.asgi._loading import Loading, Started

HOLD_SECONDS = 20.0
"""How long a request may wait while an application is loaded, by default: long enough for most
imports, and shorter than the 30 s after which the least patient of load balancers give up."""

_MOST_RETRY_SECONDS = 10
_ANSWER_SECONDS = 1.0
"""How long the process waits for the last refusals before it ends by itself."""


def deferred(
    application: str,
    startup: Orchestrator,
    *,
    import_on: Literal["thread", "loop"] = "thread",
    health: bool | ASGIApp = True,
    pod: Workers | None = None,
    **holding: Unpack[HoldingOptions],
) -> ReadinessGate:
    """A gate whose application is imported behind it: the server opens its port at once.

    Example::

        startup = Orchestrator(RedisProbe(url))
        app = deferred("chat:app", startup)

    The import, and then the application's lifespan, run beside the server. Each is a condition of
    the orchestrator, `import` and `lifespan`, and clients are held meanwhile. `/startupz` fails
    until both are done, even when the budget is spent. The orchestrator is entered and left with
    the server's lifespan. An application that cannot be loaded ends the process, with the status
    with which the server ends in that case. Where the orchestrator is disabled, the application is
    imported at once, here.

    Args:
        application: Where it is: `module:attribute`, or `module:factory()`.
        startup: The orchestrator, which is not entered yet.
        import_on: `thread` imports in a thread, so that the event loop goes on; `loop` on the event
            loop, for an application whose import needs the main thread or a running loop. Until it
            is done, nothing is answered then.
        health: As for `ReadinessGate`, but on by default.
        pod: As for `ReadinessGate`.
        **holding: As for `ReadinessGate`; `hold_seconds` is 20 if not given.

    Raises:
        AlreadyStarted: When the orchestrator is entered already.
        DuplicateCondition: When it has a condition called `import` or `lifespan`.
        LoadError: Where it is disabled: when there is no such application.
        TypeError: When an argument is of the wrong type.
        ValueError: When `application` or `import_on` are none of these.
    """
    require(startup, Orchestrator, "startup", 'write deferred("chat:app", startup)')
    where = ImportString.parse(application)
    if import_on not in ("thread", "loop"):
        raise ValueError(f"import_on is {import_on!r}; it must be 'thread' or 'loop'")
    holding = {"hold_seconds": HOLD_SECONDS, **holding}
    if not startup.enabled:
        app = where.load()
        return ReadinessGate(app, startup, manage_lifespan=True, health=health, pod=pod, **holding)
    loading = Loading(where, on_loop=import_on == "loop")
    return _DeferredGate(loading, startup, health, pod, holding)


class _DeferredGate(ReadinessGate):
    """The gate in front of what `Loading` loads."""

    def __init__(
        self,
        loading: Loading,
        startup: Orchestrator,
        health: bool | ASGIApp,
        pod: Workers | None,
        holding: HoldingOptions,
    ) -> None:
        earlier = frozenset(map(id, self._made))
        super().__init__(
            self._serve,
            startup,
            manage_lifespan=True,
            health=health,
            pod=pod,
            retry_after_seconds=(1, _MOST_RETRY_SECONDS),
            **holding,
        )
        self._retry_after.within = self._retry_within
        self._earlier: Collection[int] = earlier
        self._followed: WeakSet[Orchestrator] = WeakSet()
        self._loading = loading
        self._state: dict[str, object] | None = None
        self._status: int | str | None = None
        self._ends: anyio.Event | None = None
        loading.failed = self._import_failed
        startup.declare(*loading.conditions())
        startup.accompany(loading.run)

    def _retry_within(self) -> tuple[int, int]:
        """An import that has taken long may well take as long again."""
        if self._startup.loading is None:
            return 1, 3
        seconds = min(_MOST_RETRY_SECONDS, max(3, math.ceil(self._loading.seconds())))
        return max(1, seconds // 2), seconds

    async def _run_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._ends, self._state = anyio.Event(), scope.get("state")

        # A lifespan that ends by itself: within, as if the server had asked for its shutdown.
        async def receive_on() -> Message:
            return {"type": "lifespan.shutdown"} if ends.is_set() else await receive()

        async def send_on(message: Message) -> None:
            if not ends.is_set():
                await send(message)

        ends = self._ends
        await super()._run_lifespan(scope, receive_on, send_on)
        if ends.is_set():
            end_process(self._status)

    # -- what the gate takes for the application ---------------------------------------------------

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        loading = self._loading
        if scope["type"] == "lifespan":
            await self._run_lifespans(scope, receive, send)
        elif loading.app is None or not loading.complete:  # it passes the gate in every stage
            if scope["type"] == "websocket":
                await receive()
            seconds = self._retry_after.draw()
            await self._refusal.send(scope, send, "The service is starting.", seconds)
        else:
            state = self._state
            if state and not state.keys() <= (its := scope.get("state") or {}).keys():
                # The server has copied it while the application had not filled it yet.
                scope = {**scope, "state": {**state, **its}}
            await loading.app(scope, receive, send)

    async def _run_lifespans(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The server's lifespan, which is up at once, and beside it the application's."""
        await receive()
        its = ApplicationLifespan(self._loading, scope, self._loaded, self._fail)
        self._loading.lifespan_is(Started.ASKED)
        await send({"type": "lifespan.startup.complete"})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(its.run)
            tasks.start_soon(self._end, tasks.cancel_scope)
            await receive()
            its.shut_down()
            await its.done.wait()
            tasks.cancel_scope.cancel()
        if its.failure is not None:
            await send(its.failure)

    async def _end(self, scope: anyio.CancelScope) -> None:
        assert self._ends is not None
        await self._ends.wait()
        scope.cancel()

    # -- what can go wrong -------------------------------------------------------------------------

    async def _import_failed(self) -> None:
        error = self._loading.error
        if error is not None:
            await self._fail(tell_failed_import(self._loading.where, error))

    async def _fail(self, status: int | str | None) -> None:
        """Refuse what is held, and end the process, once the orchestrator was left if it can be."""
        self._status = status
        self._startup.stop()
        self.stop()
        with anyio.move_on_after(_ANSWER_SECONDS):
            await self._shutdown.written()
        if self._ends is not None:
            self._ends.set()
        else:
            end_process(status)

    # -- an application with a gate of its own -----------------------------------------------------

    def _loaded(self) -> None:
        """The application can take requests: look whether it has gates of its own."""
        others = {
            gate._startup  # noqa: SLF001  it is one of this class
            for gate in self._made
            if gate is not self and id(gate) not in self._earlier
        }
        for one in others - {self._startup}:
            if one in self._followed or one.never_ran_here:
                continue
            self._followed.add(one)
            logger.warning(
                "%s has a gate and an orchestrator of its own: ready needs both, and its own gate"
                " holds clients from now on; with it, the Redis here need not be asked",
                self._loading.where.module,
            )
            self._bypass = lambda _: True  # so no one is held here, and then there
            self._follow(one)
            one.accompany(partial(self._follow_events, one))

    async def _follow_events(self, one: Orchestrator, events: Subscription) -> None:
        async for _ in events:
            self._follow(one)
        self._follow(one)

    def _follow(self, one: Orchestrator) -> None:
        state = one.ended or f"its own orchestrator is in {one.stage}"
        self._loading.lifespan_is(*((Started.UP, "") if one.ready else (Started.DOWN, state)))
