"""What the gate costs a call, without a server: nanoseconds and bytes for each request."""

import asyncio
import gc
import timeit
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from types import FunctionType

from orchestrator import Stage
from orchestrator._http.asgi_types import ASGIApp, Message, Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from tests.asgi.gate_support import NO_DRAIN, Startup, http_scope, websocket_scope
from tests.benchmarks.measure import Candidate, interleaved
from tests.benchmarks.ready_names import ALONE, GATE, NO_CLOSES, NOTHING
from tests.benchmarks.rows import Figure, Row

PART = "ready"
HEALTH = "the gate, health=True"
MESSAGES = 100


async def application(_: Scope, __: Receive, ___: Send) -> None:
    """Does nothing, so that only what is in front of it is measured."""


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    """Gives `MESSAGES` messages back."""
    for _ in range(MESSAGES):
        message = await receive()
        await send({"type": "websocket.send", "text": message["text"]})


def fresh(app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> ASGIApp:
    """The same, as code of its own: Python tunes a call by what it has called before."""
    assert isinstance(app, FunctionType)
    return FunctionType(app.__code__.replace(), app.__globals__)


class Nothing:
    """The least that a middleware can be."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on."""
        await self._app(scope, receive, send)


async def receive() -> Message:
    """A message."""
    return {"type": "websocket.receive", "text": "ping"}


async def send(_: Message) -> None:
    """Nowhere."""


def request(app: ASGIApp, scope: Scope) -> Callable[[], None]:
    """A function that runs one request without an event loop."""

    def run() -> None:
        try:  # noqa: SIM105  `suppress` would cost more than what is measured
            # A coroutine that waits for nothing ends with its first step.
            app(scope, receive, send).__await__().__next__()
        except StopIteration:
            pass

    return run


def peak_bytes(run: Callable[[], None]) -> float:
    """What one request has allocated at most at once."""
    run()
    tracemalloc.start()
    try:
        run()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        run()
        return float(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()


def kept_bytes(run: Callable[[], None], requests: int) -> float:
    """What each request leaves behind."""
    run()
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(requests):
            run()
        return (tracemalloc.get_traced_memory()[0] - before) / requests
    finally:
        tracemalloc.stop()


def measure(number: int, rounds: int) -> Iterator[Row]:
    """The rows of both kinds of connections.

    Args:
        number: The calls of one round.
        rounds: The rounds.
    """
    yield from asyncio.run(_rows(number, rounds))


async def _rows(number: int, rounds: int) -> list[Row]:
    async with Startup() as startup, Startup(policy=NO_DRAIN) as undrained:
        for one in (startup, undrained):
            one.make_ready()
            await one.wait_for(Stage.READY)
        rows: list[Row] = []
        for kind, scope in (("an HTTP request", http_scope("/chat")), ("a WebSocket", _SCOPE)):
            apps = _candidates(application, startup, undrained)
            runs = {name: request(app, scope) for name, app in apps.items()}
            timed = {name: _timed(run, number) for name, run in runs.items()}
            rows += _all(f"handing on {kind}", "ns", interleaved(timed, rounds=rounds))
            rows += _all(f"memory while handing on {kind}", "B", _once(runs, peak_bytes))
            kept = _once(runs, partial(kept_bytes, requests=number))
            rows += _all(f"memory kept after handing on {kind}", "B", kept)
        apps = _candidates(echo, startup, undrained)
        timed = {
            name: _timed(request(app, _SCOPE), -(-number // MESSAGES), MESSAGES)
            for name, app in apps.items()
        }
        what = "a message of an open WebSocket, there and back"
        rows += _all(what, "ns", interleaved(timed, rounds=rounds))
        return rows


def _candidates(
    app: Callable[[Scope, Receive, Send], Awaitable[None]], startup: Startup, undrained: Startup
) -> dict[str, ASGIApp]:
    return {
        ALONE: fresh(app),
        NOTHING: Nothing(fresh(app)),
        GATE: ReadinessGate(fresh(app), startup),
        HEALTH: ReadinessGate(fresh(app), startup, health=True),
        NO_CLOSES: ReadinessGate(fresh(app), undrained, count_closes=False),
    }


_SCOPE = websocket_scope()


def _timed(run: Callable[[], None], number: int, parts: int = 1) -> Candidate:
    return lambda: timeit.timeit(run, number=number) / number / parts * 1e9


def _once(
    runs: Mapping[str, Callable[[], None]], measured: Callable[[Callable[[], None]], float]
) -> dict[str, Figure]:
    return {name: Figure(name, (measured(run),)) for name, run in runs.items()}


def _all(what: str, unit: str, taken: Mapping[str, Figure]) -> Iterator[Row]:
    options = (HEALTH, NO_CLOSES)
    said = ", ".join(f"with {name.partition(', ')[2]} {taken[name].median:.3g}" for name in options)
    ours = Figure(GATE, taken[GATE].values, f"{said} {unit}")
    yield Row(
        part=PART, what=what, unit=unit, ours=ours, peers=(taken[NOTHING],), floor=taken[ALONE]
    )
