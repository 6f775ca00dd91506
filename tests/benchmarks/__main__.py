"""`python -m tests.benchmarks`: run the suite and write its table; `--only PART` runs one part.

The exit status is 1 where a part could not be measured, else 2 where a target was missed, else 0.
"""

import argparse
import compileall
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks import table
from tests.benchmarks.rows import Plot, Results, Row, plot_from_json, row_from_json

PARTS = {
    "import": 30,
    "command": 20,
    "startup": 45,
    "transition": 15,
    "probe": 50,
    "ready": 50,
    "fan-out": 85,
    "crowd": 25,
    "drain": 20,
    "release": 80,
    "loading": 40,
    "viewers": 10,
    "checks": 65,
    "tasks": 10,
    "detection": 100,
    "loss": 55,
    "scale": 90,
    "herd": 50,
    "fleet": 30,
    "pod": 5,
    "telemetry": 95,
    "install": 15,
}
"""The parts by the modules `part_*` that measure them, with the seconds that each takes on a quiet
machine with two cores: 15 minutes in all."""

TOGETHER = ("loss", "scale")
"""Measured at the same time: the one waits for most of it and measures seconds, and the other
counts processor time."""

ROOT = Path(__file__).parents[2]
OURS = ("orchestrator", "states", "tests")


def compile_checkout() -> None:
    """Have ours run from bytecode, as packages do that were installed, in all that is started."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for folder in OURS:
        if not compileall.compile_dir(ROOT / folder, quiet=2):
            print(f"cannot compile all of {folder}: its imports take longer here", file=sys.stderr)


def measure_here(part: str, output: Path) -> None:
    """Measure one part in this process."""
    module = importlib.import_module(f"tests.benchmarks.part_{part.replace('-', '_')}")
    items: list[Row | Plot] = list(module.measure())
    output.write_text(
        json.dumps(
            {
                "rows": [asdict(item) for item in items if isinstance(item, Row)],
                "plots": [asdict(item) for item in items if isinstance(item, Plot)],
            }
        )
    )


def measure(part: str, results: Results) -> None:
    """Measure one part in a process of its own, so that none inherits another's memory."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "part.json")
        # The limit is generous: it is there for what hangs, not for what is slow.
        limit = 60 + 6 * PARTS[part]
        try:
            process = subprocess.run(
                [sys.executable, "-m", "tests.benchmarks", "--here", part, str(output)],
                cwd=ROOT,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            results.failures[part] = f"took longer than {limit} s"
            return
        results.seconds[part] = 0.0
        if process.returncode != 0:
            results.failures[part] = f"ended with {process.returncode}; see its output above"
            return
        data = json.loads(output.read_text())
        results.add(map(row_from_json, data["rows"]))
        results.add(map(plot_from_json, data["plots"]))


def measure_all(parts: Sequence[str], results: Results) -> None:
    """Measure one part after the other, but for those that may be measured together."""
    together = [part for part in parts if part in TOGETHER]
    for part in parts:
        group = together if part in together else [part]
        if part != group[0]:
            continue
        print(f"measuring: {', '.join(group)}", file=sys.stderr, flush=True)
        began = time.perf_counter()
        with ThreadPoolExecutor(len(group)) as pool:
            for future in [pool.submit(measure, one, results) for one in group]:
                future.result()
        # What they took together, so that the sum is what the run has taken.
        took = (time.perf_counter() - began) / len(group)
        results.seconds |= {one: round(took, 1) for one in group if one in results.seconds}


def machine() -> dict[str, str]:
    """What a reader must know of where it ran."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "processor": f"{os.cpu_count()} x {model}",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; repeatable")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench", metavar="FOLDER")
    parser.add_argument("--page", action="store_true", help="write docs/explanation/performance.*")
    parser.add_argument(
        "--notes", action="store_true", help="write the page again with the figures that it has"
    )
    parser.add_argument("--here", nargs=2, metavar=("PART", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        measure_here(arguments.here[0], Path(arguments.here[1]))
        return 0
    docs = ROOT / "docs"
    if arguments.notes:
        page = importlib.import_module("tests.benchmarks.page")  # it needs the plotting library
        page.write(page.read(docs), docs)
        return 0
    compile_checkout()
    results = Results(machine())
    measure_all(arguments.only or list(PARTS), results)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "results.json").write_text(json.dumps(results.as_json(), indent=1) + "\n")
    markdown = table.markdown(results)
    (arguments.output / "results.md").write_text(markdown)
    print(markdown)
    if arguments.page:
        page = importlib.import_module("tests.benchmarks.page")
        page.write(page.merged(results, docs, PARTS) if arguments.only else results, docs)
    missed = list(results.missed())
    print(*(f"missed: {line}" for line in missed), f"missed: {len(missed)}", sep="\n")
    return 1 if results.failures else 2 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
