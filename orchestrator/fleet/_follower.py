"""The thread that reads a fleet: it connects, reads turn by turn, and backs off when Redis is away.

A thread of its own, as the probe's worker is: a connection blocks, and the thread is the same on
asyncio and trio. It is a daemon, and never waited for. Whatever a turn brings goes to `deliver`.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable

from orchestrator.fleet._changes import ChangeBook
from orchestrator.fleet._fleet_reader import Delivery, FleetReader
from orchestrator.fleet._fleet_source import DemotedError
from orchestrator.fleet._group_source import GroupSource, Membership
from orchestrator.fleet._link import LinkError
from orchestrator.fleet._reader_link import ReaderLink, RefusedReply
from orchestrator.fleet._redis_source import RedisSource, UnexpectedReplyError
from orchestrator.fleet._replies import is_read_only
from orchestrator.fleet._wire import FleetKeys
from orchestrator.redis._settings import RedisSettings
from states import Failure, FailureKind, Policy

_WAIT_FOR_ROOM_SECONDS = 0.05


def pause_seconds(policy: Policy, failures_in_row: int, failure: Failure, share: float) -> float:
    """How long to wait before the next connection, as the probe does.

    Args:
        policy: Its numbers for retries count.
        failures_in_row: How many attempts have failed.
        failure: Why the last one did.
        share: A random number between 0 and 1.
    """
    if failure.kind is FailureKind.PERMANENT:
        step = policy.permanent_retry_seconds
    else:
        exponent = min(failures_in_row - 1, 64)
        step = policy.retry_first_seconds * policy.retry_growth**exponent
        step = min(step, policy.retry_steady_seconds)
    return step * (1 - policy.retry_jitter + 2 * policy.retry_jitter * share)


class Follower:
    """Reads one fleet in a thread of its own.

    Args:
        settings: Where Redis is, from `reader_settings`.
        keys: The keys of the service.
        book: What was given out before.
        membership: The member of a group that it reads as; `None` without a group.
        deliver: Called in the thread for each turn, also for one that brought nothing new; and
            when Redis is lost, with the reason.
        has_room: Says whether more changes are welcome.
        ended: Called in the thread at its end.
    """

    def __init__(
        self,
        settings: RedisSettings,
        keys: FleetKeys,
        book: ChangeBook,
        membership: Membership | None,
        deliver: Callable[[Delivery, Failure | None], None],
        has_room: Callable[[], bool],
        ended: Callable[[], object],
    ) -> None:
        self._settings = settings
        self._link = ReaderLink(settings)
        self._keys = keys
        self._membership = membership
        self._deliver = deliver
        self._has_room = has_room
        self._ended = ended
        self._reader = FleetReader(book, time.monotonic, time.time)
        self._closing = threading.Event()
        self._policy = Policy()
        self._failures_in_row = 0
        self._thread = threading.Thread(target=self._run, name="fleet-reader", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """End it soon; nothing is waited for."""
        self._closing.set()
        self._link.interrupt()

    # -- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._read_until_lost()
            if self._membership is not None:
                with contextlib.suppress(Exception):  # then another member takes over the rest
                    self._leave(self._membership)
        finally:
            self._ended()

    def _read_until_lost(self) -> None:
        try:
            self._read()
        except Exception as error:  # each is a reason to connect anew
            if self._closing.is_set():
                return
            failure = read_failure(error, self._link)
            self._failures_in_row += 1
            self._deliver(self._reader.lose(failure.reason), failure)
            share = random.random()
            self._closing.wait(pause_seconds(self._policy, self._failures_in_row, failure, share))

    def _read(self) -> None:
        """Connect, and read until the connection ends."""
        try:
            self._link.open()
            source = self._source(self._link)
            self._deliver(self._reader.connect(source), None)
            self._failures_in_row = 0
            while not self._closing.is_set():
                if not self._has_room():
                    self._closing.wait(_WAIT_FOR_ROOM_SECONDS)
                    continue
                self._deliver(self._reader.turn(source), None)
        finally:
            self._link.close()

    def _source(self, link: ReaderLink) -> RedisSource:
        if self._membership is None:
            return RedisSource(link, self._keys)
        return GroupSource(link, self._keys, self._membership)

    def _leave(self, membership: Membership) -> None:
        link = ReaderLink(self._settings)
        try:
            link.open()
            GroupSource(link, self._keys, membership).leave()
        finally:
            link.close()


def read_failure(error: Exception, link: ReaderLink) -> Failure:
    """Why reading failed; the connection can't be used any more."""
    match error:
        case LinkError():
            return error.failure
        case RefusedReply():
            return link.refused(error).failure
        case UnexpectedReplyError():
            return link.wrong_answer().failure
        case DemotedError():
            return is_read_only(link.where)
        case _:
            name = type(error).__name__
            return Failure(FailureKind.TRANSIENT, name, f"{link.where} could not be read: {name}")
