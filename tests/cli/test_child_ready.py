"""`run` is ready when its child is: children that report in every way, and one that never does."""

import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator._gate.health_verdict import HealthVerdict
from orchestrator._runtime import notify_socket
from orchestrator._runtime.notify_socket import PARENT_SOCKET, REPORT, NotifySocket
from orchestrator.cli.run import child_reports
from orchestrator.cli.run.child_reports import ChildReports
from orchestrator.cli.run.notify_server import NotifyServer, _is_below
from orchestrator.cli.run.run_options import silence_of
from tests.cli.cli_support import PATIENCE_SECONDS, a_command, finished, line_with
from tests.cli.test_run import ask, port_in

PASS, WARN, FAIL = HealthVerdict.PASS, HealthVerdict.WARN, HealthVerdict.FAIL

STEPS = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
def step(): signal.sigwait({signal.SIGUSR1})
"""

OURS = (
    STEPS
    + """
from orchestrator import Orchestrator, Policy
from orchestrator.testing import ScriptedProbe
policy = Policy(grace_seconds=0.0)
startup = Orchestrator(ScriptedProbe(), policy=policy, conditions=["go"])
print("made", flush=True)
step()
with startup.run_in_thread():
    print("entered", flush=True)
    step()
    startup.condition("go").set(True)
    step()
    startup.condition("go").set(False, reason="it fell")
    step()
print("left", flush=True)
step()
"""
)

SD_NOTIFY = (
    STEPS
    + """
import socket, subprocess
SAYS = '''
import os, socket, sys
address = os.environ["NOTIFY_SOCKET"]
address = chr(0) + address[1:] if address[0] == "@" else address
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(sys.argv[1].encode(), address)
'''
for text in ("STATUS=loads the model", "READY=1", "RELOADING=1\\nSTATUS=reads again", "READY=1",
             "STOPPING=1\\nSTATUS="):
    subprocess.run([sys.executable, "-S", "-E", "-c", SAYS, text], check=True)  # as a shell does
    print("said", flush=True)
    step()
