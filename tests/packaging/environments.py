"""Distributions and environments for tests, made without a network."""

import fcntl
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import uv
from packaging.requirements import Requirement

from tests.packaging.requirements import ROOT, installed


@dataclass(frozen=True)
class Built:
    """The two distributions; the wheel was built from the source distribution."""

    sdist: Path
    wheel: Path


def build(shared: Path) -> Built:
    """Build both into a directory that several test processes share; the first does the work."""
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(shared.glob("*.whl")):
            python = ("--python", sys.executable)
            run("build", "--no-build-isolation", *python, "--out-dir", str(shared), str(ROOT))
    (sdist,), (wheel,) = shared.glob("*.tar.gz"), shared.glob("*.whl")
    return Built(sdist, wheel)


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel and exactly what was asked for."""

    path: Path

    @property
    def python(self) -> str:
        return str(self.path / "bin" / "python")

    def program(self, name: str) -> str:
        return str(self.path / "bin" / name)

    def run(
        self, *arguments: str, cwd: Path, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        # The outer environment's variables would let the checkout in, or change what is measured.
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd,
            env=kept,
            timeout=timeout,
        )


def environment(path: Path, wheel: Path, requirements: Iterable[Requirement]) -> Environment:
    """Install the wheel, and link beside it what the requirements bring from where it is here.

    Raises:
        PackageNotFoundError: When something of it is not installed here.
    """
    run("venv", "--no-project", "--python", sys.executable, str(path))
    made = Environment(path)
    run("pip", "install", "--no-deps", "--python", made.python, str(wheel))
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(path)}))
    for brought in installed(requirements).values():
        for file in brought.files or []:
            if ".." not in file.parts:  # programs are left out
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    target.symlink_to(Path(str(brought.locate_file(file))).resolve())
    return made


def run(*arguments: str) -> None:
    """Run uv, which needs no network for what is asked of it here."""
    done = subprocess.run(
        [uv.find_uv_bin(), "--offline", "--no-cache", "--no-config", "--quiet", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
