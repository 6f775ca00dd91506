"""How many handlers work at the same time while `ready` is young.

When a service becomes ready, its early clients are all there at once: those that were held, and
those that were refused and come back. A pool of 100 connections fails 900 of 1,000 that enter
together, whatever each handler does first. So while `ready` is young, a handler needs one of
`slots` to work.

**Units.** A unit of work begins when a request or a message is handed to the handler. It ends with
the handler's next `receive`, or with the handler. `Visit` works out from outside when that is. A
handler that gives no such sign loses its slot once `Patience` runs out. Time is counted in ticks,
which stop while the event loop is stalled: a frozen process has done no work.

**Order.** A free slot goes first to a handler inside that has a message, and otherwise to the queue
outside. Every fourth one goes to the queue whatever waits inside, so a chatty crowd starves no one.
A handler that has a slot gets its next message at once, unless it has answered the last one already
or has kept the slot for 6 s: then it waits like the others.

How many slots there are, and when none are needed any more, is up to the `Release`.
"""

from collections import OrderedDict
from collections.abc import Callable

import anyio

from orchestrator._gate.hold_queue import HoldQueue, Outcome, Ticket
from orchestrator._gate.patience import SILENT_TICKS, Limit, PatienceByPath
from orchestrator._gate.release import Release
from orchestrator._gate.return_line import AdmissionRate
from orchestrator._ports import Clock

TICK_SECONDS = 0.05

_IDLE_TICKS = 200
"""10 s: a handler that has waited longer for its client to speak is treated like a new one."""

_INSIDE_IN_A_ROW = 3
"""After so many from inside, the next slot goes to the queue."""


class _Turn:
    """A handler's turn: one `receive` waits for it, or several, or none just now."""

    __slots__ = ("granted", "waiting")

    def __init__(self) -> None:
        self.granted = anyio.Event()
        self.waiting = 0


