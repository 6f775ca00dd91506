"""What a client or a URL has of its own is taken over or refused by name, as a client shows."""

import functools
import importlib.util
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest
import redis
import redis.asyncio
from redis._parsers import Encoder

from orchestrator.redis import RedisProbe
from tests.redis.oracle import (
    BACKENDS,
    KINDS,
    Kind,
    by_client,
    by_url,
    no_retry,
    said_by_probe,
    said_by_probe_of,
)
from tests.redis_server import BY_REDIS_PY, GREETED, FakeServer, RedisServer, commands

SECRET = "correct-horse-9"  # a made-up one


@pytest.fixture
def backend() -> str:
    """Now the one and now the other: the greeting is a thread's."""
    return next(BACKENDS)


@pytest.fixture(scope="module")
def locked() -> Iterator[RedisServer]:
    with RedisServer(None, "--requirepass", SECRET) as server:
        yield server


@pytest.fixture(scope="module")
def unlocked() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


class Connection(Protocol):
    """What a function that greets uses of a connection of `redis`."""

    db: int
    _parser: Any

    def on_connect(self) -> object: ...

    def send_command(self, *words: object) -> object: ...

    def read_response(self) -> object: ...


class AsyncConnection(Protocol):
    """The same of `redis.asyncio`."""

    password: str

    async def on_connect(self) -> object: ...

    async def send_command(self, *words: object) -> object: ...

    async def read_response(self) -> object: ...


# -- redis_connect_func ---------------------------------------------------------------------------


def logs_in(connection: Connection) -> None:
    connection.on_connect()
    connection.send_command("AUTH", SECRET)
    connection.read_response()


def logs_in_with_its_own_greeting(connection: Connection) -> None:
    connection._parser.on_connect(connection)
    connection.send_command("AUTH", "default", SECRET)
    connection.read_response()
    connection.send_command("SELECT", connection.db or 0)
    connection.read_response()


def forgets_to_log_in(connection: Connection) -> None:
    connection._parser.on_connect(connection)


def finds_no_token(_connection: Connection) -> None:
    raise LookupError(SECRET)


def is_turned_away(_connection: Connection) -> None:
    raise redis.AuthenticationError(SECRET)


def logs_in_wrongly(connection: Connection) -> None:
    connection.on_connect()
    connection.send_command("AUTH", "wrong")
    connection.read_response()


async def logs_in_later(connection: AsyncConnection) -> None:
    await connection.on_connect()
    await connection.send_command("AUTH", SECRET)
    await connection.read_response()


async def finds_no_token_later(_connection: AsyncConnection) -> None:
    raise LookupError(SECRET)


async def logs_in_wrongly_later(connection: AsyncConnection) -> None:
    await connection.on_connect()
    await connection.send_command("AUTH", "wrong")
    await connection.read_response()


async def changes_the_connection(connection: AsyncConnection) -> None:
    connection.password = SECRET
    await connection.on_connect()


class LogsIn:
    def __call__(self, connection: Connection) -> None:
        logs_in(connection)


FUNCTIONS: tuple[tuple[Kind, Callable[[Any], object]], ...] = (
    *(
        (redis.Redis, function)
        for function in (
            logs_in,
            logs_in_with_its_own_greeting,
            forgets_to_log_in,
            finds_no_token,
            is_turned_away,
            logs_in_wrongly,
            functools.partial(logs_in),
            LogsIn(),
        )
    ),
    *(
        (redis.asyncio.Redis, function)
        for function in (
            logs_in_later,
            finds_no_token_later,
            logs_in_wrongly_later,
            changes_the_connection,
            finds_no_token,
            forgets_to_log_in,
        )
    ),
)


@pytest.mark.parametrize(("kind", "function"), FUNCTIONS)
@pytest.mark.parametrize("options", [{"protocol": 2}, {"db": 2}])
def test_a_function_of_the_application_greets(
    locked: RedisServer,
    kind: Kind,
    function: Callable[[Any], object],
    options: dict[str, int],
    backend: str,
) -> None:
    if "db" in options:
        options = {**options, "protocol": 2}
    made = functools.partial(
        kind, port=locked.port, redis_connect_func=function, retry=no_retry(), **options
    )
    verdict = by_client(backend, made, "redis_connect_func")
    assert verdict.agree, verdict
    assert SECRET not in verdict.probe
    if function in (finds_no_token, finds_no_token_later):
        assert "redis_connect_func" in verdict.probe
        assert "LookupError" in verdict.probe


