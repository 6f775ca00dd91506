"""A real PostgreSQL of a test's own, in a directory that goes away with it."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

from tests.redis_server import free_port
from tests.server_process import ServerProcess

USER, PASSWORD = "admin", "s3cret-pässword"


def find_postgres() -> Path | None:
    """The directory of PostgreSQL's programs; Debian keeps them out of the search path."""
    found = shutil.which("initdb")
    places = [Path(found).resolve()] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    return next((one.parent for one in places if one.with_name("postgres").exists()), None)


class PostgresProcess(ServerProcess):
    """One server on 127.0.0.1, and on a Unix socket in its directory."""

    def __init__(self, *arguments: str) -> None:
        programs = find_postgres()
        assert programs is not None, "needs PostgreSQL"
        super().__init__("postgres", free_port())
        self._programs = programs
        self._arguments = arguments
        self._data = self.directory / "data"
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
        self.wait_until(self._asks_who_we_are, 60)
        return self

    def _asks_who_we_are(self) -> bool:
        """It gives another answer than that it is starting up."""
        pairs = f"user\0{USER}\0database\0postgres\0\0".encode()
        hello = (len(pairs) + 8).to_bytes(4) + (196608).to_bytes(4) + pairs
        return self.answer_to(hello, 1) == b"R"

    def reload(self) -> None:
        os.kill(self.pid, signal.SIGHUP)

    def stop(self) -> None:
        """End it at once, in good order."""
        self.thaw()
        os.kill(self.pid, signal.SIGINT)
        assert self._process is not None
        self._process.wait(30)
        self._process = None
