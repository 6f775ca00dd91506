"""The probes of `orchestrator.checks` on real sockets, files and functions."""

import asyncio
import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.checks import call, file, http, tcp
from states import FailureKind
from tests.certificates import HAVE_OPENSSL
from tests.checks.checks_support import (
    asked,
    server,
    threads_of_checks,
    until_idle,
    until_parked,
    why,
)
from tests.redis_server import free_port

pytestmark = pytest.mark.anyio


# -- functions -------------------------------------------------------------------------------------


async def async_true() -> bool:
    return True


async def async_false() -> bool:
    return False


def leaves() -> None:
    raise SystemExit(3)


def divides() -> float:
    return 1 / 0


async def async_divides(by: int = 0) -> float:
    return 1 / by


def make_coroutine() -> object:
    return async_false()


async def async_gives_coroutine() -> object:
    return async_false()


@contextlib.asynccontextmanager
async def connection() -> AsyncIterator[int]:
    yield 1


@contextlib.contextmanager
def sync_connection() -> Iterator[int]:
    yield 1


class SaysNo:
    async def __call__(self) -> bool:
        return False


AWAITS = "give an async function, which awaits it"


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda: True, ""),
        (lambda: None, ""),
        (lambda: False, "it said no"),
        (divides, "it ended with ZeroDivisionError"),
        (leaves, "it ended with SystemExit"),
        (async_true, ""),
        (async_false, "it said no"),
        (async_divides, "it ended with ZeroDivisionError"),
        (SaysNo(), "it said no"),
        (make_coroutine, "it said no"),
        (lambda: async_divides(by=1), ""),
        (partial(make_coroutine), "it said no"),
        (lambda: async_divides(by=0), "it ended with ZeroDivisionError"),
        (async_gives_coroutine, f"it returned a coroutine; {AWAITS}"),
        (connection, "it returned a _AsyncGeneratorContextManager, which nothing enters; give"),
        (sync_connection, "it returned a _GeneratorContextManager, which nothing enters; give"),
        (Future, f"it returned a Future; {AWAITS}"),
        (lambda: (one for one in "rows"), f"it returned a generator; {AWAITS}"),
    ],
)
async def test_a_function_says_yes_or_no(function: Callable[[], object], reason: str) -> None:
    probe = call(function)
    for _ in range(2):
        said = await why(probe)
        assert said.startswith(reason)
        assert bool(said) is bool(reason)


async def test_what_a_late_function_returns_is_not_left_unawaited() -> None:
    await until_idle()
    let_go = threading.Event()

    def late() -> Awaitable[bool]:
        let_go.wait()
        return async_true()

    probe = call(late)
    try:
        assert (await why(probe, 0.05)).startswith("no answer within 0.05 s")
    finally:
        let_go.set()
    await until_parked(probe)
    assert await why(probe) == ""
    await probe.aclose()


async def test_what_a_function_returns_has_what_is_left_of_the_attempt() -> None:
    assert await why(call(lambda: anyio.sleep(60)), 0.2) == "no answer within 0.2 s"


async def test_a_function_that_hangs_costs_one_thread_and_delays_nobody() -> None:
    await until_idle()
    let_go = threading.Event()
    probe = call(let_go.wait)
    try:
        for _ in range(3):
            began_at = time.perf_counter()
            assert (await why(probe, 0.05)).startswith("no answer within 0.05 s")
            assert time.perf_counter() - began_at < 5
        assert len(threads_of_checks()) == 1
    finally:
        let_go.set()
    assert await why(probe) == ""
    assert len(threads_of_checks()) == 1
    await probe.aclose()
    await until_idle()


async def test_an_answer_that_comes_after_its_attempt_is_not_the_next_ones() -> None:
    answers, first, over = iter([True, False]), threading.Event(), threading.Event()

    def answer() -> bool:
        first.wait()
        over.set()
        return next(answers)

    probe = call(answer)
    try:
        assert (await why(probe, 0.05)).startswith("no answer within 0.05 s")
    finally:
        first.set()
    assert over.wait(30)
    await until_parked(probe)
    assert await why(probe) == "it said no"


@pytest.mark.parametrize("late", [True, False])
async def test_a_call_left_behind_answers_the_next_attempt_only_if_it_ends_well(late: bool) -> None:
    await until_idle()
    let_go, calls = threading.Event(), [late, True]

    def answer() -> bool:
        let_go.wait()
        return calls.pop(0)

    probe, said = call(answer), []

    async def ask_again() -> None:
        said.append(await why(probe))

    try:
        assert (await why(probe, 0.05)).startswith("no answer within 0.05 s")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask_again)
            await anyio.wait_all_tasks_blocked()
            let_go.set()
    finally:
        let_go.set()
    assert (said, calls) == ([""], [True] if late else [])


async def test_an_async_function_that_hangs_is_cancelled() -> None:
    cancelled = []

    async def hang() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)

    assert await why(call(hang), 0.05) == "no answer within 0.05 s"
    assert cancelled


# -- ports, files ----------------------------------------------------------------------------------


async def test_a_port_answers_or_says_why_not() -> None:
    with server(b"") as port:
        assert await why(tcp("127.0.0.1", port)) == ""
    gone = free_port()
    assert (
        await why(tcp("127.0.0.1", gone))
        == f"127.0.0.1:{gone} refused the connection: nothing listens there"
    )
    assert "name" in await why(tcp("no-such-host.invalid", 80))


