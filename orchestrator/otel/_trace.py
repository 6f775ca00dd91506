"""From records to spans: one bounded trace for each episode, with explicit times throughout.

No span is ever made current: a task that is spawned under a current span keeps it as its parent
for as long as it lives, and would hang its whole work onto the start-up.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

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
from orchestrator.otel._episode import Attempt, Episode, Visit, cause_of_failure, shortened
from states import StageChanged

TRANSITION_EVENT = "orchestrator.stage.transition"
"""The name of the span event of every change of stage."""

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Dates:
    """Turns the clock's seconds into nanoseconds of Unix time."""

    def __init__(self, context: StartupContext) -> None:
        self._at = context.now_at
        self._unix_nanoseconds = context.now_unix_nanoseconds

    def __call__(self, at: float) -> int:
        return self._unix_nanoseconds + round((at - self._at) * 1e9)


def target_attributes(target: Target) -> dict[str, AttributeValue]:
    """What is asked, in names of the semantic conventions; what is unknown is left out."""
    known: dict[str, AttributeValue | None] = {
        "db.system.name": target.system or None,
        "db.namespace": target.namespace or None,
        "server.address": target.address or None,
        "server.port": target.port,
    }
    return {name: value for name, value in known.items() if value is not None}


def parent_context(environ: Mapping[str, str]) -> Context:
    """The context that `TRACEPARENT` (and `TRACESTATE`) name; an empty one where there is none.

    Empty, not current: a span that happens to be current is no parent of a process's start.
    """
    names = ("traceparent", "tracestate")
    carrier = {name: environ[name.upper()] for name in names if name.upper() in environ}
    return TraceContextTextMapPropagator().extract(carrier, context=Context())


class TraceWriter:
    """Makes the spans of episodes, all with the same tracer-independent attributes.

    Args:
        context: What the observer was told at the start.
        parent: The parent of the start-up's root.
    """

    def __init__(self, context: StartupContext, parent: Context) -> None:
        self._date = Dates(context)
        self._parent = parent
        self._ping = target_attributes(context.target) | {"db.operation.name": "PING"}
        policy = context.policy
        self._root: dict[str, AttributeValue] = {
            "orchestrator.platform": policy.platform.value,
            "orchestrator.budget_seconds": policy.budget_seconds,
            "orchestrator.grace_seconds": policy.grace_seconds,
        }
        for name in ("server.address", "server.port"):
            if name in self._ping:
                self._root[name] = self._ping[name]

    def write(self, tracer: Tracer, episode: Episode, linked: Mapping[str, SpanContext]) -> Span:
        """Make and end all spans of an episode; return its root.

        Args:
            tracer: Where they go.
            episode: The finished episode.
            linked: Earlier roots to link to, by what they are to this one. The first start-up has
                none, and only it may have a parent.
        """
        root = tracer.start_span(
            episode.name.value,
            context=Context() if linked else self._parent,
            attributes=self._root_attributes(episode),
            links=_links(linked),
            start_time=self._date(episode.began_at),
        )
        for changed in episode.transitions:
            root.add_event(TRANSITION_EVENT, _transition(changed), self._date(changed.at))
        self._write_children(tracer, episode, set_span_in_context(root, Context()))
        if episode.error_type:
            root.set_status(Status(StatusCode.ERROR, episode.reason))
        root.end(self._date(episode.ended_at))
        return root

    def _write_children(self, tracer: Tracer, episode: Episode, inside: Context) -> None:
        contexts: dict[int, Context] = {}
        for visit in episode.visits:
            contexts[id(visit)] = self._write_visit(tracer, episode, visit, inside)
        for attempt in episode.attempts:
            self._write_attempt(tracer, attempt, contexts.get(id(attempt.visit), inside))

    def _write_visit(
        self, tracer: Tracer, episode: Episode, visit: Visit, inside: Context
    ) -> Context:
        span = tracer.start_span(
            f"{episode.name} {visit.stage}",
            context=inside,
            attributes={"orchestrator.stage": visit.stage.value},
            start_time=self._date(visit.began_at),
        )
        if visit.failed and episode.reason:
            span.set_status(Status(StatusCode.ERROR, episode.reason))
        span.end(self._date(visit.ended_at))
        return set_span_in_context(span, Context())

    def _write_attempt(self, tracer: Tracer, attempt: Attempt, inside: Context) -> None:
        attributes = self._ping | {
            "orchestrator.attempt": attempt.number,
            "orchestrator.probe.loop_lag_seconds": attempt.loop_lag_seconds,
        }
        failure = attempt.failure
        if failure is not None:
            attributes["error.type"] = failure.error_type
            attributes["orchestrator.failure.kind"] = failure.kind.value
        span = tracer.start_span(
            "PING",
            context=inside,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=self._date(attempt.began_at),
        )
        if failure is not None:
            span.set_status(Status(StatusCode.ERROR, shortened(failure.reason)))
        span.end(self._date(attempt.ended_at))

    def _root_attributes(self, episode: Episode) -> dict[str, AttributeValue]:
        """All that one may want to search by: TraceQL finds it without looking at children."""
        attributes = self._root | {
            "orchestrator.outcome": episode.outcome,
            "orchestrator.attempts": episode.attempts.total,
            "orchestrator.attempts_omitted": episode.attempts.omitted,
            "orchestrator.transitions": episode.transitions.total,
            "orchestrator.transitions_omitted": episode.transitions.omitted,
        }
        if episode.failed_stage is not None:
            attributes["orchestrator.stage.failed"] = episode.failed_stage.value
        if episode.error_type:
            attributes["error.type"] = episode.error_type
            attributes["orchestrator.reason"] = episode.reason
        if episode.unmet:
            attributes["orchestrator.conditions.unmet"] = episode.unmet
        return attributes


def _transition(changed: StageChanged) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "orchestrator.stage.from": changed.previous.value,
        "orchestrator.stage.to": changed.current.value,
        "orchestrator.stage.duration_seconds": changed.elapsed_seconds,
        "orchestrator.transition.sequence": changed.sequence,
        "orchestrator.transition.trigger": type(changed.cause).__name__,
    }
    if (why := cause_of_failure(changed)) is not None:
        attributes["error.type"], attributes["orchestrator.reason"] = why
    return attributes


def _links(linked: Mapping[str, SpanContext]) -> Sequence[Link]:
    return [
        Link(context, {"orchestrator.link": name})
        for name, context in linked.items()
        if context.is_valid
    ]
