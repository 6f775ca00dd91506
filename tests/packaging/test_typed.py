"""What type checkers find in the installed package: every public name has a known type."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.environments import Built, Environment, environment
from tests.packaging.requirements import RUNTIME_EXTRAS, direct

pytestmark = pytest.mark.long

COMMANDS = "orchestrator.cli."
"""The command line is no interface for programs."""


@pytest.fixture(scope="module")
def everything(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    path = tmp_path_factory.mktemp("everything") / "venv"
    return environment(path, built.wheel, direct(RUNTIME_EXTRAS))


@pytest.mark.parametrize("package", ["orchestrator", "states"])
def test_the_public_interface_is_typed_completely(
    everything: Environment, tmp_path: Path, package: str
) -> None:
    command = [sys.executable, "-m", "basedpyright", "--verifytypes", package, "--ignoreexternal"]
    done = subprocess.run(
        [*command, "--outputjson"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        # It asks the first `python` on PATH where packages are, whatever else it is told.
        env={**os.environ, "PATH": f"{everything.path / 'bin'}:{os.environ['PATH']}"},
    )
    report = json.loads(done.stdout)["typeCompleteness"]
    assert report["packageRootDirectory"].startswith(str(everything.path))
    exported = [
        one
        for one in report["symbols"]
        if one["isExported"] and not one["name"].startswith(COMMANDS)
    ]
    unknown = [
        (one["name"], [said["message"] for said in one["diagnostics"]])
        for one in exported
        if not one["isTypeKnown"]
    ]
    assert unknown == []
    assert exported
