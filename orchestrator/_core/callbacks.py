"""Plain and async functions that are called when a stage is entered."""

import inspect
from collections.abc import Callable

from orchestrator._core.feed import Subscription
from orchestrator._hardening.guard import CallGuard
from orchestrator._hardening.log_thread import logger
from orchestrator._runtime.tasks import must_pass, take_back_cancel
from states import Stage, StageChanged

Callback = Callable[[StageChanged], object]
"""A plain or an async function of one event."""


async def call_back(stages: frozenset[Stage], callback: Callback, events: Subscription) -> None:
    """A companion that calls it for each event that enters one of `stages`, whatever it raises."""
    guard, missed = CallGuard("callback", callback), 0
    while True:
        try:
            async for event in events:
                missed = _say_missed(guard.name, missed, events.missed)
                if event.current in stages:
                    outcome = callback(event)
                    if inspect.isawaitable(outcome):
                        await outcome
        except BaseException as error:
            collected = isinstance(error, GeneratorExit) and events.closed  # it was abandoned
            if collected or (
                must_pass(error) and not await take_back_cancel(lambda: events.closed)
            ):
                guard.sum_up()
                raise
            guard.caught(error)
        else:
            guard.sum_up()
            return


def _say_missed(name: str, before: int, now: int) -> int:
    if now > before:
        logger.warning("%s is too slow and missed %d changes of stage", name, now - before)
    return now
