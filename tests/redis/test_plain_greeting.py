"""Without redis-py, the probe greets as the installed redis-py would; and knows where it cannot."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.redis import _installed
from orchestrator.redis._expect import RedisCommand
from orchestrator.redis._installed import InstalledRedisPy, installed_redis_py
from orchestrator.redis._plain_connection import PlainConnection
from orchestrator.redis._plain_options import is_plain, plain_options
from orchestrator.redis._redis_py_connections import build_connection
from orchestrator.redis._reply_socket import ReplySocket
from orchestrator.redis._url import settings_of_url
from tests.redis_server import RedisServer

LOGINS = ("", "us:pw@", ":pw@", "us@", ":@", "us:@", ":p%2Fq%25%20+@", "%C3%A9:%40@")
HOSTS = ("localhost", "10.0.0.1", "8.8.8.8:7000", "[::1]:99", "[2001:4860::1]", "redis.example", "")
RESTS = (
    *("", "/", "/0", "/3", "?db=4", "/?protocol=2", "?protocol=3", "?client_name=&password="),
    *("/2?protocol=3&client_name=a+b%2F", "?username=q&password=w+x", "?host=h2&port=8&db=1"),
    "?socket_timeout=3&socket_connect_timeout=2&health_check_interval=5&max_connections=3",
    "?decode_responses=yes&retry_on_timeout=1&client_name=%C3%A9",
)
UNIX = (
    *("/run/x", "/run/x?db=3", "/run/x?protocol=3&db=2", "/run/x?protocol=2&client_name=n"),
    "?path=/run/y&db=1",
)
PEERS = ("127.0.0.1", "8.8.8.8", "2001:4860::1", "fe80::1%lo")


class Peer(ReplySocket):
    """A socket whose other side has an address that is given."""

    def __init__(self, sock: socket.socket, host: str) -> None:
        super().__init__(sock, 0.0)
        self._host = host

    def getpeername(self) -> tuple[str, int]:
        return self._host, 6379

    def peer_host(self) -> str:
        return self._host


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    one, other = socket.socketpair()
    with one, other:
        yield one


@pytest.fixture
def installed() -> InstalledRedisPy:
    known = installed_redis_py()
    if known is None:
        pytest.skip("this redis-py is not known without asking it: see _installed.py")
    return known


def said(greeting: list[RedisCommand]) -> list[tuple[object, ...]]:
    return [
        (tuple(map(str, command.words)), command.verify, command.may_fail) for command in greeting
    ]


@pytest.mark.parametrize("rest", RESTS)
@pytest.mark.parametrize("login", LOGINS)
def test_it_greets_as_the_installed_redis_py_does(
    login: str, rest: str, sock: socket.socket, installed: InstalledRedisPy
) -> None:
    urls = [f"redis://{login}{host}{rest}" for host in HOSTS]
    if rest in RESTS[: len(UNIX)]:
        urls.append(f"unix://{login}{UNIX[RESTS.index(rest)]}")
    for url in urls:
        settings = settings_of_url(url)
        options = plain_options(settings, installed)
        if options is None:
            assert settings.path, url  # some versions do not work there
            assert not installed.greets_on_unix
            continue
        for name_user, host in [(True, peer) for peer in PEERS] + [(False, PEERS[0])]:
            peer = Peer(sock, host)
            ours = PlainConnection(settings, options, installed, name_user=name_user)
            ours.start(peer)
            theirs = build_connection(settings, None, name_user=name_user, checked={})
            theirs.start(peer)
            assert said(ours.greeting) == said(theirs.greeting), url


def test_it_keeps_connections_alive_as_redis_py_does(installed: InstalledRedisPy) -> None:
    names = ("TCP_KEEPIDLE", "TCP_KEEPALIVE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
    known = [getattr(socket, name) for name in names if hasattr(socket, name)]
    settings = settings_of_url("redis://127.0.0.1")
    ours = PlainConnection(settings, {}, installed, name_user=True)
    theirs = build_connection(settings, None, name_user=True, checked={})
    found = []
    for connection in (ours, theirs):
        with socket.socket() as sock:
            connection.wrap(sock)
            asked = [sock.getsockopt(socket.IPPROTO_TCP, option) for option in known]
            found.append((bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)), asked))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "url",
    [
        "rediss://h",
        "redis://h?socket_keepalive=1",
        "redis://h?encoding=latin-1",
        "redis://h?lib_name=x",
        "redis://h?client_name=a%2525b",  # versions of redis-py do not agree on what that is
        "redis://h?password=%2541",
    ],
)
def test_what_only_redis_py_knows_is_left_to_it(url: str) -> None:
    assert not is_plain(settings_of_url(url))


# -- which redis-py that is ------------------------------------------------------------------------


def folder(path: Path, *names: str) -> str:
    for name in names:
        (path / name).mkdir(parents=True)
        if name == "redis":
            (path / name / "__init__.py").touch()
    return str(path)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("redis", "redis-5.0.0.dist-info"), InstalledRedisPy("5.0.0", 5, 0)),
        (("redis", "redis-8.1.3.dist-info"), InstalledRedisPy("8.1.3", 8, 1)),
        (("redis", "redis-6.4.dist-info", "redis_om-1.0.dist-info"), InstalledRedisPy("6.4", 6, 4)),
        (("redis", "redis-5.0.1-py3.11.egg-info"), InstalledRedisPy("5.0.1", 5, 0)),
        (
            ("redis", "redis-8.0.0.dist-info", "redis-data", "redis."),
            InstalledRedisPy("8.0.0", 8, 0),
        ),
        (("redis", "redis-4.6.0.dist-info"), None),
        (("redis", "redis-8.2.0.dist-info"), None),
        (("redis", "redis-9.0.0.dist-info"), None),
        (("redis", "redis-8.1.0rc1.dist-info"), None),
        (("redis", "redis-8.1.0.dist-info", "redis-8.0.0.dist-info"), None),
        (("redis", "redis-8.1.0.dist-info", "redis.py"), None),
        (("redis",), None),
        (("redis-8.1.0.dist-info",), None),
        (("redis.py",), None),
        ((), None),
    ],
)
def test_a_version_is_known_only_where_it_is_beyond_doubt(
    names: tuple[str, ...],
    found: InstalledRedisPy | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = folder(tmp_path / "site", *names)
    monkeypatch.setattr(
        sys, "path", [str(tmp_path / "gone"), folder(tmp_path / "other", "redis-data"), place]
    )
    # As in the root of a project: its own data, and a folder that is no package.
    (tmp_path / "other" / "redis" / "conf").mkdir(parents=True)
    assert _installed.installed_redis_py.__wrapped__() == found


def test_what_comes_first_on_the_path_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = folder(tmp_path / "good", "redis", "redis-8.0.0.dist-info")
    monkeypatch.chdir(folder(tmp_path / "work", "redis"))
    archive = tmp_path / "all.zip"
    archive.touch()
    for before, found in (("", None), (str(archive), None), (str(tmp_path / "no"), "8.0.0")):
        monkeypatch.setattr(sys, "path", [before, good])
        known = _installed.installed_redis_py.__wrapped__()
        assert (known and known.version) == found


def test_it_is_the_one_that_is_installed(installed: InstalledRedisPy) -> None:
    from importlib.metadata import version

    assert installed.version == version("redis")


# -- nothing of it is imported ---------------------------------------------------------------------

SCRIPT = """
import sys, anyio
from orchestrator.redis import Expect, RedisProbe
async def main():
    expect = Expect(role="master", canary_prefix="startup:")
    for url in sys.argv[2:]:
        probe = RedisProbe(url, expect=expect)
        for _ in range(2):
            result = await probe.attempt(20)
            assert result.failure is None, result
        await probe.aclose()
    print("redis" in sys.modules)
anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_ordinary_probe_never_imports_redis_py(backend: str, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer(None, "--unixsocket", str(path)) as server:
        urls = [
            server.url,
            f"{server.url}?protocol=2&client_name=me",
            f"unix://{path}?db=2&protocol=2",
            f"{server.url}?protocol=3",
        ]
        for more, imported in (([], "False"), ([f"{server.url}?socket_keepalive=1"], "True")):
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT, backend, *urls, *more],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.stdout.strip() == imported, done.stderr
