"""Servers that load the application in one process and serve it in others."""

import contextlib
import os
import sys
import threading
import weakref
from typing import Protocol

from orchestrator._runtime import drain_signal

NO_THREADS = (
    "uWSGI runs no threads but its own: start it with --enable-threads, or with --threads 2 or more"
)


class _Startable(Protocol):
    def start(self) -> None:
        """Begin in this process."""


unbegun: "weakref.WeakSet[_Startable]" = weakref.WeakSet()
"""Gates of this process that no request has reached."""


def _begin_in_worker() -> None:
    """Begin where a server forks its workers: its parent process has served no request."""
    if "gunicorn.arbiter" in sys.modules or "uwsgi" in sys.modules:
        if unbegun:
            drain_signal.catch()  # this is the main thread, and the gates begin in others
        for gate in list(unbegun):
            threading.Thread(target=gate.start, name="startup-orchestrator start").start()


def _is_master() -> None:
    """This process has made a gate, but only its forks serve requests."""
    if unbegun:
        drain_signal.let_go()


if hasattr(os, "register_at_fork"):  # after what `forget_in_child` does, which is older
    os.register_at_fork(after_in_child=_begin_in_worker, after_in_parent=_is_master)


def hear_in_other_threads() -> None:
    """Let gates hear signals that begin in another thread than this one, if a server forks here.

    gunicorn makes the application in the main thread, and works in others.
    """
    if "gunicorn.arbiter" in sys.modules:
        drain_signal.catch()


def hears_signals() -> bool:
    """Whether Python's handlers run here: uWSGI has its own, in C, which must stay in place."""
    return "uwsgi" not in sys.modules


def lacks_threads() -> bool:
    """Whether this is a uWSGI that was not told to run an application's threads."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is None:
        return False
    options: dict[object, object] = {}
    with contextlib.suppress(AttributeError, TypeError):
        options = dict(uwsgi.opt)
    names = {one.decode() if isinstance(one, bytes) else str(one) for one in options}
    return not names & {"enable-threads", "threads"}
