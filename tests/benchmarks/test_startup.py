"""The part `startup`: each candidate comes up on each event loop, and has done its work by then."""

import anyio
import pytest

from tests.benchmarks import part_startup, startup_runs
from tests.benchmarks.startup_runs import ALONE, BY_HAND, GCP, GRACE, OURS, SLEEP
from tests.benchmarks.startup_steps import longest_step_ms
from tests.redis_server import RedisServer

pytestmark = pytest.mark.long

WORK = {"listener": 0.02, "cache": 0.01}


@pytest.mark.parametrize("backend", part_startup.BACKENDS)
def test_every_candidate_is_ready_when_its_work_is_done(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup_runs, "SLEEP_SECONDS", 0.05)
    with RedisServer() as server:
        runs = {
            name: anyio.run(startup_runs.run, name, server.url, WORK, backend=backend)
            for name in (OURS, BY_HAND, ALONE, SLEEP)
        }
        step = longest_step_ms(SLEEP, backend, server.url, WORK)
    # Timers may be early by the clock's resolution.
    assert all(run.ready_ms > 19 for run in runs.values())
    assert runs[SLEEP].ready_ms > 69
    # What is there for sure is seen by either way to look for it.
    assert runs[SLEEP].stall_ms > 40
    assert step > 49


def test_every_row_has_ours_its_peers_and_its_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup_runs, "SLEEP_SECONDS", 0.05)
    rows = list(part_startup.measure(rounds=1, backends=["asyncio"], warm_up=0))
    assert [(row.ours.name, row.floor and row.floor.name) for row in rows] == [
        *[(OURS, ALONE)] * 2,
        (GCP, GRACE),
        *[(OURS, ALONE)] * 3,
    ]
    assert [len(row.peers) for row in rows] == [2, 2, 1, 0, 1, 1]
    assert all(row.verdicts for row in rows)
    with_grace = rows[2]
    assert with_grace.floor
    assert min(with_grace.ours.median, with_grace.floor.median) > 499
