"""Real parts: traces go through the official collector to Tempo, and its page's queries find them.

`TEMPO` names the program; where it is not installed, this is skipped. Where `OTELCOL` names no
collector, traces are sent to Tempo itself.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import anyio
import pytest
from anyio.abc import TaskStatus
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id

from orchestrator import Check, Orchestrator, Policy, Task
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.redis import RedisProbe
from orchestrator.testing import REFUSED, ManualClock, ScriptedProbe
from states import Stage
from tests.otel.collector_spans import Spans, by_trace, received
from tests.otel.collector_support import (
    ROOT,
    TEMPO_CONFIG,
    Json,
    a_collector,
    a_tempo,
    find_program,
    get_json,
    until,
)
from tests.otel.otel_support import TimedProbe, seconds, span_id
from tests.otel.stories import CONDITION, STORIES, Story
from tests.redis_server import free_port


async def stopped(observer: OpenTelemetryObserver) -> None:
    """The platform ends the service before Redis has come."""
    url = f"redis://127.0.0.1:{free_port()}"
    async with Orchestrator(RedisProbe(url), observers=[observer]) as startup:
        await startup.wait_for(Stage.PROBING_REDIS, timeout_seconds=5)


async def slow_everywhere(observer: OpenTelemetryObserver) -> None:
    """In virtual time: long imports, a late Redis, a busy event loop, a late condition."""
    clock = ManualClock(age_seconds=4)
    probe = TimedProbe(clock, 0.1, 0.4, *[REFUSED] * 12, None)
    async with Orchestrator(
        probe,
        policy=Policy(budget_seconds=60),
        conditions=[CONDITION],
        clock=clock,
        observers=[observer],
    ) as startup:
        await clock.advance(9)
        startup.condition(CONDITION).set(False, reason="its channel does not exist")
        await clock.advance(13)
        startup.condition(CONDITION).set(True)
        await clock.advance(1)
        assert startup.stage is Stage.READY


async def long_outage(observer: OpenTelemetryObserver) -> None:
    """In virtual time: a quick start, and later half a minute without Redis."""
    clock = ManualClock(age_seconds=1)
    probe = ScriptedProbe("ok", clock=clock)
    async with Orchestrator(probe, clock=clock, observers=[observer]) as startup:
        await clock.advance(5)
        probe.then("refused 40s, ok")
        await clock.advance(60)
        assert startup.stage is Stage.READY


async def late_database(observer: OpenTelemetryObserver) -> None:
    """In virtual time: a check fails at first, and a task that comes after it fails once."""
    clock, failing = ManualClock(age_seconds=1), iter([ConnectionError()])

    async def listen(*, task_status: TaskStatus[None]) -> None:
        for error in failing:
            raise error
        task_status.started()
        await anyio.sleep_forever()

    database = ScriptedProbe("refused 3s, ok", clock=clock)
    conditions = [Check("database", database), Task("listener", listen, after=["database"])]
    async with Orchestrator(
        ScriptedProbe("ok"), conditions=conditions, clock=clock, observers=[observer]
    ) as startup:
        await clock.advance(8)
        assert startup.stage is Stage.READY


ALL_STORIES: tuple[Story, ...] = (*STORIES, stopped, slow_everywhere, long_outage, late_database)

FINDS = {
    '{ name = "startup" && span.orchestrator.outcome = "degraded" }': "slow wrong_password",
    '{ name = "startup" && span.orchestrator.stage.failed = "probing_redis" }': "wrong_password",
    '{ name = "startup" && span.error.type = "AuthenticationError" }': "wrong_password",
    '{ name = "startup" && span.error.type = "condition_not_met" }'
    " | select(span.orchestrator.reason, span.orchestrator.conditions.unmet)": "slow",
    '{ name = "startup" && span.orchestrator.outcome = "stopped" }': "stopped",
    '{ name = "startup" && duration > 10s }': "slow_everywhere",
    '{ name = "startup" && duration > 20s }': "slow_everywhere",
    '{ name = "startup booting" && duration > 3s }': "slow_everywhere",
    '{ name = "startup probing_redis" && duration > 5s }': "slow_everywhere",
    '{ name = "startup grace" && duration > 2s }': "slow_everywhere",
    '{ name = "startup" && span.orchestrator.attempts > 10 }': "slow_everywhere",
    '{ name = "PING" && span.orchestrator.probe.loop_lag_seconds > 0.1 }': "slow_everywhere",
    '{ name = "degrade" }': "flapping long_outage",
    '{ name = "recovery" && duration > 30s }': "long_outage",
    '{ event:name = "orchestrator.stage.transition"'
    ' && event.orchestrator.stage.to = "degraded" }': "slow wrong_password flapping long_outage",
    '{ name = "condition chat-listener" && duration > 5s } | select(span.orchestrator.reason)': (
        "slow_everywhere"
    ),
    '{ name =~ "condition .*" && span.orchestrator.condition.satisfied = false }': (
        "slow wrong_password"
    ),
    '{ span.orchestrator.condition.name = "database" && span.orchestrator.attempt > 0 }'
    " | select(span.error.type)": "late_database",
    '{ event:name = "orchestrator.task.restarted" }': "late_database",
}
"""The stories that each query finds, of the page and of the alerts."""

QUANTILES = '{ name = "startup" } | quantile_over_time(duration, 0.99) by (resource.faas.version)'
"""The one that makes a metric."""


@dataclass
class Told:
    """What was made, and the Tempo that got it."""

    api: str
    spans: list[ReadableSpan] = field(default_factory=list)

    def find(self, query: str, at_least: int) -> dict[str, Json] | None:
        """The spans that a query finds, by their ids, once there are so many."""
        answer = get_json(f"{self.api}/api/search", q=query, limit="100", spss="100")
        if answer is None:
            return None
        spans = {
            span["spanID"]: span
            for trace in answer["traces"]
            for found in trace["spanSets"]
            for span in found["spans"]
        }
        return spans if len(spans) >= at_least else None

    def stories_of(self, ids: set[str]) -> set[str]:
        return {
            str(span.resource.attributes["service.name"])
            for span in self.spans
            if format_span_id(span_id(span)) in ids
        }


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """All stories, each as a service of its own that has just been started."""
    directory = tmp_path_factory.mktemp("tempo")
    with ExitStack() as stack:
        receiver, api = stack.enter_context(a_tempo(directory))
        if os.environ.get("OTELCOL") or shutil.which("otelcol"):
            grpc, _ = stack.enter_context(a_collector(directory, tempo=receiver))
            receiver = f"127.0.0.1:{grpc}"
        told = Told(api)
        providers = [sending(story, receiver) for story in ALL_STORIES]

        async def tell() -> None:
            async with anyio.create_task_group() as tasks:
                for story, (provider, _) in zip(ALL_STORIES, providers, strict=True):
                    tasks.start_soon(story, OpenTelemetryObserver(provider))

        with pytest.MonkeyPatch.context() as patch:
            # This process has run for as long as the tests before took.
            patch.setattr("orchestrator._runtime.clock.process_age_seconds", lambda: 0.5)
            anyio.run(tell)
        for provider, made in providers:
            provider.shutdown()
            told.spans += made.get_finished_spans()
        yield told


def sending(story: Story, receiver: str) -> tuple[TracerProvider, InMemorySpanExporter]:
    """What a story is told with: its spans are kept, and sent to the receiver."""
    name = story.__name__
    provider = TracerProvider(
        resource=Resource.create({"service.name": name, "faas.version": f"{name}-00001"}),
        shutdown_on_exit=False,
    )
    made = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(made))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(receiver, insecure=True)))
    return provider, made


def test_every_span_arrives_in_tempo_as_it_was_made(told: Told) -> None:
    traces = by_trace(told.spans)
    assert len(traces) >= len(ALL_STORIES) + 2 * (3 + 1)  # and each fall, and each way back
    for trace, made in traces.items():
        got = until(partial(_complete, told.api, trace, len(made)), f"{trace} arrives")
        assert set(got) == set(made)
        for number, span in made.items():
            assert got[number] == span


def _complete(api: str, trace: str, spans: int) -> Spans | None:
    answer = get_json(f"{api}/api/v2/traces/{trace}")
    got = received(answer["trace"].get("resourceSpans", [])) if answer else {}
    return got if len(got) >= spans else None


def test_every_query_that_is_written_down_is_tried_here() -> None:
    page = (ROOT / "docs/how-to/tempo.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.+?)^```$", page, re.MULTILINE | re.DOTALL)
    alerts = (ROOT / "docs/deploy/alerts.yaml").read_text(encoding="utf-8")
    queries = [line for kind, block in blocks if kind != "python" for line in block.splitlines()]
    assert {*queries, *re.findall(r"{ name .+? }", alerts)} == {*FINDS, QUANTILES}


def test_every_query_finds_the_spans_that_it_should_and_no_others(told: Told) -> None:
    everyone = {story.__name__ for story in ALL_STORIES}
    for query, stories in FINDS.items():
        expected = {format_span_id(span_id(span)) for span in told.spans if matches(span, query)}
        found = until(
            partial(told.find, query, len(expected)), f"{len(expected)} spans for {query}"
        )
        assert set(found) == expected, query
        # At least: on a busy machine a real start may be slow, too.
        assert set(stories.split()) <= told.stories_of(expected) < everyone, query
        for selected in re.findall(r"span\.([\w.]+)", query.partition("select")[2]):
            # Of attempts, only those that failed have an error's type.
            told_of = [{one["key"] for one in span["attributes"]} for span in found.values()]
            assert any(selected in keys for keys in told_of), query


_CONDITION = re.compile(r'(?P<what>[\w.:]+) (?P<how>=|>|=~) (?P<to>".*"|\S+)')


def matches(span: ReadableSpan, query: str) -> bool:
    """Whether the query means this span: as much of TraceQL as is written down."""
    inner = query[query.index("{") + 1 : query.index("}")]
    return all(_holds(span, condition.strip()) for condition in inner.split("&&"))


def _holds(span: ReadableSpan, condition: str) -> bool:
    match = _CONDITION.fullmatch(condition)
    assert match, condition
    scope, _, name = match["what"].partition(".")
    values: list[Json]  # any of them will do
    if scope == "span":
        values = [(span.attributes or {}).get(name)]
    elif scope == "event":
        values = [(event.attributes or {}).get(name) for event in span.events]
    else:
        intrinsic: dict[str, list[Json]] = {
            "name": [span.name],
            "duration": [seconds(span)],
            "event:name": [event.name for event in span.events],
        }
        values = intrinsic[scope]
    if match["how"] == "=~":
        return any(re.fullmatch(match["to"].strip('"'), str(value)) for value in values)
    if match["how"] == ">":
        return any(float(value) > float(match["to"].removesuffix("s")) for value in values if value)
    return any(value == json.loads(match["to"]) for value in values)


def test_the_slowest_starts_of_each_revision_are_a_metric(told: Told) -> None:
    """TraceQL metrics, which need more of Tempo's parts than a search does."""

    def measured() -> dict[str, float] | None:
        now = time.time()
        answer = get_json(
            f"{told.api}/api/metrics/query_range",
            q=QUANTILES,
            start=f"{now - 300:.0f}",
            end=f"{now + 60:.0f}",
            step="30s",
        )
        if answer is None:
            return None
        series = {
            label["value"]["stringValue"]: max(sample.get("value", 0) for sample in one["samples"])
            for one in answer["series"]
            for label in one["labels"]
            if label["key"] == "resource.faas.version"
        }
        return series if len(series) == len(ALL_STORIES) else None

    slowest = until(measured, "each revision has its starts measured")
    assert set(slowest) == {f"{story.__name__}-00001" for story in ALL_STORIES}
    assert max(slowest, key=slowest.__getitem__) == "slow_everywhere-00001"


def test_tempo_takes_its_configuration() -> None:
    done = subprocess.run(
        [
            *(find_program("TEMPO", "tempo"), f"-config.file={TEMPO_CONFIG}"),
            "-config.verify=true",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
