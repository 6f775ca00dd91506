"""RedisProbe on real servers: what it answers, how fast, and with what it sends."""

import contextlib
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest
import redis
import redis.asyncio

from orchestrator._ports import Target
from orchestrator.redis import RedisProbe
from states import FailureKind
from tests.redis_server import (
    BY_REDIS_PY,
    GREETED,
    FakeServer,
    RedisServer,
    closing,
    commands,
    free_port,
    greeted_then,
    relay,
    saying,
    silent,
)
from tests.timing import quickest

pytestmark = pytest.mark.anyio

SECRET = "correct-horse-9"  # a made-up one


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    """One server for all tests that leave it as it was."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def locked() -> Iterator[RedisServer]:
    """One with a password."""
    with RedisServer(None, "--requirepass", SECRET) as server:
        yield server


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """One that a test may break."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def admin(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port, protocol=2) as client:
        yield client


def probing(url: str) -> "aclosing[RedisProbe]":
    return aclosing(RedisProbe(url))


async def succeeds(probe: RedisProbe, timeout_seconds: float = 2.0) -> float:
    result = await probe.attempt(timeout_seconds)
    assert result.failure is None
    assert 0 < result.latency_seconds < timeout_seconds
    assert result.loop_lag_seconds >= 0
    return result.latency_seconds


async def fails(
    probe: RedisProbe, error_type: str, *, permanent: bool = False, timeout_seconds: float = 2.0
) -> str:
    result = await probe.attempt(timeout_seconds)
    assert result.failure is not None
    assert result.failure.error_type == error_type, result.failure
    assert result.failure.kind is (FailureKind.PERMANENT if permanent else FailureKind.TRANSIENT)
    assert SECRET not in repr(result)
    assert "\n" not in result.failure.reason
    return result.failure.reason


async def still(probe: RedisProbe) -> bool:
    """Whether `changed` has nothing to say."""
    with anyio.move_on_after(0.02):
        await probe.changed()
        return False
    return True


# -- success --------------------------------------------------------------------------------------


async def test_answers_and_keeps_one_connection(server: RedisServer, admin: redis.Redis) -> None:
    async with probing(server.url) as probe:
        before = int(admin.info("stats")["total_connections_received"])
        for _ in range(5):
            await succeeds(probe)
            assert await still(probe)
        assert int(admin.info("stats")["total_connections_received"]) == before + 1
        assert int(admin.info("clients")["connected_clients"]) == 2


@pytest.mark.parametrize("protocol", [2, 3])
async def test_login_database_and_ping_cost_one_round_trip(protocol: int) -> None:
    received = []

    def talk(sock: socket.socket) -> None:
        received.append(sock.recv(4096))
        hello = GREETED[b"HELLO"] if protocol == 3 else b"+OK\r\n"
        library = b"+OK\r\n" * received[0].count(b"CLIENT")
        sock.sendall(hello + library + b"+OK\r\n+PONG\r\n")
        silent(sock)

    with FakeServer(talk) as fake:
        login = f"redis://me:{SECRET}@127.0.0.1:{fake.port}/7?protocol={protocol}"
        async with probing(login) as probe:
            await succeeds(probe)
    assert len(received) == 1
    assert [received[0].count(word) for word in (SECRET.encode(), b"SELECT", b"PING")] == [1, 1, 1]


@pytest.mark.parametrize("protocol", [2, 3])
async def test_logs_in(locked: RedisServer, protocol: int) -> None:
    for login in (f":{SECRET}", f"default:{SECRET}"):
        url = f"redis://{login}@127.0.0.1:{locked.port}/2?protocol={protocol}"
        async with probing(url) as probe:
            await succeeds(probe)
            await succeeds(probe)
            assert await still(probe)
            assert SECRET not in repr(probe)


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    async with probing(f"unix://{path}?db=1") as probe:
        assert probe.target == Target(address=str(path), namespace="1")
        await fails(probe, "FileNotFoundError")
        with RedisServer(None, "--unixsocket", str(path)):
            await succeeds(probe)
            await succeeds(probe)


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
@pytest.mark.parametrize("left_over", [False, True])
async def test_the_appearance_of_a_unix_socket_is_noticed(tmp_path: Path, left_over: bool) -> None:
    path = tmp_path / "redis.sock"
    if left_over:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    server = RedisServer(None, "--unixsocket", str(path))
    noticed = anyio.Event()
    async with probing(f"unix://{path}") as probe:
        assert (await probe.attempt(1)).failure is not None
        (tmp_path / "another.file").touch()
        assert await still(probe)

        async def notice() -> None:
            await probe.changed()
            noticed.set()

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(notice)
                await anyio.wait_all_tasks_blocked()
                server.start(wait=False)
                with anyio.fail_after(10):
                    await noticed.wait()
            server.wait_until_answering()
            await succeeds(probe)
        finally:
            server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
