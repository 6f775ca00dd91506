"""What another thread has done in the main thread, where alone Python lets handlers be installed.

A signal handler runs there, soon, whatever the main thread is doing; so another thread sends it a
signal, and its handler does what is to be done. It is one of Linux' real-time signals, beside the
one of the drain command. See signal(7).
"""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from types import FrameType

_NUMBER: int | None = getattr(signal, "SIGRTMIN", 0) + 7 if os.path.exists("/proc") else None  # noqa: PTH110  pathlib is slow to import

_calls: deque[Callable[[], object]] = deque()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_calls.clear)  # they are its parent's


def can_be_asked() -> bool:
    """Let other threads ask this one from now on; False if it is not the main thread.

    Nor under uWSGI, whose main thread may be in C for good, and runs no handler then.
    """
    if threading.current_thread() is not threading.main_thread() or "uwsgi" in sys.modules:
        return False
    if _NUMBER is not None and signal.getsignal(_NUMBER) in (signal.SIG_DFL, _do_all):
        signal.signal(_NUMBER, _do_all)
    return True


def do(call: Callable[[], object]) -> None:
    """Call it in the main thread: now, if this is it; else soon, if that can be asked."""
    main = threading.main_thread()
    if threading.current_thread() is main:
        call()
    elif _NUMBER is not None and main.ident and signal.getsignal(_NUMBER) is _do_all:
        _calls.append(call)
        signal.pthread_kill(main.ident, _NUMBER)


def _do_all(_: int, __: FrameType | None) -> None:
    while _calls:
        _calls.popleft()()
