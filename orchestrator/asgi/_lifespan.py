"""Running the orchestrator for as long as the application runs.

Nothing here waits for ready: most servers open their port only after the lifespan's start-up, and
then no one could be held or answered, or learn why. The gate decides instead, request by request.
"""

import contextlib
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import Enum
from typing import Any

import anyio

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._errors import OrchestratorError
from orchestrator._hardening.arguments import require, wrong_type
from orchestrator._hardening.log_thread import logger
from orchestrator._http.asgi_types import ASGIApp, Message, Receive, Scope, Send
from orchestrator._runtime.event_loop import EventLoop

STATE_KEY = "startup"
"""Where the orchestrator is in the ASGI state: `request.state.startup` in Starlette."""

# The application's type is the framework's business, and so are the values of its state.
Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]
InnerLifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]

_SHUTDOWN = "the server shuts down"


def lifespan(startup: Orchestrator, inner: InnerLifespan | None = None) -> Lifespan:
    """A lifespan for Starlette and FastAPI that enters the orchestrator and returns at once.

    Example::

        app = FastAPI(lifespan=lifespan(startup))

    `request.state.startup` is the orchestrator then.

    Args:
        startup: The orchestrator.
        inner: The application's own lifespan. It runs inside: conditions can be set in it, and
            what it yields is kept.

    Raises:
        TypeError: When `startup` is no orchestrator, or `inner` is not the function but what it
            returned.
    """
    require(startup, Orchestrator, "startup", "write lifespan(startup, inner)")
    if inner is not None:
        _check_inner(inner)

    @asynccontextmanager
    async def run(app: object) -> AsyncGenerator[Mapping[str, Any]]:
        _warn_of_dropped(app)
        async with startup:
            if inner is None:
                yield {STATE_KEY: startup}
            else:
                async with inner(app) as state:
                    try:
                        yield {**(state or {}), STATE_KEY: startup}
                    except BaseException as error:
                        startup.stop(f"the lifespan ended with {type(error).__name__}")
                        raise
                    finally:
                        startup.stop(_SHUTDOWN)  # the inner tasks end now, which is no outage

    return run


def _warn_of_dropped(app: object) -> None:
    """Name the functions that Starlette and FastAPI do not call, since there is a lifespan."""
    router = getattr(app, "router", None)
    for event in ("startup", "shutdown"):
        registered = getattr(router, f"on_{event}", None)
        if not isinstance(registered, list | tuple) or not registered:
            continue
        called = list(_called(getattr(router, "lifespan_context", None), f"on_{event}", set()))
        dropped = [one for one in registered if one not in called]
        if dropped:
            logger.warning(
                'not called, since the application has a lifespan: on_event("%s") %s; call them in'
                " a lifespan of your own: lifespan=lifespan(startup, inner)",
                event,
                ", ".join(getattr(one, "__name__", type(one).__name__) for one in dropped),
            )


