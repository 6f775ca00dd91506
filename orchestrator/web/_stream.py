"""The stream of server-sent events.

A stream is a place in what the history keeps, and no queue: it reads on when its client has taken
what was sent. So a slow client costs nothing but its own delay, and what it gets then is the
state of that moment.
"""

from functools import partial

import anyio

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._http.asgi_types import Receive, Scope, Send
from orchestrator.web._event_stream import RETRY, StreamPlaces, frame, send_part
from orchestrator.web._history import History
from orchestrator.web._shutdown_watch import ShutdownWatch
from orchestrator.web._state import StateReader

TICK_SECONDS = 1.0
"""How often the state is sent when nothing changes. The page takes three missed ones for a service
that has gone; so this is the keep-alive too."""


SHARED_SECONDS = 0.05
"""How long a state that was read for one stream serves the others: a change wakes all at once."""


class EventStreams:
    """The open streams of one page.

    Args:
        startup: The orchestrator.
        history: What was recorded.
        reader: How it is read.
        max_streams: How many may be open at once.
    """

    def __init__(
        self, startup: Orchestrator, history: History, reader: StateReader, max_streams: int
    ) -> None:
        self._history = history
        self._reader = reader
        self._places = StreamPlaces(max_streams)
        self._state, self._state_version, self._state_at = "", -1, 0.0
        self._shutdowns = 0
        self._shutdown = ShutdownWatch(startup, self._end_all)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: until the client leaves, or the orchestrator is left."""
        with self._shutdown.watching():
            sequence = _last_event_id(scope)
            await self._places.serve(receive, send, partial(self._follow, sequence=sequence))

    def _end_all(self) -> None:
        self._shutdowns += 1
        self._history.wake()

    def _read_state(self, now: float) -> str:
        """The state as it goes over the wire, read once for all that were woken together."""
        version = self._history.version
        if version != self._state_version or not 0 <= now - self._state_at < SHARED_SECONDS:
            self._state_version, self._state_at = version, now
            self._state = frame("state", self._reader.read())
        return self._state

    async def _follow(self, send: Send, sequence: int) -> None:
        history, shutdowns = self._history, self._shutdowns
        number, shown, state_at = 0, -1, 0.0
        if sequence > history.last_sequence:
            sequence = 0  # it was another life of the service that this client knows of
        parts = [RETRY]
        while True:
            changed = history.changed()
            for stage in history.stages_after(sequence):
                sequence = stage.sequence
                parts.append(frame("stage", self._reader.stage(stage), sequence))
            for attempt in history.attempts_after(number):
                number = attempt.number
                parts.append(frame("attempt", self._reader.attempt(attempt)))
            if shown != history.version or anyio.current_time() >= state_at + TICK_SECONDS:
                shown, state_at = history.version, anyio.current_time()
                parts.append(self._read_state(state_at))
            ends = history.ended or shutdowns != self._shutdowns
            if ends:
                parts.append(frame("end", {"reason": "the service is stopping"}))
            await send_part(send, "".join(parts).encode())
            if ends:
                return
            parts.clear()
            with anyio.move_on_after(state_at + TICK_SECONDS - anyio.current_time()):
                await changed.wait()


def _last_event_id(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name.lower() == b"last-event-id" and value.isdigit():
            return int(value[:18])
    return 0
