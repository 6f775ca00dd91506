"""Settings from what `postgres` was given: a DSN, an SQLAlchemy engine, or a pool.

None of its connections is used. Its settings are read again for each of our connections, since a
password may be a token that changes.
"""

import asyncio
import inspect
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from orchestrator._hardening.arguments import wrong_type
from orchestrator._hardening.text import mistake_in
from orchestrator._probing.protocol_fault import ProtocolFault
from orchestrator.checks._postgres.conninfo import TAKEN, hosts_of, options_of_dsn
from orchestrator.checks._postgres.pool_watch import (
    AsyncpgPool,
    PoolWatch,
    PsycopgPool,
    SqlalchemyEngine,
    progress_of_psycopg,
    progress_of_sqlalchemy,
)
from orchestrator.checks._postgres.postgres_settings import PostgresSettings, settings_of

Password = Callable[[], str]
ReadSettings = Callable[[], PostgresSettings]

_SAYS_WHERE = frozenset({"PGHOST", "PGHOSTADDR", "PGSERVICE"})
"""The variables that say where to connect, where a DSN does not."""

_INSTEAD = "give postgres() the DSN instead, with password=... if that is a function"


class GivenSource(NamedTuple):
    """What a probe is made of.

    Attributes:
        settings: Gives the settings for a new connection; may block, and raise.
        known: What is known of them without calling any function of the application.
        watch: Looks at the application's pool, where one was given.
    """

    settings: ReadSettings
    known: PostgresSettings | None
    watch: PoolWatch | None = None


def source_of(given: object, password: Password | None, stuck_seconds: float) -> GivenSource:
    """Recognise what was given.

    Raises:
        TypeError: When it is nothing that can be connected to.
        ValueError: When it cannot be taken over. The text holds no part of a DSN.
    """
    given = getattr(given, "sync_engine", given)
    match given:
        case str():
            return _of_dsn(given, password)
        case _SqlalchemyUrl():
            return _of_dsn(given.render_as_string(hide_password=False), password)
        case Mapping() if "ENGINE" in given:
            return _of_django(given, password)
        case SqlalchemyEngine():
            return _of_engine(given, password, stuck_seconds)
        case PsycopgPool():
            called = callable(given.conninfo) or callable(given.kwargs)
            watch = PoolWatch(lambda: given.closed, progress_of_psycopg(given), stuck_seconds)
            known = None if called else _of_psycopg(given, None)
            return GivenSource(lambda: _of_psycopg(given, password), known, watch)
        case AsyncpgPool():
            watch = PoolWatch(given.is_closing, lambda: None, stuck_seconds)
            known = _of_asyncpg(given, lambda: "")
            return GivenSource(lambda: _of_asyncpg(given, password), known, watch)
        case _:
            write = "write postgres('postgresql://user:password@host/database')"
            if given is None:
                write = "is the variable that it comes from set?"
            elif hasattr(given, "unicode_string"):  # of pydantic
                write = "write str(...), which is its text"
            raise wrong_type(given, "source", "a DSN, a pool or an SQLAlchemy engine", write)


@runtime_checkable
class _SqlalchemyUrl(Protocol):
    def render_as_string(self, hide_password: bool = True) -> str: ...


def _of_dsn(dsn: str, password: Password | None) -> GivenSource:
    if not dsn.strip() and _SAYS_WHERE.isdisjoint(
        name for name, text in os.environ.items() if text
    ):
        known = f"{', '.join(sorted(_SAYS_WHERE))} are not set"
        raise ValueError(
            f"the DSN {mistake_in(dsn, '')} As {known}, it would be a database of this machine; if"
            " that is what you mean, write postgresql://"
        )
    options = options_of_dsn(dsn)
    return GivenSource(lambda: _settled(options, password), settings_of(options))


_DJANGO = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}


def _of_django(database: Mapping[object, object], password: Password | None) -> GivenSource:
    """An entry of Django's setting `DATABASES`."""
    if not str(database["ENGINE"]).endswith(("postgresql", "postgis")):
        raise ValueError("the ENGINE is not one of PostgreSQL: use call(fn) for another database")
    options = database.get("OPTIONS")
    named = {str(name): value for name, value in _items(options)}
    named |= {option: database[name] for name, option in _DJANGO.items() if database.get(name)}
    return GivenSource(
        lambda: _of_arguments([], named, password), _of_arguments([], named, lambda: "")
    )


