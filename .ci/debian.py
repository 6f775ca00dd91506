"""`python .ci/debian.py SUITE COMMAND...`: a command in a clean Debian, by an ordinary user.

The system is made by debootstrap in build/debian-SUITE, with Python and make but no compiler. It
has a copy of the checkout, and of what this machine says about package indexes and certificates.
Nothing can be written to the user's home. It takes root, debootstrap and a mirror of Debian: where
these cannot be had, one line says so, and the exit status is 77.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
CANNOT_BE_HAD = 77
"""The exit status, as Automake has it for a test that was skipped."""

_USER = "tester"
_UID = 1000
# With a space, as in the homes of some people.
_CHECKOUT = "srv/a checkout"
_PACKAGES = ("ca-certificates", "make", "openssl", "procps", "python3-venv", "redis-server")
_KEPT = {".pytest_cache", ".venv", "build"}
"""What was made there before."""
_LEFT_BEHIND = shutil.ignore_patterns(".git", ".venv", "build", "dist", "__pycache__", ".*_cache")
# What says where packages are, and whom to trust.
_TAKEN_OVER = ("PIP_", "UV_", "SSL_", "REQUESTS_CA_BUNDLE", "CI", "TERM")
_PIP_FILES = (
    Path("/etc/pip.conf"),
    Path.home() / ".config/pip/pip.conf",
    Path.home() / ".pip/pip.conf",
)

# /dev and /proc are there while the command runs, and for nobody else.
_ENTER = """
mount --rbind /dev "$0/dev" && mount --rbind /proc "$0/proc" && exec chroot "$@"
"""


class CannotBeHadError(Exception):
    """There can be no such system here; the text says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the system if it is not there, run the command, and return its exit status."""
    parser = argparse.ArgumentParser(prog="python .ci/debian.py")
    parser.add_argument("suite", help="such as trixie, or sid")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="nothing: only make the system")
    asked = parser.parse_args(arguments)
    folder = ROOT / "build" / f"debian-{asked.suite}"
    try:
        make(folder, asked.suite)
    except CannotBeHadError as error:
        print(f"no Debian {asked.suite} here: {error}", flush=True)
        return CANNOT_BE_HAD
    return run(folder, asked.command) if asked.command else 0


def make(folder: Path, suite: str) -> None:
    """Make the system, unless it was made before; and bring the checkout in it up to date.

    Raises:
        CannotBeHadError: Not as this user, without these programs, or without a mirror.
    """
    if os.geteuid() != 0:
        raise CannotBeHadError("only root can make it")
    for program in ("debootstrap", "unshare", "apt-get"):
        if shutil.which(program) is None:
            raise CannotBeHadError(f"{program} is not installed")
    made = folder / "made"
    if not made.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(exist_ok=True)
        _bootstrap(folder, suite)
        _take_over(folder)
        made.touch()
    _copy_checkout(folder)


def run(folder: Path, command: Sequence[str]) -> int:
    """Run the command in the checkout as the ordinary user; return its exit status."""
    variables = [
        f"{name}={value}" for name, value in os.environ.items() if name.startswith(_TAKEN_OVER)
    ]
    done = subprocess.run(
        [
            *("unshare", "--mount", "--fork", "--kill-child", "sh", "-ec", _ENTER, str(folder)),
            *(f"--userspec={_USER}:{_USER}", str(folder), "env", "-i", f"--chdir=/{_CHECKOUT}"),
            *(f"HOME=/home/{_USER}", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LANG=C.UTF-8"),
            *variables,
            *command,
        ],
        check=False,
    )
    return done.returncode


def _bootstrap(folder: Path, suite: str) -> None:
    include = f"--include={','.join(_PACKAGES)}"
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", include, suite, str(folder), _mirror()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        raise CannotBeHadError(f"debootstrap failed; {log.name} says why")


def _mirror() -> str:
    """Where this machine has its own packages from, if it is a Debian."""
    shape = "$(ORIGIN) $(COMPONENT) $(REPO_URI) $(RELEASE)"
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", shape, "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        origin, component, uri, release = (*line.split(), "", "", "", "")[:4]
        if origin == "Debian" and component == "main" and "-" not in release:
            return uri
    raise CannotBeHadError("apt knows no mirror of Debian; try apt-get update")


def _take_over(folder: Path) -> None:
    """The machine's certificates and pip's files; and an ordinary user whose home is read-only.

    And who localhost is, which until Debian 12 only the installer writes down.
    """
    subprocess.run(
        ["chroot", str(folder), "useradd", "--no-create-home", "--uid", str(_UID), _USER],
        check=True,
    )
    (folder / "home" / _USER).mkdir(mode=0o555)
    certificates = Path("/etc/ssl/certs")
    if certificates.is_dir():
        target = folder / "etc/ssl/certs"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(certificates, target, ignore_dangling_symlinks=True)
    for place in map(Path, os.environ.get("PIP_FIND_LINKS", "").split()):
        if place.is_absolute() and place.is_dir():
            shutil.copytree(place, folder / place.relative_to("/"), dirs_exist_ok=True)
    said = "\n".join(file.read_text() for file in _PIP_FILES if file.is_file())
    (folder / "etc/pip.conf").write_text(said)
    hosts = folder / "etc/hosts"
    if not hosts.exists():
        hosts.write_text("127.0.0.1 localhost\n::1 localhost ip6-localhost\n")


def _copy_checkout(folder: Path) -> None:
    target = folder / _CHECKOUT
    target.mkdir(parents=True, exist_ok=True)
    for entry in target.iterdir():
        if entry.name not in _KEPT:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.copytree(ROOT, target, ignore=_LEFT_BEHIND, symlinks=True, dirs_exist_ok=True)
    for top, folders, files in os.walk(target):
        folders[:] = [name for name in folders if name not in _KEPT]
        for name in (".", *folders, *files):
            os.chown(Path(top) / name, _UID, _UID, follow_symlinks=False)


if __name__ == "__main__":
    sys.exit(main())
