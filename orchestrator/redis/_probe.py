"""`RedisProbe`, made from a URL, from the application's client or from sentinels.

All three become `RedisSettings`, and a `RedisSession` asks with them, in the thread of a
`BlockingProbe`. The connection is made in `_connector`; what went wrong is put into words in
`_failures`, `_errors` and `_error_replies`.
"""

import weakref
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self

from orchestrator._hardening.arguments import require
from orchestrator._ports import ProbeResult, Target
from orchestrator._probing.blocking_probe import BlockingProbe
from orchestrator._probing.socket_failures import PATH_MISSING
from orchestrator._probing.socket_watch import SocketWatcher
from orchestrator.redis._expect import Expect
from orchestrator.redis._given_client import settings_of_client
from orchestrator.redis._sentinels import settings_of_sentinels
from orchestrator.redis._session import RedisSession
from orchestrator.redis._settings import RedisSettings
from orchestrator.redis._url import settings_of_url

if TYPE_CHECKING:
    import redis
    import redis.asyncio


class RedisProbe(BlockingProbe[RedisSession]):
    """Sends PING to Redis over one dedicated connection, which stays open between attempts.

    The whole attempt is under one deadline: name look-up, connect, TLS, login and answer. Neither a
    hung server nor a hung resolver delays cancellation or the end of the process.

    What is not answered in time is a failed attempt, but a connection that was accepted stays open
    for a while: the policy's `answer_patience_seconds` for a new one, through TLS, greeting and the
    first answer, and three attempts for one that has answered before. Should the answer still come,
    `changed` returns, and the next attempt succeeds with it at once.

    Where the process itself did not run in time, since C code held the interpreter or there was too
    little CPU, the attempt says nothing about Redis: see `ProbeResult.void`.

    Args:
        url: `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS, or
            `unix://[user:password@]/path[?db=0]`, with the options of redis-py. What they do not
            say is as in the installed redis-py: from 8.0 on, RESP3.
        expect: What each attempt asks besides PING; nothing if not given.

    Raises:
        TypeError: When an argument is of the wrong type. The text never holds its value.
        ValueError: When the URL cannot be used, or redis-py refuses one of its options. The text
            names the option, and never holds another part of the URL.
    """

    def __init__(self, url: str, *, expect: Expect | None = None) -> None:
        self._use(replace(settings_of_url(url), expect=_given(expect)))

    @classmethod
    def from_client(
        cls, client: "redis.Redis | redis.asyncio.Redis", *, expect: Expect | None = None
    ) -> Self:
        """A probe that connects as `client` does; no connection of the client is used.

        Taken over is all that the client makes its connections with. Its credential provider or
        `redis_connect_func` is called in the probe's thread, for each new connection; if it is a
        coroutine function, in an event loop of its own.

        Args:
            client: The application's client.
            expect: What each attempt asks besides PING; nothing if not given.

        Raises:
            ValueError: When the client has no single address, as those of a cluster or a sentinel;
                connects by classes of its own; or has an option with which no connection works. The
                text names it.
        """
        return cls._of(replace(settings_of_client(client), expect=_given(expect)))

    @classmethod
    def from_sentinel(
        cls,
        sentinels: Sequence[tuple[str, int]],
        service_name: str,
        *,
        url: str = "redis://",
        sentinel_url: str = "redis://",
        expect: Expect | None = None,
    ) -> Self:
        """A probe of the master that sentinels name.

        Whenever a new connection is needed the sentinels are asked again, one after the other. The
        server that they name must call itself a master.

        Args:
            sentinels: Hosts and ports of the sentinels.
            service_name: What they call the master, such as `mymaster`.
            url: How to log in to the master: the URL of any server of the service. Its host and
                port are not used.
            sentinel_url: The same for the sentinels. They have no databases.
            expect: What each attempt asks besides PING and the role.

        Raises:
            ValueError: When a URL, a host or a port cannot be used, or there is no sentinel or no
                service name.
        """
        settings = settings_of_sentinels(
            sentinels, service_name, url=url, sentinel_url=sentinel_url
        )
        return cls._of(replace(settings, expect=replace(_given(expect), role="master")))

    @classmethod
    def _of(cls, settings: RedisSettings) -> Self:
        probe = cls.__new__(cls)
        probe._use(settings)  # noqa: SLF001  it is one of our own
        return probe

    def _use(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._path_missing = False
        self.connects_per_second: float = settings.connects_per_second
        self._watcher = SocketWatcher(settings.path)
        weakref.finalize(self, self._watcher.close).atexit = False
        super().__init__(partial(RedisSession, settings), "redis-probe")

    def __repr__(self) -> str:
        return f"<RedisProbe of {self._settings.where}, database {self._settings.db}>"

    @property
    def target(self) -> Target:
        """What is being asked, for telemetry."""
        return self._settings.target

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        """Ask once, for at most `timeout_seconds` in total.

        Raises:
            ValueError: When `timeout_seconds` is not a positive number.
        """
        result = await super().attempt(timeout_seconds)
        failure = result.failure
        self._path_missing = failure is not None and failure.error_type == PATH_MISSING
        return result

    async def _changed_without_connection(self) -> None:
        """Return when something happens to the path of the Unix socket (on Linux); else never."""
        await self._watcher.changed(was_missing=self._path_missing)

    async def aclose(self) -> None:
        """Close the connection and let the thread go, at once. A later attempt connects anew."""
        await super().aclose()
        self._watcher.close()


def _given(expect: Expect | None) -> Expect:
    if expect is None:
        return Expect()
    return require(expect, Expect, "expect", "write expect=Expect(role='master')")
