"""`wait`: until all that is asked is ready, within a budget."""

import signal
from collections.abc import Mapping
from enum import StrEnum
from functools import partial

import anyio

from orchestrator import Account, Explanation, Orchestrator, Stage
from orchestrator._core.order import PROBE
from orchestrator._runtime.event_loop import EventLoop
from orchestrator.cli._shell.asked import Asked, CountedProbe, account_of, orchestrator_of, why
from orchestrator.cli._shell.ending import obeyed
from orchestrator.cli._shell.exit_codes import BUDGET_SPENT, OK, PERMANENT, SIGNALLED
from orchestrator.cli._shell.output import note
from orchestrator.cli._shell.startup import is_permanent, load_redis_beside, silence_log
from orchestrator.cli.wait.wait_progress import WaitProgress
from states import Failure
from states._records import record


class WaitOutcome(StrEnum):
    """How the waiting ended. The values are stable: they appear in JSON."""

    READY = "ready"
    BUDGET_SPENT = "budget_spent"
    PERMANENT_FAILURE = "permanent_failure"
    INTERRUPTED = "interrupted"


@record
class Waited:
    """How the waiting ended.

    Attributes:
        outcome: How.
        known: What was known then.
        asked: What was asked.
        account: Where the start went.
        signal_number: The signal that ended it; 0 for none.
    """

    outcome: WaitOutcome
    known: Explanation
    asked: Asked
    account: Account
    signal_number: int = 0

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

    @property
    def enabled(self) -> bool:
        """False where nothing was asked, because the environment says so."""
        return self.asked.settings.enabled

    @property
    def attempts(self) -> int:
        """The attempts at all that was asked."""
        return self.known.attempts + sum(one.attempts for one in self.asked.counted)

    def as_json(self, *, account: bool = False) -> Mapping[str, object]:
        """For `--json`; durations are in seconds."""
        data: dict[str, object] = {
            "outcome": self.outcome,
            "enabled": self.enabled,
            "exit_status": self.status,
            "stage": self.known.stage,
            "elapsed_seconds": round(self.elapsed_seconds, 4),
            "attempts": self.attempts,
            "last_failure": _as_json(self.known.last_failure),
            "checks": [self._main_as_json(), *map(_check_as_json, self.asked.counted)],
        }
        return data | {"account": self.account.as_json()} if account else data

    def _main_as_json(self) -> Mapping[str, object]:
        known = self.known
        return {
            "name": self.asked.name or PROBE,
            "required": True,
            "holds": known.attempts > 0 and not known.failures_in_row,
            "attempts": known.attempts,
            "last_failure": _as_json(known.last_failure),
        }


def _check_as_json(one: CountedProbe) -> Mapping[str, object]:
    return {
        "name": one.name,
        "required": one.required,
        "holds": one.answers,
        "attempts": one.attempts,
        "last_failure": _as_json(one.last_failure),
    }


def _as_json(failure: Failure | None) -> Mapping[str, object] | None:
    if failure is None:
        return None
    return {"kind": failure.kind, "error_type": failure.error_type, "reason": failure.reason}


def wait(asked: Asked, progress: WaitProgress) -> Waited:
    """Wait until all is ready, the budget is spent, a failure is permanent or a signal comes."""
    silence_log()
    if not asked.name:
        load_redis_beside(asked.settings.redis_url)
    startup = orchestrator_of(asked)
    startup.observe(progress)
    return anyio.run(partial(_wait, asked, startup, progress))


async def _wait(asked: Asked, startup: Orchestrator, progress: WaitProgress) -> Waited:
    decided, known = None, None
    with (
        anyio.CancelScope() as scope,
        obeyed(lambda _: scope.cancel(), EventLoop().call) as came,
    ):
        async with anyio.create_task_group() as tasks:
            async with startup:
                tasks.start_soon(progress.keep_moving, startup)
                decided = await _Decision(asked, progress).made(startup)
                known = startup.explain()
            tasks.cancel_scope.cancel()
    known = known or startup.explain()
    if came or decided is None:  # also one that came after the decision: CMD must not begin then
        return Waited(WaitOutcome.INTERRUPTED, known, asked, account_of(asked, startup), came[0])
    return Waited(decided, known, asked, account_of(asked, startup))


class _Decision:
    """Waits for what decides how the waiting ends."""

    def __init__(self, asked: Asked, progress: WaitProgress) -> None:
        self._asked = asked
        self._progress = progress
        self._asked_again = anyio.Event()
        self._outcome: WaitOutcome | None = None
        self._scope = anyio.CancelScope()
        for one in asked.counted:
            one.ended = self._ended

    async def made(self, startup: Orchestrator) -> WaitOutcome | None:
        """The outcome; `None` where the start-up was left before there was one."""
        with self._scope:
            async for event in startup.subscribe():
                if event.current is Stage.READY:
                    with anyio.move_on_after(startup.policy.attempt_timeout_seconds):
                        await self._until_each_was_asked(startup)
                    return WaitOutcome.READY
                if event.current is Stage.DEGRADED:
                    is_final = is_permanent(event)
                    return WaitOutcome.PERMANENT_FAILURE if is_final else WaitOutcome.BUDGET_SPENT
        return self._outcome

    async def _until_each_was_asked(self, startup: Orchestrator) -> None:
        """What is not needed is reported: so only its first answer is waited for."""
        while startup.enabled and not all(one.attempts for one in self._asked.counted):
            await self._asked_again.wait()

    def _ended(self, one: CountedProbe) -> None:
        self._progress.asked_once(one)
        self._asked_again.set()
        self._asked_again = anyio.Event()
        if one.is_permanent:
            self._outcome = WaitOutcome.PERMANENT_FAILURE
            self._scope.cancel()


def report(waited: Waited, *, quiet: bool) -> None:
    """Say on standard error how it ended: always if badly, and otherwise unless `quiet`."""
    known, seconds = waited.known, waited.elapsed_seconds
    if waited.outcome is WaitOutcome.READY:
        if not waited.enabled:
            text = "disabled by ORCHESTRATOR_ENABLED: nothing was asked"
        else:
            text = f"ready after {seconds:.2f} s and {waited.attempts} attempt(s)"
        if not quiet:
            note(text)
            for one in waited.asked.counted if waited.enabled else ():
                if not one.required and not one.answers:
                    note(f"{one.name} is not needed, and does not hold: {why(one)}")
        return
    if waited.outcome is WaitOutcome.INTERRUPTED:
        name = signal.Signals(waited.signal_number).name
        note(f"stopped by {name} after {seconds:.2f} s, in {known.stage}")
        return
    reasons = "; ".join(waited.asked.reasons(known))
    if waited.outcome is WaitOutcome.PERMANENT_FAILURE:
        note(f"waiting won't help: {reasons}")
    else:
        note(f"not ready within {seconds:.2f} s and {waited.attempts} attempt(s): {reasons}")
