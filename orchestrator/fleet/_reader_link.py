"""A reader's connection to Redis: that of the publisher, for commands that may have long replies.

No reply is longer than 8 MiB: whoever may write to the keys could fill the memory of every reader
otherwise. Replies are those of RESP2 whatever the URL says, since those of RESP3 have other shapes.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator._hardening.arguments import wrong_type
from orchestrator.fleet._link import FleetLink, LinkError, as_moved
from orchestrator.redis._expect import RedisCommand
from orchestrator.redis._given_client import settings_of_client
from orchestrator.redis._settings import RedisSettings
from orchestrator.redis._url import settings_of_url

if TYPE_CHECKING:
    import redis
    import redis.asyncio

_WRITE = "write follow('redis://host:6379/0', service='chat')"

_MOST_REPLY_BYTES = 8 * 1024 * 1024

_ASK_SECONDS = 3.0
"""How long replies may take. Redis keeps a reader waiting for 1 s at most."""


class RefusedReply(Exception):  # named after what is the case
    """Redis says that a command is an error.

    Args:
        text: What it says. It is compared with, and never shown.
        error: As redis-py has it.
    """

    def __init__(self, text: str, error: Exception) -> None:
        super().__init__()
        self.text = text
        self.error = error


def reader_settings(where: "str | redis.Redis | redis.asyncio.Redis") -> RedisSettings:
    """Where to read, from a URL or the application's client.

    Raises:
        TypeError: When it is neither.
        ValueError: When it can't be used. Nothing of it is in the text.
    """
    if isinstance(where, str):
        return with_resp2(settings_of_url(where))
    if not hasattr(where, "execute_command"):
        raise wrong_type(where, "url", "a str, or a client of redis-py", _WRITE)
    return with_resp2(settings_of_client(where))


def with_resp2(settings: RedisSettings) -> RedisSettings:
    """The same, for replies of RESP2."""
    if not settings.url:
        return replace(settings, options={**settings.options, "protocol": 2})
    base, _, query = settings.url.partition("?")
    kept = [one for one in query.split("&") if one and not one.startswith("protocol=")]
    return replace(settings, url=f"{base}?{'&'.join([*kept, 'protocol=2'])}")


class ReaderLink(FleetLink):
    """The connection, made when it is needed.

    Args:
        settings: Where to read, from `reader_settings`.

    Attributes:
        where: The place in words, such as `redis at 127.0.0.1:6379`.
    """

    def __init__(self, settings: RedisSettings) -> None:
        super().__init__(settings)
        self.where = settings.where

    def ask(self, *commands: Sequence[object]) -> list[object]:
        """Send commands in one go; return their replies, of which each may be a `RefusedReply`.

        Raises:
            LinkError: When the connection fails.
        """
        try:
            return self._replies(commands)
        except Exception as error:  # said as a failure, unless it only says where to ask
            if (elsewhere := self._moved(error)) is None:
                raise self._failed(error, str(commands[0][0])) from None
        self.close()
        self._use(elsewhere)
        self.open()
        try:
            return self._replies(commands)
        except Exception as error:  # said as a failure
            raise self._failed(error, str(commands[0][0])) from None

    def ask_one(self, *command: object) -> object:
        """Send one command; return its reply.

        Raises:
            RefusedReply: When Redis says that it is an error.
            LinkError: When the connection fails.
        """
        (reply,) = self.ask(command)
        if isinstance(reply, RefusedReply):
            raise reply
        return reply

    def refused(self, reply: RefusedReply) -> LinkError:
        """The error for a reply that should be none."""
        return self._failed(reply.error, "a command of the reader")

    def _replies(self, commands: Sequence[Sequence[object]]) -> list[object]:
        connection = self._connection
        if connection is None:
            raise ConnectionResetError
        connection.socket.begin(time.monotonic() + _ASK_SECONDS, most_bytes=_MOST_REPLY_BYTES)
        sent = connection.send([RedisCommand(tuple(one), _anything) for one in commands])
        return [self._reply(command) for command in sent]

    def _reply(self, command: RedisCommand) -> object:
        from redis.exceptions import ResponseError  # slow to load; loaded here already

        assert self._connection is not None, "it was sent on it"
        try:
            return self._connection.await_reply(command)
        except ResponseError as error:
            if as_moved(error) is not None:
                raise
            return RefusedReply(str(error), error)


def _anything(_reply: object) -> None:
    """The caller looks at it."""
