"""The thread that reads a fleet: it connects, reads turn by turn, and backs off when Redis is away.

A thread of its own, as the probe's worker is: redis-py blocks, and the thread is the same on
asyncio and trio. It is a daemon, and never waited for. Whatever a turn brings goes to `deliver`.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable

from orchestrator.fleet._changes import ChangeBook
from orchestrator.fleet._fleet_reader import Delivery, FleetReader
from orchestrator.fleet._group_source import GroupSource, Membership
from orchestrator.fleet._read_failures import read_failure
from orchestrator.fleet._reader_connection import ReaderConnection
from orchestrator.fleet._redis_source import RedisSource
from orchestrator.fleet._wire import FleetKeys
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
        url: Where Redis is.
        keys: The keys of the service.
        book: What was given out before.
        membership: The member of a group that it reads as; `None` without a group.
        deliver: Called in the thread for each turn, also for one that brought nothing new; and
            when Redis is lost, with the reason.
        has_room: Says whether more changes are welcome.
        ended: Called in the thread at its end.

    Raises:
        ValueError: When the URL can't be used.
    """

    def __init__(
        self,
        url: str,
        keys: FleetKeys,
        book: ChangeBook,
        membership: Membership | None,
        deliver: Callable[[Delivery, Failure | None], None],
        has_room: Callable[[], bool],
        ended: Callable[[], object],
    ) -> None:
        self._url = url
        self._keys = keys
        self._membership = membership
        self._deliver = deliver
        self._has_room = has_room
        self._ended = ended
        self._reader = FleetReader(book, time.monotonic, time.time)
        self._closing = threading.Event()
        self._connection = ReaderConnection(url)
        self._policy = Policy()
        self._failures_in_row = 0
        self._thread = threading.Thread(target=self._run, name="fleet-reader", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """End it soon; nothing is waited for."""
        self._closing.set()
        self._connection.shut()

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
            failure = read_failure(error, self._connection.where)
            self._failures_in_row += 1
            self._deliver(self._reader.lose(failure.reason), failure)
            share = random.random()
            self._closing.wait(pause_seconds(self._policy, self._failures_in_row, failure, share))

    def _read(self) -> None:
        """Connect, and read until the connection ends."""
        self._connection = connection = ReaderConnection(self._url)
        try:
            connection.open()
            source = self._source(connection)
            self._deliver(self._reader.connect(source), None)
            self._failures_in_row = 0
            while not self._closing.is_set():
                if not self._has_room():
                    self._closing.wait(_WAIT_FOR_ROOM_SECONDS)
                    continue
                self._deliver(self._reader.turn(source), None)
        finally:
            connection.close()

    def _source(self, connection: ReaderConnection) -> RedisSource:
        if self._membership is None:
            return RedisSource(connection, self._keys)
        return GroupSource(connection, self._keys, self._membership)

    def _leave(self, membership: Membership) -> None:
        connection = ReaderConnection(self._url)
        try:
            connection.open()
            GroupSource(connection, self._keys, membership).leave()
        finally:
            connection.close()
