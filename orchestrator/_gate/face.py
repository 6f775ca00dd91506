"""What every gate shows of itself, whatever the server."""

from collections import Counter

from orchestrator._gate.admission import Admission
from orchestrator._gate.counts import AdmissionCounts


class GateFace:
    """How many requests a gate holds, and what became of the others."""

    _admission: Admission

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
        1011, 1006 or 1005, each in its own way. 1013 counts what `close_on_degrade_seconds` closed.
        The gate of `websockets` needs `create_connection` for it. That of aiohttp needs `setup`,
        and knows only these two: aiohttp does not tell which side chose another code.
        """
        return self._admission.closes

    def stop(self) -> None:
        """Refuse what is held, and from now on hold nothing more.

        The ASGI gate does so by itself at SIGTERM, SIGINT and SIGQUIT; every gate does when the
        orchestrator is left.
        """
        self._admission.stop()
