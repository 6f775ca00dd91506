"""`postgres` and `amqp` on servers that are none, or not well: each failure has its name."""

import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from orchestrator import Failure, FailureKind
from orchestrator.checks import AmqpProbe, PostgresProbe, amqp, postgres
from orchestrator.checks._amqp.amqp_wire import Method, frame, long, short
from orchestrator.checks._postgres.postgres_wire import message
from orchestrator.checks._postgres.sasl import prepared
from tests.certificates import HAVE_OPENSSL, make_certificates
from tests.redis_server import FakeServer, closing, free_port, silent, swallowing

pytestmark = pytest.mark.anyio

SECRET = "hunter2"
SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"

Talk = Callable[[socket.socket], None]


def dsn(port: int, more: str = "") -> str:
    return f"postgresql://app:{SECRET}@127.0.0.1:{port}/orders{more}"


def url(port: int, scheme: str = "amqp") -> str:
    return f"{scheme}://app:{SECRET}@127.0.0.1:{port}/orders"


@asynccontextmanager
async def asking(probe: PostgresProbe | AmqpProbe) -> AsyncIterator[PostgresProbe | AmqpProbe]:
    try:
        yield probe
    finally:
        await probe.aclose()


async def failure_of(probe: PostgresProbe | AmqpProbe, seconds: float = 20.0) -> Failure | None:
    """How one attempt ends, of which nothing may show a secret."""
    async with asking(probe):
        failure = (await probe.attempt(seconds)).failure
    assert SECRET not in f"{failure!r} {probe!r} {probe.target!r}"
    return failure


# -- servers ---------------------------------------------------------------------------------------


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data


def postgres_message(sock: socket.socket, *, has_kind: bool = True) -> bytes:
    """One message, without its length."""
    kind = read_exactly(sock, 1) if has_kind else b""
    size = int.from_bytes(read_exactly(sock, 4))
    return kind + read_exactly(sock, size - 4)


READY = message(b"Z", b"I")
ONE = (
    message(b"T", b"\x00\x00")
    + message(b"D", b"\x00\x01\x00\x00\x00\x011")
    + message(b"C", b"SELECT 1\0")
    + READY
)


def postgres_server(answer: bytes, *, tls: bytes = b"N", then: bytes = b"") -> Talk:
    """Answers the wish for TLS, the first message with `answer`, and each later one with `then`."""

    def talk(sock: socket.socket) -> None:
        if postgres_message(sock, has_kind=False) == SSL_REQUEST[4:]:
            sock.sendall(tls)
            postgres_message(sock, has_kind=False)
        sock.sendall(answer)
        while postgres_message(sock)[:1] in b"pQ":
            sock.sendall(then)

    return talk


def error(code: str, said: str = SECRET) -> bytes:
    return message(b"E", f"SFATAL\0VFATAL\0C{code}\0M{said}\0\0".encode())


def authentication(kind: int, data: bytes = b"") -> bytes:
    return message(b"R", kind.to_bytes(4) + data)


WELCOME = authentication(0) + message(b"S", b"server_version\x0017\0") + READY


def amqp_server(*answers: bytes) -> Talk:
    """Answers what comes with one after the other, and then stays silent."""

    def talk(sock: socket.socket) -> None:
        for answer in answers:
            sock.recv(65536)
            sock.sendall(answer)
        silent(sock)

    return talk


START = frame(Method.START, b"\x00\x09" + long(b"") + long(b"PLAIN AMQPLAIN") + long(b"en_US"))
TUNE = frame(Method.TUNE, b"\x07\xff\x00\x02\x00\x00\x00\x3c")
OPEN_OK = frame(Method.OPEN_OK, b"\x00")
CHANNEL_OK = frame(Method.CHANNEL_OPEN_OK, long(b""), 1) + frame(Method.CHANNEL_CLOSE_OK, b"", 1)


def closed(code: int, text: str = SECRET) -> bytes:
    return frame(Method.CLOSE, code.to_bytes(2) + short(text.encode()) + b"\x00" * 4)


HTTP = b"HTTP/1.1 400 Bad Request\r\n\r\n" + SECRET.encode()


def saying_at_once(answer: bytes) -> Talk:
    def talk(sock: socket.socket) -> None:
        sock.sendall(answer)
        silent(sock)

    return talk


# -- failures have names ---------------------------------------------------------------------------

