"""Crowds, drains, pages, pods, tasks and commands yield every row; speed is no matter."""

import shutil

import pytest

from orchestrator.pod import _members
from tests.benchmarks import (
    part_command,
    part_crowd,
    part_drain,
    part_install,
    part_pod,
    part_tasks,
    part_viewers,
)
from tests.benchmarks.rows import Row

pytestmark = pytest.mark.long


def whole(rows: list[Row], number: int) -> None:
    """So many rows, each of something that takes a while, beside something else."""
    assert len(rows) == number
    for row in rows:
        assert row.ours.median > 0, row.what
        assert row.floor is not None or row.peers, row.what


def test_everybody_is_let_in_and_stays_open() -> None:
    rows = list(part_crowd.measure(clients=300, rounds=1, sockets=50))
    whole(rows, 6)
    memory = rows[4:]
    for row in memory:
        assert row.floor is not None
        assert row.ours.median > row.floor.median


def test_a_drain_closes_each_with_its_code() -> None:
    rows = list(part_drain.measure(sockets=40, close_seconds=0.5, rounds=1))
    whole(rows, 4)
    assert rows[1].verdicts[0].met, "all are told 1012"
    assert rows[0].ours.median > 0.3


def test_every_viewer_has_the_change() -> None:
    whole(list(part_viewers.measure(viewers=20, rounds=1)), 1)


@pytest.mark.skipif(not _members.has_locks(), reason="needs flock")
def test_a_pod_is_written_and_read() -> None:
    whole(list(part_pod.measure(calls=5, rounds=1)), 2)


def test_tasks_start_end_and_come_back() -> None:
    whole(list(part_tasks.measure(number=5, rounds=1)), 3)


def test_commands_end_well() -> None:
    whole(list(part_command.measure(rounds=1)), 2)


@pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv")
def test_an_environment_is_made_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_install, "EXTRA", "redis")
    rows = list(part_install.measure(rounds=1))
    assert all(row.ours.median > 0 for row in rows)
