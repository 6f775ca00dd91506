"""The verdicts for whoever asks in another thread than the orchestrator's event loop.

A health check over HTTP that the event loop itself answers is not answered while that loop is
stuck. Here the question comes elsewhere, and there would always be an answer. So a companion of the
start-up beats once a second on the event loop; without a beat for some seconds, the answer is no.
"""

import math
import time
from collections.abc import Callable

import anyio

from orchestrator._core.companions import respond_to
from orchestrator._core.feed import Subscription
from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.health_answers import HealthAnswers, Workers
from orchestrator._gate.health_verdict import HealthRules, HealthVerdict
from orchestrator._runtime.event_loop import EventLoop

STUCK_SECONDS = 5.0
"""How long the event loop may go without a turn before the process counts as not live."""

LOOK_SECONDS = 1.0
"""How often the event loop beats, and how often it is looked whether it did."""

_STUCK = f"the event loop has not run for {STUCK_SECONDS:g} s"


class WatchedHealth(HealthAnswers):
    """Health answers that notice a stuck event loop, and say when they may have changed.

    Args:
        startup: The orchestrator.
        rules: What a service that is degraded says of itself.
        pod: The workers that answer as one; `None` for a process of its own.

    Attributes:
        listeners: Called on the orchestrator's event loop when a verdict may have changed. They
            must return at once. What happens without the event loop is not reported, so look
            again every `LOOK_SECONDS`.
    """

    def __init__(
        self, startup: Orchestrator, rules: HealthRules, pod: Workers | None = None
    ) -> None:
        super().__init__(startup, rules, pod=pod)
        self.listeners: set[Callable[[], object]] = set()
        self._life = -1
        self._beat_at = -math.inf
        self._loop: EventLoop | None = None
        startup.accompany(self._follow)
        startup.on_drain(self._tell)

    def own_verdict(self, path: str) -> HealthVerdict:
        """The verdict of this process alone, for a path of `HEALTH_PATHS`."""
        return HealthVerdict.FAIL if self._is_stuck() else super().own_verdict(path)

    def verdict(self, path: str) -> tuple[HealthVerdict, str]:
        """The verdict for a path of `HEALTH_PATHS`, and what is to be said besides the stage."""
        return (HealthVerdict.FAIL, _STUCK) if self._is_stuck() else super().verdict(path)

    @property
    def is_final(self) -> bool:
        """Whether the service is ending, so that it will not be ready again in this start-up."""
        return self._startup.draining or self._startup.ended is not None

    def _verdict_besides(self, name: str, exclude: frozenset[str]) -> HealthVerdict:
        if self._is_stuck():
            return HealthVerdict.FAIL
        return super()._verdict_besides(name, exclude)

    def _is_stuck(self) -> bool:
        if self._life != self._startup.life_number or self._loop is None:
            return False
        # On that very event loop the question itself shows that it runs.
        return time.monotonic() - self._beat_at > STUCK_SECONDS and not self._loop.is_current

    async def _follow(self, events: Subscription) -> None:
        """Runs beside the start-up, on its event loop."""
        self._loop, self._beat_at = EventLoop(), time.monotonic()
        self._life = life = self._startup.life_number
        try:
            await respond_to(events, self._tell, beside=self._beat)
        finally:
            if self._life == life:
                self._life = -1  # it has ended, which is all that there is to say
            self._tell()

    async def _beat(self) -> None:
        while True:
            self._beat_at = time.monotonic()
            await anyio.sleep(LOOK_SECONDS)

    def _tell(self) -> None:
        for listener in list(self.listeners):
            listener()
