"""The part `ready`: every candidate answers what it is asked, and every row has all of them."""

import pytest

from tests.benchmarks import part_ready
from tests.benchmarks.ready_names import ALONE, BASE, GATE, NO_CLOSES, NOTHING

pytestmark = pytest.mark.long


def test_every_candidate_answers_and_is_in_its_rows() -> None:
    # The load generator compares each answer with what it asked for, byte by byte.
    rows = list(part_ready.measure(processes=1, rounds=2, count=16, calls=(10, 1)))
    assert all(row.floor and row.floor.name == ALONE for row in rows)
    assert all(row.ours.name == GATE and row.unit for row in rows)
    peers = [{peer.name for peer in row.peers} for row in rows]
    assert peers[:2] == [{NOTHING, BASE}] * 2
    assert peers[2:6] == [{NOTHING, NO_CLOSES}] * 4
    assert peers[6:] == [{NOTHING}] * 7
    assert [len(row.verdicts) for row in rows] == [1, 0, 2, 0, 2, 0] + [0] * 7
