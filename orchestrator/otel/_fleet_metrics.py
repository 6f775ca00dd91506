"""The metrics of a fleet, as one of its readers sees it, and of its publishers."""

import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from orchestrator import __version__
from orchestrator.otel._providers import SCHEMA_URL

_SERVICE: Final = "orchestrator.fleet.service"
_COUNTED: Final = (
    "orchestrator.stage",
    "orchestrator.fleet.version",
    "orchestrator.fleet.presence",
)
"""What instances are counted by, in the order of a reader's `counts()`."""


class FleetReadings(Protocol):
    """What a reader of a fleet knows, such as `follow` gives. Read from the exporter's thread."""

    @property
    def service(self) -> str:
        """The name of the service."""
        ...

    @property
    def missed(self) -> int:
        """How many changes could not be read any more."""
        ...

    def counts(self) -> Mapping[tuple[str, str, str], int]:
        """How many instances there are in each stage, of each version, with each presence."""
        ...


class PublishingFigures(Protocol):
    """What a publisher has done, as `Fleet.figures` says it."""

    @property
    def dropped(self) -> int:
        """Changes that were never published."""
        ...

    @property
    def behind(self) -> int:
        """Changes that are still to be published."""
        ...


class FleetPublisher(Protocol):
    """A publisher, such as `Fleet`. Read from the exporter's thread."""

    @property
    def figures(self) -> PublishingFigures:
        """What it has done."""
        ...


class OpenTelemetryFleetMetrics:
    """Measures what readers and publishers of fleets know.

    Example::

        fleet_metrics = OpenTelemetryFleetMetrics()
        fleet = Fleet(url, service="chat")
        fleet_metrics.watch_publisher(fleet)

        async with follow(url, service="chat") as seen:
            fleet_metrics.watch(seen)

    - `orchestrator.fleet.instances`: how many instances there are, by `orchestrator.fleet.service`,
      `orchestrator.stage`, `orchestrator.fleet.version` and `orchestrator.fleet.presence`. Those
      that said goodbye are not counted. Every process that reads the fleet sends them: take the
      highest, not the sum.
    - `orchestrator.fleet.missed`: a counter of changes that a reader could not get any more.
    - `orchestrator.fleet.behind`: changes that this process has still to publish.
    - `orchestrator.fleet.dropped`: a counter of changes that it never published.

    They are read when they are exported. A reader or publisher that no longer exists is not
    measured, and is not kept alive. Make one for each meter provider.

    Args:
        meter_provider: Where metrics go; the global provider, once it is set, if not given.
    """

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        self._readers = weakref.WeakSet[FleetReadings]()
        self._publishers = weakref.WeakSet[FleetPublisher]()
        self._missed_before = _Risen()
        self._dropped_before = _Risen()
        meter = (meter_provider or metrics.get_meter_provider()).get_meter(
            "startup-orchestrator", __version__, schema_url=SCHEMA_URL
        )
        meter.create_observable_up_down_counter(
            "orchestrator.fleet.instances",
            [self._instances],
            "{instance}",
            "Instances of the fleet, as a reader sees it.",
        )
        meter.create_observable_counter(
            "orchestrator.fleet.missed",
            [self._missed],
            "{change}",
            "Changes of stage that a reader could not get any more.",
        )
        meter.create_observable_up_down_counter(
            "orchestrator.fleet.behind",
            [self._behind],
            "{change}",
            "Changes of stage that are still to be published.",
        )
        meter.create_observable_counter(
            "orchestrator.fleet.dropped",
            [self._dropped],
            "{change}",
            "Changes of stage that were never published.",
        )

    def watch(self, reader: FleetReadings) -> None:
        """Measure this reader, too: what `follow` gives."""
        self._readers.add(reader)

    def watch_publisher(self, publisher: FleetPublisher) -> None:
        """Measure this publisher, too: a `Fleet`."""
        self._publishers.add(publisher)

    # -- called by the exporter, in its own thread -------------------------------------------------

    def _instances(self, _: CallbackOptions) -> Iterator[Observation]:
        for reader in [*self._readers]:
            for counted, number in reader.counts().items():
                labels = dict(zip(_COUNTED, counted, strict=True))
                yield Observation(number, {_SERVICE: reader.service, **labels})

    def _missed(self, _: CallbackOptions) -> Iterator[Observation]:
        for reader in [*self._readers]:
            self._missed_before.add(reader, reader.service, reader.missed)
        for service, number in self._missed_before.totals.items():
            yield Observation(number, {_SERVICE: service})

    def _behind(self, _: CallbackOptions) -> Iterator[Observation]:
        yield Observation(sum(one.figures.behind for one in [*self._publishers]))

    def _dropped(self, _: CallbackOptions) -> Iterator[Observation]:
        for one in [*self._publishers]:
            self._dropped_before.add(one, "", one.figures.dropped)
        yield Observation(self._dropped_before.totals[""])


class _Risen:
    """Sums of counters that go, or begin anew. A sum that fell would count as another increase.

    Attributes:
        totals: The sums by name.
    """

    def __init__(self) -> None:
        self.totals = Counter[str]()
        self._last = weakref.WeakKeyDictionary[object, int]()

    def add(self, counter: object, name: str, now: int) -> None:
        """Add by how much this counter has risen."""
        before = self._last.get(counter, 0)
        self._last[counter] = now
        self.totals[name] += now - before if now >= before else now
