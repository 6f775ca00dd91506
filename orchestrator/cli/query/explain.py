"""`explain`: what a running service waits for and why, as text."""

from collections.abc import Mapping
from http import HTTPStatus

from orchestrator._core.explanation import ConditionView, conditions_in_words
from orchestrator._http.health_paths import HEALTH_PATHS
from orchestrator.cli._shell.errors import Unreachable
from orchestrator.cli._shell.foreign_text import listed, number, shown
from orchestrator.cli.query.client import BEHIND_GATE, NO_PAGE, HttpAddress, get
from orchestrator.cli.query.pod_words import workers_in_words

DEFAULT_PATH = "/startup"


_BLOCKED_SECONDS = 0.1
"""A lag of the event loop that is worth a line, as it is to the service itself."""

State = Mapping[str, object]
"""What `/startup/state` tells."""


class NoPage(Unreachable):
    """There is a service, but no status page where it was looked for."""


def base_address(url: str) -> HttpAddress:
    """The address of the status page, whichever of its addresses was given.

    Of a health endpoint it is the page of the same service, where it usually is.

    Raises:
        UserError: When the URL cannot be used.
    """
    given = HttpAddress.of(url, DEFAULT_PATH)
    path = given.path
    if is_health(path):
        return HttpAddress(given.tls, given.host, given.port, DEFAULT_PATH)
    for last in ("/state", "/events", "/"):
        path = path.removesuffix(last)
    return HttpAddress(given.tls, given.host, given.port, path or "/")


def is_health(path: str) -> bool:
    """Whether it is the path of a health endpoint, or of one of its names, wherever it is."""
    parts = {f"/{part}" for part in path.partition("?")[0].split("/")}
    return not parts.isdisjoint(HEALTH_PATHS)


def fetch_state(base: HttpAddress, timeout_seconds: float) -> State:
    """The state of a service.

    Raises:
        NoPage: When it has no status page there.
        Unreachable: When nothing answers.
    """
    address = base.below("state")
    answer = get(address, timeout_seconds)
    state = answer.as_object()
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
        raise NoPage(f"{address} answered 503: {BEHIND_GATE}")
    if answer.status != HTTPStatus.OK or state is None or not isinstance(state.get("stage"), str):
        raise NoPage(f"{address} answered {answer.status} and no state: {NO_PAGE}")
    return state


def lines(state: State) -> list[str]:
    """The state in words, as the service itself would put it."""
    text = [f"{shown(state['stage'])} for {seconds(state.get('since_seconds'))}"]
    if state.get("ended"):
        text.append(f"ended: {shown(state['ended'])}")
    if state.get("needs_restart"):
        text.append(f"needs a restart: {shown(state['needs_restart'])}")
    text += [f"waits for: {what}" for what in listed(state.get("waits_for"))]
    probe = shown(state.get("probe") or "Redis")
    failure = state.get("last_failure")
    if isinstance(failure, dict):
        when = "now" if state.get("failures_in_row") else "last time"
        if number(state.get("last_failure_seconds")) is not None:
            when += f", {seconds(state['last_failure_seconds'])} ago"
        text.append(f"{probe} failed ({when}): {shown(failure.get('reason'))}")
    attempts, failed = (shown(state.get(name, 0)) for name in ("attempts", "failures_in_row"))
    text.append(f"attempts: {attempts}, failed in a row: {failed}")
    if state.get("next_probe_seconds") is not None:
        text.append(f"next attempt in {seconds(state['next_probe_seconds'], 2)}")
    if state.get("budget_left_seconds") is not None:
        text.append(f"start-up budget left: {seconds(state['budget_left_seconds'])}")
    lag = number(state.get("loop_lag_seconds"))
    if lag is not None and lag >= _BLOCKED_SECONDS:
        text.append(
            f"the event loop was {lag:.2f} s late for the last attempt:"
            f" something blocks it; this is not {probe}"
        )
    text += _conditions_in_words(state, probe)
    text += [
        f"{'workers' if name == 'all' else f'worker {name}'}: {words}"
        for name, words in workers_in_words(state)
    ]
    spent = state.get("stage_seconds")
    if isinstance(spent, dict):
        parts = [f"{shown(stage)} {seconds(time)}" for stage, time in spent.items() if time]
        text.append("time by stage: " + ", ".join(parts))
    return text


def _conditions_in_words(state: State, probe: str) -> list[str]:
    """All conditions in their order, as the service itself puts it."""
    after, data = {}, state.get("conditions")
    for name, one in data.items() if isinstance(data, dict) else ():
        if isinstance(one, dict) and one.get("after"):
            after[shown(name)] = listed(one["after"])
    answers = bool(state.get("probe_answers"))
    return conditions_in_words(dict(conditions(state)), after, probe, answers=answers)


def conditions(state: State) -> list[tuple[str, ConditionView]]:
    """Each condition and how it stands."""
    data = state.get("conditions")
    found = []
    for name, one in data.items() if isinstance(data, dict) else ():
        if isinstance(one, dict):
            reason = shown(one["reason"]) if one.get("reason") else ""
            flags = bool(one.get("satisfied")), bool(one.get("required"))
            since = number(one.get("since_seconds"))
            found.append((shown(name), ConditionView(*flags, reason, since)))
    return found


def seconds(value: object, digits: int = 1) -> str:
    """A duration in words."""
    known = number(value)
    return "an unknown time" if known is None else f"{known:.{digits}f} s"
