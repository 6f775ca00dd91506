"""The benchmark of telemetry runs its service, and yields every row."""

import pytest

from tests.benchmarks import part_telemetry

pytestmark = pytest.mark.long


def test_every_row_comes_beside_no_telemetry() -> None:
    collectors = [("refusing", "http"), ("refusing", "grpc")]
    rows = list(part_telemetry.measure(collectors, rounds=1, stall_rounds=2, more_seconds=0.1))
    names = [row.what.partition(": ")[0] for row in rows]
    assert names == ["refusing over http"] * 4 + ["refusing over grpc"] * 4
    assert all(row.ours.median > 0 for row in rows[::4]), "the observer was told"
    assert [len(row.ours.values) for row in rows] == [1] * 4 + [2, 2, 1, 1]
    assert [row.floor is not None for row in rows] == [False, True, True, False] * 2
    assert [len(row.peers) for row in rows] == [0] * 5 + [1, 0, 0]
    assert rows[5].peers[0].median > 0
