"""RESP as the probe reads and writes it: strictly, in pieces, and as redis-py understands it."""

import math
from dataclasses import dataclass

import pytest
from redis import exceptions as known
from redis._parsers.base import BaseParser

from orchestrator.redis._error_replies import ErrorReply, is_passed_over, of_reply
from orchestrator.redis._errors import NotRedisError
from orchestrator.redis._progress import ProbePhase, Situation
from orchestrator.redis._resp import RESP2, RESP3, ReplyReader, packed


@dataclass
class Pieces:
    """Gives bytes in pieces of a size, and then says that the other side has closed."""

    data: bytes
    size: int = 4096
    bytes_left: int = 256 * 1024
    late: bool = False

    def recv(self, size: int) -> bytes:
        piece, self.data = self.data[: min(size, self.size)], self.data[min(size, self.size) :]
        self.bytes_left -= len(piece)
        if self.late and not piece:
            raise TimeoutError
        return piece


def bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)


IN_BOTH = {
    b"+PONG\r\n": b"PONG",
    b"+\r\n": b"",
    b":0\r\n": 0,
    b":-5\r\n": -5,
    b":+5\r\n": 5,
    b":9223372036854775807\r\n": 2**63 - 1,
    b"$4\r\nPONG\r\n": b"PONG",
    b"$0\r\n\r\n": b"",
    b"$4\r\n\r\n\r\n\r\n": b"\r\n\r\n",
    b"$-1\r\n": None,
    b"*-1\r\n": None,
    b"*0\r\n": [],
    b"*2\r\n:1\r\n*1\r\n+a\r\n": [1, [b"a"]],
}

IN_RESP3 = {
    b"_\r\n": None,
    b"#t\r\n": True,
    b"#f\r\n": False,
    b",1.5\r\n": 1.5,
    b",10\r\n": 10.0,
    b",1e3\r\n": 1000.0,
    b",-inf\r\n": -math.inf,
    b"(" + b"9" * 30 + b"\r\n": 10**30 - 1,
    b"=15\r\ntxt:Some string\r\n": b"Some string",
    b"~2\r\n:1\r\n:1\r\n": [1, 1],
    b"%2\r\n+a\r\n:1\r\n:2\r\n%0\r\n": {b"a": 1, 2: {}},
    b"%1\r\n*0\r\n:1\r\n": {},
    b">2\r\n+invalidate\r\n_\r\n>0\r\n+PONG\r\n": b"PONG",
}


@pytest.mark.parametrize("size", [1, 2, 3, 4096])
def test_replies_are_read_in_whatever_pieces_they_come(size: int) -> None:
    for version, replies in ((RESP2, IN_BOTH), (RESP3, IN_BOTH | IN_RESP3)):
        for data, value in replies.items():
            reader = ReplyReader(Pieces(data + b"+next\r\n", size), version)
            assert reader.read() == value, data
            assert reader.read() == b"next"
            assert not reader.holds_more
            with pytest.raises(ConnectionResetError):
                reader.read()


NEVER = [
    *(b"x\r\n", b"\r\n", b"\n", b" +PONG\r\n", b"HTTP/1.1 200 OK\r\n", b"\x15\x03\x03\r\n"),
    *(b"+PONG\n", b"+PO\rNG\r\n", b"+PO\nNG\r\n", b"+PONG\r\r\n", b"+" + b"x" * 20_000 + b"\r\n"),
    *(b":\r\n", b":1.5\r\n", b": 1\r\n", b":1_0\r\n", b":--1\r\n", b":" + b"9" * 20 + b"\r\n"),
    *(":\u0663\r\n".encode(), b"$ 4\r\nPONG\r\n", b"$+4\r\nPONG\r\n", b"$04\r\nPONG\r\n"),
    *(b"$-2\r\n", b"$4_\r\nPONG\r\n", b"$\r\n", b"$?\r\n", b"*?\r\n", b"*-2\r\n", b"*a\r\n"),
    *(b"$3\r\nPONG\r\n", b"$5\r\nPONG\r\n+", b"$4\r\nPONGxx", b"$300000\r\n", b"*300000\r\n"),
    *(b"$9999999999999\r\n", b"$" + b"9" * 5000 + b"\r\n", b"*1\r\n" * 10 + b":1\r\n"),
    *(b"|1\r\n+a\r\n+b\r\n+PONG\r\n", b"@1\r\n"),
]

NEVER_IN_RESP3 = [
    *(b"_x\r\n", b"#x\r\n", b"#\r\n", b"#true\r\n", b",\r\n", b",x\r\n", b",1,5\r\n", b",0x1\r\n"),
    *(b",1_0\r\n", b"(1.5\r\n", b"(\r\n", b"(" + b"9" * 5000 + b"\r\n", b"=3\r\ntxt\r\n"),
    *(b"=5\r\ntxt;x\r\n", b"=-1\r\n", b"!-1\r\n", b"%-1\r\n", b"~-1\r\n", b">-1\r\n"),
    *(b"%300000\r\n", b"*1\r\n>1\r\n+a\r\n+b\r\n", b"%1\r\n" * 10 + b":1\r\n"),
]


@pytest.mark.parametrize("size", [1, 4096])
def test_what_is_no_reply_is_refused(size: int) -> None:
    for version, wrong in (
        (RESP2, [*NEVER, *IN_RESP3, *NEVER_IN_RESP3]),
        (RESP3, [*NEVER, *NEVER_IN_RESP3]),
    ):
        for data in wrong:
            with pytest.raises(NotRedisError):
                ReplyReader(Pieces(data, size), version).read()


