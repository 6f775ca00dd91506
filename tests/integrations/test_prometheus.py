"""The alerts, and the dashboard on a real Prometheus that a real run has fed.

`PROMETHEUS` and `PROMTOOL` name the programs; where they are not installed, this is skipped. From
version 3 on metrics go to Prometheus over OTLP, through the collector where `OTELCOL` names one; an
older one scrapes them.
"""

import json
import math
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import yaml
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from orchestrator import Orchestrator, Policy
from orchestrator.asgi import ReadinessGate
from orchestrator.otel import OpenTelemetryGateMetrics, OpenTelemetryObserver
from orchestrator.redis import RedisProbe
from states import Stage
from tests.integrations.collector_support import (
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
QUERIES = [
    (panel["title"], one["expr"]) for panel in DASHBOARD["panels"] for one in panel["targets"]
]
_LONG_SECONDS = 20.0


def test_the_alerts_pass_their_unit_tests() -> None:
    done = subprocess.run(
        [find_program("PROMTOOL", "promtool"), "test", "rules", str(DEPLOY / "alerts_test.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire_in_a_unit_test() -> None:
    tests: Json = yaml.safe_load((DEPLOY / "alerts_test.yaml").read_text(encoding="utf-8"))
    fired = {
        one["alertname"]
        for test in tests["tests"]
        for one in test["alert_rule_test"]
        if one.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in RULES}


def test_a_wrong_threshold_does_not_pass_the_unit_tests(tmp_path: Path) -> None:
    """That the tests can fail: each rule, its comparison turned off, breaks one."""
    promtool = find_program("PROMTOOL", "promtool")
    text = (DEPLOY / "alerts.yaml").read_text(encoding="utf-8")
    (tmp_path / "alerts_test.yaml").write_text(
        (DEPLOY / "alerts_test.yaml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    for threshold in ("> 0\n          or", "< 0.99", ") > 20", "> 0.5", ") > 0.25"):
        assert text.count(threshold) == 1
        broken = text.replace(threshold, re.sub(r"[<>] [\d.]+", "== 12345", threshold))
        (tmp_path / "alerts.yaml").write_text(broken, encoding="utf-8")
        done = subprocess.run(
            [promtool, "test", "rules", "alerts_test.yaml"],
            capture_output=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode != 0, threshold


@dataclass
class Fed:
    """What was fed, and where it can be asked for."""

    url: str
    over_otlp: bool
    admissions: Counter[str] = field(default_factory=Counter)
    startups: set[str] = field(default_factory=set)

    def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """The labels and values that a query gives now."""
        answer = get_json(f"{self.url}/api/v1/query", query=query)
        assert answer is not None, query
        return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]

    def one(self, query: str) -> float:
        ((_, value),) = self.ask(query)
        return value


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fed]:
    """Prometheus, after two starts with held clients, an outage, and handlers that raise."""
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
            reader: MetricReader = PeriodicExportingMetricReader(exporter, 200)
        else:
            reader, port = scraped(stack)
            url = stack.enter_context(a_prometheus(directory, scrape=port))
        meters = MeterProvider(
            [reader],
            resource=Resource.create({"service.name": "chat", "service.instance.id": "one"}),
            shutdown_on_exit=False,
        )
        fed = Fed(url, over_otlp)
        anyio.run(run_twice, fed, meters)
        yield fed
        meters.shutdown()


def has_collector() -> bool:
    try:
        return bool(find_program("OTELCOL", "otelcol"))
    except pytest.skip.Exception:
        return False


def scraped(stack: ExitStack) -> tuple[MetricReader, int]:
    if find_spec("opentelemetry.exporter.prometheus") is None:
        pytest.skip("this Prometheus takes no OTLP, and opentelemetry-exporter-prometheus is not"
                    " installed, which it could scrape")  # fmt: skip
    from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415  optional
    from prometheus_client import start_http_server  # noqa: PLC0415  the same

    port = free_port()
    server, thread = start_http_server(port, addr="127.0.0.1")
    stack.callback(thread.join)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return PrometheusMetricReader(), port


async def run_twice(fed: Fed, meters: MeterProvider) -> None:
    """Twice, and with one address, since a rate is the difference of two values of one series."""
    gate_metrics = OpenTelemetryGateMetrics(meters)
    port = free_port()
    tracers = TracerProvider(shutdown_on_exit=False)
    for number in (1, 2):
        observer = OpenTelemetryObserver(tracers, meters)
        await run_once(fed, observer, gate_metrics, RedisServer(port))
        fed.startups.add(str(observer.trace_id))
        admitted = fed.admissions["admitted"]

        def seen(starts: int = number, admitted: int = admitted) -> bool | None:
            query = "orchestrator_startup_duration_seconds_count"
            asked = 'orchestrator_gate_admissions_total{orchestrator_outcome="admitted"}'
            there = [value for _, value in fed.ask(query)] == [starts]
            return (there and [value for _, value in fed.ask(asked)] == [admitted]) or None

        await anyio.to_thread.run_sync(until, seen, f"run {number} is in Prometheus")


async def run_once(
    fed: Fed,
    observer: OpenTelemetryObserver,
    gate_metrics: OpenTelemetryGateMetrics,
    server: RedisServer,
) -> None:
    startup = Orchestrator(
        RedisProbe(server.url), policy=Policy(grace_seconds=0.2), observers=[observer]
    )
    gate = ReadinessGate(chat, startup, metrics=gate_metrics)
    async with startup:
        async with anyio.create_task_group() as clients:
            for path in ("/", "/", "/raises"):
                clients.start_soon(connect, gate, path)
            await anyio.to_thread.run_sync(server.start)
        await startup.wait_for(Stage.READY, timeout_seconds=_LONG_SECONDS)
        await connect(gate, "/")
        server.kill()
        await startup.wait_for(Stage.DEGRADED, timeout_seconds=_LONG_SECONDS)
        await connect(gate, "/")
        await anyio.to_thread.run_sync(server.start)
        await startup.wait_for(Stage.READY, timeout_seconds=_LONG_SECONDS)
    server.stop()
    counts = gate.counts
    fed.admissions.update(admitted=counts.admitted, refused=counts.refused)


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


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title for title, _ in QUERIES])
def test_every_query_of_the_dashboard_gives_numbers(fed: Fed, title: str, query: str) -> None:
    for variable, value in (("$job", ".+"), ("$__rate_interval", "10m"), ("$__range", "10m")):
        query = query.replace(variable, value)
    assert "$" not in query
    found = fed.ask(query)
    assert found, title
    assert all(math.isfinite(value) for _, value in found), found


def test_the_figures_of_the_checklist_are_those_of_the_run(fed: Fed) -> None:
    assert fed.admissions == {"admitted": 8, "refused": 2}
    for outcome, number in fed.admissions.items():
        query = f'orchestrator_gate_admissions_total{{orchestrator_outcome="{outcome}"}}'
        assert fed.one(query) == number
    raised = 'orchestrator_websocket_close_code="application_error"'
    assert fed.one(f"orchestrator_websocket_closes_total{{{raised}}}") == 2
    assert (
        fed.one('orchestrator_websocket_closes_total{orchestrator_websocket_close_code="1011"}')
        == 0
    )
    assert fed.one("orchestrator_startup_duration_seconds_count") == 2
    until(lambda: fed.one("sum(orchestrator_stage)") == 0 or None, "no stage is current any more")


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
    assert traces
    assert traces <= fed.startups
