"""Reports the stage of this process to `startup-orchestrator run`, if that is its parent.

The first report is sent where the orchestrator is made, usually while the application is imported:
no event loop runs yet, and from then on the parent knows that there is something to wait for. A
report that did not get through, because the parent was busy, is repeated with the next fact.
"""

import os
from itertools import count

from orchestrator._core.explanation import missing_in_words
from orchestrator._hardening.log_thread import logger
from orchestrator._ports import Observer, StartupContext
from orchestrator._runtime.notify_socket import REPORT, NotifySocket, parent_address
from states import DrainBegan, Fact, Stage, StageChanged

_numbers = count()
"""By these the parent tells several orchestrators of one process apart."""


class ParentReport(Observer):
    """Reports each change of stage to the parent.

    Args:
        address: Where it listens.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._number = next(_numbers)
        self._report: dict[str, object] = {"stage": Stage.BOOTING, "entered": False}
        self._lost = False
        self._send()

    def started(self, context: StartupContext) -> None:
        """A start-up begins."""
        self._report = {"stage": Stage.BOOTING, "entered": True}
        self._send()

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Report what has changed."""
        if changed is not None:
            ready = changed.current is Stage.READY
            before = self._report
            self._report = {
                "stage": changed.current,
                "entered": True,
                "was_ready": ready or bool(before.get("was_ready")),
                "recovering": changed.current is Stage.GRACE and changed.previous is Stage.DEGRADED,
                "draining": bool(before.get("draining")),
                "waits_for": "" if ready else missing_in_words(changed.waits_for),
            }
        elif isinstance(fact, DrainBegan):
            self._report = {**self._report, "draining": True}
        elif not self._lost:
            return
        self._send()

    def stopped(self, at: float) -> None:
        """The start-up has ended, and the service with it."""
        self._report = {**self._report, "ended": True}
        self._send()

    def _send(self) -> None:
        import json  # only where there is a parent

        data = {**self._report, "pid": os.getpid(), "number": self._number}
        stage = data["stage"]
        words: dict[str, str | int] = {REPORT: json.dumps(data)}
        if stage is Stage.READY and not data.get("ended"):
            words["READY"] = 1
        waits = data.get("waits_for")
        words["STATUS"] = f"{stage}, waits for {waits}" if waits else str(stage)
        # Reports are rare, and forks would inherit a socket that stayed open.
        socket = NotifySocket(self._address)
        self._lost = not socket.send(**words)
        socket.close()


_quiet = False


def keep_quiet() -> None:
    """Report nothing from this process: it waits for others, and is not the service itself."""
    global _quiet  # noqa: PLW0603  it is about the process
    _quiet = True


def report_to_parent() -> list[Observer]:
    """The observer that reports to the parent, if that is `run`; otherwise none."""
    address = parent_address()
    if not address or _quiet:
        return []
    try:
        return [ParentReport(address)]
    except OSError as error:  # no socket is left
        logger.warning("stages cannot be reported to the parent process: %s", error.strerror)
        return []
