"""What is measured of a fleet, and that measuring keeps nothing alive."""

import gc
from collections.abc import Iterator

import anyio
import pytest
from opentelemetry.sdk.metrics.export import NumberDataPoint

from orchestrator.fleet import Fleet, FleetFigures, follow
from orchestrator.otel import OpenTelemetryFleetMetrics
from states import Stage
from tests.asgi.gate_support import until
from tests.fleet.scripted_instance import ScriptedInstance
from tests.otel.fleet_figures import PublishedFleet, SeenFleet
from tests.otel.otel_support import Traced
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def values(traced: Traced, metric: str) -> dict[str, float]:
    points = traced.points(metric).items()
    return {name: point.value for name, point in points if isinstance(point, NumberDataPoint)}


def test_instances_are_counted_by_stage_version_and_presence(traced: Traced) -> None:
    measured, seen = OpenTelemetryFleetMetrics(traced.meters), SeenFleet()
    measured.watch(seen)
    counted = values(traced, "orchestrator.fleet.instances")
    assert sorted(counted.values()) == [1, 5]
    (silent,) = [name for name, number in counted.items() if number == 1]
    for part in ("service=chat", "stage=ready", "version=1", "presence=silent"):
        assert part in silent
    assert [*values(traced, "orchestrator.fleet.missed").values()] == [3]


def test_publishers_are_summed(traced: Traced) -> None:
    measured, publishers = (
        OpenTelemetryFleetMetrics(traced.meters),
        [PublishedFleet() for _ in "ab"],
    )
    for publisher in publishers:
        measured.watch_publisher(publisher)
    assert [*values(traced, "orchestrator.fleet.behind").values()] == [8]
    assert [*values(traced, "orchestrator.fleet.dropped").values()] == [14]


def test_what_is_gone_is_not_measured(traced: Traced) -> None:
    measured, seen = OpenTelemetryFleetMetrics(traced.meters), SeenFleet()
    measured.watch(seen)
    del seen
    gc.collect()
    assert values(traced, "orchestrator.fleet.instances") == {}


def test_what_was_counted_stays_counted_when_a_reader_goes_or_a_publisher_begins_anew(
    traced: Traced,
) -> None:
    measured, stays, goes = OpenTelemetryFleetMetrics(traced.meters), SeenFleet(), SeenFleet()
    for seen in (stays, goes):
        measured.watch(seen)
    publisher = PublishedFleet()
    measured.watch_publisher(publisher)
    assert [*values(traced, "orchestrator.fleet.missed").values()] == [6]
    assert [*values(traced, "orchestrator.fleet.dropped").values()] == [7]
    del goes, seen
    gc.collect()
    publisher.figures = FleetFigures(dropped=2)  # its orchestrator was entered again
    assert [*values(traced, "orchestrator.fleet.missed").values()] == [6]
    assert [*values(traced, "orchestrator.fleet.dropped").values()] == [9]


async def test_a_real_fleet_is_measured_while_it_is_followed(
    traced: Traced, server: RedisServer
) -> None:
    measured = OpenTelemetryFleetMetrics(traced.meters)
    publisher = Fleet(server.url, service="chat")
    measured.watch_publisher(publisher)
    one = ScriptedInstance(server.port, "chat-a", version="2").be(Stage.READY)
    async with follow(server.url, service="chat") as seen:
        measured.watch(seen)
        await until(lambda: bool(seen.instances))
        counted = values(traced, "orchestrator.fleet.instances")
        assert [*counted.values()] == [1]
        await anyio.to_thread.run_sync(one.leave)
        await until(lambda: not values(traced, "orchestrator.fleet.instances"))
        await anyio.to_thread.run_sync(ScriptedInstance(server.port, "b").be, Stage.GRACE)
        await until(lambda: bool(values(traced, "orchestrator.fleet.instances")))
    assert values(traced, "orchestrator.fleet.instances") == {}
    assert [*values(traced, "orchestrator.fleet.behind").values()] == [0]
