"""What an attempt asks, and which replies are good ones."""

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Literal

from orchestrator._hardening.arguments import MOST_PORT, require, require_flag, wrong_type
from orchestrator.redis._errors import AttemptError, WrongAnswerError
from states import FailureKind
from states._records import keyword_record, record

_MOST_EXPIRY_SECONDS = 1e9
"""Redis refuses more milliseconds than it can count; this is a little over 30 years."""


@keyword_record
class Expect:
    """What each attempt asks besides PING, all in one round trip.

    PING alone is answered by a read-only replica, by a Redis that is out of memory and by a node
    of a cluster that is down.

    Attributes:
        role: `"master"` refuses a read-only replica, and `"any"` takes what answers. It is always
            `"master"` where the server comes from sentinels. Ask for it where a failover moves a
            name to another server: the old one lives on as a replica, and open connections stay
            with it. A refused server's connection is closed, and the name resolved again.
        cluster: The server is a node of a Redis Cluster, whose state must be ok.
        canary_prefix: If not empty, each attempt writes one small key whose name begins with this,
            and so fails where the application could not write. The user needs `SET` on
            `<canary_prefix>*`.
        canary_expiry_seconds: How long that key lives.

    Raises:
        ValueError: When there is no such role, the expiry is not above 0, or a canary is asked of a
            cluster, where the key may belong to another node.
        TypeError: When an attribute is of the wrong type.
    """

    role: Literal["any", "master"] = "any"
    cluster: bool = False
    canary_prefix: str = ""
    canary_expiry_seconds: float = 10.0

    def __post_init__(self) -> None:
        require_flag(self.cluster, "cluster")
        require(self.canary_prefix, str, "canary_prefix", "give how the names of keys begin")
        if self.role not in ("any", "master"):
            raise ValueError('role must be "any" or "master"')
        try:
            self.canary_prefix.encode()
        except UnicodeEncodeError:
            raise ValueError("canary_prefix has characters that are no text: check it") from None
        seconds = self.canary_expiry_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise wrong_type(seconds, "canary_expiry_seconds", "a number of seconds", "write 10.0")
        if not 0 < seconds <= _MOST_EXPIRY_SECONDS:
            raise ValueError("canary_expiry_seconds must be above 0, and 1e9 at most")
        if self.cluster and self.canary_prefix:
            raise ValueError("a canary cannot be written to a cluster: use one of both")


@record
class RedisCommand:
    """One command and what its reply must be.

    Attributes:
        words: Its name and its arguments. They may hold a password.
        verify: Raises for a reply that is not a good one.
        may_fail: Whether an error reply is as good as any.
    """

    words: tuple[object, ...] = field(repr=False)
    verify: Callable[[object], None]
    may_fail: bool = False

    @property
    def name(self) -> str:
        """The command without its arguments."""
        return str(self.words[0])


def commands_of(expect: Expect) -> Sequence[RedisCommand]:
    """The commands of one attempt, PING first, so that a server that is not well says so there."""
    commands = [RedisCommand(("PING",), _pong)]
    if expect.role == "master":
        commands.append(RedisCommand(("ROLE",), _master))
    if expect.cluster:
        commands.append(RedisCommand(("CLUSTER", "INFO"), _cluster_ok))
    if expect.canary_prefix:
        # One key for each probe: instances do not wait for each other, and none is left behind.
        key = expect.canary_prefix + secrets.token_hex(8)
        expiry = max(1, round(expect.canary_expiry_seconds * 1000))
        commands.append(RedisCommand(("SET", key, "1", "PX", expiry), ok))
    return commands


_HOST = re.compile(rb"[0-9A-Za-z_.:%-]{1,255}")
"""Names and addresses of version 4 and 6, with a zone. Sentinels know names in ASCII only."""

_PORT = re.compile(rb"[0-9]{1,5}")


def address_of(reply: object) -> tuple[str, int] | None:
    """Where a sentinel says that the master is; `None` for a name that it does not know.

    Nothing of the reply is used before its type, its length and its characters are known: what a
    server names is looked up, and appears in reasons.

    Raises:
        WrongAnswerError: When it is no address.
    """
    match reply:
        case None:
            return None
        case [bytes(host), bytes(port)] if _HOST.fullmatch(host) and _PORT.fullmatch(port):
            if 0 < int(port) <= MOST_PORT:
                return host.decode(), int(port)
    raise WrongAnswerError


def ok(reply: object) -> None:
    """The reply to a command that only does something."""
    if reply not in (b"OK", "OK"):
        raise WrongAnswerError


def greeted(reply: object) -> None:
    """The reply to HELLO 3: a map, in which the server says what it speaks from now on."""
    if not isinstance(reply, dict) or reply.get(b"proto") != 3:  # noqa: PLR2004  the version of RESP
        raise WrongAnswerError


def _pong(reply: object) -> None:
    if reply not in (b"PONG", "PONG"):
        raise WrongAnswerError


def _master(reply: object) -> None:
    role = reply[0] if isinstance(reply, list) and reply else None
    if role == b"slave":
        said = "{where} is a replica, not a master"
        raise AttemptError(FailureKind.TRANSIENT, "ReadOnlyReplica", said)
    if role != b"master":
        raise WrongAnswerError


def _cluster_ok(reply: object) -> None:
    lines = reply.split(b"\r\n") if isinstance(reply, bytes) else []
    states = [line for line in lines if line.startswith(b"cluster_state:")]
    if states == [b"cluster_state:fail"]:
        said = "{where} has a cluster that is down (CLUSTERDOWN)"
        raise AttemptError(FailureKind.TRANSIENT, "CLUSTERDOWN", said)
    if states != [b"cluster_state:ok"]:
        raise WrongAnswerError
