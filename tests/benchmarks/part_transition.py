"""What one transition costs: the machine alone, and with everything written as a trace.

With telemetry the floor is what the SDK takes for one span and one event itself, on a provider of
the same kind; the exporter throws away what it gets. Telemetry is counted in processor time, since
it is written by a thread: that of the event loop's thread, and that of all.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from orchestrator import StartupContext, Target
from orchestrator.otel import OpenTelemetryObserver
from states import (
    BootFinished,
    Fact,
    ProbeFailed,
    ProbeSucceeded,
    StageChanged,
    StartupMachine,
    TimerFired,
)
from tests.benchmarks.measure import ROUNDS, Candidate, interleaved
from tests.benchmarks.rows import Figure, Row, at_most, below
from tests.benchmarks.span_trees import trees_of, write_again
from tests.benchmarks.transition_ways import FAILURE, POLICY, Run, bare, ours, peers

PART = "transition"
TRANSITIONS, FLAPS, ATTEMPTS, REPEAT = 3_000, 100, 20, 5
_MOST_OF_SAME = 2.3

SAMPLED_OUT = "all threads' share of observing a change of stage: sampled out"

Told = list[tuple[Fact, StageChanged | None]]


class Nowhere(SpanExporter):
    """Throws everything away."""

    def export(self, _spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def alone(transitions: int, rounds: int) -> Row:
    """The row without telemetry."""

    def candidate(run: Run) -> Candidate:
        return lambda: run(transitions)

    runs = {
        "ours": ours(),
        "transitions Machine, one callback": bare(),
        "transitions Machine, no callback": bare(0),
        **peers(),
    }
    figures = interleaved(
        {name: candidate(run) for name, run in runs.items()}, rounds=rounds, warm_up=2
    )
    mine, floor, *others = figures.values()
    return Row(
        part=PART,
        what="one transition, without telemetry",
        unit="us",
        ours=mine,
        peers=tuple(others),
        floor=floor,
        verdicts=(at_most(mine, 1.3, floor),),
    )


def history(flaps: int) -> tuple[StartupContext, Told]:
    """The facts of a start with some failed attempts, and of falls and recoveries."""
    machine, told = StartupMachine(POLICY), Told()

    def take(fact: Fact) -> None:
        told.append((fact, machine.receive(fact)))
        while machine.wake_at is not None and machine.wake_at <= fact.at:
            fired = TimerFired(fact.at)
            told.append((fired, machine.receive(fired)))

    take(BootFinished(1.0))
    for number in range(ATTEMPTS):
        take(ProbeFailed(1.0 + number / 10, 0.001, FAILURE))
    take(ProbeSucceeded(4.0, 0.001))
    for number in range(flaps):
        take(ProbeFailed(10.0 + number * 10, 0.001, FAILURE))
        take(ProbeSucceeded(12.0 + number * 10, 0.001))
    return StartupContext(POLICY, Target(), {}, 0.0, 1.0, 10**18), told


def changes(told: Told) -> int:
    """How many of the facts changed the stage."""
    return sum(changed is not None for _, changed in told)


def observe(observer: OpenTelemetryObserver, context: StartupContext, told: Told) -> float:
    """Tell all of it, and have all of it written; seconds of the event loop's thread."""
    observer.started(context)
    began = time.thread_time()
    for fact, changed in told:
        observer.observed(fact, changed)
    took = time.thread_time() - began
    observer.stopped(told[-1][0].at)
    assert observer.wait_until_written(30.0)
    return took


def on_the_loop(observer: OpenTelemetryObserver, flaps: int, repeat: int) -> Candidate:
    """Microseconds of the event loop for each change of stage, with all facts between them."""
    context, told = history(flaps)
    number = changes(told) * repeat
    return lambda: sum(observe(observer, context, told) for _ in range(repeat)) / number * 1e6


def in_all(observer: OpenTelemetryObserver, flaps: int, repeat: int) -> Candidate:
    """The same of all threads."""
    context, told = history(flaps)

    def run() -> float:
        began = time.process_time()
        for _ in range(repeat):
            observe(observer, context, told)
        return (time.process_time() - began) / repeat / changes(told) * 1e6

    return run


def batching(exporter: SpanExporter) -> TracerProvider:
    """A provider with a batch span processor before the exporter, whose queue holds a round."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=1 << 18))
    return provider


def written(flaps: int) -> list[ReadableSpan]:
    """The spans that our observer writes."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    observe(OpenTelemetryObserver(provider, NoOpMeterProvider()), *history(flaps))
    return list(exporter.get_finished_spans())


