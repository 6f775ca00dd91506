"""Servers that load the application in one process and serve it in others."""

import contextlib
import os
import sys
import threading
import weakref
from typing import Protocol

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
        for gate in list(unbegun):
            threading.Thread(target=gate.start, name="startup-orchestrator start").start()


if hasattr(os, "register_at_fork"):  # after what `forget_in_child` does, which is older
    os.register_at_fork(after_in_child=_begin_in_worker)


def lacks_threads() -> bool:
    """Whether this is a uWSGI that runs an application's threads only by accident."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is None:
        return False
    options: dict[object, object] = {}
    with contextlib.suppress(AttributeError, TypeError):
        options = dict(uwsgi.opt)
    names = {one.decode() if isinstance(one, bytes) else str(one) for one in options}
    return not names & {"enable-threads", "threads"}