async def test_one_descriptor_serves_every_wait_for_a_path(tmp_path: Path) -> None:
    # Closing one takes the kernel milliseconds, in which the event loop would stand still.
    def descriptors() -> int:
        names = [str(link.resolve()) for link in Path("/proc/self/fd").iterdir()]
        return sum("inotify" in name for name in names)

    before = descriptors()
    path = tmp_path / "redis.sock"
    async with probing(f"unix://{path}") as probe:
        await fails(probe, "FileNotFoundError")
        for _ in range(3):
            assert await still(probe)
            assert descriptors() == before + 1
        path.touch()  # nobody waits now, but the attempt before did not find it
        with anyio.fail_after(10):
            await probe.changed()
    assert descriptors() == before


async def test_a_path_in_no_directory_waits_for_ever(tmp_path: Path) -> None:
    async with probing(f"unix://{tmp_path}/missing/redis.sock") as probe:
        await fails(probe, "FileNotFoundError")
        assert await still(probe)


async def test_a_name_is_looked_up(shared: RedisServer) -> None:
    async with probing(f"redis://localhost:{shared.port}") as probe:
        await succeeds(probe)
        assert probe.target == Target(address="localhost", port=shared.port, namespace="0")


async def test_an_old_server_that_knows_no_user_names() -> None:
    def talk(sock: socket.socket) -> None:
        for command in commands(sock):
            if command[0] == b"AUTH" and len(command) > 2:
                sock.sendall(b"-ERR wrong number of arguments for 'auth' command\r\n")
            else:
                sock.sendall(GREETED.get(command[0], b"+PONG\r\n"))

    with FakeServer(talk) as fake:
        async with probing(f"redis://me:{SECRET}@127.0.0.1:{fake.port}?protocol=2") as probe:
            await succeeds(probe)
            await succeeds(probe)
        assert fake.accepted == 2


# -- from a client --------------------------------------------------------------------------------


class Provider(redis.CredentialProvider):
    def get_credentials(self) -> tuple[str, str]:
        return ("default", SECRET)


class AsyncProvider(redis.CredentialProvider):
    async def get_credentials_async(self) -> tuple[str, str]:
        return ("default", SECRET)


@pytest.mark.parametrize(
    ("kind", "provider"),
    [
        (redis.Redis, None),
        (redis.Redis, Provider()),
        (redis.asyncio.Redis, None),
        (redis.asyncio.Redis, Provider()),
        pytest.param(
            redis.asyncio.Redis,
            AsyncProvider(),
            marks=pytest.mark.skipif(
                not hasattr(redis.CredentialProvider, "get_credentials_async"),
                reason="before redis-py 5.3 there are no such providers",
            ),
        ),
    ],
)
async def test_from_client(
    locked: RedisServer,
    kind: type[redis.Redis] | type[redis.asyncio.Redis],
    provider: redis.CredentialProvider | None,
) -> None:
    password = None if provider else SECRET
    client = kind(
        host="127.0.0.1",
        port=locked.port,
        db=4,
        password=password,
        credential_provider=provider,
        client_name="the-application",
    )
    probe = RedisProbe.from_client(client)
    assert SECRET not in repr(probe) + repr(probe._settings)
    assert probe.target == Target(address="127.0.0.1", port=locked.port, namespace="4")
    await succeeds(probe)
    await probe.aclose()


async def test_from_client_takes_over_tls_and_unix_paths(tmp_path: Path) -> None:
    for kind in (redis.Redis, redis.asyncio.Redis):
        secure = RedisProbe.from_client(kind(host="x", ssl=True, ssl_ca_certs="/ca.pem"))
        assert secure._settings.tls
        assert secure._settings.options["ssl_ca_certs"] == "/ca.pem"
        local = RedisProbe.from_client(kind(unix_socket_path=str(tmp_path / "s"), protocol=3))
        assert local.target.address == str(tmp_path / "s")
        assert not local._settings.tls
        assert local._settings.options["protocol"] == 3


