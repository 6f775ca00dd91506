"""docs/deploy/Dockerfile: its health check, run as Docker runs it, beside a real service."""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import Policy
from orchestrator.cli.policy.numbers import Hosting, recommended
from tests.cli.cli_support import (
    PATIENCE_SECONDS,
    ROOT,
    a_command,
    environment,
    line_with,
)
from tests.redis_server import RedisServer, free_port

FILE = ROOT / "docs/deploy/Dockerfile"
SLEEPER = "import signal; signal.pause()"


def instruction(name: str) -> str:
    """The only one of that name, on one line."""
    text = FILE.read_text(encoding="utf-8").replace("\\\n", " ")
    (found,) = re.findall(rf"^{name} (.*)$", text, re.MULTILINE)
    return " ".join(found.split())


def options() -> dict[str, float]:
    """Those of the health check, durations in seconds."""
    before, _, _ = instruction("HEALTHCHECK").partition(" CMD ")
    pairs = (word.removeprefix("--").split("=") for word in before.split())
    return {name: float(value.removesuffix("s")) for name, value in pairs}


def healthy(port: int) -> int:
    """The status of the command, which Docker gives to a shell."""
    _, _, command = instruction("HEALTHCHECK").partition(" CMD ")
    listens = shlex.split(instruction("CMD").strip("[]").replace(",", " "))[-1]
    assert f":{listens}" in command, "it asks where the server listens"
    programs = str(Path(sys.executable).parent)
    environ = {**environment(), "PATH": f"{programs}:/usr/bin:/bin"}
    words = ["/bin/sh", "-c", command.replace(listens, str(port))]
    done = subprocess.run(
        words, env=environ, capture_output=True, timeout=PATIENCE_SECONDS, check=False
    )
    return done.returncode


def test_it_is_healthy_once_the_service_is_ready_and_not_before() -> None:
    server, port = RedisServer(), free_port()
    command = ["--host", "127.0.0.1", "--port", str(port), "--redis", server.url]
    command += ["--child-ready", "started"]
    try:
        # Docker knows 0 and 1, and reserves 2, which `check` gives where nobody answers.
        assert healthy(port) == 1
        with a_command("run", *command, "--", sys.executable, "-c", SLEEPER) as process:
            line_with(process, "health endpoints on port")
            assert healthy(port) == 1
            server.start()
            line_with(process, "started")
            assert healthy(port) == 0
            process.send_signal(signal.SIGTERM)  # in good order, so that CMD ends with it
            process.wait(PATIENCE_SECONDS)
    finally:
        server.stop()


def test_the_image_has_the_command_that_it_is_checked_with() -> None:
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', instruction("RUN"))
    assert "cli" in extras.split(",")


def test_docker_waits_as_long_as_a_start_may_take() -> None:
    found = options()
    assert found["start-period"] == recommended(Policy(), Hosting.SYSTEMD).start_limit_seconds
    assert found["timeout"] > 2.0  # that of `check`, which then says why


@pytest.mark.parametrize("name", ["RUN", "HEALTHCHECK"])
def test_the_page_shows_what_is_in_the_file(name: str) -> None:
    page = (ROOT / "docs/how-to/install.md").read_text(encoding="utf-8")
    assert instruction(name) in " ".join(page.replace("\\\n", " ").split())