def _items(given: object) -> list[tuple[object, object]]:
    return [*given.items()] if isinstance(given, Mapping) else []


# -- SQLAlchemy ------------------------------------------------------------------------------------


def _of_engine(
    engine: SqlalchemyEngine, password: Password | None, stuck_seconds: float
) -> GivenSource:
    if engine.dialect.name not in ("postgresql", "cockroachdb"):
        raise ValueError("the engine is not one of PostgreSQL: use call(fn) for another database")
    # Nothing else says what was given as connect_args.
    creator = getattr(engine.pool, "_creator", None)
    arguments = inspect.getclosurevars(creator).nonlocals if inspect.isfunction(creator) else {}
    if "cparams" not in arguments:
        raise ValueError(f"the engine has a creator of its own, which cannot be asked: {_INSTEAD}")
    watch = PoolWatch(lambda: False, progress_of_sqlalchemy(engine), stuck_seconds)

    def arguments_now() -> tuple[list[object], dict[str, object]]:
        return [*arguments.get("cargs_tup", ())], {**arguments["cparams"]}

    def settings() -> PostgresSettings:
        positional, named = arguments_now()
        for listener in [*engine.dialect.dispatch.do_connect]:
            connection = listener(engine.dialect, None, positional, named)
            if isinstance(connection, _DriverConnection):
                connection.close()
            if connection is not None:
                reason = f"the engine's do_connect makes its connections itself: {_INSTEAD}"
                raise ProtocolFault("BadOptions", reason, permanent=True)
        return _of_arguments(positional, named, password)

    return GivenSource(settings, _of_arguments(*arguments_now(), lambda: ""), watch)


@runtime_checkable
class _DriverConnection(Protocol):
    def close(self) -> object: ...


# -- pools -----------------------------------------------------------------------------------------


def _of_psycopg(pool: PsycopgPool, password: Password | None) -> PostgresSettings:
    named = _called(pool.kwargs)
    named = named if isinstance(named, Mapping) else {}
    return _of_arguments([_called(pool.conninfo)], named, password)


def _of_asyncpg(pool: AsyncpgPool, password: Password | None) -> PostgresSettings:
    return _of_arguments(pool._connect_args, pool._connect_kwargs, password)  # noqa: SLF001  nothing else says it


def _called(value: object) -> object:
    """A value, or the result of the application's function, in an event loop if needed."""
    outcome = value() if callable(value) else value
    if not inspect.isawaitable(outcome):
        return outcome

    async def awaited() -> object:
        return await outcome

    return asyncio.run(awaited())  # this thread has no event loop of its own


def _of_arguments(
    positional: Sequence[object], named: Mapping[str, object], password: Password | None
) -> PostgresSettings:
    """The arguments of a driver's `connect`: of psycopg, psycopg2, asyncpg or pg8000."""
    dsn = next((one for one in (*positional, named.get("dsn")) if isinstance(one, str)), "")
    options = options_of_dsn(dsn)
    tls: ssl.SSLContext | None = None
    for name, given in named.items():
        # Where a function gives the password, this one need not be asked.
        value = _called(given) if name == "password" and password is None else given
        option = {"database": "dbname", "ssl": "sslmode", "ssl_context": "sslmode"}.get(name, name)
        match value:
            case ssl.SSLContext():
                tls = value
            case True if option == "sslmode":  # asyncpg and pg8000 verify all of it
                tls = ssl.create_default_context()
            case False if option == "sslmode":
                options[option] = "disable"
            case str() if option == "host":
                options |= hosts_of(value.split(","))
            case list() | tuple() if option in TAKEN:
                options[option] = ",".join(map(str, value))
            case str() | int() if option in TAKEN:
                options[option] = str(value)
    return _settled(options, password, tls)


def _settled(
    options: Mapping[str, str], password: Password | None, tls: ssl.SSLContext | None = None
) -> PostgresSettings:
    own = {} if password is None else {"password": str(_called(password))}
    return settings_of({**options, **own}, tls)
