"""Health endpoints on a port of their own, for a process without a web server."""

import contextlib
from collections.abc import Collection
from types import ModuleType
from typing import Self

import anyio

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._errors import AlreadyStarted
from orchestrator._gate.health_answers import Workers
from orchestrator._gate.health_endpoints import HealthApp
from orchestrator._gate.health_verdict import HealthRules
from orchestrator._hardening.arguments import MOST_PORT, require
from orchestrator._hardening.extras import needs
from orchestrator._hardening.log_thread import Log
from orchestrator._http.hosts import AllowedHosts
from orchestrator._runtime.event_loop import EventLoop, SpawnedTask
from orchestrator._runtime.fork import forget_in_child
from orchestrator._runtime.loop_thread import LoopThread
from orchestrator.health._watched_health import WatchedHealth

logger = Log("orchestrator.health")

_CLOSE_SECONDS = 2.0


class HealthPort:
    """Health endpoints on a port; `serve_health` makes one.

    `async with` serves them on the event loop that runs, `with` in a thread of its own.

    Attributes:
        port: The port that is listened on, also where 0 asked for a free one.
    """

    def __init__(self, app: HealthApp, port: int, host: str) -> None:
        self.port: int = port
        self._app = app
        self._asked = port
        self._host = host
        self._task: SpawnedTask | None = None
        self._ended: anyio.Event | None = None
        self._thread: LoopThread[Self] | None = None

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise AlreadyStarted("this health port is open already")
        server = _load_server()
        listeners = await server.open_port(self._host, self._asked)
        self.port = server.port_of(listeners)
        serving, ended = server.HealthServer(self._app, listeners), anyio.Event()
        up = _Up()

        async def main() -> None:
            try:
                await serving.run(task_status=up)
            except Exception as error:  # it is logged
                logger.error("the health port has closed by itself", error=error)

        def done() -> None:
            up.started()
            ended.set()

        # A task of its own: nothing that happens in it reaches whoever has entered.
        self._ended, self._task = ended, EventLoop().spawn(main, "startup-health-port", done)
        if self._task is None:  # the event loop is ending
            for listener in listeners:
                await listener.aclose()
        else:
            await up.event.wait()
        return self

    async def __aexit__(self, *_error: object) -> None:
        task, ended, self._task = self._task, self._ended, None
        if task is not None and ended is not None:
            task.cancel()
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await ended.wait()

    def start(self) -> Self:
        """Serve in a thread of its own, where `with` does not fit, as in a hook after a fork.

        Raises:
            AlreadyStarted: When it is open already.
        """
        if self._thread is not None:
            raise AlreadyStarted("this health port is open already; close it first")
        thread: LoopThread[Self] = LoopThread(self)
        thread.start()
        self._thread = thread
        forget_in_child(self)
        return self

    def close(self) -> None:
        """Close it again. A second call does no harm."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with contextlib.suppress(Exception):  # it has nothing to say at its end
                thread.close()

    def forked(self) -> None:
        """This process is a new one: in it, nothing serves."""
        self._thread = self._task = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.close()


class _Up:
    """Hears when the server accepts connections."""

    def __init__(self) -> None:
        self.event = anyio.Event()

    def started(self, value: None = None) -> None:
        self.event.set()


def serve_health(
    startup: Orchestrator,
    port: int = 8081,
    *,
    host: str = "",
    details: bool = False,
    drain_when_degraded: bool = False,
    admit_degraded: bool = False,
    allowed_hosts: Collection[str] | None = None,
    pod: Workers | None = None,
) -> HealthPort:
    """Serve `/livez`, `/readyz` and `/startupz` on a port, for a process without a web server.

    Example::

        async with startup, serve_health(startup, 8081):
            await work()

    In code without an event loop, `with` serves them in a thread of its own::

        with startup.run_in_thread(), serve_health(startup, 8081):
            work()

    The answers are those of `orchestrator.asgi.health_app`. In a thread of its own they also fail
    while the orchestrator's event loop has not run for 5 s. They go on after the orchestrator was
    left, and fail then. One small request is answered on each connection; whoever is slow, idle or
    sends anything else makes room for health checks.

    Args:
        startup: The orchestrator.
        port: The port; 0 takes a free one, see `HealthPort.port`.
        host: The address to listen on; empty for all, since platforms ask from outside.
        details: See `health_app`, as for all that follow.
        drain_when_degraded: See there.
        admit_degraded: See there.
        allowed_hosts: See there.
        pod: See there.

    Raises:
        ModuleNotFoundError: When it is entered without h11, which the extra `health` brings.
        OSError: When it is entered and the port cannot be used.
        TypeError: When an argument is of the wrong type.
        ValueError: When one cannot be used.
    """
    require(startup, Orchestrator, "startup", "write serve_health(startup, 8081)")
    number = require(port, int, "port", "write serve_health(startup, 8081)")
    if isinstance(number, bool) or not 0 <= number <= MOST_PORT:
        raise ValueError(f"port is {number!r}; it must be from 0 to {MOST_PORT}")
    require(host, str, "host", "write host='127.0.0.1'")
    hosts = AllowedHosts(allowed_hosts) if allowed_hosts is not None else None
    rules = HealthRules(drain_when_degraded=drain_when_degraded, admit_degraded=admit_degraded)
    answers = WatchedHealth(startup, rules, pod)
    return HealthPort(HealthApp(answers, hosts, details=details), number, host)


def _load_server() -> ModuleType:
    with needs("serve_health", "h11", "h11", "health"):
        from orchestrator.health import _health_server
    return _health_server
