"""The wheel, installed into an environment of its own."""

import shutil
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.packaging.environments import Built, Environment, environment
from tests.packaging.requirements import ROOT, direct

NEED_AN_EXTRA = {"aiohttp", "websockets"}

EVERY_MODULE = """
import importlib, pkgutil, sys
import orchestrator, states

for package in (orchestrator, states):
    assert package.__file__.startswith(sys.prefix), package.__file__
for module in pkgutil.iter_modules(orchestrator.__path__, "orchestrator."):
    if not module.name.rpartition(".")[2].startswith("_"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            print(error)
try:
    import orchestrator.settings.pydantic
except ModuleNotFoundError as error:
    print(error)
"""

IT_WORKS = """
import anyio
from orchestrator import Orchestrator, Policy, Stage
from orchestrator.asgi import ReadinessGate, health_app, lifespan
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.redis import RedisProbe
from orchestrator.settings import Settings
from orchestrator.testing import ScriptedProbe, StageLog, virtual_startup
from orchestrator.web import web_app

async def main():
    log = StageLog()
    probe, observers = ScriptedProbe("refused, ok"), [log, OpenTelemetryObserver()]
    one = Orchestrator(probe, policy=Policy(), observers=observers)
    page, run = web_app(one), lifespan(one)
    gate = ReadinessGate(page, startup=one, health=True)
    async with run(gate):
        await one.wait_for(Stage.READY, timeout_seconds=5)
        health_app(one)
    # Redis itself: nothing listens on this port.
    result = await RedisProbe("redis://127.0.0.1:1").attempt(0.5)
    print(log.stages[-1], result.failure.kind, Settings.from_environment().enabled)

anyio.run(main)
"""


@pytest.fixture(scope="module")
def plain(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What `pip install startup-orchestrator` brings, and no extra."""
    path = tmp_path_factory.mktemp("plain") / "venv"
    return environment(path, built.wheel, direct([]))


@pytest.fixture(scope="module")
def with_pydantic(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    path = tmp_path_factory.mktemp("pydantic") / "venv"
    return environment(path, built.wheel, direct(["pydantic"]))


def test_without_extras_everything_imports_or_says_which_extra_it_needs(
    plain: Environment, tmp_path: Path
) -> None:
    done = plain.run(plain.python, "-W", "error", "-c", EVERY_MODULE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) == {
        f"orchestrator.{name} needs {name}: install startup-orchestrator[{name}]"
        for name in NEED_AN_EXTRA
    } | {
        (
            "orchestrator.settings.pydantic needs pydantic 2.6 and pydantic-settings 2.2, or newer:"
            " install startup-orchestrator[pydantic]"
        )
    }


def test_with_its_extra_pydantic_reads_the_settings(
    with_pydantic: Environment, tmp_path: Path
) -> None:
    code = "from orchestrator.settings.pydantic import OrchestratorSettings as Settings\n"
    code += "print(Settings().settings.enabled)"
    done = with_pydantic.run(with_pydantic.python, "-W", "error", "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_an_older_pydantic_is_no_obstacle_and_is_named(plain: Environment, tmp_path: Path) -> None:
    (tmp_path / "pydantic.py").write_text("VERSION = '1.10.13'\nclass Field: pass\n")
    code = "import orchestrator.settings\nimport orchestrator.settings.pydantic"
    # As a script, so that the folder beside it goes before what is installed.
    (tmp_path / "script.py").write_text(code)
    done = plain.run(plain.python, "script.py", cwd=tmp_path)
    assert "needs pydantic 2.6 and pydantic-settings 2.2, or newer" in done.stderr


def test_an_older_pydantic_2_is_named_too(with_pydantic: Environment, tmp_path: Path) -> None:
    code = "import pydantic, pydantic.version\npydantic.VERSION = '2.5.3'\n"
    code += "import orchestrator.settings.pydantic"
    done = with_pydantic.run(with_pydantic.python, "-c", code, cwd=tmp_path)
    assert "needs pydantic 2.6 and pydantic-settings 2.2, or newer" in done.stderr


def test_without_extras_it_works(plain: Environment, tmp_path: Path) -> None:
    done = plain.run(plain.python, "-W", "error", "-c", IT_WORKS, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "ready transient True\n"), done.stderr


@pytest.mark.parametrize("arguments", [[], ["settings"], ["demo"]])
def test_without_its_extra_the_command_says_so(
    plain: Environment, tmp_path: Path, arguments: list[str]
) -> None:
    done = plain.run(plain.program("startup-orchestrator"), *arguments, cwd=tmp_path)
    line = "startup-orchestrator: typer is missing: install startup-orchestrator[cli]\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


def test_with_the_cli_alone_the_demo_says_what_it_needs(built: Built, tmp_path: Path) -> None:
    made = environment(tmp_path / "venv", built.wheel, direct(["cli"]))
    done = made.run(made.program("startup-orchestrator"), "settings", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = made.run(made.program("startup-orchestrator"), "demo", cwd=tmp_path)
    line = "startup-orchestrator: starlette is missing: install startup-orchestrator[demo]\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


@pytest.mark.long
def test_the_installed_package_passes_its_tests(built: Built, tmp_path: Path) -> None:
    tools = map(Requirement, ["anyio[trio]", "pytest"])
    made = environment(tmp_path / "venv", built.wheel, [*direct(["trio"]), *tools])
    copy = tmp_path / "copy"
    parts = ["__init__.py", "conftest.py", "states/test_machine.py", "states/test_policy.py"]
    parts += ["runtime/test_clock.py", "settings/test_settings.py"]
    for part in parts:
        source, target = ROOT / "tests" / part, copy / "tests" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    shutil.copy(ROOT / "pyproject.toml", copy)
    where = "import orchestrator, states, sys\ndef test_where():\n"
    where += "    assert orchestrator.__file__.startswith(sys.prefix)\n"
    where += "    assert states.__file__.startswith(sys.prefix)\n"
    (copy / "tests" / "test_where.py").write_text(where)
    done = made.run(made.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=copy)
    assert done.returncode == 0, done.stdout
    assert "no tests ran" not in done.stdout
