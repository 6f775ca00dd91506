""".ci/run: what it asks for where it may, beside the tests. Nothing is installed here."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.packaging.requirements import PROJECT, ROOT

RUN = ROOT / ".ci" / "run"


class Machine:
    """With programs that only write down what is asked of them, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        (folder / ".ci").mkdir()
        shutil.copy(RUN, folder / ".ci")
        (folder / ".venv/bin").mkdir(parents=True)
        self.make("apt-get")
        self.make("make")
        self.make(".venv/bin/python")
        self.day("005")  # the fifth day of a year: the others come in their order

    def day(self, number: str) -> None:
        self.make("bin/date", f'[ "$*" = +%j ] && echo {number} || exec /bin/date "$@"')

    def make(self, program: str, body: str = "") -> None:
        path = self.folder / program
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{path.name} $*" >> {self.log}\n{body}\n')
        path.chmod(0o755)

    def change(self, before: str, after: str) -> None:
        run = self.folder / ".ci/run"
        text = run.read_text()
        assert text.count(f"\n{before}") == 1
        run.write_text(text.replace(f"\n{before}", f"\n{after}"))

    def run(self, **environ: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(self.folder), str(self.folder / "bin"), "/usr/bin", "/bin"])
        return subprocess.run(
            [self.folder / ".ci/run"],
            env={"PATH": path, **environ},
            check=False,
            capture_output=True,
            text=True,
        )

    def asked(self) -> list[str]:
        """Without what every run of tests is asked."""
        lines = re.sub(r" (ARGS=)?(--until=\d+|-o faulthandler\S+)", "", self.log.read_text())
        skipped = ("apt-get", "date")
        return [line for line in lines.splitlines() if not line.startswith(skipped)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


HERE = ["make schemas", "make test", "make test-long"]
ELSEWHERE = [
    "python .ci/debian.py sid make runtime-tests",
    "make test-minimal",
    "python .ci/debian.py trixie make runtime-tests",
    "make test-newest",
    "python .ci/debian.py bookworm make runtime-tests",
]
EVERYTHING = HERE + ELSEWHERE
AGAIN = "WORKERS=1 ARGS=--last-failed --last-failed-no-failures=none"


def test_a_newcomer_has_the_tests_and_nothing_else(machine: Machine) -> None:
    assert machine.run().returncode == 0
    assert machine.log.read_text() == "make test\n"


def test_ci_runs_the_tests_on_other_pythons_and_versions_too(machine: Machine) -> None:
    assert machine.run(CI="true").returncode == 0
    assert machine.asked() == EVERYTHING


@pytest.mark.parametrize("day", ["001", "099", "366"])
def test_each_has_its_day_on_which_it_comes_first(machine: Machine, day: str) -> None:
    machine.day(day)
    assert machine.run(CI="true").returncode == 0
    first = int(day) % len(ELSEWHERE)
    assert machine.asked() == HERE + ELSEWHERE[first:] + ELSEWHERE[:first]


def test_where_there_can_be_no_debian_it_goes_on(machine: Machine) -> None:
    machine.make(".venv/bin/python", 'echo "no Debian $2 here: only root can make it"; exit 77')
    done = machine.run(CI="true")
    assert done.returncode == 0
    assert "no Debian sid here" in done.stdout
    assert machine.asked() == EVERYTHING


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("index", [0, 1, 2, 4])
def test_what_fails_elsewhere_is_run_once_more_and_fails_the_second_time(
    machine: Machine, index: int, again: bool
) -> None:
    failing = ELSEWHERE[index].removeprefix("python ")
    body = f'case "{again} $*" in "False {failing} {AGAIN}"*) ;; *"{failing}"*) exit 1;; esac'
    machine.make(".venv/bin/python", body)
    if failing.startswith("make "):
        machine.make("make", body.replace("make ", ""))
    done = machine.run(CI="true")
    assert bool(done.returncode) is again
    assert f"{failing} failed; what failed is run once more" in done.stdout
    before, after = ELSEWHERE[: index + 1], [] if again else ELSEWHERE[index + 1 :]
    assert machine.asked() == [*HERE, *before, f"{ELSEWHERE[index]} {AGAIN}", *after]


@pytest.mark.parametrize("again", [True, False])
def test_what_fails_is_run_once_more_and_fails_the_second_time(
    machine: Machine, again: bool
) -> None:
    machine.make("make", f'[ "$1" != test ] || exit 2; [ "$1 {again}" != "pytest True" ] || exit 2')
    done = machine.run(CI="true")
    assert bool(done.returncode) is again
    assert "WARNING: make test failed" in done.stdout
    second = ["make lint types", f"make pytest {AGAIN}"]
    assert machine.asked() == [*EVERYTHING[:2], *second, *EVERYTHING[2 : 2 if again else None]]


def test_what_would_begin_too_late_is_left_out(machine: Machine) -> None:
    machine.change("LAST_TEST_SECONDS=", "LAST_TEST_SECONDS=-1 #")
    done = machine.run(CI="true")
    assert done.returncode == 0
    assert machine.asked() == HERE[:2]
    assert done.stdout.count(" is left out: ") == len(["make test-long", *ELSEWHERE])


def test_every_run_but_that_of_make_test_begins_none_after_the_same_moment(
    machine: Machine,
) -> None:
    began_at = time.time()
    assert machine.run(CI="true").returncode == 0
    log = machine.log.read_text()
    untils = re.findall(r"--until=(\d+)", log)
    assert len(untils) == len(EVERYTHING) - len(["make schemas", "make test"])
    (whole,) = re.findall("make test .*", log)
    assert "--until" not in whole
    assert len(set(untils)) == 1
    assert began_at < int(untils[0]) < began_at + 1200


def test_what_is_stopped_before_its_tests_have_ended_is_said_and_no_failure(
    machine: Machine,
) -> None:
    machine.change("END_SECONDS=", "END_SECONDS=2 #")
    machine.make(".venv/bin/python", "exec sleep 600")
    done = machine.run(CI="true")
    assert done.returncode == 0
    assert re.search(r"debian.py sid .* was cut off after \d+ s, before its tests", done.stdout)
    assert machine.asked() == EVERYTHING


def test_what_has_failed_and_is_stopped_the_second_time_fails(machine: Machine) -> None:
    machine.change("END_SECONDS=", "END_SECONDS=2 #")
    machine.make(".venv/bin/python", 'case "$*" in *WORKERS*) exec sleep 600;; esac; exit 1')
    assert machine.run(CI="true").returncode != 0


@pytest.mark.parametrize("again", [True, False])
def test_what_fails_of_the_long_tests_is_run_once_more(machine: Machine, again: bool) -> None:
    machine.make("make", f'[ "$1" != test-long ] || [ "{again} $2" = "False WORKERS=1" ]')
    done = machine.run(CI="true")
    assert bool(done.returncode) is again
    second = f"make test-long {AGAIN}"
    assert machine.asked() == [*EVERYTHING[:3], second, *EVERYTHING[3 : 3 if again else None]]


def test_a_failure_with_the_newest_versions_is_a_warning(machine: Machine) -> None:
    machine.make("make", '[ "$1" != test-newest ]')
    done = machine.run(CI="true")
    assert done.returncode == 0
    assert "WARNING: make test-newest failed twice" in done.stdout
    again = f"make test-newest {AGAIN}"
    assert machine.asked() == [*EVERYTHING[:-1], again, EVERYTHING[-1]]


def test_schemas_that_cannot_be_installed_are_told_and_stop_nothing(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ncase "$*" in *kubernetes*) exit 1;; esac\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "--silent", "schemas", f"PYTHON={python}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (
        "could not install the schemas of Kubernetes; the test that needs them is skipped\n"
    )


