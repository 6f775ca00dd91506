"""Real receivers for tests: the OpenTelemetry Collector, Jaeger, Tempo and Prometheus.

Each is found by an environment variable or on PATH, listens on 127.0.0.1, and ends with its block.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from tests.redis_server import free_port

ROOT = Path(__file__).parents[2]
COLLECTOR_CONFIG = ROOT / "otel-collector.yaml"
TEMPO_CONFIG = ROOT / "docs/deploy/tempo.yaml"

Json = Any  # what a server answers has no type of its own
T = TypeVar("T")


def find_program(variable: str, name: str) -> str:
    """The program that the variable or PATH names; skips the test where there is none."""
    found = os.environ.get(variable) or shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed: put it on PATH, or set {variable} to the program")
    return found


def until(find: Callable[[], T | None], what: str, timeout_seconds: float = 15.0) -> T:
    """What `find` finds, as soon as it does."""
    deadline = time.monotonic() + timeout_seconds
    while (found := find()) is None:
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {timeout_seconds:g} s")
        time.sleep(0.02)
    return found


def get_json(url: str, **query: str) -> Json:
    """The JSON that a URL answers; `None` while it answers an error, or not at all."""
    try:
        with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(query)}", timeout=5) as answer:  # noqa: S310  http only
            return json.load(answer)
    except urllib.error.HTTPError as error:
        error.close()  # it is the response, too
    except (OSError, ValueError):
        pass
    return None


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, ports: Sequence[int], **environment: str
) -> Iterator[None]:
    """A program, from when all its ports are open until the end of the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | environment
        )

    def listening() -> bool | None:
        if process.poll() is not None:
            pytest.fail(f"{command[0]} ended: {log.read_text(errors='replace')[-2000:]}")
        try:
            for port in ports:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return None
        return True

    try:
        until(listening, f"{command[0]} listens on {ports}", 30)
        yield
    finally:
        process.kill()  # asked nicely, a collector waits for receivers that are not there
        process.wait()


@contextlib.contextmanager
def a_collector(
    directory: Path,
    *,
    tempo: str | None = None,
    jaeger: str | None = None,
    prometheus: str | None = None,
) -> Iterator[tuple[int, int]]:
    """The official collector with `otel-collector.yaml` as it is; gives its gRPC and HTTP ports."""
    program = find_program("OTELCOL", "otelcol")
    grpc, http = free_port(), free_port()
    nowhere = f"127.0.0.1:{free_port()}"
    quiet = directory / "quiet.yaml"  # the collector's own metrics would take a fixed port
    quiet.write_text("service: {telemetry: {metrics: {level: none}}}\n", encoding="utf-8")
    with running(
        [program, "--config", str(COLLECTOR_CONFIG), "--config", str(quiet)],
        directory / "collector.log",
        [grpc, http],
        OTLP_LISTEN="127.0.0.1",
        OTLP_GRPC_PORT=str(grpc),
        OTLP_HTTP_PORT=str(http),
        TEMPO_ENDPOINT=tempo or nowhere,
        JAEGER_ENDPOINT=jaeger or nowhere,
        PROMETHEUS_OTLP_ENDPOINT=prometheus or f"http://{nowhere}/api/v1/otlp",
    ):
        yield grpc, http


_JAEGER_CONFIG = """
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines: {{traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}}}
  telemetry: {{metrics: {{level: none}}}}
extensions:
  jaeger_storage: {{backends: {{memory: {{memory: {{max_traces: 1000}}}}}}}}
  jaeger_query:
    storage: {{traces: memory}}
    http: {{endpoint: "127.0.0.1:{query}"}}
    grpc: {{endpoint: "127.0.0.1:{query_grpc}"}}
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{otlp}"}}}}}}}}
exporters: {{jaeger_storage_exporter: {{trace_storage: memory}}}}
"""


