"""Responses as WSGI servers take them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from orchestrator._gate.health_answers import HealthReport


def respond(
    report: HealthReport, environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    """Answer in place of the application."""
    headers = [
        ("Content-Type", report.content_type),
        ("Content-Length", str(len(report.body))),
        ("Cache-Control", "no-store"),
        *((name.title(), value) for name, value in report.headers),
    ]
    start_response(f"{int(report.status)} {report.status.phrase}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [report.body]


def ask_for_close(start_response: object) -> None:
    """Have the server close this connection after the response, as gunicorn can."""
    force_close = getattr(getattr(start_response, "__self__", None), "force_close", None)
    if callable(force_close):
        force_close()


class StreamedBody:
    """A response that is produced while it is sent."""

    def __init__(self, body: Iterable[bytes], ended: Callable[[], None]) -> None:
        self._body = body
        self._ended: Callable[[], None] | None = ended

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        """The server calls it in the end, whatever happened."""
        ended, self._ended = self._ended, None
        try:
            close: Any = getattr(self._body, "close", None)  # Any: what PEP 3333 leaves open
            if close is not None:
                close()
        finally:
            if ended is not None:
                ended()