TWENTY = """
import time
import pytest

ran = []

@pytest.mark.parametrize("number", range(20))
def test_one(number, request):
    ran.append(number)
    if len(ran) == 5:
        print("ran", ran)
        later = request.config.getoption("--until") + 1
        time.time = lambda: later
"""


def test_no_test_begins_after_the_moment_and_another_is_the_first_on_each_day(
    tmp_path: Path,
) -> None:
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    (tmp_path / "test_twenty.py").write_text(TWENTY)
    firsts = set()
    for day in range(3):
        until = int(time.time()) + 86400 * (day + 1)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-sra", "-pno:cacheprovider", f"--until={until}"],
            cwd=tmp_path,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert re.search(r"\ncut off after \d+ s: 5 tests passed, 15 were left out\n", done.stdout)
        (ran,) = re.findall(r"ran \[(.*)\]", done.stdout)
        first, *others = map(int, ran.split(", "))
        assert others == [(first + step) % 20 for step in range(1, 5)]
        firsts.add(first)
    assert len(firsts) == 3


WORKFLOW = ROOT / ".github/workflows/ci.yml"


def test_the_workflow_runs_it_on_every_python_that_is_supported() -> None:
    job = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["test"]
    prefix = "Programming Language :: Python :: 3."
    supported = {
        f"3.{one.removeprefix(prefix)}" for one in PROJECT["classifiers"] if one.startswith(prefix)
    }
    assert set(job["strategy"]["matrix"]["python"]) == supported
    assert job["steps"][-1] == {"run": ".ci/run"}


@pytest.mark.skipif(not shutil.which("actionlint"), reason="there is no actionlint on PATH")
def test_the_workflow_is_one_that_the_forge_takes() -> None:
    done = subprocess.run(
        ["actionlint", "-no-color", WORKFLOW], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
