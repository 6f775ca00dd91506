"""Others that do the job of checks, as their own documentation shows it, and the least it costs."""

import asyncio
import http.client
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any  # Any: what the extra `bench` brings is untyped here

import anyio
import anyio.to_thread
import httpx
import redis
import redis.asyncio
from fastapi import FastAPI, Response

from orchestrator import Check, Orchestrator, Policy, Probe, Stage
from orchestrator.asgi import health_app
from orchestrator.checks import call, tcp
from orchestrator.checks import http as http_probe
from orchestrator.redis import RedisProbe

OURS = "orchestrator"
BY_HAND = "a task with a time limit for each, by hand"
TIMERS = "a sleeping task for each"
SLOWEST = "the slowest one alone"
GATHERED = "tenacity, side by side"
IN_TURN = "tenacity, one after the other"
PY_HEALTHCHECK = "py-healthcheck, asked in the request"
FASTAPI_HEALTHCHECKS = "fastapi-healthchecks, asked in the request"

TIMEOUT_SECONDS = 1.0
"""The time limit of an attempt, for all of them."""


# -- many checks, while all is well ----------------------------------------------------------------


class Attempts:
    """Counts attempts that are answered at once."""

    def __init__(self) -> None:
        self.made = 0

    async def ask(self) -> None:
        self.made += 1
        await asyncio.sleep(0)


async def percent_of_a_core(
    name: str, number: int, interval_seconds: float, run_seconds: float, as_if_seconds: float
) -> float:
    """What `number` checks take of a core if each is asked every `as_if_seconds`.

    They are asked more often here, every `interval_seconds`; each attempt costs the same.
    """
    attempts = Attempts()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(_KEEPING[name](attempts, number, interval_seconds))
        await asyncio.sleep(2 * interval_seconds)  # until all are in their stride
        before, attempts.made = time.process_time(), 0
        await asyncio.sleep(run_seconds)
        spent, made = time.process_time() - before, attempts.made
        running.cancel()
    return 100 * spent / made * number / as_if_seconds


async def _ours(attempts: Attempts, number: int, interval_seconds: float) -> None:
    checks = [
        Check(f"check {n}", call(attempts.ask), interval_seconds=interval_seconds)
        for n in range(number)
    ]
    async with Orchestrator(call(_nothing), conditions=checks):
        await anyio.sleep_forever()


async def _by_hand(attempts: Attempts, number: int, interval_seconds: float) -> None:
    async def check() -> None:
        while True:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await attempts.ask()
            await asyncio.sleep(interval_seconds)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(number):
            tasks.create_task(check())


async def _timers(attempts: Attempts, number: int, interval_seconds: float) -> None:
    async def sleep() -> None:
        while True:
            await asyncio.sleep(interval_seconds)
            attempts.made += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(number):
            tasks.create_task(sleep())


async def _nothing() -> None:
    await asyncio.sleep(0)


_KEEPING = {OURS: _ours, BY_HAND: _by_hand, TIMERS: _timers}


# -- a start with three servers that are up --------------------------------------------------------


async def ready_ms(name: str, redis_url: str, web_url: str, port: int) -> float:
    """How long it takes from nothing to the answers of a Redis, a port and a web server, in ms."""
    began = time.perf_counter()
    await _STARTING[name](redis_url, web_url, port)
    return (time.perf_counter() - began) * 1000


async def _start_ours(redis_url: str, web_url: str, port: int) -> None:
    checks = [
        Check("cache", RedisProbe(redis_url)),
        Check("port", tcp("127.0.0.1", port)),
        Check("upstream", http_probe(web_url)),
    ]
    policy = Policy(grace_seconds=0)
    async with Orchestrator(call(_nothing), policy=policy, conditions=checks) as startup:
        await startup.wait_for(Stage.READY)


async def _start_slowest(redis_url: str, web_url: str, port: int) -> None:
    probe: Probe = http_probe(web_url)
    result = await probe.attempt(TIMEOUT_SECONDS)
    assert result.failure is None
    await probe.aclose()


async def _start_gathered(redis_url: str, web_url: str, port: int) -> None:
    async with asyncio.TaskGroup() as tasks:
        for ask in _asking(redis_url, web_url, port):
            tasks.create_task(_retried(ask))


