"""The benchmark of the fan-out yields every row, and its candidates do the same job."""

import gc

import anyio
import pytest

from tests.benchmarks import part_fan_out
from tests.benchmarks.fan_out_ways import EVENTS, PEERS, Crowd, Ours, Way, installed
from tests.benchmarks.rows import Plot, Row

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("default::DeprecationWarning"),  # of other libraries
]


@pytest.fixture(autouse=True)
def no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting garbage takes long beside a whole test suite, and here no time is measured."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


class Counting(Crowd):
    """Counts how often each was told."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.times = [0] * size

    def tell(self, who: int) -> None:
        self.times[who] += 1
        super().tell(who)


@pytest.mark.parametrize("backend", EVENTS)
def test_each_way_tells_each_subscriber_exactly_once(backend: str) -> None:
    async def tell_three_times(kind: type[Way]) -> None:
        crowd = Counting(300)
        way = kind(crowd)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                await way.start(tasks)
                await part_fan_out.settle([way])
                await part_fan_out.tell(way)
                crowd.over = True
                await part_fan_out.tell(way)
                await way.stop()
        assert crowd.times == [3] * 300, kind.name

    kinds: list[type[Way]] = [Ours, EVENTS[backend], *installed(PEERS[backend])]
    for kind in kinds:
        anyio.run(tell_three_times, kind, backend=backend)


def test_every_row_comes_with_every_candidate() -> None:
    items = list(
        part_fan_out.measure(
            sizes=(1, 200),
            rounds=2,
            memory_size=50,
            leaving_size=50,
        )
    )
    rows = [item for item in items if isinstance(item, Row)]
    told = [row for row in rows if row.what.endswith("subscribers told")]
    assert len(told) == 4
    for row in told:
        backend = row.what.partition(":")[0]
        names = [peer.name for peer in row.peers]
        assert names == [kind.name for kind in installed(PEERS[backend])]
        assert row.floor is not None
        assert len(row.ours.values) == 2
    assert len(rows) == 4 + 2 + 2 + 1
    plots = [item for item in items if isinstance(item, Plot)]
    assert [plot.name for plot in plots] == ["asyncio", "trio"]
    assert all(len(plot.series[0].points) == 2 for plot in plots)
