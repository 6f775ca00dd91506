"""What a shutdown has to do before the server hears the signal."""

import signal

import anyio
import pytest

from orchestrator import Orchestrator, Policy
from orchestrator._gate.admission import Admission
from orchestrator.asgi import ReadinessGate
from orchestrator.asgi._shutdown import Shutdown
from orchestrator.testing import ScriptedProbe
from tests.asgi.gate_support import App, Caller, Startup, http_scope, settled

pytestmark = pytest.mark.anyio


async def test_two_signals_may_wait_for_the_same_answers() -> None:
    startup = Orchestrator(ScriptedProbe())
    shutdown = Shutdown(startup, Admission(startup), on_signals=False)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            with shutdown:
                for _ in range(2):
                    tasks.start_soon(shutdown.written)
                    await settled()


@pytest.mark.parametrize("held", [0, 1, 2])
async def test_the_server_hears_of_it_when_the_drain_is_over_however_many_are_held(
    held: int,
) -> None:
    order: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: order.append("server"))
    policy = Policy(drain_close_seconds=0.0, drain_limit_seconds=20.0)
    startup = Startup(policy=policy)
    gate = ReadinessGate(App(), startup, hold_seconds=60)
    callers = [Caller(gate, http_scope()) for _ in range(held)]

    @startup.on_drain
    async def say_goodbye() -> None:
        await settled()
        order.append("callback")

    try:
        with anyio.fail_after(60):
            async with startup, anyio.create_task_group() as tasks:
                for caller in callers:
                    tasks.start_soon(caller.run)
                await settled()
                signal.raise_signal(signal.SIGTERM)
                while "server" not in order:  # a handler has no event to wait for
                    await anyio.sleep(0.01)
                assert order == ["callback", "server"]
                assert [caller.status for caller in callers] == [503] * held
    finally:
        signal.signal(signal.SIGTERM, before)
