"""What the probe itself finds wrong; what others raise is judged in `_failures`.

No text of a server is in any of these, and no value of an option.
"""

from orchestrator.redis._progress import Situation
from states import Failure, FailureKind


class AttemptError(Exception):
    """An attempt cannot succeed, and the probe knows why.

    Args:
        kind: Whether asking again soon can help.
        error_type: The `error_type` of the failure.
        reason: Its words, with `{where}` for the place.
    """

    def __init__(self, kind: FailureKind, error_type: str, reason: str) -> None:
        super().__init__(error_type)
        self._kind = kind
        self._error_type = error_type
        self._reason = reason

    def failure(self, at: Situation) -> Failure:
        """The failure of the attempt that it has ended."""
        return Failure(self._kind, self._error_type, self._reason.replace("{where}", at.where))


class NotRedisError(AttemptError):
    """What came back is no reply of Redis."""

    def __init__(self) -> None:
        reason = "{where} is not Redis, or expects TLS (rediss://): it speaks another protocol"
        super().__init__(FailureKind.PERMANENT, "InvalidResponse", reason)


class LongReplyError(AttemptError):
    """A reply is longer than any that whoever asks would ever get."""

    def __init__(self) -> None:
        reason = "{where} gave a reply that is far too long: something else writes to its keys"
        super().__init__(FailureKind.PERMANENT, "LongReply", reason)


class WrongAnswerError(AttemptError):
    """A reply of Redis, but not one to the command that was sent."""

    def __init__(self) -> None:
        reason = "{where} answered, but not as Redis does: is it a proxy?"
        super().__init__(FailureKind.PERMANENT, "WrongAnswer", reason)


class SlowAnswerError(AttemptError):
    """An answer took longer than the client's `socket_timeout`, which is `limit_seconds`."""

    def __init__(self, limit_seconds: float) -> None:
        limit = f"within the {limit_seconds:.3g} s of the client's socket_timeout"
        super().__init__(FailureKind.TRANSIENT, "SocketTimeout", limit)

    def failure(self, at: Situation) -> Failure:
        """It is a sign of congestion on a new connection."""
        reason = f"{at.where} gave no answer to {at.asked} {self._reason}"
        return Failure(self._kind, self._error_type, reason, congestion=at.fresh)


class BadOptionsError(AttemptError):
    """The installed redis-py cannot make a connection with the options of the URL or the client.

    Args:
        option: The name of the option that is to blame; empty if it is not one alone.
    """

    def __init__(self, option: str = "") -> None:
        named = f"the option {option}" if option else "the options"
        reason = f"redis-py makes no connection with {named} for {{where}}: check the URL"
        super().__init__(FailureKind.PERMANENT, "BadOptions", reason)


class TlsOptionError(AttemptError):
    """TLS cannot begin, or not be trusted, because of an option of our own.

    Args:
        said: What is wrong with which option, without its value.
        error_type: The `error_type` of the failure.
        lasting: Whether waiting won't help.
    """

    def __init__(self, said: str, error_type: str, *, lasting: bool = True) -> None:
        kind = FailureKind.PERMANENT if lasting else FailureKind.TRANSIENT
        super().__init__(kind, error_type, f"no TLS to {{where}}: {said}")


class ApplicationError(AttemptError):
    """A function of the application's, which the probe calls as the client would, has raised.

    Args:
        what: Whose function it is: the option of redis-py.
        error_type: The class of what it raised.
    """

    def __init__(self, what: str, error_type: str) -> None:
        reason = f"the {what} for {{where}} raised {error_type}"
        super().__init__(FailureKind.TRANSIENT, error_type, reason)
