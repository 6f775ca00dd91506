"""The interpreter's switch interval, made shorter for as long as threads export telemetry."""

import math
import sys


class SwitchInterval:
    """Makes the switch interval shorter; one that is short enough already is left alone.

    Args:
        seconds: How long a thread with work may keep others waiting for the interpreter.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._before = sys.getswitchinterval()
        if seconds < self._before:
            sys.setswitchinterval(seconds)

    def restore(self) -> None:
        """Make it what it was, unless it was changed since."""
        if math.isclose(sys.getswitchinterval(), self._seconds, abs_tol=1e-6):
            sys.setswitchinterval(self._before)
