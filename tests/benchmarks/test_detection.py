"""The candidates of detection and loss really do the job, and all of them come in the rows."""

import importlib.util
import random
import shutil
import time
from collections.abc import Iterator

import anyio
import pytest

from tests.benchmarks import (
    detection_candidates,
    detection_commands,
    detection_watchers,
    part_detection,
    part_loss,
)
from tests.benchmarks.detection_crew import Candidate, Crew, Job, Outcome
from tests.benchmarks.part_detection import Trials, latency_ms, outage_rows, outage_trials
from tests.benchmarks.part_loss import cost_rows, latency_rows
from tests.redis_server import RedisServer

pytestmark = pytest.mark.long

WAITING = detection_candidates.CANDIDATES


def do(candidate: Candidate, job: Job) -> Outcome:
    missing = [need for need in candidate.needs if importlib.util.find_spec(need) is None]
    if missing:
        pytest.skip(f"{missing[0]} comes with the extra `bench`")
    outcomes = []

    async def run() -> None:
        with anyio.fail_after(5):
            outcomes.append(await candidate.run(job))

    anyio.run(run, backend=candidate.backend)
    return outcomes[0]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


@pytest.mark.parametrize("name", WAITING)
def test_a_server_that_answers_is_found_by_one_attempt(name: str, server: RedisServer) -> None:
    if name == "shell, sleep 1" and detection_candidates.redis_cli() is None:
        pytest.skip("there is no redis-cli")
    began = time.monotonic()
    outcome = do(WAITING[name], Job(server.url, began))
    assert (outcome.attempts, outcome.resumed) == (1, 1)
    assert began <= outcome.known_at <= time.monotonic()


def test_candidates_wait_for_the_same_late_servers() -> None:
    names = ["ours (asyncio)", "ours (trio)"]
    with Crew(part_detection.MODULE, names) as crew:
        trials = outage_trials(crew, 0.6, 2)
    assert list(trials) == names
    for taken in trials.values():
        assert len(taken) == 2
        assert all(latency >= 0 and attempts >= 1 for latency, attempts, _outage in taken)


def test_every_candidate_of_an_outage_is_in_its_rows() -> None:
    chance = random.Random(1)
    trials: Trials = {
        name: [(chance.uniform(1, 9), chance.randrange(2, 9), 5.0) for _ in range(7)]
        for name in WAITING
        if name not in part_detection.FROZEN or name in part_detection.OURS
    }
    rows = list(outage_rows(5.0, trials))
    assert len(rows) == 6
    for row in rows:
        names = {row.ours.name, *(peer.name for peer in row.peers)}
        assert names == trials.keys() - set(part_detection.OURS) | {row.ours.name}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize("name", detection_commands.CANDIDATES)
def test_a_command_ends_when_redis_answers_and_not_before(name: str) -> None:
    with Crew(detection_commands.__name__, [name]) as crew:
        (taken,) = outage_trials(crew, 1.0, 1)[name]
    latency, _attempts, outage = taken
    assert 0 <= latency < 5000
    assert outage > 0.5


def test_every_command_is_in_the_row_and_is_to_be_beaten() -> None:
    names = list(detection_commands.CANDIDATES)
    latencies = {name: [100.0 * place] * 7 for place, name in enumerate(names, start=1)}
    row = detection_commands.command_row("detection", latencies)
    assert [row.ours.name, *(peer.name for peer in row.peers)] == names
    assert [verdict.met for verdict in row.verdicts] == [True] * 3


def test_who_was_resumed_twice_or_too_early_is_refused() -> None:
    with pytest.raises(RuntimeError, match="resumed 2 times"):
        latency_ms("someone", Outcome(2.0, resumed=2), 1.0)
    with pytest.raises(RuntimeError, match="late"):
        latency_ms("someone", Outcome(1.0), 2.0)
    with pytest.raises(RuntimeError, match="resumed 1 times"):
        part_loss.latency("someone", Outcome(1.0), 2.0)


@pytest.mark.parametrize(
    "candidate",
    [
        detection_watchers.CANDIDATES["ours (asyncio)"],
        detection_watchers.CANDIDATES["ours (trio)"],
        Candidate(detection_watchers.poll(0.05, failures=3)),
    ],
)
def test_a_watcher_notices_the_loss_once(candidate: Candidate) -> None:
    killed_at = []

    async def killing(job: Job) -> Outcome:
        outcomes = []

        async def watch() -> None:
            outcomes.append(await candidate.run(job))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await anyio.sleep(0.2)
            killed_at.append(time.monotonic())
            doomed.kill()
        return outcomes[0]

    with RedisServer() as doomed:
        watched = Candidate(killing, backend=candidate.backend)
        outcome = do(watched, Job(doomed.url, time.monotonic()))
    assert outcome.known_at > killed_at[0]
    assert outcome.resumed == 1


def test_every_watcher_is_in_the_rows() -> None:
    watchers = detection_watchers.CANDIDATES
    peers = watchers.keys() - {detection_watchers.OURS, detection_watchers.OURS_TRIO}
    latencies: part_loss.Latencies = dict.fromkeys(watchers, (1.0, 2.0, 3.0))
    rows = [
        *latency_rows("a loss", latencies, detection_watchers.EQUAL, 1.0),
        *cost_rows(dict.fromkeys(watchers, 12.0)),
    ]
    assert len(rows) == 4
    for row in rows:
        assert {peer.name for peer in row.peers} == peers
        assert all(verdict.met for verdict in row.verdicts)
