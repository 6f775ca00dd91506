"""Whose turn it is on a connection, and how long this process has kept the other side waiting."""

import socket
import sys
import time
from collections.abc import Iterator
from threading import Thread

import pytest

from orchestrator._probing import deadline_socket
from orchestrator._probing.deadline_socket import DeadlineSocket
from tests.faults.scenes import wait_until

_BIG = bytes(range(256)) * 64 * 1024  # more than the buffers of a connection hold


@pytest.fixture
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _address = listener.accept()
    with ours, theirs:
        yield ours, theirs


def test_time_before_a_question_is_our_own(
    connected: tuple[socket.socket, socket.socket],
) -> None:
    ours, _theirs = connected
    bounded = DeadlineSocket(ours, time.monotonic() + 0.2)
    time.sleep(0.12)
    bounded.sendall(b"question")
    with pytest.raises(TimeoutError):
        bounded.recv(100)
    assert bounded.held_seconds >= 0.12
    bounded.begin(time.monotonic() + 1)
    assert bounded.held_seconds < 0.12, "each attempt counts for itself"


def test_time_in_which_the_server_is_silent_is_its_own(
    connected: tuple[socket.socket, socket.socket],
) -> None:
    ours, _theirs = connected
    began_at = time.monotonic()
    bounded = DeadlineSocket(ours, began_at + 0.3)
    bounded.sendall(b"question")
    with pytest.raises(TimeoutError):
        bounded.recv(100)
    took_seconds = time.monotonic() - began_at
    assert bounded.held_seconds <= took_seconds - 0.2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when data came")
def test_time_in_which_an_answer_waits_for_us_is_our_own(
    connected: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = connected
    is_ready = deadline_socket._is_ready

    def seen_late(sock: socket.socket, seconds: float, *, writes: bool) -> bool:
        ready = is_ready(sock, seconds, writes=writes)
        time.sleep(0.15)  # as for a thread that waits for the interpreter
        return ready

    monkeypatch.setattr(deadline_socket, "_is_ready", seen_late)
    bounded = DeadlineSocket(ours, time.monotonic() + 5)
    theirs.sendall(b"answer")
    assert bounded.recv(100) == b"answer"
    assert bounded.held_seconds >= 0.14  # it is known to the millisecond


def test_a_server_that_takes_nothing_has_the_turn(
    connected: tuple[socket.socket, socket.socket],
) -> None:
    ours, _theirs = connected
    bounded = DeadlineSocket(ours, time.monotonic() + 0.5)
    errors: list[Exception] = []

    def send() -> None:
        try:
            bounded.sendall(_BIG)
        except TimeoutError as error:
            errors.append(error)

    sending = Thread(target=send)
    sending.start()
    wait_until(lambda: bounded.waits_since > 0)
    sending.join()
    assert len(errors) == 1
    assert bounded.waits_since == 0


def test_all_is_sent_in_order_to_a_server_that_takes_its_time(
    connected: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = connected
    bounded = DeadlineSocket(ours, time.monotonic() + 30)
    received = bytearray()

    def receive() -> None:
        while len(received) < len(_BIG):
            received.extend(theirs.recv(100_000))

    receiving = Thread(target=receive)
    receiving.start()
    bounded.sendall(_BIG)
    receiving.join()
    assert received == _BIG
