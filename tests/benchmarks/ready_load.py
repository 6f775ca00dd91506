"""A load generator: `python -m tests.benchmarks.ready_load`.

For each line `KIND PORT COUNT` on standard input, of the kinds in `KINDS`, it does so many round
trips over connections that stay open, and prints the seconds that they took. Sockets and bytes are
all there is, so that it needs far less time for each than a server does.
"""

import base64
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass

CONNECTIONS = 16
KINDS = {"http": 1, "websocket": 1, "pipelined": 8}
"""How many requests or messages of one connection are on their way at once."""

_PAYLOAD = b"0123456789abcdef" * 2
_TIMEOUT_SECONDS = 20.0


@dataclass(slots=True)
class Connection:
    """One connection: what is sent each time, and how many bytes come back for it."""

    sock: socket.socket
    request: bytes
    answer_bytes: int
    trips: int
    missing: int = 0


def open_http(port: int) -> Connection:
    """A connection on which one request was answered."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b"GET /chat HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n"
    sock.sendall(request)
    answer = b""
    while not answer.endswith(b"\r\n\r\nok"):
        answer += _some(sock)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"answered {answer[:100]!r}")
    return Connection(sock, request, len(answer), 1)


def open_websocket(port: int, at_once: int) -> Connection:
    """A connection after its handshake, and after one message came back."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(b"0123456789abcdef").decode()
    sock.sendall(
        f"GET /chat HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _some(sock)
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise RuntimeError(f"answered {answer[:100]!r}")
    # A text frame with a mask of zeros, which leaves the payload as it is.
    frame = struct.pack("!BBI", 0x81, 0x80 | len(_PAYLOAD), 0) + _PAYLOAD
    echo = struct.pack("!BB", 0x81, len(_PAYLOAD)) + _PAYLOAD
    sock.sendall(frame)
    answer = answer.partition(b"\r\n\r\n")[2]
    while len(answer) < len(echo):
        answer += _some(sock)
    if answer != echo:
        raise RuntimeError(f"echoed {answer!r}")
    return Connection(sock, frame * at_once, len(echo) * at_once, at_once)


def _some(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise RuntimeError("the server closed the connection")
    return data


class Load:
    """All connections to one port."""

    def __init__(self, kind: str, port: int) -> None:
        at_once = KINDS[kind]
        connections = [
            open_http(port) if kind == "http" else open_websocket(port, at_once)
            for _ in range(CONNECTIONS)
        ]
        self._by_handle = {one.sock.fileno(): one for one in connections}
        self._poll = select.poll()
        for one in connections:
            self._poll.register(one.sock, select.POLLIN)

    def run(self, count: int) -> tuple[float, int]:
        """At least `count` round trips; the seconds, and how many they were."""
        done = asked = 0
        began = time.perf_counter()
        for one in self._by_handle.values():
            asked += self._ask(one)
        while done < asked:
            ready = self._poll.poll(_TIMEOUT_SECONDS * 1000)
            if not ready:
                raise TimeoutError(f"no answer within {_TIMEOUT_SECONDS:g} s")
            for handle, _ in ready:
                one = self._by_handle[handle]
                one.missing -= len(_some(one.sock))
                if one.missing > 0:
                    continue
                if one.missing < 0:
                    raise RuntimeError("more was answered than was asked for")
                done += one.trips
                if asked < count:
                    asked += self._ask(one)
        return time.perf_counter() - began, done

    def _ask(self, one: Connection) -> int:
        one.missing = one.answer_bytes
        one.sock.sendall(one.request)
        return one.trips


def main() -> None:
    """Do what the lines say."""
    loads: dict[tuple[str, int], Load] = {}
    for line in sys.stdin:
        kind, port, count = line.split()
        known = (kind, int(port))
        if known not in loads:
            loads[known] = Load(*known)
        print(*loads[known].run(int(count)), flush=True)


if __name__ == "__main__":
    main()
