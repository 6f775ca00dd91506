"""What CMD has said of itself, and whether that makes it ready.

Two kinds of words come in. An orchestrator in CMD says its stage; each process has one of its own,
and they count together, as the workers of one service. Anything else speaks as sd_notify(3) has it,
for CMD as a whole: READY=1, RELOADING=1, STOPPING=1, STATUS=. Who has said both has to be ready in
both senses: gunicorn, for one, says READY=1 when its parent process is.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from orchestrator import Orchestrator, Stage
from orchestrator._gate.health_answers import Verdicts
from orchestrator._gate.health_verdict import HealthVerdict
from orchestrator._hardening.log_thread import Log
from orchestrator._hardening.text import reason_of
from orchestrator._runtime.notify_socket import REPORT
from orchestrator.pod._members import now
from orchestrator.pod._parent import ParentProcess, expected_workers, server_in
from orchestrator.pod._quorum import Quorum
from orchestrator.pod._standing import PodStanding, WorkerReport

logger = Log("orchestrator.run")

_MOST_REPORTERS = 256
_LATE_SECONDS = 1.0

_Reporter = tuple[int, int]


class ChildReports:
    """How CMD stands, by its own words. The health endpoints ask it as they would ask a pod.

    Args:
        command: CMD; its `--workers` says how many processes have to report.
        silent_seconds: How long CMD may say nothing before it is taken for ready.
        drain_when_degraded: Whether an outage after the start-up makes it not ready.
        changed: Called when something was said.
    """

    def __init__(
        self,
        command: Sequence[str],
        silent_seconds: float,
        *,
        drain_when_degraded: bool,
        changed: Callable[[], None],
    ) -> None:
        self._silent_seconds = silent_seconds
        self._drain_when_degraded = drain_when_degraded
        self._changed = changed
        known = server_in(command) is not None
        number = expected_workers(ParentProcess(0, "", tuple(command)))[0] if known else 1
        self._expected = number or 1
        # By the process, and which of its orchestrators: those that were entered, and those that
        # were only made so far.
        self._workers: dict[_Reporter, WorkerReport] = {}
        self._declared: set[_Reporter] = set()
        self.pid = 0
        self._was_heard = False
        self._service: HealthVerdict | None = None
        self._status = ""
        self._started = self._was_ready = False
        self._began_at = 0.0

    def begin(self, pid: int) -> None:
        """CMD was started."""
        self.pid = pid
        self._began_at = now()

    # -- what comes in -----------------------------------------------------------------------------

    def heard(self, pid: int, fields: Mapping[str, str]) -> None:
        """Take a message.

        Args:
            pid: The process that has sent it; 0 if that is not known.
            fields: What it says.
        """
        first = not self._said_anything()
        if REPORT in fields:
            self._take_report(pid, fields[REPORT])
        else:
            self._take_word(fields)
        if first and self._said_anything():
            late = now() - self._began_at
            if late >= max(self._silent_seconds, _LATE_SECONDS):
                logger.warning(
                    "CMD has reported for the first time %.1f s after its start, and counted as"
                    " ready before that; --child-ready reported waits for it",
                    late,
                )
        self._changed()

    def _said_anything(self) -> bool:
        return self._was_heard or self._service is not None

    def _take_word(self, fields: Mapping[str, str]) -> None:
        self._status = reason_of(fields["STATUS"]) if "STATUS" in fields else self._status
        if fields.get("READY") == "1":
            self._service = HealthVerdict.PASS
        elif fields.get("RELOADING") == "1" or fields.get("STOPPING") == "1":
            self._service = HealthVerdict.FAIL
        elif self._service is None and "STATUS" in fields:
            self._service = HealthVerdict.FAIL  # it speaks, and has not said that it is ready

    def _take_report(self, pid: int, text: str) -> None:
        try:
            data = json.loads(text)
            pid = pid or int(data["pid"])
            stage = Stage(data["stage"])
            one = pid, int(data["number"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return
        self._was_heard = True
        if data.get("ended"):
            self._workers.pop(one, None)
        elif not data.get("entered"):
            self._declared = {*list(self._declared)[-_MOST_REPORTERS:], one}
        elif one in self._workers or len(self._workers) < _MOST_REPORTERS:
            self._declared.discard(one)
            self._workers[one] = self._report_of(pid, stage, data)

    def _report_of(self, pid: int, stage: Stage, data: Mapping[str, object]) -> WorkerReport:
        outage = stage is Stage.DEGRADED or data.get("recovering") is True
        serves = outage and data.get("was_ready") is True and not self._drain_when_degraded
        readyz = HealthVerdict.PASS if stage is Stage.READY else HealthVerdict.FAIL
        draining = bool(data.get("draining"))
        if draining:
            readyz = HealthVerdict.FAIL
        elif serves:
            readyz = HealthVerdict.WARN
        decided = stage is Stage.READY or outage
        startupz = HealthVerdict.PASS if decided else HealthVerdict.FAIL
        waits_for = (reason_of(str(data["waits_for"])),) if data.get("waits_for") else ()
        return WorkerReport(pid, stage, readyz, startupz, waits_for, draining=draining)

    # -- what is asked -----------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """How it stands, in its own words; empty when all is well, or nothing was said."""
        return self._own("/readyz")[1]

    @property
    def ready(self) -> bool:
        """Whether it is ready, as far as it has said."""
        return self._own("/readyz")[0] is not HealthVerdict.FAIL

    def join(self, startup: Orchestrator, verdict: Verdicts) -> None:
        """Nothing has to be done for it."""

    def verdict(self, path: str, own: HealthVerdict) -> tuple[HealthVerdict, str]:
        """The worse of what we found and what CMD says.

        Args:
            path: `/readyz` or `/startupz`.
            own: What we found.
        """
        child, words = self._own(path)
        for worst in (HealthVerdict.FAIL, HealthVerdict.WARN):
            if child is worst:
                return worst, words
            if own is worst:
                return worst, ""
        return HealthVerdict.PASS, ""

    def details(self) -> Mapping[str, object]:
        """Every process of CMD that has said how it stands."""
        if not self._was_heard:
            return {"alone": True, "pid": self.pid, "status": self._status}
        return {**self._standing().as_json(""), "status": self._status}

    def _own(self, path: str) -> tuple[HealthVerdict, str]:
        """What CMD says, and why it is no pass."""
        if not self._said_anything():
            if now() - self._began_at >= self._silent_seconds:
                return HealthVerdict.PASS, ""
            why = "CMD has not reported yet; --child-ready started is for one that never does"
            return HealthVerdict.FAIL, why
        if self._service is HealthVerdict.FAIL:
            words = f"CMD: {self._status}" if self._status else "CMD has not said that it is ready"
            return HealthVerdict.FAIL, words
        if not self._was_heard:
            return HealthVerdict.PASS, ""
        return self._of_workers(path)

    def _of_workers(self, path: str) -> tuple[HealthVerdict, str]:
        standing = self._standing()
        if not standing.workers:
            why = "CMD is being set up" if self._declared else "no process of CMD serves any more"
            return HealthVerdict.FAIL, why
        self._started, self._was_ready = standing.started, standing.was_ready
        words = standing.in_words(path)
        if len(standing.workers) == standing.expected == 1:
            ((report, _),) = standing.workers.values()
            words = f"CMD is {report.does}" + "".join(f", {one}" for one in report.waits_for)
        if path == "/startupz":
            return (HealthVerdict.PASS, "") if standing.started else (HealthVerdict.FAIL, words)
        enough = Quorum().enough
        for verdict, well in ((HealthVerdict.PASS, True), (HealthVerdict.WARN, False)):
            ready = standing.count(path, without_warnings=well)
            if enough(ready, standing.expected, was_ready=standing.was_ready):
                return verdict, "" if well else words
        return HealthVerdict.FAIL, words

    def _standing(self) -> PodStanding:
        self._workers = {one: it for one, it in self._workers.items() if _lives(one[0])}
        self._declared = {one for one in self._declared if _lives(one[0])}
        at, reports = now(), dict[str, WorkerReport]()
        for (pid, _), report in self._workers.items():
            if str(pid) in reports and report.readyz is HealthVerdict.PASS:
                continue  # of several in one process the worst counts
            reports[str(pid)] = replace(
                report,
                beat_at=at,
                pod_started=self._started,
                pod_was_ready=self._was_ready,
            )
        return PodStanding.of(reports, self._expected, at, at)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
