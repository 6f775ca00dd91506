"""The answers of a service with several workers; the others are played by their files."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator import Orchestrator, Policy
from orchestrator._gate.health_verdict import HealthVerdict
from orchestrator.asgi import ReadinessGate, health_app
from orchestrator.pod import Pod, _members, _pod, _spokesman, _successors
from orchestrator.pod._members import Member, read
from orchestrator.pod._parent import ParentProcess
from orchestrator.pod._quorum import Quorum
from orchestrator.pod._standing import PodStanding, WorkerReport
from orchestrator.testing import ScriptedProbe
from tests.asgi.gate_support import Caller, http_scope, until

pytestmark = pytest.mark.anyio

PASS, WARN, FAIL = HealthVerdict.PASS, HealthVerdict.WARN, HealthVerdict.FAIL

if not _members.has_locks():
    pytest.skip("needs flock", allow_module_level=True)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where they meet: nothing is left there, and never anything in the working directory."""
    monkeypatch.setenv("ORCHESTRATOR_POD_DIR", str(tmp_path / "pod"))
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.setattr(_pod, "_KEPT_SECONDS", 0.0)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    yield tmp_path
    assert not list((tmp_path / "cwd").iterdir())


class OtherWorker:
    """Another worker of the service, as this one sees it."""

    def __init__(self, directory: Path) -> None:
        self._member = Member(directory)
        self.pid = int(self._member.name[:6], 16) + 1

    def says(
        self,
        stage: str,
        readyz: HealthVerdict = FAIL,
        *,
        age_seconds: float = 0.0,
        draining: bool = False,
    ) -> None:
        startupz = FAIL if stage in ("booting", "probing_redis", "grace") else PASS
        beat_at = time.monotonic() - age_seconds
        report = WorkerReport(self.pid, stage, readyz, startupz, ("Redis to answer",), beat_at)
        report = replace(report, draining=draining)
        self._member.write(report.as_json())

    def heard(self, pid: int) -> WorkerReport:
        """What the worker with this process id says."""
        told = (WorkerReport.from_json(one) for _, one in read(self._member.directory))
        return next(one for one in told if one.pid == pid)

    def leave(self) -> None:
        self._member.leave()


