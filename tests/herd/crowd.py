"""Real clients that come back to one real instance when `Retry-After` says, and what that gives.

All come within a second while the instance is not ready; those for whom there is no room are sent
away, and add up to a second of their own to what they are told.
"""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.gate.light_clients import SERVED, Want, websocket

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Came:
    """How a crowd came in.

    Attributes:
        size: How many there were.
        seconds: When each was served, after the instance was ready; sorted.
        possible_per_second: How many its handlers can serve.
        measured_per_second: How many the gate says that it lets in.
        most_in_a_second: The most that came in a second, once it was ready.
        visits_each: How often each came.
    """

    size: int
    seconds: tuple[float, ...]
    possible_per_second: float
    measured_per_second: float
    most_in_a_second: int
    visits_each: float

    @property
    def lost(self) -> int:
        """How many were never served."""
        return self.size - len(self.seconds)

    @property
    def ideal_seconds(self) -> float:
        """How long it takes at least, at the rate at which the gate lets in."""
        return self.size / self.measured_per_second


def crowd(
    size: int,
    *,
    slots: int = 8,
    work_seconds: float = 0.02,
    outage_seconds: float = 4.0,
    most_seconds: float = 120.0,
    in_line: bool = True,
) -> Came:
    """Let so many come back.

    Args:
        size: How many there are.
        slots: How many handlers work at once.
        work_seconds: How long each does.
        outage_seconds: When the instance is ready.
        most_seconds: When to give up, after that.
        in_line: Whether the gate has a line; else it draws 1 to 3 s for everybody.
    """
    kind = "line" if in_line else "drawn"
    words = [sys.executable, "-m", "tests.herd.crowd_server", str(slots), str(work_seconds), kind]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT
    ) as server:
        try:
            port = int(_line(server))
            served, ready_at = asyncio.run(_come(server, port, size, outage_seconds, most_seconds))
            _write(server)
            told = json.loads(_line(server))
        finally:
            server.kill()
    return Came(
        size,
        tuple(sorted(at - ready_at for at in served)),
        slots / work_seconds,
        told["per_second"],
        told["most_in_a_second"],
        told["came"] / size,
    )


async def _come(
    server: "subprocess.Popen[str]", port: int, size: int, outage: float, most: float
) -> tuple[list[float], float]:
    served: list[float] = []

    async def one(number: int) -> None:
        await asyncio.sleep(number / size)
        if await websocket(port, Want("/", own_seconds=1.0)) == SERVED:
            served.append(time.monotonic())

    clients = [asyncio.create_task(one(number)) for number in range(size)]
    await asyncio.sleep(outage)
    _write(server)
    ready_at = float(await asyncio.to_thread(_line, server))
    _, late = await asyncio.wait(clients, timeout=most)
    for client in late:
        client.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    return served, ready_at


def _write(server: "subprocess.Popen[str]") -> None:
    assert server.stdin is not None
    server.stdin.write("\n")
    server.stdin.flush()


def _line(server: "subprocess.Popen[str]") -> str:
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line:
        raise RuntimeError(f"the server ended with {server.wait(5)}")
    return line
