"""A very small HTTP server for health endpoints and a status page.

It takes one small request without a body on each connection, and refuses everything else early:
what asks here are probes. What is answered is up to an ASGI application. A probe always finds a
place: when all are taken, the oldest connection that has not sent a whole request, or has its
answer, makes room.
"""

import anyio
from anyio.abc import SocketAttribute, SocketListener, TaskGroup, TaskStatus

from orchestrator._hardening.log_thread import Log
from orchestrator._http.asgi_types import ASGIApp
from orchestrator.health._health_connection import HealthConnection, RequestPhase

logger = Log("orchestrator.health")

_MOST_CONNECTIONS = 64
_MOST_OTHERS = 32
"""How many of them may be for other paths than health checks, such as streams that stay open."""

_PAUSE_SECONDS = 0.1
"""Between two attempts to accept a connection while the system has nothing left for one."""


class HealthServer:
    """Serves an ASGI application that answers GET and HEAD.

    Args:
        app: The application.
        listeners: Where to listen; see `open_port`. They are closed at the end.
    """

    def __init__(self, app: ASGIApp, listeners: list[SocketListener]) -> None:
        self._app = app
        self._listeners = listeners
        self._connections: dict[HealthConnection, None] = {}  # in order of arrival

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Serve until cancelled."""
        try:
            async with anyio.create_task_group() as tasks:
                for listener in self._listeners:
                    tasks.start_soon(self._accept, listener, tasks)
                task_status.started()
        finally:
            with anyio.CancelScope(shield=True):
                for listener in self._listeners:
                    await listener.aclose()

    async def _accept(self, listener: SocketListener, tasks: TaskGroup) -> None:
        failed = False
        while True:
            try:
                stream = await listener.accept()
            except ConnectionError:
                continue  # that client has gone already
            except (OSError, anyio.BrokenResourceError) as error:
                if not failed:  # no descriptor or no memory is left: say so once
                    logger.warning("cannot accept a connection: %s", error)
                failed = True
                self._make_room()
                await anyio.sleep(_PAUSE_SECONDS)
                continue
            failed = False
            if len(self._connections) >= _MOST_CONNECTIONS:
                self._make_room()
            connection = HealthConnection(stream, self.is_crowded)
            self._connections[connection] = None
            tasks.start_soon(self._talk, connection)

    def _make_room(self) -> None:
        """Let the connection go that is of the least use."""
        if self._connections:
            victim = min(self._connections, key=lambda one: one.phase)  # the oldest of these
            del self._connections[victim]
            victim.scope.cancel()

    async def _talk(self, connection: HealthConnection) -> None:
        try:
            with connection.scope:
                await connection.talk(self._app)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            pass  # the client has gone
        except OSError:
            pass  # the same, or it takes no answer: a TimeoutError is one too
        finally:
            self._connections.pop(connection, None)
            with anyio.CancelScope(shield=True):
                await connection.stream.aclose()

    def is_crowded(self) -> bool:
        """Whether all places are taken that others than health checks may take."""
        return sum(one.phase is RequestPhase.OTHER for one in self._connections) >= _MOST_OTHERS


async def open_port(host: str, port: int) -> list[SocketListener]:
    """Listen on a port.

    Args:
        host: The address to listen on; empty for all of them.
        port: The port; 0 takes a free one.

    Raises:
        OSError: When that is not possible. The text names address and port.
    """
    try:
        listeners = await anyio.create_tcp_listener(local_host=host or None, local_port=port)
    except OSError as error:
        why = error.strerror or str(error)
        text = f"cannot listen on {host or 'any address'}, port {port}: {why}"
        raise OSError(error.errno, text) from None
    found = [one for one in listeners.listeners if isinstance(one, SocketListener)]
    ports = [port_of([one]) for one in found]
    if len(set(ports)) > 1:  # older anyio: each address has a free port of its own
        await listeners.aclose()
        return await open_port(host, ports[0])
    return found


def port_of(listeners: list[SocketListener]) -> int:
    """The port that is listened on."""
    return int(listeners[0].extra(SocketAttribute.local_port))  # noqa: S610  no Django here
