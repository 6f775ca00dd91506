"""A crowd that came early is let in: at the gate's pace, and all at once.

Whatever the handlers do, and however many of the crowd were refused and come back, nobody may be
lost where the pool of connections raises when it is empty. What that costs is seen beside a gate
that lets in all at once, in front of a pool that lets wait.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.release_server import WORK_SECONDS, Setting
from tests.benchmarks.rows import Figure, Row, Verdict
from tests.gate.light_clients import SERVED
from tests.gate.release_crowd import batch_for, visit
from tests.redis_server import RedisServer

PART = "release"
ROOT = Path(__file__).parents[2]
SHAPES = ("/work_then_accept", "/accept_receive_work", "/push_only", "/polls", "/get", "/post")
"""One of each kind; that nobody is lost with any of the others either is tested."""

BACK_SECONDS = 0.25
"""When every fourth one of those that are refused comes back; the others do by `Retry-After`."""


@dataclass(frozen=True, slots=True)
class Release:
    """What came of one release.

    Attributes:
        last_in_seconds: From ready until the last client was served.
        stall_ms: How late the event loop was at worst, in milliseconds.
        served: How many clients were served.
    """

    last_in_seconds: float
    stall_ms: float
    served: float


def measure(
    rounds: int = 1,
    clients: int = 1000,
    pools: tuple[int, int] = (40, 100),
    paths: Sequence[str] = SHAPES,
) -> Iterator[Row]:
    """A row for each shape of handler, and two for what its release costs.

    Args:
        rounds: How often each release is measured.
        clients: How many come early.
        pools: How many connections the application has: where a quarter of the crowd is held and
            the others are refused and come back, and where all are held.
        paths: The shapes.
    """
    small, large = pools
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        server = stack.enter_context(_server())
        for path in paths:
            batch = batch_for(path)
            quarter = Setting(redis.url, clients, batch, small, waits=False, max_held=clients // 4)
            paced = Setting(redis.url, clients, batch, large, waits=False, max_held=clients)
            at_once = Setting(redis.url, clients, clients, large, waits=True, max_held=clients)
            taken: dict[Setting, list[Release]] = {quarter: [], paced: [], at_once: []}
            for _ in range(rounds):
                for setting, releases in taken.items():
                    releases.append(_release(server, path, setting))
            yield _served(path, taken[quarter] + taken[paced], clients, pools)
            yield from _costs(path, taken[paced], taken[at_once], clients, large)


def _served(path: str, releases: list[Release], clients: int, pools: tuple[int, int]) -> Row:
    served = tuple(release.served for release in releases)
    small, large = pools
    return Row(
        part=PART,
        what=f"{path[1:]}: served of {clients:,}: a quarter held, a pool of {small} that raises;"
        f" all held, one of {large}",
        unit="clients",
        ours=Figure("turnstile", served),
        more_is_better=True,
        verdicts=(Verdict(f"{min(served):.0f} of {clients} in every run", min(served) == clients),),
    )


def _costs(
    path: str, paced: list[Release], at_once: list[Release], clients: int, pool: int
) -> Iterator[Row]:
    for what, unit, field in (
        ("the last one served", "s", "last_in_seconds"),
        ("the loop's longest stall", "ms", "stall_ms"),
    ):
        ours, peer = (
            Figure(name, tuple(getattr(one, field) for one in releases))
            for name, releases in (
                (f"turnstile, a pool of {pool} that raises", paced),
                (f"all at once, a pool of {pool} that lets wait", at_once),
            )
        )
        yield Row(
            part=PART,
            what=f"{path[1:]}: {clients:,} held, {WORK_SECONDS * 1e3:.0f} ms of work: {what}",
            unit=unit,
            ours=ours,
            peers=(peer,),
        )


def _release(server: "subprocess.Popen[str]", path: str, setting: Setting) -> Release:
    _write(server, json.dumps(asdict(setting)))
    port = int(_line(server))
    return asyncio.run(_crowd(server, port, path, setting.clients))


async def _crowd(server: "subprocess.Popen[str]", port: int, path: str, clients: int) -> Release:
    last_at = 0.0
    served = 0

    async def come(number: int) -> None:
        nonlocal last_at, served
        if await visit(port, path, number, BACK_SECONDS) == SERVED:
            last_at = time.perf_counter()
            served += 1

    async with asyncio.TaskGroup() as tasks:
        for number in range(clients):
            tasks.create_task(come(number))
        # Of the same clock: that of the machine.
        ready_at = float(await asyncio.to_thread(_line, server))
    _write(server, "")
    return Release(last_at - ready_at, float(_line(server)) * 1e3, served)


def _write(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the server ended with {process.wait(5)}")
    return line


def _server() -> "subprocess.Popen[str]":
    """Ends when its standard input is closed, as leaving the context does."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.release_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