class Turnstile:
    """Gives out slots to work in.

    Args:
        slots: How many handlers may work at the same time.
        queue: Those who wait outside.
        is_open: Whether those outside may be let in now.
        clock: The time.
        return_seconds: The longest that refused clients are asked to stay away, while they are few.

    Attributes:
        least_slots: How many slots there are at least.
        rate: How fast those who wait outside are let in.
        young: Whether slots are needed now. Looked up for every request.
    """

    def __init__(
        self,
        slots: int,
        queue: HoldQueue,
        is_open: Callable[[], bool],
        clock: Clock,
        return_seconds: float,
    ) -> None:
        self.least_slots: int = slots
        self._queue = queue
        self._is_open = is_open
        self._clock = clock
        self._release = Release(slots, clock, return_seconds)
        self.rate: AdmissionRate = AdmissionRate()
        self.begin_anew()

    # -- when it is in use -------------------------------------------------------------------------

    def begin_anew(self) -> None:
        """Forget an earlier start-up, whose event loop may be gone with all who waited on it."""
        self.young: bool = False
        self._run: object | None = None  # the `run` that counts ticks
        self._wake = anyio.Event()
        self._working: dict[Ticket, None] = {}
        self._turns: OrderedDict[Ticket, _Turn] = OrderedDict()
        self._inside_in_row = 0
        self._tick = 0
        self.rate.begin_anew()
        self._patience = PatienceByPath()
        self._release.begin_anew()

    def close(self) -> None:
        """The service is not ready: whoever comes from now on is let in one by one."""
        self.young = self._run is not None
        self._release.begin()

    def refused(self, seconds: float) -> None:
        """Someone was turned away, and is asked to come back in so many seconds."""
        self._release.refused(seconds, is_open=self._is_open())

    def end(self) -> None:
        """No one needs a slot any more."""
        self.young = False
        self._working.clear()
        while self._turns:
            _, turn = self._turns.popitem(last=False)
            turn.granted.set()

    async def run(self) -> None:
        """Count ticks while they matter, until cancelled."""
        self._run = this = object()
        self._wake = anyio.Event()
        self.young = True
        try:
            while True:
                if self._is_idle():
                    self._release.ticked(None)
                    self._wake = anyio.Event()
                    await self._wake.wait()
                now = self._clock.now()
                self._release.ticked(now)
                due_at = now + TICK_SECONDS
                with self._clock.cancel_at(due_at):
                    await anyio.sleep_forever()
                self._release.ticked(self._clock.now())
                self._count_tick()
        finally:
            if self._run is this:  # not the late end of one whose event loop was given up
                self._run = None
                self.end()

    # -- slots -------------------------------------------------------------------------------------

    def enter(self, ticket: Ticket) -> bool:
        """Begin the first unit of a request at once, if a slot is free and no one waits for it."""
        if not self.young:
            return True
        ticket.early = self._release.is_early()
        if self._somebody_waits() or len(self._working) >= self._release.slots:
            return False
        self._begin(ticket)
        return True

    async def turn(self, ticket: Ticket) -> None:
        """Begin the next unit, once there is a slot for it."""
        if not self.young:
            return
        if ticket in self._working:
            if self._may_go_on(ticket):
                if not ticket.unanswered:
                    self._begin(ticket)
                return
        elif len(self._working) < self._release.slots and not self._turns:
            self._begin(ticket)
            return
        await self._wait_for_slot(ticket)

    async def _wait_for_slot(self, ticket: Ticket) -> None:
        if ticket.spoken or self._tick - ticket.freed_tick > _IDLE_TICKS:
            ticket.early = False
        self._release.unsettled()
        turn = self._turns.get(ticket)
        if turn is None:
            turn = self._turns[ticket] = _Turn()
            if ticket.called:
                self._turns.move_to_end(ticket, last=False)
        turn.waiting += 1
        self.advance()
        try:
            await turn.granted.wait()
        except BaseException:
            # It keeps its place: a handler may stop waiting again and again, as with a time limit.
            turn.waiting -= 1
            if turn.granted.is_set() and not turn.waiting:
                ticket.called, ticket.granted = True, False
                self._free(ticket)
            raise

    def rest(self, ticket: Ticket) -> None:
        """The unit has ended: the handler waits for its next message."""
        if ticket.began_tick is not None:
            self._limit(ticket).learn(self._tick - ticket.began_tick)
        self._free(ticket)

    def leave(self, ticket: Ticket, *, client_left: bool = False) -> None:
        """The handler has ended. If its client left, its work may have been over long before.

        One that only pushes ends when its client leaves, or late, when it is cancelled.
        """
        if ticket.answering and ticket.began_tick is not None:
            late = self._tick - ticket.began_tick > self._limit(ticket).most
            if client_left or late:
                ticket.began_tick = None  # learn nothing from it
        self.rest(ticket)

    def answering(self, ticket: Ticket) -> None:
        """The handler has sent something."""
        if ticket.answering or ticket.began_tick is None:
            return
        self._limit(ticket).learn(self._tick - ticket.began_tick)
        ticket.answering = True
        ticket.began_tick = self._tick
        # The tick that is under way is not a whole one.
        ticket.until_tick = min(ticket.until_tick, self._tick + self._limit(ticket).ticks)

    def go_on(self, ticket: Ticket) -> None:
        """The handler has more to do, and its patience begins anew."""
        if ticket in self._working:
            self._begin(ticket)

    def failed(self) -> None:
        """A handler failed: if there are more slots than at first, they are too many."""
        self._release.failed()

    def advance(self) -> None:
        """Give out the free slots."""
        while len(self._working) < self._release.slots:
            outside = bool(self._queue.waiting) and self._is_open()
            if self._turns and not (outside and self._inside_in_row >= _INSIDE_IN_A_ROW):
                ticket, turn = self._turns.popitem(last=False)
                ticket.called = not turn.waiting
                ticket.granted = not ticket.called
                if ticket.granted:
                    self._inside_in_row += 1
                    self._begin(ticket)
                    turn.granted.set()
            elif outside:
                ticket = self._queue.take_first()
                self._inside_in_row = 0
                if self.young:
                    self._begin(ticket)
                if ticket.decide(Outcome.ADMITTED) is Outcome.ADMITTED:
                    self.rate.let_in()
                else:
                    self._working.pop(ticket, None)  # it had given up already
            else:
                return

    # -- inside ------------------------------------------------------------------------------------

    def _begin(self, ticket: Ticket) -> None:
        if ticket not in self._working:
            self._working[ticket] = None
            ticket.slot_tick = self._tick
            ticket.unanswered = 0
        if ticket.patience is None:
            ticket.patience = self._patience.of(ticket.path)
        ticket.began_tick = self._tick
        ticket.until_tick = self._tick + ticket.patience.silent.ticks
        ticket.answering = False
        self._wake.set()

    def _free(self, ticket: Ticket) -> None:
        ticket.began_tick = None
        ticket.unanswered = 0
        if ticket in self._working:
            del self._working[ticket]
            ticket.freed_tick = self._tick
            self.advance()

    def _limit(self, ticket: Ticket) -> Limit:
        ticket.patience = ticket.patience or self._patience.of(ticket.path)
        return ticket.patience.answering if ticket.answering else ticket.patience.silent

    def _may_go_on(self, ticket: Ticket) -> bool:
        """Whether a handler that has a slot gets its next message with it."""
        is_new = not ticket.answering and self._tick - ticket.slot_tick < SILENT_TICKS
        return is_new or not self._somebody_waits()

    def _somebody_waits(self) -> bool:
        return bool(self._turns) or bool(self._queue.waiting)

    def _is_idle(self) -> bool:
        return not self.young or not (self._working or self._is_open())

    def _count_tick(self) -> None:
        self._tick += 1
        overdue = [ticket for ticket in self._working if ticket.until_tick < self._tick]
        for ticket in overdue:
            del self._working[ticket]
            ticket.freed_tick = self._tick
            self._limit(ticket).outlived(self.least_slots)
        self.advance()
        is_open = self._is_open()
        self.rate.tick(self._clock.now(), others_wait=bool(self._queue.waiting) and is_open)
        if not is_open:
            self._release.unsettled()
            return
        self._release.count_tick(len(self._queue.waiting) + len(self._turns), self._early_one_waits)
        if self._release.over:
            self.end()

    def _early_one_waits(self) -> bool:
        return any(ticket.early for ticket in (*self._queue.waiting, *self._turns))
