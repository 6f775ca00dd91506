"""What all gates have in common, whatever the server."""

from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from random import Random
from typing import Unpack

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.admission import Admission
from orchestrator._gate.counts import AdmissionCounts
from orchestrator._gate.hold_queue import Outcome, Ticket
from orchestrator._gate.holding import HoldingOptions
from orchestrator._gate.in_flight import InFlight
from orchestrator._gate.open_sockets import OpenSockets
from orchestrator._gate.refusals import RetryAfter
from orchestrator._hardening.arguments import require
from orchestrator._http.responses import PROBLEM_JSON, problem


class GateFace:
    """The parts of a gate, and its figures: how many requests it holds, and what became of others.

    Each gate documents its own arguments; `write` is the call that an error message suggests.
    """

    def __init__(
        self,
        startup: Orchestrator,
        write: str,
        *,
        retry_after_seconds: tuple[int, int],
        close_on_degrade_seconds: float | None,
        random: Random | None,
        on_close: Callable[[int | str], object] | None = None,
        **holding: Unpack[HoldingOptions],
    ) -> None:
        self._startup: Orchestrator = require(startup, Orchestrator, "startup", write)
        self._retry_after: RetryAfter = RetryAfter(retry_after_seconds, random)
        self._open_sockets: OpenSockets = OpenSockets.from_option(close_on_degrade_seconds, random)
        self._admission: Admission = Admission(
            startup,
            open_sockets=self._open_sockets,
            retry_after=self._retry_after,
            on_close=on_close,
            **holding,
        )
        self._in_flight: InFlight = InFlight(self._admission, self._open_sockets)

    def _refuse(self, ticket: Ticket) -> tuple[bytes, dict[str, str]]:
        """The body and the headers of a refusal."""
        body = problem(
            HTTPStatus.SERVICE_UNAVAILABLE, self._admission.why(ticket.outcome or Outcome.REFUSED)
        )
        headers = {
            "Content-Type": PROBLEM_JSON,
            "Cache-Control": "no-store",
            "Retry-After": str(ticket.retry_after_seconds),
        }
        return body, headers

    @property
    def held(self) -> int:
        """How many requests are held now."""
        return self._admission.held

    @property
    def counts(self) -> AdmissionCounts:
        """How many requests had which outcome so far."""
        return self._admission.counts

    @property
    def closes(self) -> Counter[int | str]:
        """The WebSocket close codes that the application caused so far, as far as they are known.

        `application_error` counts exceptions while a WebSocket was open; servers turn them into
        1011, 1006 or 1005, each in its own way. 1013 counts what `close_on_degrade_seconds` closed,
        and 1012 what a drain closed.
        The gate of `websockets` needs `create_connection` for it. That of aiohttp needs `setup`,
        and knows only these two: aiohttp does not say which side chose any other code.
        """
        return self._admission.closes

    def stop(self) -> None:
        """Refuse what is held, and from now on hold nothing more.

        The ASGI gate does so by itself at SIGTERM, SIGINT and SIGQUIT; every gate does when the
        orchestrator is left.
        """
        self._admission.stop()


def sees_headers(headers: Mapping[str, str]) -> bool:
    """Whether a client can read a refusal's headers: for a WebSocket, no page in a browser can."""
    return not (asks_for_websocket(headers) and "Origin" in headers)


def asks_for_websocket(headers: Mapping[str, str]) -> bool:
    """Whether a request is a WebSocket handshake."""
    return headers.get("Upgrade", "").lower() == "websocket"
