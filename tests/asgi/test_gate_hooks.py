"""What a gate is given by the application, and that may raise: bypass, hooks, metrics."""

import logging
from collections.abc import Callable
from typing import Never

import anyio
import pytest

from orchestrator import GateFigures, GateMetrics
from orchestrator._http.asgi_types import Scope
from orchestrator.asgi import ReadinessGate
from tests.asgi.gate_support import (
    App,
    Caller,
    Startup,
    http_scope,
    settled,
    websocket_scope,
)

pytestmark = pytest.mark.anyio


class PanicException(BaseException):
    """No `Exception`, and yet the fault of whoever raised it."""


class Undecided:
    def __bool__(self) -> bool:
        raise ValueError("ambiguous, as an array is")


def raises(error: BaseException) -> Callable[..., Never]:
    def hook(*_: object) -> Never:
        raise error

    return hook


WRONG = [KeyError("client"), GeneratorExit(), PanicException()]


@pytest.mark.parametrize("bypass", [*map(raises, WRONG), lambda _: Undecided()])
async def test_a_request_for_which_bypass_raises_does_not_pass(
    bypass: Callable[[Scope], bool], caplog: pytest.LogCaptureFixture
) -> None:
    async with Startup() as startup, anyio.create_task_group() as tasks:
        gate = ReadinessGate(App(), startup, bypass=bypass)
        callers = [Caller(gate, http_scope()), Caller(gate, websocket_scope())]
        for caller in callers:
            tasks.start_soon(caller.run)
        await settled()
        assert gate.held == 2
        startup.make_ready()
        await callers[0].done.wait()
        assert callers[0].status == 200
        tasks.cancel_scope.cancel()
    assert caplog.text.count("this is logged only once") == 1


class WithAsync:
    async def __call__(self, _: Scope) -> bool:
        return True


async def test_an_async_bypass_is_refused_since_it_would_let_everybody_pass() -> None:
    for bypass in (WithAsync(), WithAsync().__call__):
        with pytest.raises(TypeError, match="bypass must be a plain function"):
            ReadinessGate(App(), Startup(), bypass=bypass)  # type: ignore[arg-type]  # that is the point


class Raising(GateMetrics):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def watch(self, figures: GateFigures) -> None:  # the port's
        raise self.error

    def held_for(self, seconds: float, outcome: str) -> None:  # the port's
        raise self.error


@pytest.mark.parametrize("error", WRONG)
async def test_hooks_that_raise_lose_no_request_and_are_called_again(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    called: list[object] = []

    def hook(what: object) -> Never:
        called.append(what)
        raise error

    async with Startup() as startup, anyio.create_task_group() as tasks:
        gate = ReadinessGate(
            App(), startup, on_admission=hook, on_close=hook, metrics=Raising(error)
        )
        callers = [Caller(gate, websocket_scope()) for _ in range(3)]
        for caller in callers:
            tasks.start_soon(caller.run)
        await settled()
        startup.make_ready()
        await settled()
        late = Caller(gate, http_scope())
        await late.run()
        assert late.status == 200
        assert [caller.sent[0]["type"] for caller in callers] == ["websocket.accept"] * 3
        tasks.cancel_scope.cancel()
    assert called == ["admitted"] * 4
    assert gate.counts.admitted == 4
    # The hook for admissions, and the metrics, which hear of the gate and of three waits.
    assert caplog.text.count("this is logged only once") == 2
    assert caplog.text.count("raised 4 times in all") == 2
