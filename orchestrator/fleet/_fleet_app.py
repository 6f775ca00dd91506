"""The page of a fleet: an ASGI application that shows all instances of a service in a browser."""

from collections.abc import Collection, Mapping
from functools import partial
from time import time
from typing import TYPE_CHECKING

import anyio

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._hardening.arguments import require
from orchestrator._hardening.text import MOST_NAME_CHARACTERS, one_line
from orchestrator._http.asgi_types import ASGIApp, Receive, Scope, Send
from orchestrator._http.hosts import AllowedHosts
from orchestrator.fleet._fleet_json import fleet_json, news_json, row_json, totals_json
from orchestrator.fleet._shared_follow import SharedFollow
from orchestrator.web._event_stream import RETRY, StreamPlaces, frame, send_part
from orchestrator.web._page import render
from orchestrator.web._read_only_app import ReadOnlyApp
from orchestrator.web._shutdown_watch import ShutdownWatch

if TYPE_CHECKING:
    import redis
    import redis.asyncio

TICK_SECONDS = 1.0
"""How often something is sent when nothing changes: the page takes three missed ones for a service
that has gone."""

_GATHER_SECONDS = 0.1
"""Changes that come together are sent together."""

_FIRST_SECONDS = 5.0
"""How long a request for the state waits for the first answer of Redis."""


def fleet_app(
    url: "str | redis.Redis | redis.asyncio.Redis",
    service: str,
    *,
    startup: Orchestrator | None = None,
    title: str = "",
    max_streams: int = 16,
    allowed_hosts: Collection[str] | None = None,
) -> ASGIApp:
    """An ASGI application that shows all instances of a service in a browser.

    Example::

        app.mount("/fleet", fleet_app("redis://localhost", "chat", startup=startup))

    `/` is the page, `/state` the same as JSON, and `/events` a stream of server-sent events. All of
    it can only be read, and only from its own origin. Mount it where operators are: it shows the
    names of instances, and what they wait for.

    It reads Redis in a thread of its own while somebody watches, and 30 s longer; once for all
    browsers. It blocks nothing while Redis is away, and then says that what it shows is old.

    Args:
        url: The Redis that the instances publish to, or the application's client, as for `follow`.
        service: The name of the service.
        startup: The orchestrator of the process that it runs in: the streams end in its drain.
            Without it they end at SIGTERM and SIGINT.
        title: What stands above the page; the service's name by default.
        max_streams: How many browsers may watch at once; the next gets 503.
        allowed_hosts: The hosts that it answers to, as `web_app` takes them; all by default.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When the URL, the name, `max_streams` or `allowed_hosts` can't be used.
    """
    require(service, str, "service", "give the service's name")
    require(title, str, "title", "give the name that people know")
    require(max_streams, int, "max_streams", "give a whole number of 1 or more")
    if startup is not None:
        require(startup, Orchestrator, "startup", "write startup=startup")
    if max_streams < 1:
        raise ValueError(f"max_streams is {max_streams!r}; it must be a whole number of 1 or more")
    hosts = AllowedHosts(allowed_hosts) if allowed_hosts is not None else None
    follow = SharedFollow(url, service)
    streams = _FleetStreams(follow, startup, max_streams)
    page = render(
        one_line(title or service, MOST_NAME_CHARACTERS), "fleet_page.html", "orchestrator.fleet"
    )
    return ReadOnlyApp(page, partial(_read_state, follow), streams.serve, hosts)


async def _read_state(follow: SharedFollow) -> Mapping[str, object]:
    with follow.asking():
        await follow.heard(_FIRST_SECONDS)
        follow.refresh()
        return {**_about(follow), **fleet_json(follow.service, follow.board.rows())}


def _about(follow: SharedFollow) -> dict[str, object]:
    """How well what is shown is known."""
    return {
        "service": follow.service,
        "at_unix_seconds": round(time(), 3),
        "contact": {
            "reached": follow.contact.reached,
            "reason": follow.contact.reason,
            "since_unix_seconds": round(follow.contact_since, 3),
        },
        "missed": follow.book.missed,
        "unreadable": follow.book.unreadable,
        "crowded": follow.book.crowded,
    }


class _FleetStreams:
    def __init__(
        self, follow: SharedFollow, startup: Orchestrator | None, max_streams: int
    ) -> None:
        self._follow = follow
        self._places = StreamPlaces(max_streams)
        self._shutdowns = 0
        self._shutdown = ShutdownWatch(startup, self._end_all)

    async def serve(self, _: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: until the client leaves, or the process ends."""
        with self._shutdown.watching(), self._follow.asking():
            await self._places.serve(receive, send, self._write)

    def _end_all(self) -> None:
        self._shutdowns += 1
        self._follow.wake()

    async def _write(self, send: Send) -> None:
        follow, shutdowns = self._follow, self._shutdowns
        place, number, tick_at = 0, 0, -TICK_SECONDS
        await send_part(send, RETRY.encode())
        await follow.heard(TICK_SECONDS)
        while True:
            changed = follow.changed()
            follow.refresh()
            board = follow.board
            parts = []
            if place != board.place or anyio.current_time() >= tick_at + TICK_SECONDS:
                part = board.after(place)
                place, tick_at = part.place, anyio.current_time()
                told = {
                    **_about(follow),
                    "totals": totals_json(board.totals),
                    "rows": [row_json(row) for row in part.rows],
                    "gone": part.gone,
                    "starts_again": part.starts_again,
                    "is_last": part.is_last,
                }
                parts.append(frame("fleet", told))
            for news in board.news_after(number):
                number, at, one = news
                name, says, about = news_json(one)
                names = [instance.name for instance in about]
                parts.append(frame("news", {"news": name, "names": names, "at": at, **says}))
            ends = shutdowns != self._shutdowns
            if ends:
                parts.append(frame("end", {"reason": "the service is stopping"}))
            if parts:
                await send_part(send, "".join(parts).encode())
            if ends:
                return
            if place == board.place:
                with anyio.move_on_after(tick_at + TICK_SECONDS - anyio.current_time()):
                    await changed.wait()
                await anyio.sleep(_GATHER_SECONDS)
