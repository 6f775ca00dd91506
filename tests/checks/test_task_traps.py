"""Tasks and probes that misbehave in ways that others fell for: on asyncio, uvloop and trio."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus

from orchestrator import Check, Orchestrator, Policy, Probe, ProbeResult, Stage, Task
from orchestrator.checks import call
from orchestrator.testing import ScriptedProbe

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "anyio_backend",
        [("asyncio", {}), ("asyncio", {"use_uvloop": True}), ("trio", {})],
        ids=["asyncio", "uvloop", "trio"],
    ),
]

PATIENCE_SECONDS = 30.0


class Refuses(asyncio.Future[None]):
    """A future that cannot be cancelled, as some of C extensions."""

    def cancel(self, msg: Any = None) -> bool:
        return False


async def test_tasks_that_swallow_cancellation_cost_no_core_and_hold_up_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[str] = []
    left = anyio.Event()
    lets_go: list[Callable[[], object]] = []

    def healthy(name: str) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(name)

        return work

    async def catches() -> None:
        try:
            await anyio.sleep_forever()
        except BaseException:  # noqa: BLE001, RUF100  that is the trap
            with anyio.CancelScope(shield=True):
                await left.wait()

    async def refuses() -> None:
        if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
            await catches()
            return
        future = Refuses()
        lets_go.append(lambda: future.set_result(None))
        await future

    names = [f"healthy {number}" for number in range(5)]
    startup = Orchestrator(
        ScriptedProbe("ok"),
        policy=Policy(grace_seconds=0.0),
        conditions=[
            *(Task(name, healthy(name), after=names[:n]) for n, name in enumerate(names)),
            Task("catches", catches, stop_seconds=0.3),
            Task("refuses", refuses, stop_seconds=0.3),
        ],
    )
    await startup.start()
    await startup.wait_for(Stage.READY, timeout_seconds=PATIENCE_SECONDS)
    began_at, cpu = time.monotonic(), time.thread_time()
    with anyio.fail_after(PATIENCE_SECONDS):
        await startup.aclose()
    lasted, cost = time.monotonic() - began_at, time.thread_time() - cpu
    assert lasted >= 0.6  # both had their time
    assert cost < 0.25 * lasted  # a scope that is cancelled again and again takes all of it
    assert ended == names[::-1]
    for name in ("catches", "refuses"):
        assert f"task {name} did not end within 0.3 s" in caplog.text
    left.set()
    for let_go in lets_go:
        let_go()
    await anyio.sleep(0.01)  # so that they end in this event loop


class Exits(Probe):
    """An async probe that calls what parses arguments."""

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        sys.exit(3)


async def test_sys_exit_in_tasks_and_probes_ends_only_these() -> None:
    runs = dict.fromkeys(["before", "after"], 0)

    async def before() -> None:
        runs["before"] += 1
        sys.exit(3)

    async def after(*, task_status: TaskStatus[None]) -> None:
        runs["after"] += 1
        task_status.started()
        await anyio.sleep(0.001)
        sys.exit(3)

    def interrupts() -> None:
        raise KeyboardInterrupt  # in a thread of its own it is nobody's Ctrl-C

    startup = Orchestrator(
        ScriptedProbe("ok"),
        policy=Policy(grace_seconds=0.0),
        conditions=[
            Task("before", before, required=False),
            Task("after", after, required=False),
            Check("sync", call(lambda: sys.exit(3)), required=False),
            Check("interrupts", call(interrupts), required=False),
            Check("async", Exits(), required=False),
        ],
    )
    reasons = {
        "before": "its task ended with SystemExit",
        "after": "its task ended with SystemExit",
        "sync": "it ended with SystemExit",
        "interrupts": "it ended with KeyboardInterrupt",
        "async": "the probe itself gave SystemExit",
    }
    async with startup:
        await startup.wait_for(Stage.READY, timeout_seconds=PATIENCE_SECONDS)
        with anyio.fail_after(PATIENCE_SECONDS):
            while not (
                min(runs.values()) >= 3
                and {name: one.reason for name, one in startup.explain().conditions.items()}
                == reasons
            ):
                await anyio.sleep(0.005)
        assert startup.ready
        assert startup.ended is None
