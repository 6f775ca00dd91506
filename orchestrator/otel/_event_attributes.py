"""What the events of an episode say, whether they are written as span events or as log events."""

from opentelemetry.util.types import AttributeValue

from orchestrator._ports import KeptFact
from orchestrator.otel._episode import Transition, shortened
from states import ConditionChanged

TRANSITION_EVENT = "orchestrator.stage.transition"
"""The name of the event for a change of stage."""


def task_event(fact: KeptFact) -> str:
    """The name of the event of what became of a task."""
    return f"orchestrator.task.{fact.step}"


def task_attributes(fact: KeptFact) -> dict[str, AttributeValue]:
    """What the event of what became of a task says."""
    attributes: dict[str, AttributeValue] = {"orchestrator.condition.name": fact.name}
    if fact.reason:
        attributes["orchestrator.reason"] = shortened(fact.reason)
    return attributes


def transition_attributes(transition: Transition) -> dict[str, AttributeValue]:
    """What the event of a change of stage says."""
    changed = transition.changed
    attributes: dict[str, AttributeValue] = {
        "orchestrator.stage.from": changed.previous.value,
        "orchestrator.stage.to": changed.current.value,
        "orchestrator.stage.duration_seconds": changed.elapsed_seconds,
        "orchestrator.transition.sequence": changed.sequence,
        "orchestrator.transition.trigger": type(changed.cause).__name__,
    }
    if isinstance(changed.cause, ConditionChanged):
        attributes["orchestrator.condition.name"] = changed.cause.name
    if transition.error_type:
        attributes["error.type"] = transition.error_type
        attributes["orchestrator.reason"] = transition.reason
    return attributes
