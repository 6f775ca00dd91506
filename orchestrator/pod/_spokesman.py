"""Logs what concerns all workers: one of them does it, so that each line appears once."""

from orchestrator._hardening.log_thread import Log
from orchestrator.pod._members import now
from orchestrator.pod._standing import PodStanding

logger = Log("orchestrator.pod")

_PATIENCE_SECONDS = 30.0
"""How long workers may take to join before a warning."""


class Spokesman:
    """Logs what changes for the service as a whole.

    Args:
        source: Where the number of workers was taken from.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._began_at = now()
        self._said: bool | None = None
        self._said_missing = False

    def report(self, standing: PodStanding, own: str, *, ready: bool) -> None:
        """Look at the standing of all; the first by name logs what has changed.

        Args:
            standing: How all stand.
            own: The name of this worker's file.
            ready: Whether enough of them are ready.
        """
        before, self._said = self._said, ready
        if own != next(iter(standing.workers), ""):
            return
        if ready != before and (ready or before is not None):
            log = logger.info if ready else logger.warning
            log("the service is %sready: %s", "" if ready else "not ", standing.in_words("/readyz"))
        missing = len(standing.workers) < standing.expected and not standing.started
        if missing and now() - self._began_at > _PATIENCE_SECONDS and not self._said_missing:
            self._said_missing = True
            logger.warning(
                "%s; the number was taken from %s, and Pod(workers=) overrides it",
                standing.in_words("/startupz"),
                self._source,
            )
