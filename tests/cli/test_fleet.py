"""`fleet`: the table and the gate for deploys, on a real Redis."""

import json
import signal
import time
from collections.abc import Iterator

import pytest
import redis

from orchestrator.cli import main
from orchestrator.cli.fleet.fleet_words import age
from orchestrator.fleet._wire import SERVICES_KEY, fleet_keys
from states import Failure, FailureKind, Stage
from tests.cli.cli_support import a_command, finished, in_a_terminal, words
from tests.fleet.scripted_instance import ScriptedInstance
from tests.fleet.servers import EACH_PROGRAM, PROGRAMS
from tests.redis_server import RedisServer, free_port


@pytest.fixture(scope="module", params=EACH_PROGRAM)
def started(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(binary=PROGRAMS[request.param]) as server:
        yield server


@pytest.fixture
def server(started: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """The server, with nothing on it."""
    for name in ("REDIS_URL", "ORCHESTRATOR_REDIS_URL", "ORCHESTRATOR_FLEET_SERVICE"):
        monkeypatch.delenv(name, raising=False)
    with redis.Redis(port=started.port) as client:
        client.flushall()
    return started


def services(server: RedisServer, *names: str) -> None:
    with redis.Redis(port=server.port) as client:
        client.zadd(SERVICES_KEY, dict.fromkeys(names, time.time()))


def instance(server: RedisServer, name: str, stage: Stage = Stage.READY) -> ScriptedInstance:
    made = ScriptedInstance(server.port, name, version="2", lease_seconds=60.0)
    if stage is not Stage.READY:
        made.say(waits_for=("Redis to answer",))
    return made.be(stage)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii:surrogateescape"])  # that of locale C
def test_names_in_letters_that_a_terminal_lacks_are_escaped(
    server: RedisServer, encoding: str
) -> None:
    instance(server, "chat-\u66f4")
    options = ("--service", "chat", "--once")
    done = finished("fleet", server.url, *options, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"chat-\u66f4" in done.stdout


def test_the_fleet_once_as_lines(server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    services(server, "chat")
    instance(server, "chat-b")
    instance(server, "chat-a", Stage.GRACE)
    assert main(["fleet", server.url, "--once"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head == "chat: 2 instances: 1 grace, 1 ready"
    assert first.startswith("chat-a (2)  grace for ")
    assert first.endswith("waits for: Redis to answer")
    assert second.startswith("chat-b (2)  ready for ")


def test_the_fleet_once_as_json(server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    instance(server, "chat-a")
    instance(server, "chat-b")
    arguments = ["fleet", server.url, "--service", "chat", "--once", "--json", "--filter", "-b"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["event"], told["data"]["service"], told["data"]["count"]) == ("fleet", "chat", 1)
    (one,) = told["data"]["instances"]
    assert (one["name"], one["stage"], one["presence"]) == ("chat-b", "ready", "alive")


def test_the_service_comes_from_the_environment_too(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", server.url)
    monkeypatch.setenv("ORCHESTRATOR_FLEET_SERVICE", "mail")
    assert main(["fleet", "--once"]) == 0
    assert capsys.readouterr().out == "mail: 0 instances\n"


def test_several_services_are_named(
    server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    services(server, "chat", "mail", "\x1b[2J")
    assert main(["fleet", server.url, "--once"]) == 2
    assert capsys.readouterr().err == (
        "startup-orchestrator: there are several services: chat, mail; choose with --service\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--until-ready", "2"], "--until-ready needs --version"),
        (["--until-ready", "0", "--version", "2"], "--until-ready is 0"),
        (["--until-ready", "2", "--version", "2", "--for", "-1"], "--for is -1"),
        (["--until-ready", "2", "--version", "2", "--for", "nan"], "--for is nan"),
        (["--until-ready", "2", "--version", "2", "--timeout", "5"], "must be shorter"),
        (["--until-ready", "2", "--version", "2", "--timeout", "0"], "--timeout is 0"),
        (["--until-ready", "2", "--version", "2", "--allow-degraded", "-1"], "--allow-degraded"),
        (["--until-ready", "2", "--version", "a\x1b"], "--version is longer"),
        (["--service", "a b", "--once"], "the service's name must be"),
        (["--once"], "no service publishes to redis at 127.0.0.1"),
    ],
)
def test_wrong_usage_is_one_line(
    server: RedisServer,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    assert main(["fleet", server.url, *arguments]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert (out, err.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "URL is empty"),
        ("http://127.0.0.1", "URL: the Redis URL must begin with"),
        ("redis://:se#cret@host", "URL: the Redis URL"),
    ],
)
def test_a_wrong_url_is_one_line_without_it(
    url: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fleet", url, "--service", "chat", "--once"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert "cret" not in err


def test_no_url_at_all(server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet"]) == 2
    assert "give its URL, or set ORCHESTRATOR_REDIS_URL" in capsys.readouterr().err


def test_nothing_that_an_entry_says_reaches_the_terminal_as_it_is(
    server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with redis.Redis(port=server.port) as client:
        made = ScriptedInstance(server.port, "chat-a")
        made.be(Stage.READY)
        keys = fleet_keys("chat")
        state = client.hget(keys.instances, made.incarnation)
        assert isinstance(state, bytes)
        forged = state.replace(b"the test wants it", b"\\u001b[2J\\u202e")
        client.hset(keys.instances, made.incarnation, forged)
    assert main(["fleet", server.url, "--service", "chat", "--once"]) == 0
    out = capsys.readouterr().out
    assert out == "chat: 0 instances\n", "a forged state is no state"


def test_a_redis_that_refuses_is_said_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    with RedisServer(None, "--requirepass", "secret") as server:
        assert main(["fleet", server.url, "--service", "chat"]) == 2
    err = capsys.readouterr().err
    assert "wants a password" in err
    assert err.count("\n") == 1


# -- the gate -------------------------------------------------------------------------------------


def gate(server: RedisServer, wanted: int, *more: str) -> list[str]:
    arguments = ["fleet", server.url, "--service", "chat", "--version", "2", "--for", "0.2"]
    return [*arguments, "--until-ready", str(wanted), "--timeout", "20", *more]


def test_a_version_that_is_ready_passes(
    server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    instance(server, "chat-a")
    instance(server, "chat-b")
    ScriptedInstance(server.port, "old", version="1", lease_seconds=60.0).be(Stage.READY)
    assert main(gate(server, 2)) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("2 of 2 instances of 2 are ready, after ")
    assert second == "still there: 1: old"


def test_a_permanent_failure_ends_it_at_once(
    server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = ScriptedInstance(server.port, "chat-a", version="2", lease_seconds=60.0)
    reason = "redis refused the login: the password is wrong"
    bad.say(failure=Failure(FailureKind.PERMANENT, "WRONGPASS", reason), failures_in_row=1)
    bad.be(Stage.PROBING_REDIS)
    assert main(gate(server, 1, "--json")) == 78
    told = json.loads(capsys.readouterr().out)
    assert (told["outcome"], told["exit_status"]) == ("permanent_failure", 78)
    assert told["waits_for"] == [f"chat-a: probing_redis: {reason}"]


def test_one_that_did_not_get_ready_in_its_budget_ends_it_at_once(server: RedisServer) -> None:
    instance(server, "chat-a")
    made = ScriptedInstance(server.port, "chat-b", version="2", lease_seconds=60.0)
    made.be(Stage.GRACE)
    with redis.Redis(port=server.port) as client:
        keys = fleet_keys("chat")
        state = client.hget(keys.instances, made.incarnation)
        assert isinstance(state, bytes)
        degraded = state.replace(b'"current":"grace"', b'"current":"degraded"')
        client.hset(keys.instances, made.incarnation, degraded)
    assert main(gate(server, 2)) == 1


def test_a_gate_waits_for_a_redis_that_comes_later() -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}"
    arguments = ["fleet", url, "--service", "chat", "--version", "2", "--until-ready", "1"]
    with a_command(*arguments, "--for", "0.1") as command:
        assert command.stderr is not None
        assert "nothing listens there; trying again" in command.stderr.readline()
        with RedisServer(port) as server:
            instance(server, "chat-a")
            assert command.wait(30) == 0


# -- live -----------------------------------------------------------------------------------------


def test_without_a_terminal_there_is_a_line_for_each_change(server: RedisServer) -> None:
    made = instance(server, "chat-a")
    with a_command("fleet", server.url, "--service", "chat") as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "chat: 1 instances: 1 ready\n"
        command.stdout.readline()
        made.be(Stage.DEGRADED)
        line = command.stdout.readline()
        assert line.endswith("chat-a (2)  ready -> degraded after 1.000 s: the test wants it\n")
        command.send_signal(signal.SIGTERM)
        assert command.wait(30) == -signal.SIGTERM


def test_in_a_terminal_there_is_a_table_that_ctrl_c_takes_away(server: RedisServer) -> None:
    for number in range(40):
        instance(server, f"chat-{number:02}")
    late = instance(server, "late", Stage.GRACE)
    watching = words("fleet", server.url, "--service", "chat")
    with in_a_terminal(*watching, TERM="xterm-256color", LINES="24") as terminal:
        terminal.until("more: --filter shows fewer")
        table = terminal.shown
        assert table.index("late") < table.index("chat-00"), "trouble comes first"
        terminal.shown = ""
        late.be(Stage.READY)
        terminal.until("41 ready")
        terminal.type("\x03")
        assert terminal.to_the_end() == -signal.SIGINT
        assert "Traceback" not in terminal.shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (2e5, "2 d")],
)
def test_an_age_has_one_unit(seconds: float, words: str) -> None:
    assert age(0.0, seconds) == words
    assert age(10.0, 0.0) == "0 s", "clocks differ"
