"""Changes of stage as log events: what OpenTelemetry recommends in place of span events."""

import inspect
from typing import TYPE_CHECKING, Literal

from opentelemetry.context import Context

from orchestrator._ports import KeptStep
from orchestrator.otel._episode import Episode
from orchestrator.otel._event_attributes import (
    TRANSITION_EVENT,
    task_attributes,
    task_event,
    transition_attributes,
)
from orchestrator.otel._trace import Dates
from states import Stage

if TYPE_CHECKING:  # the logs API is loaded by those who ask for it only
    from opentelemetry._logs import Logger, LoggerProvider

Events = Literal["span", "log", "both"]
"""Where changes of stage are recorded: as span events, as log events, or both."""


_LEVELS = {KeptStep.STARTED: "INFO", KeptStep.RESTARTED: "WARN", KeptStep.DOWN: "ERROR"}


class EventLog:
    """Writes the changes of stage of an episode as log events that belong to its root span.

    Args:
        provider: Where they go; the global provider if not given.
        version: The version of the instrumentation scope.
        schema_url: That of its attributes.

    Raises:
        RuntimeError: When the installed OpenTelemetry API has no log events yet.
    """

    def __init__(self, provider: "LoggerProvider | None", version: str, schema_url: str) -> None:
        # The package has an underscore in all versions so far, yet it is what instrumentations use.
        from opentelemetry._logs import Logger  # only where it is asked for

        if "event_name" not in inspect.signature(Logger.emit).parameters:
            raise RuntimeError(
                "events as logs need opentelemetry-api 1.38 or later;"
                " upgrade it, or use events='span'"
            )
        self._provider = provider
        self._version = version
        self._schema_url = schema_url

    @property
    def has_provider(self) -> bool:
        """Whether a provider has been set by now."""
        # The API has no public name for its stand-in.
        return type(self.provider).__name__ != "ProxyLoggerProvider"

    def write(self, episode: Episode, inside: Context) -> None:
        """Emit an event for every change of stage, and for what became of tasks.

        Args:
            episode: The finished episode.
            inside: The context of its root span, or one without a span.
        """
        from opentelemetry._logs import SeverityNumber  # loaded long ago

        logger, date = self._logger(), Dates(episode)
        for transition in episode.transitions:
            fell = transition.changed.current is Stage.DEGRADED
            logger.emit(
                timestamp=date(transition.changed.at),
                context=inside,
                severity_number=SeverityNumber.WARN if fell else SeverityNumber.INFO,
                severity_text="WARN" if fell else "INFO",
                body=transition.reason,
                attributes=transition_attributes(transition),
                event_name=TRANSITION_EVENT,
            )
        for fact in episode.task_events:
            level = _LEVELS[fact.step]
            logger.emit(
                timestamp=date(fact.at),
                context=inside,
                severity_number=SeverityNumber[level],
                severity_text=level,
                body=f"task {fact.name} {fact.step}" + (f": {fact.reason}" if fact.reason else ""),
                attributes=task_attributes(fact),
                event_name=task_event(fact),
            )

    @property
    def provider(self) -> "LoggerProvider":
        """Where the events go at this moment."""
        from opentelemetry._logs import get_logger_provider  # loaded long ago

        return self._provider or get_logger_provider()

    def _logger(self) -> "Logger":
        return self.provider.get_logger("startup-orchestrator", self._version, self._schema_url)
