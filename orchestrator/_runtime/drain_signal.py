"""The signal with which the drain command asks a process to drain.

No server listens to it, so none of them begins to end before the drain is over; and only the same
user, or root, can send it. It is one of Linux' real-time signals, which nothing else uses by
default. Whoever is not ready for it would be ended by it, so the command looks whether a process
catches it, in `/proc/PID/status`; it does not any more once its drain is over. See signal(7),
proc_pid_status(5).

Only the main thread may install handlers. So a start-up in another thread (`run_in_thread`) hears
the signal if the main thread has begun to `catch` it before.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Generator
from types import FrameType

from orchestrator._runtime import main_thread
from orchestrator._runtime.event_loop import EventLoop

DRAIN_SIGNAL: int | None = getattr(signal, "SIGRTMIN", 0) + 6 if os.path.exists("/proc") else None  # noqa: PTH110  pathlib is slow to import
"""Its number; `None` where there is no such signal."""

_listeners: dict[object, tuple[EventLoop, Callable[[], object]]] = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_listeners.clear)  # they are its parent's


def catch() -> None:
    """Catch the signal from now on, if this is the main thread, so that another one can listen."""
    if main_thread.can_be_asked():
        _catch()


def let_go() -> None:
    """Catch it no more, if this is the main thread and no one listens."""
    _tidy(signal.SIG_DFL)


@contextlib.contextmanager
def on_drain_signal(call: Callable[[], object]) -> Generator[Callable[[], None]]:
    """Have `call` called on the event loop at each such signal, for as long as the block runs.

    Where there is no such signal, where the application has a handler of its own for it, and in
    another thread while the main thread does not `catch` it, nothing happens.

    Yields:
        A function that says that the drain is over: the signal is ignored from then on.
    """
    me = object()
    _catch()
    if not _is_caught():
        yield _nothing
        return
    _listeners[me] = EventLoop(), call
    over = signal.SIG_DFL

    def drained() -> None:
        nonlocal over
        over = signal.SIG_IGN
        _leave(me, over)

    try:
        yield drained
    finally:
        _leave(me, over)


def _nothing() -> None:
    pass


def _catch() -> None:
    if DRAIN_SIGNAL is not None and _may_install():
        signal.signal(DRAIN_SIGNAL, _hear)


def _may_install() -> bool:
    if DRAIN_SIGNAL is None or threading.current_thread() is not threading.main_thread():
        return False
    return signal.getsignal(DRAIN_SIGNAL) in (signal.SIG_DFL, signal.SIG_IGN, _hear)


def _is_caught() -> bool:
    return DRAIN_SIGNAL is not None and signal.getsignal(DRAIN_SIGNAL) is _hear


def _hear(_: int, __: FrameType | None) -> None:
    for loop, call in tuple(_listeners.values()):
        with contextlib.suppress(RuntimeError):  # it has ended
            loop.call(call)
    _tidy(signal.SIG_IGN)


def _leave(me: object, then: signal.Handlers) -> None:
    _listeners.pop(me, None)
    for other, (loop, _) in tuple(_listeners.items()):
        if loop.ended:
            del _listeners[other]
    if not _listeners and _is_caught():
        main_thread.do(lambda: _tidy(then))


def _tidy(then: signal.Handlers) -> None:
    """Catch it no more. What is sent to a process that drained just now is not to end it."""
    if DRAIN_SIGNAL is not None and not _listeners and _may_install() and _is_caught():
        signal.signal(DRAIN_SIGNAL, then)
