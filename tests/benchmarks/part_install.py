"""`make install`: from nothing, and when everything is there already.

From nothing it is beside uv by hand, with the same packages in the same cache. What the package
index takes is no part of it: all have run once before.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.import_process import ROOT
from tests.benchmarks.measure import Candidate, interleaved
from tests.benchmarks.rows import Row, at_most, below

PART = "install"
OURS, UV = "make install", "uv venv and uv pip install"
EXTRA = "demo"

_MOST_OF_UV = 1.5
_MOST_SECONDS = 1.0
_LIMIT_SECONDS = 60.0


def measure(rounds: int = 2) -> Iterator[Row]:
    """Both rows; none where there is no uv, or the package index cannot be reached."""
    program = shutil.which("uv")
    beside = Path(sys.executable).with_name("uv")
    if program is None and beside.exists():
        program = str(beside)
    if program is None:
        print("`make install` is left out: there is no uv to compare with", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield from _rows(program, Path(folder), rounds)
        except subprocess.SubprocessError as error:
            print(f"`make install` is left out: {error}", file=sys.stderr)


def _rows(program: str, folder: Path, rounds: int) -> Iterator[Row]:
    path = folder / "ours"

    def ours(*, fresh: bool) -> Candidate:
        def run() -> float:
            if fresh:
                shutil.rmtree(path, ignore_errors=True)
            return _seconds(_install(path), program)

        return run

    def by_hand() -> float:
        other = folder / "by-hand"
        shutil.rmtree(other, ignore_errors=True)
        make = [program, "venv", "--quiet", "--python", sys.executable, str(other)]
        made = _seconds(make, program)
        python = str(other / "bin" / "python")
        words = [program, "pip", "install", "--quiet", "--python", python]
        return made + _seconds(
            [*words, "--constraint", "constraints.txt", "--editable", f".[{EXTRA}]"], program
        )

    figures = interleaved({OURS: ours(fresh=True), UV: by_hand}, rounds=rounds)
    mine, floor = figures.values()
    yield Row(
        part=PART,
        what="an environment for the demo, from nothing",
        unit="s",
        ours=mine,
        floor=floor,
        verdicts=(at_most(mine, _MOST_OF_UV, floor),),
    )
    again = interleaved({OURS: ours(fresh=False)}, rounds=max(rounds, 3))[OURS]
    yield Row(
        part=PART,
        what="the same again, when everything is there",
        unit="s",
        ours=again,
        verdicts=(below(again, _MOST_SECONDS, "s"),),
    )


def _install(path: Path) -> Sequence[str]:
    """What the target of the Makefile runs."""
    return [sys.executable, ".ci/install.py", "--venv", str(path), EXTRA]


def _seconds(words: Sequence[str], program: str) -> float:
    path = f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}"
    began = time.perf_counter()
    subprocess.run(
        words,
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        check=True,
        capture_output=True,
        timeout=_LIMIT_SECONDS,
    )
    return time.perf_counter() - began
