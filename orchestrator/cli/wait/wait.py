"""`wait`: until Redis is ready, within a budget."""

import functools
import importlib
import logging
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import anyio
from anyio.abc import TaskStatus

from orchestrator import (
    Explanation,
    FailureKind,
    Orchestrator,
    PolicyError,
    ProbeFailed,
    Stage,
    StageChanged,
)
from orchestrator.cli._shell.errors import UserError
from orchestrator.cli._shell.exit_codes import BUDGET_SPENT, OK, PERMANENT, SIGNALLED
from orchestrator.cli._shell.output import note
from orchestrator.cli.wait.progress import Progress
from orchestrator.redis import RedisProbe
from orchestrator.settings import PREFIX, Settings, SettingsError

ENDING_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""What a waiting process is told to end by. They are handled, not left to the system: a process 1
has no default for them, and a container would be killed the hard way."""


_SHARE_OF_ONE_ATTEMPT = 0.8
"""How much of `--timeout` one attempt may take at most."""


class Outcome(StrEnum):
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

    outcome: Outcome
    known: Explanation
    signal_number: int = 0
    enabled: bool = True

    @property
    def status(self) -> int:
        """The exit status, where no CMD follows."""
        return {
            Outcome.READY: OK,
            Outcome.BUDGET_SPENT: BUDGET_SPENT,
            Outcome.PERMANENT_FAILURE: PERMANENT,
            Outcome.INTERRUPTED: SIGNALLED + self.signal_number,
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


def settings_for(
    redis_url: str | None, timeout_seconds: float | None, environ: Mapping[str, str] = os.environ
) -> Settings:
    """The settings of the environment, with what the command line says instead.

    Raises:
        UserError: When any of it cannot be used.
    """
    if redis_url == "":
        # Most likely a shell's variable that is not set: another Redis would be waited for.
        raise UserError("--redis is empty; without it REDIS_URL and ORCHESTRATOR_REDIS_URL count")
    if redis_url is not None:  # then a variable that cannot be used does no harm
        environ = {
            name: value
            for name, value in environ.items()
            if name not in (f"{PREFIX}REDIS_URL", "REDIS_URL")
        }
    try:
        settings = Settings.from_environment(environ)
    except SettingsError as error:
        raise UserError(str(error)) from None
    settings = replace(settings, redis_url=redis_url or settings.redis_url)
    if timeout_seconds is None:
        return settings
    policy = settings.policy
    try:
        # A short time must not be refused because one attempt, or the grace, could be longer. And
        # one attempt should end in it: else there would be nothing to say of why it was not enough.
        policy = replace(
            policy,
            budget_seconds=timeout_seconds,
            attempt_timeout_seconds=min(
                policy.attempt_timeout_seconds, _SHARE_OF_ONE_ATTEMPT * timeout_seconds
            ),
            grace_seconds=min(policy.grace_seconds, timeout_seconds),
        )
    except PolicyError as error:
        raise UserError(f"--timeout is {timeout_seconds:g}; it must be {error.allowed}") from None
    return replace(settings, policy=policy)


def probe_for(redis_url: str) -> RedisProbe:
    """A probe of the Redis at a URL.

    Raises:
        UserError: When the URL cannot be used. Its text shows nothing of it.
    """
    try:
        return RedisProbe(redis_url)
    except ValueError as error:
        raise UserError(f"--redis: {error}") from None


def wait(settings: Settings, progress: Progress) -> Waited:
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
    return anyio.run(functools.partial(_wait, startup, progress))


async def _wait(startup: Orchestrator, progress: Progress) -> Waited:
    signals: list[int] = []
    ended: StageChanged | None = None
    async with anyio.create_task_group() as tasks:
        await tasks.start(_note_signals, signals, tasks.cancel_scope)
        async with startup:
            tasks.start_soon(progress.keep_moving, startup)
            async for event in startup.subscribe():
                if event.current in (Stage.READY, Stage.DEGRADED):
                    ended = event
                    break
            waited = Waited(_outcome(ended), startup.explain(), enabled=startup.enabled)
        tasks.cancel_scope.cancel()
    if ended is None:
        return Waited(Outcome.INTERRUPTED, startup.explain(), signals[0])
    return waited


def _outcome(event: StageChanged | None) -> Outcome:
    if event is None:
        return Outcome.INTERRUPTED
    if event.current is Stage.READY:
        return Outcome.READY
    return Outcome.PERMANENT_FAILURE if is_permanent(event) else Outcome.BUDGET_SPENT


def is_permanent(event: StageChanged) -> bool:
    """Whether a service became degraded by a failure that waiting does not mend."""
    cause = event.cause
    return isinstance(cause, ProbeFailed) and cause.failure.kind is FailureKind.PERMANENT


async def _note_signals(
    signals: list[int], scope: anyio.CancelScope, *, task_status: TaskStatus[None]
) -> None:
    # What was ignored when we were started stays ignored: `nohup` works this way.
    wanted = [one for one in ENDING_SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
    with anyio.open_signal_receiver(*wanted) as received:
        task_status.started()
        async for number in received:
            signals.append(number)
            scope.cancel()


def tell(waited: Waited, *, quiet: bool) -> None:
    """Say on standard error how it ended: always if badly, and otherwise unless `quiet`."""
    known, seconds = waited.known, waited.elapsed_seconds
    if waited.outcome is Outcome.READY:
        if not waited.enabled:
            text = "disabled by ORCHESTRATOR_ENABLED: nothing was asked"
        else:
            text = f"ready after {seconds:.2f} s and {known.attempts} attempt(s)"
        if not quiet:
            note(text)
        return
    if waited.outcome is Outcome.INTERRUPTED:
        name = signal.Signals(waited.signal_number).name
        note(f"stopped by {name} after {seconds:.2f} s, in {known.stage}")
        return
    why = known.last_failure.reason if known.last_failure is not None else "no attempt had ended"
    if waited.outcome is Outcome.PERMANENT_FAILURE:
        note(f"waiting does not mend this: {why}")
    else:
        note(f"not ready within {seconds:.2f} s and {known.attempts} attempt(s): {why}")


def silence_log() -> None:
    """What the library logs is shown by the commands in their own words."""
    logging.getLogger("orchestrator").addHandler(logging.NullHandler())


def load_redis_beside() -> None:
    """Import redis-py while Redis is being waited for.

    The probe loads it only once a server accepts, and it takes about as long as all else here:
    without this, a Redis that comes late would be noticed later by that time.
    """

    def load() -> None:
        # If it cannot be imported, the probe says so in its own words.
        try:
            importlib.import_module("orchestrator.redis._redis_py_connections")
        except Exception:  # whatever it is, it is the probe's to report
            return

    threading.Thread(target=load, name="import redis", daemon=True).start()
