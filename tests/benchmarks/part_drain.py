"""A service that ends with very many WebSockets open: how they are closed, and what the loop feels.

Ours closes them one by one, spread over the time that the policy gives; uvicorn alone all at once.
Each comes back at once elsewhere, so how many are closed in the worst tenth of a second is what the
rest of the fleet has to take.
"""

import asyncio
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.rows import Figure, Row, Verdict, at_most
from tests.gate.light_clients import _KEY

PART = "drain"
ROOT = Path(__file__).parents[2]
SOCKETS, SECONDS, ROUNDS = 1_000, 2.0, 2
GOING_AWAY = 1012

OURS, ALONE = "orchestrator", "uvicorn alone"
_WAYS = {OURS: "ours", ALONE: "alone"}
_MOST_LATE_SECONDS, _AT_ONCE = 0.5, 64
_MOST_OF_PEAK = 0.5


@dataclass(frozen=True, slots=True)
class Drained:
    """How one service ended.

    Attributes:
        seconds: Until the last WebSocket was closed.
        stall_ms: How late the event loop was at worst.
        told: How many clients were told 1012, the code for a service that restarts.
        peak: How many were closed in the worst tenth of a second.
    """

    seconds: float
    stall_ms: float
    told: float
    peak: float


def measure(
    sockets: int = SOCKETS, close_seconds: float = SECONDS, rounds: int = ROUNDS
) -> Iterator[Row]:
    """All rows."""
    taken: dict[str, list[Drained]] = {name: [] for name in _WAYS}
    for _ in range(rounds):
        for name, way in _WAYS.items():
            taken[name].append(asyncio.run(_drain(way, sockets, close_seconds)))

    def figures(field: str) -> tuple[Figure, Figure]:
        ours, peer = (
            Figure(name, tuple(getattr(one, field) for one in runs)) for name, runs in taken.items()
        )
        return ours, peer

    def row(what: str, unit: str, field: str, *verdicts: Verdict, more: bool = False) -> Row:
        ours, peer = figures(field)
        return Row(
            part=PART,
            what=what,
            unit=unit,
            ours=ours,
            peers=(peer,),
            more_is_better=more,
            verdicts=verdicts,
        )

    late = figures("seconds")[0].median - close_seconds
    most_late = f"{late:.2g} s after the {close_seconds:g} s that it may take"
    verdict = Verdict(f"{most_late} (at most {_MOST_LATE_SECONDS:g})", late <= _MOST_LATE_SECONDS)
    yield row(f"{sockets:,} open WebSockets: the last is closed", "s", "seconds", verdict)
    told = min(figures("told")[0].values)
    verdict = Verdict(f"{told:.0f} of {sockets} in every run", told == sockets)
    yield row("clients told that the service restarts", "clients", "told", verdict, more=True)
    peak = at_most(figures("peak")[0], _MOST_OF_PEAK, figures("peak")[1])
    yield row("closed in the worst tenth of a second", "clients", "peak", peak)
    stall = at_most(figures("stall_ms")[0], 1.0, figures("stall_ms")[1])
    yield row("the loop's longest stall meanwhile", "ms", "stall_ms", stall)


async def _drain(way: str, sockets: int, close_seconds: float) -> Drained:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.benchmarks.drain_server", way, str(close_seconds)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        gate = asyncio.Semaphore(_AT_ONCE)
        clients = await asyncio.gather(*(_connect(port, gate) for _ in range(sockets)))
        began = time.perf_counter()
        process.stdin.write(b"\n")
        closes = await asyncio.gather(*(_closed(*client) for client in clients))
        stall = float(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    codes = Counter(code for code, _ in closes)
    moments = Counter(int((at - began) * 10) for _, at in closes)
    last = max(at for _, at in closes) - began
    return Drained(last, stall * 1e3, codes[GOING_AWAY], max(moments.values()))


async def _connect(
    port: int, gate: asyncio.Semaphore
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"GET /chat HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n" % _KEY
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head.split(b"\r\n")[0], head
        return reader, writer


async def _closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, float]:
    """The code with which the service closed it, 1006 for none, and when."""
    code = 1006
    try:
        _, size = await reader.readexactly(2)
        at = time.perf_counter()
        payload = await reader.readexactly(size)
        code = struct.unpack("!H", payload[:2])[0] if size >= 2 else 1005
        writer.write(struct.pack("!BBIH", 0x88, 0x82, 0, code))  # and so the server may end
    except (asyncio.IncompleteReadError, OSError):
        at = time.perf_counter()
    writer.close()
    return code, at
