"""A crowd that was held is let in: with the gate's pace, and all at once."""

import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.rows import Figure, Row, Verdict

PART = "release"
ROOT = Path(__file__).parents[2]
_TIMEOUT_SECONDS = 60.0

_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_PING = struct.pack("!BBI", 0x81, 0x84, 0) + b"ping"
_PONG = b"\x81\x04pong"
_CLOSE = b"\x88"


@dataclass(frozen=True, slots=True)
class Release:
    """What came of one release.

    Attributes:
        last_in_seconds: From ready until the last client was in.
        stall_ms: How late the event loop was at worst, in milliseconds.
        served: How many clients got their answer.
    """

    last_in_seconds: float
    stall_ms: float
    served: float


def measure(rounds: int = 7, clients: int = 1000, pool: int = 100) -> Iterator[Row]:
    """All rows.

    Args:
        rounds: How often each kind of release happens.
        clients: How many are held.
        pool: How many of them the application can take at once.
    """
    paced, quick = 32 * pool // 100, 80 * pool // 100  # the default for the pool that is measured
    with _server() as server:
        waiting = _in_turns(server, (paced, quick, clients), pool, clients, rounds, waits=True)
        failing = _in_turns(server, (paced, clients), pool, clients, rounds, waits=False)
    what = f"{clients:,} held clients, 20 ms each on a pool of {pool}"
    yield _row(f"{what} that lets wait: the last one in", "s", waiting, "last_in_seconds")
    yield _row(f"{what} that lets wait: the loop's longest stall", "ms", waiting, "stall_ms")
    row = _row(f"{what} that fails when empty: served", "clients", failing, "served")
    least = min(row.ours.values)
    yield Row(
        part=PART,
        what=row.what,
        unit=row.unit,
        ours=row.ours,
        peers=row.peers,
        more_is_better=True,
        verdicts=(Verdict(f"{least:.0f} of {clients} in every round", least == clients),),
    )


def _row(what: str, unit: str, taken: dict[str, list[Release]], field: str) -> Row:
    ours, *peers = (
        Figure(name, tuple(getattr(one, field) for one in runs)) for name, runs in taken.items()
    )
    return Row(part=PART, what=what, unit=unit, ours=ours, peers=tuple(peers))


def _in_turns(
    server: "subprocess.Popen[str]",
    batches: Sequence[int],
    pool: int,
    clients: int,
    rounds: int,
    *,
    waits: bool,
) -> dict[str, list[Release]]:
    names = {
        batch: "all at once" if batch == clients else f"{batch} at a time" for batch in batches
    }
    taken: dict[str, list[Release]] = {name: [] for name in names.values()}
    order = list(batches)
    for _ in range(rounds):
        for batch in order:
            taken[names[batch]].append(_release(server, batch, pool, clients, waits=waits))
        order.append(order.pop(0))
    return taken


def _release(
    server: "subprocess.Popen[str]", batch: int, pool: int, clients: int, *, waits: bool
) -> Release:
    assert server.stdin is not None
    server.stdin.write(f"{batch} {pool} {waits:d} {clients}\n")
    server.stdin.flush()
    with ExitStack() as stack:
        port = int(_line(server))
        crowd = [
            stack.enter_context(
                socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_SECONDS)
            )
            for _ in range(clients)
        ]
        for client in crowd:
            client.sendall(_HANDSHAKE)
        answers = _answers(crowd)
        stall, took, closed = map(float, _line(server).split())
    served = sum(_PONG in answer for answer in answers)
    if served + closed != clients:
        raise RuntimeError(f"{served} served and {closed:.0f} closed of {clients}")
    return Release(took, stall * 1e3, served)


def _answers(crowd: list[socket.socket]) -> list[bytes]:
    """What each got, until its message came back or it was closed."""
    answers = {client.fileno(): b"" for client in crowd}
    by_handle = {client.fileno(): client for client in crowd}
    poll = select.poll()
    for client in crowd:
        poll.register(client, select.POLLIN)
    open_handles = set(by_handle)
    while open_handles:
        ready = poll.poll(_TIMEOUT_SECONDS * 1000)
        if not ready:
            raise TimeoutError(f"{len(open_handles)} clients have no answer")
        for handle, _ in ready:
            client, before = by_handle[handle], answers[handle]
            data = client.recv(4096)
            answers[handle] += data
            _, end, frames = answers[handle].partition(b"\r\n\r\n")
            if end and end not in before:  # it was let in
                client.sendall(_PING)
            if not data or _PONG in frames or _CLOSE in frames:
                poll.unregister(handle)
                open_handles.remove(handle)
    return list(answers.values())


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
