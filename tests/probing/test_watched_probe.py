"""A steady check whose connection is watched: no task waits in `changed`, and no loss is missed."""

import contextlib
import socket
from collections.abc import Callable
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from orchestrator import Check, Orchestrator, Policy, ProbeResult, Stage
from orchestrator._probing.readable import wait_readable
from orchestrator._probing.watched_probe import EndWatching, WatchedProbe, on_readable
from orchestrator.testing import ScriptedProbe
from tests.asgi.gate_support import until

pytestmark = pytest.mark.anyio


class Connected(WatchedProbe):
    """Has a connection, of which the test holds the other end."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.asked = self.waited = self.watched = 0

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        await anyio.lowlevel.checkpoint()
        self.ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.ours.recv(100)
        self.asked += 1  # last: what the test sends from now on is for the next attempt
        return ProbeResult(0.0)

    def was_asked_since(self, asked: int) -> bool:
        return self.asked > asked

    async def changed(self) -> None:
        self.waited += 1
        await wait_readable(self.ours)

    def watch(self, changed: Callable[[], object]) -> EndWatching | None:
        self.watched += 1
        return on_readable(self.ours.dup(), changed)

    async def aclose(self) -> None:
        await super().aclose()
        self.ours.close()
        self.theirs.close()


async def test_a_sign_on_the_connection_begins_an_attempt_at_once() -> None:
    probe = Connected()
    check = Check("it", probe, interval_seconds=3600)
    policy = Policy(grace_seconds=0)
    async with Orchestrator(ScriptedProbe(), conditions=[check], policy=policy) as startup:
        await startup.wait_for(Stage.READY, timeout_seconds=10)
        for number in range(3):
            asked = probe.asked
            probe.theirs.send(b"!")
            await until(partial(probe.was_asked_since, asked))
            assert startup.stage is Stage.READY, number


async def test_a_steady_check_waits_in_no_task_for_a_change(anyio_backend_name: str) -> None:
    probe = Connected()
    check = Check("it", probe, interval_seconds=0.02)
    policy = Policy(grace_seconds=0)
    async with Orchestrator(ScriptedProbe(), conditions=[check], policy=policy) as startup:
        await startup.wait_for(Stage.READY, timeout_seconds=10)
        await until(lambda: probe.asked > 8)
    if anyio_backend_name == "asyncio":
        assert probe.watched >= 8
        assert probe.waited == 0
    else:
        assert probe.waited >= 8, "on trio a task waits"
