"""The benchmark of scale yields every row, and does what it says."""

import gc
import json
import logging
import sys
from collections.abc import Iterator

import anyio
import pytest

from tests.benchmarks import part_scale, scale_crowds, scale_uptime
from tests.benchmarks.rows import Plot, Row

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting garbage takes long beside a whole test suite, and here no time is measured."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


def rows_of_this_process(few: int, many: int) -> Iterator[Row]:
    """As `scale_uptime.rows`, without the time that two interpreters take to start."""
    for what, (script, reached) in scale_uptime.WORK.items():
        before, after = anyio.run(scale_uptime.bytes_after, script, reached, (few, many))
        yield scale_uptime.row(what, few, many, before, after)


def test_every_row_comes_and_every_size_is_plotted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_uptime, "rows", rows_of_this_process)
    monkeypatch.setattr(part_scale, "LEAST_FACTS", 20)
    monkeypatch.setattr(part_scale, "UPTIME_SHARE", 1)
    items = list(part_scale.measure(sizes=(1, 10, 20), few=10, many=20, rounds=2))
    rows = [item for item in items if isinstance(item, Row)]
    kinds = (*part_scale.KINDS, "subscribers")
    assert [row.what for row in rows[:4]] == [f"one of 20 {kind}" for kind in kinds]
    assert [row.what for row in rows[4:8]] == [f"one of 20 {kind}" for kind in scale_crowds.KINDS]
    assert [row.what for row in rows[8:]] == [
        f"memory after 20 {work}" for work in scale_uptime.WORK
    ]
    assert all(row.floor is not None and row.verdicts for row in rows)
    plot, *crowds = (item for item in items if isinstance(item, Plot))
    assert [series.name for series in plot.series] == list(kinds)
    for one in (plot.series, [crowd.series[0] for crowd in crowds]):
        assert all([x for x, _ in series.points] == [1, 10, 20] for series in one)


def test_a_process_does_one_kind_of_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("orchestrator")
    monkeypatch.setattr(logger, "level", logger.level)  # `main` is the last word of a process
    for what in scale_uptime.WORK:
        monkeypatch.setattr(sys, "argv", ["", what, "5", "50"])
        scale_uptime.main()
        assert len(json.loads(capsys.readouterr().out)) == 2
