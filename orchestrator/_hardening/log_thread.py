"""The library's own log lines, with which no handler of the application's can do harm.

The application's handlers, filters and formatters run inside every log call. They may raise, or
wait for a collector that is away. So a line is only noted where it is logged, with its time, place
and context; a daemon thread writes it, which lives for as long as there is something to write. Each
handler is called by itself, so that one that raises takes the line from no other.
"""

import atexit
import contextlib
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Mapping
from contextvars import Context, copy_context
from typing import TypeAlias

from orchestrator._errors import ends_process
from orchestrator._hardening.log_handlers import drop_stuck_handlers, handlers_of

PREFIX = "orchestrator_"
"""With this begins the name of every attribute that our log records have besides logging's own. An
everyday name, such as `stage`, may be set by the application, on every record."""

_MOST_LINES = 256
"""So many lines wait for a handler that takes its time. More are left out, and counted."""

_LEAVING_SECONDS = 0.5
"""How long an orchestrator that is left, and the end of the process, wait for the last lines."""

_LOOK_SECONDS = 0.005

_Line: TypeAlias = tuple[logging.Logger, logging.LogRecord, Context]


class _Writer:
    """Writes the lines of all loggers, in order.

    Attributes:
        at_once: Whether lines are written where they are logged, by whoever logs them. Tests look
            for lines at once.
    """

    def __init__(self) -> None:
        self.at_once = False
        self._said_lost = False
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget all: a forked process has no such thread, and the lines are its parent's."""
        self._lock = threading.RLock()  # a signal's handler or a finalizer may log, too
        self._lines: deque[_Line] = deque()
        self._left_out = 0
        self._writing = False
        self._idle = threading.Event()
        self._idle.set()

    def add(self, line: _Line) -> None:
        """Have a line written."""
        with self._lock:
            if len(self._lines) >= _MOST_LINES:
                self._left_out += 1
                return
            self._lines.append(line)
            if self._writing:
                return
            self._writing = True
            self._idle.clear()
        if self.at_once:
            self._write_all()
            return
        try:
            threading.Thread(target=self._write_all, name="orchestrator-log", daemon=True).start()
        except RuntimeError:  # there are too many, or Python ends
            self._write_all()
        except BaseException:
            self._written()
            raise

    @property
    def idle(self) -> bool:
        """Whether all is written."""
        return self._idle.is_set()

    def wait(self, timeout_seconds: float = _LEAVING_SECONDS) -> bool:
        """Block until all is written; return whether it is."""
        return self._idle.wait(timeout_seconds)

    def end(self) -> None:
        """The process ends: what cannot be written now is lost, and holds nothing up."""
        if not self.wait():
            drop_stuck_handlers()

    def _write_all(self) -> None:
        try:
            while True:
                with self._lock:
                    if not self._lines:
                        self._written()  # with the lock held, or the next line would be forgotten
                        return
                    logger, record, context = self._lines.popleft()
                    left_out, self._left_out = self._left_out, 0
                if left_out:
                    record.msg = f"{record.msg} ({left_out} other lines were left out)"
                context.run(self._write, logger, record)
        except BaseException:
            self._written()
            raise

    def _written(self) -> None:
        with self._lock:
            self._writing = False
            self._idle.set()

    def _write(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        """What `Logger.handle` does, with a guard around each handler."""
        try:
            passed: object = logger.filter(record)
            if not passed:
                return
            if isinstance(passed, logging.LogRecord):  # from Python 3.12 on a filter may replace it
                record = passed
            handlers = handlers_of(logger)
        except BaseException as error:  # it is the application's
            self._lost("a filter", error)
            return
        for handler in handlers:
            try:
                if record.levelno >= handler.level:
                    handler.handle(record)
            except BaseException as error:  # it is the application's
                self._lost(f"the handler {type(handler).__name__}", error)

    def _lost(self, what: str, error: BaseException) -> None:
        """A line is lost; said where `logging` itself says such things."""
        if self.at_once and ends_process(error):
            raise error
        if not self._said_lost and logging.raiseExceptions:
            self._said_lost = True
            with contextlib.suppress(Exception):
                sys.stderr.write(
                    f"startup-orchestrator: {what} of the logging set-up raised"
                    f" {type(error).__name__}, and lines are lost; this is logged only once\n"
                )


_writer = _Writer()
atexit.register(_writer.end)  # after this `logging` closes the handlers
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_writer.begin_anew)


