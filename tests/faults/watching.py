"""What the tests of a running service share: its start-up on a real Redis, and its diary."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from orchestrator import Observer, Orchestrator, Policy, Stage, StageChanged
from orchestrator.redis import RedisProbe
from states import Fact, ProbeFailed, ProbeSucceeded

QUICK = Policy(
    attempt_timeout_seconds=3.0,  # a busy machine is no outage
    probe_interval_seconds=60.0,  # so that what is noticed is not noticed by polling
    confirm_interval_seconds=0.02,
    grace_seconds=0.06,
    grace_interval_seconds=0.02,
    flap_grace_seconds=0.0,
)
"""A policy under which losses and returns take tenths of seconds."""


class Diary(Observer):
    """Keeps every fact and every transition, and lets tests wait for them."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.changes: list[StageChanged] = []
        self._more = anyio.Event()

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        self.facts.append(fact)
        if changed is not None:
            self.changes.append(changed)
        self._more.set()
        self._more = anyio.Event()

    @property
    def stages(self) -> list[Stage]:
        return [change.current for change in self.changes]

    @property
    def attempts(self) -> list[ProbeSucceeded | ProbeFailed]:
        return [fact for fact in self.facts if isinstance(fact, ProbeSucceeded | ProbeFailed)]

    @property
    def failures(self) -> list[ProbeFailed]:
        return [fact for fact in self.facts if isinstance(fact, ProbeFailed)]

    def forget(self) -> None:
        """Turn the page."""
        self.facts.clear()
        self.changes.clear()

    async def until(self, true: Callable[[], object], timeout_seconds: float = 10.0) -> None:
        """Wait until it is true, looking again after every fact."""
        with anyio.fail_after(timeout_seconds):
            while not true():
                await self._more.wait()

    async def reaches(self, stage: Stage) -> StageChanged:
        """Wait for the next entry of this stage since the page was turned."""
        await self.until(lambda: stage in self.stages)
        return next(change for change in self.changes if change.current is stage)


def stretch() -> float:
    """How many times longer than on an idle machine things take at the moment; 1 or more."""
    began_at, used = time.perf_counter(), time.process_time()
    while time.process_time() - used < 0.03:
        pass
    return max(1.0, (time.perf_counter() - began_at) / 0.03)


@asynccontextmanager
async def watched(
    probe: RedisProbe, policy: Policy = QUICK, *observers: Observer
) -> AsyncIterator[tuple[Orchestrator, Diary]]:
    """An orchestrator on a real Redis, and its diary, once it is ready."""
    diary = Diary()
    async with Orchestrator(probe, policy=policy, observers=[diary, *observers]) as startup:
        await startup.wait_for(Stage.READY, timeout_seconds=10)
        diary.forget()
        yield startup, diary
