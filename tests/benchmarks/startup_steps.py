"""The longest single step of a start-up, by the event loop's own timing.

On asyncio each callback is timed where the debug mode does it, which itself would make them slow;
on trio by an instrument. A heartbeat sees less: several steps may come between two of its beats.
"""

import asyncio
import time
from unittest import mock

import anyio

from tests.benchmarks.startup_runs import CANDIDATES


def longest_step_ms(name: str, backend: str, url: str, work: dict[str, float]) -> float:
    """Run the candidate; milliseconds of its longest step."""
    return _on_trio(name, url, work) if backend == "trio" else _on_asyncio(name, url, work)


def _on_asyncio(name: str, url: str, work: dict[str, float]) -> float:
    longest = 0.0
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        nonlocal longest
        began = time.perf_counter()
        run(handle)
        longest = max(longest, time.perf_counter() - began)

    async def main() -> None:
        nonlocal longest
        await asyncio.sleep(0)  # what anyio did before belongs to nobody
        longest = 0.0
        await CANDIDATES[name](url, work)

    with mock.patch.object(asyncio.Handle, "_run", timed):
        anyio.run(main)
    return longest * 1e3


def _on_trio(name: str, url: str, work: dict[str, float]) -> float:
    import trio  # needed on its own event loop only

    class Steps(trio.abc.Instrument):
        began = 0.0
        longest = 0.0

        def before_task_step(self, _: trio.lowlevel.Task) -> None:
            self.began = time.perf_counter()

        def after_task_step(self, _: trio.lowlevel.Task) -> None:
            self.longest = max(self.longest, time.perf_counter() - self.began)

    steps = Steps()
    anyio.run(CANDIDATES[name], url, work, backend="trio", backend_options={"instruments": [steps]})
    return steps.longest * 1e3