async def _start_in_turn(redis_url: str, web_url: str, port: int) -> None:
    for ask in _asking(redis_url, web_url, port):
        await _retried(ask)


async def _retried(ask: Callable[[], Awaitable[None]]) -> None:
    tenacity: Any = __import__("tenacity")
    async for attempt in tenacity.AsyncRetrying(
        stop=tenacity.stop_after_delay(30), wait=tenacity.wait_random_exponential(0.1, 2)
    ):
        with attempt:
            await ask()


def _asking(redis_url: str, web_url: str, port: int) -> list[Callable[[], Awaitable[None]]]:
    async def ping() -> None:
        async with redis.asyncio.from_url(redis_url) as client:
            await client.ping()

    async def connect() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()

    async def get() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            (await client.get(web_url)).raise_for_status()

    return [ping, connect, get]


_STARTING = {
    OURS: _start_ours,
    SLOWEST: _start_slowest,
    GATHERED: _start_gathered,
    IN_TURN: _start_in_turn,
}


# -- one that hangs --------------------------------------------------------------------------------


async def answer_ms(name: str, good_port: int, silent_port: int) -> float:
    """How long a health check takes to be answered while one of three servers is silent, in ms."""
    async with _SERVING[name](good_port, silent_port) as (app, path):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            began = time.perf_counter()
            response = await client.get(path, timeout=60)
            took = time.perf_counter() - began
    assert response.status_code in (200, 500, 503)
    return took * 1000


class _Served:
    """An application and its path of health, for as long as the block runs."""

    def __init__(self, app: Any, path: str, startup: Orchestrator | None = None) -> None:
        self._served = app, path
        self._startup = startup

    async def __aenter__(self) -> tuple[Any, str]:
        if self._startup is not None:
            await self._startup.start()
            await asyncio.sleep(0.1)  # it has asked by then
        return self._served

    async def __aexit__(self, *_: object) -> None:
        if self._startup is not None:
            await self._startup.aclose()


def _serve_ours(good_port: int, silent_port: int) -> _Served:
    checks = [
        Check(f"redis {n}", RedisProbe(_url(port)), timeout_seconds=TIMEOUT_SECONDS)
        for n, port in enumerate((good_port, silent_port, good_port))
    ]
    startup = Orchestrator(RedisProbe(_url(good_port)), conditions=checks)
    return _Served(health_app(startup), "/readyz", startup)


def _serve_py_healthcheck(good_port: int, silent_port: int) -> _Served:
    library: Any = __import__("healthcheck")

    def ping(port: int) -> tuple[bool, str]:
        with redis.Redis(port=port, socket_timeout=TIMEOUT_SECONDS) as client:
            return bool(client.ping()), "pong"

    health = library.HealthCheck()
    for port in (good_port, silent_port, good_port):
        checker: Any = partial(ping, port)
        checker.__name__ = f"redis on {port}"
        health.add_check(checker)
    app = FastAPI()

    @app.get("/health")
    def answer() -> Response:
        body, status, headers = health.run()
        return Response(body, status, headers)

    return _Served(app, "/health")


def _serve_fastapi_healthchecks(good_port: int, silent_port: int) -> _Served:
    api: Any = __import__("fastapi_healthchecks.api.router", fromlist=["router"])
    checks: Any = __import__("fastapi_healthchecks.checks.redis", fromlist=["redis"])
    app = FastAPI()
    asked = [
        checks.RedisCheck("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
        for port in (good_port, silent_port, good_port)
    ]
    app.include_router(api.HealthcheckRouter(api.Probe(name="readiness", checks=asked)))
    return _Served(app, "/readiness")


def _url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


_SERVING = {
    OURS: _serve_ours,
    PY_HEALTHCHECK: _serve_py_healthcheck,
    FASTAPI_HEALTHCHECKS: _serve_fastapi_healthchecks,
}
NEEDS = {
    PY_HEALTHCHECK: "healthcheck",
    FASTAPI_HEALTHCHECKS: "fastapi_healthchecks",
    GATHERED: "tenacity",
    IN_TURN: "tenacity",
}
"""What has to be installed for these."""


def is_up(port: int) -> bool:
    """Whether a web server answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
