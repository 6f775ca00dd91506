"""A live service over a Redis that flaps at random: `python -m tests.faults.soak --seconds 600`.

A uvicorn with a chat behind the gate, WebSocket clients that come and go, subscribers quick and
slow, and the telemetry of all of it; at the end every number is compared with every other.
"""

import argparse
import gc
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from random import Random

import anyio
import anyio.to_thread
import psutil
import redis
import websockets
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from websockets.asyncio.client import connect

from orchestrator import Orchestrator, Policy, Stage
from orchestrator.asgi import ReadinessGate
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.redis import RedisProbe
from tests.asgi.gate_support import serving
from tests.faults.soak_service import Chat, Errors, Ledger, Report, Spans, Subscriber
from tests.redis_server import RedisServer

POLICY = Policy(
    attempt_timeout_seconds=0.2,
    probe_interval_seconds=0.2,
    confirm_interval_seconds=0.02,
    grace_seconds=0.05,
    grace_interval_seconds=0.02,
    flap_grace_seconds=0.05,
    flap_grace_cap_seconds=0.3,
)
"""So quick that a soak of seconds sees many falls and returns."""

MOST_GROWTH_BYTES = 24 * 2**20
"""How much the process may grow between the first third and the end."""

_CLIENTS = 16


# -- what happens to it ---------------------------------------------------------------------------


async def flap(server: RedisServer, random: Random, report: Report) -> None:
    """Treat Redis badly, one way after the other, and let it recover in between."""

    def drop() -> None:
        with redis.Redis(port=server.port, protocol=2) as admin:
            admin.client_kill_filter(skipme=True)

    async def restart(after_seconds: float) -> None:
        server.kill()
        await anyio.sleep(after_seconds)
        await anyio.to_thread.run_sync(server.start)

    async def freeze(for_seconds: float) -> None:
        server.freeze()
        try:
            await anyio.sleep(for_seconds)
        finally:
            server.thaw()

    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "killed": lambda: restart(random.uniform(0.1, 0.6)),
        "restarted": lambda: restart(0),
        "frozen": lambda: freeze(random.uniform(0.1, 0.9)),
        "connections dropped": lambda: anyio.to_thread.run_sync(drop),
    }
    while True:
        name = random.choice(sorted(ways))
        # A treatment that has begun is brought to its end.
        with anyio.CancelScope(shield=True):
            await ways[name]()
        report.faults[name] += 1
        await anyio.sleep(random.uniform(0.05, 0.8))


async def chat(url: str, random: Random, report: Report) -> None:
    """A client: connects, says something, leaves or is sent away, and comes back."""
    while True:
        try:
            async with connect(url, open_timeout=10, close_timeout=2) as socket:
                for number in range(random.randrange(1, 20)):
                    await socket.send(str(number))
                    assert await socket.recv() == str(number)
                    report.echoes += 1
                    await anyio.sleep(random.uniform(0, 0.05))
        except websockets.InvalidStatus as refused:
            report.closes[f"refused with {refused.response.status_code}"] += 1
        except websockets.ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1006
            report.closes[f"closed with {code}"] += 1
        await anyio.sleep(random.uniform(0, 0.1))


# -- the soak -------------------------------------------------------------------------------------


async def soak(seconds: float, seed: int = 0) -> Report:
    """Let all of it run for `seconds`, then compare."""
    report, random = Report(), Random(seed)
    errors = Errors()
    logging.getLogger().addHandler(errors)
    me = psutil.Process()
    try:
        await _run(0.5, Random(seed), Report())  # everything that is made once is made
        gc.collect()
        descriptors = me.num_fds()
        await _run(seconds, random, report)
        gc.collect()
        report.require("descriptors left behind", me.num_fds() - descriptors, 0)
    finally:
        logging.getLogger().removeHandler(errors)
    report.require("errors logged", len(errors.lines), 0)
    report.complaints += errors.lines[:3]
    return report


