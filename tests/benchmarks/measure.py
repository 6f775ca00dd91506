"""Rounds in which all candidates take turns, so that a busy machine disturbs all of them alike."""

import gc
import time
from collections.abc import Callable, Mapping

from tests.benchmarks.rows import Figure

ROUNDS = 7

Candidate = Callable[[], float]
"""Runs once and returns what it cost, in the row's unit."""


def interleaved(
    candidates: Mapping[str, Candidate], *, rounds: int = ROUNDS, warm_up: int = 1
) -> dict[str, Figure]:
    """Let all candidates run in turns; the order changes from round to round."""
    values: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for number in range(-warm_up, rounds):
        for name in names:
            gc.collect()
            value = candidates[name]()
            if number >= 0:
                values[name].append(value)
        names.append(names.pop(0))
    return {name: Figure(name, tuple(taken)) for name, taken in values.items()}


def per_call(run: Callable[[], object], number: int, unit_seconds: float = 1e-6) -> Candidate:
    """A candidate that calls `run` `number` times, and costs the time of one call."""

    def measure() -> float:
        began = time.perf_counter()
        for _ in range(number):
            run()
        return (time.perf_counter() - began) / number / unit_seconds

    return measure