def test_no_length_is_waited_for_that_cannot_come() -> None:
    """Refused before a byte of it is there."""
    for data in (b"$262144\r\n", b"*262144\r\n", b"!262144\r\n", b"=262144\r\n", b">262144\r\n"):
        with pytest.raises(NotRedisError):
            ReplyReader(Pieces(data, late=True), RESP3).read()


def test_a_line_without_end_is_not_read_to_the_end() -> None:
    for kind in (b"+", b"-", b":", b"$", b"*", b"("):
        pieces = Pieces(kind + b"1" * 200_000)
        with pytest.raises(NotRedisError):
            ReplyReader(pieces, RESP3).read()
        assert len(pieces.data) > 150_000


def test_what_came_too_early_is_read_again_from_its_beginning() -> None:
    whole = b">1\r\n+note\r\n*2\r\n" + bulk(b"a" * 100) + b"%1\r\n+b\r\n:1\r\n"
    for cut in range(len(whole)):
        pieces = Pieces(whole[:cut], late=True)
        reader = ReplyReader(pieces, RESP3)
        with pytest.raises(TimeoutError):
            reader.read()
        pieces.data = whole[cut:]
        assert reader.read() == [b"a" * 100, {b"b": 1}]
        assert not reader.holds_more


def test_an_error_is_raised_and_one_inside_is_part_of_the_reply() -> None:
    reader = ReplyReader(Pieces(b"-ERR a\r\n!5\r\nERR b\r\n*1\r\n-ERR c\r\n+PONG\r\n"), RESP3)
    for line in ("ERR a", "ERR b"):
        with pytest.raises(ErrorReply) as raised:
            reader.read()
        assert raised.value.line == line
        assert line not in repr(raised.value)
    inside = reader.read()
    assert isinstance(inside, list)
    assert isinstance(inside[0], ErrorReply)
    assert reader.read() == b"PONG"


def test_commands_are_written_as_redis_reads_them() -> None:
    words = ("SET", "k\xe9y", b"\r\n\0", 12)
    assert packed(words) == b"*4\r\n$3\r\nSET\r\n$4\r\nk\xc3\xa9y\r\n$3\r\n\r\n\0\r\n$2\r\n12\r\n"
    assert packed(("PING",)) == b"*1\r\n$4\r\nPING\r\n"


# -- error replies ---------------------------------------------------------------------------------

ERRORS = """\
NOAUTH Authentication required.
NOAUTH HELLO must be called with the client already authenticated, \
otherwise the \
HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
select the RESP protocol version at the same time
WRONGPASS invalid username-password pair or user is disabled.
ERR invalid password
ERR AUTH <password> called without any password configured for the default user. \
Are you sure your configuration is correct?
ERR Client sent AUTH, but no password is set
ERR wrong number of arguments for 'auth' command
ERR wrong number of arguments for 'AUTH' command
ERR max number of clients reached
ERR problem with LDAP service
LOADING Redis is loading the dataset in memory
MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.
READONLY You can't write against a read only replica.
OOM command not allowed when used memory > 'maxmemory'.
CLUSTERDOWN The cluster is down
CLUSTERDOWN Hash slot not served
MOVED 3999 127.0.0.1:6381
ASK 3999 127.0.0.1:6381
TRYAGAIN Multiple keys request during rehashing of slot
CROSSSLOT Keys in request don't hash to the same slot
BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.
BUSYKEY Target key name already exists.
MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.
NOREPLICAS Not enough good replicas to write.
DENIED Redis is running in protected mode because protected mode is enabled
NOPROTO unsupported protocol version
NOPERM User me has no permissions to run the 'ping' command
NOPERM this user has no permissions to run the 'ping' command or its subcommand
EXECABORT Transaction discarded because of previous errors.
NOSCRIPT No matching script. Please use EVAL.
ERR unknown command `HELLO`, with args beginning with: `3`
ERR unknown command 'PING'
ERR unsupported command
ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.
ERR Unknown subcommand or wrong number of arguments for 'SETINFO'
ERR DB index is out of range
ERR invalid DB index
ERR SELECT is not allowed in cluster mode
ERR This instance has cluster support disabled
ERR Client names cannot contain spaces, newlines or special characters.
ERR syntax error
ERR
WRONGTYPE Operation against a key holding the wrong kind of value
something else altogether
""".splitlines()


@pytest.mark.parametrize("line", ERRORS)
@pytest.mark.parametrize("command", ["PING", "HELLO", "CLIENT"])
def test_an_error_means_to_the_probe_what_it_means_to_redis_py(line: str, command: str) -> None:
    at = Situation("redis at x:1", ProbePhase.PING, 1.0, command)
    ours = ErrorReply(line)
    theirs = BaseParser.parse_error(line)  # type: ignore[no-untyped-call]  # redis-py's
    if "LDAP" in line and type(theirs) is known.ResponseError:
        pytest.skip("this redis-py is older than its own class for this error")
    by_them, by_us = of_reply(theirs, at), of_reply(ours, at)
    assert by_them is not None
    assert by_us is not None
    assert (by_us.kind, by_us.congestion) == (by_them.kind, by_them.congestion)
    if "answered" not in by_us.reason:
        assert by_us == by_them
    else:  # redis-py has classes for some that no probe ever sees
        assert by_us.error_type == "ResponseError"
        assert by_us.reason.replace(by_us.error_type, by_them.error_type) == by_them.reason
    assert is_passed_over(ours) == is_passed_over(theirs) == _goes_on(theirs, line)


def _goes_on(error: Exception, line: str) -> bool:
    """What redis-py's own greeting does with it."""
    return isinstance(error, known.ResponseError) and not line.startswith("DENIED")


def test_what_is_no_error_reply_is_not_passed_over() -> None:
    for error in (known.ConnectionError("closed"), known.TimeoutError(), OSError(), ValueError()):
        assert not is_passed_over(error)
