"""What the tests of several probes share."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from orchestrator import Probe, ProbeResult
from orchestrator._probing.blocking_probe import BlockingProbe


@contextmanager
def server(*answers: bytes, hold: float = 0.0, heard: list[bytes] | None = None) -> Iterator[int]:
    """Answers each connection with the next of these, and closes; with `hold`, only later.

    What it was asked goes into `heard`.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for answer in answers:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                asked = sock.recv(65536)
                if heard is not None:
                    heard.append(asked)
                time.sleep(hold)
                sock.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


async def asked(probe: Probe, timeout_seconds: float = 5.0) -> ProbeResult:
    with anyio.fail_after(30):
        return await probe.attempt(timeout_seconds)


async def why(probe: Probe, timeout_seconds: float = 5.0) -> str:
    failure = (await asked(probe, timeout_seconds)).failure
    return "" if failure is None else failure.reason


def threads_of_checks() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "startup-check"]


async def until_parked(probe: Probe) -> None:
    assert isinstance(probe, BlockingProbe)
    with anyio.fail_after(30):
        while probe._worker.busy:  # a thread has no event that can be awaited
            await anyio.sleep(0.005)


async def until_idle() -> None:
    with anyio.fail_after(30):
        while threads_of_checks():  # a thread has no event that can be awaited
            await anyio.sleep(0.005)
