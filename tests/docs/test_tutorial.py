"""The tutorial is followed as a reader would: its files written, its commands run, in its order.

Each command has to print what the page shows, and the service to have logged it by the end; numbers
and identifiers may differ. What only differs in them is asserted here.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.cli.cli_support import PATIENCE_SECONDS, ROOT, environment, until
from tests.redis_server import folder_with_redis_server, free_port

pytestmark = pytest.mark.long

PAGE = ROOT / "docs" / "tutorial" / "chat.md"

_BLOCK = re.compile(r"((?:^<!-- [^\n]* -->\n)*)^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DIFFERS = (
    (re.compile(r"\b[0-9a-f]{32}\b"), "ID"),
    (re.compile(r"\d+(?:[.,:-]\d+)*"), "0"),
)
_STAYS = ("uvicorn ", "python steady.py")
"""Commands that do not end by themselves: each has a terminal of its own."""

_CLIENTS = "python clients.py"
_KILL = 'kill -9 "$(cat redis.pid)"'


def alike(text: str) -> list[str]:
    """Its lines, without what differs from run to run."""
    for pattern, instead in _DIFFERS:
        text = pattern.sub(instead, text)
    return text.splitlines()


def shows(printed: str, shown: Sequence[str]) -> bool:
    """Whether the lines appear in what was printed, in this order."""
    lines = iter(alike(printed))
    wanted = (line for line in shown if line.strip() != "...")
    return all(any(line in seen for seen in lines) for line in wanted)


class Terminal:
    """A command that runs until Ctrl-C."""

    def __init__(self, command: str, directory: Path, environ: Mapping[str, str]) -> None:
        self._log = directory / f"{command.split(maxsplit=1)[0]}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=environ,
            )

    @property
    def printed(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def shows(self, shown: Sequence[str]) -> bool:
        assert self._process.poll() is None, f"it has ended: {self.printed}"
        return shows(self.printed, shown)

    def answers(self, port: int) -> bool:
        assert self._process.poll() is None, f"it has ended: {self.printed}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(PATIENCE_SECONDS)
        finally:
            self._process.kill()


_CURL = """
import sys
from http.client import HTTPConnection
from urllib.parse import urlsplit

