""".ci/run: what it asks for where it may, beside the tests. Nothing is installed here."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.packaging.requirements import ROOT

RUN = ROOT / ".ci" / "run"
in_a_checkout = pytest.mark.skipif(not RUN.exists(), reason="the source distribution has no .ci")


def ran(folder: Path, **environ: str) -> list[str]:
    """The targets that it has made, with a `make` and an `apt-get` that only write down."""
    for name in ("make", "apt-get"):
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/{name}.log\n')
        program.chmod(0o755)
    path = os.pathsep.join([str(folder), "/usr/bin", "/bin"])
    subprocess.run([RUN], env={"PATH": path, **environ}, check=True, capture_output=True)
    return (folder / "make.log").read_text().split()


@in_a_checkout
def test_a_newcomer_has_the_tests_and_nothing_else(tmp_path: Path) -> None:
    assert ran(tmp_path) == ["test"]
    assert not (tmp_path / "apt-get.log").exists()


@in_a_checkout
def test_where_it_may_it_has_the_kubernetes_manifest_checked(tmp_path: Path) -> None:
    assert ran(tmp_path, CI="true") == ["schemas", "test"]


@pytest.mark.parametrize("ends", [0, 1])
def test_schemas_that_cannot_be_installed_are_told_and_stop_nothing(
    ends: int, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/log\nexit {ends}\n')
    (tmp_path / "bin/python").chmod(0o755)
    (tmp_path / ".installed").touch()  # newer than all that it is made of
    done = subprocess.run(
        ["make", "--silent", "schemas", f"VENV={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("could not install the schemas" in done.stdout) == bool(ends)
    asked = (tmp_path / "log").read_text()
    assert "--constraint constraints.txt --editable .[kubernetes]" in asked
