"""Every change of stage as a record of the standard library's logging."""

from orchestrator._core.account_book import AccountBook
from orchestrator._core.explanation import cause_in_words
from orchestrator._hardening.log_thread import logger
from orchestrator._ports import Observer, StartupContext
from states import Fact, Stage, StageChanged


class TransitionLog(Observer):
    """Logs one line for each change of stage, with `degraded` as a warning.

    Below the first `ready` it logs where the start went.

    For formatters that write structured logs, the record has the attributes `orchestrator_stage`,
    `orchestrator_previous_stage`, `orchestrator_stage_sequence` and `orchestrator_elapsed_seconds`.
    Where the application sets one of these on its records, its value stays.
    """

    def __init__(self, book: AccountBook) -> None:
        self._probe = ""
        self._book = book
        self._said_account = False

    def started(self, context: StartupContext) -> None:
        """Remember what is asked."""
        self._probe = context.target.name
        self._said_account = not context.enabled

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Log a change of stage."""
        if changed is None:
            return
        log = logger.warning if changed.current is Stage.DEGRADED else logger.info
        log(
            "%s -> %s after %.3f s: %s",
            changed.previous,
            changed.current,
            changed.elapsed_seconds,
            cause_in_words(changed, self._probe),
            extra={
                "stage": changed.current.value,
                "previous_stage": changed.previous.value,
                "stage_sequence": changed.sequence,
                "elapsed_seconds": changed.elapsed_seconds,
            },
        )
        if changed.current is Stage.READY and not self._said_account:
            self._said_account = True
            logger.info("%s", self._book.account(changed.at))
