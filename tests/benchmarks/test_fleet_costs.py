"""The part `fleet` yields every row, with what each is compared to."""

import pytest

from tests.benchmarks import part_fleet

pytestmark = pytest.mark.long


def test_every_row_comes_with_its_floor() -> None:
    rows = part_fleet.measure(calls=50, instances=5, facts=50, changes=2, rounds=1)
    assert [row.unit for row in rows] == ["us", "us", "ms", "ms", "us"]
    assert all(row.floor is not None and row.ours.median > 0 for row in rows)
