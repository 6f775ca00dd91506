"""The answers of health endpoints over HTTP, whatever the server: ASGI, WSGI or one of ours.

The verdict is that of `health_verdict`; where the workers of a service answer as one, it is theirs.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Protocol

from orchestrator._core.conditions import name_as_kept
from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.health_verdict import (
    HealthRules,
    HealthVerdict,
    verdict_of,
    verdict_on,
)
from orchestrator._gate.refusals import RetryAfter
from orchestrator._hardening.arguments import require
from orchestrator._hardening.log_thread import logger
from orchestrator._http.health_paths import HEALTH_PATHS, condition_in, excluded_in
from orchestrator._http.responses import PROBLEM_JSON, as_json, problem
from states import ConditionState
from states._records import record

HEALTH_JSON = "application/health+json"
"""The content type of a health check's answer."""


Verdicts = Callable[[str], HealthVerdict]
"""The verdict for a path of `HEALTH_PATHS`."""


class Workers(Protocol):
    """Lets the workers of one service answer as one, such as `orchestrator.pod.Pod`."""

    def join(self, startup: Orchestrator, verdict: Verdicts) -> None:
        """Take part from each start-up of `startup` on; `verdict` is this worker's own."""
        ...

    def verdict(self, path: str, own: HealthVerdict) -> tuple[HealthVerdict, str]:
        """The verdict of all workers, and why it fails; `own` is that of this one."""
        ...

    def details(self) -> Mapping[str, object]:
        """Every worker and how it stands, as JSON."""
        ...


@record
class HealthReport:
    """One whole answer.

    Attributes:
        status: The status of HTTP.
        body: The body; leave it out for HEAD.
        content_type: Its type.
        headers: Further headers, names in lower case.
    """

    status: HTTPStatus
    body: bytes
    content_type: str = PROBLEM_JSON
    headers: tuple[tuple[str, str], ...] = ()


class HealthAnswers:
    """Answers health checks of one orchestrator. For the arguments see `health_app`.

    Args:
        startup: The orchestrator.
        rules: What a degraded service says of itself.
        retry_after_seconds: The least and the most of `Retry-After`.
        pod: The workers that answer as one; `None` where each process answers for itself.
    """

    def __init__(
        self,
        startup: Orchestrator,
        rules: HealthRules,
        *,
        retry_after_seconds: tuple[int, int] = (1, 3),
        pod: Workers | None = None,
    ) -> None:
        self._startup: Orchestrator = require(
            startup, Orchestrator, "startup", "give the orchestrator"
        )
        self._rules = rules
        self._retry_after = RetryAfter(retry_after_seconds)
        self._pod = pod
        if pod is not None:
            pod.join(startup, self.own_verdict)

    def own_verdict(self, path: str) -> HealthVerdict:
        """The verdict of this process alone, for a path of `HEALTH_PATHS`."""
        return verdict_on(path, self._startup, self._rules)

    def verdict(self, path: str) -> tuple[HealthVerdict, str]:
        """The verdict for a path of `HEALTH_PATHS`, and what is to be said besides the stage.

        `/livez` is about this process alone: only its own restart would cure it.
        """
        own, startup = self.own_verdict(path), self._startup
        output = startup.ended or startup.needs_restart or startup.loading or ""
        if not output and path == "/readyz" and startup.draining:
            output = "the service is draining"
        if self._pod is None or path == "/livez":
            return own, output
        verdict, theirs = self._pod.verdict(path, own)
        if theirs and startup.loading:
            return verdict, f"{theirs}; this worker is {startup.loading}"
        return verdict, theirs or output

    def answer(
        self, path: str, method: str, query: str = "", *, details: bool = False
    ) -> HealthReport:
        """The answer to a request for any path.

        A request for one condition, or one that leaves some out, is answered by this process alone.

        Args:
            path: The path below the mount point, decoded.
            method: Its method.
            query: The query, as it was sent.
            details: Whether to tell what the service waits for.
        """
        name = condition_in(path)
        if path not in HEALTH_PATHS and not name:
            detail = "The only paths here are " + ", ".join(HEALTH_PATHS) + "."
            return refusal(HTTPStatus.NOT_FOUND, detail)
        if method not in ("GET", "HEAD"):
            wrong = refusal(
                HTTPStatus.METHOD_NOT_ALLOWED, "Health checks are read-only: use GET or HEAD."
            )
            return HealthReport(wrong.status, wrong.body, headers=(("allow", "GET, HEAD"),))
        try:
            exclude = frozenset(map(name_as_kept, excluded_in(query if path == "/readyz" else "")))
        except ValueError:
            return refusal(HTTPStatus.BAD_REQUEST, "The query has too many parameters.")
        asked = {name} if name else exclude
        if any(verdict_of(one, self._startup) is None for one in asked):
            # The name is not repeated: what a client sends is never shown.
            return refusal(HTTPStatus.NOT_FOUND, "There is no condition with this name.")
        if asked:
            verdict, output = self._verdict_besides(name, exclude), self._startup.ended or ""
        else:
            verdict, output = self.verdict(path)
        return self._report(verdict, output, details=details)

    def _verdict_besides(self, name: str, exclude: frozenset[str]) -> HealthVerdict:
        if name:
            return verdict_of(name, self._startup) or HealthVerdict.FAIL
        return verdict_on("/readyz", self._startup, self._rules, exclude)

    def _report(self, verdict: HealthVerdict, output: str, *, details: bool) -> HealthReport:
        failed = verdict is HealthVerdict.FAIL
        data: dict[str, object] = {"status": verdict, "stage": self._startup.stage}
        if output:
            data["output"] = output
        if details:
            # The verdict stands, whatever fails in the details.
            try:
                data |= self._details()
            except Exception as error:  # it is logged
                logger.error("a health endpoint could not report its details", error=error)
        status = HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK
        headers = (("retry-after", str(self._retry_after.draw())),) if failed else ()
        return HealthReport(status, as_json(data), HEALTH_JSON, headers)

    def _details(self) -> Mapping[str, object]:
        known = self._startup.explain()
        data: dict[str, object] = {
            "in_stage_seconds": round(known.in_stage_seconds, 3),
            "draining": known.draining,
            "waits_for": known.waits_for,
            "attempts": known.attempts,
            "failures_in_row": known.failures_in_row,
            "last_failure": known.last_failure and known.last_failure.reason,
            "conditions": {
                name: {
                    "required": condition.required,
                    "satisfied": condition.satisfied,
                    "reason": condition.reason,
                    "status": _status_of(condition),
                }
                for name, condition in known.conditions.items()
            },
        }
        return data if self._pod is None else {**data, "pod": self._pod.details()}


def _status_of(condition: ConditionState) -> HealthVerdict:
    if condition.satisfied:
        return HealthVerdict.PASS
    return HealthVerdict.FAIL if condition.required else HealthVerdict.WARN


def refusal(status: HTTPStatus, detail: str) -> HealthReport:
    """An answer that refuses a request."""
    return HealthReport(status, problem(status, detail))
