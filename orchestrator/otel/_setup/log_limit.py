"""A bound on what the exporters log while a collector is away."""

import logging
import os
import time
import weakref
from collections.abc import Sequence
from threading import Lock

_LINES_PER_MINUTE = 3

_NOISY_LOGGERS = (
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._logs._internal.export",
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.sdk.metrics._internal",
    "opentelemetry.sdk.metrics._internal.export",
    "opentelemetry.sdk.trace.export",
)
"""Who logs when a collector is away. A logger's filter does not hold for its children, so each is
named."""


_TELLING_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.http._common",
    "opentelemetry.util.re",
    "urllib3.connectionpool",
    "urllib3.util.retry",
    "requests.sessions",
)
"""Who also knows the address of the collector, or the headers."""

_MINUTE_SECONDS = 60.0


class LogLimit(logging.Filter):
    """Lets only so many lines a minute through, for all loggers that it is added to together.

    Args:
        lines_per_minute: How many.
    """

    def __init__(self, lines_per_minute: int) -> None:
        super().__init__()
        self._limit = lines_per_minute
        self._lock = Lock()
        self._minute_began = -_MINUTE_SECONDS
        self._passed = 0
        self._left_out = 0
        self._closed = False
        if hasattr(os, "register_at_fork"):
            again = weakref.WeakMethod(self.forked)  # what was registered can never be taken back
            os.register_at_fork(after_in_child=lambda: (forked := again()) and forked())

    def forked(self) -> None:
        """In a forked process: the lock may be held by a thread that is not there."""
        self._lock = Lock()

    def close(self) -> None:
        """Let nothing through any more: threads left behind must not write during the exit."""
        self._closed = True

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line may pass."""
        with self._lock:
            now = time.monotonic()
            if now - self._minute_began >= _MINUTE_SECONDS:
                self._minute_began, self._passed = now, 0
            if self._closed or self._passed >= self._limit:
                self._left_out += 1
                return False
            self._passed += 1
            left_out, self._left_out = self._left_out, 0
        _make_one_line(record, left_out)
        return True


def _make_one_line(record: logging.LogRecord, left_out: int) -> None:
    """Some versions log the whole traceback of a refused connection: a hundred lines each."""
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text += f" {record.exc_info[1]!r}"
        record.exc_info = record.exc_text = None
    if left_out:
        text += f" ({left_out} lines before this were left out)"
    record.msg, record.args = text, None


class Redaction(logging.Filter):
    """Takes secrets out of lines.

    Args:
        secrets: The texts that must not be logged, the longest first.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        """Change a line that holds a secret; every line may pass."""
        text = record.getMessage()
        if record.exc_info and any(secret in repr(record.exc_info[1]) for secret in self._secrets):
            text += f" {record.exc_info[1]!r}"
            record.exc_info = record.exc_text = None
        if any(secret in text for secret in self._secrets):
            for secret in self._secrets:
                text = text.replace(secret, "***")
            record.msg, record.args = text, None
        return True


class ExporterLines:
    """Limits the lines of all exporters and of what drives them, together, until it is taken off.

    Args:
        secrets: What must not be in them, nor in those of the HTTP client, which logs addresses.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._limit = LogLimit(_LINES_PER_MINUTE)
        self._added: list[tuple[logging.Logger, logging.Filter]] = []
        if secrets:
            redaction = Redaction(secrets)
            for name in (*_NOISY_LOGGERS, *_TELLING_LOGGERS):
                self._add(name, redaction)
        for name in _NOISY_LOGGERS:
            self._add(name, self._limit)

    def _add(self, name: str, added: logging.Filter) -> None:
        logger = logging.getLogger(name)
        logger.addFilter(added)
        self._added.append((logger, added))

    def close(self) -> None:
        """Let nothing through any more: threads left behind must not write during the exit."""
        self._limit.close()

    def remove(self) -> None:
        """Leave the loggers as they were."""
        while self._added:
            logger, added = self._added.pop()
            logger.removeFilter(added)
