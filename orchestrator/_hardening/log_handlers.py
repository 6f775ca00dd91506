"""Which handlers of the application's show our lines, and which of them are stuck at the exit."""

import contextlib
import logging
from collections.abc import Iterator
from copy import copy

_STUCK_SECONDS = 0.05

_SERVERS = ("uvicorn.error", "gunicorn.error", "hypercorn.error", "_granian", "daphne", "celery")
"""Loggers that servers set up for themselves, while they leave the root logger as it is."""


def handlers_of(logger: logging.Logger) -> list[logging.Handler]:
    """Those of the logger; where none would show the line, the server's, or standard error."""
    if not logger.disabled:
        own = list(_handlers_from(logger))
        if logger.handlers or _shows(own):
            return own
    for name in _SERVERS:
        theirs = logging.getLogger(name)
        if not theirs.disabled and _shows(found := list(_handlers_from(theirs))):
            return [_Named(one) for one in found]
    return [_Named(logging.lastResort)] if logging.lastResort is not None else []


def _shows(handlers: list[logging.Handler]) -> bool:
    return any(not isinstance(one, logging.NullHandler) for one in handlers)


def _handlers_from(logger: logging.Logger) -> Iterator[logging.Handler]:
    at: logging.Logger | None = logger
    while at is not None:
        yield from at.handlers
        at = at.parent if at.propagate else None


class _Named(logging.Handler):
    """Puts our name in front: the formats of servers show none."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__(max(handler.level, logging.WARNING))
        self._handler = handler

    def handle(self, record: logging.LogRecord) -> bool:
        named = copy(record)
        named.msg = f"startup-orchestrator: {record.msg}"
        return bool(self._handler.handle(named))


def drop_stuck_handlers() -> None:
    """Take handlers that are in use from the list of those that `logging.shutdown` closes.

    That waits for each of them without limit. A handler that hangs in our thread would so keep the
    process from ending.
    """
    with contextlib.suppress(AttributeError):  # a future Python may keep them elsewhere
        known = logging._handlerList  # type: ignore[attr-defined]  # noqa: SLF001  not public
        known[:] = [one for one in known if (handler := one()) is None or not _is_stuck(handler)]


def _is_stuck(handler: logging.Handler) -> bool:
    lock = handler.lock
    if lock is None:
        return False
    free = lock.acquire(timeout=_STUCK_SECONDS)
    if free:
        lock.release()
    return not free
