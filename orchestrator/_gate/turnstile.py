"""How many handlers work at the same time while `ready` is young.

When a service becomes ready, its early clients are all there at once: those that were held, and
those that were refused and come back. A pool of 100 connections fails 900 of 1,000 that enter
together, whatever each handler does first. So while `ready` is young, a handler needs one of
`slots` to work:

- A unit of work begins when a request or a message is handed to the handler. It ends with the
  handler's next `receive`, or with the handler. A handler that waits in `receive` has no slot.
- A free slot goes to those who are inside and have a message first, and to the line of those who
  wait outside otherwise; every fourth one goes to the line whatever waits inside, so that a chatty
  crowd starves nobody.
- A handler that neither receives nor ends is given up on after a while: 6 s where it sent nothing,
  0.5 s where it has sent something since its unit began. The first of a kind that stays on teaches
  the turnstile: from then on it waits only for twice the longest unit that did end. So handlers
  that only push are let in quickly, and long work is not taken for pushing.
- Where another task than the handler's own receives, as in frameworks that read ahead or where one
  task reads and another writes, `receive` says nothing of the handler: its unit ends soon after it
  has sent something, or has opened and got no message.

Time counts in ticks, which stand still while the event loop does: a process that was frozen has not
worked meanwhile. The turnstile ends once nobody has waited for a calm second, and those that were
refused have had the time to come back. A service that is busy from then on, so that somebody waits
for 10 s on end and none of them is an early client, gets more slots, step by step, until a handler
fails or nobody waits: that is no start-up any more, but what the service needs.
"""

import math
from collections import OrderedDict
from collections.abc import Callable

import anyio

from orchestrator._gate.hold_queue import Line, Outcome, Place
from orchestrator._ports import Clock

TICK_SECONDS = 0.05

SILENT_TICKS = 120
"""6 s: how long a handler may work without any sign. Longer than most work, and short enough for
those behind it: most clients give up on a handshake after 10 s."""

ANSWERING_TICKS = 10
"""0.5 s: the same once it has sent something."""

SETTLE_TICKS = 2
"""0.1 s: the least patience, and that with a handler whose `receive` says nothing."""

CALM_TICKS = 20
"""1 s in which nobody waited."""

GROW_AFTER_TICKS = 200
"""10 s in which somebody waited on end."""

_INSIDE_IN_A_ROW = 3
_RETURN_MARGIN_SECONDS = 1.0


