"""`wait` on a real Redis: late, with a password, killed; and CMD as it would be without it."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.cli_support import (
    ROOT,
    a_command,
    environment,
    finished,
    line_with,
    with_time_enough,
    words,
)
from tests.redis_server import FakeServer, RedisServer, free_port, silent


@pytest.fixture
def nobody() -> str:
    """The URL of a Redis that is not there."""
    return f"redis://127.0.0.1:{free_port()}"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def test_a_late_redis_is_waited_for_and_then_cmd_takes_the_process_over() -> None:
    server = RedisServer()
    program = "import os, sys; print(os.getpid(), sys.argv[1:], flush=True); sys.exit(7)"
    try:
        with a_command(
            "wait", "--redis", server.url, "--", sys.executable, "-c", program, "--quiet", "a b"
        ) as process:
            line_with(process, "refused the connection")
            server.start()
            line_with(process, "ready after")
            out, _ = process.communicate(timeout=30)
        assert out == f"{process.pid} ['--quiet', 'a b']\n"
        assert process.returncode == 7
    finally:
        server.stop()


def test_a_spent_budget_is_124_and_says_why_in_one_line(nobody: str) -> None:
    done = with_time_enough(
        lambda seconds: finished(
            "wait", "--redis", nobody, "--timeout", seconds, "--quiet", "--", "never-run"
        ),
        lambda done: "refused" in done.stderr,
    )
    assert (done.returncode, done.stdout) == (124, "")
    assert re.fullmatch(
        r"startup-orchestrator: not ready within \d\.\d+ s and \d+ attempt\(s\): redis at"
        r" 127\.0\.0\.1:\d+ refused the connection: nothing listens there\n",
        done.stderr,
    )


def test_a_short_time_is_long_enough_to_say_why() -> None:
    with FakeServer(silent) as server:
        done = with_time_enough(
            lambda seconds: finished(
                "wait", "--redis", server.url, "--timeout", seconds, "--quiet"
            ),
            lambda done: "no attempt had ended" not in done.stderr,
            ("1.0", "1.0", "3", "9"),
        )
    assert done.returncode == 124
    # On a busy machine, the import of redis alone may take that long, which it says instead.
    assert re.search(
        r"gave no answer to (PING|the greeting) within (0\.8|1(\.0)?) s|machine is very busy",
        done.stderr,
    )


def test_a_wrong_password_is_78_at_once_and_shows_no_password() -> None:
    with RedisServer(None, "--requirepass", "right") as server:
        url = f"redis://:hunter2@127.0.0.1:{server.port}"
        done = finished("wait", "--redis", url, "--timeout", "60", "--json")
    assert (done.returncode, done.stderr) == (78, "")
    told = json.loads(done.stdout)
    assert told["outcome"] == "permanent_failure"
    assert told["exit_status"] == 78
    assert told["last_failure"]["kind"] == "permanent"
    assert told["attempts"] <= 3  # not for 60 s: more than one, if redis was not imported in time
    assert "hunter2" not in done.stdout


def test_the_environment_says_where_redis_is(server: RedisServer) -> None:
    done = finished("wait", "--json", REDIS_URL=server.url)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["outcome"], told["stage"]) == ("ready", "ready")
    # An attempt during which redis was not yet imported, on a busy machine, says nothing of Redis.
    assert told["last_failure"] is None or "very busy" in told["last_failure"]["reason"]
    # What the command line says makes a variable harmless that cannot be used.
    assert finished("wait", "-q", "--redis", server.url, REDIS_URL="nonsense").returncode == 0


def test_disabled_it_asks_nothing(nobody: str) -> None:
    done = finished("wait", "--redis", nobody, ORCHESTRATOR_ENABLED="false")
    assert done.returncode == 0
    wanted = "startup-orchestrator: disabled by ORCHESTRATOR_ENABLED: nothing was asked\n"
    assert done.stderr == wanted
    done = finished("wait", "--json", "--redis", nobody, ORCHESTRATOR_ENABLED="false")
    assert json.loads(done.stdout)["enabled"] is False


@pytest.mark.parametrize("command", ["wait", "run"])
def test_a_cmd_without_a_name_is_found_before_anything_is_waited_for(
    command: str, nobody: str
) -> None:
    done = finished(command, "--redis", nobody, "--", "", "x")
    assert done.returncode == 127
    wanted = 'the command is "", which is not a program: is a variable of it not set?'
    assert done.stderr == f"startup-orchestrator: {wanted}\n"


def test_a_cmd_that_is_missing_or_not_executable_is_as_in_a_shell(
    server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("hello")
    for command, status, says in [
        ("no-such-program", 127, "cannot run no-such-program: not found"),
        (str(tmp_path / "text"), 126, "text: Permission denied"),
    ]:
        done = finished("wait", "-q", "--redis", server.url, "--", command)
        assert done.returncode == status
        assert done.stderr.endswith(f"{says}\n")
        assert done.stderr.count("\n") == 1


def test_signals_of_cmd_are_its_own_and_none_is_left_ignored(server: RedisServer) -> None:
    # Python would ignore these again by itself, so a shell has to look.
    shell = "grep SigIgn /proc/self/status; kill -TERM $$"
    done = finished("wait", "-q", "--redis", server.url, "--", "sh", "-c", shell)
    assert done.returncode == -signal.SIGTERM
    if sys.platform == "linux":
        mask = int(done.stdout.split()[1], 16)
        assert not mask & (1 << (signal.SIGPIPE - 1))
        assert not mask & (1 << (signal.SIGXFSZ - 1))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_waiting_as_it_ends_any_program(
    number: signal.Signals, nobody: str
) -> None:
    with a_command("wait", "--redis", nobody) as process:
        line_with(process, "refused the connection")
        process.send_signal(number)
        assert process.wait(timeout=30) == -number
        assert process.stderr is not None
        assert f"stopped by {number.name}" in process.stderr.read()


def test_nohup_is_respected(nobody: str) -> None:
    command = f"trap '' HUP; exec {shlex.join(words('wait', '--redis', nobody, '--timeout', '20'))}"
    with subprocess.Popen(
        ["sh", "-c", command], stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment()
    ) as process:
        line_with(process, "refused the connection")
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == -signal.SIGTERM


def shown_in_a_terminal(nobody: str, **environ: str) -> str:
    return with_time_enough(
        lambda seconds: shown_in_a_terminal_by(
            words("wait", "--redis", nobody, "--timeout", seconds), **environ
        ),
        lambda shown: shown.count("refused") > 1,
    )


def shown_in_a_terminal_by(command: list[str], **environ: str) -> str:
    ours, its = os.openpty()
    process = subprocess.Popen(
        command,
        stderr=its,
        cwd=ROOT,
        env=environment(TERM="xterm-256color", **environ),
    )
    os.close(its)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # the other side's end reads as an error (EIO)
        pass
    os.close(ours)
    assert process.wait(timeout=30) == 124
    return shown.decode()


def test_a_terminal_shows_a_live_line_and_is_left_as_it_was(nobody: str) -> None:
    shown = shown_in_a_terminal(nobody)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"probing_redis \d\.\d s  \d s left  attempt \d+  redis at 127", plain)
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is back
    assert plain.rstrip().splitlines()[-1].startswith("startup-orchestrator: not ready within")


def test_with_no_color_nothing_moves_and_nothing_is_coloured(nobody: str) -> None:
    shown = shown_in_a_terminal(nobody, NO_COLOR="1")
    assert "\x1b" not in shown
    assert "waiting for redis at 127.0.0.1" in shown


def test_a_killed_redis_is_waited_for_again(server: RedisServer) -> None:
    assert finished("wait", "-q", "--redis", server.url).returncode == 0
    server.kill()
    with a_command("wait", "--redis", server.url) as process:
        line_with(process, "refused the connection")
        server.start()
        assert process.wait(timeout=30) == 0


def test_a_cmd_may_have_any_option() -> None:
    done = finished(
        *("wait", "-q", "--", "echo", "--otlp", "--json", "--help"), ORCHESTRATOR_ENABLED="false"
    )
    assert done.stdout == "--otlp --json --help\n"


def test_it_says_where_the_start_went(server: RedisServer) -> None:
    done = finished("wait", "--redis", server.url, "--account")
    assert done.returncode == 0
    title, *steps = done.stderr[done.stderr.index("\nready after") + 1 :].splitlines()
    assert [line.split()[0] for line in steps][-2:] == ["redis", "grace"]
    whole, *parts = (float(re.findall(r"([\d.]+) s", line)[0]) for line in [title, *steps])
    assert sum(parts) == pytest.approx(whole, abs=0.003)  # each is rounded to a millisecond
    told = json.loads(finished("wait", "--redis", server.url, "--account", "--json").stdout)
    assert told["account"]["steps"][-1]["ended_seconds"] == told["account"]["seconds"]
