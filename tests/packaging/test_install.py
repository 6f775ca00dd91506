"""`.ci/install.py`: on a machine of any kind, with a package index that is a folder here."""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import install
import pytest
import uv as uv_package
import uv_as_pip as uv

from tests.packaging.requirements import ROOT

BACKEND = """
import zipfile

INFO = "startup_orchestrator-0.1.dist-info"
METADATA = (
    "Metadata-Version: 2.1\\nName: startup-orchestrator\\nVersion: 0.1\\n"
    "Provides-Extra: demo\\nRequires-Dist: needed-one; extra == 'demo'\\n"
    "Provides-Extra: dev\\nRequires-Dist: needed-one; extra == 'dev'\\n"
    "Provides-Extra: rare\\nRequires-Dist: not-for-this-machine; extra == 'rare'\\n"
)

def build_editable(directory, config_settings=None, metadata_directory=None):
    name = "startup_orchestrator-0.1-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        wheel.writestr(f"{INFO}/METADATA", METADATA)
        wheel.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr(f"{INFO}/RECORD", "")
    return name

build_wheel = build_editable
"""

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "startup-orchestrator"
version = "0.1"
[project.optional-dependencies]
demo = ["needed-one"]
dev = ["startup-orchestrator[demo]"]
rare = ["not-for-this-machine"]
"""


class Machine:
    """A checkout, in a folder with a space in its name, and all that is around it."""

    def __init__(self, folder: Path, *, with_uv: bool) -> None:
        self.checkout = folder / "a checkout"
        self.index = folder / "index"
        self.venv = self.checkout / ".venv"
        shutil.copytree(
            ROOT / ".ci", self.checkout / ".ci", ignore=shutil.ignore_patterns("__pycache__")
        )
        (self.checkout / "pyproject.toml").write_text(PROJECT)
        (self.checkout / "backend.py").write_text(BACKEND)
        (self.checkout / "constraints.txt").write_text("needed-one==1.0\n")
        self.index.mkdir()
        for version in ("1.0", "2.0"):
            self._publish("needed_one", version)
        programs = folder / "programs"
        programs.mkdir()
        if with_uv:
            (programs / "uv").symlink_to(uv_package.find_uv_bin())
        # A home that cannot be written to, even by root: it lies below a file.
        (folder / "file").touch()
        self.environ = {
            "PATH": os.pathsep.join([str(programs), "/usr/bin", "/bin"]),
            "HOME": str(folder / "file" / "home"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": f"{folder}/no-such-folder {self.index}",
        }

    def _publish(self, name: str, version: str) -> None:
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(self.index / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.py", "")
            wheel.writestr(
                f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            )
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")

    def install(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, ".ci/install.py", *arguments],
            cwd=self.checkout,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )

    def version(self) -> str:
        """Of the package that the demo needs, as the environment has it."""
        ask = "from importlib.metadata import version; print(version('needed-one'))"
        done = subprocess.run(
            [self.venv / "bin/python", "-c", ask], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, with_uv=True)


def test_it_says_what_it_does_and_a_second_run_asks_nobody(machine: Machine) -> None:
    done = machine.install("demo")
    assert done.returncode == 0, done.stderr
    making, installing, ready = done.stdout.splitlines()
    assert making.startswith("Making .venv with Python 3.")
    assert installing == "Installing what [demo] needs from the package index ..."
    assert ready.startswith(".venv is ready after ")
    assert machine.version() == "1.0"
    machine.environ |= {"PATH": "/usr/bin:/bin", "PIP_FIND_LINKS": "/nowhere"}
    again = machine.install("demo")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


@pytest.mark.long
def test_without_uv_pip_does_it_and_says_so(tmp_path: Path) -> None:
    machine = Machine(tmp_path, with_uv=False)
    done = machine.install("dev")
    assert done.returncode == 0, done.stderr
    assert "Fetching uv, which installs the rest ..." in done.stdout
    assert "uv cannot be had here: pip does it, which takes longer ..." in done.stdout
    assert machine.version() == "1.0"
    # What consists of the other has the other too.
    again = machine.install("demo")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_an_interrupted_installation_goes_on(machine: Machine) -> None:
    packages = machine.index.rename(machine.index.with_name("away"))
    # It would take 7 s to have pip, which could no more than uv.
    (machine.checkout / "ensurepip.py").touch()
    failed = machine.install("demo")
    assert failed.returncode == 1
    assert "run it again when the package index can be reached" in failed.stderr
    packages.rename(machine.index)
    done = machine.install("demo")
    assert done.returncode == 0, done.stderr
    assert "Making" not in done.stdout
    assert machine.version() == "1.0"


def test_an_environment_that_was_killed_half_way_is_made_again(machine: Machine) -> None:
    machine.venv.mkdir()
    (machine.venv / ".installed").touch()
    (machine.venv / "bin").mkdir()
    assert machine.install("demo").returncode == 0
    assert machine.version() == "1.0"


def as_if_of_python(machine: Machine, version: str) -> None:
    """As after an upgrade of the system: `bin/python` is another one than it was."""
    (own,) = (machine.venv / "lib").iterdir()
    own.rename(own.with_name(f"python{version}"))


def test_an_environment_of_another_python_is_made_again(machine: Machine) -> None:
    assert machine.install("demo").returncode == 0
    as_if_of_python(machine, "3.9")
    done = machine.install("demo", "--keep")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Making .venv")
    assert machine.version() == "1.0"


def test_an_environment_of_somebody_else_is_not_removed(machine: Machine) -> None:
    assert machine.install("demo").returncode == 0
    as_if_of_python(machine, "3.9")
    (machine.venv / ".installed").unlink()
    done = machine.install("demo")
    assert done.returncode == 1
    assert "was not made here: remove it, or choose another with VENV=" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (machine.venv / "lib/python3.9").exists()


def test_new_requirements_are_installed(machine: Machine) -> None:
    assert machine.install("demo").returncode == 0
    (machine.checkout / "constraints.txt").write_text("needed-one==2.0\n")
    assert machine.install("demo").returncode == 0
    assert machine.version() == "2.0"


def test_what_is_not_made_for_this_machine_is_said_once(machine: Machine) -> None:
    done = machine.install("demo", "--optional", "rare")
    assert done.returncode == 0, done.stderr
    assert "rare could not be installed here; the tests that need it are skipped" in done.stdout
    assert machine.install("demo", "--optional", "rare").stdout == ""
    assert json.loads((machine.venv / ".installed").read_text())["refused"] == ["rare"]


def test_a_python_without_venv_is_one_line(tmp_path: Path) -> None:
    machine = Machine(tmp_path, with_uv=False)
    # As Debian has it without python3-venv: the module is there, and cannot do it.
    (machine.checkout / "venv.py").write_text("raise SystemExit(1)\n")
    done = machine.install("demo")
    assert done.returncode == 1
    assert "cannot make a virtual environment: install its venv module" in done.stderr
    assert done.stderr.count("\n") == 1


def test_extras_are_those_of_the_project() -> None:
    assert {"demo", "cli", "websockets", "aiohttp", "trio"} <= install.closure(["dev"])
    assert install.closure(["demo"]) == {"demo", "cli", "websockets"}


def test_uv_looks_where_pip_does(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    settings = {
        "index-url": "https://one.example/simple",
        "extra-index-url": "https://two.example/simple\nhttps://three.example/simple",
        "find-links": f"{folder} /no/such/folder https://four.example/",
        "trusted-host": "one.example",
        "cert": "/ca.pem",
        "proxy": "http://proxy.example:3128",
    }
    made = uv.environ(settings, {"HOME": str(tmp_path)})
    assert made == {
        "HOME": str(tmp_path),
        "UV_DEFAULT_INDEX": "https://one.example/simple",
        "UV_INDEX": "https://two.example/simple https://three.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": f"{folder},https://four.example/",
        "UV_INSECURE_HOST": "one.example",
        "SSL_CERT_FILE": "/ca.pem",
        "ALL_PROXY": "http://proxy.example:3128",
    }


def test_what_is_said_to_uv_itself_stays(tmp_path: Path) -> None:
    outer = {"UV_DEFAULT_INDEX": "https://own.example", "UV_CACHE_DIR": "/c", "SSL_CERT_DIR": "/d"}
    assert uv.environ({"index-url": "https://pip.example"}, outer) == outer
    (tmp_path / "file").touch()
    made = uv.environ({}, {"HOME": "/", "XDG_CACHE_HOME": str(tmp_path / "file" / "cache")})
    assert made["UV_CACHE_DIR"] == str(ROOT / "build" / "uv-cache")


def test_pip_s_files_and_variables_are_read_in_its_order(tmp_path: Path) -> None:
    (tmp_path / ".config/pip").mkdir(parents=True)
    (tmp_path / ".config/pip/pip.conf").write_text(
        "[install]\ncert = /install.pem\n[global]\ncert = /global.pem\n"
        "index_url = https://u:p%40@one.example/\nfind-links =\n    /one\n    /two\n"
    )
    found = uv.pip_settings({"HOME": str(tmp_path), "PIP_FIND_LINKS": "/three"})
    assert found["cert"] == "/install.pem"
    assert found["index-url"] == "https://u:p%40@one.example/"
    assert found["find-links"] == "/three"
    own = tmp_path / "own.conf"
    own.write_text("[global]\ncert = /own.pem\n")
    found = uv.pip_settings({"HOME": "/nowhere", "PIP_CONFIG_FILE": str(own)})
    assert found["cert"] == "/own.pem"
    own.write_bytes(b"no such thing as a section\n\xff")
    assert "index-url" not in uv.pip_settings({"HOME": "/x", "PIP_CONFIG_FILE": str(own)})


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make on PATH")
@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_make_finds_a_package_in_place_below_any_letters_in_every_locale(
    tmp_path: Path, locale: str
) -> None:
    place = tmp_path / "wörk"
    venv.create(place / "venv", symlinks=True)
    (packages,) = place.glob("venv/lib/python*/site-packages")
    (packages / "in_place.pth").write_text(f"{place}\n", encoding="utf-8")
    (place / "mine.py").touch()
    (place / "more.mk").write_text("try:\n\t@$(BIN)/python -c 'import mine'\n")
    done = subprocess.run(
        ["make", "-f", str(ROOT / "Makefile"), "-f", "more.mk", "VENV=venv", "try"],
        cwd=place,
        env={"PATH": os.environ["PATH"], "LC_ALL": locale},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
