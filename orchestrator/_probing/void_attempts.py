"""Repeats attempts that say nothing about the server, because this process did not run."""

from orchestrator._hardening.log_thread import logger
from orchestrator._ports import ProbeResult

_MOST_VOID = 5
"""How many attempts in a row may be void. The next counts as a failure: a process that never runs
in time cannot say that what it depends on is well."""


class VoidAttempts:
    """Counts the void attempts in a row of one probe.

    Args:
        name: What the probe is called.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._in_row = 0
        self._said = False

    def includes(self, result: ProbeResult) -> bool:
        """Count an attempt with this result; return whether to repeat it because it is void."""
        self._in_row = self._in_row + 1 if result.void else 0
        if not 0 < self._in_row <= _MOST_VOID:
            return False
        if not self._said:
            self._said = True
            logger.warning(
                "an attempt of %s does not count, since this process did not run in time; does C"
                " code hold the interpreter, or is there too little CPU? This is logged only once",
                self._name,
            )
        return True
