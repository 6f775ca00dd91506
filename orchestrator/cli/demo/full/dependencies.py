"""What the service of `demo --full` depends on besides Redis: PostgreSQL, and an HTTP service."""

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from orchestrator.cli.demo import leash
from orchestrator.cli.demo.choices import DemoError
from orchestrator.cli.demo.embedded_redis import HOST
from orchestrator.cli.demo.full import upstream
from orchestrator.settings._check_list import probe_of

_PLACES = "/usr/lib/postgresql"
"""Where Debian keeps PostgreSQL's programs, out of PATH."""

_USER = "demo"
_INITDB_SECONDS = 60.0
_ASK_AGAIN_SECONDS = 0.005


class Port:
    """A free port that stays reserved, while the server that it is for may come and go."""

    def __init__(self) -> None:
        # Bound, and never listening; the server may share it, since both allow that.
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((HOST, 0))
        self.number: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Give it back."""
        self._socket.close()


class Dependency:
    """A server that is launched, killed and launched again on one port.

    Args:
        log: Where its output goes.
        account: The user that it runs as; this one if not given.
    """

    def __init__(self, log: Path, account: "pwd.struct_passwd | None" = None) -> None:
        self.port = Port()
        self._log = log
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, words: list[str]) -> None:
        """Start it; returns before it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  the programs were found by us
                leash.command(words, self._account),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the demo to handle, which then ends the server in its order.
                process_group=0,
            )

    def kill(self) -> float:
        """Kill it with all its processes, if it runs; return the moment before."""
        killed_at = time.monotonic()
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return killed_at

    def close(self) -> None:
        """Kill it and give its port back."""
        self.kill()
        self.port.close()


class Upstream(Dependency):
    """An HTTP service that answers 503 for a while before it is well."""

    @property
    def url(self) -> str:
        """Where its health is."""
        return f"http://{HOST}:{self.port.number}/health"

    def launch(self, warm_up_seconds: float) -> None:
        """Start it."""
        program, port = str(upstream.__file__), str(self.port.number)
        self.start([sys.executable, "-I", "-S", program, port, str(warm_up_seconds)])


def find_postgres() -> Path | None:
    """The directory of PostgreSQL's programs; `None` where it is not installed."""
    found = shutil.which("initdb")
    places = [Path(found).resolve()] if found else []
    places += sorted(Path(_PLACES).glob("*/bin/initdb"), reverse=True)
    return next((one.parent for one in places if one.with_name("postgres").exists()), None)


class Postgres(Dependency):
    """A PostgreSQL of the demo's own, in a temporary directory and not as root.

    Args:
        programs: Where its programs are.
        directory: A directory of its own, which is not there yet.
    """

    def __init__(self, programs: Path, directory: Path) -> None:
        account = _account()
        log = directory.with_suffix(".log")
        if account is None:
            directory.mkdir()
        else:
            # Only root may enter the directory of the demo, and perhaps the one around it.
            directory = Path(tempfile.mkdtemp(prefix="startup-orchestrator-demo-", dir="/tmp"))
            os.chown(directory, account.pw_uid, account.pw_gid)
        super().__init__(log, account)
        self._programs = programs
        self._directory = directory
        self._data = directory / "data"
        self._password = secrets.token_urlsafe()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgresql://{_USER}:{self._password}@{HOST}:{self.port.number}/postgres"

    async def prepare(self) -> None:
        """Make a database.

        Raises:
            DemoError: When that fails.
        """
        file = self._directory / "password"
        file.write_text(self._password, encoding="utf-8")
        if self._account is not None:
            os.chown(file, self._account.pw_uid, self._account.pw_gid)
        file.chmod(0o600)
        initdb = [str(self._programs / "initdb"), "--pgdata", str(self._data), "--no-sync"]
        login = ["--username", _USER, "--pwfile", str(file), "--auth", "scram-sha-256"]
        self.start([*initdb, *login, "--locale", "C", "--encoding", "UTF8"])
        assert self._process is not None
        try:
            # It is killed with the demo, if that ends first.
            status = await asyncio.to_thread(self._process.wait, _INITDB_SECONDS)
        except subprocess.TimeoutExpired:
            raise DemoError(f"initdb did not end within {_INITDB_SECONDS:g} s") from None
        if status:
            said = self._log.read_text(errors="replace").split("\n")
            raise DemoError(
                f"initdb failed: {next((one for one in said if 'error' in one), said[-1])}"
            )

    def close(self) -> None:
        """Kill it, and leave nothing behind."""
        super().close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def launch(self) -> None:
        """Start it; it has to recover after it was killed."""
        options = {
            "listen_addresses": HOST,
            "port": str(self.port.number),
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
            "max_connections": "20",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self.start([str(self._programs / "postgres"), "-D", str(self._data), *words])


def _account() -> "pwd.struct_passwd | None":
    """Whom PostgreSQL runs as, since it refuses to run as root; `None` for this user.

    Raises:
        KeyError: When there is no such user.
    """
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


async def answers(url: str) -> None:
    """Return once it answers as it should, which the run's own limit bounds."""
    probe = probe_of(url)
    try:
        while True:
            if (await probe.attempt(1.0)).failure is None:
                return
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
    finally:
        await probe.aclose()
