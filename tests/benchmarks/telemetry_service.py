"""A service that starts and flaps, and says what telemetry cost it; `part_telemetry` runs it.

Arguments: the collector's URL, empty for no telemetry; the protocol, or `by-hand` for the SDK over
gRPC without us; and for how many seconds it runs on after that, since batches are sent meanwhile.
"""

import asyncio
import json
import logging
import sys
import time
from collections.abc import Sequence
from importlib import import_module

from orchestrator import Observer, Orchestrator, Policy
from orchestrator.otel import OpenTelemetryObserver, setup_telemetry
from orchestrator.testing import REFUSED, ScriptedProbe
from states import Fact, Stage, StageChanged

BY_HAND = "by-hand"


class Timed(OpenTelemetryObserver):
    """Notes the most processor time that it took from the event loop at once, in seconds."""

    most = 0.0

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        began = time.thread_time()
        super().observed(fact, changed)
        self.most = max(self.most, time.thread_time() - began)


async def beat(longest: list[float]) -> None:
    """Note how late the loop was at worst, in seconds."""
    while True:
        due = time.perf_counter() + 0.001
        await asyncio.sleep(0.001)
        longest[0] = max(longest[0], time.perf_counter() - due)


async def serve(observers: Sequence[Observer], more_seconds: float) -> None:
    """Start, flap three times, and print what was measured."""
    longest = [0.0]
    beating = asyncio.create_task(beat(longest))
    probe = ScriptedProbe([REFUSED, REFUSED, None])
    async with Orchestrator(
        probe, policy=Policy(flap_grace_seconds=0.0), observers=observers
    ) as startup:
        await startup.wait_for(Stage.READY, timeout_seconds=10)
        for _ in range(3):
            probe.then(REFUSED)
            await startup.wait_for(Stage.DEGRADED, timeout_seconds=10)
            probe.then(None)
            await startup.wait_for(Stage.READY, timeout_seconds=10)
        await asyncio.sleep(more_seconds)
        beating.cancel()
        timed = [observer.most for observer in observers if isinstance(observer, Timed)]
        taken = max(timed, default=0.0)
        # Before it is left: what leaving waits for belongs to the exit.
        print(json.dumps([taken, longest[0]]), flush=True)  # read by the other process


def main() -> None:
    """Set up what was asked for, and serve."""
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("orchestrator").setLevel(
        logging.ERROR
    )  # its own lines are not the exporters'
    endpoint, protocol, more_seconds = sys.argv[1:]
    observers: list[Observer] = []
    if protocol == BY_HAND:
        observers.append(import_module("tests.benchmarks.telemetry_by_hand").ByHand(endpoint))
    elif endpoint:
        setup_telemetry(
            "bench", endpoint=endpoint, protocol=protocol, switch_interval_seconds=0.001
        )
        observers.append(Timed())
    asyncio.run(serve(observers, float(more_seconds)))


if __name__ == "__main__":
    main()
