"""`run` in a terminal: whose signals are whose, and whose turn it is."""

import http.client
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.cli_support import (
    PATIENCE_SECONDS,
    InTerminal,
    in_a_terminal,
    words,
)
from tests.redis_server import RedisServer

NOTES = """
import os, signal, sys
def say(text):
    os.write(1, text.encode() + b"\\n")
# Not handlers and pause: a signal that comes between the two is heard with the next one.
numbers = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGCONT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
say("listens")
while True:
    number = signal.sigwait(numbers)
    say(f"got {signal.Signals(number).name}")
    if number == signal.SIGTERM:
        sys.exit(3)
"""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def run_words(server: RedisServer, *command: str) -> list[str]:
    health = ("--port", "0", "--host", "127.0.0.1", "--child-ready", "0.2")
    return words("run", *health, "--redis", server.url, "--", *command)


def readiness(terminal: InTerminal) -> int:
    port = re.search(r"health endpoints on port (\d+)", terminal.shown)
    assert port is not None
    connection = http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=PATIENCE_SECONDS)
    connection.request("GET", "/readyz")
    status = connection.getresponse().status
    connection.close()
    return status


def until_ready(terminal: InTerminal) -> None:
    """CMD reports nothing, so that it counts as ready after a while."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while readiness(terminal) != 200:
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_a_signal_from_elsewhere_goes_to_cmd(number: signal.Signals, server: RedisServer) -> None:
    with in_a_terminal(*run_words(server, sys.executable, "-c", NOTES)) as terminal:
        terminal.until("listens\r\n")
        terminal.process.send_signal(number)
        terminal.until(f"got {number.name}\r\n")
        if number == signal.SIGHUP:  # to be read anew is no end: it becomes ready
            until_ready(terminal)
        else:
            assert readiness(terminal) == 503
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(PATIENCE_SECONDS) == 3


def test_the_keys_go_to_cmd_once_and_leave_it_ready(server: RedisServer) -> None:
    with in_a_terminal(*run_words(server, sys.executable, "-c", NOTES)) as terminal:
        terminal.until("listens\r\n")
        terminal.type("\x03")
        terminal.until("got SIGINT\r\n")
        until_ready(terminal)  # CMD goes on: it has chosen not to end
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


def test_a_pager_keeps_the_terminal(server: RedisServer) -> None:
    # It reads from the terminal while CMD, whose output it gets, is still running.
    pager = 'read line < /dev/tty; echo "p"aged $line'
    command = shlex.join(run_words(server, "sh", "-c", "echo out; exec sleep 600"))
    with in_a_terminal("/bin/sh", "-c", f"{command} | {{ {pager}; }}") as terminal:
        terminal.until("started")
        terminal.type("hello\n")
        terminal.until("paged hello\r\n")


def test_a_file_takes_no_terminal_away(server: RedisServer, tmp_path: Path) -> None:
    program = "import sys; print('read', input(), file=sys.stderr, flush=True)"
    command = shlex.join(run_words(server, sys.executable, "-c", program))
    with in_a_terminal("/bin/sh", "-c", f"{command} > {tmp_path / 'log'}") as terminal:
        terminal.until("started")
        terminal.type("hello\n")
        terminal.until("read hello\r\n")


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
        terminal.type(shlex.join(run_words(server, "sh", "-c", program)) + "\n")
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
    command = shlex.join(run_words(server, "true"))
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
