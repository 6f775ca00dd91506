"""Names: what is sent, what `docs/reference/telemetry.md` says, and the semantic conventions."""

import importlib
import pkgutil
import re
from collections.abc import Iterator, MutableMapping
from pathlib import Path

import anyio
import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from opentelemetry.semconv import _incubating, attributes
from opentelemetry.semconv.schemas import Schemas

from orchestrator import (
    Check,
    Orchestrator,
    Policy,
    Probe,
    ProbeResult,
    Stage,
    Target,
    Task,
)
from orchestrator._runtime.platform_identity import platform_attributes
from orchestrator.asgi import ReadinessGate
from orchestrator.checks import amqp, call, file, grpc, http, kafka, postgres, tcp
from orchestrator.otel import OpenTelemetryFleetMetrics, OpenTelemetryGateMetrics
from orchestrator.otel._providers import SCHEMA_URL
from orchestrator.testing import REFUSED, WRONG_PASSWORD, ScriptedProbe
from states import Failure
from tests.asgi.gate_support import until
from tests.otel.fleet_figures import PublishedFleet, SeenFleet
from tests.otel.otel_support import Point, TimedProbe, Traced

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs/reference/telemetry.md").read_text(encoding="utf-8")
OURS = "orchestrator."


newest_conventions = pytest.mark.skipif(
    not hasattr(Schemas, "V1_44_0"),
    reason="the installed conventions are older than those of the page, as older OpenTelemetry has",
)


def conventions() -> set[str]:
    """Every attribute of the semantic conventions, as the package of that name has them."""
    known: set[str] = set()
    for package in (attributes, importlib.import_module(f"{_incubating.__name__}.attributes")):
        for module in pkgutil.iter_modules(package.__path__):
            names = vars(importlib.import_module(f"{package.__name__}.{module.name}"))
            known |= {v for k, v in names.items() if k.isupper() and isinstance(v, str)}
    return known


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}")[2].partition("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    found = [line for line in section(title).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found]


def first_column(title: str) -> set[str]:
    return {row[0].strip("` ") for row in rows(title)}


@pytest.fixture
async def traced() -> Traced:
    """Everything that can be told, told at least once."""
    traced = Traced()
    for script in ([REFUSED, None], [WRONG_PASSWORD, None]):
        await live_through(traced, *script)
    async with Orchestrator(
        ScriptedProbe([REFUSED]),
        conditions=["flapping"],
        clock=traced.clock,
        observers=[traced.observer],
    ) as startup:
        for _ in range(130):
            startup.condition("flapping").set(True)
            await traced.clock.advance(0.01)
            startup.condition("flapping").set(False, reason="flapping")
            await traced.clock.advance(0.01)
    await run_checks_and_tasks(traced)
    read_and_publish(traced)
    return traced


def read_and_publish(traced: Traced) -> None:
    fleet_metrics = OpenTelemetryFleetMetrics(traced.meters)
    seen, published = SeenFleet(), PublishedFleet()
    fleet_metrics.watch(seen)
    fleet_metrics.watch_publisher(published)
    traced.kept += [fleet_metrics, seen, published]


async def run_checks_and_tasks(traced: Traced) -> None:
    async def fail(*, task_status: object) -> None:
        raise ValueError  # it is never up, so the budget is spent

    targets = (
        kafka("k:9092").target,
        grpc("g:50051").target,
        amqp("amqp://guest:guest@a").target,
        postgres("postgresql://u:p@d/chat").target,
    )
    checks = [Check(f"check {n}", Asking(targets[n]), required=False) for n in range(len(targets))]
    probes: tuple[Probe, ...] = (
        tcp("127.0.0.1", 1),
        http("http://127.0.0.1:1/"),
        file("/nowhere"),
        call(print),
    )
    checks += [Check(f"probe {n}", probe, required=False) for n, probe in enumerate(probes)]
    tasks = [Task(f"task {n}", fail, after=["redis"], most_restarts=2) for n in range(12)]
    # On the event loop's own clock: these probes answer in real time.
    async with Orchestrator(
        ScriptedProbe(),
        conditions=[*checks, *tasks],
        observers=[traced.observer],
        policy=Policy(budget_seconds=2.0),
    ) as startup:
        await startup.wait_for(Stage.DEGRADED, timeout_seconds=30.0)


class Asking(Probe):
    def __init__(self, target: Target) -> None:
        self._target = target

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        await anyio.lowlevel.checkpoint()
        return ProbeResult(0.01)

    @property
    def target(self) -> Target:
        return self._target


