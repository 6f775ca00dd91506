"""A probe of something that is no Redis: what `orchestrator._probing` is enough for."""

import math
import socket
import time
from functools import partial
from threading import Event

import anyio
import pytest

from orchestrator import Orchestrator, Policy, Stage
from orchestrator._probing.blocking_probe import BlockingProbe
from orchestrator._probing.interruption import InterruptedByUs, Interruption
from orchestrator._probing.question import Answer, IfLate
from states import Failure, FailureKind
from tests.redis_server import FakeServer, silent

pytestmark = pytest.mark.anyio

GREETING = b"10.11.4\n"


class GreetingSession:
    """Takes the first bytes that a server sends for an answer, as a server of MySQL sends them."""

    is_endless = False
    waits_since = math.inf
    held_seconds = 0.0

    def __init__(self, port: int) -> None:
        self.interruption = Interruption()
        self.accepted_at = 0.0
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, deadline: float, timeout_seconds: float, patience_seconds: float) -> Answer:
        """Connect, unless that was done, and read what comes."""
        if self._socket is not None:
            return Answer(None)
        sock = socket.socket()
        try:
            self.interruption.adopt(sock)
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
            sock.connect(("127.0.0.1", self._port))
            if sock.recv(100) == GREETING:
                self._socket = sock
                return Answer(None)
        except TimeoutError:
            failure = Answer(self.timed_out(timeout_seconds), IfLate.SAYS_NOTHING)
        except (OSError, InterruptedByUs) as error:
            failure = Answer(Failure(FailureKind.TRANSIENT, type(error).__name__, "not there"))
        else:
            failure = Answer(Failure(FailureKind.PERMANENT, "NoGreeting", "something else"))
        self.interruption.forget()
        sock.close()
        return failure

    def timed_out(self, timeout_seconds: float) -> Failure:
        """What is missing."""
        return Failure(FailureKind.TRANSIENT, "TimeoutError", f"nothing in {timeout_seconds} s")

    def close(self) -> None:
        """Let go of the socket."""
        self.interruption.forget()
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def abandon(self) -> None:
        """Close the descriptors and nothing else: after a fork the connection is the parent's."""
        self.interruption.abandon()
        if self._socket is not None:
            self._socket.close()


async def test_an_orchestrator_is_ready_when_another_server_answers() -> None:
    may_greet = Event()

    def greet(client: socket.socket) -> None:
        if may_greet.is_set():
            client.sendall(GREETING)
        silent(client)

    with FakeServer(greet) as server:
        probe = BlockingProbe(partial(GreetingSession, server.port), "greeting-probe")
        result = await probe.attempt(0.05)
        assert result.failure is not None
        assert result.failure.error_type == "TimeoutError"
        with anyio.move_on_after(0.05) as scope:
            await probe.attempt(30)
        assert scope.cancelled_caught, "the thread is interrupted, and delays nothing"
        may_greet.set()
        policy = Policy(grace_seconds=0.0, retry_first_seconds=0.01)
        async with Orchestrator(probe, policy=policy) as startup:
            await startup.wait_for(Stage.READY, timeout_seconds=20)


class RaisingSession(GreetingSession):
    def ask(self, deadline: float, timeout_seconds: float, patience_seconds: float) -> Answer:
        raise LookupError("hunter2")


async def test_a_session_that_raises_has_failed_and_is_asked_again() -> None:
    probe = BlockingProbe(partial(RaisingSession, 1), "raising-probe")
    for _ in range(2):
        result = await probe.attempt(5)
        assert result.failure is not None
        assert result.failure.reason == "the probe itself gave LookupError"
    await probe.aclose()
