"""`wait`: until Redis is ready, within a budget."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import anyio

from orchestrator import Explanation, Orchestrator, Stage, StageChanged
from orchestrator._runtime.event_loop import EventLoop
from orchestrator.cli._shell.ending import obeyed
from orchestrator.cli._shell.exit_codes import BUDGET_SPENT, OK, PERMANENT, SIGNALLED
from orchestrator.cli._shell.output import note
from orchestrator.cli._shell.startup import (
    is_permanent,
    load_redis_beside,
    probe_for,
    silence_log,
)
from orchestrator.cli.wait.wait_progress import WaitProgress
from orchestrator.settings import Settings


class WaitOutcome(StrEnum):
    """How the waiting ended. The values are stable: they appear in JSON."""

    READY = "ready"
    BUDGET_SPENT = "budget_spent"
    PERMANENT_FAILURE = "permanent_failure"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Waited:
    """How the waiting ended.

    Attributes:
        outcome: How.
        known: What was known then.
        signal_number: The signal that ended it; 0 for none.
        enabled: False where nothing was asked, because the environment says so.
    """

    outcome: WaitOutcome
    known: Explanation
    signal_number: int = 0
    enabled: bool = True

    @property
    def status(self) -> int:
        """The exit status, where no CMD follows."""
        return {
            WaitOutcome.READY: OK,
            WaitOutcome.BUDGET_SPENT: BUDGET_SPENT,
            WaitOutcome.PERMANENT_FAILURE: PERMANENT,
            WaitOutcome.INTERRUPTED: SIGNALLED + self.signal_number,
        }[self.outcome]

    @property
    def elapsed_seconds(self) -> float:
        """How long it took, from the first attempt on."""
        return sum(self.known.stage_seconds.values()) - self.known.stage_seconds[Stage.BOOTING]

    def as_json(self) -> Mapping[str, object]:
        """For `--json`; durations are in seconds."""
        failure = self.known.last_failure
        return {
            "outcome": self.outcome,
            "enabled": self.enabled,
            "exit_status": self.status,
            "stage": self.known.stage,
            "elapsed_seconds": round(self.elapsed_seconds, 4),
            "attempts": self.known.attempts,
            "last_failure": None
            if failure is None
            else {
                "kind": failure.kind,
                "error_type": failure.error_type,
                "reason": failure.reason,
            },
        }


def wait(settings: Settings, progress: WaitProgress) -> Waited:
    """Wait until Redis is ready, the budget is spent, the failure is permanent or a signal comes.

    Raises:
        UserError: When the URL of Redis cannot be used.
    """
    probe = probe_for(settings.redis_url)
    silence_log()
    load_redis_beside()
    startup = Orchestrator(
        probe, policy=settings.policy, observers=[progress], enabled=settings.enabled
    )
    return anyio.run(partial(_wait, startup, progress))


async def _wait(startup: Orchestrator, progress: WaitProgress) -> Waited:
    decided, known = None, None
    with (
        anyio.CancelScope() as scope,
        obeyed(lambda _: scope.cancel(), EventLoop().call) as came,
    ):
        async with anyio.create_task_group() as tasks:
            async with startup:
                tasks.start_soon(progress.keep_moving, startup)
                async for event in startup.subscribe():
                    if event.current in (Stage.READY, Stage.DEGRADED):
                        decided = event
                        break
                known = startup.explain()
            tasks.cancel_scope.cancel()
    known = known or startup.explain()
    if came or decided is None:  # also one that came after the decision: CMD must not begin then
        return Waited(WaitOutcome.INTERRUPTED, known, came[0])
    return Waited(_outcome(decided), known, enabled=startup.enabled)


def _outcome(event: StageChanged) -> WaitOutcome:
    if event.current is Stage.READY:
        return WaitOutcome.READY
    return WaitOutcome.PERMANENT_FAILURE if is_permanent(event) else WaitOutcome.BUDGET_SPENT


def tell(waited: Waited, *, quiet: bool) -> None:
    """Say on standard error how it ended: always if badly, and otherwise unless `quiet`."""
    known, seconds = waited.known, waited.elapsed_seconds
    if waited.outcome is WaitOutcome.READY:
        if not waited.enabled:
            text = "disabled by ORCHESTRATOR_ENABLED: nothing was asked"
        else:
            text = f"ready after {seconds:.2f} s and {known.attempts} attempt(s)"
        if not quiet:
            note(text)
        return
    if waited.outcome is WaitOutcome.INTERRUPTED:
        name = signal.Signals(waited.signal_number).name
        note(f"stopped by {name} after {seconds:.2f} s, in {known.stage}")
        return
    why = known.last_failure.reason if known.last_failure is not None else "no attempt had ended"
    if waited.outcome is WaitOutcome.PERMANENT_FAILURE:
        note(f"waiting does not mend this: {why}")
    else:
        note(f"not ready within {seconds:.2f} s and {known.attempts} attempt(s): {why}")
