"""A real PostgreSQL of a test's own, in a directory that goes away with it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tests.redis_server import free_port

USER, PASSWORD = "admin", "s3cret-pässword"


def find_postgres() -> Path | None:
    """The directory of PostgreSQL's programs; Debian keeps them out of the search path."""
    found = shutil.which("initdb")
    places = [Path(found).resolve()] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    return next((one.parent for one in places if one.with_name("postgres").exists()), None)


def freeze(processes: list[psutil.Process]) -> None:
    """Stop processes where they are (SIGSTOP); return once all of their threads have stopped."""
    deadline = time.monotonic() + 10
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGSTOP)
    for process in processes:
        while not _is_stopped(process.pid):
            assert time.monotonic() < deadline, "it does not stop"
            time.sleep(0.001)


def _is_stopped(pid: int) -> bool:
    try:
        stats = [one.read_text() for one in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:  # one of them has just ended
        return False
    return all(stat.rpartition(")")[2].split()[0] in "TtZX" for stat in stats)


class PostgresProcess:
    """One server on 127.0.0.1, and on a Unix socket in its directory."""

    def __init__(self, *arguments: str) -> None:
        programs = find_postgres()
        assert programs is not None, "needs PostgreSQL"
        self._programs = programs
        self.port = free_port()
        self._arguments = arguments
        self._temporary = tempfile.TemporaryDirectory(prefix="postgres-")
        self.directory = Path(self._temporary.name)
        self._data = self.directory / "data"
        self._process: subprocess.Popen[bytes] | None = None
        # PostgreSQL refuses to run as root.
        self._user: dict[str, Any] = {}
        if os.getuid() == 0:
            self._user = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(self.directory, "postgres", "postgres")
        self._initialise()

    def _initialise(self) -> None:
        (self.directory / "password").write_text(PASSWORD)
        (self.directory / "password").chmod(0o644)
        self._run(
            *("initdb", "-D", str(self._data), "-U", USER, "--no-sync", "--locale=C", "-E", "UTF8"),
            *("--pwfile", str(self.directory / "password"), "-A", "scram-sha-256"),
        )

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, *arguments],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            **self._user,
        )

    def dsn(self, database: str = "postgres", **options: str) -> str:
        words = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD}
        words |= {"dbname": database, **options}
        return " ".join(f"{name}='{value}'" for name, value in words.items())

    def append(self, file: str, text: str) -> None:
        """Add lines to `postgresql.conf`, or before those of `pg_hba.conf`."""
        path = self._data / file
        old = path.read_text()
        path.write_text(f"{text}\n{old}" if file == "pg_hba.conf" else f"{old}\n{text}\n")

    def sql(self, *commands: str) -> None:
        """Run commands as the superuser."""
        each = [part for command in commands for part in ("-c", command)]
        where = ["-h", str(self.directory), "-p", str(self.port), "-U", USER, "postgres"]
        subprocess.run(
            [self._programs / "psql", "-q", "-X", *where, *each],
            env={"PGPASSWORD": PASSWORD},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def give(self, name: str, content: bytes, mode: int = 0o600) -> Path:
        """Put a file into its directory that only it may read."""
        path = self._data / name
        path.write_bytes(content)
        path.chmod(mode)
        if self._user:
            shutil.chown(path, "postgres", "postgres")
        return path

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def start(self) -> Self:
        own = ["-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1"]
        quick = ["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "autovacuum=off"]
        sockets = ["-c", f"unix_socket_directories={self.directory}"]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", *own, *quick, *sockets, *self._arguments],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                **self._user,
            )
        self._wait()
        return self

    def _wait(self) -> None:
        """Until a connection gets an answer other than that it is starting up."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, (self.directory / "log").read_text()
            if self._asks_who_we_are():
                return
            time.sleep(0.02)
        raise TimeoutError("PostgreSQL does not start")

    def _asks_who_we_are(self) -> bool:
        pairs = f"user\0{USER}\0database\0postgres\0\0".encode()
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port)) as sock,
        ):
            sock.sendall((len(pairs) + 8).to_bytes(4) + (196608).to_bytes(4) + pairs)
            return sock.recv(1) == b"R"
        return False

    def _family(self) -> list[psutil.Process]:
        postmaster = psutil.Process(self.pid)
        return [postmaster, *postmaster.children(recursive=True)]

    def freeze(self) -> None:
        """Stop it and all its backends where they are."""
        freeze(self._family())

    def thaw(self) -> None:
        for process in reversed(self._family()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)

    def reload(self) -> None:
        os.kill(self.pid, signal.SIGHUP)

    def kill(self) -> None:
        """End it and its backends without warning."""
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._end()

    def stop(self) -> None:
        """End it at once, in good order."""
        self.thaw()
        os.kill(self.pid, signal.SIGINT)
        self._end()

    def _end(self) -> None:
        assert self._process is not None
        self._process.wait(30)
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.kill()
        self._temporary.cleanup()