async def test_from_client_without_a_single_address() -> None:
    sentinel = redis.Sentinel([("127.0.0.1", 1)])  # type: ignore[no-untyped-call]  # redis-py's
    client = sentinel.master_for("main")  # type: ignore[no-untyped-call]  # redis-py's
    with pytest.raises(ValueError, match="single address"):
        RedisProbe.from_client(client)


# -- failures -------------------------------------------------------------------------------------


async def test_refused() -> None:
    async with probing(f"redis://127.0.0.1:{free_port()}") as probe:
        reason = await fails(probe, "ConnectionRefusedError")
        assert reason.endswith("refused the connection: nothing listens there")
        with anyio.move_on_after(0.02) as scope:
            await probe.changed()
        assert scope.cancelled_caught


async def test_wrong_and_missing_password(locked: RedisServer, shared: RedisServer) -> None:
    async with probing(f"redis://:not-{SECRET}@127.0.0.1:{locked.port}") as probe:
        assert "WRONGPASS" in await fails(probe, "AuthenticationError", permanent=True)
    async with probing(locked.url) as probe:
        assert "NOAUTH" in await fails(probe, "AuthenticationError", permanent=True)
    async with probing(f"redis://:{SECRET}@127.0.0.1:{shared.port}?protocol=2") as probe:
        assert "no password" in await fails(probe, "AuthenticationError", permanent=True)
    async with probing(f"{locked.url}?protocol=3") as probe:
        assert "NOAUTH" in await fails(probe, "AuthenticationError", permanent=True)


async def test_database_out_of_range(shared: RedisServer) -> None:
    async with probing(f"redis://127.0.0.1:{shared.port}/99") as probe:
        await fails(probe, "DatabaseError", permanent=True)


async def test_a_user_who_may_not_ping(server: RedisServer, admin: redis.Redis) -> None:
    admin.acl_setuser(
        "me", enabled=True, passwords=f"+{SECRET}", categories=["+@all"], commands=["-ping"]
    )
    async with probing(f"redis://me:{SECRET}@127.0.0.1:{server.port}") as probe:
        assert "NOPERM" in await fails(probe, "NOPERM", permanent=True)


async def test_too_many_clients(server: RedisServer, admin: redis.Redis) -> None:
    admin.config_set("maxclients", 1)
    async with probing(server.url) as probe:
        result = await probe.attempt(2)
        assert result.failure is not None
        assert result.failure.error_type == "MaxClients"
        assert result.failure.kind is FailureKind.TRANSIENT
        assert result.failure.congestion
        admin.config_set("maxclients", 100)
        await succeeds(probe)


async def test_a_busy_script(server: RedisServer, admin: redis.Redis) -> None:
    admin.config_set("lua-time-limit", 1)
    with socket.create_connection(("127.0.0.1", server.port)) as other:
        other.sendall(b'EVAL "while true do end" 0\r\n')
        async with probing(server.url) as probe:
            while (await probe.attempt(2)).failure is None:
                pass  # Redis has not read the script yet.
            await fails(probe, "BUSY")
            admin.script_kill()
            other.recv(4096)  # The script has ended.
            await succeeds(probe)


@pytest.mark.parametrize(
    ("answer", "error_type", "permanent"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "LOADING", False),
        (b"-MASTERDOWN Link with MASTER is down\r\n", "MASTERDOWN", False),
        (b"-MISCONF Errors writing to the AOF file\r\n", "MISCONF", False),
        (b"-DENIED Redis is running in protected mode\r\n", "DENIED", True),
        (b"-ERR unknown command 'PING'\r\n", "UnknownCommand", True),
        (b"-ERR something " + SECRET.encode() + b"\r\n", "ResponseError", False),
        (b"-" + SECRET.encode() + b"\r\n", "ResponseError", False),
        (b"+" + SECRET.encode() + b"\r\n", "WrongAnswer", True),
        (b":1\r\n", "WrongAnswer", True),
        (b"$-1\r\n", "WrongAnswer", True),
        (b"*1\r\n$4\r\nPONG\r\n", "WrongAnswer", True),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "InvalidResponse", True),
        (b"220 mail.example ESMTP " + SECRET.encode() + b"\r\n", "InvalidResponse", True),
        (b"\x15\x03\x03\x00\x02\x02\x0a", "InvalidResponse", True),
        (b"$nonsense\r\n", "InvalidResponse", True),
        (b"*1\r\n" * 20_000, "InvalidResponse", True),
        (b"+" + b"x" * 20_000_000, "InvalidResponse", True),
        (b"$20000000\r\n" + b"x" * 20_000_000, "InvalidResponse", True),
    ],
    ids=lambda value: str(value)[:24] if isinstance(value, bytes) else None,
)
@pytest.mark.parametrize("option", ["", BY_REDIS_PY], ids=["ours", "redis-py's"])
async def test_wrong_answers(answer: bytes, error_type: str, permanent: bool, option: str) -> None:
    ways = [(greeted_then(answer), 2), (greeted_then(answer), 3), (saying(answer), 3)]
    if answer == b"$-1\r\n" and option:
        del ways[1:]  # RESP3 has no such reply: redis-py waits for the rest of it
    elif answer.startswith(b"\x15"):
        del ways[:2]  # an alert of TLS, which comes first or not at all
    for talk, protocol in ways:
        with FakeServer(talk) as fake:
            async with probing(f"{fake.url}?protocol={protocol}&{option}") as probe:
                await fails(probe, error_type, permanent=permanent)
                assert await still(probe)


