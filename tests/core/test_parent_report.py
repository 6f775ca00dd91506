"""What a process says to `run`, where that is its parent: each stage, and whether it comes back."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import Orchestrator, Stage
from orchestrator._runtime.notify_socket import PARENT_SOCKET, REPORT
from orchestrator.testing import REFUSED, ManualClock, ScriptedProbe

pytestmark = pytest.mark.anyio


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    address = str(tmp_path / "parent")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.setblocking(False)
        for name in (PARENT_SOCKET, "NOTIFY_SOCKET"):
            monkeypatch.setenv(name, address)
        yield listener


def reports(listener: socket.socket) -> Iterator[dict[str, object]]:
    while True:
        try:
            message = listener.recv(65536).decode()
        except BlockingIOError:
            return
        words = dict(line.split("=", 1) for line in message.splitlines())
        yield json.loads(words[REPORT])


async def test_a_recovery_is_told_apart_from_a_start(parent: socket.socket) -> None:
    clock, probe = ManualClock(), ScriptedProbe([None])
    async with Orchestrator(probe, clock=clock) as startup:
        await clock.advance(30)
        await startup.wait_for(Stage.READY)
        probe.then(REFUSED)
        await clock.advance(30)
        await startup.wait_for(Stage.DEGRADED)
        probe.then(None)
        await clock.advance(120)
        await startup.wait_for(Stage.READY)
    said = [(one["stage"], one.get("was_ready"), one.get("recovering")) for one in reports(parent)]
    assert said == [
        ("booting", None, None),
        ("booting", None, None),
        ("probing_redis", False, False),
        ("grace", False, False),
        ("ready", True, False),
        ("degraded", True, False),
        ("grace", True, True),
        ("ready", True, False),
        ("ready", True, False),
    ]
