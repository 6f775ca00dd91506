"""What a probe asks on asyncio's event loop itself, and what it leaves to its thread."""

import asyncio
import gc
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import aclosing

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import uvloop

from orchestrator import Check, Orchestrator, Policy, Probe, Stage
from orchestrator._probing.blocking_probe import BlockingProbe
from orchestrator._probing.question import Question
from orchestrator._probing.worker import Worker
from orchestrator.checks import http, tcp
from orchestrator.redis import RedisProbe
from orchestrator.testing import ScriptedProbe
from tests.redis_server import FakeServer, RedisServer, closing, commands, free_port, silent

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
PATIENCE_SECONDS = 30.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": LOOPS[request.param]}


pytestmark = pytest.mark.anyio


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[Question]:
    """What the threads of all probes are asked."""
    asked: list[Question] = []
    submit = Worker.submit

    def noted(self: Worker, question: Question) -> None:  # type: ignore[type-arg]  # of any session
        asked.append(question)
        submit(self, question)

    monkeypatch.setattr(Worker, "submit", noted)
    return asked


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def told(*answers: bytes) -> Callable[[socket.socket], None]:
    """Each request on a connection gets the next answer."""

    def talk(client: socket.socket) -> None:
        for answer in answers:
            if not client.recv(4096):
                return
            client.sendall(answer)
        silent(client)

    return talk


def ponging(
    clients: list[socket.socket], swallows: int = 0, heard: threading.Event | None = None
) -> Callable[[socket.socket], None]:
    """A Redis that does not answer one PING, counted from 1."""

    def talk(client: socket.socket) -> None:
        clients.append(client)
        pings = 0
        for command in commands(client):
            pings += command == [b"PING"]
            if command != [b"PING"]:
                client.sendall(b"+OK\r\n")
            elif pings != swallows:
                client.sendall(b"+PONG\r\n")
            if heard is not None and command == [b"PING"]:
                heard.set()

    return talk


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while not condition():  # what is waited for happens in other threads
            await anyio.sleep(0.001)


async def succeeds(probe: Probe) -> float:
    result = await probe.attempt(PATIENCE_SECONDS)
    assert result.failure is None
    return result.latency_seconds


async def test_a_server_of_a_known_address_is_asked_without_a_thread(
    questions: list[Question],
) -> None:
    with FakeServer(told(OK)) as server:
        for probe in (tcp("127.0.0.1", server.port), http(f"http://127.0.0.1:{server.port}/")):
            async with aclosing(probe):
                for _ in range(3):
                    await succeeds(probe)
    assert not questions


async def test_an_open_connection_is_asked_without_the_thread(
    redis: RedisServer, questions: list[Question]
) -> None:
    async with aclosing(RedisProbe(redis.url)) as probe:
        for _ in range(4):
            await succeeds(probe)
    assert len(questions) == 1, "that has logged in"