def test_a_function_that_exits_ends_no_thread(locked: RedisServer, backend: str) -> None:
    def leaves(_connection: object) -> None:
        sys.exit(3)

    made: Kind = redis.Redis
    client = made(port=locked.port, redis_connect_func=leaves)
    for _ in range(2):
        said = said_by_probe(backend, lambda: RedisProbe.from_client(client))
        assert said.startswith("transient SystemExit: the redis_connect_func for redis at")


# -- credential providers -------------------------------------------------------------------------


def provider(
    sync: Callable[[], object] | None = None, later: Callable[[], object] | None = None
) -> redis.CredentialProvider:
    """One with the methods that are given."""
    methods: dict[str, object] = {}
    if sync is not None:
        methods["get_credentials"] = lambda _self: sync()
    if later is not None:

        async def get(_self: object) -> object:
            return later()

        methods["get_credentials_async"] = get
    made = type("Given", (redis.CredentialProvider,), methods)()
    assert isinstance(made, redis.CredentialProvider)
    return made


def fails() -> object:
    raise RuntimeError(SECRET)


def not_here() -> object:
    raise NotImplementedError


PROVIDERS = {
    "a password": provider(lambda: (SECRET,)),
    "a list": provider(lambda: [SECRET]),
    "a user": provider(lambda: ("default", SECRET)),
    "a wrong password": provider(lambda: ("wrong",)),
    "nothing": provider(lambda: None),
    "an empty tuple": provider(tuple),
    "the sync one raises": provider(fails),
    "the sync one raises, the other works": provider(fails, lambda: (SECRET,)),
    "the sync one works, the other raises": provider(lambda: (SECRET,), fails),
    "the sync one is not for use, the other works": provider(not_here, lambda: (SECRET,)),
    "only the other": provider(None, lambda: ("default", SECRET)),
    "none at all": provider(),
    "no provider": object(),
    "text": "text",
}


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_provider_is_asked_as_its_client_asks_it(
    locked: RedisServer, kind: Kind, name: str, protocol: int, backend: str
) -> None:
    made = functools.partial(
        kind,
        port=locked.port,
        credential_provider=PROVIDERS[name],
        retry=no_retry(),
        protocol=protocol,
    )
    verdict = by_client(backend, made, name)
    assert verdict.agree, verdict
    assert SECRET not in verdict.probe
    if "RuntimeError" in verdict.client:
        assert "credential_provider" in verdict.probe


def test_a_provider_and_a_password_are_refused_by_name(locked: RedisServer) -> None:
    for kind in KINDS:
        pool = (redis.asyncio if kind is redis.asyncio.Redis else redis).ConnectionPool(
            port=locked.port, password=SECRET, credential_provider=PROVIDERS["a password"]
        )
        with pytest.raises(ValueError, match=r"option (password|credential_provider)"):
            RedisProbe.from_client(kind(connection_pool=pool))


@pytest.mark.parametrize("query", ["", "?protocol=2", f"?{BY_REDIS_PY}"])
def test_a_password_that_is_no_text_is_no_failure_of_redis(
    locked: RedisServer, query: str, backend: str
) -> None:
    verdict = by_url(backend, f"redis://:\ud800@127.0.0.1:{locked.port}{query}")
    assert verdict.agree, verdict
    assert verdict.probe.startswith("permanent BadOptions")


# -- classes of one's own -------------------------------------------------------------------------


class OwnConnection(redis.Connection):
    pass


class OwnAsyncConnection(redis.asyncio.Connection):
    pass


class OwnPool(redis.ConnectionPool):
    def make_connection(self) -> Any:  # as in the class that it is derived from
        self.connection_kwargs["password"] = SECRET
        return super().make_connection()


class OwnAsyncPool(redis.asyncio.BlockingConnectionPool):
    async def get_connection(  # type: ignore[override]  # it is not there to be called
        self,
    ) -> None:
        raise NotImplementedError


class PoolWithAName(redis.ConnectionPool):
    """One that connects as others do."""


class OwnEncoder(Encoder):
    pass


