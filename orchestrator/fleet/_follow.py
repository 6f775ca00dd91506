"""`follow`: the instances of a service, and the news of them, on asyncio and on trio."""

import math
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import anyio

from orchestrator._hardening.arguments import require
from orchestrator._runtime.event_loop import EventLoop
from orchestrator.fleet._changes import ChangeBook
from orchestrator.fleet._cursor import decode_cursor
from orchestrator.fleet._fleet_view import FleetUnreachable, FleetView
from orchestrator.fleet._follower import Follower
from orchestrator.fleet._group_source import Membership
from orchestrator.fleet._reader_link import reader_settings, with_resp2
from orchestrator.fleet._wire import FleetKeys, fleet_keys
from orchestrator.redis._sentinels import settings_of_sentinels
from orchestrator.redis._settings import RedisSettings
from states import Failure, FailureKind

if TYPE_CHECKING:
    import redis
    import redis.asyncio

_CONNECT_SECONDS = 10.0
_LEAVE_SECONDS = 1.0
_MOST_GROUP_CHARACTERS = 128


def follow(
    url: "str | redis.Redis | redis.asyncio.Redis",
    *,
    service: str,
    cursor: str | None = None,
    group: str | None = None,
    connect_seconds: float = _CONNECT_SECONDS,
) -> AbstractAsyncContextManager[FleetView]:
    """Follow the instances of a service.

    Example::

        async with follow("redis://localhost", service="chat") as fleet:
            async for news in fleet:
                print(news)

    Args:
        url: The Redis that the instances publish to; or the application's client, as which it then
            connects: no connection of the client is used.
        service: The name of the service.
        cursor: Where another one stopped: its `cursor`. Changes since then are delivered.
        group: Share the changes among all that give this name: each is delivered to one of them,
            and again to another one if the first does not come back for the next within a minute.
            It needs rights to write.
        connect_seconds: How long entering waits for Redis. With 0 it does not wait at all;
            `instances` is empty until Redis has answered.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When the URL, the service's name or the cursor can't be used.
        FleetUnreachable: On entering, when Redis does not answer in time, or waiting won't help.
    """
    return _follow(reader_settings(url), service, cursor, group, connect_seconds)


def follow_sentinel(
    sentinels: Sequence[tuple[str, int]],
    service_name: str,
    *,
    service: str,
    url: str = "redis://",
    sentinel_url: str = "redis://",
    cursor: str | None = None,
    group: str | None = None,
    connect_seconds: float = _CONNECT_SECONDS,
) -> AbstractAsyncContextManager[FleetView]:
    """Follow the instances of a service, on the master that sentinels name.

    Example::

        sentinels = [("sentinel-1", 26379), ("sentinel-2", 26379)]
        async with follow_sentinel(sentinels, "mymaster", service="chat") as fleet:
            ...

    Args:
        sentinels: Hosts and ports of the sentinels.
        service_name: What they call the master.
        service: The name of the service that is followed.
        url: How to log in to the master, and which database; see `RedisProbe.from_sentinel`.
        sentinel_url: The same for the sentinels.
        cursor: As for `follow`.
        group: As for `follow`.
        connect_seconds: As for `follow`.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When a URL, a host, a port, a name or the cursor can't be used.
        FleetUnreachable: On entering, as for `follow`.
    """
    settings = settings_of_sentinels(sentinels, service_name, url=url, sentinel_url=sentinel_url)
    return _follow(with_resp2(settings), service, cursor, group, connect_seconds)


def _follow(
    settings: RedisSettings,
    service: str,
    cursor: str | None,
    group: str | None,
    connect_seconds: float,
) -> AbstractAsyncContextManager[FleetView]:
    keys = fleet_keys(require(service, str, "service", "give the service's name"))
    if not 0 <= connect_seconds <= math.inf:
        raise ValueError("connect_seconds must be a number of 0 or more")
    place, seen = None, None
    if cursor is not None:
        place, seen = decode_cursor(require(cursor, str, "cursor", "give `fleet.cursor`"))
    membership = None
    if group is not None:
        require(group, str, "group", "give a name that all members share")
        if not (0 < len(group) <= _MOST_GROUP_CHARACTERS and group.isprintable()):
            raise ValueError("group must be a name of 1 to 128 printable characters")
        if cursor is not None:
            raise ValueError("a group has a place of its own in Redis: leave the cursor out")
        membership = Membership(group, os.urandom(8).hex())
    book = ChangeBook(service, place, seen, shared=group is not None)
    return _following(settings, keys, FleetView(service, book, membership), connect_seconds)


@asynccontextmanager
async def _following(
    settings: RedisSettings, keys: FleetKeys, view: FleetView, connect_seconds: float
) -> AsyncGenerator[FleetView]:
    loop = EventLoop()
    ended = anyio.Event()

    def call(function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the event loop has ended
            loop.call(function)

    follower = Follower(
        settings,
        keys,
        view.book,
        view.membership,
        deliver=lambda delivery, failure: call(partial(view.take, delivery, failure)),
        has_room=view.has_room,
        ended=lambda: call(ended.set),
    )
    follower.start()
    try:
        if connect_seconds:
            await _reach(view, settings.where, connect_seconds)
        yield view
    finally:
        view.close()
        follower.close()
        if view.membership is not None:
            with anyio.move_on_after(_LEAVE_SECONDS, shield=True):
                await ended.wait()


async def _reach(view: FleetView, where: str, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await view.reached()
    if not view.contact.reached:
        words = f"{where} gave no answer within {seconds:g} s"
        late = Failure(FailureKind.TRANSIENT, "TimeoutError", words)
        raise FleetUnreachable(view.failure or late)
