"""`setup_telemetry`: what it leaves alone, what it sends, and that it never holds the exit up.

Providers can be set once in a process, so everything that sets one runs in a process of its own.
"""

import json
import logging
import socket
from collections.abc import Iterator
from importlib.metadata import version

import pytest
from packaging.version import Version

from orchestrator._runtime.platform_identity import platform_attributes
from orchestrator.otel import setup_telemetry
from orchestrator.otel._setup.log_limit import LogLimit
from tests.otel.otel_process import START, Receiver, at, receiving, run


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture
def silent() -> Iterator[str]:
    """A collector that accepts connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing() -> str:
    """A collector that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_a_start_arrives_over_otlp_with_its_resource(receiver: Receiver) -> None:
    done = run(
        START
        + """
with setup_telemetry(resource_attributes={"service.version": "7"}) as telemetry:
    assert telemetry.installed
    anyio.run(serve)
print(observer.trace_id)
assert not telemetry.installed
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        K_SERVICE="chat",
        K_REVISION="chat-00042-abc",
    )
    (request,) = receiver.traces
    (resource_spans,) = request.resource_spans
    resource = {a.key: a.value.string_value for a in resource_spans.resource.attributes}
    assert resource["service.name"] == resource["faas.name"] == "chat"
    assert resource["service.version"] == "7"
    assert resource["faas.version"] == "chat-00042-abc"
    assert resource["cloud.platform"] == "gcp_cloud_run"
    (scope_spans,) = resource_spans.scope_spans
    assert scope_spans.scope.name == "startup-orchestrator"
    if Version(version("opentelemetry-exporter-otlp")) >= Version("1.31"):  # before, it is left out
        assert scope_spans.schema_url == "https://opentelemetry.io/schemas/1.44.0"
    (root,) = (span for span in scope_spans.spans if not span.parent_span_id)
    assert root.name == "startup"
    assert root.trace_id.hex() == done.stdout.strip()
    assert [event.name for event in root.events] == ["orchestrator.stage.transition"] * 3
    names = {
        metric.name
        for got in receiver.metrics
        for resource_metrics in got.resource_metrics
        for scope_metrics in resource_metrics.scope_metrics
        for metric in scope_metrics.metrics
    }
    assert names == {
        "orchestrator.startup.duration",
        "orchestrator.stage.duration",
        "orchestrator.probe.duration",
        "orchestrator.probe.loop_lag",
        "orchestrator.stage.transitions",
        "orchestrator.stage",
    }


def test_nobody_needs_to_end_it(receiver: Receiver) -> None:
    run(START + "telemetry = setup_telemetry('chat')\nanyio.run(serve)\n", **at(receiver))
    assert len(receiver.traces) == 1


def test_the_environment_s_name_and_signals_hold(receiver: Receiver) -> None:
    run(
        START + "telemetry = setup_telemetry()\nanyio.run(serve)\n",
        OTEL_SERVICE_NAME="named",
        OTEL_METRICS_EXPORTER="none",
        K_SERVICE="chat",
        **at(receiver),
    )
    attributes = receiver.traces[0].resource_spans[0].resource.attributes
    assert {a.key: a.value.string_value for a in attributes}["service.name"] == "named"
    assert receiver.metrics == []


@pytest.mark.parametrize("which", ["trace.set_tracer_provider", "metrics.set_meter_provider"])
def test_a_provider_of_the_application_is_left_alone(which: str, silent: str) -> None:
    done = run(
        f"""
        import logging, sys
        logging.basicConfig(level=logging.INFO, stream=sys.stdout)
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider
        from orchestrator.otel import setup_telemetry

        class Watched:
            ended = False
            def shutdown(self, *_, **__):
                type(self).ended = True

        class Tracers(Watched, TracerProvider): ...
        class Meters(Watched, MeterProvider): ...

        {which}(Tracers() if "tracer" in "{which}" else Meters())
        before = trace.get_tracer_provider(), metrics.get_meter_provider()
        with setup_telemetry("chat", endpoint="{silent}") as telemetry:
            assert not telemetry.installed
        assert (trace.get_tracer_provider(), metrics.get_meter_provider()) == before
        assert not Watched.ended and not Tracers.ended and not Meters.ended
        """
    )
    assert done.stdout.splitlines() == [
        "INFO:orchestrator:the application has set an OpenTelemetry provider: it is used as it is"
    ]


def test_a_disabled_sdk_is_not_even_loaded() -> None:
    run(
        """
        import sys
        from orchestrator.otel import OpenTelemetryObserver, setup_telemetry
        with setup_telemetry("chat") as telemetry:
            assert not telemetry.installed
        assert "opentelemetry.sdk" not in sys.modules
        """,
        OTEL_SDK_DISABLED="true",
    )


def test_the_observer_needs_the_api_only_and_the_package_not_even_that() -> None:
    run(
        """
        import sys
        import orchestrator
        assert "opentelemetry" not in sys.modules
        import orchestrator.otel
        orchestrator.otel.OpenTelemetryObserver()
        loaded = [name for name in ("opentelemetry.sdk", "grpc", "requests") if name in sys.modules]
        assert not loaded, loaded
        """
    )


def test_http_does_not_load_grpc(silent: str) -> None:
    run(
        f"""
        import sys
        from orchestrator.otel import setup_telemetry
        setup_telemetry(endpoint="{silent}").shutdown(0.0)
        assert "grpc" not in sys.modules
        """
    )


def test_an_unknown_protocol_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match=r"^unknown OTLP protocol 'udp'; it must be 'http' or"):
        setup_telemetry(protocol="udp")


SWITCHING = """
import sys
from orchestrator.otel import setup_telemetry
sys.setswitchinterval({before})
with setup_telemetry("chat"{arguments}):
    print(round(sys.getswitchinterval(), 6))
    {meanwhile}
print(round(sys.getswitchinterval(), 6))
"""


ONE_MS = ", switch_interval_seconds=0.001"


@pytest.mark.parametrize(
    ("before", "arguments", "meanwhile", "expected"),
    [
        (0.005, "", "pass", ["0.005", "0.005"]),  # nobody asked
        (0.005, ONE_MS, "pass", ["0.001", "0.005"]),
        (0.0002, ONE_MS, "pass", ["0.0002", "0.0002"]),  # short enough
        (0.005, ONE_MS, "sys.setswitchinterval(0.002)", ["0.001", "0.002"]),  # somebody else's
    ],
)
def test_exporting_threads_yield_sooner_until_the_end_where_it_is_asked_for(
    before: float, arguments: str, meanwhile: str, expected: list[str]
) -> None:
    code = SWITCHING.format(before=before, arguments=arguments, meanwhile=meanwhile)
    done = run(code, OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="none")
    assert done.stdout.split() == expected


EXIT = """
import atexit, json, logging, sys, time
ended = []
# Registered first, so it runs after what setup_telemetry registers.
atexit.register(lambda: print(json.dumps({"seconds": time.monotonic() - ended[0]})))
logging.basicConfig(level=logging.INFO)
from opentelemetry import metrics, trace
from orchestrator.otel import setup_telemetry
telemetry = setup_telemetry("chat", endpoint=%r, protocol=%r)
metrics.get_meter("test").create_counter("made").add(1)
trace.get_tracer("test").start_span("made").end()
ended.append(time.monotonic())
"""


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("collector", ["silent", "refusing"])
def test_the_exit_is_held_up_for_two_seconds_at_most(
    collector: str, protocol: str, request: pytest.FixtureRequest
) -> None:
    done = run(EXIT % (request.getfixturevalue(collector), protocol))
    assert json.loads(done.stdout)["seconds"] < 2.0
    assert 1 <= len(done.stderr.splitlines()) <= 4
    assert "Traceback" not in done.stderr


def test_a_collector_that_is_away_costs_three_log_lines(refusing: str) -> None:
    done = run(
        f"""
        import logging
        logging.basicConfig(level=logging.INFO)
        from opentelemetry import trace
        from orchestrator.otel._setup import exporters, telemetry as setup
        exporters._EXPORT_TIMEOUT_SECONDS = 0.1  # no time for a second try
        telemetry = setup.setup_telemetry("chat", endpoint="{refusing}")
        provider = trace.get_tracer_provider()
        for _ in range(20):
            trace.get_tracer("test").start_span("made").end()
            provider.force_flush()
        """
    )
    assert 1 <= len(done.stderr.splitlines()) <= 3  # some versions leave repeated ones out


FILTERS = """
import logging
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from orchestrator.otel import setup_telemetry

def filters():
    loggers = map(logging.getLogger, list(logging.root.manager.loggerDict))
    found = [one for logger in loggers for one in logger.filters]
    return sum(type(one).__module__.startswith("orchestrator") for one in found)

own = {own}
if own:
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
for _ in range(3):
    telemetry = [setup_telemetry("chat") for _ in range(2)][0]
    print(filters() > 0, end=" ")
    telemetry.shutdown()
print(filters())
"""


@pytest.mark.parametrize(
    ("own", "expected"), [(True, "False False False 0"), (False, "True False False 0")]
)
def test_the_applications_own_log_lines_are_left_alone(own: bool, expected: str) -> None:
    done = run(FILTERS.format(own=own), OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="none")
    assert done.stdout.strip() == expected


def test_the_limit_says_what_it_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("orchestrator.otel._setup.log_limit.time.monotonic", lambda: now[0])
    limit, told = LogLimit(2), []
    for second in (0, 1, 2, 3, 61):
        now[0] = 1000.0 + second
        line = logging.LogRecord("exporter", logging.ERROR, "", 0, "away %d", (second,), None)
        if limit.filter(line):
            told.append(line.getMessage())
    assert told == ["away 0", "away 1", "away 61 (2 lines before this were left out)"]


def test_a_traceback_becomes_one_line() -> None:
    error = ConnectionRefusedError("100 % refused")
    line = logging.LogRecord(
        "exporter", logging.ERROR, "", 0, "away", None, (type(error), error, None)
    )
    assert LogLimit(1).filter(line)
    assert logging.Formatter("%(message)s").format(line) == f"away {error!r}"


CLOUD_RUN = {"cloud.provider": "gcp", "cloud.platform": "gcp_cloud_run"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {}),
        (
            {"K_SERVICE": "chat", "K_REVISION": "chat-1"},
            CLOUD_RUN | {"faas.name": "chat", "faas.version": "chat-1", "service.name": "chat"},
        ),
        (
            {"CLOUD_RUN_JOB": "job", "CLOUD_RUN_EXECUTION": "job-x", "CLOUD_RUN_TASK_INDEX": "3"},
            CLOUD_RUN
            | {
                "faas.name": "job",
                "service.name": "job",
                "gcp.cloud_run.job.execution": "job-x",
                "gcp.cloud_run.job.task_index": 3,
            },
        ),
        (
            {"CLOUD_RUN_WORKER_POOL": "pool"},
            CLOUD_RUN | {"faas.name": "pool", "service.name": "pool"},
        ),
        (
            {"K_SERVICE": "f", "FUNCTION_TARGET": "main"},
            {
                "cloud.provider": "gcp",
                "cloud.platform": "gcp_cloud_functions",
                "faas.name": "f",
                "service.name": "f",
            },
        ),
        (
            {"GAE_SERVICE": "default", "GAE_VERSION": "v1", "GAE_INSTANCE": "i-1"},
            {
                "cloud.provider": "gcp",
                "cloud.platform": "gcp_app_engine",
                "faas.name": "default",
                "faas.version": "v1",
                "faas.instance": "i-1",
                "service.name": "default",
            },
        ),
        (
            {
                "KUBERNETES_SERVICE_HOST": "10.0.0.1",
                "POD_NAME": "chat-7d9-x2x",
                "MY_POD_NAMESPACE": "prod",
                "K8S_NODE_NAME": "node-3",
                "POD_UID": "8b1f",
                "CONTAINER_NAME": "chat",
                "DEPLOYMENT_NAME": "chat-api",
            },
            {
                "k8s.pod.name": "chat-7d9-x2x",
                "k8s.pod.uid": "8b1f",
                "k8s.namespace.name": "prod",
                "k8s.node.name": "node-3",
                "k8s.container.name": "chat",
                "k8s.deployment.name": "chat-api",
                "service.name": "chat-api",
            },
        ),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "K_SERVICE": "f", "POD_NAME": "f-1-x"},
            {"service.name": "f", "faas.name": "f", "k8s.pod.name": "f-1-x"},  # Knative
        ),
        ({"POD_NAME": "of something else"}, {}),
    ],
)
def test_what_a_platform_says_of_itself(
    environment: dict[str, str], expected: dict[str, str | int]
) -> None:
    assert platform_attributes(environment) == expected
