"""How costs grow with the number of things, and that nothing grows with uptime."""

import time
from collections.abc import Callable, Iterator, Sequence

import anyio

from states import BootFinished, ConditionChanged, Fact, ProbeFailed, StartupMachine
from tests.benchmarks import scale_crowds, scale_uptime
from tests.benchmarks.fan_out_ways import Ours
from tests.benchmarks.measure import ROUNDS, Candidate, interleaved
from tests.benchmarks.part_fan_out import compare, no_collector
from tests.benchmarks.rows import Figure, Plot, Row, Series, at_most
from tests.benchmarks.transition_ways import FAILURE, POLICY, cycle, degraded_machine

PART = "scale"
SIZES = (1, 10, 100, 1_000, 10_000, 100_000)
FEW, MANY = 1_000, 100_000
UPTIME_SHARE = 5
LEAST_FACTS = 300
"""Of fewer, as many machines are fed as make up this number, and the mean counts."""


def feeding(make: Callable[[], StartupMachine], facts: Sequence[Fact]) -> Candidate:
    """Microseconds for each fact; machines and facts are made before."""
    machines = max(1, LEAST_FACTS // len(facts))

    def run() -> float:
        receivers = [make().receive for _ in range(machines)]
        with no_collector(collect=False):  # it was run just now
            began = time.perf_counter()
            for receive in receivers:
                for fact in facts:
                    receive(fact)
            took = time.perf_counter() - began
        return took / machines / len(facts) * 1e6

    return run


def transitions(number: int) -> Candidate:
    """One machine that goes from stage to stage; it is told the same facts again and again."""
    return feeding(degraded_machine, (cycle(1.0) * (number // 3 + 1))[:number])


def attempts(number: int) -> Candidate:
    """One machine that is told of failed attempts, and stays degraded."""
    return feeding(degraded_machine, [ProbeFailed(1.0, 0.001, FAILURE)] * number)


def conditions(number: int) -> Candidate:
    """One machine with so many required conditions, each of which comes to hold."""
    names = [f"condition-{n}" for n in range(number)]

    def make() -> StartupMachine:
        machine = StartupMachine(POLICY, names)
        machine.receive(BootFinished(0.0))
        return machine

    return feeding(make, [ConditionChanged(1.0, name, satisfied=True) for name in names])


KINDS: dict[str, Callable[[int], Candidate]] = {
    "transitions": transitions,
    "attempts": attempts,
    "conditions": conditions,
}


def subscribers(sizes: Sequence[int], rounds: int) -> dict[int, Figure]:
    """Microseconds for each subscriber that is told, on asyncio."""
    found = {}
    for size in sizes:
        totals, _ = anyio.run(compare, [Ours], size, rounds)
        values = tuple(ms * 1e3 / size for ms in totals[Ours.name])
        found[size] = Figure(f"{size:,}", values)
    return found


def linear(what: str, figures: dict[int, Figure], few: int, many: int) -> Row:
    """The row that compares many with few."""
    ours, floor = figures[many], figures[few]
    return Row(
        part=PART,
        what=f"one of {many:,} {what}",
        unit="us",
        ours=Figure("ours", ours.values),
        floor=Figure(f"one of {few:,}", floor.values),
        verdicts=(at_most(ours, 1.5, floor, f"one of {few:,}"),),
    )


def measure(
    sizes: Sequence[int] = SIZES, few: int = FEW, many: int = MANY, rounds: int = ROUNDS
) -> Iterator[Row | Plot]:
    """All of it."""
    lines = []
    for what, make in KINDS.items():
        figures = interleaved({str(size): make(size) for size in sizes}, rounds=rounds)
        found = {int(size): figure for size, figure in figures.items()}
        lines.append((what, found))
    lines.append(("subscribers", subscribers(sizes, rounds)))
    for what, found in lines:
        yield linear(what, found, few, many)
    yield Plot(
        part=PART,
        name="per-item",
        title="What one more costs",
        x_label="how many there are",
        y_label="us for each",
        series=tuple(
            Series(what, tuple((size, figure.median) for size, figure in found.items()))
            for what, found in lines
        ),
    )
    yield from scale_crowds.rows(sizes, few)
    # Fewer, since tracing memory makes all of it many times slower.
    yield from scale_uptime.rows(few, many // UPTIME_SHARE)
