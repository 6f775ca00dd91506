"""What the gate costs a service that is ready: requests and messages a second, and calls.

The server's processor time is read from `/proc`, so on Linux only.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Self

from tests.benchmarks import ready_calls
from tests.benchmarks.ready_names import AGAIN, ALONE, BASE, GATE, NO_CLOSES, NOTHING
from tests.benchmarks.rows import Figure, Row, Verdict

PART = "ready"
ROOT = Path(__file__).parents[2]

_SOCKETS = (ALONE, AGAIN, NOTHING, GATE, NO_CLOSES)
KINDS = {
    "http": ("HTTP requests", "request", (ALONE, AGAIN, NOTHING, GATE, BASE)),
    "websocket": ("WebSocket messages, there and back", "message", _SOCKETS),
    "pipelined": ("WebSocket messages, eight at once", "message", _SOCKETS),
}
"""What is counted, what one of them is called, and the candidates."""

LEAST = {
    "http": {GATE: 0.94},
    "websocket": {GATE: 0.90, NO_CLOSES: 0.98},
    "pipelined": {GATE: 0.85, NO_CLOSES: 0.98},
}
"""The targets: times the application alone."""

SHOWN = 16
"""How many values a row keeps of each candidate: each is the median of as many turns in a row."""


def measure(
    processes: int = 3, rounds: int = 64, count: int = 256, calls: tuple[int, int] = (2_000, 40)
) -> Iterator[Row]:
    """All rows.

    The turns are short, some 10 ms, and many: whatever else the machine does then disturbs both
    turns of a pair, or one pair of many.

    Args:
        processes: How many servers are started one after the other: no two are quite alike.
        rounds: How often the candidates take turns on each of them.
        count: The requests of one turn; of pipelined messages, twice as many.
        calls: The calls of one round without a server, and the rounds.
    """
    taken = {kind: {name: Turns() for name in names} for kind, (*_, names) in KINDS.items()}
    for _ in range(processes):
        with Bench() as bench:
            for kind, turns in taken.items():
                bench.take_turns(kind, turns, count * 2 if kind == "pipelined" else count, rounds)
    for kind, turns in taken.items():
        yield from _rows(kind, turns)
    yield from ready_calls.measure(*calls)


@dataclass
class Turns:
    """What one candidate did, turn by turn.

    Attributes:
        per_second: Round trips a second.
        processor_us: Microseconds of the server's processor time for each.
    """

    per_second: list[float] = field(default_factory=list)
    processor_us: list[float] = field(default_factory=list)


class Bench:
    """A server and a load generator, each in a process of its own; ends both."""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._server = stack.enter_context(_process("ready_server"))
            self._load = stack.enter_context(_process("ready_load"))
            self._ports: dict[str, int] = json.loads(_line(self._server))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def take_turns(self, kind: str, taken: dict[str, Turns], count: int, rounds: int) -> None:
        """Let all candidates run in turns, in a new order each time.

        Each order comes by chance, since a turn feels what the one before has left in the caches.
        """
        names, chance = list(taken), Random(rounds)
        for number in range(-1, rounds):
            chance.shuffle(names)
            for name in names:
                per_second, processor_us = self._turn(kind, name, count)
                if number >= 0:
                    taken[name].per_second.append(per_second)
                    taken[name].processor_us.append(processor_us)

    def _turn(self, kind: str, name: str, count: int) -> tuple[float, float]:
        before = _processor_seconds(self._server.pid)
        assert self._load.stdin is not None
        self._load.stdin.write(f"{kind} {self._ports[name]} {count}\n")
        self._load.stdin.flush()
        seconds, done = map(float, _line(self._load).split())
        used = _processor_seconds(self._server.pid) - before
        return done / seconds, used / done * 1e6


@contextlib.contextmanager
def _process(module: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.benchmarks.{module}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with {process.wait(5)}")
    return line


def _processor_seconds(process: int) -> float:
    """Of its main thread, which runs the event loop; in the kernel too."""
    schedstat = Path(f"/proc/{process}/schedstat")  # Linux counts nanoseconds there
    return int(schedstat.read_text().split()[0]) / 1e9


def _rows(kind: str, taken: dict[str, Turns]) -> Iterator[Row]:
    counted, one, names = KINDS[kind]
    peers = [name for name in names if name not in (GATE, ALONE, AGAIN)]
    for what, unit, values, more in (
        (counted, "/s", {name: taken[name].per_second for name in names}, True),
        (
            f"the server's processor time for each {one}",
            "µs",
            {name: taken[name].processor_us for name in names},
            False,
        ),
    ):
        ratio, spread = _paired(values[GATE], values[ALONE])
        control, _ = _paired(values[AGAIN], values[ALONE])
        text = f"{ratio:.4f} x {ALONE} as the median of {len(values[GATE])} pairs ({spread})"
        verdicts = tuple(_verdicts(values, LEAST[kind])) if more else ()
        note = f"{'' if more else text + '; '}{AGAIN}: {control:.4f} x"
        yield Row(
            part=PART,
            what=what,
            unit=unit,
            ours=Figure(GATE, _shown(values[GATE]), note),
            peers=tuple(Figure(name, _shown(values[name])) for name in peers),
            floor=Figure(ALONE, _shown(values[ALONE])),
            more_is_better=more,
            verdicts=verdicts,
        )


def _verdicts(
    values: Mapping[str, Sequence[float]], least: Mapping[str, float]
) -> Iterator[Verdict]:
    for name, target in least.items():
        ratio, spread = _paired(values[name], values[ALONE])
        who = "" if name == GATE else f"{name}: "
        pairs = f"as the median of {len(values[name])} pairs ({spread})"
        yield Verdict(f"{who}{ratio:.4f} x {ALONE} {pairs} (at least {target})", ratio >= target)


def _shown(values: Sequence[float]) -> tuple[float, ...]:
    size = -(-len(values) // SHOWN)
    return tuple(median(values[at : at + size]) for at in range(0, len(values), size))


def _paired(ours: Sequence[float], floor: Sequence[float]) -> tuple[float, str]:
    """The median of the ratios within each round, and the middle half of them in words."""
    ratios = [one / other for one, other in zip(ours, floor, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return median(ratios), f"half of them {low:.3f}-{high:.3f}"