POSTGRES_FAULTS: list[tuple[Talk, str, str, bool]] = [
    (closing, "", "ConnectionClosed", False),
    (saying_at_once(HTTP), "", "InvalidResponse", True),
    (saying_at_once(b"SSH-2.0-OpenSSH_9.2p1\r\n"), "", "InvalidResponse", True),
    (saying_at_once(b"\x4e\x00\x00\x00\x0a8.0.36"), "", "InvalidResponse", True),  # MySQL
    (postgres_server(HTTP), "", "InvalidResponse", True),
    (postgres_server(b"R\x7f\xff\xff\xff"), "", "InvalidResponse", True),
    (postgres_server(b"R\x00\x00\x00\x00"), "", "InvalidResponse", True),
    (postgres_server(message(b"N", b"x" * 60_000) * 5), "", "InvalidResponse", True),
    (postgres_server(error("28P01")), "", "AuthenticationError", True),
    (postgres_server(error("28000")), "", "AuthenticationError", True),
    (postgres_server(error("28000")), "?sslmode=allow", "AuthenticationError", True),
    (postgres_server(error("3D000")), "", "UnknownDatabase", True),
    (postgres_server(error("53300")), "", "TooManyConnections", False),
    (postgres_server(error("57P03")), "", "CannotConnectNow", False),
    (postgres_server(error("42501")), "", "NoPermission", True),
    (
        postgres_server(error("08P01", "SASL authentication failed")),
        "",
        "AuthenticationError",
        True,
    ),
    (postgres_server(error("08P01", f"no such database: {SECRET}")), "", "UnknownDatabase", True),
    (postgres_server(error("08P01", "server login has been failing")), "", "SystemError", False),
    (postgres_server(error("08P01")), "", "ProtocolViolation", False),
    (postgres_server(error("XX000")), "", "PostgresError", False),
    (postgres_server(error(SECRET)), "", "PostgresError", False),
    (postgres_server(message(b"E", b"")), "", "PostgresError", False),
    (postgres_server(authentication(7)), "", "AuthenticationMethod", True),
    (postgres_server(authentication(11, b"r=x,s=eA==,i=1")), "", "AuthenticationMethod", True),
    (
        postgres_server(authentication(3)),
        "?require_auth=scram-sha-256",
        "AuthenticationMethod",
        True,
    ),
    (postgres_server(authentication(3)), "?require_auth=!password", "AuthenticationMethod", True),
    (postgres_server(WELCOME), "?channel_binding=require", "AuthenticationMethod", True),
    (postgres_server(authentication(10, b"X-OTHER\0\0")), "", "WrongAnswer", True),
    (
        postgres_server(authentication(10, b"SCRAM-SHA-256\0\0"), then=authentication(0)),
        "",
        "WrongAnswer",
        True,
    ),
    (
        postgres_server(
            authentication(10, b"SCRAM-SHA-256\0\0"),
            then=authentication(11, b"r=stolen,s=eA==,i=1"),
        ),
        "",
        "WrongAnswer",
        True,
    ),
    (postgres_server(WELCOME, then=READY), "", "WrongSession", False),
    (postgres_server(WELCOME, then=error("57014")), "", "QueryCanceled", False),
    (postgres_server(b"", tls=b"N"), "?sslmode=require", "TlsMismatch", True),
    (postgres_server(b"", tls=b"E"), "", "TlsMismatch", True),
    (postgres_server(b"", tls=b"S" + WELCOME), "", "InvalidResponse", True),
    (postgres_server(WELCOME, then=ONE), "", "", False),
    (postgres_server(WELCOME, then=message(b"N", b"\0") + ONE), "", "", False),
    (postgres_server(authentication(3), then=WELCOME), "", "WrongAnswer", True),
]


async def test_each_failure_of_a_login_to_postgres_has_its_name() -> None:
    for talk, more, error_type, permanent in POSTGRES_FAULTS:
        with FakeServer(talk) as server:
            failure = await failure_of(postgres(dsn(server.port, more)))
            case = f"{POSTGRES_FAULTS.index((talk, more, error_type, permanent))}: {failure}"
            assert (failure.error_type if failure else "") == error_type, case
            assert (failure is not None and failure.kind is FailureKind.PERMANENT) == permanent, (
                case
            )
            assert "{where}" not in case
            assert failure is None or f"127.0.0.1:{server.port}" in failure.reason


