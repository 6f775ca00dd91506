"""What comes out of the machine: one event for each change of stage, and a snapshot on demand."""

from collections.abc import Mapping
from typing import NamedTuple

from states._facts import Fact, Failure
from states._records import record
from states._stages import Stage


class Missing(NamedTuple):
    """Something that ready needs and that is not there.

    Attributes:
        name: The name of a required condition that does not hold; `None` stands for an answer to
            the probe.
        reason: Why, in one line for a person: the last one given for the condition, or why the last
            attempt failed. Empty where none was given, or no attempt has ended.
        error_type: The `error_type` of the failed attempt; empty where there is none.
    """

    name: str | None
    reason: str = ""
    error_type: str = ""


class StageChanged(NamedTuple):
    """The service has gone from one stage to another.

    A tuple, since to make a frozen dataclass takes four times as long.

    Attributes:
        sequence: 1 for the first transition of a start-up, then one more each time, without gaps.
        previous: The stage that was left.
        current: The stage that was entered.
        cause: The fact that caused it.
        at: When, in monotonic seconds: the `at` of the cause.
        elapsed_seconds: How long the service was in `previous`.
        waits_for: What is missing now: the probe's answer first, then conditions by name.
    """

    sequence: int
    previous: Stage
    current: Stage
    cause: Fact
    at: float
    elapsed_seconds: float
    waits_for: tuple[Missing, ...] = ()


@record
class ConditionState:
    """What is known of one declared condition.

    Attributes:
        required: Whether ready needs it; one that is not required only reports.
        satisfied: Whether it holds.
        reason: The last reason given; empty where none was given.
        since: When `satisfied` last changed, in monotonic seconds.
    """

    required: bool
    satisfied: bool
    reason: str
    since: float


@record
class Snapshot:
    """All that the machine knows, at the time of its last fact.

    Attributes:
        stage: The current stage.
        since: When it was entered, in monotonic seconds.
        last_at: The `at` of the last fact.
        sequence: The number of transitions so far.
        in_startup: Whether the service has been neither ready nor degraded yet.
        was_ready: Whether the service has ever been ready.
        attempts: The number of attempts whose result was taken.
        failures_in_row: The failed attempts since the last success.
        congested_in_row: How many of the last attempts, without a break, failed because Redis has
            more to do than it can.
        probe_answers: Whether the last attempt succeeded.
        last_success_at: When the last success was taken; `None` before the first.
        last_failure: Why the last failed attempt failed; `None` before the first.
        last_failure_at: When that was taken.
        outage_since: When the current run of failures began; `None` while Redis answers.
        budget_ends_at: When the start-up budget is spent; `None` before `BootFinished`.
        grace_seconds: The grace that the current or next `grace` asks for, with flap damping.
        grace_left_seconds: How much of it is still to be proved; 0 once it is served.
        grace_stalls: How often the event loop stalled in the current `grace`.
        falls: The falls from ready that were not followed by calm.
        conditions: Every declared condition by name.
        waits_for: What is missing: the probe's answer first, then conditions by name.
        stage_seconds: The time spent in each stage so far, up to `last_at`.
        draining_since: When the service began to end its work; `None` before.
    """

    stage: Stage
    since: float
    last_at: float
    sequence: int
    in_startup: bool
    was_ready: bool
    attempts: int
    failures_in_row: int
    congested_in_row: int
    probe_answers: bool
    last_success_at: float | None
    last_failure: Failure | None
    last_failure_at: float | None
    outage_since: float | None
    budget_ends_at: float | None
    grace_seconds: float
    grace_left_seconds: float
    grace_stalls: int
    falls: int
    conditions: Mapping[str, ConditionState]
    waits_for: tuple[Missing, ...]
    stage_seconds: Mapping[Stage, float]
    draining_since: float | None = None
