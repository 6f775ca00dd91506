"""Real orchestrators that publish to a real Redis, several in one process.

`python -m tests.fleet.fleet_process PORT NAME...`: the port is that of a Redis, or `sentinel:` and
that of a sentinel which knows it as `chat`. A name says how it is: `late-...` waits for a
condition that does not come, `degraded-...` loses one that it had, `flapping-...` loses it again
and again until standard input ends, and all others are ready. Then the number of the last change of
each is printed as JSON, and all go on as they are.
"""

import json
import random
import sys

import anyio
import anyio.to_thread

from orchestrator import Orchestrator, Policy, Stage
from orchestrator.fleet import Fleet
from orchestrator.redis import RedisProbe

POLICY = Policy(grace_seconds=0.1, budget_seconds=600.0)
_FLAP_SECONDS = (1.0, 4.0)


class Instances:
    """The instances of this process.

    Args:
        port: Of their Redis; or `sentinel:` and the port of a sentinel.
    """

    def __init__(self, port: str) -> None:
        kind, _, number = port.rpartition(":")
        self._sentinels = [("127.0.0.1", int(number))] if kind else []
        self._url = f"redis://127.0.0.1:{port}"
        self._calm = anyio.Event()
        self._startups: dict[str, Orchestrator] = {}

    async def live(self, name: str) -> None:
        """One instance, until the process ends."""
        version = "2" if name.endswith(("0", "2", "4", "6", "8")) else "1"
        told = {"service": "chat", "instance": name, "version": version}
        if self._sentinels:
            fleet = Fleet.from_sentinel(self._sentinels, "chat", **told)
            probe = RedisProbe.from_sentinel(self._sentinels, "chat")
        else:
            fleet, probe = Fleet(self._url, **told), RedisProbe(self._url)
        self._startups[name] = startup = Orchestrator(
            probe, policy=POLICY, conditions=["database"], observers=[fleet]
        )
        database = startup.condition("database")
        async with startup:
            if not name.startswith("late"):
                database.set(True)
                await startup.wait_for(Stage.READY)
            if name.startswith("degraded"):
                database.set(False, reason="the pool is exhausted")
            while name.startswith("flapping") and not self._calm.is_set():
                with anyio.move_on_after(random.uniform(*_FLAP_SECONDS)):
                    await self._calm.wait()
                database.set(False, reason="the pool is exhausted")
                database.set(True)
            await anyio.sleep_forever()

    async def report(self) -> None:
        """Wait for the end of standard input; then say how many changes there were."""
        await anyio.to_thread.run_sync(sys.stdin.read)
        self._calm.set()
        for startup in self._startups.values():
            await startup.wait_for(Stage.READY)
        latest = {name: startup.latest for name, startup in self._startups.items()}
        told = {name: one.sequence for name, one in latest.items() if one is not None}
        print(json.dumps(told), flush=True)


async def main(port: str, names: list[str]) -> None:
    """All of them."""
    instances = Instances(port)
    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(instances.live, name)
        if any(name.startswith("flapping") for name in names):
            tasks.start_soon(instances.report)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2:])
