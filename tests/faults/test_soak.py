"""The soak, for some seconds. `python -m tests.faults.soak --seconds 600` is the long one."""

import anyio

from states import Stage
from tests.faults.soak import soak


def test_a_flapping_redis_costs_no_client_and_no_event() -> None:
    report = anyio.run(soak, 9.0, 1)
    assert report.complaints == [], str(report)
    assert report.stages[Stage.READY] >= 2
    assert report.echoes > 50
    assert len(report.faults) >= 3
