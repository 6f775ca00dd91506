"""The status page's ASGI application."""

import re
from collections.abc import Collection

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.health_answers import Workers
from orchestrator._hardening.arguments import require, wrong_type
from orchestrator._hardening.text import MOST_NAME_CHARACTERS, one_line
from orchestrator._http.asgi_types import ASGIApp
from orchestrator._http.hosts import AllowedHosts
from orchestrator.web._history import History, attach
from orchestrator.web._page import render
from orchestrator.web._read_only_app import PATHS, ReadOnlyApp
from orchestrator.web._state import Gate, JsonObject, StateReader
from orchestrator.web._stream import EventStreams

_LINK = re.compile(r"(https?://|/(?!/))")


def web_app(
    startup: Orchestrator,
    *,
    gate: Gate | None = None,
    trace_url: str | None = None,
    title: str = "Service",
    max_streams: int = 16,
    allowed_hosts: Collection[str] | None = None,
    pod: Workers | None = None,
) -> ASGIApp:
    """An ASGI application that shows a start-up, and everything after it, in a browser.

    Example::

        app.mount("/startup", web_app(startup))

    `/` is the page, `/state` the same as JSON, and `/events` a stream of server-sent events. All of
    it can only be read, and only from its own origin. Nothing in it is secret, but it names what
    the service depends on, and whoever reaches it can read it: mount it where operators are.

    Make it before the orchestrator is entered, so that it sees the start-up from the beginning. The
    page should be seen while the service is not ready: behind a gate, pass its paths by with
    `ReadinessGate(bypass=[*HEALTH_PATHS, *web_paths("/startup")])`.

    Args:
        startup: The orchestrator.
        gate: The gate whose counts are shown, such as a `ReadinessGate`.
        trace_url: Where the start-up's trace can be seen: an address with `{trace_id}` in it, such
            as `https://jaeger.example/trace/{trace_id}`. It is shown once an observer knows the id,
            such as an `OpenTelemetryObserver`.
        title: The name of the service, for people.
        max_streams: How many browsers may watch at once; the next gets 503.
        allowed_hosts: The hosts that it answers to, such as `localhost:*`, `[::1]:8080` and
            `*.example.com`; a name without a port stands for every port. Without it, any page on
            the web that has its own name resolve to this machine can read along in the browser of
            whoever reaches both.
        pod: The workers of this service, such as the `Pod` of its health endpoints: the page says
            which of them it is from, and how the others stand.

    Raises:
        AlreadyStarted: When the orchestrator is entered already.
        TypeError: When an argument is of the wrong type.
        ValueError: When `trace_url`, `max_streams` or `allowed_hosts` cannot be used.
    """
    require(startup, Orchestrator, "startup", "write web_app(startup)")
    _check(gate, trace_url, title, max_streams)
    hosts = AllowedHosts(allowed_hosts) if allowed_hosts is not None else None
    history = History()
    reader = StateReader(startup, history, gate, attach(startup, history), trace_url, pod)
    streams = EventStreams(startup, history, reader, max_streams)

    async def read_state() -> JsonObject:
        return reader.read()

    page = render(one_line(title, MOST_NAME_CHARACTERS))
    return ReadOnlyApp(page, read_state, streams.serve, hosts)


def _check(gate: Gate | None, trace_url: str | None, title: str, max_streams: int) -> None:
    require(title, str, "title", "give the name of the service")
    require(max_streams, int, "max_streams", "give a whole number of 1 or more")
    if gate is not None and not all(hasattr(gate, name) for name in ("held", "counts", "closes")):
        raise wrong_type(gate, "gate", "a gate", "write gate=ReadinessGate(app, startup)")
    if trace_url is not None:
        require(trace_url, str, "trace_url", "give an address with {trace_id} in it")
    if trace_url is not None and ("{trace_id}" not in trace_url or not _LINK.match(trace_url)):
        raise ValueError(
            f"trace_url is {trace_url!r}; it must be an address of http, https or this server with"
            " {trace_id} in it"
        )
    if max_streams < 1:
        raise ValueError(f"max_streams is {max_streams!r}; it must be a whole number of 1 or more")


def web_paths(mounted_at: str = "/startup") -> tuple[str, ...]:
    """The paths of a page that is mounted there, for a gate's `bypass`."""
    root = mounted_at.rstrip("/")
    return (root, *(root + path for path in PATHS))