async def test_a_server_that_closes_at_once() -> None:
    with FakeServer(closing) as fake:
        async with probing(fake.url) as probe:
            await fails(probe, "ConnectionClosed")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_server_that_resets_at_once(host: str) -> None:
    def reset(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with FakeServer(reset) as fake:
        async with probing(f"redis://{host}:{fake.port}") as probe:
            for _ in range(20):  # it may be seen at every step after the connection
                reason = await fails(probe, "ConnectionClosed")
                assert "(PING)" in reason or "(connecting)" in reason


async def test_answers_that_nobody_asked_for_do_not_wake_for_ever() -> None:
    with FakeServer(greeted_then(b"+PONG\r\n" * 3)) as fake:
        async with probing(fake.url) as probe:
            for _ in range(3):
                await succeeds(probe)
                assert await still(probe)


async def test_a_name_that_does_not_exist() -> None:
    async with probing("redis://no-such-host.invalid") as probe:
        await fails(probe, "NameResolutionError", timeout_seconds=5)


async def test_plaintext_server_and_tls(shared: RedisServer) -> None:
    with FakeServer(saying(b"-ERR unknown command\r\n")) as fake:
        async with probing(fake.url.replace("redis", "rediss")) as probe:
            await fails(probe, "TlsMismatch", permanent=True)
    async with probing(shared.url.replace("redis", "rediss")) as probe:
        result = await probe.attempt(0.2)
        assert result.failure is not None
    async with probing(f"rediss://127.0.0.1:{shared.port}?ssl_ca_certs=/no/file") as probe:
        await fails(probe, "CertificateError", permanent=True)


# -- the connection in between --------------------------------------------------------------------


async def test_a_dropped_connection_is_no_failure(server: RedisServer, admin: redis.Redis) -> None:
    async with probing(server.url) as probe:
        await succeeds(probe)
        admin.client_kill_filter(skipme=True)
        with anyio.fail_after(10):
            await probe.changed()
        await succeeds(probe)
        assert await still(probe)


async def test_a_killed_server_is_noticed_at_once(server: RedisServer) -> None:
    async with probing(server.url) as probe:
        await succeeds(probe)
        server.kill()
        with anyio.fail_after(10):
            await probe.changed()
        await fails(probe, "ConnectionRefusedError")
        server.start()
        await succeeds(probe)


@pytest.mark.parametrize("option", ["protocol=2", "protocol=3", BY_REDIS_PY])
async def test_an_answer_in_two_halves_is_one_answer(option: str) -> None:
    go_on, asked = threading.Event(), threading.Event()

    def talk(sock: socket.socket) -> None:
        for command in commands(sock):
            if command[0] != b"PING" or not asked.is_set():
                sock.sendall(GREETED.get(command[0], b"+PONG\r\n"))
                continue
            sock.sendall(b"$4\r\nPO")
            go_on.wait()
            sock.sendall(b"NG\r\n")

    with FakeServer(talk) as fake:
        async with probing(f"{fake.url}?{option}") as probe:
            await succeeds(probe)
            asked.set()
            for _ in range(2):
                await fails(probe, "TimeoutError", timeout_seconds=0.1)
            go_on.set()
            assert await succeeds(probe) < 1
            assert fake.accepted == 1


async def test_a_late_answer_is_noticed_and_counts(server: RedisServer) -> None:
    async with probing(server.url) as probe:
        await succeeds(probe)
        server.freeze()
        assert "PING within 0.1 s" in await fails(probe, "TimeoutError", timeout_seconds=0.1)
        assert await still(probe)
        server.thaw()
        with anyio.fail_after(10):
            await probe.changed()
        assert await succeeds(probe) < 1
        assert await still(probe)
        await succeeds(probe)


@pytest.mark.parametrize("login", ["", f":{SECRET}@"])
async def test_a_late_answer_on_a_first_connection(login: str) -> None:
    with RedisServer(None, *(("--requirepass", SECRET) if login else ())) as server:
        server.freeze()
        async with probing(f"redis://{login}127.0.0.1:{server.port}/1") as probe:
            await fails(probe, "TimeoutError", timeout_seconds=0.1)
            server.thaw()
            with anyio.fail_after(10):
                await probe.changed()
            await succeeds(probe)
            with redis.Redis(port=server.port, password=SECRET if login else None) as client:
                assert client.info("stats")["total_connections_received"] == 3


async def test_a_connection_that_does_not_answer_any_more_is_replaced(server: RedisServer) -> None:
    with FakeServer(relay(server.port)) as fake:
        async with probing(fake.url) as probe:
            await succeeds(probe)
            server.freeze()
            # The new one has not answered yet: it is not given up.
            for accepted in (1, 1, 1, 2, 2, 2, 2, 2):
                await fails(probe, "TimeoutError", timeout_seconds=0.05)
                fake.wait_until_accepted(accepted)
                assert fake.accepted == accepted
            server.thaw()
            await succeeds(probe)
            assert fake.accepted == 2


# -- one deadline ---------------------------------------------------------------------------------


def drip(sock: socket.socket) -> None:
    sock.recv(4096)
    while True:
        time.sleep(0.01)
        sock.sendall(b"+")


@pytest.mark.parametrize("talk", [silent, drip])
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_no_server_outlasts_the_deadline(scheme: str, talk: object) -> None:
    assert callable(talk)
    with FakeServer(talk) as fake:
        url = f"{scheme}://me:{SECRET}@127.0.0.1:{fake.port}/1?protocol=3"

        async def measure() -> float:
            async with probing(url) as probe:
                started_at = time.perf_counter()
                result = await probe.attempt(0.2)
                assert result.failure is not None
                return time.perf_counter() - started_at

        took = await quickest(measure, 0.3)
        assert took < 0.6
        assert took > 0.15 or scheme == "rediss"


async def test_a_full_backlog_is_congestion() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
            async with probing(f"redis://127.0.0.1:{port}") as probe:
                result = await probe.attempt(0.1)
                assert result.failure is not None
                assert result.failure.error_type == "ConnectTimeout"
                assert result.failure.congestion


# -- misuse ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{SECRET}@host",
        f"redis://:{SECRET}/x@host:6379",
        f"redis://:{SECRET}#x@host:6379",
        f"redis://:{SECRET}@host:port",
        f"redis://:{SECRET}@host:99999",
        f"redis://:{SECRET}@host/zero",
        f"redis://:{SECRET}@host?db=x",
        f"redis://:{SECRET}@host?protocol=4",
        f"rediss://:{SECRET}@host?ssl_min_version=x",
        f"rediss://:{SECRET}@host?ssl_no_such_thing=1",
        f"redis://me:x?{SECRET}=1@host",
        f"redis://host?password=x&{SECRET}=1",
        f"rediss://:{SECRET}@host?ssl_cert_reqs={SECRET}",
        f"rediss://:{SECRET}@host?ssl_include_verify_flags=[{SECRET}]",
        f"redis://:{SECRET}@[host",
        f"unix://:{SECRET}@",
        SECRET,
        "",
    ],
)
async def test_a_bad_url_says_what_is_wrong_without_the_password(url: str) -> None:
    with pytest.raises(ValueError, match="Redis URL") as caught:
        RedisProbe(url)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def test_busy_and_closed_it_may_be_used_again(shared: RedisServer) -> None:
    probe = RedisProbe(shared.url)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="timeout_seconds"):
            await probe.attempt(wrong)
    await succeeds(probe)
    for _ in range(3):
        await probe.aclose()
        await probe.aclose()
        await succeeds(probe)
    await probe.aclose()
    with anyio.move_on_after(0.02) as scope:
        await probe.changed()
    assert scope.cancelled_caught
