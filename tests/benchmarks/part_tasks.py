"""What tasks that are watched and started again cost, beside a task group and a loop by hand."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator

import anyio
import anyio.lowlevel
from anyio.abc import TaskStatus

from orchestrator import Orchestrator, Policy, Stage, Task
from orchestrator.checks import _task, call
from tests.benchmarks.check_peers import nothing
from tests.benchmarks.measure import ROUNDS, Candidate, interleaved
from tests.benchmarks.part_fan_out import no_collector
from tests.benchmarks.rows import Figure, Row, Verdict, at_most

PART = "tasks"
NUMBER = 100
FALL_PAUSE_SECONDS = 0.02
"""Until one that fell is started again, for all; ours takes 0.1 s otherwise."""

OURS, GROUP, BY_HAND = "orchestrator", "an anyio task group", "a loop with try and sleep, by hand"

_MOST_OF_GROUP = 10.0
_MOST_MORE_MS = 2.0


async def listen(*, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    """A task that is up, and waits for ever."""
    await anyio.lowlevel.checkpoint()
    task_status.started()
    await anyio.sleep_forever()


async def ours(number: int) -> tuple[float, float]:
    """Milliseconds until all are up, and until all have ended."""
    tasks = [Task(f"task {n}", listen) for n in range(number)]
    began = time.perf_counter()
    async with Orchestrator(
        call(nothing), policy=Policy(grace_seconds=0), conditions=tasks
    ) as startup:
        await startup.wait_for(Stage.READY)
        up = time.perf_counter()
    return (up - began) * 1e3, (time.perf_counter() - up) * 1e3


async def group(number: int) -> tuple[float, float]:
    """The same, watched by nobody, and ended in the same order."""
    began = time.perf_counter()
    scopes: list[tuple[anyio.CancelScope, anyio.Event]] = []

    async def one(*, task_status: TaskStatus[None]) -> None:
        ended = anyio.Event()
        with anyio.CancelScope() as scope:
            scopes.append((scope, ended))
            try:
                await listen(task_status=task_status)
            finally:
                ended.set()

    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as starting:
            for _ in range(number):
                starting.start_soon(tasks.start, one)
        up = time.perf_counter()
        for scope, ended in reversed(scopes):
            scope.cancel()
            await ended.wait()
    return (up - began) * 1e3, (time.perf_counter() - up) * 1e3


async def restarted() -> float:
    """From the failure of a task until it is up again, in ms."""
    fell, back = [0.0], anyio.Event()

    async def work(*, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        if fell[0]:
            back.set()
            await anyio.sleep_forever()
        await anyio.sleep(0.01)
        fell[0] = time.perf_counter()
        raise OSError("lost")

    policy = Policy(grace_seconds=0)
    async with Orchestrator(call(nothing), policy=policy, conditions=[Task("work", work)]):
        await back.wait()
        return (time.perf_counter() - fell[0]) * 1e3


async def restarted_by_hand() -> float:
    """The same, with the least that starts it again."""
    fell, back = [0.0], anyio.Event()

    async def work() -> None:
        if fell[0]:
            back.set()
            await anyio.sleep_forever()
        await anyio.sleep(0.01)
        fell[0] = time.perf_counter()
        raise OSError("lost")

    async def keep() -> None:
        while True:
            try:
                await work()
            except OSError:
                await asyncio.sleep(FALL_PAUSE_SECONDS)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep)
        await back.wait()
        took = (time.perf_counter() - fell[0]) * 1e3
        tasks.cancel_scope.cancel()
    return took


def measure(number: int = NUMBER, rounds: int = ROUNDS) -> Iterator[Row]:
    """All rows."""
    logger = logging.getLogger("orchestrator")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # a task that fails is logged, which is no part of a restart
    try:
        yield from _life_rows(number, rounds)
        yield _restart_row(rounds)
    finally:
        logger.setLevel(level)


def _life_rows(number: int, rounds: int) -> Iterator[Row]:
    ended: dict[str, list[float]] = {OURS: [], GROUP: []}

    def living(name: str, live: Callable[[int], Awaitable[tuple[float, float]]]) -> Candidate:
        async def run() -> tuple[float, float]:
            return await live(number)

        def measured() -> float:
            with no_collector():
                up, end = anyio.run(run)
            ended[name].append(end)
            return up

        return measured

    figures = interleaved({OURS: living(OURS, ours), GROUP: living(GROUP, group)}, rounds=rounds)
    ends = {name: Figure(name, tuple(values[-rounds:])) for name, values in ended.items()}
    for what, of in (
        (f"{number} tasks are up, and the service is ready", figures),
        (f"{number} tasks have ended, one after the other in their order", ends),
    ):
        mine, floor = of[OURS], of[GROUP]
        yield Row(
            part=PART,
            what=what,
            unit="ms",
            ours=mine,
            floor=floor,
            verdicts=(at_most(mine, _MOST_OF_GROUP, floor),),
        )


def _restart_row(rounds: int) -> Row:
    before = _task._FIRST_PAUSE_SECONDS, _task._JITTER
    _task._FIRST_PAUSE_SECONDS, _task._JITTER = FALL_PAUSE_SECONDS, 0.0  # as by hand
    try:
        figures = interleaved(
            {OURS: lambda: anyio.run(restarted), BY_HAND: lambda: anyio.run(restarted_by_hand)},
            rounds=rounds,
        )
    finally:
        _task._FIRST_PAUSE_SECONDS, _task._JITTER = before
    mine, peer = figures.values()
    more = mine.median - peer.median
    return Row(
        part=PART,
        what=f"a task fails to it is up again, after a pause of {FALL_PAUSE_SECONDS * 1e3:g} ms",
        unit="ms",
        ours=mine,
        peers=(peer,),
        verdicts=(
            Verdict(
                f"{more:.2g} ms more than {peer.name} (at most {_MOST_MORE_MS:g})",
                more <= _MOST_MORE_MS,
            ),
        ),
    )
