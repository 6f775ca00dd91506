"""Health endpoints: one answer for each stage, whoever asks."""

from collections.abc import Collection
from typing import Literal

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.health_answers import HealthAnswers, Workers, refusal
from orchestrator._gate.health_verdict import HealthRules
from orchestrator._hardening.arguments import require, wrong_type
from orchestrator._hardening.log_thread import logger
from orchestrator._http.asgi_types import ASGIApp, Receive, Scope, Send, raw_path, route_path
from orchestrator._http.health_paths import HEALTH_PATHS, is_health_path
from orchestrator._http.hosts import AllowedHosts
from orchestrator._http.responses import answer_other, oversized, respond


class MountHint:
    """Warns once when a held request may be for a health endpoint that was not declared.

    A health check that is held fails, and the platform restarts the service again and again.
    """

    def __init__(self) -> None:
        self._said = False

    def warn_once(self, scope: Scope) -> None:
        """Warn if this request, which is about to be held or refused, looks like one."""
        path = route_path(scope)
        if self._said or scope["type"] != "http" or not path.endswith(HEALTH_PATHS):
            return
        self._said = True
        logger.warning(
            "the gate does not let %.200r pass before ready. If that is a health endpoint, declare"
            ' where it is mounted, such as bypass=health_paths("/internal")',
            path,
        )


def asks_for_health(scope: Scope) -> bool:
    """Whether an HTTP request asks for a health endpoint at the root."""
    # The first question is quick, and answers for nearly every request.
    path = scope["path"]
    if not (path.endswith(HEALTH_PATHS) or "/readyz/" in path):
        return False
    return is_health_path(route_path(scope), raw_path(scope))


def health_option(
    startup: Orchestrator,
    health: bool | ASGIApp,
    pod: Workers | None,
    *,
    admit_degraded: bool,
) -> ASGIApp | Literal[False]:
    """What answers for a gate that has the options `health`, `pod` and `admit_degraded`.

    Raises:
        TypeError: When `health` is neither a flag nor an application.
        ValueError: When `pod` is given where it has no effect.
    """
    if not isinstance(health, bool) and not callable(health):
        raise wrong_type(health, "health", "a bool or an ASGI application", "see health_app")
    if pod is not None and health is not True:
        raise ValueError("pod needs health=True; or give it to health_app(startup, pod=pod)")
    if health is not True:
        return health
    return health_app(startup, admit_degraded=admit_degraded, pod=pod)


def health_app(
    startup: Orchestrator,
    *,
    details: bool = False,
    drain_when_degraded: bool = False,
    admit_degraded: bool = False,
    retry_after_seconds: tuple[int, int] = (1, 3),
    allowed_hosts: Collection[str] | None = None,
    pod: Workers | None = None,
) -> ASGIApp:
    """An ASGI application with `/livez`, `/readyz` and `/startupz`.

    `/readyz/NAME` reports one condition, and `/readyz?exclude=NAME` leaves one out; repeat it for
    more. `redis` is the orchestrator's own probe. A name that was not declared is not found.

    Example::

        Mount("/health", health_app(startup))

    It answers GET and HEAD with `application/health+json`. `/livez` says only that the event loop
    runs and that the orchestrator has not ended: Redis has no part in it, since a restart does not
    repair Redis. Once the orchestrator has ended, all three fail and `output` says why.

    A gate in front lets `/livez`, `/health/livez` and so on pass. If it is mounted elsewhere, say
    so:
    `ReadinessGate(bypass=health_paths("/internal"))`.

    Args:
        startup: The orchestrator.
        details: Tell what the service waits for, the last failure and the conditions. Anyone who
            can reach the endpoint can read it.
        drain_when_degraded: Fail `/readyz` when a service that was ready is degraded. Without it
            one shared Redis that fails does not take every instance out of the load balancer.
        admit_degraded: Whether a service that was never ready is of use when degraded; the same
            choice as `ReadinessGate(admit_degraded=)`.
        retry_after_seconds: The least and the most of `Retry-After`, in whole seconds.
        allowed_hosts: Show details only to requests for one of these hosts, as in `web_app`. The
            checks themselves are answered for every host: platforms ask by address.
        pod: The workers of this service, which then answer `/readyz` and `/startupz` as one:
            `orchestrator.pod.Pod()`.

    Raises:
        TypeError: When `startup` is no orchestrator.
        ValueError: When `retry_after_seconds` is out of range, or `allowed_hosts` cannot be used.
    """
    require(startup, Orchestrator, "startup", "write health_app(startup)")
    hosts = AllowedHosts(allowed_hosts) if allowed_hosts is not None else None
    rules = HealthRules(drain_when_degraded=drain_when_degraded, admit_degraded=admit_degraded)
    answers = HealthAnswers(startup, rules, retry_after_seconds=retry_after_seconds, pod=pod)
    return HealthApp(answers, hosts, details=details)


class HealthApp:
    """An ASGI application that gives these answers.

    Args:
        answers: The answers.
        hosts: The hosts that may see details; `None` for all.
        details: Whether details are shown at all.
    """

    def __init__(
        self, answers: HealthAnswers, hosts: AllowedHosts | None, *, details: bool
    ) -> None:
        self._answers = answers
        self._hosts = hosts
        self._details = details

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await answer_other(scope, receive, send)
            return
        if too_large := oversized(scope["headers"]):
            report = refusal(too_large, "The request is too large.")
        else:
            details = self._details and (not self._hosts or self._hosts.allow(scope["headers"]))
            query = scope.get("query_string", b"").decode("utf-8", "replace")
            report = self._answers.answer(
                route_path(scope), scope["method"], query, details=details
            )
        await respond(
            send,
            report.status,
            report.body,
            content_type=report.content_type,
            headers=[(name.encode(), value.encode()) for name, value in report.headers],
            head=scope["method"] == "HEAD",
        )
