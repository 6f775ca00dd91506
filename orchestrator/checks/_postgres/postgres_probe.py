"""`postgres`, and the probe that it makes."""

import math
from functools import partial

import anyio.lowlevel

from orchestrator._hardening.arguments import wrong_type
from orchestrator._ports import ProbeResult, Target
from orchestrator._probing.blocking_probe import BlockingProbe
from orchestrator.checks._postgres.given_source import Password, source_of
from orchestrator.checks._postgres.postgres_session import PostgresSession
from orchestrator.checks._postgres.postgres_settings import PostgresServer


class PostgresProbe(BlockingProbe[PostgresSession]):
    """See `postgres`."""

    def __init__(
        self, source: object, *, password: Password | None, pool_stuck_seconds: float
    ) -> None:
        given: object = pool_stuck_seconds
        if isinstance(given, bool) or not isinstance(given, int | float):
            raise wrong_type(given, "pool_stuck_seconds", "a number", "give seconds")
        if not 0 < given <= math.inf:
            raise ValueError(f"pool_stuck_seconds is {given!r}; it must be above 0")
        function: object = password
        if function is not None and not callable(function):
            write = "write it into the DSN, or give a function"
            raise wrong_type(function, "password", "a function", write)
        settings, known, self._watch = source_of(source, password, pool_stuck_seconds)
        self._first = PostgresServer("PostgreSQL") if known is None else known.servers[0]
        self._database = "" if known is None else known.database
        super().__init__(partial(PostgresSession, settings, self._first), "postgres-probe")

    def __repr__(self) -> str:
        return f"<PostgresProbe of {self._first.where}>"

    @property
    def target(self) -> Target:
        """The first server."""
        first = self._first
        port = None if first.path else first.port
        place = first.path or first.host
        return Target("postgresql", place, port or None, self._database, operation="SELECT")

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        """Ask once, for at most `timeout_seconds` in total; and look at the pool, if there is one.

        Raises:
            ValueError: When `timeout_seconds` is not a positive number.
        """
        result = await super().attempt(timeout_seconds)
        if result.failure is None and not result.void and self._watch is not None:
            await anyio.lowlevel.checkpoint()
            return ProbeResult(result.latency_seconds, self._watch.fault(), result.loop_lag_seconds)
        return result


def postgres(
    source: object,
    *,
    password: Password | None = None,
    pool_stuck_seconds: float = 30.0,
) -> PostgresProbe:
    """A probe that logs in to PostgreSQL and asks it a query, on one connection of its own.

    The connection stays open between attempts, so its end is noticed at once, and a database that
    takes no more connections is still seen to answer. It works on asyncio and trio, and needs no
    driver: the limits of libpq and drivers are for each host and each read, so a server that is
    silent or sends one byte at a time outlasts them. Failed logins are told apart by their codes,
    whatever the server's language.

    A pool or an engine is never asked for a connection: a pool that is busy is no outage. Its
    settings are taken over, and its state is watched: the attempt fails if the pool is closed or
    stuck.

    Example::

        Check("database", postgres("postgresql://app:secret@db.internal/orders"))

    Args:
        source: A DSN as for libpq, a URI or keywords, also `postgresql+asyncpg://` and the like;
            an engine of SQLAlchemy, sync or async, or its URL; a pool of psycopg_pool or asyncpg;
            an entry of Django's `DATABASES`.
            What a DSN leaves out comes from where libpq looks: the environment (`PGHOST`, ...), the
            service file and the password file. All its servers share the time of an attempt.
        password: Gives the password for each new connection, such as a token; called in the
            probe's thread.
        pool_stuck_seconds: A pool with no connection left is stuck when none came back for so long;
            `math.inf` for never. asyncpg's pool does not say enough to tell.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When the source cannot be used. The text names the option, and holds no part of
            a DSN.
    """
    return PostgresProbe(source, password=password, pool_stuck_seconds=pool_stuck_seconds)
