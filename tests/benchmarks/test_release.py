"""The part `release`: every client is counted, and every shape has its rows."""

import pytest

from tests.benchmarks import part_release

pytestmark = pytest.mark.long


def test_every_client_is_served_and_what_it_costs_is_in_the_rows() -> None:
    rows = list(
        part_release.measure(rounds=1, clients=80, pools=(40, 40), paths=["/get", "/silent"])
    )
    served, *costs = rows[:3]
    assert list(served.ours.values) == [80, 80]
    assert served.verdicts[0].met
    for row in costs:
        assert row.ours.median > 0
        assert row.best_peer is not None
    assert [row.what.partition(":")[0] for row in rows] == ["get"] * 3 + ["silent"] * 3