@contextlib.contextmanager
def a_jaeger(directory: Path) -> Iterator[tuple[str, str]]:
    """Jaeger with its spans in memory; gives its OTLP address over gRPC, and the URL of its API."""
    program = find_program("JAEGER", "jaeger")
    ports = {"otlp": free_port(), "query": free_port(), "query_grpc": free_port()}
    config = directory / "jaeger.yaml"
    config.write_text(_JAEGER_CONFIG.format(**ports), encoding="utf-8")
    with running(
        [program, "--config", str(config)],
        directory / "jaeger.log",
        [ports["otlp"], ports["query"]],
    ):
        yield f"127.0.0.1:{ports['otlp']}", f"http://127.0.0.1:{ports['query']}"


@contextlib.contextmanager
def a_tempo(directory: Path) -> Iterator[tuple[str, str]]:
    """Tempo with `docs/deploy/tempo.yaml`; gives its gRPC address for OTLP, and its API's URL.

    The file's own ports, which may be taken, and its directory are others here; and what has come
    can be searched after a second, not after ten.
    """
    program = find_program("TEMPO", "tempo")
    otlp, http, grpc, gossip = (free_port() for _ in range(4))
    config: Json = yaml.safe_load(TEMPO_CONFIG.read_text(encoding="utf-8"))
    config["server"] |= {"http_listen_port": http, "grpc_listen_port": grpc}
    config["server"] |= {"http_listen_address": "127.0.0.1", "grpc_listen_address": "127.0.0.1"}
    config["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"] = (
        f"127.0.0.1:{otlp}"
    )
    config["memberlist"] = {"bind_addr": ["127.0.0.1"], "bind_port": gossip}
    soon = {"flush_check_period": "1s", "trace_idle_period": "1s"}
    config["ingester"] = soon
    config["metrics_generator"]["processor"]["local_blocks"] |= soon
    file = directory / "tempo.yaml"
    text = json.dumps(config).replace("/var/tempo", str(directory / "tempo"))
    file.write_text(text, encoding="utf-8")  # JSON is YAML, too
    with running([program, f"-config.file={file}"], directory / "tempo.log", [otlp, http]):
        url = f"http://127.0.0.1:{http}"
        until(lambda: get_json(f"{url}/api/search/tags"), "Tempo answers searches", 30)
        yield f"127.0.0.1:{otlp}", url


def find_prometheus() -> tuple[str, bool]:
    """Prometheus, and whether it takes OTLP (from version 3 on)."""
    program = find_program("PROMETHEUS", "prometheus")
    text = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    return program, "web.enable-otlp-receiver" in text.stdout + text.stderr


@contextlib.contextmanager
def a_prometheus(directory: Path, *, scrape: int | None = None) -> Iterator[str]:
    """Prometheus with the committed alert rules; gives its URL.

    Args:
        directory: A temporary directory.
        scrape: A port of 127.0.0.1 to scrape. Without it, metrics have to come over OTLP.
    """
    program, _ = find_prometheus()
    port = free_port()
    config: Json = {
        "global": {"scrape_interval": "200ms", "evaluation_interval": "1s"},
        "rule_files": [str(ROOT / "docs/deploy/alerts.yaml")],
        "scrape_configs": [],
    }
    if scrape is not None:
        targets = [{"targets": [f"127.0.0.1:{scrape}"]}]
        config["scrape_configs"] = [{"job_name": "chat", "static_configs": targets}]
    file = directory / "prometheus.yml"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML, too
    with running(
        [
            program,
            *([] if scrape is not None else ["--web.enable-otlp-receiver"]),
            "--enable-feature=exemplar-storage",
            *(f"--config.file={file}", f"--storage.tsdb.path={directory / 'tsdb'}"),
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        directory / "prometheus.log",
        [port],
    ):
        url = f"http://127.0.0.1:{port}"
        until(lambda: get_json(f"{url}/api/v1/status/runtimeinfo"), "Prometheus is ready")
        yield url
