"""The server of health endpoints on real sockets: probes are answered, whatever others do."""

import errno
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from orchestrator import Orchestrator
from orchestrator._http.asgi_types import Receive, Scope, Send
from orchestrator._http.responses import respond
from orchestrator.asgi import health_app
from orchestrator.health import _health_connection, _health_server
from orchestrator.health._health_server import HealthServer, open_port, port_of
from orchestrator.testing import ScriptedProbe
from tests.asgi.gate_support import until

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60.0
PROBE = (
    b"GET /livez HTTP/1.1\r\nHost: 10.1.2.3:8081\r\nUser-Agent: kube-probe/1.31\r\n"
    b"Accept: */*\r\nConnection: close\r\n\r\n"
)
HOST = b"Host: x\r\n\r\n"


class Service:
    """A health application, and beside it `/hang` and `/broken`."""

    def __init__(self) -> None:
        self._health = health_app(Orchestrator(ScriptedProbe()))
        self.scopes: list[Scope] = []
        self.hanging = 0
        self.left = 0
        self.port = 0
        self.server: HealthServer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["path"] == "/hang":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            self.hanging += 1
            await receive()
            await receive()
            self.hanging -= 1
            self.left += 1
        elif scope["path"] == "/broken":
            raise RuntimeError("a fault that was ordered")
        elif scope["path"] == "/half":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise RuntimeError("a fault that was ordered")
        elif scope["path"] == "/large":
            body = b"x" * 10_000_000
            await respond(send, HTTPStatus.OK, body)
        else:
            await self._health(scope, receive, send)

    @property
    def clients(self) -> int:
        return len(self.server._connections)


def fail_to_accept(listener: anyio.abc.SocketListener, errors: list[OSError]) -> None:
    """Let the next connections fail as the system would."""
    accept = listener.accept

    async def failing() -> anyio.abc.SocketStream:
        stream = await accept()
        if errors:
            await stream.aclose()
            raise errors.pop()
        return stream

    listener.accept = failing  # type: ignore[method-assign]  # the system's part


@asynccontextmanager
async def serving(
    host: str = "127.0.0.1", accept_errors: list[OSError] | None = None
) -> AsyncGenerator[Service]:
    service = Service()
    listeners = await open_port(host, 0)
    if accept_errors:
        fail_to_accept(listeners[0], accept_errors)
    service.port = port_of(listeners)
    service.server = HealthServer(service, listeners)
    async with anyio.create_task_group() as tasks:
        await tasks.start(service.server.run)
        yield service
        tasks.cancel_scope.cancel()


async def told(stream: anyio.abc.SocketStream) -> bytes:
    """All that comes until the other side has closed."""
    parts = []
    with anyio.fail_after(PATIENCE_SECONDS):
        try:
            while True:
                parts.append(await stream.receive())
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return b"".join(parts)


async def ask(service: Service, *parts: bytes, host: str = "127.0.0.1") -> bytes:
    """Send these parts, each in a packet of its own, and read the answer."""
    async with await anyio.connect_tcp(host, service.port) as stream:
        for part in parts:
            await stream.send(part)
            await anyio.lowlevel.checkpoint()
        return await told(stream)


def status_of(answer: bytes) -> int:
    version, status, _ = answer.split(b" ", 2)
    assert version == b"HTTP/1.1"
    assert b"\r\nconnection: close\r\n" in answer.lower()
    return int(status)


WHOLE = {
    "a kubelet's probe": PROBE,
    "HTTP/1.0": b"GET /livez HTTP/1.0\r\n\r\n",
    "HTTP/1.0 with keep-alive": b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "keep-alive": b"GET /livez HTTP/1.1\r\nConnection: keep-alive\r\n" + HOST,
    "a query": b"GET /livez?verbose=1&x=%2F HTTP/1.1\r\n" + HOST,
    "absolute form": b"GET http://x/livez HTTP/1.1\r\n" + HOST,
    "absolute form, in capitals": b"GET HTTP://X:8081/livez?y HTTP/1.1\r\n" + HOST,
    "absolute form of https": b"GET https://x/livez HTTP/1.1\r\n" + HOST,
    "an empty line before": b"\r\nGET /livez HTTP/1.1\r\n" + HOST,
    "empty lines before": b"\r\n\n\r\n\r\nGET /livez HTTP/1.1\r\n" + HOST,
    "bare line feeds": b"GET /livez HTTP/1.1\nHost: x\n\n",
    "no spaces in headers": b"GET /livez HTTP/1.1\r\nHost:x\r\n\r\n",
    "letters that are encoded": b"GET /%6Civez HTTP/1.1\r\n" + HOST,
    "an empty body that is said": b"GET /livez HTTP/1.1\r\nContent-Length: 0\r\n" + HOST,
    "bytes of Latin 1 in a header": b"GET /livez HTTP/1.1\r\nX: \xe9\r\n" + HOST,
    "an upgrade that is offered": b"GET /livez HTTP/1.1\r\nUpgrade: h2c\r\n" + HOST,
    "an expectation without a body": b"GET /livez HTTP/1.1\r\nExpect: 100-continue\r\n" + HOST,
}