url = urlsplit(sys.argv[-1])
connection = HTTPConnection(url.netloc)
connection.request("GET", url.path)
answer = connection.getresponse()
print(f"HTTP/1.1 {answer.status} {answer.reason}")
print(answer.headers, answer.read().decode(), sep="")
"""


def _folder_with_curl(directory: Path) -> str:
    """For PATH: as much of curl as the page uses, since not every machine has it."""
    directory.mkdir()
    script, program = directory / "curl.py", directory / "curl"
    script.write_text(_CURL)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    program.chmod(0o755)
    return str(directory)


class Reader:
    """Follows a page in a directory of its own, with one terminal for each command that stays."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.printed: dict[str, list[str]] = {}
        self.terminals: dict[str, Terminal] = {}
        self._announced: list[Sequence[str]] = []
        self._pid_file = directory / "redis.pid"
        self._port = free_port()
        self._ours = {
            "8379": str(free_port()),
            "8000": str(self._port),
            "/path/to/checkout": str(ROOT),
        }
        kept = {
            name: value
            for name, value in environment().items()
            # What was compiled when it was installed is as good, and need not be compiled again.
            if not name.startswith(("PYTEST_", "PYTHON")) and not name.lower().endswith("_proxy")
        }
        server = folder_with_redis_server(directory / ".server")
        programs = [
            _folder_with_curl(directory / ".curl"),
            str(Path(sys.executable).parent),
            server,
        ]
        self._environ = kept | {
            "PATH": os.pathsep.join([*programs, kept["PATH"]]),
            # Newer versions of Starlette's test client want the successor of httpx.
            # The latter is of pytest-asyncio, which the reader need not have.
            "PYTHONWARNINGS": "error,ignore:Using `httpx`,ignore:The configuration option",
        }

    def follow(self, page: str) -> None:
        for marks, language, body in _BLOCK.findall(page):
            if file := re.search(r"<!-- file: (\S+) -->", marks):
                (self.directory / file[1]).write_text(self._with_our(body), encoding="utf-8")
            elif language == "console":
                if "package index" not in marks:
                    self._type(body)
            elif "after Ctrl-C" in marks:
                self._end_service(alike(body))
            else:
                assert language == "text", f"this is not run: {body}"
                self._announced.append(alike(body))
        self._await_announced()

    def leave(self) -> None:
        for terminal in self.terminals.values():
            terminal.interrupt()
        with contextlib.suppress(FileNotFoundError):
            os.kill(int(self._pid_file.read_text()), signal.SIGKILL)

    def _with_our(self, text: str) -> str:
        for theirs, ours in self._ours.items():
            text = text.replace(theirs, ours)
        return text

    def _end_service(self, shown: Sequence[str]) -> None:
        """Stop the service; a terminal has to show this then."""
        self._await_announced()
        self.terminals["uvicorn"].interrupt()
        until(
            lambda: any(shows(one.printed, shown) for one in self.terminals.values()),
            f"no terminal shows {shown} at the end",
        )

    def _type(self, body: str) -> None:
        for step in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            command, _, shown = step.partition("\n")
            if command.startswith(_STAYS):
                self._open(command, alike(shown))
            else:
                self._run(command, alike(shown))

    def _open(self, command: str, shown: Sequence[str]) -> None:
        self._await_announced()
        name = command.split(maxsplit=1)[0]
        if name in self.terminals:
            self.terminals.pop(name).interrupt()
        terminal = Terminal(self._with_our(command), self.directory, self._environ)
        self.terminals[name] = terminal
        if name == "uvicorn":
            until(lambda: terminal.answers(self._port), f"{name} does not listen")
        until(lambda: terminal.shows(shown), f"{shown} is not shown by {name}")

    def _run(self, command: str, shown: Sequence[str]) -> None:
        if command == _KILL:
            self._await_announced()
        done = subprocess.run(
            ["bash", "-c", self._with_our(command)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=self._environ,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        if command == _KILL:
            self._pid_file.unlink()  # its number may soon be another's
        if _CLIENTS not in command:  # what becomes of them is asserted by the test
            assert shows(done.stdout, shown), f"{command} printed {done.stdout!r}, not {shown}"
        self.printed.setdefault(command, []).append(done.stdout)

    def _await_announced(self) -> None:
        """What the page has said that a terminal shows is there, or soon will be.

        The reader looks only before something ends; until then there is other work to do.
        """
        for shown in self._announced:
            until(partial(self._some_terminal_shows, shown), f"no terminal shows {shown}")
        self._announced.clear()

    def _some_terminal_shows(self, shown: Sequence[str]) -> bool:
        return any(terminal.shows(shown) for terminal in self.terminals.values())


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.leave()


def test_the_tutorial_can_be_followed(reader: Reader) -> None:
    page = PAGE.read_text(encoding="utf-8")
    reader.follow(page)
    (runs,) = (printed for command, printed in reader.printed.items() if _CLIENTS in command)
    without_gate, without_condition, with_condition = runs
    assert "closed with 1011" in without_gate
    assert "closed with 1011" in without_condition
    assert with_condition == "20 served\n"
    before = {name: len(terminal.printed) for name, terminal in reader.terminals.items()}
    reader.leave()
    for name, terminal in reader.terminals.items():
        after = terminal.printed[before[name] :]
        assert "Traceback" not in after, f"Ctrl-C in {name}: {after}"


def test_what_the_tutorial_has_written_is_clean(tmp_path: Path) -> None:
    # What prints, and what is a test, is no library.
    ignored = "ANN001,ANN201,D103,PLR2004,S101,T201"
    ruff, settings = Path(sys.executable).parent / "ruff", ROOT / "pyproject.toml"
    (tmp_path / "reconnect.py").touch()
    for marks, _, body in _BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if not (file := re.search(r"<!-- file: (\S+\.py) -->", marks)):
            continue
        (tmp_path / file[1]).write_text(body, encoding="utf-8")
        for arguments in (["check", "--ignore", ignored], ["format", "--check"]):
            command = [ruff, *arguments, "--no-cache", "--config", settings, file[1]]
            done = subprocess.run(
                command, capture_output=True, text=True, cwd=tmp_path, check=False
            )
            assert done.returncode == 0, done.stdout
