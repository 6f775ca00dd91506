"""What a user sees of us where nobody has set anything up for it."""

import subprocess
import sys

import pytest

SET_UPS = {
    "nothing": "",
    "uvicorn": """
import logging.config, uvicorn.config
logging.config.dictConfig(uvicorn.config.LOGGING_CONFIG)
""",
    "a handler for nobody": """
import logging
logging.getLogger().addHandler(logging.NullHandler())
""",
    "one that disables what it does not know": """
import logging.config
logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
""",
    "a server with a set-up, and we disabled": """
import logging.config, uvicorn.config
logging.config.dictConfig(uvicorn.config.LOGGING_CONFIG | {"disable_existing_loggers": True})
""",
    "the application's own": """
import logging
logging.basicConfig(format="own %(name)s %(message)s")
""",
    "silence": """
import logging
logging.getLogger("orchestrator").setLevel(logging.CRITICAL)
""",
}

PROGRAM = """
import asyncio
from orchestrator import Orchestrator, Policy, Stage
from orchestrator.testing import ScriptedProbe
{set_up}
async def main():
    async with Orchestrator(ScriptedProbe("wrong-password")) as startup:
        await startup.wait_for(Stage.DEGRADED, timeout_seconds=30)
asyncio.run(main())
"""


@pytest.mark.parametrize("set_up", SET_UPS)
def test_a_degraded_stage_is_shown_whatever_logging_is_set_up(set_up: str) -> None:
    program = PROGRAM.format(set_up=SET_UPS[set_up])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    said = done.stdout + done.stderr
    line = "probing_redis -> degraded"
    if set_up == "silence":
        assert line not in said
        return
    assert said.count(line) == 1, said
    assert ("own orchestrator probing" if "own" in set_up else "startup-orchestrator:") in said
    if "uvicorn" in set_up or "server" in set_up:
        assert "WARNING" in said.partition("startup-orchestrator:")[0]


BLOCKS = """
import asyncio, time
from orchestrator import Orchestrator, Policy, Stage
from orchestrator.testing import ScriptedProbe

async def main():
    policy = Policy(probe_interval_seconds=0.1)
    async with Orchestrator(ScriptedProbe(), policy=policy) as startup:
        await startup.wait_for(Stage.READY, timeout_seconds=30)
        for _ in range(2):
            time.sleep(1.5)
            await asyncio.sleep(0.3)
asyncio.run(main())
"""


def test_a_blocked_event_loop_is_said_once_and_how_long() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stderr.count("the event loop was blocked for 1.") == 1, done.stderr
    assert "a sync client in an async handler" in done.stderr
