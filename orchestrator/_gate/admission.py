"""The gate's decisions, without a server: who is let in, held or turned away, and when.

The adapters for ASGI, `websockets` and aiohttp ask for each request, and turn the answer into what
their server understands.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from orchestrator._core.feed import Subscription
from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.counts import AdmissionCounts, GateStats
from orchestrator._gate.hold_queue import HoldQueue, Outcome, Ticket
from orchestrator._gate.holding import check_number
from orchestrator._gate.metrics import GateMetrics
from orchestrator._gate.open_sockets import OpenSockets
from orchestrator._gate.refusals import APPLICATION_ERROR, HOW_TO_ENTER, RetryAfter, reason
from orchestrator._gate.return_line import ReturnLine
from orchestrator._gate.stage_rules import StageRules
from orchestrator._gate.turnstile import Turnstile
from orchestrator._gate.visit import Visit
from orchestrator._hardening.log_thread import logger
from orchestrator._ports import Clock
from orchestrator._runtime.clock import LoopClock
from states import Stage

_STOPPED_AT_ONCE = 16
"""How many refusals begin in each turn of the event loop during a shutdown."""

_RELEASE_SECONDS = 2.0
"""How long a request may wait in the queue at least once the service is ready: one that is refused
then, because no one may wait, would come back for as long as the service is busy."""

_INTERNAL_ERROR = 1011
_FAILURES = (APPLICATION_ERROR, _INTERNAL_ERROR)
_COMES_BACK = (Outcome.REFUSED, Outcome.OVERFLOW, Outcome.TIMED_OUT)

# A task's other two type arguments do not matter here, as in `TaskGroup.start_soon`.
Watch = Callable[[Ticket], Coroutine[Any, Any, None]]
"""Notices that a held client has left."""

AtRest = Callable[[], Awaitable[object]]


class Admission(StageRules):
    """Decides for each request of one gate. See `HoldingOptions` for its options.

    Args:
        startup: The orchestrator.
        on_close: Called with each close code that the application causes.
        open_sockets: The WebSockets that the gate closes.
        retry_after: Draws when those who are turned away are asked to come back.

    Raises:
        ValueError: When a number is out of range.
    """

    # The options are those of `HoldingOptions`, one by one, with their defaults.
    def __init__(  # noqa: PLR0913  one named option each
        self,
        startup: Orchestrator,
        *,
        hold_seconds: float = 5.0,
        max_held: int = 256,
        limits: Mapping[str, int] | None = None,
        admit_degraded: bool = False,
        release_batch: int = 32,
        on_admission: Callable[[str], object] | None = None,
        on_close: Callable[[int | str], object] | None = None,
        metrics: GateMetrics | None = None,
        clock: Clock | None = None,
        open_sockets: OpenSockets | None = None,
        retry_after: RetryAfter | None = None,
    ) -> None:
        check_number("hold_seconds", hold_seconds, 0)
        check_number("max_held", max_held, 0)
        check_number("release_batch", release_batch, 1)
        for path, limit in (limits or {}).items():
            check_number(f"limits[{path!r}]", limit, 0)
        super().__init__(startup, admit_degraded=admit_degraded)
        self.clock: Clock = clock or LoopClock()
        self.retry_after: RetryAfter = retry_after or RetryAfter((1, 3))
        self.queue: HoldQueue = HoldQueue(max_held, limits or {})
        self.turnstile: Turnstile = Turnstile(
            release_batch, self.queue, self.is_open, self.clock, self.retry_after.most
        )
        random = self.retry_after.random
        self._line = ReturnLine(self.turnstile.rate, self.clock.now, random)
        self.stats: GateStats = GateStats(on_admission, on_close, metrics)
        self._life = self._stopped_life = -1
        self._hold_seconds = hold_seconds
        self.open_sockets: OpenSockets = open_sockets or OpenSockets(None)
        self._closes_on_degrade = self.open_sockets.close_on_degrade
        self._warned = False
        self.stats.watched_by_metrics(self)
        startup.accompany(self._follow)

    # -- state -------------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """How many requests are held now."""
        return len(self.queue.waiting)

    @property
    def counts(self) -> AdmissionCounts:
        """How many requests had which outcome so far."""
        return self.stats.counts

    @property
    def closes(self) -> Counter[int | str]:
        """The WebSocket close codes that the application caused so far."""
        return self.stats.closes

    def admissions(self) -> Mapping[str, int]:
        """How many requests had which outcome; for `GateMetrics`, from any thread."""
        counts = self.stats.counts
        return {outcome.value: getattr(counts, outcome.value) for outcome in Outcome}

    def websocket_closes(self) -> Mapping[int | str, int]:
        """A copy of `closes`; for `GateMetrics`, from any thread."""
        return dict(self.stats.closes)

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called, or the orchestrator was left, in the current start-up."""
        return self._stopped_life == self.startup.life_number

    def refuses_at_once(self) -> bool:
        """Whether no one is held, since waiting won't help."""
        return self.stopped or super().refuses_at_once()

    def why(self, outcome: Outcome) -> str:
        """One line for a client that is turned away."""
        stopped = self.stopped or self._ends() or self.startup.draining
        return reason(outcome, self.startup.stage, stopped, not self._is_not_entered())

    # -- requests ----------------------------------------------------------------------------------

    async def ask(
        self, path: str, watch: Watch, at_rest: AtRest = checkpoint, *, in_line: bool = True
    ) -> Ticket:
        """Decide; hold the request if that is the decision. `outcome` of the ticket is set then.

        A request that is admitted while `ready` is young has a visit to report on: see `visit`.

        Args:
            path: The path of the request.
            watch: Decides `LEFT` for the ticket as soon as the client has left. It runs only while
                the request is held, and is cancelled when that ends.
            at_rest: Returns when cancelling it loses nothing.
            in_line: Whether the client can see when it is to come back, and so has a place.
        """
        ticket = Ticket(self.queue.route_of(path), path)
        self._keep_up()
        if not self.is_open():
            self.turnstile.close()
        if self.is_open() and self.turnstile.enter(ticket):
            outcome = ticket.decide(Outcome.ADMITTED)
        elif self.refuses_at_once():
            outcome = ticket.decide(Outcome.REFUSED)
            self._warn_if_not_entered()
        # Once the service is ready, as many may wait as may work, whatever the options say.
        elif self.queue.is_full(ticket.route, self.turnstile.least_slots if self.is_open() else 0):
            outcome = ticket.decide(Outcome.OVERFLOW)
        else:
            outcome = await self._hold(ticket, watch, at_rest)
        if outcome in _COMES_BACK:
            ticket.retry_after_seconds = self._retry_after_seconds(in_line)
            self.turnstile.refused(ticket.retry_after_seconds)
        self.stats.count_admission(outcome)
        return ticket

    def _retry_after_seconds(self, in_line: bool) -> int:
        """When one that is turned away is to come back; soon, where it should go elsewhere."""
        if not in_line or self.stopped or self._ends() or self.startup.draining:
            return self.retry_after.draw()
        return self._line.seconds(*self.retry_after.within())

    def visit(self, ticket: Ticket) -> Visit | None:
        """What a request that was admitted reports on; `None` where nothing is to be reported."""
        return Visit(self.turnstile, ticket) if self.turnstile.young else None

    async def _hold(self, ticket: Ticket, watch: Watch, at_rest: AtRest) -> Outcome:
        """Wait for the first of: admitted or refused by the queue, the client's leaving, time."""
        self.stats.counts.held += 1
        began_at = self.clock.now()
        self.queue.join(ticket)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch, ticket)
                await self._wait(ticket, began_at + self._hold_seconds)
                outcome = ticket.decide(Outcome.TIMED_OUT)
                if outcome is Outcome.ADMITTED:
                    await at_rest()
                tasks.cancel_scope.cancel()
        except BaseException:
            self._give_back(ticket)
            # The server has cancelled it: the client is gone, or the server stops.
            self.stats.held_for(self.clock.now() - began_at, Outcome.LEFT)
            self.stats.count_admission(Outcome.LEFT)
            raise
        if outcome is not Outcome.ADMITTED:
            self._give_back(ticket)  # before the refusal is sent, which may take its time
        self.stats.held_for(self.clock.now() - began_at, outcome)
        return outcome

    def _give_back(self, ticket: Ticket) -> None:
        self.queue.leave(ticket)
        self.turnstile.leave(ticket)

    async def _wait(self, ticket: Ticket, limit: float) -> None:
        with self.clock.cancel_at(limit):
            await ticket.decided.wait()
        if ticket.outcome is None and self.is_open():
            # Ready already, and only its turn has not come yet.
            with self.clock.cancel_at(limit + max(self._hold_seconds, _RELEASE_SECONDS)):
                await ticket.decided.wait()

    def _warn_if_not_entered(self) -> None:
        if not self._warned and self._is_not_entered():
            self._warned = True
            logger.warning("a request was refused: %s", HOW_TO_ENTER)

    def _keep_up(self) -> None:
        """Begin anew with each start-up."""
        if self._life != self.startup.life_number:
            self._life = self.startup.life_number
            self.queue.begin_anew()
            self.turnstile.begin_anew()
            self.open_sockets.begin_anew()

    def closed(self, code: int | str) -> None:
        """The application closed a WebSocket with this code, or with `APPLICATION_ERROR`."""
        self.stats.count_close(code)
        if code in _FAILURES:
            self.turnstile.failed()

    # -- the stage ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """Refuse what is held, and from now on hold nothing more.

        What was let in already goes on at the turnstile's pace.
        """
        self._stopped_life = self.startup.life_number
        self.queue.turn_away()

    async def stop_bit_by_bit(self) -> None:
        """The same in batches, so that the first have their answer before the last are looked at.

        All at once they would take each step together, and the server might have to end before
        the last step of any.
        """
        self._stopped_life = self.startup.life_number
        while self.queue.waiting:
            self.queue.turn_away(_STOPPED_AT_ONCE)
            await checkpoint()
        self.stop()

    def _is_degraded(self) -> bool:
        return self.startup.stage is Stage.DEGRADED

    async def _follow(self, events: Subscription) -> None:
        """Runs beside the start-up: one subscriber for all that are held."""
        if self.stopped:
            return
        self._keep_up()
        life = self._life
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.turnstile.run)
                async for event in events:
                    if not self.is_open():
                        self.turnstile.close()
                    if self.refuses_at_once():
                        self.queue.turn_away()
                    else:
                        self.turnstile.advance()
                    if self._closes_on_degrade and event.current is Stage.DEGRADED:
                        tasks.start_soon(self.open_sockets.close, self.clock, self._is_degraded)
                tasks.cancel_scope.cancel()
        finally:
            if life == self.startup.life_number:  # else its event loop was given up long ago
                self.stop()
            self.stats.sum_up()
