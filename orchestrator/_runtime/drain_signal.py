"""The signal with which the drain command asks a process to drain.

No server listens to it, so none of them begins to end before the drain is over; and only the same
user, or root, can send it. It is one of Linux' real-time signals, which nothing else uses by
default. Whoever is not ready for it would be ended by it, so the command looks whether a process
catches it, in `/proc/PID/status`; it does not any more once its drain is over. See signal(7),
proc_pid_status(5).
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Generator
from types import FrameType

from orchestrator._runtime.event_loop import EventLoop

DRAIN_SIGNAL: int | None = getattr(signal, "SIGRTMIN", 0) + 6 if os.path.exists("/proc") else None  # noqa: PTH110  pathlib is slow to import
"""Its number; `None` where there is no such signal."""

_listeners: dict[object, tuple[EventLoop, Callable[[], object]]] = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_listeners.clear)  # they are its parent's


@contextlib.contextmanager
def on_drain_signal(call: Callable[[], object]) -> Generator[Callable[[], None]]:
    """Have `call` called on the event loop at each such signal, for as long as the block runs.

    Where there is no such signal, outside of the main thread, and where the application has a
    handler of its own for it, nothing happens.

    Yields:
        A function that says that the drain is over: the signal is ignored from then on.
    """
    me = object()
    if DRAIN_SIGNAL is None or not _can_listen():
        yield _nothing
        return
    _listeners[me] = EventLoop(), call
    signal.signal(DRAIN_SIGNAL, _hear)
    over = False

    def drained() -> None:
        nonlocal over
        over = True
        _leave(me, over)

    try:
        yield drained
    finally:
        _leave(me, over)


def _nothing() -> None:
    pass


def _can_listen() -> bool:
    if DRAIN_SIGNAL is None or threading.current_thread() is not threading.main_thread():
        return False
    return signal.getsignal(DRAIN_SIGNAL) in (signal.SIG_DFL, signal.SIG_IGN, _hear)


def _hear(_: int, __: FrameType | None) -> None:
    for loop, call in tuple(_listeners.values()):
        with contextlib.suppress(RuntimeError):  # it has ended
            loop.call(call)


def _leave(me: object, over: bool) -> None:
    _listeners.pop(me, None)
    for other, (loop, _) in tuple(_listeners.items()):
        if loop.ended:
            del _listeners[other]
    if DRAIN_SIGNAL is None or _listeners or not _can_listen():
        return
    if signal.getsignal(DRAIN_SIGNAL) is _hear:
        # What was sent to a process that drained just now is not to end it.
        signal.signal(DRAIN_SIGNAL, signal.SIG_IGN if over else signal.SIG_DFL)
