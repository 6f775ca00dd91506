"""The part `checks`: each candidate does its job, and each row has all of them."""

import importlib.util

import pytest

from tests.benchmarks import check_peers as known
from tests.benchmarks import part_checks

pytestmark = pytest.mark.long


def test_every_row_has_ours_its_peers_and_its_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_checks, "NUMBER", 5)
    monkeypatch.setattr(known, "TIMEOUT_SECONDS", 0.3)
    cost, start, hung, *real = part_checks.measure(rounds=1, warm_up=0, run_seconds=0.2, faster=300)
    assert (cost.ours.name, cost.floor and cost.floor.name) == (known.OURS, known.TIMERS)
    assert 0 < cost.ours.median < 100
    assert start.floor is not None
    assert start.ours.median > start.floor.median * 0.9 > 40, "it takes 50 ms to answer"
    assert hung.ours.median < 250, "it asks nobody"
    for peer in hung.peers:
        assert peer.median > 250, "it waits for the one that hangs"
    assert len(real) >= 3
    for row in real:
        assert row.floor is not None
        assert 0 < row.floor.median < 100
        assert 0 < row.ours.median < 100
    for row in (start, hung):
        for peer in row.peers:
            assert importlib.util.find_spec(known.NEEDS[peer.name]) is not None
