"""Leaving while probes hang: at once, whatever each of them is in, and however many there are."""

import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from orchestrator import Check, Orchestrator, Policy, Probe, ProbeResult, Stage
from orchestrator._runtime import beside
from orchestrator.checks import call
from orchestrator.testing import ScriptedProbe, virtual_startup
from tests.redis_server import FakeServer, silent

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 30.0


class Deaf(Probe):
    """Hangs, and swallows every cancellation until it is let go."""

    def __init__(self) -> None:
        self.began, self.let_go, self.ended = anyio.Event(), anyio.Event(), anyio.Event()

    async def hang(self) -> None:
        self.began.set()
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except BaseException:  # noqa: BLE001, RUF100  that is the trap
                with anyio.CancelScope(shield=True):
                    await self.let_go.wait()
        self.ended.set()

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        await self.hang()
        return ProbeResult(0.0)


@pytest.mark.anyio
@pytest.mark.parametrize("place", ["main probe", "check", "function"])
async def test_a_probe_that_swallows_its_cancellation_is_left_behind(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    deaf = Deaf()
    checks = {"check": [Check("deaf", deaf)], "function": [Check("deaf", call(deaf.hang))]}
    main_probe = deaf if place == "main probe" else ScriptedProbe("ok")
    startup = Orchestrator(main_probe, conditions=checks.get(place, []))
    await startup.start()
    try:
        with anyio.fail_after(PATIENCE_SECONDS):
            await deaf.began.wait()
            await startup.aclose()
        assert not deaf.ended.is_set()
        assert "did not end within 0.5 s of being cancelled, and is left behind" in caplog.text
    finally:
        deaf.let_go.set()
        with anyio.fail_after(PATIENCE_SECONDS):
            await deaf.ended.wait()
        await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
async def test_many_that_hang_are_waited_for_together() -> None:
    probes = [Deaf() for _ in range(40)]
    checks = [Check(str(n), probe, required=False) for n, probe in enumerate(probes)]
    startup = Orchestrator(ScriptedProbe("ok"), policy=Policy(grace_seconds=0), conditions=checks)
    await startup.start()
    try:
        await startup.wait_for(Stage.READY, timeout_seconds=PATIENCE_SECONDS)
        for probe in probes:
            await probe.began.wait()
        began_at = time.monotonic()
        await startup.aclose()
        assert time.monotonic() - began_at < 10  # one after the other it would be 20 s
    finally:
        for probe in probes:
            probe.let_go.set()
        for probe in probes:
            await probe.ended.wait()
        await anyio.lowlevel.checkpoint()


class Hanging(Probe):
    """Never answers, and swallows its cancellation or does not."""

    def __init__(self, let_go: anyio.Event, *, swallows: bool) -> None:
        self._let_go, self._swallows = let_go, swallows

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        with anyio.CancelScope(shield=self._swallows):
            await self._let_go.wait()
        return ProbeResult(0.0)


@pytest.mark.anyio
@pytest.mark.parametrize("swallows", [False, True])
async def test_a_hundred_hanging_probes_are_left_within_the_patience_with_one(
    monkeypatch: pytest.MonkeyPatch, *, swallows: bool
) -> None:
    # The patience with each lasts until all have begun: one after the other they would never end.
    patiences: list[anyio.CancelScope] = []
    move_on_after = anyio.move_on_after

    def until_all_have_begun(delay: float | None, *, shield: bool = False) -> anyio.CancelScope:
        if delay != beside._PATIENCE_SECONDS:
            return move_on_after(delay, shield=shield)
        patiences.append(anyio.CancelScope(shield=shield))
        if len(patiences) >= len(hanging):
            for patience in patiences:
                patience.cancel()
        return patiences[-1]

    monkeypatch.setattr(anyio, "move_on_after", until_all_have_begun)
    let_go = anyio.Event()
    hanging = [
        Check(f"check {n}", Hanging(let_go, swallows=swallows), required=False) for n in range(100)
    ]
    run = virtual_startup(conditions=hanging)
    try:
        with anyio.fail_after(PATIENCE_SECONDS):
            async with run.startup as startup:
                await run.clock.advance(1)
                assert startup.stage is Stage.READY
        assert len(patiences) >= len(hanging)
        assert run.clock.now() < 2, "no time limit of a check had to pass"
    finally:
        let_go.set()


HUNDRED = """
import socket, sys, time

import anyio

from orchestrator import Check, Orchestrator, Policy, Stage
from orchestrator.checks import amqp, call, grpc, http, kafka, postgres, tcp
from orchestrator.redis import RedisProbe
from orchestrator._runtime import beside
from orchestrator.testing import ScriptedProbe, virtual_startup

how, what, port = sys.argv[1], sys.argv[2], int(sys.argv[3])


def hang(*_, **__):
    time.sleep(3600)


async def swallows():
    try:
        await anyio.sleep(3600)
    finally:
        with anyio.CancelScope(shield=how != "trio"):  # which waits for whatever is shielded
            await anyio.sleep(3600)


def host(n):
    return "127.0.0.1" if what == "server" else f"host-{n}.test"


if what == "resolver":
    socket.getaddrinfo = hang
kinds = [
    lambda n: call(hang) if what == "server" else tcp(host(n), port),
    lambda n: http(f"http://{host(n)}:{port}/"),
    lambda n: http(f"https://{host(n)}:{port}/"),
    lambda n: grpc(f"{host(n)}:{port}"),
    lambda n: grpc(f"{host(n)}:{port}", tls=True),
    lambda n: kafka(f"{host(n)}:{port}"),
    lambda n: postgres(f"postgresql://{host(n)}:{port}/x"),
    lambda n: amqp(f"amqps://{host(n)}:{port}"),
    lambda n: RedisProbe(f"redis://{host(n)}:{port}"),
    lambda n: RedisProbe(f"rediss://{host(n)}:{port}"),
    lambda n: call(swallows),
]
checks = [
    Check(f"c{n}", kinds[n % len(kinds)](n), required=False, timeout_seconds=30) for n in range(100)
]
startup = Orchestrator(ScriptedProbe("ok"), policy=Policy(grace_seconds=0.01), conditions=checks)


async def main():
    async with startup:
        await startup.wait_for(Stage.READY, timeout_seconds=60)
        await anyio.sleep(3)
        print("leaving", flush=True)


if how == "thread":
    with startup.run_in_thread():
        startup.wait_for_sync(Stage.READY, timeout_seconds=60)
        time.sleep(3)
        print("leaving", flush=True)
else:
    anyio.run(main, backend=how)
"""


@pytest.mark.long
@pytest.mark.parametrize("what", ["server", "resolver"])
@pytest.mark.parametrize("how", ["asyncio", "trio", "thread"])
def test_a_hundred_hanging_probes_of_every_kind_hold_up_no_exit(how: str, what: str) -> None:
    with FakeServer(silent) as server:
        command = [sys.executable, "-c", HUNDRED, how, what, str(server.port)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "leaving\n"
                left_at = time.perf_counter()
                _, errors = process.communicate(timeout=60)
                took_seconds = time.perf_counter() - left_at
            finally:
                process.kill()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    print(f"{how}, {what}: {took_seconds:.2f} s")
    assert took_seconds < 10  # 1 s on an idle machine