async def test_a_file_must_be_there_and_new_enough(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    assert await why(file(path)) == f"{path} is not there"
    path.touch()
    assert await why(file(path)) == ""
    os.utime(path, (time.time() - 100, time.time() - 100))
    assert f"{path} is older than 10 s" in await why(file(path, newer_than_seconds=10))
    assert await why(file(path, newer_than_seconds=1000)) == ""


# -- HTTP ------------------------------------------------------------------------------------------


def response(status: int, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@pytest.mark.parametrize(
    ("answer", "reason", "kind"),
    [
        (response(204), "", None),
        (b"HTTP/1.1 103 X\r\nLink: </a>\r\n\r\n" + response(200), "", None),
        (2 * b"HTTP/1.1 102 X\r\n\r\n" + response(503), "answered 503", FailureKind.TRANSIENT),
        (response(101), "answered 101", FailureKind.TRANSIENT),
        (response(503), "answered 503", FailureKind.TRANSIENT),
        (response(301), "answered 301", FailureKind.TRANSIENT),
        (response(401), "answered 401", FailureKind.PERMANENT),
        (b"SSH-2.0-OpenSSH\r\n", "does not speak HTTP", FailureKind.PERMANENT),
        (b"\x15\x03\x03\0\x02\x02\x46", "expects TLS: write https://", FailureKind.PERMANENT),
        (b"", "", FailureKind.TRANSIENT),
    ],
)
async def test_an_http_service_answers_or_says_why_not(
    answer: bytes, reason: str, kind: FailureKind | None
) -> None:
    with server(answer) as port:
        failure = (await asked(http(f"http://127.0.0.1:{port}/health?token=hunter2"))).failure
    if kind is None:
        assert failure is None
    else:
        assert failure is not None
        assert reason in failure.reason
        assert "hunter2" not in failure.reason
        assert failure.kind is kind


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"checks": {"db": "up"}}', ""),
        (b'{"checks": {"db": "down"}}', "checks.db does not have the expected value"),
        (b'{"checks": []}', "checks.db does not have the expected value"),
        (b"hello", "did not answer with JSON"),
    ],
)
async def test_a_field_of_the_answer_can_decide(body: bytes, reason: str) -> None:
    with server(response(200, body)) as port:
        probe = http(f"http://127.0.0.1:{port}/", field=("checks.db", "up"))
        assert reason in await why(probe)


async def test_a_path_may_be_written_as_a_person_reads_it() -> None:
    with server(response(200)) as port:
        assert await why(http(f"http://127.0.0.1:{port}/zustände%20hier?für=äü")) == ""


@pytest.mark.parametrize(
    "wrong",
    [
        {"headers": {"X": "hunter2\r\nY: z"}},
        {"headers": {"X": "hunter2 \u20ac"}},
        {"headers": {"hunter2 \u20ac": "x"}},
        {"headers": {"X": None}},
        {"method": "h\u00fcnter2"},
    ],
)
async def test_what_cannot_be_sent_is_refused_at_once_and_not_shown(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be sent") as refused:
        http("http://127.0.0.1/", **wrong)
    assert "nter2" not in str(refused.value)


async def test_a_server_that_drips_ends_with_the_attempt() -> None:
    with server(response(200), response(200), hold=0.5) as port:
        probe = http(f"http://127.0.0.1:{port}/")
        assert "no answer" in await why(probe, 0.05)


@pytest.mark.skipif(not HAVE_OPENSSL, reason="needs the openssl program")
async def test_a_slow_tls_handshake_goes_on_where_an_attempt_left_it(certificates: Path) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    trusting = ssl.create_default_context(cafile=certificates / "ca.pem")
    let_go, accepted = threading.Event(), []

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted.append(listener.accept()[0])
                let_go.wait()
                with accepted[-1] as sock, serving.wrap_socket(sock, server_side=True) as secure:
                    secure.recv(65536)
                    secure.sendall(response(204))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        probe = http(f"https://127.0.0.1:{listener.getsockname()[1]}/", tls=trusting)
        try:
            for seconds in (1.0, 0.05, 0.05):  # the first gets as far as the handshake
                failure = (await asked(probe, seconds)).failure
                assert failure is not None
                assert failure.congestion
                assert f"did not finish the TLS handshake within {seconds:g} s" in failure.reason
            let_go.set()
            assert await why(probe) == ""
            assert len(accepted) == 1
            let_go.clear()
            assert "TLS handshake" in await why(probe, 1.0)
            await probe.aclose()
            await until_idle()
        finally:
            let_go.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


async def test_a_server_that_speaks_no_tls_is_told_apart() -> None:
    with server(response(400)) as port:
        assert "does not speak TLS: write http://" in await why(http(f"https://127.0.0.1:{port}/"))


@pytest.mark.parametrize(
    "url",
    ["", "billing", "ftp://x/", "http://", "http://u:hunter2@x/", "http://x:0/", "http://x y/"],
)
def test_a_url_that_cannot_be_asked_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match="url") as refused:
        http(url)
    assert "hunter2" not in str(refused.value)


def test_an_attempt_left_behind_does_not_hold_up_the_end_of_the_loop() -> None:
    let_go = threading.Event()
    probe = call(let_go.wait)
    began_at = time.perf_counter()
    asyncio.run(why(probe, 0.05))
    assert time.perf_counter() - began_at < 5
    let_go.set()
    asyncio.run(why(probe, 5))
