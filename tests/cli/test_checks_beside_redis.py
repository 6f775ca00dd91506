"""`wait` and `run` with `--check` and `--optional`: real ports, asked at the same time."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.cli import main
from tests.cli.cli_support import a_command, finished, line_with, with_time_enough, words
from tests.cli.test_wait import shown_in_a_terminal_by
from tests.redis_server import RedisServer, free_port


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("REDIS_URL", "ORCHESTRATOR_REDIS_URL", "ORCHESTRATOR_CHECKS", "K_SERVICE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def port() -> Iterator[int]:
    """A port that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def rejecting() -> Iterator[int]:
    """A service that answers that nobody may ask it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    sock.recv(65536)
                    sock.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_checks_alone_need_no_redis(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["wait", "--check", f"tcp://127.0.0.1:{port}", "--timeout", "20"]) == 0
    assert main(["wait", "--check", f"db=tcp://127.0.0.1:{port}", "--json", "--account"]) == 0
    out, err = capfd.readouterr()
    assert f"waiting for tcp:127.0.0.1:{port}, at most 20 s" in err
    assert f"tcp:127.0.0.1:{port}: up" in err
    assert "redis" not in err
    told = json.loads(out)
    assert (told["outcome"], told["attempts"]) == ("ready", 1)
    main_check = {"name": "db", "required": True, "holds": True, "attempts": 1}
    assert told["checks"] == [{**main_check, "last_failure": None}]
    assert "db" in [step["name"] for step in told["account"]["steps"]]


def test_the_variable_says_the_same_and_options_go_before_it(
    port: int, environment: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("ORCHESTRATOR_CHECKS", f"db=tcp://127.0.0.1:{port}")
    environment.setenv("ORCHESTRATOR_OPTIONAL_CHECKS", "cache=tcp://127.0.0.1:1")
    assert main(["wait"]) == 0
    err = capfd.readouterr().err
    assert "waiting for db, at most" in err
    assert "cache is not needed, and does not hold: 127.0.0.1:1 refused the connection" in err
    environment.setenv("ORCHESTRATOR_CHECKS", "nonsense://u:hunter2@h")
    assert main(["wait"]) == 2
    assert main(["wait", "-q", "--check", f"tcp://127.0.0.1:{port}"]) == 0
    err = capfd.readouterr().err
    assert re.fullmatch(r".*: ORCHESTRATOR_CHECKS, URL 1 \(nonsense://\): nothing .*\n", err)
    assert "hunter2" not in err


def test_what_is_not_needed_is_asked_once_before_the_end_and_reported_as_it_is(
    port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    ours, nobody = f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{free_port()}"
    optional = ["--optional", f"up={ours}", "--optional", f"down={nobody}"]
    for _ in range(10):  # whatever comes first
        assert main(["wait", "--json", "--check", ours, *optional]) == 0
        told = json.loads(capfd.readouterr().out)
        holds = {one["name"]: (one["required"], one["holds"]) for one in told["checks"]}
        main_check = f"tcp:127.0.0.1:{port}"
        assert holds == {main_check: (True, True), "up": (False, True), "down": (False, False)}
    assert main(["wait", "--check", ours, *optional]) == 0
    err = capfd.readouterr().err
    assert "down is not needed, and does not hold: " in err
    assert "up is not needed" not in err


def test_all_that_is_missing_is_named_when_the_time_is_up(
    port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    ours, nobody = f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{free_port()}"
    options = ["wait", "--check", ours, "--check", f"db={nobody}", "--check", f"mq={nobody}"]

    def told_within(seconds: str) -> dict[str, Any]:
        assert main([*options, "--timeout", seconds, "--json"]) == 124
        told: dict[str, Any] = json.loads(capfd.readouterr().out)
        return told

    told = with_time_enough(
        told_within,
        lambda told: (
            told["checks"][0]["holds"] and all(one["attempts"] > 1 for one in told["checks"][1:])
        ),
    )
    assert [(one["name"], one["required"], one["holds"]) for one in told["checks"]] == [
        (f"tcp:127.0.0.1:{port}", True, True),
        ("db", True, False),
        ("mq", True, False),
    ]
    assert all(one["attempts"] > 1 for one in told["checks"][1:])
    assert told["checks"][1]["last_failure"]["error_type"] == "ConnectionRefusedError"

    def last_within(seconds: str) -> str:
        assert main([*options, "--timeout", seconds]) == 124
        return capfd.readouterr().err.splitlines()[-1]

    last = with_time_enough(last_within, lambda last: last.count("refused") == 2)
    assert re.search(r"not ready within .*: db: .* refused the connection.*; mq: .* refused", last)


def test_what_waiting_does_not_mend_is_78_at_once_wherever_it_is(
    port: int, rejecting: int, capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"http://u:hunter2@127.0.0.1:{rejecting}/hunter2"
    for checks in (
        [url],
        [f"tcp://127.0.0.1:{port}", url],
        [f"tcp://127.0.0.1:{free_port()}", url],
    ):
        options = [word for one in checks for word in ("--check", one)]
        assert main(["wait", "--timeout", "100", *options]) == 78
        err = capfd.readouterr().err
        assert re.search(r"waiting won't help: http:[\d.:]+: .* answered 401\n$", err)
        assert "hunter2" not in err
    # Nobody waits for what is not needed.
    assert main(["wait", "--check", f"tcp://127.0.0.1:{port}", "--optional", url]) == 0
    assert "is not needed, and does not hold: " in capfd.readouterr().err


def test_each_bad_url_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    for option, number in (("--check", 2), ("--optional", 1)):
        assert main(["wait", "--check", "tcp://h:1", option, "amqp//hunter2", "--", "true"]) == 2
        err = capfd.readouterr().err
        assert f"startup-orchestrator: {option}, URL {number}: it does not begin with" in err
        assert (err.count("\n"), "hunter2" in err) == (1, False)
    done = finished("run", "--check", "amqp//hunter2", "--", "true")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--check, URL 1: it does not begin with a scheme" in done.stderr
    assert main(["wait", "--check", ""]) == 2
    assert "--check, URL 1: it is empty; is a variable not set?" in capfd.readouterr().err


def test_redis_is_asked_where_it_is_named_and_at_its_default_only_alone(
    port: int, environment: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    optional = ["wait", "--timeout", "0.2", "--optional", f"tcp://127.0.0.1:{port}"]
    main(optional)
    assert "waiting for redis at localhost:6379" in capfd.readouterr().err
    environment.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    assert main(["wait", "--timeout", "1", "--check", f"tcp://127.0.0.1:{port}"]) == 124
    err = capfd.readouterr().err
    assert f", tcp:127.0.0.1:{port}, at most" in err
    assert f"tcp:127.0.0.1:{port}: up" in err
    assert "redis at 127.0.0.1" in err.splitlines()[-1]


def test_disabled_nothing_is_asked_and_nothing_can_be_wrong(
    environment: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("ORCHESTRATOR_ENABLED", "false")
    assert main(["wait", "--check", "nonsense://x", "--check", "a=tcp://127.0.0.1:1"]) == 0
    assert "nothing was asked" in capfd.readouterr().err


def test_run_starts_its_command_when_redis_and_the_check_are_there(rejecting: int) -> None:
    with RedisServer() as redis, socket.socket() as database:
        database.bind(("127.0.0.1", 0))  # the port is taken, and refuses
        db = f"db=tcp://127.0.0.1:{database.getsockname()[1]}"
        checks = ["--redis", redis.url, "--check", db]
        with a_command("run", *checks, "--port", "0", "--", "echo", "started") as process:
            line_with(process, "probing_redis -> grace")
            database.listen()
            line_with(process, "condition db holds")
            out, _ = process.communicate(timeout=30)
        assert (out, process.returncode) == ("started\n", 0)
        only = ["--check", db, "--port", "0", "--account"]
        with a_command("run", *only, "--", "true") as process:
            line_with(process, "where the start went")
            line_with(process, "  db  ")
            process.communicate(timeout=30)
        rejects = f"http://127.0.0.1:{rejecting}/"
        options = ["--redis", redis.url, "--check", rejects, "--port", "0", "--exit-when-degraded"]
        with a_command("run", *options, "--", "echo", "started") as process:
            assert line_with(process, "waiting won't help")
            out, _ = process.communicate(timeout=30)
        assert (out, process.returncode) == ("", 78)


def test_a_terminal_shows_a_line_for_each() -> None:
    nobody = free_port()
    checks = ["--check", f"db=tcp://127.0.0.1:{nobody}", "--check", f"mq=tcp://127.0.0.1:{nobody}"]
    shown = with_time_enough(
        lambda seconds: shown_in_a_terminal_by(words("wait", *checks, "--timeout", seconds)),
        lambda shown: shown.count("refused") > 3,  # both lines, and the last one
    )
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    for name in ("db", "mq"):
        assert re.search(rf"\n  {name}  waiting  attempt \d+  127.0.0.1:\d+ refused", plain)
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is back
