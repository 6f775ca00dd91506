"""`process_request` under a real server of the `websockets` library, with real clients."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus

from orchestrator import Stage
from orchestrator.websockets import ProcessRequest, process_request
from tests.asgi.gate_support import Refused, Startup, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the library runs on nothing else


async def echo(connection: ServerConnection) -> None:
    assert connection.request is not None
    if connection.request.path == "/crash":
        raise RuntimeError("a crash that was ordered")
    if connection.request.path == "/4000":
        await connection.close(4000)
    async for _ in connection:
        await connection.send("pong")


@asynccontextmanager
async def a_server(
    check: ProcessRequest,
    handler: Any = echo,  # a handler
    *,
    whole: bool = True,
) -> AsyncGenerator[int]:
    """Yields the port. `whole` means with `create_connection`."""
    options: dict[str, Any] = {"create_connection": check.connection} if whole else {}
    options |= {"backlog": 4096, "open_timeout": 60}
    async with serve(handler, "127.0.0.1", 0, process_request=check, **options) as server:
        yield next(iter(server.sockets)).getsockname()[1]


def connect(port: int, path: str = "/") -> websockets.connect:
    return websockets.connect(f"ws://127.0.0.1:{port}{path}", proxy=None, open_timeout=20)


async def ping(port: int, path: str = "/") -> str:
    try:
        async with connect(port, path) as client:
            await client.send("ping")
            return str(await client.recv())
    except InvalidStatus as error:
        return str(error.response.status_code)
    except websockets.ConnectionClosed as error:
        return str(error.rcvd.code if error.rcvd else 1006)


@pytest.mark.parametrize("whole", [True, False])
async def test_those_who_came_too_early_are_served(whole: bool) -> None:
    async with Startup() as startup:
        check = process_request(startup)
        async with a_server(check, whole=whole) as port:
            clients = [asyncio.create_task(ping(port)) for _ in range(50)]
            await until(lambda: check.held == 50)
            startup.make_ready()
            assert Counter(await asyncio.gather(*clients)) == {"pong": 50}
            assert await ping(port) == "pong"
    assert (check.counts.held, check.counts.admitted) == (50, 51)
    assert not check.closes


async def test_no_websocket_is_a_health_check() -> None:
    async with Refused(permanent=True) as startup:
        await startup.wait_for(Stage.DEGRADED)
        paths = ["/livez", "/open/readyz", "/open"]
        async with a_server(process_request(startup, bypass=paths)) as port:
            assert [await ping(port, path) for path in paths] == ["503", "503", "pong"]


async def test_after_the_stop_new_handshakes_are_refused() -> None:
    async with Startup() as startup, a_server(process_request(startup)) as port:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        async with connect(port) as inside:
            startup.stop()
            assert await ping(port) == "503"
            await inside.send("ping")
            assert await inside.recv() == "pong"


async def test_a_refusal_as_a_client_sees_it() -> None:
    async with Refused(permanent=True) as startup:
        await startup.wait_for(Stage.DEGRADED)
        async with a_server(process_request(startup, bypass=["/open"])) as port:
            with pytest.raises(InvalidStatus) as refused:
                await connect(port, "/?token=1")
            response = refused.value.response
            assert response.status_code == 503
            assert response.headers["Retry-After"] in ("1", "2", "3")
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["Content-Type"] == "application/problem+json"
            assert b'"title":"Service Unavailable"' in (response.body or b"")
            assert await ping(port, "/open") == "pong"


async def test_degraded_admits_where_wanted() -> None:
    async with Refused(permanent=True) as startup:
        await startup.wait_for(Stage.DEGRADED)
        async with a_server(process_request(startup, admit_degraded=True)) as port:
            assert await ping(port) == "pong"


async def test_limits_of_time_and_number() -> None:
    async with Startup() as startup:
        check = process_request(startup, hold_seconds=0.3, max_held=2, limits={"/chat": 1})
        async with a_server(check) as port:
            held = [asyncio.create_task(ping(port, path)) for path in ("/chat/1", "/")]
            await until(lambda: check.held == 2)
            assert await ping(port) == "503"
            assert await asyncio.gather(*held) == ["503", "503"]
            held = [asyncio.create_task(ping(port, "/chat/1"))]
            await until(lambda: check.held == 1)
            assert await ping(port, "/chat/2") == "503"
            await held[0]
    assert (check.counts.overflow, check.counts.timed_out) == (2, 3)


async def test_a_client_that_leaves_frees_its_place() -> None:
    async with Startup() as startup:
        check = process_request(startup)
        async with a_server(check) as port:
            client = asyncio.create_task(ping(port))
            await until(lambda: check.held == 1)
            client.cancel()
            await until(lambda: check.held == 0)
    assert check.counts.left == 1


@pytest.mark.parametrize("whole", [True, False])
async def test_closing_the_server_does_not_wait_for_those_who_are_held(whole: bool) -> None:
    async with Startup() as startup:
        check = process_request(startup, hold_seconds=8)
        async with a_server(check, whole=whole) as port:
            client = asyncio.create_task(ping(port))
            await until(lambda: check.held == 1)
            began_at = time.monotonic()
        assert time.monotonic() - began_at < 4
        assert await client == "503"


async def test_closes_are_counted_as_what_they_were() -> None:
    async with Startup() as startup:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        check = process_request(startup)
        async with a_server(check) as port:
            assert await ping(port, "/crash") == "1011"
            assert await ping(port, "/4000") == "4000"
            assert await ping(port) == "pong"  # closed by the client
        assert check.closes == {"application_error": 1, 4000: 1}


async def test_open_connections_are_closed_when_degraded() -> None:
    async with Startup() as startup:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        check = process_request(startup, close_on_degrade_seconds=0.1)
        async with a_server(check) as port:
            clients = [await connect(port) for _ in range(10)]
            gone = await connect(port)
            await gone.close()
            startup.lose()
            for client in clients:
                await client.wait_closed()
                assert client.close_code == 1013
        assert check.closes == {1013: 10}


class Pool:
    """Accepts, then needs one of a few connections for a while, or closes with 1011."""

    def __init__(self, size: int) -> None:
        self.free = size

    async def __call__(self, connection: ServerConnection) -> None:
        if not self.free:
            raise RuntimeError("no connection is free")
        self.free -= 1
        await asyncio.sleep(0.02)
        self.free += 1
        await echo(connection)


async def test_a_crowd_is_let_in_at_the_pace_of_the_handlers() -> None:
    async with Startup() as startup:
        check = process_request(startup, max_held=200, hold_seconds=20)
        async with a_server(check, Pool(50)) as port:
            clients = [asyncio.create_task(ping(port)) for _ in range(200)]
            await until(lambda: check.held == 200)
            startup.make_ready()
            assert Counter(await asyncio.gather(*clients)) == {"pong": 200}
    assert not check.closes


# -- slots while `ready` is young ------------------------------------------------------------------


class TwoForOneSlot:
    """Two clients that were held, of which the second waits for the slot of the first.

    Attributes:
        begun: The paths whose handlers have begun to work, in order.
        connections: The server's side, by path.
        may_end: Until when the handlers work that are not given.
    """

    def __init__(self, first: Any = None, *, whole: bool = False) -> None:  # a handler
        self.begun: list[str] = []
        self.connections: dict[str, ServerConnection] = {}
        self.may_end = {path: asyncio.Event() for path in ("/first", "/second")}
        self._first = first
        self._whole = whole

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        path = connection.request.path
        self.connections[path] = connection
        self.begun.append(path)
        if path == "/first" and self._first is not None:
            await self._first(connection)
        else:
            await self.may_end[path].wait()

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[websockets.ClientConnection]:
        """Yields the first client, once its handler has begun."""
        async with Startup() as startup:
            self.check = process_request(startup, release_batch=1)
            async with a_server(self.check, self._handle, whole=self._whole) as port:
                clients = []
                for path in self.may_end:
                    clients.append(asyncio.ensure_future(connect(port, path).__aenter__()))
                    await until(lambda: self.check.held == len(clients))
                startup.make_ready()
                yield await clients[0]
                self.may_end["/first"].set()
                self.may_end["/second"].set()
                for client in clients:
                    await (await client).close()

    async def until_first_waits_for_a_slot(self) -> None:
        await until(lambda: bool(self.check._admission.turnstile._turns))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("kicked", [True, False])
async def test_a_handler_keeps_its_slot_whoever_ends_its_connection(
    kicked: bool, whole: bool
) -> None:
    clients = TwoForOneSlot(whole=whole)
    async with clients.run() as first:
        if kicked:
            await clients.connections["/first"].close()
        else:
            first.transport.abort()
            await clients.connections["/first"].wait_closed()
        await asyncio.sleep(0.05)  # nothing may happen now
        assert clients.begun == ["/first"]
        clients.may_end["/first"].set()
        await until(lambda: clients.begun == ["/first", "/second"])


async def test_a_handler_that_closes_waits_without_a_slot_and_works_on_with_one() -> None:
    async def first(connection: ServerConnection) -> None:
        await connection.close()
        clients.begun.append("works on")

    clients = TwoForOneSlot(first)
    async with clients.run():
        await clients.until_first_waits_for_a_slot()
        assert clients.begun == ["/first", "/second"]
        clients.may_end["/second"].set()
        await until(lambda: clients.begun == ["/first", "/second", "works on"])


async def test_a_handler_whose_client_has_left_works_with_a_slot() -> None:
    async def first(connection: ServerConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            await connection.recv()
        clients.begun.append("cleans up")

    clients = TwoForOneSlot(first)
    async with clients.run() as client:
        await until(lambda: clients.begun == ["/first", "/second"])
        await client.close()
        await clients.until_first_waits_for_a_slot()
        clients.may_end["/second"].set()
        await until(lambda: clients.begun == ["/first", "/second", "cleans up"])


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_message_outlives_a_receive_that_gave_up_and_its_client(streaming: bool) -> None:
    got: list[object] = []
    limits: list[asyncio.Timeout] = []

    async def first(connection: ServerConnection) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as limit:
                limits.append(limit)
                got.append(await connection.recv())
        await connection.wait_closed()
        clients.may_end["/second"].set()
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                if streaming:
                    got.extend([fragment async for fragment in connection.recv_streaming()])
                else:
                    got.append(await connection.recv())

    clients = TwoForOneSlot(first)
    async with clients.run() as client:
        await until(lambda: clients.begun == ["/first", "/second"])
        await client.send("one")
        await client.send("two")
        await clients.until_first_waits_for_a_slot()
        limits[0].reschedule(asyncio.get_running_loop().time())
        await client.close()
        await until(lambda: got == ["one", "two"])


@pytest.mark.parametrize("cancelled", [True, False])
async def test_two_tasks_that_receive_at_once_get_a_message_each(cancelled: bool) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def first(connection: ServerConnection) -> None:
        tasks.append(asyncio.create_task(connection.recv()))
        await clients.until_first_waits_for_a_slot()
        tasks.append(asyncio.create_task(connection.recv()))
        await asyncio.sleep(0)
        if cancelled:
            tasks[0].cancel()
        clients.may_end["/second"].set()
        await asyncio.wait(tasks)

    clients = TwoForOneSlot(first)
    async with clients.run() as client:
        await until(lambda: len(tasks) == 1)
        await until(lambda: clients.begun == ["/first", "/second"])
        await client.send("one")
        await client.send("two")
        await until(lambda: len(tasks) == 2 and all(task.done() for task in tasks))
    if cancelled:
        assert tasks[0].cancelled()
        assert tasks[1].result() == "one"
    else:
        assert [task.result() for task in tasks] == ["one", "two"]


@pytest.mark.parametrize("whole", [True, False])
async def test_each_handler_that_fails_is_counted_once_against_more_slots(
    whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[int] = []
    async with Startup() as startup:
        check = process_request(startup)
        monkeypatch.setattr(check._admission.turnstile, "failed", lambda: failures.append(1))
        async with a_server(check, whole=whole) as port:
            startup.make_ready()
            await startup.wait_for(Stage.READY)
            assert check._admission.turnstile.young
            assert await ping(port, "/crash") == "1011"
            assert len(failures) == 1
            assert await ping(port, "/4000") == "4000"
            assert await ping(port) == "pong"
            assert len(failures) == 1
