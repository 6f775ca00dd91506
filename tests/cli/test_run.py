"""`run`: a real Redis, a real child, real signals, and a service manager's real socket."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import psutil
import pytest

from orchestrator import Orchestrator
from orchestrator._runtime.drain_signal import DRAIN_SIGNAL
from orchestrator.cli._shell.asked import asked_for
from orchestrator.cli.run.child import Child
from orchestrator.cli.run.run import _Supervisor
from orchestrator.cli.run.run_options import RunOptions, Start
from orchestrator.cli.run.systemd import Notifier
from orchestrator.testing import ScriptedProbe
from tests.cli.cli_support import (
    PATIENCE_SECONDS,
    ROOT,
    a_command,
    environment,
    finished,
    line_with,
    until,
    with_time_enough,
    words,
)
from tests.redis_server import RedisServer, free_port

SLEEPER = "import signal, sys; print('up', flush=True); signal.pause()"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def port_in(process: subprocess.Popen[str]) -> int:
    return int(line_with(process, "health endpoints on port").rsplit(maxsplit=1)[-1])


def ask(port: int, path: str) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def answers(port: int, raw: bytes) -> bytes:
    """What comes back for raw bytes, to the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as sock:
        sock.sendall(raw)
        parts = []
        while part := sock.recv(4096):
            parts.append(part)
    return b"".join(parts)


@contextmanager
def running(*arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    fixed = ("--port", "0", "--host", "127.0.0.1", "--child-ready", "started")
    with a_command("run", *fixed, *arguments, **environ) as process:
        yield process


def child_of(process: subprocess.Popen[str]) -> psutil.Process:
    (child,) = psutil.Process(process.pid).children()
    return child


def test_cmd_begins_when_redis_is_ready_and_the_endpoints_tell() -> None:
    server = RedisServer()
    command = ("--", sys.executable, "-c", SLEEPER)
    try:
        with running("--redis", server.url, "--details", *command) as process:
            port = port_in(process)
            assert ask(port, "/livez")[0] == 200
            status, body = ask(port, "/startupz")
            assert (status, body["waits_for"]) == (503, ["Redis to answer"])
            status, body = ask(port, "/readyz")
            assert (status, body["output"]) == (503, "CMD is not started yet")
            assert psutil.Process(process.pid).children() == []
            server.start()
            line_with(process, "started")
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            assert [ask(port, f"/{name}")[0] for name in ("livez", "readyz", "startupz")] == [
                200
            ] * 3
            server.kill()
            line_with(process, "ready -> degraded")
            # An outage is a warning; Redis has no part in liveness.
            assert ask(port, "/readyz")[1]["status"] == "warn"
            assert ask(port, "/livez")[0] == 200
            child = child_of(process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == -signal.SIGTERM
            assert not child.is_running()
    finally:
        server.stop()


def test_with_details_it_can_be_explained_and_watched() -> None:
    redis = RedisServer()
    command = ("--", sys.executable, "-c", SLEEPER)
    try:
        with running("--redis", redis.url, "--details", *command) as process:
            url = f"127.0.0.1:{port_in(process)}"
            assert "waits for: Redis to answer" in finished("explain", url).stdout
            with a_command("watch", "--until", "ready", "--timeout", "25", url) as watching:
                assert watching.stdout is not None
                assert "booting -> probing_redis" in watching.stdout.readline()
                redis.start()
                assert watching.wait(PATIENCE_SECONDS) == 0
                assert "grace -> ready" in watching.stdout.read()
            assert json.loads(finished("explain", "--json", url).stdout)["stage"] == "ready"
            with a_command("watch", url) as watching:  # an open stream delays no end
                assert watching.stdout is not None
                watching.stdout.readline()
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE_SECONDS) == -signal.SIGTERM
    finally:
        redis.stop()


def test_without_details_there_is_no_status_page(server: RedisServer) -> None:
    with running("--redis", server.url, "--", sys.executable, "-c", SLEEPER) as process:
        url = f"127.0.0.1:{port_in(process)}"
        done = finished("explain", url)
        assert done.returncode == 0  # what the health endpoint says
        assert "or does `run` have --details there?" in done.stdout


def test_exit_status_environment_and_arguments_are_those_of_cmd(server: RedisServer) -> None:
    program = (
        "import os, sys; print(sys.argv[1:], os.environ.get('NOTIFY_SOCKET') == '/nowhere/notify');"
        " sys.exit(9)"
    )
    done = finished(
        *("run", "--port", "0", "-q", "--redis", server.url),
        *("--", sys.executable, "-c", program, "--port", "x y"),
        NOTIFY_SOCKET="/nowhere/notify",
    )
    assert (done.returncode, done.stdout, done.stderr) == (9, "['--port', 'x y'] False\n", "")


@pytest.mark.parametrize(("command", "status"), [("no-such-program", 127), ("/dev/null", 126)])
def test_a_cmd_that_cannot_be_started(command: str, status: int, server: RedisServer) -> None:
    done = finished("run", "--port", "0", "-q", "--redis", server.url, "--", command)
    assert done.returncode == status
    assert re.fullmatch(rf"startup-orchestrator: cannot run {command}: .*\n", done.stderr)


def test_a_start_that_fails_ends_it_only_where_wanted() -> None:
    nobody = f"redis://127.0.0.1:{free_port()}"
    wanted = ("--redis", nobody, "-q")
    command = ("--", sys.executable, "-c", SLEEPER)
    ends = ("run", "--port", "0", *wanted, "--exit-when-degraded")
    done = with_time_enough(
        lambda seconds: finished(*ends, "--timeout", seconds, *command),
        lambda done: "no attempt had ended" not in done.stderr,
    )
    assert done.returncode == 124
    assert "the budget is spent: redis at 127.0.0.1" in done.stderr
    with running(*wanted, "--timeout", "0.3", *command) as process:
        line_with(process, "probing_redis -> degraded")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)  # before there is a CMD
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGTERM


