"""Wakes a waiting thread from any other."""

from queue import Empty, SimpleQueue


class Doorbell:
    """Rung any number of times, it wakes its thread once."""

    def __init__(self) -> None:
        self._rung: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake the thread, now or when it waits next."""
        self._rung.put(None)

    def wait(self, seconds: float) -> None:
        """Wait for so long at most."""
        try:
            self._rung.get(timeout=max(0.0, seconds))
            while True:
                self._rung.get_nowait()
        except Empty:
            pass
