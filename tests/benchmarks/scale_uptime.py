"""Whether anything grows with uptime: a whole orchestrator that flaps for long in virtual time.

Nothing is timed here; so each kind of work runs in a process of its own beside the others.
"""

import json
import logging
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import anyio
import anyio.lowlevel

from orchestrator import Orchestrator, Subscription
from orchestrator.testing import REFUSED, ManualClock, ScriptedProbe
from states import Failure
from tests.benchmarks.rows import Figure, Row, at_most
from tests.benchmarks.transition_ways import POLICY

TURNS = 12
"""Turns of the event loop in which an attempt comes to its end. `ManualClock.advance` takes many
more, to be sure of every application; here the attempts that are counted show that it is enough."""

LIMIT_SECONDS = 240
"""For what hangs, not for what is slow."""

Reached = Callable[[Orchestrator], int]


async def pass_time(clock: ManualClock) -> None:
    """Let everything run until it waits, then go on to the next timer."""
    for _ in range(TURNS):
        await anyio.lowlevel.checkpoint()
    if clock._timers:
        clock._now = max(clock._now, min(clock._timers.values()))
        clock._fire()


async def bytes_after(
    script: tuple[Failure | None, ...], reached: Reached, numbers: tuple[int, ...]
) -> list[int]:
    """What is allocated each time when one more of `numbers` is reached; bytes.

    One subscriber reads everything, and one reads nothing at all.
    """
    clock = ManualClock()
    probe = ScriptedProbe(script, clock=clock)
    found: list[int] = []
    async with AsyncExitStack() as stack:
        startup = Orchestrator(probe, policy=POLICY, clock=clock)
        await stack.enter_async_context(startup)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(read, startup.subscribe())
        idle = startup.subscribe()
        tracemalloc.start()
        for number in numbers:
            while reached(startup) < number:
                if len(script) > 1 and len(probe._steps) <= len(script):
                    probe.then(*(script * 100))
                await pass_time(clock)
            found.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert idle.missed == 0, "nobody reads it"
        tasks.cancel_scope.cancel()
    return found


async def read(events: Subscription) -> None:
    """Take every event."""
    async for _ in events:
        pass


def attempts(startup: Orchestrator) -> int:
    """How many there were."""
    return startup._machine._counters.attempts


def transitions(startup: Orchestrator) -> int:
    """How many there were."""
    return startup.latest.sequence if startup.latest else 0


WORK: dict[str, tuple[tuple[Failure | None, ...], Reached]] = {
    "failed attempts": ((REFUSED,), attempts),
    "transitions, by flaps": ((None, REFUSED), transitions),
}


def rows(few: int, many: int) -> Iterator[Row]:
    """One row for each kind of work; bytes."""
    with ExitStack() as stack:
        processes = {
            what: stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", __name__, what, str(few), str(many)],
                    cwd=Path(__file__).parents[2],
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for what in WORK
        }
        for process in processes.values():
            stack.callback(process.kill)  # does nothing once it has ended
        for what, process in processes.items():
            output, _ = process.communicate(timeout=LIMIT_SECONDS)
            assert process.returncode == 0, f"{what} failed; see above"
            yield row(what, few, many, *json.loads(output))


def row(what: str, few: int, many: int, before: int, after: int) -> Row:
    """The row of one kind of work; bytes."""
    ours = Figure("ours", (float(after),), "allocated since the orchestrator was entered")
    floor = Figure(f"after {few:,}", (float(before),))
    return Row(
        part="scale",
        what=f"memory after {many:,} {what}",
        unit="bytes",
        ours=ours,
        floor=floor,
        verdicts=(at_most(ours, 1.1, floor),),
    )


def main() -> None:
    """Do one kind of work in this process, and print what it found."""
    what, *numbers = sys.argv[1:]
    # Tens of thousands of lines say nothing new.
    logging.getLogger("orchestrator").setLevel(logging.CRITICAL)
    found = anyio.run(bytes_after, *WORK[what], tuple(map(int, numbers)))
    print(json.dumps(found))  # read by the other process


if __name__ == "__main__":
    main()
