"""Standard streams that are closed, full or without a reader: CMD is started nevertheless."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cli import main
from tests.cli.cli_support import PATIENCE_SECONDS, ROOT, environment, words
from tests.redis_server import RedisServer, free_port

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")

HURT = ["2>/dev/full", "2>&-", ">&-", ">/dev/full", "<&-", ">&- 2>&-", "<&- >&- 2>&-"]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def in_a_shell(redirected: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f"exec {shlex.join(words(*arguments))} {redirected}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "redirected"),
    [
        *((("wait",), redirected) for redirected in HURT),
        *((("run", "--port", "0", "--host", "127.0.0.1"), one) for one in (HURT[0], HURT[-1])),
    ],
)
def test_cmd_is_started_and_its_status_counts(
    command: tuple[str, ...], redirected: str, server: RedisServer, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    done = in_a_shell(
        redirected, *command, "--redis", server.url, "--", "sh", "-c", f"echo >{made}; exit 7"
    )
    assert (done.returncode, made.exists()) == (7, True)
    assert "Traceback" not in done.stderr


def test_cmd_is_started_after_failures_that_nobody_could_be_told_of(tmp_path: Path) -> None:
    made = tmp_path / "made"
    redis = RedisServer()
    reading, writing = os.pipe()
    os.close(reading)
    command = ("wait", "--redis", redis.url, "--", "touch", str(made))
    with subprocess.Popen(words(*command), stderr=writing, cwd=ROOT, env=environment()) as process:
        os.close(writing)
        try:
            redis.start()
            assert process.wait(PATIENCE_SECONDS) == 0
        finally:
            redis.stop()
    assert made.exists()


def test_cmd_finds_closed_what_was_closed(server: RedisServer, tmp_path: Path) -> None:
    found = tmp_path / "found"
    program = f"import os\ntry: os.fstat(1)\nexcept OSError: open({str(found)!r}, 'w')"
    done = in_a_shell(
        ">&-", "wait", "-q", "--redis", server.url, "--", sys.executable, "-c", program
    )
    assert done.returncode == 0
    assert found.exists()


PRINTING = [
    ("settings",),
    ("settings", "--json"),
    ("diagram",),
    ("--version",),
    ("--help",),
    ("wait", "--help"),
    ("check-policy",),
    ("check-policy", "--json"),
    ("commands",),
]


NO_PLACE = "startup-orchestrator: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("command", PRINTING, ids=" ".join)
def test_what_cannot_be_printed_is_one_line_or_none(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that finds no place is said; that the reader has gone is no news."""
    reading, writing = os.pipe()
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY)
    for number, status, says in ((full, 1, NO_PLACE), (writing, 128 + signal.SIGPIPE, "")):
        with contextlib.suppress(OSError), os.fdopen(number, "w", encoding="utf-8") as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            assert main(command) == status
            assert capsys.readouterr().err == says


def test_a_process_whose_output_cannot_be_written_ends_as_well() -> None:
    done = in_a_shell(">/dev/full", "settings")
    assert (done.returncode, done.stderr) == (1, NO_PLACE)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        words("--help"),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_watch_without_standard_output() -> None:
    nobody = f"127.0.0.1:{free_port()}"
    for redirected in (">&-", ">&- 2>&-"):
        done = in_a_shell(redirected, "watch", "--timeout", "0.3", nobody)
        assert done.returncode == 124
        assert "Traceback" not in done.stderr
    done = in_a_shell(">/dev/full", "watch", "--timeout", "5", nobody)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_json_that_finds_no_place_does_not_keep_cmd_from_its_start(
    server: RedisServer, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    ready = ("wait", "--json", "--redis", server.url)
    done = in_a_shell(">/dev/full", *ready, "--", "touch", str(made))
    assert (done.returncode, made.exists()) == (0, True)
    assert "cannot write to standard output: No space left on device" in done.stderr
    assert in_a_shell(">/dev/full", *ready).returncode == 1