def test_its_log_is_json_where_wanted(server: RedisServer) -> None:
    wanted = ("--port", "0", "--json", "--account", "--redis", server.url, "--", "true")
    done = finished("run", *wanted)
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert [one["stage"] for one in told if "stage" in one][-1] == "ready"
    assert all(one["level"] == "info" and one["at"] and one["message"] for one in told)
    (account,) = (one for one in told if "account" in one)
    assert [step["kind"] for step in account["account"]["steps"]] == ["start", "probe", "grace"]
    assert account["message"].splitlines()[1].startswith("ready after ")


def test_a_port_that_is_taken_is_one_line(server: RedisServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = finished(
            *("run", "-q", "--host", "127.0.0.1", "--port", port, "--redis", server.url, "true")
        )
    assert done.returncode == 2
    wanted = f"cannot listen on 127.0.0.1, port {port}: "
    assert done.stderr.startswith(f"startup-orchestrator: {wanted}")
    assert done.stderr.count("\n") == 1


def test_signals_go_to_cmd_and_once_where_the_whole_group_gets_them(server: RedisServer) -> None:
    program = """
import os, signal, sys
# Not handlers and pause: a signal that comes between the two is heard with the next one.
numbers = {signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGTERM, signal.SIGWINCH}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
os.write(1, b"up\\n")
while True:
    number = signal.sigwait(numbers)
    os.write(1, signal.Signals(number).name.encode() + b"\\n")
    if number == signal.SIGTERM:
        sys.exit(3)
"""
    with running("--redis", server.url, "--", sys.executable, "-c", program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH, signal.SIGINT):
            process.send_signal(number)
            assert process.stdout.readline() == f"{number.name}\n"
        for _ in range(3):
            os.killpg(process.pid, signal.SIGUSR1)
            assert process.stdout.readline() == "SIGUSR1\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 3
        assert process.stdout.read() == "SIGTERM\n"


def test_it_hears_signals_when_a_watcher_has_left(server: RedisServer) -> None:
    command = ("--details", "--", sys.executable, "-c", SLEEPER)
    with running("--redis", server.url, *command) as process:
        url = f"127.0.0.1:{port_in(process)}"
        assert finished("watch", "--until", "ready", "--timeout", "25", url).returncode == 0
        assert finished("check", url).returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGTERM


def test_a_cmd_that_is_killed_ends_it_as_killed(server: RedisServer) -> None:
    with running("--redis", server.url, "--", sys.executable, "-c", SLEEPER) as process:
        line_with(process, "started")
        child_of(process).kill()
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no subreapers")
def test_orphans_are_inherited_and_reaped(server: RedisServer, tmp_path: Path) -> None:
    orphan = tmp_path / "orphan"
    # The child of the child outlives its parent, which does not wait for it.
    shell = f"(sh -c 'echo $$ > {orphan}; exec sleep 30' &); echo up; exec sleep 60"
    with running("--redis", server.url, "--subreaper", "--", "sh", "-c", shell) as process:
        line_with(process, "started")
        until(lambda: orphan.exists() and orphan.read_text().endswith("\n"), "no orphan")
        inherited = psutil.Process(int(orphan.read_text()))
        until(lambda: inherited.ppid() == process.pid, "not inherited")
        inherited.kill()
        # A zombie would still be listed; one that was waited for is not.
        until(lambda: not psutil.pid_exists(inherited.pid), "not reaped")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGTERM


def can_make_namespaces() -> bool:
    program = shutil.which("unshare")
    if program is None:
        return False
    words = [program, "--pid", "--fork", "--mount-proc", "true"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_make_namespaces(), reason="no right to make a namespace of processes")
def test_as_process_1_it_buries_orphans_and_hears_signals(server: RedisServer) -> None:
    # The kernel gives process 1 no default for signals, and every orphan of its namespace.
    program = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
if (between := os.fork()) == 0:
    if os.fork() == 0:
        time.sleep(0.05)  # it outlives its parent, and then ends as an orphan
    os._exit(0)
os.waitpid(between, 0)
while [int(one) for one in os.listdir("/proc") if one.isdigit()] != [1, os.getpid()]:
    time.sleep(0.01)
print("reaped, below", os.getppid(), flush=True)
signal.pause()
"""
    arguments = ("run", "--port", "0", "--host", "127.0.0.1", "--redis", server.url)
    command = ("--", sys.executable, "-c", program)
    with subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", *words(*arguments), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "reaped, below 1\n"
            (inside,) = psutil.Process(process.pid).children()
            inside.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == 5
        finally:
            for one in psutil.Process(process.pid).children() if process.poll() is None else ():
                one.kill()  # the whole namespace ends with its process 1


class Systemd:
    """The socket of a service manager."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(PATIENCE_SECONDS)
        self.heard: list[str] = []

    def hear(self, wanted: str) -> str:
        """Listen until a message with a line that begins like this; return the line."""
        while True:
            lines = self.socket.recv(4096).decode().split("\n")
            self.heard += lines
            for line in lines:
                if line.startswith(wanted):
                    return line


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is on Linux only")
def test_systemd_is_told() -> None:
    address = f"@startup-{os.getpid()}"  # one of a path is in the tests of `systemd`
    systemd, redis = Systemd(address), RedisServer()
    timing = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"}
    command = ("--", sys.executable, "-c", SLEEPER)
    try:
        with running("--redis", redis.url, "--timeout", "20", *command, **timing) as process:
            asked = systemd.hear("EXTEND_TIMEOUT_USEC=")
            assert 20e6 < int(asked.partition("=")[2]) <= 25e6
            assert "probing_redis" in systemd.hear("STATUS=")
            systemd.hear("WATCHDOG=1")
            assert "READY=1" not in systemd.heard
            redis.start()
            systemd.hear("READY=1")
            systemd.hear("WATCHDOG=1")
            redis.kill()
            assert "refused" in systemd.hear("STATUS=degraded")
            process.send_signal(signal.SIGTERM)
            systemd.hear("STOPPING=1")
            assert process.wait(PATIENCE_SECONDS) == -signal.SIGTERM
        assert systemd.heard.count("READY=1") == 1
    finally:
        systemd.socket.close()
        redis.stop()


def test_a_service_manager_may_listen_at_a_path(tmp_path: Path) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    notifier.send(READY=1, STATUS="two\nlines")
    notifier.close()
    assert systemd.hear("STATUS=") == "STATUS=two lines"
    assert systemd.heard[0] == "READY=1"
    systemd.socket.close()


HOST = b"Host: x\r\n\r\n"


def test_probes_are_answered_whatever_else_comes(server: RedisServer) -> None:
    """All that `health_server` refuses is in its own tests; here it is in its place."""
    with (
        running("--redis", server.url, "--", sys.executable, "-c", SLEEPER) as process,
        ExitStack() as silent,
    ):
        port = port_in(process)
        line_with(process, "started")
        for raw, status in {
            b"HEAD /readyz HTTP/1.1\r\n" + HOST: 200,
            b"POST /livez HTTP/1.1\r\nContent-Length: 5\r\n" + HOST + b"hello": 413,
            b"GET /etc HTTP/1.1\r\n" + HOST: 404,
            b"\x16\x03\x01\x02\x00 a TLS hello\r\n\r\n": 400,
        }.items():
            answer = answers(port, raw)
            assert answer.startswith(b"HTTP/1.1 %d " % status), (raw[:60], answer[:200])
            assert b"\r\nconnection: close\r\n" in answer.lower()
        for begins in [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\n"] * 50:
            sock = silent.enter_context(socket.create_connection(("127.0.0.1", port)))
            sock.sendall(begins)
        assert [ask(port, path)[0] for path in ("/livez", "/readyz")] == [200, 200]


def test_the_page_is_for_the_hosts_that_are_named(server: RedisServer) -> None:
    hosts = ("--allowed-host", "localhost:*", "--allowed-host", "[::1]")
    command = ("--details", *hosts, "--", sys.executable, "-c", SLEEPER)
    with running("--redis", server.url, *command) as process:
        port = port_in(process)
        line_with(process, "started")
        for host, status in {b"localhost": 200, b"[::1]:8081": 200, b"evil.example": 421}.items():
            answer = answers(port, b"GET /startup/state HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 %d " % status)
        for host in (b"10.0.0.7:8081", b"evil.example"):
            answer = answers(port, b"GET /readyz HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"waits_for" not in answer
        assert finished("check", f"localhost:{port}").returncode == 0
    done = finished("run", *hosts[:1], "https://x", "--redis", server.url, "true")
    assert done.returncode == 2
    assert done.stderr.startswith("startup-orchestrator: --allowed-host: allowed_hosts has")


# -- what CMD is given -----------------------------------------------------------------------------

SERVED = """
import os, socket
pid, count = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS")
assert (pid, count) == (str(os.getpid()), "1"), (pid, count, os.getpid())
assert os.environ["LISTEN_FDNAMES"] == "web" and "LISTEN_PIDFDID" not in os.environ
client, _ = socket.socket(fileno=3).accept()
client.sendall(b"served")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only systemd activates by a socket")
def test_a_socket_that_activates_the_service_is_for_cmd(server: RedisServer) -> None:
    """As systemd starts it: the socket is descriptor 3, and the process named in LISTEN_PID."""
    activate = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        command = words("run", "--port", "0", "--redis", server.url, "--", sys.executable)
        process = subprocess.Popen(
            [sys.executable, "-c", activate, str(number), *command, "-c", SERVED],
            pass_fds=[number, 3] if number == 3 else [number],
            env=environment(LISTEN_FDS="1", LISTEN_FDNAMES="web", LISTEN_PIDFDID="1"),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            with socket.create_connection(listener.getsockname(), PATIENCE_SECONDS) as client:
                assert client.recv(16) == b"served"
            _, log = process.communicate(timeout=PATIENCE_SECONDS)
            assert process.returncode == 0, log
        finally:
            process.kill()
            process.communicate()


def test_sockets_of_another_process_stay_with_it(server: RedisServer) -> None:
    command = ["run", "--port", "0", "--redis", server.url]
    show = "import os; print(os.environ['LISTEN_PID'], os.environ['LISTEN_FDS'])"
    ended = finished(*command, "--", sys.executable, "-c", show, LISTEN_PID="1", LISTEN_FDS="2")
    assert ended.stdout == "1 2\n"


GIVEN = [
    {},
    {"LANG": "C"},
    {"LC_CTYPE": "C"},
    {"LC_CTYPE": "POSIX"},
    {"LC_CTYPE": ""},
    {"LC_CTYPE": "C.UTF-8"},
    {"LC_ALL": "C"},
    {"LANG": "C.UTF-8"},
    {"PYTHONPATH": "/nowhere", "PYTHONCOERCECLOCALE": "0", "ODD": "a=b\nc"},
    {"PYTHONUTF8": "1", "PYTHONCOERCECLOCALE": "1", "EMPTY": ""},
]

PASS_IT_ON = """
import os
from orchestrator.cli._shell.process import given_environment
os.execvpe("env", ["env", "-0"], given_environment())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only there a process can tell what it got")
def test_cmd_gets_the_environment_that_was_given(server: RedisServer) -> None:
    # Most of it without the commands around it, which take ten times as long.
    tried = [([sys.executable, "-c", PASS_IT_ON], given) for given in GIVEN]
    show = ("--redis", server.url, "--", "env", "-0")
    tried += [(words(*how, *show), GIVEN[2]) for how in (("wait",), ("run", "--port", "0"))]
    for command, given in tried:
        environ = {"PATH": os.environ["PATH"], **given}
        seen = subprocess.run(
            command,
            env=environ,
            cwd=ROOT,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=True,
        ).stdout.split(b"\0")
        # `run` listens for what CMD says of itself.
        seen = [one for one in seen if b"NOTIFY_SOCKET=" not in one]
        wanted = sorted(f"{one}={value}".encode() for one, value in environ.items())
        assert sorted(seen[:-1]) == wanted, command


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
@pytest.mark.parametrize(
    ("how", "activated"),
    [(("wait",), False), (("run", "--port", "0"), False), (("run", "--port", "0"), True)],
    ids=["wait", "run", "run activated"],
)
def test_cmd_gets_everything_else_that_was_given(
    how: tuple[str, ...], activated: bool, server: RedisServer, tmp_path: Path
) -> None:
    """The signal mask, ignored signals, umask, limits, priority, directory and descriptors."""
    given = (
        "import os, resource, signal, sys\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])\n"
        "os.umask(0o027); os.nice(3); resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))\n"
        "os.dup2(os.open('/dev/zero', os.O_RDONLY), 9)\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        # A drain in this process leaves its own signal ignored.
        f"signal.signal({DRAIN_SIGNAL}, signal.SIG_DFL)\n"
        f"os.environ['LISTEN_PID'] = str(os.getpid()) if {activated} else '1'\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    look = "umask; ulimit -Sn; ulimit -Hn; nice; pwd;readlink /proc/$$/fd/9; ls /proc/$$/fd"

    def seen(*command: str) -> str:
        text = subprocess.run(
            [sys.executable, "-c", given, *command],
            env={**environment(), "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=True,
        ).stdout
        # Two signals are the C library's own: its posix_spawn ignores them in every child.
        return re.sub(r"(?<=SigIgn:\t)\S+", lambda m: f"{int(m[0], 16) & ~(3 << 31):x}", text)

    # A shell has signals of its own, so these are looked at without one.
    grep, sh = (shutil.which(name) or name for name in ("grep", "sh"))
    for command in ([grep, "-E", "^Sig(Blk|Ign)", "/proc/self/status"], [sh, "-c", look]):
        assert seen(*words(*how, "--redis", server.url, "--", *command)) == seen(*command)


@pytest.mark.parametrize("start", Start)
def test_no_cmd_begins_once_the_end_was_asked_for(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes at each moment at which CMD would begin a little later."""
    enter = Orchestrator.__aenter__

    async def signalled_before(startup: Orchestrator) -> Orchestrator:
        os.kill(os.getpid(), number)
        return await enter(startup)

    async def signalled_after(startup: Orchestrator) -> Orchestrator:
        entered = await enter(startup)
        os.kill(os.getpid(), number)  # noted, and not yet obeyed: the loop does not turn again
        return entered

    begun: list[object] = []
    monkeypatch.setattr(Child, "start", lambda *told: begun.append(told))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for moment in (signalled_before, signalled_after):
            monkeypatch.setattr(Orchestrator, "__aenter__", moment)
            options = RunOptions(command=["sleep", "30"], host="127.0.0.1", port=0, start=start)
            supervisor = _Supervisor(
                asked_for(None, None, None, None),
                Orchestrator(ScriptedProbe()),
                options,
                Notifier(),
            )
            assert anyio.run(supervisor.run) == -number
            assert begun == []


def test_a_fault_of_its_own_leaves_no_cmd_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: _Supervisor) -> None:
        raise RuntimeError("a fault that was ordered")

    monkeypatch.setattr(_Supervisor, "_follow_stages", fail)
    options = RunOptions(command=["sleep", "30"], host="127.0.0.1", port=0, start=Start.AT_ONCE)
    supervisor = _Supervisor(
        asked_for(None, None, None, None), Orchestrator(ScriptedProbe()), options, Notifier()
    )
    with pytest.raises(ExceptionGroup):
        anyio.run(supervisor.run)
    child = supervisor._child
    assert child.pid
    if child.running:  # else it was heard to have ended already
        assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == -signal.SIGTERM