"""
)


@contextmanager
def running(
    program: str, *options: str, **environ: str
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    arguments = ("run", "--port", "0", "--host", "127.0.0.1", "--details", *options)
    environ = {"ORCHESTRATOR_ENABLED": "false", **environ}  # no Redis: it is about the child
    with a_command(*arguments, "--", sys.executable, "-c", program, **environ) as process:
        port = port_in(process)
        line_with(process, "started")
        yield process, port


def said(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == text + "\n"


def next_step(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGUSR1)  # which is passed on


def until_told(port: int, path: str, status: int, output: str = "") -> Mapping[str, Any]:
    limit = time.monotonic() + PATIENCE_SECONDS
    while True:
        seen, body = ask(port, path)
        if seen == status and output in str(body.get("output", "")):
            return body
        assert time.monotonic() < limit, (seen, body)
        time.sleep(0.02)


def test_an_orchestrator_in_the_child_reports_by_itself_from_the_import_on() -> None:
    with running(OURS) as (process, port):
        said(process, "made")
        until_told(port, "/readyz", 503, "CMD is being set up")
        until_told(port, "/startupz", 503, "CMD is being set up")
        assert ask(port, "/livez")[0] == 200
        next_step(process)
        said(process, "entered")
        until_told(port, "/readyz", 503, "CMD is grace, condition go")
        assert ask(port, "/startupz")[0] == 503
        next_step(process)
        body = until_told(port, "/readyz", 200)
        assert (body["status"], body["pod"]["ready"]) == ("pass", 1)
        assert ask(port, "/startupz")[0] == 200
        next_step(process)
        body = until_told(port, "/readyz", 200, "CMD is degraded")
        assert body["status"] == "warn"
        next_step(process)
        said(process, "left")
        until_told(port, "/readyz", 503, "no process of CMD serves any more")
        next_step(process)
        assert process.wait(PATIENCE_SECONDS) == 0


def test_a_silent_child_is_ready_after_the_silence_that_was_asked_for() -> None:
    said = Said(silent_seconds=silence_of("5"))
    assert said.readyz() == FAIL
    said.reports._began_at -= 5
    assert said.readyz() == PASS
    said.says("booting", entered=False)
    assert said.readyz() == FAIL
    assert [silence_of(word) for word in ("started", "reported", "0.5")] == [0.0, math.inf, 0.5]


def test_whatever_speaks_sd_notify_is_ready_when_it_says_so(tmp_path: Path) -> None:
    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    systemd.bind(str(tmp_path / "notify"))
    systemd.settimeout(PATIENCE_SECONDS)
    heard: list[str] = []

    def hears(wanted: str) -> None:
        while wanted not in "\n".join(heard):
            heard.append(systemd.recv(4096).decode())

    with running(SD_NOTIFY, NOTIFY_SOCKET=str(tmp_path / "notify")) as (process, port):
        said(process, "said")
        until_told(port, "/readyz", 503, "CMD: loads the model")
        hears("loads the model")
        assert "READY=1" not in "\n".join(heard), "systemd is told of what CMD has not said"
        for status, output in ((200, ""), (503, "reads again"), (200, "")):
            next_step(process)
            said(process, "said")
            until_told(port, "/readyz", status, output)
        hears("READY=1")
        next_step(process)
        said(process, "said")
        until_told(port, "/readyz", 503, "CMD has not said that it is ready")
    systemd.close()


def test_a_child_that_reports_nothing_is_taken_as_was_asked_for() -> None:
    silent = STEPS + "print('up', flush=True); step(); sys.exit(3)"
    for when, status in (("started", 200), ("reported", 503)):
        with running(silent, "--child-ready", when) as (process, port):
            said(process, "up")
            seen, body = ask(port, "/readyz")
            assert seen == status == ask(port, "/startupz")[0]
            if status == 503:
                assert "--child-ready started is for one that never does" in str(body["output"])
            next_step(process)
            assert process.wait(PATIENCE_SECONDS) == 3  # it has crashed, and was never ready
    done = finished("run", "--child-ready", "soon", "--", "true")
    assert (done.returncode, "--child-ready is soon" in done.stderr) == (2, True)


# -- what was said, without processes ------------------------------------------------------------


class Said:
    """What was said of this process, which lives, and of others."""

    def __init__(self, command: str = "service", silent_seconds: float = 0.0) -> None:
        self.changes = 0
        self.reports = ChildReports(
            command.split(), silent_seconds, drain_when_degraded=False, changed=self._changed
        )
        self.reports.begin(os.getpid())

    def _changed(self) -> None:
        self.changes += 1

    def says(self, stage: str, pid: int = 0, number: int = 0, **told: object) -> None:
        told = {"entered": True, "pid": os.getpid(), "number": number, "stage": stage, **told}
        self.reports.heard(pid, {REPORT: json.dumps(told)})

    def readyz(self, own: HealthVerdict = PASS) -> HealthVerdict:
        return self.reports.verdict("/readyz", own)[0]


def test_all_workers_of_a_child_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    alive = {1, 2, 3, 4}
    monkeypatch.setattr(child_reports, "_lives", alive.__contains__)
    said = Said("python -m uvicorn app:app --workers 4")
    said.says("booting", 9, entered=False)  # the parent, which has loaded the application, too
    for pid in (1, 2, 3):
        said.says("ready", pid)
        assert said.readyz() == FAIL
    said.says("grace", 4)
    words = said.reports.verdict("/readyz", PASS)[1]
    assert words == "3 of 4 workers are ready; worker 4 is grace"
    said.says("ready", 4)
    assert said.readyz() == PASS
    alive -= {1}
    assert said.readyz() == PASS, "one that is started anew takes nobody away"
    alive -= {2}
    assert said.readyz() == FAIL
    assert said.reports.verdict("/startupz", PASS)[0] == PASS
    alive.clear()
    assert said.readyz() == FAIL
    assert said.changes == 6


def test_of_several_orchestrators_in_one_process_the_worst_counts() -> None:
    said = Said()
    said.says("ready", number=0)
    assert said.readyz() == PASS
    said.says("grace", number=1)
    assert said.readyz() == FAIL
    said.says("ready", number=1)
    assert said.readyz() == PASS
    said.says("grace", number=0)
    assert said.readyz() == FAIL


def test_an_outage_warns_unless_it_should_drain_and_a_drain_fails() -> None:
    said = Said()
    for told, verdict in (
        ({"stage": "degraded"}, FAIL),
        ({"stage": "ready", "was_ready": True}, PASS),
        ({"stage": "degraded", "was_ready": True}, WARN),
        ({"stage": "grace", "was_ready": True, "recovering": True}, WARN),
        ({"stage": "ready", "was_ready": True, "draining": True}, FAIL),
    ):
        said.says(**told)
        assert said.readyz() == verdict, told
    assert said.reports.verdict("/readyz", PASS)[1] == "CMD is draining"
    said.says("ready", was_ready=True)
    for own in (PASS, WARN, FAIL):
        assert said.readyz(own) == own
    drains = ChildReports(["x"], 0.0, drain_when_degraded=True, changed=lambda: None)
    told = {"entered": True, "stage": "degraded", "was_ready": True, "pid": 1, "number": 0}
    drains.heard(os.getpid(), {REPORT: json.dumps(told)})
    assert drains.verdict("/readyz", PASS)[0] == FAIL


def test_what_makes_no_sense_is_passed_over() -> None:
    said = Said()
    endless = '{"pid": 1, "stage": "ready", "number": Infinity}'
    deep = "[" * 50_000
    for text in ("", "{", "[]", "7", '{"stage": "x"}', '{"stage": "ready"}', endless, deep):
        said.reports.heard(0, {REPORT: text})
    said.reports.heard(0, {"WATCHDOG": "1"})
    assert said.readyz() == PASS  # nothing was said
    assert said.reports.details() == {"alone": True, "pid": os.getpid(), "status": ""}
    said.reports.heard(0, {"READY": "0"})
    assert said.readyz() == PASS


def test_the_number_of_workers_is_that_of_a_server_and_of_no_other_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    for command, verdict in (("gunicorn app:app", FAIL), ("celery -A app worker", PASS)):
        said = Said(command)
        said.says("ready")
        assert said.readyz() == verdict, command


def test_a_first_word_that_comes_late_is_worth_a_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for silent_seconds, lines in ((math.inf, 0), (10.0, 0), (3.0, 1)):
        said = Said(silent_seconds=silent_seconds)
        said.reports._began_at -= 5
        said.says("booting", entered=False)
        said.says("ready")
        assert caplog.text.count("--child-ready reported waits for it") == lines


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody knows who has sent it")
def test_others_are_not_heard_and_descriptors_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[int, Mapping[str, str]]] = []
    server = NotifyServer(lambda pid, fields: heard.append((pid, fields)))
    sender = NotifySocket(server.address)
    assert sender.send(READY=1, STATUS="two\nlines")
    server.take_all()
    assert heard == [(os.getpid(), {"READY": "1", "STATUS": "two lines"})]
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  it is counted
    read, write = os.pipe()
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", write))]
    raw.sendmsg([b"BARRIER=1"], ancillary, 0, "\0" + server.address[1:])
    os.close(write)
    server.take_all()
    assert os.read(read, 1) == b"", "the barrier waits until the descriptor is closed"
    os.close(read)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  its names are not needed
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr("orchestrator.cli.run.notify_server._TRUSTED", frozenset())
    heard.clear()
    assert sender.send(READY=1)
    server.take_all()
    assert len(heard) == 1, "this process is below itself"
    assert not _is_below(1)
    assert not _is_below(0)
    raw.close()
    sender.close()
    server.close()
    assert not sender.send(READY=1)


def test_nothing_is_reported_but_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    for given, reports in (("", False), ("/other", False), ("/run/systemd/notify", True)):
        monkeypatch.setenv(PARENT_SOCKET, given)
        assert bool(notify_socket.parent_address()) == reports
