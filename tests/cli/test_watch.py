"""`check`, `explain` and `watch`: a real service under uvicorn, and fakes that misbehave."""

import asyncio
import contextlib
import inspect
import io
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console
from starlette.applications import Starlette

from orchestrator import ConditionSpec, Orchestrator, Stage
from orchestrator.asgi import health_app, lifespan
from orchestrator.cli import main
from orchestrator.cli.policy.numbers import HOLD_SECONDS
from orchestrator.cli.query import watch, watch_view
from orchestrator.cli.query.command import explain
from orchestrator.cli.query.watch_view import WatchLines
from orchestrator.redis import RedisProbe
from orchestrator.web import web_app
from tests.asgi.gate_support import serving
from tests.cli.cli_support import (
    ROOT,
    a_command,
    environment,
    finished,
    in_a_terminal,
    words,
)
from tests.redis_server import FakeServer, RedisServer, closing, free_port, silent


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    """Read a request, say this, and close."""

    def talk(sock: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += sock.recv(4096)
        sock.sendall(answer)

    return talk


def http_answer(status: int, body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.fixture(autouse=True)
def a_proxy_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks it: a health check asks the service."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")


# -- check ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (http_answer(200, b'{"status":"pass","stage":"ready"}'), 0, "pass (200, ready)"),
        (http_answer(200, b'{"status":"warn","stage":"degraded"}'), 0, "warn (200, degraded)"),
        (http_answer(200, b"ok", "text/plain"), 0, "pass (200)"),
        (http_answer(204, b""), 0, "pass (204)"),
        (http_answer(200, b'{"status":"fail"}'), 1, "fail (200)"),
        (
            http_answer(503, b'{"status":"fail","stage":"grace"}'),
            1,
            "fail (503, grace, waits for: grace to be served, or a required condition to hold)",
        ),
        (http_answer(404, b"no"), 1, "fail (404)"),
        (http_answer(302, b""), 1, "fail (302)"),
    ],
)
def test_check_is_the_answer_as_an_exit_status(
    answer: bytes, status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeServer(answering(answer)) as server:
        assert main(["check", f"127.0.0.1:{server.port}", "--timeout", "10"]) == status
        assert capsys.readouterr().out == f"{says}\n"
        assert main(["check", "-q", f"http://127.0.0.1:{server.port}/livez"]) == status
        assert capsys.readouterr().out == ""
        assert main(["check", "--json", f"http://127.0.0.1:{server.port}/livez"]) == status
        told = json.loads(capsys.readouterr().out)
        assert (told["exit_status"], told["http_status"]) == (status, int(answer[9:12]))


def dripping(sock: socket.socket) -> None:
    """An answer that never ends, a byte at a time: each byte begins a socket's time anew."""
    with contextlib.suppress(OSError):
        sock.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            sock.sendall(b"x")
            time.sleep(0.02)


@pytest.mark.parametrize(
    ("talk", "says"),
    [
        (silent, "no answer within 0.3 s"),
        (dripping, "no answer within 0.3 s"),
        (closing, "the connection was closed without an HTTP answer"),
        (answering(b"SSH-2.0-x\r\n"), "the connection was closed without an HTTP answer"),
    ],
)
def test_what_is_no_service_is_unreachable(
    talk: Callable[[socket.socket], None], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeServer(talk) as server:
        url = f"http://127.0.0.1:{server.port}/readyz"
        began_at = time.monotonic()
        limit = "0.3" if "0.3" in says else "10"
        assert main(["check", url, "--timeout", limit]) == 2
        assert time.monotonic() - began_at < 5
    assert capsys.readouterr().err == f"startup-orchestrator: {url}: {says}\n"


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    says = "the connection was refused: nothing listens there"
    for command in ("check", "explain"):
        assert main([command, f"127.0.0.1:{port}"]) == 2
        assert says in capsys.readouterr().err
        assert main([command, "--json", f"127.0.0.1:{port}"]) == 2
        printed = capsys.readouterr()
        told = json.loads(printed.out)
        assert (told["exit_status"], printed.err) == (2, "")
        assert says in told["error"]
    assert main(["check", "-q", f"127.0.0.1:{port}"]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_ctrl_c_ends_it_by_its_signal() -> None:
    asked = threading.Event()

    def talk(sock: socket.socket) -> None:
        sock.recv(4096)
        asked.set()
        silent(sock)

    with (
        FakeServer(talk) as server,
        a_command("check", "--timeout", "60", f"127.0.0.1:{server.port}") as process,
    ):
        assert asked.wait(30)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == -signal.SIGINT
        assert process.stderr is not None
        assert process.stderr.read().strip() == ""


@pytest.mark.parametrize("command", ["check", "explain", "watch"])
@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://me:hunter2@x/", "http://x:nan", "["])
def test_a_wrong_url_is_one_line(
    command: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, url]) == 2
    error = capsys.readouterr().err
    assert "the URL must be like" in error
    assert "hunter2" not in error
    assert error.count("\n") == 1


def test_other_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, says in {
        ("check", "x", "--timeout", "0"): "--timeout is 0; it must be a number above 0",
        ("check", "8080"): "8080 alone is not a URL; a port is given as 127.0.0.1:8080",
        ("check",): "Missing argument 'URL'. (startup-orchestrator check --help says more)",
        ("wait", "--redis", ""): "--redis is empty",
        ("watch", "x", "--until", "tea"): "--until is tea; it must be one of booting, ",
        ("wait", "--timeout", "0"): "--timeout is 0; it must be a number above 0",
        ("wait", "--timeout", "nan"): "--timeout is nan; it must be a number above 0",
        ("wait", "--redis", "http://:hunter2@x"): "--redis: the Redis URL must begin with redis://",
        ("run",): "run needs a command",
        ("run", "--port", "-1", "true"): "--port is -1; it must be from 0 to 65535",
        ("run", "--start", "later", "true"): "--start is later; it must be when-ready or at-once",
    }.items():
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
        assert "hunter2" not in error


@pytest.mark.parametrize("variable", ["REDIS_URL", "ORCHESTRATOR_REDIS_URL"])
@pytest.mark.parametrize("place", [":hunter2#@x", ":hunter2/@x", "x?db=hunter2", "x:1,y:2"])
def test_a_url_that_cannot_be_used_is_said_to_be_that_of_its_variable(
    variable: str, place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f"redis://{place}")
    assert main(("wait", "--timeout", "1")) == 2
    error = capsys.readouterr().err
    assert f"{variable}: the Redis URL" in error
    assert "--redis" not in error
    assert "hunter2" not in error


LOADED = """
import sys
from orchestrator.cli import main
from orchestrator.cli.query import watch, watch_view
from orchestrator.cli.query.command import explain
from orchestrator.cli.policy.numbers import HOLD_SECONDS
main(["check", sys.argv[1]])
print(sorted({"rich", "redis", "starlette", "uvicorn", "opentelemetry"} & set(sys.modules)))
"""


def test_a_check_loads_only_what_it_needs() -> None:
    with FakeServer(answering(http_answer(200, b"ok"))) as server:
        done = subprocess.run(
            [sys.executable, "-c", LOADED, f"127.0.0.1:{server.port}"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment(),
            check=True,
        )
    assert done.stdout == "pass (200)\n[]\n"


# -- explain and watch, on fakes ------------------------------------------------------------------


def test_a_service_without_a_status_page_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer(answering(http_answer(404, b"nothing"))) as server:
        base = f"http://127.0.0.1:{server.port}"
        assert main(["explain", base]) == 2
        assert "does the application mount web_app(startup)" in capsys.readouterr().err
        assert main(["watch", base]) == 2
        error = capsys.readouterr().err
        assert f"{base}/startup/events answered 404 and no event stream" in error
        assert "does the application mount web_app(startup)" in error


CLOSED = b'{"title":"Service Unavailable","detail":"The service is starting."}'
CROWDED = b'{"title":"Service Unavailable","detail":"Too many are watching already."}'


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (CLOSED, "is it behind the gate? Then let it pass with bypass="),
        (b"", "is it behind the gate? Then let it pass with bypass="),
        (CROWDED, "too many are watching already"),
    ],
)
def test_a_closed_gate_is_told_from_too_many_watchers(
    body: bytes, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeServer(answering(http_answer(503, body))) as server:
        assert main(["watch", f"127.0.0.1:{server.port}", "--timeout", "0.3"]) == 124
    printed = capsys.readouterr()
    assert f"/startup/events answered 503: {says}" in " ".join(printed.out.split())
    wanted = "startup-orchestrator: the time is up after 0.3 s: there was no answer\n"
    assert printed.err == wanted


def test_a_gate_that_holds_is_waited_for() -> None:
    assert inspect.signature(explain).parameters["timeout"].default > HOLD_SECONDS
    assert watch._SILENCE_SECONDS > HOLD_SECONDS


def test_a_stage_that_was_not_reached_in_time_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    def talk(sock: socket.socket) -> None:
        answering(STREAM + event("state", stage="grace"))(sock)
        silent(sock)

    with FakeServer(talk) as server:
        url = f"127.0.0.1:{server.port}"
        assert main(["watch", url, "--until", "ready", "--json", "--timeout", "0.5"]) == 124
    wanted = "startup-orchestrator: ready was not reached after 0.5 s: the stage is grace\n"
    assert capsys.readouterr().err == wanted


@pytest.mark.parametrize(("in_row", "marked"), [(0, True), (2, False)])
def test_an_old_failure_is_marked(in_row: int, marked: bool) -> None:
    told: dict[str, object] = {"stage": "ready", "since_seconds": 1.0, "failures_in_row": in_row}
    told["last_failure"] = {"reason": "it refused"}
    shown = io.StringIO()
    Console(file=shown, width=80).print(watch_view._panel(told, gone=""))
    assert ("it refused (last time)" in shown.getvalue()) == marked


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def event(name: str, **data: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def stage(sequence: int, previous: str, current: str, at: float = 1.5) -> bytes:
    return event(
        "stage",
        sequence=sequence,
        previous=previous,
        current=current,
        cause="because",
        at_unix_seconds=at,
        elapsed_seconds=0.25,
    )


def test_a_stream_that_breaks_off_is_taken_up_again_and_tells_nothing_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = stage(1, "booting", "probing_redis") + event("state", stage="probing_redis")
    both = first + b": a comment\nid: 7\nevent: unknown\ndata: {}\n\ndata: no JSON\n\n"
    both += stage(2, "probing_redis", "grace") + stage(3, "grace", "ready", at=2.0)
    streams = [first + b"event: stage\ndata: {", b"", both]

    def talk(sock: socket.socket) -> None:
        answering(STREAM + streams.pop(0) if len(streams) > 1 else STREAM + streams[0])(sock)

    with FakeServer(talk) as server:
        base = f"http://127.0.0.1:{server.port}/startup/"
        assert main(["watch", base, "--until", "ready", "--timeout", "20"]) == 0
    lines = [
        re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in capsys.readouterr().out.splitlines()
    ]
    assert [line for line in lines if " -> " in line] == [
        "booting -> probing_redis after 0.250 s: because",
        "probing_redis -> grace after 0.250 s: because",
        "grace -> ready after 0.250 s: because",
    ]
    assert any("trying again" in line for line in lines)


_NESTED = b"[" * 30_000 + b"]" * 30_000

ODD_EVENTS = {
    "a line without end": b"data: " + b"x" * 200_000,
    "an event without end": b"data: x\n" * 20_000,
    "no JSON": b"event: state\ndata: {\n\n",
    "no object": b"event: state\ndata: []\n\n",
    "nested without end": b'event: state\ndata: {"stage":' + _NESTED + b"}\n\n",
    "nested in what is not shown": b'event: state\ndata: {"stage":"ready","a":%b}\n\n'
    % (b"[" * 50 + b"]" * 50),
    "no stage": b"event: state\ndata: {}\n\n",
    "a stage of the wrong type": b'event: state\ndata: {"stage":{"a":1}}\n\n',
    "a change to nothing": b'event: stage\ndata: {"current":null}\n\n',
    "a number of too many digits": b'event: state\ndata: {"stage":"grace","a":%b}\n\n'
    % (b"9" * 5000),
    "no number": b'event: state\ndata: {"stage":"grace","since_seconds":NaN}\n\n',
}


@pytest.mark.parametrize("stream", ODD_EVENTS.values(), ids=ODD_EVENTS)
def test_a_stream_that_is_no_status_page_s_ends_it_with_one_line(
    stream: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeServer(answering(STREAM + stream)) as server:
        assert main(["watch", f"127.0.0.1:{server.port}", "--timeout", "20"]) == 2
    error = capsys.readouterr().err
    assert "sent an event that is not from a status page" in error
    assert error.count("\n") == 1


ODD_VALUES = {
    "no number of seconds": {"since_seconds": "long", "stage_seconds": {"grace": []}},
    "a number beyond all": {"since_seconds": 10**300, "at_unix_seconds": 10**300},
    "a date beyond every calendar": {"at_unix_seconds": 1e11, "loop_lag_seconds": 1e11},
    "truths for numbers": {"since_seconds": True, "attempts": None, "sequence": [1]},
    "lists for objects": {"conditions": ["a"], "last_failure": [1], "stage_seconds": [2]},
    "objects for lists": {"waits_for": {"a": 1}, "conditions": {"a": 5}, "cause": {"b": 1}},
    "conditions of odd fields": {
        "conditions": {"a": {"satisfied": "x", "since_seconds": [], "reason": {"a": "b"}}}
    },
    "nulls": dict.fromkeys(("since_seconds", "waits_for", "conditions", "cause", "ended")),
}


@pytest.mark.parametrize("told", ODD_VALUES.values(), ids=ODD_VALUES)
def test_values_of_the_wrong_type_are_shown_as_well_as_can_be(
    told: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    changed = json.dumps({"current": "grace", "previous": "booting", **told}).encode()
    state = json.dumps({"stage": "grace", **told}).encode()
    stream = b"event: stage\ndata: %b\n\nevent: state\ndata: %b\n\n" % (changed, state)
    with FakeServer(answering(STREAM + stream)) as server:
        url = f"127.0.0.1:{server.port}"
        assert main(["watch", url, "--until", "grace", "--timeout", "20"]) == 0
    with FakeServer(answering(http_answer(200, state))) as server:
        assert main(["explain", f"127.0.0.1:{server.port}"]) == 0
    for line in io.StringIO(_watched_in_a_terminal(state)):
        assert line.rstrip("\n").isprintable()
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "Traceback" not in captured.out


def _watched_in_a_terminal(state: bytes) -> str:
    console = Console(file=io.StringIO(), width=200, no_color=True)
    console.print(watch_view._panel(json.loads(state), gone=""))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


ODD_HEALTH = {
    "nested without end": b'{"status":"pass","a":' + _NESTED + b"}",
    "arrays without end": _NESTED,
    "a megabyte": b'{"status":"pass","a":"' + b"x" * 2_000_000 + b'"}',
    "a status of the wrong type": b'{"status":["pass"]}',
    "no status": b'{"status":null}',
    "half of it": b'{"status":"pass"',
    "no number": b'{"status":"pass","a":NaN}',
    "a number beyond all": b'{"status":"pass","a":1e999}',
    "no UTF-8": b'{"status":"pass","a":"\xff"}',
}


@pytest.mark.parametrize("body", ODD_HEALTH.values(), ids=ODD_HEALTH)
def test_json_that_makes_no_sense_is_no_answer(
    body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeServer(answering(http_answer(200, body))) as server:
        for command in ("check", "explain"):
            assert main([command, f"127.0.0.1:{server.port}", "--timeout", "20"]) == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1
            assert "Traceback" not in error


EVIL = "\x1b[2J\x1b]0;owned\x07\x1b]52;c;ZXZpbA==\x07\x9b31m\nready -> degraded: FORGED\u202e\x7f"


def test_nothing_that_a_service_says_reaches_the_terminal_as_it_is(
    capfd: pytest.CaptureFixture[str],
) -> None:
    failure = {"kind": EVIL, "error_type": EVIL, "reason": EVIL}
    condition = {"required": True, "satisfied": False, "reason": EVIL, "since_seconds": 1}
    known: dict[str, object] = {"stage": EVIL, "waits_for": [EVIL], "attempts": EVIL, "ended": EVIL}
    known |= {"conditions": {EVIL: condition}, "last_failure": failure, "output": EVIL}
    known |= {"stage_seconds": {EVIL: 1.0}, "failures_in_row": EVIL, "status": "pass"}
    state = json.dumps(known).encode()
    changed = json.dumps({"previous": EVIL, "current": EVIL, "cause": EVIL}).encode()
    stream = b"event: stage\ndata: %b\n\nevent: state\ndata: %b\n\n" % (changed, state)
    with FakeServer(answering(http_answer(200, state))) as server:
        for arguments in (["explain"], ["explain", "--json"], ["check"], ["check", "--json"]):
            assert main([*arguments, f"127.0.0.1:{server.port}", "--timeout", "20"]) == 0
    with FakeServer(answering(STREAM + stream)) as server:
        for arguments in (["watch"], ["watch", "--json"]):
            main([*arguments, f"127.0.0.1:{server.port}", "--timeout", "0.5"])
    out, err = capfd.readouterr()
    shown_in_a_terminal = _watched_in_a_terminal(state)
    for line in [*out.splitlines(), *err.splitlines(), *shown_in_a_terminal.splitlines()]:
        assert line.isprintable(), repr(line)
        assert not line.startswith("ready ->")
    assert "FORGED" in out


def test_a_terminal_that_knows_few_letters_gets_escapes_for_the_rest() -> None:
    body = b'{"stage":"grace","waits_for":["\\u66f4 \\udcff \\u0394"]}'
    with FakeServer(answering(http_answer(200, body))) as server:
        done = finished("explain", f"127.0.0.1:{server.port}", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"waits for: \u66f4 \udcff \u0394" in done.stdout


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    numbers = itertools.count(1)  # each connection has news, so that there is always more to print

    def talk(sock: socket.socket) -> None:
        answering(STREAM + stage(next(numbers), "grace", "ready"))(sock)

    with FakeServer(talk) as server, a_command("watch", f"127.0.0.1:{server.port}") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=30) == 128 + signal.SIGPIPE
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_signal_that_comes_again_and_again_leaves_the_terminal_as_it_was() -> None:
    number = signal.SIGTERM
    state = event("state", stage="ready", since_seconds=1.0, attempts=3, failures_in_row=0)

    def talk(sock: socket.socket) -> None:
        answering(STREAM + state)(sock)
        silent(sock)

    with FakeServer(talk) as server:
        ours, its = os.openpty()
        with subprocess.Popen(
            words("watch", f"127.0.0.1:{server.port}"),
            stdout=its,
            cwd=ROOT,
            env=environment(TERM="xterm-256color"),
        ) as process:
            os.close(its)
            shown = b""
            with contextlib.suppress(OSError):  # the other side's end reads as an error (EIO)
                while part := os.read(ours, 65536):
                    shown += part
                    if b"waits for" in shown and process.poll() is None:
                        process.send_signal(number)  # again and again, until it obeys
            assert process.wait(30) == -number
        os.close(ours)
    assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h") == 1


def test_ctrl_c_leaves_no_trace_in_a_terminal() -> None:
    """Neither `^C`, which would push a panel out of its place, nor a hidden cursor."""
    state = event("state", stage="ready", since_seconds=1.0, attempts=3, failures_in_row=0)

    def talk(sock: socket.socket) -> None:
        answering(STREAM + state)(sock)
        silent(sock)

    with FakeServer(talk) as server:
        watching = words("watch", f"127.0.0.1:{server.port}")
        waiting = words("wait", "--redis", f"redis://127.0.0.1:{free_port()}")
        for command, text in ((watching, "waits for"), (waiting, "attempt")):
            with in_a_terminal(*command, TERM="xterm-256color") as terminal:
                terminal.until(text)
                terminal.type("\x03")
                assert terminal.to_the_end() == -signal.SIGINT
                assert "^C" not in terminal.shown
                assert "Traceback" not in terminal.shown
                shows, hides = (terminal.shown.count(f"\x1b[?25{one}") for one in "hl")
                assert shows == hides == 1


# -- on a real service ----------------------------------------------------------------------------


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


@pytest.mark.anyio
async def test_a_real_start_and_a_real_outage_are_watched(redis_server: RedisServer) -> None:
    conditions: list[str | ConditionSpec] = ["listener", ConditionSpec("cache", required=False)]
    startup = Orchestrator(RedisProbe(redis_server.url), conditions=conditions)
    page = web_app(startup)
    app = Starlette(lifespan=lifespan(startup))
    app.mount("/startup", page)
    app.mount("/health", health_app(startup, details=True))

    async def told(*arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(finished, *arguments)

    async with serving(app) as port:
        base = f"http://127.0.0.1:{port}"
        explained = await told("explain", base)
        assert explained.returncode == 0
        assert explained.stdout.startswith("probing_redis for ")
        for line in (
            "waits for: Redis to answer",
            "waits for: condition listener",
            "condition cache does not hold, for ",
            "start-up budget left: ",
        ):
            assert line in explained.stdout
        failing = await told("check", f"{base}/health/readyz")
        assert failing.returncode == 1
        assert "waits for: Redis to answer; condition listener" in failing.stdout

        watching = asyncio.create_task(told("watch", base, "--until", "ready", "--timeout", "25"))
        degraded = asyncio.create_task(
            told("watch", base, "--until", "degraded", "--json", "--timeout", "25")
        )
        await asyncio.to_thread(redis_server.start)
        startup.condition("listener").set(True)
        watched = await watching
        assert watched.returncode == 0, watched.stderr
        assert re.search(r"grace -> ready after .* s: ", watched.stdout)
        # The optional condition does not hold yet.
        assert (await told("check", f"{base}/health/readyz")).stdout == "warn (200, ready)\n"
        redis_server.kill()
        outage = await degraded
        assert outage.returncode == 0, outage.stderr
        events = [json.loads(line) for line in outage.stdout.splitlines()]
        stages = [one["data"]["current"] for one in events if one["event"] == "stage"]
        assert stages[-2:] == ["ready", "degraded"]
        assert startup.stage is Stage.DEGRADED
        assert json.loads((await told("explain", base, "--json")).stdout)["stage"] == "degraded"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn runs on nothing else


def test_a_drain_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    view = WatchLines()
    for draining in ("", "SIGTERM, 0.1 s ago; it is over", "SIGTERM, 1.1 s ago; it is over", ""):
        view.state({"draining": draining})
    view.state({})  # of a service that knows of no drain
    assert capsys.readouterr().out == "draining: SIGTERM, 0.1 s ago; it is over\n"