@pytest.mark.parametrize("request_", WHOLE.values(), ids=WHOLE.keys())
async def test_a_request_is_answered_however_it_is_cut(request_: bytes) -> None:
    async with serving() as service:
        middle = len(request_) // 2
        for parts in ([request_], [request_[:middle], request_[middle:]]):
            answer = await ask(service, *parts)
            assert status_of(answer) == 200
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == "pass"
        answer = await ask(service, *(bytes([one]) for one in request_))
        assert status_of(answer) == 200


async def test_the_host_of_an_absolute_form_is_the_one_that_counts() -> None:
    async with serving() as service:
        await ask(service, b"GET http://one:1/livez HTTP/1.1\r\nA: b\r\nHost: two\r\n\r\n")
        assert service.scopes[-1]["headers"] == [(b"host", b"one:1"), (b"a", b"b")]
        assert await ask(service, b"GET http://one HTTP/1.1\r\n" + HOST)
        assert service.scopes[-1]["path"] == "/"


async def test_head_has_the_headers_of_get_and_no_body() -> None:
    async with serving() as service:
        got = await ask(service, PROBE)
        head = await ask(service, PROBE.replace(b"GET", b"HEAD"))
        assert head == got.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        for path, status in {b"/nothing": 404, b"/broken": 500}.items():
            answer = await ask(service, b"HEAD " + path + b" HTTP/1.1\r\n" + HOST)
            assert status_of(answer) == status
            assert answer.endswith(b"\r\n\r\n")


BROKEN = {
    "no host": (b"GET /livez HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /livez HTTP/1.1\r\nHost: a\r\n" + HOST, 400),
    "no version": (b"GET /livez\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "a version to come": (b"GET /livez HTTP/2.0\r\n" + HOST, 505),
    "a version of old": (b"GET /livez HTTP/0.9\r\n" + HOST, 505),
    "a body": (b"POST /livez HTTP/1.1\r\nContent-Length: 5\r\n" + HOST + b"hello", 413),
    "a body of a GET": (b"GET /livez HTTP/1.1\r\nContent-Length: 5\r\n" + HOST + b"hello", 413),
    "chunks": (b"POST /livez HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST, 413),
    "two lengths": (
        b"GET /livez HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 1\r\n" + HOST,
        400,
    ),
    "no length": (b"GET /livez HTTP/1.1\r\nContent-Length: x\r\n" + HOST, 400),
    "another method": (b"DELETE /livez HTTP/1.1\r\n" + HOST, 405),
    "a tunnel": (b"CONNECT x:443 HTTP/1.1\r\n" + HOST, 400),
    "an asterisk": (b"OPTIONS * HTTP/1.1\r\n" + HOST, 400),
    "no path": (b"GET livez HTTP/1.1\r\n" + HOST, 400),
    "a path with a space": (b"GET /li vez HTTP/1.1\r\n" + HOST, 400),
    "another path": (b"GET /nothing HTTP/1.1\r\n" + HOST, 404),
    "an encoded slash": (b"GET /%2Flivez HTTP/1.1\r\n" + HOST, 404),
    "a header that is none": (b"GET /livez HTTP/1.1\r\nbad header\r\n" + HOST, 400),
    "a NUL": (b"GET /livez HTTP/1.1\r\nA: \x00\r\n" + HOST, 400),
    "a huge header": (b"GET /livez HTTP/1.1\r\nA: " + b"x" * 20_000 + b"\r\n" + HOST, 431),
    "many headers": (b"GET /livez HTTP/1.1\r\n" + b"A: b\r\n" * 5_000 + HOST, 431),
    "a huge path": (b"GET /" + b"x" * 100_000, 431),
    "nothing but empty lines": (b"\r\n" * 10_000, 431),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500, 400),
    "Redis": (b"*1\r\n$4\r\nPING\r\n\r\n", 400),
}


@pytest.mark.parametrize(("request_", "status"), BROKEN.values(), ids=BROKEN.keys())
async def test_what_is_no_request_for_it_is_refused(request_: bytes, status: int) -> None:
    async with serving() as service:
        assert status_of(await ask(service, request_)) == status
        assert status_of(await ask(service, PROBE)) == 200


async def test_a_real_tls_client_is_refused_at_once() -> None:
    async with serving() as service:
        context = ssl.create_default_context()
        with pytest.raises(ssl.SSLError), anyio.fail_after(PATIENCE_SECONDS):
            await anyio.connect_tcp("127.0.0.1", service.port, ssl_context=context)


async def test_only_the_first_of_pipelined_requests_is_answered() -> None:
    async with serving() as service:
        answer = await ask(service, PROBE * 3)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert status_of(answer) == 200


async def test_a_client_that_has_said_all_gets_its_answer() -> None:
    async with serving() as service, await anyio.connect_tcp("127.0.0.1", service.port) as stream:
        await stream.send(PROBE)
        await stream.send_eof()
        assert status_of(await told(stream)) == 200


@pytest.mark.parametrize("part", [b"", b"\r\n", b"GET /liv", PROBE[:-2]])
async def test_a_client_that_leaves_in_between_frees_its_place(part: bytes) -> None:
    async with serving() as service:
        for reset in (False, True):
            stream = await anyio.connect_tcp("127.0.0.1", service.port)
            if part:
                await stream.send(part)
            await until(lambda: service.clients == 1)
            if reset:
                raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)  # noqa: S610  no Django here
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await stream.aclose()
            await until(lambda: service.clients == 0)
        assert status_of(await ask(service, PROBE)) == 200


