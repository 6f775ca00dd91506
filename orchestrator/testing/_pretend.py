"""Making an application believe that its service is ready, degraded or still starting."""

from dataclasses import replace

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._errors import AlreadyStarted
from orchestrator.testing._script import REFUSED, WRONG_PASSWORD
from orchestrator.testing._scripted_probe import ScriptedProbe
from orchestrator.testing._stage_names import stage_called
from states import (
    BootFinished,
    Failure,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StageChanged,
    StartupMachine,
    TimerFired,
)

_ANSWERS: dict[Stage, Failure | None] = {
    Stage.PROBING_REDIS: REFUSED,
    Stage.READY: None,
    Stage.DEGRADED: WRONG_PASSWORD,
}
_BUDGET_SECONDS = 240.0
"""No test waits for so long, and every platform allows it."""


class Pretence:
    """What an application believes; see `pretend`.

    Args:
        startup: The application's orchestrator, which is not entered yet.
        stage: What it believes first.
    """

    def __init__(self, startup: Orchestrator, stage: Stage) -> None:
        if startup.running:
            raise AlreadyStarted(
                "pretend(startup) comes too late: call it before the application is started"
            )
        self._startup = startup
        # What is replaced is chosen by the application, in the constructor's call, where no test
        # can reach it. Everything else stays: the application meets the real orchestrator.
        self._before = startup._probe, startup._declared, startup.policy
        self._before_entering = startup._life, startup._machine
        self._redis = ScriptedProbe([_ANSWERS[stage]])
        startup._probe = self._redis
        startup._declared = dict.fromkeys(startup._declared, False)
        startup.policy = replace(
            startup.policy,
            budget_seconds=_BUDGET_SECONDS,
            grace_seconds=0.0,
            flap_grace_seconds=0.0,
            failures_to_degrade=1,
        )
        # For an application that is never started, as by `TestClient(app)` without `with`.
        startup._life = None
        startup._machine = self._machine = _machine_in(stage, startup)

    async def become(
        self, stage: Stage | str, *, timeout_seconds: float | None = 5.0
    ) -> StageChanged:
        """Make it believe something else, and return when it does. Called on its event loop.

        Args:
            stage: `ready` or `degraded`; `probing_redis` only while it has been neither.
            timeout_seconds: How long it may take, by the orchestrator's clock. `None` for a clock
                that only moves on command.

        Raises:
            StartupTimeout: When it does not come to believe it.
            NotRunning: When the application is not started.
            ValueError: When no service can come to that stage, or stay in it.
        """
        wanted = _pretended(stage)
        if wanted is Stage.PROBING_REDIS and self._startup_is_over():
            raise ValueError(
                "no service comes back to probing_redis once it was ready or degraded: become"
                " 'degraded', or pretend 'probing_redis' before the application is started"
            )
        self._redis.then(_ANSWERS[wanted])
        return await self._startup.wait_for(wanted, timeout_seconds=timeout_seconds)

    def _startup_is_over(self) -> bool:
        known = self._startup.explain()
        over = known.stage is not Stage.BOOTING and known.budget_left_seconds is None
        return self._startup.running and over

    def undo(self) -> None:
        """Give the orchestrator back what it had, unless it is running."""
        if not self._startup.running:
            probe, declared, policy = self._before
            if self._startup._machine is self._machine:  # it was never entered
                self._startup._life, self._startup._machine = self._before_entering
            self._startup._probe = probe
            self._startup._declared = declared
            self._startup.policy = policy


def pretend(startup: Orchestrator, stage: Stage | str = Stage.READY) -> Pretence:
    """Make an application believe that its service is in a stage, without any Redis.

    Example::

        pretend(app.state.startup, "degraded")

    Call it before the application is started. Its orchestrator then runs as ever, with a Redis
    that does what the test says, no grace, and conditions that only report. Gate, health
    endpoints, callbacks and pages follow, since for them nothing is different. An application that
    is not started at all, as by `TestClient(app)` without `with`, is in that stage at once.

    Args:
        startup: The application's orchestrator.
        stage: `ready`, `degraded` or `probing_redis`.

    Raises:
        AlreadyStarted: When the orchestrator is entered already.
        ValueError: When there is no such stage, or no service can stay in it.
    """
    return Pretence(startup, _pretended(stage))


def _machine_in(stage: Stage, startup: Orchestrator) -> StartupMachine:
    """A machine that came to this stage."""
    machine = StartupMachine(startup.policy, startup._declared)
    machine.receive(BootFinished(0.0))
    if (failure := _ANSWERS[stage]) is not None:
        machine.receive(ProbeFailed(0.0, 0.0, failure))
    else:
        machine.receive(ProbeSucceeded(0.0, 0.0))
        machine.receive(TimerFired(0.0))  # grace takes no time
    return machine


def _pretended(name: Stage | str) -> Stage:
    stage = stage_called(name, _ANSWERS, "pretend")
    if stage not in _ANSWERS:
        raise ValueError(f"no service stays in {stage}: pretend one of {', '.join(_ANSWERS)}")
    return stage
