"""Waiting for a stage, and asking for the state, from any task and any thread."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from orchestrator._core.explanation import Explanation, explain, said_now
from orchestrator._core.life import Life
from orchestrator._errors import StartupTimeout, Stopped, WrongThread
from orchestrator._runtime.event_loop import Call, CancelledError
from states import Stage, StageChanged, StartupMachine

_THREAD_SECONDS = 0.5
"""How much longer than the event loop another thread waits."""


def explain_now(
    machine: StartupMachine,
    life: Life | None,
    ended: str | None,
    after: Mapping[str, Sequence[str]],
) -> Explanation:
    """What the machine waits for, at this moment."""
    known = machine.snapshot
    now, next_at, lag = known.last_at, None, 0.0
    probe, draining = "Redis" if life is None else life.target.name, ""
    if life is not None and life.running:
        while not life.loop.is_current and known != (again := machine.snapshot):
            known = again  # a fact came in between
        now = max(known.last_at, life.now())
        next_at, lag = life.driver.next_probe_at, life.driver.loop_lag_seconds
        draining = life.drain.text(now)
        known = said_now(known, life.keeping.words(now))
    explained = explain(
        known,
        now,
        ended,
        probe,
        next_probe_at=next_at,
        loop_lag_seconds=lag,
        draining=draining,
        after=after,
    )
    return (
        explained if life is None else replace(explained, needs_restart=life.keeping.needs_restart)
    )


async def wait_for(stage: Stage, timeout_seconds: float | None, life: Life) -> StageChanged:
    """`Orchestrator.wait_for`, on any event loop."""
    if life.loop.is_current:
        return await _wait_here(stage, timeout_seconds, life)
    try:
        return await Call(partial(_wait_here, stage, timeout_seconds, life), life.loop).wait()
    except CancelledError:
        raise _stopped_before(stage) from None


def wait_for_sync(stage: Stage, timeout_seconds: float | None, life: Life) -> StageChanged:
    """`Orchestrator.wait_for_sync`."""
    if life.loop.is_current:
        raise WrongThread(
            "wait_for_sync would block the event loop that it waits for: await wait_for instead"
        )
    limit = None if timeout_seconds is None else timeout_seconds + _THREAD_SECONDS
    call = Call(partial(_wait_here, stage, timeout_seconds, life), life.loop)
    try:
        return call.wait_blocking(limit)
    except CancelledError:
        raise _stopped_before(stage) from None
    except StartupTimeout:
        raise
    except TimeoutError:  # the event loop itself does not answer
        raise _not_in_time(stage, life, timeout_seconds or 0.0) from None


async def _wait_here(stage: Stage, timeout_seconds: float | None, life: Life) -> StageChanged:
    events = life.feed.subscribe()
    until = math.inf if timeout_seconds is None else life.clock.now() + timeout_seconds
    with life.clock.cancel_at(until):
        async for event in events:
            if event.current is stage:
                return event
        raise _stopped_before(stage)
    raise _not_in_time(stage, life, timeout_seconds or 0.0)


def _not_in_time(stage: Stage, life: Life, seconds: float) -> StartupTimeout:
    now = explain_now(life.machine, life, life.driver.ended, {})
    waits = "; ".join(now.waits_for) or "nothing"
    return StartupTimeout(
        f"not {stage} within {seconds:g} s: in stage {now.stage}, waiting for {waits}"
    )


def _stopped_before(stage: Stage) -> Stopped:
    return Stopped(f"the orchestrator was left before the service became {stage}")