AMQP_FAULTS: list[tuple[Talk, str, bool]] = [
    (closing, "ConnectionClosed", False),
    (saying_at_once(HTTP), "InvalidResponse", True),
    (saying_at_once(b"AMQP\x03\x01\x00\x00"), "InvalidResponse", True),
    (saying_at_once(b"A mail server"), "InvalidResponse", True),
    (saying_at_once(b"\x15\x03\x03\x00\x02\x02\x28"), "TlsMismatch", True),
    (saying_at_once(b"\x01\x00\x00\xff\xff\xff\xff"), "InvalidResponse", True),
    (saying_at_once(b"\x01\x00\x00\x00\x00\x00\x00\xce"), "InvalidResponse", True),
    (saying_at_once(START[:-1] + b"\x00"), "InvalidResponse", True),
    (saying_at_once(frame(Method.START, b"\x00\x09\xff\xff\xff\xff")), "InvalidResponse", True),
    (saying_at_once(TUNE), "WrongAnswer", True),
    (
        saying_at_once(frame(Method.START, b"\x00\x09" + long(b"") * 3)),
        "AuthenticationMethod",
        True,
    ),
    (amqp_server(START, closed(403)), "AuthenticationError", True),
    (amqp_server(START, TUNE, closed(530)), "UnknownVirtualHost", True),
    (
        amqp_server(START, TUNE, closed(530, "connection limit is reached")),
        "TooManyConnections",
        False,
    ),
    (amqp_server(START, TUNE, closed(320)), "ConnectionForced", False),
    (amqp_server(START, TUNE, closed(541)), "AmqpError", False),
    (amqp_server(START, TUNE, closed(9999)), "AmqpError", False),
    (amqp_server(START, TUNE, OPEN_OK, CHANNEL_OK), "", False),
    (
        amqp_server(START, TUNE, OPEN_OK, b"\x08\x00\x00\x00\x00\x00\x00\xce" + CHANNEL_OK),
        "",
        False,
    ),
]


async def test_each_failure_of_a_login_to_a_broker_has_its_name() -> None:
    for number, (talk, error_type, permanent) in enumerate(AMQP_FAULTS):
        with FakeServer(talk) as server:
            failure = await failure_of(amqp(url(server.port)))
            case = f"{number}: {failure}"
            assert (failure.error_type if failure else "") == error_type, case
            assert (failure is not None and failure.kind is FailureKind.PERMANENT) == permanent, (
                case
            )
            assert failure is None or f"127.0.0.1:{server.port}" in failure.reason


