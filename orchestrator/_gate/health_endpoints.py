"""Health endpoints: one answer for each stage, whoever asks."""

from collections.abc import Collection, Mapping
from http import HTTPStatus

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.health_verdict import HealthRules, HealthVerdict, verdict_on
from orchestrator._gate.refusals import RetryAfter, retry_after_header
from orchestrator._hardening.arguments import require
from orchestrator._hardening.log_thread import logger
from orchestrator._http.asgi_types import ASGIApp, Header, Receive, Scope, Send, route_path
from orchestrator._http.health_paths import HEALTH_PATHS
from orchestrator._http.hosts import AllowedHosts
from orchestrator._http.responses import answer_other, as_json, oversized, problem, respond

_HEALTH_JSON = "application/health+json"


class MountHint:
    """Says once that a request which is held may be for a health endpoint nobody declared.

    Held, such a check fails, and a platform restarts the service again and again.
    """

    def __init__(self) -> None:
        self._said = False

    def look(self, scope: Scope) -> None:
        """Look at a request that is about to be held or refused."""
        path = route_path(scope)
        if self._said or scope["type"] != "http" or not path.endswith(HEALTH_PATHS):
            return
        self._said = True
        logger.warning(
            "the gate does not let %.200r pass before ready. If that is a health endpoint, declare"
            ' where it is mounted, such as bypass=health_paths("/internal")',
            path,
        )


def health_app(
    startup: Orchestrator,
    *,
    details: bool = False,
    drain_when_degraded: bool = False,
    admit_degraded: bool = False,
    retry_after_seconds: tuple[int, int] = (1, 3),
    allowed_hosts: Collection[str] | None = None,
) -> ASGIApp:
    """An ASGI application with `/livez`, `/readyz` and `/startupz`.

    Example::

        Mount("/health", health_app(startup))

    It answers GET and HEAD with `application/health+json`. `/livez` says only that the event loop
    turns and that the orchestrator has not ended: Redis has no part in it, and restarting a service
    does not mend its Redis. Once the orchestrator has ended, all three fail and `output` says why.

    A gate in front lets `/livez` and `/health/livez` pass, and so on. Mounted elsewhere, say so:
    `ReadinessGate(bypass=health_paths("/internal"))`.

    Args:
        startup: The orchestrator.
        details: Tell what the service waits for, the last failure and the conditions. Everybody
            who reaches the endpoint reads it.
        drain_when_degraded: Fail `/readyz` when a service that was ready is degraded. Without it
            one shared Redis that fails does not take every instance out of the load balancer.
        admit_degraded: Whether a service that never was ready is of use when degraded; the same
            choice as `ReadinessGate(admit_degraded=)`.
        retry_after_seconds: The least and the most of `Retry-After`, in whole seconds.
        allowed_hosts: Tell details only to requests for one of these hosts, as in `web_app`. The
            checks themselves are answered for every host: platforms ask by address.

    Raises:
        TypeError: When `startup` is no orchestrator.
        ValueError: When `retry_after_seconds` is out of range, or `allowed_hosts` cannot be used.
    """
    require(startup, Orchestrator, "startup", "write health_app(startup)")
    hosts = AllowedHosts(allowed_hosts) if allowed_hosts is not None else None
    rules = HealthRules(drain_when_degraded=drain_when_degraded, admit_degraded=admit_degraded)
    return _HealthApp(startup, RetryAfter(retry_after_seconds), hosts, rules, details=details)


class _HealthApp:
    def __init__(
        self,
        startup: Orchestrator,
        retry_after: RetryAfter,
        hosts: AllowedHosts | None,
        rules: HealthRules,
        *,
        details: bool,
    ) -> None:
        self._startup = startup
        self._retry_after = retry_after
        self._hosts = hosts
        self._rules = rules
        self._details = details

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await answer_other(scope, receive, send)
            return
        path, method = route_path(scope), scope["method"]
        head = method == "HEAD"
        if too_large := oversized(scope["headers"]):
            body = problem(too_large, "The request is too large.")
            await respond(send, too_large, body, head=head)
        elif path not in HEALTH_PATHS:
            status = HTTPStatus.NOT_FOUND
            detail = "Here are only " + ", ".join(HEALTH_PATHS) + "."
            await respond(send, status, problem(status, detail), head=head)
        elif method not in ("GET", "HEAD"):
            status = HTTPStatus.METHOD_NOT_ALLOWED
            body = problem(status, "Health can only be read.")
            await respond(send, status, body, headers=[(b"allow", b"GET, HEAD")])
        else:
            details = self._details and (not self._hosts or self._hosts.allow(scope["headers"]))
            verdict = verdict_on(path, self._startup, self._rules)
            await self._report(send, verdict, details=details, head=head)

    async def _report(
        self, send: Send, verdict: HealthVerdict, *, details: bool, head: bool
    ) -> None:
        failed = verdict is HealthVerdict.FAIL
        status = HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK
        headers: list[Header] = [retry_after_header(self._retry_after)] if failed else []
        answer: dict[str, object] = {"status": verdict, "stage": self._startup.stage}
        if (ended := self._startup.ended) is not None:
            answer["output"] = ended
        if details:
            # Nothing that can be told in addition may take the verdict away.
            try:
                answer |= _details(self._startup)
            except Exception as error:  # it is logged
                logger.error("a health endpoint could not tell its details", error=error)
        body = as_json(answer)
        await respond(send, status, body, content_type=_HEALTH_JSON, headers=headers, head=head)


def _details(startup: Orchestrator) -> Mapping[str, object]:
    known = startup.explain()
    return {
        "in_stage_seconds": round(known.in_stage_seconds, 3),
        "waits_for": known.waits_for,
        "attempts": known.attempts,
        "failures_in_row": known.failures_in_row,
        "last_failure": known.last_failure and known.last_failure.reason,
        "conditions": {
            name: {
                "required": condition.required,
                "satisfied": condition.satisfied,
                "reason": condition.reason,
            }
            for name, condition in known.conditions.items()
        },
    }
