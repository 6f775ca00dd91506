"""The status page under a real server that is told to stop while somebody watches."""

import contextlib
import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture
def port() -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    number = free_port()
    command = [sys.executable, "-m", "tests.browser.service", str(number)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield number, process
    finally:
        process.kill()
        process.wait()


def connect(port: int) -> http.client.HTTPConnection:
    """A connection, as soon as somebody listens there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.suppress(ConnectionRefusedError):
            connection.connect()
            return connection
        time.sleep(0.02)  # another process has no event
    raise TimeoutError


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_open_stream_does_not_keep_the_process_alive(
    number: signal.Signals, port: tuple[int, subprocess.Popen[bytes]]
) -> None:
    at, process = port
    with contextlib.closing(connect(at)) as connection:
        connection.request("GET", "/startup/events")
        stream = connection.getresponse()
        assert stream.status == 200
        while stream.readline() != b"event: state\n":
            pass
        assert json.loads(stream.readline().removeprefix(b"data: "))["stage"] == "ready"
        asked_at = time.monotonic()
        process.send_signal(number)
        rest = b""
        while (line := stream.readline()) and time.monotonic() < asked_at + 15:
            rest += line
    assert rest.endswith(b'event: end\ndata: {"reason":"the service is stopping"}\n\n')
    process.wait(30)
    assert time.monotonic() - asked_at < 10  # and not for ever; it takes 0.1 s
