"""From records to spans: one bounded trace for each episode, with explicit times throughout.

`EpisodeWriter` (`_writer.py`) calls `TraceWriter.write` with each episode that has ended.

No span is ever made current: a task that is spawned under a current span keeps it as its parent
for as long as it lives, and would hang its whole work onto the start-up.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from orchestrator._ports import StartupContext, Target
from orchestrator.otel._episode import (
    CONDITION_NOT_MET,
    AttemptRecord,
    ConditionWait,
    Episode,
    EpisodeName,
    shortened,
)
from orchestrator.otel._event_attributes import (
    TRANSITION_EVENT,
    task_attributes,
    task_event,
    transition_attributes,
)
from orchestrator.otel._targets import attempt_name, target_attributes

_MOST_STEPS = 32
"""So many steps of a start are on the root span."""


class Dates:
    """Turns the clock's seconds into nanoseconds of Unix time, for one episode.

    A clock that only goes forward and the wall clock drift apart, and are apart after each time
    that the machine slept or its clock was set. So each episode has a date of its own.
    """

    def __init__(self, episode: Episode) -> None:
        self._at, self._unix_nanoseconds = episode.dated

    def __call__(self, at: float) -> int:
        return self._unix_nanoseconds + round((at - self._at) * 1e9)


def parent_context(environ: Mapping[str, str]) -> Context:
    """The context that `TRACEPARENT` (and `TRACESTATE`) name; an empty one where there is none.

    Empty, not current: a span that happens to be current is no parent of a process's start.
    """
    names = ("traceparent", "tracestate")
    carrier = {name: environ[name.upper()] for name in names if name.upper() in environ}
    return TraceContextTextMapPropagator().extract(carrier, context=Context())


class _Parent(NamedTuple):
    """A span that has children, and its times in nanoseconds."""

    span: Span
    began: int
    ended: int


class _SpanOfAttempt(NamedTuple):
    """What a probe asks: the name and the attributes of the spans of its attempts."""

    name: str
    attributes: dict[str, AttributeValue]

    @classmethod
    def of(cls, target: Target) -> "_SpanOfAttempt":
        return cls(attempt_name(target), target_attributes(target, operation=True))


class _Maker(NamedTuple):
    """What all spans of an episode are made with."""

    tracer: Tracer
    date: Dates


def _lasting(began: int, ended: int, parent: _Parent) -> tuple[int, int]:
    """The times of a span that lasts at least a nanosecond, within its parent's.

    A grace of 0 s lasts no time at all, and Jaeger takes that for an error of the clock.
    """
    if began < ended:
        return began, ended
    return (began, began + 1) if began < parent.ended else (began - 1, began)


class TraceWriter:
    """Makes the spans of episodes, all with the same tracer-independent attributes.

    Args:
        context: What the observer got at the start.
        parent: The parent of the start-up's root.
        span_events: Whether transitions are events of the root span.
    """

    def __init__(
        self, context: StartupContext, parent: Context, *, span_events: bool = True
    ) -> None:
        self._parent = parent
        self._span_events = span_events
        self._asked = _SpanOfAttempt.of(context.target)
        self._checks = {name: _SpanOfAttempt.of(target) for name, target in context.targets.items()}
        self._after = context.after
        policy = context.policy
        self._root: dict[str, AttributeValue] = {
            "orchestrator.platform": policy.platform.value,
            "orchestrator.budget_seconds": policy.budget_seconds,
            "orchestrator.grace_seconds": policy.grace_seconds,
        }
        for name in ("server.address", "server.port"):
            if name in self._asked.attributes:
                self._root[name] = self._asked.attributes[name]

    def write(self, tracer: Tracer, episode: Episode, linked: Mapping[str, SpanContext]) -> Span:
        """Make and end all spans of an episode; return its root.

        Args:
            tracer: Where they go.
            episode: The finished episode.
            linked: Earlier roots to link to, by what they are to this one. A start-up has none, and
                only it may have a parent.
        """
        date = Dates(episode)
        began, ended = date(episode.began_at), date(episode.ended_at)
        if began == ended:
            began -= 1  # see _lasting
        root = tracer.start_span(
            episode.name.value,
            context=self._parent if episode.name is EpisodeName.STARTUP else Context(),
            attributes=self._root_attributes(episode),
            links=_links(linked),
            start_time=began,
        )
        if root.is_recording():  # else it was sampled out, and its children would be too
            if self._span_events:
                for transition in episode.transitions:
                    at = date(transition.changed.at)
                    root.add_event(TRANSITION_EVENT, transition_attributes(transition), at)
                for fact in episode.task_events:
                    root.add_event(task_event(fact), task_attributes(fact), date(fact.at))
            self._write_children(_Maker(tracer, date), episode, _Parent(root, began, ended))
            if episode.error_type:
                root.set_status(Status(StatusCode.ERROR, episode.reason))
        root.end(ended)
        return root

    def _write_children(self, make: _Maker, episode: Episode, root: _Parent) -> None:
        parents: dict[int, _Parent] = {}
        for stay in episode.stays:
            parents[id(stay)] = self._child(
                make,
                f"{episode.name} {stay.stage}",
                {"orchestrator.stage": stay.stage.value},
                (stay.began_at, stay.ended_at),
                root,
                error=stay.error,
            )
        for wait in sorted(episode.waits, key=lambda wait: wait.began_at):
            parents[id(wait)] = self._write_wait(make, episode, wait, root)
        for attempt in episode.attempts:
            parent = parents.get(id(attempt.within), root)
            self._write_attempt(make, attempt, self._asked, parent)
        for name, attempts in episode.checks.items():
            asked = self._checks.get(name) or _SpanOfAttempt.of(Target(""))
            of_check = asked.attributes | {"orchestrator.condition.name": name}
            for attempt in attempts:
                parent = parents.get(id(attempt.within), root)
                self._write_attempt(make, attempt, _SpanOfAttempt(asked.name, of_check), parent)

    def _write_wait(
        self, make: _Maker, episode: Episode, wait: ConditionWait, root: _Parent
    ) -> _Parent:
        attributes: dict[str, AttributeValue] = {
            "orchestrator.condition.name": wait.name,
            "orchestrator.condition.required": wait.required,
            "orchestrator.condition.satisfied": wait.satisfied,
        }
        if after := self._after.get(wait.name):
            attributes["orchestrator.condition.after"] = tuple(after)
        if wait.reason:
            attributes["orchestrator.reason"] = wait.reason
        # A condition that could not come because Redis did not is no failure of its own.
        # Nor is one that falls because the service ends.
        ends = episode.name is EpisodeName.SHUTDOWN
        failed = (not ends and wait.required) and (
            wait.lost or (not wait.satisfied and episode.error_type == CONDITION_NOT_MET)
        )
        error = ""
        if failed:
            attributes["error.type"] = CONDITION_NOT_MET
            error = wait.reason or "not satisfied"
        name, times = f"condition {wait.name}", (wait.began_at, wait.ended_at)
        return self._child(make, name, attributes, times, root, error=error)

    def _write_attempt(
        self, make: _Maker, attempt: AttemptRecord, asked: "_SpanOfAttempt", parent: _Parent
    ) -> None:
        attributes = asked.attributes | {
            "orchestrator.attempt": attempt.number,
            "orchestrator.probe.loop_lag_seconds": attempt.loop_lag_seconds,
        }
        error, failure = "", attempt.failure
        if failure is not None:
            attributes["error.type"] = failure.error_type
            attributes["orchestrator.failure.kind"] = failure.kind.value
            error = shortened(failure.reason)
        times = (attempt.began_at, attempt.ended_at)
        self._child(make, asked.name, attributes, times, parent, SpanKind.CLIENT, error=error)

    def _child(
        self,
        make: _Maker,
        name: str,
        attributes: dict[str, AttributeValue],
        times: tuple[float, float],
        parent: _Parent,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        error: str,
    ) -> _Parent:
        """Make and end a span; return it as a parent of others."""
        began, ended = _lasting(make.date(times[0]), make.date(times[1]), parent)
        inside = set_span_in_context(parent.span, Context())
        span = make.tracer.start_span(name, inside, kind, attributes, start_time=began)
        if error:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(ended)
        return _Parent(span, began, ended)

    def _root_attributes(self, episode: Episode) -> dict[str, AttributeValue]:
        """All that one may want to search by: TraceQL finds it without looking at children."""
        attributes = self._root | {
            "orchestrator.outcome": episode.outcome,
            "orchestrator.attempts": episode.attempts.total,
            "orchestrator.attempts_omitted": episode.attempts.omitted,
            "orchestrator.transitions": episode.transitions.total,
            "orchestrator.transitions_omitted": episode.transitions.omitted,
        }
        if episode.checks:
            kept = episode.check_spans
            total = sum(attempts.total for attempts in episode.checks.values())
            attributes["orchestrator.check.attempts"] = total
            attributes["orchestrator.check.attempts_omitted"] = total - kept
        failed, stopped = episode.failed_stage, episode.stopped_stage
        known: dict[str, AttributeValue | None] = {
            "orchestrator.condition_waits_omitted": episode.waits.omitted or None,
            "orchestrator.task.events_omitted": episode.task_events.omitted or None,
            "orchestrator.stage.failed": failed and failed.value,
            "orchestrator.stage.stopped": stopped and stopped.value,
            "error.type": episode.error_type or None,
            "orchestrator.reason": episode.reason or None,
            "orchestrator.falls": None
            if episode.name is EpisodeName.STARTUP
            else episode.falls_so_far,
            "orchestrator.conditions.unmet": episode.unmet or None,
        }
        if episode.account is not None:
            steps = episode.account.critical[:_MOST_STEPS]
            known["orchestrator.account.steps"] = [step.name for step in steps]
            known["orchestrator.account.seconds"] = [round(step.seconds, 6) for step in steps]
            known["orchestrator.account.last_to_hold"] = episode.account.last_to_hold or None
        return attributes | {name: value for name, value in known.items() if value is not None}


def _links(linked: Mapping[str, SpanContext]) -> Sequence[Link]:
    return [
        Link(context, {"orchestrator.link": name})
        for name, context in linked.items()
        if context.is_valid
    ]
