"""What servers answer to the probes that speak a protocol themselves."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
from hypothesis import strategies as st

from orchestrator import Failure, Probe
from orchestrator._http.grpc_health import service_of, status_in
from orchestrator.checks import grpc, http, kafka
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


def _check(make: Callable[[int], Probe]) -> Callable[[Sayer, bytes], None]:
    async def ask(probe: Probe) -> Failure | None:
        result = await probe.attempt(_ATTEMPT_SECONDS)
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