class Turnstile:
    """Gives out slots to work in.

    Args:
        slots: How many handlers may work at the same time.
        line: Those who wait outside.
        is_open: Whether those outside may be let in now.
        clock: The time.
        return_seconds: How long those who are refused are asked to stay away at most.

    Attributes:
        young: Whether slots are needed now. Looked up for every request.
    """

    def __init__(
        self,
        slots: int,
        line: Line,
        is_open: Callable[[], bool],
        clock: Clock,
        return_seconds: float,
    ) -> None:
        self.young: bool = False
        self._slots = self._least_slots = slots
        self._line = line
        self._is_open = is_open
        self._clock = clock
        self._return_seconds = return_seconds + _RETURN_MARGIN_SECONDS
        self._returning_until = -math.inf
        self._early_until = math.inf
        self._running = False
        self._wake = anyio.Event()
        self._working: dict[Place, None] = {}
        self._turns: OrderedDict[Place, anyio.Event] = OrderedDict()
        self._inside_in_row = 0
        self._tick = 0
        self._calm_ticks = 0
        self._full_ticks = 0
        self._backlog = 0
        self._longest = 0  # ticks of the longest unit that ended by itself
        self._silent_ticks = SILENT_TICKS
        self._answering_ticks = ANSWERING_TICKS

    # -- when it is in use -------------------------------------------------------------------------

    def begin_anew(self) -> None:
        """Forget an earlier start-up, whose event loop may be gone with all who waited on it."""
        self.young = self._running = False
        self._working.clear()
        self._turns.clear()
        self._slots = self._least_slots
        self._returning_until, self._early_until = -math.inf, math.inf
        self._calm_ticks = self._full_ticks = 0

    def close(self) -> None:
        """The service is not ready: whoever comes later than now is let in one by one."""
        if not self.young:
            self.young = self._running
            self._slots = self._least_slots
            self._calm_ticks = self._full_ticks = 0
        self._early_until = math.inf

    def refused(self) -> None:
        """Somebody was turned away, and will be back."""
        self._returning_until = self._clock.now() + self._return_seconds

    def end(self) -> None:
        """Nobody needs a slot any more."""
        self.young = False
        self._working.clear()
        while self._turns:
            _, granted = self._turns.popitem(last=False)
            granted.set()

    async def run(self) -> None:
        """Count ticks while they matter, until cancelled."""
        self._running = self.young = True
        try:
            while True:
                if self._is_idle():
                    self._wake = anyio.Event()
                    await self._wake.wait()
                due_at = self._clock.now() + TICK_SECONDS
                with self._clock.cancel_at(due_at):
                    await anyio.sleep_forever()
                if self._clock.now() - due_at > TICK_SECONDS:
                    self._calm_ticks = 0  # whoever came while the loop stood still comes now
                self._count_tick()
        finally:
            self._running = False
            self.end()

    # -- slots -------------------------------------------------------------------------------------

    def enter(self, place: Place) -> bool:
        """Begin the first unit of a request at once, if a slot is free and nobody waits for it."""
        if not self.young:
            return True
        place.early = self._is_early()
        if self._line.waiting or len(self._working) >= self._slots:
            return False
        self._begin(place)
        return True

    async def turn(self, place: Place) -> None:
        """Begin the next unit, once there is a slot for it.

        A handler that works already goes on with the slot that it has.
        """
        if not self.young:
            return
        if place in self._working or len(self._working) < self._slots:
            self._begin(place)
            return
        self._calm_ticks = 0
        granted = self._turns.setdefault(place, anyio.Event())
        try:
            await granted.wait()
        except BaseException:
            if self._turns.pop(place, None) is None:
                self._free(place)  # it was granted in the same moment
            raise

    def rest(self, place: Place) -> None:
        """The unit has ended: the handler waits for its next message."""
        if place.began_tick is not None:
            self._learn(self._tick - place.began_tick)
        self._free(place)

    def leave(self, place: Place) -> None:
        """The handler has ended."""
        if place.answering:
            self._free(place)  # one that pushes ends when its client leaves, which says nothing
        else:
            self.rest(place)

    def answering(self, place: Place) -> None:
        """The handler has sent something."""
        if not place.answering:
            place.answering = True
            self._shorten(place, self._answering_ticks)

    def settle(self, place: Place) -> None:
        """Nothing will tell when the unit ends, and it probably has."""
        place.answering = True
        self._shorten(place, SETTLE_TICKS)

    def go_on(self, place: Place) -> None:
        """The handler has more to do, and its patience begins anew."""
        if place in self._working:
            self._begin(place)

    def failed(self) -> None:
        """A handler failed: if there are more slots than at first, they are too many."""
        if self._slots > self._least_slots:
            self._slots = max(self._least_slots, self._slots * 3 // 4)
            self._full_ticks = -GROW_AFTER_TICKS

    def advance(self) -> None:
        """Give out what is free."""
        while len(self._working) < self._slots:
            outside = bool(self._line.waiting) and self._is_open()
            if self._turns and not (outside and self._inside_in_row >= _INSIDE_IN_A_ROW):
                place, granted = self._turns.popitem(last=False)
                self._inside_in_row += 1
                self._begin(place)
                granted.set()
            elif outside:
                place = self._line.take_first()
                self._inside_in_row = 0
                if self.young:
                    self._begin(place)
                if place.decide(Outcome.ADMITTED) is not Outcome.ADMITTED:
                    self._working.pop(place, None)  # it had given up already
            else:
                return

    # -- inside ------------------------------------------------------------------------------------

    def _free(self, place: Place) -> None:
        place.began_tick = None
        if place in self._working:
            del self._working[place]
            self.advance()

    def _begin(self, place: Place) -> None:
        self._working[place] = None
        place.began_tick = self._tick
        place.until_tick = self._tick + self._silent_ticks
        place.answering = False
        self._wake.set()

    def _shorten(self, place: Place, ticks: int) -> None:
        # The tick that is under way is not a whole one.
        place.until_tick = min(place.until_tick, self._tick + ticks)

    def _is_idle(self) -> bool:
        return not self.young or not (self._working or self._is_open())

    def _count_tick(self) -> None:
        self._tick += 1
        overdue = [place for place in self._working if place.until_tick < self._tick]
        for place in overdue:
            del self._working[place]
            self._give_up_on(place)
        self.advance()
        self._count_calm()
        self._count_full()

    def _give_up_on(self, place: Place) -> None:
        patience = max(SETTLE_TICKS, 2 * self._longest)
        if place.answering:
            self._answering_ticks = min(patience, ANSWERING_TICKS)
        else:
            self._silent_ticks = min(patience, SILENT_TICKS)

    def _learn(self, ticks: int) -> None:
        if ticks > self._longest:
            self._longest = ticks
            if self._silent_ticks < SILENT_TICKS:
                self._silent_ticks = min(max(self._silent_ticks, 2 * ticks), SILENT_TICKS)
            if self._answering_ticks < ANSWERING_TICKS:
                self._answering_ticks = min(max(self._answering_ticks, 2 * ticks), ANSWERING_TICKS)

    def _count_calm(self) -> None:
        if self._line.waiting or self._turns or not self._is_open():
            self._calm_ticks = 0
            return
        self._calm_ticks += 1
        if self._calm_ticks > CALM_TICKS and self._clock.now() >= self._returning_until:
            self.end()

    def _count_full(self) -> None:
        """Give the service more slots, if it needs more than a start-up does."""
        backlog = len(self._line.waiting) + len(self._turns)
        if not backlog:
            self._full_ticks = min(self._full_ticks, 0)
            return
        self._full_ticks += 1
        if self._full_ticks >= GROW_AFTER_TICKS and self._full_ticks % CALM_TICKS == 0:
            early = any(place.early for place in (*self._line.waiting, *self._turns))
            if backlog >= self._backlog and not early:
                self._slots += max(1, self._slots // 4)
            self._backlog = backlog

    def _is_early(self) -> bool:
        now = self._clock.now()
        if self._early_until == math.inf:  # nobody came since it opened
            self._early_until = now + self._return_seconds
        return now < self._early_until
