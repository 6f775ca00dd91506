"""The lifespan of an application that is loaded behind its gate, beside that of the server."""

from collections.abc import Awaitable, Callable
from enum import Enum

import anyio

from orchestrator._hardening.log_thread import logger
from orchestrator._http.asgi_types import ASGIApp, Message, Scope
from orchestrator.asgi._exit_status import Failed, status_of
from orchestrator.asgi._loading import Loading, Started


class _LifespanPhase(Enum):
    STARTING = "it was asked to start"
    UP = "it has started"
    FAILED = "it reported that it could not start"


class ApplicationLifespan:
    """The server's side of the application's lifespan.

    Args:
        loading: What is loaded.
        scope: The server's scope.
        up: Called when the application has started, or has no lifespan.
        fail: Called with an exit status when it could not start.

    Attributes:
        failure: What it said of its shutdown, if that failed.
        done: Whether there is nothing left of it to shut down.
    """

    def __init__(
        self,
        loading: Loading,
        scope: Scope,
        up: Callable[[], object],
        fail: Callable[[int | str | None], Awaitable[object]],
    ) -> None:
        self._loading = loading
        self._up, self._fail = up, fail
        self._scope = scope
        self._phase = _LifespanPhase.STARTING
        self._asked = False
        self._running = anyio.CancelScope()
        self._shut_down = anyio.Event()
        self.failure: Message | None = None
        self.done = anyio.Event()

    def shut_down(self) -> None:
        """The server has asked for the shutdown. One that has not begun never does."""
        self._shut_down.set()
        if not self._loading.imported:
            self._running.cancel()

    async def run(self) -> None:
        """Run it, once the application is imported."""
        try:
            with self._running:
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
        except SystemExit as error:
            await self._fail(error.code)
        except Exception as error:
            if self._phase is _LifespanPhase.STARTING:
                logger.info("%s has no lifespan: it raised %s", name, type(error).__name__)
            elif self._phase is _LifespanPhase.UP:
                logger.error("the lifespan of %s ended", name, error=error)
                what = f"its lifespan ended with {type(error).__name__}"
                self._loading.lifespan_is(Started.DOWN, what)
        if self._phase is _LifespanPhase.STARTING:
            self._is_up()

    def _is_up(self) -> None:
        self._phase = _LifespanPhase.UP
        self._loading.lifespan_is(Started.UP)
        self._up()

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._shut_down.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete" and self._phase is _LifespanPhase.STARTING:
            self._is_up()
        elif kind == "lifespan.startup.failed":
            self._phase = _LifespanPhase.FAILED
            said = message.get("message", "") or "it gave no reason"
            logger.error("the lifespan of %s failed: %s", self._loading.where.module, said)
            await self._fail(status_of(Failed.START))
        elif kind == "lifespan.shutdown.failed":
            self.failure = message
        elif kind != "lifespan.shutdown.complete":
            raise RuntimeError(f"{kind!r} was sent to a lifespan, and is not a lifespan message")
