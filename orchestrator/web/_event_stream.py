"""Streams of server-sent events: a place among few, and an end when the client goes."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import anyio

from orchestrator._http.asgi_types import Receive, Send
from orchestrator._http.responses import PROBLEM_JSON, as_json, problem, respond
from orchestrator.web._origin import SAFE_HEADERS

SEND_SECONDS = 20.0
"""A client that takes nothing for so long loses its place to others."""

RETRY = "retry: 1000\n\n"
"""What a stream begins with: browsers wait for so many milliseconds before they connect again."""


class StreamPlaces:
    """The open streams of one page.

    Args:
        max_streams: How many may be open at once.

    Attributes:
        open: How many are.
    """

    def __init__(self, max_streams: int) -> None:
        self._max_streams = max_streams
        self.open = 0

    async def serve(
        self, receive: Receive, send: Send, follow: Callable[[Send], Awaitable[None]]
    ) -> None:
        """Answer a request with what `follow` sends, until it ends or the client leaves."""
        if self.open >= self._max_streams:
            status = HTTPStatus.SERVICE_UNAVAILABLE
            body = problem(status, "Too many are watching already.")
            retry = (b"retry-after", b"5")
            await respond(
                send, status, body, content_type=PROBLEM_JSON, headers=[*SAFE_HEADERS, retry]
            )
            return
        self.open += 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_until_gone, receive, tasks.cancel_scope.cancel)
                await _write(send, follow)
                tasks.cancel_scope.cancel()
        finally:
            self.open -= 1


async def send_part(send: Send, body: bytes) -> None:
    """Send a part of a stream.

    Raises:
        TimeoutError: When the client takes nothing any more.
    """
    with anyio.fail_after(SEND_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": True})


def frame(event: str, data: Mapping[str, object], number: int | None = None) -> str:
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


async def _write(send: Send, follow: Callable[[Send], Awaitable[None]]) -> None:
    try:
        await send(_start())
        await follow(send)
        with anyio.fail_after(SEND_SECONDS):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    except OSError:
        pass  # the client has gone, or takes nothing any more: a TimeoutError is one too


async def _until_gone(receive: Receive, cancel: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    cancel()
