"""Ways to wait until a Redis answers: ours, libraries for retries, loops, and a shell.

Those of asyncio ask with redis-py's client, which makes no retry of its own here, and gives up an
attempt after 1 s as ours does. Attempts are counted where they are made: a server that is not there
cannot count.
"""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import redis  # the application has loaded it too, before its first answer comes
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff

from orchestrator import Observer, Orchestrator, Stage
from orchestrator.redis import RedisProbe
from states import Fact, ProbeFailed, ProbeSucceeded, StageChanged
from tests.benchmarks.detection_crew import Candidate, Job, Outcome, Run
from tests.redis_server import find_redis_server

TIMEOUT_SECONDS = 1.0
CAP_SECONDS = 10.0
"""The longest wait of those libraries that know no bound by themselves."""


class Attempts(Observer):
    """Counts."""

    def __init__(self) -> None:
        self.made = 0

    def observed(self, fact: Fact, _changed: StageChanged | None) -> None:
        self.made += isinstance(fact, ProbeSucceeded | ProbeFailed)


async def ours(job: Job) -> Outcome:
    attempts = Attempts()
    known: list[tuple[float, int]] = []
    async with Orchestrator(RedisProbe(job.url), observers=[attempts]) as startup:
        async for event in startup.subscribe():
            if event.current is Stage.GRACE:
                known.append((time.monotonic(), attempts.made))
            elif event.current is Stage.READY:
                break
    return Outcome(*known[0], resumed=len(known))


class Ping:
    """Asks with redis-py's client, and counts."""

    def __init__(self, url: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.made = 0
        self._client = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )

    async def __call__(self) -> None:
        self.made += 1
        await self._client.ping()

    async def outcome(self) -> Outcome:
        """It answers: since now it is known."""
        known_at = time.monotonic()
        await self._client.aclose()
        return Outcome(known_at, self.made)


def loop(seconds: float, timeout_seconds: float = TIMEOUT_SECONDS) -> Run:
    """Ask again and again, with a sleep in between."""

    async def run(job: Job) -> Outcome:
        ping = Ping(job.url, timeout_seconds)
        while True:
            try:
                await ping()
                return await ping.outcome()
            except redis.RedisError:
                await asyncio.sleep(seconds)

    return run


def retried(decorated: Callable[[Ping], Callable[[], Awaitable[None]]]) -> Run:
    """Ask as a library for retries has it."""

    async def run(job: Job) -> Outcome:
        ping = Ping(job.url)
        await decorated(ping)()
        return await ping.outcome()

    return run


def _tenacity(ping: Ping) -> Callable[[], Awaitable[None]]:
    tenacity: Any = import_module("tenacity")  # untyped: types are checked without the extra

    retrying: Callable[[], Awaitable[None]] = tenacity.retry(
        wait=tenacity.wait_exponential(max=CAP_SECONDS),
        retry=tenacity.retry_if_exception_type(redis.RedisError),
    )(ping.__call__)
    return retrying


def _stamina(ping: Ping) -> Callable[[], Awaitable[None]]:
    stamina: Any = import_module("stamina")  # untyped: types are checked without the extra

    decorate: Callable[..., Callable[[], Awaitable[None]]] = stamina.retry(
        on=redis.RedisError, attempts=None, timeout=None
    )
    return decorate(ping.__call__)


def _backoff(ping: Ping) -> Callable[[], Awaitable[None]]:
    backoff: Any = import_module("backoff")  # untyped: types are checked without the extra

    decorate: Callable[..., Callable[[], Awaitable[None]]] = backoff.on_exception(
        backoff.expo, redis.RedisError, max_value=CAP_SECONDS
    )
    return decorate(ping.__call__)


async def redis_retry(job: Job) -> Outcome:
    """redis-py's own retries, without an end; they are counted where they connect."""
    attempts = 0

    def counting(base: type[Any]) -> type[Any]:  # Any: redis-py's classes have untyped methods
        class Counting(base):  # type: ignore[misc]  # of a class that is an argument
            async def _connect(self) -> None:
                nonlocal attempts
                attempts += 1
                await super()._connect()

        return Counting

    pool = redis.asyncio.ConnectionPool.from_url(
        job.url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(ExponentialWithJitterBackoff(), -1),
    )
    pool.connection_class = counting(pool.connection_class)
    client = redis.asyncio.Redis.from_pool(pool)
    await client.ping()
    known_at = time.monotonic()
    await client.aclose()
    return Outcome(known_at, attempts)


def redis_cli() -> str | None:
    """The program, which lies beside the server where that came as a package."""
    beside = Path(find_redis_server()).with_name("redis-cli")
    return str(beside) if beside.exists() else shutil.which("redis-cli")


_SCRIPT = """
n=1
until [ "$("$@" ping 2>/dev/null)" = PONG ]; do sleep 1; n=$((n + 1)); done
echo $n
"""


async def shell(job: Job) -> Outcome:
    program = redis_cli()
    if program is None:
        raise FileNotFoundError("redis-cli")
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", _SCRIPT, "sh", program, *job.address), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = await process.stdout.readline()
        known_at = time.monotonic()
        return Outcome(known_at, int(line))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def in_flight(job: Job) -> Outcome:
    """One PING of redis-py's client without an end, where something listens already."""
    client = redis.asyncio.Redis.from_url(job.url, socket_timeout=None, socket_connect_timeout=None)
    await client.ping()
    known_at = time.monotonic()
    await client.aclose()
    return Outcome(known_at)


async def raw_in_flight(job: Job) -> Outcome:
    """The same without a client: the least that it can cost."""
    host, port = job.address[1], int(job.address[3])
    async with await anyio.connect_tcp(host, port) as stream:
        await stream.send(b"PING\r\n")
        await stream.receive()
        return Outcome(time.monotonic())


OURS, OURS_TRIO = "ours (asyncio)", "ours (trio)"
ORIGINAL = "loop, 0.5 s"
IN_FLIGHT = "redis-py, PING left in flight"
RAW_IN_FLIGHT = "raw TCP, PING left in flight"
PATIENT = "loop of 1 s attempts"

CANDIDATES = {
    OURS: Candidate(ours),
    OURS_TRIO: Candidate(ours, backend="trio"),
    "shell, sleep 1": Candidate(shell),
    "tenacity": Candidate(retried(_tenacity), ("tenacity",)),
    "stamina": Candidate(retried(_stamina), ("stamina",)),
    "backoff": Candidate(retried(_backoff), ("backoff",)),
    "redis-py Retry": Candidate(redis_retry),
    "loop, 0.1 s": Candidate(loop(0.1)),
    ORIGINAL: Candidate(loop(0.5)),
    "loop, 1 s": Candidate(loop(1.0)),
    IN_FLIGHT: Candidate(in_flight),
    RAW_IN_FLIGHT: Candidate(raw_in_flight),
    PATIENT: Candidate(loop(0.5, timeout_seconds=0.5)),
}
