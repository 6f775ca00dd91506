"""The part `import` yields every row with every candidate; how fast they are is no matter."""

import pytest

from tests.benchmarks import part_import

pytestmark = pytest.mark.long


def test_every_row_has_ours_and_what_it_is_compared_with() -> None:
    rows = list(part_import.measure(rounds=1, warm_up=0, service_rounds=1))
    imports, services = rows[:6], rows[6:]
    assert {row.floor.name for row in imports if row.floor} == {
        part_import.FLOOR,
        part_import.USED_FLOOR,
    }
    assert {row.ours.name for row in imports} == {part_import.OURS, part_import.USED}
    for row in services:
        assert row.floor
        names = [row.ours.name, *(peer.name for peer in row.peers), row.floor.name]
        assert names == list(part_import.SERVICES)
    for row in rows:
        # A process of a few milliseconds may see no tick of the clock for user mode.
        assert row.ours.median > 0 or "user mode" in row.what
    modules = services[-1]
    assert modules.floor
    # The service with our parts has loaded them when it answers; the bare one has not.
    assert modules.ours.median > modules.floor.median
