"""`python .ci/install.py EXTRA...`: the virtual environment with what these extras need.

It is of the Python that runs this, and has the versions of constraints.txt. uv installs: the one
on PATH, else that of the package index, which pip fetches first; where uv cannot be had or fails,
pip does it alone. When all is there, nothing is asked of the network. An installation that was
interrupted goes on where it was, and an environment of another Python is made again.
"""

import argparse
import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uv_as_pip as uv

ROOT = Path(__file__).parents[1]
_OWN = "startup-orchestrator"
_CONSTRAINTS = "constraints.txt"
_STATE = ".installed"


class InstallError(Exception):
    """It cannot go on; the text says why and what to do, in one line."""


def say(line: str) -> None:
    """Print it at once."""
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python .ci/install.py")
    parser.add_argument("extras", nargs="+", metavar="EXTRA")
    parser.add_argument("--venv", type=Path, default=Path(".venv"))
    parser.add_argument(
        "--optional",
        action="append",
        default=[],
        metavar="EXTRA",
        help="one that is not made for every machine: without it there is a line, and no failure",
    )
    parser.add_argument(
        "--keep", action="store_true", help="an environment that works, whichever Python it is of"
    )
    asked = parser.parse_args(arguments)
    # One at a time, without a file of its own.
    with (ROOT / "pyproject.toml").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            _install(asked.venv, asked.extras, asked.optional, keep=asked.keep)
        except InstallError as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted; run it again to go on", file=sys.stderr)
            return 130
    return 0


def _install(path: Path, extras: list[str], optional: list[str], *, keep: bool) -> None:
    began = time.monotonic()
    environment = Environment(path)
    state = environment.prepare(keep=keep)
    wanted = [extra for extra in extras if extra not in closure(state.extras)]
    also = [extra for extra in optional if extra not in {*closure(state.extras), *state.refused}]
    if not wanted and not also:
        return
    installer = Installer(environment)
    if wanted:
        say(f"Installing what [{','.join(wanted)}] needs from the package index ...")
        installer.install(wanted)
        environment.remember(state := state.with_(extras=wanted))
    for extra in also:
        if installer.try_to_install(extra):
            state = state.with_(extras=[extra])
        else:
            say(f"{extra} could not be installed here; the tests that need it are skipped")
            state = state.with_(refused=[extra])
        environment.remember(state)
    say(f"{path} is ready after {time.monotonic() - began:.0f} s.")


