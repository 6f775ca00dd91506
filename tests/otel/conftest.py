"""What the tests of telemetry share."""

from collections.abc import Iterator

import pytest

from tests.otel.otel_support import Traced


@pytest.fixture
def traced() -> Iterator[Traced]:
    traced = Traced()
    yield traced
    traced.tracers.shutdown()
    traced.meters.shutdown()
