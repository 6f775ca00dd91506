"""A condition that holds while a probe gets answers.

A check is a small start-up of its own: a machine with the same stages, the same driver, the same
pace, and a condition that holds while that machine is in `ready`. So everything that holds for the
orchestrator's own probe holds for every check: one attempt at a time, each with a firm deadline;
several failures before a fall; a longer wait after flapping; quick attempts in an outage, spread
over the instances, and slow ones where waiting won't help.
"""

import time
from collections.abc import Iterable

from orchestrator._core.driver import Driver
from orchestrator._core.feed import Feed
from orchestrator._core.keeping import Kept, KeptCondition
from orchestrator._core.parts import target_of
from orchestrator._hardening.arguments import wrong_type
from orchestrator._ports import KeptStep, Observer, Probe, StartupContext, Target
from orchestrator._probing.fleet_step import FleetStep
from orchestrator._probing.pacing import Pacer
from orchestrator._runtime.tasks import close_in_time
from states import (
    Fact,
    Policy,
    PolicyError,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StageChanged,
    StartupMachine,
)

_FIELDS = {
    "timeout_seconds": "attempt_timeout_seconds",
    "interval_seconds": "probe_interval_seconds",
    "failures_to_degrade": "failures_to_degrade",
    "permanent_retry_seconds": "permanent_retry_seconds",
}
"""The numbers of a check, by the fields of `Policy` that mean the same."""

_NO_BUDGET_SECONDS = 1e8
"""A check holds or does not hold; only the orchestrator itself has a budget for its start-up."""


class Check(KeptCondition):
    """A condition that is held by a probe, asked in the background.

    Example::

        Orchestrator(RedisProbe(url), conditions=[Check("database", postgres(dsn))])

    Args:
        name: Its name, as it appears in events, pages and traces.
        probe: What is asked, such as one of `orchestrator.checks`, or any `Probe`.
        required: Whether ready needs it; one that is not required only reports.
        after: The conditions that must hold before it is asked; `redis` is the orchestrator's own
            probe.
        timeout_seconds: The total time of one attempt.
        interval_seconds: How often it is asked while it answers. An answer is never older than this
            and the time of an attempt together.
        failures_to_degrade: How many failed attempts in a row make it false.
        permanent_retry_seconds: How often it is asked if waiting won't help, as with a wrong
            password.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When a number is out of range.
    """

    def __init__(
        self,
        name: str,
        probe: Probe,
        *,
        required: bool = True,
        after: Iterable[str] = (),
        timeout_seconds: float = 1.0,
        interval_seconds: float = 15.0,
        failures_to_degrade: int = 3,
        permanent_retry_seconds: float = 30.0,
    ) -> None:
        super().__init__(name, required=required, after=after)
        given: object = probe
        if not isinstance(given, Probe):
            write = f"write Check({name!r}, tcp('host', 5672)), or call(fn) for a function"
            raise wrong_type(given, "probe", "Probe", write)
        numbers = {
            "timeout_seconds": timeout_seconds,
            "interval_seconds": interval_seconds,
            "failures_to_degrade": failures_to_degrade,
            "permanent_retry_seconds": permanent_retry_seconds,
        }
        object.__setattr__(self, "probe", probe)
        object.__setattr__(self, "policy", _policy(numbers))

    probe: Probe
    policy: Policy

    @property
    def target(self) -> Target:
        """What is asked."""
        return target_of(self.probe)

    async def keep(self, kept: Kept) -> None:
        """Ask until cancelled."""
        machine = StartupMachine(self.policy, {}, kept.clock.now())
        verdict = _Verdict(machine, kept)
        fleet = FleetStep(kept.fleet_size, self.probe.connects_per_second)
        pacer = Pacer(self.policy, kept.random, fleet)
        given = machine, Feed(), self.probe, pacer, kept.clock, [verdict], self.policy
        turns = kept.turns.every(self.policy.probe_interval_seconds, self.policy.retry_jitter)
        driver = Driver(*given, turns=turns)
        now = kept.clock.now()
        context = StartupContext(self.policy, self.target, {}, now, now, time.time_ns())
        self.probe.prepare(self.policy)
        driver.begin_observers(context)
        kept.words = verdict.words
        try:
            driver.boot()
            await driver.run()
        finally:
            await close_in_time(self.probe)


class _Verdict(Observer):
    """Says after each fact whether the check's machine is in `ready`."""

    def __init__(self, machine: StartupMachine, kept: Kept) -> None:
        self._machine = machine
        self._kept = kept

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        if isinstance(fact, ProbeSucceeded | ProbeFailed):
            self._kept.report(KeptStep.ATTEMPTED, attempt=fact)
        if self._machine.stage is Stage.READY:
            self._kept.set(True)
            return
        failure = self._machine.snapshot.last_failure
        self._kept.set(False, "no answer yet" if failure is None else failure.reason)

    def words(self, now: float, in_full: bool) -> str:
        """Why it does not hold, with the age of its last answer; the same for everybody."""
        known = self._machine.snapshot
        if known.probe_answers:
            return f"it answers, and must keep answering for {known.grace_left_seconds:.2f} s"
        reason = "no answer yet" if known.last_failure is None else known.last_failure.reason
        if known.last_success_at is None:
            return reason
        return f"{reason}; no answer for {max(0.0, now - known.last_success_at):.1f} s"


def _policy(numbers: dict[str, float]) -> Policy:
    """The numbers as a policy; one that is out of range is named as it was given."""
    fields = {_FIELDS[name]: value for name, value in numbers.items()}
    try:
        return Policy(budget_seconds=_NO_BUDGET_SECONDS, **fields)  # type: ignore[arg-type]  # it checks them itself
    except PolicyError as error:
        own = {field: name for name, field in _FIELDS.items()}.get(error.field, error.field)
        text = str(error).replace(f"Policy.{error.field}", own)
        raise ValueError(text) from None
