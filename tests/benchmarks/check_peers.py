"""Others that do the job of checks, as their own documentation shows it, and the least it costs."""

import asyncio
import http.client
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from random import random
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
BY_HAND = "a task with a time limit for each, by hand, all at one moment"
JITTERED = "the same with jitter"
TIMERS = "a sleeping task for each"
BARE = "the same questions, by hand"
SLOWEST = "the slowest one alone"
GATHERED = "tenacity, side by side"
IN_TURN = "tenacity, one after the other"
PY_HEALTHCHECK = "py-healthcheck, asked in the request"
FASTAPI_HEALTHCHECKS = "fastapi-healthchecks, asked in the request"

TIMEOUT_SECONDS = 1.0
"""The time limit of an attempt, for all of them."""


# -- many checks, while all is well ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rate:
    """How often what is asked.

    Attributes:
        number: So many checks.
        interval_seconds: How often each is asked here.
        as_if_seconds: How often it would be asked; an attempt costs the same.
        settle_seconds: How long all are in their stride before it is measured.
        run_seconds: How long it is measured.
    """

    number: int
    interval_seconds: float
    as_if_seconds: float
    settle_seconds: float
    run_seconds: float


async def percent_while(rate: Rate) -> float:
    """What this process takes of a core, at the rate at which checks would be asked."""
    await asyncio.sleep(rate.settle_seconds)
    began, before = time.monotonic(), time.process_time()
    await asyncio.sleep(rate.run_seconds)
    share = (time.process_time() - before) / (time.monotonic() - began)
    return 100 * share * rate.interval_seconds / rate.as_if_seconds


async def percent_of_a_core(name: str, rate: Rate) -> float:
    """What checks of a function take of a core that answers at once."""
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(_KEEPING[name](rate.number, rate.interval_seconds))
        percent = await percent_while(rate)
        running.cancel()
    return percent


async def _ours(number: int, interval_seconds: float) -> None:
    checks = [
        Check(f"check {n}", call(nothing), interval_seconds=interval_seconds) for n in range(number)
    ]
    policy = Policy(grace_seconds=0)
    async with Orchestrator(call(nothing), policy=policy, conditions=checks):
        await anyio.sleep_forever()


async def _by_hand(number: int, interval_seconds: float, jitter: float = 0.0) -> None:
    async def check() -> None:
        while True:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await nothing()
            await asyncio.sleep(interval_seconds * (1 - jitter * random()))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(number):
            tasks.create_task(check())


async def _timers(number: int, interval_seconds: float) -> None:
    async def sleep() -> None:
        while True:
            await asyncio.sleep(interval_seconds)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(number):
            tasks.create_task(sleep())


async def nothing() -> None:
    """Answers at once."""
    await asyncio.sleep(0)


_KEEPING: dict[str, Callable[[int, float], Coroutine[Any, Any, None]]] = {
    OURS: _ours,
    BY_HAND: _by_hand,
    JITTERED: partial(_by_hand, jitter=0.1),
    TIMERS: _timers,
}


# -- a start with three servers that are up --------------------------------------------------------


async def ready_ms(name: str, redis_url: str, web_url: str, port: int) -> float:
    """How long it takes from nothing to the answers of a Redis, a port and a web server, in ms."""
    began = time.perf_counter()
    at = await _STARTING[name](redis_url, web_url, port)
    return (at - began) * 1000


async def _start_ours(redis_url: str, web_url: str, port: int) -> float:
    checks = [
        Check("cache", RedisProbe(redis_url)),
        Check("port", tcp("127.0.0.1", port)),
        Check("upstream", http_probe(web_url)),
    ]
    policy = Policy(grace_seconds=0)
    async with Orchestrator(call(nothing), policy=policy, conditions=checks) as startup:
        await startup.wait_for(Stage.READY)
        return time.perf_counter()  # to leave it again is no part of the start


async def _start_slowest(redis_url: str, web_url: str, port: int) -> float:
    probe: Probe = http_probe(web_url)
    result = await probe.attempt(TIMEOUT_SECONDS)
    at = time.perf_counter()
    assert result.failure is None
    await probe.aclose()
    return at


async def _start_gathered(redis_url: str, web_url: str, port: int) -> float:
    async with asyncio.TaskGroup() as tasks:
        for ask in _asking(redis_url, web_url, port):
            tasks.create_task(_retried(ask))
    return time.perf_counter()


async def _start_in_turn(redis_url: str, web_url: str, port: int) -> float:
    for ask in _asking(redis_url, web_url, port):
        await _retried(ask)
    return time.perf_counter()


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
