"""What servers answer to the probes that speak a protocol themselves."""

import secrets
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import anyio
from hypothesis import strategies as st

from orchestrator import Failure, Probe
from orchestrator._http.grpc_health import service_of, status_in
from orchestrator.checks import amqp, grpc, http, kafka, postgres
from orchestrator.checks._amqp.amqp_wire import Method, frame, long, short
from orchestrator.checks._postgres.postgres_wire import message
from tests.fuzz.servers import Sayer, a_sayer, nothing_but_loopback
from tests.fuzz.subject import PLANTED, Subject, assert_hides, assert_is_a_line

_ATTEMPT_SECONDS = 5.0
"""Far more than anything takes here: the server ends each connection."""

_text = PLANTED.encode()

# -- Kafka: a length, the number of the request, and fields ----------------------------------------

_numbers = st.sampled_from([0, 1, 2, 3, 18, 33, 35, 255, 65_535])
_fields = st.lists(
    st.one_of(
        _numbers.map(lambda number: struct.pack(">H", number)),
        _numbers.map(lambda number: struct.pack(">i", number)),
        st.sampled_from([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\x0e" + _text, b"\0\x09127.0.0.1"]),
        st.binary(max_size=9),
    ),
    max_size=12,
).map(b"".join)


def _framed(number: int, body: bytes, wrong: int) -> bytes:
    return struct.pack(">ii", 4 + len(body) + wrong, number) + body


_VERSIONS = b"\0\0" + b"\0\0\0\x01" + struct.pack(">hhh", 3, 0, 9)
_hosts = st.sampled_from([b"127.0.0.1", b"a\0b", b"", b"." * 300, b"\xff", b"a b", b"[::1]", _text])
_ports = st.sampled_from([0, 1, -1, 70_000, 2**31 - 1])


def _known(brokers: list[tuple[bytes, int]]) -> bytes:
    one = (
        struct.pack(">ih", 1, len(host)) + host + struct.pack(">ih", port, -1)
        for host, port in brokers
    )
    return struct.pack(">ii", 0, len(brokers)) + b"".join(one)


_frames = st.builds(_framed, st.integers(0, 3), _fields, st.sampled_from([0, 0, 0, -1, 1, 70_000]))
brokers_say: st.SearchStrategy[bytes] = st.one_of(
    st.lists(_frames, max_size=3).map(b"".join),
    _fields.map(lambda fields: _framed(1, _VERSIONS, 0) + _framed(2, fields, 0)),
    st.lists(st.tuples(_hosts, _ports), max_size=4).map(
        lambda brokers: _framed(1, _VERSIONS, 0) + _framed(2, _known(brokers), 0)
    ),
    st.binary(max_size=60),
)

# -- AMQP: frames with methods ---------------------------------------------------------------------

_started = frame(Method.START, b"\0\x09" + long(b"") + long(b"PLAIN") + long(b"en_US"))
_tuned = frame(Method.TUNE, b"\x07\xff\0\2\0\0\0\x3c")
_let_in = _started + _tuned + frame(Method.OPEN_OK, b"\0")
_answered = frame(Method.CHANNEL_OPEN_OK, long(b""), 1) + frame(Method.CHANNEL_CLOSE_OK, b"", 1)
_codes = st.sampled_from([200, 311, 320, 403, 404, 530, 541, 9999])
_closes = st.builds(
    lambda method, code, why: frame(method, code.to_bytes(2) + short(why) + b"\0" * 4),
    st.sampled_from([Method.CLOSE, Method.CHANNEL_CLOSE]),
    _codes,
    st.sampled_from([b"", b"connection limit", _text]),
)
_arguments = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([long(_text), b"\xff" * 4, b"\0\x09" + long(b"") + long(_text) + long(b"")]),
)
_amqp_frames = st.one_of(
    st.builds(frame, st.sampled_from(Method), _arguments, st.sampled_from([0, 1, 65_535])),
    _closes,
    st.sampled_from([b"AMQP\0\0\x09\1", b"\x15\3\3\0\2", b"\x08\0\0\0\0\0\0\xce"]),
    st.builds(
        lambda kind, size, rest: struct.pack(">BHi", kind, 0, size) + rest,
        st.sampled_from([1, 2, 8, 65]),
        st.sampled_from([0, 1, 4, 200_000, -1]),
        st.binary(max_size=9),
    ),
)
rabbits_say: st.SearchStrategy[bytes] = st.one_of(
    st.builds(
        lambda before, frames: before + b"".join(frames),
        st.sampled_from([b"", _started, _started + _tuned, _let_in, _let_in + _answered]),
        st.lists(_amqp_frames, max_size=4),
    ),
    st.binary(max_size=60),
)

# -- PostgreSQL: messages --------------------------------------------------------------------------

_NONCE = "nonce"
_sqlstates = st.sampled_from(
    [b"08P01", b"28P01", b"53300", b"57P03", b"XX000", b"", b"\xff", _text]
)
_said = st.sampled_from([b"", b"authentication failed", b"query_wait_timeout", _text])
_scrams = st.builds(
    lambda nonce, salt, count: b"r=%b,s=%b,i=%b" % (nonce, salt, count),
    st.sampled_from([_NONCE.encode(), b"noncesense", b"", b"\xff", _text]),
    st.sampled_from([b"c2FsdA==", b"", b"?", b"="]),
    st.sampled_from([b"1", b"0", b"-1", b"1000001", b"9" * 5000, b"1_0", b""]),
)
_requests = st.builds(
    lambda number, data: message(b"R", struct.pack(">i", number) + data),
    st.sampled_from([0, 3, 5, 7, 10, 10, 11, 11, 12, -1]),
    st.one_of(
        st.sampled_from([b"", b"SCRAM-SHA-256\0\0", b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"]),
        _scrams,
        st.sampled_from([b"v=c2FsdA==", b"v=", b"e=" + _text]),
        st.binary(max_size=6),
    ),
)
_scram = message(b"R", struct.pack(">i", 10) + b"SCRAM-SHA-256\0\0")
_welcome = message(b"R", b"\0" * 4) + message(b"Z", b"I")
_messages_of_postgres = st.one_of(
    _requests,
    st.builds(
        lambda code, said: message(b"E", b"C" + code + b"\0M" + said + b"\0\0"), _sqlstates, _said
    ),
    st.builds(
        message,
        st.sampled_from([bytes([kind]) for kind in b"RSKZEDCTNAv?"]),
        st.one_of(st.binary(max_size=9), st.just(b"\0\1\0\0\0\x011")),
    ),
    st.sampled_from([b"R\0\0\0\0", b"N\x7f\xff\xff\xff", b"E\0\0\0\3", b"N", b"S"]),
)
postgres_says: st.SearchStrategy[bytes] = st.one_of(
    st.builds(
        lambda before, messages: before + b"".join(messages),
        st.sampled_from([b"", b"N", _scram, b"N" + _scram, _welcome]),
        st.lists(_messages_of_postgres, max_size=5),
    ),
    st.binary(max_size=60),
)

# -- gRPC: frames of HTTP/2 ------------------------------------------------------------------------

_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
_payloads = st.one_of(
    st.sampled_from([b"\x88", b"\x88\x0f\x2b\x030", b"\0\0\0\0\2\x08\1", b"\0\0\0\0\0", b""]),
    st.just(b"\x88\0\x0cgrpc-message\x0e" + _text),
    st.just(b"\x88\0\x0bgrpc-status\x010"),
    st.binary(max_size=20),
)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


_h2_frames = st.builds(
    _frame,
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8]),
    st.sampled_from([0, 1, 1, 1, 2, 3]),
    _payloads,
)
servers_say: st.SearchStrategy[bytes] = st.one_of(
    st.lists(_h2_frames, max_size=5).map(lambda frames: _SETTINGS + b"".join(frames)),
    st.lists(_h2_frames, max_size=3).map(b"".join),
    st.binary(max_size=60),
)

# -- HTTP ------------------------------------------------------------------------------------------

_lines = st.sampled_from(
    [
        *(b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/9 x", b"", b"ffffffff", b"{}"),
        *(b"content-length: 3", b"content-length: -1", b"transfer-encoding: chunked"),
        *(b"x: " + _text, b"x: " + b"a" * 70_000),
    ]
)
pages_say: st.SearchStrategy[bytes] = st.one_of(
    st.lists(_lines, max_size=8).map(b"\r\n".join), st.binary(max_size=60)
)


@contextmanager
def _opened() -> Iterator[Sayer]:
    with a_sayer() as sayer, nothing_but_loopback():
        yield sayer


@contextmanager
def _opened_to_scram() -> Iterator[Sayer]:
    """With a nonce that the server can know, so that its answer may be one to ours."""
    with _opened() as sayer, mock.patch.object(secrets, "token_urlsafe", return_value=_NONCE):
        yield sayer


def _check(make: Callable[[int], Probe]) -> Callable[[Sayer, bytes], None]:
    async def ask(probe: Probe) -> Failure | None:
        result = await probe.attempt(_ATTEMPT_SECONDS)
        await probe.aclose()
        assert result.latency_seconds < _ATTEMPT_SECONDS
        return result.failure

    def check(sayer: Sayer, said: bytes) -> None:
        sayer.reply = said
        failure = anyio.run(ask, make(sayer.port))
        if failure is not None:
            for text in (failure.reason, failure.error_type):
                assert_is_a_line(text)
                assert_hides(text)
            assert "it ended with" not in failure.reason, failure.reason  # not thought of

    return check


def _dsn(port: int, mode: str) -> str:
    return f"postgresql://app:{PLANTED}@127.0.0.1:{port}/orders?sslmode={mode}"


def _messages(_: object, message: bytes) -> None:
    for read in (service_of, status_in):
        try:
            read(message)
        except ValueError:
            continue


SUBJECTS = (
    Subject(
        "answers of Kafka's brokers",
        brokers_say,
        _opened,
        _check(lambda port: kafka(f"127.0.0.1:{port}")),
    ),
    Subject(
        "answers of Kafka's brokers to a login",
        brokers_say,
        _opened,
        _check(lambda port: kafka(f"127.0.0.1:{port}", sasl=("SCRAM-SHA-256", "app", PLANTED))),
    ),
    Subject(
        "answers of AMQP brokers",
        rabbits_say,
        _opened,
        _check(lambda port: amqp(f"amqp://app:{PLANTED}@127.0.0.1:{port}/orders")),
    ),
    Subject(
        "answers of PostgreSQL",
        postgres_says,
        _opened_to_scram,
        _check(lambda port: postgres(_dsn(port, "disable"))),
    ),
    Subject(
        "answers of PostgreSQL that is asked for TLS",
        postgres_says,
        _opened_to_scram,
        _check(lambda port: postgres(_dsn(port, "prefer"))),
    ),
    Subject(
        "answers of gRPC servers",
        servers_say,
        _opened,
        _check(lambda port: grpc(f"127.0.0.1:{port}")),
    ),
    Subject(
        "answers of HTTP services",
        pages_say,
        _opened,
        _check(lambda port: http(f"http://127.0.0.1:{port}/", field=("a.b", 1))),
    ),
    Subject("messages of gRPC's health checks", st.binary(max_size=30), a_sayer, _messages),
)
