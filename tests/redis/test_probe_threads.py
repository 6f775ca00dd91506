"""RedisProbe's thread: it delays nothing, and nothing of it is left behind."""

import gc
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import anyio
import psutil
import pytest
import redis

from orchestrator._probing.worker import Worker
from orchestrator.redis import RedisProbe, _session
from tests.redis_server import FakeServer, RedisServer, closing, free_port, greeted_then, silent
from tests.timing import quickest

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def probing(url: str) -> "aclosing[RedisProbe]":
    return aclosing(RedisProbe(url))


def probe_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "redis-probe"]


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not condition():  # what is waited for happens in other threads
            await anyio.sleep(0.001)


async def until_no_probe_thread() -> None:
    await until(lambda: not probe_threads())


async def error_type(probe: RedisProbe, timeout_seconds: float) -> str | None:
    result = await probe.attempt(timeout_seconds)
    return result.failure.error_type if result.failure else None


class HungResolver:
    """A resolver that answers nobody until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self._released = threading.Event()
        self._look_up = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._hang)

    def release(self) -> None:
        self._released.set()

    def _hang(self, *args: object, **_options: object) -> object:
        self.calls += 1
        self._released.wait()
        return self._look_up("127.0.0.1", args[1], type=socket.SOCK_STREAM)  # type: ignore[arg-type]  # the port


@pytest.fixture
def hung_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[HungResolver]:
    resolver = HungResolver(monkeypatch)
    yield resolver
    resolver.release()


# -- cancellation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("warm", [False, True])
async def test_cancelling_is_at_once_with_a_frozen_server(server: RedisServer, warm: bool) -> None:
    async with probing(server.url) as probe:
        if warm:
            assert await error_type(probe, 2) is None

        async def measure() -> float:
            server.freeze()
            started_at = time.perf_counter()
            with anyio.move_on_after(0.05) as scope:
                await probe.attempt(30)
            took = time.perf_counter() - started_at
            assert scope.cancelled_caught
            server.thaw()
            assert await error_type(probe, 2) is None
            return took

        assert await quickest(measure, 0.15) < 0.15
    await until_no_probe_thread()


async def test_cancelling_is_at_once_while_connecting() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for sock in fillers:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        async with probing(f"redis://127.0.0.1:{port}") as probe:

            async def measure() -> float:
                started_at = time.perf_counter()
                with anyio.move_on_after(0.05):
                    await probe.attempt(30)
                return time.perf_counter() - started_at

            assert await quickest(measure, 0.15) < 0.15
        await until_no_probe_thread()
        for sock in fillers:
            sock.close()


async def test_closing_ends_an_attempt_and_the_thread() -> None:
    with FakeServer(silent) as fake:
        async with anyio.create_task_group() as tasks, probing(fake.url) as probe:
            outcome: list[str | None] = []

            async def ask() -> None:
                outcome.append(await error_type(probe, 30))

            tasks.start_soon(ask)
            await until(lambda: fake.accepted)
            await probe.aclose()
        assert outcome
        await until_no_probe_thread()


# -- a hung resolver ------------------------------------------------------------------------------


async def test_a_hung_resolver_delays_nothing(hung_resolver: HungResolver) -> None:
    async with probing("redis://redis.example") as probe:

        async def time_out() -> float:
            started_at = time.perf_counter()
            assert await error_type(probe, 0.05) == "TimeoutError"
            return time.perf_counter() - started_at

        async def cancel() -> float:
            started_at = time.perf_counter()
            with anyio.move_on_after(0.02):
                await probe.attempt(30)
            return time.perf_counter() - started_at

        for _ in range(5):
            assert await quickest(time_out, 0.15) < 0.15
        assert await quickest(cancel, 0.12) < 0.12
        assert hung_resolver.calls == 1
        assert len(probe_threads()) == 1
    hung_resolver.release()
    await until_no_probe_thread()


async def test_attempts_join_a_slow_look_up(
    server: RedisServer, hung_resolver: HungResolver
) -> None:
    async with probing(f"redis://redis.example:{server.port}") as probe:
        result = await probe.attempt(0.05)
        assert result.failure is not None
        assert "not resolved within 0.05 s" in result.failure.reason
        answered = anyio.Event()
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                result = await probe.attempt(5)
                answered.set()
                assert result.failure is None

            tasks.start_soon(ask)
            await anyio.sleep(0.02)
            assert not answered.is_set()
            hung_resolver.release()
        assert hung_resolver.calls == 1


async def test_a_hung_credential_provider_is_joined_too() -> None:
    released = threading.Event()
    calls = []

    class Slow(redis.CredentialProvider):
        def get_credentials(self) -> tuple[str]:
            calls.append(1)
            released.wait()
            return ("password",)

    with FakeServer(greeted_then(b"+PONG\r\n")) as fake:
        client = redis.Redis(host="127.0.0.1", port=fake.port, credential_provider=Slow())
        probe = RedisProbe.from_client(client)
        for _ in range(2):
            result = await probe.attempt(0.05)
            assert result.failure is not None
            assert "credential provider" in result.failure.reason
        released.set()
        assert await error_type(probe, 2) is None
        assert len(calls) == 1
        await probe.aclose()
    await until_no_probe_thread()


async def test_an_exception_while_a_failure_is_put_into_words_ends_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_args: object) -> object:
        raise AttributeError("reason")

    monkeypatch.setattr(_session, "classify", fails)
    probe = RedisProbe(f"redis://127.0.0.1:{free_port()}")
    for _ in range(3):
        assert await error_type(probe, 5) == "AttributeError"
    assert len(probe_threads()) == 1
    await probe.aclose()
    await until_no_probe_thread()


# -- nothing left behind --------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["refused", "closed", "silent", "unresolved"])
async def test_many_failures_leave_nothing_behind(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_such_name(*_args: object, **_kwargs: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    with FakeServer(silent if what == "silent" else closing) as fake:
        if what == "unresolved":
            monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
        url = {
            "refused": f"redis://127.0.0.1:{free_port()}",
            "unresolved": "redis://redis.example",
        }.get(what, fake.url)
        rounds, timeout_seconds = (60, 0.002) if what == "silent" else (150, 2.0)
        async with probing(url) as probe:

            async def fail(times: int) -> None:
                for _ in range(times):
                    assert await error_type(probe, timeout_seconds) is not None

            await fail(20)
            gc.collect()
            before = len(gc.get_objects())
            await fail(rounds)
            gc.collect()
            assert len(gc.get_objects()) - before < 120 + (30 * rounds if fake.accepted else 0)
            assert len(probe_threads()) == 1
    await until_no_probe_thread()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")
async def test_refusals_and_breaks_leak_no_descriptor(server: RedisServer) -> None:
    me = psutil.Process()
    with redis.Redis(port=server.port, protocol=2) as admin:
        async with (
            probing(server.url) as probe,
            probing(f"redis://127.0.0.1:{free_port()}") as refused,
        ):
            assert await error_type(probe, 2) is None
            admin.ping()
            before = me.num_fds()
            for round_ in range(200):
                assert await error_type(refused, 2) is not None
                if round_ % 20 == 0:
                    admin.client_kill_filter(skipme=True)
                    await probe.changed()
                    assert await error_type(probe, 2) is None
            assert me.num_fds() == before
            assert len(probe_threads()) == 2
    await until_no_probe_thread()


async def test_a_forgotten_probe_lets_its_thread_and_connection_go(server: RedisServer) -> None:
    probe = RedisProbe(server.url)
    assert await error_type(probe, 2) is None
    del probe
    gc.collect()
    await until_no_probe_thread()


async def test_a_probe_that_is_used_again_and_again_keeps_one_worker() -> None:
    def workers() -> int:
        gc.collect()
        return sum(type(one) is Worker for one in gc.get_objects())

    before = workers()
    probe = RedisProbe(f"redis://127.0.0.1:{free_port()}")
    for _ in range(5):
        assert await error_type(probe, 2) == "ConnectionRefusedError"
        await probe.aclose()
    await until_no_probe_thread()
    assert workers() <= before + 1


async def test_attempts_of_a_probe_that_several_checks_share_are_made_in_turn() -> None:
    connections: list[int] = []
    let_go = threading.Event()

    def answer(sock: socket.socket) -> None:
        connections.append(1)
        let_go.wait()
        greeted_then(b"+PONG\r\n")(sock)

    with FakeServer(answer) as fake:
        async with probing(fake.url) as probe:
            types: list[str | None] = []

            async def ask() -> None:
                types.append(await error_type(probe, 20))

            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(ask)
                await until(lambda: connections)
                let_go.set()
            assert types == [None] * 3
    assert len(probe_threads()) <= 1


# -- the end of the process -----------------------------------------------------------------------

_PROGRAM = """
import socket, sys, time
import anyio
from orchestrator.redis import RedisProbe

url, backend = sys.argv[1:]
if url.endswith("hung.example"):
    socket.getaddrinfo = lambda *args, **kwargs: time.sleep(60)

async def main():
    probe = RedisProbe(url)
    with anyio.move_on_after(0.05):
        await probe.attempt(60)
    print("done", flush=True)

anyio.run(main, backend=backend)
"""


@pytest.mark.parametrize("hung", ["server", "resolver"])
def test_the_process_ends_at_once(hung: str, anyio_backend: str) -> None:
    with FakeServer(silent) as fake:
        url = fake.url if hung == "server" else "redis://hung.example"
        with subprocess.Popen(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(_PROGRAM), url, anyio_backend],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"done\n"
            assert process.wait(30) == 0  # the attempt had 60 s
            assert process.stderr.read() == b""


def test_importing_it_loads_neither_redis_nor_telemetry() -> None:
    program = """
import sys, orchestrator.redis
orchestrator.redis.RedisProbe("redis://localhost")
print([name for name in ("redis", "opentelemetry", "trio") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[]\n"