def test_the_page_names_what_a_person_must_change() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "conditions.md").read_text("utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    permanent = {name for _, _, name, lasting in POSTGRES_FAULTS if lasting}
    permanent |= {name for _, name, lasting in AMQP_FAULTS if lasting}
    assert permanent <= named
    assert not named & {name for _, name, lasting in AMQP_FAULTS if not lasting}


async def test_a_port_where_nothing_listens_and_a_name_that_is_none() -> None:
    gone = free_port()
    for probe, error_type in (
        (postgres(dsn(gone)), "ConnectionRefusedError"),
        (amqp(url(gone)), "ConnectionRefusedError"),
        (postgres("postgresql://no-such-host.invalid/x"), "NameResolutionError"),
        (amqp("amqp://no-such-host.invalid"), "NameResolutionError"),
        (postgres("host=/no-such-directory"), "FileNotFoundError"),
    ):
        failure = await failure_of(probe)
        assert failure is not None
        assert failure.error_type == error_type
        assert failure.kind is FailureKind.TRANSIENT


# -- deadlines -------------------------------------------------------------------------------------


def dripping(answer: bytes) -> Talk:
    """One byte at a time, each soon enough, for ever."""

    def talk(sock: socket.socket) -> None:
        stop = time.monotonic() + 30
        while time.monotonic() < stop:
            for byte in answer:
                sock.sendall(bytes([byte]))
                time.sleep(0.005)

    return talk


NOTICE = message(b"N", b"\0")
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


def dripping_postgres(sock: socket.socket) -> None:
    read_exactly(sock, 8)
    sock.sendall(b"N")
    postgres_message(sock, has_kind=False)
    dripping(NOTICE)(sock)


def silent_in_tls(sock: socket.socket) -> None:
    read_exactly(sock, 8)
    sock.sendall(b"S")
    silent(sock)


async def test_no_server_outlasts_an_attempt() -> None:
    """The figure is 0.1 s; a busy machine may take its time, but never that of the server."""
    silences: list[tuple[Talk, Callable[[int], PostgresProbe | AmqpProbe]]] = [
        (silent, lambda port: postgres(dsn(port))),
        (dripping_postgres, lambda port: postgres(dsn(port))),
        (silent_in_tls, lambda port: postgres(dsn(port))),
        (postgres_server(WELCOME), lambda port: postgres(dsn(port))),
        (silent, lambda port: amqp(url(port))),
        (dripping(HEARTBEAT), lambda port: amqp(url(port))),
        (silent, lambda port: amqp(url(port, "amqps"))),
        (amqp_server(START, TUNE), lambda port: amqp(url(port))),
    ]
    for talk, make in silences:
        with FakeServer(talk) as server:
            async with asking(make(server.port)) as probe:
                for _ in range(2):
                    began_at = time.perf_counter()
                    failure = (await probe.attempt(0.1)).failure
                    assert time.perf_counter() - began_at < 5
                    assert failure is not None
                    assert failure.error_type == "TimeoutError"
                    assert failure.congestion
                assert server.accepted == 1  # the next attempt goes on with what was accepted


async def test_an_answer_that_comes_after_its_attempt_makes_the_next_one_succeed() -> None:
    go_on = threading.Event()

    def late(sock: socket.socket) -> None:
        read_exactly(sock, 8)
        go_on.wait()
        sock.sendall(b"N")
        postgres_message(sock, has_kind=False)
        sock.sendall(WELCOME)
        while postgres_message(sock)[:1] == b"Q":
            sock.sendall(ONE)

    with FakeServer(late) as server:
        async with asking(postgres(dsn(server.port))) as probe:
            assert (await probe.attempt(0.05)).failure is not None
            go_on.set()
            with anyio.fail_after(20):
                await probe.changed()
            assert (await probe.attempt(20)).failure is None
            assert server.accepted == 1


def answer_once(sock: socket.socket) -> None:
    """Let a client of PostgreSQL in without TLS, and answer its first question."""
    read_exactly(sock, 8)
    sock.sendall(b"N")
    postgres_message(sock, has_kind=False)
    sock.sendall(WELCOME)
    postgres_message(sock)
    sock.sendall(ONE)


async def test_an_answer_in_two_attempts_is_read_from_its_beginning() -> None:
    go_on = threading.Event()

    def halved(sock: socket.socket) -> None:
        answer_once(sock)
        postgres_message(sock)
        sock.sendall(ONE[:20])
        go_on.wait()
        sock.sendall(ONE[20:])
        silent(sock)

    with FakeServer(halved) as server:
        async with asking(postgres(dsn(server.port))) as probe:
            assert (await probe.attempt(20)).failure is None
            failure = (await probe.attempt(0.05)).failure
            assert failure is not None
            assert not failure.congestion  # it has answered before
            go_on.set()
            assert (await probe.attempt(20)).failure is None
            assert server.accepted == 1


async def test_a_dead_server_does_not_eat_the_time_of_the_next() -> None:
    with swallowing() as dead:
        with FakeServer(postgres_server(WELCOME, then=ONE)) as server:
            hosts = f"postgresql://app:{SECRET}@127.0.0.1:{dead},127.0.0.1:{server.port}/orders"
            assert await failure_of(postgres(hosts), 3.0) is None
        with FakeServer(amqp_server(START, TUNE, OPEN_OK, CHANNEL_OK)) as server:
            assert await failure_of(amqp(f"{url(dead)};{url(server.port)}"), 3.0) is None
        began_at = time.perf_counter()
        failure = await failure_of(postgres(f"host=127.0.0.1,127.0.0.1 port={dead}"), 0.2)
        assert failure is not None
        assert failure.error_type == "ConnectTimeout"
        assert time.perf_counter() - began_at < 5


async def test_a_server_that_accepts_and_is_silent_does_not_hide_the_next() -> None:
    with FakeServer(silent) as frozen, FakeServer(postgres_server(WELCOME, then=ONE)) as server:
        hosts = f"host=127.0.0.1,127.0.0.1 port={frozen.port},{server.port} user=app"
        assert await failure_of(postgres(hosts), 3.0) is None


async def test_a_hung_resolver_costs_one_thread_and_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    let_go = threading.Event()
    look_up = socket.getaddrinfo

    def hang(host: str, *rest: object, **more: object) -> object:
        if host == "hung.invalid":
            let_go.wait()
        return look_up(host, *rest, **more)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        for probe in (postgres("host=hung.invalid"), amqp("amqp://hung.invalid")):
            async with asking(probe):
                for _ in range(3):
                    began_at = time.perf_counter()
                    failure = (await probe.attempt(0.05)).failure
                    assert time.perf_counter() - began_at < 5
                    assert failure is not None
                    assert "was not resolved" in failure.reason
        names = [one.name for one in threading.enumerate()]
        assert names.count("postgres-probe") == names.count("amqp-probe") == 1
    finally:
        let_go.set()


async def test_the_end_of_a_connection_is_noticed_at_once_and_is_no_failure() -> None:
    end = threading.Event()

    def ending(sock: socket.socket) -> None:
        answer_once(sock)
        if server.accepted == 1:
            end.wait()
            sock.sendall(error("57P01"))
        else:
            silent(sock)

    with FakeServer(ending) as server:
        async with asking(postgres(dsn(server.port))) as probe:
            assert (await probe.attempt(20)).failure is None
            end.set()
            with anyio.fail_after(20):
                await probe.changed()
            assert (await probe.attempt(20)).failure is None
            assert server.accepted == 2


LEAVING = """
import asyncio, sys, time
from orchestrator import Check, Orchestrator
from orchestrator.checks import amqp, postgres

async def main():
    port = sys.argv[1]
    probes = [postgres(f"host=127.0.0.1 port={port}"), amqp(f"amqp://127.0.0.1:{port}")]
    checks = [Check(f"c{n}", one, timeout_seconds=30) for n, one in enumerate(probes)]
    async with Orchestrator(postgres(f"host=127.0.0.1 port={port}"), conditions=checks):
        await asyncio.sleep(0.3)
        global left_at
        left_at = time.perf_counter()

asyncio.run(main())
print(time.perf_counter() - left_at)
"""


async def test_a_silent_server_does_not_hold_up_the_end_of_the_process() -> None:
    with FakeServer(silent) as server:
        command = [sys.executable, "-c", LEAVING, str(server.port)]
        done = await anyio.run_process(command)
    assert done.stderr == b""
    assert float(done.stdout) < 5


# -- TLS -------------------------------------------------------------------------------------------


@pytest.mark.skipif(not HAVE_OPENSSL, reason="needs the openssl program")
async def test_files_for_tls_that_cannot_be_used_are_named_by_their_option(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    own = f"&certfile={tmp_path}/client.pem&keyfile={tmp_path}"
    cases = [
        ("?cafile=/no/such", "cafile names a file that is not there"),
        (f"?cafile={tmp_path}/ca.key", "cafile holds no certificate"),
        (f"?cafile={tmp_path}/ca.pem{own}/server.key", "keyfile holds the key of another"),
        (f"?cafile={tmp_path}/ca.pem{own}/encrypted.key", "the key needs another pass phrase"),
    ]
    with FakeServer(silent) as server:
        for more, said in cases:
            failure = await failure_of(amqp(url(server.port, "amqps") + more))
            assert failure is not None
            assert failure.kind is FailureKind.PERMANENT
            assert said in failure.reason
            assert str(tmp_path) not in failure.reason
    with FakeServer(silent_in_tls) as server:
        more = f"?sslmode=verify-full&sslrootcert={tmp_path}/nothing"
        failure = await failure_of(postgres(dsn(server.port, more)))
        assert failure is not None
        assert "sslrootcert names a file that is not there" in failure.reason


async def test_a_tls_context_of_the_applications_is_used() -> None:
    context = ssl.create_default_context()
    with FakeServer(saying_at_once(b"no TLS at all")) as server:
        failure = await failure_of(amqp(url(server.port, "amqps"), tls=context))
    assert failure is not None
    assert failure.error_type == "TlsMismatch"


def test_passwords_are_prepared_as_postgres_prepares_them() -> None:
    """What libpq logs in with, where a real server has made its secret from the same password."""
    as_they_are = [
        "pass word",
        "tab\tx\u00e9",
        "\ue000",
        "\U0001f511",
        "\u0627\u0031",
        "\u200f\u00e9",
    ]
    assert [prepared(one) for one in as_they_are] == as_they_are
    for given, wanted in {
        "\ufb01x": "fix",
        "a\u00a0b": "a b",
        "a\u200bb": "a b",  # a space, before it is nothing
        "\u00adx": "x",
        "\u2167": "VIII",
        "A\u0300": "\u00c0",
        "\u0627\u0031\u0628": "\u0627\u0031\u0628",
    }.items():
        assert prepared(given) == wanted


def test_importing_the_probes_loads_no_package_of_others() -> None:
    code = """
import sys
from orchestrator.checks import amqp, postgres
postgres("host=x"), amqp("amqp://x")
bad = {"psycopg", "psycopg2", "asyncpg", "sqlalchemy", "amqp", "pika", "aio_pika", "redis"}
assert not bad & set(sys.modules), bad & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
