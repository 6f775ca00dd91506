"""Six checks in three ordered groups with critical flags, as one list: the page's own, run."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus

from orchestrator import Orchestrator
from orchestrator.testing import ManualClock, ScriptedProbe

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "migrate-phases.md"

pytestmark = pytest.mark.anyio


class Service:
    """What the six are about, each of which can be well or not."""

    def __init__(self, redis: str = "ok") -> None:
        self.clock = ManualClock()
        self.down = {"auth"}
        self.hangs: set[str] = set()
        self.began: list[str] = []
        self.startup = self._built(redis)

    def _built(self, redis: str) -> Orchestrator:
        page = PAGE.read_text(encoding="utf-8")
        (text,) = re.findall(r"```python\n(from orchestrator.*?)```", page, re.DOTALL)
        text = re.sub(r"^(async )?def .*: \.\.\..*\n", "", text, flags=re.MULTILINE)
        text, count = re.subn(r"RedisProbe\(.*?\),.*\n", "probe, clock=clock,\n", text)
        assert count == 1
        names: dict[str, Any] = {
            "probe": ScriptedProbe(redis),
            "clock": self.clock,
            "check_database": self._check("database"),
            "check_auth": self._check("auth"),
            "supervise_agents": self._task("agent-supervisor"),
            "serve_threads": self._task("thread-service"),
            "bridge": self._task("websocket-bridge"),
        }
        exec(text, names)  # noqa: S102  it is our own page
        startup: Orchestrator = names["startup"]
        return startup

    def _check(self, name: str) -> Callable[[], Awaitable[bool]]:
        async def check() -> bool:
            return name not in self.down

        return check

    def _task(self, name: str) -> Callable[..., Awaitable[None]]:
        async def task(*, task_status: TaskStatus[None]) -> None:
            self.began.append(name)
            if name in self.hangs:
                await anyio.sleep_forever()
            task_status.started()
            while name not in self.down:
                self.startup.condition(name).beat()
                with self.clock.cancel_at(self.clock.now() + 0.5):
                    await anyio.sleep_forever()
            raise OSError(name)

        return task

    def held(self) -> set[str]:
        known = self.startup.explain().conditions
        return {name for name, state in known.items() if state.satisfied}


async def test_groups_begin_one_after_the_other_and_what_is_not_critical_is_not_waited_for() -> (
    None
):
    service = Service("refused x8, ok")
    service.down |= {"database"}
    async with service.startup as startup:
        await service.clock.advance(30)
        assert str(startup.stage) == "grace"  # Redis answers; the first group is not complete
        assert service.began == []
        service.down -= {"database"}
        await service.clock.advance(2)
        assert startup.ready
        assert set(service.began[:2]) == {"agent-supervisor", "thread-service"}
        assert service.began[2:] == ["websocket-bridge"]
        assert "auth" not in service.held()
        service.down.clear()
        await service.clock.advance(16)  # it is asked on
        assert "auth" in service.held()
        assert "database" in str(startup.account())


async def test_what_hangs_before_it_is_up_is_started_again_and_what_falls_later_comes_back() -> (
    None
):
    service = Service()
    service.hangs = {"websocket-bridge"}
    async with service.startup as startup:
        await service.clock.advance(4)
        assert service.began.count("websocket-bridge") == 1
        service.hangs.clear()
        await service.clock.advance(2)  # the limit of 5 s is over
        assert service.began.count("websocket-bridge") == 2
        assert startup.ready
        service.down |= {"thread-service"}
        await service.clock.advance(1)
        assert str(startup.stage) == "degraded"
        service.down -= {"thread-service"}
        await service.clock.advance(10)
        assert startup.ready


async def test_a_critical_one_that_never_comes_spends_the_budget_and_ends_nothing() -> None:
    service = Service()
    service.down |= {"database"}
    async with service.startup as startup:
        await service.clock.advance(59)
        assert str(startup.stage) == "grace"
        await service.clock.advance(2)
        assert str(startup.stage) == "degraded"
        service.down -= {"database"}
        await service.clock.advance(5)
        assert startup.ready
