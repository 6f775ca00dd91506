"""A real Ctrl-C in a real terminal, while tasks run: the process ends, and each task cleans up."""

import signal
import sys

import pytest

from tests.cli.cli_support import in_a_terminal

PROGRAM = """
import sys
import time

import anyio

from orchestrator import Check, Orchestrator, Stage, Task
from orchestrator.checks import call
from orchestrator.testing import ScriptedProbe


async def waits():
    try:
        await anyio.sleep_forever()
    finally:
        print("waits has ended", flush=True)


async def computes():
    try:
        while True:
            sum(range(10_000))  # most signals come in here
            await anyio.sleep(0)
    finally:
        print("computes has ended", flush=True)


def blocks():
    time.sleep(3600)  # no thread of it may hold up the exit


async def main():
    conditions = [
        Task("waits", waits),
        Check("blocks", call(blocks), required=False, timeout_seconds=0.2),
        *([Task("computes", computes)] if sys.argv[2] == "busy" else []),
    ]
    async with Orchestrator(ScriptedProbe("ok"), conditions=conditions) as startup:
        await startup.wait_for(Stage.READY)
        print("ready now", flush=True)
        await anyio.sleep_forever()


options = {"use_uvloop": True} if sys.argv[1] == "uvloop" else {}
backend = "trio" if sys.argv[1] == "trio" else "asyncio"
anyio.run(main, backend=backend, backend_options=options)
"""


@pytest.mark.parametrize("busy", ["busy", "idle"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_ctrl_c_ends_a_process_whose_tasks_run(loop: str, busy: str) -> None:
    with in_a_terminal(sys.executable, "-c", PROGRAM, loop, busy) as terminal:
        terminal.until("ready now")
        terminal.type("\x03")
        status = terminal.to_the_end()
    assert "waits has ended" in terminal.shown
    assert ("computes has ended" in terminal.shown) is (busy == "busy")
    assert "KeyboardInterrupt" in terminal.shown
    assert status in (-signal.SIGINT, 1), terminal.shown  # by the signal, or by its traceback
