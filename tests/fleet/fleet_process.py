"""Real orchestrators that publish to a real Redis, several in one process.

`python -m tests.fleet.fleet_process PORT NAME...`: a name says how it is: `late-...` waits for a
condition that does not come, `degraded-...` loses one that it had, and all others are ready.
"""

import sys

import anyio

from orchestrator import Orchestrator, Policy, Stage
from orchestrator.fleet import Fleet
from orchestrator.redis import RedisProbe

POLICY = Policy(grace_seconds=0.1, budget_seconds=600.0)


async def live(url: str, name: str) -> None:
    """One instance, until the process ends."""
    version = "2" if name.endswith(("0", "2", "4", "6", "8")) else "1"
    fleet = Fleet(url, service="chat", instance=name, version=version)
    startup = Orchestrator(
        RedisProbe(url), policy=POLICY, conditions=["database"], observers=[fleet]
    )
    async with startup:
        if not name.startswith("late"):
            startup.condition("database").set(True)
            await startup.wait_for(Stage.READY)
        if name.startswith("degraded"):
            startup.condition("database").set(False, reason="the pool is exhausted")
        await anyio.sleep_forever()


async def main(port: str, names: list[str]) -> None:
    """All of them."""
    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(live, f"redis://127.0.0.1:{port}", name)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2:])
