"""What the page shows, as JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Protocol

from orchestrator._core.explanation import cause_in_words
from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.counts import AdmissionCounts
from orchestrator._gate.health_answers import Workers
from orchestrator._runtime.clock import process_age_seconds
from orchestrator.web._history import History, ShownAttempt
from states import ConditionState, Failure, StageChanged

JsonObject = Mapping[str, object]


class Gate(Protocol):
    """What the page shows of a gate, such as `orchestrator.asgi.ReadinessGate`."""

    @property
    def held(self) -> int:
        """How many requests are held now."""
        ...

    @property
    def counts(self) -> AdmissionCounts:
        """How many requests had which outcome."""
        ...

    @property
    def closes(self) -> Mapping[int | str, int]:
        """How many WebSockets were closed with which code."""
        ...


class StateReader:
    """Reads the state of one service.

    Args:
        startup: The orchestrator.
        history: What was recorded of it.
        gate: Its gate, if it is to be shown.
        trace_id: Tells the id of the start-up's trace.
        trace_url: Where a trace is shown: a URL with `{trace_id}` in it.
        pod: The workers of the service, if they are to be shown.
    """

    def __init__(
        self,
        startup: Orchestrator,
        history: History,
        gate: Gate | None,
        trace_id: Callable[[], str | None],
        trace_url: str | None,
        pod: Workers | None = None,
    ) -> None:
        self._startup = startup
        self._history = history
        self._gate = gate
        self._trace_id = trace_id
        self._trace_url = trace_url
        self._pod = pod

    def read(self) -> JsonObject:
        """The state as it is now."""
        history, startup = self._history, self._startup
        known = startup.explain()
        now = history.stage_since + known.in_stage_seconds
        in_stage_seconds, stage_seconds = known.in_stage_seconds, dict(known.stage_seconds)
        if history.context is not None:
            age_seconds = now - history.context.started_at
        else:  # the orchestrator is not entered yet, and knows of no clock
            age_seconds = in_stage_seconds = stage_seconds[known.stage] = process_age_seconds()
        at_unix_seconds = history.unix_seconds(now)
        state: dict[str, object] = {
            "stage": known.stage,
            "since_seconds": _rounded(in_stage_seconds),
            "waits_for": known.waits_for,
            "probe": known.probe,
            "attempts": known.attempts,
            "failures": history.failures,
            "failures_in_row": known.failures_in_row,
            "last_failure": known.last_failure and _failure(known.last_failure),
            "last_failure_seconds": _rounded(known.last_failure_seconds),
            "probe_answers": known.probe_answers,
            "next_probe_seconds": _rounded(known.next_probe_seconds),
            "budget_left_seconds": _rounded(known.budget_left_seconds),
            "budget_seconds": startup.policy.budget_seconds,
            "loop_lag_seconds": _rounded(known.loop_lag_seconds),
            "conditions": {
                name: _condition(
                    condition, known.condition_seconds[name], known.after.get(name, ())
                )
                for name, condition in known.conditions.items()
            },
            "account": startup.account().as_json(),
            "stage_seconds": {stage: _rounded(seconds) for stage, seconds in stage_seconds.items()},
            "sequence": history.last_sequence,
            "was_ready": startup.was_ready,
            "running": startup.running,
            "ended": startup.ended,
            "draining": known.draining,
            "needs_restart": startup.needs_restart,
            "enabled": startup.enabled,
            "at_unix_seconds": _rounded(at_unix_seconds),
            "started_at_unix_seconds": _rounded(at_unix_seconds - age_seconds),
        }
        if self._gate is not None:
            state["gate"] = _gate(self._gate)
        if self._pod is not None:
            state["pod"] = self._pod.details()
        if (trace_id := self._trace_id()) is not None:
            state["trace_id"] = trace_id
            if self._trace_url is not None:
                state["trace_url"] = self._trace_url.replace("{trace_id}", trace_id)
        return state

    def stage(self, changed: StageChanged) -> JsonObject:
        """A change of stage."""
        return {
            "sequence": changed.sequence,
            "previous": changed.previous,
            "current": changed.current,
            "cause": cause_in_words(changed, self._history.probe),
            "at_unix_seconds": _rounded(self._history.unix_seconds(changed.at)),
            "elapsed_seconds": _rounded(changed.elapsed_seconds),
        }

    def attempt(self, attempt: ShownAttempt) -> JsonObject:
        """An attempt."""
        failure = attempt.failure
        data: dict[str, object] = {
            "number": attempt.number,
            "at_unix_seconds": _rounded(self._history.unix_seconds(attempt.at)),
            "latency_seconds": round(attempt.latency_seconds, 6),
            "ok": failure is None,
        }
        return data if failure is None else data | _failure(failure)


def _failure(failure: Failure) -> dict[str, object]:
    return {"kind": failure.kind, "error_type": failure.error_type, "reason": failure.reason}


def _condition(condition: ConditionState, seconds: float, after: Sequence[str]) -> JsonObject:
    return {
        "required": condition.required,
        "satisfied": condition.satisfied,
        "reason": condition.reason,
        "since_seconds": _rounded(seconds),
        "after": after,
    }


def _gate(gate: Gate) -> JsonObject:
    counts = asdict(gate.counts)
    held_so_far = counts.pop("held")
    closes = {str(code): number for code, number in dict(gate.closes).items()}
    return {"held": gate.held, "held_so_far": held_so_far, **counts, "closes": closes}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
