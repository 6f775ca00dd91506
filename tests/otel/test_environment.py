"""The SDK's variables: none ends a start, a signal's own goes first, and no secret is logged."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from orchestrator.otel._setup.environment import secrets
from tests.otel.otel_process import START, Receiver, receiving, run

SERVE = (
    """
import logging, sys
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(name)s %(message)s")
"""
    + START
    + """
with setup_telemetry("chat") as telemetry:
    anyio.run(serve)
print("served", flush=True)
"""
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def said_by_us(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("orchestrator ")]


# -- values that cannot be used -------------------------------------------------------------------


# As many in one process as there may be: none of these keeps another from being read.
@pytest.mark.parametrize(
    "variables",
    [
        {
            "OTEL_BSP_MAX_QUEUE_SIZE": "0",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "-1",
            "OTEL_BSP_SCHEDULE_DELAY": "1s",
            "OTEL_METRIC_EXPORT_INTERVAL": "0",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "10s",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
        },
        {
            "OTEL_BSP_MAX_QUEUE_SIZE": "many",
            "OTEL_BSP_EXPORT_TIMEOUT": "nan",
            "OTEL_METRIC_EXPORT_INTERVAL": "15s",
            "OTEL_METRIC_EXPORT_TIMEOUT": "-1",
            "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "inf",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "thrift",
            "OTEL_TRACES_EXPORTER": "zipkin",
        },
    ],
)
def test_a_value_that_cannot_be_used_is_one_warning_and_the_default_holds(
    variables: dict[str, str], receiver: Receiver
) -> None:
    done = run(SERVE, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, **variables)
    assert "served" in done.stdout
    lines = said_by_us(done.stdout)
    starts = sorted(f"orchestrator telemetry: {name} " for name in variables)
    assert [line[: len(start)] for line, start in zip(sorted(lines), starts, strict=True)] == starts
    assert done.stdout.count("\n") == len(variables) + 1, "nobody else says it again"
    assert receiver.traces
    assert receiver.metrics


@pytest.mark.parametrize(
    ("variable", "lost"),
    [
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=many", "traces"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT=-5", "traces"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT=hunter2", "traces"),
        ("OTEL_METRICS_EXEMPLAR_FILTER=weird", "metrics"),
    ],
)
def test_what_the_sdk_refuses_costs_the_signal_and_never_the_start(
    variable: str, lost: str, receiver: Receiver
) -> None:
    name, _, value = variable.partition("=")
    done = run(SERVE, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, **{name: value})
    assert "served" in done.stdout
    (line,) = said_by_us(done.stdout)
    assert line.startswith("orchestrator telemetry: no ")
    assert f"no {lost}" in line
    assert name in line
    assert value not in line
    assert not getattr(receiver, lost)


SOME_VARIABLES = [
    "OTEL_PYTHON_TRACER_PROVIDER=weird; OTEL_PYTHON_METER_PROVIDER=weird",
    "OTEL_TRACES_SAMPLER=nonsense; OTEL_RESOURCE_ATTRIBUTES=a,b=,=c,%%%",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://[",
    "OTEL_EXPORTER_OTLP_PROTOCOL=grpc; OTEL_EXPORTER_OTLP_HEADERS=no equals",
]
OTHER_VARIABLES = [
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS=weird; OTEL_SERVICE_NAME=",
    "OTEL_TRACES_SAMPLER_ARG=x; OTEL_EXPORTER_OTLP_HEADERS=no equals",
    "OTEL_SPAN_EVENT_COUNT_LIMIT=0; OTEL_EXPORTER_OTLP_COMPRESSION=zstd",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY=missing.pem",
    "OTEL_EXPORTER_OTLP_CERTIFICATE=missing.pem",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=garbage",
    "OTEL_EXPORTER_OTLP_PROTOCOL=grpc; OTEL_EXPORTER_OTLP_COMPRESSION=zstd",
    "OTEL_EXPORTER_OTLP_PROTOCOL=grpc; OTEL_EXPORTER_OTLP_CERTIFICATE=missing.pem",
    "OTEL_EXPORTER_OTLP_PROTOCOL=grpc; OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://[",
    "OTEL_EXPORTER_OTLP_PROTOCOL=grpc; OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=10s",
]


@pytest.mark.parametrize(
    "variables",
    [*SOME_VARIABLES, *(pytest.param(one, marks=pytest.mark.long) for one in OTHER_VARIABLES)],
)
def test_no_variable_ends_a_start(variables: str, receiver: Receiver) -> None:
    set_to = dict(one.split("=", 1) for one in variables.split("; "))
    done = run(SERVE, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, **set_to)
    assert "served" in done.stdout


def test_a_short_queue_is_no_fault_and_makes_the_batch_shorter(receiver: Receiver) -> None:
    short = {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BLRP_MAX_QUEUE_SIZE": "10"}
    done = run(SERVE, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, **short)
    assert done.stdout == "served\n"
    assert receiver.traces


@pytest.mark.parametrize(
    ("missing", "package"),
    [
        ("opentelemetry.exporter.otlp.proto.grpc", "opentelemetry-exporter-otlp-proto-grpc"),
        ("grpc", "grpcio"),
        ("opentelemetry.sdk", "opentelemetry-sdk"),
        ("opentelemetry.sdk.metrics", "opentelemetry-sdk"),
    ],
)
def test_a_package_that_is_missing_is_named(missing: str, package: str) -> None:
    hide = f"import sys\nsys.modules[{missing!r}] = None\n"
    done = run(hide + SERVE, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert "served" in done.stdout
    (line,) = said_by_us(done.stdout)
    assert f": {package} is not installed" in line


# -- the signal's own variable --------------------------------------------------------------------


class Port:
    """A port that keeps the first bytes of each connection."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.got: list[bytes] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                # gRPC connects again, and may leave before it has said anything.
                if data := connection.recv(2048):
                    self.got.append(data)


