"""`python -m tests.mutants ROOM... --count N --seed S`: changes that the tests ought to notice.

Cosmic Ray changes one place of one file in a copy of the checkout: a comparison, a number, a `not`,
how a loop ends. The tests of that room run there until one of them fails. A change that none of
them notices is printed: it stands for a test that is missing, or it changes nothing that matters.
A sample by chance is taken, since there are thousands; the same seed takes the same sample.
"""

import argparse
import difflib
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPY = ROOT / "build" / "mutants"
_LEFT_BEHIND = shutil.ignore_patterns(".git", ".venv", "build", "dist", "__pycache__", ".*_cache")

ROOMS = {
    "states": ("states/test_machine.py", "states", "core"),
    "orchestrator/_core": (
        *("core/test_orchestrator.py", "core", "testing", "hardening"),
        *("checks/test_tasks.py", "integrations/test_ended.py"),
    ),
    "orchestrator/_gate": ("gate", "asgi", "pod/test_pod.py", "health"),
    "orchestrator/_probing": ("probing", "redis"),
}
"""The tests that prove each room, the quickest first."""

_USELESS = ("NoOp", "VariableReplacer", "VariableInserter")
"""Operators that change nothing, or want to be told what."""

_LEAST_SECONDS = 60.0


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        file: Which file, from the root.
        operator: Cosmic Ray's name for the kind of change.
        occurrence: Which of the places where it could be made.
    """

    file: Path
    operator: str
    occurrence: int

    def code(self) -> str:
        """The file's text with it."""
        operator = import_module("cosmic_ray.plugins").get_operator(self.operator)()
        text = (ROOT / self.file).read_text(encoding="utf-8")
        mutated = import_module("cosmic_ray.mutating").mutate_code(text, operator, self.occurrence)
        return str(mutated)


class Copy:
    """The checkout, where nobody else works."""

    def __init__(self) -> None:
        shutil.rmtree(COPY, ignore_errors=True)
        shutil.copytree(ROOT, COPY, ignore=_LEFT_BEHIND)
        self._changes = 0

    def write(self, file: Path, text: str) -> None:
        """Put the text there, as of another second: else Python would take the old bytecode."""
        self._changes += 1
        (COPY / file).write_text(text, encoding="utf-8")
        at = time.time() + self._changes
        os.utime(COPY / file, (at, at))

    def imports(self) -> bool:
        """Whether the package can be loaded: a mutant that keeps it from that says nothing."""
        return self._python("-c", "import orchestrator.asgi, orchestrator.redis").returncode == 0

    def passes(self, folders: Sequence[str], limit_seconds: float | None) -> bool:
        """Whether the tests notice nothing; they do if they hang."""
        tests = [f"tests/{folder}" for folder in folders]
        options = ("-q", "-x", "-p", "no:cacheprovider")
        try:
            done = self._python("-m", "pytest", *options, *tests, limit_seconds=limit_seconds)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def _python(
        self, *arguments: str, limit_seconds: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=COPY,
            env={**os.environ, "PYTHONPATH": str(COPY)},
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_seconds,
        )


def mutants(room: str) -> Iterator[Mutant]:
    """Every change that could be made in a room."""
    plugins, tree = import_module("cosmic_ray.plugins"), import_module("cosmic_ray.ast")
    names = [name for name in plugins.operator_names() if not name.endswith(_USELESS)]
    for path in sorted((ROOT / room).rglob("*.py")):
        nodes = [*tree.ast_nodes(tree.get_ast(path.read_text(encoding="utf-8")))]
        for name in names:
            operator = plugins.get_operator(name)()
            places = sum(len([*operator.mutation_positions(node)]) for node in nodes)
            for occurrence in range(places):
                yield Mutant(path.relative_to(ROOT), name, occurrence)


def try_room(room: str, count: int, chance: random.Random, copy: Copy) -> Counter[str]:
    """Try so many mutants, print those that nobody notices, and count what became of them.

    Raises:
        RuntimeError: The tests fail without any change.
    """
    folders = ROOMS[room]
    began = time.monotonic()
    if not copy.passes(folders, None):
        raise RuntimeError(f"the tests of {room} fail as it is: {', '.join(folders)}")
    limit_seconds = max(_LEAST_SECONDS, 4 * (time.monotonic() - began))
    waiting = [*mutants(room)]
    print(f"{room}: {count} of {len(waiting)} mutants", flush=True)
    chance.shuffle(waiting)
    seen: Counter[str] = Counter()
    while waiting and seen["noticed"] + seen["survived"] < count:
        mutant = waiting.pop()
        before, after = (ROOT / mutant.file).read_text(encoding="utf-8"), mutant.code()
        copy.write(mutant.file, after)
        if not copy.imports():
            seen["cannot be imported, not counted"] += 1
        elif any(not copy.passes([folder], limit_seconds) for folder in folders):
            seen["noticed"] += 1
        else:
            seen["survived"] += 1
            print(_difference(mutant, before, after), flush=True)
        copy.write(mutant.file, before)
    return seen


def _difference(mutant: Mutant, before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), str(mutant.file), mutant.operator, lineterm="", n=2
    )
    return "\n".join(["", "SURVIVED", *lines])


def main() -> int:
    """Try a sample of each room that is named, or of all of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=", ".join(ROOMS))
    parser.add_argument("--count", type=int, default=20, help="for each room (20)")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    copy = Copy()
    for room in asked.rooms or ROOMS:
        chance = random.Random(f"{asked.seed} {room}")
        seen = try_room(room, asked.count, chance, copy)
        print(f"\n{room}:", ", ".join(f"{number} {what}" for what, number in seen.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
