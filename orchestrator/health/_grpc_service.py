"""`grpc.health.v1` on the application's own gRPC server, fed by the orchestrator.

The protocol: https://github.com/grpc/grpc/blob/master/doc/health-checking.md. `Check` is answered
at once, `Watch` by a stream that begins with the present status, and goes on with each change. Both
are generic handlers that read and write bytes: no generated code, no protobuf, and so no version of
it that the application would have to have.

A server of `grpc.aio` watches in a task for each stream, on its own event loop. A server with
threads has few of them, and a stream must not hold one: its handlers are "non-blocking", as those
of grpcio-health-checking are, and one thread of ours sends to all streams. Neither may be sent to
from the orchestrator's event loop, which only says that something may have changed.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from types import ModuleType
from typing import Any

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.health_answers import Workers
from orchestrator._gate.health_verdict import HealthRules, HealthVerdict
from orchestrator._hardening.arguments import require, require_items, wrong_type
from orchestrator._hardening.extras import needs
from orchestrator._http.grpc_health import SERVICE, ServingStatus, response_with, service_of
from orchestrator.health._watched_health import LOOK_SECONDS, WatchedHealth

_OF_PATHS = {"": "/readyz", "readiness": "/readyz", "liveness": "/livez", "startup": "/startupz"}

# grpcio has no types of its own: servers and contexts are whatever it gives.
_Grpc = Any
_RpcHandler = Callable[..., Any]
_SendStatus = Callable[[bytes | None], object]


class GrpcHealth:
    """The health service of gRPC, for servers of `grpc` and of `grpc.aio`.

    Example::

        server = grpc.aio.server()
        GrpcHealth(startup).add_to(server)

    It answers for these services; each is `SERVING` while its endpoint passes or warns:

    - `liveness`: as `/livez`.
    - `readiness`, the empty name, and those of `services`: as `/readyz`.
    - `startup`: as `/startupz`.

    For others, `Check` ends with `NOT_FOUND`, and `Watch` says `SERVICE_UNKNOWN`. A `Watch` ends
    after its last answer when the service drains or has ended, so that it does not hold up
    `server.stop(grace)`. While the orchestrator's event loop has not run for 5 s, nothing serves.

    Args:
        startup: The orchestrator.
        services: Names of your own services, for clients that check those before they use them.
        drain_when_degraded: See `orchestrator.asgi.health_app`, as for those that follow.
        admit_degraded: See there.
        pod: See there.

    Raises:
        TypeError: When an argument is of the wrong type.
    """

    def __init__(
        self,
        startup: Orchestrator,
        *,
        services: Collection[str] = (),
        drain_when_degraded: bool = False,
        admit_degraded: bool = False,
        pod: Workers | None = None,
    ) -> None:
        require(startup, Orchestrator, "startup", "write GrpcHealth(startup)")
        write = "write services=['users.v1.Users']"
        names = require_items(services, "services", "a collection of names", write)
        own = (require(name, str, "a name in services", write) for name in names)
        self._paths = {**dict.fromkeys(own, "/readyz"), **_OF_PATHS}
        rules = HealthRules(drain_when_degraded=drain_when_degraded, admit_degraded=admit_degraded)
        self._health = WatchedHealth(startup, rules, pod)
        self._streams = _Streams(self._health, self._status)

    def add_to(self, server: _Grpc) -> None:
        """Answer on this server; call it before the server is started.

        Raises:
            ModuleNotFoundError: Without grpcio, which the extra `grpc` brings.
            TypeError: When it is no server of gRPC.
        """
        grpc = _load_grpc()
        given: object = server
        check: _RpcHandler
        watch: _RpcHandler
        if isinstance(server, grpc.aio.Server):
            check, watch = self._check_aio, self._watch_aio
        elif isinstance(server, grpc.Server):
            check, watch = self._check, self._watch_streams()
        else:
            wanted = "a server of grpc or grpc.aio"
            raise wrong_type(given, "server", wanted, "give what grpc.server() returned")
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(check),
            "Watch": grpc.unary_stream_rpc_method_handler(watch),
        }
        handler = grpc.method_handlers_generic_handler(SERVICE, handlers)
        server.add_generic_rpc_handlers((handler,))

    def _status(self, service: str) -> ServingStatus:
        path = self._paths.get(service)
        if path is None:
            return ServingStatus.SERVICE_UNKNOWN
        failed = self._health.verdict(path)[0] is HealthVerdict.FAIL
        return ServingStatus.NOT_SERVING if failed else ServingStatus.SERVING

    # -- with threads ------------------------------------------------------------------------------

    def _check(self, request: bytes, context: _Grpc) -> bytes:
        return self._checked(request, context.abort)

    def _checked(self, request: bytes, abort: Callable[..., object]) -> bytes:
        """The answer to `Check`; `abort` raises."""
        grpc = _load_grpc()
        try:
            status = self._status(service_of(request))
        except ValueError:
            abort(grpc.StatusCode.INVALID_ARGUMENT, "that is no HealthCheckRequest")
            raise
        if status is ServingStatus.SERVICE_UNKNOWN:
            abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return response_with(status)

    def _watch_streams(self) -> Callable[..., Iterator[bytes] | None]:
        """The handler of `Watch`, as the server calls it that does not want to be blocked."""

        def watch(
            request: bytes, context: _Grpc, send_response_callback: _SendStatus | None = None
        ) -> Iterator[bytes] | None:
            try:
                service = service_of(request)
            except ValueError:
                context.abort(_load_grpc().StatusCode.INVALID_ARGUMENT, "no HealthCheckRequest")
                raise
            if send_response_callback is not None:
                self._streams.add(service, context, send_response_callback)
                return None
            # Behind an interceptor that passes on only what it knows, it takes a thread.
            answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
            self._streams.add(service, context, answers.put)
            return iter(answers.get, None)

        watch.experimental_non_blocking = True  # type: ignore[attr-defined]  # grpcio looks at it
        watch.experimental_thread_pool = None  # type: ignore[attr-defined]  # the same
        return watch

    # -- on an event loop --------------------------------------------------------------------------

    async def _check_aio(self, request: bytes, context: _Grpc) -> bytes:
        aborted: list[tuple[object, str]] = []

        class Aborted(Exception):
            """What `abort` would raise, if it had not to be awaited."""

        def abort(code: object, details: str) -> None:
            aborted.append((code, details))
            raise Aborted

        try:
            return self._checked(request, abort)
        except Aborted:
            await context.abort(*aborted[0])
            raise

    async def _watch_aio(self, request: bytes, context: _Grpc) -> AsyncIterator[bytes]:
        try:
            service = service_of(request)
        except ValueError:
            code = _load_grpc().StatusCode.INVALID_ARGUMENT
            await context.abort(code, "that is no HealthCheckRequest")
            raise
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the server's loop has ended
                loop.call_soon_threadsafe(changed.set)

        self._health.listeners.add(wake)
        try:
            said = None
            while True:
                changed.clear()
                final, status = self._health.is_final, self._status(service)
                if status is not said:
                    said = status
                    yield response_with(status)
                if final and status is not ServingStatus.SERVING:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), LOOK_SECONDS)
        finally:
            self._health.listeners.discard(wake)


class _Stream:
    """One `Watch` of a server with threads."""

    def __init__(self, service: str, send: _SendStatus) -> None:
        self.service = service
        self.send = send
        self.ended = False
        self.said: ServingStatus | None = None


class _Streams:
    """The open streams of servers with threads, and the thread that sends to them.

    Args:
        health: Says when a status may have changed.
        status: The status of a service.
    """

    def __init__(self, health: WatchedHealth, status: Callable[[str], ServingStatus]) -> None:
        self._health = health
        self._status = status
        self._open: set[_Stream] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._changed = threading.Event()

    def add(self, service: str, context: _Grpc, send: _SendStatus) -> None:
        """Send the status of a service at once, and each change of it."""
        stream = _Stream(service, send)
        with self._lock:
            self._open.add(stream)
            if not context.add_callback(lambda: self._drop(stream)):
                self._open.discard(stream)  # the client has gone already
                return
            self._health.listeners.add(self._changed.set)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="startup-health-watch", daemon=True
                )
                self._thread.start()
        self._changed.set()

    def _drop(self, stream: _Stream) -> None:
        with self._lock:
            self._open.discard(stream)
            first, stream.ended = not stream.ended, True
        if first:
            _send_safely(stream.send, None)
        self._changed.set()

    def _run(self) -> None:
        while True:
            self._changed.clear()
            with self._lock:
                if not self._open:
                    self._health.listeners.discard(self._changed.set)
                    self._thread = None
                    return
                streams = list(self._open)
            for stream in streams:
                self._look(stream)
            self._changed.wait(LOOK_SECONDS)

    def _look(self, stream: _Stream) -> None:
        final, status = self._health.is_final, self._status(stream.service)
        if status is not stream.said:
            stream.said = status
            _send_safely(stream.send, response_with(status))
        if final and status is not ServingStatus.SERVING:
            self._drop(stream)


def _send_safely(send: _SendStatus, answer: bytes | None) -> None:
    """Send it; a call that has ended takes nothing, and one that raises must not end the thread."""
    with contextlib.suppress(Exception):
        send(answer)


def _load_grpc() -> ModuleType:
    with needs("GrpcHealth", "grpcio", "grpc", "grpc"):
        import grpc  # type: ignore[import-untyped]  # it has no types
        import grpc.aio  # type: ignore[import-untyped]  # the same
    loaded: ModuleType = grpc
    return loaded
