"""The dashboard and the alerts on a real Prometheus that a real run has fed.

The run is one process that starts once, and its first sample holds the start already: this is what
a service with any export interval shows, and what `rate()` alone does not see.

`PROMETHEUS` names the program; where it is not installed, this is skipped. From version 3 on,
metrics go to it over OTLP, through the collector where `OTELCOL` names one; an older one scrapes.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec

import anyio
import anyio.to_thread
import pytest
import yaml
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from orchestrator import Check, Orchestrator, Policy, Task
from orchestrator.asgi import ReadinessGate
from orchestrator.checks import call
from orchestrator.otel import OpenTelemetryGateMetrics, OpenTelemetryObserver
from orchestrator.redis import RedisProbe
from states import Stage
from tests.otel.collector_support import (
    ROOT,
    Json,
    a_collector,
    a_prometheus,
    find_program,
    find_prometheus,
    get_json,
    until,
)
from tests.redis_server import RedisServer, free_port

DEPLOY = ROOT / "docs" / "deploy"
DASHBOARD: Json = json.loads(
    (DEPLOY / "grafana/dashboards/startup-orchestrator.json").read_text(encoding="utf-8")
)
ALERTS: Json = yaml.safe_load((DEPLOY / "alerts.yaml").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}
QUERIES = [(title, one["refId"]) for title, panel in PANELS.items() for one in panel["targets"]]
_LONG_SECONDS = 20.0


@dataclass
class Fed:
    """What was fed, and where it can be asked for."""

    url: str
    over_otlp: bool
    publish: Callable[[], object]
    began_at: float = field(default_factory=time.time)
    startup: str | None = None

    def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """The labels and values that a query gives now."""
        answer = get_json(f"{self.url}/api/v1/query", query=query)
        assert answer is not None, query
        return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]

    def one(self, query: str) -> float:
        ((_, value),) = self.ask(query)
        return value

    def panel(self, title: str, target: str = "A") -> dict[str, list[float]]:
        """What a panel shows, by the values of its labels: of a graph, ten points a second."""
        (query,) = [one["expr"] for one in PANELS[title]["targets"] if one["refId"] == target]
        for variable, value in (
            ("$job", "chat"),
            ("$__interval", "100ms"),
            ("$__rate_interval", "4s"),
            ("$__range", "1h"),
        ):
            query = query.replace(variable, value)
        assert "$" not in query
        if PANELS[title]["type"] == "stat":
            return {" to ".join(labels.values()): [value] for labels, value in self.ask(query)}
        start, end = int(self.began_at) - 5, int(time.time()) + 5
        answer = get_json(
            f"{self.url}/api/v1/query_range",
            query=query,
            start=str(start),
            end=str(end),
            step="0.1",
        )
        assert answer is not None, query
        return {
            " to ".join(one["metric"].values()): [float(value) for _, value in one["values"]]
            for one in answer["data"]["result"]
        }

    def sums(self, title: str, target: str = "A") -> dict[str, float]:
        """The sum of each series of a panel with bars, in which every event is once."""
        sums = {name: sum(values) for name, values in self.panel(title, target).items()}
        return {name: value for name, value in sums.items() if value}


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fed]:
    """Prometheus, after a start with held clients, one outage, and handlers that raise."""
    directory = tmp_path_factory.mktemp("prometheus")
    _, over_otlp = find_prometheus()
    with ExitStack() as stack:
        if over_otlp:
            url = stack.enter_context(a_prometheus(directory))
            receiver = f"{url}/api/v1/otlp/v1/metrics"
            if has_collector():
                _, http = stack.enter_context(
                    a_collector(directory, prometheus=f"{url}/api/v1/otlp")
                )
                receiver = f"http://127.0.0.1:{http}/v1/metrics"
            exporter = OTLPMetricExporter(receiver)
            reader: MetricReader = PeriodicExportingMetricReader(exporter, math.inf)
            publish: Callable[[], object] = lambda: meters.force_flush()  # noqa: E731, PLW0108  below
        else:
            reader, port, publish = scraped(stack)
            url = stack.enter_context(a_prometheus(directory, scrape=port))
        meters = MeterProvider(
            [reader],
            resource=Resource.create({"service.name": "chat", "service.instance.id": "one"}),
            shutdown_on_exit=False,
        )
        fed = Fed(url, over_otlp, publish)
        anyio.run(run_once, fed, meters)
        yield fed
        meters.shutdown()


def has_collector() -> bool:
    try:
        return bool(find_program("OTELCOL", "otelcol"))
    except pytest.skip.Exception:
        return False


def scraped(stack: ExitStack) -> tuple[MetricReader, int, Callable[[], object]]:
    if find_spec("opentelemetry.exporter.prometheus") is None:
        pytest.skip(
            "this Prometheus takes no OTLP, and opentelemetry-exporter-prometheus is not"
            " installed, which it could scrape"
        )
    from opentelemetry.exporter.prometheus import PrometheusMetricReader  # optional
    from prometheus_client import start_http_server

    port = free_port()

    @cache  # once; from then on it is scraped
    def publish() -> None:
        server, thread = start_http_server(port, addr="127.0.0.1")
        stack.callback(thread.join)
        stack.callback(server.server_close)
        stack.callback(server.shutdown)

    return PrometheusMetricReader(), port, publish


async def run_once(fed: Fed, meters: MeterProvider) -> None:
    """A start with three clients, and an outage with three more."""
    observer = OpenTelemetryObserver(TracerProvider(shutdown_on_exit=False), meters)
    server = RedisServer(free_port())
    failing, late = iter([ConnectionError(), ConnectionError()]), iter([TimeoutError()])

    async def fail_at_first() -> None:
        for error in failing:
            raise error
        await anyio.sleep_forever()

    async def answer_at_last() -> None:
        for error in late:
            raise error

    startup = Orchestrator(
        RedisProbe(server.url),
        policy=Policy(grace_seconds=0.2),
        observers=[observer],
        # Neither is required, so that the changes of stage are those of Redis.
        conditions=[
            Task("listener", fail_at_first, required=False),
            Check("search", call(answer_at_last), required=False, after=["redis"]),
        ],
    )
    gate = ReadinessGate(chat, startup, metrics=OpenTelemetryGateMetrics(meters))
    admitted = 'orchestrator_gate_admissions_total{orchestrator_outcome="admitted"}'
    async with startup:
        async with anyio.create_task_group() as clients:
            for path in ("/", "/", "/raises"):
                clients.start_soon(connect, gate, path)
            await anyio.to_thread.run_sync(server.start)
        await startup.wait_for(Stage.READY, timeout_seconds=_LONG_SECONDS)
        await anyio.to_thread.run_sync(until, lambda: observer.trace_id, "the start is written")
        fed.startup = observer.trace_id
        await published(fed, f"{admitted} == 3")
        server.kill()
        await startup.wait_for(Stage.DEGRADED, timeout_seconds=_LONG_SECONDS)
        await connect(gate, "/")
        await anyio.to_thread.run_sync(server.start)
        await startup.wait_for(Stage.READY, timeout_seconds=_LONG_SECONDS)
        await connect(gate, "/")
        await connect(gate, "/raises")
        await published(
            fed,
            f"{admitted} == 5 and on() orchestrator_stage_transitions_total"
            '{orchestrator_stage_to="ready"} == 2',
        )
    server.stop()
    await published(fed, "sum(orchestrator_stage) == 0")


async def published(fed: Fed, query: str) -> None:
    """Send what there is until it is in Prometheus: the observer may be a moment behind."""

    def seen() -> Json:
        fed.publish()
        return fed.ask(query) or None

    await anyio.to_thread.run_sync(until, seen, f"{query} in Prometheus")


async def chat(scope: Json, receive: Callable[[], Json], send: Callable[[Json], Json]) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"] == "/raises":
        raise LookupError
    await send({"type": "websocket.close", "code": 1000})


async def connect(gate: ReadinessGate, path: str) -> None:
    """A client, as a server would show it to the application."""
    events = iter([{"type": "websocket.connect"}])

    async def receive() -> Json:
        for event in events:
            return event
        return await anyio.sleep_forever()

    async def send(message: Json) -> None:
        """A server would pass it on."""

    scope = {"type": "websocket", "path": path, "headers": [], "extensions": {}}
    try:
        await gate(scope, receive, send)
    except LookupError:
        assert path == "/raises"


@pytest.mark.parametrize(("title", "target"), QUERIES)
def test_every_query_of_the_dashboard_gives_numbers(fed: Fed, title: str, target: str) -> None:
    found = fed.panel(title, target)
    assert found
    assert all(math.isfinite(value) for values in found.values() for value in values), found


def test_the_figures_of_the_checklist_are_those_of_the_run(fed: Fed) -> None:
    assert fed.panel("WebSockets closed with 1011") == {"": [2]}
    assert fed.panel("Availability of the gated path") == {"": [pytest.approx(5 / 6)]}
    assert fed.panel("Failed starts") == {"": [0]}
    took = fed.one("orchestrator_startup_duration_seconds_sum")
    limits = [
        0,
        *sorted(
            float(one["le"]) for one, _ in fed.ask("orchestrator_startup_duration_seconds_bucket")
        ),
    ]
    below = max(limit for limit in limits if limit < took)
    for title, target in (("Start-up time, 95th percentile", "A"), ("Start-up time", "B")):
        ((shown, *_),) = fed.panel(title, target).values()
        assert below <= shown <= min(limit for limit in limits if limit >= took)


def test_the_graphs_show_every_event_once(fed: Fed) -> None:
    assert fed.sums("Admissions by outcome") == {"admitted": 5, "refused": 1}
    assert fed.sums("WebSockets closed, by code") == {"1000": 3, "application_error": 2}
    changes = {
        f"{one['orchestrator_stage_from']} to {one['orchestrator_stage_to']}": value
        for one, value in fed.ask("orchestrator_stage_transitions_total")
    }
    assert fed.sums("Changes of stage") == changes
    assert (changes["ready to degraded"], changes["grace to ready"]) == (1, 2)
    failed = sum(fed.sums("Redis: time of an attempt, and failures", "B").values())
    raw = 'sum(orchestrator_probe_duration_seconds_count{error_type!=""})'
    assert failed == fed.one(raw) >= 1


def test_the_graphs_show_conditions_checks_and_tasks(fed: Fed) -> None:
    assert fed.sums("Restarts of tasks") == {"listener": 2}
    current = fed.panel("Instances in which a condition holds")
    assert {name: max(values) for name, values in current.items()} == {"listener": 1, "search": 1}
    assert {values[-1] for values in current.values()} == {0}
    ((asked, times),) = fed.panel("Checks: time of an attempt, and failures").items()
    assert asked == "search"
    assert all(0 < seconds < 1 for seconds in times)
    failed = fed.sums("Checks: time of an attempt, and failures", "B")
    assert failed == {"TimeoutError to search": 1}


def test_the_graphs_show_how_long_it_took(fed: Fed) -> None:
    stages = fed.panel("Time in a stage, 95th percentile")
    assert set(stages) == {"booting", "probing_redis", "grace", "degraded"}
    assert all(0.1 < seconds < 1 for seconds in stages["grace"])  # it is 0.2 s
    ((held, *_),) = fed.panel("Held now, and for how long", "B").values()
    assert 0 < held < _LONG_SECONDS
    current = fed.panel("Instances by stage")
    assert max(current["ready"]) == 1
    assert {values[-1] for values in current.values()} == {0}


def test_the_rules_are_loaded_and_the_lost_clients_are_noticed(fed: Fed) -> None:
    def rules() -> Json:
        answer = get_json(f"{fed.url}/api/v1/rules")
        found = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
        return found if all(rule["health"] == "ok" for rule in found) else None

    found = until(rules, "every rule was evaluated")
    assert {rule["name"] for rule in found} == {rule["alert"] for rule in RULES}

    def fires() -> Json:
        query = 'ALERTS{alertname="WebSocketClosedWith1011", alertstate="firing"}'
        return fed.ask(query) or None

    until(fires, "the alert fires")


def test_an_exemplar_leads_to_the_trace(fed: Fed) -> None:
    if not fed.over_otlp:
        pytest.skip("exemplars come over OTLP, which this Prometheus does not take")
    answer = get_json(
        f"{fed.url}/api/v1/query_exemplars",
        query="orchestrator_startup_duration_seconds_bucket",
        start=str(time.time() - 300),
        end=str(time.time() + 300),
    )
    traces = {one["labels"]["trace_id"] for series in answer["data"] for one in series["exemplars"]}
    assert traces == {fed.startup}
