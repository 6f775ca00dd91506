"""An application that is loaded behind its gate: the port opens first, and clients are held."""

import contextlib
import math
import sys
from collections.abc import Collection
from enum import Enum
from functools import partial
from types import TracebackType
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
from orchestrator.asgi._exit_status import Failed, end_process, status_of
from orchestrator.asgi._gate import ReadinessGate
from orchestrator.asgi._import_string import ImportString, LoadError
from orchestrator.asgi._loading import Loading, Started

HOLD_SECONDS = 20.0
"""How long a request may wait while an application is loaded, if nobody says: long enough for most
imports, and shorter than the 30 s after which the least patient of load balancers give up."""

_MOST_RETRY_SECONDS = 10
_ANSWER_SECONDS = 1.0
"""How long the process waits for the last refusals before it ends by itself."""

_OF_A_THREAD = (
    "no current event loop in thread",
    "no running event loop",
    "signal only works in main thread",
    "set_wakeup_fd only works in main thread",
)
"""What Python says where code needs the main thread, or a running event loop."""


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
        earlier = frozenset(map(id, self.made))
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

    # -- what the gate takes for the application ---------------------------------------------------

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        loading = self._loading
        if scope["type"] == "lifespan":
            await self._run_lifespans(scope, receive, send)
        elif loading.app is None or not loading.complete:  # it passes the gate in every stage
            if scope["type"] == "websocket":
                await receive()
            await self._refusal.send(scope, send, "The service is starting.")
        else:
            state = self._state
            if state and not state.keys() <= (its := scope.get("state") or {}).keys():
                # The server has copied it while the application had not filled it yet.
                scope = {**scope, "state": {**state, **its}}
            await loading.app(scope, receive, send)

    async def _run_lifespans(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The server's lifespan, which is up at once, and beside it the application's."""
        await receive()
        self._ends = anyio.Event()
        self._state = scope.get("state")
        its = _ApplicationLifespan(self, self._loading, scope)
        self._loading.lifespan_is(Started.ASKED)
        await send({"type": "lifespan.startup.complete"})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(its.run)
            tasks.start_soon(self._end, tasks.cancel_scope)
            await receive()
            its.shut_down()
            await its.done.wait()
            tasks.cancel_scope.cancel()
        if self._ends.is_set():
            raise SystemExit(self._status)
        if its.failure is not None:
            await send(its.failure)

    async def _end(self, scope: anyio.CancelScope) -> None:
        assert self._ends is not None  # noqa: S101  it is made first
        await self._ends.wait()
        scope.cancel()

    # -- what can go wrong -------------------------------------------------------------------------

    async def _import_failed(self) -> None:
        error = self._loading.error
        assert error is not None  # noqa: S101  that is why this is called
        failed = Failed.IMPORT
        if isinstance(error, LoadError):
            failed = Failed.FIND if error.missing_module else Failed.TAKE
            logger.error("%s", error)
        elif not isinstance(error, SystemExit):
            # As Python shows it when nobody catches it, and the server does not.
            with contextlib.suppress(Exception):
                sys.excepthook(type(error), error, _from_module(error.__traceback__))
            if any(text in str(error) for text in _OF_A_THREAD):
                logger.error(
                    "%s was imported in a thread, and needs the main thread or a running event"
                    " loop: set ORCHESTRATOR_IMPORT=loop, or deferred(..., import_on='loop')",
                    self._loading.where.module,
                )
        await self.fail(status_of(failed, error))

    async def fail(self, status: int | str | None) -> None:
        """Refuse what is held, and end the process."""
        self._status = status
        self._startup.stop()
        self.stop()
        with anyio.move_on_after(_ANSWER_SECONDS):
            await self._shutdown.written()
        await logger.aclose()
        if not end_process(status) and self._ends is not None:
            self._ends.set()

    # -- an application with a gate of its own -----------------------------------------------------

    def loaded(self) -> None:
        """The application can take requests: look whether it has gates of its own."""
        others = {
            gate._startup  # noqa: SLF001  it is one of this class
            for gate in self.made
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
            self._bypass = lambda _: True  # so nobody is held here, and then there
            self._follow(one)
            one.accompany(partial(self._follow_events, one))

    async def _follow_events(self, one: Orchestrator, events: Subscription) -> None:
        async for _ in events:
            self._follow(one)
        self._follow(one)

    def _follow(self, one: Orchestrator) -> None:
        state = one.ended or f"its own orchestrator is in {one.stage}"
        self._loading.lifespan_is(*((Started.UP, "") if one.ready else (Started.DOWN, state)))


class _Phase(Enum):
    STARTING = "it was asked to start"
    UP = "it has started"
    FAILED = "it has said that it could not start"


class _ApplicationLifespan:
    """The server's side of the application's lifespan.

    Attributes:
        failure: What it said of its shutdown, if that failed.
        done: Whether there is nothing left of it to shut down.
    """

    def __init__(self, gate: _DeferredGate, loading: Loading, scope: Scope) -> None:
        self._gate = gate
        self._loading = loading
        self._scope = scope
        self._phase = _Phase.STARTING
        self._asked = False
        self._scope_of_run = anyio.CancelScope()
        self._shut_down = anyio.Event()
        self.failure: Message | None = None
        self.done = anyio.Event()

    def shut_down(self) -> None:
        """The server has asked for the shutdown. One that has not begun never does."""
        self._shut_down.set()
        if not self._loading.imported:
            self._scope_of_run.cancel()

    async def run(self) -> None:
        """Run it, once the application is imported."""
        try:
            with self._scope_of_run:
                while not self._loading.imported:
                    await self._loading.changed()
                if self._loading.app is not None:
                    await self._run(self._loading.app)
        finally:
            self.done.set()

    async def _run(self, app: ASGIApp) -> None:
        name = self._loading.where.module
        try:
            await app({**self._scope}, self._receive, self._send)
        except Exception as error:
            if self._phase is _Phase.STARTING:
                logger.info("%s has no lifespan: it raised %s", name, type(error).__name__)
            elif self._phase is _Phase.UP:
                logger.error("the lifespan of %s ended", name, error=error)
                what = f"its lifespan ended with {type(error).__name__}"
                self._loading.lifespan_is(Started.DOWN, what)
        if self._phase is _Phase.STARTING:
            self._is_up()

    def _is_up(self) -> None:
        self._phase = _Phase.UP
        self._loading.lifespan_is(Started.UP)
        self._gate.loaded()

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._shut_down.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete" and self._phase is _Phase.STARTING:
            self._is_up()
        elif kind == "lifespan.startup.failed":
            self._phase = _Phase.FAILED
            said = message.get("message", "") or "it gave no reason"
            logger.error("the lifespan of %s failed: %s", self._loading.where.module, said)
            await self._gate.fail(status_of(Failed.START))
        elif kind == "lifespan.shutdown.failed":
            self.failure = message
        elif kind != "lifespan.shutdown.complete":
            raise RuntimeError(f"{kind!r} was sent to a lifespan: it is no message of one")


def _from_module(traceback: TracebackType | None) -> TracebackType | None:
    """Without the frames that led to the import, which are ours and Python's."""
    found = traceback
    while found is not None:
        module = found.tb_frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in ("orchestrator", "importlib", "_frozen_importlib"):
            return found
        found = found.tb_next
    return traceback
