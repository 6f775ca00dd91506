"""Runs a page from top to bottom, as a reader would."""

import contextlib
import difflib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.cli_support import PATIENCE_SECONDS, environment, until
from tests.docs.blocks import ROOT, Block, Page, PageError, steps
from tests.docs.interpreter import imported
from tests.docs.processes import PageProcess, open_process
from tests.redis_server import RedisServer, folder_with_redis_server, free_port

SHELLS = ("console", "bash", "sh")

# Packages are imported from where they are, since the copy of a page would be compiled again.
NOT_LINKED = {"build", "dist", "orchestrator", "states", "tests"}

_PORT = re.compile(r"(?<![\d.])(?:6379|8\d{3})(?![\d.]*\d)")
_HOST = re.compile(r"//redis:6379\b")


class Runner:
    """Runs the blocks of one page. `open_runner` makes one, and ends all that it started."""

    def __init__(self, page: Page, directory: Path, stack: contextlib.ExitStack) -> None:
        self._page = page
        self._directory = directory
        self._stack = stack
        self._ports: dict[str, str] = {}
        self._printed = ""
        self._process: PageProcess | None = None
        for entry in ROOT.iterdir():
            if not entry.name.startswith(".") and entry.name not in NOT_LINKED:
                (directory / entry.name).symlink_to(entry)
        programs = [
            str(Path(sys.executable).parent),
            folder_with_redis_server(directory / ".server"),
        ]
        self._environ = {
            name: value
            for name, value in environment().items()
            # What was compiled when it was installed is as good, and need not be compiled again.
            if not name.startswith(("PYTEST_", "PYTHON")) and not name.lower().endswith("_proxy")
        }
        self._environ |= {
            "PATH": os.pathsep.join([*programs, os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(directory), str(ROOT)]),
            "PYTHONWARNINGS": "error",
            "REDIS_URL": self._redis(),
        }

    def _redis(self) -> str:
        starts_its_own = any("redis-server" in block.source for block in self._page.blocks)
        if starts_its_own:
            self._ports["6379"] = str(free_port())
        else:
            self._ports["6379"] = str(self._stack.enter_context(RedisServer()).port)
        return f"redis://127.0.0.1:{self._ports['6379']}/0"

    def run(self, block: Block) -> None:
        """Do with a block what its language and its marks say."""
        try:
            if "file" in block.marks:
                self._write(block.marks["file"], block.source)
            elif not block.runs:
                pass
            elif block.language == "python":
                self._execute(block)
            elif block.language in SHELLS:
                self._type(block)
            elif "output" in block.marks:
                self._compare(self._printed, block.source)
        except AssertionError as error:
            raise PageError(f"{self._page.name}:{block.line}: {error}") from None

    def _write(self, name: str, source: str) -> None:
        target = self._directory / name
        if target.is_symlink():
            raise PageError(f"{name} would lie in the place of a file of the repository")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(self._exchanged(source), encoding="utf-8")

    # -- Python ----------------------------------------------------------------------------------

    def _execute(self, block: Block) -> None:
        process = self._process = self._process or self._stack.enter_context(self._start_process())
        source = self._exchanged(block.source)
        answer = process.run(source, str(ROOT / self._page.name), block.line)
        self._printed = answer["printed"]
        assert not answer["failure"], answer["failure"] + self._printed

    @contextmanager
    def _start_process(self) -> Iterator[PageProcess]:
        python = (block.source for block in self._page.blocks if block.language == "python")
        paths = [str(self._directory), str(ROOT)]
        with open_process(str(self._directory), self._environ, paths, imported(python)) as process:
            yield process

    # -- Commands --------------------------------------------------------------------------------

    def _type(self, block: Block) -> None:
        *before, last = steps(block)
        for command, shown in before:
            self._command(command, shown, 0)
        if "serves" in block.marks:
            self._serve(last[0], int(self._exchanged(block.marks["serves"])))
        else:
            self._command(*last, int(block.marks.get("status", "0")))

    def _command(self, command: str, shown: str, status: int) -> None:
        if command.startswith("export "):
            for word in shlex.split(command)[1:]:
                name, _, value = self._exchanged(word).partition("=")
                self._environ[name] = value
            return
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._exchanged(command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._directory,
            env=self._environ,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        self._printed = done.stdout
        assert done.returncode == status, f"it ended with {done.returncode}: {done.stdout}"
        if shown:
            self._compare(done.stdout, shown)

    def _serve(self, command: str, port: int) -> None:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {self._exchanged(command)}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self._directory,
            env=self._environ,
        )
        # Last in, first out: it is asked to end, waited for, and killed only when it does not.
        self._stack.callback(process.kill)
        self._stack.callback(process.communicate, timeout=PATIENCE_SECONDS)
        self._stack.callback(process.send_signal, signal.SIGTERM)

        def listens() -> bool:
            assert process.poll() is None, "it ended before it listened"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        until(listens, f"nothing listens on {port}")

    # -- What differs from run to run ------------------------------------------------------------

    def _exchanged(self, text: str) -> str:
        """With free ports in the place of those that the page names."""
        text = _HOST.sub("//127.0.0.1:6379", text)
        return _PORT.sub(lambda port: self._port(port[0]), text)

    def _port(self, named: str) -> str:
        return self._ports.setdefault(named, str(free_port()))

    def _compare(self, printed: str, shown: str) -> None:
        for named, free in self._ports.items():
            printed = re.sub(rf"\b{free}\b", named, printed)
        if not alike(printed, shown):
            lines = difflib.ndiff(shown.splitlines(), printed.splitlines())
            raise PageError("it does not print what is shown:\n" + "\n".join(lines))


def alike(printed: str, shown: str) -> bool:
    """Whether this is what is shown, in which `...` stands for any text."""
    pattern = ".*".join(re.escape(part) for part in shown.rstrip().split("..."))
    return re.fullmatch(pattern, printed.rstrip(), re.DOTALL) is not None


@contextmanager
def open_runner(page: Page, directory: Path) -> Iterator[Runner]:
    """A runner; with the block everything ends that it started."""
    with contextlib.ExitStack() as stack:
        yield Runner(page, directory, stack)


def run(page: Page, directory: Path) -> None:
    """Run a page from top to bottom in an empty directory."""
    if any(block.runs and block.language in {"python", *SHELLS} for block in page.blocks):
        with open_runner(page, directory) as runner:
            for block in page.blocks:
                runner.run(block)
