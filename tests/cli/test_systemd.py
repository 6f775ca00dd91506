"""What docs/deploy/startup-orchestrator@.service makes of the ends that its command really has."""

import configparser
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator import Policy
from tests.cli.cli_support import ROOT, finished
from tests.redis_server import RedisServer, free_port


class Unit(configparser.RawConfigParser):
    """A unit file; of the names that may be given twice, none is."""

    def optionxform(self, optionstr: str) -> str:  # names are told apart by case
        return optionstr


def unit() -> Unit:
    found = Unit(interpolation=None)
    found.read(ROOT / "docs/deploy/startup-orchestrator@.service", encoding="utf-8")
    return found


def tried_for_seconds(found: Unit, policy: Policy) -> float:
    """How long an outage may be before systemd gives up for ever, every start failing in it."""
    interval = float(found["Unit"].get("StartLimitIntervalSec", "10"))
    burst = int(found["Unit"].get("StartLimitBurst", "5"))
    start = policy.budget_seconds + float(found["Service"]["RestartSec"])
    # The limit is reached by so many starts within the interval; 0 takes it away.
    return burst * start if burst * start < interval else math.inf


def ends(redis: str, *command: str, within_seconds: float = 20.0) -> int:
    """The status of the unit's own command line, as systemd would start it."""
    line = unit()["Service"]["ExecStart"].replace("${HEALTH_PORT}", "0")
    words = [part for word in shlex.split(line)[1:] for part in into(word, command)]
    at = words.index("--")
    words[at:at] = ["--timeout", str(within_seconds)]
    return finished(*words, REDIS_URL=redis).returncode


def into(word: str, command: Sequence[str]) -> Sequence[str]:
    return command if word == "$COMMAND" else [word]


def nobody() -> str:
    return f"redis://127.0.0.1:{free_port()}/0"


def test_systemd_never_gives_up_in_an_outage_however_long_it_is() -> None:
    assert tried_for_seconds(unit(), Policy()) == math.inf


def test_a_start_that_failed_for_lack_of_redis_is_tried_again() -> None:
    assert ends(nobody(), sys.executable, within_seconds=0.5) not in given_up()


def given_up() -> set[int]:
    return {int(status) for status in unit()["Service"]["RestartPreventExitStatus"].split()}


def test_what_no_other_start_would_mend_is_not_tried_again(tmp_path: Path) -> None:
    (tmp_path / "server").touch(mode=0o600)  # a program that lacks its permission
    with RedisServer(None, "--requirepass", "right") as server:
        locked = f"127.0.0.1:{server.port}/0"
        seen = {
            ends("http://127.0.0.1:6379", sys.executable): "a URL that is none",
            ends(f"redis://:wrong@{locked}", sys.executable): "a wrong password",
            ends(f"redis://:right@{locked}", str(tmp_path / "server")): "no permission",
            ends(f"redis://:right@{locked}", str(tmp_path / "sevrer")): "no such program",
        }
    assert seen.keys() == given_up()


@pytest.mark.parametrize(("key", "value"), [("Restart", "on-failure"), ("KillMode", "mixed")])
def test_what_the_page_says_of_the_unit_is_so(key: str, value: str) -> None:
    # With the default, control-group, CMD would have SIGTERM twice: `run` passes it on as well.
    assert unit()["Service"][key] == value
    page = (ROOT / "docs/how-to/systemd.md").read_text(encoding="utf-8")
    assert f"`{key}={value}`" in page