@contextmanager
def ports() -> Iterator[tuple[Port, Port]]:
    found = Port(), Port()
    yield found
    for port in found:
        # A listener that another thread waits for is closed only once it is woken.
        port.listener.shutdown(socket.SHUT_RDWR)
        port.listener.close()
        port.thread.join(10)


GRPC, TRACES, METRICS = b"PRI * HTTP/2.0", b"POST /v1/traces", b"POST /v1/metrics"


@pytest.mark.parametrize(
    ("variables", "first", "second"),
    [
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, [GRPC], [METRICS]),
        ({"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"}, [TRACES], [GRPC]),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, [GRPC], [GRPC]),
        (
            {
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": " ",
            },
            [TRACES],
            [GRPC],
        ),
        ({"OTEL_TRACES_EXPORTER": "none"}, [], [METRICS]),
        ({"OTEL_METRICS_EXPORTER": "none"}, [TRACES], []),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, [TRACES], [METRICS]),
        ({"OTEL_SDK_DISABLED": "TRUE"}, [], []),
    ],
)
def test_the_variable_of_a_signal_goes_before_the_general_one(
    variables: dict[str, str], first: list[bytes], second: list[bytes]
) -> None:
    with ports() as (traces, metrics):
        own = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{traces.url}/v1/traces",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{metrics.url}/v1/metrics",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        }
        run(SERVE, **own, **variables)
        for port, wanted in ((traces, first), (metrics, second)):
            assert bool(port.got) is bool(wanted)
            assert all(data.startswith(wanted[0]) for data in port.got)


def test_headers_of_a_signal_go_before_the_general_ones() -> None:
    with ports() as (traces, metrics):
        run(
            SERVE,
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{traces.url}/v1/traces",
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{metrics.url}/v1/metrics",
            OTEL_EXPORTER_OTLP_TRACES_HEADERS="x-key=own",
            OTEL_EXPORTER_OTLP_HEADERS="x-key=general",
            OTEL_EXPORTER_OTLP_TRACES_COMPRESSION="gzip",
            OTEL_EXPORTER_OTLP_TIMEOUT="0.3",
        )
        assert b"x-key: own" in traces.got[0]
        assert b"gzip" in traces.got[0].lower().partition(b"content-encoding")[2]
        assert b"x-key: general" in metrics.got[0]
        assert b"content-encoding" not in metrics.got[0].lower()


# -- secrets --------------------------------------------------------------------------------------

SECRET = "hunter2hunter2"  # of a test


@pytest.mark.parametrize(
    "variables",
    [
        {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{{url}}/v1/traces?token={SECRET}",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://u:{SECRET}@127.0.0.1:1/v1/metrics",
        },
        {"OTEL_EXPORTER_OTLP_ENDPOINT": f"{{url}}?token={SECRET}"},
        {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:1/v1/traces?token={SECRET}",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": f"x-key={SECRET},{SECRET}",
        },
        {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://[{SECRET}/v1/traces",
            "OTEL_EXPORTER_OTLP_HEADERS": SECRET,
        },
        {
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://u:{SECRET}@127.0.0.1:1",
        },
    ],
)
def test_no_secret_of_an_endpoint_or_a_header_is_logged(
    variables: dict[str, str], receiver: Receiver
) -> None:
    given = {name: value.format(url=receiver.url) for name, value in variables.items()}
    done = run(
        SERVE.replace("logging.WARNING", "logging.DEBUG"),
        **{"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url} | given,
        OTEL_EXPORTER_OTLP_TIMEOUT="0.5",
    )
    assert "served" in done.stdout
    assert SECRET not in done.stdout + done.stderr


def test_an_endpoint_that_is_given_in_code_is_kept_secret_too() -> None:
    code = SERVE.replace("logging.WARNING", "logging.DEBUG").replace(
        'setup_telemetry("chat")',
        f'setup_telemetry("chat", endpoint="http://x:{SECRET}@127.0.0.1:1")',
    )
    done = run(code, OTEL_EXPORTER_OTLP_TIMEOUT="0.3")
    assert SECRET not in done.stdout + done.stderr


def test_what_is_a_secret() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://user:p%40ssword@host/v1?token=abcdef&x=1#fragment",
        "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "authorization=Basic%20QWxhZGRpbg,x-a=1",
        "OTEL_SERVICE_NAME": "chat-service",
    }
    assert set(secrets(environ, None)) == {
        "user:p%40ssword",
        "user",
        "p%40ssword",
        "p@ssword",
        "token=abcdef&x=1",
        "abcdef",
        "fragment",
        "Basic%20QWxhZGRpbg",
        "Basic QWxhZGRpbg",
    }
    assert secrets({}, "http://collector:4318") == []
