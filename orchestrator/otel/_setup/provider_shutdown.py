"""The end of a provider, in a thread that never holds the exit up."""

import contextlib
import os
import weakref
from collections.abc import Callable
from threading import Event, Thread

from orchestrator._hardening.log_thread import logger


class ProviderShutdown:
    """Ends one provider in a thread that does not hold the exit up.

    The SDK's own shutdown waits for its exporter as long as that likes; a daemon thread can be left
    behind. It stands by from the beginning, since Python 3.12 starts none during the exit; and anew
    in a process that was forked, since a fork takes no threads along.

    Args:
        end: Shuts the provider down.
    """

    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end
        self._stand_by()
        if hasattr(os, "register_at_fork"):
            again = weakref.WeakMethod(
                self._stand_by
            )  # what was registered can never be taken back
            os.register_at_fork(after_in_child=lambda: (stand_by := again()) and stand_by())

    def begin(self) -> Thread:
        """Begin to end it; return the thread that does."""
        self._asked.set()
        return self._thread

    def _stand_by(self) -> None:
        self._asked = Event()
        self._thread = Thread(target=self._run, name="telemetry-shutdown", daemon=True)
        with contextlib.suppress(RuntimeError):  # forked while Python ends: it must do without
            self._thread.start()

    def _run(self) -> None:
        self._asked.wait()
        try:
            self._end()
        except Exception as error:  # a provider that cannot end must not break the exit
            # Only the type: the text may hold the collector's address with a password in it.
            logger.debug("a provider could not be ended: %s", type(error).__name__)