async def _run(seconds: float, random: Random, report: Report) -> None:
    ledger, spans, reader = Ledger(), Spans(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    telemetry = OpenTelemetryObserver(tracers, MeterProvider([reader]))
    with RedisServer() as server:
        startup = Orchestrator(
            RedisProbe(server.url),
            policy=POLICY,
            conditions=["listener"],
            observers=[ledger, telemetry],
        )
        application = Chat(startup, server.url)
        gate = ReadinessGate(application, startup)
        async with anyio.create_task_group() as readers:
            async with startup, anyio.create_task_group() as tasks:
                subscribers = [Subscriber(startup, dawdle) for dawdle in (0, 0, 0.01, 0.2)]
                for subscriber in subscribers:
                    readers.start_soon(subscriber.read)
                tasks.start_soon(application.listen)
                async with serving(gate, log_level="error", lifespan="off") as port:
                    grown = await _live(server, f"ws://127.0.0.1:{port}/", seconds, random, report)
                    await startup.wait_for(Stage.READY, timeout_seconds=20)
                tasks.cancel_scope.cancel()
            with anyio.move_on_after(30):  # the slowest has some events left
                while any(
                    len(one.row) < len(ledger.row) for one in subscribers
                ):  # they end by themselves
                    await anyio.sleep(0.01)
            readers.cancel_scope.cancel()
        await application.aclose()
    report.figures["megabytes grown"] = grown / 2**20
    if grown > MOST_GROWTH_BYTES:
        report.complaints.append(f"the process has grown by {grown / 2**20:.1f} MB")
    _compare(report, ledger, subscribers, spans, reader)
    report.figures["let in just as the listener went"] = application.let_in_too_late
    report.require("1011 by the gate's count", gate.closes[1011], 0)
    report.require("applications that raised", gate.closes["application_error"], 0)


async def _live(
    server: RedisServer, url: str, seconds: float, random: Random, report: Report
) -> float:
    """Clients and faults for so long; returns by how much the process has grown in the end."""
    me = psutil.Process()
    ends_at = time.monotonic() + seconds
    async with anyio.create_task_group() as clients:
        for _ in range(_CLIENTS):
            clients.start_soon(chat, url, Random(random.random()), report)
        async with anyio.create_task_group() as faults:
            faults.start_soon(flap, server, random, report)
            await anyio.sleep(seconds / 3)
            gc.collect()
            before = me.memory_info().rss
            await anyio.sleep(max(0.0, ends_at - time.monotonic()))
            faults.cancel_scope.cancel()
        gc.collect()
        grown = me.memory_info().rss - before
        clients.cancel_scope.cancel()
    return grown


def _compare(
    report: Report,
    ledger: Ledger,
    subscribers: list[Subscriber],
    spans: Spans,
    reader: InMemoryMetricReader,
) -> None:
    report.stages.update(event.current for event in ledger.row)
    numbers = [event.sequence for event in ledger.row]
    report.require("gaps in the row of transitions", numbers != list(range(1, len(numbers) + 1)), 0)
    wrong = sum(subscriber.row != ledger.row for subscriber in subscribers)
    report.require("subscribers that saw another row", wrong, 0)
    transitions = len(ledger.row)
    report.require(
        "transitions in traces", spans.events["orchestrator.stage.transition"], transitions
    )
    report.require("transitions in metrics", _measured(reader), transitions)
    report.require("1011 that clients saw", report.closes["closed with 1011"], 0)


def _measured(reader: InMemoryMetricReader) -> int:
    data = reader.get_metrics_data()
    assert data is not None
    points = [
        point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "orchestrator.stage.transitions"
        for point in metric.data.data_points
    ]
    return sum(int(point.value) for point in points if hasattr(point, "value"))


def main() -> int:
    """Return 0 if everything was as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    chosen = parser.parse_args()
    logging.getLogger("orchestrator").setLevel(logging.ERROR)
    report = anyio.run(soak, chosen.seconds, chosen.seed)
    print(f"{chosen.seconds:g} s with --seed {chosen.seed}\n{report}")  # the output
    return 1 if report.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
