"""How redis-py greets a server, or the application in its place. Importing this imports redis."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Protocol, cast

import redis.asyncio
from redis.exceptions import ResponseError

from orchestrator.redis._expect import RedisCommand, greeted, ok


class Greeter(Protocol):
    """What is needed of a connection to learn how it greets."""

    recording: "Recording | None"

    def on_connect(self) -> object:
        """Greet the server."""


class Recording:
    """Stands in for a server that takes everything, but for one command if `refused` says so."""

    def __init__(self, refused: int | None = None) -> None:
        self.commands: list[tuple[object, ...]] = []
        self._refused = refused
        self._replies = 0

    def reply(self) -> object:
        at = self._replies
        self._replies += 1
        if at == self._refused:
            raise ResponseError
        return {b"proto": 3} if self.commands[at][0] == "HELLO" else b"OK"


def greeting_of(connection: Greeter) -> list[RedisCommand]:
    """What this redis-py would send first, and which error replies it would pass over.

    It is asked itself, so that whatever it does by default is done.
    """
    return [
        RedisCommand(
            words,
            greeted if words[0] == "HELLO" else ok,
            may_fail=_passes_over(connection, at, words),
        )
        for at, words in enumerate(_recorded(connection, Recording()).commands)
    ]


def _recorded(connection: Greeter, recording: Recording) -> Recording:
    connection.recording = recording
    try:
        connection.on_connect()
    finally:
        connection.recording = None
    return recording


def _passes_over(connection: Greeter, at: int, words: tuple[object, ...]) -> bool:
    config = getattr(connection, "maint_notifications_config", None)
    key = (words[0], words[1] if words[0] == "CLIENT" else "", getattr(config, "enabled", ""))
    if key not in _PASSED_OVER:
        try:
            _recorded(connection, Recording(refused=at))
        except ResponseError:
            _PASSED_OVER[key] = False
        else:
            _PASSED_OVER[key] = True
    return _PASSED_OVER[key]


_PASSED_OVER: dict[tuple[object, ...], bool] = {}
"""What was found out about a command of this redis-py, without its arguments."""


def run_function(
    function: Callable[[object], object], connection: object, *, asynchronous: bool
) -> None:
    """Let the application's `redis_connect_func` greet the server, as its client would."""
    if not asynchronous:
        function(connection)
    elif inspect.iscoroutinefunction(function):
        # This thread has no event loop of its own, so it may run one.
        asyncio.run(cast("Coroutine[None, None, None]", function(_Asynchronous(connection))))
    else:
        function(_Asynchronous(connection))


class _Asynchronous:
    """A connection with the methods of `redis.asyncio`. None of them ever waits for the loop."""

    def __init__(self, connection: object) -> None:
        object.__setattr__(self, "_connection", connection)

    def __getattr__(self, name: str) -> object:
        found = getattr(self._connection, name)
        if not inspect.iscoroutinefunction(getattr(redis.asyncio.Connection, name, None)):
            return found

        async def call(*args: object, **how: object) -> object:
            return found(*args, **how)

        return call

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._connection, name, value)