class Asked:
    """This worker, asked over its health endpoints."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.startup = Orchestrator(
            ScriptedProbe(), policy=Policy(grace_seconds=0.0), conditions=["go"]
        )
        self._app = health_app(self.startup, details=True, pod=pod)

    async def ask(self, path: str) -> tuple[int, str, dict[str, Any]]:
        caller = Caller(self._app, http_scope(path))
        await caller.run()
        body = json.loads(caller.body)
        assert "retry-after" in caller.headers or caller.status == 200
        assert caller.status is not None
        return caller.status, body.get("output", ""), body

    async def status(self, path: str = "/readyz") -> int:
        return (await self.ask(path))[0]

    async def becomes(self, stage: str) -> None:
        """Wait until all can read that it is in this stage."""

        def reported() -> bool:
            if self.pod._member is None:
                return self.startup.stage == stage
            told = (WorkerReport.from_json(one) for _, one in read(self.directory))
            return any(one.pid == os.getpid() and one.stage == stage for one in told)

        await until(reported)

    async def becomes_ready(self) -> None:
        self.startup.condition("go").set(True)
        await self.becomes("ready")

    @property
    def directory(self) -> Path:
        assert self.pod._member is not None
        return self.pod._member.directory


@asynccontextmanager
async def a_worker(pod: Pod) -> AsyncGenerator[Asked]:
    asked = Asked(pod)
    async with asked.startup:
        await until(lambda: pod._entered)
        yield asked


async def test_at_first_all_have_to_be_ready_and_then_more_than_half() -> None:
    async with a_worker(Pod(workers=4)) as here:
        assert "1 of 4 have joined" in (await here.ask("/readyz"))[1]
        others = [OtherWorker(here.directory) for _ in range(3)]
        await here.becomes_ready()
        for one in others[:2]:
            one.says("ready", PASS)
        assert await here.status() == await here.status("/startupz") == 503
        assert "a worker that is starting" in (await here.ask("/readyz"))[1]
        others[2].says("grace")
        assert (await here.ask("/readyz"))[1].startswith("3 of 4 workers are ready; worker ")
        others[2].says("ready", PASS)
        assert await here.status() == await here.status("/startupz") == 200
        for one in others[1:]:  # recycled together
            one.leave()
        status, output, body = await here.ask("/readyz")
        assert (status, output) == (503, "2 of 4 workers are ready; 2 of 4 have joined")
        assert body["pod"] | {"workers": 0} == {
            "expected": 4, "joined": 2, "ready": 2, "workers": 0
        }  # fmt: skip
        assert [one["answers"] for one in body["pod"]["workers"]].count(True) == 1
        assert await here.status("/startupz") == 200, "once started, it has started"
        assert await here.status("/livez") == 200
        fresh = OtherWorker(here.directory)
        fresh.says("probing_redis")
        assert await here.status() == 503
        fresh.says("ready", PASS)
        assert await here.status() == 200
        fifth = OtherWorker(here.directory)  # as after SIGHUP
        assert await here.status() == 200
        for one in (fresh, fifth, others[0]):
            one.leave()
        assert await here.status() == 503


async def test_whoever_joins_learns_what_was_and_the_dead_take_it_with_them() -> None:
    """One that is recycled is not at the start: the others know that all were ready."""
    here = Asked(Pod(workers=2))
    async with here.startup:
        await until(lambda: here.pod._entered)
        other = OtherWorker(here.directory)
        here.startup.condition("go").set(True)
        other.says("ready", PASS)
        await until(lambda: other.heard(os.getpid()).pod_was_ready)
        assert await here.status() == 200
        other.leave()
        assert await here.status() == 503, "half is not more than half"
        assert await here.status("/startupz") == 200
    async with here.startup:  # all had gone
        await here.becomes_ready()
        assert await here.status("/startupz") == 503


async def test_all_may_be_started_anew_together_while_their_supervisor_lives(
    monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    """Workers that began together reach their `max_requests` together."""
    monkeypatch.setattr(_pod, "find_parent", lambda: ParentProcess(os.getppid(), "1"))
    here = Asked(Pod(workers=2))
    async with here.startup:
        await until(lambda: here.pod._entered)
        other = OtherWorker(here.directory)
        other.says("ready", PASS)
        await here.becomes_ready()
        await until((here.directory / "was-ready").exists)
        directory = here.directory
        other.leave()
    assert sorted(path.name for path in directory.iterdir()) == ["started", "was-ready"]
    _members.sweep(directory.parent, but=place)
    assert directory.exists(), "its supervisor lives"
    async with here.startup:
        await until(lambda: here.pod._entered)
        assert await here.status("/startupz") == 200, "it was started"
        assert await here.status() == 503
        others = [OtherWorker(directory) for _ in range(2)]
        for one in others:
            one.says("ready", PASS)
        assert await here.status() == 200, "more than half"
        for one in others:
            one.leave()
    dead = directory.with_name(f"{2**22 + 7}-x")
    directory.rename(dead)
    _members.sweep(directory.parent, but=place)
    assert not dead.exists()


async def test_one_that_says_nothing_is_stuck_unless_nobody_ran() -> None:
    async with a_worker(Pod(workers=3)) as here:
        other, third = OtherWorker(here.directory), OtherWorker(here.directory)
        await here.becomes_ready()
        other.says("ready", PASS)
        third.says("ready", PASS)
        assert await here.status() == 200
        here.pod._awake_at -= 60  # long awake
        other.says("ready", PASS, age_seconds=6)
        _, output, body = await here.ask("/readyz")
        assert output == "", "two of three are enough"
        stuck = {one["pid"]: one["stuck"] for one in body["pod"]["workers"]}
        assert stuck == {os.getpid(): False, other.pid: True, third.pid: False}
        third.says("ready", PASS, age_seconds=7)
        status, output, _ = await here.ask("/readyz")
        assert status == 503
        assert f"worker {other.pid} is stuck" in output
        here.pod._awake_at = time.monotonic()  # the whole container was paused
        assert await here.status() == 200
        other.leave()
        third.leave()


async def test_a_worker_that_drains_is_not_ready_and_the_others_know_at_once() -> None:
    async with a_worker(Pod(workers=1)) as here:
        other = OtherWorker(here.directory)
        await here.becomes_ready()
        assert await here.status() == 200
        await here.startup.drain()
        assert other.heard(os.getpid()).readyz == FAIL
        status, output, body = await here.ask("/readyz")
        assert status == 503
        assert f"worker {os.getpid()} is draining" in output
        assert body["pod"]["workers"][0]["draining"] or body["pod"]["workers"][1]["draining"]
        other.leave()


def waits(here: Asked) -> bool:
    return here.startup._drain_parts.needed


@pytest.mark.parametrize("then", ["ready", "draining", "gone"])
async def test_a_worker_serves_on_until_those_that_take_its_place_are_ready(
    then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    children: list[tuple[int, int]] = []
    monkeypatch.setattr(_pod, "find_parent", lambda: ParentProcess(os.getppid()))
    monkeypatch.setattr(_successors, "_young_children", lambda _: iter(children))
    try:
        async with a_worker(Pod(workers=1)) as here, anyio.create_task_group() as tasks:
            await here.becomes_ready()
            assert not waits(here)
            children.append((sleeper.pid, sys.maxsize))
            assert waits(here)
            other = OtherWorker(here.directory)
            other.pid = sleeper.pid
            other.says("booting")
            tasks.start_soon(here.startup.drain)
            await until(lambda: other.heard(os.getpid()).serves_on)
            assert (await here.status(), here.startup.refuses) == (200, False)
            if then == "ready":
                other.says("ready", PASS)
            elif then == "draining":
                other.says("booting", draining=True)
            else:
                sleeper.kill()
                sleeper.wait()
            await until(lambda: here.startup.refuses)
            assert not other.heard(os.getpid()).serves_on
            assert await here.status() == (200 if then == "ready" else 503)
            other.leave()
    finally:
        sleeper.kill()
        sleeper.communicate()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_only_children_younger_than_this_worker_take_the_place_of_all() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        standing = PodStanding(expected=1)
        assert _successors.successors(os.getpid(), standing) == {child.pid}
        assert _successors.successors(child.pid, standing) == frozenset()
        too_few = PodStanding(expected=99)
        assert _successors.successors(os.getpid(), too_few) == frozenset()
    finally:
        child.kill()
        child.communicate()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("expected", "found"), [(2, {4, 5}), (3, {3, 4, 5}), (4, set[int]()), (5, set[int]())]
)
def test_the_youngest_take_the_place_of_all_and_not_workers_of_the_same_age(
    expected: int, found: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = _successors._birth_of(os.getpid()).start
    children = [(1, own - 9), (2, own), (3, own + 1), (5, own + 3), (4, own + 2)]
    monkeypatch.setattr(_successors, "_young_children", lambda _: iter(children))
    assert _successors.successors(os.getppid(), PodStanding(expected=expected)) == found


async def test_outages_warn_and_without_a_number_those_who_joined_count() -> None:
    async with a_worker(Pod()) as here:
        assert await here.status() == 503
        await here.becomes_ready()
        assert await here.status() == 200
        other = OtherWorker(here.directory)
        other.says("degraded", WARN)
        status, output, body = await here.ask("/readyz")
        assert (status, body["status"]) == (200, "warn")
        here.startup.condition("go").set(False)
        await here.becomes("degraded")
        status, output, body = await here.ask("/readyz")
        assert (status, body["status"]) == (200, "warn")
        assert output == "2 of 2 workers are ready"
        other.leave()


async def test_where_they_cannot_meet_each_answers_for_itself_and_says_so_once(
    place: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "pod").write_text("a file")
    reasons = ["exists|directory", "no locks", "not known which process"]
    for reason in reasons:
        caplog.clear()
        if reason == "no locks":
            monkeypatch.setattr(_pod, "has_locks", lambda: False)
        elif reason != reasons[0]:
            monkeypatch.undo()
            monkeypatch.chdir(place / "cwd")
            monkeypatch.delenv("ORCHESTRATOR_POD_DIR", raising=False)
        async with a_worker(Pod(workers=4)) as here:
            assert await here.status() == 503
            here.startup.condition("go").set(True)
            await until(lambda: here.startup.ready)
            assert await here.status() == await here.status("/startupz") == 200
            assert (await here.ask("/readyz"))[2]["pod"] == {"alone": True, "pid": os.getpid()}
        warnings = [one.message for one in caplog.records if one.levelno == logging.WARNING]
        assert len(warnings) == 1, warnings
        assert "each answers health checks for itself" in warnings[0]
    caplog.clear()
    async with a_worker(Pod()) as here:  # a process that stands alone, and was told nothing
        assert (await here.ask("/livez"))[2]["pod"]["alone"]
    assert not [one for one in caplog.records if one.levelno == logging.WARNING]


async def test_a_full_file_system_takes_no_worker_down(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_worker(Pod(workers=1)) as here:

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        await here.becomes_ready()
        await until(lambda: here.pod._member is None)
        assert await here.status() == 200
    assert "No space left on device" in caplog.text


async def test_lines_of_the_log_say_which_worker_and_one_speaks_for_all(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "orchestrator.pod")
    monkeypatch.setattr(_pod, "_BEAT_SECONDS", 0.01)
    monkeypatch.setattr(_spokesman, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(os, "urandom", lambda size: b"\x01" * size)
    async with a_worker(Pod(workers=2)) as here:
        assert f"worker {os.getpid()} has joined: 1 of 2" in caplog.text
        await until(lambda: "the number was taken from Pod(workers=)" in caplog.text)
        monkeypatch.undo()
        other = OtherWorker(here.directory)
        other.says("ready", PASS)
        here.startup.condition("go").set(True)
        await until(lambda: "the service is ready: 2 of 2 workers are ready" in caplog.text)
        other.says("probing_redis")
        await until(
            lambda: f"not ready: 1 of 2 workers are ready; worker {other.pid}" in caplog.text
        )
        other.leave()
    assert caplog.text.count("number was taken") == 1


async def test_a_worker_counts_once_and_one_pod_serves_one_orchestrator(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pod = Pod(workers=1)
    async with a_worker(pod) as here:
        health_app(here.startup, pod=pod)  # a second mount of the same
        with pytest.raises(ValueError, match="one Pod belongs to one orchestrator"):
            health_app(Orchestrator(ScriptedProbe()), pod=pod)
        async with a_worker(Pod(workers=1)) as second:
            assert (await second.ask("/readyz"))[2]["pod"]["alone"]
        assert "another Pod in this process" in caplog.text
        async with a_worker(Pod(workers=1, service="admin")) as third:
            assert third.directory != here.directory
        assert len(list(read(here.directory))) == 1
    with pytest.raises(ValueError, match="pod needs health=True"):
        ReadinessGate(here._app, here.startup, pod=pod)


async def test_what_is_given_is_looked_at() -> None:
    for workers in ("4", 2.0):
        with pytest.raises(TypeError, match="workers must be an int"):
            Pod(workers=workers)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="workers is 0"):
        Pod(workers=0)
    for readyz in (1, 1.5, -0.1, float("nan"), "some"):
        with pytest.raises(ValueError, match="readyz is"):
            Pod(readyz=readyz)  # type: ignore[arg-type]  # wrong on purpose
    for wrong in (None, True, [1]):
        with pytest.raises(TypeError, match="readyz must be a word or a number"):
            Pod(readyz=wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_how_many_are_enough() -> None:
    def enough(quorum: Quorum, expected: int, was_ready: bool) -> list[int]:
        return [n for n in range(7) if quorum.enough(n, expected, was_ready=was_ready)]

    assert enough(Quorum(), 4, False) == [4, 5, 6]
    assert enough(Quorum(), 4, True) == [3, 4, 5, 6]
    assert enough(Quorum("all"), 4, True) == [4, 5, 6]
    assert enough(Quorum("any"), 4, False) == [1, 2, 3, 4, 5, 6]
    assert enough(Quorum(0), 4, True) == [1, 2, 3, 4, 5, 6]
    assert enough(Quorum(0.75), 4, True) == [4, 5, 6]
    assert enough(Quorum(), 1, True) == [1, 2, 3, 4, 5, 6]


def test_reports_of_other_versions_are_as_if_nothing_was_said() -> None:
    report = WorkerReport(1, "ready", PASS, PASS, ("x",), 2.0, True, True)
    told = json.loads(json.dumps(report.as_json()))
    assert WorkerReport.from_json(told) == report
    for key in told:
        assert WorkerReport.from_json({**told, key: object()}) in (
            WorkerReport(), WorkerReport(1, "ready", PASS, PASS, (), 2.0, True, True),
        ) or key in ("stage", "pod_started", "pod_was_ready", "draining", "serves_on")  # fmt: skip
    assert PodStanding.of({}, None, 0.0, 0.0).started is False


async def test_many_askers_share_one_look_as_long_as_all_is_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[Path] = []

    def counted(directory: Path, own: str) -> list[tuple[str, Any]]:
        looks.append(directory)
        return list(read(directory, own))

    monkeypatch.setattr(_pod, "_KEPT_SECONDS", 60.0)
    monkeypatch.setattr(_pod, "_BEAT_SECONDS", 60.0)
    async with a_worker(Pod(workers=1)) as here:
        monkeypatch.setattr(_pod, "read", counted)
        for _ in range(3):
            assert await here.status() == 503
        assert len(looks) >= 3
        await here.becomes_ready()
        await until(lambda: here.pod._standing.all_ready)
        looks.clear()
        for _ in range(20):
            assert await here.status() == 200
        assert looks == []
