"""How far an attempt has come, which decides what a missing answer means."""

from enum import StrEnum

from states._records import mutable_record, record


class ProbePhase(StrEnum):
    """What an attempt is doing."""

    RESOLVE = "looking up the name"
    CONNECT = "connecting"
    IMPORT = "importing redis"
    CREDENTIALS = "getting credentials"
    TLS = "TLS handshake"
    GREETING = "redis_connect_func"
    SENTINEL = "asking the sentinels"
    PING = "PING"


_ENDLESS = frozenset(
    {ProbePhase.RESOLVE, ProbePhase.CREDENTIALS, ProbePhase.TLS, ProbePhase.GREETING}
)
"""What waits for others, and no deadline can end; or not to the moment, as TLS, which reads its
files and certificates first."""

_GREETING = frozenset({"HELLO", "AUTH", "CLIENT", "SELECT"})
"""The commands with which a connection begins; which of them depends on redis-py's version."""


@record
class Situation:
    """What is to be known of an attempt to say why it failed.

    Attributes:
        where: The place in words, such as `redis at 127.0.0.1:6379`.
        phase: How far the attempt had come.
        timeout_seconds: The time that it had.
        command: The command whose reply it waited for.
        fresh: Whether the connection is a new one that has not answered yet.
    """

    where: str
    phase: ProbePhase
    timeout_seconds: float
    command: str = "PING"
    fresh: bool = False

    @property
    def asked(self) -> str:
        """What the server was asked, for a person."""
        return "the greeting" if self.command in _GREETING else self.command


@mutable_record
class Progress:
    """How far the attempt under way has come. Written in the worker's thread, read by all.

    Attributes:
        where: The place in words.
        phase: What is being done now.
        accepted_at: When Redis accepted a new connection on which it has not answered yet, in
            monotonic seconds; 0 for none. What goes on then outlasts the attempt.
    """

    where: str
    phase: ProbePhase = ProbePhase.CONNECT
    accepted_at: float = 0.0

    @property
    def outlasts(self) -> bool:
        """Whether what is under way goes on after its attempt."""
        return self.accepted_at > 0

    @property
    def is_endless(self) -> bool:
        """Whether no deadline can end what is under way."""
        return self.phase in _ENDLESS

    def situation(self, timeout_seconds: float, command: str = "PING") -> Situation:
        """This moment of an attempt of `timeout_seconds`."""
        return Situation(self.where, self.phase, timeout_seconds, command, self.outlasts)
