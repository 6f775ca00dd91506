"""The pytest plugin. Where the package is installed, pytest finds it by itself."""

from collections.abc import Callable, Iterable, Iterator

import pytest

from orchestrator._core.conditions import ConditionSpec
from orchestrator._core.orchestrator import Orchestrator
from orchestrator._hardening.log_thread import write_at_once
from orchestrator.testing._manual_clock import ManualClock
from orchestrator.testing._pretend import Pretence, pretend
from orchestrator.testing._scripted_probe import ScriptedProbe
from orchestrator.testing._stage_log import StageLog
from orchestrator.testing._virtual import VirtualStartup, virtual_startup
from states import Policy, Stage


def pytest_configure() -> None:
    """Have log lines written where they are logged, so that `caplog` sees them at once."""
    write_at_once()


@pytest.fixture
def manual_clock() -> ManualClock:
    """Time that moves when the test says so, on asyncio and trio alike."""
    return ManualClock()


@pytest.fixture
def stage_log() -> StageLog:
    """An observer that remembers the stages and asserts on them."""
    return StageLog()


@pytest.fixture
def scripted_redis(manual_clock: ManualClock) -> Callable[[str], ScriptedProbe]:
    """Makes a probe from a script such as `"refused x3, loading 5s, ok"`, on `manual_clock`."""
    return lambda script: ScriptedProbe(script, clock=manual_clock)


class StartupFactory:
    """Makes whole start-ups in virtual time; see `orchestrator.testing.virtual_startup`."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def __call__(
        self,
        script: str = "ok",
        *,
        policy: Policy | None = None,
        conditions: Iterable[str | ConditionSpec] = (),
    ) -> VirtualStartup:
        """A start-up on `manual_clock`."""
        return virtual_startup(script, policy=policy, conditions=conditions, clock=self._clock)


@pytest.fixture(name="virtual_startup")
def _virtual_startup(manual_clock: ManualClock) -> StartupFactory:
    """Makes a start-up: its Redis follows a script, its time is `manual_clock`."""
    return StartupFactory(manual_clock)


@pytest.fixture
def pretend_stage() -> Iterator[Callable[[Orchestrator, Stage | str], Pretence]]:
    """Makes an application believe that its service is `ready`, `degraded` or `probing_redis`."""
    made: list[Pretence] = []

    def believe(startup: Orchestrator, stage: Stage | str = Stage.READY) -> Pretence:
        made.append(pretend(startup, stage))
        return made[-1]

    yield believe
    for pretence in reversed(made):  # a later one remembers what an earlier one has replaced
        pretence.undo()