def one_span_one_event(provider: TracerProvider, flaps: int, repeat: int) -> Candidate:
    """Microseconds of `start_span`, `add_event` and `end` for each change of stage."""
    tracer, number = provider.get_tracer("floor"), changes(history(flaps)[1]) * repeat

    def run() -> float:
        began = time.process_time()
        for _ in range(number):
            span = tracer.start_span("stage")
            span.add_event("changed")
            span.end()
        provider.force_flush()
        return (time.process_time() - began) / number * 1e6

    return run


def same_spans(provider: TracerProvider, flaps: int, repeat: int) -> Candidate:
    """Microseconds of the SDK for the very spans, with parents, states and links, of ours."""
    number, tracer = changes(history(flaps)[1]) * repeat, provider.get_tracer("floor")
    roots = trees_of(written(flaps))

    def run() -> float:
        began = time.process_time()
        for _ in range(repeat):
            for root in roots:
                write_again(tracer, root, Context())
        provider.force_flush()
        return (time.process_time() - began) / number * 1e6

    return run


def traced(flaps: int, repeat: int, rounds: int) -> Iterator[Row]:
    """The rows with a batch span processor: the event loop's share, and all of it."""
    mine, other, one, same = (batching(Nowhere()) for _ in range(4))
    machine = ours()
    loop = on_the_loop(OpenTelemetryObserver(mine, NoOpMeterProvider()), flaps, repeat)
    total = in_all(OpenTelemetryObserver(other, NoOpMeterProvider()), flaps, repeat)
    figures = interleaved(
        {
            # The transition itself is in it; in the floor there is no machine.
            "ours, on the event loop": lambda: machine(TRANSITIONS) + loop(),
            "ours, in all threads": lambda: machine(TRANSITIONS) + total(),
            "a span and an event": one_span_one_event(one, flaps, repeat),
            "the same spans and events as ours": same_spans(same, flaps, repeat),
        },
        rounds=rounds,
    )
    for provider in (mine, other, one, same):
        provider.shutdown()
    of_loop, of_all, floor, peer = figures.values()
    spans = len(written(flaps)) / changes(history(flaps)[1])
    note = f"{spans:.1f} spans for each change of stage, with attempts and attributes"
    verdicts = (
        (of_loop, at_most(of_loop, 1.2, floor)),
        # All threads write what the SDK alone would have to write, so that is their measure.
        (replace(of_all, note=note), at_most(of_all, _MOST_OF_SAME, peer)),
    )
    for figure, verdict in verdicts:
        yield Row(
            part=PART,
            what="one transition, written by the SDK with a batch span processor",
            unit="us",
            ours=figure,
            peers=(peer,),
            floor=floor,
            verdicts=(verdict,),
        )


def unwatched(flaps: int, repeat: int, rounds: int) -> Iterator[Row]:
    """The rows of the observer alone: without a provider, sampled out, and recorded."""
    off, on = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False), batching(Nowhere())
    observers = {
        "no provider": OpenTelemetryObserver(),
        "sampled out": OpenTelemetryObserver(off, NoOpMeterProvider()),
        "recorded": OpenTelemetryObserver(on, MeterProvider(shutdown_on_exit=False)),
    }
    figures = interleaved(
        {name: on_the_loop(observer, flaps, repeat) for name, observer in observers.items()}
        | {SAMPLED_OUT: in_all(OpenTelemetryObserver(off, NoOpMeterProvider()), flaps, repeat)},
        rounds=rounds,
    )
    on.shutdown()
    of_all = figures.pop(SAMPLED_OUT)
    for name, figure in figures.items():
        yield Row(
            part=PART,
            what=f"the event loop's share of observing a change of stage: {name}",
            unit="us",
            ours=Figure("ours", figure.values),
            verdicts=() if name == "recorded" else (below(figure, 2, "us"),),
        )
    yield Row(part=PART, what=SAMPLED_OUT, unit="us", ours=Figure("ours", of_all.values))


def measure(
    transitions: int = TRANSITIONS, flaps: int = FLAPS, repeat: int = REPEAT, rounds: int = ROUNDS
) -> Iterator[Row]:
    """All of it."""
    yield alone(transitions, rounds)
    yield from traced(flaps, repeat, rounds)
    yield from unwatched(flaps, repeat, rounds)
