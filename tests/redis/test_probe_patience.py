"""A new connection that Redis has accepted is not given up because an attempt is over."""

import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import anyio
import anyio.to_thread
import pytest
import redis
from redis.credentials import CredentialProvider

from orchestrator import Orchestrator, Stage
from orchestrator.redis import RedisProbe
from states import Failure, Policy
from tests.certificates import HAVE_OPENSSL, make_certificates
from tests.faults.scenes import wait_until
from tests.faults.watching import Diary
from tests.redis_server import FakeServer, RedisServer, free_port, relay, saying, silent

pytestmark = pytest.mark.anyio

SECRET = "correct-horse-9"  # a made-up one


class Secured:
    """A Redis with a password that speaks TLS on `port`, too."""

    def __init__(self, directory: Path) -> None:
        make_certificates(directory)
        self.port = free_port()
        self.authority = directory / "ca.pem"
        self.server = RedisServer(
            None,
            *("--requirepass", SECRET, "--tls-port", str(self.port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", str(directory / "server.pem")),
            *("--tls-key-file", str(directory / "server.key")),
            *("--tls-ca-cert-file", str(self.authority)),
        )

    def accepted(self) -> int:
        with redis.Redis(port=self.server.port, password=SECRET) as client:
            return int(client.info("stats")["total_connections_received"])


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if not HAVE_OPENSSL:
        pytest.skip("needs openssl for certificates")
    made = Secured(tmp_path_factory.mktemp("tls"))
    try:
        made.server.start()
    except RuntimeError:
        made.server.stop()
        pytest.skip("this redis-server has no TLS")
    yield made
    made.server.stop()


class Provider(CredentialProvider):
    def get_credentials(self) -> tuple[str]:
        return (SECRET,)


Way = Callable[[Secured, int], RedisProbe]


def plain(query: str) -> Way:
    return lambda _, port: RedisProbe(f"redis://:{SECRET}@127.0.0.1:{port}/1?{query}")


def tls(query: str) -> Way:
    def make(secured: Secured, port: int) -> RedisProbe:
        options = f"ssl_ca_certs={secured.authority}&{query}"
        return RedisProbe(f"rediss://:{SECRET}@127.0.0.1:{port}/1?{options}")

    return make


def of_client(_: Secured, port: int) -> RedisProbe:
    return RedisProbe.from_client(redis.Redis(port=port, db=1, credential_provider=Provider()))


WAYS = {
    "RESP2": plain("protocol=2"),
    "RESP3": plain("protocol=3"),
    "a credential provider": of_client,
    "TLS, RESP2": tls("protocol=2"),
    "TLS, RESP3": tls("protocol=3"),
}


@asynccontextmanager
async def patient(probe: RedisProbe, patience_seconds: float = 60.0) -> AsyncIterator[RedisProbe]:
    """The probe, under a policy with this patience."""
    probe.prepare(Policy(answer_patience_seconds=patience_seconds))
    try:
        yield probe
    finally:
        await probe.aclose()


async def failure_of(probe: RedisProbe, timeout_seconds: float = 5.0) -> Failure:
    result = await probe.attempt(timeout_seconds)
    assert result.failure is not None
    assert SECRET not in repr(result)
    return result.failure


async def fails_until_accepted(
    probe: RedisProbe, fake: FakeServer, number: int, timeout_seconds: float
) -> None:
    """An attempt, and more of them while a busy machine has no time to connect within one."""
    for _ in range(5):
        await failure_of(probe, timeout_seconds)
        with contextlib.suppress(TimeoutError):
            fake.wait_until_accepted(number)
            break
    assert fake.accepted == number


async def answers(probe: RedisProbe) -> None:
    result = await probe.attempt(20)
    assert result.failure is None, result.failure


async def is_still(probe: RedisProbe) -> bool:
    """Whether `changed` has nothing to say."""
    with anyio.move_on_after(0.05):
        await probe.changed()
        return False
    return True


def probe_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "redis-probe"]


class Gate:
    """Accepts connections in front of a server, and passes nothing on until it is opened."""

    def __init__(self, pass_on: Callable[[socket.socket], None]) -> None:
        self._pass_on = pass_on
        self._opened = threading.Event()
        self._fake = FakeServer(self._talk)

    @property
    def port(self) -> int:
        return self._fake.port

    @property
    def accepted(self) -> int:
        return self._fake.accepted

    def open(self) -> None:
        self._opened.set()

    def _talk(self, sock: socket.socket) -> None:
        self._opened.wait(60)
        self._pass_on(sock)

    def __enter__(self) -> Self:
        self._fake.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.set()
        self._fake.__exit__(None, None, None)


@pytest.mark.parametrize("way", WAYS)
async def test_the_next_attempts_go_on_with_an_accepted_connection(
    secured: Secured, way: str
) -> None:
    port = secured.port if way.startswith("TLS") else secured.server.port
    with Gate(relay(port)) as gate:
        async with patient(WAYS[way](secured, gate.port)) as probe:
            await failure_of(probe, 3)  # with time to import redis before the connection counts
            for _ in range(5):
                failure = await failure_of(probe, 0.05)
                assert failure.error_type == "TimeoutError"
                assert failure.congestion
                assert "within 0.05 s" in failure.reason
            assert gate.accepted == 1
            assert await is_still(probe)
            gate.open()
            with anyio.fail_after(20):
                await probe.changed()
            await answers(probe)
            await answers(probe)
            assert gate.accepted == 1


async def test_a_frozen_redis_on_tls_makes_one_handshake_for_many_attempts(
    secured: Secured,
) -> None:
    before = secured.accepted()
    secured.server.freeze()
    try:
        async with patient(tls("")(secured, secured.port)) as probe:
            await failure_of(probe, 3)
            for _ in range(4):
                assert (await failure_of(probe, 0.05)).congestion
            secured.server.thaw()
            with anyio.fail_after(20):
                await probe.changed()
            await answers(probe)
            assert secured.accepted() == before + 2, "the probe's, and the one that asks"
    finally:
        secured.server.thaw()


async def test_an_attempt_under_way_gets_the_answer_that_comes_meanwhile(secured: Secured) -> None:
    with Gate(relay(secured.server.port)) as gate:
        async with (
            patient(plain("")(secured, gate.port)) as probe,
            anyio.create_task_group() as tasks,
        ):
            await failure_of(probe, 0.3)
            tasks.start_soon(answers, probe)
            await anyio.sleep(0.05)
            gate.open()
        assert gate.accepted == 1


@pytest.mark.parametrize(
    ("talk", "error_type"),
    [
        (lambda _: None, "ConnectionClosed"),
        (saying(b"-ERR max number of clients reached\r\n"), "MaxClients"),
        (saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "InvalidResponse"),
    ],
    ids=["closed", "crowded", "no Redis"],
)
async def test_what_went_wrong_after_the_attempt_is_said_by_the_next_one(
    talk: Callable[[socket.socket], None], error_type: str
) -> None:
    with Gate(talk) as gate:
        url = f"redis://127.0.0.1:{gate.port}/0?protocol=2"
        async with patient(RedisProbe(url)) as probe:
            await failure_of(probe, 0.3)
            gate.open()
            with anyio.fail_after(20):
                await probe.changed()
            assert (await failure_of(probe)).error_type == error_type
            assert gate.accepted == 1, "it was not asked once more to find out"
            assert (await failure_of(probe)).error_type == error_type
            assert gate.accepted == 2


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_patience_ends(scheme: str) -> None:
    with FakeServer(silent) as fake:
        url = f"{scheme}://127.0.0.1:{fake.port}/0?protocol=2"
        async with patient(RedisProbe(url), 1.0) as probe:
            await fails_until_accepted(probe, fake, 1, 0.05)
            # It is noticed, but it is no sign that Redis is back: the pace decides what follows.
            with anyio.move_on_after(2):
                await probe.changed()
                pytest.fail("a connection that was given up is no news")
            await fails_until_accepted(probe, fake, 2, 0.05)


async def test_without_patience_a_connection_ends_with_its_attempt() -> None:
    with FakeServer(silent) as fake:
        async with patient(RedisProbe(f"redis://127.0.0.1:{fake.port}/0"), 0.0) as probe:
            for number in range(1, 4):
                await fails_until_accepted(probe, fake, number, 0.2)


async def test_closing_the_probe_ends_what_outlasts_its_attempt() -> None:
    with FakeServer(silent) as fake:
        async with patient(RedisProbe(f"redis://127.0.0.1:{fake.port}/0")) as probe:
            await fails_until_accepted(probe, fake, 1, 0.1)
        await anyio.to_thread.run_sync(wait_until, lambda: not fake.open)
        await anyio.to_thread.run_sync(wait_until, lambda: not probe_threads())


async def test_the_policy_says_how_patient_a_start_up_is(secured: Secured) -> None:
    policy = Policy(attempt_timeout_seconds=0.1, answer_patience_seconds=60.0)
    diary = Diary()
    with Gate(relay(secured.port)) as gate:
        probe = tls("")(secured, gate.port)
        async with Orchestrator(probe, policy=policy, observers=[diary]) as startup:
            # Each failure is a failure in its own time, as before.
            await diary.until(lambda: len(diary.failures) >= 5, timeout_seconds=30)
            assert startup.stage is Stage.PROBING_REDIS
            assert gate.accepted == 1
            gate.open()
            await startup.wait_for(Stage.READY, timeout_seconds=30)
            assert gate.accepted == 1