@pytest.mark.parametrize("what", ["nobody", "503", "closed"])
async def test_a_failure_is_said_as_the_thread_says_it(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = closing if what == "closed" else told(b"HTTP/1.1 503 No\r\n\r\n")
    with FakeServer(talk) as server:
        port = free_port() if what == "nobody" else server.port
        said = []
        for here in (True, False):
            with monkeypatch.context() as patch:
                if not here:
                    patch.setattr(BlockingProbe, "_lent_steps", lambda _: None)
                async with aclosing(http(f"http://127.0.0.1:{port}/")) as probe:
                    said.append((await probe.attempt(PATIENCE_SECONDS)).failure)
    assert said[0] is not None
    assert said[0] == said[1]


async def test_a_slow_answer_is_left_to_the_thread_and_the_server_is_asked_once(
    questions: list[Question],
) -> None:
    asked = []

    def slow(client: socket.socket) -> None:
        asked.append(client.recv(4096))
        while not questions:
            time.sleep(0.001)
        client.sendall(OK)

    with FakeServer(slow) as server:
        async with aclosing(http(f"http://127.0.0.1:{server.port}/")) as probe:
            await succeeds(probe)
            assert (len(asked), len(questions)) == (1, 1)
            await succeeds(probe)
    assert len(asked) == 2
    assert len(questions) == 2, "one that was slow is asked by the thread, until it is quick again"


async def test_a_silent_server_has_the_whole_time_and_no_more() -> None:
    with FakeServer(silent) as server:
        async with aclosing(http(f"http://127.0.0.1:{server.port}/")) as probe:
            result = await probe.attempt(0.3)
    assert result.failure is not None
    assert "gave no answer within 0.3 s" in result.failure.reason
    assert result.latency_seconds > 0.25


async def test_an_answer_in_pieces_is_put_together(questions: list[Question]) -> None:
    def in_pieces(client: socket.socket) -> None:
        client.recv(4096)
        for number in range(len(OK)):
            client.sendall(OK[number : number + 1])

    with FakeServer(in_pieces) as server:
        async with aclosing(http(f"http://127.0.0.1:{server.port}/")) as probe:
            await succeeds(probe)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when data came")
@pytest.mark.parametrize("kind", ["http", "redis"])
async def test_a_blocked_event_loop_is_no_latency_of_the_server(kind: str) -> None:
    stall_seconds, said = 0.3, threading.Event()

    def talk(client: socket.socket) -> None:
        if kind == "redis":
            ponging([], heard=said)(client)
        elif client.recv(4096):
            client.sendall(OK)
            said.set()

    def stall() -> None:
        assert said.wait(PATIENCE_SECONDS)
        time.sleep(stall_seconds)

    with FakeServer(talk) as server:
        url = f"{kind}://127.0.0.1:{server.port}/" + ("?protocol=2" if kind == "redis" else "")
        async with aclosing(http(url) if kind == "http" else RedisProbe(url)) as probe:
            await succeeds(probe)
            said.clear()
            asyncio.get_running_loop().call_soon(stall)
            result = await probe.attempt(PATIENCE_SECONDS)
    assert result.failure is None
    assert result.loop_lag_seconds > 0.8 * stall_seconds
    whole_seconds = result.loop_lag_seconds + result.latency_seconds
    assert result.latency_seconds < 0.5 * whole_seconds


async def test_a_loss_is_noticed_after_many_attempts_too() -> None:
    clients: list[socket.socket] = []
    with FakeServer(ponging(clients)) as server:
        probe = RedisProbe(f"redis://127.0.0.1:{server.port}?protocol=2")
        async with aclosing(probe):
            for _ in range(3):
                await succeeds(probe)
            for number in range(2):
                seen = anyio.Event()
                end = probe.watch(seen.set)
                assert end is not None
                if number == 0:
                    end()
                    await succeeds(probe)
                    assert not seen.is_set(), "an answer is no change"
                else:
                    clients[-1].shutdown(socket.SHUT_RDWR)
                    with anyio.fail_after(PATIENCE_SECONDS):
                        await seen.wait()


async def test_a_steady_check_sees_its_connection_end_at_once(redis: RedisServer) -> None:
    probe = RedisProbe(redis.url)
    check = Check("it", probe, interval_seconds=0.5)
    policy = Policy(grace_seconds=0)
    async with Orchestrator(ScriptedProbe(), policy=policy, conditions=[check]) as startup:
        await startup.wait_for(Stage.READY, timeout_seconds=PATIENCE_SECONDS)
        await until(lambda: probe._asker._handle)  # a steady attempt was made
        redis.stop()
        with anyio.fail_after(PATIENCE_SECONDS):
            await startup.wait_for(Stage.DEGRADED)


async def test_an_attempt_that_is_cancelled_leaves_half_a_question_to_nobody() -> None:
    heard = threading.Event()
    with FakeServer(ponging([], swallows=2, heard=heard)) as server:
        async with aclosing(RedisProbe(f"redis://127.0.0.1:{server.port}?protocol=2")) as probe:
            await succeeds(probe)
            heard.clear()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(probe.attempt, PATIENCE_SECONDS)
                while not heard.is_set():
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            assert not probe._worker.busy
            await succeeds(probe)
            server.wait_until_accepted(2)


async def test_what_another_loop_asks_meanwhile_waits_its_turn(redis: RedisServer) -> None:
    async with aclosing(RedisProbe(redis.url)) as probe:
        await succeeds(probe)
        session = probe._worker.lend()
        assert session is not None
        assert probe._worker.lend() is None
        outcomes: list[float] = []
        thread = threading.Thread(
            target=lambda: outcomes.append(asyncio.run(succeeds(probe))),
        )
        thread.start()
        await until(lambda: probe._worker._waiting)
        assert not outcomes
        probe._worker.take_back()
        await until(lambda: outcomes)
        thread.join()


async def test_a_probe_that_is_dropped_leaves_nothing_in_the_event_loop(
    redis: RedisServer,
) -> None:
    probe = RedisProbe(redis.url)
    for _ in range(3):
        await succeeds(probe)
    asker, gone = probe._asker, weakref.ref(probe)
    assert asker._handle is not None
    handle = asker._handle
    del probe
    gc.collect()
    assert gone() is None
    await until(lambda: handle.fileno() < 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
async def test_a_fork_leaves_the_parent_s_watching_as_it_is() -> None:
    clients: list[socket.socket] = []
    with FakeServer(ponging(clients)) as server:
        probe = RedisProbe(f"redis://127.0.0.1:{server.port}?protocol=2")
        async with aclosing(probe):
            for _ in range(2):
                await succeeds(probe)
            seen = anyio.Event()
            assert probe.watch(seen.set) is not None
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    probe._let_go()
                    status = 0
                finally:
                    os._exit(status)
            _, status = await anyio.to_thread.run_sync(os.waitpid, child, 0)
            assert status == 0
            clients[0].shutdown(socket.SHUT_RDWR)
            with anyio.fail_after(PATIENCE_SECONDS):
                await seen.wait()
