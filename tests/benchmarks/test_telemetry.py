"""The benchmark of telemetry runs its service, and yields every row."""

import pytest

from tests.benchmarks import part_telemetry

pytestmark = pytest.mark.long


def test_every_row_comes_beside_no_telemetry() -> None:
    rows = list(part_telemetry.measure([("refusing", "http")], rounds=1, more_seconds=0.1))
    assert [row.what.partition(": ")[0] for row in rows] == ["refusing over http"] * 4
    assert rows[0].ours.median > 0, "the observer was told"
    assert all(len(row.ours.values) == 1 for row in rows)
    assert [row.floor is not None for row in rows] == [False, True, True, False]
