"""Leaving in the middle of a fault: at once, and with nothing left behind."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import psutil
import pytest

from orchestrator.redis import RedisProbe
from tests.faults.catalogue import FAULTS, GROUPS
from tests.faults.fault import Fault
from tests.faults.scenes import HUNG_HOST, Scene, Unavailable
from tests.faults.watching import stretch

pytestmark = [
    pytest.mark.long,
    pytest.mark.anyio,
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc"),
]

HANGING = [fault for fault in FAULTS if fault.error_type in {"TimeoutError", "ConnectTimeout"}]

SLOW_TO_REPEAT = {"loads its data", "runs a script", "20 MB of garbage"}
"""Faults that busy a processor, or take long, when they are met many times."""

QUICK = [
    fault
    for group, faults in GROUPS.items()
    for fault in faults
    if group not in {"No answer in time", "TLS"}
    and fault not in HANGING
    and fault.kind is not None
    and fault.name not in SLOW_TO_REPEAT
]


@contextlib.contextmanager
def produced(faults: Sequence[Fault]) -> Iterator[list[Scene]]:
    """All of them at once, without those that cannot be produced here."""
    with contextlib.ExitStack() as stack:
        scenes = []
        for fault in faults:
            with contextlib.suppress(Unavailable):
                scenes.append(stack.enter_context(fault.scene()))
        yield scenes


def probe_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "redis-probe"]


async def until(true: Callable[[], bool], timeout_seconds: float = 5.0) -> None:
    with anyio.fail_after(timeout_seconds):
        while not await anyio.to_thread.run_sync(true):  # servers tell no event
            await anyio.sleep(0.002)


def has_a_socket(probe: RedisProbe) -> bool:
    handle = probe._worker.session.interruption.watch()
    if handle is None:
        return probe.target.address == HUNG_HOST and probe._worker.busy
    handle.close()
    return True


TRIES = 3
"""A busy machine may be late once or twice; only the code can be late every time."""


async def test_cancelling_is_at_once_and_leaves_nothing_behind() -> None:
    await until(lambda: True)  # the thread that asks exists from here on
    took = [await cancel_all() / stretch()]
    while took[-1] >= 0.1 and len(took) < TRIES:
        took.append(await cancel_all() / stretch())
    assert min(took) < 0.1


async def cancel_all() -> float:
    """How long it takes to cancel attempts in the middle of every fault that hangs, all at once."""
    me = psutil.Process()
    before = me.num_fds()
    with produced(HANGING) as scenes:
        for scene in scenes:
            scene.inflict()
        probes = [scene.probe() for scene in scenes]
        async with anyio.create_task_group() as tasks:
            for probe in probes:
                tasks.start_soon(probe.attempt, 30.0)
            await until(lambda: all(has_a_socket(probe) for probe in probes))
            cancelled_at = time.perf_counter()
            tasks.cancel_scope.cancel()
        took = time.perf_counter() - cancelled_at
        for probe in probes:
            await probe.aclose()
        # A thread inside of a resolver that hangs is the one thing that nobody can end.
        await until(lambda: len(probe_threads()) <= 1)
        for scene in scenes:
            await anyio.to_thread.run_sync(scene.heal)
        await until(lambda: not probe_threads())
        for scene in scenes:
            await until(lambda: not scene.open_connections())  # noqa: B023  awaited at once
    gc.collect()
    await until(lambda: me.num_fds() <= before)
    return took


async def test_hundreds_of_failures_leave_everything_where_it_was() -> None:
    me = psutil.Process()

    def ours() -> int:
        gc.collect()
        rooms = ("orchestrator", "redis", "states")
        return sum(str(type(one).__module__).split(".")[0] in rooms for one in gc.get_objects())

    with produced(QUICK) as scenes:
        probes = [scene.probe() for scene in scenes]
        # Versions of Redis differ in what they answer to PING; here only failures are wanted.
        failing = [(await probe.attempt(5)).failure is not None for probe in probes]
        for probe, fails in zip(probes, failing, strict=True):
            if not fails:
                await probe.aclose()
        probes = [probe for probe, fails in zip(probes, failing, strict=True) if fails]

        async def fail(rounds: int) -> int:
            failed = 0
            for _ in range(rounds):
                for probe in probes:
                    failed += (await probe.attempt(5)).failure is not None
            return failed

        await fail(2)
        await until(lambda: True)  # the thread that asks exists from here on
        before = (me.num_fds(), ours())
        memory = me.memory_info().rss
        rounds = -(-300 // len(probes))
        assert await fail(rounds) == rounds * len(probes) >= 300
        assert len(probe_threads()) == len(probes)
        await until(lambda: me.num_fds() <= before[0])  # scripted servers close on their own time
        assert ours() - before[1] < 100
        assert me.memory_info().rss - memory < 8 * 2**20
        for probe in probes:
            await probe.aclose()
    await until(lambda: not probe_threads())


# -- the end of the process -----------------------------------------------------------------------

PROGRAM = f"""
import contextlib, socket, sys, time
import anyio
from orchestrator import Orchestrator
from orchestrator._probing.readable import wait_readable
from orchestrator.redis import RedisProbe

backend, *urls = sys.argv[1:]
look_up = socket.getaddrinfo

def hang(host, *args, **options):
    return time.sleep(60) if host == {HUNG_HOST!r} else look_up(host, *args, **options)

socket.getaddrinfo = hang

async def main():
    async with contextlib.AsyncExitStack() as stack:
        for url in urls:
            await stack.enter_async_context(Orchestrator(RedisProbe(url)))
        probes = [RedisProbe(url) for url in urls]
        async with anyio.create_task_group() as tasks:
            for probe in probes:
                tasks.start_soon(probe.attempt, 60.0)
            print("asking", flush=True)
            await wait_readable(sys.stdin.fileno())
            tasks.cancel_scope.cancel()
    print("left", flush=True)

anyio.run(main, backend=backend)
"""


@pytest.mark.parametrize("how", ["leaves", "SIGINT", "SIGTERM"])
def test_the_process_ends_at_once_in_all_of_them(how: str, anyio_backend: str) -> None:
    # One whose fault is inflicted later would still answer.
    with produced([fault for fault in HANGING if not fault.warm]) as scenes:
        urls = [scene.url for scene in scenes]
        took = [end(how, anyio_backend, urls) / stretch()]
        while took[-1] >= 0.5 and len(took) < TRIES:
            took.append(end(how, anyio_backend, urls) / stretch())
    assert min(took) < 0.5


def end(how: str, backend: str, urls: list[str]) -> float:
    """How long a process takes to end that is asking all of these."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, backend, *urls],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"asking\n", process.stderr.read()
        started_at = time.perf_counter()
        if how == "leaves":
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"left\n", process.stderr.read()
        else:
            os.kill(process.pid, signal.Signals[how])
        status = process.wait(10)
        took = time.perf_counter() - started_at
        # How Python tells of an interrupt differs by version.
        assert status in {"leaves": {0}, "SIGINT": {1, -2}, "SIGTERM": {-15}}[how]
    return took
