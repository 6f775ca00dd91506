"""The probe on the event loop's side.

The thread of the blocking work is in `_worker`, the work itself in `_session` and `_dialing`; what
went wrong is put into words in `_failures` and `_replies`.
"""

import math
import time
import weakref
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self

import anyio
import anyio.lowlevel

from orchestrator._hardening.arguments import require, require_items, wrong_type
from orchestrator._ports import Probe, ProbeResult, Target
from orchestrator._probing.readable import wait_readable
from orchestrator._probing.socket_watch import Appearance
from orchestrator._probing.worker import Question, Worker
from orchestrator.redis._expect import Expect
from orchestrator.redis._failures import PATH_MISSING, held_up, timed_out
from orchestrator.redis._session import Session
from orchestrator.redis._settings import RedisSettings
from states import Policy

if TYPE_CHECKING:
    import redis
    import redis.asyncio

_HEAD_START_SECONDS = 0.03
"""How much later than the worker the event loop takes an attempt's time for up. The worker knows
better what is missing, and keeps a connection on which a late answer may still come."""

_LATE_SECONDS = 0.1
"""An event loop that takes an attempt's time for up so much too late was not let run."""


class RedisProbe(Probe):
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

    overtime_seconds: float = 10.0

    def __init__(self, url: str, *, expect: Expect | None = None) -> None:
        self._use(replace(RedisSettings.from_url(url), expect=_given(expect)))

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
        settings = RedisSettings.from_client(client)
        return cls._of(replace(settings, expect=_given(expect)))

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
            sentinel_url: The same for the sentinels.
            expect: What each attempt asks besides PING and the role.

        Raises:
            ValueError: When a URL cannot be used, or there is no sentinel or no service name.
        """
        require(service_name, str, "service_name", "give the name that the sentinels know")
        if not sentinels or not service_name:
            raise ValueError("from_sentinel needs at least one sentinel and the service's name")
        settings = replace(
            RedisSettings.from_url(url),
            expect=replace(_given(expect), role="master"),
            sentinels=_addresses(sentinels),
            service_name=service_name,
            sentinel=RedisSettings.from_url(sentinel_url),
        )
        if settings.path:
            raise ValueError("a master that sentinels name is reached over TCP, not at a path")
        return cls._of(settings)

    @classmethod
    def _of(cls, settings: RedisSettings) -> Self:
        probe = cls.__new__(cls)
        probe._use(settings)  # noqa: SLF001  it is one of our own
        return probe

    def _use(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._path_missing = False
        self._patience_seconds = Policy().answer_patience_seconds
        self._appearance = Appearance(settings.path)
        weakref.finalize(self, self._appearance.close).atexit = False
        self._open()

    def _open(self) -> None:
        self._closed = False
        self._worker = Worker(partial(Session, self._settings), "redis-probe")
        # A probe that is dropped without `aclose` must not leave its thread behind. At the end of
        # the process there is nothing to do: the thread is a daemon.
        weakref.finalize(self, self._worker.stop).atexit = False

    def __repr__(self) -> str:
        return f"<RedisProbe of {self._settings.where}, database {self._settings.db}>"

    @property
    def target(self) -> Target:
        """What is being asked, for telemetry."""
        return self._settings.target

    def prepare(self, policy: Policy) -> None:
        """Take over `answer_patience_seconds`."""
        self._patience_seconds = policy.answer_patience_seconds

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        """Ask once, for at most `timeout_seconds` in total.

        Raises:
            ValueError: When `timeout_seconds` is not a positive number.
            anyio.BusyResourceError: When another attempt is under way.
        """
        if not 0 < timeout_seconds < math.inf:
            raise ValueError(f"timeout_seconds is {timeout_seconds!r}; it must be above 0")
        if self._closed:
            self._open()
        started_at = time.perf_counter()
        allowed = timeout_seconds + _HEAD_START_SECONDS
        question = Question(timeout_seconds, self._patience_seconds)
        self._worker.submit(question)
        try:
            with anyio.move_on_after(allowed):
                await question.answered.wait()
            late_seconds = time.perf_counter() - started_at - allowed
            late = late_seconds > _LATE_SECONDS
            if not question.finished_at and self._worker.is_held_up:
                # It will say so itself once it is let run; to end it now would be to break a
                # connection on which the answer may be there.
                late = True
                with anyio.move_on_after(self.overtime_seconds):
                    await question.answered.wait()
        finally:
            self._worker.give_up(question)
        now = time.perf_counter()
        if question.finished_at:
            failure = question.failure
            self._path_missing = failure is not None and failure.error_type == PATH_MISSING
            lag_seconds = now - question.finished_at
            return ProbeResult(question.latency_seconds, failure, lag_seconds, question.void)
        # The worker is in something that cannot be interrupted, or need not be. The next attempt
        # joins it.
        session = self._worker.session
        failure = timed_out(session.situation(timeout_seconds))
        if late:
            failure = held_up(failure, late_seconds)
        void = late and not session.had_its_time(timeout_seconds)
        return ProbeResult(now - started_at, failure, void=void)

    async def changed(self) -> None:
        """Return when the connection was closed by the other side, or a late answer has come.

        Without an open connection it returns when something happens to the path of the Unix socket
        (on Linux), and else never.
        """
        if (outlasting := self._worker.outlasting) is not None:
            await outlasting.answered.wait()
        if self._worker.has_news:
            await anyio.lowlevel.checkpoint()
            return
        handle = None if self._worker.busy else self._worker.session.watch()
        if handle is None:
            await self._appearance.changed(was_missing=self._path_missing)
            return
        try:
            await wait_readable(handle)
        finally:
            handle.close()

    async def aclose(self) -> None:
        """Close the connection and let the thread go, at once. A later attempt connects anew."""
        self._closed = True
        self._worker.stop()
        self._appearance.close()


def _given(expect: Expect | None) -> Expect:
    if expect is None:
        return Expect()
    return require(expect, Expect, "expect", "write expect=Expect(role='master')")


def _addresses(sentinels: object) -> tuple[tuple[str, int], ...]:
    """Hosts and ports, each of its type."""
    write = "write [('sentinel-1', 26379)]"
    found = []
    for pair in require_items(sentinels, "sentinels", "a list of pairs", write):
        if not isinstance(pair, tuple | list) or len(pair) != 2:  # noqa: PLR2004  host and port
            raise wrong_type(pair, "a sentinel", "a pair of host and port", write)
        host = require(pair[0], str, "a sentinel's host", write)
        found.append((host, require(pair[1], int, "a sentinel's port", write)))
    return tuple(found)
