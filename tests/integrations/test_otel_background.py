"""Telemetry is written beside the event loop, and what breaks there breaks nothing else."""

import logging
import threading

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import NoOpTracerProvider, Tracer
from opentelemetry.util.types import Attributes

from orchestrator import Observer, Orchestrator, Stage
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.testing import REFUSED, ManualClock, ScriptedProbe
from states import Fact, StageChanged

pytestmark = pytest.mark.anyio


class Threads(SpanProcessor):
    """Notes the threads in which spans end, and holds a flush until it is allowed."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.ended = threading.Event()
        self.flushing = threading.Event()
        self.allowed = threading.Event()

    def on_end(self, span: ReadableSpan) -> None:  # noqa: ARG002  the port's
        self.seen.add(threading.get_ident())
        self.ended.set()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        self.flushing.set()
        return self.allowed.wait(timeout_millis / 1e3)


async def test_no_span_is_made_on_the_event_loop() -> None:
    threads, tracers = Threads(), TracerProvider(shutdown_on_exit=False)
    threads.allowed.set()
    tracers.add_span_processor(threads)
    observer = OpenTelemetryObserver(tracers)
    async with Orchestrator(ScriptedProbe([REFUSED, None]), observers=[observer]) as startup:
        await startup.wait_for(Stage.READY, timeout_seconds=5)
    assert threads.seen
    assert threading.get_ident() not in threads.seen


async def test_leaving_waits_for_the_collector_without_blocking_the_loop() -> None:
    """The flush ends only because another task of the same loop allows it."""
    threads, tracers = Threads(), TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(threads)

    async def allow() -> None:
        assert await anyio.to_thread.run_sync(threads.flushing.wait, 5)
        threads.allowed.set()

    async with anyio.create_task_group() as tasks:
        observer = OpenTelemetryObserver(tracers)
        async with Orchestrator(ScriptedProbe(), observers=[observer]) as startup:
            await startup.wait_for(Stage.READY, timeout_seconds=5)
            tasks.start_soon(allow)
        assert threads.allowed.is_set()


class Broken(NoOpTracerProvider):
    """Has no tracer for anybody."""

    def __init__(self) -> None:
        self.asked = 0

    def get_tracer(
        self,
        instrumenting_module_name: str,  # noqa: ARG002  the API's
        instrumenting_library_version: str | None = None,  # noqa: ARG002  the API's
        schema_url: str | None = None,  # noqa: ARG002  the API's
        attributes: Attributes = None,  # noqa: ARG002  the API's
    ) -> Tracer:
        self.asked += 1
        raise RuntimeError("no tracer")


async def test_a_provider_that_raises_is_said_once_and_nothing_piles_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, provider = ManualClock(), Broken()
    observer = OpenTelemetryObserver(provider)
    with caplog.at_level(logging.ERROR, "orchestrator"):
        async with Orchestrator(ScriptedProbe(), clock=clock, observers=[observer]) as startup:
            for _ in range(3):
                await clock.advance(30.0)
                assert observer.wait_until_written(5.0)
            assert startup.stage is Stage.READY
            assert not observer._told
    assert provider.asked == 1
    assert [record.message for record in caplog.records] == [
        "telemetry cannot be written, and is told nothing more"
    ]


async def test_what_was_told_is_written_soon_without_anybody_asking() -> None:
    threads, tracers = Threads(), TracerProvider(shutdown_on_exit=False)
    threads.allowed.set()
    tracers.add_span_processor(threads)
    observers = [OpenTelemetryObserver(tracers)]
    async with Orchestrator(ScriptedProbe(), observers=observers):
        assert await anyio.to_thread.run_sync(threads.ended.wait, 5)


class Closing(Observer):
    """Notes what it is told at the end, and may raise or hang there."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.told: list[str] = []

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Nothing."""

    def stopped(self, at: float) -> None:  # noqa: ARG002  the port's
        self.told.append("stopped")

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.told.append("closed")
        if self.error is not None:
            raise self.error


async def test_observers_are_closed_after_they_were_stopped_even_when_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    observers = [Closing(ValueError("cannot")), Closing()]
    with anyio.CancelScope() as scope:
        async with Orchestrator(ScriptedProbe(), observers=observers):
            scope.cancel()
            await anyio.sleep_forever()
    assert [observer.told for observer in observers] == [["stopped", "closed"]] * 2
    assert "raised while it was closed" in caplog.text
