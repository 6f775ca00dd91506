"""Runs faults against the real probe and the real orchestrator, and notes what was seen."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import anyio
import anyio.to_thread

from orchestrator import Orchestrator, Policy
from orchestrator.redis import RedisProbe
from states import Failure, FailureKind, Stage
from tests.faults.fault import Fault
from tests.faults.scenes import Scene, Unavailable

TIMEOUT_SECONDS = 0.3
"""What one attempt gets. The reasons in the catalogue name it."""

MOST_OVERSHOOT_SECONDS = 0.1
"""How much longer an attempt may take."""

_WATCHED_SECONDS = 0.3
"""How long an orchestrator is let run into a permanent failure."""

_AT_ONCE = 6
"""So many faults are run side by side: enough to wait for several at once, and few enough that
they do not disturb each other's timing on two processors."""

_TRIES = 6
"""A machine that is busy may make any one attempt late, or a server slow to answer; only the code
can do so every time. The repetitions run alone."""

_PATIENT_SECONDS = 10.0
"""What they get where the fault is not that something takes too long."""


@dataclass(frozen=True)
class Outcome:
    """What was seen of one fault.

    Attributes:
        fault: The fault.
        failure: What the probe said; `None` for a success.
        seconds: How long the attempt took.
        connections: How many connections it made.
        watched: How many an orchestrator made in a moment, for a permanent failure.
        where: What the failure calls the server.
        skipped: Why it could not be produced here; empty if it could.
        limit_seconds: What the attempt got.
    """

    fault: Fault
    failure: Failure | None = None
    seconds: float = 0.0
    connections: int = 0
    watched: int | None = None
    where: str = ""
    skipped: str = ""
    limit_seconds: float = TIMEOUT_SECONDS

    @property
    def expected_reason(self) -> str:
        """The reason in the catalogue, with the name of the place."""
        return worded(self.fault, self.where)


def worded(fault: Fault, where: str) -> str:
    """The reason of a fault of the server `where`."""
    if "{where}" in fault.reason:
        return fault.reason.replace("{where}", where)
    return where + ("" if fault.reason.startswith(":") else " ") + fault.reason


async def run_all(faults: Sequence[Fault]) -> list[Outcome]:
    """Run faults, a few at once, and return what was seen in their order."""
    outcomes: dict[str, Outcome] = {}
    limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def one(fault: Fault) -> None:
        async with limiter:
            outcomes[fault.name] = await run(fault)

    async with anyio.create_task_group() as tasks:
        for fault in faults:
            tasks.start_soon(one, fault)
    for fault in faults:
        timed = fault.kind is None or f"{TIMEOUT_SECONDS:g} s" in fault.reason
        for _ in range(_TRIES - 1):
            if complaints(outcomes[fault.name]):
                outcomes[fault.name] = await run(
                    fault, TIMEOUT_SECONDS if timed else _PATIENT_SECONDS
                )
    return [outcomes[fault.name] for fault in faults]


async def run(fault: Fault, limit_seconds: float = TIMEOUT_SECONDS) -> Outcome:
    """Produce one fault and let the probe meet it, in one attempt of so many seconds."""
    stage = fault.scene()
    try:
        # Servers are started in a thread, so that the others' timing is not disturbed.
        scene = await anyio.to_thread.run_sync(stage.__enter__)
    except Unavailable as error:
        return Outcome(fault, skipped=str(error))
    try:
        return await _meet(fault, scene, limit_seconds)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(stage.__exit__, None, None, None)


async def _meet(fault: Fault, scene: Scene, limit_seconds: float) -> Outcome:
    probe = scene.probe()
    try:
        if fault.warm:
            warm = await probe.attempt(5)
            assert warm.failure is None, warm.failure
            await anyio.to_thread.run_sync(scene.inflict)
        started_at = time.perf_counter()
        result = await probe.attempt(limit_seconds)
        seconds = time.perf_counter() - started_at
        where = probe._worker.session.situation(1).where
    finally:
        await probe.aclose()
    watched = None
    if fault.kind is FailureKind.PERMANENT:
        before = await anyio.to_thread.run_sync(scene.connections)
        await _watch(scene.probe())
        watched = await anyio.to_thread.run_sync(scene.connections) - before
    await anyio.to_thread.run_sync(scene.heal)
    connections = await anyio.to_thread.run_sync(scene.connections)
    made = connections - (watched or 0)
    return Outcome(
        fault, result.failure, seconds, made, watched, where, limit_seconds=limit_seconds
    )


async def _watch(probe: RedisProbe) -> None:
    """Let an orchestrator run into a permanent failure, and stay with it for a moment."""
    policy = Policy(attempt_timeout_seconds=10.0, permanent_retry_seconds=30.0)
    async with Orchestrator(probe, policy=policy) as startup:
        await startup.wait_for(Stage.DEGRADED, timeout_seconds=20)
        made = startup.explain().attempts
        # Not for anything: to see that nothing happens.
        await anyio.sleep(_WATCHED_SECONDS)
        assert startup.explain().attempts == made


def complaints(outcome: Outcome) -> list[str]:
    """What is not as the catalogue says."""
    if outcome.skipped:
        return []
    fault = outcome.fault
    found = [_misjudged(outcome)]
    if outcome.seconds > outcome.limit_seconds + MOST_OVERSHOOT_SECONDS:
        found.append(f"it took {outcome.seconds:.3f} s")
    if outcome.connections != fault.connections:
        found.append(f"it made {outcome.connections} connections, not {fault.connections}")
    if outcome.watched is not None and outcome.watched > fault.connections:
        found.append(f"it went on to make {outcome.watched} connections")
    return [said for said in found if said]


def _misjudged(outcome: Outcome) -> str:
    fault, failure = outcome.fault, outcome.failure
    seen = None if failure is None else (failure.kind, failure.error_type)
    expected = None if fault.kind is None else (fault.kind, fault.error_type)
    if seen in fault.variants:
        return ""
    if seen != expected:
        return f"it is {seen}, not {expected}: {failure}"
    if failure is not None and failure.reason != outcome.expected_reason:
        return f"its reason is {failure.reason!r}, not {outcome.expected_reason!r}"
    return ""


def table(outcomes: Sequence[Outcome]) -> str:
    """All outcomes as one table, for a terminal."""
    header = ("fault", "kind", "connections", "seconds", "reason")
    rows = [header]
    for outcome in outcomes:
        failure = outcome.failure
        kind = "skipped" if outcome.skipped else failure.kind if failure else "answers"
        reason = outcome.skipped or (failure.reason if failure else "")
        seconds = "" if outcome.skipped else f"{outcome.seconds:.3f}"
        rows.append((outcome.fault.name, kind, str(outcome.connections), seconds, reason))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[4]]).rstrip())
    lines.insert(1, "  ".join("-" * width for width in [*widths, 6]))
    return "\n".join(lines)
