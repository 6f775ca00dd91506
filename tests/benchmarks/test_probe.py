"""The rows of the probe come with every candidate, and what does not vary is as it should be."""

import importlib.util

import pytest

from tests.benchmarks import part_probe, probe_peers

pytestmark = pytest.mark.long


@pytest.mark.skipif(
    importlib.util.find_spec("coredis") is None, reason="coredis comes with the extra `bench`"
)
def test_every_candidate_is_in_the_rows() -> None:
    rows = list(part_probe.measure(rounds=1, fresh=1, warm=2, warm_up=0))
    assert [row.unit for row in rows] == ["µs"] * 7 + ["commands", "trips"] * 2
    for row in rows:
        peers = {peer.name for peer in row.peers}
        assert "coredis" in peers
        assert any(name in peers for name in part_probe.PEER.values())
    for row in rows[:7]:
        assert row.floor is not None
    for row in rows[7:]:
        assert all(verdict.met for verdict in row.verdicts), row
    assert probe_peers.RAW not in {peer.name for row in rows for peer in row.peers}
