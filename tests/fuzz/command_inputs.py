"""What services tell the commands: health, state, events; and what stands in for them."""

import contextlib
import io
import json
from dataclasses import fields
from unittest import mock

from hypothesis import strategies as st

from orchestrator import Explanation
from orchestrator.cli import main
from orchestrator.cli._shell.errors import UserError
from orchestrator.cli.query import watch_view
from orchestrator.cli.query.client import HttpAddress, events
from orchestrator.cli.query.watch_view import WatchLines
from tests.fuzz.servers import Sayer, a_sayer
from tests.fuzz.subject import PLANTED, Subject, assert_hides

_texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["ready", "grace", "pass", "warn", "fail", "\x1b[2J\x07\x9b31m\n\u202e", "\ud800"]
    ),
)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**30, 10**400, 1e308, -1e308, 1e11, 0.5, float("nan"), float("inf")]),
    _texts,
)
_json = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)

_NAMES = [field.name for field in fields(Explanation)]
_NAMES += ["since_seconds", "status", "output", "sequence", "previous", "current", "cause"]
_NAMES += ["at_unix_seconds", "elapsed_seconds", "satisfied", "required", "reason"]

_told = st.dictionaries(st.sampled_from(_NAMES), _json, max_size=8)
_likely = st.fixed_dictionaries(
    {"stage": _texts},
    optional={
        "current": _texts,
        "conditions": st.dictionaries(_texts, st.one_of(_told, _json), max_size=3),
        "last_failure": st.one_of(_told, _json),
        "waits_for": st.lists(_json, max_size=3),
        "stage_seconds": st.dictionaries(_texts, _json, max_size=3),
        "status": st.sampled_from(["pass", "warn", "fail", "\x1b"]),
        "since_seconds": _scalars,
        "at_unix_seconds": _scalars,
    },
)
_objects = st.one_of(_likely, _told).map(lambda told: json.dumps(told).encode())
_bodies = st.one_of(
    _objects,
    _json.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
    st.integers(10, 60_000).map(lambda depth: b'{"stage":' + b"[" * depth + b"]" * depth + b"}"),
    st.builds(lambda body, cut: body[:cut], _objects, st.integers(0, 60)),
)


def _answer(status: int, kind: str, body: bytes, length: int) -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body) + length}"
    return head.encode() + b"\r\n\r\n" + body


answers: st.SearchStrategy[bytes] = st.one_of(
    st.builds(
        _answer,
        st.sampled_from([200, 200, 200, 204, 302, 404, 500, 503, 999]),
        st.sampled_from(["application/json", "text/plain", "", ";;", "text/event-stream"]),
        _bodies,
        st.sampled_from([0, 0, 0, 1, -1, 10**9]),
    ),
    st.binary(max_size=100),
    st.binary(max_size=60).map(lambda rest: b"HTTP/1.1 200 OK\r\n" + rest),
    _bodies.map(lambda body: b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body),
    _bodies.map(lambda body: b"HTTP/1.0 200\r\n\r\n" + body),
)

_fields = st.sampled_from([b"event: ", b"data: ", b"data:", b"id: ", b": ", b"retry: ", b"", b"x"])
_lines = st.one_of(
    st.builds(lambda field, body: field + body.replace(b"\n", b"") + b"\n", _fields, _bodies),
    st.sampled_from([b"\n", b"\r\n", b"event: state\n", b"event: stage\n", b"event: end\n"]),
)
_events = st.builds(
    lambda name, body: b"event: " + name + b"\ndata: " + body + b"\n\n",
    st.sampled_from([b"state", b"stage", b"attempt", b"end", b"\x1b"]),
    _bodies,
)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"

streams: st.SearchStrategy[bytes] = st.one_of(
    st.lists(st.one_of(_events, _lines), max_size=8).map(lambda parts: _HEAD + b"".join(parts)),
    st.binary(max_size=200).map(lambda rest: _HEAD + rest),
    st.just(_HEAD + b"data: " + b"x" * 200_000),
    answers,
)


def _assert_harmless(text: str) -> None:
    for line in text.split("\n"):
        assert line.isprintable(), repr(line[:200])
    assert "Traceback" not in text


def _ask(sayer: Sayer, answer: bytes) -> None:
    sayer.reply = answer
    url = f"127.0.0.1:{sayer.port}"
    for arguments in (["check"], ["check", "--json"], ["explain"], ["explain", "--json"]):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main([*arguments, url, "--timeout", "20"])
        assert status in (0, 1, 2), (arguments, status)
        assert err.getvalue().count("\n") <= 1
        _assert_harmless(out.getvalue())
        _assert_harmless(err.getvalue())
        if "--json" in arguments:
            assert isinstance(json.loads(out.getvalue()), dict)


def watch(sayer: Sayer, stream: bytes) -> None:
    sayer.reply = stream
    out = io.StringIO()
    with mock.patch("sys.stdout", out):
        views = (WatchLines(), watch_view.WatchJson())
        try:
            for event in events(HttpAddress.of(f"127.0.0.1:{sayer.port}", "/startup/events"), 20.0):
                for view in views:
                    if event.name in ("stage", "state"):
                        getattr(view, event.name)(event.data)
                if event.name == "state":
                    views[0]._console.print(watch_view._panel(event.data, gone=""))
        except UserError as error:
            _assert_harmless(str(error))
    _assert_harmless(out.getvalue())


_parts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["127.0.0.1", "[::1]", "a..b", ":", "@", "/", "?", "#", "\n", "%", "8080", "//"]
    ),
)
addresses: st.SearchStrategy[str] = st.builds(
    lambda scheme, parts: scheme + "".join(parts),
    st.sampled_from(["", "http://", "https://", "HTTP://", "ftp://", f"http://u:{PLANTED}@"]),
    st.lists(_parts, max_size=5),
)


def _take_apart(_: object, url: str) -> None:
    try:
        address = HttpAddress.of(url, "/readyz")
    except UserError as error:
        assert_hides(str(error))
    else:
        assert_hides(str(address))
        assert 0 < address.port < 65536 or address.port in (80, 443)
        assert address.path.startswith("/")


SUBJECTS = (
    Subject("answers to check and explain", answers, a_sayer, _ask),
    Subject("events for watch", streams, a_sayer, watch),
    Subject("URLs of services", addresses, contextlib.nullcontext, _take_apart),
)