@pytest.mark.parametrize(
    ("client", "named"),
    [
        (redis.Redis(connection_pool=redis.ConnectionPool(OwnConnection)), "OwnConnection"),
        (
            redis.asyncio.Redis(connection_pool=redis.asyncio.ConnectionPool(OwnAsyncConnection)),
            "OwnAsyncConnection",
        ),
        (redis.Redis(connection_pool=OwnPool()), "make_connection"),
        (redis.asyncio.Redis(connection_pool=OwnAsyncPool()), "get_connection"),
        (
            redis.asyncio.Redis(
                connection_pool=redis.asyncio.ConnectionPool(encoder_class=OwnEncoder)
            ),
            "encoder_class",
        ),
        (redis.Redis(connection_pool=redis.ConnectionPool(foo=1)), "foo"),
        (redis.asyncio.Redis(connection_pool=redis.asyncio.ConnectionPool(foo=1)), "foo"),
        (redis.Redis(connection_pool=redis.ConnectionPool(path="/redis.sock")), "path"),
        (
            redis.Redis(connection_pool=redis.ConnectionPool(redis_connect_func="text")),
            "redis_connect_func",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_refused_by_name(
    client: redis.Redis | redis.asyncio.Redis, named: str
) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        RedisProbe.from_client(client)
    assert "\n" not in str(caught.value)


def test_pools_that_connect_as_others_do_are_taken_over(
    unlocked: RedisServer, backend: str
) -> None:
    for pool in (PoolWithAName, redis.BlockingConnectionPool):
        made = functools.partial(redis.Redis, connection_pool=pool(port=unlocked.port))
        assert said_by_probe_of(backend, made) == "ready"


# -- options of a client --------------------------------------------------------------------------

HIREDIS_IS_THERE = importlib.util.find_spec("hiredis") is not None
"""redis-py uses it for replies and for commands."""

OPTIONS: tuple[dict[str, Any], ...] = (
    {"socket_timeout": -1},
    {"socket_timeout": "abc"},
    {"socket_timeout": float("inf")},
    {"socket_timeout": None},
    {"socket_timeout": 7},
    {"socket_connect_timeout": -1.0},
    {"socket_connect_timeout": "abc"},
    {"socket_connect_timeout": 7.5},
    {"socket_keepalive": True, "socket_keepalive_options": {999: 1}},
    {"socket_keepalive": True, "socket_keepalive_options": {4: 30}},
    {"socket_keepalive": False},
    {"health_check_interval": "abc"},
    {"health_check_interval": 5},
    {"encoding": "no-such-encoding", "password": "x"},
    {"encoding": "latin-1"},
    {"retry": 5},
    {"port": "abc"},
    {"db": "abc"},
    {"db": "3"},
    {"db": -1},
    {"protocol": 4},
    {"protocol": "abc"},
    {"protocol": "3"},
    {"protocol": "2"},
    {"client_name": "with\nnewline"},
    {"host": None},
    {"password": b"bytes"},
    {"password": 12345},
    {"username": "me", "password": ""},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_an_option_of_a_client(
    unlocked: RedisServer, kind: Kind, options: dict[str, Any], backend: str
) -> None:
    made = functools.partial(kind, **{"port": unlocked.port, "retry": no_retry(), **options})
    try:
        made()
    except Exception:  # the application has no client
        return
    verdict = by_client(backend, made, str(options))
    if "encoding" in options and HIREDIS_IS_THERE:
        return  # it sends commands without encoding them, so the client works by luck
    assert verdict.agree, verdict


def test_an_answer_that_the_client_would_not_wait_for(backend: str) -> None:
    """A server that answers after 0.3 s is of no use to a client that gives up after 0.1 s."""

    waiting = threading.Event()

    def slow(sock: socket.socket) -> None:
        for command in commands(sock):
            if command[0] == b"PING":
                waiting.wait(0.3)
            sock.sendall(GREETED.get(command[0], b"+PONG\r\n"))

    with FakeServer(slow) as fake:
        for seconds in (0.1, 5):
            for kind in KINDS:
                made = functools.partial(
                    kind, port=fake.port, socket_timeout=seconds, retry=no_retry()
                )
                verdict = by_client(backend, made, f"socket_timeout={seconds}")
                assert verdict.agree, verdict
            verdict = by_url(backend, f"redis://127.0.0.1:{fake.port}?socket_timeout={seconds}")
            assert verdict.agree, verdict
            assert ("SocketTimeout" in verdict.probe) == (seconds == 0.1)


# -- options of a URL -----------------------------------------------------------------------------

GOOD = (
    "",
    "max_connections=5",
    "max_connections=0",
    "db=2",
    "protocol=2",
    "protocol=3",
    "client_name=chat",
    "decode_responses=true",
    "encoding=latin-1",
    "encoding_errors=replace",
    "health_check_interval=5",
    "retry_on_timeout=yes",
    "socket_timeout=7",
    "socket_timeout=1e1",
    "socket_timeout=inf",
    "socket_connect_timeout=7.5",
    "socket_keepalive=true",
    "socket_keepalive=false",
    "username=default",
    "db=1&max_connections=3&socket_timeout=9",
    "db=",
)
BAD = (
    "foo=bar",
    "ssl=true",
    "tls=true",
    "ssl_cert_reqs=none",
    "ssl_ca_certs=/ca.pem",
    "ssl_check_hostname=false",
    "socket_timeout=abc",
    "socket_timeout=-1",
    "socket_connect_timeout=abc",
    "max_connections=abc",
    "max_connections=-1",
    "health_check_interval=abc",
    "db=abc",
    "db=-1",
    "protocol=4",
    "protocol=abc",
    "path=/redis.sock",
    "redis_connect_func=print",
    "credential_provider=mine",
    "connection_class=mine",
    "parser_class=mine",
    "retry=3",
    "socket_keepalive_options=1",
    "socket_type=abc",
    "encoding=no-such-encoding&password=x",
    "event_dispatcher=x",
)


@pytest.mark.parametrize("option", GOOD)
def test_an_option_of_a_url_that_redis_py_takes(
    unlocked: RedisServer, option: str, backend: str
) -> None:
    verdict = by_url(backend, f"redis://127.0.0.1:{unlocked.port}?{option}")
    assert (verdict.client, verdict.probe) == ("", "ready")


@pytest.mark.parametrize("option", BAD)
def test_an_option_of_a_url_that_redis_py_refuses_is_refused_by_name(
    unlocked: RedisServer, option: str, backend: str
) -> None:
    verdict = by_url(backend, f"redis://127.0.0.1:{unlocked.port}?{option}")
    assert verdict.probe.startswith("refused: the Redis URL"), verdict
    assert option.split("=", maxsplit=1)[0] in verdict.probe
    by_luck = HIREDIS_IS_THERE and option.startswith("encoding=")
    assert verdict.client or option in _UNUSED or by_luck, verdict


_UNUSED = frozenset(
    {"event_dispatcher=x", "retry=3", "socket_type=abc", "socket_keepalive_options=1"}
)
"""Some versions of redis-py take these as text, and do not come to use them for a PING."""


@pytest.mark.parametrize("name", ["socket_timeout", "socket_connect_timeout"])
@pytest.mark.parametrize("value", [0, float("nan")])
def test_a_time_limit_within_which_commands_work_by_luck_is_refused(
    unlocked: RedisServer, name: str, value: float, backend: str
) -> None:
    for kind in KINDS:
        made = functools.partial(kind, port=unlocked.port, **{name: value})
        said = said_by_probe_of(backend, made)
        assert said.startswith("refused: ")
        assert name in said
    url = f"redis://127.0.0.1:{unlocked.port}?{name}={value}"
    assert name in said_by_probe(backend, lambda: RedisProbe(url))


@pytest.mark.parametrize(
    "place", ["?host=127.0.0.1&port={port}", "localhost:{port}//2", "127.0.0.1:{port}?db=1"]
)
def test_a_place_that_is_named_in_another_way(
    unlocked: RedisServer, place: str, backend: str
) -> None:
    verdict = by_url(backend, "redis://" + place.format(port=unlocked.port))
    assert (verdict.client, verdict.probe) == ("", "ready")


def test_how_much_a_client_reads_at_once_says_nothing_of_redis(
    unlocked: RedisServer, backend: str
) -> None:
    """Before 8.1, redis-py takes it for text, and only asynchronous clients work with it."""
    for more in ("", "&socket_keepalive=1"):  # the second is for redis-py to read
        url = f"redis://127.0.0.1:{unlocked.port}?socket_read_size=1024{more}"
        assert said_by_probe(backend, functools.partial(RedisProbe, url)) == "ready"


def test_a_pool_that_waits_takes_the_same_urls(unlocked: RedisServer, backend: str) -> None:
    url = f"redis://127.0.0.1:{unlocked.port}?timeout=5&max_connections=3"
    pool = redis.BlockingConnectionPool.from_url(url)
    if isinstance(pool.timeout, str):
        pytest.skip("this redis-py takes the timeout in a URL for text, and fails with it")
    assert redis.Redis(connection_pool=pool).ping()
    assert said_by_probe(backend, lambda: RedisProbe(url)) == "ready"