async def test_one_that_drips_its_request_is_told_when_its_time_is_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_health_connection, "_CLIENT_SECONDS", 0.5)
    async with (
        serving() as service,
        await anyio.connect_tcp("127.0.0.1", service.port) as stream,
        anyio.create_task_group() as tasks,
    ):

        async def drip() -> None:
            while True:
                await stream.send(b"A")
                await anyio.sleep(0.01)

        await stream.send(b"GET /livez HTTP/1.1\r\n")
        tasks.start_soon(drip)
        with anyio.fail_after(PATIENCE_SECONDS):
            assert (await stream.receive()).startswith(b"HTTP/1.1 408 ")
        tasks.cancel_scope.cancel()


async def fill(service: Service, many: int, sent: bytes, stack: AsyncExitStack) -> None:
    for _ in range(many):
        stream = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", service.port))
        if sent:
            await stream.send(sent)


IDLE = {
    "nothing": b"",
    "an empty line": b"\r\n",
    "half a request": b"GET /livez HTTP/1.1\r\nHost: x\r\n",
    "a request, and it does not close": PROBE,
    "a stream": b"GET /hang HTTP/1.1\r\n" + HOST,
    "something large that it does not read": b"GET /large HTTP/1.1\r\n" + HOST,
}


@pytest.mark.parametrize("sent", IDLE.values(), ids=IDLE.keys())
async def test_a_probe_finds_a_place_among_many_others(sent: bytes) -> None:
    many = 40 if sent == IDLE["something large that it does not read"] else 150
    async with serving() as service, AsyncExitStack() as stack:
        for _ in range(10):
            await fill(service, many // 10, sent, stack)
            for _ in range(3):
                assert status_of(await ask(service, PROBE)) == 200
            assert service.clients <= _health_server._MOST_CONNECTIONS


async def test_probes_are_answered_while_others_come_as_fast_as_they_can() -> None:
    async with serving() as service, anyio.create_task_group() as tasks:
        came = 0

        async def flood() -> None:
            nonlocal came
            async with AsyncExitStack() as stack:
                for _ in range(50):
                    await fill(service, 1, b"GET /", stack)
                    came += 1

        for _ in range(5):
            tasks.start_soon(flood)
        answered = 0
        while came < 250:
            assert status_of(await ask(service, PROBE)) == 200
            answered += 1
        assert answered
        tasks.cancel_scope.cancel()


async def test_the_oldest_without_a_whole_request_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_health_server, "_MOST_CONNECTIONS", 3)
    async with serving() as service, AsyncExitStack() as stack:
        streams = []
        for sent in (b"GET /hang HTTP/1.1\r\n" + HOST, b"GET /", b"GET /"):
            streams.append(await anyio.connect_tcp("127.0.0.1", service.port))
            stack.push_async_callback(streams[-1].aclose)
            await streams[-1].send(sent)
        await until(lambda: service.clients == 3 and service.hanging == 1)
        newcomer = await anyio.connect_tcp("127.0.0.1", service.port)
        stack.push_async_callback(newcomer.aclose)
        assert await told(streams[1]) == b""  # the older of the two
        await newcomer.send(PROBE)
        assert status_of(await told(newcomer)) == 200
        await streams[2].send(b"livez HTTP/1.1\r\n" + HOST)
        assert status_of(await told(streams[2])) == 200
        assert service.hanging == 1


