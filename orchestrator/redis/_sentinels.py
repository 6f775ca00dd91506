"""Sentinels: reading where they are, and asking them which server is the master.

They are asked one after the other until one names the master. Each gets an equal share of the time
that is left, and the master after them too, so that one that hangs cannot hide the next. The one
that answered is asked first from then on.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator._hardening.arguments import require, require_items, wrong_type
from orchestrator._hardening.log_thread import logger
from orchestrator._probing.addresses import is_host
from orchestrator._probing.interruption import InterruptedByUs
from orchestrator.redis._errors import AttemptError
from orchestrator.redis._expect import RedisCommand, address_of
from orchestrator.redis._failures import classify
from orchestrator.redis._pipelined_connection import PipelinedConnection
from orchestrator.redis._progress import ProbePhase, Progress
from orchestrator.redis._settings import RedisSettings, is_port
from orchestrator.redis._url import settings_of_url
from states import FailureKind

HostAndPort = tuple[str, int]

_WRITE = "write [('sentinel-1', 26379)]"


def settings_of_sentinels(
    sentinels: Sequence[HostAndPort], service_name: str, *, url: str, sentinel_url: str
) -> RedisSettings:
    """How to reach the master that sentinels name.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When there is no sentinel or no name, or a URL, host or port cannot work.
    """
    require(service_name, str, "service_name", "give the name that the sentinels know")
    if not sentinels or not service_name:
        raise ValueError("from_sentinel needs at least one sentinel and the service's name")
    if not service_name.isprintable():
        raise ValueError("service_name has characters that cannot be printed: check it")
    settings, sentinel = settings_of_url(url), settings_of_url(sentinel_url)
    if settings.path:
        raise ValueError("a master that sentinels name is reached over TCP: url must not be a path")
    if sentinel.path:
        raise ValueError("sentinels are reached over TCP: sentinel_url must not be a path")
    if sentinel.db:
        raise ValueError("sentinels have no databases: remove the number from sentinel_url")
    return replace(
        settings,
        sentinels=_addresses(sentinels),
        service_name=service_name,
        sentinel=sentinel,
    )


def _addresses(sentinels: object) -> tuple[HostAndPort, ...]:
    found = []
    for pair in require_items(sentinels, "sentinels", "a list of pairs", _WRITE):
        if not isinstance(pair, tuple | list) or len(pair) != 2:  # noqa: PLR2004  host and port
            raise wrong_type(pair, "a sentinel", "a pair of host and port", _WRITE)
        host = require(pair[0], str, "a sentinel's host", _WRITE)
        port = require(pair[1], int, "a sentinel's port", _WRITE)
        if not is_host(host):
            raise ValueError(f"a sentinel's host is not a host name or address: {_WRITE}")
        if isinstance(port, bool) or not is_port(port):
            raise ValueError(f"a sentinel's port must be from 1 to 65535: {_WRITE}")
        found.append((host, port))
    return tuple(found)


class Sentinels:
    """Finds the master. Used in the worker's thread.

    Args:
        settings: Where the sentinels are, how to log in to them, and what they call the master.
        connect: Opens a connection to one of them until a moment, in monotonic seconds.
        progress: Gets what is being done.

    Attributes:
        master: The address that was named last.
    """

    def __init__(
        self,
        settings: RedisSettings,
        connect: Callable[[RedisSettings, float], PipelinedConnection],
        progress: Progress,
    ) -> None:
        self._where = settings.where
        self._service_name = settings.service_name
        self._login = settings.sentinel or RedisSettings()
        self._connect = connect
        self._progress = progress
        self._addresses = list(settings.sentinels)
        self.master: HostAndPort | None = None

    def find_master(self, deadline: float) -> HostAndPort:
        """Where the first sentinel that knows the master says it is.

        Raises:
            AttemptError: When none of them answers, or none knows the name.
            Exception: What a sentinel refused for good, where no other helped.
        """
        progress, refusal, unknown = self._progress, None, False
        for position, address in enumerate(tuple(self._addresses)):
            left = deadline - time.monotonic()
            until = time.monotonic() + left / (len(self._addresses) - position + 1)
            try:
                found = self._ask(address, until)
            except InterruptedByUs:
                raise
            except Exception as error:  # the next sentinel may do better
                if classify(error, progress.situation(left)).kind is FailureKind.PERMANENT:
                    refusal = (error, progress.where, progress.phase)
                continue
            if found is not None:
                self._addresses.remove(address)
                self._addresses.insert(0, address)
                self._note(found)
                return found
            unknown = True
        if refusal is not None:
            refused, progress.where, progress.phase = refusal
            raise refused
        progress.where, progress.phase = self._where, ProbePhase.SENTINEL
        if unknown:
            said = "{where} is not known to its sentinels: check the service name"
            raise AttemptError(FailureKind.PERMANENT, "UnknownMaster", said)
        said = f"{{where}} cannot be found: none of its {len(self._addresses)} sentinels answered"
        raise AttemptError(FailureKind.TRANSIENT, "SentinelsUnreachable", said)

    def _ask(self, address: HostAndPort, until: float) -> HostAndPort | None:
        settings = replace(self._login, host=address[0], port=address[1])
        self._progress.where = settings.where.replace("redis at", "sentinel at")
        connection = self._connect(settings, until)
        try:
            self._progress.phase = ProbePhase.SENTINEL
            words = ("SENTINEL", "get-master-addr-by-name", self._service_name)
            reply: object = None
            for command in connection.send([*connection.greeting, RedisCommand(words, _any)]):
                reply = connection.await_reply(command)
        finally:
            connection.close()
        return address_of(reply)

    def _note(self, found: HostAndPort) -> None:
        if self.master is not None and self.master != found:
            logger.info("%s is now at %s:%d; it was at %s:%d", self._where, *found, *self.master)
        self.master = found


def _any(_reply: object) -> None:
    """Any reply will do; it is judged later."""
