"""`otel-collector.yaml`: what must hold in it. The collector itself is not run here."""

import re
from pathlib import Path

import pytest
import yaml

FILE = Path(__file__).parents[2] / "otel-collector.yaml"
TEXT = FILE.read_text(encoding="utf-8")
CONFIG: dict[str, dict[str, dict[str, object]]] = yaml.safe_load(TEXT)
PIPELINES: dict[str, dict[str, list[str]]] = yaml.safe_load(TEXT)["service"]["pipelines"]
EXPORTERS = yaml.safe_load(TEXT)["exporters"]


@pytest.mark.parametrize("signal", PIPELINES)
def test_every_component_of_a_pipeline_is_defined(signal: str) -> None:
    for kind, names in PIPELINES[signal].items():
        assert set(names) <= set(CONFIG[kind])


@pytest.mark.parametrize("kind", ["receivers", "processors", "exporters"])
def test_nothing_is_defined_that_no_pipeline_uses(kind: str) -> None:
    used = {name for pipeline in PIPELINES.values() for name in pipeline[kind]}
    assert set(CONFIG[kind]) == used


@pytest.mark.parametrize("signal", PIPELINES)
def test_memory_is_limited_before_anything_else(signal: str) -> None:
    assert PIPELINES[signal]["processors"][0] == "memory_limiter"


def test_batches_are_made_in_the_sending_queue_only() -> None:
    assert not any(name.partition("/")[0] == "batch" for name in CONFIG["processors"])
    for exporter in EXPORTERS.values():
        batch = exporter["sending_queue"]["batch"]
        assert batch["min_size"] <= batch["max_size"]
        assert "flush_timeout" in batch


def test_exporters_have_the_names_that_are_current() -> None:
    assert {name.partition("/")[0] for name in EXPORTERS} == {"otlp_grpc", "otlp_http"}
    assert {"otlp_grpc/tempo", "otlp_grpc/jaeger"} <= set(PIPELINES["traces"]["exporters"])


def test_every_address_can_be_set_and_has_a_default() -> None:
    endpoints = re.findall(r"endpoint: (.*)", TEXT)
    assert len(endpoints) == 5
    for endpoint in endpoints:
        assert re.match(r"\$\{env:[A-Z_]+:-[^}]+\}", endpoint)


def test_nothing_listens_everywhere_by_default() -> None:
    receivers = CONFIG["receivers"]["otlp"]["protocols"]
    assert isinstance(receivers, dict)
    for protocol in receivers.values():
        assert protocol["endpoint"].startswith("${env:OTLP_LISTEN:-localhost}:")
