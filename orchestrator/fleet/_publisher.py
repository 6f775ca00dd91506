"""The thread that tells Redis how an instance stands.

The event loop only notes facts (`note`); everything else happens here, so it is alike on asyncio
and trio, and a Redis that hangs delays nothing. In turn, the thread

- takes the facts, and keeps the last 256 changes of stage (`FleetBacklog`);
- connects, once it may (`KnockPace`);
- beats, and appends what Redis lacks (`OwnMessages`); if that is refused, beats go on, and say so;
- waits until something happens, or it is time for the next beat.

Whatever fails is said once, and tried again later from where Redis then stands. When the
orchestrator is left, it appends what is left and says goodbye, if Redis can be reached at once.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from random import Random

from orchestrator._hardening.log_thread import logger
from orchestrator.fleet._backlog import FleetBacklog
from orchestrator.fleet._doorbell import Doorbell
from orchestrator.fleet._housekeeping import Housekeeping
from orchestrator.fleet._knock_pace import KnockPace
from orchestrator.fleet._link import FleetLink, LinkError
from orchestrator.fleet._loop_watch import LoopWatch
from orchestrator.fleet._own_messages import OwnMessages
from orchestrator.fleet._own_state import OwnState
from orchestrator.fleet._trouble_log import TroubleLog
from orchestrator.fleet._wire import FleetKeys
from states import Fact, FailureKind, ProbeFailed, ProbeSucceeded, StageChanged

_LOOK_SECONDS = 2.0
"""How often to look at the event loop, whether or not Redis can be reached."""

_MOST_FACTS = 8192
_SAID_FROM = 3
"""A connection that breaks is no news, as the probe says so too; but not if this goes on."""

_Noted = tuple[Fact, StageChanged | None]


class Publisher:
    """Publishes one start-up, from entering to leaving.

    Args:
        link: The way to Redis.
        own: What the instance says of itself.
        keys: Where to write it.
        service: The service.
        incarnation: The name of this start-up.
        pace: When Redis may be asked.
        watch: Looks at the event loop.
    """

    def __init__(
        self,
        link: FleetLink,
        own: OwnState,
        keys: FleetKeys,
        service: str,
        incarnation: str,
        pace: KnockPace,
        watch: LoopWatch,
    ) -> None:
        self._link = link
        self._own = own
        self._housekeeping = Housekeeping(link, keys, service)
        self._messages = OwnMessages(link, own, keys, incarnation, self._housekeeping)
        self._pace, self._append_pace = pace, pace.apart()
        self._watch = watch
        self._random = Random()
        self._noted: deque[_Noted] = deque(maxlen=_MOST_FACTS)
        self._doorbell = Doorbell()
        self._answers = False
        self._leaving = False
        self._beat_at = -math.inf
        self._troubles = TroubleLog()
        self._thread = threading.Thread(target=self._run, name="orchestrator-fleet", daemon=True)

    # -- on the event loop -------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def note(self, fact: Fact, changed: StageChanged | None) -> None:
        """Something happened."""
        self._noted.append((fact, changed))
        kind, answers = type(fact), self._answers
        if kind is ProbeSucceeded or kind is ProbeFailed:
            answers = kind is ProbeSucceeded
        if changed is not None or answers is not self._answers:
            self._answers = answers
            self._doorbell.ring()

    def leave(self) -> None:
        """Nothing follows: say what is left, and goodbye."""
        self._leaving = True
        self._doorbell.ring()

    @property
    def fleet_size(self) -> int | None:
        """How many instances are alive; see `LivingCount`."""
        return self._messages.living.size

    @property
    def backlog(self) -> FleetBacklog:
        """The last changes of stage."""
        return self._messages.backlog

    @property
    def said(self) -> frozenset[str]:
        """The kinds of trouble that were logged, each once."""
        return frozenset(self._troubles.kinds)

    @property
    def connects(self) -> int:
        """How many connections were tried."""
        return self._link.connects

    @property
    def is_over(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    def give_up(self) -> None:
        """Do not wait for Redis any longer."""
        self._link.interrupt()

    def abandon(self) -> None:
        """This process is a fork of the one that publishes."""
        self._link.abandon()

    # -- in the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not (self._leaving or self._watch.loop_has_ended):
                self._turn()
                self._wait()
            if self._leaving:
                self._say_goodbye()
        except BaseException as error:  # nothing may be raised in a thread of ours
            logger.error("the fleet is published no longer", error=error)
        finally:
            self._link.close()

    def _turn(self) -> None:
        self._take_noted()
        self._look_at_loop()
        now = time.monotonic()
        pace = self._pace
        if now >= pace.next_at and (self._link.is_open or not pace.waits_for_probe):
            self._attempt(self._publish)

    def _attempt(self, step: Callable[[], None]) -> bool:
        """Do it; return whether Redis has done all of it."""
        try:
            step()
        except LinkError as error:
            self._fail(error)
            return False
        self._pace.succeeded()
        return True

    def _publish(self) -> None:
        self._connect()
        if time.monotonic() >= self._beat_at:
            self._beat()
        if time.monotonic() >= self._append_pace.next_at:
            self._append_or_wait()
        self._housekeeping.keep(all_could_beat=self._messages.living.is_right(time.monotonic()))

    def _append_or_wait(self) -> None:
        """Append what Redis lacks; if it refuses, try later, and say so with a beat."""
        before = self._messages.held_back
        try:
            self._messages.append()
        except LinkError as error:
            if error.closed:
                raise
            self._append_pace.failed(time.monotonic(), error.failure)
            self._troubles.say(error.failure)
            self._messages.held_back = error.failure.reason
        else:
            self._append_pace.succeeded()
            self._messages.held_back = ""
        if self._messages.held_back != before:
            self._beat_at = -math.inf  # it is news

    def _connect(self) -> None:
        if not self._link.is_open:
            self._beat_at = -math.inf
            self._link.open()
            self._messages.living.wait(time.monotonic(), self._messages.lease_seconds)

    def _take_noted(self) -> None:
        while self._noted:
            fact, changed = self._noted.popleft()
            if isinstance(fact, ProbeSucceeded | ProbeFailed):
                answers = isinstance(fact, ProbeSucceeded)
                self._pace.see_probe(time.monotonic(), answers=answers)
            entry = self._own.take(fact, changed)
            if entry is not None:
                self.backlog.add(entry)

    def _look_at_loop(self) -> None:
        stuck_seconds = self._watch.stuck_seconds()
        if stuck_seconds is None:
            self._messages.stuck_since = None
        elif self._messages.stuck_since is None:
            self._messages.stuck_since = self._messages.unix_now() - stuck_seconds
            self._beat_at = -math.inf  # it is news

    def _beat(self, *, left: bool = False) -> None:
        seconds = self._messages.beat(left=left)
        self._beat_at = time.monotonic() + seconds * self._random.uniform(0.9, 1.1)

    def _wait(self) -> None:
        now = time.monotonic()
        until = now + _LOOK_SECONDS
        if self._link.is_open or not self._pace.waits_for_probe:
            due = self._beat_at if self._link.is_open else now
            if self.backlog.behind:
                due = min(due, self._append_pace.next_at)
            until = min(until, max(due, self._pace.next_at))
        self._doorbell.wait(until - now)

    def _say_goodbye(self) -> None:
        self._take_noted()
        may = self._link.is_open or not self._pace.waits_for_probe
        if not may or self._pace.in_row:
            return  # Redis cannot be asked, and no exit waits for it
        if self._attempt(self._publish):
            self._attempt(lambda: self._beat(left=True))

    def _fail(self, error: LinkError) -> None:
        failure = error.failure
        self._pace.failed(time.monotonic(), failure)
        if error.closed:
            self._messages.connection_closed()
        said = not error.closed or failure.kind is FailureKind.PERMANENT
        if said or self._pace.in_row >= _SAID_FROM:
            self._troubles.say(failure)
