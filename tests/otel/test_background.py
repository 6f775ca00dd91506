"""Telemetry is written beside the event loop, and what breaks there breaks nothing else."""

import asyncio
import logging
import threading

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import NoOpTracerProvider, Tracer
from opentelemetry.util.types import Attributes

from orchestrator import Observer, Orchestrator, Policy, Stage, StartupContext, Target
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.otel._flush import Flusher
from orchestrator.otel._setup.provider_shutdown import ProviderShutdown
from orchestrator.testing import REFUSED, ManualClock, ScriptedProbe
from states import BootFinished, Fact, ProbeSucceeded, StageChanged, StartupMachine
from tests.otel.otel_support import Traced

pytestmark = pytest.mark.anyio


class Threads(SpanProcessor):
    """Notes the threads in which spans end, and holds a flush until it is allowed."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.ended = threading.Event()
        self.flushing = threading.Event()
        self.allowed = threading.Event()

    def on_end(self, span: ReadableSpan) -> None:  # the port's
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
        instrumenting_module_name: str,  # the API's
        instrumenting_library_version: str | None = None,  # the API's
        schema_url: str | None = None,  # the API's
        attributes: Attributes = None,  # the API's
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
            assert not observer._noted
    assert provider.asked > 1  # it may be able to later
    assert [record.message for record in caplog.records] == [
        "telemetry: traces could not be written; this is logged only once"
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

    def stopped(self, at: float) -> None:  # the port's
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


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio's cannot be made by hand
async def test_a_part_that_ends_with_a_stray_cancellation_does_not_cut_the_others_short() -> None:
    class Stray(Closing):
        async def aclose(self) -> None:
            await anyio.lowlevel.checkpoint()
            raise asyncio.CancelledError

    class Slow(Closing):
        async def aclose(self) -> None:
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            self.told.append("closed")

    slow = Slow()
    async with Orchestrator(ScriptedProbe(), observers=[Stray(), slow]):
        pass
    assert slow.told == ["stopped", "closed"]


async def test_where_no_thread_can_be_started_nothing_is_lost(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        async with traced.orchestrator():
            await traced.clock.advance(3.0)
    assert [root.name for root in traced.roots] == ["startup"]
    assert not traced.observer._noted


async def test_a_writer_that_hangs_keeps_a_bounded_number_of_facts() -> None:
    class Hanging(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:  # the port's
            allowed.wait(10)

    allowed = threading.Event()
    tracers, policy = TracerProvider(shutdown_on_exit=False), Policy()
    tracers.add_span_processor(Hanging())
    observer, machine = OpenTelemetryObserver(tracers), StartupMachine(policy)
    observer.started(StartupContext(policy, Target(), {}, 0.0, 1.0, 10**18))
    for fact in (BootFinished(1.0), ProbeSucceeded(1.0, 0.1), ProbeSucceeded(2.0, 0.1)):
        observer.observed(fact, machine.receive(fact))
    for _ in range(10_000):
        observer.observed(ProbeSucceeded(3.0, 0.1), None)
    assert len(observer._noted) <= 8192
    allowed.set()
    observer.stopped(4.0)
    assert await anyio.to_thread.run_sync(observer.wait_until_written, 5.0)
    await anyio.lowlevel.checkpoint()


async def test_an_observer_that_was_told_to_stop_keeps_nothing_more(traced: Traced) -> None:
    async with traced.orchestrator():
        await traced.clock.advance(3.0)
    for _ in range(3):
        traced.observer.observed(ProbeSucceeded(9.0, 0.1), None)
    assert not traced.observer._noted


class Refusing:
    """A provider whose errors hold what must not be logged."""

    def force_flush(self) -> None:
        raise ConnectionError("https://user:hunter2@collector refused \x1b[31m")


def test_what_a_provider_raises_is_logged_by_its_type(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "orchestrator")
    flusher = Flusher()
    flusher.begin([Refusing()])
    flusher.wait()
    ending = ProviderShutdown(Refusing().force_flush)
    ending.begin().join(10.0)
    assert sorted(caplog.messages) == [
        "a provider could not be ended: ConnectionError",
        "a provider could not be flushed: ConnectionError",
    ]


def test_where_no_thread_starts_any_more_the_writers_own_sends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Python 3.12 has it during the exit. A thread that others wait for never does it."""
    flushed = []

    class Provider:
        def force_flush(self) -> None:
            flushed.append(threading.current_thread().name)

    class Unstartable(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't create new thread at interpreter shutdown")

    writer = threading.Thread(
        target=lambda: Flusher().begin([Provider()]), name="writer", daemon=True
    )
    monkeypatch.setattr("orchestrator.otel._flush.Thread", Unstartable)
    Flusher().begin([Provider()])
    assert flushed == []
    writer.start()
    writer.join(10.0)
    assert flushed == ["writer"]
