"""A thread that does its work a moment later, so that the event loop never does it."""

from collections.abc import Callable
from threading import Event, Thread

_SETTLE_SECONDS = 0.05
"""How long work waits for company. It also keeps this thread out of the way in the very moment in
which a service becomes ready and its held clients are let in."""


class WriteLoop:
    """Runs a function in a daemon thread some time after each `wake`, until it returns True.

    What one thread adds before it calls `wake` or `hurry` is seen by a run that begins later. To
    wake a thread that is awake already costs next to nothing. The thread is started by the first
    wake; a process that never has work has no thread.

    Args:
        run: Does all the work that there is; returns whether that was the last.
    """

    def __init__(self, run: Callable[[], bool]) -> None:
        self._run = run
        self._thread: Thread | None = None
        self._awake = False
        self._wanted = Event()
        self._hurried = Event()

    @property
    def begun(self) -> bool:
        """Whether there is a thread."""
        return self._thread is not None

    def wake(self) -> None:
        """Run soon. Called by one thread only."""
        if self._awake:
            return
        if self._thread is None:
            thread = Thread(target=self._loop, name="telemetry-writer", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # there are too many, or Python ends
                self._run()
                return
            self._thread = thread
        self._awake = True
        self._wanted.set()

    def hurry(self) -> None:
        """Run at once. Called by the thread that calls `wake`."""
        self._hurried.set()
        self.wake()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the last run, once there is one; return whether it is done."""
        if self._thread is not None:
            self._thread.join(timeout_seconds)
        return self._thread is None or not self._thread.is_alive()

    def _loop(self) -> None:
        last = False
        while not last:
            self._wanted.wait()
            self._wanted.clear()
            self._hurried.wait(_SETTLE_SECONDS)
            self._hurried.clear()
            # From here on a wake counts again: what came before it is seen by this run.
            self._awake = False
            last = self._run()
