"""One connection to Redis, made as the probe makes its own: the same options, the same login.

All of it runs in one thread, but for `interrupt` and `abandon`. A call has one deadline. Nothing
repeats it behind the scenes: to learn what was lost, one asks for the mark.
"""

import contextlib
import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator._probing.addresses import is_host
from orchestrator._probing.interruption import Interruption
from orchestrator.fleet._replies import READONLY, of_script
from orchestrator.redis._connector import Connector
from orchestrator.redis._errors import WrongAnswerError
from orchestrator.redis._expect import RedisCommand
from orchestrator.redis._failures import classify
from orchestrator.redis._pipelined_connection import PipelinedConnection
from orchestrator.redis._settings import RedisSettings, is_port
from states import Failure, FailureKind

if TYPE_CHECKING:
    from redis.exceptions import MovedError

_CONNECT_SECONDS = 3.0
_PATIENCE_SECONDS = 10.0
"""How long an accepted connection may take for TLS and greeting; giving it up would make Redis do
its work again."""

_CALL_SECONDS = 3.0


class LinkError(Exception):
    """A call has failed.

    Args:
        failure: Why, in our own words.
        closed: Whether the connection was closed.
    """

    def __init__(self, failure: Failure, *, closed: bool) -> None:
        super().__init__(failure.error_type)
        self.failure = failure
        self.closed = closed


class FleetScript:
    """A script, and the digest by which Redis knows it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class FleetLink:
    """The connection, made when it is needed.

    Args:
        settings: Where Redis is, and how to log in. The limits of the application's client for
            its own answers are not taken over.

    Attributes:
        connects: How many connections were tried.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = replace(settings, answer_seconds=None, connect_seconds=None)
        self._interruption = Interruption()
        self._use(self._settings)
        self._connection: PipelinedConnection | None = None
        self.connects = 0

    def _use(self, settings: RedisSettings) -> None:
        self._connector = Connector(settings, self._interruption)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    # -- from other threads ------------------------------------------------------------------------

    def interrupt(self) -> None:
        """End the call under way."""
        self._interruption.interrupt()

    def abandon(self) -> None:
        """Close the descriptors and nothing else: the connection is another process's."""
        self._interruption.abandon()
        if self._connection is not None:
            self._connection.socket.close()

    # -- in the thread -----------------------------------------------------------------------------

    def open(self) -> None:
        """Connect.

        Raises:
            LinkError: When that does not work.
        """
        self.connects += 1
        try:
            self._connection, sent = self._connector.connect(
                time.monotonic() + _CONNECT_SECONDS, (), _PATIENCE_SECONDS
            )
            for command in sent:
                self._connection.await_reply(command)
        except Exception as error:  # every exception means that there is no connection
            raise self._failed(error, "the greeting", closes=True) from None
        finally:
            self._connector.progress.accepted_at = 0.0

    def run(self, script: FleetScript, keys: Sequence[str], arguments: Sequence[object]) -> object:
        """Run a script, and have Redis remember it; on a cluster, where the keys are.

        Raises:
            LinkError: When it fails.
        """
        rest = (len(keys), *keys, *arguments)
        try:
            return self._run(script, rest)
        except Exception as error:  # said as a failure, unless it only says where to ask
            if (elsewhere := self._moved(error)) is None:
                raise self._failed(error, "EVALSHA") from None
        self.close()
        self._use(elsewhere)
        self.open()
        try:
            return self._run(script, rest)
        except Exception as error:  # said as a failure
            raise self._failed(error, "EVALSHA") from None

    def _run(self, script: FleetScript, rest: tuple[object, ...]) -> object:
        from redis.exceptions import NoScriptError  # slow to load; loaded here already

        try:
            return self._ask(("EVALSHA", script.digest, *rest))
        except NoScriptError:
            return self._ask(("EVAL", script.text, *rest))

    def try_to(self, *words: object) -> None:
        """Send one command that Redis may refuse.

        Raises:
            LinkError: When the connection fails.
        """
        from redis.exceptions import ResponseError  # slow to load; loaded here already

        try:
            self._ask(words)
        except ResponseError:
            pass
        except Exception as error:  # said as a failure
            raise self._failed(error, str(words[0])) from None

    def wrong_answer(self) -> LinkError:
        """The error for a reply that is none to a script of ours; the connection is closed."""
        return self._failed(WrongAnswerError(), "EVALSHA", closes=True)

    def close(self) -> None:
        """Let go of the connection."""
        self._interruption.forget()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, words: tuple[object, ...]) -> object:
        connection = self._connection
        if connection is None:
            raise ConnectionResetError
        connection.socket.begin(time.monotonic() + _CALL_SECONDS)
        (command,) = connection.send([RedisCommand(words, _anything)])
        return connection.await_reply(command)

    def _failed(self, error: Exception, command: str, *, closes: bool = False) -> LinkError:
        """Say why, and close the connection if its further replies cannot be trusted."""
        from redis import exceptions as known  # slow to load; loaded here already

        at = self._connector.progress.situation(
            _CONNECT_SECONDS if closes else _CALL_SECONDS, command
        )
        said = isinstance(error, known.ResponseError)
        failure = (of_script(str(error), at.where) if said else None) or classify(error, at)
        # Most error replies leave the connection as it was. But redis-py would read one of those
        # that it calls a ConnectionError, such as LOADING, again and again. And a replica does not
        # become a master again: only a new connection looks its name up anew.
        closes = closes or not said or failure.error_type in (READONLY, "MOVED")
        if failure.kind is FailureKind.TRANSIENT and (said or failure.error_type == "LOADING"):
            # Thousands of instances must not ask again at the pace at which they would knock.
            failure = replace(failure, congestion=True)
        if closes:
            self.close()
            self._use(self._settings)
        return LinkError(failure, closed=closes)

    def _moved(self, error: Exception) -> RedisSettings | None:
        """Where a node of a cluster says that the keys are; `None` if it says no such thing."""
        if (moved := as_moved(error)) is None:
            return None
        host, port = moved.host or self._settings.host, moved.port
        if not is_host(host) or not is_port(port):
            return None
        return replace(self._settings, host=host, port=port)


def as_moved(error: Exception) -> "MovedError | None":
    """The error if it says on which node the keys are; else `None`."""
    from redis.exceptions import MovedError, ResponseError  # slow to load; loaded here already

    if isinstance(error, MovedError):
        return error
    # In older versions of redis-py, only the client of a cluster makes such an error of it.
    code, _, rest = str(error).partition(" ")
    if isinstance(error, ResponseError) and code == "MOVED":
        with contextlib.suppress(ValueError):  # it is worded otherwise
            return MovedError(rest)
    return None


def _anything(_reply: object) -> None:
    """The caller looks at it."""
