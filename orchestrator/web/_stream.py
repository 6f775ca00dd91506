"""The stream of server-sent events.

A stream is a place in what the history keeps, and no queue: it reads on when its client has taken
what was sent. So a slow client costs nothing but its own delay, and what it is told then is the
state of that moment.
"""

from collections.abc import Callable
from http import HTTPStatus

import anyio

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._http.asgi_types import Receive, Scope, Send
from orchestrator._http.responses import PROBLEM_JSON, as_json, problem, respond
from orchestrator.web._history import History
from orchestrator.web._origin import SAFE_HEADERS
from orchestrator.web._shutdown_watch import ShutdownWatch
from orchestrator.web._state import JsonObject, StateReader

TICK_SECONDS = 1.0
"""How often the state is sent when nothing changes. The page takes three missed ones for a service
that has gone; so this is the keep-alive too."""

SEND_SECONDS = 20.0
"""A client that takes nothing for so long loses its place to others."""

RETRY_MILLISECONDS = 1000
"""What browsers are told to wait before they connect again."""


class EventStreams:
    """The open streams of one page.

    Args:
        startup: The orchestrator.
        history: What was recorded.
        reader: How it is told.
        max_streams: How many may be open at once.
    """

    def __init__(
        self, startup: Orchestrator, history: History, reader: StateReader, max_streams: int
    ) -> None:
        self._history = history
        self._reader = reader
        self._max_streams = max_streams
        self._open = 0
        self._shutdowns = 0
        self._shutdown = ShutdownWatch(startup, self._end_all)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: until the client leaves, or the orchestrator is left."""
        if self._open >= self._max_streams:
            status = HTTPStatus.SERVICE_UNAVAILABLE
            body = problem(status, "Too many are watching already.")
            retry = (b"retry-after", b"5")
            await respond(
                send, status, body, content_type=PROBLEM_JSON, headers=[*SAFE_HEADERS, retry]
            )
            return
        self._open += 1
        try:
            with self._shutdown.watching():
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_until_gone, receive, tasks.cancel_scope.cancel)
                    await self._write(send, _last_event_id(scope))
                    tasks.cancel_scope.cancel()
        finally:
            self._open -= 1

    def _end_all(self) -> None:
        self._shutdowns += 1
        self._history.wake()

    async def _write(self, send: Send, sequence: int) -> None:
        try:
            await send(_start())
            await self._follow(send, sequence)
            with anyio.fail_after(SEND_SECONDS):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:
            pass  # the client has gone, or takes nothing any more: a TimeoutError is one too

    async def _follow(self, send: Send, sequence: int) -> None:
        history, shutdowns = self._history, self._shutdowns
        number, shown, state_at = 0, -1, 0.0
        if sequence > history.last_sequence:
            sequence = 0  # it was another life of the service that told this client so much
        parts = [f"retry: {RETRY_MILLISECONDS}\n\n"]
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
                parts.append(frame("state", self._reader.read()))
            ends = history.ended or shutdowns != self._shutdowns
            if ends:
                parts.append(frame("end", {"reason": "the service is stopping"}))
            with anyio.fail_after(SEND_SECONDS):
                body = "".join(parts).encode()
                await send({"type": "http.response.body", "body": body, "more_body": True})
            if ends:
                return
            parts.clear()
            with anyio.move_on_after(state_at + TICK_SECONDS - anyio.current_time()):
                await changed.wait()


def frame(event: str, data: JsonObject, number: int | None = None) -> str:
    """One event as it goes over the wire. JSON has no line breaks of its own."""
    identity = "" if number is None else f"id: {number}\n"
    return f"{identity}event: {event}\ndata: {as_json(data).decode()}\n\n"


def _start() -> dict[str, object]:
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"x-accel-buffering", b"no"),  # nginx would keep events back otherwise
        (b"cache-control", b"no-store"),
        *SAFE_HEADERS,
    ]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _last_event_id(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name.lower() == b"last-event-id" and value.isdigit():
            return int(value[:18])
    return 0


async def _until_gone(receive: Receive, cancel: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    cancel()
