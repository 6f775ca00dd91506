"""What the gate costs a request when the service is ready.

`python -m tests.benchmarks.bench_gate` prints nanoseconds and bytes for each request, and their
ratio to the application alone and to a middleware that does nothing.
"""

# ruff: noqa: T201  a benchmark prints

import timeit
import tracemalloc
from collections.abc import Callable

import anyio

from orchestrator import Stage
from orchestrator.asgi import ReadinessGate
from orchestrator.asgi._types import ASGIApp, Message, Receive, Scope, Send
from tests.integrations.gate_support import Startup, http_scope, websocket_scope

NUMBER, REPEAT = 5_000, 40


async def application(_: Scope, __: Receive, ___: Send) -> None:
    """Does nothing, so that only what is in front of it is measured."""


class Nothing:
    """The least that a middleware can be."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on."""
        await self._app(scope, receive, send)


async def receive() -> Message:
    """Never called."""
    return {}


async def send(_: Message) -> None:
    """Never called."""


def request(app: ASGIApp, scope: Scope) -> Callable[[], None]:
    """A function that runs one request without an event loop."""

    def run() -> None:
        try:  # noqa: SIM105  `suppress` would cost more than what is measured
            # A coroutine that waits for nothing ends with its first step.
            app(scope, receive, send).__await__().__next__()
        except StopIteration:
            pass

    return run


def nanoseconds(runs: list[Callable[[], None]]) -> list[float]:
    """The best of several rounds for each: the others were disturbed."""
    # Round by round, so that a busy machine disturbs all of them alike.
    rounds = [[timeit.timeit(run, number=NUMBER) for run in runs] for _ in range(REPEAT)]
    return [min(times) / NUMBER * 1e9 for times in zip(*rounds, strict=True)]


def peak_bytes(run: Callable[[], None]) -> int:
    """What one request has allocated at most at once."""
    run()
    tracemalloc.start()
    try:
        run()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        run()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def kept_bytes(run: Callable[[], None], requests: int = 10_000) -> float:
    """What each request leaves behind."""
    run()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(requests):
            run()
        return (tracemalloc.get_traced_memory()[0] - before) / requests
    finally:
        tracemalloc.stop()


async def main() -> None:
    """Measure and print."""
    async with Startup() as startup:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        apps: dict[str, ASGIApp] = {
            "the application alone": application,
            "a middleware that does nothing": Nothing(application),
            "the gate": ReadinessGate(application, startup),
            "the gate, health=True": ReadinessGate(application, startup, health=True),
            "the gate, count_closes=False": ReadinessGate(application, startup, count_closes=False),
        }
        for kind, scope in (("HTTP", http_scope("/chat")), ("WebSocket", websocket_scope())):
            print(f"{kind}: nanoseconds (ratio), bytes at most (ratio), bytes kept")
            runs = [request(app, scope) for app in apps.values()]
            times, most = nanoseconds(runs), [peak_bytes(run) for run in runs]
            for name, run, took, peak in zip(apps, runs, times, most, strict=True):
                print(
                    f"  {name:32} {took:5.0f} ns ({took / times[0]:4.1f})"
                    f" {peak:6} B ({peak / most[0]:4.1f}) {kept_bytes(run):6.2f} B"
                )


if __name__ == "__main__":
    anyio.run(main)
