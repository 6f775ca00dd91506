"""Logs what keeps an instance from being published, once for each kind."""

from orchestrator._hardening.log_thread import logger
from states import Failure


class TroubleLog:
    """Logs each kind of trouble once.

    Attributes:
        kinds: The `error_type` of those that were logged.
    """

    def __init__(self) -> None:
        self.kinds: set[str] = set()

    def say(self, failure: Failure) -> None:
        """Log it, unless one of its kind was logged."""
        if failure.error_type in self.kinds:
            return
        self.kinds.add(failure.error_type)
        logger.warning(
            "the fleet does not learn how this instance stands: %s; it is tried again, and this is"
            " said only once",
            failure.reason,
        )
