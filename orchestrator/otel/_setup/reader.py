"""The metric reader of `setup_telemetry`. It loads the SDK, so it is loaded where it is used."""

import os
import weakref
from typing import Any

from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricsData,
    PeriodicExportingMetricReader,
)

from orchestrator.otel._machine_metrics import has_measured


class Reader(PeriodicExportingMetricReader):
    """Exports in a fixed interval, but not what another process has measured.

    A forked process has a copy of all counters, and would go on exporting the stage that its parent
    was in and the clients that its parent lost, under a name of its own. So it exports nothing if
    there was anything to copy. A worker that is forked before anything is measured does.

    Args:
        exporter: Where metrics go.
        interval_millis: How often.
        timeout_millis: How long it may take.
    """

    def __init__(
        self, exporter: MetricExporter, interval_millis: float, timeout_millis: float
    ) -> None:
        self._is_copy = False
        super().__init__(
            exporter,
            export_interval_millis=interval_millis,
            export_timeout_millis=timeout_millis,
        )
        if hasattr(os, "register_at_fork"):
            itself = weakref.ref(self)

            def forked() -> None:
                if (reader := itself()) is not None:
                    reader._is_copy = has_measured()  # noqa: SLF001  its own

            os.register_at_fork(after_in_child=forked)

    def _receive_metrics(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,
        **options: Any,  # noqa: ANN401  the SDK's
    ) -> None:
        """Export, unless all of it is a copy. This is what the SDK lets readers define."""
        if not self._is_copy:
            super()._receive_metrics(metrics_data, timeout_millis, **options)