class Log:
    """A logger that never raises and never waits; otherwise it is like one of `logging`.

    Args:
        name: The name of the logger.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, message: str, *args: object, error: BaseException | None = None) -> None:
        """Log for whoever looks for a fault; with the traceback of `error`."""
        self._note(logging.DEBUG, message, args, error, {})

    def info(self, message: str, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log what happened; `extra` are attributes, whose names get the prefix."""
        self._note(logging.INFO, message, args, None, extra or {})

    def warning(
        self, message: str, *args: object, extra: Mapping[str, object] | None = None
    ) -> None:
        """Log what a person should look at; `extra` are attributes, whose names get the prefix."""
        self._note(logging.WARNING, message, args, None, extra or {})

    def error(self, message: str, *args: object, error: BaseException | None = None) -> None:
        """Log what went wrong, with the traceback of `error`."""
        self._note(logging.ERROR, message, args, error, {})

    async def aclose(self) -> None:
        """Wait until all is written, for at most 0.5 s; the event loop goes on meanwhile."""
        import anyio.lowlevel  # settings are read without an event loop

        await anyio.lowlevel.checkpoint()
        # No thread waits for it: when Python ends, none can be started.
        with anyio.move_on_after(_LEAVING_SECONDS):
            while not _writer.idle:  # noqa: ASYNC110  a thread makes it so, which has no loop
                await anyio.sleep(_LOOK_SECONDS)

    def _note(
        self,
        level: int,
        message: str,
        args: tuple[object, ...],
        error: BaseException | None,
        extra: Mapping[str, object],
    ) -> None:
        try:
            # A set-up of `logging` silently disables by default what it does not know.
            disabled = self._logger.disabled and level >= logging.WARNING
            if disabled or self._logger.isEnabledFor(level):
                named = {PREFIX + name: value for name, value in extra.items()}
                # Formatters may write them as JSON, and handlers hand them to another process.
                plain = tuple(
                    arg if isinstance(arg, str | int | float) else str(arg) for arg in args
                )
                record = self._record(level, message, plain, error, named)
                _writer.add((self._logger, record, copy_context()))
        except BaseException as raised:
            if ends_process(raised) and threading.current_thread() is threading.main_thread():
                raise  # a Ctrl-C may arrive in the middle of anything

    def _record(
        self,
        level: int,
        message: str,
        args: tuple[object, ...],
        error: BaseException | None,
        extra: Mapping[str, object],
    ) -> logging.LogRecord:
        logger = self._logger
        traceback = None if error is None else (type(error), error, error.__traceback__)
        path, line, function = "", 0, ""
        with contextlib.suppress(Exception):
            path, line, function, _ = logger.findCaller(stacklevel=4)
        parts = (logger.name, level, path, line, message, args, traceback, function)
        try:
            record = logger.makeRecord(*parts)
        except Exception:  # the application's record factory is worth less than the line
            record = logging.LogRecord(*parts)
        for name, value in extra.items():
            if not hasattr(record, name):  # else the application has set it itself
                with contextlib.suppress(AttributeError):  # a record with fixed attributes
                    setattr(record, name, value)
        return record


def _plain(args: tuple[object, ...]) -> tuple[object, ...]:
    """What a formatter may write as JSON, and a handler may hand to another process."""
    return tuple(arg if isinstance(arg, str | int | float) else str(arg) for arg in args)


logger = Log("orchestrator")


def wait_until_written() -> bool:
    """Block until all is written, for at most 0.5 s, before an end at which Python does not ask."""
    return _writer.wait()


def write_at_once() -> None:
    """Write each line where it is logged, for tests, which look for it in the next moment."""
    _writer.at_once = True
