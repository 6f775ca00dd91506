"""An open connection: commands are sent in one go, and their replies judged in turn."""

import time
from typing import TYPE_CHECKING

from orchestrator._hardening.log_thread import logger
from orchestrator.redis._error_replies import is_passed_over
from orchestrator.redis._errors import BadOptionsError, NotRedisError
from orchestrator.redis._expect import RedisCommand
from orchestrator.redis._reply_socket import ReplySocket

if TYPE_CHECKING:
    from orchestrator.redis._redis_py_connections import ProbeConnection


_MISREAD = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What code raises that was written for the replies of Redis, and is given something else."""


class PipelinedConnection:
    """An open connection, and the greeting that is still to be sent on it.

    Attributes:
        socket: What is below redis-py.
        greeting: The commands that go before all others, once `start` has returned.
        asked_at: When the last of what was asked was on its way, in monotonic seconds.
    """

    def __init__(self, redis_py: "ProbeConnection", socket: ReplySocket) -> None:
        self._redis_py = redis_py
        self.socket = socket
        self.greeting: list[RedisCommand] = []
        self.asked_at = time.monotonic()

    def start(self) -> None:
        """Begin to use the socket."""
        self._redis_py.start(self.socket)
        self.greeting = self._redis_py.greeting

    def send(self, commands: list[RedisCommand]) -> list[RedisCommand]:
        """Send commands, all in one go; return them for their replies to be awaited."""
        try:
            packed = self._redis_py.pack_commands([command.words for command in commands])
        except UnicodeEncodeError:  # a password or a name with characters that are no text
            raise BadOptionsError from None
        self._redis_py.send_packed_command(packed, check_health=False)
        self.asked_at = time.monotonic()
        return commands

    def await_reply(self, command: RedisCommand) -> object:
        """Wait for the reply to `command`, which must be a good one."""
        try:
            reply = self._redis_py.read_response(disconnect_on_error=False)
        except _MISREAD:
            raise NotRedisError from None
        except Exception as error:
            if not (command.may_fail and is_passed_over(error)):
                raise
            return None
        command.verify(reply)
        return reply

    def has_extra(self) -> bool:
        """Whether more has come than was asked for, or the other side has closed."""
        try:
            return self._redis_py.can_read(timeout=0)
        except Exception:  # closed by the other side, just after its answer
            return True

    def close(self) -> None:
        """Let go of the socket, whatever redis-py does."""
        try:
            self._redis_py.disconnect()
        except Exception:  # the socket itself is closed below
            logger.debug("redis-py raised while it closed a connection")
        self.socket.close()
