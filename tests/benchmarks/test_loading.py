"""The part `loading` yields every row, and everybody is served; how fast is no matter."""

import pytest

from tests.benchmarks import part_loading

pytestmark = pytest.mark.long


def test_the_port_is_open_before_the_import_and_everybody_is_served() -> None:
    live, _, used, gap, served = part_loading.measure(rounds=1, steps=6, clients=20)
    for row in (live, served):
        assert row.floor
        assert [row.ours.name, row.floor.name] == list(part_loading.SERVED_BY)
    assert served.verdicts[0].met
    assert live.floor
    # Alone the server opens its port after the import, of which 0.7 s are spent asleep.
    assert live.ours.median < live.floor.median
    assert used.ours.median > 0
    assert gap.ours.median > 0
