"""The count of requests that a shutdown has to answer first."""

import anyio
import pytest

from orchestrator import Orchestrator
from orchestrator._gate.admission import Admission
from orchestrator.asgi._shutdown import Shutdown
from orchestrator.testing import ScriptedProbe
from tests.asgi.gate_support import settled

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