async def live_through(traced: Traced, *script: Failure | None) -> None:
    probe = TimedProbe(traced.clock, 0.01, 0.0, *script)
    async with traced.orchestrator(probe, conditions=["chat"]) as startup:
        gate = ReadinessGate(_nothing, startup, metrics=OpenTelemetryGateMetrics(traced.meters))
        await gate({"type": "http", "path": "/", "headers": []}, _leaving, _nothing)  # is held
        await traced.clock.advance(2.0)
        startup.condition("chat").set(True)
        await traced.clock.advance(40.0)
        startup.condition("chat").set(False, reason="gone")
        await traced.clock.advance(1.0)
        startup.condition("chat").set(True)
        await traced.clock.advance(5.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(startup.drain)
            await until(lambda: startup.draining)
            await traced.clock.advance(3.0)


async def _leaving() -> MutableMapping[str, object]:
    """A client that gives up."""
    return {"type": "http.disconnect"}


async def _nothing(*_: object) -> None:
    """An application that does nothing, and a server that wants nothing."""


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def generic(name: str) -> str:
    """The name as the page has it, with what differs left open."""
    name = re.sub(r"^condition .*", "condition <name>", name)
    name = re.sub(r"^call .*", "call <function>", name)
    return re.sub(r"^(startup|recovery|shutdown) .*", r"\1 <stage>", name)


async def test_spans_and_events_are_those_of_the_page(traced: Traced) -> None:
    assert {generic(span.name) for span in traced.spans} == first_column("Spans")
    tasks = {row[0].strip("`") for row in rows("Events of tasks") if "task." in row[0]}
    assert {event.name for span in traced.spans for event in span.events} == {
        "orchestrator.stage.transition",
        *tasks,
    }


async def test_attributes_are_those_of_the_page(traced: Traced) -> None:
    roots, others = set[str](), set[str]()
    for span in traced.spans:
        (roots if span.parent is None else others).update(span.attributes or {})
    links = {name for span in traced.spans for one in span.links for name in one.attributes or {}}
    events = {name for span in traced.spans for one in span.events for name in one.attributes or {}}
    assert roots | links == first_column("Attributes of the roots")
    assert others == first_column("Attributes of the other spans")
    assert events == first_column("Event `orchestrator.stage.transition`")


async def test_metrics_are_those_of_the_page(traced: Traced) -> None:
    data = traced.reader.get_metrics_data()
    assert data is not None
    sent = {
        metric.name: metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    page = {row[0].strip("`"): row for row in rows("Metrics")}
    assert set(sent) == set(page)
    for name, metric in sent.items():
        _, instrument, unit, listed = page[name]
        assert metric.unit == unit
        points: list[Point] = list(metric.data.data_points)  # type: ignore[arg-type] # two kinds
        assert isinstance(points[0], HistogramDataPoint) == (instrument == "histogram")
        monotonic = getattr(metric.data, "is_monotonic", None)
        assert {"counter": True, "up-down counter": False, "histogram": None}[
            instrument
        ] is monotonic
        told = {key for point in points for key in point.attributes or {}}
        assert told == set(re.findall(r"`([^`]+)`", listed)), name


@newest_conventions
def test_what_is_not_ours_is_in_the_semantic_conventions() -> None:
    known = conventions()
    assert len(known) > 500
    listed = set(re.findall(r"`((?:[a-z0-9_]+\.)+[a-z0-9_]+)`", PAGE)) - first_column("Spans")
    not_ours = {name for name in listed if not name.startswith(OURS)}
    assert len(not_ours) > 20
    assert not_ours <= known


@newest_conventions
def test_what_is_marked_as_of_the_conventions_is() -> None:
    for title in ("Attributes of the roots", "Attributes of the other spans"):
        for name, *cells in rows(title):
            marked = any("*semconv*" in cell for cell in cells)
            assert marked == (name.strip("`") in conventions()), name


@newest_conventions
def test_the_schema_is_the_one_that_the_page_and_the_package_have() -> None:
    assert Schemas.V1_44_0.value == SCHEMA_URL
    assert SCHEMA_URL in PAGE


def platforms() -> Iterator[dict[str, str]]:
    yield {"K_SERVICE": "a", "K_REVISION": "b", "GOOGLE_CLOUD_PROJECT": "p"}
    yield {"CLOUD_RUN_JOB": "a", "CLOUD_RUN_EXECUTION": "b", "CLOUD_RUN_TASK_INDEX": "1"}
    yield {"GAE_SERVICE": "a", "GAE_INSTANCE": "b"}
    names = ("POD_NAME", "POD_UID", "POD_NAMESPACE", "NODE_NAME", "CONTAINER_NAME")
    more = ("DEPLOYMENT_NAME", "K8S_CLUSTER_NAME", "KUBERNETES_SERVICE_HOST")
    yield dict.fromkeys((*names, *more), "a")


def test_the_resource_is_that_of_the_page() -> None:
    found = {name for environ in platforms() for name in platform_attributes(environ)}
    listed = set(re.findall(r"`((?:service|cloud|faas|k8s|gcp)\.[\w.]+)`", PAGE))
    assert found | {"service.instance.id"} == listed
