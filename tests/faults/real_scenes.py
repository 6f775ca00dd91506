"""Scenes with a real Redis that really is in trouble."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from orchestrator.redis import Expect
from tests.faults.scenes import SECRET, Scene, Stage, Unavailable, wait_until
from tests.redis_server import RedisServer, free_port


class Real:
    """A real server with a connection of its own to set the scene and to count."""

    def __init__(self, server: RedisServer, password: str | None = None) -> None:
        self.server = server
        self.admin = redis.Redis(
            port=server.port, password=password, protocol=2, single_connection_client=True
        )
        self._before = self._received()

    def scene(self, **options: object) -> Scene:
        """A scene with this server; its URL is the server's if none is given."""
        options.setdefault("url", self.server.url)
        options.setdefault("connections", lambda: self._received() - self._before)
        options.setdefault("open_connections", lambda: self._clients() - 1)
        return Scene(**options)  # type: ignore[arg-type]  # the fields of Scene

    def _received(self) -> int:
        known = self.admin.info("stats")
        return int(known["total_connections_received"]) + int(known["rejected_connections"])

    def _clients(self) -> int:
        return int(self.admin.info("clients")["connected_clients"])


@contextmanager
def real(*args: str, password: str | None = None) -> Iterator[Real]:
    """A real server that is well."""
    with RedisServer(None, *args) as server:
        known = Real(server, password)
        try:
            yield known
        finally:
            known.admin.close()
            # Not in good order: a server in trouble may refuse to stop for a while.
            server.kill()


def configured(
    *args: str,
    change: Callable[[Real], object] = lambda _: None,
    expect: Expect | None = None,
    **options: object,
) -> Stage:
    """A real server with arguments, after a change, asked with `expect`."""

    @contextmanager
    def open_it() -> Iterator[Scene]:
        with real(*args) as server:
            change(server)
            yield server.scene(expect=expect or Expect(), **options)

    return open_it


@contextmanager
def frozen() -> Iterator[Scene]:
    with real() as server:
        server.server.freeze()
        yield server.scene(heal=server.server.thaw)


@contextmanager
def frozen_warm() -> Iterator[Scene]:
    with real() as server:
        yield server.scene(inflict=server.server.freeze, heal=server.server.thaw)


@contextmanager
def paused() -> Iterator[Scene]:
    with real() as server:
        # It cannot be ended from outside: what is sent meanwhile is kept waiting too.
        yield server.scene(inflict=lambda: server.admin.client_pause(1500))


@contextmanager
def busy() -> Iterator[Scene]:
    with real("--lua-time-limit", "1") as server, socket.socket() as other:
        other.connect(("127.0.0.1", server.server.port))
        other.sendall(b'EVAL "while true do end" 0\r\n')
        with socket.create_connection(("127.0.0.1", server.server.port)) as asking:
            wait_until(lambda: _ping(asking).startswith(b"-BUSY"))

        def heal() -> None:
            server.admin.script_kill()
            other.recv(4096)  # its error: the script has ended

        # The script's connection and the asking one are not the probe's.
        scene = server.scene(heal=heal)
        connections, open_connections = scene.connections, scene.open_connections
        scene.connections = lambda: connections() - 2
        scene.open_connections = lambda: open_connections() - 1
        yield scene


def _ping(sock: socket.socket) -> bytes:
    sock.sendall(b"PING\r\n")
    return sock.recv(4096)


@contextmanager
def loading() -> Iterator[Scene]:
    with real("--rdbcompression", "no") as server:
        for number in range(500):
            server.admin.set(f"key {number}", "x" * 2000)
        server.admin.save()
        server.server.kill()
        # So many microseconds for each of the keys, and a look at the clients after each of them.
        slowly = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
        server.server.start(*slowly, wait=False)
        said = _first_answer(server.server.port)
        if not said.startswith(b"-LOADING"):
            raise Unavailable("this redis-server cannot be made to load slowly")
        server.admin.close()
        again = Real(server.server)
        yield again.scene()
        again.admin.close()


def _first_answer(port: int) -> bytes:
    deadline = time.monotonic() + 2
    while not (said := answer(port)) and time.monotonic() < deadline:
        time.sleep(0.002)
    return said


def answer(port: int) -> bytes:
    """What PING gives on a connection of its own; nothing where there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
            return _ping(sock)
    except OSError:
        return b""


def fail_to_save(server: Real) -> None:
    """Make a background save fail, as on a full disk."""
    server.admin.config_set("save", "3600 1")
    server.server.directory.rmdir()
    server.admin.bgsave()
    wait_until(lambda: server.admin.info("persistence")["rdb_last_bgsave_status"] == "err")


def allow(*rules: str) -> Callable[[Real], object]:
    """Give the server a user named `me`, with the password and these rules."""

    def change(server: Real) -> None:
        change_user = ("ACL", "SETUSER", "me", f">{SECRET}", *rules)
        server.admin.execute_command(*change_user)  # type: ignore[no-untyped-call]  # redis-py's

    return change


def logging_in(stage: Stage, login: str, path: str = "/0") -> Stage:
    """The same scene, with this login in the URL."""

    @contextmanager
    def open_it() -> Iterator[Scene]:
        with stage() as scene:
            scene.url = scene.url.replace("redis://", f"redis://{login}").replace("/0", path)
            yield scene

    return open_it


@contextmanager
def locked() -> Iterator[Scene]:
    with real("--requirepass", SECRET, password=SECRET) as server:
        yield server.scene()


@contextmanager
def orphaned_replica() -> Iterator[Scene]:
    orphan = ("--replicaof", "127.0.0.1", str(free_port()), "--replica-serve-stale-data", "no")
    with real(*orphan) as server:
        yield server.scene()


def _replicates(server: Real, name: str, value: object) -> bool:
    return bool(server.admin.info("replication").get(name) == value)


def _waits_for_its_data(master: Real) -> bool:
    replica = master.admin.info("replication").get("slave0", {})
    return bool(replica) and replica["state"] == "wait_bgsave"


@contextmanager
def replica_in_first_sync() -> Iterator[Scene]:
    with real("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "60") as master:
        of_it = ("--replicaof", "127.0.0.1", str(master.server.port))
        with real(*of_it, "--replica-serve-stale-data", "no") as server:
            wait_until(lambda: _waits_for_its_data(master))
            yield server.scene()


def replica(expect: Expect) -> Stage:
    """A replica that is well, and read-only, as replicas are."""

    @contextmanager
    def open_it() -> Iterator[Scene]:
        with (
            real("--repl-diskless-sync-delay", "0") as master,
            real("--replicaof", "127.0.0.1", str(master.server.port)) as server,
        ):
            wait_until(lambda: _replicates(server, "master_link_status", "up"))
            yield server.scene(expect=expect)

    return open_it