def _called(context: object, name: str, seen: set[int]) -> Iterator[object]:
    """What is called all the same: FastAPI merges the lifespans of included routers into one."""
    if id(context) in seen:
        return
    seen.add(id(context))
    yield from getattr(getattr(context, "_router", None), name, ())
    function = getattr(context, "__wrapped__", context)
    for cell in getattr(function, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # an empty cell
            if callable(cell.cell_contents):
                yield from _called(cell.cell_contents, name, seen)


def _check_inner(inner: InnerLifespan) -> None:
    given: object = inner
    write = "give the function itself, as in lifespan(startup, inner)"
    if isinstance(given, Coroutine):
        given.close()  # it was never going to be awaited, and need not be warned of
    # What such a function returns can often be called itself, as a decorator.
    called = hasattr(type(given), "__aenter__") and not isinstance(given, type)
    if called or not callable(given):
        raise wrong_type(given, "inner", "a function of the application", write)
    if inspect.isasyncgenfunction(given) or inspect.iscoroutinefunction(given):
        raise TypeError("inner must return a context manager: decorate it with asynccontextmanager")


class LateStart:
    """Enters the orchestrator with the first request, on a server that knows no lifespan.

    It is left when the event loop ends: such a server tells of no end.

    Args:
        startup: The orchestrator.
    """

    def __init__(self, startup: Orchestrator) -> None:
        self._startup = startup
        self._needed = True
        self._loop: EventLoop | None = None
        self._begun = anyio.Event()

    def not_needed(self) -> None:
        """The server has a lifespan."""
        self._needed = False

    async def begin(self) -> None:
        """Enter the orchestrator, unless that was done already on this event loop."""
        if not self._needed or not self._startup.never_ran_here:
            return
        if self._loop is None or self._loop.ended:
            logger.info("the server has no lifespan: the orchestrator starts with a request")
            self._loop, self._begun = EventLoop(), anyio.Event()
            # Not in the task of the request, whose client may leave meanwhile.
            self._loop.spawn(self._enter, "startup-orchestrator start")
        await self._begun.wait()

    async def _enter(self) -> None:
        try:
            await self._startup.start()
        except Exception as error:  # it is logged, and requests are refused
            logger.error("the orchestrator could not be entered", error=error)
        finally:
            self._begun.set()


async def run_lifespan(
    app: ASGIApp, startup: Orchestrator, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer a `lifespan` scope with the orchestrator around the application.

    The application's own lifespan runs inside, if it has one; an application that does not know
    the scope is tolerated, as servers do.
    """
    inner = _PhasedLifespan(app, startup, await receive(), receive, send)
    if "state" in scope:
        scope["state"][STATE_KEY] = startup
    try:
        async with startup:
            await inner.run(scope)
    except Exception as error:
        failure = inner.failure or _failure(inner.phase, error)
        if failure is not None:
            await send(failure)
        raise
    await send(inner.failure or {"type": "lifespan.shutdown.complete"})


class _Phase(Enum):
    ENTERING = "the orchestrator is being entered"
    STARTING = "the application starts"
    RUNNING = "the server knows that the start-up is complete"
    STOPPING = "the server has asked for the shutdown"
    FAILED = "the application has said that it failed"


def _failure(phase: _Phase, error: Exception) -> Message | None:
    """What the server gets of an error. `None` while it asks nothing: it sees the error then."""
    asked = {_Phase.ENTERING: "startup", _Phase.STOPPING: "shutdown"}.get(phase)
    if asked is None:
        return None
    # The text of an exception may hold a secret, unless we wrote it ourselves.
    text = f": {error}" if isinstance(error, OrchestratorError) else ""
    what = f"the startup orchestrator ended with {type(error).__name__}{text}"
    return {"type": f"lifespan.{asked}.failed", "message": what}


class _PhasedLifespan:
    """The application's lifespan, inside of ours.

    Args:
        app: The application.
        startup: The orchestrator, which is entered before `run`.
        first: The server's message that asks for the start-up; the application gets it.
        receive: The server's `receive`.
        send: The server's `send`.

    Attributes:
        phase: How far it is.
        failure: The `failed` message of the application. Servers end once they have it, so it is
            sent on after the orchestrator was left.
    """

    def __init__(
        self, app: ASGIApp, startup: Orchestrator, first: Message, receive: Receive, send: Send
    ) -> None:
        self._app = app
        self._startup = startup
        self._first: Message | None = first
        self._receive, self._send = receive, send
        self.phase = _Phase.ENTERING
        self.failure: Message | None = None

    async def run(self, scope: Scope) -> None:
        """Run it from start-up to shutdown, or wait in its place if there is none."""
        self.phase = _Phase.STARTING
        try:
            await self._app(scope, self.receive, self.send)
        except Exception as error:
            if self.phase is not _Phase.STARTING:
                raise
            logger.info("the application has no lifespan: it raised %s", type(error).__name__)
        if self.phase is _Phase.STARTING:
            await self.send({"type": "lifespan.startup.complete"})
        while self.phase is _Phase.RUNNING:
            await self.receive()

    async def receive(self) -> Message:
        """The start-up message, which was taken before, then the server's."""
        if self._first is not None:
            message, self._first = self._first, None
            return message
        message = await self._receive()
        if message["type"] == "lifespan.shutdown":
            self.phase = _Phase.STOPPING
            self._startup.stop(_SHUTDOWN)  # the application's tasks end now, which is no outage
        return message

    async def send(self, message: Message) -> None:
        """Pass messages on, but those that end the lifespan only when all of it has ended."""
        kind = message["type"]
        if kind in ("lifespan.startup.failed", "lifespan.shutdown.failed"):
            self.phase, self.failure = _Phase.FAILED, message
        elif kind != "lifespan.shutdown.complete":
            # An application that does not look at the scope sends something else; the server raises
            # then, as it would without us, and that tells the application apart.
            await self._send(message)
            if kind == "lifespan.startup.complete" and self.phase is _Phase.STARTING:
                self.phase = _Phase.RUNNING


class WithStartup:
    """Puts the orchestrator into the state of each request, unless the lifespan has done so."""

    def __init__(self, app: ASGIApp, startup: Orchestrator) -> None:
        self._app = app
        self._startup = startup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.get("state") or {}
        if state.get(STATE_KEY) is not self._startup:
            scope = {**scope, "state": {**state, STATE_KEY: self._startup}}
        await self._app(scope, receive, send)
