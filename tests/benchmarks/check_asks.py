"""A hundred checks of real servers that are up, and the least that asking them costs.

The least is the same question, on asyncio's own streams in a loop by hand: no deadline that a
driver cannot outlast, no failure told apart, no latency that leaves out the lag of the event loop.
"""

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from orchestrator import Check, Orchestrator, Policy, Probe, Stage
from orchestrator.checks import call, http, postgres, tcp
from orchestrator.redis import RedisProbe
from tests.benchmarks.check_peers import TIMEOUT_SECONDS, Rate, nothing, percent_while
from tests.postgres_server import PostgresProcess

Ask = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One kind of server.

    Attributes:
        what: The question.
        probe: Makes our probe.
        connect: Gives the bare question; where a connection is kept, on one until the end.
        most_times_bare: What ours may cost, in bare questions.
        most_percent: What it may cost in all, in per cent of a core; `None` where the bare
            question costs more.
    """

    what: str
    probe: Callable[[], Probe]
    connect: Callable[[AsyncExitStack], Awaitable[Ask]]
    most_times_bare: float
    most_percent: float | None = 0.1


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def a_redis(url: str, port: int) -> Asked:
    """PING, on a connection that is kept."""

    async def connect(end: AsyncExitStack) -> Ask:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        end.push_async_callback(_close, writer)

        async def ask() -> None:
            writer.write(b"*1\r\n$4\r\nPING\r\n")
            assert await reader.readline() == b"+PONG\r\n"

        return ask

    what = "PING to Redis, on a connection that is kept"
    return Asked(what, lambda: RedisProbe(url), connect, most_times_bare=5)


def a_postgres(server: PostgresProcess) -> Asked:
    """SELECT 1, on a connection that is kept. The bare one is let in without a password."""

    async def connect(end: AsyncExitStack) -> Ask:
        reader, writer = await asyncio.open_unix_connection(
            str(server.directory / f".s.PGSQL.{server.port}")
        )
        end.push_async_callback(_close, writer)
        names = b"user\0admin\0database\0postgres\0\0"
        writer.write(struct.pack(">II", 8 + len(names), 196608) + names)
        await until_ready(reader)
        query = b"SELECT 1\0"

        async def ask() -> None:
            writer.write(b"Q" + struct.pack(">I", 4 + len(query)) + query)
            await until_ready(reader)

        return ask

    async def until_ready(reader: asyncio.StreamReader) -> None:
        kind = b""
        while kind != b"Z":
            kind, size = struct.unpack(">cI", await reader.readexactly(5))
            assert kind != b"E"
            await reader.readexactly(size - 4)

    place = f"host={server.directory} port={server.port} user=admin dbname=postgres"
    what = "SELECT 1 to PostgreSQL, on a connection that is kept"
    return Asked(what, lambda: postgres(place), connect, most_times_bare=2.5)


def a_port(port: int) -> Asked:
    """Connect, and close again."""

    async def connect(end: AsyncExitStack) -> Ask:
        async def ask() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            await _close(writer)

        return ask

    what = "a port, connected to anew"
    return Asked(what, lambda: tcp("127.0.0.1", port), connect, most_times_bare=1.5)


def a_web_service(port: int) -> Asked:
    """GET, on a connection of its own."""

    async def connect(end: AsyncExitStack) -> Ask:
        async def ask() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            assert b" 200 " in (await reader.read()).split(b"\r\n")[0]
            await _close(writer)

        return ask

    url = f"http://127.0.0.1:{port}/"
    what = "GET to a web service, connected to anew"
    return Asked(what, lambda: http(url), connect, most_times_bare=1.25, most_percent=None)


async def percent_ours(asked: Asked, rate: Rate) -> float:
    """What our checks take of a core."""
    checks = [
        Check(f"check {n}", asked.probe(), interval_seconds=rate.interval_seconds)
        for n in range(rate.number)
    ]
    policy = Policy(grace_seconds=0)
    async with Orchestrator(call(nothing), policy=policy, conditions=checks) as startup:
        await startup.wait_for(Stage.READY, timeout_seconds=60)
        return await percent_while(rate)


async def percent_bare(asked: Asked, rate: Rate) -> float:
    """What the bare questions take of a core."""
    sleeping: set[int] = set()  # only these are cancelled: the others close what they have opened
    ended = False

    async def one(number: int) -> None:
        ask = await asked.connect(end)
        while not ended:
            with contextlib.suppress(TimeoutError):  # as a failed attempt of ours would
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    await ask()
            sleeping.add(number)
            await asyncio.sleep(rate.interval_seconds)
            sleeping.discard(number)

    async with AsyncExitStack() as end, asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(number)) for number in range(rate.number)]
        percent = await percent_while(rate)
        ended = True
        for number in sleeping:
            running[number].cancel()
    return percent
