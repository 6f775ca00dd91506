"""What goes wrong with probes elsewhere, tried with each of ours: threads, names, TLS, loops."""

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import pytest

from orchestrator import Check, Orchestrator, Policy, Probe, Stage
from orchestrator.checks import (
    _exchange_session,
    amqp,
    call,
    file,
    grpc,
    http,
    kafka,
    postgres,
    tcp,
)
from orchestrator.redis import RedisProbe
from orchestrator.testing import ScriptedProbe
from tests.asgi.gate_support import until
from tests.checks.checks_support import asked, server, until_idle, why
from tests.checks.test_grpc_probe import grpc_server
from tests.checks.test_kafka_probe import broker
from tests.checks.test_probes import response
from tests.redis_server import RedisServer, swallowing

ROOT = Path(__file__).parents[2]

BY_NAME: dict[str, Callable[[str, int], Probe]] = {
    "tcp": tcp,
    "http": lambda host, port: http(f"http://{host}:{port}/"),
    "https": lambda host, port: http(f"https://{host}:{port}/"),
    "grpc": lambda host, port: grpc(f"{host}:{port}"),
    "kafka": lambda host, port: kafka(f"{host}:{port}"),
    "postgres": lambda host, port: postgres(f"postgresql://{host}:{port}/app"),
    "amqp": lambda host, port: amqp(f"amqp://{host}:{port}"),
    "redis": lambda host, port: RedisProbe(f"redis://{host}:{port}"),
}


@contextmanager
def healthy(host: str = "localhost") -> Iterator[list[Probe]]:
    """One of each probe, and what it asks."""
    with ExitStack() as stack:
        http_port = stack.enter_context(server(*[response(204)] * 8))
        grpc_port, _ = stack.enter_context(grpc_server())
        kafka_port = stack.enter_context(broker())
        yield [
            call(lambda: True),
            file(__file__),
            tcp(host, kafka_port),
            http(f"http://{host}:{http_port}/"),
            grpc(f"{host}:{grpc_port}"),
            kafka(f"{host}:{kafka_port}"),
        ]


async def all_hold(probes: list[Probe]) -> None:
    for probe in probes:
        assert await why(probe) == ""


def test_each_probe_answers_while_the_default_executor_is_full() -> None:
    async def main() -> None:
        loop, let_go = asyncio.get_running_loop(), threading.Event()
        with ThreadPoolExecutor(2) as full:
            loop.set_default_executor(full)
            busy = [loop.run_in_executor(None, let_go.wait) for _ in range(8)]
            try:
                await all_hold(probes)
            finally:
                let_go.set()
                await asyncio.gather(*busy)

    with healthy() as probes:
        asyncio.run(main())


def test_each_probe_works_on_uvloop_and_in_a_thread_of_its_own() -> None:
    uvloop = pytest.importorskip("uvloop", reason="needs uvloop")
    with healthy("127.0.0.1") as probes:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(all_hold(probes))
        checks = [Check(str(n), probe, timeout_seconds=20) for n, probe in enumerate(probes)]
        policy = Policy(grace_seconds=0.01)
        startup = Orchestrator(ScriptedProbe("ok"), policy=policy, conditions=checks)
        with startup.run_in_thread():
            startup.wait_for_sync(Stage.READY, timeout_seconds=30)


@pytest.mark.anyio
async def test_a_resolver_that_never_answers_costs_one_thread_for_each_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await until_idle()
    let_go, before = threading.Event(), set(threading.enumerate())

    def started() -> list[str]:
        names = [one.name for one in threading.enumerate() if one not in before]
        return [name for name in names if not name.startswith("Trio")]  # it keeps one of its own

    def hang(*_: object, **__: object) -> list[object]:
        let_go.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    probes = [make(f"host-{n}.test", 1) for make in BY_NAME.values() for n in range(3)]
    try:
        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                for probe in probes:
                    tasks.start_soon(asked, probe, 0.05)
            assert len(started()) == len(probes), Counter(started())
    finally:
        let_go.set()
        for probe in probes:
            await probe.aclose()
    await until(lambda: not started())


@pytest.mark.anyio
async def test_a_dead_address_of_a_name_does_not_hide_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def two_addresses(_host: str, port: int, *_: object, **__: object) -> list[object]:
        places = [("127.0.0.1", dead), ("127.0.0.1", port)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place) for place in places]

    with swallowing() as dead, healthy("two.test") as probes, RedisServer() as redis:
        monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
        probes.append(RedisProbe(f"redis://two.test:{redis.port}"))
        reasons: list[str] = []

        async def ask(probe: Probe) -> None:
            reasons.append(await why(probe, 6))
            await probe.aclose()

        async with anyio.create_task_group() as tasks:
            for probe in probes:
                tasks.start_soon(ask, probe)
        assert reasons == [""] * len(probes)
        monkeypatch.undo()


HANGS = """
import socket, sys, time
import anyio
from orchestrator.checks import amqp, grpc, http, kafka, postgres, tcp
from orchestrator.redis import RedisProbe

def hang(*_, **__):
    time.sleep(3600)

socket.getaddrinfo = hang

async def main():
    for probe in (
        tcp("a.test", 1),
        http("https://b.test/"),
        grpc("c.test:1"),
        kafka("d.test:1"),
        postgres("postgresql://e.test/app"),
        amqp("amqp://f.test"),
        RedisProbe("redis://g.test"),
    ):
        assert (await probe.attempt(0.05)).failure.error_type == "TimeoutError"
    print("left", flush=True)

anyio.run(main)
"""


def test_a_resolver_that_never_answers_does_not_hold_up_the_exit() -> None:
    command = [sys.executable, "-c", HANGS]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "left\n"
            left_at = time.perf_counter()
            _, errors = process.communicate(timeout=30)
            assert time.perf_counter() - left_at < 10
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")


@pytest.mark.anyio
async def test_tls_settings_are_read_once_and_only_for_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    made, make = [], ssl.create_default_context

    def counted() -> ssl.SSLContext:
        made.append(make())
        return made[-1]

    monkeypatch.setattr(_exchange_session, "_contexts", {})
    monkeypatch.setattr(ssl, "create_default_context", counted)
    with server(*[b"no TLS"] * 30) as port:
        plain = [http(f"http://127.0.0.1:{port}/") for _ in range(4)]
        secure = [http(f"https://127.0.0.1:{port}/") for _ in range(4)]
        secure_grpc = [grpc(f"127.0.0.1:{port}", tls=True) for _ in range(2)]
        for probes, contexts in ((plain, 0), (secure, 1), (secure_grpc, 2)):
            for _ in range(2):
                async with anyio.create_task_group() as tasks:
                    for probe in probes:
                        tasks.start_soon(asked, probe)
            assert len(made) == contexts
