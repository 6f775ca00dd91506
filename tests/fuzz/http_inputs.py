"""The requests that reach the port of `run`, as bytes on a connection."""

import contextlib
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psutil
from hypothesis import strategies as st

from tests.cli.cli_support import PATIENCE_SECONDS, a_command, line_with
from tests.fuzz.subject import Subject
from tests.redis_server import free_port

_GOOD = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"

_methods = st.sampled_from([b"GET", b"GET", b"HEAD", b"POST", b"get", b"BREW", b"", b"A" * 40])
_targets = st.one_of(
    st.sampled_from([b"/livez", b"/readyz", b"/startupz", b"/startup", b"/startup/state", b"/"]),
    st.sampled_from([b"http://x/livez", b"/livez?a=b", b"/..//livez", b"/live%00z", b"//livez"]),
    st.sampled_from([b"/" + b"a" * 9000, b"/\xff", b"x:443", b"http://[::1/livez", b"", b"*"]),
    st.binary(max_size=20),
)
_versions = st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b""])
_headers = st.one_of(
    st.sampled_from([b"host: x", b"host: x", b"Host:", b"host: \x1b", b"content-length: 0"]),
    st.sampled_from(
        [b"content-length: 5", b"content-length: -1", b"content-length: " + b"9" * 5000]
    ),
    st.sampled_from(
        [b"transfer-encoding: chunked", b"expect: 100-continue", b"upgrade: websocket"]
    ),
    st.sampled_from(
        [b"last-event-id: " + b"9" * 400, b"x: " + b"a" * 9000, b"connection: upgrade"]
    ),
    st.sampled_from([b" folded: x", b"no colon", b"a\x00b: c", b"origin: http://evil", b"te: x"]),
    st.binary(max_size=20),
)
_ends = st.sampled_from([b"\r\n", b"\r\n", b"\n", b"\r"])


def _head(method: bytes, target: bytes, version: bytes, headers: list[bytes], end: bytes) -> bytes:
    return end.join([method + b" " + target + b" " + version, *headers, b"", b""])


_heads = st.builds(
    _head,
    _methods,
    # The stream of events does not end by itself, and is fuzzed from the other side.
    _targets.filter(lambda target: b"events" not in target),
    _versions,
    st.one_of(st.just([b"host: x"]), st.lists(_headers, max_size=5)),
    _ends,
)
requests: st.SearchStrategy[bytes] = st.one_of(
    _heads,
    st.lists(_heads, max_size=3).map(b"".join),
    _heads.map(lambda head: b"\r\n" + head),
    st.builds(lambda head, cut: head[:cut], _heads, st.integers(0, 60)),
    st.builds(lambda head, body: head + body, _heads, st.binary(max_size=40)),
    st.binary(max_size=200),
    st.just(b"\x16\x03\x01" + b"\x00" * 200),
    st.just(b"GET /livez HTTP/1.1\r\n" + b"a: b\r\n" * 5000 + b"\r\n"),
)


class _Run(NamedTuple):
    port: int
    process: psutil.Process


@contextmanager
def _opened() -> Iterator[_Run]:
    """`run` with its port open, before a Redis that is not there."""
    nowhere = f"redis://127.0.0.1:{free_port()}"
    arguments = ("--port", "0", "--host", "127.0.0.1", "--details", "--redis", nowhere)
    with a_command("run", *arguments, "--", sys.executable, "-c", "") as process:
        port = int(line_with(process, "health endpoints on port").rsplit(maxsplit=1)[-1])
        yield _Run(port, psutil.Process(process.pid))
        process.terminate()
        _, error = process.communicate(timeout=PATIENCE_SECONDS)
        assert "Traceback" not in error, error


def _said(port: int, request: bytes) -> bytes:
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(request)
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while part := sock.recv(65536):
                said += part
    return said


def _ask(run: _Run, request: bytes) -> None:
    said = _said(run.port, request)
    if said:
        line = said.split(b"\r\n", 1)[0].split(b" ", 2)
        assert line[0] in (b"HTTP/1.1", b"HTTP/1.0"), said[:200]
        status = int(line[1])
        assert status != 500, said[:200]
        assert 100 <= status < 600
    assert b"Traceback" not in said
    assert _said(run.port, _GOOD).startswith(b"HTTP/1.1 200 "), "a good probe is answered still"
    assert run.process.memory_info().rss < 300 << 20


SUBJECTS = (Subject("requests to the port of run", requests, _opened, _ask),)
