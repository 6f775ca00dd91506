"""State machines that a fact, an event or a trigger takes to and fro between two states."""

import asyncio
import importlib
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import Any  # Any: python-statemachine is there only with the extra `bench`

from transitions import Machine
from transitions.extensions.asyncio import AsyncMachine

from states import (
    BootFinished,
    Failure,
    FailureKind,
    Policy,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StartupMachine,
    TimerFired,
)

Run = Callable[[int], float]
"""Makes that many transitions, and returns the microseconds that each of them took."""

FAILURE = Failure(FailureKind.TRANSIENT, "ConnectionRefusedError", "nothing listens there")
POLICY = Policy(
    grace_seconds=0.0,
    flap_grace_seconds=0.0,
    failures_to_degrade=1,
)


def degraded_machine() -> StartupMachine:
    """A machine that was ready once, and needs no grace: each cycle has three transitions."""
    machine = StartupMachine(POLICY)
    machine.receive(BootFinished(0.0))
    machine.receive(ProbeSucceeded(0.0, 0.001))
    machine.receive(TimerFired(0.0))
    machine.receive(ProbeFailed(0.0, 0.001, FAILURE))
    assert machine.stage is Stage.DEGRADED
    return machine


def cycle(at: float) -> tuple[ProbeSucceeded, TimerFired, ProbeFailed]:
    """The facts that lead from degraded over grace and ready back to degraded."""
    return ProbeSucceeded(at, 0.001), TimerFired(at), ProbeFailed(at, 0.001, FAILURE)


def ours() -> Run:
    """`StartupMachine.receive`; the facts are made before."""
    machine, seconds = degraded_machine(), count(1)

    def run(number: int) -> float:
        facts = [fact for _ in range(number // 3) for fact in cycle(float(next(seconds)))]
        receive = machine.receive
        began = time.perf_counter()
        for fact in facts:
            changed = receive(fact)
        took = time.perf_counter() - began
        assert changed is not None
        assert changed.current is Stage.DEGRADED
        return took / len(facts) * 1e6

    return run


class Told:
    """A model with the one callback."""

    def __init__(self) -> None:
        self.times = 0

    def tell(self, *_: object) -> None:
        """Called by each transition."""
        self.times += 1


class AsyncTold(Told):
    """A model with the one callback, which is awaited."""

    async def atell(self, *_: object) -> None:
        """Called by each transition."""
        self.times += 1


STATES = ["grace", "ready", "degraded"]


def bare(callbacks: int = 1) -> Run:
    """A `transitions.Machine` with the same three states, without or with one callback."""
    model: Any = Told()
    machine = Machine(model, states=STATES, initial="degraded", auto_transitions=False)
    after = "tell" if callbacks else None
    for source, target in zip(["degraded", "grace", "ready"], STATES, strict=True):
        machine.add_transition("go", source, target, after=after)

    def run(number: int) -> float:
        before = model.times
        began = time.perf_counter()
        for _ in range(number):
            model.go(None)
        took = time.perf_counter() - began
        assert model.times - before == number * callbacks
        return took / number * 1e6

    return run


def asynchronous() -> Run:
    """The same in a `transitions` machine whose triggers are awaited."""
    model: Any = AsyncTold()
    machine = AsyncMachine(model, states=STATES, initial="degraded", auto_transitions=False)
    for source, target in zip(["degraded", "grace", "ready"], STATES, strict=True):
        machine.add_transition("go", source, target, after="atell")

    async def go(number: int) -> float:
        before = model.times
        began = time.perf_counter()
        for _ in range(number):
            await model.go(None)
        took = time.perf_counter() - began
        assert model.times - before == number
        return took / number * 1e6

    return lambda number: asyncio.run(go(number))


def python_statemachine() -> Run:
    """The same in python-statemachine.

    Raises:
        ImportError: When it is not installed.
    """
    library: Any = importlib.import_module("statemachine")
    told = Told()
    degraded, grace = library.State(initial=True), library.State()
    ready = library.State()
    body = {
        "degraded": degraded,
        "grace": grace,
        "ready": ready,
        "go": degraded.to(grace) | grace.to(ready) | ready.to(degraded),
        "after_go": lambda self: told.tell(),  # noqa: ARG005  it is a method
    }
    machine: Any = type("Bench", (library.StateMachine,), body)()

    def run(number: int) -> float:
        before = told.times
        began = time.perf_counter()
        for _ in range(number):
            machine.go()
        took = time.perf_counter() - began
        assert told.times - before == number
        return took / number * 1e6

    return run


PEERS: dict[str, Callable[[], Run]] = {
    "transitions AsyncMachine, one callback": asynchronous,
    "python-statemachine, one callback": python_statemachine,
}


def peers() -> dict[str, Run]:
    """Those that are installed; says of the others that they are left out."""
    there = {}
    for name, make in PEERS.items():
        try:
            there[name] = make()
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)  # a benchmark prints
    return there
