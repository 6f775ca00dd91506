"""What a service waits for and why, as data and as text. Log, page, traces and commands use it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import NamedTuple

from orchestrator._core.order import as_tree
from states import (
    ConditionChanged,
    ConditionState,
    Failure,
    Missing,
    ProbeFailed,
    ProbeSucceeded,
    Snapshot,
    Stage,
    StageChanged,
    TimerFired,
)
from states._records import record

_BLOCKED_SECONDS = 0.1
"""An event loop lag that is worth a line: a healthy loop is never that late."""


@record
class Explanation:
    """Why the service is in its stage. `str()` gives it as text for a person. No secrets.

    Attributes:
        stage: The current stage.
        in_stage_seconds: How long it has been in it.
        waits_for: What must become true before ready, in words; empty when ready.
        attempts: The attempts made so far.
        failures_in_row: The failed attempts since the last success.
        last_failure: Why the last failed attempt failed; `None` if none ever did.
        last_failure_seconds: How long ago that was; `None` if none ever did.
        next_probe_seconds: How long until the next attempt; `None` while one is under way.
        budget_left_seconds: What is left of the start-up budget; `None` once start-up is over.
        loop_lag_seconds: How late the event loop was for the last attempt: for its beginning, or
            for its result.
        conditions: Every declared condition by name.
        stage_seconds: The time spent in each stage so far.
        probe: What is asked, by name.
        draining: What its drain does, in one line; empty while it does not drain.
        ended: Why the orchestrator has ended, and the stage changes no more; `None` if it has not.
        condition_seconds: How long each condition has held, or has not.
        after: For each condition that comes after others, their names; `redis` is the probe.
        probe_answers: Whether the last attempt succeeded.
        needs_restart: Why only a restart of the process helps: a required task is down for good.
            `None` if none is.
    """

    stage: Stage
    in_stage_seconds: float
    waits_for: tuple[str, ...]
    attempts: int
    failures_in_row: int
    last_failure: Failure | None
    next_probe_seconds: float | None
    budget_left_seconds: float | None
    loop_lag_seconds: float
    conditions: Mapping[str, ConditionState]
    stage_seconds: Mapping[Stage, float]
    ended: str | None = None
    probe: str = "Redis"
    draining: str = ""
    last_failure_seconds: float | None = None
    condition_seconds: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, Sequence[str]] = field(default_factory=dict)
    probe_answers: bool = False
    needs_restart: str | None = None

    def __str__(self) -> str:
        lines = [f"{self.stage} for {self.in_stage_seconds:.1f} s"]
        if self.ended is not None:
            lines.append(f"ended: {self.ended}")
        if self.draining:
            lines.append(f"draining: {self.draining}")
        if self.needs_restart is not None:
            lines.append(f"needs a restart: {self.needs_restart}")
        lines += [f"waits for: {what}" for what in self.waits_for]
        if self.last_failure is not None:
            when = "now" if self.failures_in_row else "last time"
            if self.last_failure_seconds is not None:
                when += f", {self.last_failure_seconds:.1f} s ago"
            lines.append(f"{self.probe} failed ({when}): {self.last_failure.reason}")
        lines.append(f"attempts: {self.attempts}, failed in a row: {self.failures_in_row}")
        if self.next_probe_seconds is not None:
            lines.append(f"next attempt in {self.next_probe_seconds:.2f} s")
        if self.budget_left_seconds is not None:
            lines.append(f"start-up budget left: {self.budget_left_seconds:.1f} s")
        if self.loop_lag_seconds >= _BLOCKED_SECONDS:
            lines.append(
                f"the event loop was {self.loop_lag_seconds:.2f} s late for the last attempt:"
                f" something blocks it; this is not {self.probe}"
            )
        views = {
            name: ConditionView(
                one.satisfied, one.required, one.reason, self.condition_seconds.get(name)
            )
            for name, one in self.conditions.items()
        }
        lines += conditions_in_words(views, self.after, self.probe, answers=self.probe_answers)
        return "\n".join(lines)


class ConditionView(NamedTuple):
    """A condition as it is shown; `seconds` is how long it has held, or has not."""

    satisfied: bool
    required: bool
    reason: str
    seconds: float | None

    def __str__(self) -> str:
        words = "holds" if self.satisfied else "does not hold"
        if self.seconds is not None:
            words += f", for {self.seconds:.1f} s now"
        words += f": {self.reason}" if self.reason else ""
        return words if self.required else f"{words} (not required)"


def conditions_in_words(
    views: Mapping[str, ConditionView],
    after: Mapping[str, Sequence[str]],
    probe: str,
    *,
    answers: bool,
) -> list[str]:
    """All conditions, one line each, indented below what they come after."""
    lines = []
    for branch in as_tree(after, views):
        if branch.name in views:
            line = f"condition {branch.name} {views[branch.name]}"
        else:
            line = f"{probe} {'answers' if answers else 'does not answer'}"
        line += f" (also after {', '.join(branch.also)})" if branch.also else ""
        lines.append("  " * branch.depth + line)
    return lines


def explain(
    known: Snapshot,
    now: float,
    ended: str | None,
    probe: str = "Redis",
    *,
    next_probe_at: float | None,
    loop_lag_seconds: float,
    draining: str = "",
    after: Mapping[str, Sequence[str]],
) -> Explanation:
    """Put what the machine knows at `now` into words."""
    stage_seconds = dict(known.stage_seconds)
    stage_seconds[known.stage] += now - known.last_at
    budget_left = None
    if known.in_startup and known.budget_ends_at is not None:
        budget_left = max(0.0, known.budget_ends_at - now)
    failed_at = known.last_failure_at
    return Explanation(
        stage=known.stage,
        in_stage_seconds=now - known.since,
        waits_for=waits_in_words(known, probe),
        attempts=known.attempts,
        failures_in_row=known.failures_in_row,
        last_failure=known.last_failure,
        next_probe_seconds=None if next_probe_at is None else max(0.0, next_probe_at - now),
        budget_left_seconds=budget_left,
        loop_lag_seconds=loop_lag_seconds,
        conditions=known.conditions,
        stage_seconds=stage_seconds,
        ended=ended,
        probe=probe,
        draining=draining,
        last_failure_seconds=None if failed_at is None else max(0.0, now - failed_at),
        condition_seconds={
            name: max(0.0, now - one.since) for name, one in known.conditions.items()
        },
        after=after,
        probe_answers=known.probe_answers,
    )


def said_now(known: Snapshot, words: Mapping[str, str]) -> Snapshot:
    """What the machine knows, with these reasons for conditions that do not hold, by name."""
    words = {name: text for name, text in words.items() if not known.conditions[name].satisfied}
    if not words:
        return known
    conditions = {
        name: replace(state, reason=words.get(name, state.reason))
        for name, state in known.conditions.items()
    }
    lacks = (
        lack._replace(reason=words.get(lack.name or "", lack.reason)) for lack in known.waits_for
    )
    return replace(known, conditions=conditions, waits_for=tuple(lacks))


def waits_in_words(known: Snapshot, probe: str) -> tuple[str, ...]:
    """What must become true before ready, one line each; empty when ready.

    Args:
        known: What the machine knows.
        probe: What is asked, by name.
    """
    if known.stage is Stage.READY:
        return ()
    if known.stage is Stage.BOOTING:
        return ("the application to enter the orchestrator",)
    conditions = [_condition(lack) for lack in known.waits_for if lack.name is not None]
    waits = [] if known.probe_answers else [f"{probe} to answer"]
    if known.stage is Stage.GRACE and known.grace_left_seconds:
        waits.append(f"{probe} to go on answering for {known.grace_left_seconds:.2f} s of grace")
        if known.grace_stalls:
            waits[-1] += f" (the event loop stalled {known.grace_stalls} times in it)"
    return (*waits, *conditions)


def cause_in_words(changed: StageChanged, probe: str) -> str:
    """Why the stage changed.

    Args:
        changed: The change.
        probe: What is asked, by name.
    """
    match changed.cause:
        case ProbeSucceeded(latency_seconds=latency):
            return f"{probe} answered in {latency * 1000:.1f} ms"
        case ProbeFailed(failure=failure):
            return failure.reason
        case ConditionChanged(name=name, satisfied=True):
            return f"condition {name} holds"
        case ConditionChanged(name=name, reason=reason):
            return f"condition {name} is lost" + (f": {reason}" if reason else "")
        case TimerFired():
            return "grace is served" if changed.current is Stage.READY else _spent(changed)
        case _:
            return "the process is set up"


def _spent(changed: StageChanged) -> str:
    lacks = changed.waits_for
    # Conditions are left out while the probe fails: they may well need what it asks.
    why = missing_in_words(lacks[:1] if lacks and lacks[0].name is None else lacks)
    return "the budget is spent" + (f": {why}" if why else "")


def missing_in_words(lacks: Iterable[Missing]) -> str:
    """What is missing and why, in one line."""
    return "; ".join(
        _condition(lack, " does not hold") if lack.name else lack.reason or "no attempt had ended"
        for lack in lacks
    )


def _condition(lack: Missing, verb: str = "") -> str:
    return f"condition {lack.name}{verb}" + (f" ({lack.reason})" if lack.reason else "")