def closure(extras: Iterable[str]) -> set[str]:
    """These extras, and those that they consist of."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found, waiting = set[str](), [*extras]
    while waiting:
        extra = waiting.pop()
        if extra not in found:
            found.add(extra)
            for line in project["optional-dependencies"].get(extra, []):
                if line.startswith(f"{_OWN}["):
                    waiting += line.partition("[")[2].partition("]")[0].split(",")
    return found


@dataclass(frozen=True)
class State:
    """What an environment has, as far as this program knows.

    Attributes:
        python: The version that it is of, as "3.11".
        sources: A digest of what says what is to be installed.
        extras: Those that were installed.
        refused: Optional ones that could not be.
    """

    python: str
    sources: str
    extras: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def with_(self, *, extras: Iterable[str] = (), refused: Iterable[str] = ()) -> "State":
        """The same, with these too."""
        return State(self.python, self.sources, (*self.extras, *extras), (*self.refused, *refused))


class Environment:
    """A virtual environment at a path, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.python = str(path / "bin" / "python")

    def prepare(self, *, keep: bool) -> State:
        """Make it if there is none that will do; return what is in it already.

        Raises:
            InstallError: It cannot be made; or it is of another Python and not one of ours.
        """
        there, known = self._version(), self._state()
        here = f"{sys.version_info[0]}.{sys.version_info[1]}"
        if there is None or (there != here and not keep):
            self._make(here)
            there = here
        elif known is not None and (known.python, known.sources) == (there, _digest()):
            return known
        fresh = State(there, _digest())
        self.remember(fresh)
        return fresh

    def remember(self, state: State) -> None:
        """Write down what is in it."""
        (self.path / _STATE).write_text(json.dumps(vars(state)), encoding="utf-8")

    def _state(self) -> State | None:
        try:
            said = json.loads((self.path / _STATE).read_text(encoding="utf-8"))
            return State(
                said["python"], said["sources"], tuple(said["extras"]), tuple(said["refused"])
            )
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _version(self) -> str | None:
        """As "3.11", if it works: its Python may be gone, or have become another one."""
        ask = "import sys; print('%d.%d' % sys.version_info[:2])"
        try:
            done = subprocess.run(
                [self.python, "-I", "-c", ask], capture_output=True, text=True, check=False
            )
        except OSError:
            return None
        version = done.stdout.strip()
        packages = self.path / "lib" / f"python{version}" / "site-packages"
        return version if done.returncode == 0 and packages.is_dir() else None

    def _make(self, version: str) -> None:
        if (self.path / "bin").exists() and not (self.path / _STATE).exists():
            raise InstallError(
                f"{self.path} is not of Python {version}, and was not made here:"
                " remove it, or choose another with VENV="
            )
        say(f"Making {self.path} with Python {sys.version.split()[0]} ...")
        try:
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(parents=True)
            (self.path / _STATE).touch()  # it is ours, even if it is never finished
        except OSError as error:
            raise InstallError(f"cannot make {self.path}: {error.strerror or error}") from None
        if (program := shutil.which("uv")) and uv.make_environment(program, self.path):
            return
        made = subprocess.run(
            [sys.executable, "-m", "venv", str(self.path)], capture_output=True, check=False
        )
        if made.returncode != 0:
            raise InstallError(
                f"{sys.executable} cannot make a virtual environment: install its venv module"
                " (Debian: python3-venv), or uv"
            )


class Installer:
    """Puts extras of this project into an environment, by uv if it can, else by pip."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._uv = self._find_uv()

    def install(self, extras: Sequence[str]) -> None:
        """Install the project in place, with these extras.

        Raises:
            InstallError: Neither could; what they said was printed.
        """
        target = f".[{','.join(extras)}]"
        if self._uv is not None:
            if self._uv.install("--editable", target):
                return
            say("uv could not; trying pip, which takes longer ...")
        if self._pip("--editable", target).returncode != 0:
            raise InstallError(
                "the packages could not be installed; pip's lines above say why. What is there is"
                " kept: run it again when the package index can be reached."
            )

    def try_to_install(self, extra: str) -> bool:
        """Install it if it can be, without a word."""
        target = f".[{extra}]"
        if self._uv is not None:
            return self._uv.install("--editable", target, silent=True)
        return self._pip("--editable", target, silent=True).returncode == 0

    def _find_uv(self) -> uv.Uv | None:
        own = self._environment.path / "bin" / "uv"
        program = str(own) if own.exists() else shutil.which("uv")
        if program is None:
            say("Fetching uv, which installs the rest ...")
            if self._pip("uv", silent=True).returncode != 0 or not own.exists():
                say("uv cannot be had here: pip does it, which takes longer ...")
                return None
            program = str(own)
        return uv.Uv(program, self._environment.python, _CONSTRAINTS)

    def _pip(self, *arguments: str, silent: bool = False) -> subprocess.CompletedProcess[bytes]:
        python = [self._environment.python, "-m"]
        if not list(self._environment.path.glob("lib/python*/site-packages/pip")):
            # An environment that uv made has none.
            subprocess.run([*python, "ensurepip"], capture_output=True, check=False)
        options = ["--quiet", "--disable-pip-version-check", "--constraint", _CONSTRAINTS]
        return subprocess.run(
            [*python, "pip", "install", *options, *arguments],
            cwd=ROOT,
            capture_output=silent,
            check=False,
        )


def _digest() -> str:
    """Of what says what is to be installed."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", _CONSTRAINTS):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