async def test_others_than_probes_get_half_of_the_places() -> None:
    async with serving() as service, AsyncExitStack() as stack:
        await fill(service, 32, b"GET /hang HTTP/1.1\r\n" + HOST, stack)
        await until(lambda: service.hanging == 32)
        for path in (b"/hang", b"/nothing"):
            assert status_of(await ask(service, b"GET " + path + b" HTTP/1.1\r\n" + HOST)) == 503
        assert status_of(await ask(service, PROBE)) == 200
        # What asks for one condition is a probe, too; nothing was asked of Redis yet.
        for path, status in ((b"/readyz/redis", 503), (b"/readyz/no%2Fsuch%20thing", 404)):
            answer = await ask(service, b"GET " + path + b" HTTP/1.1\r\n" + HOST)
            assert (status_of(answer), b"such" in answer) == (status, False)
        assert service.hanging == 32
        await stack.aclose()
        await until(lambda: service.hanging == 0)
        assert status_of(await ask(service, b"GET /nothing HTTP/1.1\r\n" + HOST)) == 404


async def test_an_application_that_fails_is_a_500_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as service:
        assert status_of(await ask(service, b"GET /broken HTTP/1.1\r\n" + HOST)) == 500
        half = await ask(service, b"GET /half HTTP/1.1\r\n" + HOST)
        assert status_of(half) == 200
        assert not half.endswith(b"0\r\n\r\n")  # so that nobody takes it for the whole
        assert status_of(await ask(service, PROBE)) == 200
    assert [record.message for record in caplog.records] == [
        "the answer to a request for '/broken' failed",
        "the answer to a request for '/half' failed",
    ]


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ECONNABORTED])
async def test_it_goes_on_when_a_connection_cannot_be_accepted(
    error: int, caplog: pytest.LogCaptureFixture
) -> None:
    errors = [OSError(error, os.strerror(error)) for _ in range(3)]
    async with serving(accept_errors=errors) as service:
        while errors:
            assert await ask(service) == b""
        assert status_of(await ask(service, PROBE)) == 200
    gone = error == errno.ECONNABORTED
    assert len(caplog.records) == (0 if gone else 1)
    assert gone or "cannot accept a connection: " in caplog.text


LIMITED = """
import functools, resource, anyio
from orchestrator.health._health_server import HealthServer, open_port, port_of
from tests.health.test_health_server import Service

async def main():
    listeners = await open_port("127.0.0.1", 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    async with anyio.create_task_group() as tasks:
        await tasks.start(HealthServer(Service(), listeners).run)
        print(port_of(listeners), flush=True)

anyio.run(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of descriptors to set")
async def test_with_fewer_descriptors_than_places_it_still_answers() -> None:
    command = [sys.executable, "-c", LIMITED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # it is short
        try:
            assert process.stdout is not None
            service = Service()
            service.port = int(process.stdout.readline())
            async with AsyncExitStack() as stack:
                await fill(service, 100, b"GET /", stack)
                for _ in range(5):
                    assert status_of(await ask(service, PROBE)) == 200
        finally:
            process.kill()


@pytest.mark.parametrize("host", ["", "::1"])
async def test_it_listens_on_ipv6_too(host: str) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    async with serving(host) as service:
        assert status_of(await ask(service, PROBE, host="::1")) == 200
        if not host:
            assert status_of(await ask(service, PROBE, host="127.0.0.1")) == 200


async def test_an_open_stream_ends_with_its_client_and_with_the_server() -> None:
    async with serving() as service:
        stream = await anyio.connect_tcp("127.0.0.1", service.port)
        await stream.send(b"GET /hang HTTP/1.1\r\n" + HOST)
        await until(lambda: service.hanging == 1)
        await stream.aclose()
        await until(lambda: service.left == 1)
        last = await anyio.connect_tcp("127.0.0.1", service.port)
        await last.send(b"GET /hang HTTP/1.1\r\n" + HOST)
        await until(lambda: service.hanging == 1)
    async with last:
        assert status_of(await told(last)) == 200
