"""The benchmark of a transition yields every row, and its candidates make transitions."""

import gc

import pytest

from tests.benchmarks import part_transition
from tests.benchmarks.transition_ways import PEERS, peers

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting garbage takes long beside a whole test suite, and here no time is measured."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


def test_every_row_comes_with_every_candidate() -> None:
    alone, *rest = part_transition.measure(transitions=30, flaps=2, repeat=1, rounds=2)
    names = [peer.name for peer in alone.peers]
    assert names == ["transitions Machine, no callback", *peers()]
    assert alone.floor is not None
    assert [row.ours.name for row in rest[:2]] == [
        "ours, on the event loop",
        "ours, in all threads",
    ]
    assert all(row.floor is not None and row.peers for row in rest[:2])
    assert [row.what.rpartition(": ")[2] for row in rest[2:]] == [
        "no provider",
        "sampled out",
        "recorded",
        "sampled out",
    ]
    assert all(len(row.ours.values) == 2 for row in (alone, *rest))


def test_peers_that_are_installed_run() -> None:
    for name, run in peers().items():
        assert name in PEERS
        assert run(6) > 0


def test_ours_writes_the_spans_that_the_floor_writes_again() -> None:
    names = [span.name for span in part_transition.written(2)]
    assert len(names) > 5
    _, told = part_transition.history(2)
    assert part_transition.changes(told) == 9
