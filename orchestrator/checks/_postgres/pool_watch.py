"""Whether the application's own pool works, seen without taking a connection from it.

A pool that is merely busy is no fault: all replicas are busy at once, and would all leave rotation
at once. It is stuck if every connection is out, and none has come back for a long time.
"""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from orchestrator._probing.call_session import failed
from states import Failure


@runtime_checkable
class PsycopgPool(Protocol):
    """What is needed of a pool of psycopg_pool, sync or async."""

    conninfo: object
    kwargs: object

    @property
    def closed(self) -> bool:
        """Whether it is closed, or not open yet."""
        ...

    def get_stats(self) -> Mapping[str, int]:
        """Its counters."""
        ...


@runtime_checkable
class AsyncpgPool(Protocol):
    """What is needed of a pool of asyncpg."""

    _connect_args: Sequence[object]
    _connect_kwargs: Mapping[str, object]

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        ...


class _Dispatch(Protocol):
    do_connect: Sequence[Callable[..., object]]


class _Dialect(Protocol):
    name: str
    dispatch: _Dispatch


@runtime_checkable
class SqlalchemyEngine(Protocol):
    """What is needed of an engine of SQLAlchemy."""

    dialect: _Dialect
    pool: object

    def dispose(self) -> None:
        """Start a new pool."""
        ...


@runtime_checkable
class _QueuePool(Protocol):
    _max_overflow: int

    def size(self) -> int: ...
    def checkedout(self) -> int: ...


PoolProgress = Callable[[], Hashable | None]
"""A value that changes with each connection that comes back; `None` while some are not out."""


class PoolWatch:
    """Looks at a pool after each attempt.

    Args:
        is_closed: Whether the application has closed it.
        progress: Shows whether it moves.
        stuck_seconds: How long it may make no progress.
    """

    def __init__(
        self, is_closed: Callable[[], bool], progress: PoolProgress, stuck_seconds: float
    ) -> None:
        self._is_closed = is_closed
        self._progress = progress
        self._stuck_seconds = stuck_seconds
        self._seen: Hashable | None = None
        self._since = 0.0

    def fault(self) -> Failure | None:
        """What is wrong with the pool, if anything."""
        if self._is_closed():
            return failed("PoolClosed", "the application's pool is closed, or not open yet")
        progress, now = self._progress(), time.monotonic()
        if progress is None or progress != self._seen:
            self._seen, self._since = progress, now
        if progress is None or now - self._since < self._stuck_seconds:
            return None
        limit = f"for {self._stuck_seconds:g} s"
        reason = (
            f"the application's pool is stuck: no connection came back {limit}, and none is left"
        )
        return failed("PoolStuck", f"{reason}; the database itself answers")


def progress_of_psycopg(pool: PsycopgPool) -> PoolProgress:
    """By the requests that were served; a pool without a queue is not stuck."""

    def progress() -> Hashable | None:
        stats = pool.get_stats()
        waiting = stats.get("requests_waiting", 0)
        if not waiting or stats.get("pool_available", 0):
            return None
        return stats.get("requests_num", 0) - waiting - stats.get("requests_errors", 0)

    return progress


def progress_of_sqlalchemy(engine: SqlalchemyEngine) -> PoolProgress:
    """By an event of the engine's, which counts what comes back."""
    from sqlalchemy import event  # the engine has loaded it

    returned = 0

    def count(*_connection: object) -> None:
        nonlocal returned
        returned += 1

    event.listen(engine, "checkin", count)

    def progress() -> Hashable | None:
        pool = engine.pool
        if not isinstance(pool, _QueuePool) or pool._max_overflow < 0:  # noqa: SLF001  nothing else says it
            return None
        return returned if pool.checkedout() >= pool.size() + pool._max_overflow else None  # noqa: SLF001  as above

    return progress
