"""A thread that comes to ask a healthy server only when its attempt is nearly over."""

import socket
import time

import pytest

from orchestrator._probing.deadline_socket import DeadlineSocket
from orchestrator.redis import RedisProbe
from tests.redis_server import GREETED, FakeServer, commands

pytestmark = pytest.mark.anyio

_TIMEOUT_SECONDS, _HELD_SECONDS, _ANSWER_SECONDS = 0.3, 0.2, 0.15


def answering_slowly(client: socket.socket) -> None:
    for command in commands(client):
        if command[0] == b"PING":
            time.sleep(_ANSWER_SECONDS)
        client.sendall(GREETED.get(command[0], b"+PONG\r\n"))


@pytest.mark.parametrize("connected", [True, False])
async def test_an_attempt_that_left_the_server_little_time_does_not_count(
    connected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeServer(answering_slowly) as server:
        probe = RedisProbe(server.url)
        assert (await probe.attempt(10)).failure is None  # everything is loaded by now
        if not connected:
            await probe.aclose()
        sendall = DeadlineSocket.sendall

        def late(sock: DeadlineSocket, data: bytes) -> None:
            time.sleep(_HELD_SECONDS)  # as for a thread that waits for the interpreter
            sendall(sock, data)

        with monkeypatch.context() as held:
            held.setattr(DeadlineSocket, "sendall", late)
            result = await probe.attempt(_TIMEOUT_SECONDS)
        assert result.failure is None or result.void
        assert (await probe.attempt(10)).failure is None
        await probe.aclose()


async def test_a_server_that_had_its_time_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer(answering_slowly) as server:
        probe = RedisProbe(server.url)
        assert (await probe.attempt(10)).failure is None
        result = await probe.attempt(_ANSWER_SECONDS / 3)
        assert result.failure is not None
        assert not result.void
        await probe.aclose()
