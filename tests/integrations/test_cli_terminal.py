"""`run` in a terminal: whose signals are whose, and whose turn it is."""

import http.client
import re
import shutil
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.integrations.cli_support import (
    PATIENCE_SECONDS,
    InTerminal,
    in_a_terminal,
    words,
)
from tests.redis_server import RedisServer

NOTES = """
import signal, sys
def note(number, _):
    print("got", signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM:
        sys.exit(3)
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGCONT, signal.SIGTERM):
    signal.signal(number, note)
print("listens", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def run_words(server: RedisServer, *command: str) -> list[str]:
    health = ("--port", "0", "--host", "127.0.0.1")
    return words("run", *health, "--redis", server.url, "--", *command)


def readiness(terminal: InTerminal) -> int:
    port = re.search(r"health endpoints on port (\d+)", terminal.shown)
    assert port is not None
    connection = http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=PATIENCE_SECONDS)
    connection.request("GET", "/readyz")
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_a_signal_from_elsewhere_goes_to_cmd(number: signal.Signals, server: RedisServer) -> None:
    with in_a_terminal(*run_words(server, sys.executable, "-c", NOTES)) as terminal:
        terminal.until("listens\r\n")
        terminal.process.send_signal(number)
        terminal.until(f"got {number.name}\r\n")
        # To be read anew is no end: it stays ready.
        assert readiness(terminal) == (200 if number == signal.SIGHUP else 503)
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(PATIENCE_SECONDS) == 3


def test_the_keys_go_to_cmd_once_and_leave_it_ready(server: RedisServer) -> None:
    with in_a_terminal(*run_words(server, sys.executable, "-c", NOTES)) as terminal:
        terminal.until("listens\r\n")
        terminal.type("\x03")
        terminal.until("got SIGINT\r\n")
        assert readiness(terminal) == 200  # CMD goes on: it has chosen not to end
        terminal.process.send_signal(signal.SIGTERM)
        terminal.until("got SIGTERM\r\n")
        assert terminal.process.wait(PATIENCE_SECONDS) == 3
        assert terminal.shown.count("got SIGINT") == 1


def test_cmd_reads_what_is_typed(server: RedisServer) -> None:
    program = "print('read', input('say: '), flush=True)"
    with in_a_terminal(*run_words(server, sys.executable, "-c", program)) as terminal:
        terminal.until("say: ")
        terminal.type("hello\n")
        terminal.until("read hello\r\n")
        assert terminal.process.wait(PATIENCE_SECONDS) == 0


def test_where_no_shell_can_continue_it_cmd_is_not_left_stopped(server: RedisServer) -> None:
    with in_a_terminal(*run_words(server, sys.executable, "-c", NOTES)) as terminal:
        terminal.until("listens\r\n")
        terminal.until("started")
        shown = terminal.shown.count("got SIGCONT")
        terminal.type("\x1a")
        terminal.until("got SIGCONT\r\n" * (shown + 1))


@pytest.mark.skipif(shutil.which("bash") is None, reason="its job control is what is tested")
def test_a_shell_stops_and_continues_it_and_has_its_terminal_back(server: RedisServer) -> None:
    shell = ("bash", "--norc", "--noprofile", "--noediting", "-i")
    with in_a_terminal(shutil.which("bash") or "", *shell[1:], PS1="$ ") as terminal:
        terminal.until("$ ")
        program = 'echo liste"ns"; read line; echo "r"ead $line'
        terminal.type(" ".join(f"'{one}'" for one in run_words(server, "sh", "-c", program)) + "\n")
        terminal.until("listens\r\n")
        terminal.type("\x1a")
        terminal.until("Stopped")
        # What is typed for a program that is not in the foreground yet waits for it.
        terminal.type("fg\n")
        terminal.type("hello\n")
        terminal.until("read hello\r\n")
        terminal.type("echo status=$?\n")
        terminal.until("status=0")


def test_a_script_has_the_terminal_back(server: RedisServer) -> None:
    command = " ".join(f"'{one}'" for one in run_words(server, "true"))
    script = f'{command}; read line; echo "r"ead $line'
    with in_a_terminal("/bin/sh", "-c", script) as terminal:
        terminal.until("has ended")
        terminal.type("hello\n")
        terminal.until("read hello\r\n")


def test_what_ends_the_waiting_is_said(server: RedisServer) -> None:
    server.kill()
    with in_a_terminal(*run_words(server, "true")) as terminal:
        terminal.until("-> probing_redis")
        terminal.type("\x03")
        terminal.until("stopped by SIGINT before CMD was started")
        assert terminal.process.wait(PATIENCE_SECONDS) == -signal.SIGINT
